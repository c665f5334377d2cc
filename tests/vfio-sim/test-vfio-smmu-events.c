/*
 * Test of the kernel's interface to an SMMUv3: events and their queue
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test-vfio-smmu.h"

#define RNW         (1ull << 35)
#define CLASS_IN    (2ull << 40)
#define SSV         (1ull << 11)

static bool readable(int fd)
{
    struct pollfd p = { fd, POLLIN, 0 };

    g_assert_cmpint(poll(&p, 1, 0), >=, 0);
    return p.revents & POLLIN;
}

static void no_event(int fd)
{
    Event e;

    g_assert_false(readable(fd));
    g_assert_cmpint(read(fd, &e, sizeof(e)), ==, 0);
}

static void expect_words(int fd, uint64_t word0, uint64_t word1,
                         uint64_t iova)
{
    Event e;

    word0 |= (uint64_t)SID << 32;
    g_assert_true(readable(fd));
    g_assert_cmpint(read(fd, &e, sizeof(e)), ==, sizeof(e));
    g_assert_cmphex(e.header.flags, ==, 0);
    g_assert_cmphex(e.evt[0], ==, word0);
    g_assert_cmphex(e.evt[1], ==, word1);
    g_assert_cmphex(e.evt[2], ==, iova);
    g_assert_cmphex(e.evt[3], ==, 0);
    no_event(fd);
}

/* @ssid < 0: none */
static void expect(int fd, unsigned type, int ssid, uint64_t word1,
                   uint64_t iova)
{
    expect_words(fd, ssid < 0 ? type : type | SSV | (uint64_t)ssid << 12,
                 word1, iova);
}

/* Always with a PASID, and so without SSV */
static void expect_bad_pasid(int fd, uint64_t ssid)
{
    expect_words(fd, C_BAD_SUBSTREAMID | ssid << 12, 0, 0);
}

static void open_queue(Space *s, unsigned depth, uint32_t *id, int *fd)
{
    open_space(s, 0);
    ok(alloc_veventq(&s->d, IOMMU_VEVENTQ_TYPE_ARM_SMMUV3, depth, id, fd));
    no_event(*fd);
}

/* Faults of an address: event, and the address to the byte */
static void test_faults(void)
{
    uint64_t *pte;
    uint32_t id;
    int fd;
    Space s;

    open_queue(&s, 16, &id, &fd);
    g_assert_cmphex(dma_read(&s.d, 0x1234, 0), ==, FAULT);
    expect(fd, F_TRANSLATION, -1, RNW | CLASS_IN, 0x1234);
    g_assert_cmpuint(dma_write(&s.d, 0x123456789abc, 0, 0), ==,
                     VFIO_SIM_DMA_FAULT);
    expect(fd, F_TRANSLATION, -1, CLASS_IN, 0x123456789abc);
    g_assert_cmphex(dma_read(&s.d, 1ull << 60, 0), ==, FAULT);
    expect(fd, F_TRANSLATION, -1, RNW | CLASS_IN, 1ull << 60);

    map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW | PTE_RO);
    g_assert_cmphex(dma_read(&s.d, 0x1004, 0), ==, 0);
    no_event(fd);
    g_assert_cmpuint(dma_write(&s.d, 0x1004, 0, 0), ==, VFIO_SIM_DMA_FAULT);
    expect(fd, F_PERMISSION, -1, CLASS_IN, 0x1004);
    map_page(&s.table, 0x2000, s.page[0], 12, PTE_USER | PTE_NG);
    g_assert_cmphex(dma_read(&s.d, 0x2ff0, 0), ==, FAULT);
    expect(fd, F_ACCESS, -1, RNW | CLASS_IN, 0x2ff0);

    /* A page, a table and the root beyond what IPS allows, 1 << 40 */
    pte = map_page(&s.table, 0x3000, 1ull << 40, 12, PTE_RW);
    s.cd[0] = (s.cd[0] & ~(7ull << 32)) | 2ull << 32;
    command(&s.d, CFGI_CD(0), 1);
    g_assert_cmphex(dma_read(&s.d, 0x3000, 0), ==, FAULT);
    expect(fd, F_ADDR_SIZE, -1, RNW | CLASS_IN, 0x3000);
    *pte = 0;
    *((uint64_t *)at(s.table.root) + 1) = 1ull << 41 | PTE_PAGE;
    g_assert_cmphex(dma_read(&s.d, 1ull << 39, 0), ==, FAULT);
    expect(fd, F_ADDR_SIZE, -1, RNW | CLASS_IN, 1ull << 39);

    /* A context that does not want them recorded */
    s.cd[0] &= ~CD_R;
    command(&s.d, CFGI_CD(0), 1);
    g_assert_cmphex(dma_read(&s.d, 0x3000, 0), ==, FAULT);
    no_event(fd);
    s.cd[1] |= 1ull << 40;
    command(&s.d, CFGI_CD(0), 1);
    g_assert_cmphex(dma_read(&s.d, 0x3000, 0), ==, FAULT);
    expect(fd, C_BAD_CD, -1, 0, 0);
}

