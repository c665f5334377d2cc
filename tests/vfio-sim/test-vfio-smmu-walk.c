/*
 * Test of the kernel's interface to an SMMUv3: context descriptors and tables
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "test-vfio-smmu.h"

static void check(const Dev *d, uint64_t iova, uint64_t ipa)
{
    static uint32_t value = 0x1000;
    uint32_t *p = at(ipa);

    *p = ++value;
    g_assert_cmphex(dma_read(d, iova, 0), ==, value);
    g_assert_cmpuint(dma_write(d, iova, ++value, 0), ==, VFIO_SIM_DMA_DONE);
    g_assert_cmphex(*p, ==, value);
}

/* Pages and blocks of one granule, in both halves of the address space */
static void test_granule(unsigned granule, const unsigned *va_bits,
                         const unsigned *blocks)
{
    uint64_t cd_ipa, page, block;
    unsigned i, k;
    Dev d;

    open_nested(&d);
    page = new_pages(2ull << granule, 1ull << granule);
    block = new_pages(33 << 20, 32 << 20);
    cd_ipa = new_pages(64, 64);
    for (i = 0; va_bits[i]; i++) {
        Table low = new_table(granule, va_bits[i]);
        Table high = new_table(granule, va_bits[i]);
        uint64_t last = (1ull << va_bits[i]) - (1ull << granule);
        uint64_t base = UINT64_MAX << va_bits[i];

        map_page(&low, 1ull << granule, page, granule, PTE_RW);
        map_page(&low, last, page + (1ull << granule), granule, PTE_RW);
        map_page(&high, 0, page, granule, PTE_RW);
        write_cd(at(cd_ipa), i + 1, &low, &high);
        attach_ste(&d, STE_S1 | cd_ipa, 0);
        check(&d, (1ull << granule) + 0x120, page + 0x120);
        check(&d, last + 0xffc, page + (1ull << granule) + 0xffc);
        check(&d, base + 8, page + 8);
        g_assert_cmphex(dma_read(&d, 0, 0), ==, FAULT);
        /* Between the halves: what is mapped, but for the bits above */
        g_assert_cmphex(dma_read(&d, 1ull << va_bits[i] | 1ull << granule, 0),
                        ==, FAULT);
        g_assert_cmphex(dma_read(&d, base << 1, 0), ==, FAULT);
        for (k = 0; blocks[k]; k++) {
            uint64_t size = 1ull << blocks[k];
            uint64_t to = block & ~(size - 1);

            if (blocks[k] >= va_bits[i]) {
                continue;
            }
            map_page(&high, base | size, to, blocks[k], PTE_RW);
            check(&d, (base | size) + (block - to) + 0x100, block + 0x100);
            check(&d, (base | size) + (block - to) + 0x100440,
                  block + 0x100440);
        }
    }
}

static void test_4k(void)
{
    static const unsigned va_bits[] = { 25, 30, 31, 39, 40, 48, 0 };
    static const unsigned blocks[] = { 21, 30, 0 };

    test_granule(12, va_bits, blocks);
}

static void test_16k(void)
{
    static const unsigned va_bits[] = { 25, 36, 37, 47, 48, 0 };
    static const unsigned blocks[] = { 25, 0 };

    test_granule(14, va_bits, blocks);
}

static void test_64k(void)
{
    static const unsigned va_bits[] = { 25, 29, 30, 42, 43, 48, 0 };
    static const unsigned blocks[] = { 29, 0 };

    test_granule(16, va_bits, blocks);
}

