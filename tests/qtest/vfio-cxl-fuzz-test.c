/*
 * CXL Type-2 devices behind vfio-pci: any writes to any decoders
 *
 * Two host bridges, a switch below a switch, four passed-through devices and
 * an emulated one. Registers on all paths are written at random, with resets
 * between, and after each write the windows must show what an independent model
 * predicts and nothing else. Environment:
 *
 *   VFIO_CXL_FUZZ_SEED=N    default 1; printed
 *   VFIO_CXL_FUZZ_STEPS=N   register writes per test, default 12000
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "vfio-cxl-model.h"
#include "vfio-cxl-topology.h"

#define DEVICES 4
#define SENTINELS 4
#define STEPS 12000
#define FULL_CHECK 40           /* steps between checks of everything */
#define FLAT_CHECK 400          /* steps between checks of the flat view */

enum {
    HB0, HB1, US0, US1, DEV1, DEV2, DEV3, DEV4, TYPE3, NODES
};

#define MEMORY (6 * M256)
#define BLOCKS 18
#define TYPE3_BLOCK 4           /* in window 0 */
#define TYPE3_SIZE (2 * M256)

static const struct {
    const char *id;
    int above;
    unsigned number;
} tree[NODES] = {
    [HB0] = { "cxl.0", -1 },
    [HB1] = { "cxl.1", -1 },
    [US0] = { "us0", HB0, 2 },
    [US1] = { "us1", US0, 1 },
    [DEV1] = { "dev1", HB0, 0 },
    [DEV2] = { "dev2", US0, 0 },
    [DEV3] = { "dev3", US1, 3 },
    [DEV4] = { "dev4", HB1, 0 },
    [TYPE3] = { "type3", HB0, 5 },
};

static const char options[] =
    " -device pxb-cxl,id=cxl.0,bus=pcie.0,bus_nr=12"
    " -device cxl-rp,id=rp0,bus=cxl.0,chassis=0,slot=0,port=0"
    " -device cxl-rp,id=rp1,bus=cxl.0,chassis=0,slot=1,port=2"
    " -device cxl-rp,id=rp2,bus=cxl.0,chassis=0,slot=2,port=5"
    " -device cxl-upstream,id=us0,bus=rp1"
    " -device cxl-downstream,id=ds0,bus=us0,chassis=1,slot=0,port=0"
    " -device cxl-downstream,id=ds1,bus=us0,chassis=1,slot=1,port=1"
    " -device cxl-upstream,id=us1,bus=ds1"
    " -device cxl-downstream,id=ds2,bus=us1,chassis=2,slot=0,port=3"
    " -device pxb-cxl,id=cxl.1,bus=pcie.0,bus_nr=64"
    " -device cxl-rp,id=rp3,bus=cxl.1,chassis=3,slot=3"
    " -object memory-backend-ram,id=mem0,size=512M"
    " -device cxl-type3,id=type3,bus=rp2,volatile-memdev=mem0"
    " -M cxl-fmw.0.targets.0=cxl.0,cxl-fmw.0.size=1536M,"
    "cxl-fmw.1.targets.0=cxl.1,cxl-fmw.1.size=1536M,"
    "cxl-fmw.2.targets.0=cxl.0,cxl-fmw.2.size=1G,"
    "cxl-fmw.3.targets.0=cxl.0,cxl-fmw.3.targets.1=cxl.1,"
    "cxl-fmw.3.size=512M";

static const char *const bridges[] = { "cxl.0=12", "cxl.1=64", NULL };

/* Events of the run; each must have occurred */
enum {
    MAPPED = MODEL_REFUSALS, UNMAPPED, LOCKED, FLR_DEVICE, FLR_SWITCH,
    BUS_RESET, SYSTEM_RESET, GATED, WIDE_WRITE, NARROW_WRITE, EMULATED_SHOWN,
    NESTED_SHOWN, PART_SHOWN, FLAT_SHOWN, COUNTS
};

static const char *const count_names[COUNTS] = {
    [MODEL_COMMITTED] = "commits", [MODEL_NO_SIZE] = "no size",
    [MODEL_WRAPS] = "wraps", [MODEL_INTERLEAVES] = "interleaves",
    [MODEL_ORDER] = "order", [MODEL_OVERLAP] = "overlap",
    [MODEL_DPA] = "no memory", [MODEL_NO_WINDOW] = "no window",
    [MODEL_WINDOW_INTERLEAVES] = "window interleaves",
    [MODEL_OTHER_BRIDGE] = "window of another bridge",
    [MODEL_WINDOW_END] = "window's end", [MODEL_TAKEN] = "taken",
    [MAPPED] = "blocks mapped", [UNMAPPED] = "blocks unmapped",
    [LOCKED] = "locks", [FLR_DEVICE] = "device FLRs",
    [FLR_SWITCH] = "switch FLRs", [BUS_RESET] = "bus resets",
    [SYSTEM_RESET] = "system resets", [GATED] = "gates moved",
    [WIDE_WRITE] = "8-byte writes", [NARROW_WRITE] = "narrow writes",
    [EMULATED_SHOWN] = "emulated blocks seen",
    [NESTED_SHOWN] = "blocks behind two switches seen",
    [PART_SHOWN] = "decoders seen in part",
    [FLAT_SHOWN] = "blocks seen in the flat view",
};

