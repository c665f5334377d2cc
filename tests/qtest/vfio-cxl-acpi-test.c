/*
 * ACPI tables of machines with CXL devices behind vfio-pci
 *
 * What a guest's firmware would read is compared with the text in
 * tests/data/vfio-cxl. To regenerate that text, run the program for both
 * targets with VFIO_CXL_ACPI_REBUILD=tests/data/vfio-cxl of the source tree,
 * and review the difference.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "vfio-cxl-helpers.h"
#include "vfio-cxl-tables.h"

/* The tables do not depend on the kernel's generation: use any */
static const VFIOCXLMode mode = { "v6", false };

/* CXL r3.1 Section 9.18.1.3 */
#define DEVICE_COHERENT 0x01
#define HOST_ONLY       0x02
#define VOLATILE        0x04
#define PERSISTENT      0x08
#define FIXED           0x10
#define BACK_INVALIDATE 0x20
#define ANY             (DEVICE_COHERENT | HOST_ONLY | VOLATILE | PERSISTENT | \
                         BACK_INVALIDATE)

#define TYPE3_BRIDGE \
    " -device pxb-cxl,id=cxl.1,bus=pcie.0,bus_nr=24" \
    " -device cxl-rp,id=rp1,bus=cxl.1,chassis=1,slot=1,port=1" \
    " -object memory-backend-ram,id=mem0,size=256M" \
    " -device cxl-type3,id=type3,bus=rp1,volatile-memdev=mem0"
#define SECOND_PORT \
    " -device cxl-rp,id=rp2,bus=cxl.0,chassis=0,slot=2,port=2,addr=1"
#define TWO_WINDOWS \
    " -M cxl-fmw.0.targets.0=cxl.0,cxl-fmw.0.size=4G," \
    "cxl-fmw.1.targets.0=cxl.1,cxl-fmw.1.size=4G"

static bool is_q35(void)
{
    return g_str_equal(qtest_get_arch(), "x86_64");
}

static CXLMachine *start(const char *sim_options, const char *topology)
{
    return cxl_machine_start(mode_sim(&mode, sim_options), topology, false,
                             "");
}

/* Compare with tests/data/vfio-cxl/MACHINE-NAME, or write that */
static void check(const char *name, const char *found)
{
    g_autofree char *text = g_strconcat("# SPDX-", "License-Identifier: "
                                        "GPL-2.0-or-later\n", found, NULL);
    const char *rebuild = getenv("VFIO_CXL_ACPI_REBUILD");
    g_autofree char *file = g_strdup_printf("%s/%s-%s",
                                            rebuild ?: "tests/data/vfio-cxl",
                                            is_q35() ? "q35" : "virt", name);
    g_autofree char *expected = NULL;

    if (rebuild) {
        g_assert_true(g_file_set_contents(file, text, -1, NULL));
    }
    g_assert_true(g_file_get_contents(file, &expected, NULL, NULL));
    if (!g_str_equal(text, expected)) {
        g_auto(GStrv) now = g_strsplit(text, "\n", -1);
        g_auto(GStrv) then = g_strsplit(expected, "\n", -1);
        int i = 0;

        while (now[i] && g_strcmp0(now[i], then[i]) == 0) {
            i++;
        }
        g_error("%s:%d: expected '%s', found '%s' in:\n%s", file, i + 1,
                then[i], now[i], text);
    }
}

static char *bridge_text(GByteArray *tables, unsigned bus)
{
    g_autofree char *name = g_strdup_printf(is_q35() ? "CL%.02X" : "PC%.02X",
                                            bus);

    return acpi_device_text(tables, name);
}

/* Window Restrictions of the n-th window */
static unsigned restrictions(CXLMachine *m, unsigned n)
{
    g_autoptr(GByteArray) tables = acpi_tables_read(m->qts);
    unsigned length, entry_length;
    uint8_t *table = acpi_tables_find(tables, "CEDT", &length);

    g_assert_nonnull(table);
    for (unsigned at = 36; at < length; at += entry_length) {
        entry_length = lduw_le_p(table + at + 2);
        if (table[at] == 1 && n-- == 0) {
            return lduw_le_p(table + at + 32);
        }
    }
    g_assert_not_reached();
}

static void reset(CXLMachine *m)
{
    qobject_unref(qtest_qmp(m->qts, "{ 'execute': 'system_reset' }"));
    qtest_qmp_eventwait(m->qts, "RESET");
    cxl_machine_enumerate(m);
}

static void assert_restrictions(const char *sim_options, const char *topology,
                                const char *properties, unsigned expected)
{
    CXLMachine *m = cxl_machine_start(mode_sim(&mode, sim_options), topology,
                                      false, properties);

    g_assert_cmphex(restrictions(m, 0), ==, expected);
    cxl_machine_stop(m);
}

