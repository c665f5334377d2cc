/*
 * CXL Type-2 devices behind vfio-pci: what the parts share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_VFIO_CXL_INTERNAL_H
#define HW_VFIO_CXL_INTERNAL_H

#include "hw/cxl/cxl_firmware.h"
#include "hw/cxl/cxl_hdm.h"
#include "hw/cxl/cxl_route.h"
#include "pci.h"
#include "cxl-dvsec.h"
#include "cxl-uapi.h"

#define TYPE_VFIO_CXL "vfio-cxl"
OBJECT_DECLARE_SIMPLE_TYPE(VFIOCXL, VFIO_CXL)

typedef struct VFIOCXLMap VFIOCXLMap;

/* Reasons to keep the memory away that do not depend on guest registers */
enum {
    VFIO_CXL_IN_RESET = 1 << 0,
    VFIO_CXL_IN_CONFIG_WRITE = 1 << 1, /* one that may end the access */
    VFIO_CXL_HOST_NOT_COMMITTED = 1 << 2,
    VFIO_CXL_NOT_MAPPED = 1 << 3,
    VFIO_CXL_RESET_FAILED = 1 << 4,
    VFIO_CXL_HOST_CLOSED = 1 << 5, /* the kernel did not take an enable */
    VFIO_CXL_NOT_ACTIVE = 1 << 6, /* it is on its way back */
    VFIO_CXL_LOST = VFIO_CXL_HOST_NOT_COMMITTED | VFIO_CXL_RESET_FAILED,
};

/* What a guest can write in the RAS Capability (CXL r3.1 Section 8.2.4.17) */
typedef struct VFIOCXLRAS {
    uint32_t uncorrectable_mask;
    uint32_t uncorrectable_severity;
    uint32_t correctable_mask;
} VFIOCXLRAS;

/**
 * struct VFIOCXL - the CXL side of a vfio-pci device
 * @vdev: the device
 * @plain: it runs as plain PCI; of what follows only @plain_reason, @exited,
 *         @bar, @block, @overlay and @dvsecs count
 * @plain_reason: why
 * @exited: it is being taken away
 * @exit_notifier: QEMU ends without taking it away
 * @migration_blocker: why the VM cannot be migrated
 * @arriving: it was plugged or lost power, and the guest has not configured it
 *            since
 * @firmware_commits: virtual firmware commits decoder 0
 * @info: what the kernel said
 * @bar: the component BAR
 * @block: offset of the component registers in it
 * @overlay: the component registers as the guest sees them
 * @ras: what the guest has written to the RAS Capability
 * @dvsecs: the CXL DVSECs
 * @hdm: the HDM decoders that the guest sees
 * @mmap: the device's memory
 * @memory: the same for the guest
 * @scratch: @mmap is not the device's memory now, see
 *           vfio_cxl_set_backing()
 * @map_failed: the last attempt to map it again has failed, and was reported
 * @refusal_told: it was reported that QEMU's own access was refused
 * @blocked: VFIO_CXL_IN_RESET etc.
 * @active_timer: asks whether the memory is active again
 * @active_deadline: when it should be, in ms of QEMU_CLOCK_REALTIME
 * @inactive_told: it was reported that it is not
 * @dma_reported: it was reported that the memory cannot be mapped for DMA
 * @viommu_listener: tells when the memory leaves the guest's map, or returns
 * @viommu_maps: the guest's mappings of it in virtual IOMMUs
 * @view_known: the kernel's view of decoder 0 is @view_base and @view_lock
 * @view_lock: locked
 * @view_base: guest physical address
 * @probing: a reset is to show whether the kernel keeps that view
 * @keeps_view: it does, and therefore carries out a guest's CXL reset, too
 * @reset_result: of a reset between vfio_cxl_reset_prepare() and
 *                vfio_cxl_reset_done(): 0, -errno, or 1 if not known
 * @wrote_back: the guest has asked for a write-back since it last changed
 *              Disable Caching
 */
struct VFIOCXL {
    Object parent_obj;