typedef struct Fuzz {
    CXLTopology *t;
    ModelNode node[NODES];
    ModelWindow window[4];
    Model model;
    uint64_t block[BLOCKS];       /* address of each 256 MiB of the windows */
    unsigned blocks;
    ModelNode *shown[BLOCKS];   /* by the last step */
    uint64_t shown_dpa[BLOCKS];
    CXLNode *hw[NODES];
    int memory[DEVICES];
    uint64_t seed;
    uint64_t random;
    unsigned step;
    unsigned count[COUNTS];
    char last[160];
    uint64_t ram[SENTINELS];
    uint64_t beside[2];
    uint64_t mmio;
} Fuzz;

/* xorshift64*: the same on all machines */
static uint32_t draw(Fuzz *f, uint32_t limit)
{
    f->random ^= f->random >> 12;
    f->random ^= f->random << 25;
    f->random ^= f->random >> 27;
    return (uint32_t)((f->random * 0x2545f4914f6cdd1dull) >> 32) % limit;
}

static bool one_in(Fuzz *f, uint32_t n)
{
    return draw(f, n) == 0;
}

static void G_GNUC_PRINTF(2, 3) bail(Fuzz *f, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list ap;

    va_start(ap, format);
    what = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_error("seed %" PRIu64 ", step %u, after %s: %s", f->seed, f->step,
            f->last, what);
}

static bool is_endpoint(const ModelNode *node)
{
    return node->memory && !node->emulated;
}

static const char *name_of(const ModelNode *node)
{
    return node ? node->id : "nothing";
}

/* A byte is identified by its device, its block, and which end of that */
static uint64_t marker(Fuzz *f, const ModelNode *node, uint64_t dpa)
{
    return 0xc0de000000000000ull | (node - f->node) << 16 |
           dpa / M256 << 8 | (dpa % M256 ? 0xee : 0xbb);
}

static void put_markers(Fuzz *f)
{
    for (unsigned i = 0; i < DEVICES; i++) {
        for (uint64_t dpa = 0; dpa < MEMORY; dpa += M256) {
            uint64_t first = cpu_to_le64(marker(f, &f->node[DEV1 + i], dpa));
            uint64_t last = cpu_to_le64(marker(f, &f->node[DEV1 + i],
                                               dpa + M256 - 8));

            g_assert_cmpint(pwrite(f->memory[i], &first, 8, dpa), ==, 8);
            g_assert_cmpint(pwrite(f->memory[i], &last, 8, dpa + M256 - 8),
                            ==, 8);
        }
    }
}

/*
 * Checks
 */
static void check_address(Fuzz *f, uint64_t address)
{
    uint64_t dpa, value = qtest_readq(f->t->qts, address);
    ModelNode *node = model_lookup(&f->model, address, &dpa);
    uint64_t expected = node ? marker(f, node, dpa) : 0;

    if (value != expected) {
        bail(f, "0x%" PRIx64 " (+0x%" PRIx64 ") shows 0x%" PRIx64
             ", not 0x%" PRIx64 " of %s", address, address - f->block[0],
             value, expected, name_of(node));
    }
}

static void check_block(Fuzz *f, unsigned block)
{
    check_address(f, f->block[block]);
    check_address(f, f->block[block] + M256 - 8);
}

static void check_register(Fuzz *f, const ModelNode *node, unsigned n,
                           unsigned reg)
{
    const CXLNode *hw = f->hw[node - f->node];
    uint32_t value = cxl_node_read(f->t, hw, HDM_BASE_LO(n) + 4 * reg);

    if (value != node->decoder[n].reg[reg]) {
        bail(f, "decoder %u of %s: register %u is 0x%x, not 0x%x", n,
             node->id, reg, value, node->decoder[n].reg[reg]);
    }
}

static void check_node(Fuzz *f, const ModelNode *node)
{
    for (unsigned n = 0; !node->emulated && n < node->decoders; n++) {
        for (unsigned reg = 0; reg < MODEL_REGS - 1; reg++) {
            check_register(f, node, n, reg);
        }
    }
}

