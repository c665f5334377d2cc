/*
 * CXL Type-2 devices behind vfio-pci: behind a virtual IOMMU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "standard-headers/linux/virtio_iommu.h"
#include "standard-headers/linux/virtio_ring.h"
#include "vfio-cxl-maps.h"
#include "vfio-cxl-slot.h"

#define VIOMMU " -device intel-iommu,caching-mode=on"

/* Registers and tables of VT-d in legacy mode */
#define VTD                 0xfed90000ull
#define VTD_GCMD            0x18
#define VTD_GSTS            0x1c
#define VTD_RTADDR          0x20
#define VTD_CCMD            0x28
#define VTD_IOTLB           0xf8
#define VTD_GCMD_TE         (1u << 31)
#define VTD_GCMD_SRTP       (1u << 30)
#define VTD_CCMD_ALL        (1ull << 63 | 1ull << 61)
#define VTD_IOTLB_ALL       (1ull << 63 | 1ull << 60)

#define ROOT_TABLE          0x200000
#define CONTEXT_TABLE       0x201000
#define PAGES_1G            0x202000    /* the first 512 GiB */
#define PAGES_2M            0x203000    /* the first GiB of them */
#define MORE_PAGES_2M       0x204000
#define DEVICE_BUS          0x0d        /* the device is 0d:00.0 */
#define PRESENT             1ull
#define RW                  3ull
#define LARGE_PAGE          (1ull << 7)
#define WIDTH_39            1ull
#define DOMAIN(n)           ((n) << 8)

/* I/O virtual addresses of RAM and of device memory */
#define RAM_IOVA            0x200000
#define RAM_GPA             0x600000
#define MEM_IOVA            (4 * GiB)

static void flush(CXLMachine *m)
{
    qtest_writeq(m->qts, VTD + VTD_CCMD, VTD_CCMD_ALL);
    qtest_writeq(m->qts, VTD + VTD_IOTLB, VTD_IOTLB_ALL);
}

/* @iova leads to @gpa, for 1 GiB; to nothing without @present */
static void set_page(CXLMachine *m, uint64_t iova, uint64_t gpa, bool present)
{
    qtest_writeq(m->qts, PAGES_1G + iova / GiB * 8,
                 present ? gpa | LARGE_PAGE | RW : 0);
    flush(m);
}

static void enable_translation(CXLMachine *m, bool on)
{
    qtest_memset(m->qts, ROOT_TABLE, 0, 0x4000);
    qtest_writeq(m->qts, ROOT_TABLE + DEVICE_BUS * 16,
                 CONTEXT_TABLE | PRESENT);
    qtest_writeq(m->qts, CONTEXT_TABLE, PAGES_1G | PRESENT);
    qtest_writeq(m->qts, CONTEXT_TABLE + 8, WIDTH_39 | DOMAIN(1));
    qtest_writeq(m->qts, PAGES_1G, PAGES_2M | RW);
    qtest_writeq(m->qts, PAGES_2M + RAM_IOVA / (2 * MiB) * 8,
                 RAM_GPA | LARGE_PAGE | RW);
    qtest_writeq(m->qts, VTD + VTD_RTADDR, ROOT_TABLE);
    qtest_writel(m->qts, VTD + VTD_GCMD, VTD_GCMD_SRTP);
    flush(m);
    qtest_writel(m->qts, VTD + VTD_GCMD, on ? VTD_GCMD_TE : 0);
    g_assert_true(!(qtest_readl(m->qts, VTD + VTD_GSTS) & VTD_GCMD_TE) == !on);
}

static bool maps_memory(gconstpointer data)
{
    return !mode_is_iommufd(data) || mode_since_v5(data);
}

/* Without translation it behaves as without a virtual IOMMU */
static void test_off(gconstpointer data)
{
    CXLMachine *m = cxl_machine_start(mode_sim(data, ""), VIOMMU CXL_BRIDGE
                                      CXL_WINDOW, mode_is_iommufd(data), "");
    DMAMaps *maps = dma_maps_new(m, data, 1);
    uint64_t at = hdm_base(m, 0);
    const CXLMapped memory[] = { { at, M256, 0 }, { } };

    for (int i = 0; i < 2; i++) {
        dma_maps_check(maps, memory);
        g_assert_true(dma_reaches(m, m->bar2, at) == maps_memory(data));
        cfg_writew(m, 0x04, 0x4);
        maps->bars = false;
        dma_maps_check(maps, mode_has_space_gate(data) ? NULL : memory);
        cfg_writew(m, 0x04, 0x6);
        maps->bars = true;
        dma_maps_check(maps, memory);
        g_assert_true(dma_reaches(m, m->bar2, at) == maps_memory(data));
        /* A guest that enables it and disables it again */
        enable_translation(m, true);
        enable_translation(m, false);
    }
    g_assert_cmpint(vfio_sim_stat(m->sim, "stale-maps"), ==, 0);
    dma_maps_free(maps);
    cxl_machine_stop(m);
}

