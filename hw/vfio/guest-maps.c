/*
 * Device memory that a guest has mapped in its virtual IOMMU
 *
 * Behind a virtual IOMMU the guest maps its I/O virtual addresses to guest
 * physical ones. VFIO is not notified when the memory at such an address goes
 * away. With RAM this does not happen while devices use it; the memory of a
 * device, however, leaves the guest's map in the course of normal operation,
 * and a mapping of it would then lead to memory that must not be accessed, or
 * that the kernel has revoked. So mappings of RAM devices are recorded, removed
 * when the memory leaves the guest's map, and made again when it is back at the
 * same address. Mappings of addresses without memory are recorded, too.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/range.h"
#include "hw/vfio/vfio-container.h"
#include "system/address-spaces.h"
#include "guest-maps.h"
#include "trace.h"

/* Type1 has the same limit for mappings by default */
#define MAX_RECORDS 65535

typedef struct VFIOGuestMap {
    hwaddr iova;
    hwaddr size;
    hwaddr gpa;
    bool readonly;
    bool mapped;
} VFIOGuestMap;

struct VFIOGuestMaps {
    VFIOContainer *bcontainer;
    MemoryListener listener;
    GTree *tree;    /* VFIOGuestMap by IOVA; none overlap */
};

/* Overlapping ranges compare as equal, so a look-up finds one of them */
static gint vfio_guest_maps_compare(gconstpointer one, gconstpointer other,
                                    gpointer opaque)
{
    const VFIOGuestMap *a = one, *b = other;

    if (ranges_overlap(a->iova, a->size, b->iova, b->size)) {
        return 0;
    }
    return a->iova < b->iova ? -1 : 1;
}

static void vfio_guest_maps_suspend(VFIOGuestMaps *maps, VFIOGuestMap *map)
{
    VFIOIOMMUClass *vioc = VFIO_IOMMU_GET_CLASS(maps->bcontainer);
    int ret = vioc->dma_unmap(maps->bcontainer, map->iova, map->size, NULL,
                              false);

    trace_vfio_guest_maps_suspend(map->iova, map->size, map->gpa, ret);
    if (ret) {
        error_report_once("cannot remove the DMA mapping of device memory at "
                          "0x%" HWADDR_PRIx ", 0x%" HWADDR_PRIx " bytes: %s",
                          map->iova, map->size, strerror(-ret));
    }
    map->mapped = ret != 0;
}

static void vfio_guest_maps_resume(VFIOGuestMaps *maps, VFIOGuestMap *map,
                                   MemoryRegion *mr, hwaddr offset)
{
    int ret = vfio_container_dma_map(maps->bcontainer, map->iova, map->size,
                                     memory_region_get_ram_ptr(mr) + offset,
                                     map->readonly || mr->readonly, mr);

    trace_vfio_guest_maps_resume(map->iova, map->size, map->gpa, ret);
    map->mapped = !ret;
}

typedef struct VFIOGuestMapsChange {
    VFIOGuestMaps *maps;
    MemoryRegionSection *section;
} VFIOGuestMapsChange;

static gboolean vfio_guest_maps_leave(gpointer key, gpointer value,
                                      gpointer opaque)
{
    VFIOGuestMapsChange *change = opaque;
    MemoryRegionSection *section = change->section;
    VFIOGuestMap *map = value;

    if (map->mapped &&
        ranges_overlap(map->gpa, map->size,
                       section->offset_within_address_space,
                       int128_get64(section->size))) {
        vfio_guest_maps_suspend(change->maps, map);
    }
    return false;
}

static gboolean vfio_guest_maps_return(gpointer key, gpointer value,
                                       gpointer opaque)
{
    VFIOGuestMapsChange *change = opaque;
    MemoryRegionSection *section = change->section;
    hwaddr start = section->offset_within_address_space;
    VFIOGuestMap *map = value;
    Range range;

    range_init_nofail(&range, start, int128_get64(section->size));
    if (!map->mapped && range_contains(&range, map->gpa) &&
        range_contains(&range, map->gpa + map->size - 1)) {
        vfio_guest_maps_resume(change->maps, map, section->mr,
                               map->gpa - start +
                               section->offset_within_region);
    }
    return false;
}

