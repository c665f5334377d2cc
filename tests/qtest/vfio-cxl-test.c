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

/* What the host's firmware did not lock is not locked for the guest */
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

    /* What the guest committed and locked does not survive a reboot */
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
    /* And all is well again */
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
    /* A lock in the kernel's view does not outlive the guest's */
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
 * The component BAR
 */
#define RAS_UNC_STATUS      (0x1000 + VFIO_SIM_CM_RAS)
#define RAS_UNC_MASK        (RAS_UNC_STATUS + 0x04)
#define RAS_UNC_SEVERITY    (RAS_UNC_STATUS + 0x08)
#define RAS_COR_STATUS      (RAS_UNC_STATUS + 0x0c)
#define RAS_COR_MASK        (RAS_UNC_STATUS + 0x10)
#define RAS_END             (RAS_UNC_STATUS + 0x58)

static void check_overlay(CXLMachine *m, bool plain)
{
    uint64_t block = m->block - m->bar0;
    unsigned n;

    host_writes(m, "");

    /* Outside the block: the device's own memory, directly */
    for (uint64_t off = 0; off < VFIO_SIM_BAR0_SIZE; off += 0x7f8) {
        uint64_t at = off & ~7ull;

        if (at >= block && at < block + VFIO_SIM_BLOCK_SIZE) {
            continue;
        }
        g_assert_cmphex(qtest_readq(m->qts, m->bar0 + at), ==,
                        VFIO_SIM_BAR0_PATTERN(at));
    }
    if (block) {
        g_assert_cmphex(qtest_readq(m->qts, m->block - 8), ==,
                        VFIO_SIM_BAR0_PATTERN(block - 8));
    }
    if (block + VFIO_SIM_BLOCK_SIZE < VFIO_SIM_BAR0_SIZE) {
        g_assert_cmphex(qtest_readq(m->qts, m->block + VFIO_SIM_BLOCK_SIZE),
                        ==, VFIO_SIM_BAR0_PATTERN(block +
                                                  VFIO_SIM_BLOCK_SIZE));
    }

    /* Inside: the capability array, the decoders, RAS, otherwise nothing */
    n = plain ? 0 : qtest_readl(m->qts, m->block + 0x1000) >> 24;
    for (uint64_t off = 0; off < VFIO_SIM_BLOCK_SIZE; off += 4) {
        bool array = off >= 0x1000 && off <= 0x1000 + 4 * n;
        bool hdm = off >= 0x1000 + VFIO_SIM_CM_HDM &&
                   off < 0x1000 + VFIO_SIM_CM_HDM + 0x30;
        bool ras = off == RAS_UNC_MASK || off == RAS_UNC_SEVERITY ||
                   off == RAS_COR_MASK;

        if (plain || !(array || hdm || ras)) {
            g_assert_cmphex(qtest_readl(m->qts, m->block + off), ==, 0);
        }
        if (plain || !(hdm || ras)) {
            uint32_t old = qtest_readl(m->qts, m->block + off);

            qtest_writel(m->qts, m->block + off, 0xffffffff);
            g_assert_cmphex(qtest_readl(m->qts, m->block + off), ==, old);
        }
    }
    if (!plain) {
        bool found = false;

        g_assert_cmphex(qtest_readl(m->qts, m->block + 0x1000) & 0xffff, ==,
                        1);
        g_assert_cmpuint(n, >, 1);
        for (unsigned i = 1; i <= n; i++) {
            uint32_t entry = qtest_readl(m->qts, m->block + 0x1000 + 4 * i);

            found |= (entry & 0xffff) == 5 &&
                     entry >> 20 == VFIO_SIM_CM_HDM;
        }
        g_assert_true(found);
    }

    /* Nothing of that got to the hardware */
    g_assert_cmpuint(host_writes(m, ""), ==, 0);
}