/* A bridge of a passed-through device, next to one of a type 3 device */
static void test_two_bridges(void)
{
    CXLMachine *m = start("", CXL_BRIDGE TYPE3_BRIDGE TWO_WINDOWS);
    g_autoptr(GByteArray) tables = acpi_tables_read(m->qts);
    g_autofree char *cedt = acpi_cedt_text(tables);

    check("two-bridges-cedt", cedt);
    if (acpi_has_iasl()) {
        g_autofree char *first = bridge_text(tables, 12);
        g_autofree char *second = bridge_text(tables, 24);

        check("passthrough-bridge", first);
        check("type3-bridge", second);
        g_assert_nonnull(strstr(first, "_DSM"));
        g_assert_null(strstr(second, "_DSM"));
    } else {
        g_test_skip("no iasl (Debian: acpica-tools)");
    }
    cxl_machine_stop(m);
}

/* A bridge without a device that is used with CXL looks as upstream */
static void test_plain(void)
{
    CXLMachine *m = cxl_machine_start(mode_sim(&mode, ""),
                                      CXL_BRIDGE CXL_WINDOW, false,
                                      ",x-cxl=off");

    g_assert_cmphex(restrictions(m, 0), ==, ANY);
    if (acpi_has_iasl()) {
        g_autoptr(GByteArray) tables = acpi_tables_read(m->qts);
        g_autofree char *bridge = bridge_text(tables, 12);

        g_assert_nonnull(strstr(bridge, "_OSC"));
        g_assert_null(strstr(bridge, "_DSM"));
    } else {
        g_test_skip("no iasl (Debian: acpica-tools)");
    }
    cxl_machine_stop(m);
}

static bool keeps_config(const char *topology)
{
    CXLMachine *m = start("", topology);
    g_autoptr(GByteArray) tables = acpi_tables_read(m->qts);
    g_autofree char *bridge = bridge_text(tables, 12);

    cxl_machine_stop(m);
    return strstr(bridge, "_DSM");
}

/* Devices plugged in later need addresses that firmware has not assigned */
static void test_waiting_port(void)
{
    if (!acpi_has_iasl()) {
        g_test_skip("no iasl (Debian: acpica-tools)");
        return;
    }
    g_assert_true(keeps_config(CXL_BRIDGE CXL_WINDOW));
    g_assert_true(keeps_config(CXL_BRIDGE CXL_WINDOW SECOND_PORT
                               ",hotplug=off"));
    g_assert_false(keeps_config(CXL_BRIDGE CXL_WINDOW SECOND_PORT));
}

/* The window that no option asked for */
static void test_auto_window(void)
{
    CXLMachine *m = start("--memory=768M", CXL_BRIDGE);
    g_autoptr(GByteArray) tables = acpi_tables_read(m->qts);
    g_autofree char *cedt = acpi_cedt_text(tables);

    check("auto-window-cedt", cedt);
    cxl_machine_stop(m);
}

/* Restrictions depend on what else can be in the window */
static void test_restrictions(void)
{
    const unsigned device = DEVICE_COHERENT | VOLATILE;
    const char *type3 = CXL_BRIDGE CXL_WINDOW SECOND_PORT
        " -object memory-backend-ram,id=mem0,size=256M"
        " -device cxl-type3,id=type3,bus=rp2,volatile-memdev=mem0";

    assert_restrictions("", CXL_BRIDGE CXL_WINDOW, "", device | FIXED);
    /* Not locked, or not by firmware */
    assert_restrictions("--decoder=unlocked", CXL_BRIDGE CXL_WINDOW, "",
                        device);
    assert_restrictions("", CXL_BRIDGE CXL_WINDOW, ",x-cxl-commit=guest",
                        device);
    assert_restrictions("--mangle=hdm-host-only", CXL_BRIDGE CXL_WINDOW, "",
                        HOST_ONLY | VOLATILE | FIXED);
    /* Anything could be plugged into the second port */
    assert_restrictions("", CXL_BRIDGE CXL_WINDOW SECOND_PORT, "", ANY);
    assert_restrictions("", CXL_BRIDGE CXL_WINDOW SECOND_PORT ",hotplug=off",
                        "", device | FIXED);
    assert_restrictions("", type3, "", ANY);
}

/* A hot-plugged device can be unplugged: its place is not fixed */
static void test_hot_plug(void)
{
    CXLMachine *m = start("--devices=2", CXL_BRIDGE CXL_WINDOW SECOND_PORT);

    g_assert_cmphex(restrictions(m, 0), ==, ANY);
    qtest_qmp_device_add(m->qts, "vfio-pci", "dev1",
                         "{ 'host': '0000:c2:00.0', 'bus': 'rp2' }");
    reset(m);
    g_assert_cmphex(restrictions(m, 0), ==, DEVICE_COHERENT | VOLATILE);
    cxl_machine_stop(m);
}

