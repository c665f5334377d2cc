/*
 * Conformance test of the kernel generations: discovery by user space
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "test-vfio-kernels.h"

static void test_info(void)
{
    uint8_t buf[256] __attribute__((aligned(8))) = { 0 };
    SimDeviceInfo *info = (void *)buf;
    Device *d = device_open();
    unsigned full = 24 + kernel->cap;
    uint8_t *cap;

    info->argsz = 12;
    fails(ioctl(d->fd, VFIO_DEVICE_GET_INFO, info), EINVAL);

    info->argsz = 16;
    ok(ioctl(d->fd, VFIO_DEVICE_GET_INFO, info));
    g_assert_true(info->flags & VFIO_DEVICE_FLAGS_PCI);
    g_assert_true(info->flags & VFIO_DEVICE_FLAGS_RESET);
    g_assert_cmpint(!!(info->flags & 1 << 9), ==, is(CXL));
    g_assert_cmpint(info->num_regions, >=, is(CXL) ? 11 : 9);

    memset(buf, 0, sizeof(buf));
    info->argsz = 24;
    ok(ioctl(d->fd, VFIO_DEVICE_GET_INFO, info));
    g_assert_cmpint(info->cap_offset, ==, 0);
    if (!kernel->cap) {
        g_assert_false(info->flags & VFIO_DEVICE_FLAGS_CAPS);
        g_assert_cmpint(info->argsz, ==, 24);
        device_close(d);
        return;
    }
    g_assert_true(info->flags & VFIO_DEVICE_FLAGS_CAPS);
    g_assert_cmpint(info->argsz, ==, full);

    info->argsz = sizeof(buf);
    ok(ioctl(d->fd, VFIO_DEVICE_GET_INFO, info));
    g_assert_cmpint(info->argsz, ==, sizeof(buf));
    cap = info_cap(buf, info->cap_offset, 6);
    g_assert_nonnull(cap);
    if (is(V2S)) {
        g_assert_cmpint(cap[8], ==, d->bar);
        g_assert_cmpint(cap[9] | cap[10] | cap[11], ==, 0);
        g_assert_cmpint(*(uint32_t *)(cap + 12) & ~2u, ==, 1);
        g_assert_cmpint(!!(cap[12] & 2), ==, cfg16(d, d->dvsec + 0x0a) & 1);
        g_assert_cmpint(*(uint64_t *)(cap + 16), ==, d->block + CM);
        g_assert_cmpint(*(uint32_t *)(cap + 24), ==, d->mem);
        g_assert_cmpint(*(uint32_t *)(cap + 28), ==, d->regs);
    } else {
        g_assert_cmpint(*(uint32_t *)(cap + 8), ==, 1);
        g_assert_cmpint(*(uint32_t *)(cap + 12), ==, d->mem);
        g_assert_cmpint(*(uint32_t *)(cap + 16), ==, d->regs);
        g_assert_cmpint(*(uint32_t *)(cap + 20), ==, d->bar);
        g_assert_cmpint(*(uint32_t *)(cap + 24), ==, 0);
        g_assert_cmpint(*(uint64_t *)(cap + 32), ==, d->block);
        g_assert_cmpint(*(uint64_t *)(cap + 40), ==, BLOCK_SIZE);
    }
    device_close(d);
}

static void test_regions(void)
{
    Device *d = device_open();
    g_autofree struct vfio_region_info *mem = region_info(d, d->mem);
    g_autofree struct vfio_region_info *regs = region_info(d, d->regs);
    struct vfio_region_info_cap_type *type;
    uint8_t buf[512] __attribute__((aligned(8))) = { 0 };
    struct vfio_region_info *small = (void *)buf;
    unsigned rw = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    unsigned caps = VFIO_REGION_INFO_FLAG_CAPS;
    uint64_t size = hdm(d, SIZE_LO) | (uint64_t)hdm(d, SIZE_HI) << 32;
    unsigned count = hdm(d, CAPABILITY) & 0xf;
    unsigned block = 0x10 + 0x20 * (count ? 2 * count : 1);

    if (!real) {
        g_assert_cmpint(d->mem, ==, kernel->mem);
        g_assert_cmpint(d->regs, ==, kernel->regs);
    }
    g_assert_cmpint(mem->flags, ==, rw | caps |
                    (is(V2N) ? 0 : VFIO_REGION_INFO_FLAG_MMAP));
    g_assert_cmpint(regs->flags, ==, rw | caps);
    g_assert_cmpint(mem->size, ==, size);
    g_assert_cmpint(mem->size % MIB256, ==, 0);
    g_assert_cmpint(mem->offset, ==, region(d->mem, 0));
    g_assert_cmpint(regs->size, ==, is(V2S) ? d->hdm + block :
                                    is(V3) ? BLOCK_SIZE : block);
    g_assert_cmpint(regs->size, ==, d->regs_size);

    /* Too little room: only how much it takes */
    small->argsz = 31;
    small->index = d->mem;
    fails(ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, small), EINVAL);
    small->argsz = 32;
    ok(ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, small));
    g_assert_cmpint(small->argsz, ==, 48);
    g_assert_cmpint(small->cap_offset, ==, 0);
    g_assert_true(small->flags & caps);
    memset(buf, 0, sizeof(buf));
    small->argsz = 33;
    small->index = d->regs;
    ok(ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, small));
    g_assert_cmpint(small->argsz, >=, is(GEOMETRY) ? 64 : 48);
    if (!is(GEOMETRY)) {
        g_assert_cmpint(small->argsz, ==, 48);
        type = info_cap(regs, regs->cap_offset, VFIO_REGION_INFO_CAP_TYPE);
        g_assert_cmpint(type->header.next, ==, 0);
    }
    small->argsz = sizeof(buf);
    small->index = 4000;
    fails(ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, small), EINVAL);
    device_close(d);
}

