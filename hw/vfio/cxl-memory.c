/*
 * CXL Type-2 devices behind vfio-pci: their memory
 *
 * The memory is mapped once. Whether the guest sees it depends on its own
 * registers, on the host's decoder and on operations in progress; the kernel
 * raises a fault for accesses at the wrong time.
 *
 * The guest's CPUs reach the memory through KVM or through TCG's TLB.
 * Everything else in QEMU, such as DMA of emulated devices, the monitor or a
 * debugger, is checked by vfio_cxl_memory_accepts() first.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/vfio.h>

#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/madvise.h"
#include "qemu/target-info.h"
#include "hw/pci/pci.h"
#include "hw/xen/xen.h"
#include "system/kvm.h"
#include "system/qtest.h"
#include "system/tcg.h"
#include "cxl-host.h"
#include "cxl-internal.h"
#include "trace.h"

#define ACTIVE_POLL_MS 50
#define LATE_POLL_MS 1000

/*
 * Gates in the guest's own registers
 */
bool vfio_cxl_config_allows(VFIOCXL *cxl, bool *low_power)
{
    PCIDevice *pdev = PCI_DEVICE(cxl->vdev);
    bool asleep = pdev->pm_cap &&
                  pci_get_word(pdev->config + pdev->pm_cap + PCI_PM_CTRL) &
                  PCI_PM_CTRL_STATE_MASK;

    if (low_power) {
        *low_power = asleep;
    }
    /* Memory Space Enable is for CXL.io, but some kernels check it, too */
    return !asleep && (!cxl->info.kernel->memory_space_gate ||
                       pci_get_word(pdev->config + PCI_COMMAND) &
                       PCI_COMMAND_MEMORY);
}

bool vfio_cxl_is_open(VFIOCXL *cxl)
{
    return !cxl->blocked && vfio_cxl_config_allows(cxl, NULL) &&
           vfio_cxl_dvsec_mem_enabled(&cxl->dvsecs);
}

void vfio_cxl_update(VFIOCXL *cxl)
{
    const VFIOCXLKernel *kernel = cxl->info.kernel;
    CXLHDMRange range = { };

    cxl_hdm_is_committed(&cxl->hdm, 0, &range);
    if (kernel->update) {
        kernel->update(cxl, range.base);
    }
    vfio_cxl_dvsec_set_base(&cxl->dvsecs, range.base);
    if (vfio_cxl_is_open(cxl)) {
        vfio_cxl_scratch_remove(cxl);
    }
    cxl_route_update_all();
    if (!vfio_cxl_is_open(cxl)) {
        vfio_cxl_scratch_place(cxl);
    }
}

void vfio_cxl_block_memory(VFIOCXL *cxl, unsigned reason)
{
    cxl->blocked |= reason;
    trace_vfio_cxl_block(vfio_cxl_name(cxl), reason, cxl->blocked);
    vfio_cxl_update(cxl);
}

void vfio_cxl_unblock_memory(VFIOCXL *cxl, unsigned reason)
{
    cxl->blocked &= ~reason;
    trace_vfio_cxl_unblock(vfio_cxl_name(cxl), reason, cxl->blocked);
    vfio_cxl_update(cxl);
}

/*
 * Memory_Active
 */

/* DVSEC CXL Range 1 Size Low, 0 if it cannot be read */
static uint32_t vfio_cxl_read_size_low(const VFIOCXLDVSECSet *set)
{
    uint32_t value;

    vfio_cxl_config_read(set->vdev, set->device + A_CXL_DVSEC_RANGE1_SIZE_LO,
                         4, &value);
    return value;
}

bool vfio_cxl_memory_readable(const VFIOCXLInfo *info)
{
    VFIODevice *vbasedev = info->vbasedev;
    uint32_t value;

    return vbasedev->io_ops->region_read(vbasedev, info->memory_region, 0,
                                         sizeof(value), &value) > 0;
}

bool vfio_cxl_memory_active(const VFIOCXLInfo *info)
{
    uint32_t size = vfio_cxl_read_size_low(info->dvsecs);

    return (!FIELD_EX32(size, CXL_DVSEC_RANGE1_SIZE_LO, INFO_VALID) ||
            FIELD_EX32(size, CXL_DVSEC_RANGE1_SIZE_LO, ACTIVE)) &&
           vfio_cxl_memory_readable(info);
}

/* Memory_Active_Timeout: 1, 4, 16, 64 or 256 seconds */
static unsigned vfio_cxl_active_timeout(VFIOCXL *cxl)
{
    unsigned timeout = FIELD_EX32(vfio_cxl_read_size_low(&cxl->dvsecs),
                                  CXL_DVSEC_RANGE1_SIZE_LO, ACTIVE_TIMEOUT);

    return 1 << MIN(8, 2 * timeout);
}

