/*
 * CXL Type-2 devices behind vfio-pci: behind accelerated SMMUv3s
 *
 * The stand-in for the kernel walks the guest's tables as the host's SMMU does,
 * and never forgets a translation by itself: an invalidation that is lost, or
 * goes to another SMMU, is seen as old data.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qobject/qjson.h"
#include "vfio-cxl-maps.h"
#include "vfio-cxl-smmu.h"
#include "vfio-cxl-tables.h"
#include "vfio-cxl-topology.h"

#define MAX_UNITS       4
#define BUS(n)          (4 + 4 * (n))

#define SMMU_ACCEL      "accel=on,x-accel-tcg=on"
#define SMMU_FULL       SMMU_ACCEL ",ats=on,ril=off,oas=48,ssidsize=16"

/* I/O virtual addresses of RAM and of device memory, in GiB pages */
#define RAM_IOVA        (64 * GiB)
#define MEM_IOVA        (128 * GiB)
#define NOWHERE         (256 * GiB)
#define SCRATCH_DPA     0x100000

#define EXT_CAP_ATS     0x0f
#define EXT_CAP_PASID   0x1b

/* What no test writes */
#define FAULTED         0

/* An accelerator with all that belongs to it */
typedef struct Unit {
    struct Setup *setup;
    CXLNode *node;
    SMMU *smmu;
    uint64_t regs;
    uint64_t memory;        /* its memory's guest physical address */
    uint32_t sid;
    uint16_t asid;
    uint64_t tables;
} Unit;

typedef struct Setup {
    CXLTopology *t;
    CXLMachine m;           /* for what takes one */
    unsigned units;
    Unit unit[MAX_UNITS];
    const char *commit;     /* x-cxl-commit of devices that are plugged */
} Setup;

/* Kernels that export device memory as a dma-buf, and one that does not */
static const char *const kernels[] = { "v6", "v5", "v2-reset", NULL };

static uint64_t random_value(void)
{
    return (uint64_t)g_test_rand_int() << 32 | (uint32_t)g_test_rand_int() | 1;
}

/*
 * Options of every machine. accel=on is for guests with ACPI, hence for a
 * machine with firmware, which no test runs.
 */
static GString *machine_options(VFIOSim *sim)
{
    g_autofree char *path = g_build_filename(sim->dir, "firmware", NULL);
    GString *options = g_string_new(" -M gic-version=3 -bios ");

    g_assert_true(g_file_set_contents(path, "no code", -1, NULL));
    return g_string_append(options, path);
}

static void add_bridge(GString *options, unsigned n, const char *smmu)
{
    g_string_append_printf(options, " -device pxb-cxl,id=cxl.%u,bus=pcie.0,"
        "bus_nr=%u -device cxl-rp,id=rp%u,bus=cxl.%u,chassis=%u,slot=%u",
        n, BUS(n), n, n, n, n);
    if (smmu) {
        g_string_append_printf(options, " -device arm-smmuv3,id=smmu%u,"
                               "primary-bus=cxl.%u,%s", n, n, smmu);
    }
}

static void add_windows(GString *options, unsigned n)
{
    g_string_append(options, " -M cxl=on");
    for (unsigned i = 0; i < n; i++) {
        g_string_append_printf(options, ",cxl-fmw.%u.targets.0=cxl.%u,"
                               "cxl-fmw.%u.size=4G", i, i, i);
    }
}

static void add_device(GString *options, unsigned n, const char *properties)
{
    g_string_append_printf(options, " -device vfio-pci,id=dev%u,"
        "host=0000:c%u:00.0,bus=rp%u,iommufd=iommufd0%s", n, n + 1, n,
        properties);
}

static uint64_t regs_of(Setup *s, CXLNode *node)
{
    return qtest_readl(s->t->qts, cxl_node_config(s->t, node, 0x18)) & ~0xfu;
}

static void find_unit(Setup *s, unsigned n)
{
    g_autofree char *id = g_strdup_printf("dev%u", n);
    Unit *u = &s->unit[n];

    u->node = cxl_topology_find(s->t, id);
    u->regs = regs_of(s, u->node);
    u->sid = u->node->bus << 8 | u->node->devfn;
    u->memory = cxl_node_base(s->t, u->node, 0);
    u->setup = s;
    u->asid = n + 1;
}

/* PCI has been enumerated */
static void find_units(Setup *s)
{
    for (unsigned n = 0; n < s->units; n++) {
        find_unit(s, n);
    }
}

/* One accelerator on each of @n bridges */
static Setup *start(const char *sim_options, unsigned n, const char *smmu,
                    const char *properties)
{
    g_autofree char *all = g_strdup_printf("--devices=%u %s", n, sim_options);
    VFIOSim *sim = vfio_sim_start(all);
    g_autoptr(GString) options = machine_options(sim);
    g_auto(GStrv) bridges = g_new0(char *, n + 1);
    Setup *s = g_new0(Setup, 1);

    g_string_append(options, " -object iommufd,id=iommufd0");
    for (unsigned i = 0; i < n; i++) {
        bridges[i] = g_strdup_printf("cxl.%u=%u", i, BUS(i));
        add_bridge(options, i, smmu);
    }
    add_windows(options, n);
    for (unsigned i = 0; i < n; i++) {
        add_device(options, i, properties);
    }
    s->t = cxl_topology_start(sim, options->str,
                              (const char *const *)bridges);
    s->m = (CXLMachine) { .qts = s->t->qts, .sim = s->t->sim };
    s->units = n;
    s->commit = strstr(properties, "guest") ? "guest" : "auto";
    find_units(s);
    for (unsigned i = 0; i < n; i++) {
        s->unit[i].smmu = smmu_new(s->t->qts, i);
    }
    return s;
}

static Setup *start_mode(gconstpointer data, unsigned n,
                         const char *properties)
{
    const VFIOCXLMode *mode = data;
    g_autofree char *options = g_strdup_printf("--iommu=smmuv3 --kernel=%s",
                                               mode->kernel);

    return start(options, n, SMMU_FULL, properties);
}

