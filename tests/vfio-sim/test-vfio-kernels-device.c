/*
 * Conformance test of the kernel generations: access to the device
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test-vfio-kernels.h"

bool is(unsigned bits)
{
    return kernel->bit & bits;
}

static char *sysfs(const char *name)
{
    return g_strdup_printf("/sys/bus/pci/devices/%s/%s", host, name);
}

uint64_t region(unsigned index, uint64_t offset)
{
    return ((uint64_t)index << 40) | offset;
}

ssize_t get(Device *d, unsigned index, uint64_t off, void *buf,
                   size_t count)
{
    return pread(d->fd, buf, count, region(index, off));
}

ssize_t put(Device *d, unsigned index, uint64_t off, const void *buf,
                   size_t count)
{
    return pwrite(d->fd, buf, count, region(index, off));
}

uint32_t get32(Device *d, unsigned index, uint64_t off)
{
    uint32_t value = 0;

    g_assert_cmpint(get(d, index, off, &value, 4), ==, 4);
    return value;
}

void put32(Device *d, unsigned index, uint64_t off, uint32_t value)
{
    g_assert_cmpint(put(d, index, off, &value, 4), ==, 4);
}

uint16_t cfg16(Device *d, unsigned off)
{
    uint16_t value = 0;

    g_assert_cmpint(get(d, VFIO_PCI_CONFIG_REGION_INDEX, off, &value, 2),
                    ==, 2);
    return value;
}

uint32_t cfg32(Device *d, unsigned off)
{
    return get32(d, VFIO_PCI_CONFIG_REGION_INDEX, off);
}

void set_cfg(Device *d, unsigned off, uint32_t value, unsigned size)
{
    g_assert_cmpint(put(d, VFIO_PCI_CONFIG_REGION_INDEX, off, &value, size),
                    ==, size);
}

unsigned find_dvsec(Device *d, unsigned id)
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

unsigned find_cap(Device *d, unsigned id)
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

unsigned reg_off(Device *d, unsigned hdm_off)
{
    return is(V2S) ? d->hdm + hdm_off :
           is(V3) ? CM + d->hdm + hdm_off : hdm_off;
}

uint32_t hdm(Device *d, unsigned off)
{
    return get32(d, d->regs, reg_off(d, off));
}

void set_hdm(Device *d, unsigned off, uint32_t value)
{
    put32(d, d->regs, reg_off(d, off), value);
}

uint64_t host_address(Device *d)
{
    return (uint64_t)cfg32(d, d->dvsec + BASE1_HI) << 32 |
           (cfg32(d, d->dvsec + BASE1_LO) & 0xf0000000);
}

struct vfio_region_info *region_info(Device *d, unsigned index)
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

void *info_cap(void *info, unsigned offset, unsigned id)
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
    SimDeviceInfo info = { .argsz = sizeof(info) };
    unsigned i;

    ok(ioctl(d->fd, VFIO_DEVICE_GET_INFO, &info));
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

void open_legacy(Device *d)
{
    g_autofree char *path = g_strdup_printf("/dev/vfio/%u",
                                            link_number("iommu_group"));

    d->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
    d->group = open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(d->container, >=, 0);
    g_assert_cmpint(d->group, >=, 0);
    ok(ioctl(d->group, VFIO_GROUP_SET_CONTAINER, &d->container));
    ok(ioctl(d->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
    d->fd = ioctl(d->group, VFIO_GROUP_GET_DEVICE_FD, host);
}

void open_iommufd(Device *d)
{
    SimBindIommufd bind = { .argsz = 16 };
    SimAttach attach = { .argsz = 12 };
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
    ok(ioctl(d->fd, VFIO_DEVICE_BIND_IOMMUFD, &bind));
    ok(ioctl(d->container, IOMMU_IOAS_ALLOC, &ioas));
    d->ioas = attach.pt_id = ioas.out_ioas_id;
    ok(ioctl(d->fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach));
}

Device *device_open_by(void (*open_fn)(Device *d))
{
    Device *d = g_new0(Device, 1);

    open_fn(d);
    g_assert_cmpint(d->fd, >=, 0);
    find_regions(d);
    find_block(d);
    d->dvsec = find_dvsec(d, 0);
    return d;
}

Device *device_open(void)
{
    return device_open_by(open_legacy);
}

void device_close(Device *d)
{
    close(d->fd);
    if (d->group >= 0) {
        close(d->group);
    }
    close(d->container);
    g_free(d);
}

void memory_space(Device *d, bool on)
{
    uint16_t command = cfg16(d, PCI_COMMAND) & ~PCI_COMMAND_MEMORY;

    set_cfg(d, PCI_COMMAND, command | (on ? PCI_COMMAND_MEMORY : 0), 2);
}

void power(Device *d, unsigned state)
{
    unsigned pm = find_cap(d, PCI_CAP_ID_PM) + PCI_PM_CTRL;

    set_cfg(d, pm, (cfg16(d, pm) & ~3u) | state, 2);
    g_usleep(20 * 1000);
}

void reset(Device *d)
{
    unsigned tries = 20;

    while (ioctl(d->fd, VFIO_DEVICE_RESET) < 0) {
        g_assert_cmpint(errno, ==, EAGAIN);
        g_assert_cmpint(--tries, >, 0);
        g_usleep(10 * 1000);
    }
}

void *map(Device *d, unsigned index, uint64_t off, size_t size)
{
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, d->fd,
                region(index, off));
}

void *map_memory(Device *d)
{
    void *p = map(d, d->mem, 0, 0x4000);

    g_assert_true(p != MAP_FAILED);
    return p;
}
