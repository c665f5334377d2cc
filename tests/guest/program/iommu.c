/*
 * DMA by the I/O virtual addresses that the guest's kernel hands out
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "cxl-guest.h"

#include <sys/ioctl.h>

#include "cxl-accel.h"

#define NOWHERE         (256 * GiB)     /* far below what Linux hands out */
#define PAGE            4096
#define LENGTH          (64 * KiB)
#define PLACES          16              /* in the buffer, one after the other */
#define BUFFER          (PLACES * LENGTH)
#define STALE_ROUNDS    50

typedef struct {
    int fd;                     /* of our driver */
    uint32_t flags;             /* VFIO_SIM_DMA_ATS, if the device has ATS */
    bool stop;
    unsigned churned;
} Iommu;

/* Returns the I/O virtual address, 0 if there is none */
static uint64_t map_dma(Iommu *iommu, uint64_t phys, uint64_t size)
{
    struct accel_dma dma = { .phys = phys, .size = size };

    return ioctl(iommu->fd, ACCEL_DMA_MAP, &dma) ? 0 : dma.iova;
}

static bool unmap_dma(Iommu *iommu, uint64_t iova, uint64_t size)
{
    struct accel_dma dma = { .iova = iova, .size = size };

    return !ioctl(iommu->fd, ACCEL_DMA_UNMAP, &dma);
}

static bool iommu_open(const char *name, Iommu *iommu)
{
    char link[PATH_MAX];

    *iommu = (Iommu) { .fd = -1 };
    if (!opt.driver || readlink(in_dir("iommu"), link, sizeof(link)) <= 0) {
        return fail(name, "%s", "no driver, or no IOMMU");
    }
    iommu->fd = open(opt.driver, O_RDWR | O_CLOEXEC);
    if (iommu->fd < 0) {
        return fail(name, "%s: %s", opt.driver, strerror(errno));
    }
    if (get32(dev.regs + VFIO_SIM_REG_DMA_FEATURES) &
        VFIO_SIM_DMA_ATS_ENABLED) {
        iommu->flags = VFIO_SIM_DMA_ATS;
    }
    return true;
}

/* DMA through @iova must fault there, and nowhere else */
static bool faults(const char *name, Iommu *iommu, uint64_t iova)
{
    uint32_t status = dma(iova, 0, PAGE, VFIO_SIM_DMA_DST_LOCAL |
                          iommu->flags);
    uint64_t at = get64(dev.regs + VFIO_SIM_REG_DMA_FAULT_ADDR);

    return (status == VFIO_SIM_DMA_FAULT && at == iova) ||
           fail(name, "DMA from unmapped 0x%" PRIx64 ": status %u, fault at "
                "0x%" PRIx64, iova, status, at);
}

static bool copies(const char *name, Iommu *iommu, uint64_t src, uint64_t dst,
                   uint32_t flags)
{
    uint32_t status = dma(src, dst, LENGTH, flags | iommu->flags);

    return status == VFIO_SIM_DMA_DONE ||
           fail(name, "DMA from 0x%" PRIx64 " to 0x%" PRIx64 ": status %u, "
                "fault at 0x%" PRIx64, src, dst, status,
                get64(dev.regs + VFIO_SIM_REG_DMA_FAULT_ADDR));
}

static void fill(uint8_t *to, uint64_t salt)
{
    for (uint64_t i = 0; i < LENGTH; i += 8) {
        set64(to + i, mix(i ^ salt));
    }
}

static bool holds(const char *name, uint8_t *at, uint64_t salt,
                  const char *what)
{
    for (uint64_t i = 0; i < LENGTH; i += 8) {
        if (get64(at + i) != mix(i ^ salt)) {
            return fail(name, "%s: 0x%" PRIx64 " at 0x%" PRIx64, what,
                        get64(at + i), i);
        }
    }
    return true;
}

