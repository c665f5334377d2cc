/*
 * Tests of the HDM decoder block of a CXL endpoint
 *
 * CXL r3.1 Section 8.2.4.20. Offsets are written out here, so that a wrong
 * register definition is not tested against itself.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/cxl/cxl.h"
#include "hw/cxl/cxl_hdm.h"

#define CAPABILITY      0x00
#define GLOBAL_CONTROL  0x04
#define BASE_LO(n)      (0x10 + 0x20 * (n))
#define BASE_HI(n)      (0x14 + 0x20 * (n))
#define SIZE_LO(n)      (0x18 + 0x20 * (n))
#define SIZE_HI(n)      (0x1c + 0x20 * (n))
#define CTRL(n)         (0x20 + 0x20 * (n))
#define SKIP_LO(n)      (0x24 + 0x20 * (n))
#define SKIP_HI(n)      (0x28 + 0x20 * (n))
#define RESERVED(n)     (0x2c + 0x20 * (n))

#define LOCK            (1u << 8)
#define COMMIT          (1u << 9)
#define COMMITTED       (1u << 10)
#define ERROR_BIT       (1u << 11)
#define HOST_ONLY       (1u << 12)
#define ENABLE          (1u << 1)

#define M256            (256 * MiB)

typedef struct Fixture {
    CXLHDM hdm;
    unsigned updates;
    unsigned checks;
    CXLHDMRange checked;
    bool refuse;
} Fixture;

static bool check(void *opaque, unsigned n, const CXLHDMRange *range,
                  Error **errp)
{
    Fixture *f = opaque;

    f->checks++;
    f->checked = *range;
    if (f->refuse) {
        error_setg(errp, "refused by the test");
    }
    return !f->refuse;
}

static void update(void *opaque)
{
    ((Fixture *)opaque)->updates++;
}

static const CXLHDMOps ops = { .check = check, .update = update };

static void setup(Fixture *f, gconstpointer count)
{
    memset(f, 0, sizeof(*f));
    cxl_hdm_init(&f->hdm, GPOINTER_TO_UINT(count), 0, false, &ops, f);
}

static uint32_t rd(Fixture *f, unsigned offset)
{
    return cxl_hdm_read(&f->hdm, offset, 4);
}

static void wr(Fixture *f, unsigned offset, uint32_t value)
{
    cxl_hdm_write(&f->hdm, offset, value, 4);
}

static void program(Fixture *f, unsigned n, uint64_t base, uint64_t size)
{
    wr(f, BASE_LO(n), base);
    wr(f, BASE_HI(n), base >> 32);
    wr(f, SIZE_LO(n), size);
    wr(f, SIZE_HI(n), size >> 32);
}

static bool commit(Fixture *f, unsigned n, uint64_t base, uint64_t size)
{
    program(f, n, base, size);
    wr(f, CTRL(n), COMMIT);
    return rd(f, CTRL(n)) & COMMITTED;
}

static void assert_refused(Fixture *f, unsigned n)
{
    CXLHDMRange range;

    g_assert_cmphex(rd(f, CTRL(n)) & (COMMITTED | ERROR_BIT), ==, ERROR_BIT);
    g_assert_false(cxl_hdm_is_committed(&f->hdm, n, &range));
}

static void test_reset_state(Fixture *f, gconstpointer count)
{
    g_assert_cmpuint(cxl_hdm_length(f->hdm.count), ==, 0x10 + 0x20 * 2);
    for (unsigned i = 0; i < cxl_hdm_length(f->hdm.count); i += 4) {
        g_assert_cmphex(rd(f, i), ==, 0);
    }
    g_assert_cmpuint(f->updates, ==, 0);
}

static void test_capability(Fixture *f, gconstpointer count)
{
    /* All bits but reserved ones: count 1, poison, coherency model stay */
    cxl_hdm_init(&f->hdm, 2, 0x007f3ff1, false, &ops, f);
    g_assert_cmphex(rd(f, CAPABILITY), ==, 0x00700401);
    wr(f, CAPABILITY, 0);
    g_assert_cmphex(rd(f, CAPABILITY), ==, 0x00700401);
}

