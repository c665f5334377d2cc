/*
 * vfio-sim: the legacy container, /dev/vfio/vfio with a type 1 IOMMU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <string.h>

#include "sim.h"

#define DMA_ENTRY_LIMIT 65535

int sim_container_open(int flags)
{
    SimFile *file;
    int fd = sim_fault_any("open");

    if (fd < 0) {
        return fd;
    }
    fd = sim_file_anon(SIM_FD_CONTAINER, flags, &file);
    if (fd >= 0) {
        file->container = sim_space_new(true);
    }
    return fd;
}

static int check_extension(uintptr_t ext)
{
    switch (ext) {
    case VFIO_TYPE1_IOMMU:
    case VFIO_TYPE1v2_IOMMU:
    case VFIO_UNMAP_ALL:
    case VFIO_DMA_CC_IOMMU:
        return 1;
    default:
        return 0;
    }
}

static int set_iommu(SimSpace *space, uintptr_t type)
{
    if (!space->groups || space->iommu_set) {
        return -EINVAL;
    }
    if (type != VFIO_TYPE1_IOMMU && type != VFIO_TYPE1v2_IOMMU) {
        return -EINVAL;
    }
    space->iommu_set = true;
    return 0;
}

typedef struct IommuCaps {
    struct vfio_iommu_type1_info_cap_iova_range iova;
    struct vfio_iova_range ranges[2];
    struct vfio_iommu_type1_info_dma_avail avail;
    uint32_t pad;
} IommuCaps;

static int get_info(SimSpace *space, struct vfio_iommu_type1_info *arg)
{
    struct vfio_iommu_type1_info info = { .argsz = arg->argsz };
    size_t minsz = offsetof(struct vfio_iommu_type1_info, cap_offset);
    IommuCaps caps = { 0 };
    const SimIova *r;
    unsigned i, n;

    if (info.argsz < minsz) {
        return -EINVAL;
    }
    info.flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS;
    info.iova_pgsizes = ~(SIM_PAGE - 1);
    r = sim_iova_ranges(&n);
    caps.iova.header.id = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE;
    caps.iova.header.version = 1;
    caps.iova.header.next = sizeof(info) + offsetof(IommuCaps, avail);
    caps.iova.nr_iovas = n;
    for (i = 0; i < n; i++) {
        caps.ranges[i].start = r[i].first;
        caps.ranges[i].end = r[i].last;
    }
    caps.avail.header.id = VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL;
    caps.avail.header.version = 1;
    caps.avail.avail = DMA_ENTRY_LIMIT - space->count;
    if (info.argsz < sizeof(info) + sizeof(caps)) {
        info.argsz = sizeof(info) + sizeof(caps);
        memcpy(arg, &info, arg->argsz < sizeof(info) ? minsz : sizeof(info));
        return 0;
    }
    info.cap_offset = sizeof(info);
    memcpy((char *)arg + sizeof(info), &caps, sizeof(caps));
    memcpy(arg, &info, sizeof(info));
    return 0;
}

static int map_dma(SimSpace *space, struct vfio_iommu_type1_dma_map *arg)
{
    uint32_t known = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE |
                     VFIO_DMA_MAP_FLAG_VADDR;
    SimMap map = { 0 };
    const SimMmap *m;
    int ret;

    if (arg->argsz < sizeof(*arg) || (arg->flags & ~known)) {
        return -EINVAL;
    }
    if (arg->flags & VFIO_DMA_MAP_FLAG_VADDR) {
        return -EINVAL;     /* not without VFIO_UPDATE_VADDR */
    }
    if (!(arg->flags & (VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)) ||
        arg->vaddr % SIM_PAGE || arg->vaddr + arg->size - 1 < arg->vaddr) {
        return -EINVAL;
    }
    ret = sim_space_check(space, arg->iova, arg->size);
    if (ret < 0) {
        return ret;
    }
    if (space->count >= DMA_ENTRY_LIMIT) {
        return -ENOSPC;
    }
    map.iova = arg->iova;
    map.size = arg->size;
    map.vaddr = arg->vaddr;
    map.read = arg->flags & VFIO_DMA_MAP_FLAG_READ;
    map.write = arg->flags & VFIO_DMA_MAP_FLAG_WRITE;
    m = sim_mmap_find(map.vaddr, map.size);
    if (m) {
        /* The pages are found by faulting them in, where that is allowed */
        if (map.vaddr < m->addr || map.vaddr + map.size > m->addr + m->len ||
            !sim_region_accessible(m->dev, m->region)) {
            return -EFAULT;
        }
        sim_mmap_fault_in(map.vaddr, map.size);
        map.dev = m->dev;
        map.region = m->region;
        map.offset = m->offset + (map.vaddr - m->addr);
    } else {
        ret = sim_space_user_memory(map.vaddr, map.size, map.write);
        if (ret < 0) {
            return ret;
        }
    }
    return sim_space_map(space, &map);
}

