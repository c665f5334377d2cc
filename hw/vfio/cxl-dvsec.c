/*
 * The CXL DVSECs that a guest sees of a CXL device behind vfio-pci
 *
 * The physical ones hold addresses of the host, and writes to them change
 * the host's device. The guest gets QEMU's copy: everything is emulated in
 * the device's own config space, and no access reaches the kernel.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/vfio.h>

#include "qapi/error.h"
#include "qemu/log.h"
#include "qemu/range.h"
#include "hw/pci/pci.h"
#include "pci.h"
#include "cxl-dvsec.h"
#include "cxl-uapi.h"
#include "trace.h"

/* CXL r3.1 Section 8.1.3: registers of 16 bits in the CXL Device DVSEC */
REG16(DVSEC_CAP, 0x0a)
    FIELD(DVSEC_CAP, CACHE_CAPABLE, 0, 1)
    FIELD(DVSEC_CAP, CACHE_WBI_CAPABLE, 6, 1)
    FIELD(DVSEC_CAP, RST_CAPABLE, 7, 1)
    FIELD(DVSEC_CAP, RST_TIMEOUT, 8, 3)
    FIELD(DVSEC_CAP, RST_MEM_CLR_CAPABLE, 11, 1)
    FIELD(DVSEC_CAP, VIRAL_CAPABLE, 14, 1)
REG16(DVSEC_CONTROL, 0x0c)
    FIELD(DVSEC_CONTROL, CACHE_ENABLE, 0, 1)
    FIELD(DVSEC_CONTROL, IO_ENABLE, 1, 1)
    FIELD(DVSEC_CONTROL, MEM_ENABLE, 2, 1)
    FIELD(DVSEC_CONTROL, CACHE_SF, 3, 9)
    FIELD(DVSEC_CONTROL, VIRAL_ENABLE, 14, 1)
REG16(DVSEC_STATUS, 0x0e)
    FIELD(DVSEC_STATUS, VIRAL, 14, 1)
REG16(DVSEC_LOCK, 0x14)
    FIELD(DVSEC_LOCK, CONFIG_LOCK, 0, 1)

#define DVSEC_MIN_LENGTH offsetof(CXLDVSECDevice, cap3)

static bool vfio_cxl_dvsec_read_config(VFIOPCIDevice *vdev, unsigned offset,
                                       uint32_t *value)
{
    VFIODevice *vbasedev = &vdev->vbasedev;
    int ret = vbasedev->io_ops->region_read(vbasedev,
                                            VFIO_PCI_CONFIG_REGION_INDEX,
                                            offset, sizeof(*value), value);

    *value = le32_to_cpu(*value);
    return ret == sizeof(*value);
}

bool vfio_cxl_dvsec_find(VFIOPCIDevice *vdev, VFIOCXLDVSECs *dvsecs,
                         Error **errp)
{
    uint16_t pos = PCI_CONFIG_SPACE_SIZE;
    uint32_t header, header1, header2;

    memset(dvsecs, 0, sizeof(*dvsecs));
    /* No more capabilities than fit: the chain may be a loop */
    for (int i = 0; i < PCIE_CONFIG_SPACE_SIZE / 8 && pos; i++) {
        unsigned length;
        bool device;

        if (pos < PCI_CONFIG_SPACE_SIZE || !QEMU_IS_ALIGNED(pos, 4) ||
            pos > PCIE_CONFIG_SPACE_SIZE - sizeof(DVSECHeader) ||
            !vfio_cxl_dvsec_read_config(vdev, pos, &header) ||
            !vfio_cxl_dvsec_read_config(vdev, pos + PCI_DVSEC_HEADER1,
                                        &header1) ||
            !vfio_cxl_dvsec_read_config(vdev, pos + PCI_DVSEC_HEADER2,
                                        &header2)) {
            error_setg(errp, "cannot read the extended capability at 0x%x",
                       pos);
            return false;
        }
        length = PCI_DVSEC_HEADER1_LEN(header1);
        if (PCI_EXT_CAP_ID(header) == PCI_EXT_CAP_ID_DVSEC &&
            PCI_DVSEC_HEADER1_VID(header1) == CXL_VENDOR_ID) {
            device = PCI_DVSEC_HEADER2_ID(header2) == PCIE_CXL_DEVICE_DVSEC;
            if (length < (device ? DVSEC_MIN_LENGTH : sizeof(DVSECHeader)) ||
                length > PCIE_CONFIG_SPACE_SIZE - pos ||
                dvsecs->count == ARRAY_SIZE(dvsecs->dvsec)) {
                error_setg(errp, "CXL DVSEC at 0x%x has a length of %u bytes",
                           pos, length);
                return false;
            }
            dvsecs->dvsec[dvsecs->count].at = pos;
            dvsecs->dvsec[dvsecs->count++].length = ROUND_UP(length, 4);
            if (device && dvsecs->device) {
                /* Addresses of the host would stay in it */
                error_setg(errp, "second CXL Device DVSEC at 0x%x", pos);
                return false;
            }
            if (device) {
                dvsecs->device = pos;
            }
        }
        pos = PCI_EXT_CAP_NEXT(header);
    }
    return true;
}