/* Check whether @iova leads the device to the memory at @gpa */
static bool leads(CXLMachine *m, uint64_t iova, uint64_t gpa)
{
    uint64_t value = (uint64_t)g_test_rand_int() << 32 |
                     (uint32_t)g_test_rand_int();

    qtest_writeq(m->qts, RAM_GPA, value);
    if (dma_copy(m, m->bar2, RAM_IOVA, iova, 0) != VFIO_SIM_DMA_DONE) {
        g_assert_cmphex(qtest_readq(m->qts, m->bar2 +
                                    VFIO_SIM_REG_DMA_FAULT_ADDR), ==, iova);
        return false;
    }
    g_assert_cmphex(qtest_readq(m->qts, gpa), ==, value);
    return true;
}

static bool reaches(CXLMachine *m, uint64_t gpa)
{
    return leads(m, MEM_IOVA + 0x1000, gpa + 0x1000);
}

/* A guest may map missing memory again and again */
static void test_flood(gconstpointer data)
{
    VFIOSim *sim = mode_sim(data, "");
    g_autofree char *log = g_build_filename(sim->dir, "log", NULL);
    g_autofree char *options = g_strdup_printf(VIOMMU CXL_BRIDGE CXL_WINDOW
                                               " 2>%s", log);
    CXLMachine *m = cxl_machine_start(sim, options, mode_is_iommufd(data),
                                      ",x-cxl-commit=guest");
    g_autofree char *said = NULL;
    char *first;

    enable_translation(m, true);
    for (int i = 0; i < 50; i++) {
        set_page(m, MEM_IOVA + (i % 8) * GiB, ROUND_UP(m->window, GiB),
                 i % 16 < 8);
    }
    g_assert_true(g_file_get_contents(log, &said, NULL, NULL));
    first = strstr(said, "iommu map to non memory area");
    g_assert_nonnull(first);
    g_assert_null(strstr(first + 1, "iommu map to non memory area"));
    cxl_machine_stop(m);
}

/*
 * The guest's I/O virtual addresses lead to device memory while that is in
 * the guest's map, without the guest doing anything
 */
static void test_on(gconstpointer data)
{
    CXLMachine *m = cxl_machine_start(mode_sim(data, "--memory=1G"), VIOMMU
                                      CXL_BRIDGE CXL_WINDOW,
                                      mode_is_iommufd(data),
                                      ",x-cxl-commit=guest");
    uint64_t at = ROUND_UP(m->window, GiB);
    bool can = maps_memory(data);
    unsigned pm = cfg_find_cap(m, 0x01);

    hdm_enable(m);
    g_assert_true(hdm_commit(m, at, GiB));
    enable_translation(m, true);
    g_assert_false(reaches(m, at));
    set_page(m, MEM_IOVA, at, true);
    for (int i = 0; i < 2; i++) {
        g_assert_true(reaches(m, at) == can);
        /* Not by guest physical address any more */
        g_assert_cmphex(dma_copy(m, m->bar2, at, RAM_IOVA, 0), ==,
                        VFIO_SIM_DMA_FAULT);

        cfg_writew(m, 0x04, 0x4);
        cfg_writew(m, 0x04, 0x6);
        g_assert_true(reaches(m, at) == can);
        cfg_writew(m, pm + 4, 3);
        cfg_writew(m, pm + 4, 0);
        cxl_machine_enumerate(m);
        g_assert_true(reaches(m, at) == can);

        hdm_write(m, HDM_CTRL(0), 0);
        g_assert_false(reaches(m, at));
        /* It is elsewhere, and with half of it there again */
        g_assert_true(hdm_commit(m, at + GiB, GiB));
        g_assert_false(reaches(m, at));
        hdm_write(m, HDM_CTRL(0), 0);
        g_assert_true(hdm_commit(m, at, GiB / 2));
        g_assert_false(reaches(m, at));
        hdm_write(m, HDM_CTRL(0), 0);
        g_assert_true(hdm_commit(m, at, GiB));
        g_assert_true(reaches(m, at) == can);
    }
    /* Mappings that the guest has removed do not come back */
    set_page(m, MEM_IOVA, 0, false);
    g_assert_false(reaches(m, at));
    hdm_write(m, HDM_CTRL(0), 0);
    g_assert_true(hdm_commit(m, at, GiB));
    g_assert_false(reaches(m, at));
    set_page(m, MEM_IOVA, at, true);
    hdm_write(m, HDM_CTRL(0), 0);
    set_page(m, MEM_IOVA, 0, false);
    g_assert_true(hdm_commit(m, at, GiB));
    g_assert_false(reaches(m, at));
    g_assert_cmpint(vfio_sim_stat(m->sim, "stale-maps"), ==, 0);
    cxl_machine_stop(m);
}

