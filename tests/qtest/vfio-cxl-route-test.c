/*
 * CXL Type-2 devices behind vfio-pci: decoders and ports on the path
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "qobject/qjson.h"
#include "vfio-cxl-topology.h"

static const char *const one_kernel[] = { "v6", NULL };
/* Without and with a gate at Memory Space */
static const char *const gates[] = { "v6", "v5", NULL };

#define HOST(n) "0000:c" #n ":00.0"
#define DEVICE(n, port) \
    " -device vfio-pci,id=dev" #n ",host=" HOST(n) ",bus=" port
/* All windows must be given in one option */
#define WINDOW(n, bridge, size) \
    "cxl-fmw." #n ".targets.0=" bridge ",cxl-fmw." #n ".size=" size
#define ONE_WINDOW(size) " -M " WINDOW(0, "cxl.0", size)

static bool committed(CXLTopology *t, CXLNode *node, unsigned n)
{
    return cxl_node_read(t, node, HDM_CTRL(n)) & HDM_COMMITTED;
}

static void decommit(CXLTopology *t, CXLNode *node, unsigned n)
{
    cxl_node_write(t, node, HDM_CTRL(n), 0);
}

static void recommit(CXLTopology *t, CXLNode *node, unsigned n)
{
    cxl_node_write(t, node, HDM_CTRL(n), HDM_COMMIT);
}

/* No device can be committed over another's range */
static void test_other_device(gconstpointer data)
{
    CXLMachine *m = cxl_machine_start(mode_sim(data, "--devices=2"),
        CXL_BRIDGE " -device cxl-rp,id=rp1,bus=cxl.0,chassis=0,slot=1,port=1,"
        "addr=1 -device vfio-pci,id=dev1,host=0000:c2:00.0,bus=rp1"
        CXL_WINDOW, false, ",x-cxl-commit=guest");
    uint64_t first = ROUND_UP(m->window, GiB);
    g_autofree char *tree = NULL;

    cxl_machine_enable_second(m, 1);
    tree = qtest_hmp(m->qts, "info mtree");
    g_assert_nonnull(strstr(tree, "cxl-hdm"));      /* the second one's */

    hdm_enable(m);
    g_assert_false(hdm_commit(m, first, M256));
    g_assert_cmphex(hdm_read(m, HDM_CTRL(0)) & HDM_ERROR, !=, 0);
    g_assert_false(shows_memory(m, first, 0));
    g_assert_true(hdm_commit(m, first + M256, M256));
    cxl_machine_stop(m);
}

/* Several decoders, unlike a single one (v2 only) */
static void test_decoders(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=1G --decoders=4",
                               ",x-cxl-commit=guest");

    g_assert_cmphex(hdm_read(m, HDM_CAPABILITY) & 0xf, ==, 2);
    hdm_enable(m);
    for (unsigned n = 0; n < 4; n++) {
        uint64_t at = m->window + 2 * n * M256;

        hdm_write(m, HDM_BASE_LO(n), at);
        hdm_write(m, HDM_BASE_HI(n), at >> 32);
        hdm_write(m, HDM_SIZE_LO(n), M256);
        hdm_write(m, HDM_CTRL(n), HDM_COMMIT);
        g_assert_true(shows_memory(m, at, n * M256));
        g_assert_true(shows_memory(m, at + M256 - 8, (n + 1) * M256 - 8));
    }
    /* A hole affects its own range only */
    hdm_write(m, HDM_CTRL(1), 0);
    for (unsigned n = 0; n < 4; n++) {
        g_assert_true(shows_memory(m, m->window + 2 * n * M256, n * M256) ==
                      (n != 1));
    }
    cxl_machine_stop(m);

    mode_refused(data, "--decoders=12", CXL_BRIDGE CXL_WINDOW,
                 ",bus=rp0,x-cxl=on", "decoders: 12 (expected 1 to 10)");
}

/*
 * Firmware programs the decoders between window and device
 */
static void test_firmware_path(gconstpointer data)
{
    static const char *const topologies[] = {
        " -device pxb-cxl,id=cxl.0,bus=pcie.0,bus_nr=12,hdm_for_passthrough=on"
        " -device cxl-rp,id=rp0,bus=cxl.0,chassis=0,slot=0,port=0" CXL_WINDOW,
        " -device pxb-cxl,id=cxl.0,bus=pcie.0,bus_nr=12"
        " -device cxl-rp,id=rp1,bus=cxl.0,chassis=0,slot=1,port=0,addr=1"
        " -device cxl-rp,id=rp0,bus=cxl.0,chassis=0,slot=0,port=5,addr=0"
        CXL_WINDOW,
    };

    for (int i = 0; i < ARRAY_SIZE(topologies); i++) {
        CXLMachine *m = cxl_machine_start(mode_sim(data, "--memory=512M"),
                                          topologies[i],
                                          mode_is_iommufd(data), "");

        assert_firmware_committed(m, 2 * M256);
        qtest_system_reset(m->qts);
        cxl_machine_enumerate(m);
        assert_firmware_committed(m, 2 * M256);
        cxl_machine_stop(m);
    }
}

/*
 * Several ports: the path decides
 */
