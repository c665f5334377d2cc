/*
 * vfio-sim: PCI configuration space, of the device and as vfio-pci presents it
 *
 * A bit is either virtual (kept in vconfig) or the device's own (kept in hw),
 * and either writable or not.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "kernel.h"

#define DVSEC_EXT_CAP_ID    0x23
#define NUM_ENTRIES(a)      (sizeof(a) / sizeof((a)[0]))

static uint8_t virt[SIM_CONFIG_SIZE];
static uint8_t writable[SIM_CONFIG_SIZE];

static void perm16(unsigned off, uint16_t v, uint16_t w)
{
    sim_st16(&virt[off], v);
    sim_st16(&writable[off], w);
}

static void init_perms(void)
{
    unsigned i;

    perm16(PCI_COMMAND, PCI_COMMAND_INTX_DISABLE,
           PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
           PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
    perm16(PCI_CACHE_LINE_SIZE, 0, 0xffff);
    for (i = PCI_BASE_ADDRESS_0; i < PCI_BASE_ADDRESS_0 + 24; i++) {
        virt[i] = writable[i] = 0xff;
    }
    for (i = PCI_ROM_ADDRESS; i < PCI_ROM_ADDRESS + 4; i++) {
        virt[i] = 0xff;
    }
    perm16(PCI_INTERRUPT_LINE, 0xffff, 0x00ff);
    perm16(SIM_CAP_PM + PCI_PM_CTRL, 0, PCI_PM_CTRL_STATE_MASK);
    perm16(SIM_CAP_EXP + PCI_EXP_DEVCTL,
           PCI_EXP_DEVCTL_BCR_FLR | PCI_EXP_DEVCTL_PAYLOAD |
           PCI_EXP_DEVCTL_READRQ, 0xffff & ~PCI_EXP_DEVCTL_PHANTOM);
    perm16(SIM_CAP_EXP + PCI_EXP_DEVCTL2, 0, 0xffff & ~PCI_EXP_DEVCTL2_ARI);
    for (i = PCI_ERR_UNCOR_MASK; i < PCI_ERR_UNCOR_MASK + 8; i++) {
        writable[SIM_ECAP_AER + i] = 0xff;
    }
    perm16(SIM_ECAP_AER + PCI_ERR_COR_MASK, 0, 0xffff);
    for (i = SIM_ECAP_VSEC + 8; i < SIM_ECAP_VSEC + 0x18; i++) {
        writable[i] = 0xff;
    }
}

static void ext_cap(uint8_t *c, unsigned off, unsigned id, unsigned ver,
                    unsigned next)
{
    sim_st32(c + off, id | ver << 16 | next << 20);
}

static void dvsec(uint8_t *c, unsigned off, unsigned id, unsigned rev,
                  unsigned len, unsigned next)
{
    ext_cap(c, off, DVSEC_EXT_CAP_ID, 1, next);
    sim_st32(c + off + 4, SIM_VENDOR_CXL | rev << 16 | len << 20);
    sim_st16(c + off + 8, id);
}

static void fill_caps(uint8_t *c)
{
    c[SIM_CAP_PM] = PCI_CAP_ID_PM;
    c[SIM_CAP_PM + 1] = SIM_CAP_MSIX;
    sim_st16(c + SIM_CAP_PM + PCI_PM_PMC, 3);
    sim_st16(c + SIM_CAP_PM + PCI_PM_CTRL, PCI_PM_CTRL_NO_SOFT_RESET);

    c[SIM_CAP_MSIX] = PCI_CAP_ID_MSIX;
    c[SIM_CAP_MSIX + 1] = SIM_CAP_EXP;
    sim_st16(c + SIM_CAP_MSIX + PCI_MSIX_FLAGS, VFIO_SIM_MSIX_VECTORS - 1);
    sim_st32(c + SIM_CAP_MSIX + PCI_MSIX_TABLE,
             VFIO_SIM_MSIX_TABLE | VFIO_SIM_REG_BAR);
    sim_st32(c + SIM_CAP_MSIX + PCI_MSIX_PBA,
             VFIO_SIM_MSIX_PBA | VFIO_SIM_REG_BAR);

    c[SIM_CAP_EXP] = PCI_CAP_ID_EXP;
    sim_st16(c + SIM_CAP_EXP + PCI_EXP_FLAGS, 2);
    sim_st32(c + SIM_CAP_EXP + PCI_EXP_DEVCAP,
             1 | PCI_EXP_DEVCAP_EXT_TAG | PCI_EXP_DEVCAP_RBER |
             PCI_EXP_DEVCAP_FLR);
    sim_st16(c + SIM_CAP_EXP + PCI_EXP_DEVCTL,
             PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_NOSNOOP_EN | 0x2000);
    sim_st32(c + SIM_CAP_EXP + PCI_EXP_LNKCAP, 5 | 16 << 4);
    sim_st16(c + SIM_CAP_EXP + PCI_EXP_LNKSTA, 5 | 16 << 4);
    sim_st32(c + SIM_CAP_EXP + PCI_EXP_LNKCAP2, 0x3e);
    sim_st16(c + SIM_CAP_EXP + PCI_EXP_LNKCTL2, 5);
    /* PASIDs are sent as end-end TLP prefixes, of which it can send one */
    if (sim_config()->smmu.count && sim_config()->smmu.pasid_bits) {
        sim_st32(c + SIM_CAP_EXP + PCI_EXP_DEVCAP2,
                 PCI_EXP_DEVCAP2_EE_PREFIX | 1 << 22);
    }
}