static void test_global_control(Fixture *f, gconstpointer count)
{
    wr(f, GLOBAL_CONTROL, 0xffffffff);
    g_assert_cmphex(rd(f, GLOBAL_CONTROL), ==, ENABLE);
    g_assert_cmpuint(f->updates, ==, 1);
    wr(f, GLOBAL_CONTROL, ENABLE);
    g_assert_cmpuint(f->updates, ==, 1);
    wr(f, GLOBAL_CONTROL, 0);
    g_assert_cmpuint(f->updates, ==, 2);

    cxl_hdm_init(&f->hdm, 2, 1u << 10, false, &ops, f);
    wr(f, GLOBAL_CONTROL, 0xffffffff);
    g_assert_cmphex(rd(f, GLOBAL_CONTROL), ==, ENABLE | 1);
}

static void test_masks(Fixture *f, gconstpointer count)
{
    static const struct {
        unsigned offset;
        uint32_t stored;
    } regs[] = {
        { BASE_LO(1), 0xf0000000 }, { BASE_HI(1), 0xffffffff },
        { SIZE_LO(1), 0xf0000000 }, { SIZE_HI(1), 0xffffffff },
        { SKIP_LO(1), 0xf0000000 }, { SKIP_HI(1), 0xffffffff },
        { RESERVED(1), 0 }, { 0x08, 0 }, { 0x0c, 0 },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(regs); i++) {
        wr(f, regs[i].offset, 0xffffffff);
        g_assert_cmphex(rd(f, regs[i].offset), ==, regs[i].stored);
    }
    /* IG, IW, lock and type are kept; status, BI, UIO and the rest are not */
    wr(f, CTRL(1), ~COMMIT);
    g_assert_cmphex(rd(f, CTRL(1)), ==, 0xff | LOCK | HOST_ONLY);
    g_assert_cmpuint(f->updates, ==, 0);
}

static void test_past_the_end(Fixture *f, gconstpointer count)
{
    for (unsigned i = cxl_hdm_length(f->hdm.count); i < 0x200; i += 4) {
        wr(f, i, 0xffffffff);
        g_assert_cmphex(rd(f, i), ==, 0);
    }
    cxl_hdm_write(&f->hdm, RESERVED(1), ~0ull, 8);
    g_assert_cmphex(cxl_hdm_read(&f->hdm, RESERVED(1), 8), ==, 0);
    g_assert_cmpuint(f->updates, ==, 0);
}

static void test_access_sizes(Fixture *f, gconstpointer count)
{
    cxl_hdm_write(&f->hdm, BASE_LO(0), 0x1234567890000000, 8);
    cxl_hdm_write(&f->hdm, SIZE_LO(0), 0x0000000140000000, 8);
    g_assert_cmphex(rd(f, BASE_LO(0)), ==, 0x90000000);
    g_assert_cmphex(rd(f, BASE_HI(0)), ==, 0x12345678);
    g_assert_cmphex(cxl_hdm_read(&f->hdm, SIZE_LO(0), 8), ==, 0x140000000);

    /* Narrow writes change nothing, narrow reads give the bytes */
    cxl_hdm_write(&f->hdm, BASE_HI(0), 0xff, 1);
    cxl_hdm_write(&f->hdm, BASE_HI(0) + 2, 0xffff, 2);
    g_assert_cmphex(rd(f, BASE_HI(0)), ==, 0x12345678);
    g_assert_cmphex(cxl_hdm_read(&f->hdm, BASE_HI(0), 1), ==, 0x78);
    g_assert_cmphex(cxl_hdm_read(&f->hdm, BASE_HI(0) + 2, 2), ==, 0x1234);
}

static void test_commit_8_bytes(Fixture *f, gconstpointer count)
{
    CXLHDMRange range;

    /* CTRL and DPA skip in one access: the skip counts for the commit */
    program(f, 0, 4 * GiB, M256);
    cxl_hdm_write(&f->hdm, CTRL(0), COMMIT | (uint64_t)M256 << 32, 8);
    g_assert_true(cxl_hdm_is_committed(&f->hdm, 0, &range));
    g_assert_cmphex(range.dpa, ==, M256);
}

