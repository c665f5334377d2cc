/*
 * vfio-sim: mappings of device regions
 *
 * Where the kernel would let an access fault, the mapping is replaced by one
 * of an empty file, which raises SIGBUS and tells KVM as well; the contents
 * stay in the device's own file.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"

static SimMmap *mmaps;
static int gate_fd = -1;

bool sim_mmap_any(void)
{
    return __atomic_load_n(&mmaps, __ATOMIC_RELAXED) != NULL;
}

const SimMmap *sim_mmap_first(void)
{
    return mmaps;
}

/* Checks the request as the driver's mmap handler would */
static int mmap_check(SimDevice *dev, unsigned region, uint64_t off,
                      size_t len, int flags)
{
    uint64_t start, end;

    if ((flags & MAP_TYPE) != MAP_SHARED &&
        (flags & MAP_TYPE) != MAP_SHARED_VALIDATE) {
        return -EINVAL;
    }
    if (region == dev->kernel->mem_region && dev->kernel->cxl) {
        if (!dev->kernel->mem_mmap) {
            return -EINVAL;
        }
    } else if (region != VFIO_SIM_COMPONENT_BAR) {
        return -EINVAL;
    }
    len = SIM_ROUND_UP(len, SIM_PAGE);
    if (off + len < off || off + len > sim_region_size(dev, region)) {
        return -EINVAL;
    }
    if (region == VFIO_SIM_COMPONENT_BAR) {
        dev->kernel->hole(dev, &start, &end);
        if (off < end && start < off + len) {
            return -EINVAL;
        }
    }
    return 0;
}

static void *map_region(SimDevice *dev, unsigned region, bool open, void *addr,
                        size_t len, int prot, int flags, uint64_t off)
{
    int fd = region == VFIO_SIM_COMPONENT_BAR ? dev->bar0_fd : dev->mem_fd;

    if (!open) {
        if (gate_fd < 0) {
            gate_fd = sim_high_fd(sys_memfd("vfio-sim-gate"));
        }
        fd = gate_fd;
        off = 0;
    }
    return sys_mmap(addr, len, prot, flags, fd, off);
}

/* A mapping keeps the open file, and with it the lock that binding takes */
static bool keep_open(SimFile *file, int fd)
{
    if (file->mmap_fd < 0) {
        file->mmap_fd = sys_dup(fd);
    }
    return file->mmap_fd >= 0;
}

void *sim_device_mmap(SimFile *file, void *addr, size_t len, int prot,
                      int flags, int fd, uint64_t pos, int *err)
{
    SimDevice *dev = file->dev;
    unsigned region = pos >> SIM_REGION_SHIFT;
    uint64_t off = pos & ((1ull << SIM_REGION_SHIFT) - 1);
    SimMmap *m;
    void *p;

    if (!file->opened || !len || pos % SIM_PAGE ||
        region >= SIM_NUM_REGIONS) {
        *err = -EINVAL;
        return MAP_FAILED;
    }
    *err = sim_fault_region(dev, "mmap", region);
    if (*err == 0) {
        *err = mmap_check(dev, region, off, len, flags);
    }
    if (*err < 0) {
        /* The kernel asks the driver after it has removed the old mapping */
        if (flags & MAP_FIXED) {
            sys_munmap(addr, len);
            sim_mmap_gone((uintptr_t)addr, len);
        }
        return MAP_FAILED;
    }
    m = calloc(1, sizeof(*m));
    if (!m || !keep_open(file, fd)) {
        free(m);
        *err = -ENOMEM;
        return MAP_FAILED;
    }
    m->open = sim_region_answers(dev, region);
    p = map_region(dev, region, m->open, addr, len, prot, flags, off);
    if (p == MAP_FAILED) {
        *err = -errno;
        free(m);
        return p;
    }
    sim_mmap_gone((uintptr_t)p, len);
    m->addr = (uintptr_t)p;
    m->len = SIM_ROUND_UP(len, SIM_PAGE);
    m->dev = dev;
    m->file = file;
    sim_file_use(file);
    m->region = region;
    m->offset = off;
    m->prot = prot;
    m->next = mmaps;
    __atomic_store_n(&mmaps, m, __ATOMIC_RELAXED);
    sim_count(dev, SIM_STAT_MMAPS);
    return p;
}