/* NUMA nodes of the window and the device */
static void test_numa(void)
{
    g_autofree char *topology = g_strdup_printf(CXL_BRIDGE
        " -m 1G -M hmat=on"
        " -object memory-backend-ram,id=ram0,size=1G"
        " -numa node,nodeid=0,memdev=ram0,cpus=0,initiator=0"
        " -numa node,nodeid=1 -numa node,nodeid=2"
        " -object acpi-generic-port,id=gp0,pci-bus=cxl.0,node=1"
        " -object acpi-generic-initiator,id=gi0,pci-dev=dev0,node=2"
        " -numa hmat-lb,initiator=0,target=0,hierarchy=memory,"
        "data-type=access-latency,latency=10"
        " -numa hmat-lb,initiator=0,target=1,hierarchy=memory,"
        "data-type=access-latency,latency=200"
        " -numa hmat-lb,initiator=0,target=0,hierarchy=memory,"
        "data-type=access-bandwidth,bandwidth=20G"
        " -numa hmat-lb,initiator=0,target=1,hierarchy=memory,"
        "data-type=access-bandwidth,bandwidth=5G");
    CXLMachine *m = start("", topology);
    g_autoptr(GByteArray) tables = acpi_tables_read(m->qts);
    g_autofree char *srat = acpi_srat_text(tables);
    unsigned length;

    check("numa-srat", srat);
    g_assert_nonnull(acpi_tables_find(tables, "HMAT", &length));
    cxl_machine_stop(m);
}

/*
 * SMMUv3, arm virt only
 */
static CXLMachine *start_smmu(const char *options)
{
    CXLMachine *m = g_new0(CXLMachine, 1);

    m->sim = vfio_sim_start("");
    m->qts = qtest_initf("%s%s%s", cxl_machine_options(), CXL_BRIDGE, options);
    /* The bus range in the IORT is what firmware has programmed */
    cxl_machine_enumerate(m);
    return m;
}

static void check_iort(const char *name, const char *options)
{
    CXLMachine *m = start_smmu(options);
    g_autoptr(GByteArray) tables = acpi_tables_read(m->qts);
    g_autofree char *iort = acpi_iort_text(tables);

    check(name, iort);
    cxl_machine_stop(m);
}

#define VIRTIO_BLK \
    " -drive if=none,id=disk0,driver=null-co" \
    " -device virtio-blk-pci,id=blk0,bus=rp0,drive=disk0"
/* There is an ITS behind the SMMUs only with GICv3 */
#define WITH_ITS VIRTIO_BLK " -M gic-version=3"

static void test_smmu(void)
{
    check_iort("smmuv3-iort", WITH_ITS
               " -device arm-smmuv3,id=smmu0,primary-bus=cxl.0");
    check_iort("two-smmuv3-iort", WITH_ITS
               " -device arm-smmuv3,id=smmu0,primary-bus=cxl.0"
               " -device arm-smmuv3,id=smmu1,primary-bus=pcie.0");
    check_iort("machine-smmuv3-iort", WITH_ITS " -M iommu=smmuv3");
}

/* This release's SMMUv3 does not tell VFIO what the guest maps */
static void test_smmu_vfio(void)
{
    const VFIOCXLMode iommufd = { "v6", true };
    const char *options = CXL_BRIDGE CXL_WINDOW
                          " -device arm-smmuv3,id=smmu0,primary-bus=cxl.0";

    mode_refused(&mode, "", options, ",bus=rp0",
                 "requires iommu MAP notifier which is not currently "
                 "supported");
    mode_refused(&iommufd, "", options, ",bus=rp0",
                 "requires iommu MAP notifier which is not currently "
                 "supported");
}

int main(int argc, char **argv)
{
    vfio_cxl_test_init(&argc, &argv);
    qtest_add_func("vfio-cxl/acpi/two-bridges", test_two_bridges);
    qtest_add_func("vfio-cxl/acpi/plain", test_plain);
    qtest_add_func("vfio-cxl/acpi/waiting-port", test_waiting_port);
    qtest_add_func("vfio-cxl/acpi/auto-window", test_auto_window);
    qtest_add_func("vfio-cxl/acpi/restrictions", test_restrictions);
    qtest_add_func("vfio-cxl/acpi/hot-plug", test_hot_plug);
    qtest_add_func("vfio-cxl/acpi/numa", test_numa);
    if (!is_q35()) {
        qtest_add_func("vfio-cxl/acpi/smmu", test_smmu);
        qtest_add_func("vfio-cxl/acpi/smmu-vfio", test_smmu_vfio);
    }
    return g_test_run();
}
