/*
 * Test of the kernel's interface to an SMMUv3: objects and errors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test-vfio-smmu.h"

#define SMMUV3      IOMMU_HWPT_DATA_ARM_SMMUV3
#define NONE        IOMMU_HWPT_DATA_NONE
#define NEST        IOMMU_HWPT_ALLOC_NEST_PARENT
#define PASID       IOMMU_HWPT_ALLOC_PASID
/* Device Capabilities 2 */
#define DEVCAP2     (0x60 + 0x24)

static void open_plain(Dev *d)
{
    open_device(d, 0, open("/dev/iommu", O_RDWR | O_CLOEXEC));
    d->ioas = new_ioas(d->iommufd);
}

/* -- IOMMU_GET_HW_INFO */

static int hw_info(const Dev *d, struct iommu_hw_info *arg)
{
    arg->size = sizeof(*arg);
    arg->dev_id = d->id;
    return ioctl(d->iommufd, IOMMU_GET_HW_INFO, arg);
}

static void test_info(void)
{
    struct {
        struct iommu_hw_info_arm_smmuv3 info;
        uint8_t rest[600];
    } b;
    struct iommu_hw_info arg = { .data_uptr = (uintptr_t)&b };
    uint8_t zero[600] = { 0 };
    Dev d;

    open_plain(&d);
    memset(&b, 0xaa, sizeof(b));
    arg.data_len = sizeof(b);
    arg.out_data_type = 99;     /* means nothing without the flag */
    ok(hw_info(&d, &arg));
    g_assert_cmpuint(arg.data_len, ==, 40);
    g_assert_cmpuint(arg.out_data_type, ==, IOMMU_HW_INFO_TYPE_ARM_SMMUV3);
    g_assert_cmpmem(b.rest, sizeof(b.rest), zero, sizeof(zero));
    g_assert_cmpuint(b.info.flags, ==, 0);
    /* Linux enables PASIDs only where they can be sent as a prefix */
    g_assert_cmphex(cfg(&d, DEVCAP2, 4) & 0xe00000, ==, 0x600000);
    /* What QEMU's own model has as well */
    g_assert_cmphex(b.info.idr[0] & 0xf, ==, 0xb);
    g_assert_cmphex(b.info.idr[0] >> 21 & 3, ==, 2);
    g_assert_cmphex(b.info.idr[0] >> 27 & 3, ==, 1);
    g_assert_cmpuint(b.info.idr[1] & 0x3f, >=, 16);
    g_assert_cmphex(b.info.idr[3] >> 10 & 1, ==, 1);
    g_assert_cmphex(b.info.idr[5] >> 4 & 7, ==, 7);
    /* The SMMU has what the device has */
    g_assert_cmpuint(b.info.idr[1] >> 6 & 0x1f, ==, arg.out_max_pasid_log2);
    g_assert_cmpuint(b.info.idr[0] >> 10 & 1, ==,
                     !(arg.out_capabilities & 8));

    /* Less than all of it */
    memset(&b, 0xaa, sizeof(b));
    arg.data_len = 10;
    ok(hw_info(&d, &arg));
    g_assert_cmpuint(arg.data_len, ==, 40);
    g_assert_cmphex(((uint8_t *)&b)[9], !=, 0xaa);
    g_assert_cmphex(((uint8_t *)&b)[10], ==, 0xaa);
    arg.data_len = 0;
    arg.data_uptr = 0;
    ok(hw_info(&d, &arg));
    g_assert_cmpuint(arg.data_len, ==, 40);

    arg.flags = IOMMU_HW_INFO_FLAG_INPUT_TYPE;
    arg.data_uptr = (uintptr_t)&b;
    arg.out_data_type = IOMMU_HW_INFO_TYPE_ARM_SMMUV3;
    ok(hw_info(&d, &arg));
    arg.out_data_type = IOMMU_HW_INFO_TYPE_DEFAULT;
    ok(hw_info(&d, &arg));
    g_assert_cmpuint(arg.out_data_type, ==, IOMMU_HW_INFO_TYPE_ARM_SMMUV3);
    arg.out_data_type = 3;      /* Tegra241's queues */
    fails(hw_info(&d, &arg), EOPNOTSUPP);
    arg.flags = 2;
    fails(hw_info(&d, &arg), EOPNOTSUPP);
    arg.flags = 0;
    arg.__reserved[1] = 1;
    fails(hw_info(&d, &arg), EOPNOTSUPP);
    arg.__reserved[1] = 0;
    arg.data_len = 4;
    arg.data_uptr = 8;
    fails(hw_info(&d, &arg), EFAULT);
    d.id = 1000;
    fails(hw_info(&d, &arg), ENOENT);
}

