/*
 * CXL Type-2 devices behind vfio-pci: their memory
 *
 * The memory is mapped once. Whether the guest sees it depends on its own
 * registers, on the host's decoder and on what is going on; the kernel faults
 * on accesses at the wrong time.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
#include <linux/vfio.h>

#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/units.h"
#include "hw/pci/pci.h"
#include "system/tcg.h"
#include "cxl-internal.h"
#include "trace.h"

#define ACTIVE_POLL_MS 50

/* Memory Space Enable is about CXL.io, but some kernels go by it */
bool vfio_cxl_memory_space_allows(VFIOCXL *cxl)
{
    return !cxl->info.kernel->memory_space_gate ||
           pci_get_word(PCI_DEVICE(cxl->vdev)->config + PCI_COMMAND) &
           PCI_COMMAND_MEMORY;
}

bool vfio_cxl_config_allows(VFIOCXL *cxl)
{
    PCIDevice *pdev = PCI_DEVICE(cxl->vdev);

    if (pdev->pm_cap &&
        pci_get_word(pdev->config + pdev->pm_cap + PCI_PM_CTRL) &
        PCI_PM_CTRL_STATE_MASK) {
        return false;
    }
    return vfio_cxl_memory_space_allows(cxl);
}

/* May the memory be touched, as far as the guest has a say? */
bool vfio_cxl_guest_allows(VFIOCXL *cxl)
{
    return vfio_cxl_config_allows(cxl) &&
           vfio_cxl_dvsec_mem_enabled(cxl->vdev, &cxl->dvsecs);
}

bool vfio_cxl_is_open(VFIOCXL *cxl)
{
    return !cxl->blocked && vfio_cxl_guest_allows(cxl);
}

/* Replace what is at @mmap by the device's memory or by pages of zeros */
static bool vfio_cxl_replace_mapping(VFIOCXL *cxl, bool scratch)
{
    VFIODevice *vbasedev = &cxl->vdev->vbasedev;
    int flags = MAP_FIXED, fd = -1;
    struct vfio_region_info *info;
    off_t offset = 0;

    if (scratch) {
        flags |= MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    } else {
        vfio_device_get_region_info(vbasedev, cxl->info.memory_region, &info);
        flags |= MAP_SHARED;
        fd = vfio_device_get_region_fd(vbasedev, cxl->info.memory_region);
        offset = info->offset;
    }
    return mmap(cxl->mmap, cxl->info.memory_size, PROT_READ | PROT_WRITE,
                flags, fd, offset) != MAP_FAILED;
}

/*
 * Under TCG a vCPU may go on using the old memory map for a while, and touch
 * memory that the kernel no longer permits. So harmless memory is mapped at
 * the same address before the kernel is told. With KVM this is not needed: it
 * removes a memory slot while no vCPU runs.
 */
static void vfio_cxl_set_backing(VFIOCXL *cxl, bool scratch)
{
    if (!tcg_enabled() || scratch == cxl->scratch) {
        return;
    }
    if (!vfio_cxl_replace_mapping(cxl, scratch)) {
        if (!cxl->map_failed) {
            error_report(VFIO_MSG_PREFIX "cannot map device memory: %s; it "
                         "is not available until a reset brings it back",
                         vfio_cxl_name(cxl), strerror(errno));
        }
        if (!scratch) {
            /*
             * If the driver refused, the old mapping is gone: reserve the
             * addresses, so that the memory can be mapped there later.
             */
            vfio_cxl_replace_mapping(cxl, true);
        }
        cxl->map_failed = true;
        cxl->blocked |= VFIO_CXL_NOT_MAPPED;
        return;
    }
    cxl->map_failed &= scratch;
    cxl->scratch = scratch;
    vfio_cxl_access_advise(cxl);
}

/* Some kernels want to know where the guest has decoder 0 */
static void vfio_cxl_update_view(VFIOCXL *cxl, uint64_t base)
{
    VFIODevice *vbasedev = &cxl->vdev->vbasedev;
    bool lock = cxl_hdm_is_locked(&cxl->hdm, 0);

    if (!cxl->info.kernel->wants_gpa || cxl->blocked & VFIO_CXL_IN_RESET ||
        (cxl->view_known && cxl->view_base == base &&
         cxl->view_lock == lock)) {
        return;
    }
    cxl->view_known = vfio_cxl_write_view(vbasedev, &cxl->info, base, lock);
    cxl->view_base = base;
    cxl->view_lock = lock;
    trace_vfio_cxl_view(vfio_cxl_name(cxl), base, lock, cxl->view_known);
}

