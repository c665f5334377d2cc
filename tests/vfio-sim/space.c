/*
 * vfio-sim: DMA address spaces, of containers and IOASes alike
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sim.h"

static SimSpace *spaces;
static unsigned next_number;

/* The host's interrupt window cannot be mapped */
static const SimIova iova_x86[] = {
    { 0, 0xfedfffff },
    { 0xfef00000, 0xffffffffffffull },
};
static SimIova iova_arm[] = {
    { 0, 0x7ffffff },
    { 0x8100000, 0xffffffffffffull },
};

const SimIova *sim_iova_ranges(unsigned *count)
{
    const SimSmmuConfig *smmu = &sim_config()->smmu;

    *count = 2;
    if (smmu->count) {
        /* A kernel's stage 1 has 48 bits at most */
        iova_arm[1].last = (1ull << (smmu->oas < 48 ? smmu->oas : 48)) - 1;
    }
    return strcmp(sim_config()->iova, "arm") ? iova_x86 : iova_arm;
}

bool sim_iova_valid(uint64_t iova, uint64_t size)
{
    unsigned i, n;
    const SimIova *r = sim_iova_ranges(&n);

    for (i = 0; i < n; i++) {
        if (iova >= r[i].first && iova + size - 1 <= r[i].last) {
            return true;
        }
    }
    return false;
}

SimSpace *sim_space_new(bool legacy)
{
    SimSpace *s = calloc(1, sizeof(*s));

    if (s) {
        s->refs = 1;
        s->legacy = legacy;
        s->number = ++next_number;
        s->next = spaces;
        spaces = s;
    }
    return s;
}

void sim_space_ref(SimSpace *space)
{
    space->refs++;
}

void sim_space_unref(SimSpace *space)
{
    SimSpace **p;

    if (!space || --space->refs) {
        return;
    }
    sim_space_unmap(space, 0, UINT64_MAX);
    sim_smmu_unmapped(space);
    for (p = &spaces; *p != space; p = &(*p)->next) {
        continue;
    }
    *p = space->next;
    free(space);
}

const SimSpace *sim_space_first(void)
{
    return spaces;
}

int sim_space_check(SimSpace *space, uint64_t iova, uint64_t size)
{
    const SimMap *m;

    if (!size || (iova | size) % SIM_PAGE || iova + size - 1 < iova) {
        return -EINVAL;
    }
    for (m = space->maps; m; m = m->next) {
        if (m->iova <= iova + size - 1 && iova <= m->iova + m->size - 1) {
            return -EEXIST;
        }
    }
    return sim_iova_valid(iova, size) ? 0 : -EINVAL;
}

int sim_space_map(SimSpace *space, const SimMap *map)
{
    SimMap *m = malloc(sizeof(*m));
    SimMap **p;

    if (!m) {
        return -ENOMEM;
    }
    *m = *map;
    for (p = &space->maps; *p && (*p)->iova < m->iova; p = &(*p)->next) {
        continue;
    }
    m->next = *p;
    *p = m;
    space->count++;
    if (m->dev && m->region == m->dev->kernel->mem_region) {
        sim_count(m->dev, SIM_STAT_MEMORY_MAPS);
    }
    return 0;
}

/* Checks as pinning the pages would: -EFAULT if there is no mapping */
int sim_space_user_memory(uint64_t vaddr, uint64_t size, bool write)
{
    int fd = sys_open("/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
    uint64_t need = vaddr, last = vaddr + size - 1;
    bool found = false;
    char line[512];
    FILE *f;

    if (last < vaddr) {
        return -EINVAL;
    }
    f = fd < 0 ? NULL : fdopen(fd, "r");
    if (!f) {
        if (fd >= 0) {
            sys_close(fd);
        }
        return 0;
    }
    while (!found && fgets(line, sizeof(line), f)) {
        uint64_t start, end;
        char r, w, x, p;

        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %c%c%c%c", &start, &end,
                   &r, &w, &x, &p) != 6 || end <= need) {
            continue;
        }
        if (start > need || r != 'r' || (write && w != 'w')) {
            break;
        }
        need = end;
        found = need > last;
    }
    fclose(f);
    return found ? 0 : -EFAULT;
}

bool sim_space_bisects(SimSpace *space, uint64_t iova)
{
    const SimMap *m;

    for (m = space->maps; m; m = m->next) {
        if (m->iova < iova && iova <= m->iova + m->size - 1) {
            return true;
        }
    }
    return false;
}

uint64_t sim_space_unmap(SimSpace *space, uint64_t iova, uint64_t last)
{
    SimMap **p = &space->maps;
    uint64_t done = 0;

    while (*p) {
        SimMap *m = *p;

        if (m->iova >= iova && m->iova + m->size - 1 <= last) {
            *p = m->next;
            done += m->size;
            space->count--;
            if (m->file) {
                sys_munmap((void *)(uintptr_t)m->vaddr, m->size);
            }
            free(m);
        } else {
            p = &m->next;
        }
    }
    if (done) {
        sim_smmu_unmapped(space);
    }
    return done;
}

void sim_space_stale(SimDevice *dev, bool out_of_reach)
{
    const SimSpace *s;
    SimMap *m;

    for (s = spaces; s; s = s->next) {
        for (m = s->maps; m; m = m->next) {
            if (m->dev != dev || m->region != dev->kernel->mem_region) {
                continue;
            }
            if (out_of_reach && !m->stale) {
                sim_count(dev, SIM_STAT_STALE_MAPS);
            }
            m->stale = out_of_reach;
        }
    }
}

static size_t map_rw(const SimMap *m, uint64_t off, void *buf, size_t len,
                     bool write)
{
    ssize_t n;

    if (m->revoked) {
        return 0;
    }
    if (!m->dev) {
        return sim_copy_user(buf, m->vaddr + off, len, write);
    }
    /* Pages of a device: known to the mapping, regardless of the current VA */
    if (m->region == VFIO_SIM_COMPONENT_BAR) {
        /* The mapping stays, but the device does not answer then */
        if (!sim_region_accessible(m->dev, m->region)) {
            return 0;
        }
        n = write ? sys_pwrite(m->dev->bar0_fd, buf, len, m->offset + off) :
                    sys_pread(m->dev->bar0_fd, buf, len, m->offset + off);
    } else if (!sim_region_answers(m->dev, m->region)) {
        n = 0;
    } else {
        n = write ? sys_pwrite(m->dev->mem_fd, buf, len, m->offset + off) :
                    sys_pread(m->dev->mem_fd, buf, len, m->offset + off);
    }
    return n < 0 ? 0 : n;
}

uint64_t sim_space_rw(SimSpace *space, uint64_t iova, void *buf, uint64_t len,
                      bool write)
{
    uint64_t done = 0;
    const SimMap *m;

    for (m = space ? space->maps : NULL; m && done < len; m = m->next) {
        uint64_t at = iova + done;
        uint64_t n, got;

        if (at < m->iova || at - m->iova >= m->size) {
            continue;
        }
        n = m->size - (at - m->iova);
        if (n > len - done) {
            n = len - done;
        }
        if (write ? !m->write : !m->read) {
            break;
        }
        got = map_rw(m, at - m->iova, (char *)buf + done, n, write);
        done += got;
        if (got < n) {
            break;
        }
    }
    return done;
}
