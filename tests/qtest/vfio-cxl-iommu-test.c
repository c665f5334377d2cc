/*
 * CXL Type-2 devices behind vfio-pci: DMA, and what is mapped for it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "vfio-cxl-maps.h"

#define HOST2 "0000:c2:00.0"
#define HOST3 "0000:c3:00.0"

/* A second root port, at address 1 of the bridge */
#define SECOND_PORT \
    " -device cxl-rp,id=rp1,bus=cxl.0,chassis=0,slot=1,port=1,addr=1"

static uint64_t ram(void)
{
    return strcmp(qtest_get_arch(), "aarch64") ? 0x100000 : 0x40100000;
}

/* The device whose registers are at @regs copies; returns the status */
static uint32_t dma(CXLMachine *m, uint64_t regs, uint64_t src, uint64_t dst,
                    uint32_t flags)
{
    qtest_writeq(m->qts, regs + VFIO_SIM_REG_DMA_SRC, src);
    qtest_writeq(m->qts, regs + VFIO_SIM_REG_DMA_DST, dst);
    qtest_writel(m->qts, regs + VFIO_SIM_REG_DMA_LEN, 64);
    qtest_writel(m->qts, regs + VFIO_SIM_REG_DMA_CTRL,
                 VFIO_SIM_DMA_START | flags);
    return qtest_readl(m->qts, regs + VFIO_SIM_REG_DMA_STATUS);
}

/*
 * Does a device reach what the guest has at @gpa? Tried in both directions;
 * if not, both have to fault.
 */
static bool dma_reaches(CXLMachine *m, uint64_t regs, uint64_t gpa)
{
    uint64_t value = (uint64_t)g_test_rand_int() << 32 | g_test_rand_int();
    uint64_t fault = regs + VFIO_SIM_REG_DMA_FAULT_ADDR;

    qtest_writeq(m->qts, ram(), value);
    if (dma(m, regs, ram(), gpa, 0) != VFIO_SIM_DMA_DONE) {
        g_assert_cmphex(qtest_readq(m->qts, fault), ==, gpa);
        g_assert_cmphex(dma(m, regs, gpa, ram(), 0), ==, VFIO_SIM_DMA_FAULT);
        g_assert_cmphex(qtest_readq(m->qts, fault), ==, gpa);
        return false;
    }
    g_assert_cmphex(qtest_readq(m->qts, gpa), ==, value);
    qtest_writeq(m->qts, gpa, ~value);
    g_assert_cmphex(dma(m, regs, gpa, ram(), 0), ==, VFIO_SIM_DMA_DONE);
    g_assert_cmphex(qtest_readq(m->qts, ram()), ==, ~value);
    return true;
}

/* Does this kernel let this backend map device memory? */
static bool maps_memory(gconstpointer data)
{
    return !mode_is_iommufd(data) || mode_is_kernel(data, "v5");
}

static void test_dma(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "", "");
    uint64_t local = hdm_base(m, 0) + 0x10000;

    qtest_writeq(m->qts, ram(), 0x0123456789abcdef);
    g_assert_cmphex(dma(m, m->bar2, ram(), 0x10000, VFIO_SIM_DMA_DST_LOCAL),
                    ==, VFIO_SIM_DMA_DONE);
    g_assert_cmphex(qtest_readq(m->qts, local), ==, 0x0123456789abcdef);
    qtest_writeq(m->qts, local, 0xfedcba9876543210);
    g_assert_cmphex(dma(m, m->bar2, 0x10000, ram(), VFIO_SIM_DMA_SRC_LOCAL),
                    ==, VFIO_SIM_DMA_DONE);
    g_assert_cmphex(qtest_readq(m->qts, ram()), ==, 0xfedcba9876543210);
    g_assert_true(dma_reaches(m, m->bar2, ram() + 0x2000));
    g_assert_false(dma_reaches(m, m->bar2, 0x7ffffff0000));
    cxl_machine_stop(m);
}

/*
 * The memory is mapped for DMA while it is in the guest's map, and only then
 */
static void check(DMAMaps *maps, gconstpointer data, uint64_t gpa,
                  uint64_t size, uint64_t dpa)
{
    const CXLMapped memory[] = { { gpa, size, dpa }, { } };
    CXLMachine *m = maps->m;

    dma_maps_check(maps, size ? memory : NULL);
    if (!maps->bars) {
        return; /* its registers are there */
    }
    if (!size) {
        g_assert_false(dma_reaches(m, m->bar2, gpa));
        return;
    }
    g_assert_true(dma_reaches(m, m->bar2, gpa) == maps_memory(data));
    g_assert_true(dma_reaches(m, m->bar2, gpa + size - 64) ==
                  maps_memory(data));
    g_assert_false(dma_reaches(m, m->bar2, gpa + size));
    /* It is what the CPU has there */
    g_assert_true(shows_memory(m, gpa, dpa));
}

static void decommit(CXLMachine *m)
{
    hdm_write(m, HDM_CTRL(0), 0);
}

static void set_mem_enable(CXLMachine *m, bool on)
{
    uint16_t control = cfg_readw(m, m->dvsec + DVSEC_CONTROL);

    cfg_writew(m, m->dvsec + DVSEC_CONTROL,
               on ? control | DVSEC_MEM_ENABLE : control & ~DVSEC_MEM_ENABLE);
}