static void test_info_small(void)
{
    struct iommu_hw_info_arm_smmuv3 info;
    struct iommu_hw_info arg = {
        .data_uptr = (uintptr_t)&info, .data_len = sizeof(info),
    };
    Dev d;

    open_plain(&d);
    ok(hw_info(&d, &arg));
    g_assert_cmpuint(arg.out_max_pasid_log2, ==, 0);
    g_assert_cmphex(arg.out_capabilities, ==, 8);
    g_assert_cmphex(info.idr[0] >> 10 & 1, ==, 0);
    g_assert_cmphex(info.idr[1] >> 6 & 0x1f, ==, 0);
    g_assert_cmphex(info.idr[5] & 7, ==, 4);
    g_assert_cmphex(cfg(&d, DEVCAP2, 4) & 0xe00000, ==, 0);
    /* Nor has the device a capability for ATS behind its serial number */
    g_assert_cmphex(cfg(&d, 0x220, 4), ==, 0x00010003);
    g_assert_cmphex(reg(&d, VFIO_SIM_REG_DMA_FEATURES), ==, 0);
    use_pasid(&d, 0);
    g_assert_cmphex(dma_read(&d, 0, 0), ==, NO_PASID);
}

/* Without the option nothing has changed */
static void test_none(void)
{
    struct iommu_hw_info arg = { 0 };
    struct iommu_hwpt_invalidate inv = { .size = sizeof(inv) };
    uint32_t id, hwpt;
    int fd;
    Dev d;

    open_plain(&d);
    ok(hw_info(&d, &arg));
    g_assert_cmpuint(arg.out_data_type, ==, IOMMU_HW_INFO_TYPE_NONE);
    g_assert_cmpuint(arg.out_max_pasid_log2, ==, 0);
    fails(alloc_hwpt(&d, NEST, d.ioas, NONE, NULL, 0, &hwpt), EOPNOTSUPP);
    ok(alloc_hwpt(&d, 0, d.ioas, NONE, NULL, 0, &hwpt));
    fails(alloc_viommu(&d, hwpt, 1, &id), ENOTTY);
    fails(alloc_vdevice(&d, hwpt, 1, &id), ENOTTY);
    fails(alloc_veventq(&d, 1, 1, &id, &fd), ENOTTY);
    fails(ioctl(d.iommufd, IOMMU_HWPT_INVALIDATE, &inv), ENOTTY);
    ok(attach(&d, hwpt));
    fails(attach_pasid(&d, 1, hwpt), EOPNOTSUPP);
    g_assert_cmphex(reg(&d, VFIO_SIM_REG_DMA_FEATURES), ==, 0);
    use_pasid(&d, 1);
    g_assert_cmphex(reg(&d, VFIO_SIM_REG_DMA_PASID), ==, 0);
}

/* -- page tables */

