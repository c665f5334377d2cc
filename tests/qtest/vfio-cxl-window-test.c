/*
 * CXL fixed memory windows for devices behind vfio-pci: made by the machine if
 * no option asks for any, and refused if they cannot be
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "qobject/qnum.h"
#include "libqos/fw_cfg.h"
#include "vfio-cxl-helpers.h"

/* The machine does not depend on the kernel's generation: use any */
static const VFIOCXLMode mode = { "v6", false };

#define SECOND_BRIDGE \
    " -device pxb-cxl,id=cxl.1,bus=pcie.0,bus_nr=24" \
    " -device cxl-rp,id=rp1,bus=cxl.1,chassis=1,slot=1,port=1"
#define SECOND_PORT \
    " -device cxl-rp,id=rp2,bus=cxl.0,chassis=1,slot=2,port=2,addr=1"
#define SECOND_DEVICE(bus) \
    " -device vfio-pci,id=dev1,host=0000:c2:00.0,bus=" bus
#define WINDOW(n, target, size) \
    " -M cxl-fmw." n ".targets.0=" target ",cxl-fmw." n ".size=" size

static bool is_q35(void)
{
    return g_str_equal(qtest_get_arch(), "x86_64");
}

/* Where automatic windows begin on a small machine */
static uint64_t first_window(void)
{
    return is_q35() ? 5 * GiB : 1 * TiB;
}

/* The windows of a running machine, one "first-last" after the other */
static char *windows(CXLMachine *m)
{
    g_autofree char *tree = qtest_hmp(m->qts, "info mtree");
    g_auto(GStrv) lines = g_strsplit(tree, "\n", -1);
    GString *found = g_string_new(NULL);

    /* The same tree is shown for each address space that it is in */
    for (int i = 0; lines[i]; i++) {
        g_autofree char *range = g_strndup(g_strchug(lines[i]), 33);

        if (strstr(lines[i], "cxl-fixed-memory-region") &&
            !strstr(found->str, range)) {
            g_string_append_printf(found, "%s ", range);
        }
    }
    return g_string_free(found, false);
}

static void append_range(GString *text, uint64_t base, uint64_t size)
{
    g_string_append_printf(text, "%016" PRIx64 "-%016" PRIx64 " ", base,
                           base + size - 1);
}

static void assert_windows(CXLMachine *m, GString *expected)
{
    g_autofree char *found = windows(m);

    g_assert_cmpstr(found, ==, expected->str);
    g_string_free(expected, true);
}

static CXLMachine *start(const char *sim_options, const char *topology)
{
    return cxl_machine_start(mode_sim(&mode, sim_options), topology, false,
                             "");
}

static void refused(const char *sim_options, const char *options,
                    const char *message)
{
    mode_refused(&mode, sim_options, options, ",bus=rp0", message);
}

/* One device, one window of its size, in which firmware has placed it */
static void test_one(void)
{
    CXLMachine *m = start("--memory=768M", CXL_BRIDGE);
    GString *expected = g_string_new(NULL);

    append_range(expected, first_window(), 3 * M256);
    assert_windows(m, expected);
    g_assert_cmphex(hdm_base(m, 0), ==, first_window());
    g_assert_true(shows_memory(m, first_window(), 0));
    g_assert_true(shows_memory(m, first_window() + 3 * M256 - 8,
                               3 * M256 - 8));
    /* It is there after each reset, not made again */
    qobject_unref(qtest_qmp(m->qts, "{ 'execute': 'system_reset' }"));
    qtest_qmp_eventwait(m->qts, "RESET");
    cxl_machine_enumerate(m);
    expected = g_string_new(NULL);
    append_range(expected, first_window(), 3 * M256);
    assert_windows(m, expected);
    g_assert_true(shows_memory(m, first_window(), 0));
    cxl_machine_stop(m);
}

/* The guest's software needs a window as much as firmware */
static void test_guest_commits(void)
{
    CXLMachine *m = cxl_machine_start(mode_sim(&mode, ""), CXL_BRIDGE, true,
                                      ",x-cxl-commit=guest");

    hdm_enable(m);
    g_assert_true(hdm_commit(m, first_window(), M256));
    g_assert_true(shows_memory(m, first_window(), 0));
    cxl_machine_stop(m);
}