    VFIOPCIDevice *vdev;
    bool plain;
    char *plain_reason;
    bool exited;
    Notifier exit_notifier;
    Error *migration_blocker;
    bool arriving;
    bool firmware_commits;
    VFIOCXLInfo info;
    unsigned bar;
    uint64_t block;
    MemoryRegion overlay;
    VFIOCXLRAS ras;
    VFIOCXLDVSECs dvsecs;
    CXLHDM hdm;
    void *mmap;
    MemoryRegion memory;
    bool scratch;
    bool map_failed;
    bool refusal_told;
    unsigned blocked;
    QEMUTimer active_timer;
    int64_t active_deadline;
    bool inactive_told;
    bool dma_reported;
    MemoryListener viommu_listener;
    QLIST_HEAD(, VFIOCXLMap) viommu_maps;
    bool view_known;
    bool view_lock;
    uint64_t view_base;
    bool probing;
    bool keeps_view;
    int reset_result;
    bool wrote_back;
};

static inline const char *vfio_cxl_name(VFIOCXL *cxl)
{
    return cxl->vdev->vbasedev.name;
}

/*
 * cxl.c: the life cycle
 */

/**
 * vfio_cxl_add_property() - Add a property that is "auto" by default
 * @klass: class of vfio-pci
 * @name: of the property
 * @type: the enum's name
 * @lookup: its values
 * @get: returns the value
 * @set: sets the value
 * @description: for -device vfio-pci,help
 */
void vfio_cxl_add_property(ObjectClass *klass, const char *name,
                           const char *type, const QEnumLookup *lookup,
                           int (*get)(Object *, Error **),
                           void (*set)(Object *, int, Error **),
                           const char *description);

/*
 * cxl-memory.c: the device's memory, and when it may be touched
 */

/**
 * vfio_cxl_map_memory() - Map all of the device's memory
 * @cxl: the device, with @info known
 * @errp: why it cannot be mapped; there is no fallback to read and write
 */
bool vfio_cxl_map_memory(VFIOCXL *cxl, Error **errp);

/**
 * vfio_cxl_await_memory() - Wait until the memory is active
 * @cxl: the device, with @info known
 * @errp: it does not become active in time, or QEMU cannot wait for it since
 *        the guest runs
 *
 * Only then the kernels that describe a device alike can be told apart, see
 * vfio_cxl_uapi_distinguish().
 */
bool vfio_cxl_await_memory(VFIOCXL *cxl, Error **errp);

/**
 * vfio_cxl_config_allows() - Does the guest's config space permit access?
 * @cxl: the device
 *
 * As vfio_cxl_guest_allows(), but for the CXL Device DVSEC.
 */
bool vfio_cxl_config_allows(VFIOCXL *cxl);

/**
 * vfio_cxl_guest_allows() - Does the guest's state permit access?
 * @cxl: the device
 *
 * Mem_Enable of the CXL Device DVSEC, D0, and with some kernels Memory Space
 * Enable.
 */
bool vfio_cxl_guest_allows(VFIOCXL *cxl);

/**
 * vfio_cxl_memory_space_allows() - Does Memory Space Enable permit access?
 * @cxl: the device
 *
 * Returns: true also if the kernel does not take the memory away with it
 */
bool vfio_cxl_memory_space_allows(VFIOCXL *cxl);

/**
 * vfio_cxl_is_open() - May the memory be touched now?
 * @cxl: the device
 */
bool vfio_cxl_is_open(VFIOCXL *cxl);

/**
 * vfio_cxl_update() - Make the map, the DVSEC and the kernel's view agree
 * @cxl: the device, after a change of its decoders or of what gates them
 */
void vfio_cxl_update(VFIOCXL *cxl);

/**
 * vfio_cxl_block_memory() - Take the memory away from the guest
 * @cxl: the device
 * @reason: VFIO_CXL_IN_RESET etc.
 */
void vfio_cxl_block_memory(VFIOCXL *cxl, unsigned reason);

/**
 * vfio_cxl_unblock_memory() - Take back vfio_cxl_block_memory()
 * @cxl: the device
 * @reason: one or more; others stay in force
 */
void vfio_cxl_unblock_memory(VFIOCXL *cxl, unsigned reason);

/**
 * vfio_cxl_follow_power() - Be in D0 if the host's device is
 * @cxl: the device, after a write of its power state or a reset
 *
 * The guest reads the state from the kernel, which may keep the device in D0
 * or bring it back there.
 */