void vfio_cxl_update(VFIOCXL *cxl)
{
    CXLHDMRange range = { };

    cxl_hdm_is_committed(&cxl->hdm, 0, &range);
    vfio_cxl_update_view(cxl, range.base);
    vfio_cxl_dvsec_set_base(cxl->vdev, &cxl->dvsecs, range.base);
    if (vfio_cxl_is_open(cxl)) {
        vfio_cxl_set_backing(cxl, false);
    }
    cxl_route_update(CXL_ENDPOINT(cxl));
    if (!vfio_cxl_is_open(cxl)) {
        vfio_cxl_set_backing(cxl, true);
    }
}

void vfio_cxl_block_memory(VFIOCXL *cxl, unsigned reason)
{
    cxl->blocked |= reason;
    trace_vfio_cxl_block(vfio_cxl_name(cxl), reason, cxl->blocked);
    vfio_cxl_update(cxl);
}

static bool vfio_cxl_read_config_word(VFIOCXL *cxl, unsigned offset,
                                      uint16_t *value)
{
    VFIODevice *vbasedev = &cxl->vdev->vbasedev;
    uint16_t le;

    if (vbasedev->io_ops->region_read(vbasedev, VFIO_PCI_CONFIG_REGION_INDEX,
                                      offset, sizeof(le),
                                      &le) != sizeof(le)) {
        return false;
    }
    *value = le16_to_cpu(le);
    return true;
}

static bool vfio_cxl_host_in_d0(VFIOCXL *cxl)
{
    unsigned pm = PCI_DEVICE(cxl->vdev)->pm_cap;
    uint16_t control = 0;

    return !pm || (vfio_cxl_read_config_word(cxl, pm + PCI_PM_CTRL, &control) &&
                   !(control & PCI_PM_CTRL_STATE_MASK));
}

