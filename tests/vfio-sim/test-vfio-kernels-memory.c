/*
 * Conformance test of the kernel generations: the device's memory
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test-vfio-kernels.h"
#include "vfio-sim-regs.h"

static void test_memory_fd(void)
{
    Device *d = device_open();
    uint64_t end = d->mem_size;
    uint8_t buf[16] = "0123456789abcde", back[16];

    if (is(V4)) {
        fails(get(d, d->mem, 0, back, 16), EIO);
        fails(put(d, d->mem, 0, buf, 16), EIO);
        fails(get(d, d->mem, end, back, 16), EIO);
        device_close(d);
        return;
    }
    g_assert_cmpint(put(d, d->mem, 3, buf, 16), ==, 16);
    g_assert_cmpint(get(d, d->mem, 3, back, 16), ==, 16);
    g_assert_cmpint(memcmp(buf, back, 16), ==, 0);
    if (is(V3)) {
        fails(get(d, d->mem, end - 8, back, 16), EINVAL);
        fails(get(d, d->mem, end + 8, back, 16), EINVAL);
    } else {
        g_assert_cmpint(get(d, d->mem, end - 8, back, 16), ==, 8);
        if (is(V2S)) {
            g_assert_cmpint(get(d, d->mem, end, back, 16), ==, 0);
        } else {
            fails(get(d, d->mem, end, back, 16), EINVAL);
        }
    }
    if (is(V5)) {
        memory_space(d, false);
        fails(get(d, d->mem, 0, back, 16), EIO);
        /* The end is checked first */
        fails(get(d, d->mem, end, back, 16), EINVAL);
        memory_space(d, true);
    }
    g_assert_cmpint(get(d, d->mem, 3, back, 16), ==, 16);
    device_close(d);
}

static void test_memory_map(void)
{
    Device *d = device_open();
    uint32_t *p = map(d, d->mem, 0, 0x4000), value;
    bool gate = is(V4 | V5);

    if (is(V2N)) {
        g_assert_true(p == MAP_FAILED);
        g_assert_cmpint(errno, ==, EINVAL);
        device_close(d);
        return;
    }
    g_assert_true(p != MAP_FAILED);
    g_assert_true(map(d, d->mem, d->mem_size, 4096) == MAP_FAILED);
    g_assert_cmpint(errno, ==, EINVAL);
    g_assert_true(map(d, d->mem, d->mem_size - 4096, 8192) == MAP_FAILED);
    g_assert_true(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, d->fd,
                       region(d->mem, 0)) == MAP_FAILED);
    g_assert_cmpint(errno, ==, EINVAL);

    p[5] = 0xcafe;
    if (!is(V4)) {
        g_assert_cmpint(get32(d, d->mem, 20), ==, 0xcafe);
    }
    /* Do not try on hardware what the simulator has to survive */
    if (!real || gate) {
        memory_space(d, false);
        g_assert_cmpint(touch(p + 5, &value), ==, !gate);
        memory_space(d, true);
        g_assert_true(touch(p + 5, &value));
        g_assert_cmpint(value, ==, 0xcafe);
    }
    device_close(d);
}