void vfio_cxl_follow_power(VFIOCXL *cxl);

/**
 * vfio_cxl_check_host() - Is there memory behind the host's decoder?
 * @cxl: the device, after something that may have changed that
 *
 * Blocks the memory if not; a vfio_cxl_update() has to follow.
 */
void vfio_cxl_check_host(VFIOCXL *cxl);

/**
 * vfio_cxl_memory_exit() - Stop asking whether the memory is active
 * @cxl: the device
 */
void vfio_cxl_memory_exit(VFIOCXL *cxl);

/*
 * cxl-access.c: QEMU's own access to the memory
 */

/**
 * vfio_cxl_access_class_init() - Add the property x-cxl-host-access
 * @klass: class of vfio-pci
 */
void vfio_cxl_access_class_init(ObjectClass *klass);

/**
 * vfio_cxl_access_check_host() - Can such memory be used on this host?
 * @errp: what is missing
 */
bool vfio_cxl_access_check_host(Error **errp);

/**
 * vfio_cxl_access_init() - Check each access that QEMU makes itself
 * @cxl: the device, whose memory region was just made
 */
void vfio_cxl_access_init(VFIOCXL *cxl);

/**
 * vfio_cxl_access_advise() - Keep the memory out of core dumps and forks
 * @cxl: the device, with a new mapping at @mmap
 */
void vfio_cxl_access_advise(VFIOCXL *cxl);

/*
 * cxl-reset.c
 */

/**
 * vfio_cxl_reset_setup() - Take over the device's resets
 * @cxl: the device, with its DVSECs set up
 */
void vfio_cxl_reset_setup(VFIOCXL *cxl);

/**
 * vfio_cxl_flr() - Function level reset (PCIe r6.0 Section 6.6.2)
 * @cxl: the device
 *
 * CXL r3.1 Section 9.5: decoders, locks and CXL DVSECs stay as they are.
 */
void vfio_cxl_flr(VFIOCXL *cxl);

/**
 * vfio_cxl_control2() - Do what a write of CONTROL2 asks for
 * @cxl: the device, after the write
 * @old: CONTROL2 before
 * @doorbells: from vfio_cxl_dvsec_write()
 *
 * CXL r3.1 Sections 9.6 and 9.7. A CXL reset is over when this returns.
 */
void vfio_cxl_control2(VFIOCXL *cxl, uint16_t old, uint16_t doorbells);

/**
 * vfio_cxl_release_caching() - Enable the device's caching for its next user
 * @cxl: the device, which is about to be let go
 */
void vfio_cxl_release_caching(VFIOCXL *cxl);

/**
 * vfio_cxl_refresh_status() - Bring Cache_Invalid in STATUS2 up to date
 * @cxl: the device
 */
void vfio_cxl_refresh_status(VFIOCXL *cxl);

/*
 * cxl-regs.c: the component registers
 */
extern const CXLHDMOps vfio_cxl_hdm_ops;

/**
 * vfio_cxl_ras_reset() - Reset the RAS Capability to its defaults
 * @cxl: the device
 */
void vfio_cxl_ras_reset(VFIOCXL *cxl);

/*
 * cxl-query.c: what can be seen from outside
 */

/**
 * vfio_cxl_query_class_init() - Add the property "status"
 * @klass: class of TYPE_VFIO_CXL
 */
void vfio_cxl_query_class_init(ObjectClass *klass);

/**
 * vfio_cxl_from_memory() - Whose memory is it?
 * @mr: any MemoryRegion
 *
 * Returns: the CXL device with this memory, NULL if it is something else
 */
VFIOCXL *vfio_cxl_from_memory(MemoryRegion *mr);

/*
 * cxl-viommu.c: the memory behind a virtual IOMMU
 */

/**
 * vfio_cxl_viommu_init() - Watch when the memory leaves the map, or returns
 * @cxl: the device, with its memory region made
 */
void vfio_cxl_viommu_init(VFIOCXL *cxl);

/**
 * vfio_cxl_viommu_exit() - Undo the mappings that are left, and forget them
 * @cxl: the device; need not have come to vfio_cxl_viommu_init()
 */
void vfio_cxl_viommu_exit(VFIOCXL *cxl);

#endif /* HW_VFIO_CXL_INTERNAL_H */