static void vfio_guest_maps_region_del(MemoryListener *listener,
                                       MemoryRegionSection *section)
{
    VFIOGuestMaps *maps = container_of(listener, VFIOGuestMaps, listener);
    VFIOGuestMapsChange change = { maps, section };

    if (memory_region_is_ram_device(section->mr)) {
        g_tree_foreach(maps->tree, vfio_guest_maps_leave, &change);
    }
}

static void vfio_guest_maps_region_add(MemoryListener *listener,
                                       MemoryRegionSection *section)
{
    VFIOGuestMaps *maps = container_of(listener, VFIOGuestMaps, listener);
    VFIOGuestMapsChange change = { maps, section };

    if (memory_region_is_ram_device(section->mr)) {
        g_tree_foreach(maps->tree, vfio_guest_maps_return, &change);
    }
}

static VFIOGuestMaps *vfio_guest_maps_new(VFIOContainer *bcontainer)
{
    VFIOGuestMaps *maps = g_new0(VFIOGuestMaps, 1);

    maps->bcontainer = bcontainer;
    maps->tree = g_tree_new_full(vfio_guest_maps_compare, NULL, g_free, NULL);
    maps->listener = (MemoryListener) {
        .name = "vfio-guest-maps",
        .region_add = vfio_guest_maps_region_add,
        .region_del = vfio_guest_maps_region_del,
    };
    memory_listener_register(&maps->listener, &address_space_memory);
    return maps;
}

void vfio_guest_maps_add(VFIOContainer *bcontainer, hwaddr iova, hwaddr size,
                         hwaddr gpa, bool readonly, bool mapped)
{
    VFIOGuestMap *map, *old;
    GTree *tree;

    /* sPAPR replaces mappings without removing them first */
    if (VFIO_IOMMU_GET_CLASS(bcontainer)->add_window) {
        return;
    }
    if (!bcontainer->guest_maps) {
        bcontainer->guest_maps = vfio_guest_maps_new(bcontainer);
    }
    tree = bcontainer->guest_maps->tree;
    /* A guest can map any number of addresses without memory */
    if (!mapped && g_tree_nnodes(tree) >= MAX_RECORDS) {
        return;
    }
    map = g_new(VFIOGuestMap, 1);
    *map = (VFIOGuestMap) { iova, size, gpa, readonly, mapped };
    while ((old = g_tree_lookup(tree, map))) {
        /* virtio-iommu repeats notifications, which the kernel refuses then */
        if (old->mapped && !mapped) {
            g_free(map);
            return;
        }
        g_tree_remove(tree, old);
    }
    g_tree_insert(tree, map, map);
}

/*
 * The kernel does not split mappings. When a virtual IOMMU unmaps part of one,
 * all of it is removed: intel-iommu also forgets all of it, and maps again what
 * the guest has kept.
 */
void vfio_guest_maps_remove(VFIOContainer *bcontainer, hwaddr iova,
                            hwaddr size, bool all)
{
    VFIOGuestMaps *maps = bcontainer->guest_maps;
    VFIOGuestMap range = { .iova = iova, .size = size }, *map;

    if (!maps) {
        return;
    }
    if (all) {
        g_tree_destroy(g_tree_ref(maps->tree));
        return;
    }
    while ((map = g_tree_lookup(maps->tree, &range))) {
        if (map->mapped && (map->iova < iova || map->size > size ||
                            map->iova - iova > size - map->size)) {
            vfio_guest_maps_suspend(maps, map);
        }
        g_tree_remove(maps->tree, map);
    }
}

void vfio_guest_maps_free(VFIOContainer *bcontainer)
{
    VFIOGuestMaps *maps = bcontainer->guest_maps;

    if (maps) {
        /* Leave no mapping that unregistering would unmap again */
        vfio_guest_maps_remove(bcontainer, 0, 0, true);
        memory_listener_unregister(&maps->listener);
        g_tree_unref(maps->tree);
        g_free(maps);
    }
}