/*
 * The memory may take some time to become active. QEMU does not wait for it:
 * the guest finds Memory_Active clear until the memory is in its map.
 */
static void vfio_cxl_active_check(VFIOCXL *cxl)
{
    bool active = vfio_cxl_memory_active(&cxl->info);
    int64_t now = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);

    if (active) {
        cxl->blocked &= ~VFIO_CXL_NOT_ACTIVE;
        cxl->active.late = false;
    } else {
        cxl->blocked |= VFIO_CXL_NOT_ACTIVE;
        if (now > cxl->active.deadline && !cxl->active.late) {
            warn_report(VFIO_MSG_PREFIX "device memory is not active although "
                        "Memory_Active_Timeout has expired",
                        vfio_cxl_name(cxl));
            cxl->active.late = true;
        }
        timer_mod(&cxl->active.timer,
                  now + (now > cxl->active.deadline ? LATE_POLL_MS :
                                                      ACTIVE_POLL_MS));
    }
    vfio_cxl_dvsec_set_active(&cxl->dvsecs, active);
    trace_vfio_cxl_active(vfio_cxl_name(cxl), active);
}

static void vfio_cxl_active_start(VFIOCXL *cxl)
{
    cxl->active.deadline = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                           vfio_cxl_active_timeout(cxl) * 1000;
    vfio_cxl_active_check(cxl);
}

static void vfio_cxl_active_poll(void *opaque)
{
    VFIOCXL *cxl = opaque;

    /* It cannot be active in low power; the return to D0 starts again */
    if (vfio_cxl_config_allows(cxl, NULL)) {
        vfio_cxl_active_check(cxl);
        vfio_cxl_update(cxl);
    }
}

bool vfio_cxl_memory_await(VFIOCXL *cxl, Error **errp)
{
    int64_t deadline = g_get_monotonic_time();

    if (!DEVICE(cxl->vdev)->hotplugged) {
        deadline += vfio_cxl_active_timeout(cxl) * G_USEC_PER_SEC;
    }
    while (!vfio_cxl_uapi_distinguish(&cxl->info) ||
           (cxl->info.kernel->memory_returns_late &&
            !vfio_cxl_memory_active(&cxl->info))) {
        if (g_get_monotonic_time() >= deadline) {
            error_setg(errp, "device memory is not active yet: try again "
                       "later");
            return false;
        }
        g_usleep(ACTIVE_POLL_MS * 1000);
    }
    return true;
}

/*
 * State of the host's device
 */
static bool vfio_cxl_host_in_d0(VFIOCXL *cxl)
{
    unsigned pm = PCI_DEVICE(cxl->vdev)->pm_cap;
    uint32_t control;

    return !pm || (vfio_cxl_config_read(cxl->vdev, pm + PCI_PM_CTRL, 2,
                                        &control) &&
                   !(control & PCI_PM_CTRL_STATE_MASK));
}

/* The kernel may have rejected a write that enabled the guest's memory */
static bool vfio_cxl_host_allows(VFIOCXL *cxl)
{
    uint32_t command;

    if (cxl->info.kernel->memory_space_gate &&
        (!vfio_cxl_config_read(cxl->vdev, PCI_COMMAND, 2, &command) ||
         !(command & PCI_COMMAND_MEMORY))) {
        return false;
    }
    return vfio_cxl_host_in_d0(cxl);
}

void vfio_cxl_follow_power(VFIOCXL *cxl)
{
    PCIDevice *pdev = PCI_DEVICE(cxl->vdev);
    uint16_t control;

    if (!pdev->pm_cap) {
        return;
    }
    control = pci_get_word(pdev->config + pdev->pm_cap + PCI_PM_CTRL);
    if (control & PCI_PM_CTRL_STATE_MASK && vfio_cxl_host_in_d0(cxl)) {
        pci_default_write_config(pdev, pdev->pm_cap + PCI_PM_CTRL,
                                 control & ~PCI_PM_CTRL_STATE_MASK, 2);
    }
}