/* It has no pages that could be taken away or read in advance */
static void test_memory_advice(void)
{
    static const struct {
        int advice;
        int err;
    } tries[] = {
        { MADV_DONTNEED, EINVAL }, { MADV_REMOVE, ENODEV },
        { MADV_DONTFORK, 0 }, { MADV_DOFORK, EINVAL }, { MADV_DONTDUMP, 0 },
        { MADV_DODUMP, EINVAL }, { 20 /* MADV_COLD */, EINVAL },
        { 21 /* MADV_PAGEOUT */, EINVAL },
        { 22 /* MADV_POPULATE_READ */, EINVAL },
        { 23 /* MADV_POPULATE_WRITE */, EINVAL },
    };
    Device *d = device_open();
    uint8_t *ram = mmap(NULL, 0x4000, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *p;
    unsigned i;

    g_assert_true(ram != MAP_FAILED);
    p = mmap(ram + 0x2000, 0x2000, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED, d->fd, region(d->mem, 0));
    g_assert_true(p == ram + 0x2000);
    for (i = 0; i < G_N_ELEMENTS(tries); i++) {
        if (tries[i].err) {
            fails(madvise(p, 0x1000, tries[i].advice), tries[i].err);
        } else {
            ok(madvise(p, 0x1000, tries[i].advice));
        }
    }
    /* What comes before it is gone */
    ram[0x1000] = 1;
    fails(madvise(ram + 0x1000, 0x2000, MADV_DONTNEED), EINVAL);
    g_assert_cmpint(ram[0x1000], ==, 0);
    device_close(d);
}

static int open_group(void)
{
    g_autofree char *link = g_strdup_printf("/sys/bus/pci/devices/%s/"
                                            "iommu_group", host);
    g_autofree char *group = g_file_read_link(link, NULL);
    g_autofree char *path = g_strdup_printf("/dev/vfio/%s",
                                            strrchr(group, '/') + 1);

    return open(path, O_RDWR | O_CLOEXEC);
}

static void test_memory_move(void)
{
    Device *d = device_open();
    uint32_t *p = map_memory(d), value;
    uint32_t *place = mmap(NULL, 0x4000, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    g_assert_true(place != MAP_FAILED);
    map_fails(mremap(p, 0x4000, 0x8000, MREMAP_MAYMOVE), EFAULT);
    map_fails(mremap(p, 0, 0x4000, MREMAP_MAYMOVE), EFAULT);
    p[0x400] = 0xcafe;
    g_assert_true(mremap((char *)p + 0x1000, 0x2000, 0x2000,
                         MREMAP_MAYMOVE | MREMAP_FIXED, place) == place);
    g_assert_cmphex(place[0], ==, 0xcafe);
    g_assert_true(touch(p, &value));
    if (is(V4 | V5)) {
        memory_space(d, false);
        g_assert_false(touch(p, &value));
        g_assert_false(touch(place, &value));
        memory_space(d, true);
        g_assert_true(touch(place, &value));
        g_assert_cmphex(value, ==, 0xcafe);
    }
    device_close(d);
    ok(munmap(p, 0x1000));
    ok(munmap((char *)p + 0x3000, 0x1000));
    fails(open_group(), EBUSY);
    ok(munmap(place, 0x4000));
    device_close(device_open());
}

/* A mapping keeps the device open, in whatever process it is */
static void test_lifetime_map(void)
{
    Device *d = device_open();
    unsigned index = is(CXL) ? d->mem : d->bar;
    uint32_t *p = map(d, index, 0, 0x3000), value;
    int pipes[2], group;
    pid_t pid;

    g_assert_true(p != MAP_FAILED);
    device_close(d);
    fails(open_group(), EBUSY);
    g_assert_true(touch(p, &value));
    ok(munmap((char *)p + 0x1000, 0x1000));
    ok(munmap(p, 0x1000));
    fails(open_group(), EBUSY);

    ok(pipe(pipes));
    pid = fork();
    if (!pid) {
        close(pipes[1]);
        _exit(read(pipes[0], &value, 1));
    }
    ok(munmap((char *)p + 0x2000, 0x1000));
    fails(open_group(), EBUSY);
    close(pipes[1]);
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
    group = open_group();
    g_assert_cmpint(group, >=, 0);
    close(group);

    device_close(device_open());
}

static void test_lifetime_map_iommufd(void)
{
    SimBindIommufd bind = { .argsz = 16 };
    g_autofree char *dir = g_strdup_printf("/sys/bus/pci/devices/%s/vfio-dev",
                                           host);
    g_autofree char *path = NULL;
    GDir *list = g_dir_open(dir, 0, NULL);
    uint32_t *p, value;
    Device *d;
    int fd;

    if (!list || access("/dev/iommu", F_OK)) {
        skip_case();    /* a kernel without it */
    }
    path = g_strdup_printf("/dev/vfio/devices/%s", g_dir_read_name(list));
    g_dir_close(list);
    d = device_open_by(open_iommufd);
    p = map(d, is(CXL) ? d->mem : d->bar, 0, 0x1000);
    g_assert_true(p != MAP_FAILED);
    device_close(d);
    g_assert_true(touch(p, &value));
    fails(open_group(), EBUSY);
    fd = open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    bind.iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    fails(ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, &bind), EINVAL);
    ok(munmap(p, 0x1000));
    ok(ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, &bind));
    close(fd);
    close(bind.iommufd);
}

/* --- dma-buf ------------------------------------------------------------- */

typedef struct Export {
    uint32_t argsz;
    uint32_t flags;
    uint32_t region;
    uint32_t open_flags;
    uint32_t reserved;
    uint32_t ranges;
    uint64_t range[2][2];
} Export;

#define FEATURE_DMA_BUF 11
#define FEATURE_GET     (1u << 16)
#define FEATURE_PROBE   (1u << 18)

static Export export(unsigned index, uint64_t offset, uint64_t length)
{
    return (Export) {
        .argsz = sizeof(Export), .flags = FEATURE_DMA_BUF | FEATURE_GET,
        .region = index, .open_flags = O_RDWR | O_CLOEXEC, .ranges = 1,
        .range = { { offset, length } },
    };
}

