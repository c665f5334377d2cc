/*
 * Machines with any CXL topology, for tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "vfio-cxl-topology.h"

#define HOST_BRIDGE_STEP 0x10000

static bool is_q35(void)
{
    return strcmp(qtest_get_arch(), "aarch64");
}

uint64_t cxl_node_config(CXLTopology *t, const CXLNode *node, unsigned offset)
{
    return t->ecam + ((uint64_t)node->bus << 20) + (node->devfn << 12) +
           offset;
}

static uint32_t config_read(CXLTopology *t, const CXLNode *node,
                            unsigned offset)
{
    return qtest_readl(t->qts, cxl_node_config(t, node, offset));
}

static void config_write(CXLTopology *t, const CXLNode *node, unsigned offset,
                         uint32_t value)
{
    qtest_writel(t->qts, cxl_node_config(t, node, offset), value);
}

static void config_writew(CXLTopology *t, const CXLNode *node, unsigned offset,
                          uint16_t value)
{
    qtest_writew(t->qts, cxl_node_config(t, node, offset), value);
}

unsigned cxl_node_find_cap(CXLTopology *t, const CXLNode *node, uint8_t id)
{
    unsigned pos = config_read(t, node, 0x34) & 0xfc;

    for (int i = 0; i < 48 && pos; i++) {
        uint32_t header = config_read(t, node, pos);

        if ((header & 0xff) == id) {
            return pos;
        }
        pos = (header >> 8) & 0xfc;
    }
    g_assert_not_reached();
}

static uint16_t find_dvsec(CXLTopology *t, const CXLNode *node, uint16_t id)
{
    unsigned pos = 0x100;

    for (int i = 0; i < 64 && pos; i++) {
        uint32_t header = config_read(t, node, pos);

        if ((header & 0xffff) == 0x23 &&
            (config_read(t, node, pos + 4) & 0xffff) == 0x1e98 &&
            (config_read(t, node, pos + 8) & 0xffff) == id) {
            return pos;
        }
        pos = header >> 20;
    }
    return 0;
}

/* CXL r3.1 Section 8.2.4: the capability array begins the CXL.mem registers */
static uint64_t find_hdm(CXLTopology *t, uint64_t block)
{
    uint64_t array = block + 0x1000;
    uint32_t header = qtest_readl(t->qts, array);

    for (unsigned i = 1; (header & 0xffff) == 1 && i <= header >> 24; i++) {
        uint32_t entry = qtest_readl(t->qts, array + 4 * i);

        if ((entry & 0xffff) == 5) {
            return array + (entry >> 20);
        }
    }
    return 0;
}

/* Component registers are where the Register Locator DVSEC says, in BAR 0 */
static void find_registers(CXLTopology *t, CXLNode *node)
{
    uint16_t locator = find_dvsec(t, node, 8);

    for (unsigned i = 0; locator && i < 3; i++) {
        uint32_t low = config_read(t, node, locator + 0xc + 8 * i);

        if ((low & 0xff00) == 0x0100) {
            g_assert_cmphex(low & 7, ==, 0);
            node->hdm = find_hdm(t, node->bar0 + (low & 0xffff0000));
            return;
        }
    }
}

static void place_bars(CXLTopology *t, CXLNode *node, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        unsigned reg = 0x10 + 4 * i;
        uint32_t old = config_read(t, node, reg), mask;

        config_write(t, node, reg, 0xffffffff);
        mask = config_read(t, node, reg) & ~0xfu;
        if (!mask || (old & 1)) {
            continue;
        }
        t->mmio = ROUND_UP(t->mmio, -mask);
        config_write(t, node, reg, t->mmio);
        if (i == 0) {
            node->bar0 = t->mmio;
        }
        t->mmio += -mask;
        if ((old & 6) == 4) {
            config_write(t, node, 0x10 + 4 * ++i, 0);
        }
    }
    config_writew(t, node, 0x04, 0x6);
}

static void scan_bus(CXLTopology *t, unsigned bus, CXLNode *parent,
                     unsigned slots);