/* Two devices of one bridge share a window; each is aligned to 1 GiB in it */
static void test_two_devices(void)
{
    CXLMachine *m = start("--devices=2 --memory=512M",
                          CXL_BRIDGE SECOND_PORT SECOND_DEVICE("rp2"));
    GString *expected = g_string_new(NULL);

    cxl_machine_enable_second(m, 1);
    append_range(expected, first_window(), GiB + 2 * M256);
    assert_windows(m, expected);
    g_assert_true(shows_memory(m, first_window(), 0));
    g_assert_cmphex(qtest_readq(m->qts, first_window() + GiB), ==, 0);
    qtest_writeq(m->qts, first_window() + GiB, 0x1234);
    g_assert_cmphex(qtest_readq(m->qts, first_window() + GiB), ==, 0x1234);
    cxl_machine_stop(m);
}

/* One window for each bridge, the same whatever the order of the options */
static void test_two_bridges(void)
{
    static const char *const orders[] = {
        CXL_BRIDGE SECOND_BRIDGE SECOND_DEVICE("rp1"),
        SECOND_BRIDGE CXL_BRIDGE SECOND_DEVICE("rp1"),
        SECOND_BRIDGE SECOND_DEVICE("rp1") CXL_BRIDGE,
    };

    for (int i = 0; i < ARRAY_SIZE(orders); i++) {
        CXLMachine *m = start("--devices=2", orders[i]);
        GString *expected = g_string_new(NULL);

        append_range(expected, first_window(), M256);
        append_range(expected, first_window() + GiB, M256);
        assert_windows(m, expected);
        g_assert_cmphex(hdm_base(m, 0), ==, first_window());
        cxl_machine_stop(m);
    }
}

/* A bridge without an id can be a target, too; one without devices is none */
static void test_no_id(void)
{
    CXLMachine *m = start("", " -device pxb-cxl,bus=pcie.0,bus_nr=12"
        " -device cxl-rp,id=rp0,bus=pxb-cxl-bus.0,chassis=0,slot=0,port=0"
        SECOND_BRIDGE);
    GString *expected = g_string_new(NULL);

    append_range(expected, first_window(), M256);
    assert_windows(m, expected);
    g_assert_true(shows_memory(m, first_window(), 0));
    cxl_machine_stop(m);
}

/* No passed-through CXL device, no window */
static void test_none(void)
{
    CXLMachine *m = cxl_machine_start(mode_sim(&mode, ""), CXL_BRIDGE, false,
                                      ",x-cxl=off");

    assert_windows(m, g_string_new(NULL));
    cxl_machine_stop(m);
}

/* With any option the machine makes none, even if that is not enough */
static void test_option_wins(void)
{
    CXLMachine *m = start("", CXL_BRIDGE CXL_WINDOW SECOND_BRIDGE);
    GString *expected = g_string_new(NULL);

    append_range(expected, is_q35() ? 4 * GiB + M256 : 1 * TiB, 4 * GiB);
    assert_windows(m, expected);
    cxl_machine_stop(m);

    refused("", CXL_BRIDGE SECOND_BRIDGE WINDOW("0", "cxl.1", "4G"),
            "cxl-fmw.1.targets.0=cxl.0,cxl-fmw.1.size=256M");
    refused("", CXL_BRIDGE SECOND_BRIDGE " -M cxl-fmw.0.targets.0=cxl.0,"
            "cxl-fmw.0.targets.1=cxl.1,cxl-fmw.0.size=4G",
            "targets host bridge 'cxl.0' alone");
    refused("--memory=512M", CXL_BRIDGE WINDOW("0", "cxl.0", "256M"),
            "cxl-fmw.1.targets.0=cxl.0,cxl-fmw.1.size=512M");
    refused("--memory=512M", CXL_BRIDGE WINDOW("0", "cxl.0", "256M"),
            "x-cxl=off");
}

static void assert_plug_refused(CXLMachine *m, const char *bus,
                                const char *message)
{
    QDict *reply = qtest_qmp(m->qts, "{ 'execute': 'device_add', 'arguments':"
                             " { 'driver': 'vfio-pci', 'id': 'dev1',"
                             "   'host': '0000:c2:00.0', 'bus': %s } }", bus);
    const char *desc = qdict_get_str(qdict_get_qdict(reply, "error"), "desc");

    if (!strstr(desc, message)) {
        g_error("expected '%s' in: %s", message, desc);
    }
    qobject_unref(reply);
}

