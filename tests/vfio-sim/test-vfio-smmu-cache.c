/*
 * Test of the kernel's interface to an SMMUv3: caches and their invalidation
 *
 * Whatever is changed in memory has no effect before the right command.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/ioctl.h>

#include "test-vfio-smmu.h"

#define ONE         0x11111111
#define TWO         0x22222222
#define ATS         VFIO_SIM_DMA_ATS

/* Point a page elsewhere, which must not be noticed */
static void move(Space *s, uint64_t iova, unsigned to)
{
    uint64_t before = dma_read(&s->d, iova, 0);

    map_page(&s->table, iova, s->page[to], 12, PTE_RW);
    g_assert_cmphex(dma_read(&s->d, iova, 0), ==, before);
}

static void test_stale(void)
{
    Space s;
    uint64_t *pte;

    open_space(&s, 0);
    map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
    move(&s, 0x1000, 1);
    command(&s.d, TLBI_VA(1), 0x1000);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, TWO);
    move(&s, 0x1000, 0);
    command(&s.d, TLBI_ASID(1), 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
    move(&s, 0x1000, 1);
    command(&s.d, TLBI_ALL, 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, TWO);
    move(&s, 0x1000, 0);
    command(&s.d, TLBI_NSNH, 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
    move(&s, 0x1000, 1);
    command(&s.d, TLBI_VAA, 0x1000);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, TWO);
    /* The guest's VMID is put in place of whatever it says */
    move(&s, 0x1000, 0);
    command(&s.d, TLBI_VA(1) | 77ull << 32, 0x1000 | 1);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);

    /* What is taken away is still there; what is new is found at once */
    pte = map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW);
    *pte = 0;
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
    command(&s.d, TLBI_VA(1), 0x1000);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, FAULT);
    map_page(&s.table, 0x1000, s.page[1], 12, PTE_RW);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, TWO);
    /* So are rights */
    map_page(&s.table, 0x2000, s.page[0], 12, PTE_RW | PTE_RO);
    g_assert_cmphex(dma_read(&s.d, 0x2000, 0), ==, ONE);
    map_page(&s.table, 0x2000, s.page[0], 12, PTE_RW);
    g_assert_cmpuint(dma_write(&s.d, 0x2000, ONE, 0), ==, VFIO_SIM_DMA_FAULT);
    command(&s.d, TLBI_VA(1), 0x2000);
    g_assert_cmpuint(dma_write(&s.d, 0x2000, ONE, 0), ==, VFIO_SIM_DMA_DONE);
}

/* Commands that miss */
static void test_missed(void)
{
    Space s;

    open_space(&s, 0);
    map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
    map_page(&s.table, 0x1000, s.page[1], 12, PTE_RW);
    command(&s.d, TLBI_VA(2), 0x1000);
    command(&s.d, TLBI_VA(1), 0x2000);
    command(&s.d, TLBI_VAA, 0x2000);
    command(&s.d, TLBI_ASID(2), 0);
    command(&s.d, CFGI_CD_ALL, 0);
    command(&s.d, ATC_INV, 52);
    /* Another granule, another level */
    command(&s.d, TLBI_VA(1), 0x0000 | 3 << 10);
    command(&s.d, TLBI_VA(1), 0x1000 | 1 << 10 | 2 << 8);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
    command(&s.d, TLBI_VA(1), 0x1000 | 1 << 10 | 3 << 8);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, TWO);
}

/* With 16 KiB there are no blocks of level 1: that level means any */
static void test_level(void)
{
    uint64_t page;
    Table table;
    Space s;

    open_space(&s, 0);
    page = new_pages(0x8000, 0x4000);
    *(uint32_t *)at(page) = ONE;
    *(uint32_t *)at(page + 0x4000) = TWO;
    table = new_table(14, 39);
    write_cd(s.cd, 1, &table, NULL);
    command(&s.d, CFGI_CD(0), 1);
    map_page(&table, 0x4000, page, 14, PTE_RW);
    g_assert_cmphex(dma_read(&s.d, 0x4000, 0), ==, ONE);
    map_page(&table, 0x4000, page + 0x4000, 14, PTE_RW);
    command(&s.d, TLBI_VA(1), 0x4000 | 2 << 10 | 2 << 8);
    g_assert_cmphex(dma_read(&s.d, 0x4000, 0), ==, ONE);
    command(&s.d, TLBI_VA(1), 0x4000 | 2 << 10 | 1 << 8);
    g_assert_cmphex(dma_read(&s.d, 0x4000, 0), ==, TWO);
}