/* The program has unmapped or replaced this range */
void sim_mmap_gone(uint64_t addr, uint64_t len)
{
    uint64_t end = addr + SIM_ROUND_UP(len, SIM_PAGE);
    SimMmap **p = &mmaps;

    while (*p) {
        SimMmap *m = *p;
        uint64_t m_end = m->addr + m->len;

        if (m->addr >= end || addr >= m_end) {
            p = &m->next;
            continue;
        }
        if (m->addr < addr && end < m_end) {
            SimMmap *tail = malloc(sizeof(*tail));

            if (tail) {
                *tail = *m;
                sim_file_use(tail->file);
                tail->addr = end;
                tail->len = m_end - end;
                tail->offset += end - m->addr;
                m->next = tail;
            }
        }
        if (m->addr < addr) {
            m->len = addr - m->addr;
            p = &m->next;
        } else if (end < m_end) {
            m->offset += end - m->addr;
            m->len = m_end - end;
            m->addr = end;
            p = &m->next;
        } else {
            *p = m->next;
            sim_file_put(m->file);
            free(m);
        }
    }
}

/* As for memory that cannot be expanded (VM_DONTEXPAND and VM_PFNMAP) */
int sim_mmap_check_move(uint64_t from, uint64_t from_len, uint64_t len,
                        int flags)
{
    if (!sim_mmap_find(from, from_len ? from_len : 1)) {
        return 0;
    }
    return flags & 4 /* MREMAP_DONTUNMAP */ ? -EINVAL :
           len > from_len ? -EFAULT : 0;
}

/* mremap() has moved or cut one mapping, or a part of it */
void sim_mmap_moved(uint64_t from, uint64_t from_len, uint64_t to,
                    uint64_t len)
{
    const SimMmap *m = sim_mmap_find(from, from_len);
    SimMmap *copy = m && m->addr <= from ? malloc(sizeof(*copy)) : NULL;

    if (copy) {
        *copy = *m;
        copy->addr = to;
        copy->len = SIM_ROUND_UP(len, SIM_PAGE);
        copy->offset += from - m->addr;
        sim_file_use(copy->file);
    }
    sim_mmap_gone(from, from_len);
    sim_mmap_gone(to, len);
    if (copy) {
        copy->next = mmaps;
        __atomic_store_n(&mmaps, copy, __ATOMIC_RELAXED);
    }
}

/* madvise() as on memory without pages of its own (VM_IO and VM_PFNMAP) */
int sim_mmap_advice(uint64_t addr, uint64_t *len, int advice)
{
    static const struct {
        int advice;
        int err;
    } refused[] = {
        { MADV_DONTNEED, EINVAL },
        { MADV_REMOVE, ENODEV },
        { MADV_DOFORK, EINVAL },
        { MADV_DODUMP, EINVAL },
        { 20 /* MADV_COLD */, EINVAL },
        { 21 /* MADV_PAGEOUT */, EINVAL },
        { 22 /* MADV_POPULATE_READ */, EINVAL },
        { 23 /* MADV_POPULATE_WRITE */, EINVAL },
    };
    uint64_t first = addr + *len;
    const SimMmap *m;
    unsigned i;
    int ret = 0;

    for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (refused[i].advice == advice) {
            ret = -refused[i].err;
        }
    }
    if (!ret) {
        return 0;
    }
    for (m = mmaps; m; m = m->next) {
        if (m->addr < first && addr < m->addr + m->len) {
            first = m->addr < addr ? addr : m->addr;
        }
    }
    if (first == addr + *len) {
        return 0;
    }
    *len = first - addr;
    return ret;
}

void sim_mmap_fault_in(uint64_t addr, uint64_t len)
{
    SimMmap *m;

    for (m = mmaps; m; m = m->next) {
        SimDevice *dev = m->dev;

        if (addr >= m->addr && addr + len <= m->addr + m->len &&
            m->region == dev->kernel->mem_region && !m->populated) {
            uint64_t faults = len / dev->kernel->fault_size;
            uint64_t ns = faults * dev->st->knobs[SIM_KNOB_FAULT_NS];
            struct timespec delay = { ns / 1000000000, ns % 1000000000 };

            __atomic_add_fetch(&dev->st->stats[SIM_STAT_PAGE_FAULTS], faults,
                               __ATOMIC_RELAXED);
            nanosleep(&delay, NULL);
            m->populated = len == m->len;
        }
    }
}

const SimMmap *sim_mmap_find(uint64_t addr, uint64_t len)
{
    const SimMmap *m;

    for (m = mmaps; m; m = m->next) {
        if (m->addr < addr + len && addr < m->addr + m->len) {
            return m;
        }
    }
    return NULL;
}

void sim_mmap_update(SimDevice *dev)
{
    SimMmap *m;

    for (m = mmaps; m; m = m->next) {
        bool open = sim_region_answers(dev, m->region);

        if (m->dev == dev && m->open != open) {
            m->open = open;
            m->populated = false;
            map_region(dev, m->region, open, (void *)(uintptr_t)m->addr,
                       m->len, m->prot, MAP_SHARED | MAP_FIXED, m->offset);
        }
    }
    sim_dmabuf_update(dev);
    sim_space_stale(dev, !sim_region_answers(dev, dev->kernel->mem_region));
}
