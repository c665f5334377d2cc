/*
 * CXL Type-2 devices behind vfio-pci: resets
 *
 * The memory leaves the guest's map before the kernel is asked for a reset.
 * Only VFIO_DEVICE_RESET, and a config write where the kernel carries out a
 * CXL reset, report whether it has worked, so no other way is relied on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <linux/vfio.h>

#include "qemu/error-report.h"
#include "qemu/units.h"
#include "hw/pci/pci.h"
#include "hw/vfio/vfio-container.h"
#include "cxl-internal.h"
#include "trace.h"

/*
 * Upper limit for all that one reset waits for while it holds the BQL: that
 * the cache is written back, and that the kernel releases a lock.
 */
#define RESET_LIMIT_US (150 * 1000)
#define RESET_WAIT_US (10 * 1000)

/* A place for the kernel's view of decoder 0 that no guest has seen */
#define PROBE_BASE (256 * MiB)

/*
 * The CXL Device DVSEC as the kernel has it. QEMU writes only doorbells to it.
 */
static unsigned vfio_cxl_kernel_reg(VFIOCXL *cxl, unsigned reg)
{
    return cxl->dvsecs.device + reg;
}

static bool vfio_cxl_write_control2(VFIOCXL *cxl, uint16_t value)
{
    VFIODevice *vbasedev = &cxl->vdev->vbasedev;
    uint16_t le = cpu_to_le16(value);
    int ret;

    ret = vbasedev->io_ops->region_write(vbasedev, VFIO_PCI_CONFIG_REGION_INDEX,
                                         vfio_cxl_kernel_reg(cxl,
                                                             A_DVSEC_CONTROL2),
                                         sizeof(le), &le, false);
    trace_vfio_cxl_doorbell(vfio_cxl_name(cxl), value, ret);
    return ret == sizeof(le);
}

/* STATUS2, 0 if it cannot be read */
static uint16_t vfio_cxl_read_status2(VFIOCXL *cxl)
{
    VFIODevice *vbasedev = &cxl->vdev->vbasedev;
    uint16_t value;
    int ret;

    ret = vbasedev->io_ops->region_read(vbasedev, VFIO_PCI_CONFIG_REGION_INDEX,
                                        vfio_cxl_kernel_reg(cxl,
                                                            A_DVSEC_STATUS2),
                                        sizeof(value), &value);
    return ret == sizeof(value) ? le16_to_cpu(value) : 0;
}

/*
 * Cache write-back
 */
static bool vfio_cxl_writes_back(VFIOCXL *cxl)
{
    return cxl->info.kernel->writes_back &&
           vfio_cxl_dvsec_can_write_back(cxl->vdev, &cxl->dvsecs);
}

static bool vfio_cxl_caching_disabled(VFIOCXL *cxl)
{
    return vfio_cxl_dvsec_control2(cxl->vdev, &cxl->dvsecs) &
           R_DVSEC_CONTROL2_DISABLE_CACHING_MASK;
}

/* Where bits are forwarded, with the guest's choice */
static uint16_t vfio_cxl_with_caching(VFIOCXL *cxl, uint16_t doorbell)
{
    if (vfio_cxl_writes_back(cxl) && vfio_cxl_caching_disabled(cxl)) {
        doorbell |= R_DVSEC_CONTROL2_DISABLE_CACHING_MASK;
    }
    return doorbell;
}

/*
 * Make the device's Disable Caching what the guest's is. The kernels pass it
 * on only together with Initiate Cache Write Back and Invalidation, so each
 * change has to come with one.
 */
static void vfio_cxl_set_caching(VFIOCXL *cxl)
{
    if (vfio_cxl_writes_back(cxl)) {
        uint16_t wbi = R_DVSEC_CONTROL2_INITIATE_WBI_MASK;

        vfio_cxl_write_control2(cxl, vfio_cxl_with_caching(cxl, wbi));
    }
}

/* The next user is to find caching as a reset would leave it */
void vfio_cxl_release_caching(VFIOCXL *cxl)
{
    if (vfio_cxl_writes_back(cxl)) {
        vfio_cxl_write_control2(cxl, R_DVSEC_CONTROL2_INITIATE_WBI_MASK);
    }
}