/* A write that enabled the memory for the guest may not have been taken */
static bool vfio_cxl_host_allows(VFIOCXL *cxl)
{
    uint16_t command;

    if (cxl->info.kernel->memory_space_gate &&
        (!vfio_cxl_read_config_word(cxl, PCI_COMMAND, &command) ||
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

/*
 * The memory takes its time to become active. Nothing waits for that: the
 * guest finds Memory_Active clear until the memory is in its map.
 */
static void vfio_cxl_check_active(VFIOCXL *cxl)
{
    bool active = vfio_cxl_memory_active(&cxl->vdev->vbasedev, &cxl->info);
    int64_t now = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);

    if (active) {
        cxl->blocked &= ~VFIO_CXL_NOT_ACTIVE;
        cxl->inactive_told = false;
    } else {
        cxl->blocked |= VFIO_CXL_NOT_ACTIVE;
        if (now > cxl->active_deadline && !cxl->inactive_told) {
            warn_report(VFIO_MSG_PREFIX "device memory is not active although "
                        "Memory_Active_Timeout is over",
                        vfio_cxl_name(cxl));
            cxl->inactive_told = true;
        }
        timer_mod(&cxl->active_timer, now + ACTIVE_POLL_MS);
    }
    vfio_cxl_dvsec_set_active(cxl->vdev, &cxl->dvsecs, active);
    trace_vfio_cxl_active(vfio_cxl_name(cxl), active);
}

static void vfio_cxl_start_active(VFIOCXL *cxl)
{
    unsigned timeout =
        vfio_cxl_memory_active_timeout(&cxl->vdev->vbasedev);

    cxl->active_deadline = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                           timeout * 1000;
    vfio_cxl_check_active(cxl);
}

static void vfio_cxl_active_poll(void *opaque)
{
    VFIOCXL *cxl = opaque;

    /* In low power it cannot be active; the return to D0 starts anew */
    if (vfio_cxl_config_allows(cxl)) {
        vfio_cxl_check_active(cxl);
        vfio_cxl_update(cxl);
    }
}

bool vfio_cxl_await_memory(VFIOCXL *cxl, Error **errp)
{
    VFIODevice *vbasedev = &cxl->vdev->vbasedev;
    int64_t deadline = g_get_monotonic_time();

    if (!DEVICE(cxl->vdev)->hotplugged) {
        deadline += vfio_cxl_memory_active_timeout(vbasedev) * G_USEC_PER_SEC;
    }
    while (!vfio_cxl_uapi_distinguish(vbasedev, &cxl->info)) {
        if (g_get_monotonic_time() >= deadline) {
            error_setg(errp, "the device's memory is not active yet: try again "
                       "later");
            return false;
        }
        g_usleep(ACTIVE_POLL_MS * 1000);
    }
    return true;
}

void vfio_cxl_memory_exit(VFIOCXL *cxl)
{
    timer_del(&cxl->active_timer);
}

/* Is there memory behind the host's decoder? Ask when that may have changed */
void vfio_cxl_check_host(VFIOCXL *cxl)
{
    Error *err = NULL;

    cxl->view_known = false;
    cxl->blocked &= ~VFIO_CXL_HOST_CLOSED;
    if (vfio_cxl_config_allows(cxl) && !vfio_cxl_host_allows(cxl)) {
        cxl->blocked |= VFIO_CXL_HOST_CLOSED;
    }
    if (vfio_cxl_read_committed(&cxl->vdev->vbasedev, &cxl->info, &err)) {
        cxl->blocked &= ~VFIO_CXL_HOST_NOT_COMMITTED;
        if (cxl->info.kernel->memory_returns_late) {
            vfio_cxl_start_active(cxl);
        }
        return;
    }
    if (cxl->blocked & VFIO_CXL_HOST_NOT_COMMITTED) {
        error_free(err); /* reported; a guest can repeat the request */
    } else if (err) {
        error_reportf_err(err, VFIO_MSG_PREFIX, vfio_cxl_name(cxl));
    } else {
        error_report(VFIO_MSG_PREFIX "the host's HDM decoder is not "
                     "committed: device memory is not available until a "
                     "reset brings it back", vfio_cxl_name(cxl));
    }
    cxl->blocked |= VFIO_CXL_HOST_NOT_COMMITTED;
    cxl_hdm_decommit(&cxl->hdm);
}

void vfio_cxl_unblock_memory(VFIOCXL *cxl, unsigned reason)
{
    cxl->blocked &= ~reason;
    trace_vfio_cxl_block(vfio_cxl_name(cxl), 0, cxl->blocked);
    vfio_cxl_update(cxl);
}

/*
 * Map all of the memory, aligned as the largest pages need it. There is no
 * fallback to access by read and write: at that speed nothing can use it.
 */
bool vfio_cxl_map_memory(VFIOCXL *cxl, Error **errp)
{
    VFIODevice *vbasedev = &cxl->vdev->vbasedev;
    uint64_t size = cxl->info.memory_size;
    size_t align = MIN(pow2floor(size), 1 * GiB);
    struct vfio_region_info *info;
    uint8_t *reserved, *aligned;
    int ret;

    if (vbasedev->no_mmap) {
        error_setg(errp, "x-no-mmap=on leaves no way to use its memory");
        return false;
    }
    ret = vfio_device_get_region_info(vbasedev, cxl->info.memory_region,
                                      &info);
    if (ret) {
        error_setg_errno(errp, -ret, "cannot get info of the memory region");
        return false;
    }
    reserved = mmap(NULL, size + align, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (reserved == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot reserve 0x%" PRIx64
                         " bytes of address space", size + align);
        return false;
    }
    aligned = QEMU_ALIGN_PTR_UP(reserved, align);
    if (mmap(aligned, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
             vfio_device_get_region_fd(vbasedev, cxl->info.memory_region),
             info->offset) == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot map its memory, 0x%" PRIx64
                         " bytes", size);
        munmap(reserved, size + align);
        return false;
    }
    if (aligned > reserved) {
        munmap(reserved, aligned - reserved);
    }
    munmap(aligned + size, reserved + align - aligned);

    cxl->mmap = aligned;
    memory_region_init_ram_device_ptr(&cxl->memory, OBJECT(cxl->vdev),
                                      "cxl-memory", size, cxl->mmap);
    timer_init_ms(&cxl->active_timer, QEMU_CLOCK_REALTIME,
                  vfio_cxl_active_poll, cxl);
    vfio_cxl_access_init(cxl);
    trace_vfio_cxl_map(vfio_cxl_name(cxl), cxl->mmap, size);
    return true;
}