/* The capability whose id and layout are not settled */
static void test_geometry(void)
{
    Device *d = device_open();
    g_autofree struct vfio_region_info *regs = region_info(d, d->regs);
    struct vfio_region_info_cap_type *type =
        info_cap(regs, regs->cap_offset, VFIO_REGION_INFO_CAP_TYPE);
    const char *form = g_getenv("GEOMETRY_FORM");
    unsigned id = g_getenv("GEOMETRY_ID") ?
                  atoi(g_getenv("GEOMETRY_ID")) : 6;
    uint64_t want = d->block + CM + d->hdm;
    uint8_t *cap = (uint8_t *)regs + type->header.next;

    g_assert_cmpint(regs->cap_offset, ==, 32);
    g_assert_cmpint(type->header.next, ==, 48);
    g_assert_cmpint(*(uint16_t *)cap, ==, id);
    g_assert_cmpint(*(uint16_t *)(cap + 2), ==, 1);
    g_assert_cmpint(*(uint32_t *)(cap + 4), ==, 0);
    g_assert_cmpint(*(uint32_t *)(cap + 8), ==, d->bar);
    if (form && !strcmp(form, "u32")) {
        g_assert_cmpint(*(uint32_t *)(cap + 12), ==, want);
    } else {
        g_assert_cmpint(*(uint64_t *)(cap + 16), ==, want);
    }
    /* The array in the BAR leads to the region */
    g_assert_cmpint(get32(d, d->bar, d->block + CM) & 0xffff, ==, 1);
    device_close(d);
}

/* Devices that are not quite as the kernel expects */
static void test_bind(void)
{
    SimDeviceInfo info = { .argsz = sizeof(info) };
    Device d = { 0 };

    if (is(V3)) {
        g_assert_cmpint(open("/dev/vfio/1", O_RDWR), ==, -1);
        g_assert_cmpint(errno, ==, ENOENT);
        g_assert_cmpint(open("/dev/vfio/devices/vfio0", O_RDWR), ==, -1);
        g_assert_cmpint(errno, ==, ENOENT);
        return;
    }
    open_legacy(&d);
    g_assert_cmpint(d.fd, >=, 0);
    ok(ioctl(d.fd, VFIO_DEVICE_GET_INFO, &info));
    g_assert_false(info.flags & 1 << 9);
    g_assert_cmpint(info.num_regions, ==, 9);
}

static void test_none(void)
{
    Device *d = device_open();
    g_autofree struct vfio_region_info *bar = region_info(d, d->bar);
    uint8_t *p = map(d, d->bar, 0, bar->size);
    uint32_t value;

    g_assert_null(region_info(d, 9));
    g_assert_cmpint(errno, ==, EINVAL);
    g_assert_cmpint(bar->flags & VFIO_REGION_INFO_FLAG_CAPS, ==, 0);
    g_assert_true(p != MAP_FAILED);
    value = get32(d, d->bar, d->block + CM);
    g_assert_cmpint(value & 0xffff, ==, 1);
    g_assert_cmpint(*(uint32_t *)(p + d->block + CM), ==, value);
    *(uint32_t *)(p + d->block + CM) = 0;
    reset(d);
    g_assert_cmpint(*(uint32_t *)(p + d->block + CM), ==, value);
    g_assert_true(map(d, 9, 0, 4096) == MAP_FAILED);
    fails(get(d, 9, 0, &value, 4), EINVAL);
    device_close(d);
}

/* --- the BAR with the component registers -------------------------------- */

