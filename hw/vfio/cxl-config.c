/*
 * CXL Type-2 devices behind vfio-pci: config space and reset
 *
 * Everything that can end the access to the memory passes through here: it
 * leaves the guest's map before, and what the kernel has is read again after.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci.h"
#include "cxl-internal.h"
#include "trace.h"

/*
 * Config space
 */
bool vfio_cxl_hides_ext_cap(VFIOPCIDevice *vdev, uint16_t pos)
{
    VFIOCXL *cxl = vdev->cxl.cxl;

    return cxl && cxl->plain && vfio_cxl_dvsec_owns(&cxl->dvsecs, pos, 1);
}

/* Bits that a config write stores in the 16-bit register at @reg */
static uint16_t written_bits(uint32_t addr, uint32_t val, int len,
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

/* Can the kernel take the memory away during a config write? */
static bool may_end_access(PCIDevice *pdev, uint32_t addr, uint32_t val,
                           int len)
{
    uint16_t bits, mask;

    bits = written_bits(addr, val, len, PCI_COMMAND, &mask);
    if (mask & ~bits & PCI_COMMAND_MEMORY) {
        return true;
    }
    if (pdev->pm_cap) {
        bits = written_bits(addr, val, len, pdev->pm_cap + PCI_PM_CTRL, &mask);
        if (bits & PCI_PM_CTRL_STATE_MASK) {
            return true;
        }
    }
    if (pdev->exp.exp_cap) {
        bits = written_bits(addr, val, len,
                            pdev->exp.exp_cap + PCI_EXP_DEVCTL, &mask);
        if (bits & PCI_EXP_DEVCTL_BCR_FLR) {
            return true;
        }
    }
    return false;
}

static void vfio_cxl_write_config(PCIDevice *pdev, uint32_t addr,
                                  uint32_t val, int len)
{
    VFIOPCIDevice *vdev = VFIO_PCI_DEVICE(pdev);
    VFIOCXL *cxl = vdev->cxl.cxl;

    if (vfio_cxl_dvsec_owns(&cxl->dvsecs, addr, len)) {
        vfio_cxl_dvsec_write(vdev, &cxl->dvsecs, addr, val, len);
        if (!cxl->plain) {
            vfio_cxl_update(cxl);
        }
        return;
    }
    if (cxl->plain) {
        vfio_pci_write_config(pdev, addr, val, len);
    } else if (may_end_access(pdev, addr, val, len)) {
        vfio_cxl_block_memory(cxl, VFIO_CXL_IN_CONFIG_WRITE);
        vfio_pci_write_config(pdev, addr, val, len);
        if (vfio_cxl_guest_allows(cxl)) {
            vfio_cxl_check_host(cxl);
        }
        vfio_cxl_unblock_memory(cxl, VFIO_CXL_IN_CONFIG_WRITE);
    } else {
        bool allowed = vfio_cxl_guest_allows(cxl);

        vfio_pci_write_config(pdev, addr, val, len);
        if (allowed != vfio_cxl_guest_allows(cxl)) {
            vfio_cxl_check_host(cxl);
            vfio_cxl_update(cxl);
        }
    }
}

void vfio_cxl_config_setup(VFIOPCIDevice *vdev)
{
    VFIOCXL *cxl = vdev->cxl.cxl;

    if (!cxl) {
        return;
    }
    if (cxl->plain) {
        vfio_cxl_dvsec_hide(vdev, &cxl->dvsecs);
    } else {
        vfio_cxl_dvsec_setup(vdev, &cxl->dvsecs);
    }
    PCI_DEVICE(vdev)->config_write = vfio_cxl_write_config;
}

/*
 * Reset
 */
void vfio_cxl_reset_prepare(VFIOPCIDevice *vdev)
{
    VFIOCXL *cxl = vdev->cxl.cxl;

    if (cxl && !cxl->plain) {
        vfio_cxl_block_memory(cxl, VFIO_CXL_IN_RESET);
        cxl_hdm_reset(&cxl->hdm);
        vfio_cxl_dvsec_reset(vdev, &cxl->dvsecs);
    }
}

void vfio_cxl_reset_done(VFIOPCIDevice *vdev)
{
    VFIOCXL *cxl = vdev->cxl.cxl;

    if (cxl && !cxl->plain) {
        vfio_cxl_check_host(cxl);
        vfio_cxl_unblock_memory(cxl, VFIO_CXL_IN_RESET | VFIO_CXL_NOT_MAPPED);
    }
}