/* There are ordinary capabilities before, between and after those of CXL */
static void fill_ext_caps(SimDevice *dev, uint8_t *c)
{
    uint64_t hpa = VFIO_SIM_HPA(dev->index);
    bool ats = sim_config()->smmu.count && sim_config()->smmu.ats;
    uint8_t *d;

    ext_cap(c, SIM_ECAP_AER, PCI_EXT_CAP_ID_ERR, 2, SIM_ECAP_CXL_DEVICE);
    sim_st32(c + SIM_ECAP_AER + PCI_ERR_UNCOR_SEVER, 0x462030);
    sim_st32(c + SIM_ECAP_AER + PCI_ERR_COR_MASK, 0x2000);

    dvsec(c, SIM_ECAP_CXL_DEVICE, 0, 3, SIM_CXL_DVSEC_LEN, SIM_ECAP_VSEC);
    d = c + SIM_ECAP_CXL_DEVICE;
    /* cache, io, mem, one decoder, WBI, CXL reset, viral, PM init reported */
    sim_st16(d + 0x0a, 0xc0d7);
    sim_st16(d + 0x0c, 0x0007);
    sim_st16(d + 0x12, 0x8000);
    sim_st32(d + 0x18, dev->mem_size >> 32);
    sim_st32(d + 0x1c, (uint32_t)dev->mem_size | 3);
    sim_st32(d + 0x20, hpa >> 32);
    sim_st32(d + 0x24, hpa);
    /* Firmware may leave an address in a range that has no size */
    sim_st32(d + 0x30, hpa >> 32);
    sim_st32(d + 0x34, hpa);

    ext_cap(c, SIM_ECAP_VSEC, PCI_EXT_CAP_ID_VNDR, 1, SIM_ECAP_LOCATOR);
    sim_st32(c + SIM_ECAP_VSEC + 4, 0x0001 | 1 << 16 | 0x18 << 20);
    sim_st32(c + SIM_ECAP_VSEC + 8, 0x5346494f);

    dvsec(c, SIM_ECAP_LOCATOR, 8, 0, 0x14, SIM_ECAP_FLEXBUS);
    sim_st32(c + SIM_ECAP_LOCATOR + 0x0c,
             VFIO_SIM_COMPONENT_BAR | 1 << 8 | (uint32_t)dev->block);

    dvsec(c, SIM_ECAP_FLEXBUS, 7, 2, 0x20, SIM_ECAP_GPF);
    sim_st16(c + SIM_ECAP_FLEXBUS + 0x0a, 0x0027);
    sim_st16(c + SIM_ECAP_FLEXBUS + 0x0c, 0x0027);
    sim_st16(c + SIM_ECAP_FLEXBUS + 0x0e, 0x0027);

    dvsec(c, SIM_ECAP_GPF, 5, 0, 0x10, SIM_ECAP_DSN);
    sim_st16(c + SIM_ECAP_GPF + 0x0a, 0x0100);
    sim_st32(c + SIM_ECAP_GPF + 0x0c, 1);

    ext_cap(c, SIM_ECAP_DSN, PCI_EXT_CAP_ID_DSN, 1, ats ? SIM_ECAP_ATS : 0);
    sim_st32(c + SIM_ECAP_DSN + 4, 0x5346494f);
    sim_st32(c + SIM_ECAP_DSN + 8, dev->index);

    if (ats) {
        ext_cap(c, SIM_ECAP_ATS, PCI_EXT_CAP_ID_ATS, 1, 0);
        sim_st16(c + SIM_ECAP_ATS + PCI_ATS_CAP,
                 32 | PCI_ATS_CAP_PAGE_ALIGNED);
    }
}

