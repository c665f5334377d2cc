/*
 * Test of vfio-sim: access to the device
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test-vfio-sim.h"

void open_legacy_n(Dev *d, unsigned n, const Dev *share)
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

int bind_fd(int fd, int iommufd, uint32_t *id)
{
    SimBindIommufd b = { .argsz = 16, .iommufd = iommufd };
    int ret = ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, &b);

    if (id) {
        *id = b.out_devid;
    }
    return ret;
}

int attach_fd(int fd, uint32_t pt)
{
    SimAttach a = { .argsz = 12, .pt_id = pt };

    return ioctl(fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &a);
}

uint32_t new_ioas(int iommufd)
{
    struct iommu_ioas_alloc a = { .size = sizeof(a) };

    ok(ioctl(iommufd, IOMMU_IOAS_ALLOC, &a));
    return a.out_ioas_id;
}

void open_iommufd(Dev *d)
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

void open_dev(Dev *d, bool iommufd)
{
    if (iommufd) {
        open_iommufd(d);
    } else {
        open_legacy_n(d, 0, NULL);
    }
}

void close_dev(Dev *d)
{
    close(d->fd);
    if (d->group >= 0) {
        close(d->group);
    }
    close(d->iommu);
}

int dma_map(const Dev *d, uint64_t iova, void *va, uint64_t size,
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

int dma_unmap(const Dev *d, uint64_t iova, uint64_t size,
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

uint32_t rd(int fd, unsigned region, uint64_t off, size_t size)
{
    uint32_t v = 0;

    g_assert_cmpint(pread(fd, &v, size, REGION(region) + off), ==, size);
    return v;
}

void wr(int fd, unsigned region, uint64_t off, uint32_t v, size_t size)
{
    g_assert_cmpint(pwrite(fd, &v, size, REGION(region) + off), ==, size);
}

uint64_t reg_r64(int fd, uint64_t off)
{
    uint64_t v;

    g_assert_cmpint(pread(fd, &v, 8, REGION(VFIO_SIM_REG_BAR) + off), ==, 8);
    return v;
}

void reg_w64(int fd, uint64_t off, uint64_t v)
{
    g_assert_cmpint(pwrite(fd, &v, 8, REGION(VFIO_SIM_REG_BAR) + off), ==, 8);
}

uint32_t dma(int fd, uint64_t src, uint64_t dst, uint32_t len,
                    uint32_t flags)
{
    reg_w64(fd, VFIO_SIM_REG_DMA_SRC, src);
    reg_w64(fd, VFIO_SIM_REG_DMA_DST, dst);
    reg_w(fd, VFIO_SIM_REG_DMA_LEN, len);
    reg_w(fd, VFIO_SIM_REG_DMA_CTRL, flags | VFIO_SIM_DMA_START);
    return reg_r(fd, VFIO_SIM_REG_DMA_STATUS);
}

void *map_region(int fd, unsigned region, uint64_t off, size_t len)
{
    return mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                REGION(region) + off);
}

void *anon(size_t len)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    g_assert_true(p != MAP_FAILED);
    return p;
}