static void test_path(gconstpointer data)
{
    CXLMachine *m = cxl_machine_start(mode_sim(data, "--memory=512M"),
        CXL_BRIDGE " -device cxl-rp,id=rp1,bus=cxl.0,chassis=0,slot=1,port=1"
        CXL_WINDOW, mode_is_iommufd(data), ",x-cxl-commit=guest");
    g_autofree char *tree = qtest_hmp(m->qts, "info mtree");
    char *line = strstr(tree, "pxb-cxl-host");
    uint64_t hb, hdm = 0;

    /* The host bridge's decoders */
    g_assert_nonnull(line);
    while (line > tree && line[-1] != '\n') {
        line--;
    }
    hb = g_ascii_strtoull(line, NULL, 16) + 0x1000;
    for (unsigned i = 1; i <= qtest_readl(m->qts, hb) >> 24; i++) {
        uint32_t entry = qtest_readl(m->qts, hb + 4 * i);

        hdm = (entry & 0xffff) == 5 ? hb + (entry >> 20) : hdm;
    }
    g_assert_cmphex(hdm, !=, 0);

    /* The endpoint may come first */
    hdm_enable(m);
    g_assert_true(hdm_commit(m, m->window, M256));
    g_assert_false(shows_memory(m, m->window, 0));

    qtest_writel(m->qts, hdm + HDM_BASE_LO(0), m->window);
    qtest_writel(m->qts, hdm + HDM_BASE_HI(0), m->window >> 32);
    qtest_writel(m->qts, hdm + HDM_SIZE_LO(0), 4 * M256);
    qtest_writel(m->qts, hdm + HDM_SKIP_LO(0), 1);      /* target: port 1 */
    qtest_writel(m->qts, hdm + HDM_CTRL(0), HDM_COMMIT);
    g_assert_false(shows_memory(m, m->window, 0));
    qtest_writel(m->qts, hdm + HDM_CTRL(0), 0);
    qtest_writel(m->qts, hdm + HDM_SKIP_LO(0), 0);
    g_assert_false(shows_memory(m, m->window, 0));
    qtest_writel(m->qts, hdm + HDM_CTRL(0), HDM_COMMIT);
    g_assert_true(shows_memory(m, m->window, 0));
    qtest_writel(m->qts, hdm + HDM_CTRL(0), 0);
    g_assert_false(shows_memory(m, m->window, 0));
    g_assert_cmphex(hdm_read(m, HDM_CTRL(0)), ==, HDM_COMMIT | HDM_COMMITTED);
    cxl_machine_stop(m);
}

/*
 * Switches below one of two root ports, one below the other. Slots follow
 * the order of the options, port numbers do not.
 */
#define SWITCHES_BRIDGE \
    " -device pxb-cxl,id=cxl.0,bus=pcie.0,bus_nr=12"
#define SWITCHES_RP0 " -device cxl-rp,id=rp0,bus=cxl.0,chassis=0,slot=0,port=0"
#define SWITCHES_RP1 " -device cxl-rp,id=rp1,bus=cxl.0,chassis=0,slot=1,port=2"
#define SWITCHES_UPPER \
    " -device cxl-upstream,id=us0,bus=rp1" \
    " -device cxl-downstream,id=ds0,bus=us0,chassis=1,slot=0,port=0" \
    " -device cxl-downstream,id=ds1,bus=us0,chassis=1,slot=1,port=1"
#define SWITCHES_LOWER \
    " -device cxl-upstream,id=us1,bus=ds1" \
    " -device cxl-downstream,id=ds2,bus=us1,chassis=2,slot=0,port=3" \
    " -device cxl-downstream,id=ds3,bus=us1,chassis=2,slot=1,port=0"
#define SWITCHES_LOWER_REVERSED \
    " -device cxl-upstream,id=us1,bus=ds1" \
    " -device cxl-downstream,id=ds3,bus=us1,chassis=2,slot=1,port=0" \
    " -device cxl-downstream,id=ds2,bus=us1,chassis=2,slot=0,port=3"
#define SWITCHES_PORTS \
    SWITCHES_BRIDGE SWITCHES_RP0 SWITCHES_RP1 SWITCHES_UPPER SWITCHES_LOWER
#define SWITCHES_DEVICES \
    DEVICE(1, "rp0") DEVICE(2, "ds0") DEVICE(3, "ds2") DEVICE(4, "ds3")

static const char *const bridge_12[] = { "cxl.0=12", NULL };
static const char *const bridges_12_64[] = { "cxl.0=12", "cxl.1=64", NULL };

static void assert_decoder(CXLTopology *t, const char *id, unsigned n,
                           uint64_t base, uint64_t size, unsigned target)
{
    CXLNode *node = cxl_topology_find(t, id);

    g_assert_cmphex(cxl_node_base(t, node, n), ==, base);
    g_assert_cmphex(cxl_node_size(t, node, n), ==, size);
    g_assert_cmphex(cxl_node_read(t, node, HDM_SKIP_LO(n)), ==, target);
}

/* 1 GiB devices, in the order of port numbers: 1, 2, 4, 3 */
static void assert_switches(CXLTopology *t)
{
    uint64_t first = ROUND_UP(t->window[0], GiB);

    g_assert_true(cxl_topology_shows(t, first, HOST(1), 0));
    g_assert_true(cxl_topology_shows(t, first + GiB, HOST(2), 0));
    g_assert_true(cxl_topology_shows(t, first + 2 * GiB, HOST(4), 0));
    g_assert_true(cxl_topology_shows(t, first + 3 * GiB, HOST(3), 0));
    g_assert_true(cxl_topology_shows(t, first + 4 * GiB - 8, HOST(3),
                                     GiB - 8));

    /* One decoder for each device, as Linux expects */
    assert_decoder(t, "cxl.0", 0, first, GiB, 0);
    assert_decoder(t, "cxl.0", 1, first + GiB, GiB, 2);
    assert_decoder(t, "cxl.0", 2, first + 2 * GiB, GiB, 2);
    assert_decoder(t, "cxl.0", 3, first + 3 * GiB, GiB, 2);
    assert_decoder(t, "us0", 0, first + GiB, GiB, 0);
    assert_decoder(t, "us0", 1, first + 2 * GiB, GiB, 1);
    assert_decoder(t, "us0", 2, first + 3 * GiB, GiB, 1);
    assert_decoder(t, "us1", 0, first + 2 * GiB, GiB, 0);
    assert_decoder(t, "us1", 1, first + 3 * GiB, GiB, 3);
    g_assert_false(committed(t, cxl_topology_find(t, "us0"), 3));
    g_assert_false(committed(t, cxl_topology_find(t, "us1"), 2));
    g_assert_false(committed(t, cxl_topology_find(t, "us1"), 3));
}

static void test_firmware_order(gconstpointer data)
{
    static const char *const orders[] = {
        SWITCHES_PORTS SWITCHES_DEVICES ONE_WINDOW("8G"),
        SWITCHES_BRIDGE SWITCHES_RP1 SWITCHES_UPPER SWITCHES_LOWER_REVERSED
        SWITCHES_RP0 DEVICE(4, "ds3") DEVICE(3, "ds2") DEVICE(1, "rp0")
        DEVICE(2, "ds0") ONE_WINDOW("8G"),
    };

    for (int i = 0; i < ARRAY_SIZE(orders); i++) {
        CXLTopology *t = cxl_topology_start(
            mode_sim(data, "--memory=1G --devices=4"), orders[i], bridge_12);

        assert_switches(t);
        qtest_system_reset(t->qts);
        cxl_topology_enumerate(t);
        assert_switches(t);
        cxl_topology_stop(t);
    }
}

