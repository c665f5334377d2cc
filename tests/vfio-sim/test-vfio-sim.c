/*
 * Test of vfio-sim: does it answer as the kernel does?
 *
 * Each case starts this program again under vfio-sim with a state directory
 * of its own. There it uses the VFIO interface directly, with no QEMU.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <linux/pci_regs.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "uapi.h"
#include "vfio-sim-regs.h"

#define HOST0       "0000:c1:00.0"
#define HOST1       "0000:c2:00.0"
#define SYS         "/sys/bus/pci/devices/" HOST0
#define PAGE        0x1000ull
#define MEM         (256ull << 20)
#define REGION(n)   ((uint64_t)(n) << 40)
#define MEM_REGION  9
#define COMP_REGION 10
#define HDM         VFIO_SIM_CM_HDM
#define LOCK        (1u << 8)
#define COMMIT      (1u << 9)
#define COMMITTED   (1u << 10)
#define DVSEC       0x150   /* found by walking in test_config() */
#define DEVCTL      0x68

typedef struct Dev {
    bool iommufd;
    int iommu;      /* container or iommufd */
    int group;
    int fd;
    uint32_t ioas;
    uint32_t id;
} Dev;

static const char *self;
static char **child_args;

#define ok(expr) g_assert_cmpint((expr), ==, 0)
#define fails(expr, err) \
    do { \
        errno = 0; \
        g_assert_cmpint((expr), ==, -1); \
        g_assert_cmpint(errno, ==, (err)); \
    } while (0)
#define map_fails(expr, err) \
    do { \
        errno = 0; \
        g_assert_true((expr) == MAP_FAILED); \
        g_assert_cmpint(errno, ==, (err)); \
    } while (0)

/* --- both ways to a device ------------------------------------------------ */

static void open_legacy_n(Dev *d, unsigned n, const Dev *share)
{
    g_autofree char *group = g_strdup_printf("/dev/vfio/%u", n + 1);
    g_autofree char *host = g_strdup_printf("0000:%02x:00.0", 0xc1 + n);

    memset(d, 0, sizeof(*d));
    d->group = open(group, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(d->group, >=, 0);
    d->iommu = share ? share->iommu :
                       open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
    g_assert_cmpint(d->iommu, >=, 0);
    ok(ioctl(d->group, VFIO_GROUP_SET_CONTAINER, &d->iommu));
    if (!share) {
        ok(ioctl(d->iommu, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
    }
    d->fd = ioctl(d->group, VFIO_GROUP_GET_DEVICE_FD, host);
    g_assert_cmpint(d->fd, >=, 0);
}

static int bind_fd(int fd, int iommufd, uint32_t *id)
{
    struct vfio_device_bind_iommufd b = { .argsz = 16, .iommufd = iommufd };
    int ret = ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, &b);

    if (id) {
        *id = b.out_devid;
    }
    return ret;
}

static int attach_fd(int fd, uint32_t pt)
{
    struct vfio_device_attach_iommufd_pt a = { .argsz = 12, .pt_id = pt };

    return ioctl(fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &a);
}

static uint32_t new_ioas(int iommufd)
{
    struct iommu_ioas_alloc a = { .size = sizeof(a) };

    ok(ioctl(iommufd, IOMMU_IOAS_ALLOC, &a));
    return a.out_ioas_id;
}

static void open_iommufd(Dev *d)
{
    memset(d, 0, sizeof(*d));
    d->iommufd = true;
    d->group = -1;
    d->iommu = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    d->fd = open("/dev/vfio/devices/vfio0", O_RDWR | O_CLOEXEC);
    g_assert_cmpint(d->iommu, >=, 0);
    g_assert_cmpint(d->fd, >=, 0);
    ok(bind_fd(d->fd, d->iommu, &d->id));
    d->ioas = new_ioas(d->iommu);
    ok(attach_fd(d->fd, d->ioas));
}

static void open_dev(Dev *d, bool iommufd)
{
    if (iommufd) {
        open_iommufd(d);
    } else {
        open_legacy_n(d, 0, NULL);
    }
}

static void close_dev(Dev *d)
{
    close(d->fd);
    if (d->group >= 0) {
        close(d->group);
    }
    close(d->iommu);
}

static int dma_map(const Dev *d, uint64_t iova, void *va, uint64_t size,
                   bool read, bool write)
{
    if (d->iommufd) {
        struct iommu_ioas_map m = {
            .size = sizeof(m),
            .flags = IOMMU_IOAS_MAP_FIXED_IOVA |
                     (read ? IOMMU_IOAS_MAP_READABLE : 0) |
                     (write ? IOMMU_IOAS_MAP_WRITEABLE : 0),
            .ioas_id = d->ioas, .user_va = (uintptr_t)va, .length = size,
            .iova = iova,
        };

        return ioctl(d->iommu, IOMMU_IOAS_MAP, &m);
    } else {
        struct vfio_iommu_type1_dma_map m = {
            .argsz = sizeof(m),
            .flags = (read ? VFIO_DMA_MAP_FLAG_READ : 0) |
                     (write ? VFIO_DMA_MAP_FLAG_WRITE : 0),
            .vaddr = (uintptr_t)va, .iova = iova, .size = size,
        };

        return ioctl(d->iommu, VFIO_IOMMU_MAP_DMA, &m);
    }
}

static int dma_unmap(const Dev *d, uint64_t iova, uint64_t size,
                     uint64_t *done)
{
    int ret;

    if (d->iommufd) {
        struct iommu_ioas_unmap u = {
            .size = sizeof(u), .ioas_id = d->ioas, .iova = iova,
            .length = size,
        };

        ret = ioctl(d->iommu, IOMMU_IOAS_UNMAP, &u);
        *done = u.length;
    } else {
        struct vfio_iommu_type1_dma_unmap u = {
            .argsz = sizeof(u), .iova = iova, .size = size,
        };

        ret = ioctl(d->iommu, VFIO_IOMMU_UNMAP_DMA, &u);
        *done = u.size;
    }
    return ret;
}

/* --- registers ------------------------------------------------------------ */

static uint32_t rd(int fd, unsigned region, uint64_t off, size_t size)
{
    uint32_t v = 0;

    g_assert_cmpint(pread(fd, &v, size, REGION(region) + off), ==, size);
    return v;
}

static void wr(int fd, unsigned region, uint64_t off, uint32_t v, size_t size)
{
    g_assert_cmpint(pwrite(fd, &v, size, REGION(region) + off), ==, size);
}

#define cfg_r(fd, off, size)    rd(fd, VFIO_PCI_CONFIG_REGION_INDEX, off, size)
#define cfg_w(fd, off, v, size) \
    wr(fd, VFIO_PCI_CONFIG_REGION_INDEX, off, v, size)
#define reg_r(fd, off)          rd(fd, VFIO_SIM_REG_BAR, off, 4)
#define reg_w(fd, off, v)       wr(fd, VFIO_SIM_REG_BAR, off, v, 4)
#define comp_r(fd, off)         rd(fd, COMP_REGION, off, 4)
#define comp_w(fd, off, v)      wr(fd, COMP_REGION, off, v, 4)

static uint64_t reg_r64(int fd, uint64_t off)
{
    uint64_t v;

    g_assert_cmpint(pread(fd, &v, 8, REGION(VFIO_SIM_REG_BAR) + off), ==, 8);
    return v;
}

static void reg_w64(int fd, uint64_t off, uint64_t v)
{
    g_assert_cmpint(pwrite(fd, &v, 8, REGION(VFIO_SIM_REG_BAR) + off), ==, 8);
}

static uint32_t dma(int fd, uint64_t src, uint64_t dst, uint32_t len,
                    uint32_t flags)
{
    reg_w64(fd, VFIO_SIM_REG_DMA_SRC, src);
    reg_w64(fd, VFIO_SIM_REG_DMA_DST, dst);
    reg_w(fd, VFIO_SIM_REG_DMA_LEN, len);
    reg_w(fd, VFIO_SIM_REG_DMA_CTRL, flags | VFIO_SIM_DMA_START);
    return reg_r(fd, VFIO_SIM_REG_DMA_STATUS);
}

static void *map_region(int fd, unsigned region, uint64_t off, size_t len)
{
    return mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                REGION(region) + off);
}

static void *anon(size_t len)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    g_assert_true(p != MAP_FAILED);
    return p;
}