static void test_bar_areas(void)
{
    Device *d = device_open();
    g_autofree struct vfio_region_info *bar = region_info(d, d->bar);
    struct vfio_region_info_cap_sparse_mmap *sparse =
        info_cap(bar, bar->cap_offset, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
    uint64_t page = getauxval(AT_PAGESZ);
    uint64_t start = d->block, end = d->block + BLOCK_SIZE, at = 0;
    unsigned i, want;

    if (is(GEOMETRY)) {
        start += CM + d->hdm;
        end = (start + d->regs_size + page - 1) / page * page;
        start = start / page * page;
    }
    want = (start > 0) + (end < bar->size);
    g_assert_true(bar->flags & VFIO_REGION_INFO_FLAG_MMAP);
    g_assert_nonnull(sparse);
    g_assert_cmpint(sparse->nr_areas, ==, want);
    for (i = 0; i < want; i++) {
        uint64_t off = sparse->areas[i].offset, size = sparse->areas[i].size;
        uint8_t *p = map(d, d->bar, off, size);

        at = at == 0 && start > 0 ? 0 : end;
        g_assert_cmpint(off, ==, at);
        g_assert_cmpint(off + size, ==, at == 0 && start > 0 ? start :
                                                               bar->size);
        g_assert_true(p != MAP_FAILED);
        g_assert_true(accessible(p));
        munmap(p, size);
        at = off + size;
    }
    g_assert_true(map(d, d->bar, start, page) == MAP_FAILED);
    g_assert_cmpint(errno, ==, EINVAL);
    g_assert_true(map(d, d->bar, end - page, page) == MAP_FAILED);
    g_assert_true(map(d, d->bar, 0, bar->size) == MAP_FAILED);
    g_assert_cmpint(errno, ==, EINVAL);
    device_close(d);
}

static void test_bar_hole(void)
{
    Device *d = device_open();
    uint64_t reg = d->block + CM + d->hdm;
    uint64_t edge = is(V3) ? d->block : reg;
    uint8_t buf[16];
    uint32_t value = 0x12345678;

    if (is(V2S)) {
        /* It is not stopped: this is the hardware, with the host's address */
        g_assert_cmpint(get32(d, d->bar, reg + SIZE_HI), ==, hdm(d, SIZE_HI));
        g_assert_true(get32(d, d->bar, reg + CTRL) & COMMITTED);
    } else if (is(V3 | V4)) {
        fails(get(d, d->bar, reg, &value, 4), EINVAL);
        fails(put(d, d->bar, reg, &value, 4), EINVAL);
        fails(get(d, d->bar, reg + 0x2e, &value, 2), EINVAL);
        if (edge >= 8) {
            fails(get(d, d->bar, edge - 4, buf, 8), EINVAL);
            g_assert_cmpint(get(d, d->bar, edge - 4, buf, 4), ==, 4);
        }
    } else {
        uint32_t before = hdm(d, GLOBAL);

        g_assert_cmpint(get32(d, d->bar, reg + CTRL), ==, 0xffffffff);
        put32(d, d->bar, reg + GLOBAL, ~before);
        g_assert_cmpint(hdm(d, GLOBAL), ==, before);
        /* Only those bytes */
        g_assert_cmpint(get(d, d->bar, reg - 8, buf, 16), ==, 16);
        g_assert_cmpint(memcmp(buf + 8, "\xff\xff\xff\xff\xff\xff\xff\xff",
                               8), ==, 0);
        g_assert_cmpint(get(d, d->bar, reg + d->regs_size - 4, buf, 8), ==, 8);
    }
    if (is(V3)) {
        fails(get(d, d->bar, d->block + CM, &value, 4), EINVAL);
        fails(get(d, d->bar, d->block + BLOCK_SIZE - 4, &value, 4),
              EINVAL);
    } else {
        g_assert_cmpint(get32(d, d->bar, d->block + CM) & 0xffff, ==, 1);
    }

    /* Like any BAR while Memory Space is off */
    if (!is(V3)) {
        memory_space(d, false);
        fails(get(d, d->bar, d->block + CM, &value, 4), EIO);
        fails(put(d, d->bar, d->block + CM, &value, 4), EIO);
        memory_space(d, true);
    }
    fails(get(d, d->bar, d->bar_size, &value, 4), EINVAL);
    device_close(d);
}

const Case discovery_cases[] = {
    { "info", test_info, CXL | NONE, false, NULL, NULL },
    { "regions", test_regions, CXL, false, NULL, NULL },
    { "regions-4g", test_regions, CXL, true, "--memory=4G", NULL },
    { "geometry", test_geometry, GEOMETRY, false, NULL, NULL },
    { "geometry-u32", test_geometry, GEOMETRY, true,
      "--geometry-id=9 --geometry-form=u32",
      "GEOMETRY_ID=9 GEOMETRY_FORM=u32" },
    { "uncommitted", test_bind, CXL, true, "--decoder=uncommitted", NULL },
    { "interleaved", test_bind, V3 | GEOMETRY, true, "--decoder=interleaved",
      NULL },
    { "two-decoders", test_bind, V3 | GEOMETRY, true, "--decoders=2", NULL },
    { "inactive", test_bind, V6, true, "--inactive", NULL },
    { "plain", test_none, NONE, false, NULL, NULL },
    { "bar-areas-a", test_bar_areas, CXL, false, "--topology=A", NULL },
    { "bar-areas-b", test_bar_areas, CXL, true, "--topology=B", NULL },
    { "bar-areas-c", test_bar_areas, CXL, true, "--topology=C", NULL },
    { "bar-hole-a", test_bar_hole, CXL, false, "--topology=A", NULL },
    { "bar-hole-b", test_bar_hole, CXL, true, "--topology=B", NULL },
    { "bar-hole-c", test_bar_hole, CXL, true, "--topology=C", NULL },
    { NULL }
};