/* Across pages: all up to the one that faults is moved */
static void test_partial(void)
{
    uint8_t pattern[0x1000];
    uint64_t two;
    uint32_t id;
    int fd;
    Space s;

    open_queue(&s, 16, &id, &fd);
    two = new_pages(0x2000, 0x1000);
    memset(pattern, 0x5a, sizeof(pattern));
    map_page(&s.table, 0x1000, two + 0x1000, 12, PTE_RW);
    memcpy(at(two + 0x1000), pattern, 0x1000);
    map_page(&s.table, 0x2000, two, 12, PTE_RW | PTE_RO);
    g_assert_cmpuint(dma_write(&s.d, 0x1ffe, 0xaabbccdd, 0), ==,
                     VFIO_SIM_DMA_FAULT);
    expect(fd, F_PERMISSION, -1, CLASS_IN, 0x2000);
    g_assert_cmphex(reg(&s.d, VFIO_SIM_REG_DMA_FAULT_ADDR), ==, 0x2000);
    g_assert_cmphex(*(uint16_t *)at(two + 0x1ffe), ==, 0xccdd);
    g_assert_cmphex(*(uint16_t *)at(two), ==, 0);
}

static void bad_cd(Space *s, int fd, unsigned word, uint64_t bits,
                   uint64_t value)
{
    uint64_t old = s->cd[word];

    s->cd[word] = (old & ~bits) | value;
    command(&s->d, CFGI_CD(0), 1);
    g_assert_cmphex(dma_read(&s->d, 0x1000, 0), ==, FAULT);
    expect(fd, C_BAD_CD, -1, 0, 0);
    s->cd[word] = old;
}

