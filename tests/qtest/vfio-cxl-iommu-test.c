/*
 * CXL Type-2 devices behind vfio-pci: DMA and its mappings
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "vfio-cxl-maps.h"

/* Check whether this kernel lets this backend map device memory */
static bool maps_memory(gconstpointer data)
{
    return !mode_is_iommufd(data) || mode_since_v5(data);
}

static void test_dma(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "", "");
    uint64_t local = hdm_base(m, 0) + 0x10000;

    qtest_writeq(m->qts, guest_ram(), 0x0123456789abcdef);
    g_assert_cmphex(dma_copy(m, m->bar2, guest_ram(), 0x10000,
                             VFIO_SIM_DMA_DST_LOCAL), ==, VFIO_SIM_DMA_DONE);
    g_assert_cmphex(qtest_readq(m->qts, local), ==, 0x0123456789abcdef);
    qtest_writeq(m->qts, local, 0xfedcba9876543210);
    g_assert_cmphex(dma_copy(m, m->bar2, 0x10000, guest_ram(),
                             VFIO_SIM_DMA_SRC_LOCAL), ==, VFIO_SIM_DMA_DONE);
    g_assert_cmphex(qtest_readq(m->qts, guest_ram()), ==, 0xfedcba9876543210);
    g_assert_true(dma_reaches(m, m->bar2, guest_ram() + 0x2000));
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
    cxl_machine_flr(m);
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
        check(maps, data, at, mode_has_space_gate(data) ? 0 : M256, 0);
        cfg_writew(m, 0x04, 0x6);
        maps->bars = true;
        check(maps, data, at, M256, 0);

        cfg_writew(m, pm + 4, 3);
        /* v5 lets no device leave D0 */
        maps->bars = !(cfg_readw(m, pm + 4) & 3);
        g_assert_true(maps->bars == mode_is_kernel(data, "v5"));
        check(maps, data, at, maps->bars ? M256 : 0, 0);
        cfg_writew(m, pm + 4, 0);
        cxl_machine_enumerate(m);
        maps->bars = true;
        check(maps, data, at, M256, 0);

        function_level_reset(m);
        check(maps, data, at, M256, 0);

        qtest_system_reset(m->qts);
        maps->bars = false;
        /* Firmware has yet to enable Memory Space */
        check(maps, data, at, mode_has_space_gate(data) ? 0 : M256, 0);
        maps->bars = true;
        cxl_machine_enumerate(m);
        g_assert_cmphex(hdm_base(m, 0), ==, at);
    }
    check(maps, data, at, M256, 0);
    g_assert_cmpint(vfio_sim_stat(m->sim, "stale-maps"), ==, 0);
    dma_maps_free(maps);
    cxl_machine_stop(m);
}

/* A failed reset leaves nothing mapped, until one succeeds */
static void test_reset_fails(gconstpointer data)
{
    bool fault = mode_since_v5(data);
    CXLMachine *m = mode_start(data, "", "");
    DMAMaps *maps = dma_maps_new(m, data, 1);
    uint64_t at = hdm_base(m, 0);

    check(maps, data, at, M256, 0);
    qobject_unref(vfio_sim_command(m->sim, fault ?
                                   "fault " VFIO_CXL_HOST " cxl-reset errno=5"
                                   : "set " VFIO_CXL_HOST
                                   " hardware-committed=0"));
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    check(maps, data, at, 0, 0);
    function_level_reset(m);
    check(maps, data, at, 0, 0);
    qobject_unref(vfio_sim_command(m->sim, fault ?
                                   "fault " VFIO_CXL_HOST " clear"
                                   : "set " VFIO_CXL_HOST
                                   " hardware-committed=1"));
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    g_assert_cmphex(hdm_base(m, 0), ==, at);
    check(maps, data, at, M256, 0);
    g_assert_cmpint(vfio_sim_stat(m->sim, "stale-maps"), ==, 0);
    dma_maps_free(maps);
    cxl_machine_stop(m);
}

/*
 * With TCG, harmless memory takes the place of inaccessible memory. It must
 * never be mapped for DMA. A vCPU that does not run is enough.
 */
