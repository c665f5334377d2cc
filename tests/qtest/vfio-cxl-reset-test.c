/*
 * CXL Type-2 devices behind vfio-pci: resets, power, gates
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "vfio-cxl-helpers.h"

static void test_reboot(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=512M", "");
    uint64_t base = hdm_base(m, 0);

    vfio_sim_poke(m->sim, 0x2000, 0x1122334455667788);
    for (int i = 0; i < 3; i++) {
        int64_t resets = vfio_sim_stat(m->sim, "resets");

        qtest_system_reset(m->qts);
        g_assert_cmpint(vfio_sim_stat(m->sim, "resets"), >, resets);
        cxl_machine_enumerate(m);
        assert_firmware_committed(m, 2 * M256);
        g_assert_cmphex(hdm_base(m, 0), ==, base);
        /* A reset of v5 kernels clears the memory; QEMU never touches it */
        g_assert_cmphex(qtest_readq(m->qts, base + 0x2000), ==,
                        mode_is_kernel(data, "v5") ? 0 : 0x1122334455667788);
    }
    cxl_machine_stop(m);
}

/* What takes the memory away */
static void test_gates(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=256M", "");
    uint64_t base = hdm_base(m, 0);
    unsigned control = m->dvsec + DVSEC_CONTROL;
    unsigned pm = 0;

    g_assert_true(shows_memory(m, base, 0));
    /* CXL.mem */
    cfg_writew(m, control, cfg_readw(m, control) & ~DVSEC_MEM_ENABLE);
    g_assert_false(shows_memory(m, base, 0));
    cfg_writew(m, control, cfg_readw(m, control) | DVSEC_MEM_ENABLE);
    g_assert_true(shows_memory(m, base, 0));
    /* Memory Space Enable, in accesses of each size */
    cfg_writew(m, 0x04, 0x4);
    g_assert_false(shows_memory(m, base, 0));
    cfg_writew(m, 0x04, 0x6);
    g_assert_true(shows_memory(m, base, 0));
    cfg_write(m, 0x04, 0x4);
    g_assert_false(shows_memory(m, base, 0));
    cfg_write(m, 0x04, 0x6);
    g_assert_true(shows_memory(m, base, 0));
    /* D3hot */
    for (uint8_t pos = cfg_readw(m, 0x34) & 0xff; pos && !pm;
         pos = cfg_readw(m, pos) >> 8) {
        pm = (cfg_readw(m, pos) & 0xff) == 0x01 ? pos : 0;
    }
    g_assert_cmphex(pm, !=, 0);
    cfg_writew(m, pm + 4, 3);
    g_assert_false(shows_memory(m, base, 0));
    cfg_writew(m, pm + 4, 0);
    cfg_writew(m, 0x04, 0x6);
    g_assert_true(shows_memory(m, base, 0));
    g_assert_cmphex(hdm_read(m, HDM_CTRL(0)), ==,
                    HDM_LOCK | HDM_COMMIT | HDM_COMMITTED);
    cxl_machine_stop(m);
}

static void test_flr(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=256M", "");
    uint64_t base = hdm_base(m, 0);
    unsigned exp = 0;

    for (uint8_t pos = cfg_readw(m, 0x34) & 0xff; pos && !exp;
         pos = cfg_readw(m, pos) >> 8) {
        exp = (cfg_readw(m, pos) & 0xff) == 0x10 ? pos : 0;
    }
    g_assert_cmphex(exp, !=, 0);
    cfg_writew(m, exp + 8, cfg_readw(m, exp + 8) | 0x8000);
    g_assert_cmpint(vfio_sim_stat(m->sim, "flr"), >=, 1);
    cxl_machine_enumerate(m);
    /* FLR leaves decoders, locks and the DVSEC as they are */
    assert_firmware_committed(m, M256);
    g_assert_cmphex(hdm_base(m, 0), ==, base);
    cxl_machine_stop(m);
}

static void test_host_decoder_lost(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=256M", "");
    uint64_t base = hdm_base(m, 0);

    g_assert_true(shows_memory(m, base, 0));
    qobject_unref(vfio_sim_command(m->sim, "set " VFIO_CXL_HOST
                                   " hardware-committed=0"));
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    g_assert_cmphex(hdm_read(m, HDM_CTRL(0)) & HDM_COMMITTED, ==, 0);
    g_assert_false(shows_memory(m, base, 0));
    g_assert_false(hdm_commit(m, base, M256));

    qobject_unref(vfio_sim_command(m->sim, "set " VFIO_CXL_HOST
                                   " hardware-committed=1"));
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    assert_firmware_committed(m, M256);
    cxl_machine_stop(m);
}

static const char *const rereads[] = { "v2-reset", "v2", "v4", "v5", NULL };

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    vfio_cxl_add("reboot", vfio_cxl_kernels, test_reboot);
    vfio_cxl_add("gates", vfio_cxl_kernels, test_gates);
    vfio_cxl_add("flr", vfio_cxl_kernels, test_flr);
    vfio_cxl_add("host-decoder-lost", rereads, test_host_decoder_lost);
    return g_test_run();
}
