/*
 * Conformance test of the kernel generations: the CXL Device DVSEC
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "test-vfio-kernels.h"
#include "vfio-sim-regs.h"

static uint16_t dvsec(Device *d, unsigned reg)
{
    return cfg16(d, d->dvsec + reg);
}

static void set_dvsec(Device *d, unsigned reg, uint32_t value, unsigned size)
{
    set_cfg(d, d->dvsec + reg, value, size);
}

/* The two revisions split an access differently */
static void v2_dvsec_sizes(Device *d)
{
    bool fields = is(V2RS);

    set_dvsec(d, CONTROL, 0xffff, 2);
    /* A dword is its low half, a byte has a high half of zero */
    set_dvsec(d, CONTROL, 0xffff0707, 4);
    g_assert_cmpint(dvsec(d, CONTROL), ==, 0x0707);
    set_dvsec(d, CONTROL, 0x03, 1);
    g_assert_cmpint(dvsec(d, CONTROL), ==, fields ? 0x0703 : 0x0003);
    set_dvsec(d, CONTROL + 1, 0x04, 1);
    g_assert_cmpint(dvsec(d, CONTROL), ==, fields ? 0x0403 : 0x0003);
    if (fields) {
        uint8_t high;

        g_assert_cmpint(get(d, VFIO_PCI_CONFIG_REGION_INDEX,
                            d->dvsec + CONTROL + 1, &high, 1), ==, 1);
        g_assert_cmpint(high, ==, 0x04);
    }
    set_dvsec(d, CONTROL, 7, 2);
}

static void v2_status2(Device *d)
{
    uint16_t init = dvsec(d, STATUS2) & 1 << 15;

    /*
     * The high half of a dword reaches the register, if anything does; what
     * comes of it a real device decides
     */
    set_dvsec(d, CONTROL2, 1u << 31, 4);
    if (!real || is(V2)) {
        g_assert_cmpint(dvsec(d, STATUS2) & 1 << 15, ==, is(V2RS) ? 0 : init);
    }
}

static void v2_dvsec(Device *d)
{
    uint32_t base = cfg32(d, d->dvsec + BASE1_HI);

    set_dvsec(d, CONTROL, 0xffff, 2);
    g_assert_cmpint(dvsec(d, CONTROL), ==, 0x4fff);
    set_dvsec(d, CONTROL, 0, 2);
    g_assert_cmpint(dvsec(d, CONTROL), ==, 2);
    v2_dvsec_sizes(d);
    v2_status2(d);
    set_dvsec(d, STATUS, 0xffff, 2);
    g_assert_cmpint(dvsec(d, STATUS) & 1 << 14, ==, 0);
    /* Doorbells are not kept */
    set_dvsec(d, CONTROL2, 0x0b, 2);
    g_assert_cmpint(dvsec(d, CONTROL2), ==, 0x09);
    /* Bits of what the device is not capable of are dropped */
    set_dvsec(d, CONTROL2, 0x30, 2);
    g_assert_cmpint(dvsec(d, CONTROL2), ==,
                    (dvsec(d, CAPABILITY3) & 8 ? 0x10 : 0) |
                    (dvsec(d, CAPABILITY2) & 8 ? 0x20 : 0));
    set_dvsec(d, CONTROL2, 0, 2);
    set_dvsec(d, BASE1_HI, ~base, 4);
    g_assert_cmpint(cfg32(d, d->dvsec + BASE1_HI), ==, base);
    set_dvsec(d, CONFIG_LOCK, 0xffff, 2);
    g_assert_cmpint(dvsec(d, CONFIG_LOCK), ==, 1);
    set_dvsec(d, CONFIG_LOCK, 0, 2);
    g_assert_cmpint(dvsec(d, CONFIG_LOCK), ==, 1);
    set_dvsec(d, CONTROL, 0, 2);
    g_assert_cmpint(dvsec(d, CONTROL), ==, 0x0007);
}

static void v3_dvsec(Device *d)
{
    uint32_t base = cfg32(d, d->dvsec + BASE1_HI);

    set_dvsec(d, CONTROL, 0xf0f0, 2);
    g_assert_cmpint(dvsec(d, CONTROL), ==, 0xf0f0);
    set_dvsec(d, CONTROL, 0x0f, 1);
    g_assert_cmpint(dvsec(d, CONTROL), ==, 0xf00f);
    set_dvsec(d, CONTROL, 0x12345678, 4);
    g_assert_cmpint(dvsec(d, CONTROL), ==, 0x5678);
    /* Stored, without any effect */
    set_dvsec(d, CONTROL2, 0x0006, 2);
    g_assert_cmpint(dvsec(d, CONTROL2), ==, 0x0006);
    g_assert_cmpint(dvsec(d, STATUS2) & 6, ==, 0);
    set_dvsec(d, BASE1_HI, ~base, 4);
    g_assert_cmpint(cfg32(d, d->dvsec + BASE1_HI), ==, base);
    set_dvsec(d, CONFIG_LOCK, 1, 2);
    g_assert_cmpint(dvsec(d, CONFIG_LOCK), ==, 1);
    set_dvsec(d, CONFIG_LOCK, 0, 2);
    g_assert_cmpint(dvsec(d, CONFIG_LOCK), ==, 1);
    set_dvsec(d, CONTROL, 0, 2);
    set_dvsec(d, CONTROL2, 0, 2);
    g_assert_cmpint(dvsec(d, CONTROL), ==, 0x5678);
    g_assert_cmpint(dvsec(d, CONTROL2), ==, 0x0006);
    /* The copy belongs to the driver, not to the open file */
    device_close(d);
    d = device_open();
    g_assert_cmpint(dvsec(d, CONTROL), ==, 0x5678);
    device_close(d);
}