/* The bytes before and after all windows */
static uint64_t beside(Fuzz *f, unsigned i)
{
    return i ? f->block[f->blocks - 1] + M256 : f->block[0] - 8;
}

/* Other memory than the devices' is unchanged */
static void check_sentinels(Fuzz *f)
{
    for (unsigned i = 0; i < SENTINELS; i++) {
        if (qtest_readq(f->t->qts, f->ram[i]) != ~f->ram[i]) {
            bail(f, "RAM has changed at 0x%" PRIx64, f->ram[i]);
        }
    }
    if (qtest_readl(f->t->qts, f->mmio) != 0x11223344) {
        bail(f, "a register of a device has changed");
    }
    for (unsigned i = 0; i < ARRAY_SIZE(f->beside); i++) {
        if (qtest_readq(f->t->qts, beside(f, i)) != f->beside[i]) {
            bail(f, "something is mapped at 0x%" PRIx64, beside(f, i));
        }
    }
}

static void check_flat_range(Fuzz *f, uint64_t start, uint64_t end,
                             const char *rest)
{
    const char *offset = strstr(rest, " @");
    bool memory = strstr(rest, "CXL memory");
    uint64_t at_dpa = offset ? g_ascii_strtoull(offset + 2, NULL, 16) : 0;

    for (unsigned i = 0; i < f->blocks; i++) {
        uint64_t address = f->block[i], dpa;
        ModelNode *node = model_lookup(&f->model, address, &dpa);
        bool wanted = node && !node->emulated;

        if (end < address || start >= address + M256) {
            continue;
        }
        /* Reads look at both ends of a block; here nothing hides between */
        if (start > address || end < address + M256 - 1) {
            bail(f, "flat view of 0x%" PRIx64 " in pieces: 0x%" PRIx64 "%s",
                 address, start, rest);
        }
        f->count[FLAT_SHOWN] += memory;
        if (memory != wanted ||
            (memory && at_dpa + (address - start) != dpa)) {
            bail(f, "flat view of 0x%" PRIx64 ", which should show %s: %s",
                 address, name_of(node), rest);
        }
    }
}

/* The windows in the flat view contain nothing that reads do not show */
static void check_flat_view(Fuzz *f)
{
    g_autofree char *text = qtest_hmp(f->t->qts, "info mtree -f");
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    bool inside = false, memory = false;
    unsigned ranges = 0;

    for (char **line = lines; *line; line++) {
        unsigned long long start, end;
        int length;

        if (g_str_has_prefix(*line, "FlatView")) {
            inside = true;
            memory = false;
        }
        memory |= strstr(*line, "AS \"memory\"") != NULL;
        if (inside && memory &&
            sscanf(*line, " %llx-%llx%n", &start, &end, &length) == 2) {
            check_flat_range(f, start, end, *line + length);
            ranges++;
        }
    }
    g_assert_cmpint(ranges, >, 0);
}

static void note_parts(Fuzz *f)
{
    for (unsigned i = DEV1; i <= DEV4; i++) {
        for (unsigned n = 0; n < f->node[i].decoders; n++) {
            ModelDecoder *d = &f->node[i].decoder[n];
            unsigned all = 0, shown = 0;

            for (unsigned b = 0; b < f->blocks; b++) {
                bool in = model_is_committed(d) &&
                          f->block[b] >= model_base(d) &&
                          f->block[b] - model_base(d) < model_size(d);

                all += in;
                shown += in && f->shown[b] == &f->node[i];
            }
            f->count[PART_SHOWN] += shown && shown < all;
        }
    }
}

/* After each step: what has changed, and a sample of the rest */
static void check_step(Fuzz *f)
{
    for (unsigned i = 0; i < f->blocks; i++) {
        uint64_t dpa = 0;
        ModelNode *node = model_lookup(&f->model, f->block[i], &dpa);

        if (node != f->shown[i] || (node && dpa != f->shown_dpa[i])) {
            f->count[MAPPED] += node != NULL;
            f->count[UNMAPPED] += f->shown[i] != NULL;
            f->shown[i] = node;
            f->shown_dpa[i] = dpa;
            check_block(f, i);
        }
    }
    check_block(f, draw(f, f->blocks));
    check_block(f, draw(f, f->blocks));

    f->step++;
    if (f->step % FULL_CHECK == 0) {
        for (unsigned i = 0; i < f->blocks; i++) {
            check_block(f, i);
            f->count[EMULATED_SHOWN] += f->shown[i] == &f->node[TYPE3];
            f->count[NESTED_SHOWN] += f->shown[i] == &f->node[DEV3];
        }
        for (unsigned i = 0; i < NODES; i++) {
            check_node(f, &f->node[i]);
        }
        check_sentinels(f);
        note_parts(f);
    }
    if (f->step % FLAT_CHECK == 0) {
        check_flat_view(f);
    }
}

