/*
 * CXL Type-2 devices behind vfio-pci: hostile writes to the CXL devices around
 * them, and nonsensical options
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "hw/pci/pci_regs.h"
#include "vfio-cxl-slot.h"
#include "vfio-cxl-topology.h"

/* CXL r3.1 Section 8.2.8.4: Mailbox Registers; QEMU has them at 0x88 */
#define MAILBOX             0x88
#define MAILBOX_CTRL        (MAILBOX + 0x04)
#define MAILBOX_CMD         (MAILBOX + 0x08)
#define MAILBOX_STATUS      (MAILBOX + 0x10)
#define MAILBOX_LENGTH      0x20
#define MAILBOX_DOORBELL    1
#define MAILBOX_IDENTIFY    0x4000ull
#define INVALID_PAYLOAD_LENGTH 0x16

#define COMPONENT_BLOCK     0x10000

static const char *const one_kernel[] = { "v6", NULL };

/* The device, and a switch with a type 3 device, below one host bridge */
static CXLTopology *start(void)
{
    static const char *const bridges[] = { "cxl.0=12", NULL };

    return cxl_topology_start(vfio_sim_start("--kernel=v5"),
        " -object memory-backend-ram,id=mem0,size=256M"
        " -device pxb-cxl,id=cxl.0,bus=pcie.0,bus_nr=12"
        " -device cxl-rp,id=rp0,bus=cxl.0,chassis=0,slot=0,port=0"
        " -device cxl-rp,id=rp1,bus=cxl.0,chassis=0,slot=1,port=1,addr=1"
        " -device cxl-upstream,id=usp0,bus=rp1"
        " -device cxl-downstream,id=dsp0,bus=usp0,chassis=0,slot=2,port=0"
        " -device cxl-type3,id=type3,bus=dsp0,volatile-memdev=mem0"
        " -device vfio-pci,id=dev0,host=" VFIO_CXL_HOST ",bus=rp0"
        " -M cxl-fmw.0.targets.0=cxl.0,cxl-fmw.0.size=4G", bridges);
}

static void assert_alive(CXLTopology *t)
{
    QDict *reply = qtest_qmp(t->qts, "{'execute': 'query-pci'}");

    g_assert_true(qdict_haskey(reply, "return"));
    qobject_unref(reply);
}

/* Enable more MSI vectors than a port has, then let it look at their number */
static void test_msi_vectors(gconstpointer data)
{
    static const char *const ports[] = { "rp0", "rp1", "usp0", "dsp0" };
    CXLTopology *t = start();

    for (int i = 0; i < ARRAY_SIZE(ports); i++) {
        CXLNode *node = cxl_topology_find(t, ports[i]);
        uint64_t flags = cxl_node_config(t, node,
            cxl_node_find_cap(t, node, PCI_CAP_ID_MSI) + PCI_MSI_FLAGS);

        for (unsigned value = 0; value < 0x80; value += 0x10) {
            qtest_writew(t->qts, flags, value);
            qtest_writew(t->qts, flags, value | PCI_MSI_FLAGS_ENABLE);
            qtest_writew(t->qts, flags, value);
        }
    }
    assert_alive(t);
    cxl_topology_stop(t);
}

/* How often a device is listed in "info pci" */
static unsigned listed(CXLTopology *t, const char *id)
{
    g_autofree char *text = qtest_hmp(t->qts, "info pci");
    g_autofree char *name = g_strdup_printf("id \"%s\"", id);
    unsigned count = 0;

    for (char *at = text; (at = strstr(at, name)); at++) {
        count++;
    }
    return count;
}

/* Bus numbers that form a loop */
static void test_bus_numbers(gconstpointer data)
{
    static const char *const ports[] = { "rp1", "usp0", "dsp0" };
    static const char *const devices[] = { "rp0", "rp1", "usp0", "dsp0",
                                           "type3", "dev0" };
    CXLTopology *t = start();

    for (int i = 0; i < ARRAY_SIZE(devices); i++) {
        g_assert_cmpint(listed(t, devices[i]), ==, 1);
    }
    for (int i = 0; i < ARRAY_SIZE(ports); i++) {
        CXLNode *node = cxl_topology_find(t, ports[i]);
        uint64_t bus = cxl_node_config(t, node, PCI_SECONDARY_BUS);
        uint8_t secondary = qtest_readb(t->qts, bus);

        for (int j = 0; j <= ARRAY_SIZE(ports); j++) {
            CXLNode *other = j ? cxl_topology_find(t, ports[j - 1]) : NULL;

            qtest_writeb(t->qts, bus, other ? other->bus : 12);
            assert_alive(t);
            for (int d = 0; d < ARRAY_SIZE(devices); d++) {
                g_assert_cmpint(listed(t, devices[d]), ==, 1);
            }
            qobject_unref(qtest_qmp(t->qts, "{'execute': 'query-vfio-cxl'}"));
        }
        qtest_writeb(t->qts, bus, secondary);
    }
    cxl_topology_stop(t);
}

