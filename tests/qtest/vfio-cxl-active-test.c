/*
 * CXL Type-2 devices behind vfio-pci: memory that becomes active late, and
 * other differences if memory does not depend on Memory Space Enable
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "vfio-cxl-maps.h"
#include "vfio-cxl-slot.h"

#define RANGE1_SIZE_LO      0x1c
#define MEMORY_ACTIVE       (1u << 1)
#define STATUS2_DONE        (1u << 1)

/* Long enough to be observed, then cut short */
#define AWAY                "active-delay=600000"
#define WAIT_MS             (20 * 1000)

static void set(CXLMachine *m, const char *knob)
{
    g_autofree char *command = g_strdup_printf("set " VFIO_CXL_HOST " %s",
                                               knob);

    qobject_unref(vfio_sim_command(m->sim, command));
}

static bool active(CXLMachine *m)
{
    return cfg_read(m, m->dvsec + RANGE1_SIZE_LO) & MEMORY_ACTIVE;
}

static void assert_away(CXLMachine *m, uint64_t base)
{
    g_assert_false(active(m));
    g_assert_false(shows_memory(m, base, 0));
    assert_info(m, "memory-inactive");
    /* The decoder is there all the time */
    g_assert_cmphex(hdm_read(m, HDM_CTRL(0)) & HDM_COMMITTED, !=, 0);
    g_assert_cmphex(hdm_base(m, 0), ==, base);
}

/* The guest finds Memory_Active set once it has the memory */
static void assert_returns(CXLMachine *m, uint64_t base)
{
    for (int ms = 0; !active(m); ms += 10) {
        g_assert_cmpint(ms, <, WAIT_MS);
        g_usleep(10 * 1000);
    }
    g_assert_true(shows_memory(m, base, 0));
    assert_info(m, "mapped");
}

static void cxl_reset(CXLMachine *m)
{
    cfg_writew(m, m->dvsec + DVSEC_CONTROL2, CONTROL2_RST);
    g_assert_cmphex(cfg_readw(m, m->dvsec + 0x12) & 7, ==, STATUS2_DONE);
}

static void reboot(CXLMachine *m)
{
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
}

static void low_power(CXLMachine *m)
{
    unsigned pm = cfg_find_cap(m, 0x01) + 4;

    cfg_writew(m, pm, 3);
    g_assert_cmphex(cfg_readw(m, pm) & 3, ==, 3);
    cfg_writew(m, pm, 0);
    cxl_machine_enumerate(m);
}

static void (*const ways[])(CXLMachine *) = {
    cxl_machine_flr, cxl_reset, reboot, low_power,
};

/*
 * Operations that take the memory away for long return at once, and the memory
 * is neither in the guest's map nor in an IOAS until it is active.
 */
static void away(gconstpointer data, const char *options)
{
    CXLMachine *m = mode_start(data, options, "");
    DMAMaps *maps = dma_maps_new(m, data, 1);
    uint64_t base = hdm_base(m, 0);
    const CXLMapped memory[] = { { base, M256, 0 }, { } };

    g_assert_true(active(m));
    for (int i = 0; i < ARRAY_SIZE(ways); i++) {
        set(m, AWAY);
        ways[i](m);
        assert_away(m, base);
        dma_maps_check(maps, NULL);
        /* Nor when the guest asks for it again */
        cfg_writew(m, 0x04, 0x4);
        cfg_writew(m, 0x04, 0x6);
        cfg_writew(m, m->dvsec + DVSEC_CONTROL, 0);
        cfg_writew(m, m->dvsec + DVSEC_CONTROL, DVSEC_MEM_ENABLE);
        assert_away(m, base);
        set(m, "active-delay=100");
        ways[i](m);
        assert_returns(m, base);
        dma_maps_check(maps, memory);
    }
    g_assert_cmpint(vfio_sim_stat(m->sim, "stale-maps"), ==, 0);
    dma_maps_free(maps);
    cxl_machine_stop(m);
}

static void test_away(gconstpointer data)
{
    away(data, "");
}

/* By a kernel that shows the DVSEC as firmware has left it */
static void test_away_untold(gconstpointer data)
{
    away(data, "--set='" VFIO_CXL_HOST " dvsec-snapshot=1'");
}

/* It became inactive while CXL.mem was disabled, so the guest lost nothing */
static void test_away_disabled(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "", "");
    unsigned control = m->dvsec + DVSEC_CONTROL;
    unsigned pm = cfg_find_cap(m, 0x01) + 4;
    uint64_t base = hdm_base(m, 0);

    cfg_writew(m, control, 0);
    set(m, AWAY);
    cfg_writew(m, pm, 3);
    cfg_writew(m, pm, 0);
    cfg_writew(m, control, DVSEC_MEM_ENABLE);
    assert_away(m, base);
    /* And while Memory Space is off, when registers cannot be read */
    cfg_writew(m, 0x04, 0x4);
    set(m, "active-delay=100");
    cfg_writew(m, pm, 3);
    cfg_writew(m, pm, 0);
    g_assert_cmphex(cfg_readw(m, 0x04) & 2, ==, 0);
    assert_returns(m, base);
    cfg_writew(m, 0x04, 0x6);
    g_assert_cmphex(hdm_base(m, 0), ==, base);
    cxl_machine_stop(m);
}

