/*
 * Test of vfio-sim: finding and opening devices
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "test-vfio-sim.h"

/* In a directory that lists the machine's own devices as well */
static void listed(const char *path, const char *name)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *entry;
    bool found = false;

    g_assert_nonnull(dir);
    while ((entry = g_dir_read_name(dir))) {
        found |= !strcmp(entry, name);
    }
    g_assert_true(found);
}

/* Checks by VM management software before it hands out a device */
static void test_manager(void)
{
    struct rlimit limit = { .rlim_cur = 1ull << 40, .rlim_max = 1ull << 40 };
    g_autofree char *driver = g_file_read_link(SYS "/driver", NULL);
    g_autofree char *config = NULL;
    gsize size;
    int fd;

    listed("/sys/kernel/iommu_groups", "1");
    listed("/sys/kernel/iommu_groups/1/devices/", HOST0);
    listed("/sys/bus/pci/devices/", HOST0);
    listed("/sys/bus/pci/drivers/vfio-pci", HOST0);
    g_assert_true(g_str_has_suffix(driver, "/drivers/vfio-pci"));
    g_assert_true(g_file_get_contents(SYS "/config", &config, &size, NULL));
    g_assert_cmpuint(size, ==, 4096);
    g_assert_cmphex((uint8_t)config[0] | (uint8_t)config[1] << 8, ==,
                    VFIO_SIM_VENDOR_ID);
    fd = open(SYS "/config", O_RDONLY);
    g_assert_cmpint(fd, >=, 0);
    close(fd);
    ok(setrlimit(RLIMIT_MEMLOCK, &limit));
    ok(prlimit(getpid(), RLIMIT_MEMLOCK, &limit, NULL));
}

static void test_sysfs(void)
{
    g_autoptr(GDir) dir = g_dir_open(SYS "/vfio-dev", 0, NULL);
    g_autofree char *text = NULL;
    g_autofree char *link = g_file_read_link(SYS "/iommu_group", NULL);
    g_autofree char *real = realpath(SYS "/subsystem", NULL);
    struct stat st;
    unsigned maj, min;
    int fd;

    g_assert_nonnull(dir);
    g_assert_cmpstr(g_dir_read_name(dir), ==, "vfio0");
    g_assert_true(g_str_has_suffix(link, "/1"));
    g_assert_cmpstr(real, ==, "/sys/bus/pci");
    g_assert_true(g_file_get_contents(SYS "/vfio-dev/vfio0/dev", &text, NULL,
                                      NULL));
    g_assert_cmpint(sscanf(text, "%u:%u", &maj, &min), ==, 2);
    ok(stat("/dev/vfio/devices/vfio0", &st));
    g_assert_true(S_ISCHR(st.st_mode));
    fd = open("/dev/vfio/devices/vfio0", O_RDWR);
    ok(fstat(fd, &st));
    g_assert_true(S_ISCHR(st.st_mode));
    g_assert_cmpuint(st.st_rdev, ==, makedev(maj, min));
    close(fd);

    ok(access("/dev/vfio/vfio", R_OK | W_OK));
    fails(stat("/sys/bus/pci/devices/" HOST1, &st), ENOENT);
    fails(open("/dev/vfio/2", O_RDWR), ENOENT);
    fails(open("/dev/vfio/devices/vfio1", O_RDWR), ENOENT);
}