/* Ports' decoders have the type of the memory behind them */
static void test_firmware_type(gconstpointer data)
{
    CXLTopology *t = cxl_topology_start(
        mode_sim(data, "--memory=1G --devices=4 "
                 "--set='0000:c2:00.0 mangle=hdm-host-only'"),
        SWITCHES_PORTS SWITCHES_DEVICES ONE_WINDOW("8G"), bridge_12);
    CXLNode *hb = cxl_topology_find(t, "cxl.0");
    CXLNode *us0 = cxl_topology_find(t, "us0");

    assert_switches(t);
    for (unsigned n = 0; n < 4; n++) {
        g_assert_true(!(cxl_node_read(t, hb, HDM_CTRL(n)) & HDM_HOST_ONLY) ==
                      (n != 1));
    }
    for (unsigned n = 0; n < 3; n++) {
        g_assert_true(!(cxl_node_read(t, us0, HDM_CTRL(n)) & HDM_HOST_ONLY) ==
                      (n != 0));
    }
    cxl_topology_stop(t);

    /* Neighbours of different types share none */
    t = cxl_topology_start(
        mode_sim(data, "--memory=512M --devices=5 "
                 "--set='0000:c4:00.0 mangle=hdm-host-only'"),
        SWITCHES_PORTS SWITCHES_DEVICES
        " -device cxl-downstream,id=ds4,bus=us1,chassis=2,slot=4,port=4"
        DEVICE(5, "ds4") ONE_WINDOW("8G"), bridge_12);
    assert_decoder(t, "cxl.0", 1, t->window[0] + 2 * M256, 2 * M256, 2);
    assert_decoder(t, "cxl.0", 2, t->window[0] + 4 * M256, 2 * M256, 2);
    assert_decoder(t, "cxl.0", 3, t->window[0] + 6 * M256, 4 * M256, 2);
    cxl_topology_stop(t);
}

/* A device behind another bridge moves nothing, whatever its bus number */
static void test_firmware_stable(gconstpointer data)
{
    static const char *const bridges[] = { "cxl.0=12", "cxl.1=4", NULL };
    CXLTopology *t = cxl_topology_start(
        mode_sim(data, "--memory=1G --devices=5"),
        SWITCHES_PORTS SWITCHES_DEVICES
        " -device pxb-cxl,id=cxl.1,bus=pcie.0,bus_nr=4"
        " -device cxl-rp,id=rp2,bus=cxl.1,chassis=3,slot=2"
        DEVICE(5, "rp2")
        " -M " WINDOW(0, "cxl.0", "8G") "," WINDOW(1, "cxl.1", "1G"), bridges);

    assert_switches(t);
    /* It fills its window, and so cannot be aligned to 1 GiB on q35 */
    g_assert_true(cxl_topology_shows(t, t->window[1], HOST(5), 0));
    cxl_topology_stop(t);
}

/*
 * Alignment to 1 GiB is optional, even if it costs a later device its room (on
 * q35, where windows are not aligned) or its decoders
 */
static void test_firmware_alignment(gconstpointer data)
{
    static const char *const hosts[] = {
        HOST(1), HOST(2), HOST(4), HOST(3), HOST(5)
    };
    CXLTopology *t = cxl_topology_start(
        mode_sim(data, "--memory=512M --devices=3"),
        SWITCHES_BRIDGE SWITCHES_RP0 SWITCHES_RP1
        " -device cxl-rp,id=rp2,bus=cxl.0,chassis=0,slot=2,port=3"
        DEVICE(1, "rp0") DEVICE(2, "rp1") DEVICE(3, "rp2")
        ONE_WINDOW("1536M"), bridge_12);

    for (unsigned i = 0; i < 3; i++) {
        g_autofree char *id = g_strdup_printf("dev%u", i + 1);
        g_autofree char *host = g_strdup_printf("0000:c%u:00.0", i + 1);
        uint64_t base = cxl_node_base(t, cxl_topology_find(t, id), 0);

        g_assert_cmphex(base, !=, 0);
        g_assert_true(cxl_topology_shows(t, base, host, 0));
    }
    cxl_topology_stop(t);

    t = cxl_topology_start(
        mode_sim(data, "--memory=512M --devices=5"),
        SWITCHES_PORTS SWITCHES_DEVICES
        " -device cxl-downstream,id=ds4,bus=us1,chassis=2,slot=4,port=4"
        DEVICE(5, "ds4") ONE_WINDOW("8G"), bridge_12);
    for (unsigned i = 0; i < 5; i++) {
        g_assert_true(cxl_topology_shows(t, t->window[0] + 2 * i * M256,
                                         hosts[i], 0));
    }
    /* Neighbours behind the same port share one where there are too few */
    assert_decoder(t, "cxl.0", 0, t->window[0], 2 * M256, 0);
    assert_decoder(t, "cxl.0", 1, t->window[0] + 2 * M256, 8 * M256, 2);
    assert_decoder(t, "us0", 0, t->window[0] + 2 * M256, 2 * M256, 0);
    assert_decoder(t, "us0", 1, t->window[0] + 4 * M256, 2 * M256, 1);
    assert_decoder(t, "us0", 3, t->window[0] + 8 * M256, 2 * M256, 1);
    assert_decoder(t, "us1", 1, t->window[0] + 6 * M256, 2 * M256, 3);
    cxl_topology_stop(t);
}

/*
 * A change at any level, with and without a register write, takes effect
 */
