/*
 * The CXL DVSECs of a device behind vfio-pci
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_VFIO_CXL_DVSEC_H
#define HW_VFIO_CXL_DVSEC_H

#include "hw/cxl/cxl_pci.h"

typedef struct VFIOPCIDevice VFIOPCIDevice;

/**
 * struct VFIOCXLDVSEC - a CXL DVSEC of the physical device
 * @at: offset in config space, bytes
 * @length: bytes, a multiple of 4
 * @id: PCIE_CXL_DEVICE_DVSEC etc.
 */
typedef struct VFIOCXLDVSEC {
    uint16_t at;
    uint16_t length;
    uint16_t id;
} VFIOCXLDVSEC;

/**
 * struct VFIOCXLDVSECSet - the parts of config space that are QEMU's own
 * @vdev: the device
 * @dvsec: all CXL DVSECs
 * @count: number of entries in @dvsec
 * @device: offset of the CXL Device DVSEC, 0 if the device has none
 * @capability: the physical device's CXL Capability register
 */
typedef struct VFIOCXLDVSECSet {
    VFIOPCIDevice *vdev;
    VFIOCXLDVSEC dvsec[16];
    unsigned count;
    uint16_t device;
    uint16_t capability;
} VFIOCXLDVSECSet;

/**
 * struct VFIOCXLDVSECOffer - features that a guest may request
 * @reset: CXL reset
 * @write_back: write-back of the device's cache
 * @clears: a CXL reset clears the memory
 *
 * Features that the physical device lacks are not offered either.
 */
typedef struct VFIOCXLDVSECOffer {
    bool reset;
    bool write_back;
    bool clears;
} VFIOCXLDVSECOffer;

/**
 * vfio_cxl_config_read() - Read the kernel's config space
 * @vdev: the device
 * @offset: of the register, bytes
 * @size: 2 or 4 bytes
 * @value: the register
 *
 * Returns: false if the read failed; @value is 0 then
 */
bool vfio_cxl_config_read(VFIOPCIDevice *vdev, unsigned offset, unsigned size,
                          uint32_t *value);

/**
 * vfio_cxl_config_write() - Write 16 bits to the kernel's config space
 * @vdev: the device
 * @offset: of the register, bytes
 * @value: the register
 *
 * Returns: false if the write failed
 */
bool vfio_cxl_config_write(VFIOPCIDevice *vdev, unsigned offset,
                           uint16_t value);

/**
 * vfio_cxl_dvsec_find() - Find the CXL DVSECs in the physical config space
 * @vdev: the device, config space not yet set up
 * @set: filled in
 * @errp: set if a capability cannot be read, or a CXL DVSEC is malformed
 */
bool vfio_cxl_dvsec_find(VFIOPCIDevice *vdev, VFIOCXLDVSECSet *set,
                         Error **errp);

/**
 * vfio_cxl_dvsec_find_block() - Find the component registers
 * @set: the DVSECs
 * @bar: BAR, if found
 * @offset: offset in it, bytes
 *
 * Returns: true if the Register Locator (CXL r3.1 Section 8.1.9) names a block
 */
bool vfio_cxl_dvsec_find_block(const VFIOCXLDVSECSet *set, unsigned *bar,
                               uint64_t *offset);

/**
 * vfio_cxl_dvsec_has_mem() - Check whether the device advertises CXL.mem
 * @set: the DVSECs
 */
bool vfio_cxl_dvsec_has_mem(const VFIOCXLDVSECSet *set);

/**
 * vfio_cxl_dvsec_owns() - Check whether a config access hits a CXL DVSEC
 * @set: the DVSECs
 * @addr: offset in config space
 * @len: bytes
 */
bool vfio_cxl_dvsec_owns(const VFIOCXLDVSECSet *set, uint32_t addr,
                         unsigned len);

/**
 * vfio_cxl_dvsec_hide() - Show zeros instead of the DVSECs
 * @set: the DVSECs, unlinked from the chain of capabilities
 */
void vfio_cxl_dvsec_hide(const VFIOCXLDVSECSet *set);

/**
 * vfio_cxl_dvsec_setup() - Serve the DVSECs from QEMU
 * @set: the DVSECs of a device with a copy of the physical config space
 *
 * CXL r3.1 Section 8.1.3. The guest can read no host address from them.
 */
void vfio_cxl_dvsec_setup(VFIOCXLDVSECSet *set);

/**
 * vfio_cxl_dvsec_reset() - Conventional reset of the CXL Device DVSEC
 * @set: the DVSECs
 */
void vfio_cxl_dvsec_reset(const VFIOCXLDVSECSet *set);

/**
 * vfio_cxl_dvsec_offer() - Advertise what a guest may request
 * @set: the DVSECs
 * @offer: the features
 */
void vfio_cxl_dvsec_offer(const VFIOCXLDVSECSet *set,
                          const VFIOCXLDVSECOffer *offer);

/**
 * vfio_cxl_dvsec_cxl_reset() - CXL reset of Control2 and Status2
 * @set: the DVSECs
 */
void vfio_cxl_dvsec_cxl_reset(const VFIOCXLDVSECSet *set);

/**
 * vfio_cxl_dvsec_write() - Carry out a write that vfio_cxl_dvsec_owns()
 * @set: the DVSECs
 * @addr: offset in config space
 * @val: value
 * @len: bytes
 *
 * Returns: the doorbell bits of Control2 (which read as zero) that were set and
 * are among the features offered to the guest
 */
uint16_t vfio_cxl_dvsec_write(const VFIOCXLDVSECSet *set, uint32_t addr,
                              uint32_t val, int len);

/**
 * vfio_cxl_dvsec_control2() - The guest's Control2
 * @set: the DVSECs
 */
uint16_t vfio_cxl_dvsec_control2(const VFIOCXLDVSECSet *set);

/**
 * vfio_cxl_dvsec_set_status2() - Change Status2 as the guest sees it
 * @set: the DVSECs
 * @mask: the bits to change
 * @value: their new value
 */
void vfio_cxl_dvsec_set_status2(const VFIOCXLDVSECSet *set, uint16_t mask,
                                uint16_t value);

/**
 * vfio_cxl_dvsec_can_write_back() - Check for a cache that can be written back
 * @set: the DVSECs
 */
bool vfio_cxl_dvsec_can_write_back(const VFIOCXLDVSECSet *set);

/**
 * vfio_cxl_dvsec_mem_enabled() - Check Mem_Enable in the guest's Control
 * @set: the DVSECs
 */
bool vfio_cxl_dvsec_mem_enabled(const VFIOCXLDVSECSet *set);

/**
 * vfio_cxl_dvsec_enable_mem() - Set Mem_Enable, as firmware does
 * @set: the DVSECs
 */
void vfio_cxl_dvsec_enable_mem(const VFIOCXLDVSECSet *set);

/**
 * vfio_cxl_dvsec_set_active() - Set or clear Memory_Active of range 1
 * @set: the DVSECs
 * @active: the memory can be used
 */
void vfio_cxl_dvsec_set_active(const VFIOCXLDVSECSet *set, bool active);

/**
 * vfio_cxl_dvsec_set_base() - Set the base of range 1
 * @set: the DVSECs
 * @base: guest physical address, 0 if decoder 0 is not committed
 */
void vfio_cxl_dvsec_set_base(const VFIOCXLDVSECSet *set, uint64_t base);

#endif /* HW_VFIO_CXL_DVSEC_H */
