/*
 * CXL Type-2 devices behind vfio-pci: resets
 *
 * The memory leaves the guest's map before the kernel is asked for a reset.
 * Only VFIO_DEVICE_RESET, and a config write where the kernel carries out a CXL
 * reset, report success or failure, so no other method is relied on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <linux/vfio.h>

#include "qemu/error-report.h"
#include "hw/pci/pci.h"
#include "hw/vfio/vfio-container.h"
#include "cxl-internal.h"
#include "trace.h"

/*
 * Upper limit for the waits of one VFIO_DEVICE_RESET, which hold the BQL: for
 * the kernel to release a lock and, with some kernels, for the cache to be
 * written back.
 */
#define RESET_LIMIT_US (150 * 1000)
#define RESET_WAIT_US (10 * 1000)

bool vfio_cxl_reset_wait(int64_t deadline)
{
    if (g_get_monotonic_time() >= deadline) {
        return false;
    }
    g_usleep(RESET_WAIT_US);
    return true;
}

int vfio_cxl_device_reset(VFIOCXL *cxl)
{
    int64_t deadline = g_get_monotonic_time() + RESET_LIMIT_US;
    const VFIOCXLKernel *kernel = cxl->info.kernel;
    int ret;

    if (kernel->device_reset_prepare) {
        kernel->device_reset_prepare(cxl, deadline);
    }
    do {
        ret = ioctl(cxl->vdev->vbasedev.fd, VFIO_DEVICE_RESET) ? -errno : 0;
    } while (ret == -EAGAIN && vfio_cxl_reset_wait(deadline));
    if (kernel->device_reset_done) {
        kernel->device_reset_done(cxl);
    }
    trace_vfio_cxl_device_reset(vfio_cxl_name(cxl), ret);
    return ret;
}

/*
 * Replaces the methods that vfio-pci would try: after a hot reset, only a
 * VFIO_DEVICE_RESET tells whether the memory is still within reach.
 */
static int vfio_cxl_resetfn(VFIOPCIDevice *vdev)
{
    VFIODevice *vbasedev = &vdev->vbasedev;
    VFIOCXL *cxl = vdev->cxl.cxl;
    VFIOIOMMUClass *vioc = VFIO_IOMMU_GET_CLASS(vbasedev->bcontainer);

    cxl->reset_pending = false;
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
    PCIDevice *pdev = PCI_DEVICE(cxl->vdev);
    uint32_t command;
    uint16_t wanted;

    if (!vfio_cxl_config_read(cxl->vdev, PCI_COMMAND, 2, &command)) {
        return;
    }
    wanted = command & ~PCI_COMMAND_MEMORY;
    wanted |= pci_get_word(pdev->config + PCI_COMMAND) & PCI_COMMAND_MEMORY;
    if (wanted != command) {
        vfio_cxl_config_write(cxl->vdev, PCI_COMMAND, wanted);
    }
}

static bool vfio_cxl_bar_is_exported(const VFIOBAR *bar)
{
    for (int i = 0; i < bar->region.nr_mmaps; i++) {
        const VFIOMmap *mmap = &bar->region.mmaps[i];

        if (mmap->mmap && memory_region_get_fd(&mmap->mem) >= 0) {
            return true;
        }
    }
    return false;
}

/*
 * A reset revokes mappings of the BARs' dma-bufs in any IOAS for good, also if
 * the device itself is in a container. A guest's own reset leaves BARs where
 * they are, so map them again.
 */
static void vfio_cxl_remap_bars(VFIOPCIDevice *vdev)
{
    for (int enabled = 0; enabled <= 1; enabled++) {
        memory_region_transaction_begin();
        for (int i = 0; i < PCI_ROM_SLOT; i++) {
            if (vdev->bars[i].mr && vfio_cxl_bar_is_exported(&vdev->bars[i])) {
                memory_region_set_enabled(vdev->bars[i].mr, enabled);
            }
        }
        memory_region_transaction_commit();
    }
}

/* Update the state after a reset, whether it succeeded or not */
static void vfio_cxl_finish_reset(VFIOCXL *cxl, int ret)
{
    const VFIOCXLKernel *kernel = cxl->info.kernel;
    unsigned over = VFIO_CXL_IN_RESET;

    trace_vfio_cxl_reset(vfio_cxl_name(cxl), ret);
    vfio_cxl_follow_memory_space(cxl);
    vfio_cxl_follow_power(cxl);
    if (ret == 0) {
        over |= VFIO_CXL_RESET_FAILED | VFIO_CXL_NOT_MAPPED;
        vfio_cxl_check_host(cxl);
    } else {
        /* Report this once: a guest can ask again and again */
        if (!(cxl->blocked & VFIO_CXL_RESET_FAILED)) {
            error_report(VFIO_MSG_PREFIX "reset failed: %s; device memory is "
                         "not available until a reset succeeds",
                         vfio_cxl_name(cxl), strerror(-ret));
        }
        cxl->blocked |= VFIO_CXL_RESET_FAILED;
        if (kernel->changed) {
            kernel->changed(cxl);
        }
        cxl_hdm_decommit(&cxl->hdm);
    }
    vfio_cxl_unblock_memory(cxl, over);
}