/*
 * Steps
 */
static void write_register(Fuzz *f, ModelNode *node, unsigned n, unsigned reg,
                           uint32_t value)
{
    uint32_t old = node->decoder[n].reg[MODEL_CTRL];
    ModelRefusal result;

    snprintf(f->last, sizeof(f->last), "0x%x to register %u of decoder %u "
             "of %s", value, reg, n, node->id);
    cxl_node_write(f->t, f->hw[node - f->node], HDM_BASE_LO(n) + 4 * reg,
                   value);
    result = model_write(&f->model, node, n, reg, value);
    if (result < MODEL_REFUSALS) {
        f->count[result]++;
    }
    f->count[LOCKED] += node->memory && !(old & HDM_LOCK) &&
        (node->decoder[n].reg[MODEL_CTRL] & (HDM_LOCK | HDM_COMMITTED)) ==
        (HDM_LOCK | HDM_COMMITTED);
    check_register(f, node, n, reg);
    check_step(f);
}

static void program(Fuzz *f, ModelNode *node, unsigned n, uint64_t base,
                    uint64_t size, uint64_t list, uint32_t ctrl)
{
    write_register(f, node, n, MODEL_BASE_LO, base);
    write_register(f, node, n, MODEL_BASE_HI, base >> 32);
    write_register(f, node, n, MODEL_SIZE_LO, size);
    write_register(f, node, n, MODEL_SIZE_HI, size >> 32);
    write_register(f, node, n, MODEL_LIST_LO, list);
    if (node->decoder[n].reg[MODEL_LIST_HI] != list >> 32) {
        write_register(f, node, n, MODEL_LIST_HI, list >> 32);
    }
    write_register(f, node, n, MODEL_CTRL, ctrl);
}

static ModelNode *any_endpoint(Fuzz *f)
{
    return &f->node[DEV1 + draw(f, DEVICES)];
}

static ModelNode *any_port(Fuzz *f)
{
    static const int ports[] = { HB0, US0, US1 };

    return &f->node[ports[draw(f, ARRAY_SIZE(ports))]];
}

static ModelNode *host_bridge_of(ModelNode *node)
{
    while (node->above) {
        node = node->above;
    }
    return node;
}

/* A block in a window; mostly one that @endpoint can use */
static uint64_t any_block(Fuzz *f, ModelNode *endpoint)
{
    for (unsigned i = 0; i < 64; i++) {
        uint64_t at = f->block[draw(f, f->blocks)];

        for (unsigned w = 0; w < f->model.windows; w++) {
            ModelWindow *window = &f->window[w];

            if (at >= window->base && at - window->base < window->size &&
                (one_in(f, 20) || window->target == host_bridge_of(endpoint)))
            {
                return at;
            }
        }
    }
    return f->block[0];
}

/* Mostly act as an operating system does */
static void commit_endpoint(Fuzz *f)
{
    ModelNode *node = any_endpoint(f);
    uint64_t size = M256 * (one_in(f, 2) ? 2 + draw(f, 2) : 1);
    uint64_t base = any_block(f, node);
    uint64_t skip = one_in(f, 6) ? M256 : 0;
    uint64_t left = MEMORY;
    unsigned n = 0;

    while (n < node->decoders - 1 && model_is_committed(&node->decoder[n])) {
        n++;
    }
    if (one_in(f, 16)) {
        n = draw(f, node->decoders);
    }
    /* A committed one can only be moved this way */
    if (model_is_committed(&node->decoder[n]) && !one_in(f, 4)) {
        write_register(f, node, n, MODEL_CTRL, 0);
    }
    /* Mostly above the decoder below, in the same window or a later one */
    if (n && !one_in(f, 12)) {
        uint64_t end = model_base(&node->decoder[n - 1]) +
                       model_size(&node->decoder[n - 1]);

        for (unsigned i = 0; i < 16 && base < end; i++) {
            base = any_block(f, node);
        }
    }
    left -= n ? node->decoder[n - 1].dpa + model_size(&node->decoder[n - 1])
              : 0;
    if (skip + size > left && !one_in(f, 6)) {
        skip = 0;
        size = M256;
    }
    if (!left && !one_in(f, 6)) {
        write_register(f, node, n - 1, MODEL_CTRL, 0);
        return;
    }
    if (one_in(f, 30)) {
        size = one_in(f, 2) ? 0 : 7 * M256;
    }
    if (one_in(f, 20)) {
        const uint64_t places[] = {
            0 - M256, f->ram[0] & ~(M256 - 1), beside(f, 1) + M256,
        };

        base = places[draw(f, ARRAY_SIZE(places))];
    }
    if (one_in(f, 60)) {
        skip = 0 - M256;
    }
    program(f, node, n, base, size, skip,
            HDM_COMMIT | (one_in(f, 40) ? HDM_LOCK : 0) |
            (one_in(f, 40) ? draw(f, 16) << 4 : 0) | draw(f, 16));
}