static void function_level_reset(CXLMachine *m)
{
    unsigned exp = cfg_find_cap(m, 0x10);

    cfg_writew(m, exp + 8, cfg_readw(m, exp + 8) | 0x8000);
    cxl_machine_enumerate(m);
}

static void test_decoder(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=512M", ",x-cxl-commit=guest");
    DMAMaps *maps = dma_maps_new(m, data, 1);
    uint64_t at = ROUND_UP(m->window, GiB);

    check(maps, data, at, 0, 0);
    hdm_enable(m);
    g_assert_true(hdm_commit(m, at, 2 * M256));
    check(maps, data, at, 2 * M256, 0);
    decommit(m);
    check(maps, data, at, 0, 0);
    /* Half of it, elsewhere; then the other half */
    g_assert_true(hdm_commit(m, at + GiB, M256));
    check(maps, data, at + GiB, M256, 0);
    decommit(m);
    hdm_write(m, HDM_SKIP_LO(0), M256);
    g_assert_true(hdm_commit(m, at, M256));
    check(maps, data, at, M256, M256);
    decommit(m);
    hdm_write(m, HDM_SKIP_LO(0), 0);
    g_assert_true(hdm_commit(m, at, 2 * M256));
    check(maps, data, at, 2 * M256, 0);

    set_mem_enable(m, false);
    check(maps, data, at, 0, 0);
    set_mem_enable(m, true);
    check(maps, data, at, 2 * M256, 0);
    function_level_reset(m);
    check(maps, data, at, 2 * M256, 0);
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    check(maps, data, at, 0, 0);

    g_assert_cmpint(vfio_sim_stat(m->sim, "stale-maps"), ==, 0);
    dma_maps_free(maps);
    cxl_machine_stop(m);
}

static void test_life(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "", "");
    DMAMaps *maps = dma_maps_new(m, data, 1);
    uint64_t at = hdm_base(m, 0);
    unsigned pm = cfg_find_cap(m, 0x01);

    for (int i = 0; i < 2; i++) {
        check(maps, data, at, M256, 0);
        cfg_writew(m, 0x04, 0x4);
        maps->bars = false;
        check(maps, data, at, 0, 0);
        cfg_writew(m, 0x04, 0x6);
        maps->bars = true;
        check(maps, data, at, M256, 0);

        cfg_writew(m, pm + 4, 3);
        maps->bars = false;
        check(maps, data, at, 0, 0);
        cfg_writew(m, pm + 4, 0);
        cxl_machine_enumerate(m);
        maps->bars = true;
        check(maps, data, at, M256, 0);

        function_level_reset(m);
        check(maps, data, at, M256, 0);

        qtest_system_reset(m->qts);
        maps->bars = false;
        dma_maps_check(maps, NULL); /* firmware has yet to set it up */
        maps->bars = true;
        cxl_machine_enumerate(m);
        g_assert_cmphex(hdm_base(m, 0), ==, at);
    }
    check(maps, data, at, M256, 0);
    g_assert_cmpint(vfio_sim_stat(m->sim, "stale-maps"), ==, 0);
    dma_maps_free(maps);
    cxl_machine_stop(m);
}

/* Enabling MSI-X with only a high vector unmasked crashed QEMU 10.2.2 */
static void test_msix_high_vector(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "", "");
    uint64_t entry = m->bar2 + VFIO_SIM_MSIX_TABLE + 2 * 16;
    unsigned msix = cfg_find_cap(m, 0x11);

    qtest_writel(m->qts, entry, ram());
    qtest_writel(m->qts, entry + 4, 0);
    qtest_writel(m->qts, entry + 8, 0x55);
    qtest_writel(m->qts, entry + 12, 0);
    cfg_writew(m, msix + 2, 0x8000);
    qtest_writel(m->qts, m->bar2 + VFIO_SIM_REG_DOORBELL, 2);
    for (int i = 0; i < 1000 && !qtest_readl(m->qts, ram()); i++) {
        g_usleep(1000);
    }
    g_assert_cmphex(qtest_readl(m->qts, ram()), ==, 0x55);
    cfg_writew(m, msix + 2, 0);
    cxl_machine_stop(m);
}

/* An iommufd that cannot change its process crashed QEMU 10.2.2 */
static void test_no_change_process(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--fault='" VFIO_CXL_HOST
                          " ioas_change_process errno=25'", "");

    assert_firmware_committed(m, M256);
    cxl_machine_stop(m);
}

int main(int argc, char **argv)
{
    static const VFIOCXLMode iommufd = { "v2-reset", true };

    g_test_init(&argc, &argv, NULL);

    vfio_cxl_add("dma", vfio_cxl_kernels, test_dma);
    vfio_cxl_add("maps-decoder", vfio_cxl_kernels, test_decoder);
    vfio_cxl_add("maps-life", vfio_cxl_kernels, test_life);
    vfio_cxl_add("msix-high-vector", vfio_cxl_kernels, test_msix_high_vector);
    qtest_add_data_func("vfio-cxl/v2-reset/iommufd/no-change-process",
                        &iommufd, test_no_change_process);
    return g_test_run();
}