static int export_fd(Device *d, Export e)
{
    return ioctl(d->fd, VFIO_DEVICE_FEATURE, &e);
}

static int map_file(Device *d, int fd, uint64_t start, uint64_t length,
                    uint64_t iova)
{
    struct iommu_ioas_map_file m = {
        .size = sizeof(m), .ioas_id = d->ioas, .fd = fd, .start = start,
        .length = length, .iova = iova,
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
                 IOMMU_IOAS_MAP_WRITEABLE,
    };

    return ioctl(d->container, IOMMU_IOAS_MAP_FILE, &m);
}

static void unmap(Device *d, uint64_t iova, uint64_t length)
{
    struct iommu_ioas_unmap u = {
        .size = sizeof(u), .ioas_id = d->ioas, .iova = iova, .length = length,
    };

    ok(ioctl(d->container, IOMMU_IOAS_UNMAP, &u));
}

static void test_dma_buf_errors(void)
{
    Device *d = device_open();
    unsigned mem = is(CXL) ? d->mem : 9;
    Export e = export(mem, 0, 0x1000);
    uint64_t hole = d->block + CM;

    if (is(V2S) && export_fd(d, e) < 0 && errno == ENOTTY) {
        device_close(d);
        return;
    }
    e.flags = FEATURE_DMA_BUF | FEATURE_GET | FEATURE_PROBE;
    ok(export_fd(d, e));
    if (is(V56)) {
        int fd = export_fd(d, export(mem, 0x1000, d->mem_size - 0x1000));

        g_assert_cmpint(fd, >=, 0);
        close(fd);
        e = export(mem, 0, 0x1000);
        e.ranges = 0;
        fails(export_fd(d, e), EINVAL);
        e = export(mem, 0, 0x1000);
        e.reserved = 1;
        fails(export_fd(d, e), EINVAL);
        fails(export_fd(d, export(mem, 0, 0)), EINVAL);
        fails(export_fd(d, export(mem, 0x800, 0x1000)), EINVAL);
        fails(export_fd(d, export(mem, 0, 0x1800)), EINVAL);
        fails(export_fd(d, export(mem, 0x1000, d->mem_size)), EINVAL);
        fails(export_fd(d, export(d->regs, 0, 0x1000)), EINVAL);
        fails(export_fd(d, export(7, 0, 0x1000)), EINVAL);
    } else {
        fails(export_fd(d, export(mem, 0, 0x1000)), ENODEV);
    }
    if (is(V4)) {
        fails(export_fd(d, export(d->bar, hole, 0x1000)), EINVAL);
    }
    device_close(d);
}

/* v2 on a base that exports BARs */
static void test_dma_buf_exporter(void)
{
    Device *d = device_open();
    int fd;

    fails(export_fd(d, export(d->mem, 0, 0x1000)), ENOTTY);
    control_ok("set %s dma-buf-exporter=1", host);
    fails(export_fd(d, export(d->mem, 0, 0x1000)), ENODEV);
    fd = export_fd(d, export(d->bar, 0, 0x1000));
    g_assert_cmpint(fd, >=, 0);
    close(fd);
    device_close(d);
}

/* An anonymous file, which must not look like a regular one */
static void test_file_type(void)
{
    Device *d = device_open();
    struct stat st;

    ok(fstat(d->fd, &st));
    g_assert_cmphex(st.st_mode & S_IFMT, ==, 0);
    g_assert_cmpint(st.st_size, ==, 0);
    device_close(d);
}

static void test_dma_buf(void)
{
    Device *d = device_open_by(open_iommufd);
    int fd = export_fd(d, export(d->mem, 0, d->mem_size));
    int bar = export_fd(d, export(d->bar, is(V56) ? d->block + 0x2000 : 0,
                                  0x1000));
    uint64_t iova = 1ull << 32, size = d->mem_size;
    Export two = export(d->mem, 0, 0x1000);
    int pair;

    /* A mapping of the region has no pages that could be pinned */
    if (!real) {
        struct iommu_ioas_map m = {
            .size = sizeof(m), .ioas_id = d->ioas, .length = 0x4000,
            .user_va = (uintptr_t)map_memory(d), .iova = iova,
            .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE,
        };

        fails(ioctl(d->container, IOMMU_IOAS_MAP, &m), EFAULT);
    }
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(bar, >=, 0);
    fails(map_file(d, fd, 0x1000, size, iova), EINVAL);
    fails(map_file(d, fd, 0x800, 0x1000, iova), EINVAL);
    ok(map_file(d, fd, 0, size, iova));
    fails(map_file(d, fd, 0, size, iova), EEXIST);
    unmap(d, iova, size);
    ok(map_file(d, bar, 0, 0x1000, iova));
    unmap(d, iova, 0x1000);

    two.ranges = 2;
    two.range[1][0] = 0x8000;
    two.range[1][1] = 0x1000;
    pair = export_fd(d, two);
    g_assert_cmpint(pair, >=, 0);
    fails(map_file(d, pair, 0, 0x1000, iova), EOPNOTSUPP);
    close(pair);

    /* The mapping outlives the descriptor */
    ok(map_file(d, fd, 0x1000, 0x1000, iova));
    close(fd);
    unmap(d, iova, 0x1000);
    device_close(d);
}

