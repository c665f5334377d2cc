/*
 * Conformance test of the kernel generations: how long written values last
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test-vfio-kernels.h"
#include "vfio-sim-regs.h"

#define MARK 0x00000001u    /* poison enable, or just a bit */

static void set_mark(Device *d)
{
    set_hdm(d, GLOBAL, hdm(d, GLOBAL) ^ MARK);
}

static void test_lifetime_open(void)
{
    Device *d = device_open();
    uint32_t first = hdm(d, GLOBAL);
    bool survives = is(V3);

    set_mark(d);
    if (is(V2S)) {
        set_hdm(d, BASE_HI, 0x77);
        set_hdm(d, CTRL, hdm(d, CTRL) | LOCK);
    }
    device_close(d);
    d = device_open();
    g_assert_cmpint(hdm(d, GLOBAL), ==, survives ? first ^ MARK : first);
    if (is(V2S)) {
        g_assert_cmpint(hdm(d, BASE_HI), ==, 0);
        g_assert_false(hdm(d, CTRL) & LOCK);
    }
    if (survives) {
        set_mark(d);
    }
    device_close(d);
}

/* From one process to the next */
static void test_lifetime_process(void)
{
    Device *d;
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        d = device_open();
        set_hdm(d, CTRL, 0);
        device_close(d);
        _exit(0);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
    d = device_open();
    g_assert_cmpint(!!(hdm(d, CTRL) & COMMITTED), ==, !is(V3));
    device_close(d);
}

/* Some revisions of v2-reset do not keep the base */
static void reset_once(bool lost)
{
    Device *d = device_open();
    uint32_t first = hdm(d, GLOBAL), ctrl = hdm(d, CTRL), *p = map_memory(d);

    p[0] = 0x11223344;
    set_mark(d);
    if (is(V2S)) {
        set_hdm(d, BASE_LO, 0x50000000);
        set_hdm(d, BASE_HI, 0x77);
        set_hdm(d, CTRL, hdm(d, CTRL) | LOCK);
    } else if (is(V3)) {
        set_hdm(d, CTRL, 0);
    }
    reset(d);
    memory_space(d, true);
    g_assert_cmpint(hdm(d, GLOBAL), ==, is(V3) ? first ^ MARK : first);
    if (is(V2S)) {
        bool keeps = is(V2RS) && !lost;

        /* The revision of a real kernel is not known */
        if (real && is(V2RS)) {
            keeps = hdm(d, BASE_HI);
        }
        g_assert_cmpint(hdm(d, BASE_LO), ==, keeps ? 0x50000000 : 0);
        g_assert_cmpint(hdm(d, BASE_HI), ==, keeps ? 0x77 : 0);
        g_assert_false(hdm(d, CTRL) & LOCK);
        g_assert_true(hdm(d, CTRL) & COMMITTED);
    } else if (is(V3)) {
        g_assert_cmpint(hdm(d, CTRL), ==,
                        ctrl & ~(COMMIT | COMMITTED | LOCK));
    } else {
        g_assert_true(hdm(d, CTRL) & COMMITTED);
        g_assert_cmpint(hdm(d, BASE_HI), ==, host_address(d) >> 32);
    }
    /* Since v5 it is a CXL reset; the device decides what it clears */
    g_assert_true(accessible(p));
    if (!real) {
        g_assert_cmpint(p[0], ==, is(V56) ? 0 : 0x11223344);
    }
    device_close(d);
}

static void test_reset(void)
{
    reset_once(false);
}

static void test_reset_loses_base(void)
{
    Device *d = device_open();

    control_ok("set %s keeps-base=0", host);
    device_close(d);
    reset_once(true);
}

/* Behaviour of one of the vendor's kernels */
static void test_reset_enables(void)
{
    Device *d = device_open();

    memory_space(d, false);
    reset(d);
    g_assert_false(cfg16(d, PCI_COMMAND) & PCI_COMMAND_MEMORY);
    control_ok("set %s reset-enables-memory=1", host);
    reset(d);
    g_assert_true(cfg16(d, PCI_COMMAND) & PCI_COMMAND_MEMORY);
    device_close(d);
}