static unsigned cached(const Space *s, const uint64_t *iovas, unsigned n)
{
    unsigned i, found = 0;

    for (i = 0; i < n; i++) {
        found |= (dma_read(&s->d, iovas[i], 0) == ONE) << i;
    }
    return found;
}

static void test_range(void)
{
    static const uint64_t iovas[] = {
        0xf000, 0x10000, 0x13000, 0x1f000, 0x20000, 0x200000, 0x400000,
    };
    static const struct {
        uint64_t cmd0;
        uint64_t cmd1;
        unsigned left;
    } ranges[] = {
        /* One page; 4, 16 and 64 KiB as pages of 4 KiB; a block's middle */
        { 0, 0x10000 | 1 << 10, 0x7d },
        { 3 << 12, 0x10000 | 1 << 10, 0x79 },
        { 15 << 12, 0x10000 | 1 << 10, 0x71 },
        { 4 << 20, 0x10000 | 1 << 10, 0x71 },
        { 0x11ull << 12, 0xf000 | 1 << 10, 0x60 },
        { 0, 0x3ff000 | 1 << 10, 0x5f },
        { 0, 0x3ff000, 0x5f },
        { 31ull << 20 | 31 << 12, 0 | 1 << 10, 0 },
    };
    unsigned i, k;
    uint64_t block;
    Space s;

    open_space(&s, 0);
    block = new_pages(2 << 20, 2 << 20);
    for (i = 0; i < G_N_ELEMENTS(ranges); i++) {
        *(uint32_t *)at(block) = ONE;
        for (k = 0; k < G_N_ELEMENTS(iovas); k++) {
            bool is_block = iovas[k] == 0x200000;

            map_page(&s.table, iovas[k], is_block ? block : s.page[0],
                     is_block ? 21 : 12, PTE_RW);
        }
        command(&s.d, TLBI_ALL, 0);
        g_assert_cmphex(cached(&s, iovas, G_N_ELEMENTS(iovas)), ==, 0x7f);
        for (k = 0; k < G_N_ELEMENTS(iovas); k++) {
            bool is_block = iovas[k] == 0x200000;

            map_page(&s.table, iovas[k], is_block ? 0 : s.page[1],
                     is_block ? 21 : 12, is_block ? 0 : PTE_RW);
        }
        command(&s.d, TLBI_VA(1) | ranges[i].cmd0, ranges[i].cmd1);
        g_assert_cmphex(cached(&s, iovas, G_N_ELEMENTS(iovas)), ==,
                        ranges[i].left);
    }
}

/* Two contexts; pages of all contexts are the same for both */
static void test_asid(void)
{
    Table other;
    uint64_t cds;
    Space s;

    open_space(&s, 0);
    cds = new_pages(128, 128);
    other = new_table(12, 48);
    write_cd(at(cds), 7, &s.table, NULL);
    write_cd(at(cds + 64), 8, &other, NULL);
    attach_ste(&s.d, STE_S1 | cds | STE_CDMAX(1), DSS_SSID0);
    map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW);
    map_page(&other, 0x1000, s.page[1], 12, PTE_RW);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
    use_pasid(&s.d, 1);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, TWO);
    map_page(&other, 0x1000, s.page[0], 12, PTE_RW);
    command(&s.d, TLBI_ASID(7), 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, TWO);
    command(&s.d, TLBI_ASID(8), 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);

    map_page(&other, 0x5000, s.page[0], 12, PTE_RW & ~PTE_NG);
    g_assert_cmphex(dma_read(&s.d, 0x5000, 0), ==, ONE);
    no_pasid(&s.d);
    g_assert_cmphex(dma_read(&s.d, 0x5000, 0), ==, ONE);
    command(&s.d, TLBI_ASID(8), 0);
    g_assert_cmphex(dma_read(&s.d, 0x5000, 0), ==, ONE);
    command(&s.d, TLBI_VA(7), 0x5000);
    g_assert_cmphex(dma_read(&s.d, 0x5000, 0), ==, FAULT);
}