static void scan_bridge(CXLTopology *t, CXLNode *node)
{
    unsigned secondary = ++t->last_bus;
    uint64_t first;

    config_write(t, node, 0x18, node->bus | secondary << 8 | 0xffu << 16);
    t->mmio = first = ROUND_UP(t->mmio, MiB);
    scan_bus(t, secondary, node, node->pci_id == CXL_ID_USP ? 32 : 1);
    t->mmio = ROUND_UP(MAX(t->mmio, first + 1), MiB);
    config_write(t, node, 0x18, node->bus | secondary << 8 |
                                t->last_bus << 16);
    config_writew(t, node, 0x20, first >> 16);
    config_writew(t, node, 0x22, (t->mmio - 1) >> 16);
    config_writew(t, node, 0x24, 0xfff0);
    config_writew(t, node, 0x26, 0);
}

static void scan_bus(CXLTopology *t, unsigned bus, CXLNode *parent,
                     unsigned slots)
{
    for (unsigned devfn = 0; devfn < slots * 8; devfn++) {
        CXLNode probe = { .bus = bus, .devfn = devfn }, *node;
        bool bridge, many;

        probe.pci_id = config_read(t, &probe, 0);
        if (probe.pci_id == 0xffffffff) {
            devfn |= devfn & 7 ? 0 : 7;
            continue;
        }
        g_assert_cmpint(t->nodes, <, CXL_TOPOLOGY_NODES);
        node = &t->node[t->nodes++];
        *node = probe;
        node->parent = parent;
        bridge = (config_read(t, node, 0x0c) >> 16 & 0x7f) == 1;
        many = config_read(t, node, 0x0c) >> 16 & 0x80;
        if (bridge) {
            place_bars(t, node, 2);
            scan_bridge(t, node);
        } else {
            place_bars(t, node, 6);
        }
        devfn |= many || (devfn & 7) ? 0 : 7;
    }
}

static void find_windows(CXLTopology *t, uint64_t *first_host_bridge)
{
    g_autofree char *tree = qtest_hmp(t->qts, "info mtree");
    g_auto(GStrv) lines = g_strsplit(tree, "\n", -1);

    t->windows = 0;
    *first_host_bridge = UINT64_MAX;
    for (char **line = lines; *line; line++) {
        uint64_t at = g_ascii_strtoull(g_strstrip(*line), NULL, 16);

        if (strstr(*line, "cxl-fixed-memory-region")) {
            bool known = false;

            for (unsigned i = 0; i < t->windows; i++) {
                known |= t->window[i] == at;
            }
            if (!known && t->windows < CXL_TOPOLOGY_WINDOWS) {
                t->window[t->windows++] = at;
            }
        } else if (strstr(*line, "pxb-cxl-host")) {
            *first_host_bridge = MIN(*first_host_bridge, at);
        }
    }
}

static int compare_windows(const void *a, const void *b)
{
    const uint64_t *wa = a, *wb = b;

    return *wa < *wb ? -1 : *wa > *wb;
}

/* Names, which PCI does not know, from query-pci */
static void name_nodes(CXLTopology *t, QList *devices, unsigned bus)
{
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(devices, entry) {
        QDict *device = qobject_to(QDict, qlist_entry_obj(entry));
        QDict *bridge = qdict_get_qdict(device, "pci_bridge");
        unsigned devfn = qdict_get_int(device, "slot") * 8 +
                         qdict_get_int(device, "function");

        for (unsigned i = 0; i < t->nodes; i++) {
            if (t->node[i].bus == bus && t->node[i].devfn == devfn &&
                t->node[i].pci_id) {
                t->node[i].id = g_strdup(qdict_get_str(device, "qdev_id"));
            }
        }
        if (bridge && qdict_haskey(bridge, "devices")) {
            QDict *info = qdict_get_qdict(bridge, "bus");

            name_nodes(t, qdict_get_qlist(bridge, "devices"),
                       qdict_get_int(info, "secondary"));
        }
    }
}

