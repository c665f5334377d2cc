/*
 * Conformance test of the kernel generations that vfio-sim stands in for
 *
 * What is asserted here comes from the description of each generation's
 * interface, not from vfio-sim's code, and uses raw ioctls, no QEMU. Each
 * case runs in a process of its own under vfio-sim.
 *
 * With --device=ADDRESS the cases run on a real device instead, except those
 * that must tell the device or its firmware what to do. They reset the
 * device, write to its memory and change what the kernel lets them change;
 * bind the driver anew before the next run, as v3 keeps the changes until then.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/pci_regs.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "uapi.h"
#include "vfio-sim-regs.h"

#define TYPE_1E98       0x80001e98u
#define BLOCK_SIZE      0x10000
#define CM              0x1000
#define MIB256          (256ull << 20)
#define CASE_SECONDS    60
#define EXIT_SKIP       77

/* Registers of the HDM decoder block */
enum {
    CAPABILITY = 0x00, GLOBAL = 0x04, BASE_LO = 0x10, BASE_HI = 0x14,
    SIZE_LO = 0x18, SIZE_HI = 0x1c, CTRL = 0x20, TARGET_LO = 0x24,
    TARGET_HI = 0x28, RESERVED = 0x2c,
};
#define LOCK            (1u << 8)
#define COMMIT          (1u << 9)
#define COMMITTED       (1u << 10)
#define ERROR           (1u << 11)

/* Registers of the CXL Device DVSEC */
enum {
    CONTROL = 0x0c, STATUS = 0x0e, CONTROL2 = 0x10, STATUS2 = 0x12,
    CONFIG_LOCK = 0x14, SIZE1_HI = 0x18, SIZE1_LO = 0x1c, BASE1_HI = 0x20,
    BASE1_LO = 0x24,
};

enum {
    V2 = 1, V2R = 2, V2N = 4, V3 = 8, V4 = 16, V5 = 32, NONE = 64,
    V2S = V2 | V2R | V2N, GEOMETRY = V4 | V5, CXL = V2S | V3 | V4 | V5,
};

typedef struct Kernel {
    const char *name;
    unsigned bit;
    unsigned cap;           /* bytes of the device capability */
    unsigned mem;           /* region index on a device without others */
    unsigned regs;
    uint32_t type;
} Kernel;

static const Kernel kernels[] = {
    { "v2", V2, 32, 9, 10, TYPE_1E98 },
    { "v2-reset", V2R, 32, 9, 10, TYPE_1E98 },
    { "v2-nommap", V2N, 32, 9, 10, TYPE_1E98 },
    { "v3", V3, 48, 10, 9, TYPE_1E98 },
    { "v4", V4, 0, 9, 10, 4 },
    { "v5", V5, 0, 9, 10, TYPE_1E98 },
    { "none", NONE, 0, 0, 0, 0 },
};

typedef struct Device {
    int container;          /* or iommufd */
    int group;
    int fd;
    uint32_t ioas;
    unsigned mem;
    unsigned regs;
    unsigned bar;
    uint64_t block;
    unsigned hdm;           /* offset of the HDM block in the CM area */
    unsigned dvsec;
    uint64_t mem_size;
    uint64_t regs_size;
    uint64_t bar_size;
} Device;

static const Kernel *kernel;
static const char *host = "0000:c1:00.0";
static const char *self;
static bool real;

#define assert_ok(expr) g_assert_cmpint((expr), ==, 0)
#define assert_errno(expr, err) \
    do { \
        errno = 0; \
        g_assert_cmpint((expr), ==, -1); \
        g_assert_cmpint(errno, ==, (err)); \
    } while (0)

static bool is(unsigned bits)
{
    return kernel->bit & bits;
}

/* --- the device ---------------------------------------------------------- */

static char *sysfs(const char *name)
{
    return g_strdup_printf("/sys/bus/pci/devices/%s/%s", host, name);
}

static uint64_t region(unsigned index, uint64_t offset)
{
    return ((uint64_t)index << 40) | offset;
}

static ssize_t get(Device *d, unsigned index, uint64_t off, void *buf,
                   size_t count)
{
    return pread(d->fd, buf, count, region(index, off));
}

static ssize_t put(Device *d, unsigned index, uint64_t off, const void *buf,
                   size_t count)
{
    return pwrite(d->fd, buf, count, region(index, off));
}

static uint32_t get32(Device *d, unsigned index, uint64_t off)
{
    uint32_t value = 0;

    g_assert_cmpint(get(d, index, off, &value, 4), ==, 4);
    return value;
}

static void put32(Device *d, unsigned index, uint64_t off, uint32_t value)
{
    g_assert_cmpint(put(d, index, off, &value, 4), ==, 4);
}

static uint16_t cfg16(Device *d, unsigned off)
{
    uint16_t value = 0;

    g_assert_cmpint(get(d, VFIO_PCI_CONFIG_REGION_INDEX, off, &value, 2),
                    ==, 2);
    return value;
}

static uint32_t cfg32(Device *d, unsigned off)
{
    return get32(d, VFIO_PCI_CONFIG_REGION_INDEX, off);
}

static void set_cfg(Device *d, unsigned off, uint32_t value, unsigned size)
{
    g_assert_cmpint(put(d, VFIO_PCI_CONFIG_REGION_INDEX, off, &value, size),
                    ==, size);
}

static unsigned find_dvsec(Device *d, unsigned id)
{
    unsigned pos = 0x100, n;

    for (n = 0; pos && n < 480; n++) {
        uint32_t header = cfg32(d, pos);

        if ((header & 0xffff) == 0x23 && cfg16(d, pos + 4) == 0x1e98 &&
            cfg16(d, pos + 8) == id) {
            return pos;
        }
        pos = header >> 20;
    }
    return 0;
}

static unsigned find_cap(Device *d, unsigned id)
{
    unsigned pos = cfg16(d, PCI_CAPABILITY_LIST) & 0xfc, n;

    for (n = 0; pos && n < 48; n++) {
        uint16_t header = cfg16(d, pos);

        if ((header & 0xff) == id) {
            return pos;
        }
        pos = header >> 8 & 0xfc;
    }
    return 0;
}

static unsigned reg_off(Device *d, unsigned hdm_off)
{
    return is(V2S) ? d->hdm + hdm_off :
           is(V3) ? CM + d->hdm + hdm_off : hdm_off;
}

static uint32_t hdm(Device *d, unsigned off)
{
    return get32(d, d->regs, reg_off(d, off));
}

static void set_hdm(Device *d, unsigned off, uint32_t value)
{
    put32(d, d->regs, reg_off(d, off), value);
}

static struct vfio_region_info *region_info(Device *d, unsigned index)
{
    struct vfio_region_info *info = g_malloc0(4096);

    info->argsz = 4096;
    info->index = index;
    if (ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, info) < 0) {
        g_free(info);
        return NULL;
    }
    return info;
}

static void *info_cap(void *info, unsigned offset, unsigned id)
{
    unsigned n;

    for (n = 0; offset && n < 16; n++) {
        struct vfio_info_cap_header *h = (void *)((char *)info + offset);

        if (h->id == id) {
            g_assert_cmpint(h->version, ==, 1);
            return h;
        }
        offset = h->next;
    }
    return NULL;
}

static void find_regions(Device *d)
{
    struct vfio_device_info info = { .argsz = sizeof(info) };
    unsigned i;

    assert_ok(ioctl(d->fd, VFIO_DEVICE_GET_INFO, &info));
    for (i = VFIO_PCI_NUM_REGIONS; i < info.num_regions; i++) {
        g_autofree struct vfio_region_info *r = region_info(d, i);
        struct vfio_region_info_cap_type *type;

        g_assert_nonnull(r);
        type = info_cap(r, r->cap_offset, VFIO_REGION_INFO_CAP_TYPE);
        g_assert_nonnull(type);
        if (type->type != kernel->type) {
            continue;
        }
        if (type->subtype == 1) {
            d->mem = i;
            d->mem_size = r->size;
        } else if (type->subtype == 2) {
            d->regs = i;
            d->regs_size = r->size;
        }
    }
}

static void find_block(Device *d)
{
    unsigned pos = find_dvsec(d, 8), i, n;
    g_autofree struct vfio_region_info *bar = NULL;

    g_assert_cmpint(pos, !=, 0);
    for (i = 0x0c; i < cfg32(d, pos + 4) >> 20; i += 8) {
        uint32_t lo = cfg32(d, pos + i);

        if ((lo >> 8 & 0xff) == 1) {
            d->bar = lo & 7;
            d->block = (uint64_t)cfg32(d, pos + i + 4) << 32 |
                       (lo & 0xffff0000);
        }
    }
    bar = region_info(d, d->bar);
    d->bar_size = bar->size;
    if (!is(CXL)) {
        return;
    }
    /* The array is in the region, or in the BAR where that is open */
    for (n = 1; n < 256 && !d->hdm; n++) {
        uint32_t e = is(V2S) ? get32(d, d->regs, 4 * n) :
                     is(V3) ? get32(d, d->regs, CM + 4 * n) :
                     get32(d, d->bar, d->block + CM + 4 * n);

        if ((e & 0xffff) == 5) {
            d->hdm = e >> 20;
        }
    }
    g_assert_cmpint(d->hdm, !=, 0);
}

static unsigned link_number(const char *name)
{
    g_autofree char *path = sysfs(name);
    g_autofree char *target = g_file_read_link(path, NULL);

    g_assert_nonnull(target);
    return g_ascii_strtoull(strrchr(target, '/') + 1, NULL, 10);
}

