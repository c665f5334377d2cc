/*
 * Mappings for DMA, compared with the expected ones
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qnum.h"
#include "vfio-cxl-maps.h"

/* One mapping, or several that continue each other */
typedef struct Map {
    uint64_t space;
    bool legacy;
    bool ram;
    bool memory;
    char *host;         /* NULL for RAM */
    uint64_t iova;
    uint64_t size;
    uint64_t offset;    /* in the region; for RAM it is @iova */
    char *how;
} Map;

static uint64_t get_uint(QDict *dict, const char *key)
{
    return qnum_get_uint(qobject_to(QNum, qdict_get(dict, key)));
}

static void map_free(gpointer data)
{
    Map *map = data;

    g_free(map->host);
    g_free(map->how);
    g_free(map);
}

static Map *map_read(QDict *dict)
{
    const char *kind = qdict_get_str(dict, "kind");
    Map *map = g_new0(Map, 1);

    map->space = get_uint(dict, "space");
    map->legacy = g_str_equal(qdict_get_str(dict, "backend"), "legacy");
    map->ram = g_str_equal(kind, "ram");
    map->memory = g_str_equal(kind, "memory");
    map->iova = get_uint(dict, "iova");
    map->size = get_uint(dict, "size");
    map->offset = map->iova;
    if (!map->ram) {
        map->host = g_strdup(qdict_get_str(dict, "host"));
        map->offset = get_uint(dict, "offset");
    }
    map->how = g_strdup_printf("%s %s %s%s%s", kind,
                               qdict_get_str(dict, "backing"),
                               qdict_get_bool(dict, "read") ? "r" : "-",
                               qdict_get_bool(dict, "write") ? "w" : "-",
                               qdict_get_try_bool(dict, "revoked", false) ?
                               " revoked" : "");
    return map;
}

static gint compare(gconstpointer a, gconstpointer b)
{
    const Map *ma = *(Map **)a, *mb = *(Map **)b;

    if (ma->space != mb->space) {
        return ma->space < mb->space ? -1 : 1;
    }
    return ma->iova < mb->iova ? -1 : ma->iova > mb->iova;
}

static bool continues(const Map *a, const Map *b)
{
    return a->space == b->space && a->iova + a->size == b->iova &&
           a->offset + a->size == b->offset && g_str_equal(a->how, b->how) &&
           g_strcmp0(a->host, b->host) == 0;
}

/* Sort, and join what continues: QEMU may map neighbours at once */
static void normalise(GPtrArray *maps)
{
    g_ptr_array_sort(maps, compare);
    for (guint i = 1; i < maps->len;) {
        Map *map = maps->pdata[i], *before = maps->pdata[i - 1];

        if (continues(before, map)) {
            before->size += map->size;
            g_ptr_array_remove_index(maps, i);
        } else {
            i++;
        }
    }
}

static GPtrArray *read_maps(CXLMachine *m)
{
    QObject *reply = vfio_sim_command(m->sim, "maps");
    GPtrArray *maps = g_ptr_array_new_with_free_func(map_free);
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(qobject_to(QList, reply), entry) {
        g_ptr_array_add(maps, map_read(qobject_to(QDict,
                                                  qlist_entry_obj(entry))));
    }
    qobject_unref(reply);
    normalise(maps);
    return maps;
}

static char *text(uint64_t iova, uint64_t size, const char *host,
                  uint64_t offset, const char *how)
{
    return g_strdup_printf("0x%013" PRIx64 " 0x%" PRIx64 " %s 0x%" PRIx64
                           " %s", iova, size, host ? host : "-", offset, how);
}

static char *map_text(const Map *map)
{
    return text(map->iova, map->size, map->host, map->offset, map->how);
}

/* Numbers of the spaces, in order */
static GArray *space_numbers(GPtrArray *maps)
{
    GArray *numbers = g_array_new(false, false, sizeof(uint64_t));

    for (guint i = 0; i < maps->len; i++) {
        const Map *map = maps->pdata[i];

        if (!numbers->len || g_array_index(numbers, uint64_t,
                                           numbers->len - 1) != map->space) {
            g_array_append_val(numbers, map->space);
        }
    }
    return numbers;
}

static bool is_other(const Map *map, const char *host)
{
    return map->ram || (!map->memory && strcmp(map->host, host));
}