/* An expired timeout is reported once */
static void test_timeout(gconstpointer data)
{
    VFIOSim *sim = mode_sim(data, "");
    g_autofree char *log = g_build_filename(sim->dir, "qemu.log", NULL);
    g_autofree char *options = g_strdup_printf(CXL_BRIDGE CXL_WINDOW " 2>>%s",
                                               log);
    CXLMachine *m = cxl_machine_start(sim, options, mode_is_iommufd(data), "");
    unsigned pm = cfg_find_cap(m, 0x01) + 4;
    g_autofree char *text = NULL;
    const char *warning = NULL;

    set(m, AWAY);
    cxl_machine_flr(m);
    /* Not for a device in low power; the timeout restarts in D0 */
    cfg_writew(m, pm, 3);
    g_usleep(3 * G_USEC_PER_SEC / 2);
    cfg_writew(m, pm, 0);
    g_usleep(G_USEC_PER_SEC / 4);
    g_assert_true(g_file_get_contents(log, &text, NULL, NULL));
    g_assert_null(strstr(text, "Memory_Active_Timeout"));
    for (int ms = 0; !warning; ms += 100) {
        g_assert_cmpint(ms, <, WAIT_MS);
        g_usleep(100 * 1000);
        g_free(text);
        g_assert_true(g_file_get_contents(log, &text, NULL, NULL));
        warning = strstr(text, "not active although Memory_Active_Timeout");
    }
    cxl_machine_flr(m);
    g_usleep(2 * G_USEC_PER_SEC);
    g_free(text);
    g_assert_true(g_file_get_contents(log, &text, NULL, NULL));
    warning = strstr(text, "Memory_Active_Timeout");
    g_assert_nonnull(warning);
    g_assert_null(strstr(warning + 1, "Memory_Active_Timeout"));
    cxl_machine_stop(m);
}

/* A device that is released and taken back must not be half ready */
static void test_plug(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "", "");
    QDict *reply, *error;
    uint64_t base;

    set(m, "active-delay=2000");
    cxl_machine_flr(m);
    device_del(m, NULL);
    device_release(m);
    reply = device_add(m, mode_is_iommufd(data), "dev0", VFIO_CXL_HOST, "");
    error = qdict_get_qdict(reply, "error");
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(qdict_get_str(error, "desc"),
                            "memory is not active yet: try again later"));
    qobject_unref(reply);
    g_usleep(2100 * 1000);
    set(m, "active-delay=0");
    device_plug(m, data, VFIO_CXL_HOST, "");
    base = hdm_base(m, 0);
    g_assert_true(shows_memory(m, base, 0));
    cxl_machine_stop(m);
}

/* A BAR that cannot be mapped anywhere */
static void test_no_bar_areas(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--set='" VFIO_CXL_HOST
                               " no-bar-areas=1'", "");

    assert_firmware_committed(m, M256);
    g_assert_cmphex(qtest_readl(m->qts, m->bar2 + VFIO_SIM_REG_ID), ==,
                    VFIO_SIM_ID);
    cxl_machine_flr(m);
    assert_firmware_committed(m, M256);
    cxl_machine_stop(m);
}

/* By their behaviour; if that is unknown, it is the one with the gate */
static void test_told_apart(gconstpointer data)
{
    static const char *const faults[] = {
        "--memory=256M",
        "--fault='" VFIO_CXL_HOST " pwrite-config errno=5'",
    };

    for (int i = 0; i < ARRAY_SIZE(faults); i++) {
        CXLMachine *m = mode_start(data, faults[i], "");

        assert_info(m, i ? "v5" : ((const VFIOCXLMode *)data)->kernel);
        cxl_machine_stop(m);
    }
}

/* Where the description tells which it is, nothing is read to find out */
static void test_described(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--fault='" VFIO_CXL_HOST
                               " pread-memory errno=5'", "");

    assert_info(m, mode_is_kernel(data, "v2") ? "kernel v2" : "kernel v3");
    assert_firmware_committed(m, M256);
    cxl_machine_stop(m);
}

static const char *const described[] = { "v3", "v2", NULL };
static const char *const late[] = { "v6", NULL };
static const char *const alike[] = { "v6", "v5", NULL };

int main(int argc, char **argv)
{
    vfio_cxl_test_init(&argc, &argv);

    if (vfio_cxl_reads("v5")) {
        vfio_cxl_add("told-apart", alike, test_told_apart);
    }
    vfio_cxl_add("active-plug", late, test_plug);
    vfio_cxl_add("described", described, test_described);
    vfio_cxl_add("away", late, test_away);
    vfio_cxl_add("away-untold", late, test_away_untold);
    vfio_cxl_add("away-disabled", late, test_away_disabled);
    vfio_cxl_add("active-timeout", late, test_timeout);
    vfio_cxl_add("no-bar-areas", late, test_no_bar_areas);
    return g_test_run();
}
