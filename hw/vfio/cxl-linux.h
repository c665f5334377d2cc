/*
 * The kernel's interface for CXL Type-2 devices behind vfio-pci
 *
 * No released Linux has it yet, so that linux-headers, which are imported,
 * cannot either. This file goes as soon as they do.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_VFIO_CXL_LINUX_H
#define HW_VFIO_CXL_LINUX_H

#include <linux/vfio.h>

/* A flag of struct vfio_device_info; VFIO_DEVICE_FLAGS_PCI is set, too */
#define VFIO_DEVICE_FLAGS_CXL                   (1 << 9)

/*
 * Where the memory and the component registers are. This is the second form
 * of capability 6; all its forms say version 1.
 */
#define VFIO_DEVICE_INFO_CAP_CXL                6

struct vfio_device_info_cap_cxl {
    struct vfio_info_cap_header header;
    uint8_t hdm_regs_bar_index;
    uint8_t reserved[3];
    uint32_t flags;
#define VFIO_CXL_CAP_FIRMWARE_COMMITTED         (1 << 0)
#define VFIO_CXL_CAP_CACHE_CAPABLE              (1 << 1)
    uint64_t hdm_regs_offset;   /* of CXL.cache/mem registers in the BAR */
    uint32_t dpa_region_index;
    uint32_t comp_regs_region_index;
};

/* Third form of capability 6. Later kernels have none. */
struct vfio_device_info_cap_cxl_v3 {
    struct vfio_info_cap_header header;
    uint32_t flags;
#define VFIO_CXL_CAP_HOST_FIRMWARE_COMMITTED    (1 << 0)
    uint32_t hdm_region_idx;
    uint32_t comp_reg_region_idx;
    uint32_t comp_reg_bar;
    uint32_t __resv;
    uint64_t comp_reg_offset;   /* of the component block in the BAR */
    uint64_t comp_reg_size;
};

/*
 * Type and sub-types of the regions with device memory and with component
 * registers; the sub-types also belong to the vendor type of 1e98 (CXL).
 */
#define VFIO_REGION_TYPE_CXL                    4
#define VFIO_REGION_SUBTYPE_CXL_MEM             1
#define VFIO_REGION_SUBTYPE_CXL_COMP_REGS       2

/*
 * On the region with the component registers, where kernels have no device
 * capability: the place of the HDM decoder registers in a BAR.
 */
#define VFIO_REGION_INFO_CAP_CXL_COMP_REGS      6

struct vfio_region_info_cap_cxl_comp_regs {
    struct vfio_info_cap_header header;
    uint32_t bar;
    uint32_t reserved;
    uint64_t offset;            /* from the start of the BAR */
};

#endif /* HW_VFIO_CXL_LINUX_H */