void sim_config_enable_ats(SimDevice *dev, bool on)
{
    if (sim_config()->smmu.ats) {
        sim_st16(dev->st->hw + SIM_ECAP_ATS + PCI_ATS_CTRL,
                 on ? PCI_ATS_CTRL_ENABLE : 0);
    }
}

bool sim_config_ats_on(SimDevice *dev)
{
    return sim_config()->smmu.ats &&
           (sim_ld16(dev->st->hw + SIM_ECAP_ATS + PCI_ATS_CTRL) &
            PCI_ATS_CTRL_ENABLE);
}

void sim_config_bind(SimDevice *dev)
{
    uint64_t bar0 = 0x380000000000ull + ((uint64_t)dev->index << 24);
    uint8_t *c = dev->st->hw;

    memset(c, 0, SIM_CONFIG_SIZE);
    sim_st16(c + PCI_VENDOR_ID, VFIO_SIM_VENDOR_ID);
    sim_st16(c + PCI_DEVICE_ID, VFIO_SIM_DEVICE_ID);
    sim_st16(c + PCI_STATUS, PCI_STATUS_CAP_LIST);
    c[PCI_REVISION_ID] = 1;
    sim_st16(c + PCI_CLASS_DEVICE, VFIO_SIM_CLASS);
    c[PCI_CACHE_LINE_SIZE] = 0x10;
    sim_st32(c + PCI_BASE_ADDRESS_0, (uint32_t)bar0 |
             PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH);
    sim_st32(c + PCI_BASE_ADDRESS_1, bar0 >> 32);
    sim_st32(c + PCI_BASE_ADDRESS_2, (uint32_t)(bar0 + 0x800000) |
             PCI_BASE_ADDRESS_MEM_TYPE_64);
    sim_st32(c + PCI_BASE_ADDRESS_3, bar0 >> 32);
    sim_st16(c + PCI_SUBSYSTEM_VENDOR_ID, VFIO_SIM_VENDOR_ID);
    sim_st16(c + PCI_SUBSYSTEM_ID, 0x1100);
    c[PCI_CAPABILITY_LIST] = SIM_CAP_PM;
    c[PCI_INTERRUPT_LINE] = 0xff;
    c[PCI_INTERRUPT_PIN] = 1;
    fill_caps(c);
    fill_ext_caps(dev, c);
}

/* In D0; the way back from D3 may be a reset */
static uint16_t pm_control(SimDevice *dev)
{
    return dev->st->knobs[SIM_KNOB_NO_FLR] ? 0 : PCI_PM_CTRL_NO_SOFT_RESET;
}