static void open_legacy(Device *d)
{
    g_autofree char *path = g_strdup_printf("/dev/vfio/%u",
                                            link_number("iommu_group"));

    d->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
    d->group = open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(d->container, >=, 0);
    g_assert_cmpint(d->group, >=, 0);
    assert_ok(ioctl(d->group, VFIO_GROUP_SET_CONTAINER, &d->container));
    assert_ok(ioctl(d->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
    d->fd = ioctl(d->group, VFIO_GROUP_GET_DEVICE_FD, host);
}

static void open_iommufd(Device *d)
{
    struct vfio_device_bind_iommufd bind = { .argsz = 16 };
    struct vfio_device_attach_iommufd_pt attach = { .argsz = 12 };
    struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
    g_autofree char *dir = sysfs("vfio-dev");
    g_autofree char *path = NULL;
    GDir *list = g_dir_open(dir, 0, NULL);

    g_assert_nonnull(list);
    path = g_strdup_printf("/dev/vfio/devices/%s", g_dir_read_name(list));
    g_dir_close(list);
    d->group = -1;
    d->container = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    d->fd = open(path, O_RDWR | O_CLOEXEC);
    bind.iommufd = d->container;
    assert_ok(ioctl(d->fd, VFIO_DEVICE_BIND_IOMMUFD, &bind));
    assert_ok(ioctl(d->container, IOMMU_IOAS_ALLOC, &ioas));
    d->ioas = attach.pt_id = ioas.out_ioas_id;
    assert_ok(ioctl(d->fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach));
}

static Device *device_open_by(void (*open_fn)(Device *d))
{
    Device *d = g_new0(Device, 1);

    open_fn(d);
    g_assert_cmpint(d->fd, >=, 0);
    find_regions(d);
    find_block(d);
    d->dvsec = find_dvsec(d, 0);
    return d;
}

static Device *device_open(void)
{
    return device_open_by(open_legacy);
}

static void device_close(Device *d)
{
    close(d->fd);
    if (d->group >= 0) {
        close(d->group);
    }
    close(d->container);
    g_free(d);
}

static void memory_space(Device *d, bool on)
{
    uint16_t command = cfg16(d, PCI_COMMAND) & ~PCI_COMMAND_MEMORY;

    set_cfg(d, PCI_COMMAND, command | (on ? PCI_COMMAND_MEMORY : 0), 2);
}

static void reset(Device *d)
{
    unsigned tries = 20;

    while (ioctl(d->fd, VFIO_DEVICE_RESET) < 0) {
        g_assert_cmpint(errno, ==, EAGAIN);
        g_assert_cmpint(--tries, >, 0);
        g_usleep(10 * 1000);
    }
}

static sigjmp_buf bus_error;

static void on_sigbus(int sig)
{
    (void)sig;
    siglongjmp(bus_error, 1);
}

/*
 * Reads a mapped dword; false if that raises SIGBUS. It is volatile because
 * others may change it.
 */
static bool touch(volatile uint32_t *p, uint32_t *value)
{
    struct sigaction sa = { .sa_handler = on_sigbus }, old;
    volatile bool ok = false;       /* is to survive siglongjmp() */

    sigaction(SIGBUS, &sa, &old);
    if (!sigsetjmp(bus_error, 1)) {
        *value = *p;
        ok = true;
    }
    sigaction(SIGBUS, &old, NULL);
    return ok;
}

static bool accessible(uint32_t *p)
{
    uint32_t value;

    return touch(p, &value);
}

static void *map(Device *d, unsigned index, uint64_t off, size_t size)
{
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, d->fd,
                region(index, off));
}

static void *map_memory(Device *d)
{
    void *p = map(d, d->mem, 0, 0x4000);

    g_assert_true(p != MAP_FAILED);
    return p;
}

/* --- vfio-sim's control channel ------------------------------------------ */

static char *control(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

static char *control(const char *fmt, ...)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_autofree char *line = NULL;
    char reply[65536];
    size_t n = 0;
    va_list ap;

    va_start(ap, fmt);
    line = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/control",
             g_getenv("VFIO_SIM_DIR"));
    assert_ok(connect(fd, (void *)&sa, sizeof(sa)));
    g_assert_cmpint(dprintf(fd, "%s\n", line), >, 0);
    do {
        ssize_t got = read(fd, reply + n, sizeof(reply) - 1 - n);

        g_assert_cmpint(got, >, 0);
        n += got;
        reply[n] = '\0';
    } while (!strchr(reply, '\n'));
    close(fd);
    g_assert_true(g_str_has_prefix(reply, "{\"return\""));
    return g_strdup(reply);
}

#define tell(...) g_free(control(__VA_ARGS__))

static uint64_t number(const char *reply, const char *key)
{
    g_autofree char *quoted = g_strdup_printf("\"%s\": ", key);
    const char *at = strstr(reply, quoted);

    g_assert_nonnull(at);
    return g_ascii_strtoull(at + strlen(quoted), NULL, 10);
}

static uint64_t statistic(const char *name)
{
    g_autofree char *reply = control("stats %s", host);

    return number(reply, name);
}

/* --- discovery ----------------------------------------------------------- */

static void test_info(void)
{
    uint8_t buf[256] __attribute__((aligned(8))) = { 0 };
    struct vfio_device_info *info = (void *)buf;
    Device *d = device_open();
    unsigned full = 24 + kernel->cap;
    uint8_t *cap;

    info->argsz = 12;
    assert_errno(ioctl(d->fd, VFIO_DEVICE_GET_INFO, info), EINVAL);

    info->argsz = 16;
    assert_ok(ioctl(d->fd, VFIO_DEVICE_GET_INFO, info));
    g_assert_true(info->flags & VFIO_DEVICE_FLAGS_PCI);
    g_assert_true(info->flags & VFIO_DEVICE_FLAGS_RESET);
    g_assert_cmpint(!!(info->flags & 1 << 9), ==, is(CXL));
    g_assert_cmpint(info->num_regions, >=, is(CXL) ? 11 : 9);

    memset(buf, 0, sizeof(buf));
    info->argsz = 24;
    assert_ok(ioctl(d->fd, VFIO_DEVICE_GET_INFO, info));
    g_assert_cmpint(info->cap_offset, ==, 0);
    if (!kernel->cap) {
        g_assert_false(info->flags & VFIO_DEVICE_FLAGS_CAPS);
        g_assert_cmpint(info->argsz, ==, 24);
        device_close(d);
        return;
    }
    g_assert_true(info->flags & VFIO_DEVICE_FLAGS_CAPS);
    g_assert_cmpint(info->argsz, ==, full);

    info->argsz = sizeof(buf);
    assert_ok(ioctl(d->fd, VFIO_DEVICE_GET_INFO, info));
    g_assert_cmpint(info->argsz, ==, sizeof(buf));
    cap = info_cap(buf, info->cap_offset, 6);
    g_assert_nonnull(cap);
    if (is(V2S)) {
        g_assert_cmpint(cap[8], ==, d->bar);
        g_assert_cmpint(cap[9] | cap[10] | cap[11], ==, 0);
        g_assert_cmpint(*(uint32_t *)(cap + 12) & ~2u, ==, 1);
        g_assert_cmpint(!!(cap[12] & 2), ==, cfg16(d, d->dvsec + 0x0a) & 1);
        g_assert_cmpint(*(uint64_t *)(cap + 16), ==, d->block + CM);
        g_assert_cmpint(*(uint32_t *)(cap + 24), ==, d->mem);
        g_assert_cmpint(*(uint32_t *)(cap + 28), ==, d->regs);
    } else {
        g_assert_cmpint(*(uint32_t *)(cap + 8), ==, 1);
        g_assert_cmpint(*(uint32_t *)(cap + 12), ==, d->mem);
        g_assert_cmpint(*(uint32_t *)(cap + 16), ==, d->regs);
        g_assert_cmpint(*(uint32_t *)(cap + 20), ==, d->bar);
        g_assert_cmpint(*(uint32_t *)(cap + 24), ==, 0);
        g_assert_cmpint(*(uint64_t *)(cap + 32), ==, d->block);
        g_assert_cmpint(*(uint64_t *)(cap + 40), ==, BLOCK_SIZE);
    }
    device_close(d);
}

static void test_regions(void)
{
    Device *d = device_open();
    g_autofree struct vfio_region_info *mem = region_info(d, d->mem);
    g_autofree struct vfio_region_info *regs = region_info(d, d->regs);
    struct vfio_region_info_cap_type *type;
    uint8_t buf[512] __attribute__((aligned(8))) = { 0 };
    struct vfio_region_info *small = (void *)buf;
    unsigned rw = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    unsigned caps = VFIO_REGION_INFO_FLAG_CAPS;
    uint64_t size = hdm(d, SIZE_LO) | (uint64_t)hdm(d, SIZE_HI) << 32;
    unsigned count = hdm(d, CAPABILITY) & 0xf;
    unsigned block = 0x10 + 0x20 * (count ? 2 * count : 1);

    if (!real) {
        g_assert_cmpint(d->mem, ==, kernel->mem);
        g_assert_cmpint(d->regs, ==, kernel->regs);
    }
    g_assert_cmpint(mem->flags, ==, rw | caps |
                    (is(V2N) ? 0 : VFIO_REGION_INFO_FLAG_MMAP));
    g_assert_cmpint(regs->flags, ==, rw | caps);
    g_assert_cmpint(mem->size, ==, size);
    g_assert_cmpint(mem->size % MIB256, ==, 0);
    g_assert_cmpint(mem->offset, ==, region(d->mem, 0));
    g_assert_cmpint(regs->size, ==, is(V2S) ? d->hdm + block :
                                    is(V3) ? BLOCK_SIZE : block);
    g_assert_cmpint(regs->size, ==, d->regs_size);

    /* Too little room: only how much it takes */
    small->argsz = 31;
    small->index = d->mem;
    assert_errno(ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, small), EINVAL);
    small->argsz = 32;
    assert_ok(ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, small));
    g_assert_cmpint(small->argsz, ==, 48);
    g_assert_cmpint(small->cap_offset, ==, 0);
    g_assert_true(small->flags & caps);
    memset(buf, 0, sizeof(buf));
    small->argsz = 33;
    small->index = d->regs;
    assert_ok(ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, small));
    g_assert_cmpint(small->argsz, >=, is(GEOMETRY) ? 64 : 48);
    if (!is(GEOMETRY)) {
        g_assert_cmpint(small->argsz, ==, 48);
        type = info_cap(regs, regs->cap_offset, VFIO_REGION_INFO_CAP_TYPE);
        g_assert_cmpint(type->header.next, ==, 0);
    }
    small->argsz = sizeof(buf);
    small->index = 4000;
    assert_errno(ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, small), EINVAL);
    device_close(d);
}

/* The capability whose id and layout nobody has settled */
static void test_geometry(void)
{
    Device *d = device_open();
    g_autofree struct vfio_region_info *regs = region_info(d, d->regs);
    struct vfio_region_info_cap_type *type =
        info_cap(regs, regs->cap_offset, VFIO_REGION_INFO_CAP_TYPE);
    const char *form = g_getenv("GEOMETRY_FORM");
    unsigned id = g_getenv("GEOMETRY_ID") ?
                  atoi(g_getenv("GEOMETRY_ID")) : 6;
    uint64_t want = d->block + CM + d->hdm;
    uint8_t *cap = (uint8_t *)regs + type->header.next;

    g_assert_cmpint(regs->cap_offset, ==, 32);
    g_assert_cmpint(type->header.next, ==, 48);
    g_assert_cmpint(*(uint16_t *)cap, ==, id);
    g_assert_cmpint(*(uint16_t *)(cap + 2), ==, 1);
    g_assert_cmpint(*(uint32_t *)(cap + 4), ==, 0);
    g_assert_cmpint(*(uint32_t *)(cap + 8), ==, d->bar);
    if (form && !strcmp(form, "u32")) {
        g_assert_cmpint(*(uint32_t *)(cap + 12), ==, want);
    } else {
        g_assert_cmpint(*(uint64_t *)(cap + 16), ==, want);
    }
    /* The array in the BAR leads to the region */
    g_assert_cmpint(get32(d, d->bar, d->block + CM) & 0xffff, ==, 1);
    device_close(d);
}

