/*
 * Test of vfio-sim: mappings and DMA
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test-vfio-sim.h"

static void test_mmap(void)
{
    Dev d;
    uint8_t *p;
    g_autofree char *reply = NULL;

    open_dev(&d, g_str_equal(case_arg, "iommufd"));
    p = map_region(d.fd, MEM_REGION, 0, MEM);
    g_assert_true(p != MAP_FAILED);
    p[MEM - 1] = 0x5a;
    g_assert_cmphex(rd(d.fd, MEM_REGION, MEM - 1, 1), ==, 0x5a);
    wr(d.fd, MEM_REGION, 3, 0x44332211, 4);
    g_assert_cmphex(p[4], ==, 0x22);

    map_fails(map_region(d.fd, MEM_REGION, MEM, PAGE), EINVAL);
    map_fails(map_region(d.fd, MEM_REGION, PAGE, MEM), EINVAL);
    map_fails(map_region(d.fd, COMP_REGION, 0, PAGE), EINVAL);
    map_fails(map_region(d.fd, VFIO_PCI_CONFIG_REGION_INDEX, 0, PAGE), EINVAL);
    map_fails(map_region(d.fd, VFIO_SIM_REG_BAR, 0, PAGE), EINVAL);
    map_fails(map_region(d.fd, 1, 0, PAGE), EINVAL);
    map_fails(map_region(d.fd, 11, 0, PAGE), EINVAL);
    map_fails(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, d.fd,
                   REGION(MEM_REGION)), EINVAL);

    /* The rest of a mapping is known */
    munmap(p + PAGE, PAGE);
    reply = control("mmaps " HOST0);
    g_assert_nonnull(strstr(reply, "\"offset\": 0, \"size\": 4096"));
    g_assert_nonnull(strstr(reply, "\"offset\": 8192, \"size\": 268427264"));

    /* Reads end at the region's end */
    g_assert_cmpint(pread(d.fd, p, 16, REGION(MEM_REGION) + MEM - 4), ==, 4);
    g_assert_cmpint(pread(d.fd, p, 16, REGION(MEM_REGION) + MEM), ==, 0);
}

/* The main thread is notified of an error in memory that was not accessed */
static void test_poison(void)
{
    struct timespec limit = { .tv_sec = 60 };
    g_autofree char *unmapped = NULL;
    g_autofree char *outside = NULL;
    siginfo_t info = { };
    sigset_t set;
    uint8_t *p;
    int signo;
    Dev d;

    open_dev(&d, true);
    unmapped = control("poison " HOST0 " 0x3000");
    g_assert_nonnull(strstr(unmapped, "has not mapped"));
    p = map_region(d.fd, MEM_REGION, 0, MEM);
    outside = control("poison " HOST0 " 1T");
    g_assert_nonnull(strstr(outside, "expected an offset"));

    sigemptyset(&set);
    sigaddset(&set, SIGBUS);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    control_ok("poison " HOST0 " 0x3000");
    do {
        signo = sigtimedwait(&set, &info, &limit);
    } while (signo < 0 && errno == EINTR);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    g_assert_cmpint(signo, ==, SIGBUS);
    g_assert_cmpint(info.si_code, ==, BUS_MCEERR_AO);
    g_assert_true(info.si_addr == p + 0x3000);
    g_assert_true(accessible(p + 0x3000));
}