static CXLMachine *start_on(gconstpointer data, uint64_t *at)
{
    CXLMachine *m = cxl_machine_start(mode_sim(data, "--memory=1G"), VIOMMU
                                      CXL_BRIDGE CXL_WINDOW,
                                      mode_is_iommufd(data),
                                      ",x-cxl-commit=guest");

    *at = ROUND_UP(m->window, GiB);
    hdm_enable(m);
    g_assert_true(hdm_commit(m, *at, GiB));
    enable_translation(m, true);
    set_page(m, MEM_IOVA, *at, true);
    g_assert_true(reaches(m, *at) == maps_memory(data));
    return m;
}

/* The guest keeps @kept 2 MiB pages of a page of 1 GiB, from the one @first */
static void split_page(CXLMachine *m, uint64_t at, unsigned first,
                       unsigned kept)
{
    qtest_memset(m->qts, MORE_PAGES_2M, 0, 0x1000);
    for (unsigned i = first; i < first + kept; i++) {
        qtest_writeq(m->qts, MORE_PAGES_2M + i * 8,
                     (at + i * 2 * MiB) | LARGE_PAGE | RW);
    }
    qtest_writeq(m->qts, PAGES_1G + MEM_IOVA / GiB * 8, MORE_PAGES_2M | RW);
    /* With that of the context cache QEMU would unmap everything at first */
    qtest_writeq(m->qts, VTD + VTD_IOTLB, VTD_IOTLB_ALL);
}

static void test_part(gconstpointer data)
{
    bool can = maps_memory(data);
    uint64_t at;
    CXLMachine *m = start_on(data, &at);

    for (unsigned first = 0; first < 3; first++) {
        split_page(m, at, first, 2);
        for (int i = 0; i < 2; i++) {
            for (unsigned page = 0; page < 5; page++) {
                bool kept = page >= first && page < first + 2;
                uint64_t offset = page * 2 * MiB + 0x1000;

                g_assert_true(leads(m, MEM_IOVA + offset, at + offset) ==
                              (kept && can));
            }
            hdm_write(m, HDM_CTRL(0), 0);
            g_assert_false(leads(m, MEM_IOVA + first * 2 * MiB, at));
            g_assert_true(hdm_commit(m, at, GiB));
        }
        set_page(m, MEM_IOVA, at, true);
        g_assert_true(reaches(m, at) == can);
    }
    /* Removed in part while the memory is unavailable */
    hdm_write(m, HDM_CTRL(0), 0);
    split_page(m, at, 1, 0);
    g_assert_true(hdm_commit(m, at, GiB));
    g_assert_false(reaches(m, at));
    g_assert_cmpint(vfio_sim_stat(m->sim, "stale-maps"), ==, 0);
    cxl_machine_stop(m);
}

