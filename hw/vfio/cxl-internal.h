/*
 * CXL Type-2 devices behind vfio-pci: internal interfaces
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_VFIO_CXL_INTERNAL_H
#define HW_VFIO_CXL_INTERNAL_H

#include "hw/cxl/cxl_firmware.h"
#include "hw/cxl/cxl_hdm.h"
#include "hw/cxl/cxl_route.h"
#include "system/ram_device_guard.h"
#include "pci.h"
#include "cxl-dvsec.h"
#include "cxl-uapi.h"

#define TYPE_VFIO_CXL "vfio-cxl"
OBJECT_DECLARE_SIMPLE_TYPE(VFIOCXL, VFIO_CXL)

/* Reasons to withhold the memory that do not depend on guest registers */
enum {
    VFIO_CXL_IN_RESET = 1 << 0,
    VFIO_CXL_IN_CONFIG_WRITE = 1 << 1, /* one that may end access */
    VFIO_CXL_HOST_NOT_COMMITTED = 1 << 2,
    VFIO_CXL_NOT_MAPPED = 1 << 3,
    VFIO_CXL_RESET_FAILED = 1 << 4,
    VFIO_CXL_HOST_CLOSED = 1 << 5, /* the kernel rejected an enable */
    VFIO_CXL_NOT_ACTIVE = 1 << 6, /* not active again yet */
    VFIO_CXL_LOST = VFIO_CXL_HOST_NOT_COMMITTED | VFIO_CXL_RESET_FAILED,
};

/* What a guest can write in the RAS Capability (CXL r3.1 Section 8.2.4.17) */
typedef struct VFIOCXLRAS {
    uint32_t uncorrectable_mask;
    uint32_t uncorrectable_severity;
    uint32_t correctable_mask;
} VFIOCXLRAS;

/**
 * struct VFIOCXLActive - wait for the memory to become active again
 * @timer: polls for it
 * @deadline: when it should be active, in ms of QEMU_CLOCK_REALTIME
 * @late: the deadline was missed, which has been reported
 */
typedef struct VFIOCXLActive {
    QEMUTimer timer;
    int64_t deadline;
    bool late;
} VFIOCXLActive;

/**
 * struct VFIOCXLScratch - stand-in for the memory that TCG vCPUs may still
 * access
 * @in_place: it has taken the place of the memory
 * @failed: the memory could not be mapped again, which has been reported
 */
typedef struct VFIOCXLScratch {
    bool in_place;
    bool failed;
} VFIOCXLScratch;

/**
 * struct VFIOCXL - a vfio-pci device that the guest sees as a CXL device
 * @vdev: the device
 * @exited: it is being removed
 * @exit_notifier: runs when QEMU exits without removing it
 * @migration_blocker: why the VM cannot be migrated
 * @arriving: it was plugged or lost power, and the guest has not configured it
 *            since
 * @firmware_commits: virtual firmware commits decoder 0
 * @dvsecs: the CXL DVSECs
 * @info: the kernel's description of the device
 * @kernel_state: private data of the functions in @info.kernel
 * @overlay: the component registers as the guest sees them
 * @ras: what the guest has written to the RAS Capability
 * @hdm: the HDM decoders that the guest sees
 * @memory: the device's memory
 * @guard: checks QEMU's own accesses to it
 * @blocked: VFIO_CXL_IN_RESET etc.
 * @active: wait for it to become active after a reset
 * @scratch: stand-in for the memory under TCG
 * @refusal_reported: a refused access by QEMU itself has been reported
 * @reset_pending: vfio_cxl_reset_prepare() has been called, but nothing has
 *                 reset the device yet
 * @reset_result: result of the last VFIO_DEVICE_RESET: 0 or -errno
 *
 * @vdev owns the MemoryRegions. They are its children, so they are finalized
 * before this object, to which it holds the last reference.
 */
struct VFIOCXL {
    Object parent_obj;

    VFIOPCIDevice *vdev;
    bool exited;
    Notifier exit_notifier;
    Error *migration_blocker;
    bool arriving;
    bool firmware_commits;
    VFIOCXLDVSECSet dvsecs;
    VFIOCXLInfo info;
    void *kernel_state;
    MemoryRegion overlay;
    VFIOCXLRAS ras;
    CXLHDM hdm;
    VFIORegion memory;
    RAMDeviceGuard guard;
    unsigned blocked;
    VFIOCXLActive active;
    VFIOCXLScratch scratch;
    bool refusal_reported;
    bool reset_pending;
    int reset_result;
};

