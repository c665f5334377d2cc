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
#include "trace.h"

#define DVSEC_MIN_LENGTH offsetof(CXLDVSECDevice, cap3)

bool vfio_cxl_config_read(VFIOPCIDevice *vdev, unsigned offset, unsigned size,
                          uint32_t *value)
{
    VFIODevice *vbasedev = &vdev->vbasedev;
    int ret = vbasedev->io_ops->region_read(vbasedev,
                                            VFIO_PCI_CONFIG_REGION_INDEX,
                                            offset, size, value);

    *value = ret == size ? ldn_le_p(value, size) : 0;
    return ret == size;
}

bool vfio_cxl_config_write(VFIOPCIDevice *vdev, unsigned offset,
                           uint16_t value)
{
    VFIODevice *vbasedev = &vdev->vbasedev;

    value = cpu_to_le16(value);
    return vbasedev->io_ops->region_write(vbasedev,
                                          VFIO_PCI_CONFIG_REGION_INDEX, offset,
                                          sizeof(value), &value,
                                          false) == sizeof(value);
}

static bool vfio_cxl_dvsec_add(VFIOCXLDVSECSet *set, unsigned at,
                               unsigned length, unsigned id, Error **errp)
{
    bool device = id == PCIE_CXL_DEVICE_DVSEC;

    if (length < (device ? DVSEC_MIN_LENGTH : sizeof(DVSECHeader)) ||
        length > PCIE_CONFIG_SPACE_SIZE - at ||
        set->count == ARRAY_SIZE(set->dvsec)) {
        error_setg(errp, "unusable CXL DVSEC at 0x%x, length %u bytes", at,
                   length);
        return false;
    }
    if (device && set->device) {
        /* Host addresses would remain visible in it */
        error_setg(errp, "unexpected second CXL Device DVSEC at 0x%x", at);
        return false;
    }
    if (device) {
        set->device = at;
    }
    set->dvsec[set->count++] = (VFIOCXLDVSEC) {
        .at = at,
        .length = ROUND_UP(length, 4),
        .id = id,
    };
    return true;
}

bool vfio_cxl_dvsec_find(VFIOPCIDevice *vdev, VFIOCXLDVSECSet *set,
                         Error **errp)
{
    uint16_t pos = PCI_CONFIG_SPACE_SIZE;
    uint32_t header, header1, header2;

    *set = (VFIOCXLDVSECSet) { .vdev = vdev };
    if (vdev->config_size < PCIE_CONFIG_SPACE_SIZE) {
        error_setg(errp, "configuration space has only 0x%x bytes",
                   vdev->config_size);
        return false;
    }
    /* Limit the number of capabilities: the chain may be a loop */
    for (int i = 0; i < PCIE_CONFIG_SPACE_SIZE / 8 && pos; i++) {
        if (pos < PCI_CONFIG_SPACE_SIZE || !QEMU_IS_ALIGNED(pos, 4) ||
            !vfio_cxl_config_read(vdev, pos, 4, &header)) {
            goto unreadable;
        }
        if (PCI_EXT_CAP_ID(header) == PCI_EXT_CAP_ID_DVSEC) {
            if (pos > PCIE_CONFIG_SPACE_SIZE - sizeof(DVSECHeader) ||
                !vfio_cxl_config_read(vdev, pos + PCI_DVSEC_HEADER1, 4,
                                      &header1) ||
                !vfio_cxl_config_read(vdev, pos + PCI_DVSEC_HEADER2, 4,
                                      &header2)) {
                goto unreadable;
            }
            if (PCI_DVSEC_HEADER1_VID(header1) == CXL_VENDOR_ID &&
                !vfio_cxl_dvsec_add(set, pos, PCI_DVSEC_HEADER1_LEN(header1),
                                    PCI_DVSEC_HEADER2_ID(header2), errp)) {
                return false;
            }
        }
        pos = PCI_EXT_CAP_NEXT(header);
    }
    return true;

unreadable:
    error_setg(errp, "cannot read the extended capability at 0x%x", pos);
    return false;
}

