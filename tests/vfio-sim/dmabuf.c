/*
 * vfio-sim: device regions exported as dma-bufs, VFIO_DEVICE_FEATURE_DMA_BUF
 *
 * Whenever the region cannot be accessed its dma-bufs are revoked. They come
 * back, but what iommufd has mapped through them does not.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <string.h>

#include "sim.h"

static bool exported;       /* ever */

static int check_range(SimDevice *dev, unsigned region, uint64_t offset,
                       uint64_t length)
{
    uint64_t size = sim_region_size(dev, region);
    uint64_t start, end;

    if (!length || (offset | length) % SIM_PAGE) {
        return -EINVAL;
    }
    if (offset + length < offset) {
        return -EOVERFLOW;
    }
    if (offset + length > size) {
        return -EINVAL;
    }
    if (region == VFIO_SIM_COMPONENT_BAR) {
        dev->kernel->hole(dev, &start, &end);
        return offset < end && start < offset + length ? -EINVAL : 0;
    }
    return 0;
}

static int check_region(SimDevice *dev, unsigned region)
{
    if (region >= VFIO_PCI_ROM_REGION_INDEX) {
        if (dev->kernel->dma_buf != SIM_DMA_BUF_MEMORY) {
            return -ENODEV;
        }
        return region == dev->kernel->mem_region ? 0 : -EINVAL;
    }
    /* The other BARs have no pages */
    return region == VFIO_SIM_COMPONENT_BAR ? 0 : -EINVAL;
}

static SimDmaBuf exports(SimDevice *dev)
{
    return dev->kernel->dma_buf == SIM_DMA_BUF_NONE &&
           dev->st->knobs[SIM_KNOB_EXPORTER] ? SIM_DMA_BUF_BARS :
                                               dev->kernel->dma_buf;
}

int sim_dmabuf_feature(SimDevice *dev, struct vfio_device_feature *arg)
{
    const SimDmaBufArg *a = (const void *)arg->data;
    const SimDmaBufRange *ranges = (const void *)(a + 1);
    SimFile *file;
    unsigned i;
    int fd, ret;

    if (exports(dev) == SIM_DMA_BUF_NONE) {
        return -ENOTTY;
    }
    if (arg->flags & VFIO_DEVICE_FEATURE_SET) {
        return -EINVAL;
    }
    if (arg->flags & VFIO_DEVICE_FEATURE_PROBE) {
        return 0;
    }
    if (!(arg->flags & VFIO_DEVICE_FEATURE_GET) ||
        arg->argsz < sizeof(*arg) + sizeof(*a)) {
        return -EINVAL;
    }
    if (!a->nr_ranges || a->flags) {
        return -EINVAL;
    }
    ret = check_region(dev, a->region_index);
    for (i = 0; i < a->nr_ranges && !ret; i++) {
        ret = check_range(dev, a->region_index, ranges[i].offset,
                          ranges[i].length);
    }
    if (ret < 0) {
        return ret;
    }
    fd = sim_file_anon(SIM_FD_DMABUF, a->open_flags, &file);
    if (fd < 0) {
        return fd;
    }
    exported = true;
    file->dev = dev;
    file->buf.region = a->region_index;
    file->buf.ranges = a->nr_ranges;
    file->buf.offset = ranges[0].offset;
    file->buf.size = ranges[0].length;
    file->buf.revoked = !sim_region_accessible(dev, a->region_index);
    return fd;
}

int sim_dmabuf_map(SimFile *file, uint64_t start, SimMap *map)
{
    if (!file->dev || map->size > file->buf.size ||
        start > file->buf.size - map->size) {
        return -EINVAL;
    }
    if (file->buf.ranges != 1) {
        return -EOPNOTSUPP;
    }
    if (file->buf.revoked || file->buf.closed) {
        return -ENODEV;
    }
    map->dev = file->dev;
    map->region = file->buf.region;
    map->offset = file->buf.offset + start;
    map->dma_buf = true;
    return 0;
}

typedef struct Revoke {
    SimDevice *dev;
    bool all;
} Revoke;

static void revoke_one(SimFile *file, void *opaque)
{
    const Revoke *r = opaque;

    if (file->kind == SIM_FD_DMABUF && file->dev == r->dev) {
        file->buf.revoked = r->all ||
                            !sim_region_accessible(file->dev,
                                                   file->buf.region);
    }
}

static void revoke(SimDevice *dev, bool all)
{
    Revoke r = { dev, all };
    const SimSpace *s;
    SimMap *m;

    if (!exported) {
        return;
    }
    sim_file_foreach(revoke_one, &r);
    for (s = sim_space_first(); s; s = s->next) {
        for (m = s->maps; m; m = m->next) {
            if (m->dma_buf && m->dev == dev &&
                (all || !sim_region_accessible(dev, m->region))) {
                if (!m->revoked) {
                    sim_smmu_unmapped(s);
                }
                m->revoked = true;
            }
        }
    }
}

void sim_dmabuf_revoke(SimDevice *dev)
{
    revoke(dev, true);
}

void sim_dmabuf_update(SimDevice *dev)
{
    revoke(dev, false);
}

static void close_one(SimFile *file, void *opaque)
{
    if (file->kind == SIM_FD_DMABUF && file->dev == opaque) {
        file->buf.closed = true;
    }
}

void sim_dmabuf_close(SimDevice *dev)
{
    revoke(dev, true);
    if (exported) {
        sim_file_foreach(close_one, dev);
    }
}