static void test_hwpt(void)
{
    struct iommu_hwpt_arm_smmuv3 data = { { STE_V | STE_ABORT, 0 } };
    uint32_t id, nested;
    Dev d;

    open_nested(&d);
    ok(alloc_hwpt(&d, 0, d.ioas, NONE, NULL, 0, &id));
    ok(alloc_hwpt(&d, PASID, d.ioas, NONE, NULL, 0, &id));
    fails(alloc_hwpt(&d, NEST | PASID, d.ioas, NONE, NULL, 0, &id),
          EOPNOTSUPP);
    fails(alloc_hwpt(&d, IOMMU_HWPT_ALLOC_DIRTY_TRACKING, d.ioas, NONE, NULL,
                     0, &id), EOPNOTSUPP);
    fails(alloc_hwpt(&d, 16, d.ioas, NONE, NULL, 0, &id), EOPNOTSUPP);
    fails(alloc_hwpt(&d, NEST | IOMMU_HWPT_FAULT_ID_VALID, d.ioas, NONE, NULL,
                     0, &id), EOPNOTSUPP);
    fails(alloc_hwpt(&d, IOMMU_HWPT_FAULT_ID_VALID, d.ioas, NONE, NULL, 0,
                     &id), ENOENT);
    fails(alloc_hwpt(&d, 0, d.ioas, NONE, &data, 16, &id), EINVAL);
    fails(alloc_hwpt(&d, 0, d.ioas, SMMUV3, NULL, 0, &id), EINVAL);
    fails(alloc_hwpt(&d, 0, d.ioas, SMMUV3, &data, 16, &id), EOPNOTSUPP);
    fails(alloc_hwpt(&d, 0, 1000, NONE, NULL, 0, &id), EINVAL);
    fails(alloc_hwpt(&d, 0, d.id, NONE, NULL, 0, &id), EINVAL);

    /* A nested one is made from a vIOMMU, not from its parent */
    fails(alloc_hwpt(&d, 0, d.parent, SMMUV3, &data, 16, &id), EOPNOTSUPP);
    ok(alloc_hwpt(&d, 0, d.viommu, SMMUV3, &data, 16, &nested));
    fails(alloc_hwpt(&d, 0, nested, SMMUV3, &data, 16, &id), EINVAL);
    fails(alloc_hwpt(&d, 0, d.vdevice, SMMUV3, &data, 16, &id), EINVAL);
    fails(alloc_hwpt(&d, NEST, d.viommu, SMMUV3, &data, 16, &id), EOPNOTSUPP);
    fails(alloc_hwpt(&d, PASID, d.viommu, SMMUV3, &data, 16, &id),
          EOPNOTSUPP);
    fails(alloc_hwpt(&d, 0, d.viommu, NONE, NULL, 0, &id), EOPNOTSUPP);
    fails(alloc_hwpt(&d, 0, d.viommu, 1, &data, 16, &id), EINVAL);
    fails(alloc_hwpt(&d, 0, d.viommu, SMMUV3, &data, 15, &id), EINVAL);
    fails(alloc_hwpt(&d, 0, d.viommu, SMMUV3, &data, 17, &id), EINVAL);
    fails(alloc_hwpt(&d, 0, d.viommu, SMMUV3, (void *)8, 16, &id), EFAULT);
    fails(alloc_hwpt(&d, IOMMU_HWPT_FAULT_ID_VALID, d.viommu, SMMUV3, &data,
                     16, &id), ENOENT);
    d.id = 1000;
    fails(alloc_hwpt(&d, 0, d.ioas, NONE, NULL, 0, &id), ENOENT);
}

/* Which STEs a guest may have */
static void test_ste(void)
{
    uint64_t all0 = STE_V | STE_S1 | STE_FMT(3) | 0xfffffffffffc0ull |
                    STE_CDMAX(31);
    uint32_t id;
    unsigned i;
    Dev d;

    open_nested(&d);
    ok(alloc_nested(&d, STE_V | STE_ABORT, 0, &id));
    ok(alloc_nested(&d, STE_V | STE_BYPASS, 0, &id));
    ok(alloc_nested(&d, STE_V | STE_S1, STE_EATS, &id));
    /* S1DSS, S1CIR, S1COR, S1CSH, S1STALLD, one of EATS */
    ok(alloc_nested(&d, all0, 0xff | 1ull << 27 | STE_EATS, &id));
    /* Of one that is not valid nothing else counts */
    ok(alloc_nested(&d, ~STE_V, UINT64_MAX, &id));
    for (i = 52; i < 59; i++) {
        fails(alloc_nested(&d, all0 | 1ull << i, 0, &id), EIO);
    }
    for (i = 8; i < 64; i++) {
        if (i < 27 || i > 28) {
            fails(alloc_nested(&d, all0, 1ull << i, &id), EIO);
        }
    }
    fails(alloc_nested(&d, all0, STE_EATS * 3, &id), EIO);
    for (i = 1; i < 8; i++) {
        if (i != 4 && i != 5) {
            fails(alloc_nested(&d, STE_V | i << 1, 0, &id), EIO);
        }
    }
}