bool vfio_cxl_dvsec_find_block(const VFIOCXLDVSECSet *set, unsigned *bar,
                               uint64_t *offset)
{
    const unsigned first = offsetof(CXLDVSECRegisterLocator, reg0_base_lo);

    for (unsigned n = 0; n < set->count; n++) {
        const VFIOCXLDVSEC *dvsec = &set->dvsec[n];

        if (dvsec->id != REG_LOC_DVSEC) {
            continue;
        }
        for (unsigned i = first; i + 8 <= dvsec->length; i += 8) {
            uint32_t lo, hi;

            if (vfio_cxl_config_read(set->vdev, dvsec->at + i, 4, &lo) &&
                vfio_cxl_config_read(set->vdev, dvsec->at + i + 4, 4, &hi) &&
                (lo & 0xff00) == RBI_COMPONENT_REG && (lo & 7) < PCI_ROM_SLOT) {
                *bar = lo & 7;
                *offset = ((uint64_t)hi << 32) | (lo & 0xffff0000);
                return true;
            }
        }
        break;
    }
    return false;
}

bool vfio_cxl_dvsec_has_mem(const VFIOCXLDVSECSet *set)
{
    uint32_t capability;

    return set->device &&
           vfio_cxl_config_read(set->vdev, set->device + A_CXL_DVSEC_CAP, 2,
                                &capability) &&
           FIELD_EX16(capability, CXL_DVSEC_CAP, MEM_CAPABLE);
}

bool vfio_cxl_dvsec_owns(const VFIOCXLDVSECSet *set, uint32_t addr,
                         unsigned len)
{
    for (unsigned i = 0; i < set->count; i++) {
        if (ranges_overlap(addr, len, set->dvsec[i].at,
                           set->dvsec[i].length)) {
            return true;
        }
    }
    return false;
}

/* Reads come from pdev->config, writes change nothing yet */
static void vfio_cxl_dvsec_emulate(const VFIOCXLDVSECSet *set)
{
    PCIDevice *pdev = PCI_DEVICE(set->vdev);

    for (unsigned i = 0; i < set->count; i++) {
        unsigned at = set->dvsec[i].at;
        unsigned size = set->dvsec[i].length;

        memset(set->vdev->emulated_config_bits + at, 0xff, size);
        memset(pdev->wmask + at, 0, size);
        memset(pdev->w1cmask + at, 0, size);
    }
}

void vfio_cxl_dvsec_hide(const VFIOCXLDVSECSet *set)
{
    PCIDevice *pdev = PCI_DEVICE(set->vdev);

    vfio_cxl_dvsec_emulate(set);
    for (unsigned i = 0; i < set->count; i++) {
        unsigned at = set->dvsec[i].at;
        unsigned size = set->dvsec[i].length;

        /* The list of capabilities begins here: keep its first header */
        if (at == PCI_CONFIG_SPACE_SIZE) {
            at += PCI_DVSEC_HEADER1;
            size -= PCI_DVSEC_HEADER1;
        }
        memset(pdev->config + at, 0, size);
    }
}

static uint8_t *vfio_cxl_dvsec_reg(const VFIOCXLDVSECSet *set, unsigned offset)
{
    return PCI_DEVICE(set->vdev)->config + set->device + offset;
}

void vfio_cxl_dvsec_set_base(const VFIOCXLDVSECSet *set, uint64_t base)
{
    const unsigned lo = offsetof(CXLDVSECDevice, range1_base_lo);
    const unsigned hi = offsetof(CXLDVSECDevice, range1_base_hi);

    pci_set_long(vfio_cxl_dvsec_reg(set, lo), base);
    pci_set_long(vfio_cxl_dvsec_reg(set, hi), base >> 32);
}

void vfio_cxl_dvsec_set_active(const VFIOCXLDVSECSet *set, bool active)
{
    uint8_t *size = vfio_cxl_dvsec_reg(set, A_CXL_DVSEC_RANGE1_SIZE_LO);

    pci_set_long(size, FIELD_DP32(pci_get_long(size), CXL_DVSEC_RANGE1_SIZE_LO,
                                  ACTIVE, active));
}

bool vfio_cxl_dvsec_mem_enabled(const VFIOCXLDVSECSet *set)
{
    return pci_get_word(vfio_cxl_dvsec_reg(set, A_CXL_DVSEC_CTRL)) &
           R_CXL_DVSEC_CTRL_MEM_ENABLE_MASK;
}

void vfio_cxl_dvsec_enable_mem(const VFIOCXLDVSECSet *set)
{
    pci_word_test_and_set_mask(vfio_cxl_dvsec_reg(set, A_CXL_DVSEC_CTRL),
                               R_CXL_DVSEC_CTRL_MEM_ENABLE_MASK);
}