static void test_commit(Fixture *f, gconstpointer count)
{
    CXLHDMRange range;

    g_assert_true(commit(f, 0, 0x1050000000, 3 * M256));
    g_assert_cmpuint(f->checks, ==, 1);
    g_assert_cmphex(f->checked.base, ==, 0x1050000000);
    g_assert_cmphex(f->checked.size, ==, 3 * M256);
    g_assert_cmphex(f->checked.dpa, ==, 0);
    g_assert_cmpuint(f->updates, ==, 1);
    g_assert_cmphex(rd(f, CTRL(0)), ==, COMMIT | COMMITTED);

    /* Active only with HDM Decoder Enable */
    g_assert_true(cxl_hdm_is_committed(&f->hdm, 0, &range));
    g_assert_false(cxl_hdm_get(&f->hdm, 0, &range));
    wr(f, GLOBAL_CONTROL, ENABLE);
    g_assert_true(cxl_hdm_get(&f->hdm, 0, &range));
    g_assert_cmphex(range.base, ==, 0x1050000000);
    g_assert_cmphex(range.size, ==, 3 * M256);

    /* Frozen while committed, but for decommit */
    program(f, 0, 0x2000000000, M256);
    wr(f, SKIP_LO(0), M256);
    wr(f, CTRL(0), COMMIT | 0x35);
    g_assert_cmphex(rd(f, BASE_LO(0)), ==, 0x50000000);
    g_assert_cmphex(rd(f, BASE_HI(0)), ==, 0x10);
    g_assert_cmphex(rd(f, SIZE_LO(0)), ==, 3 * M256);
    g_assert_cmphex(rd(f, SKIP_LO(0)), ==, 0);
    g_assert_cmphex(rd(f, CTRL(0)), ==, COMMIT | COMMITTED);

    wr(f, CTRL(0), 0);
    g_assert_false(cxl_hdm_is_committed(&f->hdm, 0, NULL));
    g_assert_cmphex(rd(f, CTRL(0)), ==, 0);
    g_assert_cmphex(rd(f, BASE_LO(0)), ==, 0x50000000);
    g_assert_true(commit(f, 0, 0x2000000000, M256));
    g_assert_cmphex(rd(f, BASE_HI(0)), ==, 0x20);
}

static void test_lock(Fixture *f, gconstpointer count)
{
    program(f, 0, 4 * GiB, M256);
    wr(f, CTRL(0), LOCK);
    wr(f, BASE_HI(0), 2);       /* not committed: not locked yet */
    g_assert_cmphex(rd(f, BASE_HI(0)), ==, 2);
    wr(f, CTRL(0), LOCK | COMMIT);
    g_assert_cmphex(rd(f, CTRL(0)), ==, LOCK | COMMIT | COMMITTED);
    wr(f, CTRL(0), 0);
    wr(f, CTRL(0), COMMIT);
    wr(f, BASE_HI(0), 3);
    g_assert_cmphex(rd(f, CTRL(0)), ==, LOCK | COMMIT | COMMITTED);
    g_assert_cmphex(rd(f, BASE_HI(0)), ==, 2);
    g_assert_cmpuint(f->updates, ==, 1);

    cxl_hdm_reset(&f->hdm);
    g_assert_cmphex(rd(f, CTRL(0)), ==, 0);
    g_assert_cmphex(rd(f, BASE_HI(0)), ==, 0);
    g_assert_cmpuint(f->updates, ==, 2);
    cxl_hdm_reset(&f->hdm);
    g_assert_cmpuint(f->updates, ==, 2);
}

static void test_lock_later(Fixture *f, gconstpointer count)
{
    g_assert_true(commit(f, 0, 4 * GiB, M256));
    wr(f, CTRL(0), COMMIT | LOCK);
    wr(f, CTRL(0), 0);
    g_assert_cmphex(rd(f, CTRL(0)), ==, LOCK | COMMIT | COMMITTED);
}

static void test_refusals(Fixture *f, gconstpointer count)
{
    g_assert_false(commit(f, 0, 4 * GiB, 0));
    assert_refused(f, 0);
    g_assert_false(commit(f, 0, 0xfffffffff0000000, M256));
    assert_refused(f, 0);
    g_assert_false(commit(f, 0, 0x8000000000000000, 0x8000000000000000));
    assert_refused(f, 0);

    program(f, 0, 4 * GiB, M256);
    wr(f, CTRL(0), COMMIT | (1 << 4));      /* two ways */
    assert_refused(f, 0);

    wr(f, SKIP_HI(0), 0xffffffff);
    wr(f, SKIP_LO(0), 0xf0000000);
    wr(f, CTRL(0), COMMIT);
    assert_refused(f, 0);
    wr(f, SKIP_HI(0), 0);
    wr(f, SKIP_LO(0), 0);
    g_assert_cmpuint(f->checks, ==, 0);

    f->refuse = true;
    wr(f, CTRL(0), COMMIT);
    assert_refused(f, 0);
    g_assert_cmpuint(f->checks, ==, 1);
    g_assert_cmpuint(f->updates, ==, 0);

    /* Once refused, it can still be changed, and success clears the error */
    f->refuse = false;
    g_assert_true(commit(f, 0, 5 * GiB, M256));
    g_assert_cmphex(rd(f, CTRL(0)), ==, COMMIT | COMMITTED);
}