/* Open a path to an endpoint, or to the emulated one */
static void commit_path(Fuzz *f)
{
    ModelNode *node = one_in(f, 8) ? &f->node[TYPE3] : any_endpoint(f);
    ModelDecoder *d = &node->decoder[draw(f, node->decoders)];
    uint64_t base = model_base(d), size = model_size(d);

    if (!model_is_committed(d)) {
        return;
    }
    if (one_in(f, 6) && size > M256) {
        size -= M256;
        base += one_in(f, 2) ? M256 : 0;
    }
    for (; node->above; node = node->above) {
        unsigned number = one_in(f, 16) ? draw(f, 6) : node->number;
        unsigned n;

        if (!node->above->decoders) {
            continue;
        }
        /* Linux does not commit a decoder over another either */
        for (n = 0; n < node->above->decoders && !one_in(f, 16); n++) {
            ModelDecoder *other = &node->above->decoder[n];

            if (model_base(other) < base + size &&
                model_base(other) + model_size(other) > base) {
                break;
            }
        }
        n = n < node->above->decoders ? n : draw(f, node->above->decoders);
        program(f, node->above, n, base, size, number, HDM_COMMIT);
    }
}

static void decommit_any(Fuzz *f)
{
    ModelNode *node = one_in(f, 2) ? any_endpoint(f) : any_port(f);
    unsigned n = draw(f, node->decoders);

    write_register(f, node, n, MODEL_CTRL, draw(f, 16));
    if (!node->memory && one_in(f, 2)) {
        write_register(f, node, n, MODEL_SIZE_LO, 0);
    }
}

static void write_any(Fuzz *f)
{
    ModelNode *node = one_in(f, 2) ? any_endpoint(f) : any_port(f);
    unsigned reg = draw(f, MODEL_REGS - 1);
    uint32_t value = draw(f, UINT32_MAX);

    if (reg == MODEL_SIZE_HI || (reg == MODEL_BASE_HI && !one_in(f, 4))) {
        value &= 1;
    }
    write_register(f, node, draw(f, node->decoders), reg, value);
}

/* Two registers at once, which QEMU's own ports do not support */
static void write_wide(Fuzz *f)
{
    ModelNode *node = one_in(f, 2) ? any_endpoint(f) : any_port(f);
    unsigned n = draw(f, node->decoders), reg = 2 * draw(f, 3);
    uint64_t value = any_block(f, node);

    if (reg == MODEL_SIZE_LO) {
        value = M256;
    } else if (reg == MODEL_CTRL) {
        value = one_in(f, 2) ? HDM_COMMIT : 0;
    }
    snprintf(f->last, sizeof(f->last), "8-byte 0x%" PRIx64 " to register %u "
             "of decoder %u of %s", value, reg, n, node->id);
    qtest_writeq(f->t->qts, f->hw[node - f->node]->hdm + HDM_BASE_LO(n) +
                            4 * reg, value);
    if (node->memory) {
        model_write(&f->model, node, n, reg + 1, value >> 32);
        model_write(&f->model, node, n, reg, value);
    }
    f->count[WIDE_WRITE]++;
    check_step(f);
}

/* Less than a register: ignored */
static void write_narrow(Fuzz *f)
{
    ModelNode *node = any_endpoint(f);
    uint64_t at = f->hw[node - f->node]->hdm +
                  HDM_BASE_LO(draw(f, node->decoders)) + draw(f, 7) * 4;

    snprintf(f->last, sizeof(f->last), "narrow write to %s", node->id);
    if (one_in(f, 2)) {
        qtest_writeb(f->t->qts, at + draw(f, 4), draw(f, 256));
    } else {
        qtest_writew(f->t->qts, at + 2 * draw(f, 2), draw(f, 65536));
    }
    f->count[NARROW_WRITE]++;
    check_step(f);
}

