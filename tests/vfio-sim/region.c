/*
 * vfio-sim: regions of a device
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "sim.h"

typedef struct SparseCap {
    struct vfio_region_info_cap_sparse_mmap sparse;
    struct vfio_region_sparse_mmap_area areas[2];
} SparseCap;

uint64_t sim_region_size(SimDevice *dev, unsigned region)
{
    if (dev->kernel->cxl && region == dev->kernel->mem_region) {
        return dev->mem_size;
    }
    if (dev->kernel->cxl && region == dev->kernel->comp_region) {
        return dev->kernel->comp_size(dev);
    }
    switch (region) {
    case VFIO_SIM_COMPONENT_BAR:
        return VFIO_SIM_BAR0_SIZE;
    case VFIO_SIM_REG_BAR:
        return VFIO_SIM_BAR2_SIZE;
    case VFIO_PCI_CONFIG_REGION_INDEX:
        return SIM_CONFIG_SIZE;
    default:
        return 0;
    }
}

static size_t sparse_cap(SimDevice *dev, SparseCap *cap)
{
    struct vfio_region_sparse_mmap_area *a = cap->areas;
    uint64_t start, end;

    dev->kernel->hole(dev, &start, &end);
    if (start > 0) {
        *a++ = (struct vfio_region_sparse_mmap_area) { 0, start };
    }
    if (end < VFIO_SIM_BAR0_SIZE) {
        *a++ = (struct vfio_region_sparse_mmap_area) {
            end, VFIO_SIM_BAR0_SIZE - end
        };
    }
    cap->sparse.header.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP;
    cap->sparse.header.version = 1;
    cap->sparse.nr_areas = a - cap->areas;
    return (char *)a - (char *)cap;
}

static size_t type_cap(SimDevice *dev, unsigned region,
                       struct vfio_region_info_cap_type *cap)
{
    cap->header.id = VFIO_REGION_INFO_CAP_TYPE;
    cap->header.version = 1;
    cap->type = dev->kernel->region_type;
    cap->subtype = region == dev->kernel->mem_region ?
                   SIM_REGION_SUBTYPE_CXL_MEM :
                   SIM_REGION_SUBTYPE_CXL_COMP_REGS;
    return sizeof(*cap);
}

static size_t geometry_cap(SimDevice *dev, uint8_t *buf)
{
    const uint32_t *knobs = dev->st->knobs;
    uint64_t offset = dev->block + SIM_CM_OFFSET + VFIO_SIM_CM_HDM;
    struct vfio_info_cap_header header = {
        .id = knobs[SIM_KNOB_GEOMETRY_ID], .version = 1,
    };

    memset(buf, 0, 24);
    memcpy(buf, &header, sizeof(header));
    sim_st32(buf + 8, VFIO_SIM_COMPONENT_BAR);
    if (knobs[SIM_KNOB_GEOMETRY_FORM] == 32) {
        sim_st32(buf + 12, offset);
        return 16;
    }
    sim_st32(buf + 16, offset);
    sim_st32(buf + 20, offset >> 32);
    return 24;
}

static SimWhere region_where(SimDevice *dev, unsigned region)
{
    return region == dev->kernel->mem_region ? SIM_AT_MEMORY :
           region == dev->kernel->comp_region ? SIM_AT_REGISTERS :
           region == VFIO_SIM_COMPONENT_BAR ? SIM_AT_BAR :
           region == VFIO_PCI_CONFIG_REGION_INDEX ? SIM_AT_CONFIG_REGION :
           SIM_AT_OTHER;
}

int sim_get_region_info(SimDevice *dev, struct vfio_region_info *arg)
{
    const SimKernel *k = dev->kernel;
    struct vfio_region_info info = *arg;
    unsigned regions = k->cxl ? SIM_NUM_REGIONS : VFIO_PCI_NUM_REGIONS;
    static SimReply reply;      /* under sim_lock() */
    SimWhere where = region_where(dev, info.index);
    union {
        SparseCap sparse;
        struct vfio_region_info_cap_type type;
        uint8_t geometry[24];
    } cap = { 0 };
    size_t size = 0;
    int ret;

    if (info.argsz < sizeof(info) || info.index >= regions ||
        info.index == VFIO_PCI_VGA_REGION_INDEX) {
        return -EINVAL;
    }
    info.offset = (uint64_t)info.index << SIM_REGION_SHIFT;
    info.size = sim_region_size(dev, info.index);
    info.cap_offset = 0;
    info.flags = info.size ? VFIO_REGION_INFO_FLAG_READ |
                             VFIO_REGION_INFO_FLAG_WRITE : 0;
    if (info.index == VFIO_SIM_COMPONENT_BAR) {
        info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
        if (k->cxl) {
            size = sparse_cap(dev, &cap.sparse);
        }
    } else if (info.index >= VFIO_PCI_NUM_REGIONS) {
        size = type_cap(dev, info.index, &cap.type);
        if (info.index == k->mem_region && k->mem_mmap) {
            info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
        }
    }
    if (size) {
        info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
    }
    reply.size = reply.head = sizeof(info);
    reply.cap_field = offsetof(struct vfio_region_info, cap_offset);
    memcpy(reply.buf, &info, sizeof(info));
    if (size) {
        sim_reply_cap(&reply, &cap, size);
    }
    if (k->geometry && info.index == k->comp_region) {
        sim_reply_cap(&reply, &cap, geometry_cap(dev, cap.geometry));
    }
    ret = sim_mangle_error(dev->st->knobs[SIM_KNOB_MANGLE], where);
    if (ret == 0) {
        sim_reply_send(&reply, dev, where, arg);
    }
    return ret;
}