/* Whether the kernel lets the memory be mapped for DMA: 0 or -errno */
static int map_dma(Device *d, void *p, uint64_t iova)
{
    struct vfio_iommu_type1_dma_map m = {
        .argsz = sizeof(m), .vaddr = (uintptr_t)p, .iova = iova,
        .size = 0x1000, .flags = VFIO_DMA_MAP_FLAG_READ,
    };

    return ioctl(d->container, VFIO_IOMMU_MAP_DMA, &m) ? -errno : 0;
}

/* The decoder does not come back from a reset */
static void test_reset_uncommitted(void)
{
    Device *d = device_open();
    uint32_t *p = map_memory(d), value;
    bool closed = !is(V3);

    g_assert_true(accessible(p));
    control_ok("set %s hardware-committed=0", host);
    reset(d);
    g_assert_cmpint(accessible(p), ==, !closed);
    if (is(V2S | V6)) {
        fails(get(d, d->mem, 0, &value, 4), EIO);
    }
    if (is(V2S)) {
        /* The end is checked first */
        g_assert_cmpint(get(d, d->mem, d->mem_size, &value, 4), ==, 0);
    } else if (is(V5)) {
        /* Let through, without a response */
        g_assert_cmphex(get32(d, d->mem, 0), ==, UINT32_MAX);
    }
    if (!is(V3)) {
        g_assert_cmpint(map_dma(d, p, 0x1000), ==, is(V5) ? 0 : -EFAULT);
    }
    if (is(V2S | GEOMETRY)) {
        g_assert_false(hdm(d, CTRL) & COMMITTED);
    }
    ok(munmap(p, 0x4000));
    device_close(d);
    d = device_open();
    p = map_memory(d);
    g_assert_cmpint(accessible(p), ==, !closed);
    /* With others an open does not check the decoder */
    g_assert_cmpint(map_dma(d, p, 0x2000), ==, is(V2S | V6) ? -EFAULT : 0);
    control_ok("set %s hardware-committed=1", host);
    reset(d);
    g_assert_true(accessible(p));
    device_close(d);
}

static void test_reset_busy(void)
{
    Device *d = device_open();
    uint32_t *p = map_memory(d), value;

    p[0] = 7;
    control_ok("set %s reset-busy=2", host);
    fails(ioctl(d->fd, VFIO_DEVICE_RESET), EAGAIN);
    g_assert_false(accessible(p));
    fails(get(d, d->mem, 0, &value, 4), EIO);
    fails(ioctl(d->fd, VFIO_DEVICE_RESET), EAGAIN);
    ok(ioctl(d->fd, VFIO_DEVICE_RESET));
    g_assert_true(touch(p, &value));
    g_assert_cmpint(value, ==, 0);

    control_ok("fault %s cxl-reset errno=%d count=1", host, EIO);
    fails(ioctl(d->fd, VFIO_DEVICE_RESET), EIO);
    memory_space(d, false);
    memory_space(d, true);
    g_assert_false(accessible(p));
    ok(ioctl(d->fd, VFIO_DEVICE_RESET));
    g_assert_true(accessible(p));
    device_close(d);
}

static void flr(Device *d)
{
    unsigned exp = find_cap(d, PCI_CAP_ID_EXP);

    set_cfg(d, exp + PCI_EXP_DEVCTL,
            cfg16(d, exp + PCI_EXP_DEVCTL) | PCI_EXP_DEVCTL_BCR_FLR, 2);
    g_assert_false(cfg16(d, exp + PCI_EXP_DEVCTL) & PCI_EXP_DEVCTL_BCR_FLR);
}