static sigjmp_buf jump;

static void on_sigbus(int sig)
{
    siglongjmp(jump, sig);
}

/* True: reading there raises SIGBUS */
static bool bus_error(const void *p)
{
    struct sigaction sa = { .sa_handler = on_sigbus }, old;
    bool err = true;

    sigaction(SIGBUS, &sa, &old);
    if (!sigsetjmp(jump, 1)) {
        __atomic_load_n((const uint8_t *)p, __ATOMIC_RELAXED);
        err = false;
    }
    sigaction(SIGBUS, &old, NULL);
    return err;
}

static int control_connect_to(const char *name)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    struct timeval limit = { .tv_sec = 10 };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/%s",
               g_getenv("VFIO_SIM_DIR"), name);
    ok(connect(fd, (void *)&sa, sizeof(sa)));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}

static int control_connect(void)
{
    return control_connect_to("control");
}

static char *control_reply(int fd)
{
    GString *s = g_string_new(NULL);
    char c;

    /* A signal ends a read with a time limit, SA_RESTART or not */
    while (TEMP_FAILURE_RETRY(read(fd, &c, 1)) == 1 && c != '\n') {
        g_string_append_c(s, c);
    }
    return g_string_free(s, FALSE);
}

static char *control(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
static char *control(const char *fmt, ...)
{
    g_autofree char *line = NULL, *full = NULL;
    char *reply;
    va_list ap;
    int fd = control_connect();

    va_start(ap, fmt);
    line = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    full = g_strconcat(line, "\n", NULL);
    g_assert_cmpint(write(fd, full, strlen(full)), ==, strlen(full));
    reply = control_reply(fd);
    close(fd);
    return reply;
}

static void control_ok(const char *line)
{
    g_autofree char *reply = control("%s", line);

    g_assert_cmpstr(reply, ==, "{\"return\": {}}");
}

static uint64_t stat_of(const char *host, const char *name)
{
    g_autofree char *reply = control("stats %s", host);
    g_autofree char *key = g_strdup_printf("\"%s\": ", name);
    const char *at = strstr(reply, key);

    g_assert_nonnull(at);
    return g_ascii_strtoull(at + strlen(key), NULL, 10);
}

static bool signalled(int fd)
{
    struct pollfd p = { fd, POLLIN, 0 };
    uint64_t n;

    return poll(&p, 1, 0) == 1 && read(fd, &n, 8) == 8;
}

static bool signalled_soon(int fd)
{
    struct pollfd p = { fd, POLLIN, 0 };

    return poll(&p, 1, 5000) == 1 && signalled(fd);
}

/* Runs this program again, with descriptors inherited; returns its status */
static int run_child(const char *name, int arg)
{
    g_autofree char *number = g_strdup_printf("%d", arg);
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        execl(self, self, "--child", name, number, NULL);
        _exit(99);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* --- cases ---------------------------------------------------------------- */

/* In a directory that lists the machine's own as well */
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

/* What a manager of VMs looks for before it hands the device to one */
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
    struct vfio_device_info info = { .argsz = sizeof(info) };
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
        struct vfio_device_info info;
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

    open_dev(&dev, g_str_equal(child_args[0], "iommufd"));
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
    char t = child_args[0][0];
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
static int child_open(int what)
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

static void test_mmap(void)
{
    Dev d;
    uint8_t *p;
    g_autofree char *reply = NULL;

    open_dev(&d, g_str_equal(child_args[0], "iommufd"));
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

    /* What is left of a mapping is known */
    munmap(p + PAGE, PAGE);
    reply = control("mmaps " HOST0);
    g_assert_nonnull(strstr(reply, "\"offset\": 0, \"size\": 4096"));
    g_assert_nonnull(strstr(reply, "\"offset\": 8192, \"size\": 268427264"));

    /* Reads end at the region's end */
    g_assert_cmpint(pread(d.fd, p, 16, REGION(MEM_REGION) + MEM - 4), ==, 4);
    g_assert_cmpint(pread(d.fd, p, 16, REGION(MEM_REGION) + MEM), ==, 0);
}

/* The main thread learns of an error in memory that nobody has touched */
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
    g_assert_false(bus_error(p + 0x3000));
}

static void test_gate(void)
{
    uint8_t *p, *b;
    uint32_t v;
    Dev d;

    open_dev(&d, g_str_equal(child_args[0], "iommufd"));
    p = map_region(d.fd, MEM_REGION, 0, MEM);
    b = map_region(d.fd, 0, 0, 2 * PAGE);
    p[MEM / 2] = 0x77;
    g_assert_false(bus_error(p));
    g_assert_false(bus_error(b));

    /* A BAR needs Memory Space Enable; v2 does not ask for it for memory */
    cfg_w(d.fd, PCI_COMMAND, 0, 2);
    g_assert_true(bus_error(b));
    g_assert_false(bus_error(p));
    fails(pread(d.fd, &v, 4, 0), EIO);
    fails(pread(d.fd, &v, 4, REGION(2)), EIO);
    cfg_w(d.fd, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
    g_assert_false(bus_error(b + PAGE));
    cfg_w(d.fd, 0x44, 3, 2);
    g_assert_true(bus_error(b));
    cfg_w(d.fd, 0x44, 0, 2);
    g_assert_false(bus_error(b));

    /* Takes effect at the reset, not before */
    control_ok("set " HOST0 " hardware-committed=0");
    g_assert_false(bus_error(p));
    ok(ioctl(d.fd, VFIO_DEVICE_RESET));
    g_assert_true(bus_error(p));
    g_assert_true(bus_error(p + MEM - 1));
    fails(pread(d.fd, &v, 4, REGION(MEM_REGION)), EIO);
    fails(pwrite(d.fd, &v, 4, REGION(MEM_REGION)), EIO);
    g_assert_cmphex(comp_r(d.fd, HDM + 0x20) & COMMITTED, ==, 0);
    g_assert_true(bus_error(map_region(d.fd, MEM_REGION, 0, PAGE)));

    control_ok("set " HOST0 " hardware-committed=1");
    g_assert_true(bus_error(p));
    ok(ioctl(d.fd, VFIO_DEVICE_RESET));
    g_assert_false(bus_error(p));
    g_assert_cmphex(p[MEM / 2], ==, 0x77);
}

static void test_dma(void)
{
    bool iommufd = g_str_equal(child_args[0], "iommufd");
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
    bool iommufd = g_str_equal(child_args[0], "iommufd");
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
        m.fd = d.fd;
        fails(ioctl(d.iommu, IOMMU_IOAS_MAP_FILE, &m), EINVAL);
        m.fd = open("/dev/null", O_RDWR);
        fails(ioctl(d.iommu, IOMMU_IOAS_MAP_FILE, &m), EINVAL);
    }
}

static int set_irqs(int fd, uint32_t index, uint32_t flags, uint32_t start,
                    uint32_t count, const int *fds)
{
    struct {
        struct vfio_irq_set s;
        int32_t fds[8];
    } r = {
        .s = {
            .argsz = sizeof(r.s) + (fds ? count * 4 : 0), .flags = flags,
            .index = index, .start = start, .count = count,
        },
    };

    /* The array begins in the structure's flexible member */
    if (fds) {
        memcpy(r.s.data, fds, count * sizeof(*fds));
    }
    return ioctl(fd, VFIO_DEVICE_SET_IRQS, &r);
}

#define FD_TRIGGER (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)
#define NO_TRIGGER (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER)
#define FD_UNMASK  (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK)
#define NO_UNMASK  (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK)

static void test_msix(void)
{
    int fds[4], one, minus = -1, null = open("/dev/null", O_RDWR);
    unsigned i;
    Dev d;

    open_dev(&d, g_str_equal(child_args[0], "iommufd"));
    for (i = 0; i < 4; i++) {
        fds[i] = eventfd(0, EFD_NONBLOCK);
    }
    fails(set_irqs(d.fd, 2, FD_TRIGGER, 1, 4, fds), EINVAL);
    fails(set_irqs(d.fd, 2, FD_TRIGGER, 0, 1, &null), EINVAL);
    fails(set_irqs(d.fd, 5, FD_TRIGGER, 0, 1, fds), EINVAL);
    fails(set_irqs(d.fd, 1, FD_TRIGGER, 0, 1, fds), EINVAL);
    fails(set_irqs(d.fd, 2, NO_TRIGGER, 0, 1, NULL), EINVAL);
    ok(set_irqs(d.fd, 2, FD_TRIGGER, 0, 4, fds));
    fails(set_irqs(d.fd, 0, FD_TRIGGER, 0, 1, fds), EINVAL);
    for (i = 0; i < 4; i++) {
        reg_w(d.fd, VFIO_SIM_REG_DOORBELL, i);
        g_assert_true(signalled(fds[i]));
        g_assert_false(signalled(fds[(i + 1) % 4]));
    }
    g_assert_cmpuint(reg_r(d.fd, VFIO_SIM_REG_INTR_STATUS), ==, 0);
    g_assert_cmpuint(reg_r(d.fd, VFIO_SIM_REG_INTR_COUNT), ==, 4);

    /* One vector alone, taken away and given again */
    ok(set_irqs(d.fd, 2, FD_TRIGGER, 2, 1, &minus));
    reg_w(d.fd, VFIO_SIM_REG_DOORBELL, 2);
    g_assert_false(signalled(fds[2]));
    ok(set_irqs(d.fd, 2, FD_TRIGGER, 2, 1, &fds[2]));
    close(fds[2]);      /* the kernel holds it */
    reg_w(d.fd, VFIO_SIM_REG_DOORBELL, 2);
    ok(set_irqs(d.fd, 2, NO_TRIGGER, 1, 1, NULL));
    g_assert_true(signalled(fds[1]));

    cfg_w(d.fd, PCI_COMMAND, 6, 2);
    dma(d.fd, 0, 0x100, 16, VFIO_SIM_DMA_SRC_LOCAL | VFIO_SIM_DMA_DST_LOCAL |
                            VFIO_SIM_DMA_IRQ);
    g_assert_true(signalled(fds[VFIO_SIM_DMA_VECTOR]));
    control_ok("irq " HOST0 " 3");
    g_assert_true(signalled(fds[3]));

    ok(set_irqs(d.fd, 2, NO_TRIGGER, 0, 0, NULL));
    reg_w(d.fd, VFIO_SIM_REG_DOORBELL, 3);
    g_assert_false(signalled(fds[3]));

    one = eventfd(0, EFD_NONBLOCK);
    ok(set_irqs(d.fd, 3, FD_TRIGGER, 0, 1, &one));
    control_ok("err " HOST0);
    g_assert_true(signalled(one));
    ok(set_irqs(d.fd, 4, FD_TRIGGER, 0, 1, &one));
    control_ok("req " HOST0);
    g_assert_true(signalled(one));
    ok(set_irqs(d.fd, 4, FD_TRIGGER, 0, 1, &minus));
    ok(set_irqs(d.fd, 3, NO_TRIGGER, 0, 0, NULL));
    fails(set_irqs(d.fd, 3, NO_TRIGGER, 0, 0, NULL), EINVAL);
    /* Vector tables are the driver's */
    g_assert_cmphex(rd(d.fd, 2, VFIO_SIM_MSIX_TABLE, 4), ==, 0xffffffff);
}

static void test_intx(void)
{
    int irq = eventfd(0, EFD_NONBLOCK), un = eventfd(0, EFD_NONBLOCK);
    uint64_t one = 1;
    Dev d;

    open_dev(&d, g_str_equal(child_args[0], "iommufd"));
    fails(set_irqs(d.fd, 0, NO_UNMASK, 0, 1, NULL), EINVAL);
    ok(set_irqs(d.fd, 0, FD_TRIGGER, 0, 1, &irq));
    fails(set_irqs(d.fd, 2, FD_TRIGGER, 0, 1, &irq), EINVAL);
    reg_w(d.fd, VFIO_SIM_REG_DOORBELL, 1);
    g_assert_true(signalled(irq));
    g_assert_cmphex(reg_r(d.fd, VFIO_SIM_REG_INTR_STATUS), ==, 2);
    g_assert_true(cfg_r(d.fd, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);

    /* Masked by itself, and a level: unmasking raises it again */
    reg_w(d.fd, VFIO_SIM_REG_DOORBELL, 2);
    g_assert_false(signalled(irq));
    ok(set_irqs(d.fd, 0, NO_UNMASK, 0, 1, NULL));
    g_assert_true(signalled(irq));
    reg_w(d.fd, VFIO_SIM_REG_INTR_STATUS, 6);
    g_assert_false(cfg_r(d.fd, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
    ok(set_irqs(d.fd, 0, NO_UNMASK, 0, 1, NULL));
    g_assert_false(signalled(irq));

    /* By eventfd, as KVM does */
    ok(set_irqs(d.fd, 0, FD_UNMASK, 0, 1, &un));
    reg_w(d.fd, VFIO_SIM_REG_DOORBELL, 0);
    g_assert_true(signalled(irq));
    g_assert_cmpint(write(un, &one, 8), ==, 8);
    g_assert_true(signalled_soon(irq));

    /* Switched off in the command register */
    reg_w(d.fd, VFIO_SIM_REG_INTR_STATUS, 1);
    ok(set_irqs(d.fd, 0, NO_UNMASK, 0, 1, NULL));
    cfg_w(d.fd, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE, 2);
    reg_w(d.fd, VFIO_SIM_REG_DOORBELL, 0);
    g_assert_false(signalled(irq));
    cfg_w(d.fd, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
    g_assert_true(signalled(irq));

    /* A reset takes the level away */
    ok(ioctl(d.fd, VFIO_DEVICE_RESET));
    ok(set_irqs(d.fd, 0, NO_UNMASK, 0, 1, NULL));
    g_assert_false(signalled(irq));
    ok(set_irqs(d.fd, 0, NO_TRIGGER, 0, 0, NULL));
}

static void test_hdm(void)
{
    uint32_t v[2];
    Dev d;

    open_dev(&d, g_str_equal(child_args[0], "iommufd"));
    /* The capability array, and more in it than the decoders */
    g_assert_cmphex(comp_r(d.fd, 0), ==, 0x03110001);
    g_assert_cmphex(comp_r(d.fd, 4), ==, 0x08020002);
    g_assert_cmphex(comp_r(d.fd, 8), ==, 0x20030005);
    g_assert_cmphex(comp_r(d.fd, 12), ==, 0x40010008);

    /* One aligned dword per access, clamped before the check */
    fails(pread(d.fd, v, 8, REGION(COMP_REGION)), EINVAL);
    fails(pread(d.fd, v, 2, REGION(COMP_REGION)), EINVAL);
    fails(pread(d.fd, v, 4, REGION(COMP_REGION) + 2), EINVAL);
    fails(pwrite(d.fd, v, 8, REGION(COMP_REGION)), EINVAL);
    g_assert_cmpint(pread(d.fd, v, 8, REGION(COMP_REGION) + HDM + 0x2c), ==, 4);
    fails(pread(d.fd, v, 4, REGION(COMP_REGION) + HDM + 0x30), EINVAL);
    g_assert_cmpint(pread(d.fd, v, 0, REGION(COMP_REGION) + 0x9999), ==, 0);

    /* As opened: committed, but not locked and without an address */
    g_assert_cmphex(comp_r(d.fd, HDM + 0x10), ==, 0);
    g_assert_cmphex(comp_r(d.fd, HDM + 0x14), ==, 0);
    g_assert_cmphex(comp_r(d.fd, HDM + 0x18), ==, MEM);
    g_assert_cmphex(comp_r(d.fd, HDM + 0x20), ==, COMMIT | COMMITTED);

    /* Outside the decoders, and their read-only registers */
    comp_w(d.fd, 0, 0xffffffff);
    comp_w(d.fd, VFIO_SIM_CM_RAS + 4, 0);
    comp_w(d.fd, HDM, 0xffffffff);
    comp_w(d.fd, HDM + 8, 0xffffffff);
    comp_w(d.fd, HDM + 0x24, 0xffffffff);
    g_assert_cmphex(comp_r(d.fd, 0), ==, 0x03110001);
    g_assert_cmphex(comp_r(d.fd, VFIO_SIM_CM_RAS + 4), ==, 0x1cfff);
    g_assert_cmphex(comp_r(d.fd, HDM), ==, 0x400);
    g_assert_cmphex(comp_r(d.fd, HDM + 8), ==, 0);
    g_assert_cmphex(comp_r(d.fd, HDM + 0x24), ==, 0);
    comp_w(d.fd, HDM + 4, 0xffffffff);
    g_assert_cmphex(comp_r(d.fd, HDM + 4), ==, 3);

    /* COMMITTED does not freeze BASE, LOCK does */
    comp_w(d.fd, HDM + 0x10, 0xdfffffff);
    comp_w(d.fd, HDM + 0x14, 0x12);
    g_assert_cmphex(comp_r(d.fd, HDM + 0x10), ==, 0xd0000000);
    g_assert_cmphex(comp_r(d.fd, HDM + 0x14), ==, 0x12);
    comp_w(d.fd, HDM + 0x20, 0xffffffff & ~(LOCK | COMMIT));
    g_assert_cmphex(comp_r(d.fd, HDM + 0x20), ==, 0x20ff);
    comp_w(d.fd, HDM + 0x20, LOCK | COMMIT);
    g_assert_cmphex(comp_r(d.fd, HDM + 0x20), ==, LOCK | COMMIT | COMMITTED);
    comp_w(d.fd, HDM + 0x14, 0x13);
    comp_w(d.fd, HDM + 0x18, 0);
    comp_w(d.fd, HDM + 0x20, LOCK);
    g_assert_cmphex(comp_r(d.fd, HDM + 0x14), ==, 0x12);
    g_assert_cmphex(comp_r(d.fd, HDM + 0x18), ==, MEM);
    g_assert_cmphex(comp_r(d.fd, HDM + 0x20), ==, LOCK | COMMIT | COMMITTED);
    /* A write without LOCK only clears LOCK */
    comp_w(d.fd, HDM + 0x20, 0);
    g_assert_cmphex(comp_r(d.fd, HDM + 0x20), ==, COMMIT | COMMITTED);
    comp_w(d.fd, HDM + 0x20, 0);
    g_assert_cmphex(comp_r(d.fd, HDM + 0x20), ==, 0);

    /* None of that reached the hardware, and another open starts again */
    close_dev(&d);
    open_dev(&d, g_str_equal(child_args[0], "iommufd"));
    g_assert_cmphex(comp_r(d.fd, HDM + 0x14), ==, 0);
    g_assert_cmphex(comp_r(d.fd, HDM + 0x20), ==, COMMIT | COMMITTED);
    g_assert_cmphex(rd(d.fd, 0, VFIO_SIM_BLOCK_A + 0x1000 + HDM + 0x20, 4), ==,
                    LOCK | COMMIT | COMMITTED);
}

static void set_up_for_reset(int fd)
{
    comp_w(fd, HDM + 0x10, 0x50000000);
    comp_w(fd, HDM + 0x14, 0x4);
    comp_w(fd, HDM + 0x20, LOCK | COMMIT);
    wr(fd, MEM_REGION, 0, 0xfeedface, 4);
    wr(fd, 0, 16, 0, 4);
    reg_w(fd, VFIO_SIM_REG_SCRATCH, 0x12345678);
}

static void check_after_reset(int fd)
{
    /* With the reset patches BASE stays and LOCK does not */
    g_assert_cmphex(comp_r(fd, HDM + 0x10), ==, 0x50000000);
    g_assert_cmphex(comp_r(fd, HDM + 0x14), ==, 4);
    g_assert_cmphex(comp_r(fd, HDM + 0x20), ==, COMMIT | COMMITTED);
    g_assert_cmphex(rd(fd, MEM_REGION, 0, 4), ==, 0xfeedface);
    g_assert_cmphex(rd(fd, 0, 16, 4), ==, 16);
    g_assert_cmphex(reg_r(fd, VFIO_SIM_REG_SCRATCH), ==, 0);
}

static void test_reset(void)
{
    struct {
        struct vfio_pci_hot_reset_info info;
        struct vfio_pci_dependent_device dev;
    } info = { .info.argsz = sizeof(info.info) };
    struct {
        struct vfio_pci_hot_reset hot;
        int32_t group;
    } hot = { .hot.argsz = sizeof(hot) };
    uint32_t resets;
    Dev d;

    open_dev(&d, g_str_equal(child_args[0], "iommufd"));
    resets = reg_r(d.fd, VFIO_SIM_REG_RESETS);
    set_up_for_reset(d.fd);
    ok(ioctl(d.fd, VFIO_DEVICE_RESET));
    check_after_reset(d.fd);
    g_assert_cmpuint(stat_of(HOST0, "resets"), ==, 1);

    set_up_for_reset(d.fd);
    cfg_w(d.fd, DEVCTL, cfg_r(d.fd, DEVCTL, 2) | PCI_EXP_DEVCTL_BCR_FLR, 2);
    check_after_reset(d.fd);
    g_assert_false(cfg_r(d.fd, DEVCTL, 2) & PCI_EXP_DEVCTL_BCR_FLR);
    g_assert_cmpuint(stat_of(HOST0, "flr"), ==, 1);

    set_up_for_reset(d.fd);
    cfg_w(d.fd, DVSEC + 0x10, 4, 2);
    check_after_reset(d.fd);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x10, 2), ==, 0);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x12, 2) & 6, ==, 2);
    g_assert_cmpuint(stat_of(HOST0, "cxl-resets"), ==, 1);
    control_ok("fault " HOST0 " cxl-reset errno=5 count=1");
    cfg_w(d.fd, DVSEC + 0x10, 4, 2);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x12, 2) & 6, ==, 4);
    /* One that works has to follow */
    ok(ioctl(d.fd, VFIO_DEVICE_RESET));

    fails(ioctl(d.fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info), ENOSPC);
    g_assert_cmpuint(info.info.count, ==, 1);
    info.info.argsz = sizeof(info);
    ok(ioctl(d.fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info));
    g_assert_cmphex(info.dev.bus, ==, 0xc1);
    g_assert_cmpuint(info.dev.group_id, ==, d.iommufd ? d.id : 1);
    hot.hot.count = d.iommufd ? 1 : 0;
    fails(ioctl(d.fd, VFIO_DEVICE_PCI_HOT_RESET, &hot), EINVAL);
    hot.hot.count = !hot.hot.count;
    hot.group = d.group;
    set_up_for_reset(d.fd);
    ok(ioctl(d.fd, VFIO_DEVICE_PCI_HOT_RESET, &hot));
    check_after_reset(d.fd);
    g_assert_cmpuint(stat_of(HOST0, "hot-resets"), ==, 1);
    g_assert_cmpuint(reg_r(d.fd, VFIO_SIM_REG_RESETS), ==, resets + 6);
}