/* What is wrong with the configuration has no address */
static void test_config(void)
{
    uint64_t cds, l1;
    uint32_t id;
    int fd;
    Space s;

    open_queue(&s, 16, &id, &fd);
    bad_cd(&s, fd, 0, CD_V, 0);
    bad_cd(&s, fd, 0, CD_AA64, 0);
    bad_cd(&s, fd, 0, 1 << 15, 1 << 15);        /* ENDI */
    bad_cd(&s, fd, 0, 1ull << 42, 1ull << 42);  /* HD */
    bad_cd(&s, fd, 0, 1ull << 43, 1ull << 43);  /* HA */
    bad_cd(&s, fd, 0, 1ull << 44, 1ull << 44);  /* S */
    bad_cd(&s, fd, 0, 3 << 6, 3 << 6);          /* TG0 */
    bad_cd(&s, fd, 0, 0x3f, 15);                /* T0SZ */
    bad_cd(&s, fd, 0, 0x3f, 40);
    bad_cd(&s, fd, 0, CD_EPD1, 0);              /* TG1, T1SZ */
    bad_cd(&s, fd, 1, 0, 1ull << 48);           /* TTB0 */

    cds = new_pages(64 * 4, 256);
    write_cd(at(cds), 1, &s.table, NULL);
    attach_ste(&s.d, STE_S1 | cds | STE_CDMAX(2), DSS_TERMINATE);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, FAULT);
    expect(fd, F_STREAM_DISABLED, -1, 0, 0);
    use_pasid(&s.d, 3);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, FAULT);
    expect(fd, C_BAD_CD, 3, 0, 0);
    use_pasid(&s.d, 4);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, FAULT);
    expect_bad_pasid(fd, 4);
    use_pasid(&s.d, 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, FAULT);
    expect(fd, F_TRANSLATION, 0, RNW | CLASS_IN, 0x1000);
    attach_ste(&s.d, STE_S1 | cds | STE_CDMAX(2), DSS_SSID0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, FAULT);
    expect(fd, F_STREAM_DISABLED, -1, 0, 0);
    no_pasid(&s.d);
    attach_ste(&s.d, STE_S1 | cds | STE_CDMAX(2), 3);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, FAULT);
    expect(fd, F_STREAM_DISABLED, -1, 0, 0);
    l1 = new_pages(0x1000, 0x1000);
    attach_ste(&s.d, STE_S1 | STE_FMT(L2_4K) | l1 | STE_CDMAX(12), DSS_SSID0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, FAULT);
    expect_bad_pasid(fd, 0);
    use_pasid(&s.d, 100);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, FAULT);
    expect_bad_pasid(fd, 100);
    *((uint64_t *)at(l1) + 1) = 1ull << 48 | 1;
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, FAULT);
    expect_bad_pasid(fd, 100);
    attach_ste(&s.d, STE_S1 | cds, 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, FAULT);
    expect_bad_pasid(fd, 100);
    attach_ste(&s.d, STE_BYPASS, 0);
    g_assert_cmphex(dma_read(&s.d, RAM, 0), ==, FAULT);
    expect_bad_pasid(fd, 100);
    no_pasid(&s.d);

    /* Stage 1 counts the bits of an address, also where it is bypassed */
    g_assert_cmphex(dma_read(&s.d, 1ull << 48, 0), ==, FAULT);
    expect(fd, F_ADDR_SIZE, -1, RNW | CLASS_IN, 1ull << 48);
    attach_ste(&s.d, STE_S1 | cds | STE_CDMAX(2), DSS_BYPASS);
    g_assert_cmphex(dma_read(&s.d, 1ull << 48, 0), ==, FAULT);
    expect(fd, F_ADDR_SIZE, -1, RNW | CLASS_IN, 1ull << 48);

    /* The kernel lets these through, the SMMU does not */
    attach_ste(&s.d, STE_S1 | cds | STE_CDMAX(21), DSS_SSID0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, FAULT);
    expect(fd, C_BAD_STE, -1, 0, 0);
    /* A format that does not exist is linear */
    attach_ste(&s.d, STE_S1 | STE_FMT(3) | cds | STE_CDMAX(2), DSS_SSID0);
    map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, 0x11111111);
}

/* What the guest is not told */
static void test_untold(void)
{
    uint32_t id, other;
    int fd;
    Space s;

    open_queue(&s, 16, &id, &fd);
    /* Faults of the host's stage: output, table, CD */
    map_page(&s.table, 0x1000, 0x10000000, 12, PTE_RW);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, FAULT);
    *((uint64_t *)at(s.table.root) + 1) = 0x10000000 | PTE_PAGE;
    g_assert_cmphex(dma_read(&s.d, 1ull << 39, 0), ==, FAULT);
    attach_ste(&s.d, STE_S1 | 0x10000000, 0);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, FAULT);
    attach_ste(&s.d, STE_BYPASS, 0);
    g_assert_cmphex(dma_read(&s.d, 0x10000000, 0), ==, FAULT);
    attach_ste(&s.d, STE_ABORT, 0);
    g_assert_cmphex(dma_read(&s.d, RAM, 0), ==, FAULT);
    ok(alloc_nested(&s.d, 0, 0, &other));
    ok(attach(&s.d, other));
    g_assert_cmphex(dma_read(&s.d, RAM, 0), ==, FAULT);
    ok(attach(&s.d, s.d.parent));
    use_pasid(&s.d, 1);
    g_assert_cmphex(dma_read(&s.d, RAM, 0), ==, FAULT);
    no_pasid(&s.d);
    no_event(fd);

    /* A translation request gets its answer, and that is all */
    attach_ste(&s.d, STE_S1 | s.cd_ipa, STE_EATS);
    g_assert_cmphex(dma_read(&s.d, 0x5000, VFIO_SIM_DMA_ATS), ==, FAULT);
    no_event(fd);
    g_assert_cmphex(dma_read(&s.d, 0x5000, 0), ==, FAULT);
    expect(fd, F_TRANSLATION, -1, RNW | CLASS_IN, 0x5000);

    /* The stream ID is the one that it was attached with */
    ok(destroy(&s.d, s.d.vdevice));
    g_assert_cmphex(dma_read(&s.d, 0x5000, 0), ==, FAULT);
    expect(fd, F_TRANSLATION, -1, RNW | CLASS_IN, 0x5000);
    attach_ste(&s.d, STE_BYPASS, 0);
    use_pasid(&s.d, 1);
    g_assert_cmphex(dma_read(&s.d, RAM, 0), ==, FAULT);
    no_event(fd);
}