/* -- vIOMMU and vDEVICE */

static void test_viommu(void)
{
    struct iommu_viommu_alloc arg = { .size = sizeof(arg), .type = 1 };
    uint32_t id, plain, other;
    Dev d;

    open_nested(&d);
    ok(alloc_viommu(&d, d.parent, 1, &id));
    ok(destroy(&d, id));
    ok(alloc_hwpt(&d, 0, d.ioas, NONE, NULL, 0, &plain));
    fails(alloc_viommu(&d, plain, 1, &id), EINVAL);
    fails(alloc_viommu(&d, d.parent, 0, &id), EOPNOTSUPP);
    fails(alloc_viommu(&d, d.parent, 2, &id), EOPNOTSUPP);
    fails(alloc_viommu(&d, d.parent, 3, &id), EOPNOTSUPP);
    fails(alloc_viommu(&d, d.ioas, 1, &id), ENOENT);
    fails(alloc_viommu(&d, 1000, 1, &id), ENOENT);
    ok(alloc_nested(&d, STE_V, 0, &other));
    fails(alloc_viommu(&d, other, 1, &id), ENOENT);
    arg.dev_id = d.id;
    arg.hwpt_id = d.parent;
    arg.flags = 1;
    fails(ioctl(d.iommufd, IOMMU_VIOMMU_ALLOC, &arg), EOPNOTSUPP);
    arg.flags = 0;
    arg.size = offsetof(struct iommu_viommu_alloc, out_viommu_id);
    fails(ioctl(d.iommufd, IOMMU_VIOMMU_ALLOC, &arg), EINVAL);
    d.id = d.ioas;
    fails(alloc_viommu(&d, d.parent, 1, &id), ENOENT);
}

static void test_vdevice(void)
{
    uint32_t id, second;
    Dev d, e;

    open_nested(&d);
    /* One for a device; the number is free again afterwards */
    fails(alloc_vdevice(&d, d.viommu, SID + 1, &id), EEXIST);
    ok(destroy(&d, d.vdevice));
    ok(alloc_vdevice(&d, d.viommu, SID, &id));
    fails(alloc_vdevice(&d, d.parent, 1, &id), ENOENT);
    fails(alloc_vdevice(&d, 1000, 1, &id), ENOENT);

    open_device(&e, 1, d.iommufd);
    fails(alloc_vdevice(&e, d.viommu, SID, &second), EEXIST);
    ok(alloc_vdevice(&e, d.viommu, 1ull << 40, &second));
    ok(destroy(&e, second));
    ok(alloc_vdevice(&e, d.viommu, SID + 1, &second));
    /* It goes with the device */
    close(e.fd);
    fails(destroy(&d, second), ENOENT);
    e.id = d.viommu;
    fails(alloc_vdevice(&e, d.viommu, 7, &second), ENOENT);
}

/* What belongs to one SMMU is of no use behind another */
static void test_two_smmus(void)
{
    uint32_t id, parent, viommu, automatic;
    SimAttach arg = { .argsz = offsetof(SimAttach, pasid) };
    Dev d, e;

    open_nested(&d);
    open_device(&e, 1, d.iommufd);
    e.ioas = d.ioas;
    e.viommu = d.viommu;
    fails(attach(&e, d.parent), EINVAL);
    fails(alloc_viommu(&e, d.parent, 1, &id), EINVAL);
    fails(alloc_vdevice(&e, d.viommu, 9, &id), EINVAL);
    fails(alloc_nested(&e, STE_V, 0, &id), EINVAL);
    ok(alloc_hwpt(&e, NEST, e.ioas, NONE, NULL, 0, &parent));
    ok(attach(&e, parent));
    ok(alloc_viommu(&e, parent, 1, &viommu));
    ok(alloc_vdevice(&e, viommu, SID, &id));
    fails(attach(&d, parent), EINVAL);
    /* Refused, it stays where it is */
    g_assert_cmphex(dma_read(&d, RAM, 0), ==, 0);

    /* The kernel makes tables for each */
    arg.pt_id = d.ioas;
    ok(ioctl(d.fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &arg));
    automatic = arg.pt_id;
    arg.pt_id = d.ioas;
    ok(ioctl(e.fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &arg));
    g_assert_cmpuint(arg.pt_id, !=, automatic);
    /* To the same again */
    arg.pt_id = d.ioas;
    ok(ioctl(e.fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &arg));
    ok(detach(&e));
    fails(destroy(&d, arg.pt_id), ENOENT);
    g_assert_cmphex(dma_read(&e, RAM, 0), ==, FAULT);
}

