/*
 * CXL Type-2 devices behind vfio-pci, as the guest and the kernel see them
 *
 * Each test starts the real -device vfio-pci with vfio-sim preloaded.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qobject/qjson.h"
#include "qobject/qnum.h"
#include "vfio-cxl-helpers.h"

/*
 * Firmware-committed
 */
static void test_firmware(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=512M", ",x-cxl=on");

    g_assert_cmphex(m->dvsec, !=, 0);
    assert_firmware_committed(m, 2 * M256);

    /* Locked */
    hdm_write(m, HDM_CTRL(0), 0);
    hdm_write(m, HDM_BASE_LO(0), 0);
    hdm_write(m, HDM_BASE_HI(0), 0);
    assert_firmware_committed(m, 2 * M256);
    cxl_machine_stop(m);
}

/*
 * A decoder that the host's firmware did not lock is not locked for the guest
 */
static void test_host_unlocked(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--decoder=unlocked", "");
    uint64_t base = hdm_base(m, 0);

    g_assert_cmphex(base, !=, host_hpa(m));
    g_assert_cmphex(hdm_read(m, HDM_CTRL(0)), ==, HDM_COMMIT | HDM_COMMITTED);
    g_assert_true(shows_memory(m, base, 0));
    g_assert_true(hdm_commit(m, base + GiB, M256));
    g_assert_false(shows_memory(m, base, 0));
    g_assert_true(shows_memory(m, base + GiB, 0));
    cxl_machine_stop(m);
}

static void test_unlocked(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=256M", ",x-cxl-commit=guest");
    uint64_t resets;

    /*
     * A decoder that the guest committed and locked does not survive a reboot
     */
    g_assert_true(hdm_commit(m, m->window, M256));
    hdm_write(m, HDM_CTRL(0), HDM_COMMIT | HDM_LOCK);
    hdm_enable(m);
    g_assert_true(shows_memory(m, m->window, 0));
    resets = vfio_sim_stat(m->sim, "resets");
    qtest_system_reset(m->qts);
    g_assert_cmpint(vfio_sim_stat(m->sim, "resets"), >, resets);
    cxl_machine_enumerate(m);
    g_assert_cmphex(hdm_read(m, HDM_CTRL(0)), ==, 0);
    g_assert_cmphex(hdm_base(m, 0), ==, 0);
    g_assert_false(shows_memory(m, m->window, 0));
    cxl_machine_stop(m);
}

/*
 * Guest-committed
 */
static void test_commit(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=512M", ",x-cxl-commit=guest");
    uint64_t a = m->window + M256, b = m->window + 5 * M256;

    g_assert_cmphex(hdm_read(m, HDM_CTRL(0)), ==, 0);
    g_assert_true(hdm_commit(m, a, 2 * M256));
    g_assert_false(shows_memory(m, a, 0));      /* not enabled yet */
    hdm_enable(m);
    g_assert_true(shows_memory(m, a, 0));
    g_assert_true(shows_memory(m, a + 2 * M256 - 8, 2 * M256 - 8));
    g_assert_false(shows_memory(m, a - 8, 0));
    g_assert_false(shows_memory(m, a + 2 * M256, 0));

    hdm_write(m, HDM_CTRL(0), 0);
    g_assert_false(shows_memory(m, a, 0));
    g_assert_cmphex(cfg_read(m, m->dvsec + DVSEC_RANGE1_BASE + 4), ==, 0);

    /* Elsewhere, and only half of it */
    g_assert_true(hdm_commit(m, b, M256));
    g_assert_false(shows_memory(m, a, 0));
    g_assert_true(shows_memory(m, b, 0));
    g_assert_true(shows_memory(m, b + M256 - 8, M256 - 8));
    g_assert_false(shows_memory(m, b + M256, M256));

    /* DPA skip: the other half */
    hdm_write(m, HDM_CTRL(0), 0);
    hdm_write(m, HDM_SKIP_LO(0), M256);
    hdm_write(m, HDM_CTRL(0), HDM_COMMIT);
    g_assert_true(shows_memory(m, b, M256));

    /* Disabled and enabled */
    hdm_write(m, HDM_GLOBAL_CONTROL, 0);
    g_assert_false(shows_memory(m, b, M256));
    hdm_write(m, HDM_GLOBAL_CONTROL, HDM_ENABLE);
    g_assert_true(shows_memory(m, b, M256));
    cxl_machine_stop(m);
}