static void test_lost(void)
{
    Event e[8];
    uint32_t id;
    unsigned i;
    int fd;
    Space s;

    open_queue(&s, 3, &id, &fd);
    for (i = 0; i < 3; i++) {
        dma_read(&s.d, 0x1000 * i, 0);
    }
    /* Only whole ones */
    g_assert_cmpint(read(fd, e, sizeof(Event) - 1), ==, 0);
    g_assert_cmpint(read(fd, e, sizeof(Event) * 2 + 8), ==, 2 * sizeof(Event));
    g_assert_cmpuint(e[0].header.sequence, ==, 0);
    g_assert_cmpuint(e[1].header.sequence, ==, 1);
    g_assert_true(readable(fd));

    /* Two find room, two do not; the last one that is lost is told of */
    for (i = 0; i < 4; i++) {
        dma_read(&s.d, 0x1000 * i, 0);
    }
    g_assert_cmpint(read(fd, e, sizeof(e)), ==, 3 * sizeof(Event) + 8);
    g_assert_cmpuint(e[0].header.sequence, ==, 2);
    g_assert_cmpuint(e[1].header.sequence, ==, 3);
    g_assert_cmpuint(e[2].header.sequence, ==, 4);
    g_assert_cmphex(e[2].evt[2], ==, 0x1000);
    g_assert_cmphex(e[2].header.flags, ==, 0);
    g_assert_cmphex(e[3].header.flags, ==, IOMMU_VEVENTQ_FLAG_LOST_EVENTS);
    g_assert_cmpuint(e[3].header.sequence, ==, 6);
    no_event(fd);

    /* Where another event follows, its number tells */
    for (i = 0; i < 4; i++) {
        dma_read(&s.d, 0x1000 * i, 0);
    }
    g_assert_cmpint(read(fd, e, sizeof(Event)), ==, sizeof(Event));
    dma_read(&s.d, 0x9000, 0);
    g_assert_cmpint(read(fd, e, sizeof(e)), ==, 3 * sizeof(Event));
    g_assert_cmpuint(e[0].header.sequence, ==, 8);
    g_assert_cmpuint(e[1].header.sequence, ==, 9);
    g_assert_cmpuint(e[2].header.sequence, ==, 11);
    g_assert_cmphex(e[2].evt[2], ==, 0x9000);

    /* The header alone has room in a small buffer */
    for (i = 0; i < 4; i++) {
        dma_read(&s.d, 0x1000 * i, 0);
    }
    g_assert_cmpint(read(fd, e, sizeof(Event) * 3), ==, 3 * sizeof(Event));
    g_assert_true(readable(fd));
    g_assert_cmpint(read(fd, e, 7), ==, 0);
    g_assert_cmpint(read(fd, e, 8), ==, 8);
    g_assert_cmphex(e[0].header.flags, ==, IOMMU_VEVENTQ_FLAG_LOST_EVENTS);
    g_assert_cmpuint(e[0].header.sequence, ==, 15);
    no_event(fd);
}