static void test_levels(gconstpointer data)
{
    CXLTopology *t = cxl_topology_start(
        mode_sim(data, "--memory=1G --devices=4"),
        SWITCHES_PORTS SWITCHES_DEVICES ONE_WINDOW("8G"), bridge_12);
    uint64_t first = ROUND_UP(t->window[0], GiB);
    CXLNode *hb = cxl_topology_find(t, "cxl.0");
    CXLNode *us0 = cxl_topology_find(t, "us0");
    CXLNode *us1 = cxl_topology_find(t, "us1");
    CXLNode *dev3 = cxl_topology_find(t, "dev3");
    struct {
        CXLNode *node;
        unsigned n;
        bool shown[4];          /* of dev1, dev2, dev4, dev3 */
    } steps[] = {
        { hb, 0, { false, true, true, true } },
        { hb, 1, { true, false, true, true } },
        { hb, 3, { true, true, true, false } },
        { us0, 0, { true, false, true, true } },
        { us0, 1, { true, true, false, true } },
        { us0, 2, { true, true, true, false } },
        { us1, 0, { true, true, false, true } },
        { us1, 1, { true, true, true, false } },
    };
    static const char *const hosts[] = { HOST(1), HOST(2), HOST(4), HOST(3) };

    for (int i = 0; i < ARRAY_SIZE(steps); i++) {
        decommit(t, steps[i].node, steps[i].n);
        for (int d = 0; d < 4; d++) {
            g_assert_true(cxl_topology_shows(t, first + d * GiB, hosts[d], 0)
                          == steps[i].shown[d]);
        }
        g_assert_true(committed(t, dev3, 0));
        recommit(t, steps[i].node, steps[i].n);
        assert_switches(t);
    }

    /* Half of a range: the other half stays */
    decommit(t, us1, 1);
    cxl_node_write(t, us1, HDM_SIZE_LO(1), 2 * M256);
    recommit(t, us1, 1);
    g_assert_true(cxl_topology_shows(t, first + 3 * GiB, HOST(3), 0));
    g_assert_false(cxl_topology_shows(t, first + 3 * GiB + 2 * M256, HOST(3),
                                      2 * M256));
    decommit(t, us1, 1);
    cxl_node_write(t, us1, HDM_SIZE_LO(1), GiB);
    recommit(t, us1, 1);
    assert_switches(t);

    /* 8-byte accesses to QEMU's own ports still do nothing */
    qtest_writeq(t->qts, us1->hdm + HDM_CTRL(1), 0);
    g_assert_cmphex(qtest_readq(t->qts, us1->hdm + HDM_CTRL(1)), ==, 0);
    assert_switches(t);
    cxl_topology_stop(t);
}

/* Resets of a switch clear its decoders with no register write */
static void test_level_resets(gconstpointer data)
{
    static const struct {
        const char *port;
        bool flr;
        const char *cleared;
        bool shown[4];          /* of dev1, dev2, dev4, dev3 */
    } resets[] = {
        { "us1", true, "us1", { true, true, false, false } },
        { "us0", true, "us0", { true, false, false, false } },
        { "ds1", false, "us1", { true, true, false, false } },
        { "rp1", false, "us0", { true, false, false, false } },
    };
    static const char *const hosts[] = { HOST(1), HOST(2), HOST(4), HOST(3) };

    for (int i = 0; i < ARRAY_SIZE(resets); i++) {
        CXLTopology *t = cxl_topology_start(
            mode_sim(data, "--memory=1G --devices=4"),
            SWITCHES_PORTS SWITCHES_DEVICES ONE_WINDOW("8G"),
            bridge_12);
        uint64_t first = ROUND_UP(t->window[0], GiB);
        CXLNode *port = cxl_topology_find(t, resets[i].port);

        assert_switches(t);
        if (resets[i].flr) {
            cxl_node_flr(t, port);
        } else {
            cxl_node_bus_reset(t, port);
        }
        for (int d = 0; d < 4; d++) {
            g_assert_true(cxl_topology_shows(t, first + d * GiB, hosts[d], 0)
                          == resets[i].shown[d]);
        }
        /* Firmware does nothing about it before a system reset */
        cxl_topology_enumerate(t);
        g_assert_false(committed(t, cxl_topology_find(t, resets[i].cleared),
                                 0));
        for (int d = 0; d < 4; d++) {
            g_assert_true(cxl_topology_shows(t, first + d * GiB, hosts[d], 0)
                          == resets[i].shown[d]);
        }
        qtest_system_reset(t->qts);
        cxl_topology_enumerate(t);
        assert_switches(t);
        cxl_topology_stop(t);
    }
}

/* Several windows and bridges: the guest's software places all devices */
static void test_windows(gconstpointer data)
{
    CXLTopology *t = cxl_topology_start(
        mode_sim(data, "--memory=1G --devices=2"),
        SWITCHES_BRIDGE SWITCHES_RP0 DEVICE(1, "rp0") ",x-cxl-commit=guest"
        " -device pxb-cxl,id=cxl.1,bus=pcie.0,bus_nr=64"
        " -device cxl-rp,id=rp2,bus=cxl.1,chassis=3,slot=2"
        DEVICE(2, "rp2") ",x-cxl-commit=guest"
        " -M " WINDOW(0, "cxl.0", "1G") "," WINDOW(1, "cxl.1", "1G") ","
        WINDOW(2, "cxl.0", "2G")
        ",cxl-fmw.3.targets.0=cxl.0,cxl-fmw.3.targets.1=cxl.1"
        ",cxl-fmw.3.size=1G", bridges_12_64);
    CXLNode *dev1 = cxl_topology_find(t, "dev1");
    CXLNode *dev2 = cxl_topology_find(t, "dev2");
    const struct {
        uint64_t base;
        uint64_t size;
        bool committed;
    } tries[] = {
        { t->window[0], GiB, true },
        { t->window[0] + M256, 3 * M256, true },
        { t->window[0] + M256, GiB, false },            /* into window 1 */
        { t->window[1], GiB, false },                   /* of another */
        { t->window[2] + 2 * M256, GiB, true },
        { t->window[2] + GiB, GiB, true },
        { t->window[2] + GiB + M256, GiB, false },      /* into window 3 */
        { t->window[3], GiB, false },                   /* interleaves */
        { t->window[0] - M256, M256, false },
        { t->window[2], GiB + M256, false },            /* has only 1 GiB */
        { 0, M256, false },
        { 0xfffffffff0000000, M256, false },
    };

    cxl_node_enable(t, dev1);
    cxl_node_enable(t, dev2);
    g_assert_true(cxl_node_program(t, dev2, 0, t->window[1], M256, 0));
    for (int i = 0; i < ARRAY_SIZE(tries); i++) {
        uint64_t base = tries[i].base, size = tries[i].size;
        bool ok = cxl_node_program(t, dev1, 0, base, size, 0);

        g_assert_true(ok == tries[i].committed);
        g_assert_true(!(cxl_node_read(t, dev1, HDM_CTRL(0)) & HDM_ERROR)
                      == ok);
        if (ok) {
            g_assert_true(cxl_topology_shows(t, base, HOST(1), 0));
            g_assert_true(cxl_topology_shows(t, base + size - 8, HOST(1),
                                             size - 8));
        }
        g_assert_true(cxl_topology_shows(t, t->window[1], HOST(2), 0));
        g_assert_false(cxl_topology_shows(t, t->window[1] + M256, HOST(2),
                                          M256));
    }
    cxl_topology_stop(t);
}