static void forget_ids(CXLTopology *t, unsigned first)
{
    for (unsigned i = first; i < t->nodes; i++) {
        g_free(t->node[i].id);
    }
    t->nodes = first;
}

void cxl_topology_enumerate(CXLTopology *t)
{
    unsigned host_bridges = 0;
    QListEntry *entry;
    QDict *reply;

    if (is_q35()) {
        /* MMCONFIG at 0xb0000000, by the host bridge's PCIEXBAR */
        t->ecam = 0xb0000000;
        qtest_outl(t->qts, 0xcf8, 0x80000000 | 0x60);
        qtest_outl(t->qts, 0xcfc, t->ecam | 1);
    } else {
        t->ecam = 0x4010000000;
    }
    t->mmio = is_q35() ? 0xe0000000 : 0x10000000;
    while (host_bridges < t->nodes && !t->node[host_bridges].pci_id) {
        host_bridges++;
    }
    forget_ids(t, host_bridges);
    for (unsigned i = 0; i < host_bridges; i++) {
        t->last_bus = t->node[i].bus;
        scan_bus(t, t->node[i].bus, &t->node[i], 32);
    }
    for (unsigned i = host_bridges; i < t->nodes; i++) {
        find_registers(t, &t->node[i]);
        t->node[i].dvsec = find_dvsec(t, &t->node[i], 0);
    }
    reply = qtest_qmp(t->qts, "{'execute': 'query-pci'}");
    QLIST_FOREACH_ENTRY(qdict_get_qlist(reply, "return"), entry) {
        QDict *bus = qobject_to(QDict, qlist_entry_obj(entry));

        name_nodes(t, qdict_get_qlist(bus, "devices"),
                   qdict_get_int(bus, "bus"));
    }
    qobject_unref(reply);
}

CXLTopology *cxl_topology_start(VFIOSim *sim, const char *options,
                                const char *const bridges[])
{
    CXLTopology *t = g_new0(CXLTopology, 1);
    uint64_t first;

    t->sim = sim;
    vfio_sim_enter(sim);
    t->qts = qtest_initf("%s%s", cxl_machine_options(), options);
    vfio_sim_leave();

    find_windows(t, &first);
    qsort(t->window, t->windows, sizeof(t->window[0]), compare_windows);
    for (unsigned i = 0; bridges[i]; i++) {
        g_auto(GStrv) pair = g_strsplit(bridges[i], "=", 2);
        CXLNode *node = &t->node[t->nodes++];

        node->id = g_strdup(pair[0]);
        node->bus = atoi(pair[1]);
    }
    /* The machine gives them registers from the last option to the first */
    for (unsigned i = 0; i < t->nodes; i++) {
        CXLNode *node = &t->node[i];

        node->hdm = find_hdm(t, first + (t->nodes - 1 - i) * HOST_BRIDGE_STEP);
    }
    cxl_topology_enumerate(t);
    return t;
}

void cxl_topology_stop(CXLTopology *t)
{
    forget_ids(t, 0);
    qemu_quit(t->qts);
    vfio_sim_stop(t->sim);
    g_free(t);
}

CXLNode *cxl_topology_find(CXLTopology *t, const char *id)
{
    for (unsigned i = 0; i < t->nodes; i++) {
        if (!g_strcmp0(t->node[i].id, id)) {
            return &t->node[i];
        }
    }
    g_error("no device '%s'", id);
}

uint32_t cxl_node_read(CXLTopology *t, const CXLNode *node, unsigned offset)
{
    return qtest_readl(t->qts, node->hdm + offset);
}

void cxl_node_write(CXLTopology *t, const CXLNode *node, unsigned offset,
                    uint32_t value)
{
    qtest_writel(t->qts, node->hdm + offset, value);
}

