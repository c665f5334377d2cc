/*
 * CXL Type-2 devices behind vfio-pci
 *
 * vfio-pci calls these at the few points where such a device differs. All
 * do nothing for a device without VFIO_DEVICE_FLAGS_CXL.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_VFIO_CXL_H
#define HW_VFIO_CXL_H

#include "qapi/qapi-types-common.h"
#include "qapi/qapi-types-vfio-cxl.h"
#include "qemu/typedefs.h"
#include "qom/object.h"

typedef struct VFIOPCIDevice VFIOPCIDevice;
typedef struct VFIOCXL VFIOCXL;
typedef struct VFIOCXLHidden VFIOCXLHidden;

/**
 * struct VFIOCXLState - what a vfio-pci device holds for CXL
 * @mode: property x-cxl
 * @commit: property x-cxl-commit
 * @host_access: property x-cxl-host-access
 * @cxl: a device that is CXL for the guest, else NULL
 * @hidden: one that the kernel flags as CXL and is plain PCI for the guest,
 *          else NULL
 */
typedef struct VFIOCXLState {
    OnOffAuto mode;
    VfioCxlCommit commit;
    OnOffAuto host_access;
    VFIOCXL *cxl;
    VFIOCXLHidden *hidden;
} VFIOCXLState;

/**
 * vfio_cxl_class_init() - Add the properties
 * @klass: class of vfio-pci
 */
void vfio_cxl_class_init(ObjectClass *klass);

/**
 * vfio_cxl_realize() - Find out what the device is, and prepare its memory
 * @vdev: an attached device whose BARs are known and not yet registered
 * @errp: why the device cannot be used as it was asked for
 */
bool vfio_cxl_realize(VFIOPCIDevice *vdev, Error **errp);

/**
 * vfio_cxl_bar_register() - Lay the component registers over BAR @nr
 * @vdev: the device
 * @nr: a BAR whose MemoryRegion has just been made
 */
void vfio_cxl_bar_register(VFIOPCIDevice *vdev, int nr);

/**
 * vfio_cxl_hides_ext_cap() - Is the guest not to see a capability?
 * @vdev: the device
 * @pos: offset of an extended capability in config space
 *
 * A device that runs as plain PCI shows no CXL DVSEC.
 */
bool vfio_cxl_hides_ext_cap(VFIOPCIDevice *vdev, uint16_t pos);

/**
 * vfio_cxl_config_setup() - Take over the CXL DVSECs from the kernel
 * @vdev: the device, with its capabilities added
 */
void vfio_cxl_config_setup(VFIOPCIDevice *vdev);

/**
 * vfio_cxl_reset_prepare() - Before a reset: nothing may touch the memory
 * @vdev: the device
 *
 * Decoders and locks go back to their reset state. May be called more than
 * once before vfio_cxl_reset_done().
 */
void vfio_cxl_reset_prepare(VFIOPCIDevice *vdev);

/**
 * vfio_cxl_reset_done() - After a reset: see what the kernel has now
 * @vdev: the device
 */
void vfio_cxl_reset_done(VFIOPCIDevice *vdev);

/**
 * vfio_cxl_blocks_migration() - Does a blocker of its own say why?
 * @vdev: a realized device
 *
 * Returns: true if vfio_migration_realize() is not to add another
 */
bool vfio_cxl_blocks_migration(VFIOPCIDevice *vdev);

/**
 * vfio_cxl_exit() - Take everything out of the guest's view
 * @vdev: the device
 */
void vfio_cxl_exit(VFIOPCIDevice *vdev);

/**
 * vfio_cxl_finalize() - Free everything
 * @vdev: the device, after vfio_cxl_exit()
 */
void vfio_cxl_finalize(VFIOPCIDevice *vdev);

#endif /* HW_VFIO_CXL_H */