static void test_error_clears(Fixture *f, gconstpointer count)
{
    g_assert_false(commit(f, 0, 4 * GiB, 0));
    wr(f, CTRL(0), 0);
    g_assert_cmphex(rd(f, CTRL(0)), ==, 0);
}

static void test_order(Fixture *f, gconstpointer count)
{
    CXLHDMRange range;

    g_assert_false(commit(f, 1, 8 * GiB, M256));
    assert_refused(f, 1);
    g_assert_true(commit(f, 0, 4 * GiB, 2 * M256));
    g_assert_false(commit(f, 1, 4 * GiB + M256, M256));     /* overlaps */
    g_assert_false(commit(f, 1, 3 * GiB, M256));            /* below */
    assert_refused(f, 1);
    wr(f, SKIP_LO(1), M256);
    g_assert_true(commit(f, 1, 4 * GiB + 2 * M256, M256));
    g_assert_true(cxl_hdm_is_committed(&f->hdm, 1, &range));
    g_assert_cmphex(range.dpa, ==, 3 * M256);
}

static void test_hole(Fixture *f, gconstpointer count)
{
    CXLHDMRange range;

    g_assert_true(commit(f, 0, 4 * GiB, 2 * M256));
    g_assert_true(commit(f, 1, 8 * GiB, M256));
    wr(f, CTRL(0), 0);

    /* The decoder above keeps what it maps */
    g_assert_true(cxl_hdm_is_committed(&f->hdm, 1, &range));
    g_assert_cmphex(range.base, ==, 8 * GiB);
    g_assert_cmphex(range.dpa, ==, 2 * M256);

    /* Back between: neither over it nor over its memory */
    g_assert_false(commit(f, 0, 8 * GiB, M256));
    g_assert_false(commit(f, 0, 9 * GiB, M256));
    g_assert_false(commit(f, 0, 4 * GiB, 3 * M256));
    assert_refused(f, 0);
    g_assert_true(commit(f, 0, 4 * GiB, M256));
    g_assert_true(cxl_hdm_is_committed(&f->hdm, 1, &range));
    g_assert_cmphex(range.dpa, ==, 2 * M256);
}

static void test_ten(Fixture *f, gconstpointer count)
{
    CXLHDMRange range;

    for (unsigned n = 0; n < 10; n++) {
        g_assert_true(commit(f, n, 4 * GiB + n * M256, M256));
        g_assert_true(cxl_hdm_is_committed(&f->hdm, n, &range));
        g_assert_cmphex(range.dpa, ==, n * M256);
    }
    g_assert_false(cxl_hdm_is_committed(&f->hdm, 10, &range));
}

static void test_firmware(Fixture *f, gconstpointer count)
{
    Error *err = NULL;
    CXLHDMRange range;

    g_assert_true(cxl_hdm_commit(&f->hdm, 0, 4 * GiB, M256, true,
                                 &error_abort));
    g_assert_cmphex(rd(f, CTRL(0)), ==, LOCK | COMMIT | COMMITTED);
    g_assert_cmphex(rd(f, GLOBAL_CONTROL), ==, ENABLE);
    g_assert_true(cxl_hdm_get(&f->hdm, 0, &range));
    g_assert_cmphex(range.base, ==, 4 * GiB);
    g_assert_false(cxl_hdm_commit(&f->hdm, 0, 5 * GiB, M256, true, &err));
    error_free_or_abort(&err);
    g_assert_cmphex(rd(f, BASE_LO(0)), ==, 0);
    g_assert_cmphex(rd(f, BASE_HI(0)), ==, 1);

    /* Refused, it leaves the decoder as it was */
    program(f, 1, 6 * GiB, 2 * M256);
    f->refuse = true;
    g_assert_false(cxl_hdm_commit(&f->hdm, 1, 5 * GiB, M256, false, &err));
    error_free_or_abort(&err);
    g_assert_cmphex(rd(f, BASE_LO(1)), ==, 0x80000000);
    g_assert_cmphex(rd(f, CTRL(1)), ==, 0);
}