static void stop(Setup *s)
{
    g_assert_cmpint(vfio_sim_stat(s->m.sim, "stale-maps"), ==, 0);
    for (unsigned i = 0; i < s->units; i++) {
        if (!i || s->unit[i].smmu != s->unit[i - 1].smmu) {
            g_free(s->unit[i].smmu);
        }
    }
    cxl_topology_stop(s->t);
    g_free(s);
}

/* Read 8 bytes by DMA; FAULTED if they are out of reach */
static uint64_t dma_read(Unit *u, uint64_t iova, uint32_t flags)
{
    QTestState *qts = u->setup->t->qts;
    uint32_t status = dma_copy(&u->setup->m, u->regs, iova, SCRATCH_DPA,
                               VFIO_SIM_DMA_DST_LOCAL | flags);

    if (status == VFIO_SIM_DMA_FAULT) {
        g_assert_cmphex(qtest_readq(qts, u->regs +
                                    VFIO_SIM_REG_DMA_FAULT_ADDR), ==, iova);
        return FAULTED;
    }
    g_assert_cmphex(status, ==, VFIO_SIM_DMA_DONE);
    qtest_writeq(qts, u->regs + VFIO_SIM_REG_PEEK_ADDR, SCRATCH_DPA);
    return qtest_readq(qts, u->regs + VFIO_SIM_REG_PEEK_DATA);
}

/* Does DMA by @iova, in both directions, reach what the CPU sees at @gpa? */
static bool reaches(Unit *u, uint64_t iova, uint64_t gpa)
{
    QTestState *qts = u->setup->t->qts;
    uint64_t value = random_value(), got;

    qtest_writeq(qts, gpa, value);
    got = dma_read(u, iova, 0);
    if (got == FAULTED) {
        return false;
    }
    g_assert_cmphex(got, ==, value);
    qtest_writeq(qts, gpa, ~value);
    g_assert_cmphex(dma_copy(&u->setup->m, u->regs, SCRATCH_DPA, iova,
                             VFIO_SIM_DMA_SRC_LOCAL), ==, VFIO_SIM_DMA_DONE);
    g_assert_cmphex(qtest_readq(qts, gpa), ==, value);
    return true;
}

/* The guest's driver: tables with RAM at RAM_IOVA, the stream uses them */
static void translate(Unit *u)
{
    u->tables = smmu_tables(u->smmu);
    smmu_map(u->smmu, u->tables, RAM_IOVA, 0x40000000, GiB);
    smmu_set_cd(u->smmu, u->sid, 0, u->asid, u->tables);
    smmu_set_ste(u->smmu, u->sid, STE_S1);
    smmu_cfgi_ste(u->smmu, u->sid);
}

static uint64_t ram_iova(uint64_t gpa)
{
    return RAM_IOVA + gpa - 0x40000000;
}

/* How vfio-sim's SMMU treats the device's stream */
static void assert_stream(Unit *u, const char *config)
{
    QObject *iommu = vfio_sim_command(u->setup->t->sim, "iommu");
    QList *streams = qdict_get_qlist(qobject_to(QDict, iommu), "streams");
    unsigned n = u - u->setup->unit;
    QListEntry *entry;
    bool found = false;

    QLIST_FOREACH_ENTRY(streams, entry) {
        QDict *stream = qobject_to(QDict, qlist_entry_obj(entry));

        if (qdict_get_str(stream, "host")[6] - '1' == n) {
            g_assert_cmpstr(qdict_get_str(stream, "config"), ==, config);
            found = true;
        }
    }
    g_assert_true(found);
    qobject_unref(iommu);
}

/* Offset of an extended capability, 0 if there is none */
static unsigned find_ext_cap(Unit *u, uint16_t id)
{
    CXLTopology *t = u->setup->t;

    for (unsigned at = 0x100; at; ) {
        uint32_t header = qtest_readl(t->qts,
                                      cxl_node_config(t, u->node, at));

        if ((header & 0xffff) == id) {
            return at;
        }
        at = header >> 20;
    }
    return 0;
}

static bool maps_memory(gconstpointer data)
{
    return mode_since_v5(data);
}

/* Each stage of a stream's life: GBPA, STEs of all kinds, and back */
static void test_ste(gconstpointer data)
{
    Setup *s = start_mode(data, 1, "");
    Unit *u = &s->unit[0];
    uint64_t ram = guest_ram(), *memory = &u->memory;
    bool can = maps_memory(data);

    /* Not enabled yet: guest physical addresses, device memory included */
    g_assert_true(reaches(u, ram, ram));
    g_assert_true(reaches(u, *memory, *memory) == can);
    smmu_gbpa_abort(u->smmu, true);
    g_assert_false(reaches(u, ram, ram));
    smmu_gbpa_abort(u->smmu, false);
    g_assert_true(reaches(u, ram, ram));

    /* The stream table has no valid entry: nothing */
    smmu_enable(u->smmu);
    g_assert_false(reaches(u, ram, ram));

    smmu_set_ste(u->smmu, u->sid, STE_BYPASS);
    g_assert_false(reaches(u, ram, ram));
    smmu_cfgi_ste(u->smmu, u->sid);
    g_assert_true(reaches(u, ram, ram));
    g_assert_true(reaches(u, *memory, *memory) == can);
    smmu_set_ste(u->smmu, u->sid, STE_ABORT);
    g_assert_true(reaches(u, ram, ram));
    smmu_cfgi_all(u->smmu);
    g_assert_false(reaches(u, ram, ram));

    for (int i = 0; i < 2; i++) {
        translate(u);
        smmu_tlbi_all(u->smmu);
        g_assert_false(reaches(u, ram, ram));
        g_assert_true(reaches(u, ram_iova(ram), ram));
        g_assert_false(reaches(u, MEM_IOVA, *memory));
        smmu_map(u->smmu, u->tables, MEM_IOVA, *memory, GiB);
        g_assert_true(reaches(u, MEM_IOVA, *memory) == can);

        /* Disabled and enabled again, the table is what it was */
        smmu_switch(u->smmu, false);
        assert_stream(u, "stage2");
        g_assert_true(reaches(u, ram, ram));
        smmu_gbpa_abort(u->smmu, true);
        g_assert_false(reaches(u, ram, ram));
        smmu_switch(u->smmu, true);
        g_assert_true(reaches(u, ram_iova(ram), ram));
        g_assert_false(reaches(u, ram, ram));
        smmu_gbpa_abort(u->smmu, false);
        g_assert_false(reaches(u, ram, ram));

        /* A table that does not go so far */
        smmu_switch(u->smmu, false);
        smmu_set_streams(u->smmu, 4);
        smmu_switch(u->smmu, true);
        g_assert_false(reaches(u, ram, ram));
        g_assert_false(reaches(u, ram_iova(ram), ram));
        smmu_switch(u->smmu, false);
        smmu_set_streams(u->smmu, LOG2_STREAMS);
        smmu_switch(u->smmu, true);
        g_assert_true(reaches(u, ram_iova(ram), ram));

        /* No device has such a stream ID */
        smmu_cfgi_ste(u->smmu, u->sid | 0x10000);
        g_assert_true(reaches(u, ram_iova(ram), ram));

        /* An entry that this SMMU does not support: announced, and enabled */
        smmu_set_ste(u->smmu, u->sid, STE_S2);
        smmu_cfgi_ste_fails(u->smmu, u->sid);
        g_assert_false(reaches(u, ram_iova(ram), ram));
        smmu_switch(u->smmu, false);
        g_assert_true(reaches(u, ram, ram));
        smmu_switch(u->smmu, true);
        g_assert_false(reaches(u, ram, ram));
    }
    stop(s);
}

