/*
 * Conformance test of the kernel generations: the registers' region
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include <sys/mman.h>

#include "test-vfio-kernels.h"

static void test_registers_access(void)
{
    Device *d = device_open();
    uint64_t size = d->regs_size;
    uint32_t buf[16] = { 0 };
    unsigned base = reg_off(d, 0);
    bool multi = !is(V2S), clamp = !is(V3);

    g_assert_cmpint(get(d, d->regs, base, buf, 0), ==, 0);
    g_assert_cmpint(get(d, d->regs, base, buf, 4), ==, 4);
    fails(get(d, d->regs, base, buf, 1), EINVAL);
    fails(get(d, d->regs, base, buf, 2), EINVAL);
    fails(get(d, d->regs, base, buf, 6), EINVAL);
    fails(get(d, d->regs, base + 2, buf, 4), EINVAL);
    fails(put(d, d->regs, base + 4, buf, 2), EINVAL);
    fails(get(d, d->regs, size, buf, 4), EINVAL);
    fails(get(d, d->regs, size + 64, buf, 4), EINVAL);
    if (multi) {
        g_assert_cmpint(get(d, d->regs, base, buf, 0x30), ==, 0x30);
        g_assert_cmpint(buf[CTRL / 4], ==, hdm(d, CTRL));
    } else {
        fails(get(d, d->regs, base, buf, 8), EINVAL);
    }
    if (clamp) {
        g_assert_cmpint(get(d, d->regs, size - 4, buf, 8), ==, 4);
    } else {
        fails(get(d, d->regs, size - 4, buf, 8), EINVAL);
    }
    g_assert_true(map(d, d->regs, 0, 4096) == MAP_FAILED);
    g_assert_cmpint(errno, ==, EINVAL);

    if (is(V2S | V3)) {
        unsigned array = is(V3) ? CM : 0;
        uint32_t head = get32(d, d->regs, array);

        g_assert_cmpint(head & 0xffff, ==, 1);
        put32(d, d->regs, array, ~head);
        g_assert_cmpint(get32(d, d->regs, array), ==, head);
    }
    if (is(V3)) {
        uint64_t at;

        for (at = 0; at < CM; at += 4) {
            g_assert_cmpint(get32(d, d->regs, at), ==, 0);
        }
        for (at = CM + d->hdm + 0x30; at < size; at += at < 2 * CM ? 4 : 64) {
            put32(d, d->regs, at, 0xffffffff);
            g_assert_cmpint(get32(d, d->regs, at), ==, 0);
        }
    }
    device_close(d);
}

static void test_hdm_initial(void)
{
    Device *d = device_open();
    uint32_t ctrl = hdm(d, CTRL);
    uint64_t base = hdm(d, BASE_LO) | (uint64_t)hdm(d, BASE_HI) << 32;

    g_assert_true(ctrl & COMMIT);
    g_assert_true(ctrl & COMMITTED);
    g_assert_false(ctrl & ERROR);
    g_assert_cmpint(ctrl >> 4 & 0xf, ==, 0);
    if (is(V2S)) {
        g_assert_false(ctrl & LOCK);
        g_assert_cmpint(base, ==, 0);
    } else {
        g_assert_true(ctrl & LOCK);
        g_assert_cmpint(base, ==, host_address(d));
    }
    device_close(d);
}

static void v2_writes(Device *d)
{
    uint32_t cap = hdm(d, CAPABILITY), ctrl = hdm(d, CTRL), value;
    unsigned i;

    for (i = 0; i < 2; i++) {
        set_hdm(d, 0x08 + 4 * i, 0xffffffff);
        g_assert_cmpint(hdm(d, 0x08 + 4 * i), ==, 0);
    }
    set_hdm(d, CAPABILITY, ~cap);
    g_assert_cmpint(hdm(d, CAPABILITY), ==, cap);
    set_hdm(d, GLOBAL, 0xffffffff);
    g_assert_cmpint(hdm(d, GLOBAL), ==, cap & 1 << 10 ? 3 : 2);
    value = hdm(d, TARGET_LO);
    set_hdm(d, TARGET_LO, ~value);
    g_assert_cmpint(hdm(d, TARGET_LO), ==, value);
    set_hdm(d, RESERVED, 0xffffffff);
    g_assert_cmpint(hdm(d, RESERVED), ==, 0);

    /* COMMITTED does not keep BASE from being written */
    set_hdm(d, BASE_LO, 0x5fffffff);
    set_hdm(d, BASE_HI, 0x12345678);
    g_assert_cmpint(hdm(d, BASE_LO), ==, 0x50000000);
    g_assert_cmpint(hdm(d, BASE_HI), ==, 0x12345678);
    g_assert_cmpint(hdm(d, CTRL), ==, ctrl);

    set_hdm(d, CTRL, ctrl | LOCK);
    g_assert_cmpint(hdm(d, CTRL), ==, ctrl | LOCK);
    set_hdm(d, BASE_LO, 0);
    set_hdm(d, BASE_HI, 0);
    set_hdm(d, SIZE_HI, 0x99);
    g_assert_cmpint(hdm(d, BASE_LO), ==, 0x50000000);
    g_assert_cmpint(hdm(d, BASE_HI), ==, 0x12345678);
    g_assert_cmpint(hdm(d, SIZE_HI), !=, 0x99);
    set_hdm(d, CTRL, LOCK);
    g_assert_cmpint(hdm(d, CTRL), ==, ctrl | LOCK);
    set_hdm(d, CTRL, 0);        /* only unlocks */
    g_assert_cmpint(hdm(d, CTRL), ==, ctrl);

    set_hdm(d, CTRL, 0);
    g_assert_cmpint(hdm(d, CTRL) & (COMMIT | COMMITTED | LOCK), ==, 0);
    set_hdm(d, CTRL, 0xffffffff & ~LOCK);
    value = hdm(d, CTRL);
    g_assert_true(value & COMMITTED);
    g_assert_cmpint(value & (ERROR | 1u << 15 | 0xf0ff0000), ==, 0);
    set_hdm(d, CTRL, COMMIT | LOCK);
    g_assert_cmpint(hdm(d, CTRL) & (COMMIT | COMMITTED | LOCK), ==,
                    COMMIT | COMMITTED | LOCK);
}