bool cxl_node_program(CXLTopology *t, const CXLNode *node, unsigned n,
                      uint64_t base, uint64_t size, uint32_t target)
{
    cxl_node_write(t, node, HDM_CTRL(n), 0);
    cxl_node_write(t, node, HDM_BASE_LO(n), base);
    cxl_node_write(t, node, HDM_BASE_HI(n), base >> 32);
    cxl_node_write(t, node, HDM_SIZE_LO(n), size);
    cxl_node_write(t, node, HDM_SIZE_HI(n), size >> 32);
    cxl_node_write(t, node, HDM_SKIP_LO(n), target);
    cxl_node_write(t, node, HDM_CTRL(n), HDM_COMMIT);
    return cxl_node_read(t, node, HDM_CTRL(n)) & HDM_COMMITTED;
}

uint64_t cxl_node_base(CXLTopology *t, const CXLNode *node, unsigned n)
{
    if (!(cxl_node_read(t, node, HDM_CTRL(n)) & HDM_COMMITTED)) {
        return 0;
    }
    return cxl_node_read(t, node, HDM_BASE_LO(n)) |
           (uint64_t)cxl_node_read(t, node, HDM_BASE_HI(n)) << 32;
}

uint64_t cxl_node_size(CXLTopology *t, const CXLNode *node, unsigned n)
{
    return cxl_node_read(t, node, HDM_SIZE_LO(n)) |
           (uint64_t)cxl_node_read(t, node, HDM_SIZE_HI(n)) << 32;
}

void cxl_node_enable(CXLTopology *t, const CXLNode *node)
{
    unsigned control = node->dvsec + DVSEC_CONTROL;

    cxl_node_write(t, node, HDM_GLOBAL_CONTROL, HDM_ENABLE);
    config_writew(t, node, control,
                  config_read(t, node, control) | DVSEC_MEM_ENABLE);
    config_writew(t, node, 0x04, 0x6);
}

void cxl_node_bus_reset(CXLTopology *t, const CXLNode *port)
{
    uint16_t control = config_read(t, port, 0x3c) >> 16;

    config_writew(t, port, 0x3e, control | 0x40);
    config_writew(t, port, 0x3e, control & ~0x40);
}

void cxl_node_flr(CXLTopology *t, const CXLNode *node)
{
    unsigned control = cxl_node_find_cap(t, node, 0x10) + 8;

    config_writew(t, node, control, config_read(t, node, control) | 0x8000);
}

void cxl_node_power_slot(CXLTopology *t, const CXLNode *port, bool on)
{
    uint64_t control = cxl_node_config(t, port,
                                       cxl_node_find_cap(t, port, 0x10) + 0x18);
    uint16_t value = qtest_readw(t->qts, control) & ~0x700;

    qtest_writew(t->qts, control, value | (on ? 0x100 : 0x700));
    qtest_writew(t->qts, control + 2, 0xffff);
}

int cxl_topology_memory(CXLTopology *t, const char *host)
{
    g_autofree char *path = g_build_filename(t->sim->dir, host, "memory",
                                             NULL);
    int fd = open(path, O_RDWR);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

bool cxl_topology_shows(CXLTopology *t, uint64_t gpa, const char *host,
                        uint64_t dpa)
{
    uint64_t value = (uint64_t)g_test_rand_int() << 32 | g_test_rand_int();
    int fd = cxl_topology_memory(t, host);
    uint64_t old, raw = cpu_to_le64(value), there;
    bool reads, writes;

    g_assert_cmpint(pread(fd, &old, 8, dpa), ==, 8);
    g_assert_cmpint(pwrite(fd, &raw, 8, dpa), ==, 8);
    there = qtest_readq(t->qts, gpa);
    reads = there == value;
    qtest_writeq(t->qts, gpa, ~value);
    g_assert_cmpint(pread(fd, &raw, 8, dpa), ==, 8);
    writes = raw == cpu_to_le64(~value);
    /* Leave no trace of what was written */
    qtest_writeq(t->qts, gpa, there);
    g_assert_cmpint(pwrite(fd, &old, 8, dpa), ==, 8);
    close(fd);
    g_assert_true(reads == writes);
    return reads;
}