static void test_queue(void)
{
    struct iommu_veventq_alloc arg = { .size = sizeof(arg), .type = 1,
                                       .veventq_depth = 1 };
    void *nowhere = mmap(NULL, 0x1000, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t id, second;
    uint32_t viommu;
    int fd, other, copy;
    Event e;
    Space s;

    open_queue(&s, 16, &id, &fd);
    fails(alloc_veventq(&s.d, 1, 16, &second, &other), EEXIST);
    fails(alloc_veventq(&s.d, 0, 16, &second, &other), EOPNOTSUPP);
    fails(alloc_veventq(&s.d, 1, 0, &second, &other), EINVAL);
    arg.viommu_id = s.d.viommu;
    arg.flags = 1;
    fails(ioctl(s.d.iommufd, IOMMU_VEVENTQ_ALLOC, &arg), EOPNOTSUPP);
    arg.flags = 0;
    arg.__reserved = 1;
    fails(ioctl(s.d.iommufd, IOMMU_VEVENTQ_ALLOC, &arg), EOPNOTSUPP);
    viommu = s.d.viommu;
    s.d.viommu = s.d.parent;
    fails(alloc_veventq(&s.d, 1, 16, &second, &other), ENOENT);
    s.d.viommu = viommu;

    g_assert_cmpint(fcntl(fd, F_GETFD) & FD_CLOEXEC, ==, FD_CLOEXEC);
    ok(fcntl(fd, F_SETFL, O_NONBLOCK));
    no_event(fd);
    fails(pread(fd, &e, sizeof(e), 0), ESPIPE);
    dma_read(&s.d, 0x1000, 0);
    fails(read(fd, nowhere, sizeof(e)), EFAULT);
    expect(fd, F_TRANSLATION, -1, RNW | CLASS_IN, 0x1000);

    /* A copy of the descriptor keeps it */
    copy = dup(fd);
    close(fd);
    fails(destroy(&s.d, id), EBUSY);
    dma_read(&s.d, 0x2000, 0);
    expect(copy, F_TRANSLATION, -1, RNW | CLASS_IN, 0x2000);
    close(copy);
    dma_read(&s.d, 0x3000, 0);
    ok(destroy(&s.d, id));
    dma_read(&s.d, 0x3000, 0);
    /* The next one begins anew */
    ok(alloc_veventq(&s.d, 1, 16, &id, &fd));
    no_event(fd);
    dma_read(&s.d, 0x4000, 0);
    g_assert_cmpint(read(fd, &e, sizeof(e)), ==, sizeof(e));
    g_assert_cmpuint(e.header.sequence, ==, 0);
}

static void test_stats(void)
{
    uint32_t id;
    int fd;
    Space s;

    open_queue(&s, 1, &id, &fd);
    dma_read(&s.d, 0x1000, 0);
    dma_read(&s.d, 0x1000, 0);
    map_page(&s.table, 0x1000, 0x10000000, 12, PTE_RW);
    dma_read(&s.d, 0x1000, 0);
    g_assert_cmpuint(stat_of(HOST0, "events"), ==, 1);
    g_assert_cmpuint(stat_of(HOST0, "events-lost"), ==, 1);
    g_assert_cmpuint(stat_of(HOST0, "events-untold"), ==, 1);
}

/* What a test of a VMM can plant */
static void test_planted(void)
{
    uint32_t id;
    int fd;
    Space s;

    open_queue(&s, 4, &id, &fd);
    control_ok("set " HOST0 " lose-events=1");
    dma_read(&s.d, 0x1000, 0);
    no_event(fd);
    dma_read(&s.d, 0x1000, 0);
    expect(fd, F_TRANSLATION, -1, RNW | CLASS_IN, 0x1000);
    map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, 0x11111111);
    map_page(&s.table, 0x1000, s.page[1], 12, PTE_RW);
    control_ok("set " HOST0 " lose-invalidations=2");
    command(&s.d, TLBI_ALL, 0);
    command(&s.d, TLBI_VA(1), 0x1000);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, 0x11111111);
    command(&s.d, TLBI_VA(1), 0x1000);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, 0x22222222);
}

const Case event_cases[] = {
    { "events/faults", test_faults },
    { "events/partial", test_partial },
    { "events/config", test_config },
    { "events/untold", test_untold },
    { "events/lost", test_lost },
    { "events/queue", test_queue },
    { "events/stats", test_stats, .control = true },
    { "events/planted", test_planted, .control = true },
    { }
};