static void test_config(void)
{
    unsigned pos, n = 0, cxl = 0, others_after = 0;
    uint64_t hpa = VFIO_SIM_HPA(0);
    uint8_t all[256];
    uint32_t v;
    Dev d;

    open_legacy_n(&d, 0, NULL);
    g_assert_cmphex(cfg_r(d.fd, 0, 4), ==, 0x10f21af4);
    g_assert_cmphex(cfg_r(d.fd, 8, 4) >> 16, ==, 0x1200);
    g_assert_cmphex(cfg_r(d.fd, PCI_INTERRUPT_PIN, 1), ==, 1);
    g_assert_cmphex(cfg_r(d.fd, PCI_COMMAND, 2), ==, PCI_COMMAND_MEMORY);

    /* BARs give their size and keep an address */
    for (pos = 0x10; pos < 0x28; pos += 4) {
        cfg_w(d.fd, pos, 0xffffffff, 4);
    }
    g_assert_cmphex(cfg_r(d.fd, 0x10, 4), ==, 0xfffc000c);
    g_assert_cmphex(cfg_r(d.fd, 0x14, 4), ==, 0xffffffff);
    g_assert_cmphex(cfg_r(d.fd, 0x18, 4), ==, 0xffffc004);
    g_assert_cmphex(cfg_r(d.fd, 0x20, 4), ==, 0);
    cfg_w(d.fd, 0x13, 0xab, 1);
    g_assert_cmphex(cfg_r(d.fd, 0x10, 4), ==, 0xabfc000c);

    /* Any size of access, also across registers; nothing past the end */
    g_assert_cmpint(pread(d.fd, all, 255, REGION(7) + 1), ==, 255);
    g_assert_cmphex(all[1], ==, 0xf2);
    fails(pread(d.fd, all, 2, REGION(7) + 4095), EFAULT);
    fails(pread(d.fd, all, 1, REGION(7) + 4096), EFAULT);
    cfg_w(d.fd, 0, 0, 4);
    g_assert_cmphex(cfg_r(d.fd, 0, 4), ==, 0x10f21af4);

    for (pos = cfg_r(d.fd, 0x34, 1); pos; pos = cfg_r(d.fd, pos + 1, 1)) {
        uint8_t id = cfg_r(d.fd, pos, 1);

        g_assert_true(id == PCI_CAP_ID_PM || id == PCI_CAP_ID_MSIX ||
                      id == PCI_CAP_ID_EXP);
        g_assert_cmpuint(++n, <=, 3);
    }
    g_assert_cmpuint(n, ==, 3);
    for (pos = 0x100, n = 0; pos; pos = cfg_r(d.fd, pos, 4) >> 20) {
        bool dvsec = cfg_r(d.fd, pos, 2) == 0x23;

        g_assert_cmpuint(++n, <=, 16);
        if (dvsec) {
            g_assert_cmphex(cfg_r(d.fd, pos + 4, 2), ==, 0x1e98);
            cxl |= 1 << cfg_r(d.fd, pos + 8, 2);
            others_after = 0;
            if (cfg_r(d.fd, pos + 8, 2) == 0) {
                g_assert_cmphex(pos, ==, DVSEC);
            }
        } else {
            others_after++;
        }
    }
    g_assert_cmphex(cxl, ==, 1 << 0 | 1 << 5 | 1 << 7 | 1 << 8);
    g_assert_cmpuint(others_after, >, 0);

    /* CXL Device DVSEC, as v2 does it. Ranges are the hardware's. */
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x0a, 2), ==, 0xc0d7);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x1c, 4), ==, MEM | 3);
    cfg_w(d.fd, DVSEC + 0x20, 0x77, 4);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x20, 4), ==, hpa >> 32);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x24, 4), ==, (uint32_t)hpa);
    cfg_w(d.fd, DVSEC + 0x0a, 0, 2);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x0a, 2), ==, 0xc0d7);
    /* CONTROL: io always on, reserved bits off */
    cfg_w(d.fd, DVSEC + 0x0c, 0xffff, 2);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x0c, 2), ==, 0x4fff);
    cfg_w(d.fd, DVSEC + 0x0c, 0xffff0000, 4);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x0c, 4), ==, 0x0002);
    /* A write that begins elsewhere is lost, one of a byte is taken for two */
    cfg_w(d.fd, DVSEC + 0x0d, 0x40, 1);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x0c, 2), ==, 0x0002);
    cfg_w(d.fd, DVSEC + 0x0c, 0x4006, 2);
    cfg_w(d.fd, DVSEC + 0x0c, 0x04, 1);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x0c, 2), ==, 0x0006);
    /* Reads that begin elsewhere see the hardware */
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x0d, 1), ==, 0);
    /* Write-back and invalidate */
    cfg_w(d.fd, DVSEC + 0x10, 3, 2);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x10, 2), ==, 1);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x12, 2), ==, 0x8001);
    /* LOCK is for good */
    cfg_w(d.fd, DVSEC + 0x14, 0xffff, 2);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x14, 2), ==, 1);
    cfg_w(d.fd, DVSEC + 0x14, 0, 2);
    cfg_w(d.fd, DVSEC + 0x0c, 0, 2);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x14, 2), ==, 1);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x0c, 2), ==, 6);

    v = cfg_r(d.fd, 0x44, 2);
    cfg_w(d.fd, 0x44, v | 1, 2);    /* there is no D1 */
    g_assert_cmphex(cfg_r(d.fd, 0x44, 2), ==, v);
}