/* -- attaching and destroying */

static void test_attach(void)
{
    uint32_t translate, bypass, aborts, invalid;
    Dev d;

    open_nested(&d);
    *(uint32_t *)ram = 0xfeed;
    ok(alloc_nested(&d, STE_V | STE_S1 | RAM, 0, &translate));
    ok(alloc_nested(&d, STE_V | STE_BYPASS, 0, &bypass));
    ok(alloc_nested(&d, STE_V | STE_ABORT, 0, &aborts));
    ok(alloc_nested(&d, 0, 0, &invalid));
    g_assert_cmphex(dma_read(&d, RAM, 0), ==, 0xfeed);
    ok(attach(&d, aborts));
    g_assert_cmphex(dma_read(&d, RAM, 0), ==, FAULT);
    ok(attach(&d, bypass));
    g_assert_cmphex(dma_read(&d, RAM, 0), ==, 0xfeed);
    ok(attach(&d, bypass));
    ok(attach(&d, invalid));
    g_assert_cmphex(dma_read(&d, RAM, 0), ==, FAULT);
    ok(attach(&d, translate));

    /* Only translating needs a stream ID, and it needs this vIOMMU's */
    ok(attach(&d, d.parent));
    ok(destroy(&d, d.vdevice));
    fails(attach(&d, translate), ENOENT);
    g_assert_cmphex(dma_read(&d, RAM, 0), ==, 0xfeed);
    ok(attach(&d, aborts));
    ok(attach(&d, bypass));
    ok(attach(&d, invalid));
    fails(attach(&d, d.viommu), EINVAL);
    fails(attach(&d, d.id), EINVAL);
    fails(attach(&d, 1000), ENOENT);
    ok(detach(&d));
    g_assert_cmphex(dma_read(&d, RAM, 0), ==, FAULT);
    ok(detach(&d));
}

static void test_destroy(void)
{
    uint32_t queue;
    int fd;
    Dev d;

    open_nested(&d);
    ok(alloc_veventq(&d, 1, 4, &queue, &fd));
    ok(alloc_nested(&d, STE_V | STE_BYPASS, 0, &d.hwpt));
    ok(attach(&d, d.hwpt));
    fails(destroy(&d, d.id), EBUSY);
    fails(destroy(&d, d.ioas), EBUSY);
    fails(destroy(&d, d.parent), EBUSY);
    fails(destroy(&d, d.viommu), EBUSY);
    fails(destroy(&d, d.hwpt), EBUSY);
    fails(destroy(&d, queue), EBUSY);

    ok(attach(&d, d.parent));
    ok(destroy(&d, d.hwpt));
    fails(destroy(&d, d.hwpt), ENOENT);
    fails(destroy(&d, d.viommu), EBUSY);
    ok(destroy(&d, d.vdevice));
    fails(destroy(&d, d.viommu), EBUSY);
    close(fd);
    ok(destroy(&d, queue));
    ok(destroy(&d, d.viommu));
    fails(destroy(&d, d.parent), EBUSY);
    ok(detach(&d));
    ok(destroy(&d, d.parent));
    ok(destroy(&d, d.ioas));
    fails(destroy(&d, d.id), EBUSY);
    close(d.fd);
    fails(destroy(&d, d.id), ENOENT);
}