/* A device that is plugged in is told which windows would have room for it */
static void test_hot_plug(void)
{
    CXLMachine *m = start("--devices=2",
                          CXL_BRIDGE SECOND_PORT SECOND_BRIDGE);

    assert_plug_refused(m, "rp1", "-M cxl-fmw.0.targets.0=cxl.0,"
                        "cxl-fmw.0.size=256M,cxl-fmw.1.targets.0=cxl.1,"
                        "cxl-fmw.1.size=256M, or");
    assert_plug_refused(m, "rp2", "-M cxl-fmw.0.targets.0=cxl.0,"
                        "cxl-fmw.0.size=1280M, or");
    cxl_machine_stop(m);
}

/*
 * q35
 */
static uint64_t host_property(CXLMachine *m, const char *name)
{
    QDict *reply = qtest_qmp(m->qts, "{ 'execute': 'qom-get', 'arguments': {"
                             " 'path': '/machine/q35', 'property': %s } }",
                             name);
    uint64_t value = qnum_get_uint(qobject_to(QNum,
                                              qdict_get(reply, "return")));

    qobject_unref(reply);
    return value;
}

/* Guest firmware is told of them, and PCI's 64-bit addresses follow */
static void test_q35_map(void)
{
    /* One window ends at 5.25 GiB, the next begins at 6 GiB */
    CXLMachine *m = start("--devices=2", CXL_BRIDGE SECOND_BRIDGE
                          SECOND_DEVICE("rp1"));
    QFWCFG *fw_cfg = pc_fw_cfg_init(m->qts);
    uint64_t end;

    g_assert_cmpuint(qfw_cfg_get_file(fw_cfg, "etc/reserved-memory-end", &end,
                                      sizeof(end)), ==, sizeof(end));
    g_assert_cmphex(le64_to_cpu(end), ==, 7 * GiB);
    g_assert_cmphex(host_property(m, "pci-hole64-start"), ==, 7 * GiB);
    pc_fw_cfg_uninit(fw_cfg);
    cxl_machine_stop(m);
}

/* Pluggable memory keeps its place below them */
static void test_q35_memory(void)
{
    CXLMachine *m = start("", CXL_BRIDGE " -m 256M,slots=2,maxmem=4G");
    GString *expected = g_string_new(NULL);

    /* 4 GiB, 3840 MiB of memory and 1 GiB for each slot; the registers */
    append_range(expected, 11 * GiB - GiB, M256);
    assert_windows(m, expected);
    cxl_machine_stop(m);
}

static void test_q35_phys_bits(void)
{
    CXLMachine *m;
    GString *expected = g_string_new(NULL);

    refused("--memory=1008G", CXL_BRIDGE " -cpu Skylake-Server,phys-bits=40",
            "use -cpu with phys-bits=41");
    refused("--memory=1008G", CXL_BRIDGE " -cpu Skylake-Server,phys-bits=40",
            "(phys-bits=40) has no room");
    /* AMD's IOMMUs have a hole below 1 TiB */
    refused("--memory=1000G", CXL_BRIDGE " -cpu EPYC,phys-bits=40",
            "use -cpu with phys-bits=42");
    m = start("--memory=1000G", CXL_BRIDGE " -cpu EPYC,phys-bits=42");
    append_range(expected, TiB, 1000 * GiB);
    assert_windows(m, expected);
    g_assert_cmphex(host_property(m, "pci-hole64-start"), ==,
                    TiB + 1000 * GiB);
    cxl_machine_stop(m);
    m = start("--memory=1000G", CXL_BRIDGE
              " -cpu Skylake-Server,phys-bits=42");
    expected = g_string_new(NULL);
    append_range(expected, 5 * GiB, 1000 * GiB);
    assert_windows(m, expected);
    cxl_machine_stop(m);
    /* Older machines do not know about the hole */
    m = start("--memory=1000G", CXL_BRIDGE
              " -cpu EPYC,phys-bits=42 -M pc-q35-7.0");
    expected = g_string_new(NULL);
    append_range(expected, 5 * GiB, 1000 * GiB);
    assert_windows(m, expected);
    cxl_machine_stop(m);
}

/*
 * arm virt
 */