bool vfio_cxl_dvsec_owns(const VFIOCXLDVSECs *dvsecs, uint32_t addr,
                         unsigned len)
{
    for (unsigned i = 0; i < dvsecs->count; i++) {
        if (ranges_overlap(addr, len, dvsecs->dvsec[i].at,
                           dvsecs->dvsec[i].length)) {
            return true;
        }
    }
    return false;
}

/* Reads come from pdev->config, writes change nothing yet */
static void vfio_cxl_dvsec_emulate(VFIOPCIDevice *vdev,
                                   const VFIOCXLDVSECs *dvsecs)
{
    PCIDevice *pdev = PCI_DEVICE(vdev);

    for (unsigned i = 0; i < dvsecs->count; i++) {
        unsigned at = dvsecs->dvsec[i].at;
        unsigned size = dvsecs->dvsec[i].length;

        memset(vdev->emulated_config_bits + at, 0xff, size);
        memset(pdev->wmask + at, 0, size);
        memset(pdev->w1cmask + at, 0, size);
    }
}

void vfio_cxl_dvsec_hide(VFIOPCIDevice *vdev, VFIOCXLDVSECs *dvsecs)
{
    PCIDevice *pdev = PCI_DEVICE(vdev);

    vfio_cxl_dvsec_emulate(vdev, dvsecs);
    for (unsigned i = 0; i < dvsecs->count; i++) {
        unsigned at = dvsecs->dvsec[i].at;
        unsigned size = dvsecs->dvsec[i].length;

        /* The list of capabilities begins here: keep its first header */
        if (at == PCI_CONFIG_SPACE_SIZE) {
            at += PCI_DVSEC_HEADER1;
            size -= PCI_DVSEC_HEADER1;
        }
        memset(pdev->config + at, 0, size);
    }
    dvsecs->device = 0;
}

static uint8_t *vfio_cxl_dvsec_reg(VFIOPCIDevice *vdev,
                                   const VFIOCXLDVSECs *dvsecs, unsigned offset)
{
    return PCI_DEVICE(vdev)->config + dvsecs->device + offset;
}

void vfio_cxl_dvsec_set_base(VFIOPCIDevice *vdev,
                             const VFIOCXLDVSECs *dvsecs, uint64_t base)
{
    pci_set_long(vfio_cxl_dvsec_reg(vdev, dvsecs,
                                    offsetof(CXLDVSECDevice, range1_base_lo)),
                 base);
    pci_set_long(vfio_cxl_dvsec_reg(vdev, dvsecs,
                                    offsetof(CXLDVSECDevice, range1_base_hi)),
                 base >> 32);
}

void vfio_cxl_dvsec_set_active(VFIOPCIDevice *vdev,
                               const VFIOCXLDVSECs *dvsecs, bool active)
{
    uint8_t *size = vfio_cxl_dvsec_reg(vdev, dvsecs, A_DVSEC_RANGE1_SIZE_LO);

    pci_set_long(size, FIELD_DP32(pci_get_long(size), DVSEC_RANGE1_SIZE_LO,
                                  ACTIVE, active));
}

bool vfio_cxl_dvsec_mem_enabled(VFIOPCIDevice *vdev,
                                const VFIOCXLDVSECs *dvsecs)
{
    return pci_get_word(vfio_cxl_dvsec_reg(vdev, dvsecs, A_DVSEC_CONTROL)) &
           R_DVSEC_CONTROL_MEM_ENABLE_MASK;
}

void vfio_cxl_dvsec_enable_mem(VFIOPCIDevice *vdev,
                               const VFIOCXLDVSECs *dvsecs)
{
    pci_word_test_and_set_mask(vfio_cxl_dvsec_reg(vdev, dvsecs,
                                                  A_DVSEC_CONTROL),
                               R_DVSEC_CONTROL_MEM_ENABLE_MASK);
}