/* Every invalidation reaches the host's SMMU, and the one that is meant */
static void test_invalidate(gconstpointer data)
{
    Setup *s = start_mode(data, 2, "");
    QTestState *qts = s->t->qts;
    Unit *u = &s->unit[0], *other = &s->unit[1];
    uint64_t ram = guest_ram(), page[2] = { ram, ram + 0x1000 };
    uint64_t value[2] = { random_value(), random_value() };

    for (int i = 0; i < 2; i++) {
        qtest_writeq(qts, page[i], value[i]);
        smmu_enable(s->unit[i].smmu);
        /* The same number of an address space in both */
        s->unit[i].asid = 7;
        translate(&s->unit[i]);
        smmu_map(s->unit[i].smmu, s->unit[i].tables, MEM_IOVA, page[0],
                 0x1000);
        g_assert_cmphex(dma_read(&s->unit[i], MEM_IOVA, 0), ==, value[0]);
    }
    for (int i = 0; i < 4; i++) {
        uint64_t next = value[(i + 1) % 2], last = value[i % 2];

        for (int n = 0; n < 2; n++) {
            smmu_map(s->unit[n].smmu, s->unit[n].tables, MEM_IOVA,
                     page[(i + 1) % 2], 0x1000);
        }
        g_assert_cmphex(dma_read(u, MEM_IOVA, 0), ==, last);
        /* Nothing that concerns others */
        smmu_tlbi_va(u->smmu, 7, MEM_IOVA + 0x1000);
        smmu_tlbi_asid(u->smmu, 8);
        g_assert_cmphex(dma_read(u, MEM_IOVA, 0), ==, last);
        switch (i) {
        case 0:
            smmu_tlbi_va(u->smmu, 7, MEM_IOVA);
            break;
        case 1:
            smmu_tlbi_asid(u->smmu, 7);
            break;
        case 2:
            smmu_tlbi_all(u->smmu);
            break;
        case 3:
            /* Another address space, with the same tables */
            smmu_set_cd(u->smmu, u->sid, 0, 9, u->tables);
            g_assert_cmphex(dma_read(u, MEM_IOVA, 0), ==, last);
            smmu_cfgi_cd(u->smmu, u->sid, 0);
            break;
        }
        g_assert_cmphex(dma_read(u, MEM_IOVA, 0), ==, next);
        g_assert_cmphex(dma_read(other, MEM_IOVA, 0), ==, last);
        smmu_tlbi_all(other->smmu);
        g_assert_cmphex(dma_read(other, MEM_IOVA, 0), ==, next);
    }
    stop(s);
}

/* Translations that the device keeps itself */
static void test_ats(gconstpointer data)
{
    Setup *s = start_mode(data, 1, "");
    QTestState *qts = s->t->qts;
    Unit *u = &s->unit[0];
    uint64_t ram = guest_ram(), old = random_value(), new = random_value();
    unsigned at = find_ext_cap(u, EXT_CAP_ATS);

    /* The capability is the device's own, and the guest enables it */
    g_assert_cmphex(at, !=, 0);
    qtest_writew(qts, cxl_node_config(s->t, u->node, at + 6), 0x8000);

    qtest_writeq(qts, ram, old);
    qtest_writeq(qts, ram + 0x1000, new);
    smmu_enable(u->smmu);
    translate(u);
    smmu_map(u->smmu, u->tables, MEM_IOVA, ram, 0x1000);
    g_assert_cmphex(dma_read(u, MEM_IOVA, VFIO_SIM_DMA_ATS), ==, old);
    smmu_map(u->smmu, u->tables, MEM_IOVA, ram + 0x1000, 0x1000);
    smmu_tlbi_va(u->smmu, u->asid, MEM_IOVA);
    g_assert_cmphex(dma_read(u, MEM_IOVA, VFIO_SIM_DMA_ATS), ==, old);
    g_assert_cmphex(dma_read(u, MEM_IOVA, 0), ==, new);
    smmu_atc_inv(u->smmu, u->sid, MEM_IOVA);
    g_assert_cmphex(dma_read(u, MEM_IOVA, VFIO_SIM_DMA_ATS), ==, new);
    stop(s);
}

