/*
 * CXL Type-2 devices behind vfio-pci: a guest that does arbitrary things
 *
 * Operations are chosen blindly: their effects are not checked, only that QEMU
 * survives and that a reset of the machine brings the devices back. In the
 * environment VFIO_CXL_BLIND_OPS and VFIO_CXL_BLIND_SEED can be set, and with
 * VFIO_CXL_BLIND_VCPUS=1 two vCPUs access memory and decoder at the same time
 * (x86).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "qemu/units.h"
#include "qobject/qjson.h"
#include "hw/pci/pci_regs.h"
#include "vfio-cxl-slot.h"
#include "vfio-cxl-topology.h"
#include "vfio-cxl-vcpu.h"

#define OPS         2000    /* in each test */
#define ROUND       150     /* from one reset of the machine to the next */
#define PATIENCE    2000    /* bounds each wait, in steps of 10 ms */
#define BLOCK_SIZE  0x10000
#define DEVICES     2

static const char *const hosts[DEVICES] = { "0000:c1:00.0", "0000:c2:00.0" };
static const char *const ids[DEVICES] = { "dev0", "dev1" };
static const char *const buses[DEVICES] = { "rp0", "rp2" };

typedef struct Blind {
    CXLTopology *t;
    gconstpointer mode;
    GRand *random;
    unsigned done;
    unsigned samples;
    unsigned mapped;
    bool stopped;
    bool vcpus;
    char refusal[200];
} Blind;

static uint32_t below(Blind *b, uint32_t limit)
{
    return g_rand_int(b->random) % limit;
}

/* Values that registers of all kinds react to */
static uint64_t any_value(Blind *b)
{
    static const uint64_t special[] = {
        0, 1, 2, 3, 4, 6, 7, 0x100, 0x200, 0x300, 0x700, 0x7c0, 0x8000,
        0x10000000, 0x20000000, 0xf0000000, UINT32_MAX, UINT64_MAX,
    };

    switch (below(b, 3)) {
    case 0:
        return special[below(b, ARRAY_SIZE(special))];
    case 1:
        return 1ull << below(b, 64);
    default:
        return (uint64_t)g_rand_int(b->random) << 32 | g_rand_int(b->random);
    }
}

static void any_access(Blind *b, uint64_t address)
{
    QTestState *qts = b->t->qts;
    unsigned size = below(b, 4);
    uint64_t value = any_value(b);
    bool write = below(b, 3);

    address &= ~((1ull << size) - 1);
    switch (size) {
    case 0:
        write ? qtest_writeb(qts, address, value) :
                (void)qtest_readb(qts, address);
        break;
    case 1:
        write ? qtest_writew(qts, address, value) :
                (void)qtest_readw(qts, address);
        break;
    case 2:
        write ? qtest_writel(qts, address, value) :
                (void)qtest_readl(qts, address);
        break;
    default:
        write ? qtest_writeq(qts, address, value) :
                (void)qtest_readq(qts, address);
        break;
    }
}

static void command(Blind *b, const char *name)
{
    qobject_unref(qtest_qmp(b->t->qts, "{'execute': %s}", name));
}

static CXLNode *find(Blind *b, const char *id)
{
    for (unsigned i = 0; i < b->t->nodes; i++) {
        if (!g_strcmp0(b->t->node[i].id, id)) {
            return &b->t->node[i];
        }
    }
    return NULL;
}

static bool is_bridge(const CXLNode *node)
{
    return node->pci_id == CXL_ID_RP || node->pci_id == CXL_ID_USP ||
           node->pci_id == CXL_ID_DSP;
}

/* A function; host bridges have no config space of their own */
static CXLNode *any_function(Blind *b, bool bridge)
{
    CXLNode *node;

    do {
        node = &b->t->node[below(b, b->t->nodes)];
    } while (!node->pci_id || (bridge && !is_bridge(node)));
    return node;
}

static uint64_t config_of(Blind *b, const CXLNode *node, unsigned at)
{
    return cxl_node_config(b->t, node, at);
}