/* Memory becomes inaccessible without Memory Space or, if not, in low power */
static void withdraw(Device *d)
{
    if (is(V6)) {
        power(d, 3);
    } else {
        memory_space(d, false);
    }
}

static void give_back(Device *d)
{
    if (is(V6)) {
        power(d, 0);
    } else {
        memory_space(d, true);
    }
}

static void test_dma_buf_revoke(void)
{
    Device *d = device_open_by(open_iommufd);
    int fd = export_fd(d, export(d->mem, 0, d->mem_size)), born;
    uint64_t iova = 1ull << 32, size = d->mem_size;
    int bar = export_fd(d, export(d->bar, d->block + 0x2000, 0x1000));
    g_autofree char *maps = NULL, *again = NULL, *after = NULL;
    const char *at;

    ok(map_file(d, fd, 0, size, iova));
    withdraw(d);
    fails(map_file(d, fd, 0, 0x1000, 0x1000), ENODEV);
    born = export_fd(d, export(d->mem, 0, 0x1000));
    g_assert_cmpint(born, >=, 0);
    fails(map_file(d, born, 0, 0x1000, 0x1000), ENODEV);
    give_back(d);
    ok(map_file(d, born, 0, 0x1000, 0x1000));
    unmap(d, 0x1000, 0x1000);
    /* The buffer is valid again, but mappings made through it are not */
    maps = control("maps");
    g_assert_nonnull(strstr(maps, "\"backing\": \"dma-buf\", "
                                  "\"kind\": \"memory\""));
    g_assert_nonnull(strstr(maps, "\"revoked\": true"));
    unmap(d, iova, size);
    ok(map_file(d, fd, 0, size, iova));
    again = control("maps");
    g_assert_null(strstr(again, "\"revoked\": true"));

    /* A reset revokes those of BARs too */
    ok(map_file(d, bar, 0, 0x1000, 0x1000));
    ok(ioctl(d->fd, VFIO_DEVICE_RESET));
    after = control("maps");
    at = strstr(after, "\"kind\": \"bar\"");
    g_assert_nonnull(at);
    g_assert_nonnull(strstr(at, "\"revoked\": true"));
    g_assert_null(strstr(after, "\"revoked\": false"));
    unmap(d, 0x1000, 0x1000);
    unmap(d, iova, size);
    ok(map_file(d, fd, 0, size, iova));
    unmap(d, iova, size);
    control_ok("fault %s cxl-reset errno=%d count=1", host, EIO);
    fails(ioctl(d->fd, VFIO_DEVICE_RESET), EIO);
    fails(map_file(d, fd, 0, size, iova), ENODEV);
    ok(ioctl(d->fd, VFIO_DEVICE_RESET));
    ok(map_file(d, fd, 0, size, iova));
    device_close(d);

    /* It does not survive its exporter, even if that is opened again */
    d = device_open_by(open_iommufd);
    fails(map_file(d, fd, 0, size, iova), ENODEV);
    close(fd);
    device_close(d);
}

/* Mappings that the user should have removed before */
static void test_stale_maps(void)
{
    Device *d = device_open();
    g_autofree char *none = control("stats %s", host), *some = NULL;
    uint32_t *p = map_memory(d);
    struct vfio_iommu_type1_dma_map m = {
        .argsz = sizeof(m), .vaddr = (uintptr_t)p, .iova = 1ull << 32,
        .size = 0x4000, .flags = VFIO_DMA_MAP_FLAG_READ,
    };

    g_assert_nonnull(strstr(none, "\"stale-maps\": 0"));
    ok(ioctl(d->container, VFIO_IOMMU_MAP_DMA, &m));
    ok(ioctl(d->fd, VFIO_DEVICE_RESET));
    some = control("stats %s", host);
    g_assert_nonnull(strstr(some, "\"stale-maps\": 1"));
    device_close(d);
}