GPtrArray *dma_maps_others(CXLMachine *m, const char *host, unsigned space)
{
    g_autoptr(GPtrArray) maps = read_maps(m);
    g_autoptr(GArray) numbers = space_numbers(maps);
    GPtrArray *others = g_ptr_array_new_with_free_func(g_free);

    g_assert_cmpuint(space, <, numbers->len);
    for (guint i = 0; i < maps->len; i++) {
        const Map *map = maps->pdata[i];

        if (map->space == g_array_index(numbers, uint64_t, space) &&
            is_other(map, host)) {
            g_ptr_array_add(others, map_text(map));
        }
    }
    return others;
}

DMAMaps *dma_maps_new(CXLMachine *m, gconstpointer mode, unsigned spaces)
{
    DMAMaps *maps = g_new0(DMAMaps, 1);

    maps->m = m;
    maps->spaces = spaces;
    maps->dma_buf = mode_since_v5(mode);
    maps->dma_buf_bars = !mode_is_kernel(mode, "v2");
    maps->bars = true;
    g_assert_cmpuint(spaces, <=, DMA_MAPS_SPACES);
    for (unsigned i = 0; i < spaces; i++) {
        maps->others[i] = dma_maps_others(m, VFIO_CXL_HOST, i);
        g_assert_cmpuint(maps->others[i]->len, >, 0);
    }
    return maps;
}

void dma_maps_free(DMAMaps *maps)
{
    for (unsigned i = 0; i < maps->spaces; i++) {
        g_ptr_array_unref(maps->others[i]);
    }
    g_free(maps);
}

/* QEMU's component registers overlay the mapping */
static void add_bar(CXLMachine *m, GPtrArray *lines, uint64_t offset,
                    uint64_t size, const char *how)
{
    uint64_t block = m->block - m->bar0, end = block + VFIO_SIM_BLOCK_SIZE;

    if (offset < block) {
        size = MIN(size, block - offset);
    } else if (offset < end) {
        size -= MIN(size, end - offset);
        offset = end;
    }
    if (size) {
        g_ptr_array_add(lines, text(m->bar0 + offset, size, VFIO_CXL_HOST,
                                    offset, how));
    }
}

static void add_bars(DMAMaps *maps, GPtrArray *lines, const char *how)
{
    QObject *reply = vfio_sim_command(maps->m->sim, "mmaps " VFIO_CXL_HOST);
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(qobject_to(QList, reply), entry) {
        QDict *dict = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(dict, "region"), "bar0")) {
            add_bar(maps->m, lines, get_uint(dict, "offset"),
                    get_uint(dict, "size"), how);
        }
    }
    qobject_unref(reply);
}

static void add_memory(GPtrArray *lines, const CXLMapped *memory,
                       const char *how)
{
    for (; memory && memory->size; memory++) {
        g_ptr_array_add(lines, text(memory->gpa, memory->size,
                                    memory->host ?: VFIO_CXL_HOST,
                                    memory->dpa, how));
    }
}

static gint compare_lines(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char **)a, *(char **)b);
}

static char *expected(DMAMaps *maps, GPtrArray *others, bool legacy,
                      const CXLMapped *memory)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < others->len; i++) {
        g_ptr_array_add(lines, g_strdup(others->pdata[i]));
    }
    if (maps->bars && !legacy && maps->dma_buf_bars) {
        add_bars(maps, lines, "bar dma-buf rw");
    } else if (maps->bars && (legacy || maps->pfnmap)) {
        add_bars(maps, lines, "bar vaddr rw");
    }
    if (!legacy && maps->dma_buf) {
        add_memory(lines, memory, "memory dma-buf rw");
    } else if (legacy || maps->pfnmap) {
        add_memory(lines, memory, "memory vaddr rw");
    }
    g_ptr_array_sort(lines, compare_lines);
    g_ptr_array_add(lines, NULL);
    return g_strjoinv("\n", (char **)lines->pdata);
}

static char *actual(GPtrArray *maps, uint64_t space, bool *legacy)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < maps->len; i++) {
        const Map *map = maps->pdata[i];

        if (map->space == space) {
            *legacy = map->legacy;
            g_ptr_array_add(lines, map_text(map));
        }
    }
    g_ptr_array_sort(lines, compare_lines);
    g_ptr_array_add(lines, NULL);
    return g_strjoinv("\n", (char **)lines->pdata);
}