static void test_config(void)
{
    Table other;
    uint64_t second;
    Space s;

    open_space(&s, 0);
    other = new_table(12, 48);
    map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW);
    map_page(&other, 0x1000, s.page[1], 12, PTE_RW);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
    write_cd(s.cd, 2, &other, NULL);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
    command(&s.d, TLBI_ALL, 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
    command(&s.d, CFGI_CD(1), 1);       /* another one */
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
    command(&s.d, CFGI_CD(0), 1);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, TWO);
    s.cd[0] &= ~CD_V;
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, TWO);
    command(&s.d, CFGI_CD_ALL, 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, FAULT);
    s.cd[0] |= CD_V;
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, FAULT);
    command(&s.d, CFGI_CD_ALL, 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, TWO);

    /* A new STE leads to other CDs, but the TLB is none of its business */
    second = new_pages(64, 64);
    write_cd(at(second), 1, &s.table, NULL);
    attach_ste(&s.d, STE_S1 | second, 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
    write_cd(at(second), 2, &s.table, NULL);
    attach_ste(&s.d, STE_S1 | second, 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, TWO);
    command(&s.d, TLBI_ASID(2), 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
    /* Nor is it forgotten while the guest's SMMU is off */
    attach_ste(&s.d, STE_BYPASS, 0);
    map_page(&s.table, 0x1000, s.page[1], 12, PTE_RW);
    attach_ste(&s.d, STE_S1 | second, 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
}

/* The kernel does that by itself when the nesting parent loses a mapping */
static void test_parent(void)
{
    Space s;

    open_space(&s, 0);
    ok(map_ram(&s.d, 0x20000000, ram, 0x1000));
    map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
    map_page(&s.table, 0x1000, s.page[1], 12, PTE_RW);
    ok(map_ram(&s.d, 0x30000000, ram, 0x1000));
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
    ok(unmap_ram(&s.d, 0x20000000, 0x1000));
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, TWO);
}

/* Each nesting parent has a VMID: commands do not reach another's */
static void test_vmid(void)
{
    uint64_t cd_ipa;
    Table table;
    Space s;
    Dev e;

    open_space(&s, 0);
    map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);

    open_device(&e, 1, s.d.iommufd);
    e.ioas = s.d.ioas;
    ok(alloc_hwpt(&e, IOMMU_HWPT_ALLOC_NEST_PARENT, e.ioas, 0, NULL, 0,
                  &e.parent));
    ok(alloc_viommu(&e, e.parent, 1, &e.viommu));
    ok(alloc_vdevice(&e, e.viommu, SID, &e.vdevice));
    table = new_table(12, 48);
    cd_ipa = new_pages(64, 64);
    write_cd(at(cd_ipa), 1, &table, NULL);
    map_page(&table, 0x1000, s.page[1], 12, PTE_RW);
    attach_ste(&e, STE_S1 | cd_ipa, 0);
    g_assert_cmphex(dma_read(&e, 0x1000, 0), ==, TWO);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);

    map_page(&s.table, 0x1000, s.page[1], 12, PTE_RW);
    command(&e, TLBI_VA(1), 0x1000);
    command(&e, TLBI_NSNH, 0);
    command(&e, CFGI_CD_ALL, 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
    command(&s.d, TLBI_VA(1), 0x1000);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, TWO);
}

/* -- a device's own cache */