static void test_commit_refused(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=512M", ",x-cxl-commit=guest");
    uint64_t end = m->window + 4 * GiB;
    const struct {
        uint64_t base, size;
    } bad[] = {
        { m->window, 0 },
        { m->window, 3 * M256 },                /* more than there is */
        { m->window - M256, M256 },             /* below the window */
        { m->window - M256, 2 * M256 },         /* into it */
        { end - M256, 2 * M256 },               /* across its end */
        { end, M256 },
        { 0, M256 },                            /* RAM */
        { 0, 2 * M256 },
        { 0xfffffffff0000000, M256 },
        { 0xfffffffff0000000, 2 * M256 },
        { m->window, 0xfffffffff0000000 },
    };

    hdm_enable(m);
    for (int i = 0; i < ARRAY_SIZE(bad); i++) {
        g_assert_false(hdm_commit(m, bad[i].base, bad[i].size));
        g_assert_cmphex(hdm_read(m, HDM_CTRL(0)), ==, HDM_COMMIT | HDM_ERROR);
        g_assert_false(shows_memory(m, m->window, 0));
        g_assert_cmphex(cfg_read(m, m->dvsec + DVSEC_RANGE1_BASE + 4), ==, 0);
    }
    /* Interleave */
    g_assert_true(hdm_commit(m, m->window, M256));
    hdm_write(m, HDM_CTRL(0), 0);
    hdm_write(m, HDM_CTRL(0), HDM_COMMIT | 1 << 4);
    g_assert_cmphex(hdm_read(m, HDM_CTRL(0)) & (HDM_ERROR | HDM_COMMITTED),
                    ==, HDM_ERROR);
    g_assert_false(shows_memory(m, m->window, 0));
    /* And it works again */
    g_assert_true(hdm_commit(m, end - 2 * M256, 2 * M256));
    g_assert_true(shows_memory(m, end - 8, 2 * M256 - 8));
    cxl_machine_stop(m);
}

static void test_access_8(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=256M", ",x-cxl-commit=guest");

    qtest_writeq(m->qts, m->hdm + HDM_BASE_LO(0), m->window);
    qtest_writeq(m->qts, m->hdm + HDM_SIZE_LO(0), M256);
    g_assert_cmphex(qtest_readq(m->qts, m->hdm + HDM_BASE_LO(0)), ==,
                    m->window);
    qtest_writeq(m->qts, m->hdm + HDM_CTRL(0), HDM_COMMIT);
    g_assert_cmphex(qtest_readq(m->qts, m->hdm + HDM_CTRL(0)), ==,
                    HDM_COMMIT | HDM_COMMITTED);
    hdm_enable(m);
    g_assert_true(shows_memory(m, m->window, 0));
    cxl_machine_stop(m);
}

/* The v2 kernel's own view of the decoder follows the guest's */
static void test_view(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=512M", "");

    for (int i = 0; i < 2; i++) {
        g_assert_cmphex(host_decoder(m, "hdm", "base"), ==, hdm_base(m, 0));
        g_assert_cmphex(host_decoder(m, "hdm", "ctrl"), ==,
                        hdm_read(m, HDM_CTRL(0)));
        qtest_system_reset(m->qts);
        cxl_machine_enumerate(m);
    }
    cxl_machine_stop(m);

    m = mode_start(data, "--memory=512M", ",x-cxl-commit=guest");
    g_assert_cmphex(host_decoder(m, "hdm", "base"), ==, 0);
    g_assert_true(hdm_commit(m, m->window + M256, M256));
    g_assert_cmphex(host_decoder(m, "hdm", "base"), ==, m->window + M256);
    g_assert_cmphex(host_decoder(m, "hdm", "ctrl") & HDM_LOCK, ==, 0);
    g_assert_true(hdm_commit(m, m->window, M256));
    g_assert_cmphex(host_decoder(m, "hdm", "base"), ==, m->window);
    hdm_write(m, HDM_CTRL(0), 0);
    g_assert_cmphex(host_decoder(m, "hdm", "base"), ==, 0);
    g_assert_true(hdm_commit(m, m->window, M256));
    hdm_write(m, HDM_CTRL(0), HDM_COMMIT | HDM_LOCK);
    g_assert_cmphex(host_decoder(m, "hdm", "ctrl") & HDM_LOCK, ==, HDM_LOCK);
    /* A lock in the kernel's view does not survive the guest's */
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    g_assert_cmphex(host_decoder(m, "hdm", "base"), ==, 0);
    g_assert_cmphex(host_decoder(m, "hdm", "ctrl") & HDM_LOCK, ==, 0);
    /* Nothing of this touched the physical decoder */
    g_assert_cmphex(host_decoder(m, "hardware", "ctrl"), ==,
                    HDM_LOCK | HDM_COMMIT | HDM_COMMITTED);
    cxl_machine_stop(m);
}