/* The kernel's device has seen errors; the guest's has not, nor can it see */
static void test_ras(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "", "");
    uint64_t ras = m->block + RAS_UNC_STATUS;

    for (int reset = 0; reset < 2; reset++) {
        for (unsigned off = RAS_UNC_STATUS; off < RAS_END; off += 4) {
            bool mask = off == RAS_UNC_MASK || off == RAS_UNC_SEVERITY;
            uint32_t value = mask ? 0x1cfff : off == RAS_COR_MASK ? 0x7f : 0;

            g_assert_cmphex(qtest_readl(m->qts, m->block + off), ==, value);
        }
        /* The sizes that the specification allows */
        qtest_writel(m->qts, ras + 0x04, 0xfffffffe);
        g_assert_cmphex(qtest_readl(m->qts, ras + 0x04), ==, 0x1cffe);
        g_assert_cmphex(qtest_readq(m->qts, ras), ==, 0x1cffeull << 32);
        qtest_writeq(m->qts, ras + 0x08, 0xffffffff00000001ull);
        g_assert_cmphex(qtest_readl(m->qts, ras + 0x08), ==, 1);
        g_assert_cmphex(qtest_readl(m->qts, ras + 0x0c), ==, 0);
        qtest_writel(m->qts, ras + 0x10, 0xffffff80);
        g_assert_cmphex(qtest_readl(m->qts, ras + 0x10), ==, 0);
        g_assert_cmphex(qtest_readw(m->qts, ras + 0x06), ==, 1);
        g_assert_cmphex(qtest_readb(m->qts, ras + 0x05), ==, 0xcf);
        qtest_system_reset(m->qts);
        cxl_machine_enumerate(m);
    }
    g_assert_cmpuint(host_writes(m, "bar0"), ==, 0);
    cxl_machine_stop(m);
}

static void test_overlay(gconstpointer data)
{
    static const char *const options[] = {
        "--topology=A", "--topology=B", "--topology=C"
    };

    for (int i = 0; i < ARRAY_SIZE(options); i++) {
        CXLMachine *m = mode_start(data, options[i], "");

        check_overlay(m, false);
        /* Direct: what the guest writes is there at once */
        qtest_writeq(m->qts, m->bar0 + (i == 1 ? 0x20000 : 0x8), 42);
        g_assert_cmphex(qtest_readq(m->qts,
                                    m->bar0 + (i == 1 ? 0x20000 : 0x8)),
                        ==, 42);
        g_assert_cmpuint(host_writes(m, ""), ==, 0);
        cxl_machine_stop(m);
    }
}

/*
 * No address of the host in what the guest can read
 */
static void assert_no_hpa(CXLMachine *m, uint64_t hpa)
{
    uint32_t high = hpa >> 32, low = hpa;

    for (unsigned off = 0; off < 0x1000; off += 4) {
        uint32_t value = cfg_read(m, off);

        g_assert_cmphex(value, !=, high);
        g_assert_cmphex(value & 0xf0000000, !=, low ? low : 0x10);
    }
    for (unsigned off = 0; off < VFIO_SIM_BLOCK_SIZE; off += 4) {
        g_assert_cmphex(qtest_readl(m->qts, m->block + off), !=, high);
    }
}

