/*
 * CXL Type-2 devices behind vfio-pci: DMA and interrupts
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "vfio-cxl-helpers.h"

/*
 * The accelerator at work: DMA and interrupts
 */
static void dma(CXLMachine *m, uint64_t src, uint64_t dst, uint32_t flags)
{
    uint64_t regs = m->bar2;

    qtest_writeq(m->qts, regs + VFIO_SIM_REG_DMA_SRC, src);
    qtest_writeq(m->qts, regs + VFIO_SIM_REG_DMA_DST, dst);
    qtest_writel(m->qts, regs + VFIO_SIM_REG_DMA_LEN, 64);
    qtest_writel(m->qts, regs + VFIO_SIM_REG_DMA_CTRL,
                 VFIO_SIM_DMA_START | flags);
}

static void test_dma(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "", "");
    uint64_t ram = strcmp(qtest_get_arch(), "aarch64") ? 0x100000 : 0x40100000;
    uint64_t status = m->bar2 + VFIO_SIM_REG_DMA_STATUS;

    qtest_writeq(m->qts, ram, 0x0123456789abcdef);
    dma(m, ram, 0x10000, VFIO_SIM_DMA_DST_LOCAL);
    g_assert_cmphex(qtest_readl(m->qts, status), ==, VFIO_SIM_DMA_DONE);
    g_assert_cmphex(qtest_readq(m->qts, hdm_base(m, 0) + 0x10000), ==,
                    0x0123456789abcdef);
    qtest_writeq(m->qts, hdm_base(m, 0) + 0x10000, 0xfedcba9876543210);
    dma(m, 0x10000, ram, VFIO_SIM_DMA_SRC_LOCAL);
    g_assert_cmphex(qtest_readl(m->qts, status), ==, VFIO_SIM_DMA_DONE);
    g_assert_cmphex(qtest_readq(m->qts, ram), ==, 0xfedcba9876543210);
    dma(m, 0x7ffffff0000, ram, 0);
    g_assert_cmphex(qtest_readl(m->qts, status), ==, VFIO_SIM_DMA_FAULT);
    cxl_machine_stop(m);
}

/* Enabling MSI-X with only a high vector unmasked crashed QEMU 10.2.2 */
static void test_msix_high_vector(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "", "");
    uint64_t entry = m->bar2 + VFIO_SIM_MSIX_TABLE + 2 * 16;
    unsigned msix = cfg_find_cap(m, 0x11);
    uint64_t ram = strcmp(qtest_get_arch(), "aarch64") ? 0x100000 : 0x40100000;

    qtest_writel(m->qts, entry, ram);
    qtest_writel(m->qts, entry + 4, 0);
    qtest_writel(m->qts, entry + 8, 0x55);
    qtest_writel(m->qts, entry + 12, 0);
    cfg_writew(m, msix + 2, 0x8000);
    qtest_writel(m->qts, m->bar2 + VFIO_SIM_REG_DOORBELL, 2);
    for (int i = 0; i < 1000 && !qtest_readl(m->qts, ram); i++) {
        g_usleep(1000);
    }
    g_assert_cmphex(qtest_readl(m->qts, ram), ==, 0x55);
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
    vfio_cxl_add("msix-high-vector", vfio_cxl_kernels, test_msix_high_vector);
    qtest_add_data_func("vfio-cxl/v2-reset/iommufd/no-change-process",
                        &iommufd, test_no_change_process);
    return g_test_run();
}