static int unmap_dma(SimSpace *space, struct vfio_iommu_type1_dma_unmap *arg)
{
    uint32_t known = VFIO_DMA_UNMAP_FLAG_ALL |
                     VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP |
                     VFIO_DMA_UNMAP_FLAG_VADDR;

    if (arg->argsz < offsetof(struct vfio_iommu_type1_dma_unmap, data) ||
        (arg->flags & ~known)) {
        return -EINVAL;
    }
    if (arg->flags & ~VFIO_DMA_UNMAP_FLAG_ALL) {
        return -EINVAL;
    }
    if (arg->flags & VFIO_DMA_UNMAP_FLAG_ALL) {
        if (arg->iova || arg->size) {
            return -EINVAL;
        }
        arg->size = sim_space_unmap(space, 0, UINT64_MAX);
        return 0;
    }
    if (!arg->size || (arg->iova | arg->size) % SIM_PAGE ||
        arg->iova + arg->size - 1 < arg->iova) {
        return -EINVAL;
    }
    if (sim_space_bisects(space, arg->iova) ||
        (arg->iova + arg->size &&
         sim_space_bisects(space, arg->iova + arg->size))) {
        return -EINVAL;
    }
    arg->size = sim_space_unmap(space, arg->iova,
                                arg->iova + arg->size - 1);
    return 0;
}

int sim_container_ioctl(SimFile *file, unsigned cmd, uintptr_t arg)
{
    static const struct {
        unsigned cmd;
        const char *op;
    } ops[] = {
        { VFIO_GET_API_VERSION, "get_api_version" },
        { VFIO_CHECK_EXTENSION, "check_extension" },
        { VFIO_SET_IOMMU, "set_iommu" },
        { VFIO_IOMMU_GET_INFO, "iommu_get_info" },
        { VFIO_IOMMU_MAP_DMA, "iommu_map_dma" },
        { VFIO_IOMMU_UNMAP_DMA, "iommu_unmap_dma" },
    };
    SimSpace *space = file->container;
    unsigned i;
    int ret;

    for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        if (ops[i].cmd == cmd) {
            ret = sim_fault_any(ops[i].op);
            if (ret < 0) {
                return ret;
            }
        }
    }
    switch (cmd) {
    case VFIO_GET_API_VERSION:
        return VFIO_API_VERSION;
    case VFIO_CHECK_EXTENSION:
        return check_extension(arg);
    case VFIO_SET_IOMMU:
        return set_iommu(space, arg);
    case VFIO_IOMMU_GET_INFO:
    case VFIO_IOMMU_MAP_DMA:
    case VFIO_IOMMU_UNMAP_DMA:
        if (!space->iommu_set) {
            return -EINVAL;
        }
        if (!arg) {
            return -EFAULT;
        }
        if (cmd == VFIO_IOMMU_GET_INFO) {
            return get_info(space, (void *)arg);
        }
        return cmd == VFIO_IOMMU_MAP_DMA ? map_dma(space, (void *)arg) :
                                           unmap_dma(space, (void *)arg);
    default:
        return space->iommu_set ? -ENOTTY : -EINVAL;
    }
}