/* Emulated memory next to it, in the same window, is unchanged */
static void test_type3(gconstpointer data)
{
    CXLTopology *t = cxl_topology_start(
        mode_sim(data, "--memory=512M"),
        SWITCHES_BRIDGE SWITCHES_RP0 SWITCHES_RP1
        DEVICE(1, "rp0") ",x-cxl-commit=guest"
        " -object memory-backend-ram,id=mem0,size=512M"
        " -device cxl-type3,id=type3,bus=rp1,volatile-memdev=mem0"
        ONE_WINDOW("2G"), bridge_12);
    CXLNode *hb = cxl_topology_find(t, "cxl.0");
    CXLNode *dev = cxl_topology_find(t, "dev1");
    CXLNode *type3 = cxl_topology_find(t, "type3");
    uint64_t at = t->window[0], beside = at + 2 * M256;

    g_assert_true(cxl_node_program(t, hb, 0, at, 2 * M256, 0));
    g_assert_true(cxl_node_program(t, hb, 1, beside, 2 * M256, 2));
    g_assert_true(cxl_node_program(t, type3, 0, beside, 2 * M256, 0));
    for (unsigned i = 0; i < 8; i++) {
        qtest_writeq(t->qts, beside + i * 0x3fff000, 0xa5a5000000000000 + i);
    }
    cxl_node_enable(t, dev);
    /* First over it: committed, and the path does not lead there */
    g_assert_true(cxl_node_program(t, dev, 0, beside, 2 * M256, 0));
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 8; i++) {
            uint64_t addr = beside + i * 0x3fff000;

            g_assert_cmphex(qtest_readq(t->qts, addr), ==,
                            0xa5a5000000000000 + i);
            g_assert_cmphex(qtest_readb(t->qts, addr + 7), ==, 0xa5);
        }
        g_assert_false(cxl_topology_shows(t, beside, HOST(1), 0));
        g_assert_true(cxl_node_program(t, dev, 0, at, 2 * M256, 0));
        g_assert_true(cxl_topology_shows(t, at, HOST(1), 0));
    }
    /* Hand the range over, and back */
    g_assert_true(cxl_node_program(t, dev, 0, beside, 2 * M256, 0));
    decommit(t, hb, 1);
    decommit(t, hb, 0);
    g_assert_true(cxl_node_program(t, hb, 1, beside, M256, 0));
    g_assert_true(cxl_topology_shows(t, beside, HOST(1), 0));
    g_assert_true(cxl_node_program(t, hb, 1, beside, 2 * M256, 2));
    g_assert_cmphex(qtest_readq(t->qts, beside), ==, 0xa5a5000000000000);
    g_assert_false(cxl_topology_shows(t, beside, HOST(1), 0));
    cxl_topology_stop(t);
}

/* Two functions behind one port: neither gets what the other has */
static void test_functions(gconstpointer data)
{
    CXLTopology *t = cxl_topology_start(
        mode_sim(data, "--memory=512M --devices=2"),
        CXL_BRIDGE DEVICE(1, "rp0") ",addr=0.0,multifunction=on"
        DEVICE(2, "rp0") ",addr=0.1,x-cxl-commit=guest" CXL_WINDOW,
        bridge_12);
    CXLNode *dev1 = cxl_topology_find(t, "dev1");
    CXLNode *dev2 = cxl_topology_find(t, "dev2");
    uint64_t at = cxl_node_base(t, dev1, 0);
    uint64_t command = cxl_node_config(t, dev1, 0x04);
    uint64_t control = cxl_node_config(t, dev1, dev1->dvsec + DVSEC_CONTROL);
    uint16_t enabled = qtest_readw(t->qts, control);

    cxl_node_enable(t, dev2);
    g_assert_false(cxl_node_program(t, dev2, 0, at, 2 * M256, 0));
    g_assert_false(cxl_node_program(t, dev2, 0, at + M256, 2 * M256, 0));

    /* It is free while the memory of the first is off */
    for (int gate = 0; gate <= mode_has_space_gate(data); gate++) {
        uint64_t reg = gate ? command : control;

        qtest_writew(t->qts, reg, gate ? 0x4 : enabled & ~DVSEC_MEM_ENABLE);
        g_assert_true(cxl_node_program(t, dev2, 0, at, 2 * M256, 0));
        g_assert_true(cxl_topology_shows(t, at, HOST(2), 0));
        qtest_writew(t->qts, reg, gate ? 0x6 : enabled);
        g_assert_true(cxl_topology_shows(t, at, HOST(2), 0));
        decommit(t, dev2, 0);
        g_assert_true(cxl_topology_shows(t, at, HOST(1), 0));
    }
    cxl_topology_stop(t);
}

/*
 * Plugged into a running machine
 */
static QDict *plug(CXLTopology *t, const char *properties)
{
    g_autofree char *line = g_strdup_printf("{'driver': 'vfio-pci', %s}",
                                            properties);

    return qtest_qmp(t->qts, "{'execute': 'device_add', 'arguments': %p}",
                     qobject_from_json(line, &error_abort));
}

static void plug_ok(CXLTopology *t, const char *properties)
{
    QDict *reply = plug(t, properties);

    g_assert_true(qdict_haskey(reply, "return"));
    qobject_unref(reply);
}