/* What the kernel does with devices that are not quite as it expects */
static void test_bind(void)
{
    struct vfio_device_info info = { .argsz = sizeof(info) };
    Device d = { 0 };

    if (is(V3)) {
        g_assert_cmpint(open("/dev/vfio/1", O_RDWR), ==, -1);
        g_assert_cmpint(errno, ==, ENOENT);
        g_assert_cmpint(open("/dev/vfio/devices/vfio0", O_RDWR), ==, -1);
        g_assert_cmpint(errno, ==, ENOENT);
        return;
    }
    open_legacy(&d);
    g_assert_cmpint(d.fd, >=, 0);
    assert_ok(ioctl(d.fd, VFIO_DEVICE_GET_INFO, &info));
    g_assert_false(info.flags & 1 << 9);
    g_assert_cmpint(info.num_regions, ==, 9);
}

static void test_none(void)
{
    Device *d = device_open();
    g_autofree struct vfio_region_info *bar = region_info(d, d->bar);
    uint8_t *p = map(d, d->bar, 0, bar->size);
    uint32_t value;

    g_assert_null(region_info(d, 9));
    g_assert_cmpint(errno, ==, EINVAL);
    g_assert_cmpint(bar->flags & VFIO_REGION_INFO_FLAG_CAPS, ==, 0);
    g_assert_true(p != MAP_FAILED);
    value = get32(d, d->bar, d->block + CM);
    g_assert_cmpint(value & 0xffff, ==, 1);
    g_assert_cmpint(*(uint32_t *)(p + d->block + CM), ==, value);
    *(uint32_t *)(p + d->block + CM) = 0;
    reset(d);
    g_assert_cmpint(*(uint32_t *)(p + d->block + CM), ==, value);
    g_assert_true(map(d, 9, 0, 4096) == MAP_FAILED);
    assert_errno(get(d, 9, 0, &value, 4), EINVAL);
    device_close(d);
}

/* --- the BAR with the component registers -------------------------------- */

static void test_bar_areas(void)
{
    Device *d = device_open();
    g_autofree struct vfio_region_info *bar = region_info(d, d->bar);
    struct vfio_region_info_cap_sparse_mmap *sparse =
        info_cap(bar, bar->cap_offset, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
    uint64_t page = getauxval(AT_PAGESZ);
    uint64_t start = d->block, end = d->block + BLOCK_SIZE, at = 0;
    unsigned i, want;

    if (is(GEOMETRY)) {
        start += CM + d->hdm;
        end = (start + d->regs_size + page - 1) / page * page;
        start = start / page * page;
    }
    want = (start > 0) + (end < bar->size);
    g_assert_true(bar->flags & VFIO_REGION_INFO_FLAG_MMAP);
    g_assert_nonnull(sparse);
    g_assert_cmpint(sparse->nr_areas, ==, want);
    for (i = 0; i < want; i++) {
        uint64_t off = sparse->areas[i].offset, size = sparse->areas[i].size;
        uint8_t *p = map(d, d->bar, off, size);

        at = at == 0 && start > 0 ? 0 : end;
        g_assert_cmpint(off, ==, at);
        g_assert_cmpint(off + size, ==, at == 0 && start > 0 ? start :
                                                               bar->size);
        g_assert_true(p != MAP_FAILED);
        g_assert_true(accessible((void *)p));
        munmap(p, size);
        at = off + size;
    }
    g_assert_true(map(d, d->bar, start, page) == MAP_FAILED);
    g_assert_cmpint(errno, ==, EINVAL);
    g_assert_true(map(d, d->bar, end - page, page) == MAP_FAILED);
    g_assert_true(map(d, d->bar, 0, bar->size) == MAP_FAILED);
    g_assert_cmpint(errno, ==, EINVAL);
    device_close(d);
}

static void test_bar_hole(void)
{
    Device *d = device_open();
    uint64_t reg = d->block + CM + d->hdm;
    uint64_t edge = is(V3) ? d->block : reg;
    uint8_t buf[16];
    uint32_t value = 0x12345678;

    if (is(V2S)) {
        /* Nobody stops it: this is the hardware, with the host's address */
        g_assert_cmpint(get32(d, d->bar, reg + SIZE_HI), ==, hdm(d, SIZE_HI));
        g_assert_true(get32(d, d->bar, reg + CTRL) & COMMITTED);
    } else if (is(V3 | V4)) {
        assert_errno(get(d, d->bar, reg, &value, 4), EINVAL);
        assert_errno(put(d, d->bar, reg, &value, 4), EINVAL);
        assert_errno(get(d, d->bar, reg + 0x2e, &value, 2), EINVAL);
        if (edge >= 8) {
            assert_errno(get(d, d->bar, edge - 4, buf, 8), EINVAL);
            g_assert_cmpint(get(d, d->bar, edge - 4, buf, 4), ==, 4);
        }
    } else {
        uint32_t before = hdm(d, GLOBAL);

        g_assert_cmpint(get32(d, d->bar, reg + CTRL), ==, 0xffffffff);
        put32(d, d->bar, reg + GLOBAL, ~before);
        g_assert_cmpint(hdm(d, GLOBAL), ==, before);
        /* Only those bytes */
        g_assert_cmpint(get(d, d->bar, reg - 8, buf, 16), ==, 16);
        g_assert_cmpint(memcmp(buf + 8, "\xff\xff\xff\xff\xff\xff\xff\xff",
                               8), ==, 0);
        g_assert_cmpint(get(d, d->bar, reg + d->regs_size - 4, buf, 8), ==, 8);
    }
    if (is(V3)) {
        assert_errno(get(d, d->bar, d->block + CM, &value, 4), EINVAL);
        assert_errno(get(d, d->bar, d->block + BLOCK_SIZE - 4, &value, 4),
                     EINVAL);
    } else {
        g_assert_cmpint(get32(d, d->bar, d->block + CM) & 0xffff, ==, 1);
    }

    /* Like any BAR while Memory Space is off */
    if (!is(V3)) {
        memory_space(d, false);
        assert_errno(get(d, d->bar, d->block + CM, &value, 4), EIO);
        assert_errno(put(d, d->bar, d->block + CM, &value, 4), EIO);
        memory_space(d, true);
    }
    assert_errno(get(d, d->bar, d->bar_size, &value, 4), EINVAL);
    device_close(d);
}

/* --- the registers' region ----------------------------------------------- */

static void test_registers_access(void)
{
    Device *d = device_open();
    uint64_t size = d->regs_size;
    uint32_t buf[16] = { 0 };
    unsigned base = reg_off(d, 0);
    bool multi = !is(V2S), clamp = !is(V3);

    g_assert_cmpint(get(d, d->regs, base, buf, 0), ==, 0);
    g_assert_cmpint(get(d, d->regs, base, buf, 4), ==, 4);
    assert_errno(get(d, d->regs, base, buf, 1), EINVAL);
    assert_errno(get(d, d->regs, base, buf, 2), EINVAL);
    assert_errno(get(d, d->regs, base, buf, 6), EINVAL);
    assert_errno(get(d, d->regs, base + 2, buf, 4), EINVAL);
    assert_errno(put(d, d->regs, base + 4, buf, 2), EINVAL);
    assert_errno(get(d, d->regs, size, buf, 4), EINVAL);
    assert_errno(get(d, d->regs, size + 64, buf, 4), EINVAL);
    if (multi) {
        g_assert_cmpint(get(d, d->regs, base, buf, 0x30), ==, 0x30);
        g_assert_cmpint(buf[CTRL / 4], ==, hdm(d, CTRL));
    } else {
        assert_errno(get(d, d->regs, base, buf, 8), EINVAL);
    }
    if (clamp) {
        g_assert_cmpint(get(d, d->regs, size - 4, buf, 8), ==, 4);
    } else {
        assert_errno(get(d, d->regs, size - 4, buf, 8), EINVAL);
    }
    g_assert_true(map(d, d->regs, 0, 4096) == MAP_FAILED);
    g_assert_cmpint(errno, ==, EINVAL);

    if (is(V2S | V3)) {
        unsigned array = is(V3) ? CM : 0;
        uint32_t head = get32(d, d->regs, array);

        g_assert_cmpint(head & 0xffff, ==, 1);
        put32(d, d->regs, array, ~head);
        g_assert_cmpint(get32(d, d->regs, array), ==, head);
    }
    if (is(V3)) {
        uint64_t at;

        for (at = 0; at < CM; at += 4) {
            g_assert_cmpint(get32(d, d->regs, at), ==, 0);
        }
        for (at = CM + d->hdm + 0x30; at < size; at += at < 2 * CM ? 4 : 64) {
            put32(d, d->regs, at, 0xffffffff);
            g_assert_cmpint(get32(d, d->regs, at), ==, 0);
        }
    }
    device_close(d);
}

static uint64_t host_address(Device *d)
{
    return (uint64_t)cfg32(d, d->dvsec + BASE1_HI) << 32 |
           (cfg32(d, d->dvsec + BASE1_LO) & 0xf0000000);
}

static void test_hdm_initial(void)
{
    Device *d = device_open();
    uint32_t ctrl = hdm(d, CTRL);
    uint64_t base = hdm(d, BASE_LO) | (uint64_t)hdm(d, BASE_HI) << 32;

    g_assert_true(ctrl & COMMIT);
    g_assert_true(ctrl & COMMITTED);
    g_assert_false(ctrl & ERROR);
    g_assert_cmpint(ctrl >> 4 & 0xf, ==, 0);
    if (is(V2S)) {
        g_assert_false(ctrl & LOCK);
        g_assert_cmpint(base, ==, 0);
    } else {
        g_assert_true(ctrl & LOCK);
        g_assert_cmpint(base, ==, host_address(d));
    }
    device_close(d);
}

static void v2_writes(Device *d)
{
    uint32_t cap = hdm(d, CAPABILITY), ctrl = hdm(d, CTRL), value;
    unsigned i;

    for (i = 0; i < 2; i++) {
        set_hdm(d, 0x08 + 4 * i, 0xffffffff);
        g_assert_cmpint(hdm(d, 0x08 + 4 * i), ==, 0);
    }
    set_hdm(d, CAPABILITY, ~cap);
    g_assert_cmpint(hdm(d, CAPABILITY), ==, cap);
    set_hdm(d, GLOBAL, 0xffffffff);
    g_assert_cmpint(hdm(d, GLOBAL), ==, cap & 1 << 10 ? 3 : 2);
    value = hdm(d, TARGET_LO);
    set_hdm(d, TARGET_LO, ~value);
    g_assert_cmpint(hdm(d, TARGET_LO), ==, value);
    set_hdm(d, RESERVED, 0xffffffff);
    g_assert_cmpint(hdm(d, RESERVED), ==, 0);

    /* COMMITTED does not keep BASE from being written */
    set_hdm(d, BASE_LO, 0x5fffffff);
    set_hdm(d, BASE_HI, 0x12345678);
    g_assert_cmpint(hdm(d, BASE_LO), ==, 0x50000000);
    g_assert_cmpint(hdm(d, BASE_HI), ==, 0x12345678);
    g_assert_cmpint(hdm(d, CTRL), ==, ctrl);

    set_hdm(d, CTRL, ctrl | LOCK);
    g_assert_cmpint(hdm(d, CTRL), ==, ctrl | LOCK);
    set_hdm(d, BASE_LO, 0);
    set_hdm(d, BASE_HI, 0);
    set_hdm(d, SIZE_HI, 0x99);
    g_assert_cmpint(hdm(d, BASE_LO), ==, 0x50000000);
    g_assert_cmpint(hdm(d, BASE_HI), ==, 0x12345678);
    g_assert_cmpint(hdm(d, SIZE_HI), !=, 0x99);
    set_hdm(d, CTRL, LOCK);
    g_assert_cmpint(hdm(d, CTRL), ==, ctrl | LOCK);
    set_hdm(d, CTRL, 0);        /* only unlocks */
    g_assert_cmpint(hdm(d, CTRL), ==, ctrl);

    set_hdm(d, CTRL, 0);
    g_assert_cmpint(hdm(d, CTRL) & (COMMIT | COMMITTED | LOCK), ==, 0);
    set_hdm(d, CTRL, 0xffffffff & ~LOCK);
    value = hdm(d, CTRL);
    g_assert_true(value & COMMITTED);
    g_assert_cmpint(value & (ERROR | 1u << 15 | 0xf0ff0000), ==, 0);
    set_hdm(d, CTRL, COMMIT | LOCK);
    g_assert_cmpint(hdm(d, CTRL) & (COMMIT | COMMITTED | LOCK), ==,
                    COMMIT | COMMITTED | LOCK);
}

static void v3_writes(Device *d)
{
    uint32_t cap = hdm(d, CAPABILITY), ctrl = hdm(d, CTRL);
    uint32_t base = hdm(d, BASE_LO);

    set_hdm(d, CAPABILITY, ~cap);
    g_assert_cmpint(hdm(d, CAPABILITY), ==, cap);
    set_hdm(d, 0x08, 0xffffffff);
    g_assert_cmpint(hdm(d, 0x08), ==, 0);
    set_hdm(d, GLOBAL, 0xdeadbeef);
    g_assert_cmpint(hdm(d, GLOBAL), ==, 0xdeadbeef);
    set_hdm(d, TARGET_LO, 0x11223344);
    set_hdm(d, RESERVED, 0x55667788);
    g_assert_cmpint(hdm(d, TARGET_LO), ==, 0x11223344);
    g_assert_cmpint(hdm(d, RESERVED), ==, 0x55667788);

    set_hdm(d, BASE_LO, ~base);
    g_assert_cmpint(hdm(d, BASE_LO), ==, base);
    set_hdm(d, CTRL, COMMIT | 0xff);
    g_assert_cmpint(hdm(d, CTRL), ==, ctrl);
    set_hdm(d, CTRL, 0xff);     /* even though it is locked */
    g_assert_cmpint(hdm(d, CTRL), ==, ctrl & ~(COMMIT | COMMITTED | LOCK));

    set_hdm(d, BASE_LO, 0x5fffffff);
    g_assert_cmpint(hdm(d, BASE_LO), ==, 0x5fffffff);
    set_hdm(d, CTRL, LOCK);
    set_hdm(d, BASE_LO, 0);
    g_assert_cmpint(hdm(d, BASE_LO), ==, 0x5fffffff);
    set_hdm(d, CTRL, 0xffffffff);
    g_assert_cmpint(hdm(d, CTRL), ==, 0xffffffff & ~ERROR);
}

static void v4_locked_writes(Device *d)
{
    static const unsigned regs[] = {
        CAPABILITY, 0x08, 0x0c, BASE_LO, BASE_HI, SIZE_LO, SIZE_HI, CTRL,
        TARGET_LO, TARGET_HI, RESERVED,
    };
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(regs); i++) {
        uint32_t value = hdm(d, regs[i]);

        set_hdm(d, regs[i], ~value);
        g_assert_cmpint(hdm(d, regs[i]), ==, value);
    }
    set_hdm(d, GLOBAL, 0xdeadbeef);
    g_assert_cmpint(hdm(d, GLOBAL), ==, 0xdeadbeef);
}