/* Address spaces of processes */
static void test_pasid(gconstpointer data)
{
    Setup *s = start_mode(data, 1, "");
    QTestState *qts = s->t->qts;
    Unit *u = &s->unit[0];
    uint64_t ram = guest_ram(), value[8];
    uint64_t tables;

    smmu_enable(u->smmu);
    translate(u);
    for (unsigned pasid = 1; pasid < 8; pasid++) {
        value[pasid] = random_value();
        qtest_writeq(qts, ram + pasid * 0x1000, value[pasid]);
        tables = smmu_tables(u->smmu);
        smmu_map(u->smmu, tables, MEM_IOVA, ram + pasid * 0x1000, 0x1000);
        smmu_set_cd(u->smmu, u->sid, pasid, 10 + pasid, tables);
        smmu_cfgi_cd(u->smmu, u->sid, pasid);
    }
    for (unsigned pasid = 1; pasid < 8; pasid++) {
        qtest_writel(qts, u->regs + VFIO_SIM_REG_DMA_PASID,
                     VFIO_SIM_DMA_PASID_VALID | pasid);
        g_assert_cmphex(dma_read(u, MEM_IOVA, 0), ==, value[pasid]);
        g_assert_false(reaches(u, ram_iova(ram), ram));
    }
    qtest_writel(qts, u->regs + VFIO_SIM_REG_DMA_PASID, 0);
    g_assert_true(reaches(u, ram_iova(ram), ram));
    g_assert_false(reaches(u, MEM_IOVA, ram));
    stop(s);
}

static void assert_event(Unit *u, uint64_t iova)
{
    uint64_t record[4];

    g_assert_true(smmu_event(u->smmu, record));
    g_assert_cmphex(record[0] & 0xff, ==, EVENT_F_TRANSLATION);
    g_assert_cmphex(record[0] >> 32, ==, u->sid);
    g_assert_cmphex(record[2], ==, iova);
}

static void assert_no_event(Unit *u)
{
    uint64_t record[4];

    g_assert_false(smmu_event(u->smmu, record));
}

/* A fault is told to the guest that can mend it: which stream, and where */
static void test_events(gconstpointer data)
{
    Setup *s = start_mode(data, 2, "");
    Unit *u = &s->unit[0], *other = &s->unit[1];

    for (int i = 0; i < 2; i++) {
        smmu_enable(s->unit[i].smmu);
        translate(&s->unit[i]);
    }
    for (int i = 0; i < 20; i++) {
        g_assert_cmphex(dma_read(u, NOWHERE + i * 0x1000, 0), ==, FAULTED);
    }
    g_assert_cmphex(dma_read(other, NOWHERE + GiB, 0), ==, FAULTED);
    for (int i = 0; i < 20; i++) {
        assert_event(u, NOWHERE + i * 0x1000);
    }
    assert_no_event(u);
    assert_event(other, NOWHERE + GiB);
    assert_no_event(other);
    /* What the guest's tables allow and its memory lacks concerns the host */
    smmu_map(u->smmu, u->tables, NOWHERE, 0x3f00000000, GiB);
    g_assert_cmphex(dma_read(u, NOWHERE, 0), ==, FAULTED);
    assert_no_event(u);
    stop(s);
}

/*
 * Device memory is reachable, by each device through its own SMMU, exactly
 * while it is in the guest's memory map
 */
static void test_memory(gconstpointer data)
{
    Setup *s = start_mode(data, 2, ",x-cxl-commit=guest");
    bool can = maps_memory(data);
    uint64_t at[2];

    for (int i = 0; i < 2; i++) {
        at[i] = ROUND_UP(s->t->window[i], GiB);
        smmu_enable(s->unit[i].smmu);
        cxl_node_enable(s->t, s->unit[i].node);
        translate(&s->unit[i]);
    }
    for (int i = 0; i < 2; i++) {
        for (int n = 0; n < 2; n++) {
            smmu_map(s->unit[i].smmu, s->unit[i].tables, MEM_IOVA + n * GiB,
                     at[n], GiB);
        }
    }
    for (int round = 0; round < 6; round++) {
        for (int n = 0; n < 2; n++) {
            bool there = (round & 1 << n) || round == 5;
            CXLNode *node = s->unit[n].node;
            bool committed = cxl_node_base(s->t, node, 0);

            if (there && !committed) {
                g_assert_true(cxl_node_program(s->t, node, 0, at[n], M256, 0));
            } else if (!there && committed) {
                cxl_node_write(s->t, node, HDM_CTRL(0), 0);
            }
            for (int i = 0; i < 2; i++) {
                g_assert_true(reaches(&s->unit[i], MEM_IOVA + n * GiB,
                                      at[n]) == (there && can));
            }
        }
    }
    /* Elsewhere, where the tables do not lead */
    cxl_node_write(s->t, s->unit[0].node, HDM_CTRL(0), 0);
    g_assert_true(cxl_node_program(s->t, s->unit[0].node, 0, at[0] + GiB,
                                   M256, 0));
    g_assert_false(reaches(&s->unit[1], MEM_IOVA, at[0]));
    smmu_map(s->unit[1].smmu, s->unit[1].tables, MEM_IOVA, at[0] + GiB, GiB);
    smmu_tlbi_all(s->unit[1].smmu);
    g_assert_true(reaches(&s->unit[1], MEM_IOVA, at[0] + GiB) == can);
    stop(s);
}

static void test_reset(gconstpointer data)
{
    Setup *s = start_mode(data, 2, "");
    uint64_t ram = guest_ram();

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2; i++) {
            Unit *u = &s->unit[i];

            g_assert_true(reaches(u, ram, ram));
            smmu_enable(u->smmu);
            translate(u);
            smmu_map(u->smmu, u->tables, MEM_IOVA, u->memory, GiB);
            g_assert_true(reaches(u, ram_iova(ram), ram));
            g_assert_true(reaches(u, MEM_IOVA, u->memory) ==
                          maps_memory(data));
            smmu_gbpa_abort(u->smmu, round == 1);
        }
        qtest_system_reset(s->t->qts);
        cxl_topology_enumerate(s->t);
        find_units(s);
        for (int i = 0; i < 2; i++) {
            assert_stream(&s->unit[i], "stage2");
            assert_no_event(&s->unit[i]);
        }
    }
    stop(s);
}