static void test_memory_lost(Fixture *f, gconstpointer count)
{
    g_assert_true(commit(f, 0, 4 * GiB, M256));
    cxl_hdm_decommit(&f->hdm);
    assert_refused(f, 0);
    assert_refused(f, 0);
    g_assert_cmpuint(f->updates, ==, 2);
    cxl_hdm_decommit(&f->hdm);
    g_assert_cmpuint(f->updates, ==, 2);
}

static void test_type(Fixture *f, gconstpointer count)
{
    cxl_hdm_init(&f->hdm, 2, 0, true, &ops, f);
    g_assert_cmphex(rd(f, CTRL(0)), ==, HOST_ONLY);
    wr(f, CTRL(0), 0);
    g_assert_cmphex(rd(f, CTRL(0)), ==, 0);
    cxl_hdm_reset(&f->hdm);
    g_assert_cmphex(rd(f, CTRL(0)), ==, HOST_ONLY);
}

/* Committed decoders are consistent, regardless of what is written */
static void test_random(Fixture *f, gconstpointer count)
{
    uint64_t commits = 0;

    for (unsigned step = 0; step < 200000; step++) {
        unsigned n = g_test_rand_int_range(0, 4);
        unsigned reg = g_test_rand_int_range(0, 8);
        uint32_t value = g_test_rand_int_range(0, 16) << 28;
        CXLHDMRange above = { }, r;

        if (reg == 4) {
            value = g_test_rand_int() & (g_test_rand_bit() ? COMMIT : 0x3ff);
            value &= g_test_rand_int_range(0, 50) ? ~LOCK : ~0u;
        } else if (reg & 1) {
            value = g_test_rand_int_range(0, 3);
        }
        wr(f, 0x10 + 0x20 * n + 4 * reg, value);
        for (unsigned i = 0; i < 4; i++) {
            if (!cxl_hdm_is_committed(&f->hdm, i, &r)) {
                continue;
            }
            commits++;
            g_assert_cmphex(r.size, >, 0);
            g_assert_cmphex((r.base | r.size | r.dpa) % M256, ==, 0);
            g_assert_cmphex(r.base, >=, above.base + above.size);
            g_assert_cmphex(r.dpa, >=, above.dpa + above.size);
            g_assert_cmphex(rd(f, BASE_LO(i)), ==, (uint32_t)r.base);
            g_assert_cmphex(rd(f, BASE_HI(i)), ==, r.base >> 32);
            above = r;
        }
        if (g_test_rand_int_range(0, 500) == 0) {
            cxl_hdm_reset(&f->hdm);
        }
    }
    g_assert_cmpuint(commits, >, 1000);
}

static void add(const char *path, unsigned count,
                void (*test)(Fixture *, gconstpointer))
{
    g_test_add(path, Fixture, GUINT_TO_POINTER(count), setup, test, NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("/cxl-hdm/reset-state", 2, test_reset_state);
    add("/cxl-hdm/capability", 2, test_capability);
    add("/cxl-hdm/global-control", 2, test_global_control);
    add("/cxl-hdm/masks", 2, test_masks);
    add("/cxl-hdm/past-the-end", 2, test_past_the_end);
    add("/cxl-hdm/access-sizes", 2, test_access_sizes);
    add("/cxl-hdm/commit", 2, test_commit);
    add("/cxl-hdm/commit-8-bytes", 2, test_commit_8_bytes);
    add("/cxl-hdm/lock", 2, test_lock);
    add("/cxl-hdm/lock-later", 2, test_lock_later);
    add("/cxl-hdm/refusals", 2, test_refusals);
    add("/cxl-hdm/error-clears", 2, test_error_clears);
    add("/cxl-hdm/order", 2, test_order);
    add("/cxl-hdm/hole", 2, test_hole);
    add("/cxl-hdm/ten", 10, test_ten);
    add("/cxl-hdm/firmware", 2, test_firmware);
    add("/cxl-hdm/memory-lost", 2, test_memory_lost);
    add("/cxl-hdm/type", 2, test_type);
    add("/cxl-hdm/random", 4, test_random);
    return g_test_run();
}