static void v5_writes(Device *d)
{
    unsigned off;

    for (off = 0; off < d->regs_size; off += 4) {
        uint32_t value = hdm(d, off);

        set_hdm(d, off, ~value);
        g_assert_cmpint(hdm(d, off), ==, value);
    }
}

static void test_hdm_writes(void)
{
    Device *d = device_open();

    if (is(V2S)) {
        v2_writes(d);
    } else if (is(V3)) {
        v3_writes(d);
    } else if (is(V4)) {
        v4_locked_writes(d);
    } else {
        v5_writes(d);
    }
    if (!real) {
        /* Whatever was written, the physical decoder stays */
        g_autofree char *reply = control("devices");
        const char *hw = strstr(reply, "\"hardware\"");

        g_assert_cmpint(number(hw, "base"), ==, host_address(d));
        g_assert_cmpint(number(hw, "ctrl"), ==, LOCK | COMMIT | COMMITTED);
    }
    device_close(d);
}

/* A decoder that the firmware has not locked */
static void test_hdm_unlocked(void)
{
    Device *d = device_open();
    uint32_t low;

    g_assert_false(hdm(d, CTRL) & LOCK);
    g_assert_true(hdm(d, CTRL) & COMMITTED);
    if (is(V2S)) {
        /* Then v2 lets the host's address be seen */
        g_assert_cmpint(hdm(d, BASE_HI), ==, host_address(d) >> 32);
    } else if (is(V4)) {
        low = hdm(d, BASE_LO) & 0x0fffffff;
        set_hdm(d, BASE_LO, 0xffffffff);
        g_assert_cmpint(hdm(d, BASE_HI), ==, host_address(d) >> 32);
        set_hdm(d, CTRL, 0);
        g_assert_cmpint(hdm(d, CTRL), ==, 0);
        set_hdm(d, BASE_LO, 0xffffffff);
        g_assert_cmpint(hdm(d, BASE_LO), ==, 0xf0000000 | low);
        set_hdm(d, BASE_HI, 0x1234);
        set_hdm(d, TARGET_LO, 0x4321);
        g_assert_cmpint(hdm(d, BASE_HI), ==, 0x1234);
        g_assert_cmpint(hdm(d, TARGET_LO), ==, 0x4321);
        set_hdm(d, RESERVED, 0xffffffff);
        g_assert_cmpint(hdm(d, RESERVED), ==, 0);
        set_hdm(d, CTRL, 0xffffffff);
        g_assert_cmpint(hdm(d, CTRL), ==,
                        0xff | LOCK | COMMIT | COMMITTED | 1 << 12);
        set_hdm(d, CTRL, 0);
        g_assert_true(hdm(d, CTRL) & COMMITTED);
    } else if (is(V5)) {
        v5_writes(d);
    }
    device_close(d);
}

/* v2 emulates as many decoders as there are */
static void test_decoders(void)
{
    Device *d = device_open();
    unsigned n = 10;
    uint64_t last = d->block + CM + d->hdm + 0x20 * (n - 1);

    g_assert_cmpint(hdm(d, CAPABILITY) & 0xf, ==, n / 2);
    g_assert_cmpint(d->regs_size, ==, d->hdm + 0x10 + 0x20 * n);
    set_hdm(d, BASE_HI + 0x20 * (n - 1), 0x77);
    set_hdm(d, CTRL + 0x20 * (n - 1), COMMIT);
    g_assert_cmpint(hdm(d, BASE_HI + 0x20 * (n - 1)), ==, 0x77);
    g_assert_cmpint(hdm(d, CTRL + 0x20 * (n - 1)), ==, COMMIT | COMMITTED);
    g_assert_cmpint(hdm(d, BASE_HI), ==, 0);
    /* Through the BAR it is the hardware's, which is not committed */
    g_assert_cmpint(get32(d, d->bar, last + BASE_HI), ==, 0);
    put32(d, d->bar, last + BASE_HI, 0x55);
    g_assert_cmpint(get32(d, d->bar, last + BASE_HI), ==, 0x55);
    g_assert_cmpint(hdm(d, BASE_HI + 0x20 * (n - 1)), ==, 0x77);
    device_close(d);
}

/* --- how long what was written lasts ------------------------------------- */

#define MARK 0x00000001u    /* poison enable, or just a bit */

static void set_mark(Device *d)
{
    set_hdm(d, GLOBAL, hdm(d, GLOBAL) ^ MARK);
}

static void test_lifetime_open(void)
{
    Device *d = device_open();
    uint32_t first = hdm(d, GLOBAL);
    bool survives = is(V3);

    set_mark(d);
    if (is(V2S)) {
        set_hdm(d, BASE_HI, 0x77);
        set_hdm(d, CTRL, hdm(d, CTRL) | LOCK);
    }
    device_close(d);
    d = device_open();
    g_assert_cmpint(hdm(d, GLOBAL), ==, survives ? first ^ MARK : first);
    if (is(V2S)) {
        g_assert_cmpint(hdm(d, BASE_HI), ==, 0);
        g_assert_false(hdm(d, CTRL) & LOCK);
    }
    if (survives) {
        set_mark(d);
    }
    device_close(d);
}

/* From one process to the next */
static void test_lifetime_process(void)
{
    Device *d;
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        d = device_open();
        set_hdm(d, CTRL, 0);
        device_close(d);
        _exit(0);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
    d = device_open();
    g_assert_cmpint(!!(hdm(d, CTRL) & COMMITTED), ==, !is(V3));
    device_close(d);
}