/* Address of a register in a capability; 0 if it is gone */
static uint64_t in_capability(Blind *b, CXLNode *node, uint8_t id, unsigned at)
{
    unsigned pos = qtest_readb(b->t->qts,
                               config_of(b, node, PCI_CAPABILITY_LIST));

    for (int i = 0; i < 48 && pos; i++) {
        uint16_t header = qtest_readw(b->t->qts, config_of(b, node, pos));

        if ((header & 0xff) == id) {
            return config_of(b, node, pos + at);
        }
        pos = header >> 8;
    }
    return 0;
}

/*
 * Operations
 */
static void op_config(Blind *b)
{
    any_access(b, config_of(b, any_function(b, false), below(b, 0x1000)));
}

static void op_registers(Blind *b)
{
    CXLNode *node = &b->t->node[below(b, b->t->nodes)];
    uint64_t hdm = node->hdm;

    if (node->bar0 && below(b, 2)) {
        any_access(b, node->bar0 + below(b, 0x40000));
    } else if (hdm) {
        any_access(b, hdm + below(b, 0x60));
    }
}

/* The second BAR: a device's registers, a type 3 device's mailbox */
static void op_second_bar(Blind *b)
{
    CXLNode *node = any_function(b, false);
    uint64_t bar = qtest_readl(b->t->qts,
                               config_of(b, node, PCI_BASE_ADDRESS_2)) & ~0xf;

    if (!is_bridge(node) && bar && bar < 4 * GiB) {
        any_access(b, bar + below(b, 0x400));
    }
}

static void op_memory(Blind *b)
{
    any_access(b, b->t->window[0] + below(b, 1 * GiB));
}

/* A device's own resets, CONTROL and CONTROL2 */
static void op_doorbell(Blind *b)
{
    CXLNode *node = find(b, ids[below(b, DEVICES)]);
    static const unsigned regs[] = { 0x0c, 0x10, 0x10, 0x14 };

    if (node && below(b, 4)) {
        qtest_writew(b->t->qts,
                     config_of(b, node, node->dvsec +
                                        regs[below(b, ARRAY_SIZE(regs))]),
                     below(b, 8));
    } else if (node) {
        uint64_t control = in_capability(b, node, PCI_CAP_ID_EXP,
                                         PCI_EXP_DEVCTL);

        if (control) {
            qtest_writew(b->t->qts, control, PCI_EXP_DEVCTL_BCR_FLR);
        }
    }
}

static void op_bus_number(Blind *b)
{
    CXLNode *node = any_function(b, true);

    qtest_writeb(b->t->qts,
                 config_of(b, node, PCI_PRIMARY_BUS + below(b, 3)),
                 below(b, 2) ? b->t->node[below(b, b->t->nodes)].bus :
                               below(b, 256));
}

static void op_msi(Blind *b)
{
    uint64_t flags = in_capability(b, any_function(b, true), PCI_CAP_ID_MSI,
                                   PCI_MSI_FLAGS);

    if (flags) {
        qtest_writew(b->t->qts, flags, any_value(b));
    }
}

static void op_bus_reset(Blind *b)
{
    cxl_node_bus_reset(b->t, any_function(b, true));
}

static void op_stop(Blind *b)
{
    command(b, b->stopped ? "cont" : "stop");
    b->stopped = !b->stopped;
}

static void op_unplug(Blind *b)
{
    unsigned n = below(b, DEVICES);
    CXLNode *port = find(b, buses[n]);

    qobject_unref(qtest_qmp(b->t->qts, "{'execute': 'device_del', "
                            "'arguments': {'id': %s}}", ids[n]));
    if (port && below(b, 2)) {
        uint64_t control = in_capability(b, port, PCI_CAP_ID_EXP,
                                         PCI_EXP_SLTCTL);

        if (control) {
            qtest_writew(b->t->qts, control, SLOT_POWER_BLINK);
            qtest_writew(b->t->qts, control, SLOT_POWER_OFF);
        }
    }
}

