/*
 * The accelerator that vfio-sim simulates, as a guest's driver sees it
 *
 * A CXL Type-2 device with one function. This header is its data sheet. It
 * uses no header of QEMU's, so that guest programs, kernel modules and tests
 * can include it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_SIM_REGS_H
#define VFIO_SIM_REGS_H

/* 1af4:10f0 to 10ff are set aside for experiments in docs/specs/pci-ids.rst */
#define VFIO_SIM_VENDOR_ID          0x1af4
#define VFIO_SIM_DEVICE_ID          0x10f2
#define VFIO_SIM_CLASS              0x1200   /* processing accelerator */

/*
 * Where host firmware has placed the memory of device n (0 for the first).
 * No guest may ever see this address.
 */
#define VFIO_SIM_HPA(n) (0x45a000000000ull + (n) * 0x40000000000ull)

/*
 * BAR 0, the component BAR, 64 bits wide: the CXL component register block
 * (64 KiB, where the Register Locator DVSEC says) and accelerator memory
 * around it, which is mapped directly. At reset each aligned 8 bytes of that
 * memory hold VFIO_SIM_BAR0_PATTERN(offset in the BAR), little endian.
 */
#define VFIO_SIM_COMPONENT_BAR      0
#define VFIO_SIM_BAR0_SIZE          0x40000
#define VFIO_SIM_BAR0_PATTERN(off)  (0x5645000000000000ull | (off))

/* Offsets of the component block in BAR 0 for --topology=A, B, C */
#define VFIO_SIM_BLOCK_SIZE         0x10000
#define VFIO_SIM_BLOCK_A            0x30000  /* at the BAR's end */
#define VFIO_SIM_BLOCK_B            0x00000  /* at its start */
#define VFIO_SIM_BLOCK_C            0x10000  /* in the middle */

/* Offsets in the CXL.cache/mem area, which is at 0x1000 in the block */
#define VFIO_SIM_CM_RAS             0x080    /* capability id 2 */
#define VFIO_SIM_CM_HDM             0x200    /* capability id 5 */
#define VFIO_SIM_CM_SNOOP           0x400    /* capability id 8 */

/*
 * BAR 2, 64 bits wide, never mapped directly because its writes have effects:
 * the register window, the MSI-X table and the pending bits. All registers
 * are little endian and are accessed with 4 bytes, those of 8 bytes also
 * with 8.
 */
#define VFIO_SIM_REG_BAR            2
#define VFIO_SIM_BAR2_SIZE          0x4000
#define VFIO_SIM_MSIX_TABLE         0x1000
#define VFIO_SIM_MSIX_PBA           0x2000
#define VFIO_SIM_MSIX_VECTORS       4

#define VFIO_SIM_REG_ID             0x00     /* RO, VFIO_SIM_ID */
#define VFIO_SIM_REG_VERSION        0x04     /* RO, VFIO_SIM_VERSION */
#define VFIO_SIM_REG_INDEX          0x08     /* RO, 0 for the first device */
#define VFIO_SIM_REG_SCRATCH        0x0c     /* RW, 0 at reset */
#define VFIO_SIM_REG_MEM_SIZE       0x10     /* RO, 8 bytes: bytes of memory */
#define VFIO_SIM_REG_RESETS         0x18     /* RO, resets since it was bound */

/*
 * Write n: raise interrupt n (MSI-X vector n, or INTx if MSI-X is off, and
 * then set INTR_STATUS bit n). INTx stays asserted while INTR_STATUS is not 0.
 */
#define VFIO_SIM_REG_DOORBELL       0x20     /* WO */
#define VFIO_SIM_REG_INTR_STATUS    0x24     /* RW1C */
#define VFIO_SIM_REG_INTR_COUNT     0x28     /* RO, interrupts raised */

/*
 * The DMA engine copies LEN bytes from SRC to DST when CTRL is written with
 * START, and has finished when that write completes. An address is an IOVA,
 * which is translated by the mappings that the VMM made, or with the LOCAL
 * flag an offset in the device's own memory (DPA).
 */
#define VFIO_SIM_REG_DMA_SRC        0x30     /* RW, 8 bytes */
#define VFIO_SIM_REG_DMA_DST        0x38     /* RW, 8 bytes */
#define VFIO_SIM_REG_DMA_LEN        0x40     /* RW, bytes */
#define VFIO_SIM_REG_DMA_CTRL       0x44     /* WO */
#define   VFIO_SIM_DMA_START        0x1
#define   VFIO_SIM_DMA_SRC_LOCAL    0x2
#define   VFIO_SIM_DMA_DST_LOCAL    0x4
#define   VFIO_SIM_DMA_IRQ          0x8      /* raise VFIO_SIM_DMA_VECTOR */
#define   VFIO_SIM_DMA_ATS          0x10     /* see DMA_FEATURES */
#define VFIO_SIM_DMA_VECTOR         1
#define VFIO_SIM_REG_DMA_STATUS     0x48     /* RO */
#define   VFIO_SIM_DMA_IDLE         0
#define   VFIO_SIM_DMA_DONE         1
#define   VFIO_SIM_DMA_FAULT        2        /* moved all up to the fault */
#define   VFIO_SIM_DMA_MASTER_OFF   3        /* no PCI Bus Master Enable */
#define   VFIO_SIM_DMA_NO_PASID     4        /* not enabled, or too large */
#define VFIO_SIM_REG_DMA_FAULT_ADDR 0x50     /* RO, 8 bytes: where it faulted */

/*
 * Behind an SMMUv3 (--iommu=smmuv3) the engine can say whose addresses it
 * uses: with PASID_VALID they are those of the process DMA_PASID, for SRC and
 * DST alike. With the ATS flag it asks for translations, caches them until the
 * host or its guest invalidates them, and uses translated requests; without
 * ATS Enable in the PCI capability the flag does nothing.
 */
#define VFIO_SIM_REG_DMA_PASID      0x58     /* RW, 0 at reset */
#define   VFIO_SIM_DMA_PASID_MASK   0xfffff
#define   VFIO_SIM_DMA_PASID_VALID  0x80000000u
#define VFIO_SIM_REG_DMA_FEATURES   0x5c     /* RO */
#define   VFIO_SIM_DMA_ATS_ENABLED  0x1
#define   VFIO_SIM_DMA_PASID_BITS(f) ((f) >> 8 & 0x1f)   /* 0: no PASIDs */

/* The device's own view of its memory: 8 bytes at DPA PEEK_ADDR */
#define VFIO_SIM_REG_PEEK_ADDR      0x60     /* RW, 8 bytes, aligned to 8 */
#define VFIO_SIM_REG_PEEK_DATA      0x68     /* RW, 8 bytes */

#define VFIO_SIM_ID                 0x4c584356   /* "VCXL" */
#define VFIO_SIM_VERSION            1

#endif /* VFIO_SIM_REGS_H */