static void test_reset(void)
{
    Device *d = device_open();
    uint32_t first = hdm(d, GLOBAL), ctrl = hdm(d, CTRL), *p = map_memory(d);

    p[0] = 0x11223344;
    set_mark(d);
    if (is(V2S)) {
        set_hdm(d, BASE_LO, 0x50000000);
        set_hdm(d, BASE_HI, 0x77);
        set_hdm(d, CTRL, hdm(d, CTRL) | LOCK);
    } else if (is(V3)) {
        set_hdm(d, CTRL, 0);
    }
    reset(d);
    memory_space(d, true);
    g_assert_cmpint(hdm(d, GLOBAL), ==, is(V3) ? first ^ MARK : first);
    if (is(V2S)) {
        bool keeps = !is(V2);

        g_assert_cmpint(hdm(d, BASE_LO), ==, keeps ? 0x50000000 : 0);
        g_assert_cmpint(hdm(d, BASE_HI), ==, keeps ? 0x77 : 0);
        g_assert_false(hdm(d, CTRL) & LOCK);
        g_assert_true(hdm(d, CTRL) & COMMITTED);
    } else if (is(V3)) {
        g_assert_cmpint(hdm(d, CTRL), ==,
                        ctrl & ~(COMMIT | COMMITTED | LOCK));
    } else {
        g_assert_true(hdm(d, CTRL) & COMMITTED);
        g_assert_cmpint(hdm(d, BASE_HI), ==, host_address(d) >> 32);
    }
    /* Only v5's reset is a CXL reset, which clears memory */
    g_assert_true(accessible(p));
    if (!real || is(V5)) {
        g_assert_cmpint(p[0], ==, is(V5) ? 0 : 0x11223344);
    }
    device_close(d);
}

/* What one of the vendor's kernels does */
static void test_reset_enables(void)
{
    Device *d = device_open();

    memory_space(d, false);
    reset(d);
    g_assert_false(cfg16(d, PCI_COMMAND) & PCI_COMMAND_MEMORY);
    tell("set %s reset-enables-memory=1", host);
    reset(d);
    g_assert_true(cfg16(d, PCI_COMMAND) & PCI_COMMAND_MEMORY);
    device_close(d);
}

/* The decoder does not come back from a reset */
static void test_reset_uncommitted(void)
{
    Device *d = device_open();
    uint32_t *p = map_memory(d), value;
    bool closed = !is(V3);

    g_assert_true(accessible(p));
    tell("set %s hardware-committed=0", host);
    reset(d);
    g_assert_cmpint(accessible(p), ==, !closed);
    if (is(V2S | V5)) {
        assert_errno(get(d, d->mem, 0, &value, 4), EIO);
    }
    if (is(V2S | V4 | V5)) {
        g_assert_false(hdm(d, CTRL) & COMMITTED);
    }
    device_close(d);
    d = device_open();
    p = map_memory(d);
    g_assert_cmpint(accessible(p), ==, !closed);
    tell("set %s hardware-committed=1", host);
    reset(d);
    g_assert_true(accessible(p));
    device_close(d);
}

static void test_reset_busy(void)
{
    Device *d = device_open();
    uint32_t *p = map_memory(d), value;

    p[0] = 7;
    tell("set %s reset-busy=2", host);
    assert_errno(ioctl(d->fd, VFIO_DEVICE_RESET), EAGAIN);
    g_assert_false(accessible(p));
    assert_errno(get(d, d->mem, 0, &value, 4), EIO);
    assert_errno(ioctl(d->fd, VFIO_DEVICE_RESET), EAGAIN);
    assert_ok(ioctl(d->fd, VFIO_DEVICE_RESET));
    g_assert_true(touch(p, &value));
    g_assert_cmpint(value, ==, 0);

    tell("fault %s cxl-reset errno=%d count=1", host, EIO);
    assert_errno(ioctl(d->fd, VFIO_DEVICE_RESET), EIO);
    memory_space(d, false);
    memory_space(d, true);
    g_assert_false(accessible(p));
    assert_ok(ioctl(d->fd, VFIO_DEVICE_RESET));
    g_assert_true(accessible(p));
    device_close(d);
}

static void flr(Device *d)
{
    unsigned exp = find_cap(d, PCI_CAP_ID_EXP);

    set_cfg(d, exp + PCI_EXP_DEVCTL,
            cfg16(d, exp + PCI_EXP_DEVCTL) | PCI_EXP_DEVCTL_BCR_FLR, 2);
    g_assert_false(cfg16(d, exp + PCI_EXP_DEVCTL) & PCI_EXP_DEVCTL_BCR_FLR);
}

static void test_flr(void)
{
    Device *d = device_open();
    uint32_t first = hdm(d, GLOBAL), *p = map_memory(d);

    p[0] = 0x55;
    set_mark(d);
    flr(d);
    memory_space(d, true);
    g_assert_cmpint(hdm(d, GLOBAL), ==, is(V3) ? first ^ MARK : first);
    g_assert_true(accessible(p));
    if (!real || is(V5)) {
        g_assert_cmpint(p[0], ==, is(V5) ? 0 : 0x55);
    }
    device_close(d);
}

static int hot_reset(Device *d)
{
    struct {
        struct vfio_pci_hot_reset head;
        int32_t fd;
    } arg = { { .argsz = sizeof(arg), .count = 1 }, d->group };

    return ioctl(d->fd, VFIO_DEVICE_PCI_HOT_RESET, &arg);
}

/* v5: the port keeps a hot reset from the device, unless told otherwise */
static void test_hot_reset(void)
{
    Device *d = device_open();
    uint32_t *p = map_memory(d);

    p[0] = 0x66;
    put32(d, VFIO_SIM_REG_BAR, VFIO_SIM_REG_SCRATCH, 1);
    assert_ok(hot_reset(d));
    g_assert_true(accessible(p));
    g_assert_cmpint(p[0], ==, 0x66);
    g_assert_cmpint(get32(d, VFIO_SIM_REG_BAR, VFIO_SIM_REG_SCRATCH), ==,
                    is(V5) ? 1 : 0);
    if (is(V5)) {
        tell("set %s sbr-unmasked=1", host);
        assert_ok(hot_reset(d));
        g_assert_false(accessible(p));
        assert_ok(ioctl(d->fd, VFIO_DEVICE_RESET));
        g_assert_true(accessible(p));
    }
    device_close(d);
}

/* --- memory -------------------------------------------------------------- */

static void test_memory_fd(void)
{
    Device *d = device_open();
    uint64_t end = d->mem_size;
    uint8_t buf[16] = "0123456789abcde", back[16];

    if (is(V4)) {
        assert_errno(get(d, d->mem, 0, back, 16), EIO);
        assert_errno(put(d, d->mem, 0, buf, 16), EIO);
        assert_errno(get(d, d->mem, end, back, 16), EIO);
        device_close(d);
        return;
    }
    g_assert_cmpint(put(d, d->mem, 3, buf, 16), ==, 16);
    g_assert_cmpint(get(d, d->mem, 3, back, 16), ==, 16);
    g_assert_cmpint(memcmp(buf, back, 16), ==, 0);
    if (is(V3)) {
        assert_errno(get(d, d->mem, end - 8, back, 16), EINVAL);
        assert_errno(get(d, d->mem, end + 8, back, 16), EINVAL);
    } else {
        g_assert_cmpint(get(d, d->mem, end - 8, back, 16), ==, 8);
        if (is(V2S)) {
            g_assert_cmpint(get(d, d->mem, end, back, 16), ==, 0);
        } else {
            assert_errno(get(d, d->mem, end, back, 16), EINVAL);
        }
    }
    if (is(V5)) {
        memory_space(d, false);
        assert_errno(get(d, d->mem, 0, back, 16), EIO);
        memory_space(d, true);
    }
    g_assert_cmpint(get(d, d->mem, 3, back, 16), ==, 16);
    device_close(d);
}

static void test_memory_map(void)
{
    Device *d = device_open();
    uint32_t *p = map(d, d->mem, 0, 0x4000), value;
    bool gate = is(V4 | V5);

    if (is(V2N)) {
        g_assert_true(p == MAP_FAILED);
        g_assert_cmpint(errno, ==, EINVAL);
        device_close(d);
        return;
    }
    g_assert_true(p != MAP_FAILED);
    g_assert_true(map(d, d->mem, d->mem_size, 4096) == MAP_FAILED);
    g_assert_cmpint(errno, ==, EINVAL);
    g_assert_true(map(d, d->mem, d->mem_size - 4096, 8192) == MAP_FAILED);
    g_assert_true(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, d->fd,
                       region(d->mem, 0)) == MAP_FAILED);
    g_assert_cmpint(errno, ==, EINVAL);

    p[5] = 0xcafe;
    if (!is(V4)) {
        g_assert_cmpint(get32(d, d->mem, 20), ==, 0xcafe);
    }
    /* Do not try on hardware what the simulator has to survive */
    if (!real || gate) {
        memory_space(d, false);
        g_assert_cmpint(touch(p + 5, &value), ==, !gate);
        memory_space(d, true);
        g_assert_true(touch(p + 5, &value));
        g_assert_cmpint(value, ==, 0xcafe);
    }
    device_close(d);
}

static void power(Device *d, unsigned state)
{
    unsigned pm = find_cap(d, PCI_CAP_ID_PM) + PCI_PM_CTRL;

    set_cfg(d, pm, (cfg16(d, pm) & ~3u) | state, 2);
    g_usleep(20 * 1000);
}

static void test_power(void)
{
    Device *d = device_open();
    unsigned pm = find_cap(d, PCI_CAP_ID_PM) + PCI_PM_CTRL;
    uint32_t *p = map_memory(d), first = hdm(d, GLOBAL);

    p[0] = 0x99;
    set_mark(d);
    power(d, 3);
    g_assert_cmpint(cfg16(d, pm) & 3, ==, is(V5) ? 0 : 3);
    if (!real || is(V5)) {
        g_assert_cmpint(accessible(p), ==, !is(V4));
    }
    power(d, 0);
    memory_space(d, true);
    g_assert_true(accessible(p));
    /* v4 looks at the hardware again, v5 always does */
    g_assert_cmpint(hdm(d, GLOBAL), ==, is(V4 | V5) ? first : first ^ MARK);
    device_close(d);
}

/* --- the DVSEC ----------------------------------------------------------- */

static uint16_t dvsec(Device *d, unsigned reg)
{
    return cfg16(d, d->dvsec + reg);
}

