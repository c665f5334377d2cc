/*
 * The CXL DVSECs that a guest sees of a CXL device behind vfio-pci
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_VFIO_CXL_DVSEC_H
#define HW_VFIO_CXL_DVSEC_H

#include "hw/cxl/cxl_pci.h"

/**
 * struct VFIOCXLDVSECs - the parts of config space that are QEMU's own
 * @dvsec: offset and length in bytes of each CXL DVSEC
 * @count: how many
 * @device: offset of the CXL Device DVSEC, 0 if it is hidden
 */
typedef struct VFIOCXLDVSECs {
    struct {
        uint16_t at;
        uint16_t length;
    } dvsec[16];
    unsigned count;
    uint16_t device;
} VFIOCXLDVSECs;

/**
 * vfio_cxl_dvsec_find() - Find the CXL DVSECs in the physical config space
 * @vdev: the device, config space not yet set up
 * @dvsecs: filled in
 * @errp: a CXL DVSEC that cannot be understood
 */
bool vfio_cxl_dvsec_find(VFIOPCIDevice *vdev, VFIOCXLDVSECs *dvsecs,
                         Error **errp);

/**
 * vfio_cxl_dvsec_owns() - Is a config access to a CXL DVSEC?
 * @dvsecs: the DVSECs
 * @addr: offset in config space
 * @len: bytes
 */
bool vfio_cxl_dvsec_owns(const VFIOCXLDVSECs *dvsecs, uint32_t addr,
                         unsigned len);

/**
 * vfio_cxl_dvsec_hide() - Show zeros instead of the DVSECs
 * @vdev: the device
 * @dvsecs: the DVSECs, unlinked from the chain of capabilities
 */
void vfio_cxl_dvsec_hide(VFIOPCIDevice *vdev, VFIOCXLDVSECs *dvsecs);

/**
 * vfio_cxl_dvsec_setup() - Serve the DVSECs from QEMU
 * @vdev: the device, with a copy of the physical config space
 * @dvsecs: the DVSECs
 *
 * CXL r3.1 Section 8.1.3. No host address stays in what the guest can read.
 */
void vfio_cxl_dvsec_setup(VFIOPCIDevice *vdev, VFIOCXLDVSECs *dvsecs);

/**
 * vfio_cxl_dvsec_reset() - Conventional reset of the CXL Device DVSEC
 * @vdev: the device
 * @dvsecs: the DVSECs
 */
void vfio_cxl_dvsec_reset(VFIOPCIDevice *vdev, VFIOCXLDVSECs *dvsecs);

/**
 * vfio_cxl_dvsec_write() - Carry out a write that vfio_cxl_dvsec_owns()
 * @vdev: the device
 * @dvsecs: the DVSECs
 * @addr: offset in config space
 * @val: value
 * @len: bytes
 */
void vfio_cxl_dvsec_write(VFIOPCIDevice *vdev, VFIOCXLDVSECs *dvsecs,
                          uint32_t addr, uint32_t val, int len);

/**
 * vfio_cxl_dvsec_mem_enabled() - Is Mem_Enable set in the DVSEC's control?
 * @vdev: the device
 * @dvsecs: the DVSECs
 */
bool vfio_cxl_dvsec_mem_enabled(VFIOPCIDevice *vdev,
                                const VFIOCXLDVSECs *dvsecs);

/**
 * vfio_cxl_dvsec_enable_mem() - Set Mem_Enable, as firmware does
 * @vdev: the device
 * @dvsecs: the DVSECs
 */
void vfio_cxl_dvsec_enable_mem(VFIOPCIDevice *vdev,
                               const VFIOCXLDVSECs *dvsecs);

/**
 * vfio_cxl_dvsec_set_base() - Set the base of range 1
 * @vdev: the device
 * @dvsecs: the DVSECs
 * @base: guest physical address, 0 if decoder 0 is not committed
 */
void vfio_cxl_dvsec_set_base(VFIOPCIDevice *vdev,
                             const VFIOCXLDVSECs *dvsecs, uint64_t base);

#endif /* HW_VFIO_CXL_DVSEC_H */