static void test_faults(void)
{
    struct vfio_region_info r = {
        .argsz = sizeof(r), .index = VFIO_PCI_CONFIG_REGION_INDEX,
    };
    g_autofree char *bad = NULL;
    uint32_t v = 0;
    Dev d;

    /* From the start, by option */
    fails(open("/dev/vfio/1", O_RDWR), ENOMEM);
    open_legacy_n(&d, 0, NULL);
    control_ok("fault " HOST0 " get_region_info errno=5 count=2");
    fails(ioctl(d.fd, VFIO_DEVICE_GET_REGION_INFO, &r), EIO);
    fails(ioctl(d.fd, VFIO_DEVICE_GET_REGION_INFO, &r), EIO);
    ok(ioctl(d.fd, VFIO_DEVICE_GET_REGION_INFO, &r));
    control_ok("fault " HOST0 " device_reset errno=11");
    control_ok("fault " HOST0 " pread-comp-regs errno=14");
    control_ok("fault " HOST0 " pwrite-config errno=22");
    control_ok("fault " HOST0 " mmap-memory errno=12");
    control_ok("fault " HOST0 " map_dma errno=28");
    fails(ioctl(d.fd, VFIO_DEVICE_RESET), EAGAIN);
    fails(pread(d.fd, &v, 4, REGION(COMP_REGION)), EFAULT);
    ok(pwrite(d.fd, &v, 4, REGION(COMP_REGION)) - 4);
    fails(pwrite(d.fd, &v, 4, REGION(7)), EINVAL);
    map_fails(map_region(d.fd, MEM_REGION, 0, PAGE), ENOMEM);
    fails(dma_map(&d, 0x10000, anon(PAGE), PAGE, true, true), ENOSPC);
    g_assert_cmpuint(stat_of(HOST0, "resets"), ==, 0);
    control_ok("fault " HOST0 " clear");
    ok(ioctl(d.fd, VFIO_DEVICE_RESET));

    /* One call after the other, whatever it is */
    control_ok("fault " HOST0 " any errno=5 count=1 skip=2");
    ok(ioctl(d.fd, VFIO_DEVICE_RESET));
    ok(pread(d.fd, &v, 4, REGION(7)) - 4);
    fails(ioctl(d.fd, VFIO_DEVICE_GET_REGION_INFO, &r), EIO);
    ok(ioctl(d.fd, VFIO_DEVICE_GET_REGION_INFO, &r));
    control_ok("fault " HOST0 " mmap-memory errno=12 skip=1");
    ok(munmap(map_region(d.fd, MEM_REGION, 0, PAGE), PAGE));
    map_fails(map_region(d.fd, MEM_REGION, 0, PAGE), ENOMEM);
    map_fails(map_region(d.fd, MEM_REGION, 0, PAGE), ENOMEM);
    control_ok("fault " HOST0 " clear");

    bad = control("fault " HOST0 " no_such_ioctl errno=5");
    g_assert_nonnull(strstr(bad, "\"error\": \"fault: unknown operation"));
}