/* Accesses of each size to each register of the mailbox of a type 3 device */
static void test_mailbox(gconstpointer data)
{
    CXLTopology *t = start();
    uint64_t regs = qtest_readl(t->qts, cxl_node_config(t,
        cxl_topology_find(t, "type3"), PCI_BASE_ADDRESS_2)) & ~0xf;

    /* It is there: Payload Size is at least 256 bytes */
    g_assert_cmpint(qtest_readl(t->qts, regs + MAILBOX) & 0x1f, >=, 8);
    for (unsigned at = 0; at < MAILBOX_LENGTH; at++) {
        qtest_writeb(t->qts, regs + MAILBOX + at, 0xff);
        qtest_readb(t->qts, regs + MAILBOX + at);
        if (!(at % 2)) {
            qtest_writew(t->qts, regs + MAILBOX + at, 0xffff);
            qtest_readw(t->qts, regs + MAILBOX + at);
        }
    }
    /* A payload that is longer than the mailbox */
    for (unsigned bits = 12; bits <= 20; bits++) {
        uint64_t length = (1ull << bits) - 1;

        qtest_writeq(t->qts, regs + MAILBOX_CMD,
                     MAILBOX_IDENTIFY | length << 16);
        qtest_writel(t->qts, regs + MAILBOX_CTRL, MAILBOX_DOORBELL);
        g_assert_cmphex(qtest_readl(t->qts, regs + MAILBOX_CTRL) &
                        MAILBOX_DOORBELL, ==, 0);
        g_assert_cmphex(qtest_readq(t->qts, regs + MAILBOX_STATUS) >> 32 &
                        0xffff, ==, INVALID_PAYLOAD_LENGTH);
    }
    /* It still works */
    qtest_writeq(t->qts, regs + MAILBOX_CMD, MAILBOX_IDENTIFY);
    qtest_writel(t->qts, regs + MAILBOX_CTRL, MAILBOX_DOORBELL);
    g_assert_cmphex(qtest_readq(t->qts, regs + MAILBOX_STATUS) >> 32 & 0xffff,
                    ==, 0);
    cxl_topology_stop(t);
}

/* All ones into every register of configuration space and component block */
static void test_all_registers(gconstpointer data)
{
    static const char *const nodes[] = { "type3", "dsp0", "usp0", "dev0",
                                         "rp1", "rp0" };
    CXLTopology *t = start();

    for (int i = 0; i < ARRAY_SIZE(nodes); i++) {
        CXLNode *node = cxl_topology_find(t, nodes[i]);
        uint64_t config = cxl_node_config(t, node, 0);

        for (unsigned at = 0; node->bar0 && at < COMPONENT_BLOCK; at += 4) {
            uint32_t value = qtest_readl(t->qts, node->bar0 + at);

            qtest_writel(t->qts, node->bar0 + at, 0xffffffff);
            qtest_writel(t->qts, node->bar0 + at, value);
        }
        for (unsigned at = 0; at < PCI_CFG_SPACE_EXP_SIZE; at += 2) {
            uint16_t value = qtest_readw(t->qts, config + at);

            qtest_writew(t->qts, config + at, 0xffff);
            qtest_writeb(t->qts, config + at, value);
            qtest_writew(t->qts, config + at, value);
        }
        assert_alive(t);
    }
    cxl_topology_stop(t);
}

/* "info mtree -f" does not prevent unplug */
static void test_mtree(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "", ",id=dev0");

    g_free(qtest_hmp(m->qts, "info mtree -f"));
    g_free(qtest_hmp(m->qts, "info mtree -f -d -o"));
    device_unplug(m);
    device_plug(m, data, VFIO_CXL_HOST, "");
    cxl_machine_stop(m);
}

/* BARs that move repeatedly, if the kernel cannot map them for DMA */
static void test_bar_moves(gconstpointer data)
{
    VFIOSim *sim = mode_sim(data, "");
    g_autofree char *log = g_build_filename(sim->dir, "log", NULL);
    g_autofree char *options = g_strdup_printf(CXL_BRIDGE CXL_WINDOW " 2>%s",
                                               log);
    CXLMachine *m = cxl_machine_start(sim, options, mode_is_iommufd(data), "");
    g_autofree char *said = NULL;
    g_auto(GStrv) lines = NULL;

    for (int i = 0; i < 50; i++) {
        cfg_write(m, PCI_BASE_ADDRESS_0, m->bar0 + (i % 2 ? 0 : MiB / 2));
    }
    g_assert_true(g_file_get_contents(log, &said, NULL, NULL));
    lines = g_strsplit(said, "\n", -1);
    g_assert_cmpuint(g_strv_length(lines), <, 12);
    cxl_machine_stop(m);
}

/* Sizes whose sums wrap */
static void test_sizes(gconstpointer data)
{
    static const char *const sizes[] = { "17179869183G", "9223372036854775808",
                                         "8192T" };

    for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
        g_autofree char *options = g_strdup_printf(CXL_BRIDGE
            " -M cxl-fmw.0.targets.0=cxl.0,cxl-fmw.0.size=%s", sizes[i]);

        mode_refused(data, "", options, ",bus=rp0", "must not exceed 4PiB");
    }
}

/* A machine option without the object that it needs */
static void test_ras(gconstpointer data)
{
    mode_refused(data, "", CXL_BRIDGE CXL_WINDOW " -M ras=on", ",bus=rp0",
                 "ras=on requires ACPI");
}

int main(int argc, char **argv)
{
    vfio_cxl_test_init(&argc, &argv);

    vfio_cxl_add("hostile-msi-vectors", one_kernel, test_msi_vectors);
    vfio_cxl_add("hostile-bus-numbers", one_kernel, test_bus_numbers);
    vfio_cxl_add("hostile-mailbox", one_kernel, test_mailbox);
    vfio_cxl_add("hostile-all-registers", one_kernel, test_all_registers);
    vfio_cxl_add("hostile-mtree", one_kernel, test_mtree);
    vfio_cxl_add("hostile-bar-moves", vfio_cxl_kernels, test_bar_moves);
    vfio_cxl_add("hostile-sizes", one_kernel, test_sizes);
    if (g_str_equal(qtest_get_arch(), "aarch64")) {
        vfio_cxl_add("hostile-ras", one_kernel, test_ras);
    }
    return g_test_run();
}