static void op_monitor(Blind *b)
{
    static const char *const commands[] = {
        "info pci", "info mtree", "info mtree -f", "info vfio-cxl",
        "info qtree",
    };

    g_free(qtest_hmp(b->t->qts, "%s",
                     commands[below(b, ARRAY_SIZE(commands))]));
    command(b, "query-pci");
    command(b, "query-vfio-cxl");
}

static const struct {
    void (*run)(Blind *b);
    unsigned weight;        /* of 1000 */
} operations[] = {
    { op_config, 360 },
    { op_registers, 250 },
    { op_second_bar, 100 },
    { op_memory, 200 },
    { op_doorbell, 30 },
    { op_bus_number, 20 },
    { op_msi, 20 },
    { op_bus_reset, 4 },
    { op_stop, 6 },
    { op_unplug, 3 },
    { op_monitor, 7 },
};

static void any_operation(Blind *b)
{
    unsigned n = below(b, 1000), i = 0;

    while (n >= operations[i].weight) {
        n -= operations[i++].weight;
    }
    operations[i].run(b);
    b->done++;
}

/*
 * Invariants
 */

/* How many devices have their memory in the guest's map */
static unsigned count_mapped(Blind *b)
{
    QDict *reply = qtest_qmp(b->t->qts, "{'execute': 'query-vfio-cxl'}");
    QListEntry *device, *entry;
    unsigned count = 0;

    g_assert_true(qdict_haskey(reply, "return"));
    QLIST_FOREACH_ENTRY(qdict_get_qlist(reply, "return"), device) {
        QDict *dict = qobject_to(QDict, qlist_entry_obj(device));

        if (!qdict_haskey(dict, "decoders")) {
            continue;
        }
        QLIST_FOREACH_ENTRY(qdict_get_qlist(dict, "decoders"), entry) {
            QDict *decoder = qobject_to(QDict, qlist_entry_obj(entry));

            if (!strcmp(qdict_get_str(decoder, "state"), "mapped")) {
                count++;
                break;
            }
        }
    }
    qobject_unref(reply);
    return count;
}

static bool exists(Blind *b, const char *id)
{
    g_autofree char *path = g_strdup_printf("/machine/peripheral/%s", id);
    QDict *reply = qtest_qmp(b->t->qts, "{'execute': 'qom-list', "
                             "'arguments': {'path': %s}}", path);
    bool found = qdict_haskey(reply, "return");

    qobject_unref(reply);
    return found;
}

static bool plug(Blind *b, unsigned n)
{
    g_autofree char *json = g_strdup_printf("{'driver': 'vfio-pci', "
        "'id': '%s', 'host': '%s', 'bus': '%s'%s}", ids[n], hosts[n],
        buses[n], mode_is_iommufd(b->mode) ? ", 'iommufd': 'iommufd0'" : "");
    QDict *reply = qtest_qmp(b->t->qts,
                             "{'execute': 'device_add', 'arguments': %p}",
                             qobject_from_json(json, &error_abort));
    bool done = qdict_haskey(reply, "return");

    if (!done) {
        g_strlcpy(b->refusal, qdict_get_str(qdict_get_qdict(reply, "error"),
                                            "desc"), sizeof(b->refusal));
    }
    qobject_unref(reply);
    return done;
}

/*
 * The operator plugs the devices again, and a reset of the machine does the
 * rest. A switch that the guest has powered off stays away.
 */
static void restore(Blind *b)
{
    unsigned tries = 0;

    if (b->stopped) {
        op_stop(b);
    }
    qtest_system_reset(b->t->qts);
    for (unsigned n = 0; n < DEVICES; n++) {
        while (!exists(b, ids[n]) && !plug(b, n)) {
            if (++tries == PATIENCE) {
                g_error("%s cannot be plugged: %s", ids[n], b->refusal);
            }
            g_usleep(10 * 1000);
        }
    }
    qtest_system_reset(b->t->qts);
    cxl_topology_enumerate(b->t);
    for (unsigned n = 0; n < DEVICES; n++) {
        /* The reset may have ended an unplug that the guest had begun */
        if (!exists(b, ids[n])) {
            return;
        }
    }
    g_assert_cmpuint(count_mapped(b), ==, DEVICES);
}

