/*
 * CXL Type-2 devices behind vfio-pci: what a guest must not see of the device,
 * plain PCI, and refusals
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "vfio-cxl-helpers.h"

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
    g_autofree uint32_t *before = NULL, *after = NULL, *ones = NULL;
    const size_t size = VFIO_SIM_BLOCK_SIZE;
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
    before = read_dwords(m, m->block, size);
    ones = g_malloc(size);
    memset(ones, 0xff, size);
    n = plain ? 0 : before[0x1000 / 4] >> 24;
    for (uint64_t off = 0; off < size; off += 4) {
        bool array = off >= 0x1000 && off <= 0x1000 + 4 * n;
        bool hdm = off >= 0x1000 + VFIO_SIM_CM_HDM &&
                   off < 0x1000 + VFIO_SIM_CM_HDM + 0x30;
        bool ras = off == RAS_UNC_MASK || off == RAS_UNC_SEVERITY ||
                   off == RAS_COR_MASK;

        if (plain || !(array || hdm || ras)) {
            g_assert_cmphex(before[off / 4], ==, 0);
        }
        if (!plain && (hdm || ras)) {
            ones[off / 4] = cpu_to_le32(before[off / 4]);
        } else if (off >= 0x1000 && off < 0x1000 + VFIO_SIM_CM_HDM + 0x100) {
            /* Also write existing registers one by one */
            qtest_writel(m->qts, m->block + off, 0xffffffff);
            g_assert_cmphex(qtest_readl(m->qts, m->block + off), ==,
                            before[off / 4]);
        }
    }
    qtest_memwrite(m->qts, m->block, ones, size);
    after = read_dwords(m, m->block, size);
    g_assert_cmpmem(before, size, after, size);
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

    /* None of this reached the hardware */
    g_assert_cmpuint(host_writes(m, ""), ==, 0);
}

/* The kernel's device has seen errors, which the guest cannot see */
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
        /* Direct: the guest's writes take effect at once */
        qtest_writeq(m->qts, m->bar0 + (i == 1 ? 0x20000 : 0x8), 42);
        g_assert_cmphex(qtest_readq(m->qts,
                                    m->bar0 + (i == 1 ? 0x20000 : 0x8)),
                        ==, 42);
        g_assert_cmpuint(host_writes(m, ""), ==, 0);
        cxl_machine_stop(m);
    }
}

/*
 * The guest cannot read any host address
 */
static void assert_no_hpa(CXLMachine *m, uint64_t hpa)
{
    g_autofree uint32_t *config = read_dwords(m, m->ecam + (13 << 20), 0x1000);
    g_autofree uint32_t *block = read_dwords(m, m->block, VFIO_SIM_BLOCK_SIZE);
    uint32_t high = hpa >> 32, low = hpa;

    g_assert_cmphex(config[0], ==, VFIO_SIM_VENDOR_ID |
                                   VFIO_SIM_DEVICE_ID << 16);
    for (unsigned i = 0; i < 0x1000 / 4; i++) {
        g_assert_cmphex(config[i], !=, high);
        g_assert_cmphex(config[i] & 0xf0000000, !=, low ? low : 0x10);
    }
    for (unsigned i = 0; i < VFIO_SIM_BLOCK_SIZE / 4; i++) {
        g_assert_cmphex(block[i], !=, high);
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
    /* The chain still leads to the other capabilities, before and after */
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
                 "no way to use device memory");
    mode_refused(data, "--fault='" VFIO_CXL_HOST " mmap-memory errno=12'",
                 CXL_BRIDGE CXL_WINDOW, ",bus=rp0", "cannot map device memory");
    /* Two ports of one number: only the first could be reached */
    mode_refused(data, "", CXL_BRIDGE
                 " -device cxl-rp,id=rp1,bus=cxl.0,chassis=0,slot=1,port=0"
                 CXL_WINDOW, ",bus=rp1", "its own port=");
}

/*
 * Other replies of kernels
 */
static void test_no_mmap(gconstpointer data)
{
    VFIOSim *sim;
    CXLMachine *m;
    g_autofree char *output = NULL;

    mode_refused(data, "", CXL_BRIDGE CXL_WINDOW, ",bus=rp0,x-cxl=on",
                 "does not allow device memory to be mapped");
    m = mode_start(data, "", "");
    assert_plain(m, data);
    cxl_machine_stop(m);

    sim = mode_sim(data, "");
    output = cxl_machine_try(sim, CXL_BRIDGE CXL_WINDOW,
                             mode_is_iommufd(data), ",bus=rp0",
                             &(int){ 0 });
    g_assert_nonnull(strstr(output, "used as plain PCI: the kernel does not "
                            "allow device memory to be mapped"));
    vfio_sim_stop(sim);
}

/* A device that the kernel does not flag works as without CXL */
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

/* A kernel that guards the DVSEC of such a device: it decides */
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
                     "x-cxl=on: the kernel describes the CXL device in an "
                     "unknown form");
        output = cxl_machine_try(sim, CXL_BRIDGE CXL_WINDOW,
                                 mode_is_iommufd(data), ",bus=rp0",
                                 &(int){ 0 });
        g_assert_nonnull(strstr(output, "used as plain PCI: the kernel "
                                "describes the CXL device in an unknown form "
                                "(capability 6"));
        vfio_sim_stop(sim);

        m = mode_start(data, options, "");
        assert_plain(m, data);
        cxl_machine_stop(m);
    }
}

static const char *const nommap[] = { "v2-nommap", NULL };
static const char *const none[] = { "none", NULL };

int main(int argc, char **argv)
{
    vfio_cxl_test_init(&argc, &argv);

    vfio_cxl_add("overlay", vfio_cxl_kernels, test_overlay);
    vfio_cxl_add("ras", vfio_cxl_kernels, test_ras);
    vfio_cxl_add("no-hpa", vfio_cxl_kernels, test_no_hpa);
    vfio_cxl_add("plain-off", vfio_cxl_kernels, test_plain_off);
    vfio_cxl_add("plain-topology", vfio_cxl_kernels, test_plain_topology);
    vfio_cxl_add("refused-on", vfio_cxl_kernels, test_refused_on);
    vfio_cxl_add("no-mmap", nommap, test_no_mmap);
    vfio_cxl_add("no-flag", none, test_no_flag);
    vfio_cxl_add("guard-map", none, test_guard_map);
    vfio_cxl_add("unknown-form", vfio_cxl_kernels_v2, test_unknown_form);
    return g_test_run();
}