static void v3_writes(Device *d)
{
    uint32_t cap = hdm(d, CAPABILITY), ctrl = hdm(d, CTRL);
    uint32_t base = hdm(d, BASE_LO);

    set_hdm(d, CAPABILITY, ~cap);
    g_assert_cmpint(hdm(d, CAPABILITY), ==, cap);
    set_hdm(d, 0x08, 0xffffffff);
    g_assert_cmpint(hdm(d, 0x08), ==, 0);
    set_hdm(d, GLOBAL, 0xdeadbeef);
    g_assert_cmpint(hdm(d, GLOBAL), ==, 0xdeadbeef);
    set_hdm(d, TARGET_LO, 0x11223344);
    set_hdm(d, RESERVED, 0x55667788);
    g_assert_cmpint(hdm(d, TARGET_LO), ==, 0x11223344);
    g_assert_cmpint(hdm(d, RESERVED), ==, 0x55667788);

    set_hdm(d, BASE_LO, ~base);
    g_assert_cmpint(hdm(d, BASE_LO), ==, base);
    set_hdm(d, CTRL, COMMIT | 0xff);
    g_assert_cmpint(hdm(d, CTRL), ==, ctrl);
    set_hdm(d, CTRL, 0xff);     /* even though it is locked */
    g_assert_cmpint(hdm(d, CTRL), ==, ctrl & ~(COMMIT | COMMITTED | LOCK));

    set_hdm(d, BASE_LO, 0x5fffffff);
    g_assert_cmpint(hdm(d, BASE_LO), ==, 0x5fffffff);
    set_hdm(d, CTRL, LOCK);
    set_hdm(d, BASE_LO, 0);
    g_assert_cmpint(hdm(d, BASE_LO), ==, 0x5fffffff);
    set_hdm(d, CTRL, 0xffffffff);
    g_assert_cmpint(hdm(d, CTRL), ==, 0xffffffff & ~ERROR);
}

static void v4_locked_writes(Device *d)
{
    static const unsigned regs[] = {
        CAPABILITY, 0x08, 0x0c, BASE_LO, BASE_HI, SIZE_LO, SIZE_HI, CTRL,
        TARGET_LO, TARGET_HI, RESERVED,
    };
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(regs); i++) {
        uint32_t value = hdm(d, regs[i]);

        set_hdm(d, regs[i], ~value);
        g_assert_cmpint(hdm(d, regs[i]), ==, value);
    }
    set_hdm(d, GLOBAL, 0xdeadbeef);
    g_assert_cmpint(hdm(d, GLOBAL), ==, 0xdeadbeef);
}

static void v5_writes(Device *d)
{
    unsigned off;

    for (off = 0; off < d->regs_size; off += 4) {
        uint32_t value = hdm(d, off);

        set_hdm(d, off, ~value);
        g_assert_cmpint(hdm(d, off), ==, value);
    }
}