/* The widest aligned access that a transfer can start with */
static size_t chunk(uint64_t pos, size_t count)
{
    size_t n = 8;

    while (n > count || pos % n) {
        n /= 2;
    }
    return n;
}

static ssize_t bar0_rw(SimDevice *dev, uint8_t *buf, size_t count,
                       uint64_t pos, bool write)
{
    size_t done = 0;

    while (done < count) {
        uint64_t at = pos + done;
        uint64_t end = dev->block + VFIO_SIM_BLOCK_SIZE;
        size_t n = count - done;
        ssize_t ret;

        if (at >= dev->block && at < end) {
            n = n < end - at ? n : end - at;
            ret = dev->kernel->block_rw(dev, buf + done, n, at - dev->block,
                                        write);
        } else {
            if (at < dev->block && n > dev->block - at) {
                n = dev->block - at;
            }
            ret = write ? sys_pwrite(dev->bar0_fd, buf + done, n, at) :
                          sys_pread(dev->bar0_fd, buf + done, n, at);
        }
        if (ret <= 0) {
            return ret < 0 ? ret : -EIO;
        }
        done += ret;
    }
    return done;
}

static bool in_msix_table(uint64_t pos)
{
    return pos >= VFIO_SIM_MSIX_TABLE &&
           pos < VFIO_SIM_MSIX_TABLE + VFIO_SIM_MSIX_VECTORS * 16;
}

static ssize_t bar2_rw(SimDevice *dev, uint8_t *buf, size_t count,
                       uint64_t pos, bool write)
{
    size_t done = 0;

    while (done < count) {
        uint64_t at = pos + done;
        size_t n = chunk(at, count - done);
        uint64_t value = 0;

        if (in_msix_table(at)) {
            /* vfio-pci keeps the table to itself */
            if (!write) {
                memset(buf + done, 0xff, n);
            }
        } else if (write) {
            memcpy(&value, buf + done, n);
            sim_accel_write(dev, at, value, n);
        } else {
            uint64_t base = at & ~3ull;

            value = sim_accel_read(dev, base);
            if (n == 8) {
                value |= (uint64_t)sim_accel_read(dev, base + 4) << 32;
            }
            value >>= (at - base) * 8;
            memcpy(buf + done, &value, n);
        }
        done += n;
    }
    return done;
}

static ssize_t bar_rw(SimDevice *dev, unsigned region, void *buf, size_t count,
                      uint64_t pos, bool write)
{
    uint64_t size = sim_region_size(dev, region);

    if (pos >= size) {
        return -EINVAL;
    }
    count = count < size - pos ? count : size - pos;
    if (region == VFIO_SIM_COMPONENT_BAR && dev->kernel->bar_check) {
        int ret = dev->kernel->bar_check(dev, pos, count);

        if (ret < 0) {
            return ret;
        }
    }
    if (!sim_config_memory_on(dev)) {
        return -EIO;
    }
    sim_count(dev, write ? SIM_STAT_BAR_WRITES : SIM_STAT_BAR_READS);
    return region == VFIO_SIM_COMPONENT_BAR ?
           bar0_rw(dev, buf, count, pos, write) :
           bar2_rw(dev, buf, count, pos, write);
}

static SimWhere rw_where(SimDevice *dev, unsigned region, bool write)
{
    switch (region_where(dev, region)) {
    case SIM_AT_MEMORY:
        return write ? SIM_AT_WRITE_MEMORY : SIM_AT_READ_MEMORY;
    case SIM_AT_REGISTERS:
        return write ? SIM_AT_WRITE_REGISTERS : SIM_AT_READ_REGISTERS;
    case SIM_AT_BAR:
        return write ? SIM_AT_WRITE_BAR : SIM_AT_READ_BAR;
    default:
        return region != VFIO_PCI_CONFIG_REGION_INDEX ? SIM_AT_NOTHING :
               write ? SIM_AT_WRITE_CONFIG : SIM_AT_READ_CONFIG;
    }
}

ssize_t sim_region_rw(SimDevice *dev, unsigned region, void *buf, size_t count,
                      uint64_t pos, bool write)
{
    const SimKernel *k = dev->kernel;
    ssize_t ret = -EINVAL;

    if (!count) {
        return 0;
    }
    if (write) {
        sim_log_write(dev, region, pos, buf, count);
    }
    if (region == VFIO_PCI_CONFIG_REGION_INDEX) {
        sim_count(dev, write ? SIM_STAT_CONFIG_WRITES :
                               SIM_STAT_CONFIG_READS);
        ret = sim_config_rw(dev, buf, count, pos, write);
    } else if (region < VFIO_PCI_ROM_REGION_INDEX) {
        ret = bar_rw(dev, region, buf, count, pos, write);
    } else if (k->cxl && region == k->mem_region) {
        sim_count(dev, write ? SIM_STAT_MEMORY_WRITES :
                               SIM_STAT_MEMORY_READS);
        ret = k->mem_rw(dev, buf, count, pos, write);
    } else if (k->cxl && region == k->comp_region) {
        sim_count(dev, write ? SIM_STAT_COMP_WRITES : SIM_STAT_COMP_READS);
        ret = k->comp_rw(dev, buf, count, pos, write);
    }
    return ret > 0 ? (ssize_t)sim_mangle_count(dev->st->knobs[SIM_KNOB_MANGLE],
                                               rw_where(dev, region, write),
                                               ret) : ret;
}
