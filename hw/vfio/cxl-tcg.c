/*
 * CXL Type-2 devices behind vfio-pci: TCG
 *
 * Under TCG a vCPU may go on using the old memory map for a while, and access
 * memory that the kernel no longer lets it access. So harmless memory is mapped
 * at the same address before the kernel is told. With KVM this is not needed:
 * it removes a memory slot while no vCPU runs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>

#include "qemu/error-report.h"
#include "system/tcg.h"
#include "cxl-internal.h"

static bool vfio_cxl_scratch_map(VFIOCXL *cxl, bool scratch)
{
    VFIORegion *region = &cxl->memory;
    int flags = MAP_FIXED, fd = -1;
    off_t offset = 0;

    if (scratch) {
        flags |= MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    } else {
        flags |= MAP_SHARED;
        fd = vfio_device_get_region_fd(region->vbasedev, region->nr);
        offset = region->fd_offset;
    }
    if (mmap(region->mmaps[0].mmap, region->size, PROT_READ | PROT_WRITE,
             flags, fd, offset) == MAP_FAILED) {
        return false;
    }
    vfio_cxl_memory_advise(cxl);
    return true;
}

static void vfio_cxl_scratch_failed(VFIOCXL *cxl)
{
    if (!cxl->scratch.failed) {
        error_report(VFIO_MSG_PREFIX "cannot map device memory: %s; it is not "
                     "available until a reset restores it",
                     vfio_cxl_name(cxl), strerror(errno));
    }
    cxl->scratch.failed = true;
    cxl->blocked |= VFIO_CXL_NOT_MAPPED;
}

void vfio_cxl_scratch_place(VFIOCXL *cxl)
{
    if (!tcg_enabled() || cxl->scratch.in_place) {
        return;
    }
    if (!vfio_cxl_scratch_map(cxl, true)) {
        vfio_cxl_scratch_failed(cxl);
        return;
    }
    cxl->scratch.in_place = true;
}

void vfio_cxl_scratch_remove(VFIOCXL *cxl)
{
    if (!cxl->scratch.in_place) {
        return;
    }
    if (!vfio_cxl_scratch_map(cxl, false)) {
        vfio_cxl_scratch_failed(cxl);
        /*
         * If the driver refused, the old mapping is gone: reserve the
         * addresses, so that the memory can be mapped there later.
         */
        vfio_cxl_scratch_map(cxl, true);
        return;
    }
    cxl->scratch.in_place = false;
    cxl->scratch.failed = false;
}
