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

static bool vfio_cxl_scratch_map(VFIOCXL *cxl)
{
    VFIORegion *region = &cxl->memory;

    if (mmap(region->mmaps[0].mmap, region->size, PROT_READ | PROT_WRITE,
             MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
             0) == MAP_FAILED) {
        return false;
    }
    vfio_cxl_memory_advise(cxl);
    return true;
}

/*
 * If the driver refuses a mapping, what was at the address is gone, and a vCPU
 * may be using it. So the memory is mapped elsewhere first, and then moved.
 */
static bool vfio_cxl_scratch_unmap(VFIOCXL *cxl)
{
    VFIORegion *region = &cxl->memory;
    int fd = vfio_device_get_region_fd(region->vbasedev, region->nr);
    void *memory = mmap(NULL, region->size, PROT_READ | PROT_WRITE, MAP_SHARED,
                        fd, region->fd_offset);

    if (memory == MAP_FAILED) {
        return false;
    }
    if (mremap(memory, region->size, region->size,
               MREMAP_MAYMOVE | MREMAP_FIXED,
               region->mmaps[0].mmap) == MAP_FAILED) {
        int ret = errno;

        munmap(memory, region->size);
        vfio_cxl_scratch_map(cxl);
        errno = ret;
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
    if (!vfio_cxl_scratch_map(cxl)) {
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
    if (!vfio_cxl_scratch_unmap(cxl)) {
        vfio_cxl_scratch_failed(cxl);
        return;
    }
    cxl->scratch.in_place = false;
    cxl->scratch.failed = false;
}