static CXLTopology *start(Blind *b)
{
    static const char *const bridges[] = { "cxl.0=12", NULL };
    VFIOSim *sim = mode_sim(b->mode, "--devices=2 --memory=256M");
    g_autoptr(GString) line = g_string_new(
        " -object memory-backend-ram,id=mem0,size=256M"
        " -device pxb-cxl,id=cxl.0,bus=pcie.0,bus_nr=12"
        " -device cxl-rp,id=rp0,bus=cxl.0,chassis=0,slot=0,port=0"
        " -device cxl-rp,id=rp1,bus=cxl.0,chassis=0,slot=1,port=1,addr=1"
        " -device cxl-rp,id=rp2,bus=cxl.0,chassis=0,slot=4,port=2,addr=2"
        " -device cxl-upstream,id=usp0,bus=rp1"
        " -device cxl-downstream,id=dsp0,bus=usp0,chassis=0,slot=2,port=0"
        " -device cxl-type3,id=type3,bus=dsp0,volatile-memdev=mem0"
        " -M cxl-fmw.0.targets.0=cxl.0,cxl-fmw.0.size=4G");

    if (mode_is_iommufd(b->mode)) {
        g_string_append(line, " -object iommufd,id=iommufd0");
    }
    if (b->vcpus) {
        g_autofree char *options = vcpu_options(sim, 2);

        g_string_append(line, options);
    }
    for (unsigned n = 0; n < DEVICES; n++) {
        g_string_append_printf(line, " -device vfio-pci,id=%s,host=%s,bus=%s%s",
                               ids[n], hosts[n], buses[n],
                               mode_is_iommufd(b->mode) ? ",iommufd=iommufd0" :
                                                          "");
    }
    return cxl_topology_start(sim, line->str, bridges);
}

static void set_vcpus(Blind *b)
{
    CXLNode *node = find(b, ids[0]);

    if (b->vcpus && node && node->hdm) {
        vcpu_set_target(b->t->qts, 0, b->t->window[0] + 0x3000, 1);
        vcpu_set_target(b->t->qts, 1, node->hdm + HDM_CTRL(0) - 8,
                        HDM_COMMIT);
    }
}

static uint64_t environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t value;

    return text && !qemu_strtou64(text, NULL, 0, &value) ? value : otherwise;
}

static void test_blind(gconstpointer data)
{
    uint64_t ops = environment("VFIO_CXL_BLIND_OPS", OPS);
    uint64_t seed = environment("VFIO_CXL_BLIND_SEED", 1);
    Blind b = {
        .mode = data,
        .random = g_rand_new_with_seed(seed),
        .vcpus = environment("VFIO_CXL_BLIND_VCPUS", 0) &&
                 g_str_equal(qtest_get_arch(), "x86_64"),
    };

    g_test_message("VFIO_CXL_BLIND_SEED=%" PRIu64 " VFIO_CXL_BLIND_OPS=%"
                   PRIu64, seed, ops);
    b.t = start(&b);
    while (b.done < ops) {
        restore(&b);
        set_vcpus(&b);
        for (unsigned i = 0; i < ROUND && b.done < ops; i++) {
            any_operation(&b);
            if (i % 10 == 0) {
                b.samples += DEVICES;
                b.mapped += count_mapped(&b);
            }
        }
    }
    restore(&b);
    g_test_message("%u operations, memory mapped in %u%% of the time", b.done,
                   100 * b.mapped / b.samples);
    g_assert_cmpuint(2 * b.mapped, >, b.samples);
    cxl_topology_stop(b.t);
    g_rand_free(b.random);
}

int main(int argc, char **argv)
{
    vfio_cxl_test_init(&argc, &argv);
    vfio_cxl_add("blind", vfio_cxl_kernels, test_blind);
    return g_test_run();
}
