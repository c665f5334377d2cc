/*
 * vfio-sim: writes to the CXL Device DVSEC
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>

#include "kernel.h"

void sim_kernel_dvsec_fields(SimDevice *dev, unsigned reg, uint32_t value,
                             size_t count, SimField *write)
{
    unsigned shift = 8 * (reg & 1);
    uint64_t mask = ((1ull << 8 * count) - 1) << shift;
    uint64_t bits = (uint64_t)value << shift;

    for (reg &= ~1u; mask; reg += 2) {
        write(dev, reg, bits, mask);
        bits >>= 16;
        mask >>= 16;
    }
}

bool sim_kernel_dvsec_read(SimDevice *dev, unsigned reg, void *buf,
                           size_t count)
{
    memcpy(buf, dev->st->vconfig + SIM_ECAP_CXL_DEVICE + reg, count);
    return true;
}

void sim_kernel_dvsec_store(SimDevice *dev, unsigned reg, uint16_t value,
                            uint16_t mask)
{
    uint8_t *r = dev->st->vconfig + SIM_ECAP_CXL_DEVICE + reg;
    uint16_t old = sim_ld16(r);

    value &= mask;
    switch (reg) {
    case DVSEC_CONTROL:
        sim_st16(r, (old & ~mask) | value);
        break;
    case DVSEC_STATUS:
    case DVSEC_STATUS2:
        sim_st16(r, old & ~value);
        break;
    default:
        break;
    }
}

static void hw_control2(SimDevice *dev, uint16_t value)
{
    uint8_t *hw = dev->st->hw + SIM_ECAP_CXL_DEVICE;
    uint16_t cap = sim_ld16(hw + DVSEC_CAP);
    uint16_t status = sim_ld16(hw + DVSEC_STATUS2);

    sim_st16(hw + DVSEC_CONTROL2,
             value & 0x3f & ~(CONTROL2_WBI | CONTROL2_RESET));
    if (!(value & CONTROL2_NO_CACHE)) {
        status &= ~STATUS2_INVALID;
    } else if ((value & CONTROL2_WBI) && (cap & CAP_WBI)) {
        status |= STATUS2_INVALID;
    }
    if ((value & CONTROL2_RESET) && (cap & CAP_RESET)) {
        sim_count(dev, SIM_STAT_CXL_RESETS);
        sim_device_reset_hw(dev);
        status = (status & ~STATUS2_RESET_ERROR) | STATUS2_RESET_DONE;
    }
    sim_st16(hw + DVSEC_STATUS2, status);
}

static void hw_field(SimDevice *dev, unsigned reg, uint16_t value,
                     uint16_t mask)
{
    uint8_t *hw = dev->st->hw + SIM_ECAP_CXL_DEVICE;
    uint16_t old = sim_ld16(hw + reg);
    bool locked = hw[DVSEC_LOCK] & 1;

    value = (old & ~mask) | (value & mask);
    switch (reg) {
    case DVSEC_CONTROL:
        if (!locked) {
            sim_st16(hw + reg, (value & 0x5fff) | CONTROL_IO);
        }
        break;
    case DVSEC_STATUS:
        sim_st16(hw + reg, old & ~(value & mask & STATUS_VIRAL));
        break;
    case DVSEC_CONTROL2:
        hw_control2(dev, value);
        break;
    case DVSEC_LOCK:
        sim_st16(hw + reg, old | (value & 1));
        break;
    case DVSEC_BASE1_LO:
    case DVSEC_BASE2_LO:
        break;
    case DVSEC_BASE1_HI:
    case DVSEC_BASE1_HI + 2:
    case DVSEC_BASE1_LO + 2:
    case DVSEC_BASE2_HI:
    case DVSEC_BASE2_HI + 2:
    case DVSEC_BASE2_LO + 2:
        if (!locked) {
            sim_st16(hw + reg, value &
                     ((reg & 4) && (reg & 2) ? 0xf000 : 0xffff));
        }
        break;
    default:
        break;
    }
}

void sim_kernel_dvsec_hw_write(SimDevice *dev, unsigned reg, uint32_t value,
                               size_t count)
{
    sim_kernel_dvsec_fields(dev, reg, value, count, hw_field);
}