/* Access rights of pages and of the tables above them */
static void test_rights(void)
{
    Space s;
    uint64_t *l2;

    open_space(&s, 0);
    map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW | PTE_RO);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, 0x11111111);
    g_assert_cmpuint(dma_write(&s.d, 0x1000, 1, 0), ==, VFIO_SIM_DMA_FAULT);
    /* For the privileged, which a device is not */
    map_page(&s.table, 0x2000, s.page[0], 12, PTE_AF);
    g_assert_cmphex(dma_read(&s.d, 0x2000, 0), ==, FAULT);
    /* Never accessed, unless that does not matter */
    map_page(&s.table, 0x3000, s.page[0], 12, PTE_USER);
    g_assert_cmphex(dma_read(&s.d, 0x3000, 0), ==, FAULT);
    s.cd[0] |= 1ull << 35;
    command(&s.d, CFGI_CD(0), 1);
    g_assert_cmphex(dma_read(&s.d, 0x3000, 0), ==, 0x11111111);

    map_page(&s.table, 1ull << 30, s.page[0], 12, PTE_RW);
    l2 = (uint64_t *)at(s.table.root);
    l2 = (uint64_t *)at(l2[0] & 0xfffffffff000) + 1;
    *l2 |= 1ull << 62;
    g_assert_cmphex(dma_read(&s.d, 1ull << 30, 0), ==, 0x11111111);
    g_assert_cmpuint(dma_write(&s.d, 1ull << 30, 1, 0), ==,
                     VFIO_SIM_DMA_FAULT);
    *l2 |= 1ull << 61;
    command(&s.d, TLBI_ALL, 0);
    g_assert_cmphex(dma_read(&s.d, 1ull << 30, 0), ==, FAULT);
    s.cd[1] |= 2;               /* HAD0 */
    command(&s.d, CFGI_CD(0), 1);
    command(&s.d, TLBI_ALL, 0);
    g_assert_cmpuint(dma_write(&s.d, 1ull << 30, 1, 0), ==, VFIO_SIM_DMA_DONE);

    /* TBI: without the top byte */
    g_assert_cmphex(dma_read(&s.d, 0x1000 | 0x5aull << 56, 0), ==, FAULT);
    s.cd[0] |= 1ull << 38;
    command(&s.d, CFGI_CD(0), 1);
    command(&s.d, TLBI_ALL, 0);
    *(uint32_t *)at(s.page[0]) = 0x77;
    g_assert_cmphex(dma_read(&s.d, 0x1000 | 0x5aull << 56, 0), ==, 0x77);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, 0x77);
}

/* Where stage 1 leads is the nesting parent's to translate */
static void test_stage2(void)
{
    Space s;

    open_space(&s, 0);
    map_page(&s.table, 0x1000, 0x10000000, 12, PTE_RW);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, FAULT);
    /* Nothing but the guest's own memory can be reached */
    ok(map_ram(&s.d, 0x10000000, ram + (s.page[1] - RAM), 0x1000));
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, 0x22222222);
    /* The tables as well */
    ok(unmap_ram(&s.d, RAM, RAM_SIZE));
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, FAULT);
    ok(map_ram(&s.d, RAM, ram, RAM_SIZE));
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, 0x22222222);
}

/* A table for each PASID, with a page that tells which it is */
typedef struct Pasids {
    Dev d;
    uint64_t page[3];
    Table table[3];
} Pasids;

static void open_pasids(Pasids *p)
{
    unsigned i;

    open_nested(&p->d);
    for (i = 0; i < 3; i++) {
        p->page[i] = new_pages(0x1000, 0x1000);
        *(uint32_t *)at(p->page[i]) = 0x100 + i;
        p->table[i] = new_table(12, 39);
        map_page(&p->table[i], 0x5000, p->page[i], 12, PTE_RW);
    }
}