static void add_ok(Setup *s, unsigned n)
{
    g_autofree char *id = g_strdup_printf("dev%u", n);
    g_autofree char *host = g_strdup_printf("0000:c%u:00.0", n + 1);
    g_autofree char *bus = g_strdup_printf("rp%u", n);
    QDict *reply = qtest_qmp(s->t->qts, "{'execute': 'device_add', "
        "'arguments': {'driver': 'vfio-pci', 'id': %s, 'host': %s, 'bus': %s, "
        "'iommufd': 'iommufd0', 'x-cxl-commit': %s}}", id, host, bus,
        s->commit);

    if (!qdict_haskey(reply, "return")) {
        g_autoptr(GString) json = qobject_to_json(QOBJECT(reply));

        g_error("%s", json->str);
    }
    qobject_unref(reply);
}

/* The guest switches the slot of the port off or on */
static void slot_switch(Setup *s, unsigned n, bool on)
{
    g_autofree char *id = g_strdup_printf("rp%u", n);

    cxl_node_power_slot(s->t, cxl_topology_find(s->t, id), on);
}

static void unplug(Setup *s, unsigned n)
{
    g_autofree char *id = g_strdup_printf("dev%u", n);
    QDict *reply = qtest_qmp(s->t->qts, "{'execute': 'device_del', "
                             "'arguments': {'id': %s}}", id);

    g_assert_true(qdict_haskey(reply, "return"));
    qobject_unref(reply);
    slot_switch(s, n, false);
    qtest_qmp_eventwait(s->t->qts, "DEVICE_DELETED");
}

static void plug(Setup *s, unsigned n)
{
    add_ok(s, n);
    slot_switch(s, n, true);
    cxl_topology_enumerate(s->t);
    find_units(s);
}

/* A device leaves, the other stays; one that comes has what its STE says */
static void test_unplug(gconstpointer data)
{
    /* The last one is not acceptable with accel=on */
    static const unsigned configs[] = {
        STE_S1, STE_ABORT, STE_BYPASS, STE_S1, STE_S2,
    };
    Setup *s = start_mode(data, 2, "");
    Unit *u = &s->unit[0], *other = &s->unit[1];
    uint64_t ram = guest_ram();

    for (int i = 0; i < 2; i++) {
        slot_switch(s, i, true);
        smmu_enable(s->unit[i].smmu);
        translate(&s->unit[i]);
    }
    for (int round = 0; round < ARRAY_SIZE(configs); round++) {
        bool through = configs[round] == STE_S1;

        g_assert_true(reaches(u, ram_iova(ram), ram));
        unplug(s, 0);
        g_assert_true(reaches(other, ram_iova(ram), ram));
        /* The table is only the guest's: nothing is announced */
        smmu_set_ste(u->smmu, u->sid, configs[round]);
        plug(s, 0);
        g_assert_true(reaches(u, ram, ram) == (configs[round] == STE_BYPASS));
        g_assert_true(reaches(u, ram_iova(ram), ram) == through);
        g_assert_true(reaches(other, ram_iova(ram), ram));
        smmu_set_ste(u->smmu, u->sid, STE_S1);
        smmu_cfgi_ste(u->smmu, u->sid);
        g_assert_cmphex(dma_read(u, NOWHERE, 0), ==, FAULTED);
        /* Those of before it was plugged are in the queue as well */
        while (!through) {
            uint64_t record[4];

            g_assert_true(smmu_event(u->smmu, record));
            if (record[2] == NOWHERE) {
                g_assert_cmphex(record[0] >> 32, ==, u->sid);
                break;
            }
        }
    }
    stop(s);
}

/* The guest gives the bus another number: the stream has another ID, too */
static void test_renumber(gconstpointer data)
{
    Setup *s = start_mode(data, 1, "");
    Unit *u = &s->unit[0];
    CXLNode *port = cxl_topology_find(s->t, "rp0");
    uint64_t ram = guest_ram();

    smmu_enable(u->smmu);
    translate(u);
    g_assert_true(reaches(u, ram_iova(ram), ram));
    for (unsigned bus = BUS(0) + 3; bus > BUS(0); bus--) {
        qtest_writew(s->t->qts, cxl_node_config(s->t, port, 0x19),
                     bus | bus << 8);
        u->sid = bus << 8;
        translate(u);
        g_assert_true(reaches(u, ram_iova(ram), ram));
        smmu_map(u->smmu, u->tables, MEM_IOVA, ram, GiB);
        g_assert_cmphex(dma_read(u, NOWHERE, 0), ==, FAULTED);
        assert_event(u, NOWHERE);
        /* An invalidation by the new ID */
        smmu_cfgi_cd(u->smmu, u->sid, 0);
        smmu_atc_inv(u->smmu, u->sid, MEM_IOVA);
    }
    stop(s);
}

/* Two devices behind a switch, which share an SMMU */
static Setup *start_shared(gconstpointer data)
{
    static const char *const bridges[] = { "cxl.0=4", NULL };
    const VFIOCXLMode *mode = data;
    g_autofree char *all = g_strdup_printf("--iommu=smmuv3,smmus=1 "
                                           "--devices=2 --kernel=%s",
                                           mode->kernel);
    VFIOSim *sim = vfio_sim_start(all);
    g_autoptr(GString) options = machine_options(sim);
    Setup *s = g_new0(Setup, 1);

    g_string_append(options, " -object iommufd,id=iommufd0"
        " -device pxb-cxl,id=cxl.0,bus=pcie.0,bus_nr=4,hdm_for_passthrough=on"
        " -device cxl-rp,id=rp0,bus=cxl.0,chassis=0,slot=0"
        " -device cxl-upstream,id=us0,bus=rp0"
        " -device cxl-downstream,id=ds0,bus=us0,port=0,chassis=0,slot=4"
        " -device cxl-downstream,id=ds1,bus=us0,port=1,chassis=0,slot=5"
        " -device arm-smmuv3,id=smmu0,primary-bus=cxl.0," SMMU_FULL
        " -device vfio-pci,id=dev0,host=0000:c1:00.0,bus=ds0,iommufd=iommufd0"
        " -device vfio-pci,id=dev1,host=0000:c2:00.0,bus=ds1,iommufd=iommufd0"
        " -M cxl-fmw.0.targets.0=cxl.0,cxl-fmw.0.size=4G");
    s->t = cxl_topology_start(sim, options->str, bridges);
    s->m = (CXLMachine) { .qts = s->t->qts, .sim = s->t->sim };
    s->units = 2;
    find_units(s);
    s->unit[0].smmu = s->unit[1].smmu = smmu_new(s->t->qts, 0);
    return s;
}