void sim_config_open(SimDevice *dev)
{
    uint8_t *c = dev->st->hw;

    init_perms();
    /* The driver enables the device before it hands it out */
    sim_st16(c + PCI_COMMAND, PCI_COMMAND_MEMORY);
    sim_st16(c + SIM_CAP_PM + PCI_PM_CTRL, pm_control(dev));
    if (dev->st->knobs[SIM_KNOB_NO_FLR]) {
        c[SIM_CAP_EXP + PCI_EXP_DEVCAP + 3] &= ~(PCI_EXP_DEVCAP_FLR >> 24);
    }
    if (dev->st->knobs[SIM_KNOB_NO_WBI]) {
        c[SIM_ECAP_CXL_DEVICE + 0x0a] &= ~0x40;
    }
    memcpy(dev->st->vconfig, c, SIM_CONFIG_SIZE);
}

void sim_config_reset(SimDevice *dev)
{
    uint8_t *c = dev->st->hw;

    /* The kernel restores the rest after the reset */
    sim_st16(c + SIM_CAP_PM + PCI_PM_CTRL, pm_control(dev));
    memset(c + SIM_ECAP_VSEC + 0x0c, 0, 0x0c);
}

void sim_config_memory_active(SimDevice *dev, bool active)
{
    unsigned at = SIM_ECAP_CXL_DEVICE + DVSEC_SIZE1_LO;

    dev->st->hw[at] = (dev->st->hw[at] & ~SIZE_ACTIVE) |
                      (active ? SIZE_ACTIVE : 0);
    if (!dev->st->knobs[SIM_KNOB_DVSEC_SNAPSHOT]) {
        dev->st->vconfig[at] = dev->st->hw[at];
    }
}

bool sim_config_memory_on(SimDevice *dev)
{
    const uint8_t *c = dev->st->hw;

    return (sim_ld16(c + PCI_COMMAND) & PCI_COMMAND_MEMORY) &&
           (c[SIM_CAP_PM + PCI_PM_CTRL] & PCI_PM_CTRL_STATE_MASK) < 3;
}

void sim_config_enable_memory(SimDevice *dev)
{
    uint8_t *c = dev->st->hw + PCI_COMMAND;

    sim_st16(c, sim_ld16(c) | PCI_COMMAND_MEMORY);
}

bool sim_config_master_on(SimDevice *dev)
{
    const uint8_t *c = dev->st->hw;

    return (sim_ld16(c + PCI_COMMAND) & PCI_COMMAND_MASTER) &&
           (c[SIM_CAP_PM + PCI_PM_CTRL] & PCI_PM_CTRL_STATE_MASK) == 0;
}