/* A mapping that the kernel does not remove at first is removed later */
static void test_unmap_fails(gconstpointer data)
{
    g_autofree char *fault = g_strdup_printf("fault " VFIO_CXL_HOST
        " %s errno=5 count=1",
        mode_is_iommufd(data) ? "ioas_unmap" : "iommu_unmap_dma");
    bool can = maps_memory(data);
    uint64_t at;
    CXLMachine *m = start_on(data, &at);

    for (int i = 0; i < 3; i++) {
        qobject_unref(vfio_sim_command(m->sim, fault));
        hdm_write(m, HDM_CTRL(0), 0);
        g_assert_true(hdm_commit(m, at, GiB));
        g_assert_true(reaches(m, at) == can);
        qobject_unref(vfio_sim_command(m->sim, "fault " VFIO_CXL_HOST
                                       " clear"));
        hdm_write(m, HDM_CTRL(0), 0);
        g_assert_false(reaches(m, at));
        g_assert_true(hdm_commit(m, at, GiB));
        g_assert_true(reaches(m, at) == can);
    }
    cxl_machine_stop(m);
}

/* The range of interrupts divides pages of 1 GiB */
#define DIVIDED             (3 * GiB)
#define INTERRUPTS_END      0xfef00000ull

static void test_divided(gconstpointer data)
{
    uint64_t at, rest = INTERRUPTS_END - DIVIDED;
    bool can = maps_memory(data);
    CXLMachine *m = start_on(data, &at);

    set_page(m, DIVIDED, at, true);
    for (int i = 0; i < 2; i++) {
        g_assert_true(leads(m, DIVIDED + 0x1000, at + 0x1000) == can);
        g_assert_true(leads(m, INTERRUPTS_END + 0x1000, at + rest + 0x1000) ==
                      can);
        hdm_write(m, HDM_CTRL(0), 0);
        g_assert_false(leads(m, DIVIDED + 0x1000, at));
        g_assert_false(leads(m, INTERRUPTS_END + 0x1000, at));
        g_assert_true(hdm_commit(m, at, GiB));
    }
    set_page(m, DIVIDED, at, false);
    g_assert_false(leads(m, DIVIDED + 0x1000, at));
    g_assert_false(leads(m, INTERRUPTS_END + 0x1000, at));
    g_assert_cmpint(vfio_sim_stat(m->sim, "stale-maps"), ==, 0);
    cxl_machine_stop(m);
}

#define BAR_SLOT            0x12
#define BAR_GPA             (256 * GiB)

/* Such a page that is longer than the memory at its beginning is not mapped */
static void test_short(gconstpointer data)
{
    VFIOSim *sim = mode_sim(data, "");
    g_autofree char *log = g_build_filename(sim->dir, "log", NULL);
    g_autofree char *options = g_strdup_printf(VIOMMU CXL_BRIDGE CXL_WINDOW
        " -device pci-testdev,membar=16M,membar-backed=on,bus=pcie.0,addr=0x12"
        " 2>%s", log);
    CXLMachine *m = cxl_machine_start(sim, options, mode_is_iommufd(data),
                                      ",x-cxl-commit=guest");
    uint64_t config = m->ecam + (BAR_SLOT << 15);
    g_autofree char *said = NULL;

    qtest_writel(m->qts, config + 0x18, 0);
    qtest_writel(m->qts, config + 0x1c, BAR_GPA >> 32);
    qtest_writew(m->qts, config + 0x04, 0x2);
    qtest_writel(m->qts, BAR_GPA, 0x12345678);
    g_assert_cmphex(qtest_readl(m->qts, BAR_GPA), ==, 0x12345678);
    enable_translation(m, true);
    set_page(m, DIVIDED, BAR_GPA, true);
    g_assert_false(leads(m, DIVIDED, BAR_GPA));
    g_assert_true(g_file_get_contents(log, &said, NULL, NULL));
    g_assert_null(strstr(said, "0xc0000000, 0x3ee00000"));
    cxl_machine_stop(m);
}

/* A reset ends translation, and earlier mappings do not come back */
static void test_reset(gconstpointer data)
{
    bool can = maps_memory(data);
    uint64_t at;
    CXLMachine *m = start_on(data, &at);

    for (int i = 0; i < 2; i++) {
        qtest_system_reset(m->qts);
        g_assert_true(!(qtest_readl(m->qts, VTD + VTD_GSTS) & VTD_GCMD_TE));
        cxl_machine_enumerate(m);
        hdm_enable(m);
        g_assert_true(hdm_commit(m, at, GiB));
        g_assert_true(dma_reaches(m, m->bar2, at) == can);
        g_assert_cmphex(dma_copy(m, m->bar2, MEM_IOVA, guest_ram(), 0), ==,
                        VFIO_SIM_DMA_FAULT);
        enable_translation(m, true);
        g_assert_false(reaches(m, at));
        hdm_write(m, HDM_CTRL(0), 0);
        g_assert_true(hdm_commit(m, at, GiB));
        g_assert_false(reaches(m, at));
        set_page(m, MEM_IOVA, at, true);
        g_assert_true(reaches(m, at) == can);
    }
    g_assert_cmpint(vfio_sim_stat(m->sim, "stale-maps"), ==, 0);
    cxl_machine_stop(m);
}