/* Exit status 0: an iommufd and a device that the parent opened work here */
static int child_cdev(int fd)
{
    uint32_t v;

    return bind_fd(fd, fd + 1, NULL) || attach_fd(fd, new_ioas(fd + 1)) ||
           pread(fd, &v, 4, REGION(7)) != 4;
}

/* Exit status 0: the descriptor works here as it did in the parent */
static int child_device(int fd)
{
    struct vfio_device_info info = { .argsz = sizeof(info) };
    uint32_t v = 0;

    if (fd < 0) {       /* comes over the socket instead */
        char data, space[CMSG_SPACE(sizeof(int))];
        struct iovec iov = { &data, 1 };
        struct msghdr msg = {
            .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space,
            .msg_controllen = sizeof(space),
        };

        if (recvmsg(-fd, &msg, 0) != 1) {
            return 10;
        }
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
    }
    if (pread(fd, &v, 4, REGION(7)) != 4 || v != 0x10f21af4) {
        return 11;
    }
    if (ioctl(fd, VFIO_DEVICE_GET_INFO, &info) || info.num_regions != 11) {
        return 12;
    }
    if (map_region(fd, MEM_REGION, 0, PAGE) == MAP_FAILED) {
        return 13;
    }
    return 0;
}

static void test_inherit(void)
{
    char data = 'x', space[CMSG_SPACE(sizeof(int))] = { 0 };
    struct iovec iov = { &data, 1 };
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space,
        .msg_controllen = sizeof(space),
    };
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    struct vfio_device_info info = { .argsz = sizeof(info) };
    int copy, s[2], high, cdev;
    Dev d;

    /* As a management program opens them for a VMM */
    cdev = open("/dev/vfio/devices/vfio0", O_RDWR);
    g_assert_cmpint(open("/dev/iommu", O_RDWR), ==, cdev + 1);
    g_assert_cmpint(run_child("cdev", cdev), ==, 0);
    close(cdev);
    close(cdev + 1);

    open_dev(&d, g_str_equal(child_args[0], "iommufd"));
    copy = dup(d.fd);       /* without close-on-exec */
    g_assert_cmpint(run_child("device", copy), ==, 0);

    ok(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &d.fd, sizeof(int));
    g_assert_cmpint(sendmsg(s[0], &msg, 0), ==, 1);
    close(copy);
    g_assert_cmpint(run_child("device", -s[1]), ==, 0);

    high = fcntl(d.fd, F_DUPFD_CLOEXEC, 100);
    close(d.fd);
    ok(ioctl(high, VFIO_DEVICE_GET_INFO, &info));
    g_assert_cmpint(dup2(high, d.fd), ==, d.fd);
    close(high);
    info.argsz = sizeof(info);      /* not what it would take */
    ok(ioctl(d.fd, VFIO_DEVICE_GET_INFO, &info));
    close(d.fd);
    fails(ioctl(d.fd, VFIO_DEVICE_GET_INFO, &info), EBADF);
}

