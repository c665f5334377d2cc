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
 * struct VFIOCXLState - CXL state of a vfio-pci device
 * @mode: property x-cxl
 * @commit: property x-cxl-commit
 * @host_access: property x-cxl-host-access
 * @cxl: set if the guest sees a CXL device, else NULL
 * @hidden: set if the kernel flags the device as CXL but the guest sees a plain
 *          PCI device, else NULL
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
 * @errp: set if the device cannot be used as requested
 */
bool vfio_cxl_realize(VFIOPCIDevice *vdev, Error **errp);

/**
 * vfio_cxl_bar_register() - Lay the component registers over BAR @nr
 * @vdev: the device
 * @nr: a BAR whose MemoryRegion has just been made
 */
void vfio_cxl_bar_register(VFIOPCIDevice *vdev, int nr);

/**
 * vfio_cxl_hides_ext_cap() - Check whether a capability is to be hidden
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
 * vfio_cxl_reset_prepare() - Withhold the memory before a reset
 * @vdev: the device
 *
 * Decoders and locks go back to their reset state. May be called more than
 * once before vfio_cxl_reset_done().
 */
void vfio_cxl_reset_prepare(VFIOPCIDevice *vdev);

/**
 * vfio_cxl_reset_done() - Update the state after a reset
 * @vdev: the device
 */
void vfio_cxl_reset_done(VFIOPCIDevice *vdev);

/**
 * vfio_cxl_blocks_migration() - Check for a migration blocker of its own
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