uint16_t vfio_cxl_dvsec_control2(const VFIOCXLDVSECSet *set)
{
    return pci_get_word(vfio_cxl_dvsec_reg(set, A_CXL_DVSEC_CTRL2));
}

void vfio_cxl_dvsec_set_status2(const VFIOCXLDVSECSet *set, uint16_t mask,
                                uint16_t value)
{
    uint8_t *status2 = vfio_cxl_dvsec_reg(set, A_CXL_DVSEC_STATUS2);

    pci_set_word(status2, (pci_get_word(status2) & ~mask) | (value & mask));
}

bool vfio_cxl_dvsec_can_write_back(const VFIOCXLDVSECSet *set)
{
    return FIELD_EX16(set->capability, CXL_DVSEC_CAP, CACHE_CAPABLE) &&
           FIELD_EX16(set->capability, CXL_DVSEC_CAP, CACHE_WBI_CAPABLE);
}

void vfio_cxl_dvsec_offer(const VFIOCXLDVSECSet *set,
                          const VFIOCXLDVSECOffer *offer)
{
    PCIDevice *pdev = PCI_DEVICE(set->vdev);
    uint16_t cap = set->capability;
    uint16_t control2 = R_CXL_DVSEC_CTRL2_DISABLE_CACHING_MASK;

    if (!offer->write_back || !vfio_cxl_dvsec_can_write_back(set)) {
        cap = FIELD_DP16(cap, CXL_DVSEC_CAP, CACHE_WBI_CAPABLE, 0);
    }
    cap = FIELD_DP16(cap, CXL_DVSEC_CAP, RST_MEM_CLR_CAPABLE, 0);
    if (!offer->reset || !FIELD_EX16(cap, CXL_DVSEC_CAP, RST_CAPABLE)) {
        cap = FIELD_DP16(cap, CXL_DVSEC_CAP, RST_CAPABLE, 0);
        cap = FIELD_DP16(cap, CXL_DVSEC_CAP, RST_TIMEOUT, 0);
    } else if (offer->clears) {
        cap = FIELD_DP16(cap, CXL_DVSEC_CAP, RST_MEM_CLR_CAPABLE, 1);
        control2 |= R_CXL_DVSEC_CTRL2_RST_MEM_CLR_ENABLE_MASK;
    }
    pci_set_word(vfio_cxl_dvsec_reg(set, A_CXL_DVSEC_CAP), cap);
    pci_set_word(pdev->wmask + set->device + A_CXL_DVSEC_CTRL2, control2);
}

void vfio_cxl_dvsec_cxl_reset(const VFIOCXLDVSECSet *set)
{
    pci_set_word(vfio_cxl_dvsec_reg(set, A_CXL_DVSEC_CTRL2), 0);
    vfio_cxl_dvsec_set_status2(set, R_CXL_DVSEC_STATUS2_CACHE_INVALID_MASK, 0);
}

void vfio_cxl_dvsec_reset(const VFIOCXLDVSECSet *set)
{
    PCIDevice *pdev = PCI_DEVICE(set->vdev);
    uint8_t *wmask = pdev->wmask + set->device;
    uint8_t *w1cmask = pdev->w1cmask + set->device;
    uint16_t cap = pci_get_word(vfio_cxl_dvsec_reg(set, A_CXL_DVSEC_CAP));
    const uint16_t keep = R_CXL_DVSEC_STATUS2_PM_INIT_COMPLETE_MASK;
    uint16_t control = R_CXL_DVSEC_CTRL_MEM_ENABLE_MASK;

    if (FIELD_EX16(cap, CXL_DVSEC_CAP, CACHE_CAPABLE)) {
        control |= R_CXL_DVSEC_CTRL_CACHE_ENABLE_MASK |
                   R_CXL_DVSEC_CTRL_CACHE_SF_MASK;
    }
    if (FIELD_EX16(cap, CXL_DVSEC_CAP, VIRAL_CAPABLE)) {
        control |= R_CXL_DVSEC_CTRL_VIRAL_ENABLE_MASK;
    }
    pci_set_word(wmask + A_CXL_DVSEC_CTRL, control);
    pci_set_word(w1cmask + A_CXL_DVSEC_STATUS, R_CXL_DVSEC_STATUS_VIRAL_MASK);
    pci_set_word(wmask + A_CXL_DVSEC_LOCK, R_CXL_DVSEC_LOCK_CONFIG_LOCK_MASK);

    pci_set_word(vfio_cxl_dvsec_reg(set, A_CXL_DVSEC_CTRL),
                 R_CXL_DVSEC_CTRL_IO_ENABLE_MASK);
    pci_set_word(vfio_cxl_dvsec_reg(set, A_CXL_DVSEC_STATUS), 0);
    pci_set_word(vfio_cxl_dvsec_reg(set, A_CXL_DVSEC_CTRL2), 0);
    vfio_cxl_dvsec_set_status2(set, (uint16_t)~keep, 0);
    pci_set_word(vfio_cxl_dvsec_reg(set, A_CXL_DVSEC_LOCK), 0);
    vfio_cxl_dvsec_set_base(set, 0);
}