/*
 * CXL Device DVSEC
 */
static void test_dvsec(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=512M", ",x-cxl-commit=guest");
    unsigned d = m->dvsec;
    uint64_t size;

    size = (uint64_t)cfg_read(m, d + DVSEC_RANGE1_SIZE) << 32 |
           cfg_read(m, d + DVSEC_RANGE1_SIZE + 4);
    g_assert_cmphex(size & ~0xfffffffull, ==, 2 * M256);
    g_assert_cmphex(size & 3, ==, 3);   /* Memory_Info_Valid, Memory_Active */
    g_assert_cmphex(cfg_readw(m, d + DVSEC_CONTROL), ==, 1 << 1);
    g_assert_cmphex(cfg_readw(m, d + DVSEC_CAP) & (1 << 2), !=, 0);
    /* The guest cannot set range bases */
    for (int i = 0; i < 4; i++) {
        unsigned off = d + (i < 2 ? DVSEC_RANGE1_BASE : DVSEC_RANGE2_BASE) +
                       4 * (i & 1);

        cfg_write(m, off, 0xffffffff);
        g_assert_cmphex(cfg_read(m, off), ==, 0);
    }
    cfg_writew(m, d + DVSEC_CAP, 0);
    g_assert_cmphex(cfg_readw(m, d + DVSEC_CAP) & (1 << 2), !=, 0);

    g_assert_true(hdm_commit(m, m->window + M256, M256));
    g_assert_cmphex(cfg_read(m, d + DVSEC_RANGE1_BASE), ==,
                    (m->window + M256) >> 32);
    g_assert_cmphex(cfg_read(m, d + DVSEC_RANGE1_BASE + 4), ==,
                    (uint32_t)(m->window + M256));
    hdm_enable(m);
    g_assert_true(shows_memory(m, m->window + M256, 0));

    /* CONFIG_LOCK */
    cfg_writew(m, d + DVSEC_LOCK, 1);
    cfg_writew(m, d + DVSEC_CONTROL, 0);
    cfg_writew(m, d + DVSEC_LOCK, 0);
    cfg_writew(m, d + DVSEC_CONTROL, 0);
    g_assert_cmphex(cfg_readw(m, d + DVSEC_LOCK), ==, 1);
    g_assert_cmphex(cfg_readw(m, d + DVSEC_CONTROL) & DVSEC_MEM_ENABLE, !=,
                    0);
    g_assert_true(shows_memory(m, m->window + M256, 0));
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    g_assert_cmphex(cfg_readw(m, d + DVSEC_LOCK), ==, 0);
    g_assert_cmphex(cfg_readw(m, d + DVSEC_CONTROL), ==, 1 << 1);
    cfg_writew(m, d + DVSEC_CONTROL, DVSEC_MEM_ENABLE);
    g_assert_cmphex(cfg_readw(m, d + DVSEC_CONTROL), ==,
                    DVSEC_MEM_ENABLE | 1 << 1);
    cxl_machine_stop(m);
}

/*
 * No config write to a CXL DVSEC reaches the kernel. For requests in CONTROL2
 * see vfio-cxl-reset-test.
 */
static void test_dvsec_writes(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "", "");

    host_writes(m, "config");
    for (unsigned off = 0x0; off < 0x38; off += 2) {
        if (off != DVSEC_CONTROL2) {
            cfg_writew(m, m->dvsec + off, 0xffff);
        }
    }
    g_assert_cmpuint(host_writes(m, "config"), ==, 0);
    cxl_machine_stop(m);
}

/*
 * The guest sees the same with all kernels, except for what it can request: in
 * DVSEC CXL Capability, Cache Writeback and Invalidate Capable and CXL Reset
 * Capable, Timeout and Mem Clr Capable.
 */
static void view_config(GString *view, CXLMachine *m)
{
    g_autofree uint32_t *config = read_dwords(m, m->ecam + (13 << 20), 0x1000);

    for (unsigned off = 0; off < 0x1000; off += 4) {
        uint32_t value = config[off / 4];

        if (off == m->dvsec + (DVSEC_CAP & ~3)) {
            value &= ~(0xfc0u << 16);
        }
        g_string_append_printf(view, "config %03x %08x\n", off, value);
    }
}

