/*
 * The CXL DVSECs that a guest sees of a CXL device behind vfio-pci
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_VFIO_CXL_DVSEC_H
#define HW_VFIO_CXL_DVSEC_H

#include "hw/cxl/cxl_pci.h"
#include "hw/core/registerfields.h"

typedef struct VFIOPCIDevice VFIOPCIDevice;

/* CXL r3.1 Section 8.1.3: what the rest of the device acts on */
REG16(DVSEC_CONTROL2, 0x10)
    FIELD(DVSEC_CONTROL2, DISABLE_CACHING, 0, 1)
    FIELD(DVSEC_CONTROL2, INITIATE_WBI, 1, 1)
    FIELD(DVSEC_CONTROL2, INITIATE_RST, 2, 1)
    FIELD(DVSEC_CONTROL2, RST_MEM_CLR_ENABLE, 3, 1)
REG16(DVSEC_STATUS2, 0x12)
    FIELD(DVSEC_STATUS2, CACHE_INVALID, 0, 1)
    FIELD(DVSEC_STATUS2, RST_DONE, 1, 1)
    FIELD(DVSEC_STATUS2, RST_ERR, 2, 1)
    FIELD(DVSEC_STATUS2, PM_INIT_COMPLETE, 15, 1)
REG32(DVSEC_RANGE1_SIZE_LO, 0x1c)
    FIELD(DVSEC_RANGE1_SIZE_LO, INFO_VALID, 0, 1)
    FIELD(DVSEC_RANGE1_SIZE_LO, ACTIVE, 1, 1)
    FIELD(DVSEC_RANGE1_SIZE_LO, ACTIVE_TIMEOUT, 13, 3)

/**
 * struct VFIOCXLDVSECs - the parts of config space that are QEMU's own
 * @dvsec: offset and length in bytes of each CXL DVSEC
 * @count: how many
 * @device: offset of the CXL Device DVSEC, 0 if it is hidden
 * @capability: the physical device's CXL Capability register
 */
typedef struct VFIOCXLDVSECs {
    struct {
        uint16_t at;
        uint16_t length;
    } dvsec[16];
    unsigned count;
    uint16_t device;
    uint16_t capability;
} VFIOCXLDVSECs;

/**
 * struct VFIOCXLDVSECOffer - what a guest's request can lead to
 * @reset: a CXL reset is carried out
 * @write_back: the device's cache is written back
 * @clears: a CXL reset clears the memory
 *
 * What the physical device does not have is not offered either.
 */
typedef struct VFIOCXLDVSECOffer {
    bool reset;
    bool write_back;
    bool clears;
} VFIOCXLDVSECOffer;

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
 * vfio_cxl_dvsec_offer() - Show what a guest can ask for
 * @vdev: the device
 * @dvsecs: the DVSECs
 * @offer: what can be done
 */
void vfio_cxl_dvsec_offer(VFIOPCIDevice *vdev, VFIOCXLDVSECs *dvsecs,
                          const VFIOCXLDVSECOffer *offer);

/**
 * vfio_cxl_dvsec_cxl_reset() - CXL reset of CONTROL2 and STATUS2
 * @vdev: the device
 * @dvsecs: the DVSECs
 */
void vfio_cxl_dvsec_cxl_reset(VFIOPCIDevice *vdev,
                              const VFIOCXLDVSECs *dvsecs);

/**
 * vfio_cxl_dvsec_write() - Carry out a write that vfio_cxl_dvsec_owns()
 * @vdev: the device
 * @dvsecs: the DVSECs
 * @addr: offset in config space
 * @val: value
 * @len: bytes
 *
 * Returns: the bits of CONTROL2 that ask for something and read as zero, as
 * far as the guest was offered it
 */
uint16_t vfio_cxl_dvsec_write(VFIOPCIDevice *vdev, VFIOCXLDVSECs *dvsecs,
                              uint32_t addr, uint32_t val, int len);

/**
 * vfio_cxl_dvsec_control2() - The guest's CONTROL2
 * @vdev: the device
 * @dvsecs: the DVSECs
 */
uint16_t vfio_cxl_dvsec_control2(VFIOPCIDevice *vdev,
                                 const VFIOCXLDVSECs *dvsecs);

/**
 * vfio_cxl_dvsec_set_status2() - Change what the guest finds in STATUS2
 * @vdev: the device
 * @dvsecs: the DVSECs
 * @mask: the bits to change
 * @value: of these
 */
void vfio_cxl_dvsec_set_status2(VFIOPCIDevice *vdev,
                                const VFIOCXLDVSECs *dvsecs, uint16_t mask,
                                uint16_t value);

/**
 * vfio_cxl_dvsec_can_write_back() - Is there a cache to be written back?
 * @vdev: the device
 * @dvsecs: the DVSECs
 */
bool vfio_cxl_dvsec_can_write_back(VFIOPCIDevice *vdev,
                                   const VFIOCXLDVSECs *dvsecs);

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
 * vfio_cxl_dvsec_set_active() - Set or clear Memory_Active of range 1
 * @vdev: the device
 * @dvsecs: the DVSECs
 * @active: the memory can be used
 */
void vfio_cxl_dvsec_set_active(VFIOPCIDevice *vdev,
                               const VFIOCXLDVSECs *dvsecs, bool active);

/**
 * vfio_cxl_dvsec_set_base() - Set the base of range 1
 * @vdev: the device
 * @dvsecs: the DVSECs
 * @base: guest physical address, 0 if decoder 0 is not committed
 */
void vfio_cxl_dvsec_set_base(VFIOPCIDevice *vdev,
                             const VFIOCXLDVSECs *dvsecs, uint64_t base);

#endif /* HW_VFIO_CXL_DVSEC_H */