/**
 * struct VFIOCXLHidden - a CXL device that the guest sees as a plain PCI device
 * @reason: why
 * @dvsecs: the CXL DVSECs, which the guest does not see
 * @bar: the BAR with the component registers
 * @block: their offset in it, bytes
 * @overlay: zeros in their place
 */
struct VFIOCXLHidden {
    char *reason;
    VFIOCXLDVSECSet dvsecs;
    unsigned bar;
    uint64_t block;
    MemoryRegion overlay;
};

static inline const char *vfio_cxl_name(VFIOCXL *cxl)
{
    return cxl->vdev->vbasedev.name;
}

/*
 * cxl-memory.c: the device's memory, and when it may be accessed
 */

/**
 * vfio_cxl_memory_init() - Map all of the device's memory
 * @cxl: the device, with @info known
 * @errp: why it cannot be mapped; there is no fallback to read and write
 */
bool vfio_cxl_memory_init(VFIOCXL *cxl, Error **errp);

/**
 * vfio_cxl_memory_exit() - Release the memory, which the guest no longer sees
 * @cxl: the device; vfio_cxl_memory_init() need not have been called
 */
void vfio_cxl_memory_exit(VFIOCXL *cxl);

/**
 * vfio_cxl_memory_advise() - Keep the memory out of core dumps and forks
 * @cxl: the device, whose memory has just been mapped
 */
void vfio_cxl_memory_advise(VFIOCXL *cxl);

/**
 * vfio_cxl_memory_active() - Check whether the memory is active
 * @info: the description of a device in D0, with Memory Space enabled and
 *        decoder 0 committed
 *
 * Checks Memory_Active in the CXL Device DVSEC (CXL r3.1 Section 8.1.3.8.2),
 * and whether the kernel lets the memory be read, which a copy of the DVSEC
 * would not show.
 */
bool vfio_cxl_memory_active(const VFIOCXLInfo *info);

/**
 * vfio_cxl_memory_readable() - Check whether the kernel allows reads
 * @info: the device's description
 */
bool vfio_cxl_memory_readable(const VFIOCXLInfo *info);

/**
 * vfio_cxl_memory_await() - Wait until the kernel's generation is known
 * @cxl: the device, with @info known
 * @errp: set if the memory does not become active in time, or is not active and
 *        QEMU cannot wait because the guest is running
 */
bool vfio_cxl_memory_await(VFIOCXL *cxl, Error **errp);

/**
 * vfio_cxl_config_allows() - Check the gates in the guest's config space
 * @cxl: the device
 * @low_power: set to whether the device is not in D0; may be NULL
 *
 * Requires D0 and, with some kernels, Memory Space Enable.
 */
bool vfio_cxl_config_allows(VFIOCXL *cxl, bool *low_power);

/**
 * vfio_cxl_is_open() - Check whether the memory may be accessed now
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
 * vfio_cxl_unblock_memory() - Undo vfio_cxl_block_memory()
 * @cxl: the device
 * @reason: one or more; others stay in force
 */
void vfio_cxl_unblock_memory(VFIOCXL *cxl, unsigned reason);

/**
 * vfio_cxl_follow_power() - Follow the host's device into D0
 * @cxl: the device, after a write of its power state or a reset
 *
 * The guest reads the state from the kernel, which may keep the device in D0
 * or bring it back there.
 */
void vfio_cxl_follow_power(VFIOCXL *cxl);

/**
 * vfio_cxl_check_host() - Check that the host's device provides memory
 * @cxl: the device, after something that may have changed that
 *
 * Blocks the memory if not; a vfio_cxl_update() has to follow.
 */
void vfio_cxl_check_host(VFIOCXL *cxl);

/*
 * cxl-tcg.c: TCG vCPUs see changes of the memory map with a delay
 */

/**
 * vfio_cxl_scratch_remove() - Put the memory back for the guest
 * @cxl: the device, whose memory may be accessed
 */
void vfio_cxl_scratch_remove(VFIOCXL *cxl);

/**
 * vfio_cxl_scratch_place() - Put zeros where vCPUs may still look
 * @cxl: the device, whose memory has left the map
 */