static void view_registers(GString *view, CXLMachine *m)
{
    unsigned n = qtest_readl(m->qts, m->block + 0x1000) >> 24;

    for (unsigned i = 0; i <= n; i++) {
        g_string_append_printf(view, "array %u %08x\n", i,
                               qtest_readl(m->qts,
                                           m->block + 0x1000 + 4 * i));
    }
    for (unsigned off = 0; off < 0x30; off += 4) {
        g_string_append_printf(view, "hdm %02x %08x\n", off,
                               hdm_read(m, off));
    }
}

/* The fixed window and its contents */
static void view_map(GString *view, CXLMachine *m)
{
    g_autofree char *tree = qtest_hmp(m->qts, "info mtree");
    g_auto(GStrv) lines = g_strsplit(tree, "\n", -1);

    for (int i = 0; lines[i]; i++) {
        if (strstr(lines[i], "cxl-fixed-memory") ||
            strstr(lines[i], "cxl-hdm")) {
            g_string_append_printf(view, "%s\n", lines[i]);
        }
    }
}

static void view_all(GString *view, CXLMachine *m)
{
    view_config(view, m);
    view_registers(view, m);
    view_map(view, m);
}

/*
 * A life cycle: firmware, attempted decommit, reset; by the guest, good and bad
 */
static char *view_of(const char *kernel, bool iommufd)
{
    const VFIOCXLMode mode = { kernel, iommufd };
    GString *view = g_string_new(NULL);
    CXLMachine *m = mode_start(&mode, "--memory=512M", "");

    view_all(view, m);
    hdm_write(m, HDM_CTRL(0), 0);
    cfg_writew(m, m->dvsec + DVSEC_CONTROL, 0);
    cfg_writew(m, m->dvsec + DVSEC_CONTROL2, 0xfff1);
    view_all(view, m);
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    view_all(view, m);
    cxl_machine_stop(m);

    m = mode_start(&mode, "--memory=512M", ",x-cxl-commit=guest");
    view_all(view, m);
    hdm_enable(m);
    for (uint64_t size = 0; size <= 3 * M256; size += M256) {
        for (uint64_t at = 0; at <= 5 * GiB; at += GiB) {
            hdm_commit(m, m->window + at, size);
            g_string_append_printf(view, "commit 0x%" PRIx64 " at 0x%" PRIx64
                                   "\n", size, at);
            view_registers(view, m);
            view_map(view, m);
        }
    }
    cxl_machine_stop(m);
    return g_string_free(view, FALSE);
}

static void test_same_view(gconstpointer data)
{
    g_autofree char *expected = view_of(vfio_cxl_kernels[0], false);
    g_auto(GStrv) want = g_strsplit(expected, "\n", -1);

    g_assert_cmpuint(g_strv_length(want), >, 3000);
    for (int i = 0; vfio_cxl_kernels[i]; i++) {
        bool reads = vfio_cxl_reads(vfio_cxl_kernels[i]);

        for (int iommufd = !i; reads && iommufd < 2; iommufd++) {
            g_autofree char *view = view_of(vfio_cxl_kernels[i], iommufd);
            g_auto(GStrv) got = g_strsplit(view, "\n", -1);

            for (int line = 0; want[line] && got[line]; line++) {
                g_assert_cmpstr(got[line], ==, want[line]);
            }
            g_assert_cmpuint(g_strv_length(got), ==, g_strv_length(want));
        }
    }
}

int main(int argc, char **argv)
{
    vfio_cxl_test_init(&argc, &argv);

    vfio_cxl_add("firmware", vfio_cxl_kernels, test_firmware);
    vfio_cxl_add("host-unlocked", vfio_cxl_kernels, test_host_unlocked);
    vfio_cxl_add("unlocked", vfio_cxl_kernels, test_unlocked);
    vfio_cxl_add("commit", vfio_cxl_kernels, test_commit);
    vfio_cxl_add("commit-refused", vfio_cxl_kernels, test_commit_refused);
    vfio_cxl_add("access-8", vfio_cxl_kernels, test_access_8);
    vfio_cxl_add("view", vfio_cxl_kernels_v2, test_view);
    vfio_cxl_add("dvsec", vfio_cxl_kernels, test_dvsec);
    vfio_cxl_add("dvsec-writes", vfio_cxl_kernels, test_dvsec_writes);
    qtest_add_data_func("vfio-cxl/same-view", NULL, test_same_view);
    return g_test_run();
}