uint16_t vfio_cxl_dvsec_control2(VFIOPCIDevice *vdev,
                                 const VFIOCXLDVSECs *dvsecs)
{
    return pci_get_word(vfio_cxl_dvsec_reg(vdev, dvsecs, A_DVSEC_CONTROL2));
}

void vfio_cxl_dvsec_set_status2(VFIOPCIDevice *vdev,
                                const VFIOCXLDVSECs *dvsecs, uint16_t mask,
                                uint16_t value)
{
    uint8_t *status2 = vfio_cxl_dvsec_reg(vdev, dvsecs, A_DVSEC_STATUS2);

    pci_set_word(status2, (pci_get_word(status2) & ~mask) | (value & mask));
}

bool vfio_cxl_dvsec_can_write_back(VFIOPCIDevice *vdev,
                                   const VFIOCXLDVSECs *dvsecs)
{
    return FIELD_EX16(dvsecs->capability, DVSEC_CAP, CACHE_CAPABLE) &&
           FIELD_EX16(dvsecs->capability, DVSEC_CAP, CACHE_WBI_CAPABLE);
}

void vfio_cxl_dvsec_offer(VFIOPCIDevice *vdev, VFIOCXLDVSECs *dvsecs,
                          const VFIOCXLDVSECOffer *offer)
{
    PCIDevice *pdev = PCI_DEVICE(vdev);
    uint16_t cap = dvsecs->capability;
    uint16_t control2 = R_DVSEC_CONTROL2_DISABLE_CACHING_MASK;

    if (!offer->write_back || !vfio_cxl_dvsec_can_write_back(vdev, dvsecs)) {
        cap = FIELD_DP16(cap, DVSEC_CAP, CACHE_WBI_CAPABLE, 0);
    }
    cap = FIELD_DP16(cap, DVSEC_CAP, RST_MEM_CLR_CAPABLE, 0);
    if (!offer->reset || !FIELD_EX16(cap, DVSEC_CAP, RST_CAPABLE)) {
        cap = FIELD_DP16(cap, DVSEC_CAP, RST_CAPABLE, 0);
        cap = FIELD_DP16(cap, DVSEC_CAP, RST_TIMEOUT, 0);
    } else if (offer->clears) {
        cap = FIELD_DP16(cap, DVSEC_CAP, RST_MEM_CLR_CAPABLE, 1);
        control2 |= R_DVSEC_CONTROL2_RST_MEM_CLR_ENABLE_MASK;
    }
    pci_set_word(vfio_cxl_dvsec_reg(vdev, dvsecs, A_DVSEC_CAP), cap);
    pci_set_word(pdev->wmask + dvsecs->device + A_DVSEC_CONTROL2, control2);
}

void vfio_cxl_dvsec_cxl_reset(VFIOPCIDevice *vdev,
                              const VFIOCXLDVSECs *dvsecs)
{
    pci_set_word(vfio_cxl_dvsec_reg(vdev, dvsecs, A_DVSEC_CONTROL2), 0);
    vfio_cxl_dvsec_set_status2(vdev, dvsecs,
                               R_DVSEC_STATUS2_CACHE_INVALID_MASK, 0);
}

void vfio_cxl_dvsec_reset(VFIOPCIDevice *vdev, VFIOCXLDVSECs *dvsecs)
{
    PCIDevice *pdev = PCI_DEVICE(vdev);
    uint8_t *wmask = pdev->wmask + dvsecs->device;
    uint8_t *w1cmask = pdev->w1cmask + dvsecs->device;
    uint16_t cap = pci_get_word(vfio_cxl_dvsec_reg(vdev, dvsecs, A_DVSEC_CAP));
    uint16_t control = R_DVSEC_CONTROL_MEM_ENABLE_MASK;

    if (FIELD_EX16(cap, DVSEC_CAP, CACHE_CAPABLE)) {
        control |= R_DVSEC_CONTROL_CACHE_ENABLE_MASK |
                   R_DVSEC_CONTROL_CACHE_SF_MASK;
    }
    if (FIELD_EX16(cap, DVSEC_CAP, VIRAL_CAPABLE)) {
        control |= R_DVSEC_CONTROL_VIRAL_ENABLE_MASK;
    }
    pci_set_word(wmask + A_DVSEC_CONTROL, control);
    pci_set_word(w1cmask + A_DVSEC_STATUS, R_DVSEC_STATUS_VIRAL_MASK);
    pci_set_word(wmask + A_DVSEC_LOCK, R_DVSEC_LOCK_CONFIG_LOCK_MASK);

    pci_set_word(vfio_cxl_dvsec_reg(vdev, dvsecs, A_DVSEC_CONTROL),
                 R_DVSEC_CONTROL_IO_ENABLE_MASK);
    pci_set_word(vfio_cxl_dvsec_reg(vdev, dvsecs, A_DVSEC_STATUS), 0);
    pci_set_word(vfio_cxl_dvsec_reg(vdev, dvsecs, A_DVSEC_CONTROL2), 0);
    vfio_cxl_dvsec_set_status2(vdev, dvsecs,
                               (uint16_t)~R_DVSEC_STATUS2_PM_INIT_COMPLETE_MASK,
                               0);
    pci_set_word(vfio_cxl_dvsec_reg(vdev, dvsecs, A_DVSEC_LOCK), 0);
    vfio_cxl_dvsec_set_base(vdev, dvsecs, 0);
}

