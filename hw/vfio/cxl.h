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

#include "exec/hwaddr.h"
#include "qapi/qapi-types-common.h"
#include "qapi/qapi-types-vfio-cxl.h"
#include "qemu/typedefs.h"
#include "qom/object.h"

typedef struct VFIOContainer VFIOContainer;
typedef struct VFIOPCIDevice VFIOPCIDevice;
typedef struct VFIOCXL VFIOCXL;

/**
 * struct VFIOCXLState - what a vfio-pci device holds for CXL
 * @mode: property x-cxl
 * @commit: property x-cxl-commit
 * @host_access: property x-cxl-host-access
 * @cxl: NULL unless the kernel flags the device as CXL
 */
typedef struct VFIOCXLState {
    OnOffAuto mode;
    VfioCxlCommit commit;
    OnOffAuto host_access;
    VFIOCXL *cxl;
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
 * vfio_cxl_dma_map() - Map the memory of a CXL device for DMA
 * @bcontainer: container or IOAS, of any VFIO device
 * @iova: where, in bytes
 * @size: how much, in bytes
 * @vaddr: of what
 * @readonly: devices may not write
 * @mr: the MemoryRegion of @vaddr
 *
 * The usual unmap removes such mappings. If the kernel cannot map the memory,
 * that is reported once and is not an error: only ATS and peer access need it.
 *
 * Returns: false if @mr is something else, to be mapped as usual
 */
bool vfio_cxl_dma_map(VFIOContainer *bcontainer, hwaddr iova, uint64_t size,
                      void *vaddr, bool readonly, MemoryRegion *mr);

/**
 * vfio_cxl_viommu_map() - A guest has mapped memory in its virtual IOMMU
 * @bcontainer: container or IOAS, of any VFIO device
 * @iova: I/O virtual address
 * @size: bytes
 * @gpa: guest physical address
 * @readonly: devices may not write
 * @mr: the MemoryRegion at @gpa; nothing is done if it is not the memory of
 *      a CXL device
 *
 * The caller has made the mapping. It is removed when the memory leaves @gpa,
 * and made again when the memory returns there.
 */
void vfio_cxl_viommu_map(VFIOContainer *bcontainer, hwaddr iova, uint64_t size,
                         hwaddr gpa, bool readonly, MemoryRegion *mr);

/**
 * vfio_cxl_viommu_unmap() - Mappings of a container or IOAS are going away
 * @bcontainer: the container or IOAS
 * @iova: where, in bytes
 * @size: how much, in bytes
 * @all: everything
 *
 * The caller unmaps the range then. Mappings of device memory of which it has
 * only a part are undone here, as a whole.
 */
void vfio_cxl_viommu_unmap(VFIOContainer *bcontainer, hwaddr iova,
                           uint64_t size, bool all);

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