static void test_atc(void)
{
    Space s;

    open_space(&s, STE_EATS);
    g_assert_cmphex(cfg(&s.d, 0x240, 4), ==, 0x0001000f);
    g_assert_cmphex(cfg(&s.d, 0x246, 2), ==, PCI_ATS_CTRL_ENABLE);
    g_assert_cmphex(reg(&s.d, VFIO_SIM_REG_DMA_FEATURES) & 1, ==, 1);
    map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW);
    map_page(&s.table, 0x8000, s.page[0], 12, PTE_RW);
    g_assert_cmphex(dma_read(&s.d, 0x1000, ATS), ==, ONE);
    g_assert_cmphex(dma_read(&s.d, 0x8000, ATS), ==, ONE);
    map_page(&s.table, 0x1000, s.page[1], 12, PTE_RW);
    map_page(&s.table, 0x8000, s.page[1], 12, PTE_RW);
    /* The SMMU has it right, and the device goes on with what it has */
    command(&s.d, TLBI_ALL, 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, TWO);
    g_assert_cmphex(dma_read(&s.d, 0x1000, ATS), ==, ONE);
    command(&s.d, ATC_INV, 0x2000);
    g_assert_cmphex(dma_read(&s.d, 0x1000, ATS), ==, ONE);
    command(&s.d, ATC_INV, 0x1000);
    g_assert_cmphex(dma_read(&s.d, 0x1000, ATS), ==, TWO);
    g_assert_cmphex(dma_read(&s.d, 0x8000, ATS), ==, ONE);
    command(&s.d, ATC_INV, 0x0000 | 4);     /* 64 KiB */
    g_assert_cmphex(dma_read(&s.d, 0x8000, ATS), ==, TWO);
    /* In the wrong order it asks too early */
    map_page(&s.table, 0x8000, s.page[0], 12, PTE_RW);
    command(&s.d, ATC_INV, 52);
    g_assert_cmphex(dma_read(&s.d, 0x8000, ATS), ==, TWO);
    command(&s.d, TLBI_ALL, 0);
    g_assert_cmphex(dma_read(&s.d, 0x8000, ATS), ==, TWO);
    command(&s.d, ATC_INV, 52);
    g_assert_cmphex(dma_read(&s.d, 0x8000, ATS), ==, ONE);

    /* A write that the cache does not allow asks again */
    map_page(&s.table, 0x3000, s.page[0], 12, PTE_RW | PTE_RO);
    g_assert_cmphex(dma_read(&s.d, 0x3000, ATS), ==, ONE);
    g_assert_cmpuint(dma_write(&s.d, 0x3000, 0, ATS), ==, VFIO_SIM_DMA_FAULT);
    map_page(&s.table, 0x3000, s.page[0], 12, PTE_RW);
    command(&s.d, TLBI_ALL, 0);
    g_assert_cmpuint(dma_write(&s.d, 0x3000, ONE, ATS), ==, VFIO_SIM_DMA_DONE);

    /* It does not outlive a new STE, a reset, or a mapping of the parent */
    g_assert_cmphex(dma_read(&s.d, 0x1000, ATS), ==, TWO);
    map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW);
    command(&s.d, TLBI_ALL, 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, ATS), ==, TWO);
    attach_ste(&s.d, STE_S1 | s.cd_ipa, STE_EATS);
    g_assert_cmphex(dma_read(&s.d, 0x1000, ATS), ==, ONE);
    map_page(&s.table, 0x1000, s.page[1], 12, PTE_RW);
    command(&s.d, TLBI_ALL, 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, ATS), ==, ONE);
    ok(ioctl(s.d.fd, VFIO_DEVICE_RESET));
    set_cfg(&s.d, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
    g_assert_cmphex(dma_read(&s.d, 0x1000, ATS), ==, TWO);
    g_assert_cmphex(cfg(&s.d, 0x246, 2), ==, PCI_ATS_CTRL_ENABLE);
    ok(map_ram(&s.d, 0x20000000, ram, 0x1000));
    map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW);
    ok(unmap_ram(&s.d, 0x20000000, 0x1000));
    g_assert_cmphex(dma_read(&s.d, 0x1000, ATS), ==, ONE);
}