#define PEER_SLOT           0x10
#define PEER                " -device vfio-pci,host=0000:c2:00.0,bus=pcie.0" \
                            ",addr=0x10"

/* A second device in the same domain; returns where its registers are */
static uint64_t add_peer(CXLMachine *m)
{
    uint64_t config = m->ecam + (PEER_SLOT << 15);
    uint64_t context = CONTEXT_TABLE + (PEER_SLOT << 3) * 16;
    uint64_t regs = m->bar0 + 4 * MiB;

    qtest_writel(m->qts, config + 0x18, regs);
    qtest_writel(m->qts, config + 0x1c, 0);
    qtest_writew(m->qts, config + 0x04, 0x6);
    qtest_writeq(m->qts, ROOT_TABLE, CONTEXT_TABLE | PRESENT);
    qtest_writeq(m->qts, context, PAGES_1G | PRESENT);
    qtest_writeq(m->qts, context + 8, WIDTH_39 | DOMAIN(1));
    flush(m);
    return regs;
}

static bool peer_reaches(CXLMachine *m, uint64_t regs)
{
    return dma_copy(m, regs, RAM_IOVA, MEM_IOVA + 0x1000, 0) ==
           VFIO_SIM_DMA_DONE;
}

/* The memory is removed with the device, including all mappings of it */
static void test_unplug(gconstpointer data)
{
    bool can = maps_memory(data), iommufd = mode_is_iommufd(data);
    g_autofree char *options = g_strdup_printf(VIOMMU CXL_BRIDGE CXL_WINDOW
        "%s" PEER "%s", iommufd ? " -object iommufd,id=iommufd0" : "",
        iommufd ? ",iommufd=iommufd0" : "");
    CXLMachine *m = cxl_machine_start_empty(mode_sim(data, "--memory=1G "
                                                     "--devices=2"), options);
    uint64_t at = ROUND_UP(m->window, GiB), peer = 0;

    cxl_machine_enumerate(m);
    for (int i = 0; i < 3; i++) {
        device_plug(m, data, VFIO_CXL_HOST, ", 'x-cxl-commit': 'guest'");
        hdm_enable(m);
        g_assert_true(hdm_commit(m, at, GiB));
        if (!peer) {
            enable_translation(m, true);
            peer = add_peer(m);
        }
        g_assert_cmphex(dma_copy(m, peer, RAM_IOVA, RAM_IOVA + 0x1000, 0), ==,
                        VFIO_SIM_DMA_DONE);
        g_assert_false(reaches(m, at));
        g_assert_false(peer_reaches(m, peer));
        set_page(m, MEM_IOVA, at, true);
        g_assert_true(reaches(m, at) == can);
        g_assert_true(peer_reaches(m, peer) == can);
        device_unplug(m);
        g_assert_false(peer_reaches(m, peer));
        set_page(m, MEM_IOVA, 0, false);
        g_assert_false(peer_reaches(m, peer));
    }
    g_assert_cmpint(vfio_sim_stat(m->sim, "stale-maps"), ==, 0);
    cxl_machine_stop(m);
}

#define VIRTIO_SLOT         0x11
#define VIRTIO              " -device virtio-iommu-pci,bus=pcie.0,addr=0x11," \
                            "disable-legacy=on"
#define QUEUE               0x210000    /* with one request at a time */
#define REQUEST             0x214000
#define TAIL                0x215000
#define DEVICE_ENDPOINT     (DEVICE_BUS << 8)
#define PEER_ENDPOINT       (PEER_SLOT << 3)

typedef struct VirtIOMMU {
    CXLMachine *m;
    uint64_t regs;
    uint16_t requests;
} VirtIOMMU;