/* Closing everything in an odd order */
static void test_close(void)
{
    uint32_t queue;
    int fd, i;
    Dev d;

    for (i = 0; i < 3; i++) {
        open_nested(&d);
        ok(alloc_veventq(&d, 1, 4, &queue, &fd));
        attach_ste(&d, STE_S1 | RAM, 0);
        g_assert_cmphex(dma_read(&d, 0, 0), ==, FAULT);
        close(i == 0 ? d.iommufd : i == 1 ? d.fd : fd);
        close(i == 0 ? fd : i == 1 ? fd : d.fd);
        close(i == 0 ? d.fd : d.iommufd);
        if (i == 1) {
            munmap(ram, RAM_SIZE);
        }
    }
}

/* -- PASIDs that are attached by themselves */

static void test_pasid_attach(void)
{
    SimDetach off = {
        .argsz = sizeof(off), .flags = VFIO_DEVICE_DETACH_PASID, .pasid = 5,
    };
    uint32_t table, second, plain;
    uint8_t *more;
    Dev d, e;

    open_nested(&d);
    *(uint32_t *)ram = 0x5a5a;
    more = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *(uint32_t *)more = 0x6b6b;
    e = d;
    e.ioas = new_ioas(d.iommufd);
    ok(map_ram(&e, RAM, more, 0x1000));
    ok(alloc_hwpt(&d, PASID, d.ioas, NONE, NULL, 0, &table));
    ok(alloc_hwpt(&d, PASID, e.ioas, NONE, NULL, 0, &second));
    ok(alloc_hwpt(&d, 0, d.ioas, NONE, NULL, 0, &plain));

    /* What the device is attached to must go with it */
    fails(attach_pasid(&d, 5, second), EINVAL);
    ok(attach(&d, table));
    fails(attach_pasid(&d, 5, plain), EINVAL);
    fails(attach_pasid(&d, 5, d.ioas), EINVAL);
    fails(attach_pasid(&d, 5, 1000), ENOENT);
    fails(attach_pasid(&d, 1 << 20, second), EINVAL);
    use_pasid(&d, 5);
    g_assert_cmphex(dma_read(&d, RAM, 0), ==, FAULT);
    ok(attach_pasid(&d, 5, second));
    g_assert_cmphex(dma_read(&d, RAM, 0), ==, 0x6b6b);
    no_pasid(&d);
    g_assert_cmphex(dma_read(&d, RAM, 0), ==, 0x5a5a);
    fails(destroy(&d, second), EBUSY);
    fails(attach(&d, plain), EINVAL);
    ok(attach_pasid(&d, 5, table));
    ok(destroy(&d, second));
    ok(ioctl(d.fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, &off));
    use_pasid(&d, 5);
    g_assert_cmphex(dma_read(&d, RAM, 0), ==, FAULT);
    ok(ioctl(d.fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, &off));
    ok(attach(&d, plain));
    ok(destroy(&d, table));
}

/* -- reserved addresses */

static void test_ranges(void)
{
    struct iommu_iova_range r[4];
    struct iommu_ioas_iova_ranges arg = {
        .size = sizeof(arg), .num_iovas = 4, .allowed_iovas = (uintptr_t)r,
    };
    Dev d;

    open_nested(&d);
    arg.ioas_id = d.ioas;
    ok(ioctl(d.iommufd, IOMMU_IOAS_IOVA_RANGES, &arg));
    g_assert_cmpuint(arg.num_iovas, ==, 2);
    g_assert_cmphex(r[0].last, ==, 0x7ffffff);
    g_assert_cmphex(r[1].start, ==, 0x8100000);
    g_assert_cmphex(r[1].last, ==, (1ull << 44) - 1);
    fails(map_ram(&d, 0x8000000, ram, 0x1000), EINVAL);
    fails(map_ram(&d, 1ull << 44, ram, 0x1000), EINVAL);
    ok(map_ram(&d, (1ull << 44) - 0x1000, ram, 0x1000));
}

/* -- what a test can look at */