/* 40 bits are full: the room between RAM and the high regions is used */
static void test_virt_below_regions(void)
{
    CXLMachine *m = start("", CXL_BRIDGE " -cpu cortex-a53");
    GString *expected = g_string_new(NULL);

    append_range(expected, 2 * GiB, M256);
    assert_windows(m, expected);
    g_assert_true(shows_memory(m, 2 * GiB, 0));
    cxl_machine_stop(m);

    m = start("--memory=4G", CXL_BRIDGE
              " -cpu cortex-a53 -m 256M,slots=1,maxmem=249G");
    expected = g_string_new(NULL);
    append_range(expected, 252 * GiB, 4 * GiB);
    assert_windows(m, expected);
    cxl_machine_stop(m);

    refused("--memory=4G", CXL_BRIDGE
            " -cpu cortex-a53 -m 256M,slots=1,maxmem=250G",
            "-M cxl-fmw.0.targets.0=cxl.0,cxl-fmw.0.size=4096M");
    /* RAM may reach beyond the usual place of the high regions */
    refused("", CXL_BRIDGE " -cpu cortex-a53 -m 256M,slots=1,maxmem=300G",
            "The memory map of 40 bits has no room");
}

/* Windows that do not fit were left at address 0 */
static void test_virt_refused(void)
{
    refused("", CXL_BRIDGE CXL_WINDOW " -cpu cortex-a53",
            "Addressing limited to 40 bits, but with CXL fixed memory windows "
            "(cxl-fmw) of 4 GiB the memory map needs 41 bits");
    refused("", CXL_BRIDGE WINDOW("0", "cxl.0", "16T") " -cpu cortex-a57",
            "needs 45 bits");
    refused("", CXL_BRIDGE CXL_WINDOW " -M highmem=off",
            "needs 41 bits: use highmem=on");
    refused("", CXL_BRIDGE " -M highmem=off",
            "registers of CXL host bridges are at 0x4000000000: use "
            "highmem=on");
    refused("", CXL_BRIDGE " -M highmem-redists=off",
            "at 0x4000000000: use highmem-redists=on");
    /* A window over the registers */
    refused("", CXL_BRIDGE " -M highmem-redists=off,highmem-ecam=off,"
            "highmem-mmio=off" WINDOW("0", "cxl.0", "512G"),
            "or a CXL fixed memory window at 0x4000000000");
}

/* No host bridge, no clash; nor if disabled regions keep their place */
static void test_virt_not_refused(void)
{
    static const char *const options[] = {
        "-M virt,cxl=on,highmem-redists=off",
        "-M virt-7.1,cxl=on,highmem-redists=off" CXL_BRIDGE,
        "-M virt,cxl=on,highmem-redists=off,highmem-ecam=off" CXL_BRIDGE,
    };

    for (int i = 0; i < ARRAY_SIZE(options); i++) {
        QTestState *qts = qtest_initf("-cpu cortex-a57 %s", options[i]);

        qemu_quit(qts);
    }
}

int main(int argc, char **argv)
{
    vfio_cxl_test_init(&argc, &argv);
    qtest_add_func("vfio-cxl/windows/one", test_one);
    qtest_add_func("vfio-cxl/windows/guest-commits", test_guest_commits);
    qtest_add_func("vfio-cxl/windows/two-devices", test_two_devices);
    qtest_add_func("vfio-cxl/windows/two-bridges", test_two_bridges);
    qtest_add_func("vfio-cxl/windows/no-id", test_no_id);
    qtest_add_func("vfio-cxl/windows/none", test_none);
    qtest_add_func("vfio-cxl/windows/option-wins", test_option_wins);
    qtest_add_func("vfio-cxl/windows/hot-plug", test_hot_plug);
    if (is_q35()) {
        qtest_add_func("vfio-cxl/windows/map", test_q35_map);
        qtest_add_func("vfio-cxl/windows/memory", test_q35_memory);
        qtest_add_func("vfio-cxl/windows/phys-bits", test_q35_phys_bits);
    } else {
        qtest_add_func("vfio-cxl/windows/below-regions",
                       test_virt_below_regions);
        qtest_add_func("vfio-cxl/windows/refused", test_virt_refused);
        qtest_add_func("vfio-cxl/windows/not-refused", test_virt_not_refused);
    }
    return g_test_run();
}