/* RAM to @memory and back, by the I/O virtual addresses of both */
static bool round_trip(const char *name, Iommu *iommu, uint8_t *memory,
                       uint64_t phys, uint64_t salt)
{
    uint64_t from = map_dma(iommu, ram.pa, ram.size);
    uint64_t to = map_dma(iommu, phys, LENGTH);

    if (!from || !to) {
        return fail(name, "ACCEL_DMA_MAP of 0x%" PRIx64 ": %s", phys,
                    strerror(errno));
    }
    fill(ram.va, salt);
    if (!copies(name, iommu, from, to, 0) ||
        !holds(name, memory, salt, "RAM to memory")) {
        return false;
    }
    fill(memory, ~salt);
    return copies(name, iommu, to, from + LENGTH, 0) &&
           holds(name, ram.va + LENGTH, ~salt, "memory to RAM") &&
           ((unmap_dma(iommu, from, ram.size) &&
             unmap_dma(iommu, to, LENGTH)) ||
            fail(name, "ACCEL_DMA_UNMAP: %s", strerror(errno)));
}

/*
 * Linux hands out the same addresses again and again, each time for another
 * page: the device must see that, and nothing in between.
 */
static bool no_stale(const char *name, Iommu *iommu, unsigned *reused)
{
    uint64_t last = 0;

    for (int n = 0; n < STALE_ROUNDS; n++) {
        uint64_t at = n % PLACES * LENGTH, iova;
        Iommu with = { .flags = n % 2 ? iommu->flags : 0 };

        fill(ram.va + at, n);
        iova = map_dma(iommu, ram.pa + at, LENGTH);
        if (!iova) {
            return fail(name, "mapping %d: %s", n, strerror(errno));
        }
        *reused += iova == last;
        last = iova;
        if (!copies(name, &with, iova, 0, VFIO_SIM_DMA_DST_LOCAL) ||
            !holds(name, dev.window, n, "a stale translation")) {
            return false;
        }
        if (!unmap_dma(iommu, iova, LENGTH)) {
            return fail(name, "unmapping %d: %s", n, strerror(errno));
        }
        if (!faults(name, &with, iova)) {
            return false;
        }
    }
    return *reused || fail(name, "%s", "no address was used again");
}

/* The load: other mappings, of pages and of blocks, come and go */
static void *churn(void *opaque)
{
    Iommu *iommu = opaque;

    while (!__atomic_load_n(&iommu->stop, __ATOMIC_RELAXED)) {
        uint64_t size = iommu->churned % 3 ? PAGE : ram.size;
        uint64_t iova = map_dma(iommu, ram.pa, size);

        if (iova && unmap_dma(iommu, iova, size)) {
            iommu->churned++;
        }
    }
    return NULL;
}

/*
 * An access to nothing: one event, which the host looks for in the kernel's
 * log. A translation request that fails gives none. It has to come before the
 * floods of the other check.
 */
void check_wild(const char *name)
{
    Iommu none = { .flags = 0 }, iommu;

    if (iommu_open(name, &iommu) && faults(name, &none, NOWHERE) &&
        (!iommu.flags || faults(name, &iommu, NOWHERE + PAGE))) {
        ok(name, "iova=0x%" PRIx64 " ats=%d", NOWHERE, !!iommu.flags);
    }
    close(iommu.fd);
}

static bool round_trips(const char *name, Iommu *iommu)
{
    uint8_t *peer;
    bool done;

    if (!round_trip(name, iommu, dev.window, dev.gpa, 1)) {
        return false;
    }
    if (!opt.peer_memory) {
        return true;
    }
    peer = map_file("/dev/mem", opt.peer_memory, LENGTH);
    if (!peer) {
        return fail(name, "/dev/mem at 0x%" PRIx64 ": %s", opt.peer_memory,
                    strerror(errno));
    }
    done = round_trip(name, iommu, peer, opt.peer_memory, 2);
    munmap(peer, LENGTH);
    return done;
}

void check_iommu(const char *name)
{
    unsigned reused = 0;
    pthread_t thread;
    Iommu iommu;

    if (ram.size < BUFFER) {
        fail(name, "%s", "no huge page for the buffer");
        return;
    }
    if (!iommu_open(name, &iommu) || !round_trips(name, &iommu)) {
        goto out;
    }
    if (pthread_create(&thread, NULL, churn, &iommu)) {
        fail(name, "%s", "no thread");
        goto out;
    }
    if (no_stale(name, &iommu, &reused)) {
        ok(name, "own memory%s, rounds=%d reused=%u ats=%d",
           opt.peer_memory ? " and another's" : "", STALE_ROUNDS, reused,
           !!iommu.flags);
    }
    __atomic_store_n(&iommu.stop, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    info("churn mappings=%u", iommu.churned);
out:
    close(iommu.fd);
}