static void set_dvsec(Device *d, unsigned reg, uint32_t value, unsigned size)
{
    set_cfg(d, d->dvsec + reg, value, size);
}

static void v2_dvsec(Device *d)
{
    uint32_t base = cfg32(d, d->dvsec + BASE1_HI);

    set_dvsec(d, CONTROL, 0xffff, 2);
    g_assert_cmpint(dvsec(d, CONTROL), ==, 0x4fff);
    set_dvsec(d, CONTROL, 0, 2);
    g_assert_cmpint(dvsec(d, CONTROL), ==, 2);
    /* A dword is its low half, a byte has a high half of zero */
    set_dvsec(d, CONTROL, 0xffff0707, 4);
    g_assert_cmpint(dvsec(d, CONTROL), ==, 0x0707);
    set_dvsec(d, CONTROL, 0x07, 1);
    g_assert_cmpint(dvsec(d, CONTROL), ==, 0x0007);
    set_dvsec(d, CONTROL + 1, 0x07, 1);
    g_assert_cmpint(dvsec(d, CONTROL), ==, 0x0007);
    set_dvsec(d, STATUS, 0xffff, 2);
    g_assert_cmpint(dvsec(d, STATUS) & 1 << 14, ==, 0);
    /* Doorbells are not kept */
    set_dvsec(d, CONTROL2, 0x0b, 2);
    g_assert_cmpint(dvsec(d, CONTROL2), ==, 0x09);
    set_dvsec(d, CONTROL2, 0, 2);
    set_dvsec(d, BASE1_HI, ~base, 4);
    g_assert_cmpint(cfg32(d, d->dvsec + BASE1_HI), ==, base);
    set_dvsec(d, CONFIG_LOCK, 0xffff, 2);
    g_assert_cmpint(dvsec(d, CONFIG_LOCK), ==, 1);
    set_dvsec(d, CONFIG_LOCK, 0, 2);
    g_assert_cmpint(dvsec(d, CONFIG_LOCK), ==, 1);
    set_dvsec(d, CONTROL, 0, 2);
    g_assert_cmpint(dvsec(d, CONTROL), ==, 0x0007);
}

static void v3_dvsec(Device *d)
{
    uint32_t base = cfg32(d, d->dvsec + BASE1_HI);

    set_dvsec(d, CONTROL, 0xf0f0, 2);
    g_assert_cmpint(dvsec(d, CONTROL), ==, 0xf0f0);
    set_dvsec(d, CONTROL, 0x0f, 1);
    g_assert_cmpint(dvsec(d, CONTROL), ==, 0xf00f);
    set_dvsec(d, CONTROL, 0x12345678, 4);
    g_assert_cmpint(dvsec(d, CONTROL), ==, 0x5678);
    /* Stored, without any effect */
    set_dvsec(d, CONTROL2, 0x0006, 2);
    g_assert_cmpint(dvsec(d, CONTROL2), ==, 0x0006);
    g_assert_cmpint(dvsec(d, STATUS2) & 6, ==, 0);
    set_dvsec(d, BASE1_HI, ~base, 4);
    g_assert_cmpint(cfg32(d, d->dvsec + BASE1_HI), ==, base);
    set_dvsec(d, CONFIG_LOCK, 1, 2);
    g_assert_cmpint(dvsec(d, CONFIG_LOCK), ==, 1);
    set_dvsec(d, CONFIG_LOCK, 0, 2);
    g_assert_cmpint(dvsec(d, CONFIG_LOCK), ==, 1);
    set_dvsec(d, CONTROL, 0, 2);
    set_dvsec(d, CONTROL2, 0, 2);
    g_assert_cmpint(dvsec(d, CONTROL), ==, 0x5678);
    g_assert_cmpint(dvsec(d, CONTROL2), ==, 0x0006);
    /* The copy belongs to the driver, not to the open file */
    device_close(d);
    d = device_open();
    g_assert_cmpint(dvsec(d, CONTROL), ==, 0x5678);
    device_close(d);
}

static void v4_dvsec(Device *d)
{
    uint16_t old = dvsec(d, CONTROL);
    uint32_t base = cfg32(d, d->dvsec + BASE1_HI);

    set_dvsec(d, CONTROL, old ^ 1, 2);
    g_assert_cmpint(dvsec(d, CONTROL), ==, old ^ 1);
    if (is(V4)) {
        set_dvsec(d, CONTROL, 0, 2);
        g_assert_cmpint(dvsec(d, CONTROL), ==, 4);
    }
    set_dvsec(d, CONFIG_LOCK, 1, 2);
    g_assert_cmpint(dvsec(d, CONFIG_LOCK) & 1, ==, 0);
    set_dvsec(d, BASE1_HI, ~base, 4);
    g_assert_cmpint(cfg32(d, d->dvsec + BASE1_HI), ==, base);
    set_dvsec(d, 0x0a, 0, 2);
    g_assert_cmpint(dvsec(d, 0x0a), !=, 0);
    device_close(d);
    d = device_open();
    g_assert_cmpint(dvsec(d, CONTROL), ==, old);
    device_close(d);
}

static void test_dvsec(void)
{
    Device *d = device_open();

    if (is(V2S)) {
        v2_dvsec(d);
        device_close(d);
    } else if (is(V3)) {
        v3_dvsec(d);
    } else {
        v4_dvsec(d);
    }
}

/* Who notices that a guest asks for a CXL reset? */
static void test_cxl_reset(void)
{
    Device *d = device_open();
    uint32_t *p = map_memory(d);
    bool stamped = is(V2R | V2N | V4 | V5), runs = is(V2R | V2N | V4);
    uint64_t before;

    p[0] = 0x44;
    put32(d, VFIO_SIM_REG_BAR, VFIO_SIM_REG_SCRATCH, 1);
    before = statistic("cxl-resets");
    set_dvsec(d, CONTROL2, 4, 2);
    g_assert_cmpint(!!(dvsec(d, STATUS2) & 2), ==, stamped);
    g_assert_cmpint(dvsec(d, STATUS2) & 4, ==, 0);
    g_assert_cmpint(dvsec(d, CONTROL2) & 4, ==, is(V3) ? 4 : 0);
    g_assert_cmpint(statistic("cxl-resets") - before, ==, runs);
    memory_space(d, true);
    g_assert_cmpint(get32(d, VFIO_SIM_REG_BAR, VFIO_SIM_REG_SCRATCH), ==,
                    !runs);
    g_assert_true(accessible(p));
    g_assert_cmpint(p[0], ==, 0x44);
    device_close(d);
}

static void test_cxl_reset_fails(void)
{
    Device *d = device_open();
    uint32_t *p = map_memory(d);

    tell("fault %s cxl-reset errno=%d count=1", host, EIO);
    set_dvsec(d, CONTROL2, 4, 2);
    g_assert_cmpint(dvsec(d, STATUS2) & 6, ==, 4);
    g_assert_false(accessible(p));
    reset(d);
    g_assert_true(accessible(p));
    device_close(d);
}

/* A reset that fails leaves nothing that could be touched */
static void test_reset_fails(void)
{
    Device *d = device_open();
    uint32_t *p = map_memory(d);

    for (int i = 0; i < 2; i++) {
        if (i) {
            tell("fault %s flr errno=%d count=1", host, EIO);
            flr(d);
        } else {
            tell("fault %s device_reset errno=%d count=1", host, EIO);
            assert_errno(ioctl(d->fd, VFIO_DEVICE_RESET), EIO);
        }
        memory_space(d, true);
        g_assert_false(accessible(p));
        reset(d);
        memory_space(d, true);
        g_assert_true(accessible(p));
    }
    device_close(d);
}

/* Write-back and invalidation of the cache */
static void test_cache(void)
{
    Device *d = device_open();

    set_dvsec(d, CONTROL2, 3, 2);
    g_assert_cmpint(dvsec(d, CONTROL2) & 2, ==, 0);
    g_assert_cmpint(dvsec(d, STATUS2) & 1, ==, 1);
    set_dvsec(d, CONTROL2, 0, 2);
    g_assert_cmpint(dvsec(d, STATUS2) & 1, ==, 0);
    device_close(d);
}

/* --- dma-buf ------------------------------------------------------------- */

typedef struct Export {
    uint32_t argsz;
    uint32_t flags;
    uint32_t region;
    uint32_t open_flags;
    uint32_t reserved;
    uint32_t ranges;
    uint64_t range[2][2];
} Export;

#define FEATURE_DMA_BUF 11
#define FEATURE_GET     (1u << 16)
#define FEATURE_PROBE   (1u << 18)

static Export export(unsigned index, uint64_t offset, uint64_t length)
{
    return (Export) {
        .argsz = sizeof(Export), .flags = FEATURE_DMA_BUF | FEATURE_GET,
        .region = index, .open_flags = O_RDWR | O_CLOEXEC, .ranges = 1,
        .range = { { offset, length } },
    };
}

static int export_fd(Device *d, Export e)
{
    return ioctl(d->fd, VFIO_DEVICE_FEATURE, &e);
}

static int map_file(Device *d, int fd, uint64_t start, uint64_t length,
                    uint64_t iova)
{
    struct iommu_ioas_map_file m = {
        .size = sizeof(m), .ioas_id = d->ioas, .fd = fd, .start = start,
        .length = length, .iova = iova,
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
                 IOMMU_IOAS_MAP_WRITEABLE,
    };

    return ioctl(d->container, IOMMU_IOAS_MAP_FILE, &m);
}

static void unmap(Device *d, uint64_t iova, uint64_t length)
{
    struct iommu_ioas_unmap u = {
        .size = sizeof(u), .ioas_id = d->ioas, .iova = iova, .length = length,
    };

    assert_ok(ioctl(d->container, IOMMU_IOAS_UNMAP, &u));
}

static void test_dma_buf_errors(void)
{
    Device *d = device_open();
    unsigned mem = is(CXL) ? d->mem : 9;
    Export e = export(mem, 0, 0x1000);
    uint64_t hole = d->block + CM;

    if (is(V2S)) {
        assert_errno(export_fd(d, e), ENOTTY);
        device_close(d);
        return;
    }
    e.flags = FEATURE_DMA_BUF | FEATURE_GET | FEATURE_PROBE;
    assert_ok(export_fd(d, e));
    if (is(V5)) {
        int fd = export_fd(d, export(mem, 0x1000, d->mem_size - 0x1000));

        g_assert_cmpint(fd, >=, 0);
        close(fd);
        e = export(mem, 0, 0x1000);
        e.ranges = 0;
        assert_errno(export_fd(d, e), EINVAL);
        e = export(mem, 0, 0x1000);
        e.reserved = 1;
        assert_errno(export_fd(d, e), EINVAL);
        assert_errno(export_fd(d, export(mem, 0, 0)), EINVAL);
        assert_errno(export_fd(d, export(mem, 0x800, 0x1000)), EINVAL);
        assert_errno(export_fd(d, export(mem, 0, 0x1800)), EINVAL);
        assert_errno(export_fd(d, export(mem, 0x1000, d->mem_size)), EINVAL);
        assert_errno(export_fd(d, export(d->regs, 0, 0x1000)), EINVAL);
        assert_errno(export_fd(d, export(7, 0, 0x1000)), EINVAL);
    } else {
        assert_errno(export_fd(d, export(mem, 0, 0x1000)), ENODEV);
    }
    if (is(V4)) {
        assert_errno(export_fd(d, export(d->bar, hole, 0x1000)), EINVAL);
    }
    device_close(d);
}