/* What a forked child does with the parent's device */
static int use_in_child(int fd)
{
    g_autofree char *name = g_strdup_printf("control.%d", (int)getpid());
    g_autofree char *reply = NULL;
    int ret, control;

    reg_w(fd, VFIO_SIM_REG_SCRATCH, 0xc0ffee);
    ret = child_device(fd);
    /* It has a channel of its own, since the parent's is still there */
    control = control_connect_to(name);
    g_assert_cmpint(write(control, "mmaps " HOST0 "\n", 19), ==, 19);
    reply = control_reply(control);
    return ret ? ret : strstr(reply, "\"memory\"") ? 0 : 20;
}

static void test_fork(void)
{
    Dev d;
    int status;
    pid_t pid;

    open_dev(&d, g_str_equal(child_args[0], "iommufd"));
    pid = fork();
    if (pid == 0) {
        alarm(20);
        _exit(use_in_child(d.fd));
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmphex(status, ==, 0);
    g_assert_cmphex(reg_r(d.fd, VFIO_SIM_REG_SCRATCH), ==, 0xc0ffee);
    g_assert_cmpuint(stat_of(HOST0, "opens"), ==, 1);
}

static unsigned count_dir(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    unsigned n = 0;

    while (g_dir_read_name(dir)) {
        n++;
    }
    return n;
}

static void test_inert(void)
{
    g_autofree char *sock = g_build_filename(g_getenv("VFIO_SIM_DIR"),
                                             "control", NULL);
    g_autofree char *state = g_build_filename(g_getenv("VFIO_SIM_DIR"), HOST0,
                                              "state", NULL);
    Dev d;

    g_assert_cmpuint(count_dir("/proc/self/task"), ==, 1);
    g_assert_cmpuint(count_dir("/proc/self/fd"), <=, 5);
    g_assert_false(g_file_test(sock, G_FILE_TEST_EXISTS));
    g_assert_false(g_file_test(state, G_FILE_TEST_EXISTS));
    open_iommufd(&d);
    g_assert_cmpuint(count_dir("/proc/self/task"), ==, 2);
    g_assert_true(g_file_test(sock, G_FILE_TEST_EXISTS));
}

/* Runs twice on the same state directory */
static void test_persist(void)
{
    g_autofree char *mark = g_build_filename(g_getenv("VFIO_SIM_DIR"), "mark",
                                             NULL);
    Dev d;

    open_legacy_n(&d, 0, NULL);
    if (!g_file_test(mark, G_FILE_TEST_EXISTS)) {
        g_assert_true(g_file_set_contents(mark, "", 0, NULL));
        wr(d.fd, MEM_REGION, 0x1000, 0xabcd1234, 4);
        control_ok("set " HOST0 " hardware-committed=0");
        control_ok("fault " HOST0 " device_feature errno=5");
    } else {
        struct vfio_device_feature f = { .argsz = 8 };
        g_autofree char *writes = control("writes " HOST0);
        uint32_t v;

        g_assert_cmpuint(stat_of(HOST0, "opens"), ==, 2);
        /* The open reset has found the decoder uncommitted */
        fails(pread(d.fd, &v, 4, REGION(MEM_REGION) + 0x1000), EIO);
        fails(ioctl(d.fd, VFIO_DEVICE_FEATURE, &f), EIO);
        g_assert_nonnull(strstr(writes, "\"memory\", \"offset\": 4096, "
                                "\"size\": 4, \"value\": 2882343476"));
        control_ok("set " HOST0 " hardware-committed=1");
        ok(ioctl(d.fd, VFIO_DEVICE_RESET));
        g_assert_cmphex(rd(d.fd, MEM_REGION, 0x1000, 4), ==, 0xabcd1234);
    }
}

static void test_control(void)
{
    g_autofree char *devices = NULL, *maps = NULL, *writes = NULL, *bad = NULL;
    g_autofree char *second = NULL, *first = NULL;
    int a, b;
    unsigned i;
    Dev d;

    open_legacy_n(&d, 0, NULL);
    devices = control("devices");
    g_assert_nonnull(strstr(devices, "{\"host\": \"" HOST0 "\", "
                            "\"generation\": \"v2-reset\", "
                            "\"memory\": 268435456, \"topology\": \"A\", "
                            "\"open\": true, \"active\": true, "
                            "\"hdm\": {\"base\": 0, \"size\": 268435456, "
                            "\"ctrl\": 1536"));
    g_assert_nonnull(strstr(devices, "\"hardware\": {\"base\": 765534970"));
    maps = control("maps");
    g_assert_cmpstr(maps, ==, "{\"return\": []}");
    comp_w(d.fd, HDM + 0x14, 0x21);
    writes = control("writes " HOST0);
    g_assert_cmpstr(writes, ==, "{\"return\": [{\"region\": \"comp-regs\", "
                    "\"offset\": 532, \"size\": 4, \"value\": 33}]}");
    control_ok("writes " HOST0 " clear");
    for (i = 0; i < 3000; i++) {
        comp_w(d.fd, HDM + 0x14, i);
    }
    g_free(writes);
    writes = control("writes " HOST0);
    g_assert_null(strstr(writes, "\"value\": 1975}"));
    g_assert_nonnull(strstr(writes, "\"value\": 1976}"));
    bad = control("no \"such\" command");
    g_assert_true(g_str_has_prefix(bad, "{\"error\": \""));

    /* A client that sends half a line does not hold up another */
    a = control_connect();
    b = control_connect();
    g_assert_cmpint(write(a, "dev", 3), ==, 3);
    g_assert_cmpint(write(b, "maps\n", 5), ==, 5);
    second = control_reply(b);
    g_assert_cmpstr(second, ==, "{\"return\": []}");
    g_assert_cmpint(write(a, "ices\n", 5), ==, 5);
    first = control_reply(a);
    g_assert_true(g_str_has_prefix(first, "{\"return\": [{\"host\""));
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

static void test_kvm(void)
{
    struct kvm_create_device c = { .type = KVM_DEV_TYPE_VFIO };
    int32_t fd;
    struct kvm_device_attr attr = {
        .group = KVM_DEV_VFIO_GROUP, .attr = KVM_DEV_VFIO_GROUP_ADD,
        .addr = (uintptr_t)&fd,
    };
    int kvm = open("/dev/kvm", O_RDWR), vm;
    Dev d;

    vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm < 0) {
        g_printerr("# no KVM here, not tested\n");
        return;
    }
    open_legacy_n(&d, 0, NULL);
    ok(ioctl(vm, KVM_CREATE_DEVICE, &c));
    fails(ioctl(vm, KVM_CREATE_DEVICE, &c), EBUSY);
    fd = vm;
    fails(ioctl(c.fd, KVM_SET_DEVICE_ATTR, &attr), EINVAL);
    fd = d.group;
    ok(ioctl(c.fd, KVM_SET_DEVICE_ATTR, &attr));
    fails(ioctl(c.fd, KVM_SET_DEVICE_ATTR, &attr), EEXIST);
    attr.attr = KVM_DEV_VFIO_GROUP_DEL;
    ok(ioctl(c.fd, KVM_SET_DEVICE_ATTR, &attr));
    fails(ioctl(c.fd, KVM_SET_DEVICE_ATTR, &attr), ENOENT);
    attr.group = 9;
    fails(ioctl(c.fd, KVM_SET_DEVICE_ATTR, &attr), ENXIO);
}

/* --- running the cases ---------------------------------------------------- */

typedef struct Case {
    const char *path;
    void (*fn)(void);
    const char *arg;
    const char *options[3];
    unsigned runs;
} Case;

static const Case cases[] = {
    { .path = "sysfs", .fn = test_sysfs },
    { .path = "manager", .fn = test_manager,
      .options = { "--raise-memlock" } },
    { .path = "inert", .fn = test_inert },
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
    { .path = "mmap/legacy", .fn = test_mmap, .arg = "legacy" },
    { .path = "mmap/iommufd", .fn = test_mmap, .arg = "iommufd" },
    { .path = "gate/legacy", .fn = test_gate, .arg = "legacy" },
    { .path = "gate/iommufd", .fn = test_gate, .arg = "iommufd" },
    { .path = "dma/legacy", .fn = test_dma, .arg = "legacy" },
    { .path = "dma/iommufd", .fn = test_dma, .arg = "iommufd" },
    { .path = "maps/legacy", .fn = test_maps, .arg = "legacy" },
    { .path = "maps/iommufd", .fn = test_maps, .arg = "iommufd" },
    { .path = "msix/legacy", .fn = test_msix, .arg = "legacy" },
    { .path = "msix/iommufd", .fn = test_msix, .arg = "iommufd" },
    { .path = "intx/legacy", .fn = test_intx, .arg = "legacy" },
    { .path = "intx/iommufd", .fn = test_intx, .arg = "iommufd" },
    { .path = "hdm/legacy", .fn = test_hdm, .arg = "legacy" },
    { .path = "hdm/iommufd", .fn = test_hdm, .arg = "iommufd" },
    { .path = "reset/legacy", .fn = test_reset, .arg = "legacy" },
    { .path = "reset/iommufd", .fn = test_reset, .arg = "iommufd" },
    { .path = "poison", .fn = test_poison },
    { .path = "config", .fn = test_config },
    { .path = "faults", .fn = test_faults,
      .options = { "--fault=" HOST0 " open errno=12 count=1" } },
    { .path = "inherit/legacy", .fn = test_inherit, .arg = "legacy" },
    { .path = "inherit/iommufd", .fn = test_inherit, .arg = "iommufd" },
    { .path = "fork/legacy", .fn = test_fork, .arg = "legacy" },
    { .path = "fork/iommufd", .fn = test_fork, .arg = "iommufd" },
    { .path = "persist", .fn = test_persist, .runs = 2 },
    { .path = "control", .fn = test_control },
    { .path = "devices", .fn = test_devices,
      .options = { "--devices=2" } },
    { .path = "large", .fn = test_large,
      .options = { "--memory=1T" } },
    { .path = "kvm", .fn = test_kvm },
};

static char *launcher(void)
{
    g_autofree char *dir = g_path_get_dirname(self);

    return g_build_filename(dir, "vfio-sim", NULL);
}

static void remove_tree(const char *dir)
{
    char *argv[] = { (char *)"rm", (char *)"-rf", (char *)dir, NULL };

    g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL,
                 NULL, NULL);
}