static void test_atc_pasid(void)
{
    uint64_t cds;
    Space s;
    unsigned i;

    open_space(&s, 0);
    cds = new_pages(64 * 4, 256);
    for (i = 0; i < 4; i++) {
        write_cd(at(cds + 64 * i), 1, &s.table, NULL);
    }
    attach_ste(&s.d, STE_S1 | cds | STE_CDMAX(2), STE_EATS | DSS_SSID0);
    map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW);
    for (i = 0; i < 4; i++) {
        (i ? use_pasid(&s.d, i) : no_pasid(&s.d));
        g_assert_cmphex(dma_read(&s.d, 0x1000, ATS), ==, ONE);
    }
    map_page(&s.table, 0x1000, s.page[1], 12, PTE_RW);
    command(&s.d, TLBI_ALL, 0);
    command(&s.d, ATC_INV | 1ull << 11 | 2 << 12, 0x1000);
    for (i = 0; i < 4; i++) {
        (i ? use_pasid(&s.d, i) : no_pasid(&s.d));
        g_assert_cmphex(dma_read(&s.d, 0x1000, ATS), ==, i == 2 ? TWO : ONE);
    }
    command(&s.d, ATC_INV, 0x1000);
    for (i = 0; i < 4; i++) {
        (i ? use_pasid(&s.d, i) : no_pasid(&s.d));
        g_assert_cmphex(dma_read(&s.d, 0x1000, ATS), ==, TWO);
    }
}

/* ATS is on where the guest's STE says so, and where the kernel owns it */
static void test_ats_enable(void)
{
    Space s;

    open_space(&s, 0);
    g_assert_cmphex(cfg(&s.d, 0x246, 2), ==, 0);
    /* Without, the engine's flag does nothing */
    map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW);
    g_assert_cmphex(dma_read(&s.d, 0x1000, ATS), ==, ONE);
    map_page(&s.table, 0x1000, s.page[1], 12, PTE_RW);
    command(&s.d, TLBI_ALL, 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, ATS), ==, TWO);
    attach_ste(&s.d, STE_BYPASS, STE_EATS);
    g_assert_cmphex(cfg(&s.d, 0x246, 2), ==, 0);
    ok(attach(&s.d, s.d.parent));
    g_assert_cmphex(cfg(&s.d, 0x246, 2), ==, PCI_ATS_CTRL_ENABLE);
    ok(detach(&s.d));
    g_assert_cmphex(cfg(&s.d, 0x246, 2), ==, 0);
    /* The guest cannot switch it */
    set_cfg(&s.d, 0x246, PCI_ATS_CTRL_ENABLE, 2);
    g_assert_cmphex(cfg(&s.d, 0x246, 2), ==, 0);
}

static void test_ats_off(void)
{
    Space s;

    open_space(&s, STE_EATS);
    g_assert_cmphex(reg(&s.d, VFIO_SIM_REG_DMA_FEATURES) & 1, ==, 0);
    map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW);
    g_assert_cmphex(dma_read(&s.d, 0x1000, ATS), ==, ONE);
    map_page(&s.table, 0x1000, s.page[1], 12, PTE_RW);
    command(&s.d, TLBI_ALL, 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, ATS), ==, TWO);
}

/* -- the ioctl */

static int invalidate(const Dev *d, struct iommu_hwpt_invalidate arg,
                      uint32_t *num)
{
    int ret;

    arg.size = sizeof(arg);
    ret = ioctl(d->iommufd, IOMMU_HWPT_INVALIDATE, &arg);
    *num = arg.entry_num;
    return ret;
}

