/*
 * Test of vfio-sim: the decoder, resets and configuration space
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <linux/pci_regs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "test-vfio-sim.h"

static void test_hdm(void)
{
    uint32_t v[2];
    Dev d;

    open_dev(&d, g_str_equal(case_arg, "iommufd"));
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
    open_dev(&d, g_str_equal(case_arg, "iommufd"));
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

    open_dev(&d, g_str_equal(case_arg, "iommufd"));
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
    /* That did not get to the device */
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
    g_assert_cmpuint(reg_r(d.fd, VFIO_SIM_REG_RESETS), ==, resets + 5);
}

/* Without the capability the bit does nothing */
static void test_no_flr(void)
{
    Dev d;

    open_dev(&d, false);
    control_ok("set " HOST0 " no-flr=1");
    close_dev(&d);
    open_dev(&d, false);
    reg_w(d.fd, VFIO_SIM_REG_SCRATCH, 0x12345678);
    cfg_w(d.fd, DEVCTL, cfg_r(d.fd, DEVCTL, 2) | PCI_EXP_DEVCTL_BCR_FLR, 2);
    g_assert_cmphex(reg_r(d.fd, VFIO_SIM_REG_SCRATCH), ==, 0x12345678);
    g_assert_false(cfg_r(d.fd, DEVCTL, 2) & PCI_EXP_DEVCTL_BCR_FLR);
    g_assert_cmpuint(stat_of(HOST0, "flr"), ==, 0);
    close_dev(&d);
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

    /* CXL Device DVSEC, as v2-reset does it. Ranges are the hardware's. */
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
    /* Each byte is its own */
    cfg_w(d.fd, DVSEC + 0x0d, 0x40, 1);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x0c, 2), ==, 0x4002);
    cfg_w(d.fd, DVSEC + 0x0c, 0x04, 1);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x0c, 2), ==, 0x4006);
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x0d, 1), ==, 0x40);
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
    g_assert_cmphex(cfg_r(d.fd, DVSEC + 0x0c, 2), ==, 0x4006);

    v = cfg_r(d.fd, 0x44, 2);
    cfg_w(d.fd, 0x44, v | 1, 2);    /* there is no D1 */
    g_assert_cmphex(cfg_r(d.fd, 0x44, 2), ==, v);
}

const Case register_cases[] = {
    { .path = "hdm/legacy", .fn = test_hdm, .arg = "legacy" },
    { .path = "hdm/iommufd", .fn = test_hdm, .arg = "iommufd" },
    { .path = "reset/legacy", .fn = test_reset, .arg = "legacy" },
    { .path = "reset/iommufd", .fn = test_reset, .arg = "iommufd" },
    { .path = "no-flr", .fn = test_no_flr },
    { .path = "config", .fn = test_config },
    { }
};