static void test_legacy(void)
{
    struct vfio_group_status status = { .argsz = sizeof(status) };
    int c = open("/dev/vfio/vfio", O_RDWR), g, bad = 9999, null, d;

    g_assert_cmpint(ioctl(c, VFIO_GET_API_VERSION), ==, 0);
    g_assert_cmpint(ioctl(c, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU), ==, 1);
    g_assert_cmpint(ioctl(c, VFIO_CHECK_EXTENSION, VFIO_NOIOMMU_IOMMU), ==, 0);
    fails(ioctl(c, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), EINVAL);

    g = open("/dev/vfio/1", O_RDWR);
    ok(ioctl(g, VFIO_GROUP_GET_STATUS, &status));
    g_assert_cmphex(status.flags, ==, VFIO_GROUP_FLAGS_VIABLE);
    status.argsz = 4;
    fails(ioctl(g, VFIO_GROUP_GET_STATUS, &status), EINVAL);
    fails(ioctl(g, VFIO_GROUP_GET_DEVICE_FD, HOST0), EINVAL);
    fails(ioctl(g, VFIO_GROUP_UNSET_CONTAINER), EINVAL);
    fails(ioctl(g, VFIO_GROUP_SET_CONTAINER, &bad), EBADF);
    null = open("/dev/null", O_RDWR);
    fails(ioctl(g, VFIO_GROUP_SET_CONTAINER, &null), EBADFD);
    ok(ioctl(g, VFIO_GROUP_SET_CONTAINER, &c));
    fails(ioctl(g, VFIO_GROUP_SET_CONTAINER, &c), EINVAL);
    fails(ioctl(g, VFIO_GROUP_GET_DEVICE_FD, HOST0), EINVAL);
    ok(ioctl(c, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
    fails(ioctl(c, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), EINVAL);
    status.argsz = sizeof(status);
    ok(ioctl(g, VFIO_GROUP_GET_STATUS, &status));
    g_assert_cmphex(status.flags, ==, VFIO_GROUP_FLAGS_VIABLE |
                                      VFIO_GROUP_FLAGS_CONTAINER_SET);
    fails(ioctl(g, VFIO_GROUP_GET_DEVICE_FD, HOST1), ENODEV);
    d = ioctl(g, VFIO_GROUP_GET_DEVICE_FD, HOST0);
    g_assert_cmpint(d, >=, 0);
    fails(ioctl(g, VFIO_GROUP_UNSET_CONTAINER), EBUSY);
    fails(ioctl(d, VFIO_DEVICE_BIND_IOMMUFD, &status), EINVAL);
    fails(ioctl(d, _IO(VFIO_TYPE, VFIO_BASE + 99)), ENOTTY);
    fails(ioctl(g, _IO(VFIO_TYPE, VFIO_BASE + 99)), ENOTTY);
    fails(ioctl(c, _IO(VFIO_TYPE, VFIO_BASE + 99)), ENOTTY);
    close(d);
    ok(ioctl(g, VFIO_GROUP_UNSET_CONTAINER));
    fails(ioctl(c, VFIO_IOMMU_MAP_DMA, &status), EINVAL);
}

static void test_iommufd(void)
{
    SimDeviceInfo info = { .argsz = sizeof(info) };
    struct iommu_iova_range range[4];
    struct iommu_ioas_iova_ranges ranges = { .size = sizeof(ranges) };
    struct iommu_ioas_change_process change = { .size = sizeof(change) };
    struct iommu_destroy destroy = { .size = sizeof(destroy) };
    struct {
        struct iommu_ioas_alloc a;
        uint32_t more;
    } big = { .a.size = sizeof(big) };
    int i = open("/dev/iommu", O_RDWR);
    int d = open("/dev/vfio/devices/vfio0", O_RDWR);
    int d2 = open("/dev/vfio/devices/vfio0", O_RDWR);
    uint32_t ioas, v;

    ok(ioctl(i, IOMMU_IOAS_CHANGE_PROCESS, &change));
    fails(ioctl(d, VFIO_DEVICE_GET_INFO, &info), EINVAL);
    fails(pread(d, &v, 4, REGION(7)), EINVAL);
    map_fails(map_region(d, MEM_REGION, 0, PAGE), EINVAL);
    fails(bind_fd(d, 9999, NULL), EBADF);
    fails(bind_fd(d, 0, NULL), EBADFD);
    ok(bind_fd(d, i, NULL));
    fails(bind_fd(d, i, NULL), EINVAL);
    fails(bind_fd(d2, i, NULL), EINVAL);
    ok(ioctl(d, VFIO_DEVICE_GET_INFO, &info));
    fails(attach_fd(d, 4711), ENOENT);
    ioas = new_ioas(i);
    ok(attach_fd(d, ioas));
    destroy.id = ioas;
    fails(ioctl(i, IOMMU_DESTROY, &destroy), EBUSY);

    ranges.ioas_id = ioas;
    ranges.allowed_iovas = (uintptr_t)range;
    fails(ioctl(i, IOMMU_IOAS_IOVA_RANGES, &ranges), EMSGSIZE);
    g_assert_cmpuint(ranges.num_iovas, ==, 2);
    ok(ioctl(i, IOMMU_IOAS_IOVA_RANGES, &ranges));
    g_assert_cmphex(range[0].last, ==, 0xfedfffff);

    /* A longer structure may have only zeros at its end */
    ok(ioctl(i, IOMMU_IOAS_ALLOC, &big));
    big.more = 1;
    fails(ioctl(i, IOMMU_IOAS_ALLOC, &big), E2BIG);
    big.a.size = 8;
    fails(ioctl(i, IOMMU_IOAS_ALLOC, &big), EINVAL);
    fails(ioctl(i, _IO(VFIO_TYPE, 0xc0), &big), ENOTTY);

    close(d);
    ok(ioctl(i, IOMMU_DESTROY, &destroy));
    fails(ioctl(i, IOMMU_DESTROY, &destroy), ENOENT);
    ok(bind_fd(d2, i, NULL));
}

static void test_info(void)
{
    static const struct {
        uint32_t flags;
        uint64_t size;
    } regions[] = {
        { 0xf, VFIO_SIM_BAR0_SIZE }, { 0, 0 }, { 3, VFIO_SIM_BAR2_SIZE },
        { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 }, { 3, 4096 }, { 0, 0 },
        { 0xf, MEM }, { 0xb, HDM + 0x30 },
    };
    struct {
        SimDeviceInfo info;
        SimCapCxlV2 cap;
        uint32_t guard;
    } d = { .info.argsz = 15, .guard = 0x55 };
    struct {
        struct vfio_region_info info;
        struct vfio_region_info_cap_type type;
    } r = { .info.argsz = sizeof(r.info) };
    struct vfio_irq_info irq = { .argsz = sizeof(irq) };
    Dev dev;
    unsigned i;

    open_dev(&dev, g_str_equal(case_arg, "iommufd"));
    fails(ioctl(dev.fd, VFIO_DEVICE_GET_INFO, &d), EINVAL);
    d.info.argsz = 16;
    ok(ioctl(dev.fd, VFIO_DEVICE_GET_INFO, &d));
    g_assert_cmphex(d.info.flags, ==, VFIO_DEVICE_FLAGS_RESET |
                    VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_CAPS |
                    VFIO_DEVICE_FLAGS_CXL);
    g_assert_cmpuint(d.info.num_regions, ==, 11);
    g_assert_cmpuint(d.info.num_irqs, ==, 5);
    g_assert_cmpuint(d.info.argsz, ==, 24 + 32);
    d.info.argsz = 24;
    d.info.cap_offset = 77;
    ok(ioctl(dev.fd, VFIO_DEVICE_GET_INFO, &d));
    g_assert_cmpuint(d.info.argsz, ==, 24 + 32);
    g_assert_cmpuint(d.info.cap_offset, ==, 0);
    ok(ioctl(dev.fd, VFIO_DEVICE_GET_INFO, &d));
    g_assert_cmpuint(d.info.cap_offset, ==, 24);
    g_assert_cmpuint(d.guard, ==, 0x55);
    g_assert_cmpuint(d.cap.header.id, ==, 6);
    g_assert_cmpuint(d.cap.header.version, ==, 1);
    g_assert_cmpuint(d.cap.header.next, ==, 0);
    g_assert_cmpuint(d.cap.hdm_regs_bar_index, ==, 0);
    g_assert_cmphex(d.cap.flags, ==, 3);
    g_assert_cmphex(d.cap.hdm_regs_offset, ==, VFIO_SIM_BLOCK_A + 0x1000);
    g_assert_cmpuint(d.cap.dpa_region_index, ==, MEM_REGION);
    g_assert_cmpuint(d.cap.comp_regs_region_index, ==, COMP_REGION);

    r.info.argsz = 31;
    fails(ioctl(dev.fd, VFIO_DEVICE_GET_REGION_INFO, &r), EINVAL);
    for (i = 0; i < G_N_ELEMENTS(regions); i++) {
        r.info.argsz = sizeof(r.info);
        r.info.index = i;
        if (i == VFIO_PCI_VGA_REGION_INDEX) {
            fails(ioctl(dev.fd, VFIO_DEVICE_GET_REGION_INFO, &r), EINVAL);
            continue;
        }
        ok(ioctl(dev.fd, VFIO_DEVICE_GET_REGION_INFO, &r));
        g_assert_cmphex(r.info.flags, ==, regions[i].flags);
        g_assert_cmphex(r.info.size, ==, regions[i].size);
        g_assert_cmphex(r.info.offset, ==, REGION(i));
        g_assert_cmpuint(r.info.cap_offset, ==, 0);
    }
    r.info.index = i;
    fails(ioctl(dev.fd, VFIO_DEVICE_GET_REGION_INFO, &r), EINVAL);
    for (i = MEM_REGION; i <= COMP_REGION; i++) {
        r.info.argsz = sizeof(r.info);
        r.info.index = i;
        ok(ioctl(dev.fd, VFIO_DEVICE_GET_REGION_INFO, &r));
        g_assert_cmpuint(r.info.argsz, ==, 48);
        ok(ioctl(dev.fd, VFIO_DEVICE_GET_REGION_INFO, &r));
        g_assert_cmpuint(r.info.cap_offset, ==, 32);
        g_assert_cmpuint(r.type.header.id, ==, VFIO_REGION_INFO_CAP_TYPE);
        g_assert_cmphex(r.type.type, ==, 0x80001e98);
        g_assert_cmpuint(r.type.subtype, ==, i == MEM_REGION ? 1 : 2);
    }

    for (i = 0; i < 5; i++) {
        irq.index = i;
        ok(ioctl(dev.fd, VFIO_DEVICE_GET_IRQ_INFO, &irq));
        g_assert_cmpuint(irq.count, ==, i == 2 ? 4 : i == 1 ? 0 : 1);
        g_assert_cmphex(irq.flags, ==, i == 0 ? 7 : i == 2 ? 1 : 9);
    }
    irq.index = 5;
    fails(ioctl(dev.fd, VFIO_DEVICE_GET_IRQ_INFO, &irq), EINVAL);
    close_dev(&dev);
}

static void test_topology(void)
{
    char t = case_arg[0];
    uint64_t block = t == 'A' ? VFIO_SIM_BLOCK_A :
                     t == 'B' ? VFIO_SIM_BLOCK_B : VFIO_SIM_BLOCK_C;
    struct {
        struct vfio_region_info info;
        struct vfio_region_info_cap_sparse_mmap cap;
        struct vfio_region_sparse_mmap_area area[2];
    } r = { .info.argsz = sizeof(r) };
    unsigned n = t == 'C' ? 2 : 1, i;
    uint64_t sum = 0, *p;
    Dev d;

    open_legacy_n(&d, 0, NULL);
    ok(ioctl(d.fd, VFIO_DEVICE_GET_REGION_INFO, &r));
    g_assert_cmpuint(r.cap.header.id, ==, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
    g_assert_cmpuint(r.cap.nr_areas, ==, n);
    for (i = 0; i < n; i++) {
        uint64_t off = r.area[i].offset;

        g_assert_true(off + r.area[i].size <= block ||
                      off >= block + VFIO_SIM_BLOCK_SIZE);
        sum += r.area[i].size;
        p = map_region(d.fd, 0, off, r.area[i].size);
        g_assert_true(p != MAP_FAILED);
        g_assert_cmphex(p[1], ==, VFIO_SIM_BAR0_PATTERN(off + 8));
        p[1] = 0x1234;
        g_assert_cmphex(rd(d.fd, 0, off + 8, 4), ==, 0x1234);
    }
    g_assert_cmphex(sum, ==, VFIO_SIM_BAR0_SIZE - VFIO_SIM_BLOCK_SIZE);
    map_fails(map_region(d.fd, 0, block, PAGE), EINVAL);
    map_fails(map_region(d.fd, 0, 0, VFIO_SIM_BAR0_SIZE), EINVAL);
    if (block) {
        map_fails(map_region(d.fd, 0, block - PAGE, 2 * PAGE), EINVAL);
    }
    /* The hardware's registers are there for the BAR's descriptor */
    g_assert_cmphex(rd(d.fd, 0, block + 0x1000, 4) & 0xffff, ==, 1);
    g_assert_cmphex(rd(d.fd, 0, block + 0x1000 + HDM + 0x14, 4), ==,
                    VFIO_SIM_HPA(0) >> 32);
    /* A transfer across the edge takes both */
    if (block) {
        uint32_t v[2];

        g_assert_cmpint(pread(d.fd, v, 8, block - 4), ==, 8);
        g_assert_cmphex(v[0], ==, VFIO_SIM_BAR0_PATTERN(block - 8) >> 32);
        g_assert_cmphex(v[1], ==, 0);
    }
    /* It is locked: writes have no effect */
    wr(d.fd, 0, block + 0x1000 + HDM + 0x14, 0, 4);
    g_assert_cmphex(rd(d.fd, 0, block + 0x1000 + HDM + 0x14, 4), ==,
                    VFIO_SIM_HPA(0) >> 32);
}

/* Exit status: 0 opened, otherwise the errno */
int child_open(int what)
{
    int fd, i;

    if (what == 1) {
        fd = open("/dev/vfio/1", O_RDWR);
        return fd < 0 ? errno : 0;
    }
    fd = open("/dev/vfio/devices/vfio0", O_RDWR);
    i = open("/dev/iommu", O_RDWR);
    return bind_fd(fd, i, NULL) < 0 ? errno : 0;
}

static void test_exclusive(void)
{
    Dev d;
    int g, c, copy;

    g = open("/dev/vfio/1", O_RDWR | O_CLOEXEC);
    fails(open("/dev/vfio/1", O_RDWR), EBUSY);
    g_assert_cmpint(run_child("open", 1), ==, EBUSY);
    g_assert_cmpint(run_child("open", 2), ==, EBUSY);
    /* A duplicate keeps it open */
    copy = dup(g);
    close(g);
    fails(open("/dev/vfio/1", O_RDWR), EBUSY);
    close(copy);
    g_assert_cmpint(run_child("open", 1), ==, 0);

    /* So does a device that came from the group */
    open_legacy_n(&d, 0, NULL);
    close(d.group);
    fails(open("/dev/vfio/1", O_RDWR), EBUSY);
    g_assert_cmpint(run_child("open", 2), ==, EBUSY);
    close(d.fd);
    g_assert_cmpint(run_child("open", 1), ==, 0);
    close(d.iommu);

    open_iommufd(&d);
    fails(open("/dev/vfio/1", O_RDWR), EBUSY);
    g_assert_cmpint(run_child("open", 1), ==, EBUSY);
    c = open("/dev/vfio/devices/vfio0", O_RDWR | O_CLOEXEC);
    fails(bind_fd(c, d.iommu, NULL), EINVAL);
    g_assert_cmpint(run_child("open", 2), ==, EINVAL);
    close_dev(&d);
    g_assert_cmpint(run_child("open", 2), ==, 0);
}

static void test_viable(void)
{
    struct vfio_group_status status = { .argsz = sizeof(status) };
    int g = open("/dev/vfio/1", O_RDWR), c = open("/dev/vfio/vfio", O_RDWR);
    int i, d;

    ok(ioctl(g, VFIO_GROUP_GET_STATUS, &status));
    g_assert_cmphex(status.flags, ==, 0);
    fails(ioctl(g, VFIO_GROUP_SET_CONTAINER, &c), EPERM);
    close(g);
    d = open("/dev/vfio/devices/vfio0", O_RDWR);
    i = open("/dev/iommu", O_RDWR);
    fails(bind_fd(d, i, NULL), EPERM);
    control_ok("set " HOST0 " viable=1");
    ok(bind_fd(d, i, NULL));
}

const Case open_cases[] = {
    { .path = "manager", .fn = test_manager,
      .options = { "--raise-memlock" } },
    { .path = "sysfs", .fn = test_sysfs },
    { .path = "legacy", .fn = test_legacy },
    { .path = "iommufd", .fn = test_iommufd },
    { .path = "info/legacy", .fn = test_info, .arg = "legacy" },
    { .path = "info/iommufd", .fn = test_info, .arg = "iommufd" },
    { .path = "topology/A", .fn = test_topology, .arg = "A" },
    { .path = "topology/B", .fn = test_topology, .arg = "B",
      .options = { "--topology=B" } },
    { .path = "topology/C", .fn = test_topology, .arg = "C",
      .options = { "--topology=C" } },
    { .path = "exclusive", .fn = test_exclusive },
    { .path = "viable", .fn = test_viable,
      .options = { "--set=" HOST0 " viable=0" } },
    { }
};