static void test_invalidate(void)
{
    static const uint8_t bad[] = {
        0x00, 0x01, 0x02, 0x03, 0x04, 0x18, 0x1a, 0x20, 0x21, 0x22, 0x28,
        0x2a, 0x41, 0x44, 0x46, 0x50, 0x55, 0x70, 0x80, 0xff,
    };
    uint64_t cmds[70][2] = { { 0 } }, wide[3] = { TLBI_ALL, 0, 0 };
    struct iommu_hwpt_invalidate arg = {
        .data_uptr = (uintptr_t)cmds, .data_type = 1, .entry_len = 16,
    };
    uint32_t num;
    unsigned i;
    Space s;

    open_space(&s, 0);
    map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW);
    for (i = 0; i < G_N_ELEMENTS(bad); i++) {
        cmds[0][0] = bad[i];
        num = 1;
        fails(commands(&s.d, cmds, &num), EIO);
        g_assert_cmpuint(num, ==, 0);
    }
    /* A stream that the vIOMMU does not have */
    for (i = 0; i < 3; i++) {
        cmds[0][0] = (uint64_t[]) { 0x05, 0x06, 0x40 }[i] |
                     (uint64_t)(SID + 1) << 32;
        num = 1;
        fails(commands(&s.d, cmds, &num), EIO);
        g_assert_cmpuint(num, ==, 0);
    }
    /* It counts what came before, done or not: it goes by batches of 63 */
    for (i = 0; i < 70; i++) {
        cmds[i][0] = i == 68 ? 0xff : TLBI_ALL;
    }
    num = 70;
    fails(commands(&s.d, cmds, &num), EIO);
    g_assert_cmpuint(num, ==, 68);
    cmds[0][0] = TLBI_VA(1);
    cmds[0][1] = 0x1000;
    cmds[1][0] = 0xff;
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
    map_page(&s.table, 0x1000, s.page[1], 12, PTE_RW);
    num = 2;
    fails(commands(&s.d, cmds, &num), EIO);
    g_assert_cmpuint(num, ==, 1);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, ONE);
    cmds[1][0] = TLBI_ALL;
    num = 2;
    ok(commands(&s.d, cmds, &num));
    g_assert_cmpuint(num, ==, 2);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, TWO);

    arg.hwpt_id = s.d.viommu;
    arg.entry_num = 1;
    arg.data_type = 0;
    fails(invalidate(&s.d, arg, &num), EINVAL);
    g_assert_cmpuint(num, ==, 0);
    arg.data_type = 1;
    arg.entry_num = 0;
    fails(invalidate(&s.d, arg, &num), EINVAL);
    arg.entry_num = 1;
    arg.entry_len = 0;
    fails(invalidate(&s.d, arg, &num), EINVAL);
    arg.entry_len = 16;
    arg.data_uptr = 0;
    fails(invalidate(&s.d, arg, &num), EINVAL);
    arg.data_uptr = 8;
    fails(invalidate(&s.d, arg, &num), EFAULT);
    g_assert_cmpuint(num, ==, 0);
    arg.data_uptr = (uintptr_t)wide;
    arg.entry_len = 24;
    ok(invalidate(&s.d, arg, &num));
    wide[2] = 1;
    fails(invalidate(&s.d, arg, &num), E2BIG);
    g_assert_cmpuint(num, ==, 0);
    arg.entry_len = 8;
    ok(invalidate(&s.d, arg, &num));
    g_assert_cmpuint(num, ==, 1);
    arg.__reserved = 1;
    fails(invalidate(&s.d, arg, &num), EOPNOTSUPP);
    g_assert_cmpuint(num, ==, 0);
    arg.__reserved = 0;
    arg.hwpt_id = s.d.hwpt;
    fails(invalidate(&s.d, arg, &num), EOPNOTSUPP);
    arg.hwpt_id = s.d.parent;
    fails(invalidate(&s.d, arg, &num), EINVAL);
    arg.hwpt_id = 1000;
    fails(invalidate(&s.d, arg, &num), ENOENT);

    /* Without its vDEVICE nobody knows the stream any more */
    ok(destroy(&s.d, s.d.vdevice));
    cmds[0][0] = CFGI_CD_ALL;
    num = 1;
    fails(commands(&s.d, cmds, &num), EIO);
    command(&s.d, TLBI_ALL, 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, TWO);
}

const Case cache_cases[] = {
    { "tlb/stale", test_stale },
    { "tlb/missed", test_missed },
    { "tlb/level", test_level },
    { "tlb/range", test_range },
    { "tlb/asid", test_asid },
    { "tlb/parent", test_parent },
    { "tlb/vmid", test_vmid, .iommu = "smmuv3,smmus=1",
      .options = "--devices=2" },
    { "config", test_config },
    { "atc/stale", test_atc },
    { "atc/pasid", test_atc_pasid },
    { "atc/enable", test_ats_enable },
    { "atc/off", test_ats_off, .iommu = "smmuv3,ats=off" },
    { "invalidate", test_invalidate },
    { }
};