static void plug_fails(CXLTopology *t, const char *properties,
                       const char *message)
{
    QDict *reply = plug(t, properties);

    if (!qdict_haskey(reply, "error") ||
        !strstr(qdict_get_str(qdict_get_qdict(reply, "error"), "desc"),
                message)) {
        g_autoptr(GString) json = qobject_to_json(QOBJECT(reply));

        g_error("expected '%s' in: %s", message, json->str);
    }
    qobject_unref(reply);
}

static void test_plug(gconstpointer data)
{
    /* cxl.0 has no decoders, cxl.1 has */
    CXLTopology *t = cxl_topology_start(
        mode_sim(data, "--memory=512M --devices=4"),
        SWITCHES_BRIDGE SWITCHES_RP0
        " -device pxb-cxl,id=cxl.1,bus=pcie.0,bus_nr=64"
        " -device cxl-rp,id=rp2,bus=cxl.1,chassis=3,slot=2,port=0"
        " -device cxl-rp,id=rp3,bus=cxl.1,chassis=3,slot=3,port=1"
        DEVICE(3, "rp3")
        " -M " WINDOW(0, "cxl.0", "2G") "," WINDOW(1, "cxl.1", "1G"),
        bridges_12_64);
    uint64_t place;
    CXLNode *node;

    plug_ok(t, "'id': 'dev1', 'host': '" HOST(1) "', 'bus': 'rp0'");
    cxl_node_power_slot(t, cxl_topology_find(t, "rp0"), true);
    cxl_topology_enumerate(t);
    node = cxl_topology_find(t, "dev1");
    place = ROUND_UP(t->window[0], GiB);
    g_assert_cmphex(cxl_node_base(t, node, 0), ==, place);
    g_assert_cmphex(cxl_node_size(t, node, 0), ==, 2 * M256);
    g_assert_true(cxl_topology_shows(t, place, HOST(1), 0));
    /* Firmware has finished its part */
    cxl_node_bus_reset(t, cxl_topology_find(t, "rp0"));
    cxl_topology_enumerate(t);
    g_assert_cmphex(cxl_node_base(t, cxl_topology_find(t, "dev1"), 0), ==, 0);

    /* If a decoder has to be programmed, it arrives uncommitted */
    plug_ok(t, "'id': 'dev2', 'host': '" HOST(2) "', 'bus': 'rp2'");
    cxl_node_power_slot(t, cxl_topology_find(t, "rp2"), true);
    cxl_topology_enumerate(t);
    g_assert_false(committed(t, cxl_topology_find(t, "dev2"), 0));
    g_assert_true(committed(t, cxl_topology_find(t, "cxl.1"), 0));
    g_assert_false(committed(t, cxl_topology_find(t, "cxl.1"), 1));

    /* The next system reset places all of them */
    qtest_system_reset(t->qts);
    cxl_topology_enumerate(t);
    g_assert_true(cxl_topology_shows(t, place, HOST(1), 0));
    place = cxl_node_base(t, cxl_topology_find(t, "dev2"), 0);
    g_assert_true(cxl_topology_shows(t, place, HOST(2), 0));
    place = cxl_node_base(t, cxl_topology_find(t, "dev3"), 0);
    g_assert_true(cxl_topology_shows(t, place, HOST(3), 0));
    cxl_topology_stop(t);
}

/* The guest turns the slot off */
static void unplug(CXLTopology *t, const char *port)
{
    cxl_node_power_slot(t, cxl_topology_find(t, port), false);
    qtest_qmp_eventwait(t->qts, "DEVICE_DELETED");
}

/* Decoders that an unplugged device has left lead to the next one */
static void test_plug_decoded(gconstpointer data)
{
    CXLTopology *t = cxl_topology_start(
        mode_sim(data, "--memory=512M --devices=2"),
        SWITCHES_PORTS DEVICE(1, "ds2") DEVICE(2, "ds3") ONE_WINDOW("2G"),
        bridge_12);
    CXLNode *ports[] = {
        cxl_topology_find(t, "cxl.0"), cxl_topology_find(t, "us0"),
        cxl_topology_find(t, "us1")
    };
    uint64_t place[] = {
        cxl_node_base(t, cxl_topology_find(t, "dev1"), 0),
        cxl_node_base(t, cxl_topology_find(t, "dev2"), 0),
    };

    for (int i = 0; i < ARRAY_SIZE(ports); i++) {
        unplug(t, "ds2");
        unplug(t, "ds3");
        /* In the other order: each gets its own place */
        plug_ok(t, "'id': 'dev2', 'host': '" HOST(2) "', 'bus': 'ds3'");
        cxl_node_power_slot(t, cxl_topology_find(t, "ds3"), true);
        plug_ok(t, "'id': 'dev1', 'host': '" HOST(1) "', 'bus': 'ds2'");
        cxl_node_power_slot(t, cxl_topology_find(t, "ds2"), true);
        cxl_topology_enumerate(t);
        g_assert_true(cxl_topology_shows(t, place[0], HOST(1), 0));
        g_assert_true(cxl_topology_shows(t, place[1], HOST(2), 0));

        /* Without one of the decoders, or with another range, it does not */
        unplug(t, "ds2");
        for (unsigned n = 0; n < 2; n++) {
            if (cxl_node_base(t, ports[i], n) == place[0]) {
                decommit(t, ports[i], n);
                cxl_node_write(t, ports[i], HDM_SIZE_LO(n), M256);
                if (i == 1) {
                    recommit(t, ports[i], n);
                }
            }
        }
        plug_ok(t, "'id': 'dev1', 'host': '" HOST(1) "', 'bus': 'ds2'");
        cxl_node_power_slot(t, cxl_topology_find(t, "ds2"), true);
        cxl_topology_enumerate(t);
        g_assert_false(committed(t, cxl_topology_find(t, "dev1"), 0));
        g_assert_true(cxl_topology_shows(t, place[1], HOST(2), 0));
        qtest_system_reset(t->qts);
        cxl_topology_enumerate(t);
        g_assert_true(cxl_topology_shows(t, place[0], HOST(1), 0));
    }
    /* Nor does a device with memory of the other type */
    unplug(t, "ds2");
    qobject_unref(vfio_sim_command(t->sim, "set " HOST(1)
                                   " mangle=hdm-host-only"));
    plug_ok(t, "'id': 'dev1', 'host': '" HOST(1) "', 'bus': 'ds2'");
    cxl_node_power_slot(t, cxl_topology_find(t, "ds2"), true);
    cxl_topology_enumerate(t);
    g_assert_false(committed(t, cxl_topology_find(t, "dev1"), 0));
    cxl_topology_stop(t);
}