static void test_scratch(gconstpointer data)
{
    VFIOSim *sim = mode_sim(data, "");
    CXLMachine *m = cxl_machine_start(sim, CXL_BRIDGE CXL_WINDOW
                                      " -accel tcg -S", mode_is_iommufd(data),
                                      ",x-cxl-commit=guest");
    DMAMaps *maps = dma_maps_new(m, data, 1);
    uint64_t at = ROUND_UP(m->window, GiB);

    hdm_enable(m);
    check(maps, data, at, 0, 0);
    for (int i = 0; i < 2; i++) {
        g_assert_true(hdm_commit(m, at, M256));
        check(maps, data, at, M256, 0);
        set_mem_enable(m, false);
        check(maps, data, at, 0, 0);
        set_mem_enable(m, true);
        check(maps, data, at, M256, 0);
        cfg_writew(m, 0x04, 0x4);
        maps->bars = false;
        check(maps, data, at, mode_has_space_gate(data) ? 0 : M256, 0);
        cfg_writew(m, 0x04, 0x6);
        maps->bars = true;
        check(maps, data, at, M256, 0);
        function_level_reset(m);
        check(maps, data, at, M256, 0);
        decommit(m);
        check(maps, data, at, 0, 0);
    }
    g_assert_cmpint(vfio_sim_stat(m->sim, "stale-maps"), ==, 0);
    dma_maps_free(maps);
    cxl_machine_stop(m);
}

/* Open files of vfio-sim's that have no name: iommufd, dma-bufs */
static unsigned descriptors(CXLMachine *m)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", qtest_pid(m->qts));
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    unsigned n = 0;

    g_assert_nonnull(dir);
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *link = g_build_filename(path, name, NULL);
        g_autofree char *file = g_file_read_link(link, NULL);

        n += file && strstr(file, "/fd.");
    }
    g_assert_cmpuint(n, >, 0);
    return n;
}

/*
 * How an IOAS gets the memory: as a dma-buf, or else by address
 */
static void by_address(gconstpointer data, const char *options, bool dma_buf)
{
    g_autofree char *all = g_strdup_printf("--set='" VFIO_CXL_HOST
                                           " pfnmap=1' %s", options);
    CXLMachine *m = mode_start(data, all, ",x-cxl-commit=guest");
    DMAMaps *maps = dma_maps_new(m, data, 1);
    uint64_t at = ROUND_UP(m->window, GiB);
    const CXLMapped memory[] = { { at, M256, 0 }, { } };
    unsigned open = descriptors(m);

    maps->pfnmap = true;
    maps->dma_buf = dma_buf;
    maps->dma_buf_bars &= !strstr(options, "device_feature");
    maps->bars = true;
    dma_maps_check(maps, NULL);
    hdm_enable(m);
    for (int i = 0; i < 2; i++) {
        g_assert_true(hdm_commit(m, at, M256));
        dma_maps_check(maps, memory);
        g_assert_true(dma_reaches(m, m->bar2, at));
        decommit(m);
        dma_maps_check(maps, NULL);
        g_assert_false(dma_reaches(m, m->bar2, at));
        g_assert_cmpuint(descriptors(m), ==, open);
    }
    dma_maps_free(maps);
    cxl_machine_stop(m);
}

static void test_by_address(gconstpointer data)
{
    bool exports = mode_since_v5(data);

    by_address(data, "", exports);
    if (exports) {
        by_address(data, "--fault='" VFIO_CXL_HOST " device_feature errno=25'",
                   false);
    }
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;

    while ((text = strstr(text, what))) {
        text += strlen(what);
        n++;
    }
    return n;
}

/* If the memory cannot be mapped for DMA, the guest still has it */
static void test_no_dma(gconstpointer data)
{
    bool can = maps_memory(data);
    VFIOSim *sim = mode_sim(data, "");
    g_autofree char *log = g_build_filename(sim->dir, "stderr", NULL);
    g_autofree char *options = g_strdup_printf(CXL_BRIDGE CXL_WINDOW " 2>%s",
                                               log);
    CXLMachine *m = cxl_machine_start(sim, options, mode_is_iommufd(data),
                                      ",x-cxl-commit=guest");
    DMAMaps *maps = dma_maps_new(m, data, 1);
    uint64_t at = ROUND_UP(m->window, GiB);
    const CXLMapped memory[] = { { at, M256, 0 }, { } };
    g_autofree char *said = NULL;

    hdm_enable(m);
    for (int i = 0; i < 3; i++) {
        if (can && i < 2) {
            qobject_unref(vfio_sim_command(sim, !mode_is_iommufd(data) ?
                "fault " VFIO_CXL_HOST " map_dma errno=28 count=1" :
                "fault " VFIO_CXL_HOST " ioas_map_file errno=14 count=1"));
        }
        g_assert_true(hdm_commit(m, at, M256));
        dma_maps_check(maps, can && i == 2 ? memory : NULL);
        vfio_sim_poke(sim, 0x1000, 0x1122334455667788 + i);
        g_assert_cmphex(qtest_readq(m->qts, at + 0x1000), ==,
                        0x1122334455667788 + i);
        g_assert_true(dma_reaches(m, m->bar2, at) == (can && i == 2));
        decommit(m);
        dma_maps_check(maps, NULL);
    }
    dma_maps_free(maps);
    g_assert_true(g_file_get_contents(log, &said, NULL, NULL));
    g_assert_cmpuint(count(said, "vfio_container_dma_map("), ==, 1);
    g_assert_cmpuint(count(said, "PCI peer-to-peer transactions"), ==, 1);
    cxl_machine_stop(m);
}