static bool vfio_cxl_wait_until(int64_t deadline)
{
    if (g_get_monotonic_time() >= deadline) {
        return false;
    }
    g_usleep(RESET_WAIT_US);
    return true;
}

void vfio_cxl_refresh_status(VFIOCXL *cxl)
{
    if (vfio_cxl_writes_back(cxl)) {
        bool shown = vfio_cxl_caching_disabled(cxl) && cxl->wrote_back;

        vfio_cxl_dvsec_set_status2(cxl->vdev, &cxl->dvsecs,
                                   R_DVSEC_STATUS2_CACHE_INVALID_MASK,
                                   shown ? vfio_cxl_read_status2(cxl) : 0);
    }
}

/* Kernels that forward these bits do not write back before they reset */
static void vfio_cxl_flush_cache(VFIOCXL *cxl, int64_t deadline)
{
    bool done;

    vfio_cxl_write_control2(cxl, R_DVSEC_CONTROL2_DISABLE_CACHING_MASK |
                                 R_DVSEC_CONTROL2_INITIATE_WBI_MASK);
    do {
        done = vfio_cxl_read_status2(cxl) & R_DVSEC_STATUS2_CACHE_INVALID_MASK;
    } while (!done && vfio_cxl_wait_until(deadline));
    trace_vfio_cxl_flush(vfio_cxl_name(cxl), done);
}

/*
 * Ways to reset the physical device
 */
static int vfio_cxl_device_reset(VFIOCXL *cxl)
{
    int64_t deadline = g_get_monotonic_time() + RESET_LIMIT_US;
    VFIODevice *vbasedev = &cxl->vdev->vbasedev;
    int ret;

    if (vfio_cxl_writes_back(cxl)) {
        vfio_cxl_flush_cache(cxl, deadline);
    }
    do {
        ret = ioctl(vbasedev->fd, VFIO_DEVICE_RESET) ? -errno : 0;
    } while (ret == -EAGAIN && vfio_cxl_wait_until(deadline));
    vfio_cxl_set_caching(cxl);
    trace_vfio_cxl_device_reset(vfio_cxl_name(cxl), ret);
    return ret;
}

/*
 * Instead of the ways that vfio-pci would try: whether a hot reset has left
 * the memory within reach only a VFIO_DEVICE_RESET after it tells.
 */
static int vfio_cxl_resetfn(VFIOPCIDevice *vdev)
{
    VFIODevice *vbasedev = &vdev->vbasedev;
    VFIOCXL *cxl = vdev->cxl.cxl;
    VFIOIOMMUClass *vioc = VFIO_IOMMU_GET_CLASS(vbasedev->bcontainer);

    cxl->reset_result = vfio_cxl_device_reset(cxl);
    if (cxl->reset_result && cxl->info.kernel->rereads_decoder &&
        !vioc->pci_hot_reset(vbasedev, true)) {
        cxl->reset_result = vfio_cxl_device_reset(cxl);
    }
    return 0;
}

/* Some kernels leave Memory Space enabled where the guest has disabled it */
static void vfio_cxl_follow_memory_space(VFIOCXL *cxl)
{
    VFIODevice *vbasedev = &cxl->vdev->vbasedev;
    PCIDevice *pdev = PCI_DEVICE(cxl->vdev);
    uint16_t command, wanted;

    if (vbasedev->io_ops->region_read(vbasedev, VFIO_PCI_CONFIG_REGION_INDEX,
                                      PCI_COMMAND, sizeof(command),
                                      &command) != sizeof(command)) {
        return;
    }
    wanted = le16_to_cpu(command) & ~PCI_COMMAND_MEMORY;
    wanted |= pci_get_word(pdev->config + PCI_COMMAND) & PCI_COMMAND_MEMORY;
    if (wanted != le16_to_cpu(command)) {
        wanted = cpu_to_le16(wanted);
        vbasedev->io_ops->region_write(vbasedev, VFIO_PCI_CONFIG_REGION_INDEX,
                                       PCI_COMMAND, sizeof(wanted), &wanted,
                                       false);
    }
}