static void test_linear(void)
{
    uint64_t cds;
    Pasids p;
    unsigned i;

    open_pasids(&p);
    cds = new_pages(64 * 4, 0x1000);
    for (i = 0; i < 3; i++) {
        write_cd(at(cds + 64 * i), 10 + i, &p.table[i], NULL);
    }
    attach_ste(&p.d, STE_S1 | STE_FMT(LINEAR) | cds | STE_CDMAX(2), DSS_SSID0);
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, 0x100);
    use_pasid(&p.d, 1);
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, 0x101);
    use_pasid(&p.d, 2);
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, 0x102);
    use_pasid(&p.d, 3);         /* not valid */
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, FAULT);
    use_pasid(&p.d, 4);         /* too large for the table */
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, FAULT);
    use_pasid(&p.d, 0);         /* belongs to those without */
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, FAULT);
    use_pasid(&p.d, 1 << VFIO_SIM_DMA_PASID_BITS(
                  reg(&p.d, VFIO_SIM_REG_DMA_FEATURES)));
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0) & ~0x6ull, ==, FAULT & ~0x6ull);

    /* The other ways to treat those without */
    attach_ste(&p.d, STE_S1 | cds | STE_CDMAX(2), DSS_TERMINATE);
    use_pasid(&p.d, 0);
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, 0x100);
    no_pasid(&p.d);
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, FAULT);
    attach_ste(&p.d, STE_S1 | cds | STE_CDMAX(2), DSS_BYPASS);
    g_assert_cmphex(dma_read(&p.d, p.page[2], 0), ==, 0x102);
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, FAULT);
    use_pasid(&p.d, 1);
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, 0x101);
    /* No PASIDs at all, or no stage 1 */
    attach_ste(&p.d, STE_S1 | cds, 0);
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, FAULT);
    no_pasid(&p.d);
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, 0x100);
    attach_ste(&p.d, STE_BYPASS, 0);
    g_assert_cmphex(dma_read(&p.d, p.page[1], 0), ==, 0x101);
    use_pasid(&p.d, 1);
    g_assert_cmphex(dma_read(&p.d, p.page[1], 0), ==, FAULT);
}

static void two_level(unsigned fmt, unsigned split, uint64_t size)
{
    uint64_t l1, l2[2];
    uint64_t *desc;
    Pasids p;

    open_pasids(&p);
    l1 = new_pages(0x10000, 0x10000);
    l2[0] = new_pages(size, size);
    l2[1] = new_pages(size, size);
    desc = at(l1);
    desc[0] = l2[0] | 1;
    desc[5] = l2[1] | 1;
    write_cd(at(l2[0]), 1, &p.table[0], NULL);
    write_cd(at(l2[0] + 64 * 63), 2, &p.table[1], NULL);
    write_cd(at(l2[1] + 64 * 7), 3, &p.table[2], NULL);
    attach_ste(&p.d, STE_S1 | STE_FMT(fmt) | l1 | STE_CDMAX(split + 4),
               DSS_SSID0);
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, 0x100);
    use_pasid(&p.d, 63);
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, 0x101);
    use_pasid(&p.d, 5 << split | 7);
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, 0x102);
    use_pasid(&p.d, 4 << split | 7);
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, FAULT);
    use_pasid(&p.d, 5 << split | 6);
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, FAULT);
    /* A first-level descriptor becomes valid: nothing to invalidate */
    desc[4] = l2[1] | 1;
    use_pasid(&p.d, 4 << split | 7);
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, 0x102);
    /* Once it was used it is cached, and stays with Leaf */
    desc[4] = 0;
    command(&p.d, CFGI_CD(4 << split | 7), 1);
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, 0x102);
    command(&p.d, CFGI_CD(4 << split | 7), 0);
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, FAULT);
    use_pasid(&p.d, 5 << split | 7);
    desc[5] = 0;
    command(&p.d, CFGI_CD_ALL, 0);
    g_assert_cmphex(dma_read(&p.d, 0x5000, 0), ==, FAULT);
}

static void test_two_level_4k(void)
{
    two_level(L2_4K, 6, 0x1000);
}

static void test_two_level_64k(void)
{
    two_level(L2_64K, 10, 0x10000);
}

const Case walk_cases[] = {
    { "walk/4k", test_4k },
    { "walk/16k", test_16k },
    { "walk/64k", test_64k },
    { "walk/rights", test_rights },
    { "walk/stage2", test_stage2 },
    { "cd/linear", test_linear },
    { "cd/two-level-4k", test_two_level_4k },
    { "cd/two-level-64k", test_two_level_64k },
    { }
};