/* Enabling MSI-X with only a high vector unmasked crashed QEMU before 11.0 */
static void test_msix_high_vector(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "", "");
    uint64_t entry = m->bar2 + VFIO_SIM_MSIX_TABLE + 2 * 16;
    unsigned msix = cfg_find_cap(m, 0x11);

    qtest_writel(m->qts, entry, guest_ram());
    qtest_writel(m->qts, entry + 4, 0);
    qtest_writel(m->qts, entry + 8, 0x55);
    qtest_writel(m->qts, entry + 12, 0);
    cfg_writew(m, msix + 2, 0x8000);
    qtest_writel(m->qts, m->bar2 + VFIO_SIM_REG_DOORBELL, 2);
    for (int i = 0; i < 1000 && !qtest_readl(m->qts, guest_ram()); i++) {
        g_usleep(1000);
    }
    g_assert_cmphex(qtest_readl(m->qts, guest_ram()), ==, 0x55);
    cfg_writew(m, msix + 2, 0);
    cxl_machine_stop(m);
}

/* An iommufd that cannot change its process crashed QEMU before 11.0 */
static void test_no_change_process(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--fault='" VFIO_CXL_HOST
                          " ioas_change_process errno=25'", "");

    assert_firmware_committed(m, M256);
    cxl_machine_stop(m);
}

/* Management software opens the files, and QEMU gets only descriptors */
static void test_descriptors(gconstpointer data)
{
    CXLMachine *m = cxl_machine_start_empty(mode_sim(data, ""),
        CXL_BRIDGE CXL_WINDOW " -object iommufd,id=iommufd0,fd=8 "
        "-device vfio-pci,id=dev0,fd=9,iommufd=iommufd0,bus=rp0 "
        "8<>/dev/iommu 9<>/dev/vfio/devices/vfio0");
    DMAMaps *maps;
    uint64_t at;

    cxl_machine_find(m);
    maps = dma_maps_new(m, data, 1);
    assert_firmware_committed(m, M256);
    at = hdm_base(m, 0);
    check(maps, data, at, M256, 0);
    function_level_reset(m);
    check(maps, data, at, M256, 0);
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    assert_firmware_committed(m, M256);
    check(maps, data, at, M256, 0);
    dma_maps_free(maps);
    cxl_machine_stop(m);
}

int main(int argc, char **argv)
{
    g_autofree const char **tested = NULL;

    vfio_cxl_test_init(&argc, &argv);
    tested = vfio_cxl_tested(vfio_cxl_kernels);

    vfio_cxl_add("dma", vfio_cxl_kernels, test_dma);
    vfio_cxl_add("maps-decoder", vfio_cxl_kernels, test_decoder);
    vfio_cxl_add("maps-life", vfio_cxl_kernels, test_life);
    vfio_cxl_add("maps-reset-fails", vfio_cxl_kernels_rereading,
                 test_reset_fails);
    vfio_cxl_add("maps-scratch", vfio_cxl_kernels, test_scratch);
    vfio_cxl_add("no-dma", vfio_cxl_kernels, test_no_dma);
    for (int i = 0; tested[i]; i++) {
        vfio_cxl_add_mode("by-address", tested[i], true, test_by_address);
    }
    vfio_cxl_add("msix-high-vector", vfio_cxl_kernels, test_msix_high_vector);
    vfio_cxl_add_mode("no-change-process", "v6", true, test_no_change_process);
    vfio_cxl_add_mode("descriptors", "v6", true, test_descriptors);
    if (vfio_cxl_reads("v2")) {
        vfio_cxl_add_mode("descriptors", "v2-reset", true, test_descriptors);
    }
    return g_test_run();
}