/* HDM Decoder Enable, of devices and where it has no effect; mostly on */
static void write_enable(Fuzz *f)
{
    ModelNode *node = one_in(f, 4) ? any_port(f) : any_endpoint(f);
    bool on = !one_in(f, 4);

    snprintf(f->last, sizeof(f->last), "Enable of %s %d", node->id, on);
    cxl_node_write(f->t, f->hw[node - f->node], HDM_GLOBAL_CONTROL,
                   on ? HDM_ENABLE : 0);
    node->enable = on;
    f->count[GATED]++;
    check_step(f);
}

static void write_mem_enable(Fuzz *f, ModelNode *node, bool on)
{
    const CXLNode *hw = f->hw[node - f->node];

    snprintf(f->last, sizeof(f->last), "Mem_Enable of %s %d", node->id, on);
    qtest_writew(f->t->qts, cxl_node_config(f->t, hw, hw->dvsec +
                                                      DVSEC_CONTROL),
                 on ? DVSEC_MEM_ENABLE : 0);
    node->mem_enable = on;
    f->count[GATED]++;
    check_step(f);
}

static void write_memory_space(Fuzz *f)
{
    ModelNode *node = any_endpoint(f);
    const CXLNode *hw = f->hw[node - f->node];

    /* Only to check the map with it off, since the registers are needed */
    for (int on = 0; on < 2; on++) {
        snprintf(f->last, sizeof(f->last), "Memory Space of %s %d", node->id,
                 on);
        qtest_writew(f->t->qts, cxl_node_config(f->t, hw, 0x04),
                     on ? 0x6 : 0x4);
        node->memory_space = on;
        f->count[GATED]++;
        if (!on) {
            for (unsigned i = 0; i < f->blocks; i++) {
                check_block(f, i);
            }
        }
    }
    check_step(f);
}

/*
 * Resets
 */
static void find_nodes(Fuzz *f)
{
    for (unsigned i = 0; i < NODES; i++) {
        f->hw[i] = cxl_topology_find(f->t, tree[i].id);
    }
    /* Its BAR 2 follows BAR 0 */
    f->mmio = f->hw[DEV1]->bar0 + VFIO_SIM_BAR0_SIZE + VFIO_SIM_REG_SCRATCH;
}

static void check_all_blocks(Fuzz *f)
{
    for (unsigned i = 0; i < f->blocks; i++) {
        check_block(f, i);
    }
}

/* A reset is seen at once, and bus numbers and BARs are set again later */
static void after_reset(Fuzz *f)
{
    put_markers(f);
    check_all_blocks(f);
    cxl_topology_enumerate(f->t);
    find_nodes(f);
    for (unsigned i = DEV1; i <= DEV4; i++) {
        f->node[i].memory_space = true;
    }
    qtest_writel(f->t->qts, f->mmio, 0x11223344);
    check_step(f);
    for (unsigned i = 0; i < NODES; i++) {
        check_node(f, &f->node[i]);
    }
    /* Without these two nothing else is visible */
    for (unsigned i = DEV1; i <= DEV4; i++) {
        if (!f->node[i].enable) {
            cxl_node_write(f->t, f->hw[i], HDM_GLOBAL_CONTROL, HDM_ENABLE);
            f->node[i].enable = true;
            write_mem_enable(f, &f->node[i], true);
        }
    }
}

static void flr_device(Fuzz *f)
{
    ModelNode *node = any_endpoint(f);

    snprintf(f->last, sizeof(f->last), "FLR of %s", node->id);
    cxl_node_flr(f->t, f->hw[node - f->node]);
    f->count[FLR_DEVICE]++;
    after_reset(f);
}

static void flr_switch(Fuzz *f)
{
    ModelNode *node = &f->node[one_in(f, 2) ? US0 : US1];

    snprintf(f->last, sizeof(f->last), "FLR of %s", node->id);
    cxl_node_flr(f->t, f->hw[node - f->node]);
    model_reset(&f->model, node);
    f->count[FLR_SWITCH]++;
    after_reset(f);
}

static void bus_reset(Fuzz *f)
{
    static const struct {
        const char *port;
        int below;
    } ports[] = {
        { "rp0", DEV1 }, { "rp1", US0 }, { "ds0", DEV2 }, { "ds1", US1 },
        { "ds2", DEV3 }, { "rp3", DEV4 },
    };
    unsigned i = draw(f, ARRAY_SIZE(ports));

    snprintf(f->last, sizeof(f->last), "bus reset by %s", ports[i].port);
    cxl_node_bus_reset(f->t, cxl_topology_find(f->t, ports[i].port));
    model_reset(&f->model, &f->node[ports[i].below]);
    f->count[BUS_RESET]++;
    after_reset(f);
}