/*
 * A reset revokes the dma-bufs of BARs, and with them what is mapped in an IOAS
 * for good. A guest's own reset leaves BARs where they are: map them again.
 */
static void vfio_cxl_remap_bars(VFIOPCIDevice *vdev)
{
    if (!vdev->vbasedev.iommufd) {
        return;
    }
    for (int enabled = 0; enabled <= 1; enabled++) {
        memory_region_transaction_begin();
        for (int i = 0; i < PCI_ROM_SLOT; i++) {
            if (vdev->bars[i].mr) {
                memory_region_set_enabled(vdev->bars[i].mr, enabled);
            }
        }
        memory_region_transaction_commit();
    }
}

/* After a reset has worked, or has not: see what there is */
static void vfio_cxl_finish_reset(VFIOCXL *cxl, int ret)
{
    unsigned over = VFIO_CXL_IN_RESET;

    trace_vfio_cxl_reset(vfio_cxl_name(cxl), ret);
    vfio_cxl_follow_memory_space(cxl);
    vfio_cxl_follow_power(cxl);
    if (ret == 0) {
        over |= VFIO_CXL_RESET_FAILED | VFIO_CXL_NOT_MAPPED;
        vfio_cxl_check_host(cxl);
    } else {
        /* Once: a guest can ask again and again */
        if (!(cxl->blocked & VFIO_CXL_RESET_FAILED)) {
            error_report(VFIO_MSG_PREFIX "reset failed: %s; device memory is "
                         "not available until a reset succeeds",
                         vfio_cxl_name(cxl), strerror(-ret));
        }
        cxl->blocked |= VFIO_CXL_RESET_FAILED;
        cxl->view_known = false;
        cxl_hdm_decommit(&cxl->hdm);
    }
    vfio_cxl_unblock_memory(cxl, over);
}

/*
 * What a guest asks for
 */
void vfio_cxl_flr(VFIOCXL *cxl)
{
    /* CXL r3.1 Section 9.5: CXL.mem and the DVSECs are not affected */
    vfio_cxl_block_memory(cxl, VFIO_CXL_IN_RESET);
    vfio_cxl_finish_reset(cxl, vfio_cxl_device_reset(cxl));
    vfio_cxl_remap_bars(cxl->vdev);
}

/* The kernel carries out a CXL reset when the bit is written */
static int vfio_cxl_config_reset(VFIOCXL *cxl)
{
    const uint16_t done = R_DVSEC_STATUS2_RST_DONE_MASK;
    const uint16_t error = R_DVSEC_STATUS2_RST_ERR_MASK;

    uint16_t value = vfio_cxl_with_caching(cxl,
                                           R_DVSEC_CONTROL2_INITIATE_RST_MASK);

    if (!vfio_cxl_write_control2(cxl, value)) {
        return -EIO;
    }
    return (vfio_cxl_read_status2(cxl) & (done | error)) == done ? 0 : -EIO;
}

/*
 * CXL r3.1 Section 9.7. What is not locked would return to its default: the
 * decoder, HDM Decoder Enable and CONTROL. The host's kernel restores all of
 * them, so they are there for the guest as well. A guest that restores them
 * itself finds them as it wants them; one that does not keeps its memory.
 */
static void vfio_cxl_guest_cxl_reset(VFIOCXL *cxl)
{
    const uint16_t result = R_DVSEC_STATUS2_RST_DONE_MASK |
                            R_DVSEC_STATUS2_RST_ERR_MASK;
    int ret;

    vfio_cxl_block_memory(cxl, VFIO_CXL_IN_RESET);
    vfio_cxl_dvsec_set_status2(cxl->vdev, &cxl->dvsecs, result, 0);
    if (cxl->info.kernel->cxl_reset == VFIO_CXL_RESET_BY_IOCTL) {
        ret = vfio_cxl_device_reset(cxl);
    } else {
        ret = vfio_cxl_config_reset(cxl);
    }
    vfio_cxl_dvsec_cxl_reset(cxl->vdev, &cxl->dvsecs);
    vfio_cxl_set_caching(cxl);
    vfio_cxl_dvsec_set_status2(cxl->vdev, &cxl->dvsecs, result,
                               ret ? R_DVSEC_STATUS2_RST_ERR_MASK :
                                     R_DVSEC_STATUS2_RST_DONE_MASK);
    vfio_cxl_finish_reset(cxl, ret);
    vfio_cxl_remap_bars(cxl->vdev);
}