void vfio_cxl_check_host(VFIOCXL *cxl)
{
    const VFIOCXLKernel *kernel = cxl->info.kernel;
    Error *err = NULL;

    if (kernel->changed) {
        kernel->changed(cxl);
    }
    cxl->blocked &= ~VFIO_CXL_HOST_CLOSED;
    if (vfio_cxl_config_allows(cxl, NULL) && !vfio_cxl_host_allows(cxl)) {
        cxl->blocked |= VFIO_CXL_HOST_CLOSED;
    }
    if (vfio_cxl_read_committed(&cxl->info, &err)) {
        cxl->blocked &= ~VFIO_CXL_HOST_NOT_COMMITTED;
        if (kernel->memory_returns_late) {
            vfio_cxl_active_start(cxl);
        }
        return;
    }
    if (cxl->blocked & VFIO_CXL_HOST_NOT_COMMITTED) {
        error_free(err); /* already reported; guests can repeat this */
    } else if (err) {
        error_reportf_err(err, VFIO_MSG_PREFIX, vfio_cxl_name(cxl));
    } else {
        error_report(VFIO_MSG_PREFIX "the host's HDM decoder is not "
                     "committed: device memory is not available until a "
                     "reset restores it", vfio_cxl_name(cxl));
    }
    cxl->blocked |= VFIO_CXL_HOST_NOT_COMMITTED;
    cxl_hdm_decommit(&cxl->hdm);
}

/*
 * QEMU's own accesses
 */
static bool vfio_cxl_memory_accepts(RAMDeviceGuard *guard, hwaddr addr,
                                    unsigned size, bool is_write)
{
    VFIOCXL *cxl = container_of(guard, VFIOCXL, guard);
    bool open = !cxl->exited && !cxl->scratch.in_place &&
                vfio_cxl_is_open(cxl);

    if (vfio_cxl_host_may_access(cxl->vdev->cxl.host_access,
                                 tcg_enabled() || qtest_enabled(), open)) {
        return true;
    }
    trace_vfio_cxl_access_refused(vfio_cxl_name(cxl), addr, size, is_write,
                                  open);
    if (!qatomic_xchg(&cxl->refusal_reported, true)) {
        warn_report(VFIO_MSG_PREFIX "access by QEMU itself (DMA of an "
                    "emulated device, monitor or debugger) to device memory "
                    "refused: %s; further refusals will not be reported",
                    vfio_cxl_name(cxl),
                    open ? "x-cxl-host-access=on would allow it"
                         : "the memory is not accessible now");
    }
    return false;
}

static bool vfio_cxl_memory_check_host(Error **errp)
{
    if (!vfio_cxl_host_can_keep_off(xen_mode == XEN_EMULATE, errp)) {
        return false;
    }
    return !kvm_enabled() || vfio_cxl_host_can_map(target_base_arm(), errp);
}

/*
 * Life cycle
 */
void vfio_cxl_memory_advise(VFIOCXL *cxl)
{
    VFIORegion *region = &cxl->memory;

    /* The kernel does this by itself for a device, but not for a file */
    qemu_madvise(region->mmaps[0].mmap, region->size, QEMU_MADV_DONTDUMP);
    if (!qtest_enabled()) {
        qemu_madvise(region->mmaps[0].mmap, region->size, QEMU_MADV_DONTFORK);
    }
}

bool vfio_cxl_memory_init(VFIOCXL *cxl, Error **errp)
{
    VFIODevice *vbasedev = &cxl->vdev->vbasedev;
    g_autofree char *name = g_strdup_printf("%s CXL memory", vbasedev->name);
    VFIORegion *region = &cxl->memory;
    int ret;

    if (!vfio_cxl_memory_check_host(errp)) {
        return false;
    }
    if (vbasedev->no_mmap) {
        error_setg(errp, "x-no-mmap=on leaves no way to use device memory");
        return false;
    }
    timer_init_ms(&cxl->active.timer, QEMU_CLOCK_REALTIME,
                  vfio_cxl_active_poll, cxl);
    ret = vfio_region_setup(OBJECT(cxl->vdev), vbasedev, region,
                            cxl->info.memory_region, name, errp);
    if (ret) {
        return false;
    }
    if (region->nr_mmaps != 1 || region->mmaps[0].size != region->size) {
        error_setg(errp, "the kernel does not allow all of the device memory "
                   "to be mapped");
        return false;
    }
    ret = vfio_region_mmap(region);
    if (ret) {
        error_setg_errno(errp, -ret, "cannot map device memory, 0x%" PRIx64
                         " bytes", (uint64_t)region->size);
        return false;
    }
    cxl->guard = (RAMDeviceGuard) {
        .mr = &region->mmaps[0].mem,
        .accepts = vfio_cxl_memory_accepts,
    };
    memory_region_guard_ram_device(&cxl->guard);
    vfio_cxl_memory_advise(cxl);
    trace_vfio_cxl_map(vfio_cxl_name(cxl), region->mmaps[0].mmap,
                       region->size);
    return true;
}

void vfio_cxl_memory_exit(VFIOCXL *cxl)
{
    timer_del(&cxl->active.timer);
    vfio_region_exit(&cxl->memory);
}
