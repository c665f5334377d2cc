/*
 * CXL Type-2 devices behind vfio-pci: their memory behind a virtual IOMMU
 *
 * Behind a virtual IOMMU the guest maps its I/O virtual addresses to guest
 * physical ones. VFIO is not notified when the memory at such an address goes
 * away: the mapping would lead to memory that may not be touched, and would be
 * useless later, since the kernel revokes it. So mappings of device memory are
 * recorded, removed when the memory leaves the guest's map, and made again
 * when it is back at the same address.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/range.h"
#include "hw/vfio/vfio-container.h"
#include "system/address-spaces.h"
#include "cxl-internal.h"
#include "trace.h"

struct VFIOCXLMap {
    VFIOContainer *bcontainer;
    hwaddr iova;
    uint64_t size;
    hwaddr gpa;
    bool readonly;
    bool mapped;
    QLIST_ENTRY(VFIOCXLMap) next;
};

void vfio_cxl_viommu_map(VFIOContainer *bcontainer, hwaddr iova, uint64_t size,
                         hwaddr gpa, bool readonly, MemoryRegion *mr)
{
    VFIOCXL *cxl = vfio_cxl_from_memory(mr);
    VFIOCXLMap *map;

    if (!cxl) {
        return;
    }
    map = g_new(VFIOCXLMap, 1);
    *map = (VFIOCXLMap) {
        .bcontainer = bcontainer,
        .iova = iova,
        .size = size,
        .gpa = gpa,
        .readonly = readonly,
        .mapped = true,
    };
    QLIST_INSERT_HEAD(&cxl->viommu_maps, map, next);
}

static void vfio_cxl_viommu_forget(VFIOCXLMap *map)
{
    QLIST_REMOVE(map, next);
    g_free(map);
}

static void vfio_cxl_viommu_suspend(VFIOCXL *cxl, VFIOCXLMap *map)
{
    VFIOIOMMUClass *vioc = VFIO_IOMMU_GET_CLASS(map->bcontainer);

    trace_vfio_cxl_viommu(vfio_cxl_name(cxl), map->iova, map->size, map->gpa,
                          false);
    vioc->dma_unmap(map->bcontainer, map->iova, map->size, NULL, false);
    map->mapped = false;
}

/*
 * The kernel splits no mapping. When a virtual IOMMU takes away a part of one
 * all of it goes: intel-iommu forgets all of it too, and maps anew what the
 * guest has kept.
 */
static void vfio_cxl_viommu_unmap_overlapping(VFIOCXL *cxl,
                                              VFIOContainer *bcontainer,
                                              hwaddr iova, uint64_t size,
                                              bool all)
{
    VFIOCXLMap *map, *tmp;

    QLIST_FOREACH_SAFE(map, &cxl->viommu_maps, next, tmp) {
        if (map->bcontainer != bcontainer ||
            !(all || ranges_overlap(map->iova, map->size, iova, size))) {
            continue;
        }
        if (!all && map->mapped &&
            (map->iova < iova || map->size > size ||
             map->iova - iova > size - map->size)) {
            vfio_cxl_viommu_suspend(cxl, map);
        }
        vfio_cxl_viommu_forget(map);
    }
}

void vfio_cxl_viommu_unmap(VFIOContainer *bcontainer, hwaddr iova,
                           uint64_t size, bool all)
{
    VFIODevice *vbasedev;

    QLIST_FOREACH(vbasedev, &vfio_device_list, global_next) {
        VFIOPCIDevice *vdev = vfio_pci_from_vfio_device(vbasedev);

        if (vdev && vdev->cxl.cxl) {
            vfio_cxl_viommu_unmap_overlapping(vdev->cxl.cxl, bcontainer, iova,
                                              size, all);
        }
    }
}

static void vfio_cxl_viommu_resume(VFIOCXL *cxl, VFIOCXLMap *map,
                                   uint64_t offset)
{
    trace_vfio_cxl_viommu(vfio_cxl_name(cxl), map->iova, map->size, map->gpa,
                          true);
    vfio_cxl_dma_map(map->bcontainer, map->iova, map->size,
                     (uint8_t *)cxl->mmap + offset, map->readonly,
                     &cxl->memory);
    map->mapped = true;
}

static void vfio_cxl_viommu_region_del(MemoryListener *listener,
                                       MemoryRegionSection *section)
{
    VFIOCXL *cxl = container_of(listener, VFIOCXL, viommu_listener);
    VFIOCXLMap *map;

    if (section->mr != &cxl->memory) {
        return;
    }
    QLIST_FOREACH(map, &cxl->viommu_maps, next) {
        if (map->mapped &&
            ranges_overlap(map->gpa, map->size,
                           section->offset_within_address_space,
                           int128_get64(section->size))) {
            vfio_cxl_viommu_suspend(cxl, map);
        }
    }
}

static void vfio_cxl_viommu_region_add(MemoryListener *listener,
                                       MemoryRegionSection *section)
{
    VFIOCXL *cxl = container_of(listener, VFIOCXL, viommu_listener);
    hwaddr start = section->offset_within_address_space;
    VFIOCXLMap *map;
    Range range;

    if (section->mr != &cxl->memory) {
        return;
    }
    range_init_nofail(&range, start, int128_get64(section->size));
    QLIST_FOREACH(map, &cxl->viommu_maps, next) {
        if (!map->mapped && range_contains(&range, map->gpa) &&
            range_contains(&range, map->gpa + map->size - 1)) {
            vfio_cxl_viommu_resume(cxl, map, map->gpa - start +
                                   section->offset_within_region);
        }
    }
}

void vfio_cxl_viommu_init(VFIOCXL *cxl)
{
    cxl->viommu_listener = (MemoryListener) {
        .name = "vfio-cxl",
        .region_add = vfio_cxl_viommu_region_add,
        .region_del = vfio_cxl_viommu_region_del,
    };
    memory_listener_register(&cxl->viommu_listener, &address_space_memory);
}

void vfio_cxl_viommu_exit(VFIOCXL *cxl)
{
    VFIOCXLMap *map, *tmp;

    if (!cxl->viommu_listener.address_space) {
        return;
    }
    /* This takes away what is still there */
    memory_listener_unregister(&cxl->viommu_listener);
    QLIST_FOREACH_SAFE(map, &cxl->viommu_maps, next, tmp) {
        vfio_cxl_viommu_forget(map);
    }
}