static void test_no_hpa(gconstpointer data)
{
    static const char *const properties[] = {
        "", ",x-cxl-commit=guest", ",x-cxl=off"
    };

    for (int i = 0; i < ARRAY_SIZE(properties); i++) {
        CXLMachine *m = mode_start(data, "", properties[i]);

        assert_no_hpa(m, host_hpa(m));
        qtest_system_reset(m->qts);
        cxl_machine_enumerate(m);
        assert_no_hpa(m, host_hpa(m));
        cxl_machine_stop(m);
    }
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
    /* Range bases are not the guest's to set */
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
 * No config write to a CXL DVSEC reaches the kernel. What CONTROL2 asks for
 * is another matter: vfio-cxl-reset-test.
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
 * Plain PCI
 */
static void assert_plain(CXLMachine *m, gconstpointer data)
{
    bool aer = false, vendor = false;

    g_assert_cmphex(m->dvsec, ==, 0);
    for (unsigned pos = 0x100, i = 0; pos && i < 64; i++) {
        uint32_t header = cfg_read(m, pos);

        g_assert_false((header & 0xffff) == 0x23 &&
                       (cfg_read(m, pos + 4) & 0xffff) == 0x1e98);
        aer |= (header & 0xffff) == 0x01;
        vendor |= (header & 0xffff) == 0x0b;
        pos = header >> 20;
    }
    /* The chain still leads to what is not CXL, before and after */
    g_assert_true(aer && vendor);
    g_assert_cmphex(cfg_read(m, 0), ==,
                    VFIO_SIM_VENDOR_ID | VFIO_SIM_DEVICE_ID << 16);
    check_overlay(m, true);
    assert_no_hpa(m, host_hpa(m));
    g_assert_cmphex(qtest_readl(m->qts, m->bar2 + VFIO_SIM_REG_ID), ==,
                    VFIO_SIM_ID);
    if (m->window) {
        g_assert_false(shows_memory(m, m->window, 0));
    }
}

static void test_plain_off(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--topology=C", ",x-cxl=off");

    assert_plain(m, data);
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    assert_plain(m, data);
    cxl_machine_stop(m);
}

static void test_plain_topology(gconstpointer data)
{
    /* Below an ordinary root port of an ordinary expander bridge */
    CXLMachine *m = cxl_machine_start(mode_sim(data, ""),
        " -device pxb-pcie,id=pxb,bus=pcie.0,bus_nr=12"
        " -device pcie-root-port,id=rp0,bus=pxb,chassis=0,slot=0,port=0",
        mode_is_iommufd(data), "");

    assert_plain(m, data);
    cxl_machine_stop(m);
}

/*
 * Refusals: status 1 and a message that helps
 */
static void test_refused_on(gconstpointer data)
{
    mode_refused(data, "",
                 " -device pcie-root-port,id=rp0,bus=pcie.0,chassis=0",
                 ",bus=rp0,x-cxl=on", "not below a CXL root port");
    mode_refused(data, "", CXL_BRIDGE CXL_WINDOW, ",bus=rp0,x-cxl=bogus",
                 "x-cxl");
    mode_refused(data, "", CXL_BRIDGE CXL_WINDOW, ",bus=rp0,x-cxl-commit=bogus",
                 "x-cxl-commit");
    mode_refused(data, "", CXL_BRIDGE CXL_WINDOW, ",bus=rp0,x-no-mmap=on",
                 "no way to use its memory");
    mode_refused(data, "--fault='" VFIO_CXL_HOST " mmap-memory errno=12'",
                 CXL_BRIDGE CXL_WINDOW, ",bus=rp0", "cannot map its memory");
    /* Two ports of one number: only the first could be reached */
    mode_refused(data, "", CXL_BRIDGE
                 " -device cxl-rp,id=rp1,bus=cxl.0,chassis=0,slot=1,port=0"
                 CXL_WINDOW, ",bus=rp1", "its own port=");
}

/*
 * The guest sees the same whatever the kernel. Only what it can ask for is
 * different, as the kernels are: in DVSEC CXL Capability, Cache Writeback and
 * Invalidate Capable and CXL Reset Capable, Timeout and Mem Clr Capable.
 */
static void view_config(GString *view, CXLMachine *m)
{
    for (unsigned off = 0; off < 0x1000; off += 4) {
        uint32_t value = cfg_read(m, off);

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

/* Where the fixed window and what is in it are */
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

/* A life: firmware, decommit tried, reset; by the guest, good and bad */
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
    static const char *const kernels[] = { "v2", "v3", "v4", "v5", "v6" };
    g_autofree char *expected = view_of("v2-reset", false);
    g_auto(GStrv) want = g_strsplit(expected, "\n", -1);

    g_assert_cmpuint(g_strv_length(want), >, 3000);
    for (int i = 0; i < ARRAY_SIZE(kernels); i++) {
        for (int iommufd = 0; iommufd < 2; iommufd++) {
            g_autofree char *view = view_of(kernels[i], iommufd);
            g_auto(GStrv) got = g_strsplit(view, "\n", -1);

            for (int line = 0; want[line] && got[line]; line++) {
                g_assert_cmpstr(got[line], ==, want[line]);
            }
            g_assert_cmpuint(g_strv_length(got), ==, g_strv_length(want));
        }
    }
}

/*
 * What else a kernel may say
 */
static void test_no_mmap(gconstpointer data)
{
    VFIOSim *sim;
    CXLMachine *m;
    g_autofree char *output = NULL;

    mode_refused(data, "", CXL_BRIDGE CXL_WINDOW, ",bus=rp0,x-cxl=on",
                 "does not let the device's memory be mapped");
    m = mode_start(data, "", "");
    assert_plain(m, data);
    cxl_machine_stop(m);

    sim = mode_sim(data, "");
    output = cxl_machine_try(sim, CXL_BRIDGE CXL_WINDOW,
                             mode_is_iommufd(data), ",bus=rp0",
                             &(int){ 0 });
    g_assert_nonnull(strstr(output, "used as plain PCI: the kernel does not "
                            "let the device's memory be mapped"));
    vfio_sim_stop(sim);
}

/* A device that the kernel does not flag is vfio-pci's as before */
static void test_no_flag(gconstpointer data)
{
    g_autofree char *output = NULL;
    VFIOSim *sim;
    int status;

    mode_refused(data, "", CXL_BRIDGE CXL_WINDOW, ",bus=rp0,x-cxl=on",
                 "the kernel does not offer CXL for this device");
    sim = mode_sim(data, "");
    output = cxl_machine_try(sim, CXL_BRIDGE, mode_is_iommufd(data),
                             ",bus=rp0", &status);
    g_assert_cmpint(status, ==, 0);
    g_assert_null(strstr(output, "CXL"));
    vfio_sim_stop(sim);
}

/* A kernel that guards the DVSEC of such a device: its word is what counts */
static void test_guard_map(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--guard-map", "");
    unsigned base = m->dvsec + DVSEC_RANGE1_BASE;
    uint32_t hi = cfg_read(m, base), lo = cfg_read(m, base + 4);
    uint16_t control = cfg_readw(m, m->dvsec + DVSEC_CONTROL);
    int64_t resets = vfio_sim_stat(m->sim, "cxl-resets");

    g_assert_cmphex(m->dvsec, !=, 0);
    g_assert_cmphex(((uint64_t)hi << 32) | lo, ==, host_hpa(m));
    cfg_write(m, base, 0);
    cfg_write(m, base + 4, 0);
    g_assert_cmphex(cfg_read(m, base), ==, hi);
    g_assert_cmphex(cfg_read(m, base + 4), ==, lo);
    cfg_writew(m, m->dvsec + DVSEC_CONTROL, control ^ 1);
    g_assert_cmphex(cfg_readw(m, m->dvsec + DVSEC_CONTROL), ==, control ^ 1);
    cfg_writew(m, m->dvsec + 0x10, 4);
    g_assert_cmphex(cfg_readw(m, m->dvsec + 0x10), ==, 0);
    g_assert_cmphex(cfg_readw(m, m->dvsec + 0x12) & 6, ==, 2);
    g_assert_cmpint(vfio_sim_stat(m->sim, "cxl-resets"), ==, resets);
    /* The component registers are the device's */
    g_assert_cmphex(hdm_read(m, HDM_CTRL(0)), ==,
                    HDM_LOCK | HDM_COMMIT | HDM_COMMITTED);
    cxl_machine_stop(m);
}

/* Older and newer forms of the interface */
static void test_unknown_form(gconstpointer data)
{
    static const char *const forms[] = { "form-v0", "form-v1", "form-newer" };

    for (int i = 0; i < ARRAY_SIZE(forms); i++) {
        g_autofree char *options = g_strdup_printf("--mangle=%s", forms[i]);
        g_autofree char *output = NULL;
        VFIOSim *sim = mode_sim(data, options);
        CXLMachine *m;

        mode_refused(data, options, CXL_BRIDGE CXL_WINDOW, ",bus=rp0,x-cxl=on",
                     "x-cxl=on: the kernel describes the CXL device in a "
                     "form that is not known");
        output = cxl_machine_try(sim, CXL_BRIDGE CXL_WINDOW,
                                 mode_is_iommufd(data), ",bus=rp0",
                                 &(int){ 0 });
        g_assert_nonnull(strstr(output, "used as plain PCI: the kernel "
                                "describes the CXL device in a form that is "
                                "not known (capability 6"));
        vfio_sim_stop(sim);

        m = mode_start(data, options, "");
        assert_plain(m, data);
        cxl_machine_stop(m);
    }
}

static void try_malformation(gconstpointer data, const char *name,
                             bool harmless)
{
    g_autofree char *options = g_strdup_printf("--mangle=%s", name);
    VFIOSim *sim = mode_sim(data, options);
    g_autofree char *output = NULL;
    bool plain, flagged;
    int status;

    output = cxl_machine_try(sim, CXL_BRIDGE CXL_WINDOW,
                             mode_is_iommufd(data), ",bus=rp0", &status);
    plain = strstr(output, "used as plain PCI: ");
    flagged = strcmp(name, "device-no-flag");
    if (g_str_has_prefix(name, "short-")) {
        g_assert_cmpint(status, <=, 1);     /* may show at run time only */
    } else if (harmless ? status != 0 || plain
                 : status > 1 || (status == 0 && flagged && !plain)) {
        g_error("%s: status %d: %s", name, status, output);
    }
    if (status == 1 && !strstr(output, "qemu-system-")) {
        g_error("%s: refused without a message: %s", name, output);
    }
    vfio_sim_stop(sim);
}

static void test_malformed(gconstpointer data)
{
    const char *kernel = ((const VFIOCXLMode *)data)->kernel;
    g_autofree char *list = vfio_sim_malformations();
    g_auto(GStrv) lines = g_strsplit(list, "\n", -1);
    g_autofree char *generation = g_strndup(kernel, 2);
    unsigned tried = 0;

    for (int i = 0; lines[i]; i++) {
        g_auto(GStrv) words = g_strsplit_set(g_strchug(lines[i]), " ", -1);
        bool harmless = false, concerned = false;

        if (!words[0] || !strchr(words[0], '-')) {
            continue;
        }
        for (int w = 1; words[w] && (words[w][0] == '*' || !*words[w] ||
                                     (words[w][0] == 'v' &&
                                      strlen(words[w]) == 2)); w++) {
            harmless |= words[w][0] == '*';
            concerned |= !strcmp(words[w], generation);
        }
        /* The reader does not know of backends: each gets every other one */
        if (concerned && tried++ % 2 == mode_is_iommufd(data)) {
            try_malformation(data, words[0], harmless);
        }
    }
    g_test_message("%u malformations, half of them tried", tried);
    g_assert_cmpuint(tried, >=, 60);
}

static const char *const malformed[] = { "v2-reset", "v3", "v4", "v6", NULL };
static const char *const malformed_virt[] = { "v5", NULL };
static const char *const nommap[] = { "v2-nommap", NULL };
static const char *const none[] = { "none", NULL };

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    vfio_cxl_add("firmware", vfio_cxl_kernels, test_firmware);
    vfio_cxl_add("host-unlocked", vfio_cxl_kernels, test_host_unlocked);
    vfio_cxl_add("unlocked", vfio_cxl_kernels, test_unlocked);
    vfio_cxl_add("commit", vfio_cxl_kernels, test_commit);
    vfio_cxl_add("commit-refused", vfio_cxl_kernels, test_commit_refused);
    vfio_cxl_add("access-8", vfio_cxl_kernels, test_access_8);
    vfio_cxl_add("view", vfio_cxl_kernels_v2, test_view);
    vfio_cxl_add("overlay", vfio_cxl_kernels, test_overlay);
    vfio_cxl_add("ras", vfio_cxl_kernels, test_ras);
    vfio_cxl_add("no-hpa", vfio_cxl_kernels, test_no_hpa);
    vfio_cxl_add("dvsec", vfio_cxl_kernels, test_dvsec);
    vfio_cxl_add("dvsec-writes", vfio_cxl_kernels, test_dvsec_writes);
    vfio_cxl_add("plain-off", vfio_cxl_kernels, test_plain_off);
    vfio_cxl_add("plain-topology", vfio_cxl_kernels, test_plain_topology);
    vfio_cxl_add("refused-on", vfio_cxl_kernels, test_refused_on);
    vfio_cxl_add("no-mmap", nommap, test_no_mmap);
    vfio_cxl_add("no-flag", none, test_no_flag);
    vfio_cxl_add("guard-map", none, test_guard_map);
    vfio_cxl_add("unknown-form", vfio_cxl_kernels_v2, test_unknown_form);
    /* It takes minutes, and the reader is the same code on both machines */
    vfio_cxl_add("malformed", strcmp(qtest_get_arch(), "x86_64") ?
                 malformed_virt : malformed, test_malformed);
    qtest_add_data_func("vfio-cxl/same-view", NULL, test_same_view);
    return g_test_run();
}