static void test_control(void)
{
    g_autofree char *before = NULL, *after = NULL, *help = NULL;
    Space s;

    open_space(&s, 0);
    map_page(&s.table, 0x1000, s.page[0], 12, PTE_RW);
    g_assert_cmphex(dma_read(&s.d, 0x1000, 0), ==, 0x11111111);
    before = control("iommu");
    g_assert_nonnull(strstr(before, "{\"smmu\": 0, \"tlb\": 1, "));
    g_assert_nonnull(strstr(before, "\"config\": \"nested\", \"ats\": false, "
                            "\"cds\": 1, \"atc\": 0"));
    g_assert_nonnull(strstr(before, "\"type\": \"vdevice\""));
    g_assert_nonnull(strstr(before, "\"sid\": 291"));
    g_assert_nonnull(strstr(before, "\"type\": \"hwpt-nested\", \"users\": 1"));
    g_assert_nonnull(strstr(before, "\"nest-parent\": true"));
    command(&s.d, TLBI_NSNH, 0);
    command(&s.d, CFGI_CD_ALL, 0);
    after = control("iommu");
    g_assert_nonnull(strstr(after, "{\"smmu\": 0, \"tlb\": 0, "));
    g_assert_nonnull(strstr(after, "\"cds\": 0"));
    g_assert_cmpuint(number(after, "TLBI_NH_ALL"), ==, 1);
    g_assert_cmpuint(number(after, "CFGI_CD_ALL"), ==, 1);
    g_assert_cmpuint(stat_of(HOST0, "tlb-misses"), ==, 1);
    control_ok("fault " HOST0 " hwpt_invalidate errno=5 count=1");
    {
        const uint64_t cmd[1][2] = { { TLBI_ALL, 0 } };
        uint32_t num = 1;

        fails(commands(&s.d, cmd, &num), EIO);
    }
    help = control("nothing");
    g_assert_nonnull(strstr(help, "maps, iommu, mmaps"));
}

/* -- sysfs */

static char *smmu_of(const char *host)
{
    g_autofree char *link = g_strdup_printf("/sys/bus/pci/devices/%s/iommu",
                                            host);
    g_autofree char *member = g_strdup_printf("%s/devices/%s", link, host);
    char *path = realpath(link, NULL);
    g_autofree char *name = NULL;

    g_assert_nonnull(path);
    name = g_path_get_basename(path);
    g_assert_true(g_str_has_prefix(name, "smmu3.0x"));
    g_assert_true(g_file_test(path, G_FILE_TEST_IS_DIR));
    g_assert_true(g_file_test(member, G_FILE_TEST_IS_DIR));
    return path;
}

static void test_sysfs(void)
{
    g_autofree char *a = smmu_of(HOST0), *b = smmu_of(HOST1);

    g_assert_cmpstr(a, !=, b);
}

static void test_sysfs_shared(void)
{
    g_autofree char *a = smmu_of(HOST0), *b = smmu_of(HOST1);

    g_assert_cmpstr(a, ==, b);
}

static void test_sysfs_none(void)
{
    g_assert_false(g_file_test("/sys/bus/pci/devices/" HOST0 "/iommu",
                               G_FILE_TEST_IS_SYMLINK));
}

const Case object_cases[] = {
    { "info", test_info },
    { "info-small", test_info_small,
      .iommu = "smmuv3,ats=off,pasid-bits=0,oas=44" },
    { "none", test_none, .iommu = "" },
    { "hwpt", test_hwpt },
    { "ste", test_ste },
    { "viommu", test_viommu },
    { "vdevice", test_vdevice, .iommu = "smmuv3,smmus=1",
      .options = "--devices=2" },
    { "two-smmus", test_two_smmus, .options = "--devices=2" },
    { "attach", test_attach },
    { "destroy", test_destroy },
    { "close", test_close },
    { "pasid-attach", test_pasid_attach },
    { "ranges", test_ranges, .iommu = "smmuv3,oas=44" },
    { "control", test_control, .control = true },
    { "sysfs", test_sysfs, .options = "--devices=2" },
    { "sysfs-shared", test_sysfs_shared, .iommu = "smmuv3,smmus=1",
      .options = "--devices=2" },
    { "sysfs-none", test_sysfs_none, .iommu = "" },
    { }
};
