/*
 * Conformance test of the kernel generations: memory that is accessible as long
 * as the decoder is committed, and the filter for devices that are not handled
 * as CXL
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test-vfio-kernels.h"

#define MEMORY_ACTIVE   2u
#define UNCOR_SEVERITY  (0x100 + PCI_ERR_UNCOR_SEVER)
#define DELAY_MS        300

/* Memory Space is about CXL.io: registers are gone with it, memory is not */
static void test_memory_space(void)
{
    Device *d = device_open();
    uint32_t *p = map_memory(d), pair[2], value;

    p[0] = 0xabcd;
    memory_space(d, false);
    g_assert_true(touch(p, &value));
    g_assert_cmphex(value, ==, 0xabcd);
    g_assert_cmphex(get32(d, d->mem, 0), ==, 0xabcd);
    fails(get(d, d->regs, reg_off(d, CTRL), &value, 4), EIO);
    g_assert_cmpint(put(d, d->regs, reg_off(d, CTRL), &value, 4), ==, 4);
    fails(get(d, d->regs, reg_off(d, CTRL) + 1, &value, 4), EINVAL);
    fails(get(d, d->regs, d->regs_size, &value, 4), EINVAL);
    memory_space(d, true);
    g_assert_cmpint(get(d, d->regs, reg_off(d, SIZE_LO), pair, 8), ==, 8);
    g_assert_cmphex(pair[0], ==, hdm(d, SIZE_LO));
    g_assert_cmphex(pair[1], ==, hdm(d, SIZE_HI));
    device_close(d);
}

/* The decoder does not survive D3, the driver restores it */
static void test_low_power(void)
{
    Device *d = device_open();
    uint32_t *p = map_memory(d), value;

    power(d, 3);
    g_assert_false(accessible(p));
    fails(get(d, d->mem, 0, &value, 4), EIO);
    fails(get(d, d->regs, reg_off(d, CTRL), &value, 4), EIO);
    power(d, 0);
    memory_space(d, true);
    g_assert_true(accessible(p));
    g_assert_true(hdm(d, CTRL) & COMMITTED);
    device_close(d);
}

static bool active(Device *d)
{
    return cfg32(d, d->dvsec + SIZE1_LO) & MEMORY_ACTIVE;
}

static void assert_returns(Device *d, uint32_t *p, bool told)
{
    uint32_t value;

    g_assert_cmpint(active(d), ==, !told);
    g_assert_true(hdm(d, CTRL) & COMMITTED);
    g_assert_false(accessible(p));
    fails(get(d, d->mem, 0, &value, 4), EIO);
    g_usleep((DELAY_MS + 50) * 1000);
    g_assert_true(active(d));
    g_assert_cmpint(get(d, d->mem, 0, &value, 4), ==, 4);
    g_assert_true(accessible(p));
}

/* It can be away for a while although its decoder is committed */
static void away(bool told)
{
    Device *d = device_open();
    uint32_t *p = map_memory(d);

    g_assert_true(active(d));
    control_ok("set %s active-delay=%d", host, DELAY_MS);
    control_ok("set %s dvsec-snapshot=%d", host, !told);
    reset(d);
    memory_space(d, true);
    assert_returns(d, p, told);
    power(d, 3);
    power(d, 0);
    memory_space(d, true);
    assert_returns(d, p, told);
    device_close(d);
}

static void test_away(void)
{
    away(true);
}

static void test_away_untold(void)
{
    away(false);
}

static void test_no_bar_areas(void)
{
    Device *d = device_open();
    g_autofree struct vfio_region_info *bar = NULL;
    struct vfio_region_info_cap_sparse_mmap *sparse;

    control_ok("set %s no-bar-areas=1", host);
    bar = region_info(d, d->bar);
    sparse = info_cap(bar, bar->cap_offset, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
    g_assert_nonnull(sparse);
    g_assert_cmpint(sparse->nr_areas, ==, 0);
    g_assert_true(map(d, d->bar, 0, 0x1000) == MAP_FAILED);
    g_assert_cmpint(errno, ==, EINVAL);
    device_close(d);
}

/* The next user does not see what a user has left in config space */
static void test_config_restored(void)
{
    Device *d = device_open();
    uint32_t severity = cfg32(d, UNCOR_SEVERITY);
    bool restored = is(V6);

    set_cfg(d, UNCOR_SEVERITY, ~severity, 4);
    g_assert_cmphex(cfg32(d, UNCOR_SEVERITY), ==, ~severity);
    device_close(d);
    d = device_open();
    g_assert_cmphex(cfg32(d, UNCOR_SEVERITY), ==,
                    restored ? severity : ~severity);
    set_cfg(d, UNCOR_SEVERITY, severity, 4);
    device_close(d);
}

static void test_guard_map(void)
{
    Device *d = device_open();
    unsigned at = find_dvsec(d, 0);
    uint32_t base = cfg32(d, at + BASE1_LO), base_hi = cfg32(d, at + BASE1_HI);
    uint16_t control = cfg16(d, at + CONTROL);
    uint64_t resets = stat_of(host, "cxl-resets");

    g_assert_cmphex(base_hi, !=, 0);
    set_cfg(d, at + BASE1_LO, 0, 4);
    set_cfg(d, at + BASE1_HI, 0, 4);
    g_assert_cmphex(cfg32(d, at + BASE1_LO), ==, base);
    g_assert_cmphex(cfg32(d, at + BASE1_HI), ==, base_hi);
    set_cfg(d, at + CONFIG_LOCK, 1, 2);
    g_assert_cmphex(cfg16(d, at + CONFIG_LOCK), ==, 0);
    set_cfg(d, at + CONTROL, control ^ 1, 2);
    g_assert_cmphex(cfg16(d, at + CONTROL), ==, control ^ 1);
    set_cfg(d, at + CONTROL, control, 2);

    /* Write-back is the device's, a reset is not */
    set_cfg(d, at + CONTROL2, 3, 2);
    g_assert_cmphex(cfg16(d, at + CONTROL2), ==, 1);
    g_assert_cmphex(cfg16(d, at + STATUS2) & 7, ==, 1);
    set_cfg(d, at + CONTROL2, 4, 2);
    g_assert_cmphex(cfg16(d, at + CONTROL2), ==, 0);
    g_assert_cmphex(cfg16(d, at + STATUS2) & 7, ==, 2);
    g_assert_cmpint(stat_of(host, "cxl-resets"), ==, resets);
    set_cfg(d, at + STATUS2, 2, 2);
    g_assert_cmphex(cfg16(d, at + STATUS2) & 7, ==, 0);
    device_close(d);
}

const Case active_cases[] = {
    { "memory-space", test_memory_space, V6, false, NULL, NULL },
    { "low-power", test_low_power, V6, false, NULL, NULL },
    { "away", test_away, V6, true, NULL, NULL },
    { "away-untold", test_away_untold, V6, true, NULL, NULL },
    { "no-bar-areas", test_no_bar_areas, V6, true, NULL, NULL },
    { "config-restored", test_config_restored, V5 | V6, true, NULL, NULL },
    { "guard-map", test_guard_map, NONE, true, "--guard-map", NULL },
    { NULL }
};