/* Two functions behind the same port never get the same range */
static void test_plug_functions(gconstpointer data)
{
    CXLTopology *t = cxl_topology_start(
        mode_sim(data, "--memory=512M --devices=2"),
        SWITCHES_BRIDGE SWITCHES_RP0 SWITCHES_RP1
        DEVICE(1, "rp0") ",addr=0.0,multifunction=on"
        DEVICE(2, "rp0") ",addr=0.1" ONE_WINDOW("2G"), bridge_12);
    uint64_t place[] = {
        cxl_node_base(t, cxl_topology_find(t, "dev1"), 0),
        cxl_node_base(t, cxl_topology_find(t, "dev2"), 0),
    };
    uint64_t first, second;

    cxl_node_power_slot(t, cxl_topology_find(t, "rp0"), false);
    qtest_qmp_eventwait(t->qts, "DEVICE_DELETED");
    qtest_qmp_eventwait(t->qts, "DEVICE_DELETED");
    plug_ok(t, "'id': 'dev2', 'host': '" HOST(2) "', 'bus': 'rp0', "
            "'addr': '0.1'");
    plug_ok(t, "'id': 'dev1', 'host': '" HOST(1) "', 'bus': 'rp0', "
            "'addr': '0.0', 'multifunction': true");
    cxl_node_power_slot(t, cxl_topology_find(t, "rp0"), true);
    cxl_topology_enumerate(t);
    first = cxl_node_base(t, cxl_topology_find(t, "dev1"), 0);
    second = cxl_node_base(t, cxl_topology_find(t, "dev2"), 0);
    g_assert_cmphex(MIN(first, second), ==, MIN(place[0], place[1]));
    g_assert_cmphex(MAX(first, second), ==, MAX(place[0], place[1]));
    g_assert_true(cxl_topology_shows(t, first, HOST(1), 0));
    g_assert_true(cxl_topology_shows(t, second, HOST(2), 0));
    cxl_topology_stop(t);
}

/* A device that could not be placed at the next reset is refused cleanly */
static void test_plug_refused(gconstpointer data)
{
    CXLTopology *t = cxl_topology_start(
        mode_sim(data, "--memory=512M --devices=4"),
        SWITCHES_BRIDGE SWITCHES_RP0 SWITCHES_RP1
        " -device cxl-rp,id=rp2,bus=cxl.0,chassis=0,slot=2,port=2"
        DEVICE(1, "rp0")
        " -device pxb-cxl,id=cxl.1,bus=pcie.0,bus_nr=64"
        " -device cxl-rp,id=rp3,bus=cxl.1,chassis=3,slot=3"
        " -device pxb-cxl,id=cxl.2,bus=pcie.0,bus_nr=80"
        " -device cxl-rp,id=rp4,bus=cxl.2,chassis=3,slot=4,port=0"
        " -device cxl-rp,id=rp5,bus=cxl.2,chassis=3,slot=5,port=1"
        DEVICE(3, "rp4")
        " -M " WINDOW(0, "cxl.0", "1G") "," WINDOW(1, "cxl.2", "768M"),
        (const char *const []) { "cxl.0=12", "cxl.1=64", "cxl.2=80", NULL });
    uint64_t place = cxl_node_base(t, cxl_topology_find(t, "dev3"), 0);

    plug_fails(t, "'id': 'dev2', 'host': '" HOST(2) "', 'bus': 'rp1'",
               "'rp2' has the same port number 2");
    plug_fails(t, "'id': 'dev2', 'host': '" HOST(2) "', 'bus': 'rp3'",
               "no CXL fixed memory window that targets host bridge 'cxl.1'");
    plug_fails(t, "'id': 'dev2', 'host': '" HOST(2) "', 'bus': 'rp5'",
               "the next system reset could not place all");
    g_assert_true(cxl_topology_shows(t, place, HOST(3), 0));
    qtest_system_reset(t->qts);
    cxl_topology_enumerate(t);
    g_assert_true(cxl_topology_shows(t, place, HOST(3), 0));
    /* Left to the guest it needs no place of its own */
    plug_ok(t, "'id': 'dev2', 'host': '" HOST(2) "', 'bus': 'rp5', "
            "'x-cxl-commit': 'guest'");
    cxl_topology_stop(t);
}