void vfio_cxl_control2(VFIOCXL *cxl, uint16_t old, uint16_t doorbells)
{
    uint16_t new = vfio_cxl_dvsec_control2(cxl->vdev, &cxl->dvsecs);
    uint16_t wbi = doorbells & R_DVSEC_CONTROL2_INITIATE_WBI_MASK;

    if (wbi || (old ^ new) & R_DVSEC_CONTROL2_DISABLE_CACHING_MASK) {
        vfio_cxl_set_caching(cxl);
        /* What QEMU adds to a write of the guest's must not show */
        cxl->wrote_back = wbi;
    }
    if (doorbells & R_DVSEC_CONTROL2_INITIATE_RST_MASK) {
        vfio_cxl_guest_cxl_reset(cxl);
    }
}

/*
 * What can be offered to a guest. Two variants of one generation can be told
 * apart only by whether the view of decoder 0 outlives a reset.
 */
static void vfio_cxl_offer(VFIOCXL *cxl)
{
    const VFIOCXLKernel *kernel = cxl->info.kernel;
    VFIOCXLDVSECOffer offer = {
        .reset = kernel->cxl_reset != VFIO_CXL_RESET_NONE &&
                 (!kernel->wants_gpa || cxl->keeps_view),
        .write_back = kernel->writes_back,
        .clears = kernel->reset_clears,
    };

    vfio_cxl_dvsec_offer(cxl->vdev, &cxl->dvsecs, &offer);
}

static void vfio_cxl_start_probe(VFIOCXL *cxl)
{
    cxl->probing = cxl->info.kernel->wants_gpa && !cxl->keeps_view &&
                   vfio_cxl_write_view(&cxl->vdev->vbasedev, &cxl->info,
                                       PROBE_BASE, false);
}

static void vfio_cxl_end_probe(VFIOCXL *cxl)
{
    uint64_t base;

    if (cxl->probing && vfio_cxl_read_view(&cxl->vdev->vbasedev, &cxl->info,
                                           &base)) {
        cxl->keeps_view = base == PROBE_BASE;
        vfio_cxl_offer(cxl);
    }
    cxl->probing = false;
}

void vfio_cxl_reset_setup(VFIOCXL *cxl)
{
    cxl->vdev->resetfn = vfio_cxl_resetfn;
    vfio_cxl_offer(cxl);
}

/*
 * Around each conventional reset: vfio-pci's own, and hot resets on behalf
 * of other devices, which do not come past vfio_cxl_resetfn().
 */
void vfio_cxl_reset_prepare(VFIOPCIDevice *vdev)
{
    VFIOCXL *cxl = vdev->cxl.cxl;

    if (cxl && !cxl->plain) {
        vfio_cxl_block_memory(cxl, VFIO_CXL_IN_RESET);
        cxl_hdm_reset(&cxl->hdm);
        vfio_cxl_ras_reset(cxl);
        vfio_cxl_dvsec_reset(vdev, &cxl->dvsecs);
        cxl->reset_result = 1; /* not done yet */
        /* Without power it is as if it was plugged anew, see pci_set_power() */
        cxl->arriving |= !PCI_DEVICE(vdev)->enabled;
        vfio_cxl_start_probe(cxl);
    }
}

void vfio_cxl_reset_done(VFIOPCIDevice *vdev)
{
    VFIOCXL *cxl = vdev->cxl.cxl;

    if (cxl && !cxl->plain) {
        if (cxl->reset_result > 0) {
            cxl->reset_result = vfio_cxl_device_reset(cxl);
        }
        if (cxl->reset_result == 0) {
            vfio_cxl_end_probe(cxl);
        }
        vfio_cxl_finish_reset(cxl, cxl->reset_result);
        /* In device_add, and when the guest powers up the slot */
        if (cxl->arriving && PCI_DEVICE(vdev)->enabled &&
            cxl->reset_result == 0) {
            cxl_firmware_plug(CXL_ENDPOINT(cxl));
        }
    }
}
