/*
 * Test of the kernel's interface to an SMMUv3: objects, tables, and the device
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test-vfio-smmu.h"

#define REGION(n)   ((uint64_t)(n) << 40)

uint8_t *ram;
static uint64_t ram_used;

/* -- objects */

static int open_cdev(const char *host)
{
    g_autofree char *path = g_strdup_printf(
        "/sys/bus/pci/devices/%s/vfio-dev", host);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    g_autofree char *node = NULL;

    g_assert_nonnull(dir);
    node = g_strdup_printf("/dev/vfio/devices/%s", g_dir_read_name(dir));
    return open(node, O_RDWR | O_CLOEXEC);
}

void open_device(Dev *d, unsigned n, int iommufd)
{
    SimBindIommufd bind = { .argsz = sizeof(bind) };

    *d = (Dev) { .iommufd = iommufd };
    d->fd = open_cdev(hosts[n]);
    g_assert_cmpint(d->fd, >=, 0);
    bind.iommufd = iommufd;
    bind.argsz = offsetof(SimBindIommufd, token_uuid_ptr);
    ok(ioctl(d->fd, VFIO_DEVICE_BIND_IOMMUFD, &bind));
    d->id = bind.out_devid;
    set_cfg(d, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
}

void close_dev(Dev *d)
{
    close(d->fd);
    close(d->iommufd);
}

uint32_t new_ioas(int iommufd)
{
    struct iommu_ioas_alloc arg = { .size = sizeof(arg) };

    ok(ioctl(iommufd, IOMMU_IOAS_ALLOC, &arg));
    return arg.out_ioas_id;
}

int alloc_hwpt(const Dev *d, uint32_t flags, uint32_t pt, uint32_t type,
               const void *data, uint32_t len, uint32_t *id)
{
    struct iommu_hwpt_alloc arg = {
        .size = sizeof(arg), .flags = flags, .dev_id = d->id, .pt_id = pt,
        .data_type = type, .data_len = len, .data_uptr = (uintptr_t)data,
    };
    int ret = ioctl(d->iommufd, IOMMU_HWPT_ALLOC, &arg);

    if (ret == 0 && id) {
        *id = arg.out_hwpt_id;
    }
    return ret;
}

int alloc_nested(const Dev *d, uint64_t ste0, uint64_t ste1, uint32_t *id)
{
    struct iommu_hwpt_arm_smmuv3 data = { { ste0, ste1 } };

    return alloc_hwpt(d, 0, d->viommu, IOMMU_HWPT_DATA_ARM_SMMUV3, &data,
                      sizeof(data), id);
}

int alloc_viommu(const Dev *d, uint32_t parent, uint32_t type, uint32_t *id)
{
    struct iommu_viommu_alloc arg = {
        .size = sizeof(arg), .type = type, .dev_id = d->id, .hwpt_id = parent,
    };
    int ret = ioctl(d->iommufd, IOMMU_VIOMMU_ALLOC, &arg);

    if (ret == 0 && id) {
        *id = arg.out_viommu_id;
    }
    return ret;
}

int alloc_vdevice(const Dev *d, uint32_t viommu, uint64_t sid, uint32_t *id)
{
    struct iommu_vdevice_alloc arg = {
        .size = sizeof(arg), .viommu_id = viommu, .dev_id = d->id,
        .virt_id = sid,
    };
    int ret = ioctl(d->iommufd, IOMMU_VDEVICE_ALLOC, &arg);

    if (ret == 0 && id) {
        *id = arg.out_vdevice_id;
    }
    return ret;
}

int alloc_veventq(const Dev *d, uint32_t type, uint32_t depth, uint32_t *id,
                  int *fd)
{
    struct iommu_veventq_alloc arg = {
        .size = sizeof(arg), .viommu_id = d->viommu, .type = type,
        .veventq_depth = depth,
    };
    int ret = ioctl(d->iommufd, IOMMU_VEVENTQ_ALLOC, &arg);

    if (ret == 0) {
        *id = arg.out_veventq_id;
        *fd = arg.out_veventq_fd;
    }
    return ret;
}

int destroy(const Dev *d, uint32_t id)
{
    struct iommu_destroy arg = { .size = sizeof(arg), .id = id };

    return ioctl(d->iommufd, IOMMU_DESTROY, &arg);
}

int attach(const Dev *d, uint32_t pt)
{
    SimAttach arg = { .argsz = offsetof(SimAttach, pasid), .pt_id = pt };

    return ioctl(d->fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &arg);
}

int attach_pasid(const Dev *d, uint32_t pasid, uint32_t pt)
{
    SimAttach arg = {
        .argsz = sizeof(arg), .flags = VFIO_DEVICE_ATTACH_PASID,
        .pt_id = pt, .pasid = pasid,
    };

    return ioctl(d->fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &arg);
}

int detach(const Dev *d)
{
    SimDetach arg = { .argsz = offsetof(SimDetach, pasid) };

    return ioctl(d->fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, &arg);
}

int map_ram(const Dev *d, uint64_t iova, void *va, uint64_t size)
{
    struct iommu_ioas_map arg = {
        .size = sizeof(arg), .flags = 7, .ioas_id = d->ioas,
        .user_va = (uintptr_t)va, .length = size, .iova = iova,
    };

    return ioctl(d->iommufd, IOMMU_IOAS_MAP, &arg);
}

int unmap_ram(const Dev *d, uint64_t iova, uint64_t size)
{
    struct iommu_ioas_unmap arg = {
        .size = sizeof(arg), .ioas_id = d->ioas, .iova = iova, .length = size,
    };

    return ioctl(d->iommufd, IOMMU_IOAS_UNMAP, &arg);
}

int commands(const Dev *d, const uint64_t (*cmds)[2], uint32_t *num)
{
    struct iommu_hwpt_invalidate arg = {
        .size = sizeof(arg), .hwpt_id = d->viommu,
        .data_uptr = (uintptr_t)cmds, .entry_len = 16, .entry_num = *num,
        .data_type = IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
    };
    int ret = ioctl(d->iommufd, IOMMU_HWPT_INVALIDATE, &arg);

    *num = arg.entry_num;
    return ret;
}

void command(const Dev *d, uint64_t cmd0, uint64_t cmd1)
{
    const uint64_t cmd[1][2] = { { cmd0, cmd1 } };
    uint32_t num = 1;

    ok(commands(d, cmd, &num));
    g_assert_cmpuint(num, ==, 1);
}

void open_nested(Dev *d)
{
    ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    g_assert_true(ram != MAP_FAILED);
    open_device(d, 0, open("/dev/iommu", O_RDWR | O_CLOEXEC));
    d->ioas = new_ioas(d->iommufd);
    ok(map_ram(d, RAM, ram, RAM_SIZE));
    ok(alloc_hwpt(d, IOMMU_HWPT_ALLOC_NEST_PARENT, d->ioas,
                  IOMMU_HWPT_DATA_NONE, NULL, 0, &d->parent));
    ok(attach(d, d->parent));
    ok(alloc_viommu(d, d->parent, IOMMU_VIOMMU_TYPE_ARM_SMMUV3, &d->viommu));
    ok(alloc_vdevice(d, d->viommu, SID, &d->vdevice));
}

/* As a VMM does: the new one in place of the old one, which then goes */
void attach_ste(Dev *d, uint64_t ste0, uint64_t ste1)
{
    uint32_t old = d->hwpt;

    ok(alloc_nested(d, STE_V | ste0, ste1, &d->hwpt));
    ok(attach(d, d->hwpt));
    if (old) {
        ok(destroy(d, old));
    }
}

/* -- memory and tables */

uint64_t new_pages(uint64_t size, uint64_t align)
{
    uint64_t ipa = (RAM + ram_used + align - 1) / align * align;

    g_assert_cmphex(ipa + size, <=, RAM + RAM_SIZE);
    ram_used = ipa + size - RAM;
    return ipa;
}

void *at(uint64_t ipa)
{
    return ram + (ipa - RAM);
}

static unsigned top_shift(const Table *t)
{
    unsigned shift = t->granule;

    while (shift + t->granule - 3 < t->va_bits) {
        shift += t->granule - 3;
    }
    return shift;
}

Table new_table(unsigned granule, unsigned va_bits)
{
    Table t = { granule, va_bits };
    uint64_t size = 8ull << (va_bits - top_shift(&t));

    t.root = new_pages(size, size < 64 ? 64 : size);
    return t;
}

uint64_t *map_page(Table *t, uint64_t iova, uint64_t ipa, unsigned bits,
                   uint64_t attr)
{
    unsigned shift = top_shift(t), index_bits = t->va_bits - shift;
    uint64_t table = t->root, *pte;

    for (;;) {
        pte = at(table);
        pte += iova >> shift & ((1u << index_bits) - 1);
        if (shift == bits) {
            break;
        }
        if (!*pte) {
            *pte = new_pages(1ull << t->granule, 1ull << t->granule) |
                   PTE_PAGE;
        }
        table = *pte & 0xfffffffff000;
        index_bits = t->granule - 3;
        shift -= index_bits;
    }
    *pte = ipa | attr | (bits == t->granule ? PTE_PAGE : PTE_VALID);
    return pte;
}

void write_cd(uint64_t *cd, unsigned asid, const Table *table0,
              const Table *table1)
{
    /* By the log2 of the granule, 12 to 16 */
    static const uint8_t tg0[] = { 0, 0, 2, 0, 1 }, tg1[] = { 2, 0, 1, 0, 3 };
    uint64_t w = CD_V | CD_AA64 | CD_R | 5ull << 32 | (uint64_t)asid << CD_ASID;

    w |= (64 - table0->va_bits) | tg0[table0->granule - 12] << 6;
    cd[1] = table0->root;
    if (table1) {
        w |= (64 - table1->va_bits) << 16 | tg1[table1->granule - 12] << 22;
        cd[2] = table1->root;
    } else {
        w |= CD_EPD1;
    }
    cd[0] = w;
}

void open_space(Space *s, uint64_t ste1)
{
    unsigned i;

    *s = (Space) { 0 };
    open_nested(&s->d);
    s->table = new_table(12, 48);
    s->cd_ipa = new_pages(64, 64);
    s->cd = at(s->cd_ipa);
    write_cd(s->cd, 1, &s->table, NULL);
    for (i = 0; i < 2; i++) {
        s->page[i] = new_pages(0x1000, 0x1000);
        *(uint32_t *)at(s->page[i]) = 0x11111111 * (i + 1);
    }
    attach_ste(&s->d, STE_S1 | s->cd_ipa, ste1);
}

/* -- the device */

static uint64_t access_fd(const Dev *d, unsigned region, uint64_t off,
                          uint64_t value, unsigned size, bool write)
{
    uint64_t pos = REGION(region) + off;

    g_assert_cmpint(write ? pwrite(d->fd, &value, size, pos) :
                            pread(d->fd, &value, size, pos), ==, size);
    return value;
}

uint32_t reg(const Dev *d, unsigned off)
{
    return access_fd(d, VFIO_SIM_REG_BAR, off, 0, 4, false);
}

static void set_reg(const Dev *d, unsigned off, uint64_t value, unsigned size)
{
    access_fd(d, VFIO_SIM_REG_BAR, off, value, size, true);
}

uint32_t cfg(const Dev *d, unsigned off, unsigned size)
{
    return access_fd(d, VFIO_PCI_CONFIG_REGION_INDEX, off, 0, size, false);
}

void set_cfg(const Dev *d, unsigned off, uint32_t value, unsigned size)
{
    access_fd(d, VFIO_PCI_CONFIG_REGION_INDEX, off, value, size, true);
}

static uint32_t run(const Dev *d, uint64_t src, uint64_t dst, uint32_t flags)
{
    set_reg(d, VFIO_SIM_REG_DMA_SRC, src, 8);
    set_reg(d, VFIO_SIM_REG_DMA_DST, dst, 8);
    set_reg(d, VFIO_SIM_REG_DMA_LEN, 4, 4);
    set_reg(d, VFIO_SIM_REG_DMA_CTRL, VFIO_SIM_DMA_START | flags, 4);
    return reg(d, VFIO_SIM_REG_DMA_STATUS);
}

uint64_t dma_read(const Dev *d, uint64_t iova, uint32_t flags)
{
    uint32_t status = run(d, iova, 0x100, flags | VFIO_SIM_DMA_DST_LOCAL);

    if (status != VFIO_SIM_DMA_DONE) {
        return 0xffffffff00000000ull | status;
    }
    set_reg(d, VFIO_SIM_REG_PEEK_ADDR, 0x100, 8);
    return reg(d, VFIO_SIM_REG_PEEK_DATA);
}

uint32_t dma_write(const Dev *d, uint64_t iova, uint32_t value,
                   uint32_t flags)
{
    set_reg(d, VFIO_SIM_REG_PEEK_ADDR, 0x200, 8);
    set_reg(d, VFIO_SIM_REG_PEEK_DATA, value, 4);
    return run(d, 0x200, iova, flags | VFIO_SIM_DMA_SRC_LOCAL);
}

void use_pasid(const Dev *d, uint32_t pasid)
{
    set_reg(d, VFIO_SIM_REG_DMA_PASID, VFIO_SIM_DMA_PASID_VALID | pasid, 4);
}

void no_pasid(const Dev *d)
{
    set_reg(d, VFIO_SIM_REG_DMA_PASID, 0, 4);
}