static int spawn(char **argv, char **err)
{
    GError *error = NULL;
    int status;

    g_spawn_sync(NULL, argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, err,
                 &status, &error);
    g_assert_no_error(error);
    return status;
}

static void run_case(gconstpointer opaque)
{
    const Case *c = opaque;
    g_autofree char *sim = launcher();
    g_autofree char *dir = g_dir_make_tmp("vfio-sim-test-XXXXXX", NULL);
    g_autofree char *where = g_strconcat("--state-dir=", dir, NULL);
    unsigned i, run;

    for (run = 0; run < MAX(c->runs, 1); run++) {
        g_autoptr(GPtrArray) argv = g_ptr_array_new();
        g_autofree char *err = NULL;
        int status;

        g_ptr_array_add(argv, sim);
        g_ptr_array_add(argv, where);
        for (i = 0; i < G_N_ELEMENTS(c->options) && c->options[i]; i++) {
            g_ptr_array_add(argv, (char *)c->options[i]);
        }
        g_ptr_array_add(argv, (char *)"--");
        g_ptr_array_add(argv, (char *)self);
        g_ptr_array_add(argv, (char *)"--run");
        g_ptr_array_add(argv, (char *)c->path);
        g_ptr_array_add(argv, (char *)(c->arg ? c->arg : ""));
        g_ptr_array_add(argv, NULL);
        status = spawn((char **)argv->pdata, &err);
        if (status) {
            g_test_message("%s", err);
            g_printerr("%s", err);
            g_test_fail();
        }
    }
    remove_tree(dir);
}