static void test_gate(void)
{
    uint8_t *p, *b;
    uint32_t v;
    Dev d;

    open_dev(&d, g_str_equal(case_arg, "iommufd"));
    p = map_region(d.fd, MEM_REGION, 0, MEM);
    b = map_region(d.fd, 0, 0, 2 * PAGE);
    p[MEM / 2] = 0x77;
    g_assert_true(accessible(p));
    g_assert_true(accessible(b));

    /* A BAR needs Memory Space Enable; v2 does not ask for it for memory */
    cfg_w(d.fd, PCI_COMMAND, 0, 2);
    g_assert_false(accessible(b));
    g_assert_true(accessible(p));
    fails(pread(d.fd, &v, 4, 0), EIO);
    fails(pread(d.fd, &v, 4, REGION(2)), EIO);
    cfg_w(d.fd, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
    g_assert_true(accessible(b + PAGE));
    cfg_w(d.fd, 0x44, 3, 2);
    g_assert_false(accessible(b));
    cfg_w(d.fd, 0x44, 0, 2);
    g_assert_true(accessible(b));

    /* Takes effect at the reset, not before */
    control_ok("set " HOST0 " hardware-committed=0");
    g_assert_true(accessible(p));
    ok(ioctl(d.fd, VFIO_DEVICE_RESET));
    g_assert_false(accessible(p));
    g_assert_false(accessible(p + MEM - 1));
    fails(pread(d.fd, &v, 4, REGION(MEM_REGION)), EIO);
    fails(pwrite(d.fd, &v, 4, REGION(MEM_REGION)), EIO);
    g_assert_cmphex(comp_r(d.fd, HDM + 0x20) & COMMITTED, ==, 0);
    g_assert_false(accessible(map_region(d.fd, MEM_REGION, 0, PAGE)));

    control_ok("set " HOST0 " hardware-committed=1");
    g_assert_false(accessible(p));
    ok(ioctl(d.fd, VFIO_DEVICE_RESET));
    g_assert_true(accessible(p));
    g_assert_cmphex(p[MEM / 2], ==, 0x77);
}

static void test_dma(void)
{
    bool iommufd = g_str_equal(case_arg, "iommufd");
    uint8_t *ram = anon(16 * PAGE), *mem;
    uint64_t done;
    unsigned i;
    Dev d;

    open_dev(&d, iommufd);
    mem = map_region(d.fd, MEM_REGION, 0, MEM);
    ok(dma_map(&d, 0x100000, ram, 8 * PAGE, true, true));
    ok(dma_map(&d, 0x108000, ram + 8 * PAGE, 4 * PAGE, true, false));
    for (i = 0; i < 12 * PAGE; i++) {
        ram[i] = i * 7 + (i >> 8);
    }
    g_assert_cmpuint(dma(d.fd, 0x100000, 0, 16, VFIO_SIM_DMA_DST_LOCAL), ==,
                     VFIO_SIM_DMA_MASTER_OFF);
    cfg_w(d.fd, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);

    /* Across two mappings into the device, unaligned, and back */
    g_assert_cmpuint(dma(d.fd, 0x100003, 0x1001, 12 * PAGE - 3,
                         VFIO_SIM_DMA_DST_LOCAL), ==, VFIO_SIM_DMA_DONE);
    g_assert_true(!memcmp(mem + 0x1001, ram + 3, 12 * PAGE - 3));
    memset(ram, 0, PAGE);
    g_assert_cmpuint(dma(d.fd, 0x1001, 0x100003, PAGE,
                         VFIO_SIM_DMA_SRC_LOCAL), ==, VFIO_SIM_DMA_DONE);
    g_assert_true(!memcmp(mem + 0x1001, ram + 3, PAGE));

    /* The end of the mappings, a mapping that is read only, the end of DPA */
    g_assert_cmpuint(dma(d.fd, 0x10b000, 0, 2 * PAGE, VFIO_SIM_DMA_DST_LOCAL),
                     ==, VFIO_SIM_DMA_FAULT);
    g_assert_cmphex(reg_r64(d.fd, VFIO_SIM_REG_DMA_FAULT_ADDR), ==, 0x10c000);
    g_assert_cmpuint(dma(d.fd, 0, 0x107ff0, 32, VFIO_SIM_DMA_SRC_LOCAL), ==,
                     VFIO_SIM_DMA_FAULT);
    g_assert_cmphex(reg_r64(d.fd, VFIO_SIM_REG_DMA_FAULT_ADDR), ==, 0x108000);
    g_assert_cmpuint(dma(d.fd, MEM - 8, 0x100000, 16, VFIO_SIM_DMA_SRC_LOCAL),
                     ==, VFIO_SIM_DMA_FAULT);
    g_assert_cmphex(reg_r64(d.fd, VFIO_SIM_REG_DMA_FAULT_ADDR), ==, MEM);

    /* The device's own memory has no pages that iommufd could pin */
    if (iommufd) {
        void *bar = map_region(d.fd, 0, 0, PAGE);

        fails(dma_map(&d, 0x40000000, mem, MEM, true, true), EFAULT);
        fails(dma_map(&d, 0x40000000, bar, PAGE, true, true), EFAULT);
    } else {
        ok(dma_map(&d, 0x40000000, mem, MEM, true, true));
        strcpy((char *)mem, "device memory");
        g_assert_cmpuint(dma(d.fd, 0x40000000, 0x100000, 16, 0), ==,
                         VFIO_SIM_DMA_DONE);
        g_assert_cmpstr((char *)ram, ==, "device memory");
    }

    ok(dma_unmap(&d, 0x100000, 12 * PAGE, &done));
    g_assert_cmphex(done, ==, 12 * PAGE);
    g_assert_cmpuint(dma(d.fd, 0x100000, 0, 16, VFIO_SIM_DMA_DST_LOCAL), ==,
                     VFIO_SIM_DMA_FAULT);

    /* The device's own view */
    reg_w64(d.fd, VFIO_SIM_REG_PEEK_ADDR, 0x2000);
    reg_w64(d.fd, VFIO_SIM_REG_PEEK_DATA, 0x1122334455667788);
    g_assert_cmphex(*(uint64_t *)(mem + 0x2000), ==, 0x1122334455667788);
    close_dev(&d);
}

static void test_maps(void)
{
    bool iommufd = g_str_equal(case_arg, "iommufd");
    uint8_t *ram = anon(16 * PAGE);
    uint64_t done;
    g_autofree char *reply = NULL;
    Dev d;

    open_dev(&d, iommufd);
    ok(dma_map(&d, 0x10000, ram, 4 * PAGE, true, true));
    fails(dma_map(&d, 0x13000, ram, 2 * PAGE, true, true), EEXIST);
    fails(dma_map(&d, 0xf000, ram, 2 * PAGE, true, true), EEXIST);
    fails(dma_map(&d, 0x20800, ram, PAGE, true, true), EINVAL);
    fails(dma_map(&d, 0x20000, ram, PAGE / 2, true, true), EINVAL);
    fails(dma_map(&d, 0x20000, ram, 0, true, true), EINVAL);
    fails(dma_map(&d, 0x20000, ram, PAGE, false, false), EINVAL);
    fails(dma_map(&d, 0xfee00000, ram, PAGE, true, true), EINVAL);
    fails(dma_map(&d, 1ull << 48, ram, PAGE, true, true), EINVAL);
    munmap(ram + 8 * PAGE, PAGE);
    fails(dma_map(&d, 0x30000, ram + 7 * PAGE, 2 * PAGE, true, true), EFAULT);
    mprotect(ram + 7 * PAGE, PAGE, PROT_READ);
    fails(dma_map(&d, 0x30000, ram + 7 * PAGE, PAGE, true, true), EFAULT);
    ok(dma_map(&d, 0x30000, ram + 7 * PAGE, PAGE, true, false));

    reply = control("maps");
    g_assert_nonnull(strstr(reply, "\"iova\": 65536, \"size\": 16384, "
                            "\"backing\": \"vaddr\", \"kind\": \"ram\", "
                            "\"read\": true, \"write\": true"));
    g_assert_nonnull(strstr(reply, "\"iova\": 196608, \"size\": 4096"));

    fails(dma_unmap(&d, 0x10000, PAGE, &done), iommufd ? ENOENT : EINVAL);
    fails(dma_unmap(&d, 0x11000, 3 * PAGE, &done), iommufd ? ENOENT : EINVAL);
    ok(dma_map(&d, 0x14000, ram, 2 * PAGE, true, true));
    fails(dma_unmap(&d, 0x10000, 5 * PAGE, &done), iommufd ? ENOENT : EINVAL);
    if (iommufd) {
        /* It has got as far as the mapping that it cannot split */
        ok(dma_map(&d, 0x10000, ram, 4 * PAGE, true, true));
        fails(dma_unmap(&d, 0x80000, PAGE, &done), ENOENT);
    } else {
        ok(dma_unmap(&d, 0x80000, PAGE, &done));
        g_assert_cmphex(done, ==, 0);
        fails(dma_unmap(&d, 0x80000, 0x123, &done), EINVAL);
    }
    ok(dma_unmap(&d, 0, 0x40000, &done));
    g_assert_cmphex(done, ==, 7 * PAGE);

    if (iommufd) {
        struct iommu_ioas_map_file m = {
            .size = sizeof(m), .flags = 7, .ioas_id = d.ioas,
            .length = 2 * PAGE, .start = PAGE, .iova = 0x50000,
        };
        char text[16];

        m.fd = memfd_create("ram", MFD_CLOEXEC);
        ok(ftruncate(m.fd, 4 * PAGE));
        ok(ioctl(d.iommu, IOMMU_IOAS_MAP_FILE, &m));
        g_assert_cmpint(pwrite(m.fd, "from the file", 14, PAGE + 16), ==, 14);
        cfg_w(d.fd, PCI_COMMAND, 6, 2);
        g_assert_cmpuint(dma(d.fd, 0x50010, 0, 14, VFIO_SIM_DMA_DST_LOCAL), ==,
                         VFIO_SIM_DMA_DONE);
        g_assert_cmpint(pread(d.fd, text, 14, REGION(MEM_REGION)), ==, 14);
        g_assert_cmpstr(text, ==, "from the file");
        m.iova = 0x60000;
        m.start = 3 * PAGE;
        fails(ioctl(d.iommu, IOMMU_IOAS_MAP_FILE, &m), EINVAL);
        m.start = PAGE;
        m.fd = d.fd;
        fails(ioctl(d.iommu, IOMMU_IOAS_MAP_FILE, &m), EINVAL);
        m.fd = open("/dev/null", O_RDWR);
        fails(ioctl(d.iommu, IOMMU_IOAS_MAP_FILE, &m), EINVAL);
    }
}

static void test_devices(void)
{
    uint8_t *ram = anon(PAGE), *peer;
    Dev d0, d1;

    open_legacy_n(&d0, 0, NULL);
    open_legacy_n(&d1, 1, &d0);
    g_assert_cmpuint(reg_r(d0.fd, VFIO_SIM_REG_INDEX), ==, 0);
    g_assert_cmpuint(reg_r(d1.fd, VFIO_SIM_REG_INDEX), ==, 1);
    g_assert_cmphex(cfg_r(d1.fd, DVSEC + 0x20, 4), ==, VFIO_SIM_HPA(1) >> 32);
    ok(dma_map(&d0, 0x10000, ram, PAGE, true, true));
    cfg_w(d0.fd, PCI_COMMAND, 6, 2);
    cfg_w(d1.fd, PCI_COMMAND, 6, 2);
    /* They share the container's mappings, and reach each other by them */
    strcpy((char *)ram, "shared");
    g_assert_cmpuint(dma(d1.fd, 0x10000, 0, 8, VFIO_SIM_DMA_DST_LOCAL), ==, 1);
    peer = map_region(d1.fd, MEM_REGION, 0, MEM);
    g_assert_cmpstr((char *)peer, ==, "shared");
    g_assert_cmphex(rd(d0.fd, MEM_REGION, 0, 4), ==, 0);
    ok(dma_map(&d0, 0x80000000, peer, MEM, true, true));
    g_assert_cmpuint(dma(d0.fd, 0x80000000, 0x100, 8, VFIO_SIM_DMA_DST_LOCAL),
                     ==, 1);
    g_assert_cmphex(rd(d0.fd, MEM_REGION, 0x100, 4), ==, 0x72616873);

    /* A BAR does not answer while Memory Space is off */
    ok(dma_map(&d0, 0xc0000000, map_region(d1.fd, VFIO_SIM_COMPONENT_BAR, 0,
                                           PAGE), PAGE, true, true));
    g_assert_cmpuint(dma(d0.fd, 0xc0000000, 0x100, 8, VFIO_SIM_DMA_DST_LOCAL),
                     ==, VFIO_SIM_DMA_DONE);
    cfg_w(d1.fd, PCI_COMMAND, 4, 2);
    g_assert_cmpuint(dma(d0.fd, 0xc0000000, 0x100, 8, VFIO_SIM_DMA_DST_LOCAL),
                     ==, VFIO_SIM_DMA_FAULT);
    cfg_w(d1.fd, PCI_COMMAND, 6, 2);
    close(d0.fd);
    close(d0.group);
    /* The second still works */
    g_assert_cmpuint(dma(d1.fd, 0x10000, 0, 8, VFIO_SIM_DMA_DST_LOCAL), ==, 1);
}

static void test_large(void)
{
    g_autofree char *path = g_build_filename(g_getenv("VFIO_SIM_DIR"), HOST0,
                                             "memory", NULL);
    uint64_t size = 1ull << 40;
    struct stat st;
    uint8_t *p;
    Dev d;

    open_legacy_n(&d, 0, NULL);
    g_assert_cmphex(reg_r64(d.fd, VFIO_SIM_REG_MEM_SIZE), ==, size);
    p = map_region(d.fd, MEM_REGION, 0, size);
    g_assert_true(p != MAP_FAILED);
    p[size - 1] = 0x99;
    g_assert_cmphex(rd(d.fd, MEM_REGION, size - 1, 1), ==, 0x99);
    ok(dma_map(&d, 1ull << 41, p, size, true, true));
    ok(stat(path, &st));
    g_assert_cmpuint(st.st_size, ==, size);
    g_assert_cmpuint(st.st_blocks, <, 1024);
}

const Case memory_cases[] = {
    { .path = "mmap/legacy", .fn = test_mmap, .arg = "legacy" },
    { .path = "mmap/iommufd", .fn = test_mmap, .arg = "iommufd" },
    { .path = "poison", .fn = test_poison },
    { .path = "gate/legacy", .fn = test_gate, .arg = "legacy" },
    { .path = "gate/iommufd", .fn = test_gate, .arg = "iommufd" },
    { .path = "dma/legacy", .fn = test_dma, .arg = "legacy" },
    { .path = "dma/iommufd", .fn = test_dma, .arg = "iommufd" },
    { .path = "maps/legacy", .fn = test_maps, .arg = "legacy" },
    { .path = "maps/iommufd", .fn = test_maps, .arg = "iommufd" },
    { .path = "devices", .fn = test_devices,
      .options = { "--devices=2" } },
    { .path = "large", .fn = test_large,
      .options = { "--memory=1T" } },
    { }
};