void dma_maps_check(DMAMaps *maps, const CXLMapped *memory)
{
    g_autoptr(GPtrArray) read = read_maps(maps->m);
    g_autoptr(GArray) numbers = space_numbers(read);

    g_assert_cmpuint(numbers->len, ==, maps->spaces);
    for (guint i = 0; i < numbers->len; i++) {
        uint64_t space = g_array_index(numbers, uint64_t, i);
        bool legacy = false;
        g_autofree char *has = actual(read, space, &legacy);
        g_autofree char *wants = expected(maps, maps->others[i], legacy,
                                          memory);

        if (!g_str_equal(has, wants)) {
            g_error("mapped in space %" PRIu64 ":\n%s\nexpected:\n%s", space,
                    has, wants);
        }
    }
}

/* Check whether the kernel can map device memory into an IOAS */
static bool exports_memory(CXLMachine *m)
{
    QObject *devices = vfio_sim_command(m->sim, "devices");
    QDict *first = qobject_to(QDict, qlist_peek(qobject_to(QList, devices)));
    const char *kernel = qdict_get_str(first, "generation");
    bool exports = g_str_equal(kernel, "v5") || g_str_equal(kernel, "v6");

    qobject_unref(devices);
    return exports;
}

void dma_maps_agree(CXLMachine *m, uint64_t gpa, uint64_t dpa, bool shown)
{
    g_autoptr(GPtrArray) maps = read_maps(m);
    g_autoptr(GArray) numbers = space_numbers(maps);
    bool exports = exports_memory(m);

    for (guint n = 0; n < numbers->len; n++) {
        bool there = false, good = false, legacy = false;

        for (guint i = 0; i < maps->len; i++) {
            const Map *map = maps->pdata[i];

            if (map->space != g_array_index(numbers, uint64_t, n)) {
                continue;
            }
            legacy = map->legacy;
            if (!map->memory || strcmp(map->host, VFIO_CXL_HOST) ||
                gpa < map->iova || gpa - map->iova >= map->size) {
                continue;
            }
            there = map->offset + (gpa - map->iova) == dpa;
            good = there && g_str_equal(map->how, legacy ? "memory vaddr rw" :
                                                  "memory dma-buf rw");
        }
        g_assert_true(shown && (legacy || exports) ? good : !there);
    }
}

uint64_t guest_ram(void)
{
    return strcmp(qtest_get_arch(), "aarch64") ? 0x100000 : 0x40100000;
}

uint32_t dma_copy(CXLMachine *m, uint64_t regs, uint64_t src, uint64_t dst,
                  uint32_t flags)
{
    qtest_writeq(m->qts, regs + VFIO_SIM_REG_DMA_SRC, src);
    qtest_writeq(m->qts, regs + VFIO_SIM_REG_DMA_DST, dst);
    qtest_writel(m->qts, regs + VFIO_SIM_REG_DMA_LEN, 64);
    qtest_writel(m->qts, regs + VFIO_SIM_REG_DMA_CTRL,
                 VFIO_SIM_DMA_START | flags);
    return qtest_readl(m->qts, regs + VFIO_SIM_REG_DMA_STATUS);
}

bool dma_reaches(CXLMachine *m, uint64_t regs, uint64_t gpa)
{
    uint64_t value = (uint64_t)g_test_rand_int() << 32 |
                     (uint32_t)g_test_rand_int();
    uint64_t fault = regs + VFIO_SIM_REG_DMA_FAULT_ADDR;

    qtest_writeq(m->qts, guest_ram(), value);
    if (dma_copy(m, regs, guest_ram(), gpa, 0) != VFIO_SIM_DMA_DONE) {
        g_assert_cmphex(qtest_readq(m->qts, fault), ==, gpa);
        g_assert_cmphex(dma_copy(m, regs, gpa, guest_ram(), 0), ==,
                        VFIO_SIM_DMA_FAULT);
        g_assert_cmphex(qtest_readq(m->qts, fault), ==, gpa);
        return false;
    }
    g_assert_cmphex(qtest_readq(m->qts, gpa), ==, value);
    qtest_writeq(m->qts, gpa, ~value);
    g_assert_cmphex(dma_copy(m, regs, gpa, guest_ram(), 0), ==,
                    VFIO_SIM_DMA_DONE);
    g_assert_cmphex(qtest_readq(m->qts, guest_ram()), ==, ~value);
    return true;
}