/* Impossible setups are refused at start, with a message that helps */
static void test_refusals(gconstpointer data)
{
    g_autoptr(GString) many = g_string_new("");

    mode_refused(data, "--devices=2 --memory=256M",
                 SWITCHES_BRIDGE SWITCHES_RP0
                 " -device cxl-rp,id=rp1,bus=cxl.0,chassis=0,slot=1,port=0"
                 CXL_WINDOW, ",bus=rp1",
                 "rp1: 'rp0' has the same port number 0, so decoders "
                 "cannot tell them apart: give each cxl-rp of a host bridge "
                 "or switch its own port=");
    mode_refused(data, "--memory=256M",
                 CXL_BRIDGE " -device cxl-upstream,id=us0,bus=rp0"
                 " -device cxl-downstream,id=ds0,bus=us0,chassis=1,slot=0"
                 " -device cxl-downstream,id=ds1,bus=us0,chassis=1,slot=1"
                 CXL_WINDOW, ",bus=ds0,x-cxl-commit=guest",
                 "give each cxl-downstream of a host bridge or switch its own "
                 "port=");
    mode_refused(data, "--memory=256M", CXL_BRIDGE
                 " -device cxl-upstream,id=us0,bus=rp0" CXL_WINDOW,
                 ",bus=us0,x-cxl=on", "not below a CXL root port");
    mode_refused(data, "--memory=256M", CXL_BRIDGE
                 " -object memory-backend-ram,id=mem0,size=256M"
                 " -device cxl-type3,id=type3,bus=rp0,volatile-memdev=mem0,"
                 "multifunction=on,addr=0.0" CXL_WINDOW, ",bus=rp0,addr=0.1",
                 "give each device a port of its own with bus=");
    mode_refused(data, "--memory=512M --devices=4",
                 SWITCHES_BRIDGE SWITCHES_RP0 SWITCHES_RP1
                 DEVICE(2, "rp0") ONE_WINDOW("768M"), ",bus=rp1",
                 "has room for 512 MiB of device memory: add one with -M "
                 "cxl-fmw.1.targets.0=cxl.0,cxl-fmw.1.size=512M, or switch "
                 "CXL off for the device with x-cxl=off (all windows must be "
                 "given in one -M option)");

    /* Five ports in turn, and four decoders: the fifth does not find one */
    g_string_append(many, SWITCHES_BRIDGE ONE_WINDOW("8G"));
    for (unsigned i = 0; i < 5; i++) {
        g_string_append_printf(many, " -device cxl-rp,id=rp%u,bus=cxl.0,"
                               "chassis=0,slot=%u,port=%u", i, i, i);
        if (i) {
            g_string_append_printf(many, " -device vfio-pci,bus=rp%u,"
                                   "host=0000:c%u:00.0", i, i + 1);
        }
    }
    mode_refused(data, "--memory=256M --devices=5", many->str, ",bus=rp0",
                 "firmware needs more than the 4 HDM decoders above it: use "
                 "another pxb-cxl, or leave devices to the guest with "
                 "x-cxl-commit=guest");

    /* A host bridge out of reach */
    g_string_assign(many, CXL_BRIDGE CXL_WINDOW);
    for (unsigned i = 1; i < 17; i++) {
        g_string_append_printf(many, " -device pxb-cxl,id=cxl.%u,bus=pcie.0,"
                               "bus_nr=%u", i, 12 + 8 * i);
    }
    mode_refused(data, "--memory=256M", many->str, ",bus=rp0",
                 "the machine has room for the registers of 16 pxb-cxl, but "
                 "not for 17: add root ports to one of them instead, with "
                 "-device cxl-rp,bus=cxl.0,port=N");
}

/* Machines without passthrough start as they did */
static void test_too_many_bridges(void)
{
    g_autoptr(GString) many = g_string_new(cxl_machine_options());
    QTestState *qts;

    for (unsigned i = 0; i < 17; i++) {
        g_string_append_printf(many, " -device pxb-cxl,id=cxl.%u,bus=pcie.0,"
                               "bus_nr=%u", i, 12 + 8 * i);
    }
    qts = qtest_init(many->str);
    qemu_quit(qts);
}

/* The largest machine */
static void test_sixteen(gconstpointer data)
{
    g_autoptr(GString) options = g_string_new("");
    g_autoptr(GString) windows = g_string_new("");
    g_autoptr(GPtrArray) bridges = g_ptr_array_new_with_free_func(g_free);
    CXLTopology *t;

    if (strcmp(qtest_get_arch(), "aarch64")) {
        g_string_append(options, " -cpu max,phys-bits=44");
    }
    for (unsigned i = 0; i < 16; i++) {
        unsigned bus = 16 + 8 * i;

        g_string_append_printf(options,
            " -device pxb-cxl,id=cxl.%u,bus=pcie.0,bus_nr=%u"
            " -device cxl-rp,id=rp%u,bus=cxl.%u,chassis=0,slot=%u"
            " -device vfio-pci,id=dev%u,bus=rp%u,host=0000:%02x:00.0",
            i, bus, i, i, i, i, i, 0xc1 + i);
        g_string_append_printf(windows,
            "%scxl-fmw.%u.targets.0=cxl.%u,cxl-fmw.%u.size=256G",
            i ? "," : " -M ", i, i, i);
        g_ptr_array_add(bridges, g_strdup_printf("cxl.%u=%u", i, bus));
    }
    g_ptr_array_add(bridges, NULL);
    g_string_append(options, windows->str);
    t = cxl_topology_start(mode_sim(data, "--memory=256G --devices=16"),
                           options->str,
                           (const char *const *)bridges->pdata);
    for (unsigned i = 0; i < 16; i++) {
        g_autofree char *host = g_strdup_printf("0000:%02x:00.0", 0xc1 + i);

        g_assert_true(cxl_topology_shows(t, t->window[i], host, 0));
        g_assert_true(cxl_topology_shows(t, t->window[i] + 256 * GiB - 8, host,
                                         256 * GiB - 8));
    }
    cxl_topology_stop(t);
}

int main(int argc, char **argv)
{
    vfio_cxl_test_init(&argc, &argv);

    vfio_cxl_add("firmware-path", vfio_cxl_kernels, test_firmware_path);
    vfio_cxl_add("path", vfio_cxl_kernels, test_path);
    vfio_cxl_add("other-device", one_kernel, test_other_device);
    vfio_cxl_add("decoders", vfio_cxl_kernels_v2, test_decoders);
    vfio_cxl_add("firmware-order", one_kernel, test_firmware_order);
    vfio_cxl_add("plug-functions", gates, test_plug_functions);
    vfio_cxl_add("plug-decoded", one_kernel, test_plug_decoded);
    vfio_cxl_add("firmware-type", one_kernel, test_firmware_type);
    vfio_cxl_add("firmware-stable", one_kernel, test_firmware_stable);
    vfio_cxl_add("firmware-alignment", one_kernel, test_firmware_alignment);
    vfio_cxl_add("levels", one_kernel, test_levels);
    vfio_cxl_add("level-resets", one_kernel, test_level_resets);
    vfio_cxl_add("windows", one_kernel, test_windows);
    vfio_cxl_add("type3", one_kernel, test_type3);
    vfio_cxl_add("functions", gates, test_functions);
    vfio_cxl_add("plug", one_kernel, test_plug);
    vfio_cxl_add("plug-refused", one_kernel, test_plug_refused);
    vfio_cxl_add("refusals", one_kernel, test_refusals);
    vfio_cxl_add("sixteen", one_kernel, test_sixteen);
    qtest_add_func("vfio-cxl/too-many-bridges", test_too_many_bridges);
    return g_test_run();
}
