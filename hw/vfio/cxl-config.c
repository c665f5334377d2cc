/*
 * CXL Type-2 devices behind vfio-pci: config space
 *
 * Around a write that can end access to the memory, remove the memory from the
 * guest's map before the write and read the kernel's state again after it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/range.h"
#include "hw/pci/pci.h"
#include "cxl-internal.h"

/* Bits that a config write stores in the 16-bit register at @reg */
static uint16_t vfio_cxl_written_bits(uint32_t addr, uint32_t val, int len,
                                      unsigned reg, uint16_t *mask)
{
    uint8_t bytes[2] = { }, covered[2] = { };

    for (int i = 0; i < len; i++) {
        if (addr + i >= reg && addr + i < reg + 2) {
            bytes[addr + i - reg] = val >> (8 * i);
            covered[addr + i - reg] = 0xff;
        }
    }
    *mask = lduw_le_p(covered);
    return lduw_le_p(bytes);
}

/*
 * A config write that starts a function level reset does not report failure. So
 * clear the bit in @val, and reset by other means. CXL devices have the PCIe
 * capability; they may have Advanced Features as well, which can also start
 * one.
 */
static bool vfio_cxl_take_flr(PCIDevice *pdev, uint32_t addr, uint32_t *val,
                              int len)
{
    const struct {
        unsigned cap, offset;
        uint16_t bit;
    } ways[] = {
        { pdev->exp.exp_cap, PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR },
        { pci_find_capability(pdev, PCI_CAP_ID_AF), PCI_AF_CTRL,
          PCI_AF_CTRL_FLR },
    };
    bool found = false;

    for (int i = 0; i < ARRAY_SIZE(ways); i++) {
        unsigned reg = ways[i].cap + ways[i].offset;
        uint16_t mask;

        if (ways[i].cap &&
            vfio_cxl_written_bits(addr, *val, len, reg, &mask) & ways[i].bit) {
            found = true;
            *val &= ~(reg >= addr ?
                      (uint32_t)ways[i].bit << (8 * (reg - addr)) :
                      (uint32_t)ways[i].bit >> (8 * (addr - reg)));
        }
    }
    return found;
}

/* Check whether the kernel may take the memory away during a config write */
static bool vfio_cxl_may_end_access(VFIOCXL *cxl, uint32_t addr, uint32_t val,
                                    int len)
{
    PCIDevice *pdev = PCI_DEVICE(cxl->vdev);
    uint16_t bits, mask;

    bits = vfio_cxl_written_bits(addr, val, len, PCI_COMMAND, &mask);
    if (cxl->info.kernel->memory_space_gate &&
        mask & ~bits & PCI_COMMAND_MEMORY) {
        return true;
    }
    if (pdev->pm_cap) {
        bits = vfio_cxl_written_bits(addr, val, len, pdev->pm_cap + PCI_PM_CTRL,
                                     &mask);
        if (bits & PCI_PM_CTRL_STATE_MASK) {
            return true;
        }
    }
    return false;
}

static void vfio_cxl_write_dvsec(VFIOCXL *cxl, uint32_t addr, uint32_t val,
                                 int len)
{
    const VFIOCXLKernel *kernel = cxl->info.kernel;
    uint16_t old, doorbells;

    old = vfio_cxl_dvsec_control2(&cxl->dvsecs);
    doorbells = vfio_cxl_dvsec_write(&cxl->dvsecs, addr, val, len);
    vfio_cxl_update(cxl);
    if (kernel->write_control2) {
        kernel->write_control2(cxl, old, doorbells);
    }
    if (doorbells & R_CXL_DVSEC_CTRL2_INITIATE_RST_MASK) {
        vfio_cxl_cxl_reset(cxl);
    }
}

static void vfio_cxl_write_config(PCIDevice *pdev, uint32_t addr,
                                  uint32_t val, int len)
{
    VFIOCXL *cxl = VFIO_PCI_DEVICE(pdev)->cxl.cxl;

    cxl->arriving = false;
    if (vfio_cxl_dvsec_owns(&cxl->dvsecs, addr, len)) {
        vfio_cxl_write_dvsec(cxl, addr, val, len);
    } else if (vfio_cxl_take_flr(pdev, addr, &val, len)) {
        vfio_pci_write_config(pdev, addr, val, len);
        vfio_cxl_flr(cxl);
    } else if (vfio_cxl_may_end_access(cxl, addr, val, len)) {
        vfio_cxl_block_memory(cxl, VFIO_CXL_IN_CONFIG_WRITE);
        vfio_pci_write_config(pdev, addr, val, len);
        vfio_cxl_follow_power(cxl);
        if (vfio_cxl_config_allows(cxl, NULL)) {
            vfio_cxl_check_host(cxl);
        }
        vfio_cxl_unblock_memory(cxl, VFIO_CXL_IN_CONFIG_WRITE);
    } else {
        bool allowed = vfio_cxl_config_allows(cxl, NULL);

        vfio_pci_write_config(pdev, addr, val, len);
        if (allowed != vfio_cxl_config_allows(cxl, NULL)) {
            vfio_cxl_check_host(cxl);
            vfio_cxl_update(cxl);
        }
    }
}

static uint32_t vfio_cxl_read_config(PCIDevice *pdev, uint32_t addr, int len)
{
    VFIOCXL *cxl = VFIO_PCI_DEVICE(pdev)->cxl.cxl;

    /* The only register in a CXL DVSEC that changes by itself */
    if (cxl->info.kernel->read_status2 &&
        ranges_overlap(addr, len, cxl->dvsecs.device + A_CXL_DVSEC_STATUS2,
                       2)) {
        cxl->info.kernel->read_status2(cxl);
    }
    return vfio_pci_read_config(pdev, addr, len);
}

void vfio_cxl_config_take(VFIOCXL *cxl)
{
    PCIDevice *pdev = PCI_DEVICE(cxl->vdev);

    vfio_cxl_dvsec_setup(&cxl->dvsecs);
    vfio_cxl_reset_setup(cxl);
    pdev->config_read = vfio_cxl_read_config;
    pdev->config_write = vfio_cxl_write_config;
}