static void test_hdm_writes(void)
{
    Device *d = device_open();

    if (is(V2S)) {
        v2_writes(d);
    } else if (is(V3)) {
        v3_writes(d);
    } else if (is(V4)) {
        v4_locked_writes(d);
    } else {
        v5_writes(d);
    }
    if (!real) {
        /* Whatever was written, the physical decoder stays */
        g_autofree char *reply = control("devices");
        const char *hw = strstr(reply, "\"hardware\"");

        g_assert_cmpint(number(hw, "base"), ==, host_address(d));
        g_assert_cmpint(number(hw, "ctrl"), ==, LOCK | COMMIT | COMMITTED);
    }
    device_close(d);
}

/* A decoder that the firmware has not locked */
static void test_hdm_unlocked(void)
{
    Device *d = device_open();
    uint32_t low;

    g_assert_false(hdm(d, CTRL) & LOCK);
    g_assert_true(hdm(d, CTRL) & COMMITTED);
    if (is(V2S)) {
        /* Then v2 lets the host's address be seen */
        g_assert_cmpint(hdm(d, BASE_HI), ==, host_address(d) >> 32);
    } else if (is(V4)) {
        low = hdm(d, BASE_LO) & 0x0fffffff;
        set_hdm(d, BASE_LO, 0xffffffff);
        g_assert_cmpint(hdm(d, BASE_HI), ==, host_address(d) >> 32);
        set_hdm(d, CTRL, 0);
        g_assert_cmpint(hdm(d, CTRL), ==, 0);
        set_hdm(d, BASE_LO, 0xffffffff);
        g_assert_cmpint(hdm(d, BASE_LO), ==, 0xf0000000 | low);
        set_hdm(d, BASE_HI, 0x1234);
        set_hdm(d, TARGET_LO, 0x4321);
        g_assert_cmpint(hdm(d, BASE_HI), ==, 0x1234);
        g_assert_cmpint(hdm(d, TARGET_LO), ==, 0x4321);
        set_hdm(d, RESERVED, 0xffffffff);
        g_assert_cmpint(hdm(d, RESERVED), ==, 0);
        set_hdm(d, CTRL, 0xffffffff);
        g_assert_cmpint(hdm(d, CTRL), ==,
                        0xff | LOCK | COMMIT | COMMITTED | 1 << 12);
        set_hdm(d, CTRL, 0);
        g_assert_true(hdm(d, CTRL) & COMMITTED);
    } else if (is(V56)) {
        v5_writes(d);
    }
    device_close(d);
}

/* v2 emulates as many decoders as there are */
static void test_decoders(void)
{
    Device *d = device_open();
    unsigned n = 10;
    uint64_t last = d->block + CM + d->hdm + 0x20 * (n - 1);

    g_assert_cmpint(hdm(d, CAPABILITY) & 0xf, ==, n / 2);
    g_assert_cmpint(d->regs_size, ==, d->hdm + 0x10 + 0x20 * n);
    set_hdm(d, BASE_HI + 0x20 * (n - 1), 0x77);
    set_hdm(d, CTRL + 0x20 * (n - 1), COMMIT);
    g_assert_cmpint(hdm(d, BASE_HI + 0x20 * (n - 1)), ==, 0x77);
    g_assert_cmpint(hdm(d, CTRL + 0x20 * (n - 1)), ==, COMMIT | COMMITTED);
    g_assert_cmpint(hdm(d, BASE_HI), ==, 0);
    /* Through the BAR it is the hardware's, which is not committed */
    g_assert_cmpint(get32(d, d->bar, last + BASE_HI), ==, 0);
    put32(d, d->bar, last + BASE_HI, 0x55);
    g_assert_cmpint(get32(d, d->bar, last + BASE_HI), ==, 0x55);
    g_assert_cmpint(hdm(d, BASE_HI + 0x20 * (n - 1)), ==, 0x77);
    device_close(d);
}

const Case hdm_cases[] = {
    { "registers-access", test_registers_access, CXL, false, NULL, NULL },
    { "hdm-initial", test_hdm_initial, CXL, false, NULL, NULL },
    { "hdm-writes", test_hdm_writes, CXL, false, NULL, NULL },
    { "hdm-unlocked", test_hdm_unlocked, V2S | GEOMETRY, true,
      "--decoder=unlocked", NULL },
    { "decoders", test_decoders, V2S, true, "--decoders=10", NULL },
    { NULL }
};