static void v4_dvsec(Device *d)
{
    uint16_t old = dvsec(d, CONTROL);
    uint32_t base = cfg32(d, d->dvsec + BASE1_HI);

    set_dvsec(d, CONTROL, old ^ 1, 2);
    g_assert_cmpint(dvsec(d, CONTROL), ==, old ^ 1);
    if (is(V4)) {
        set_dvsec(d, CONTROL, 0, 2);
        g_assert_cmpint(dvsec(d, CONTROL), ==, 4);
    }
    set_dvsec(d, CONFIG_LOCK, 1, 2);
    g_assert_cmpint(dvsec(d, CONFIG_LOCK) & 1, ==, 0);
    set_dvsec(d, BASE1_HI, ~base, 4);
    g_assert_cmpint(cfg32(d, d->dvsec + BASE1_HI), ==, base);
    set_dvsec(d, 0x0a, 0, 2);
    g_assert_cmpint(dvsec(d, 0x0a), !=, 0);
    device_close(d);
    d = device_open();
    g_assert_cmpint(dvsec(d, CONTROL), ==, old);
    device_close(d);
}

static void test_dvsec(void)
{
    Device *d = device_open();

    if (is(V2S)) {
        v2_dvsec(d);
        device_close(d);
    } else if (is(V3)) {
        v3_dvsec(d);
    } else {
        v4_dvsec(d);
    }
}

/* Handling of a guest's request for a CXL reset */
static void test_cxl_reset(void)
{
    Device *d = device_open();
    uint32_t *p = map_memory(d);
    bool stamped = is(V2R | V2N | GEOMETRY), runs = is(V2R | V2N | V4);
    uint64_t before;

    p[0] = 0x44;
    put32(d, VFIO_SIM_REG_BAR, VFIO_SIM_REG_SCRATCH, 1);
    before = stat_of(host, "cxl-resets");
    set_dvsec(d, CONTROL2, 4, 2);
    g_assert_cmpint(!!(dvsec(d, STATUS2) & 2), ==, stamped);
    g_assert_cmpint(dvsec(d, STATUS2) & 4, ==, 0);
    g_assert_cmpint(dvsec(d, CONTROL2) & 4, ==, is(V3) ? 4 : 0);
    g_assert_cmpint(stat_of(host, "cxl-resets") - before, ==, runs);
    memory_space(d, true);
    g_assert_cmpint(get32(d, VFIO_SIM_REG_BAR, VFIO_SIM_REG_SCRATCH), ==,
                    !runs);
    g_assert_true(accessible(p));
    g_assert_cmpint(p[0], ==, 0x44);
    device_close(d);
}

static void test_cxl_reset_fails(void)
{
    Device *d = device_open();
    uint32_t *p = map_memory(d);

    control_ok("fault %s cxl-reset errno=%d count=1", host, EIO);
    set_dvsec(d, CONTROL2, 4, 2);
    g_assert_cmpint(dvsec(d, STATUS2) & 6, ==, 4);
    /* v2 continues as after a successful one */
    g_assert_cmpint(accessible(p), ==, is(V2R));
    reset(d);
    g_assert_true(accessible(p));
    device_close(d);
}

/* Write-back and invalidation of the cache */
static void test_cache(void)
{
    Device *d = device_open();

    if (!(dvsec(d, 0x0a) & 1 << 6)) {
        /* Nothing to write back, nothing to report */
        set_dvsec(d, CONTROL2, 3, 2);
        g_assert_cmpint(dvsec(d, CONTROL2) & 2, ==, 0);
        set_dvsec(d, CONTROL2, 0, 2);
        device_close(d);
        return;
    }
    set_dvsec(d, CONTROL2, 3, 2);
    g_assert_cmpint(dvsec(d, CONTROL2) & 2, ==, 0);
    /* A real cache takes its time */
    for (int i = 0; real && i < 100 && !(dvsec(d, STATUS2) & 1); i++) {
        g_usleep(10 * 1000);
    }
    g_assert_cmpint(dvsec(d, STATUS2) & 1, ==, 1);
    /* v2 forwards nothing without the doorbell, not even clearing the bit */
    set_dvsec(d, CONTROL2, 0, 2);
    g_assert_cmpint(dvsec(d, CONTROL2) & 1, ==, 0);
    g_assert_cmpint(dvsec(d, STATUS2) & 1, ==, is(V56) ? 0 : 1);
    set_dvsec(d, CONTROL2, 2, 2);
    g_assert_cmpint(dvsec(d, STATUS2) & 1, ==, is(V56) ? 1 : 0);
    device_close(d);
}

const Case dvsec_cases[] = {
    { "dvsec", test_dvsec, CXL, false, NULL, NULL },
    { "cxl-reset", test_cxl_reset, MAPS, true, NULL, NULL },
    { "cxl-reset-fails", test_cxl_reset_fails, V2R | V4, true, NULL, NULL },
    { "cache", test_cache, V2S | V56, false, NULL, NULL },
    { NULL }
};