static VirtIOMMU virtio_start(CXLMachine *m)
{
    VirtIOMMU v = { .m = m, .regs = m->bar0 + 5 * MiB };
    uint64_t config = m->ecam + (VIRTIO_SLOT << 15);
    QTestState *qts = m->qts;

    qtest_writel(qts, config + 0x20, v.regs);           /* BAR 4 */
    qtest_writel(qts, config + 0x24, v.regs >> 32);
    qtest_writew(qts, config + 0x04, 0x6);

    qtest_writeb(qts, v.regs + 0x14, 0x3);              /* DRIVER */
    qtest_writel(qts, v.regs + 0x08, 1);
    qtest_writel(qts, v.regs + 0x0c, 1);                /* VERSION_1 */
    qtest_writeb(qts, v.regs + 0x14, 0xb);              /* FEATURES_OK */
    qtest_writew(qts, v.regs + 0x16, 0);                /* queue 0 */
    for (int i = 0; i < 3; i++) {
        qtest_writel(qts, v.regs + 0x20 + 8 * i, QUEUE + 0x1000 * i);
        qtest_writel(qts, v.regs + 0x24 + 8 * i, 0);
    }
    qtest_memset(qts, QUEUE, 0, 0x3000);
    qtest_writew(qts, v.regs + 0x1c, 1);
    qtest_writeb(qts, v.regs + 0x14, 0xf);              /* DRIVER_OK */
    g_assert_cmphex(qtest_readb(qts, v.regs + 0x14), ==, 0xf);
    return v;
}

/* Make a request, whose tail the device writes */
static void virtio_request(VirtIOMMU *v, const void *request, size_t size)
{
    QTestState *qts = v->m->qts;
    size_t length = size - sizeof(struct virtio_iommu_req_tail);

    qtest_memwrite(qts, REQUEST, request, length);
    qtest_writel(qts, TAIL, ~0u);
    qtest_writeq(qts, QUEUE, REQUEST);
    qtest_writel(qts, QUEUE + 8, length);
    qtest_writew(qts, QUEUE + 12, VRING_DESC_F_NEXT);
    qtest_writew(qts, QUEUE + 14, 1);
    qtest_writeq(qts, QUEUE + 16, TAIL);
    qtest_writel(qts, QUEUE + 24, sizeof(struct virtio_iommu_req_tail));
    qtest_writew(qts, QUEUE + 28, VRING_DESC_F_WRITE);
    qtest_writew(qts, QUEUE + 0x1002, ++v->requests);
    qtest_writew(qts, v->regs + 0x3000, 0);             /* notify */
    for (int i = 0; qtest_readw(qts, QUEUE + 0x2002) != v->requests; i++) {
        g_assert_cmpint(i, <, 10000);
        g_usleep(1000);
    }
    g_assert_cmpint(qtest_readb(qts, TAIL), ==, VIRTIO_IOMMU_S_OK);
}

static void virtio_attach(VirtIOMMU *v, unsigned endpoint)
{
    struct virtio_iommu_req_attach request = {
        .head.type = VIRTIO_IOMMU_T_ATTACH,
        .domain = cpu_to_le32(1),
        .endpoint = cpu_to_le32(endpoint),
    };

    virtio_request(v, &request, sizeof(request));
}

static void virtio_map(VirtIOMMU *v, uint64_t iova, uint64_t gpa, uint64_t size)
{
    struct virtio_iommu_req_map request = {
        .head.type = VIRTIO_IOMMU_T_MAP,
        .domain = cpu_to_le32(1),
        .virt_start = cpu_to_le64(iova),
        .virt_end = cpu_to_le64(iova + size - 1),
        .phys_start = cpu_to_le64(gpa),
        .flags = cpu_to_le32(VIRTIO_IOMMU_MAP_F_READ |
                             VIRTIO_IOMMU_MAP_F_WRITE),
    };

    virtio_request(v, &request, sizeof(request));
}

static void virtio_unmap(VirtIOMMU *v, uint64_t iova, uint64_t size)
{
    struct virtio_iommu_req_unmap request = {
        .head.type = VIRTIO_IOMMU_T_UNMAP,
        .domain = cpu_to_le32(1),
        .virt_start = cpu_to_le64(iova),
        .virt_end = cpu_to_le64(iova + size - 1),
    };

    virtio_request(v, &request, sizeof(request));
}

/*
 * A device that is attached to a domain with mappings. virtio-iommu maps them
 * twice then.
 */