static void test_dma_buf(void)
{
    Device *d = device_open_by(open_iommufd);
    int fd = export_fd(d, export(d->mem, 0, d->mem_size));
    int bar = export_fd(d, export(d->bar, is(V5) ? d->block + 0x2000 : 0,
                                  0x1000));
    uint64_t iova = 1ull << 32, size = d->mem_size;
    Export two = export(d->mem, 0, 0x1000);
    int pair;

    /* A mapping of the region has no pages that could be pinned */
    if (!real) {
        struct iommu_ioas_map m = {
            .size = sizeof(m), .ioas_id = d->ioas, .length = 0x4000,
            .user_va = (uintptr_t)map_memory(d), .iova = iova,
            .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE,
        };

        assert_errno(ioctl(d->container, IOMMU_IOAS_MAP, &m), EFAULT);
    }
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(bar, >=, 0);
    assert_errno(map_file(d, fd, 0x1000, size, iova), EINVAL);
    assert_errno(map_file(d, fd, 0x800, 0x1000, iova), EINVAL);
    assert_ok(map_file(d, fd, 0, size, iova));
    assert_errno(map_file(d, fd, 0, size, iova), EEXIST);
    unmap(d, iova, size);
    assert_ok(map_file(d, bar, 0, 0x1000, iova));
    unmap(d, iova, 0x1000);

    two.ranges = 2;
    two.range[1][0] = 0x8000;
    two.range[1][1] = 0x1000;
    pair = export_fd(d, two);
    g_assert_cmpint(pair, >=, 0);
    assert_errno(map_file(d, pair, 0, 0x1000, iova), EOPNOTSUPP);
    close(pair);

    /* The mapping outlives the descriptor */
    assert_ok(map_file(d, fd, 0x1000, 0x1000, iova));
    close(fd);
    unmap(d, iova, 0x1000);
    device_close(d);
}

static void test_dma_buf_revoke(void)
{
    Device *d = device_open_by(open_iommufd);
    int fd = export_fd(d, export(d->mem, 0, d->mem_size)), born;
    uint64_t iova = 1ull << 32, size = d->mem_size;
    int bar = export_fd(d, export(d->bar, d->block + 0x2000, 0x1000));
    g_autofree char *maps = NULL, *again = NULL, *after = NULL;
    const char *at;

    assert_ok(map_file(d, fd, 0, size, iova));
    memory_space(d, false);
    assert_errno(map_file(d, fd, 0, 0x1000, 0x1000), ENODEV);
    born = export_fd(d, export(d->mem, 0, 0x1000));
    g_assert_cmpint(born, >=, 0);
    assert_errno(map_file(d, born, 0, 0x1000, 0x1000), ENODEV);
    memory_space(d, true);
    assert_ok(map_file(d, born, 0, 0x1000, 0x1000));
    unmap(d, 0x1000, 0x1000);
    /* The buffer is back, what was mapped through it is not */
    maps = control("maps");
    g_assert_nonnull(strstr(maps, "\"backing\": \"dma-buf\", "
                                  "\"kind\": \"memory\""));
    g_assert_nonnull(strstr(maps, "\"revoked\": true"));
    unmap(d, iova, size);
    assert_ok(map_file(d, fd, 0, size, iova));
    again = control("maps");
    g_assert_null(strstr(again, "\"revoked\": true"));

    /* A reset revokes those of BARs too */
    assert_ok(map_file(d, bar, 0, 0x1000, 0x1000));
    assert_ok(ioctl(d->fd, VFIO_DEVICE_RESET));
    after = control("maps");
    at = strstr(after, "\"kind\": \"bar\"");
    g_assert_nonnull(at);
    g_assert_nonnull(strstr(at, "\"revoked\": true"));
    g_assert_null(strstr(after, "\"revoked\": false"));
    unmap(d, 0x1000, 0x1000);
    unmap(d, iova, size);
    assert_ok(map_file(d, fd, 0, size, iova));
    unmap(d, iova, size);
    tell("fault %s cxl-reset errno=%d count=1", host, EIO);
    assert_errno(ioctl(d->fd, VFIO_DEVICE_RESET), EIO);
    assert_errno(map_file(d, fd, 0, size, iova), ENODEV);
    assert_ok(ioctl(d->fd, VFIO_DEVICE_RESET));
    assert_ok(map_file(d, fd, 0, size, iova));
    device_close(d);

    /* It does not outlive what it was exported by, whoever opens that next */
    d = device_open_by(open_iommufd);
    assert_errno(map_file(d, fd, 0, size, iova), ENODEV);
    close(fd);
    device_close(d);
}

/* Mappings that the user should have taken away before */
static void test_stale_maps(void)
{
    Device *d = device_open();
    g_autofree char *none = control("stats %s", host), *some = NULL;
    uint32_t *p = map_memory(d);
    struct vfio_iommu_type1_dma_map m = {
        .argsz = sizeof(m), .vaddr = (uintptr_t)p, .iova = 1ull << 32,
        .size = 0x4000, .flags = VFIO_DMA_MAP_FLAG_READ,
    };

    g_assert_nonnull(strstr(none, "\"stale-maps\": 0"));
    assert_ok(ioctl(d->container, VFIO_IOMMU_MAP_DMA, &m));
    assert_ok(ioctl(d->fd, VFIO_DEVICE_RESET));
    some = control("stats %s", host);
    g_assert_nonnull(strstr(some, "\"stale-maps\": 1"));
    device_close(d);
}

/* The device reaches its memory through what was mapped, until a revoke */
static void test_dma_buf_dma(void)
{
    Device *d = device_open_by(open_iommufd);
    int fd = export_fd(d, export(d->mem, 0, d->mem_size));
    uint64_t iova = 1ull << 32;
    uint32_t *p = map_memory(d);
    unsigned bar = VFIO_SIM_REG_BAR, pass;

    set_cfg(d, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
    assert_ok(map_file(d, fd, 0, d->mem_size, iova));
    for (pass = 0; pass < 2; pass++) {
        p[0x400] = 0x1000 + pass;
        put32(d, bar, VFIO_SIM_REG_DMA_SRC, 0x1000);
        put32(d, bar, VFIO_SIM_REG_DMA_DST, 0x2000);
        put32(d, bar, VFIO_SIM_REG_DMA_DST + 4, iova >> 32);
        put32(d, bar, VFIO_SIM_REG_DMA_LEN, 4);
        put32(d, bar, VFIO_SIM_REG_DMA_CTRL,
              VFIO_SIM_DMA_START | VFIO_SIM_DMA_SRC_LOCAL);
        g_assert_cmpint(get32(d, bar, VFIO_SIM_REG_DMA_STATUS), ==,
                        pass ? VFIO_SIM_DMA_FAULT : VFIO_SIM_DMA_DONE);
        g_assert_cmpint(p[0x800], ==, 0x1000);
        memory_space(d, false);
        memory_space(d, true);
    }
    device_close(d);
}

/* --- malformations ------------------------------------------------------- */

static void add_reply(GString *s, Device *d, unsigned long cmd, void *arg)
{
    int ret = ioctl(d->fd, cmd, arg);

    g_string_append_printf(s, "%d:", ret < 0 ? errno : 0);
    if (ret == 0) {
        g_string_append_len(s, arg, 16384);
    }
}

/* All that a malformation may touch, as one string */
static GString *view(Device *d)
{
    static const unsigned sizes[] = { 32, 16384 };
    g_autofree uint8_t *buf = g_malloc(16384);
    GString *s = g_string_new(NULL);
    unsigned i, index;

    for (i = 0; i < G_N_ELEMENTS(sizes); i++) {
        struct vfio_device_info *info = (void *)buf;
        struct vfio_region_info *r = (void *)buf;

        memset(buf, 0, 16384);
        info->argsz = sizes[i];
        add_reply(s, d, VFIO_DEVICE_GET_INFO, buf);
        for (index = 0; index < 12; index++) {
            memset(buf, 0, 16384);
            r->argsz = sizes[i];
            r->index = index;
            add_reply(s, d, VFIO_DEVICE_GET_REGION_INFO, buf);
        }
    }
    for (i = 0; i < 0x400; i += 4) {
        ssize_t n = get(d, d->bar, d->block + CM + i, buf, 4);
        ssize_t m = get(d, d->regs, i, buf + 4, 4);
        ssize_t k = get(d, d->regs, CM + i, buf + 8, 4);

        g_string_append_printf(s, "%zd,%zd,%zd:", n, m, k);
        g_string_append_len(s, (char *)buf, 12);
    }
    for (i = 0; i < 4096; i += 4) {
        ssize_t n = get(d, VFIO_PCI_CONFIG_REGION_INDEX, i, buf, 4);

        g_string_append_printf(s, "%zd:", n);
        g_string_append_len(s, (char *)buf, 4);
    }
    g_string_append_printf(s, "%zd %zd %zd %zd", get(d, d->mem, 0, buf, 8),
                           get(d, d->bar, 0, buf, 8),
                           put(d, VFIO_PCI_CONFIG_REGION_INDEX, 0x3c, "\5", 2),
                           put(d, d->regs, reg_off(d, 8), "\0\0\0\0", 4));
    return s;
}

/* Every one makes a difference, and only until it is taken back */
static void test_mangle(void)
{
    Device *d = device_open();
    GString *truth = view(d);       /* writes a little as well */
    g_autofree struct vfio_region_info *info = region_info(d, d->mem);
    GString *after;
    g_autofree char *out = NULL;
    g_auto(GStrv) lines = NULL;
    const char *argv[] = { g_getenv("VFIO_SIM"), "--mangle=help", NULL };
    g_autofree char *tag = g_strdup_printf(" %.2s ", kernel->name);
    unsigned i, done = 0;

    g_string_free(truth, true);
    truth = view(d);
    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT,
                               NULL, NULL, &out, NULL, NULL, NULL));
    lines = g_strsplit(out, "\n", -1);
    for (i = 2; lines[i] && *lines[i]; i++) {
        g_autofree char *name = g_strndup(lines[i] + 2,
                                          strcspn(lines[i] + 2, " *"));
        GString *now;

        if (!strstr(lines[i], tag)) {
            continue;
        }
        tell("set %s mangle=%s", host, name);
        now = view(d);
        if (g_string_equal(now, truth)) {
            g_error("malformation %s makes no difference", name);
        }
        g_string_free(now, true);
        tell("set %s mangle=none", host);
        done++;
    }
    g_assert_cmpint(done, >=, 60);
    after = view(d);
    g_assert_true(g_string_equal(after, truth));
    g_string_free(after, true);
    g_string_free(truth, true);

    tell("set %s mangle=memory-argsz-grows", host);
    info->argsz = 4096;
    info->index = d->mem;
    assert_ok(ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, info));
    g_assert_cmpint(info->argsz, >, 4096);
    tell("set %s mangle=short-write-registers", host);
    g_assert_cmpint(put(d, d->regs, reg_off(d, 8), "\0\0\0\0", 4), ==, 2);
    device_close(d);
}