static void test_shared(gconstpointer data)
{
    Setup *s = start_shared(data);
    SMMU *smmu = s->unit[0].smmu;
    uint64_t ram = guest_ram();

    smmu_gbpa_abort(smmu, true);
    for (int i = 0; i < 2; i++) {
        g_assert_false(reaches(&s->unit[i], ram, ram));
    }
    smmu_enable(smmu);
    for (int i = 0; i < 2; i++) {
        g_assert_false(reaches(&s->unit[i], ram, ram));
        translate(&s->unit[i]);
        for (int n = 0; n < 2; n++) {
            smmu_map(smmu, s->unit[i].tables, MEM_IOVA + n * GiB,
                     ROUND_DOWN(s->unit[n].memory, GiB), GiB);
        }
    }
    for (int i = 0; i < 2; i++) {
        g_assert_true(reaches(&s->unit[i], ram_iova(ram), ram));
        for (int n = 0; n < 2; n++) {
            g_assert_true(reaches(&s->unit[i], MEM_IOVA + n * GiB +
                                  s->unit[n].memory % GiB, s->unit[n].memory)
                          == maps_memory(data));
        }
        g_assert_cmphex(dma_read(&s->unit[i], NOWHERE, 0), ==, FAULTED);
        if (!maps_memory(data)) {
            continue;
        }
        assert_event(&s->unit[i], NOWHERE);
    }
    /* One by one */
    smmu_set_ste(smmu, s->unit[0].sid, STE_ABORT);
    smmu_cfgi_ste(smmu, s->unit[0].sid);
    g_assert_false(reaches(&s->unit[0], ram_iova(ram), ram));
    g_assert_true(reaches(&s->unit[1], ram_iova(ram), ram));
    stop(s);
}

/* The guest lets two buses change their numbers, and so two stream IDs */
static void test_swap(gconstpointer data)
{
    Setup *s = start_shared(data);
    SMMU *smmu = s->unit[0].smmu;
    uint64_t ram = guest_ram();

    smmu_enable(smmu);
    for (int i = 0; i < 2; i++) {
        translate(&s->unit[i]);
        g_assert_true(reaches(&s->unit[i], ram_iova(ram), ram));
    }
    for (int round = 0; round < 3; round++) {
        uint32_t old = s->unit[0].sid;

        s->unit[0].sid = s->unit[1].sid;
        s->unit[1].sid = old;
        for (int i = 0; i < 2; i++) {
            unsigned bus = s->unit[i].sid >> 8;
            CXLNode *port = s->unit[i].node->parent;

            qtest_writew(s->t->qts, cxl_node_config(s->t, port, 0x19),
                         bus | bus << 8);
        }
        for (int i = 0; i < 2; i++) {
            translate(&s->unit[i]);
        }
        smmu_set_ste(smmu, s->unit[round % 2].sid, STE_ABORT);
        smmu_cfgi_ste(smmu, s->unit[round % 2].sid);
        for (int i = 0; i < 2; i++) {
            bool through = i != round % 2;

            g_assert_true(reaches(&s->unit[i], ram_iova(ram), ram) == through);
            if (through) {
                g_assert_cmphex(dma_read(&s->unit[i], NOWHERE, 0), ==, FAULTED);
                assert_event(&s->unit[i], NOWHERE);
            }
        }
    }
    stop(s);
}

/*
 * Random steps: what each device reaches follows from its SMMU and from what
 * is committed, of its own memory and of others'
 */
#define RANDOM_UNITS    3
#define RANDOM_BLOCKS   8       /* of 256 MiB, in each window of 4 GiB */
#define RANDOM_STEPS    400
#define ALL_IOVA        (1ull << 46)    /* of the guest's address 0 */

typedef struct Random {
    Setup *s;
    bool enabled[RANDOM_UNITS];
    bool gbpa_abort[RANDOM_UNITS];
    unsigned ste[RANDOM_UNITS];         /* what the SMMU has been told */
    int block[RANDOM_UNITS];            /* where memory is committed, or -1 */
    bool gone[RANDOM_UNITS];
    GString *last;
} Random;

static uint64_t random_block(Random *r, unsigned window, unsigned block)
{
    return ROUND_UP(r->s->t->window[window], GiB) + block * M256;
}

/* Tables for everything, with GiB pages: no invalidation is ever due */
static void random_enable(Random *r, unsigned n)
{
    Unit *u = &r->s->unit[n];

    smmu_enable(u->smmu);
    u->tables = smmu_tables(u->smmu);
    smmu_map(u->smmu, u->tables, ALL_IOVA + GiB, GiB, GiB);
    for (unsigned w = 0; w < RANDOM_UNITS; w++) {
        for (unsigned b = 0; b < RANDOM_BLOCKS; b += 4) {
            uint64_t at = random_block(r, w, b);

            smmu_map(u->smmu, u->tables, ALL_IOVA + at, at, GiB);
        }
    }
    r->enabled[n] = true;
    r->ste[n] = STE_ABORT;
}

static void random_ste(Random *r, unsigned n, unsigned config)
{
    Unit *u = &r->s->unit[n];

    smmu_set_cd(u->smmu, u->sid, 0, u->asid, u->tables);
    smmu_set_ste(u->smmu, u->sid, config);
    smmu_cfgi_ste(u->smmu, u->sid);
    r->ste[n] = config;
}