static void expect(int want, const char *text, ...)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autofree char *sim = launcher();
    g_autofree char *err = NULL;
    const char *arg;
    int status;
    va_list ap;

    g_ptr_array_add(argv, sim);
    va_start(ap, text);
    while ((arg = va_arg(ap, const char *))) {
        g_ptr_array_add(argv, (char *)arg);
    }
    va_end(ap);
    g_ptr_array_add(argv, NULL);
    status = spawn((char **)argv->pdata, &err);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, want);
    if (text) {
        g_assert_nonnull(strstr(err, text));
    }
}

static void test_launcher(void)
{
    g_autofree char *dir = g_dir_make_tmp("vfio-sim-test-XXXXXX", NULL);
    g_autofree char *config = g_build_filename(dir, "config", NULL);
    g_autofree char *in = g_strconcat("--state-dir=", dir, NULL);
    const char *gone = "test -d \"$VFIO_SIM_DIR\" || exit 9; "
                       "echo \"$VFIO_SIM_DIR\" >&2; exit 7";

    expect(2, "a command is missing", NULL);
    expect(2, "--help", "--no-such-option", NULL);
    expect(2, "multiple of 256M", "--memory=100M", "--", "true", NULL);
    expect(2, "not a size", "--memory=lots", "--", "true", NULL);
    expect(2, "not a size", "--memory=-256M", "--", "true", NULL);
    expect(2, "1 to 16", "--devices=17", "--", "true", NULL);
    expect(2, "A, B or C", "--topology=D", "--", "true", NULL);
    expect(2, "v2-reset", "--kernel=v9", "--", "true", NULL);
    expect(2, "address of a device", "--fault=open errno=1", "--", "true",
           NULL);
    expect(2, "unknown operation", "--fault=" HOST0 " nothing errno=1", "--",
           "true", NULL);
    expect(2, "skip must be", "--fault=" HOST0 " open errno=1 skip=x", "--",
           "true", NULL);
    expect(2, "set: expected", "--set=" HOST0 " nothing=1", "--", "true", NULL);
    expect(127, "not found", "--", "no-such-command-here", NULL);
    expect(2, "nobody listens", "--control", dir, "devices", NULL);
    expect(0, NULL, "--help", NULL);
    expect(7, NULL, "--", "/bin/sh", "-c", gone, NULL);
    expect(128 + SIGTERM, NULL, "--", "/bin/sh", "-c", "kill -TERM $$", NULL);
    expect(0, NULL, "--", "/bin/sh", "-c",
           "kill -0 $PPID && test \"$(cat /sys/bus/pci/devices/" HOST0
           "/vendor)\" = 0x1af4", NULL);

    /* The launcher passes a signal on and waits for the end */
    expect(5, NULL, "--", "/bin/sh", "-c",
           "trap 'exit 5' TERM; kill -TERM $PPID; "
           "for i in 1 2 3 4 5 6 7 8 9; do sleep 0.5; done", NULL);

    expect(0, NULL, "--prepare", dir, "--memory=512M", NULL);
    g_assert_true(g_file_test(config, G_FILE_TEST_EXISTS));
    expect(2, "made with other options", in, "--memory=256M", "--", "true",
           NULL);
    expect(3, NULL, in, "--", "/bin/sh", "-c", "exit 3", NULL);
    remove_tree(dir);
}

static void kill_launcher(void)
{
    g_autofree char *sim = launcher();
    char dir[128] = "";
    int out[2], status;
    unsigned i;
    pid_t pid;

    ok(pipe(out));
    pid = fork();
    if (pid == 0) {
        dup2(out[1], 1);
        execl(sim, sim, "--", "/bin/sh", "-c",
              "echo -n $VFIO_SIM_DIR; exec sleep 30", NULL);
        _exit(99);
    }
    g_assert_cmpint(read(out[0], dir, sizeof(dir) - 1), >, 0);
    g_assert_true(g_file_test(dir, G_FILE_TEST_EXISTS));
    kill(pid, SIGKILL);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    for (i = 0; i < 100 && g_file_test(dir, G_FILE_TEST_EXISTS); i++) {
        g_usleep(100000);
    }
    g_assert_false(g_file_test(dir, G_FILE_TEST_EXISTS));
    close(out[0]);
    close(out[1]);
}

static void test_cleanup(void)
{
    g_autofree char *sim = launcher();
    char *argv[] = {
        sim, (char *)"--", (char *)"/bin/sh", (char *)"-c",
        (char *)"echo -n \"$VFIO_SIM_DIR\" >&2", NULL
    };
    char *daemon[] = {
        sim, (char *)"--", (char *)self, (char *)"--child",
        (char *)"daemon", (char *)"0", NULL
    };
    g_autofree char *dir = NULL, *dir2 = NULL;
    unsigned i;

    g_assert_cmpint(spawn(argv, &dir), ==, 0);
    g_assert_true(g_path_is_absolute(dir));
    g_assert_false(g_file_test(dir, G_FILE_TEST_EXISTS));

    /* Nor does it stay when the launcher is killed, and the command with it */
    kill_launcher();

    /* A command in the background keeps its state until it ends */
    g_assert_cmpint(spawn(daemon, &dir2), ==, 0);
    g_assert_true(g_file_test(dir2, G_FILE_TEST_EXISTS));
    for (i = 0; i < 100 && g_file_test(dir2, G_FILE_TEST_EXISTS); i++) {
        g_usleep(100000);
    }
    g_assert_false(g_file_test(dir2, G_FILE_TEST_EXISTS));
}

/* Goes to the background and uses the device there for a second */
static int child_daemon(void)
{
    int ready[2];
    char c = 0;

    ok(pipe(ready));
    if (fork() == 0) {
        int null = open("/dev/null", O_RDWR);
        Dev d;

        setsid();
        open_iommufd(&d);
        g_printerr("%s", g_getenv("VFIO_SIM_DIR"));
        dup2(null, 1);
        dup2(null, 2);
        c = reg_r(d.fd, VFIO_SIM_REG_ID) == VFIO_SIM_ID ? 'y' : 'n';
        g_assert_cmpint(write(ready[1], &c, 1), ==, 1);
        sleep(1);
        _exit(0);
    }
    return read(ready[0], &c, 1) == 1 && c == 'y' ? 0 : 1;
}

static int child_main(const char *name, int arg)
{
    alarm(30);
    if (g_str_equal(name, "open")) {
        return child_open(arg);
    }
    if (g_str_equal(name, "cdev")) {
        return child_cdev(arg);
    }
    if (g_str_equal(name, "daemon")) {
        return child_daemon();
    }
    return child_device(arg);
}

int main(int argc, char **argv)
{
    g_autofree char *exe = g_file_read_link("/proc/self/exe", NULL);
    unsigned i;

    self = exe;
    if (argc == 4 && g_str_equal(argv[1], "--child")) {
        return child_main(argv[2], atoi(argv[3]));
    }
    if (argc == 4 && g_str_equal(argv[1], "--run")) {
        alarm(60);
        child_args = argv + 3;
        for (i = 0; i < G_N_ELEMENTS(cases); i++) {
            if (g_str_equal(cases[i].path, argv[2])) {
                cases[i].fn();
                return 0;
            }
        }
        return 3;
    }
    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strconcat("/vfio-sim/", cases[i].path, NULL);

        g_test_add_data_func(path, &cases[i], run_case);
    }
    g_test_add_func("/vfio-sim/launcher", test_launcher);
    g_test_add_func("/vfio-sim/cleanup", test_cleanup);
    return g_test_run();
}