/* The emulated device's decoder keeps this place */
static void program_type3(Fuzz *f)
{
    ModelNode *node = &f->node[TYPE3];
    uint64_t base = f->block[TYPE3_BLOCK];

    g_assert_true(cxl_node_program(f->t, f->hw[TYPE3], 0, base, TYPE3_SIZE,
                                   0));
    node->decoder[0].reg[MODEL_BASE_LO] = base;
    node->decoder[0].reg[MODEL_BASE_HI] = base >> 32;
    node->decoder[0].reg[MODEL_SIZE_LO] = TYPE3_SIZE;
    node->decoder[0].reg[MODEL_CTRL] = HDM_COMMIT | HDM_COMMITTED;
}

/* Only dev4 is left to firmware, which finds one place large enough */
static void firmware(Fuzz *f)
{
    ModelNode *node = &f->node[DEV4];

    model_write(&f->model, node, 0, MODEL_BASE_LO, f->window[1].base);
    model_write(&f->model, node, 0, MODEL_BASE_HI, f->window[1].base >> 32);
    model_write(&f->model, node, 0, MODEL_SIZE_LO, MEMORY);
    g_assert_cmpint(model_write(&f->model, node, 0, MODEL_CTRL,
                                node->reset_ctrl | HDM_COMMIT), ==,
                    MODEL_COMMITTED);
    node->enable = true;
    node->mem_enable = true;
}

static void system_reset(Fuzz *f)
{
    snprintf(f->last, sizeof(f->last), "system reset");
    qtest_system_reset(f->t->qts);
    model_reset(&f->model, &f->node[HB0]);
    model_reset(&f->model, &f->node[HB1]);
    firmware(f);
    f->count[SYSTEM_RESET]++;
    after_reset(f);
    program_type3(f);
}

static void any_step(Fuzz *f)
{
    static void (*const resets[])(Fuzz *) = {
        flr_device, flr_switch, bus_reset, bus_reset, system_reset,
    };
    unsigned kind = draw(f, 200);

    if (kind < 62) {
        commit_endpoint(f);
    } else if (kind < 124) {
        commit_path(f);
    } else if (kind < 148) {
        decommit_any(f);
    } else if (kind < 164) {
        write_any(f);
    } else if (kind < 170) {
        write_wide(f);
    } else if (kind < 174) {
        write_narrow(f);
    } else if (kind < 182) {
        write_enable(f);
    } else if (kind < 190) {
        write_mem_enable(f, any_endpoint(f), !one_in(f, 4));
    } else if (kind < 197) {
        write_memory_space(f);
    } else {
        resets[draw(f, ARRAY_SIZE(resets))](f);
    }
}

/*
 * A run
 */
static void set_up_model(Fuzz *f)
{
    static const struct {
        unsigned blocks;
        int target;
    } windows[] = { { 6, HB0 }, { 6, HB1 }, { 4, HB0 }, { 2, -1 } };

    for (unsigned i = 0; i < NODES; i++) {
        ModelNode *node = &f->node[i];

        node->id = tree[i].id;
        node->above = tree[i].above < 0 ? NULL : &f->node[tree[i].above];
        node->number = tree[i].number;
        node->emulated = i == TYPE3;
        node->memory = i < DEV1 ? 0 : MEMORY;
        node->decoders = i == HB1 ? 0 : i == TYPE3 ? 1 : 4;
        if (is_endpoint(node)) {
            unsigned code = cxl_node_read(f->t, f->hw[i],
                                          HDM_CAPABILITY) & 0xf;

            g_assert_cmpint(code, <=, 5);
            node->decoders = MAX(code * 2, 1);
            node->reset_ctrl = cxl_node_read(f->t, f->hw[DEV1],
                                             HDM_CTRL(0));
        }
    }
    g_assert_cmpint(f->t->windows, ==, ARRAY_SIZE(windows));
    for (unsigned i = 0; i < ARRAY_SIZE(windows); i++) {
        f->window[i] = (ModelWindow) {
            .base = f->t->window[i],
            .size = windows[i].blocks * M256,
            .target = windows[i].target < 0 ? NULL
                                            : &f->node[windows[i].target],
        };
        for (unsigned b = 0; b < windows[i].blocks; b++) {
            g_assert_cmpint(f->blocks, <, BLOCKS);
            f->block[f->blocks++] = f->t->window[i] + b * M256;
        }
    }
    f->model = (Model) {
        .node = f->node, .nodes = NODES,
        .window = f->window, .windows = ARRAY_SIZE(windows),
    };
}