bool sim_config_intx_off(SimDevice *dev)
{
    return sim_ld16(dev->st->vconfig + PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE;
}

static bool in_cxl_dvsec(unsigned pos)
{
    return pos >= SIM_ECAP_CXL_DEVICE &&
           pos < SIM_ECAP_CXL_DEVICE + SIM_CXL_DVSEC_LEN;
}

/* A BAR reads back its size's mask and its type, as the device's would */
static void fix_bars(SimDevice *dev)
{
    static const struct {
        unsigned bar;
        uint32_t size;
    } bars[] = {
        { VFIO_SIM_COMPONENT_BAR, VFIO_SIM_BAR0_SIZE },
        { VFIO_SIM_REG_BAR, VFIO_SIM_BAR2_SIZE },
    };
    uint8_t *v = dev->st->vconfig;
    unsigned i;

    for (i = 0; i < NUM_ENTRIES(bars); i++) {
        unsigned off = PCI_BASE_ADDRESS_0 + bars[i].bar * 4;
        uint32_t type = sim_ld32(dev->st->hw + off) & 0xf;

        sim_st32(v + off, (sim_ld32(v + off) & ~(bars[i].size - 1)) | type);
    }
    memset(v + PCI_BASE_ADDRESS_4, 0, 8);
}

static void config_read(SimDevice *dev, unsigned pos, uint8_t *buf, size_t n)
{
    size_t i;

    if (in_cxl_dvsec(pos) &&
        dev->kernel->dvsec_read(dev, pos - SIM_ECAP_CXL_DEVICE, buf, n)) {
        return;
    }
    fix_bars(dev);
    for (i = 0; i < n; i++) {
        uint8_t v = virt[pos + i];

        buf[i] = (dev->st->vconfig[pos + i] & v) |
                 (dev->st->hw[pos + i] & ~v);
        if (pos + i == PCI_STATUS && dev->st->accel.intr_status) {
            buf[i] |= PCI_STATUS_INTERRUPT;
        }
    }
}

static bool touches(unsigned pos, size_t n, unsigned reg)
{
    return pos < reg + 2 && reg < pos + n;
}

static void config_write(SimDevice *dev, unsigned pos, const uint8_t *buf,
                         size_t n)
{
    SimState *st = dev->st;
    unsigned ctl = SIM_CAP_EXP + PCI_EXP_DEVCTL;
    unsigned power = st->hw[SIM_CAP_PM + PCI_PM_CTRL] & 3;
    size_t i;

    if (in_cxl_dvsec(pos)) {
        uint32_t value = 0;

        memcpy(&value, buf, n);
        dev->kernel->dvsec_write(dev, pos - SIM_ECAP_CXL_DEVICE, value, n);
        return;
    }
    for (i = 0; i < n; i++) {
        uint8_t w = writable[pos + i];
        uint8_t v = virt[pos + i] & w;

        st->vconfig[pos + i] = (st->vconfig[pos + i] & ~w) | (buf[i] & w);
        w &= ~v;
        st->hw[pos + i] = (st->hw[pos + i] & ~w) | (buf[i] & w);
    }
    if (touches(pos, n, SIM_CAP_PM + PCI_PM_CTRL)) {
        uint8_t *c = &st->hw[SIM_CAP_PM + PCI_PM_CTRL];

        if ((*c & 3) == 1 || (*c & 3) == 2 || dev->kernel->stays_in_d0) {
            *c = (*c & ~3) | power;     /* there is neither D1 nor D2 */
        }
        if (power == 0 && (*c & 3) == 3 && dev->kernel->suspend) {
            dev->kernel->suspend(dev);
        }
        if (power == 3 && (*c & 3) == 0 && dev->kernel->resume) {
            dev->kernel->resume(dev);
        }
        sim_mmap_update(dev);
    }
    if (touches(pos, n, PCI_COMMAND)) {
        sim_mmap_update(dev);
        sim_irq_intx_update(dev);
    }
    if (touches(pos, n, ctl) &&
        (sim_ld16(st->vconfig + ctl) & PCI_EXP_DEVCTL_BCR_FLR)) {
        sim_st16(st->vconfig + ctl,
                 sim_ld16(st->vconfig + ctl) & ~PCI_EXP_DEVCTL_BCR_FLR);
        if (sim_ld32(st->hw + SIM_CAP_EXP + PCI_EXP_DEVCAP) &
            PCI_EXP_DEVCAP_FLR) {
            sim_device_reset(dev, SIM_STAT_FLR);
        }
    }
}

ssize_t sim_config_rw(SimDevice *dev, void *buf, size_t count, uint64_t pos,
                      bool write)
{
    size_t done = 0;

    /* vfio-pci splits an access into aligned ones of up to 4 bytes */
    while (done < count) {
        uint64_t at = pos + done;
        size_t left = count - done;
        size_t n = left >= 4 && at % 4 == 0 ? 4 :
                   left >= 2 && at % 2 == 0 ? 2 : 1;

        if (at >= SIM_CONFIG_SIZE || at + left > SIM_CONFIG_SIZE) {
            return -EFAULT;
        }
        if (write) {
            config_write(dev, at, (uint8_t *)buf + done, n);
        } else {
            config_read(dev, at, (uint8_t *)buf + done, n);
            sim_mangle_config(dev->st->knobs[SIM_KNOB_MANGLE], at,
                              (uint8_t *)buf + done, n);
        }
        done += n;
    }
    return done;
}