static void random_commit(Random *r, unsigned n)
{
    Unit *u = &r->s->unit[n];
    int block = g_test_rand_int_range(-1, RANDOM_BLOCKS);

    if (r->block[n] >= 0) {
        cxl_node_write(r->s->t, u->node, HDM_CTRL(0), 0);
    }
    cxl_node_enable(r->s->t, u->node);
    if (block >= 0) {
        g_assert_true(cxl_node_program(r->s->t, u->node, 0,
                                       random_block(r, n, block), M256, 0));
    }
    r->block[n] = block;
}

static void random_after_reset(Random *r)
{
    cxl_topology_enumerate(r->s->t);
    for (unsigned n = 0; n < RANDOM_UNITS; n++) {
        if (!r->gone[n]) {
            find_unit(r->s, n);
        }
    }
}

static void random_step(Random *r)
{
    unsigned n = g_test_rand_int_range(0, RANDOM_UNITS);
    unsigned kind = g_test_rand_int_range(0, 100);
    Unit *u = &r->s->unit[n];
    static const unsigned configs[] = { STE_ABORT, STE_BYPASS, STE_S1 };

    g_string_append_printf(r->last, " %u:%u", n, kind);
    if (kind < 2) {
        qtest_system_reset(r->s->t->qts);
        for (unsigned i = 0; i < RANDOM_UNITS; i++) {
            r->enabled[i] = r->gbpa_abort[i] = false;
            r->block[i] = -1;
            if (!r->gone[i]) {
                slot_switch(r->s, i, true);
            }
        }
        random_after_reset(r);
    } else if (kind < 10 && r->gone[n]) {
        add_ok(r->s, n);
        r->gone[n] = false;
        slot_switch(r->s, n, true);
        random_after_reset(r);
    } else if (kind < 6) {
        unplug(r->s, n);
        r->gone[n] = true;
        r->block[n] = -1;
    } else if (kind < 25) {
        smmu_gbpa_abort(u->smmu, r->gbpa_abort[n] = kind & 1);
    } else if (!r->gone[n] && kind < 35) {
        /* Decoders stay as they are */
        cxl_node_flr(r->s->t, u->node);
        random_after_reset(r);
    } else if (!r->gone[n] && kind < 60) {
        random_commit(r, n);
    } else if (!u->tables || kind < 65) {
        random_enable(r, n);
    } else if (kind < 75) {
        /* Its table is what it was, unless the machine has been reset */
        if (r->enabled[n]) {
            smmu_switch(u->smmu, r->enabled[n] = false);
        } else {
            random_enable(r, n);
        }
    } else if (r->enabled[n]) {
        random_ste(r, n, configs[g_test_rand_int_range(0, 3)]);
    }
}

/* Where the device sees the guest's address 0; false if it sees nothing */
static bool random_view(Random *r, unsigned n, uint64_t *offset)
{
    *offset = r->enabled[n] && r->ste[n] == STE_S1 ? ALL_IOVA : 0;
    return r->enabled[n] ? r->ste[n] != STE_ABORT : !r->gbpa_abort[n];
}

static void random_check(Random *r, bool can)
{
    unsigned n = g_test_rand_int_range(0, RANDOM_UNITS);
    unsigned owner = g_test_rand_int_range(0, RANDOM_UNITS);
    unsigned block = g_test_rand_int_range(0, RANDOM_BLOCKS);
    uint64_t ram = guest_ram(), offset, at = random_block(r, owner, block);
    bool there = r->block[owner] == block && can, sees;

    if (r->gone[n]) {
        return;
    }
    sees = random_view(r, n, &offset);
    if (reaches(&r->s->unit[n], ram + offset, ram) != sees ||
        reaches(&r->s->unit[n], at + offset, at) != (sees && there)) {
        g_error("unit %u (SMMU %s, STE %u, GBPA %s), unit %u's memory in block "
                "%u, committed in %d: after%s", n,
                r->enabled[n] ? "on" : "off", r->ste[n],
                r->gbpa_abort[n] ? "abort" : "bypass", owner, block,
                r->block[owner], r->last->str);
    }
    /* And not by the other kind of address */
    if (sees) {
        g_assert_false(reaches(&r->s->unit[n], ram + (offset ^ ALL_IOVA),
                               ram));
    }
}

static void test_random(gconstpointer data)
{
    Random r = {
        .s = start_mode(data, RANDOM_UNITS, ",x-cxl-commit=guest"),
        .block = { -1, -1, -1 },
        .last = g_string_new(NULL),
    };

    for (unsigned n = 0; n < RANDOM_UNITS; n++) {
        slot_switch(r.s, n, true);
    }
    for (unsigned step = 0; step < RANDOM_STEPS; step++) {
        random_step(&r);
        for (unsigned i = 0; i < 3; i++) {
            random_check(&r, maps_memory(data));
        }
    }
    g_string_free(r.last, true);
    stop(r.s);
}

static void refused(const char *sim_options, bool iommufd, const char *smmu,
                    const char *more, const char *message)
{
    VFIOSim *sim = vfio_sim_start(sim_options);
    g_autoptr(GString) options = machine_options(sim);
    g_autofree char *output = NULL;

    add_bridge(options, 0, smmu);
    add_windows(options, 1);
    g_string_append(options, more);
    output = cxl_machine_refused(sim, options->str, iommufd, ",bus=rp0");
    if (!strstr(output, message)) {
        g_error("not '%s': %s", message, output);
    }
    vfio_sim_stop(sim);
}