void vfio_cxl_dvsec_setup(VFIOCXLDVSECSet *set)
{
    const unsigned lo = offsetof(CXLDVSECDevice, range2_base_lo);
    const unsigned hi = offsetof(CXLDVSECDevice, range2_base_hi);
    const VFIOCXLDVSECOffer nothing = { };

    vfio_cxl_dvsec_emulate(set);
    set->capability = pci_get_word(vfio_cxl_dvsec_reg(set, A_CXL_DVSEC_CAP));
    vfio_cxl_dvsec_offer(set, &nothing);
    pci_set_long(vfio_cxl_dvsec_reg(set, lo), 0);
    pci_set_long(vfio_cxl_dvsec_reg(set, hi), 0);
    vfio_cxl_dvsec_reset(set);
}

/* Doorbells requested by a write to Control2 that are permitted */
static uint16_t vfio_cxl_dvsec_ring(const VFIOCXLDVSECSet *set, uint32_t addr,
                                    uint32_t val, int len)
{
    unsigned at = set->device + A_CXL_DVSEC_CTRL2;
    uint16_t cap = pci_get_word(vfio_cxl_dvsec_reg(set, A_CXL_DVSEC_CAP));
    uint16_t control2 = vfio_cxl_dvsec_control2(set);
    uint16_t asked = 0, can = 0;

    /* All of them are in the first byte */
    if (addr <= at && addr + len > at) {
        asked = (val >> (8 * (at - addr))) &
                (R_CXL_DVSEC_CTRL2_INITIATE_WBI_MASK |
                 R_CXL_DVSEC_CTRL2_INITIATE_RST_MASK);
    }
    if (FIELD_EX16(cap, CXL_DVSEC_CAP, CACHE_WBI_CAPABLE) &&
        FIELD_EX16(control2, CXL_DVSEC_CTRL2, DISABLE_CACHING)) {
        can |= R_CXL_DVSEC_CTRL2_INITIATE_WBI_MASK;
    }
    if (FIELD_EX16(cap, CXL_DVSEC_CAP, RST_CAPABLE)) {
        can |= R_CXL_DVSEC_CTRL2_INITIATE_RST_MASK;
    }
    if (asked & ~can) {
        qemu_log_mask(LOG_GUEST_ERROR, "%s: CXL Control2: 0x%x ignored\n",
                      set->vdev->vbasedev.name, asked & ~can);
    }
    return asked & can;
}

uint16_t vfio_cxl_dvsec_write(const VFIOCXLDVSECSet *set, uint32_t addr,
                              uint32_t val, int len)
{
    PCIDevice *pdev = PCI_DEVICE(set->vdev);

    pci_default_write_config(pdev, addr, val, len);
    trace_vfio_cxl_dvsec_write(set->vdev->vbasedev.name, addr, val, len);
    /*
     * CXL r3.1 Section 8.1.3.6: CONFIG_LOCK makes Control read-only. Nothing
     * in Control2 is locked by it.
     */
    if (pci_get_word(vfio_cxl_dvsec_reg(set, A_CXL_DVSEC_LOCK)) &
        R_CXL_DVSEC_LOCK_CONFIG_LOCK_MASK) {
        pci_set_word(pdev->wmask + set->device + A_CXL_DVSEC_CTRL, 0);
        pci_set_word(pdev->wmask + set->device + A_CXL_DVSEC_LOCK, 0);
    }
    return vfio_cxl_dvsec_ring(set, addr, val, len);
}