/* Write the emulated memory through the window, and close it again */
static void fill_type3(Fuzz *f)
{
    program_type3(f);
    g_assert_true(cxl_node_program(f->t, f->hw[HB0], 0,
                                   f->block[TYPE3_BLOCK], TYPE3_SIZE,
                                   f->node[TYPE3].number));
    for (uint64_t dpa = 0; dpa < TYPE3_SIZE; dpa += M256) {
        qtest_writeq(f->t->qts, f->block[TYPE3_BLOCK] + dpa,
                     marker(f, &f->node[TYPE3], dpa));
        qtest_writeq(f->t->qts, f->block[TYPE3_BLOCK] + dpa + M256 - 8,
                     marker(f, &f->node[TYPE3], dpa + M256 - 8));
    }
}

static uint64_t environment(const char *name, uint64_t otherwise)
{
    const char *value = getenv(name);

    return value ? g_ascii_strtoull(value, NULL, 0) : otherwise;
}

static void report(Fuzz *f, unsigned steps)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (unsigned i = 0; i < COUNTS; i++) {
        g_string_append_printf(text, "%s%s %u", i ? ", " : "", count_names[i],
                               f->count[i]);
    }
    g_test_message("seed %" PRIu64 ", %u steps: %s", f->seed, f->step,
                   text->str);
    for (unsigned i = 0; i < COUNTS && steps >= STEPS; i++) {
        bool possible = f->node[DEV1].decoders > 1 ||
                        (i != MODEL_ORDER && i != MODEL_OVERLAP);

        if (!f->count[i] && possible) {
            g_error("seed %" PRIu64 ": never seen: %s", f->seed,
                    count_names[i]);
        }
    }
}

static void test_fuzz(gconstpointer data)
{
    unsigned steps = environment("VFIO_CXL_FUZZ_STEPS", STEPS);
    bool many = mode_is_kernel(data, "v2");
    g_autofree char *sim = g_strdup_printf("--devices=4 --memory=1536M "
        "--decoder=unlocked%s", many ? " --decoders=4" : "");
    g_autoptr(GString) line = g_string_new(options);
    Fuzz *f = g_new0(Fuzz, 1);

    f->seed = environment("VFIO_CXL_FUZZ_SEED", 1);
    f->random = f->seed * 0x9e3779b97f4a7c15ull ?: 1;
    g_test_message("VFIO_CXL_FUZZ_SEED=%" PRIu64 " VFIO_CXL_FUZZ_STEPS=%u",
                   f->seed, steps);
    if (mode_is_iommufd(data)) {
        g_string_append(line, " -object iommufd,id=iommufd0");
    }
    for (unsigned i = 0; i < DEVICES; i++) {
        static const char *const buses[] = { "rp0", "ds0", "ds2", "rp3" };

        g_string_append_printf(line, " -device vfio-pci,id=dev%u,bus=%s,"
                               "host=0000:c%u:00.0,x-cxl-commit=%s%s", i + 1,
                               buses[i], i + 1, i == 3 ? "auto" : "guest",
                               mode_is_iommufd(data) ? ",iommufd=iommufd0"
                                                     : "");
    }
    f->t = cxl_topology_start(mode_sim(data, sim), line->str, bridges);
    for (unsigned i = 0; i < DEVICES; i++) {
        g_autofree char *host = g_strdup_printf("0000:c%u:00.0", i + 1);

        f->memory[i] = cxl_topology_memory(f->t, host);
    }
    for (unsigned i = 0; i < SENTINELS; i++) {
        f->ram[i] = (strcmp(qtest_get_arch(), "aarch64") ? 0 : GiB) +
                    2 * MiB + i * 100 * MiB;
        qtest_writeq(f->t->qts, f->ram[i], ~f->ram[i]);
    }
    find_nodes(f);
    set_up_model(f);
    for (unsigned i = DEV1; i <= DEV4; i++) {
        f->node[i].memory_space_gate = mode_has_space_gate(data);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(f->beside); i++) {
        f->beside[i] = qtest_readq(f->t->qts, beside(f, i));
    }
    fill_type3(f);
    system_reset(f);
    while (f->step < steps) {
        any_step(f);
    }
    report(f, steps);
    for (unsigned i = 0; i < DEVICES; i++) {
        close(f->memory[i]);
    }
    cxl_topology_stop(f->t);
    g_free(f);
}

int main(int argc, char **argv)
{
    vfio_cxl_test_init(&argc, &argv);
    /* With the gate at Memory Space, and with several decoders */
    vfio_cxl_add_mode("random", vfio_cxl_reads("v5") ? "v5" : "v6", false,
                      test_fuzz);
    if (vfio_cxl_reads("v2")) {
        vfio_cxl_add_mode("random", "v2-reset", false, test_fuzz);
    }
    return g_test_run();
}