static void test_virtio(gconstpointer data)
{
    bool can = maps_memory(data);
    g_autofree char *options = g_strdup_printf(
        VIRTIO CXL_BRIDGE CXL_WINDOW PEER "%s",
        mode_is_iommufd(data) ? ",iommufd=iommufd0" : "");
    CXLMachine *m = cxl_machine_start(
        mode_sim(data, "--memory=1G --devices=2"), options,
        mode_is_iommufd(data), ",x-cxl-commit=guest");
    uint64_t at = ROUND_UP(m->window, GiB), peer = m->bar0 + 4 * MiB;
    uint64_t config = m->ecam + (PEER_SLOT << 15);
    VirtIOMMU v = virtio_start(m);

    qtest_writel(m->qts, config + 0x18, peer);
    qtest_writel(m->qts, config + 0x1c, peer >> 32);
    qtest_writew(m->qts, config + 0x04, 0x6);
    hdm_enable(m);
    g_assert_true(hdm_commit(m, at, GiB));

    virtio_attach(&v, PEER_ENDPOINT);
    virtio_map(&v, RAM_IOVA, RAM_GPA, 2 * MiB);
    virtio_map(&v, MEM_IOVA, at, GiB);
    virtio_attach(&v, DEVICE_ENDPOINT);
    for (int i = 0; i < 3; i++) {
        g_assert_true(reaches(m, at) == can);
        g_assert_true(peer_reaches(m, peer) == can);
        hdm_write(m, HDM_CTRL(0), 0);
        g_assert_false(reaches(m, at));
        g_assert_false(peer_reaches(m, peer));
        g_assert_true(hdm_commit(m, at, GiB));
    }
    /* While the memory is unavailable, too */
    hdm_write(m, HDM_CTRL(0), 0);
    virtio_attach(&v, DEVICE_ENDPOINT);
    g_assert_false(reaches(m, at));
    g_assert_true(hdm_commit(m, at, GiB));
    g_assert_true(reaches(m, at) == can);
    virtio_unmap(&v, MEM_IOVA, GiB);
    g_assert_false(reaches(m, at));
    g_assert_false(peer_reaches(m, peer));
    hdm_write(m, HDM_CTRL(0), 0);
    g_assert_true(hdm_commit(m, at, GiB));
    g_assert_false(reaches(m, at));
    g_assert_cmpint(vfio_sim_stat(m->sim, "stale-maps"), ==, 0);
    cxl_machine_stop(m);
}

/* First-stage tables of the guest's need a host that walks them */
static void test_nested(gconstpointer data)
{
    mode_refused(data, "", " -device intel-iommu,scalable-mode=on,fsts=on,"
                 "caching-mode=on" CXL_BRIDGE CXL_WINDOW, ",bus=rp0",
                 mode_is_iommufd(data) ? "Failed to allocate hwpt"
                                       : "Need IOMMUFD backend when fsts=on");
}

/* This release's SMMUv3 cannot tell VFIO what a guest maps */
static void test_smmuv3(gconstpointer data)
{
    mode_refused(data, "", CXL_BRIDGE CXL_WINDOW " -M iommu=smmuv3",
                 ",bus=rp0", "requires iommu MAP notifier which is not "
                 "currently supported");
}

int main(int argc, char **argv)
{
    static const char *const two_kernels[] = { "v6", "v2-reset", NULL };
    static const char *const gates[] = { "v6", "v5", "v2-reset", NULL };

    vfio_cxl_test_init(&argc, &argv);

    if (strcmp(qtest_get_arch(), "aarch64")) {
        vfio_cxl_add_here("translation-off", vfio_cxl_kernels, test_off);
        vfio_cxl_add_here("translation-on", vfio_cxl_kernels, test_on);
        vfio_cxl_add_here("part", two_kernels, test_part);
        vfio_cxl_add_here("reset", gates, test_reset);
        vfio_cxl_add_here("unplug", two_kernels, test_unplug);
        vfio_cxl_add_here("unmap-fails", two_kernels, test_unmap_fails);
        vfio_cxl_add_here("divided", two_kernels, test_divided);
        vfio_cxl_add_here("short", two_kernels, test_short);
        vfio_cxl_add_here("virtio", two_kernels, test_virtio);
        vfio_cxl_add_here("flood", two_kernels, test_flood);
        vfio_cxl_add_here("nested", two_kernels, test_nested);
    } else {
        vfio_cxl_add_here("smmuv3", vfio_cxl_kernels_v2, test_smmuv3);
    }
    return g_test_run();
}