/* What does not fit is refused, and the message says what */
static void test_refused(void)
{
    refused("--iommu=smmuv3", false, SMMU_FULL, "",
            "without an iommufd backend not allowed when using "
            "arm-smmuv3,accel=on");
    refused("--iommu=smmuv3", true, SMMU_FULL,
            " -device cxl-rp,id=rp1,bus=cxl.0,chassis=0,slot=1,port=1"
            " -device virtio-blk-pci,bus=rp1,drive=d0"
            " -drive if=none,id=d0,driver=null-co",
            "Emulated endpoint devices are not allowed when using "
            "arm-smmuv3,accel=on");
    refused("--iommu=smmuv3", true, SMMU_FULL,
            " -device cxl-rp,id=rp1,bus=cxl.0,chassis=0,slot=1,port=1"
            " -object memory-backend-ram,id=ram0,size=256M"
            " -device cxl-type3,bus=rp1,volatile-memdev=ram0,id=t3",
            "Emulated endpoint devices are not allowed");
    refused("--iommu=smmuv3", true, "accel=on", "",
            "SMMUv3 accel=on requires KVM");
    refused("", true, SMMU_FULL, "", "Failed to allocate hwpt");
    refused("--iommu=smmuv3,ats=off", true, SMMU_FULL, "",
            "doesn't support Address Translation Services");
    refused("--iommu=smmuv3,pasid-bits=8", true, SMMU_FULL, "",
            "SSIDSIZE not compatible");
    refused("--iommu=smmuv3,oas=44", true, SMMU_FULL, "",
            "supports only 44-bit IPA");
    refused("--iommu=smmuv3", true, "accel=off", "",
            "requires iommu MAP notifier which is not currently supported");
}

/*
 * What firmware hands over: every stream leads to its SMMU, MSIs of the host's
 * have their addresses, and addresses of BARs stay, as RMRs demand
 */
static void test_tables(void)
{
    static const char expected[] =
        "IORT, revision 5, 6 nodes\n"
        "  Node at 0x30: ITS Group\n"
        "  Node at 0x48: SMMUv3\n"
        "    Base: 0xc000000\n"
        "    IDs 0x0000 to 0xffff to 0x0000 of the node at 0x30\n"
        "  Node at 0xa0: SMMUv3\n"
        "    Base: 0xc020000\n"
        "    IDs 0x0000 to 0xffff to 0x0000 of the node at 0x30\n"
        "  Node at 0xf8: Root Complex\n"
        "    IDs 0x0400 to 0x05ff to 0x0400 of the node at 0x48\n"
        "    IDs 0x0800 to 0x09ff to 0x0800 of the node at 0xa0\n"
        "    IDs 0x0000 to 0x03ff to 0x0000 of the node at 0x30\n"
        "    IDs 0x0600 to 0x07ff to 0x0600 of the node at 0x30\n"
        "    IDs 0x0a00 to 0xffff to 0x0a00 of the node at 0x30\n"
        "  Node at 0x180: Reserved memory\n"
        "    Range: 0x8000000, 0x100000 bytes\n"
        "    IDs 0x0400 to 0x05ff to 0x0400 of the node at 0x48\n"
        "  Node at 0x1c4: Reserved memory\n"
        "    Range: 0x8000000, 0x100000 bytes\n"
        "    IDs 0x0800 to 0x09ff to 0x0800 of the node at 0xa0\n";
    /* A CXL device with a locked decoder would have a _DSM in any case */
    Setup *s = start("--iommu=smmuv3 --kernel=none", 2, SMMU_FULL, "");
    g_autoptr(GByteArray) tables = acpi_tables_read(s->t->qts);
    g_autofree char *iort = acpi_iort_text(tables);

    g_assert_cmpstr(iort, ==, expected);
    for (unsigned n = 0; n < 2 && acpi_has_iasl(); n++) {
        g_autofree char *name = g_strdup_printf("PC%02X", BUS(n));
        g_autofree char *bridge = acpi_device_text(tables, name);
        char *dsm = strstr(bridge, "Method (_DSM");

        g_assert_nonnull(dsm);
        g_assert_nonnull(strstr(dsm, "e5c937d0-3553-4d7a-9117-ea4d19c3434d"));
        g_assert_nonnull(strstr(dsm, "(Arg2 == 0x05)"));
    }
    stop(s);
}

/* The guest sees ATS and PASIDs as far as host and options have them */
static void test_capabilities(void)
{
    static const struct {
        const char *sim, *smmu, *device;
        bool ats, pasid;
    } rows[] = {
        { "--iommu=smmuv3", SMMU_FULL, "", true, true },
        { "--iommu=smmuv3", SMMU_ACCEL, "", true, true },
        /* The SMMU's ats= is for the IORT, which software must look at */
        { "--iommu=smmuv3", SMMU_ACCEL ",ats=off,ssidsize=0", "", true, false },
        { "--iommu=smmuv3", SMMU_ACCEL, ",ats=off", false, true },
        { "--iommu=smmuv3,ats=off", SMMU_ACCEL, "", false, true },
        { "--iommu=smmuv3,pasid-bits=0", SMMU_ACCEL, "", true, false },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        Setup *s = start(rows[i].sim, 1, rows[i].smmu, rows[i].device);
        uint64_t ram = guest_ram();
        bool ats = find_ext_cap(&s->unit[0], EXT_CAP_ATS);
        bool pasid = find_ext_cap(&s->unit[0], EXT_CAP_PASID);

        if (ats != rows[i].ats || pasid != rows[i].pasid) {
            g_error("%s, %s%s: ATS %d, PASID %d", rows[i].sim, rows[i].smmu,
                    rows[i].device, ats, pasid);
        }
        g_assert_true(reaches(&s->unit[0], ram, ram));
        stop(s);
    }
}

static void add_test(const char *name, void (*test)(gconstpointer))
{
    g_autofree const char **tested = vfio_cxl_tested(kernels);

    for (int i = 0; tested[i]; i++) {
        vfio_cxl_add_mode(name, tested[i], true, test);
    }
}

int main(int argc, char **argv)
{
    vfio_cxl_test_init(&argc, &argv);

    add_test("ste", test_ste);
    add_test("invalidate", test_invalidate);
    add_test("ats", test_ats);
    add_test("pasid", test_pasid);
    add_test("events", test_events);
    add_test("memory", test_memory);
    add_test("reset", test_reset);
    add_test("unplug", test_unplug);
    add_test("renumber", test_renumber);
    add_test("shared", test_shared);
    add_test("swap", test_swap);
    add_test("random", test_random);
    qtest_add_func("vfio-cxl/smmu/refused", test_refused);
    qtest_add_func("vfio-cxl/smmu/tables", test_tables);
    qtest_add_func("vfio-cxl/smmu/capabilities", test_capabilities);
    return g_test_run();
}