void vfio_cxl_dvsec_setup(VFIOPCIDevice *vdev, VFIOCXLDVSECs *dvsecs)
{
    const VFIOCXLDVSECOffer nothing = { };

    vfio_cxl_dvsec_emulate(vdev, dvsecs);
    dvsecs->capability = pci_get_word(vfio_cxl_dvsec_reg(vdev, dvsecs,
                                                         A_DVSEC_CAP));
    vfio_cxl_dvsec_offer(vdev, dvsecs, &nothing);
    pci_set_long(vfio_cxl_dvsec_reg(vdev, dvsecs,
                                    offsetof(CXLDVSECDevice, range2_base_lo)),
                 0);
    pci_set_long(vfio_cxl_dvsec_reg(vdev, dvsecs,
                                    offsetof(CXLDVSECDevice, range2_base_hi)),
                 0);
    vfio_cxl_dvsec_reset(vdev, dvsecs);
}

/* The doorbells that a write to CONTROL2 rings, of those it may ring */
static uint16_t vfio_cxl_dvsec_ring(VFIOPCIDevice *vdev,
                                    const VFIOCXLDVSECs *dvsecs, uint32_t addr,
                                    uint32_t val, int len)
{
    unsigned at = dvsecs->device + A_DVSEC_CONTROL2;
    uint16_t cap = pci_get_word(vfio_cxl_dvsec_reg(vdev, dvsecs, A_DVSEC_CAP));
    uint16_t control2 = vfio_cxl_dvsec_control2(vdev, dvsecs);
    uint16_t asked = 0, can = 0;

    /* All of them are in the first byte */
    if (addr <= at && addr + len > at) {
        asked = (val >> (8 * (at - addr))) &
                (R_DVSEC_CONTROL2_INITIATE_WBI_MASK |
                 R_DVSEC_CONTROL2_INITIATE_RST_MASK);
    }
    if (FIELD_EX16(cap, DVSEC_CAP, CACHE_WBI_CAPABLE) &&
        FIELD_EX16(control2, DVSEC_CONTROL2, DISABLE_CACHING)) {
        can |= R_DVSEC_CONTROL2_INITIATE_WBI_MASK;
    }
    if (FIELD_EX16(cap, DVSEC_CAP, RST_CAPABLE)) {
        can |= R_DVSEC_CONTROL2_INITIATE_RST_MASK;
    }
    if (asked & ~can) {
        qemu_log_mask(LOG_GUEST_ERROR, "%s: CXL Control2: 0x%x ignored\n",
                      vdev->vbasedev.name, asked & ~can);
    }
    return asked & can;
}

uint16_t vfio_cxl_dvsec_write(VFIOPCIDevice *vdev, VFIOCXLDVSECs *dvsecs,
                              uint32_t addr, uint32_t val, int len)
{
    PCIDevice *pdev = PCI_DEVICE(vdev);

    pci_default_write_config(pdev, addr, val, len);
    trace_vfio_cxl_dvsec_write(vdev->vbasedev.name, addr, val, len);
    if (!dvsecs->device) {
        return 0;
    }
    /*
     * CXL r3.1 Section 8.1.3.6: CONFIG_LOCK makes CONTROL read-only. Nothing
     * in CONTROL2 is locked by it.
     */
    if (pci_get_word(vfio_cxl_dvsec_reg(vdev, dvsecs, A_DVSEC_LOCK)) &
        R_DVSEC_LOCK_CONFIG_LOCK_MASK) {
        pci_set_word(pdev->wmask + dvsecs->device + A_DVSEC_CONTROL, 0);
        pci_set_word(pdev->wmask + dvsecs->device + A_DVSEC_LOCK, 0);
    }
    return vfio_cxl_dvsec_ring(vdev, dvsecs, addr, val, len);
}