void vfio_cxl_scratch_place(VFIOCXL *cxl);

/*
 * cxl-reset.c
 */

/**
 * vfio_cxl_reset_setup() - Take over the device's resets
 * @cxl: the device, with its DVSECs set up
 */
void vfio_cxl_reset_setup(VFIOCXL *cxl);

/**
 * vfio_cxl_reset_offer() - Show the guest which resets it can ask for
 * @cxl: the device
 */
void vfio_cxl_reset_offer(VFIOCXL *cxl);

/**
 * vfio_cxl_reset_wait() - Sleep between two attempts during a reset
 * @deadline: in microseconds of g_get_monotonic_time()
 *
 * Returns: false if @deadline has passed
 */
bool vfio_cxl_reset_wait(int64_t deadline);

/**
 * vfio_cxl_device_reset() - VFIO_DEVICE_RESET
 * @cxl: the device, whose memory is blocked
 *
 * Returns: 0 or -errno
 */
int vfio_cxl_device_reset(VFIOCXL *cxl);

/**
 * vfio_cxl_flr() - Function level reset (PCIe r6.0 Section 6.6.2)
 * @cxl: the device
 *
 * CXL r3.1 Section 9.5: decoders, locks and CXL DVSECs stay as they are.
 */
void vfio_cxl_flr(VFIOCXL *cxl);

/**
 * vfio_cxl_cxl_reset() - CXL reset (CXL r3.1 Section 9.7)
 * @cxl: the device; the kernel supports CXL reset
 *
 * The reset is complete on return.
 */
void vfio_cxl_cxl_reset(VFIOCXL *cxl);

/*
 * cxl-regs.c: the component registers
 */

/**
 * vfio_cxl_regs_init() - Put decoders and RAS Capability into reset state
 * @cxl: the device, with @info known
 */
void vfio_cxl_regs_init(VFIOCXL *cxl);

/**
 * vfio_cxl_regs_reset() - Conventional reset of the component registers
 * @cxl: the device
 */
void vfio_cxl_regs_reset(VFIOCXL *cxl);

/**
 * vfio_cxl_regs_lay() - Lay the component registers over their BAR
 * @cxl: the device, with the MemoryRegion of the BAR made
 */
void vfio_cxl_regs_lay(VFIOCXL *cxl);

/*
 * cxl-config.c
 */

/**
 * vfio_cxl_config_take() - Take over config space
 * @cxl: the device, with its capabilities added
 */
void vfio_cxl_config_take(VFIOCXL *cxl);

/*
 * cxl-query.c: state for QMP and HMP
 */

/**
 * vfio_cxl_query_class_init() - Add the property "status"
 * @klass: class of TYPE_VFIO_CXL
 */
void vfio_cxl_query_class_init(ObjectClass *klass);

/*
 * cxl-hidden.c: CXL devices as plain PCI devices
 */

/**
 * vfio_cxl_hidden_new() - Prepare to hide a device's CXL features
 * @vdev: the device, whose BARs are known and not yet registered
 * @dvsecs: its CXL DVSECs
 * @reason: why; ownership is taken
 * @errp: set if the component registers cannot be hidden
 *
 * Returns: NULL on error
 */
VFIOCXLHidden *vfio_cxl_hidden_new(VFIOPCIDevice *vdev,
                                   const VFIOCXLDVSECSet *dvsecs, char *reason,
                                   Error **errp);

/**
 * vfio_cxl_hidden_lay() - Lay zeros over the component registers
 * @hidden: the device, with the MemoryRegion of the BAR made
 */
void vfio_cxl_hidden_lay(VFIOCXLHidden *hidden);

/**
 * vfio_cxl_hidden_config_take() - Take over config space
 * @hidden: the device, with its capabilities added
 */
void vfio_cxl_hidden_config_take(VFIOCXLHidden *hidden);

/**
 * vfio_cxl_hidden_exit() - Undo vfio_cxl_hidden_lay()
 * @hidden: the device
 */
void vfio_cxl_hidden_exit(VFIOCXLHidden *hidden);

/**
 * vfio_cxl_hidden_free() - Free everything
 * @hidden: the device, after vfio_cxl_hidden_exit()
 */
void vfio_cxl_hidden_free(VFIOCXLHidden *hidden);

#endif /* HW_VFIO_CXL_INTERNAL_H */
