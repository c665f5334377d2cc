/*
 * CXL Type-2 devices behind vfio-pci: decoders and ports on the path
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "vfio-cxl-helpers.h"

/* No device can be committed over another's range */
static void test_other_device(gconstpointer data)
{
    CXLMachine *m = cxl_machine_start(mode_sim(data, "--devices=2"),
        CXL_BRIDGE " -device cxl-rp,id=rp1,bus=cxl.0,chassis=0,slot=1,port=1,"
        "addr=1 -device vfio-pci,id=dev1,host=0000:c2:00.0,bus=rp1"
        CXL_WINDOW, false, ",x-cxl-commit=guest");
    uint64_t first = ROUND_UP(m->window, GiB);
    g_autofree char *tree = NULL;

    cxl_machine_enable_second(m, 1);
    tree = qtest_hmp(m->qts, "info mtree");
    g_assert_nonnull(strstr(tree, "cxl-hdm"));      /* the second one's */

    hdm_enable(m);
    g_assert_false(hdm_commit(m, first, M256));
    g_assert_cmphex(hdm_read(m, HDM_CTRL(0)) & HDM_ERROR, !=, 0);
    g_assert_false(shows_memory(m, first, 0));
    g_assert_true(hdm_commit(m, first + M256, M256));
    cxl_machine_stop(m);
}

/* What one decoder cannot be: more of them are (v2 only) */
static void test_decoders(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=1G --decoders=4",
                               ",x-cxl-commit=guest");

    g_assert_cmphex(hdm_read(m, HDM_CAPABILITY) & 0xf, ==, 2);
    hdm_enable(m);
    for (unsigned n = 0; n < 4; n++) {
        uint64_t at = m->window + 2 * n * M256;

        hdm_write(m, HDM_BASE_LO(n), at);
        hdm_write(m, HDM_BASE_HI(n), at >> 32);
        hdm_write(m, HDM_SIZE_LO(n), M256);
        hdm_write(m, HDM_CTRL(n), HDM_COMMIT);
        g_assert_true(shows_memory(m, at, n * M256));
        g_assert_true(shows_memory(m, at + M256 - 8, (n + 1) * M256 - 8));
    }
    /* A hole affects its own range only */
    hdm_write(m, HDM_CTRL(1), 0);
    for (unsigned n = 0; n < 4; n++) {
        g_assert_true(shows_memory(m, m->window + 2 * n * M256, n * M256) ==
                      (n != 1));
    }
    cxl_machine_stop(m);

    mode_refused(data, "--decoders=12", CXL_BRIDGE CXL_WINDOW,
                 ",bus=rp0,x-cxl=on", "this kernel offers 1 to 10");
}

/*
 * Firmware programs what decodes between window and device
 */
static void test_firmware_path(gconstpointer data)
{
    static const char *const topologies[] = {
        " -device pxb-cxl,id=cxl.0,bus=pcie.0,bus_nr=12,hdm_for_passthrough=on"
        " -device cxl-rp,id=rp0,bus=cxl.0,chassis=0,slot=0,port=0" CXL_WINDOW,
        " -device pxb-cxl,id=cxl.0,bus=pcie.0,bus_nr=12"
        " -device cxl-rp,id=rp1,bus=cxl.0,chassis=0,slot=1,port=0,addr=1"
        " -device cxl-rp,id=rp0,bus=cxl.0,chassis=0,slot=0,port=5,addr=0"
        CXL_WINDOW,
    };

    for (int i = 0; i < ARRAY_SIZE(topologies); i++) {
        CXLMachine *m = cxl_machine_start(mode_sim(data, "--memory=512M"),
                                          topologies[i],
                                          mode_is_iommufd(data), "");

        assert_firmware_committed(m, 2 * M256);
        qtest_system_reset(m->qts);
        cxl_machine_enumerate(m);
        assert_firmware_committed(m, 2 * M256);
        cxl_machine_stop(m);
    }
}

/*
 * Several ports: the path decides
 */
static void test_path(gconstpointer data)
{
    CXLMachine *m = cxl_machine_start(mode_sim(data, "--memory=512M"),
        CXL_BRIDGE " -device cxl-rp,id=rp1,bus=cxl.0,chassis=0,slot=1,port=1"
        CXL_WINDOW, mode_is_iommufd(data), ",x-cxl-commit=guest");
    g_autofree char *tree = qtest_hmp(m->qts, "info mtree");
    char *line = strstr(tree, "pxb-cxl-host");
    uint64_t hb, hdm = 0;

    /* The host bridge's decoders */
    g_assert_nonnull(line);
    while (line > tree && line[-1] != '\n') {
        line--;
    }
    hb = g_ascii_strtoull(line, NULL, 16) + 0x1000;
    for (unsigned i = 1; i <= qtest_readl(m->qts, hb) >> 24; i++) {
        uint32_t entry = qtest_readl(m->qts, hb + 4 * i);

        hdm = (entry & 0xffff) == 5 ? hb + (entry >> 20) : hdm;
    }
    g_assert_cmphex(hdm, !=, 0);

    /* The endpoint may come first */
    hdm_enable(m);
    g_assert_true(hdm_commit(m, m->window, M256));
    g_assert_false(shows_memory(m, m->window, 0));

    qtest_writel(m->qts, hdm + HDM_BASE_LO(0), m->window);
    qtest_writel(m->qts, hdm + HDM_BASE_HI(0), m->window >> 32);
    qtest_writel(m->qts, hdm + HDM_SIZE_LO(0), 4 * M256);
    qtest_writel(m->qts, hdm + HDM_SKIP_LO(0), 1);      /* target: port 1 */
    qtest_writel(m->qts, hdm + HDM_CTRL(0), HDM_COMMIT);
    g_assert_false(shows_memory(m, m->window, 0));
    qtest_writel(m->qts, hdm + HDM_CTRL(0), 0);
    qtest_writel(m->qts, hdm + HDM_SKIP_LO(0), 0);
    g_assert_false(shows_memory(m, m->window, 0));
    qtest_writel(m->qts, hdm + HDM_CTRL(0), HDM_COMMIT);
    g_assert_true(shows_memory(m, m->window, 0));
    qtest_writel(m->qts, hdm + HDM_CTRL(0), 0);
    g_assert_false(shows_memory(m, m->window, 0));
    g_assert_cmphex(hdm_read(m, HDM_CTRL(0)), ==, HDM_COMMIT | HDM_COMMITTED);
    cxl_machine_stop(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    vfio_cxl_add("firmware-path", vfio_cxl_kernels, test_firmware_path);
    vfio_cxl_add("path", vfio_cxl_kernels, test_path);
    vfio_cxl_add("other-device", vfio_cxl_kernels_v2, test_other_device);
    vfio_cxl_add("decoders", vfio_cxl_kernels_v2, test_decoders);
    return g_test_run();
}