/* --- cases --------------------------------------------------------------- */

typedef struct Case {
    const char *name;
    void (*fn)(void);
    unsigned kernels;
    bool control;           /* needs vfio-sim's help */
    const char *options;    /* of vfio-sim */
    const char *env;
} Case;

#define MAPS (CXL & ~V2N)

static const Case cases[] = {
    { "info", test_info, CXL | NONE, false, NULL, NULL },
    { "regions", test_regions, CXL, false, NULL, NULL },
    { "regions-4g", test_regions, CXL, true, "--memory=4G", NULL },
    { "geometry", test_geometry, GEOMETRY, false, NULL, NULL },
    { "geometry-u32", test_geometry, GEOMETRY, true,
      "--geometry-id=9 --geometry-form=u32",
      "GEOMETRY_ID=9 GEOMETRY_FORM=u32" },
    { "uncommitted", test_bind, CXL, true, "--decoder=uncommitted", NULL },
    { "interleaved", test_bind, V3 | V4 | V5, true, "--decoder=interleaved",
      NULL },
    { "two-decoders", test_bind, V3 | V4 | V5, true, "--decoders=2", NULL },
    { "plain", test_none, NONE, false, NULL, NULL },
    { "bar-areas-a", test_bar_areas, CXL, false, "--topology=A", NULL },
    { "bar-areas-b", test_bar_areas, CXL, true, "--topology=B", NULL },
    { "bar-areas-c", test_bar_areas, CXL, true, "--topology=C", NULL },
    { "bar-hole-a", test_bar_hole, CXL, false, "--topology=A", NULL },
    { "bar-hole-b", test_bar_hole, CXL, true, "--topology=B", NULL },
    { "bar-hole-c", test_bar_hole, CXL, true, "--topology=C", NULL },
    { "registers-access", test_registers_access, CXL, false, NULL, NULL },
    { "hdm-initial", test_hdm_initial, CXL, false, NULL, NULL },
    { "hdm-writes", test_hdm_writes, CXL, false, NULL, NULL },
    { "hdm-unlocked", test_hdm_unlocked, V2S | V4 | V5, true,
      "--decoder=unlocked", NULL },
    { "decoders", test_decoders, V2S, true, "--decoders=10", NULL },
    { "lifetime-open", test_lifetime_open, CXL, false, NULL, NULL },
    { "lifetime-process", test_lifetime_process, CXL, true, NULL, NULL },
    { "reset", test_reset, MAPS, false, NULL, NULL },
    { "reset-uncommitted", test_reset_uncommitted, MAPS, true, NULL, NULL },
    { "reset-enables-memory", test_reset_enables, V2R, true, NULL, NULL },
    { "reset-busy", test_reset_busy, V5, true, NULL, NULL },
    { "flr", test_flr, MAPS, false, NULL, NULL },
    { "hot-reset", test_hot_reset, V4 | V5, true, NULL, NULL },
    { "memory-fd", test_memory_fd, CXL, false, NULL, NULL },
    { "memory-map", test_memory_map, CXL, false, NULL, NULL },
    { "power", test_power, MAPS, false, NULL, NULL },
    { "dvsec", test_dvsec, CXL, false, NULL, NULL },
    { "reset-fails", test_reset_fails, MAPS, true, NULL, NULL },
    { "cxl-reset", test_cxl_reset, MAPS, true, NULL, NULL },
    { "cxl-reset-fails", test_cxl_reset_fails, V2R | V4, true, NULL, NULL },
    { "cache", test_cache, V2S | V5, false, NULL, NULL },
    { "dma-buf-errors", test_dma_buf_errors, CXL | NONE, false, NULL, NULL },
    { "dma-buf", test_dma_buf, V5, false, NULL, NULL },
    { "dma-buf-revoke", test_dma_buf_revoke, V5, true, NULL, NULL },
    { "dma-buf-dma", test_dma_buf_dma, V5, true, NULL, NULL },
    { "stale-maps", test_stale_maps, CXL & ~V2N, true, NULL, NULL },
    { "mangle", test_mangle, V2R | V3 | V4 | V5, true, NULL, NULL },
};

static const Kernel *find_kernel(const char *name)
{
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(kernels); i++) {
        if (!strcmp(kernels[i].name, name)) {
            return &kernels[i];
        }
    }
    return NULL;
}

/* In a process of its own */
static int run_case(const char *name, const char *kernel_name)
{
    unsigned i;

    kernel = find_kernel(kernel_name);
    alarm(CASE_SECONDS);
    for (i = 0; i < G_N_ELEMENTS(cases); i++) {
        if (!strcmp(cases[i].name, name)) {
            cases[i].fn();
            return 0;
        }
    }
    return 2;
}

typedef struct Run {
    const Case *c;
    const Kernel *k;
} Run;

static void spawn_case(const void *opaque)
{
    const Run *run = opaque;
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autofree char *kernel_arg = g_strdup_printf("--kernel=%s", run->k->name);
    g_autofree char *output = NULL, *device = NULL;
    g_auto(GStrv) options = g_strsplit(run->c->options ?: "", " ", -1);
    g_auto(GStrv) env = g_get_environ();
    g_auto(GStrv) extra = g_strsplit(run->c->env ?: "", " ", -1);
    GError *err = NULL;
    int status, i;

    if (real && run->c->control) {
        g_test_skip("only with vfio-sim");
        return;
    }
    if (!real) {
        g_ptr_array_add(argv, (char *)g_getenv("VFIO_SIM"));
        g_ptr_array_add(argv, kernel_arg);
        for (i = 0; options[i]; i++) {
            g_ptr_array_add(argv, options[i]);
        }
        g_ptr_array_add(argv, (char *)"--");
    }
    g_ptr_array_add(argv, (char *)self);
    g_ptr_array_add(argv, (char *)"--case");
    g_ptr_array_add(argv, (char *)run->c->name);
    g_ptr_array_add(argv, (char *)run->k->name);
    if (real) {
        device = g_strdup_printf("--device=%s", host);
        g_ptr_array_add(argv, device);
    }
    g_ptr_array_add(argv, NULL);
    for (i = 0; extra[i]; i++) {
        g_auto(GStrv) kv = g_strsplit(extra[i], "=", 2);

        env = g_environ_setenv(env, kv[0], kv[1], true);
    }
    if (!g_spawn_sync(NULL, (char **)argv->pdata, env,
                      G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL,
                      NULL, NULL, &output, &status, &err)) {
        g_error("%s", err->message);
    }
    if (status) {
        g_test_message("%s", output);
        g_printerr("%s", output);
        g_test_fail();
    }
}

/* Which generation has a real device's kernel? */
static const Kernel *detect(void)
{
    struct {
        struct vfio_device_info info;
        uint8_t rest[232];
    } b = { .info.argsz = sizeof(b) };
    struct vfio_region_info_cap_type *type = NULL;
    Device d = { 0 };
    uint8_t *cap;
    unsigned i;

    open_legacy(&d);
    g_assert_cmpint(d.fd, >=, 0);
    assert_ok(ioctl(d.fd, VFIO_DEVICE_GET_INFO, &b.info));
    cap = info_cap(&b, b.info.cap_offset, 6);
    for (i = 9; i < b.info.num_regions && !type; i++) {
        struct vfio_region_info *r = region_info(&d, i);

        type = r ? info_cap(r, r->cap_offset, 2) : NULL;
    }
    close(d.fd);
    close(d.group);
    close(d.container);
    if (!(b.info.flags & 1 << 9)) {
        return find_kernel("none");
    }
    if (cap) {
        const char *v2 = g_getenv("VFIO_V2");

        return find_kernel(*(uint32_t *)(cap + 12) >= 9 ? "v3" :
                           v2 ? v2 : "v2-reset");
    }
    return find_kernel(type && type->type == 4 ? "v4" : "v5");
}

int main(int argc, char **argv)
{
    g_autofree char *dir = NULL, *sim = NULL;
    const char *one = NULL, *name = NULL;
    unsigned i, k;

    self = realpath("/proc/self/exe", NULL);
    dir = g_path_get_dirname(self);
    sim = g_build_filename(dir, "vfio-sim", NULL);
    g_setenv("VFIO_SIM", sim, false);
    if (argc >= 4 && !strcmp(argv[1], "--case")) {
        one = argv[2];
        name = argv[3];
    }
    for (i = 1; (int)i < argc; i++) {
        if (g_str_has_prefix(argv[i], "--device=")) {
            real = true;
            host = strdup(argv[i] + 9);
            argv[i] = (char *)"-q";
        }
    }
    if (one) {
        return run_case(one, name);
    }
    g_test_init(&argc, &argv, NULL);
    kernel = real ? detect() : NULL;
    for (k = 0; k < G_N_ELEMENTS(kernels); k++) {
        for (i = 0; i < G_N_ELEMENTS(cases); i++) {
            g_autofree char *path = g_strdup_printf("/vfio-sim/%s/%s",
                                                    kernels[k].name,
                                                    cases[i].name);
            Run *run = g_new(Run, 1);

            *run = (Run) { &cases[i], &kernels[k] };
            if ((cases[i].kernels & kernels[k].bit) &&
                (!real || kernel == &kernels[k])) {
                g_test_add_data_func_full(path, run,
                                          (GTestDataFunc)spawn_case, g_free);
            } else {
                g_free(run);
            }
        }
    }
    return g_test_run();
}