/* Memory that is mapped for DMA by its address is faulted in first */
static void test_page_faults(void)
{
    Device *d = device_open();
    uint64_t size = 16 << 20, page = is(GEOMETRY) ? 2 << 20 : 4096;
    void *p = map(d, d->mem, 0, size);
    struct vfio_iommu_type1_dma_map m = {
        .argsz = sizeof(m), .vaddr = (uintptr_t)p, .iova = 1ull << 32,
        .size = size, .flags = VFIO_DMA_MAP_FLAG_READ,
    };
    struct vfio_iommu_type1_dma_unmap u = {
        .argsz = sizeof(u), .iova = m.iova, .size = size,
    };
    int64_t start;

    g_assert_true(p != MAP_FAILED);
    ok(ioctl(d->container, VFIO_IOMMU_MAP_DMA, &m));
    g_assert_cmpint(stat_of(host, "page-faults"), ==, size / page);
    ok(ioctl(d->container, VFIO_IOMMU_UNMAP_DMA, &u));
    /* They are there now */
    ok(ioctl(d->container, VFIO_IOMMU_MAP_DMA, &m));
    g_assert_cmpint(stat_of(host, "page-faults"), ==, size / page);
    g_assert_cmpint(stat_of(host, "memory-maps"), ==, 2);
    ok(ioctl(d->container, VFIO_IOMMU_UNMAP_DMA, &u));
    /* Until they are mapped again */
    control_ok("set %s fault-ns=%u", host, (unsigned)(page / 16));
    g_assert_true(mmap(p, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                       d->fd, region(d->mem, 0)) == p);
    start = g_get_monotonic_time();
    ok(ioctl(d->container, VFIO_IOMMU_MAP_DMA, &m));
    g_assert_cmpint(g_get_monotonic_time() - start, >=, 1000);
    g_assert_cmpint(stat_of(host, "page-faults"), ==, 2 * size / page);
    device_close(d);
}

/* The device reaches its memory through what was mapped, until a revoke */
static void test_dma_buf_dma(void)
{
    Device *d = device_open_by(open_iommufd);
    int fd = export_fd(d, export(d->mem, 0, d->mem_size));
    uint64_t iova = 1ull << 32;
    uint32_t *p = map_memory(d);
    unsigned bar = VFIO_SIM_REG_BAR, pass;

    set_cfg(d, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
    ok(map_file(d, fd, 0, d->mem_size, iova));
    for (pass = 0; pass < 2; pass++) {
        p[0x400] = 0x1000 + pass;
        put32(d, bar, VFIO_SIM_REG_DMA_SRC, 0x1000);
        put32(d, bar, VFIO_SIM_REG_DMA_DST, 0x2000);
        put32(d, bar, VFIO_SIM_REG_DMA_DST + 4, iova >> 32);
        put32(d, bar, VFIO_SIM_REG_DMA_LEN, 4);
        put32(d, bar, VFIO_SIM_REG_DMA_CTRL,
              VFIO_SIM_DMA_START | VFIO_SIM_DMA_SRC_LOCAL);
        g_assert_cmpint(get32(d, bar, VFIO_SIM_REG_DMA_STATUS), ==,
                        pass ? VFIO_SIM_DMA_FAULT : VFIO_SIM_DMA_DONE);
        g_assert_cmpint(p[0x800], ==, 0x1000);
        withdraw(d);
        give_back(d);
    }
    device_close(d);
}

const Case memory_cases[] = {
    { "memory-fd", test_memory_fd, CXL, false, NULL, NULL },
    { "memory-map", test_memory_map, CXL, false, NULL, NULL },
    { "memory-advice", test_memory_advice, MAPS, false, NULL, NULL },
    { "memory-move", test_memory_move, MAPS, false, NULL, NULL },
    { "lifetime-map", test_lifetime_map, MAPS | NONE, false, NULL, NULL },
    { "lifetime-map-iommufd", test_lifetime_map_iommufd, MAPS | NONE, false,
      NULL, NULL },
    { "dma-buf-errors", test_dma_buf_errors, CXL | NONE, false, NULL, NULL },
    { "dma-buf-exporter", test_dma_buf_exporter, V2S, true, NULL, NULL },
    { "file-type", test_file_type, CXL | NONE, false, NULL, NULL },
    { "dma-buf", test_dma_buf, V56, false, NULL, NULL },
    { "dma-buf-revoke", test_dma_buf_revoke, V56, true, NULL, NULL },
    { "stale-maps", test_stale_maps, CXL & ~V2N, true, NULL, NULL },
    { "page-faults", test_page_faults, MAPS, true, NULL, NULL },
    { "dma-buf-dma", test_dma_buf_dma, V56, true, NULL, NULL },
    { NULL }
};