/*
 * Resets requested by the guest
 */
void vfio_cxl_flr(VFIOCXL *cxl)
{
    /* CXL r3.1 Section 9.5: CXL.mem and the DVSECs are not affected */
    vfio_cxl_block_memory(cxl, VFIO_CXL_IN_RESET);
    vfio_cxl_finish_reset(cxl, vfio_cxl_device_reset(cxl));
    vfio_cxl_remap_bars(cxl->vdev);
}

/*
 * Unlocked registers would return to their defaults: the decoder, HDM Decoder
 * Enable and Control. The host's kernel restores all of them, so the guest
 * keeps them as well. A guest that restores them itself finds the values it
 * expects; one that does not keeps its memory.
 */
void vfio_cxl_cxl_reset(VFIOCXL *cxl)
{
    const uint16_t result = R_CXL_DVSEC_STATUS2_RST_DONE_MASK |
                            R_CXL_DVSEC_STATUS2_RST_ERR_MASK;
    const VFIOCXLKernel *kernel = cxl->info.kernel;
    int ret;

    vfio_cxl_block_memory(cxl, VFIO_CXL_IN_RESET);
    vfio_cxl_dvsec_set_status2(&cxl->dvsecs, result, 0);
    ret = kernel->cxl_reset(cxl);
    vfio_cxl_dvsec_cxl_reset(&cxl->dvsecs);
    if (kernel->device_reset_done) {
        kernel->device_reset_done(cxl);
    }
    vfio_cxl_dvsec_set_status2(&cxl->dvsecs, result,
                               ret ? R_CXL_DVSEC_STATUS2_RST_ERR_MASK :
                                     R_CXL_DVSEC_STATUS2_RST_DONE_MASK);
    vfio_cxl_finish_reset(cxl, ret);
    vfio_cxl_remap_bars(cxl->vdev);
}

void vfio_cxl_reset_offer(VFIOCXL *cxl)
{
    const VFIOCXLKernel *kernel = cxl->info.kernel;
    VFIOCXLDVSECOffer offer = {
        .reset = kernel->cxl_reset &&
                 (!kernel->can_cxl_reset || kernel->can_cxl_reset(cxl)),
        .write_back = kernel->writes_back,
        .clears = kernel->reset_clears,
    };

    vfio_cxl_dvsec_offer(&cxl->dvsecs, &offer);
}

void vfio_cxl_reset_setup(VFIOCXL *cxl)
{
    cxl->vdev->resetfn = vfio_cxl_resetfn;
    vfio_cxl_reset_offer(cxl);
}

/*
 * Around each conventional reset: vfio-pci's own, and hot resets on behalf
 * of other devices, which bypass vfio_cxl_resetfn().
 */
void vfio_cxl_reset_prepare(VFIOPCIDevice *vdev)
{
    VFIOCXL *cxl = vdev->cxl.cxl;

    if (!cxl) {
        return;
    }
    vfio_cxl_block_memory(cxl, VFIO_CXL_IN_RESET);
    vfio_cxl_regs_reset(cxl);
    vfio_cxl_dvsec_reset(&cxl->dvsecs);
    cxl->reset_pending = true;
    /* A device without power counts as newly plugged, see pci_set_power() */
    cxl->arriving |= !PCI_DEVICE(vdev)->enabled;
    if (cxl->info.kernel->reset_prepare) {
        cxl->info.kernel->reset_prepare(cxl);
    }
}

void vfio_cxl_reset_done(VFIOPCIDevice *vdev)
{
    VFIOCXL *cxl = vdev->cxl.cxl;

    if (!cxl) {
        return;
    }
    if (cxl->reset_pending) {
        cxl->reset_pending = false;
        cxl->reset_result = vfio_cxl_device_reset(cxl);
    }
    if (cxl->reset_result == 0 && cxl->info.kernel->reset_done) {
        cxl->info.kernel->reset_done(cxl);
    }
    vfio_cxl_finish_reset(cxl, cxl->reset_result);
    /* In device_add, and when the guest powers up the slot */
    if (cxl->arriving && PCI_DEVICE(vdev)->enabled && cxl->reset_result == 0) {
        cxl_firmware_plug(CXL_ENDPOINT(cxl));
    }
}