static void test_flr(void)
{
    Device *d = device_open();
    uint32_t first = hdm(d, GLOBAL), *p = map_memory(d);

    p[0] = 0x55;
    set_mark(d);
    flr(d);
    memory_space(d, true);
    g_assert_cmpint(hdm(d, GLOBAL), ==, is(V3) ? first ^ MARK : first);
    g_assert_true(accessible(p));
    if (!real) {
        g_assert_cmpint(p[0], ==, is(V56) ? 0 : 0x55);
    }
    device_close(d);
}

/* After a failed reset nothing is accessible */
static void test_reset_fails(void)
{
    Device *d = device_open();
    uint32_t *p = map_memory(d);

    for (int i = 0; i < 2; i++) {
        if (i) {
            control_ok("fault %s flr errno=%d count=1", host, EIO);
            flr(d);
        } else {
            control_ok("fault %s device_reset errno=%d count=1", host, EIO);
            fails(ioctl(d->fd, VFIO_DEVICE_RESET), EIO);
        }
        memory_space(d, true);
        g_assert_false(accessible(p));
        reset(d);
        memory_space(d, true);
        g_assert_true(accessible(p));
    }
    device_close(d);
}

static int hot_reset(Device *d)
{
    struct {
        struct vfio_pci_hot_reset head;
        int32_t fd;
    } arg = { { .argsz = sizeof(arg), .count = 1 }, d->group };

    return ioctl(d->fd, VFIO_DEVICE_PCI_HOT_RESET, &arg);
}

/* Since v5 the port hides a hot reset from the device by default */
static void test_hot_reset(void)
{
    Device *d = device_open();
    uint32_t *p = map_memory(d);

    p[0] = 0x66;
    put32(d, VFIO_SIM_REG_BAR, VFIO_SIM_REG_SCRATCH, 1);
    ok(hot_reset(d));
    g_assert_true(accessible(p));
    g_assert_cmpint(p[0], ==, 0x66);
    g_assert_cmpint(get32(d, VFIO_SIM_REG_BAR, VFIO_SIM_REG_SCRATCH), ==,
                    is(V56) ? 1 : 0);
    if (is(V56)) {
        control_ok("set %s sbr-unmasked=1", host);
        ok(hot_reset(d));
        g_assert_false(accessible(p));
        ok(ioctl(d->fd, VFIO_DEVICE_RESET));
        g_assert_true(accessible(p));
    }
    device_close(d);
}

static void test_power(void)
{
    Device *d = device_open();
    unsigned pm = find_cap(d, PCI_CAP_ID_PM) + PCI_PM_CTRL;
    uint32_t *p = map_memory(d), first = hdm(d, GLOBAL);

    p[0] = 0x99;
    set_mark(d);
    power(d, 3);
    g_assert_cmpint(cfg16(d, pm) & 3, ==, is(V5) ? 0 : 3);
    if (!real || is(V5)) {
        g_assert_cmpint(accessible(p), ==, !is(V4 | V6));
    }
    power(d, 0);
    memory_space(d, true);
    g_assert_true(accessible(p));
    /* v4 looks at the hardware again, the newer ones always do */
    g_assert_cmpint(hdm(d, GLOBAL), ==, is(GEOMETRY) ? first : first ^ MARK);
    device_close(d);
}

const Case reset_cases[] = {
    { "lifetime-open", test_lifetime_open, CXL, false, NULL, NULL },
    { "lifetime-process", test_lifetime_process, CXL, true, NULL, NULL },
    { "reset", test_reset, MAPS, false, NULL, NULL },
    { "reset-loses-base", test_reset_loses_base, V2R, true, NULL, NULL },
    { "reset-enables-memory", test_reset_enables, V2R, true, NULL, NULL },
    { "reset-uncommitted", test_reset_uncommitted, MAPS, true, NULL, NULL },
    { "reset-busy", test_reset_busy, V56, true, NULL, NULL },
    { "flr", test_flr, MAPS, false, NULL, NULL },
    { "reset-fails", test_reset_fails, MAPS, true, NULL, NULL },
    { "hot-reset", test_hot_reset, GEOMETRY, true, NULL, NULL },
    { "power", test_power, MAPS, false, NULL, NULL },
    { NULL }
};
