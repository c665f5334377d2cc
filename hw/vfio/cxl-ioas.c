/*
 * CXL Type-2 devices behind vfio-pci: their memory in DMA address spaces
 *
 * A device reaches its own memory, and that of others, by address: with ATS
 * or peer to peer. So where a guest has the memory, it is in the address
 * space of each container and IOAS as well, put there and taken away by the
 * listener that does it for all memory. Only the way to map it differs: it
 * has no pages that iommufd could pin.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>

#include "qemu/error-report.h"
#include "hw/vfio/vfio-container.h"
#include "system/iommufd.h"
#include "cxl-internal.h"
#include "trace.h"
#include "vfio-iommufd.h"

#define NO_DMA "ATS and peer access to device memory will not work, as it " \
               "cannot be mapped for DMA"

VFIOCXL *vfio_cxl_from_memory(MemoryRegion *mr)
{
    VFIODevice *vbasedev = vfio_get_vfio_device(memory_region_owner(mr));
    VFIOPCIDevice *vdev = vbasedev ? vfio_pci_from_vfio_device(vbasedev) : NULL;
    VFIOCXL *cxl = vdev ? vdev->cxl.cxl : NULL;

    return cxl && mr == &cxl->memory ? cxl : NULL;
}

/* Returns: the descriptor of a dma-buf, or a negative errno value */
static int vfio_cxl_export_memory(VFIOCXL *cxl, uint64_t offset, uint64_t size)
{
    const size_t argsz = sizeof(struct vfio_device_feature) +
                         sizeof(struct vfio_device_feature_dma_buf) +
                         sizeof(struct vfio_region_dma_range);
    g_autofree struct vfio_device_feature *feature = g_malloc0(argsz);
    struct vfio_device_feature_dma_buf *buf = (void *)feature->data;
    VFIODevice *vbasedev = &cxl->vdev->vbasedev;

    feature->argsz = argsz;
    feature->flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF;
    buf->region_index = cxl->info.memory_region;
    buf->open_flags = O_RDWR | O_CLOEXEC;
    buf->nr_ranges = 1;
    buf->dma_ranges[0].offset = offset;
    buf->dma_ranges[0].length = size;
    return vbasedev->io_ops->device_feature(vbasedev, feature);
}

/*
 * The functions of backends/iommufd.c warn each time that the kernel does not
 * take what it is given. A guest can bring that about as often as it likes.
 */
static uint32_t vfio_cxl_ioas_map_flags(bool readonly)
{
    return IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_FIXED_IOVA |
           (readonly ? 0 : IOMMU_IOAS_MAP_WRITEABLE);
}

/*
 * The kernel revokes a dma-buf whenever the memory cannot be touched, and
 * what was mapped through it is dead then. The memory has left the map by
 * that time; when it returns it is exported anew, so nothing stale is kept.
 * A mapping does not need the descriptor.
 */
static int vfio_cxl_map_by_dma_buf(VFIOContainer *bcontainer, VFIOCXL *cxl,
                                   hwaddr iova, uint64_t size, uint64_t offset,
                                   bool readonly)
{
    VFIOIOMMUFDContainer *container = VFIO_IOMMU_IOMMUFD(bcontainer);
    struct iommu_ioas_map_file map = {
        .size = sizeof(map),
        .flags = vfio_cxl_ioas_map_flags(readonly),
        .ioas_id = container->ioas_id,
        .fd = vfio_cxl_export_memory(cxl, offset, size),
        .iova = iova,
        .length = size,
    };
    int ret;

    if (map.fd < 0) {
        return map.fd;
    }
    ret = ioctl(container->be->fd, IOMMU_IOAS_MAP_FILE, &map) ? -errno : 0;
    close(map.fd);
    return ret;
}

/* Most kernels cannot pin the memory; those of one vendor can */
static int vfio_cxl_map_by_address(VFIOContainer *bcontainer, hwaddr iova,
                                   uint64_t size, void *vaddr, bool readonly)
{
    VFIOIOMMUFDContainer *container = VFIO_IOMMU_IOMMUFD(bcontainer);
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = vfio_cxl_ioas_map_flags(readonly),
        .ioas_id = container->ioas_id,
        .user_va = (uintptr_t)vaddr,
        .iova = iova,
        .length = size,
    };

    return ioctl(container->be->fd, IOMMU_IOAS_MAP, &map) ? -errno : 0;
}

bool vfio_cxl_dma_map(VFIOContainer *bcontainer, hwaddr iova, uint64_t size,
                      void *vaddr, bool readonly, MemoryRegion *mr)
{
    bool iommufd = object_dynamic_cast(OBJECT(bcontainer),
                                       TYPE_VFIO_IOMMU_IOMMUFD);
    VFIOCXL *cxl = vfio_cxl_from_memory(mr);
    int ret_buf = 0, ret;
    uint64_t offset;
    const char *name;

    if (!cxl) {
        return false;
    }
    name = vfio_cxl_name(cxl);
    offset = (uint8_t *)vaddr - (uint8_t *)cxl->mmap;
    if (!iommufd) {
        ret = VFIO_IOMMU_GET_CLASS(bcontainer)->dma_map(bcontainer, iova, size,
                                                        vaddr, readonly, mr);
    } else {
        ret = ret_buf = vfio_cxl_map_by_dma_buf(bcontainer, cxl, iova, size,
                                                offset, readonly);
        if (ret) {
            ret = vfio_cxl_map_by_address(bcontainer, iova, size, vaddr,
                                          readonly);
        }
    }
    trace_vfio_cxl_dma_map(name, iova, size, offset, ret_buf, ret);
    if (ret && !cxl->dma_reported) {
        /* Not again with each map: a guest can do that as often as it likes */
        cxl->dma_reported = true;
        if (iommufd) {
            warn_report(VFIO_MSG_PREFIX NO_DMA " (dma-buf: %s, address: %s)",
                        name, strerror(-ret_buf), strerror(-ret));
        } else {
            warn_report(VFIO_MSG_PREFIX NO_DMA " (%s)", name, strerror(-ret));
        }
    }
    return true;
}
