/*
 * vfio-sim: the kernel generation v2, without and with its reset patches
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kernel.h"

#define HDM_UIO_CAPABLE     (1u << 13)

static uint32_t *shadow_hdm(SimDevice *dev)
{
    return &dev->st->shadow[VFIO_SIM_CM_HDM / 4];
}

static bool has_reset_patches(SimDevice *dev)
{
    return dev->kernel != &sim_kernel_v2;
}

/* Two revisions of the reset patches have been seen */
static bool keeps_base(SimDevice *dev)
{
    return has_reset_patches(dev) && dev->st->knobs[SIM_KNOB_KEEPS_BASE];
}

static size_t v2_comp_size(SimDevice *dev)
{
    return VFIO_SIM_CM_HDM + sim_kernel_hdm_size(dev);
}

/*
 * Read the decoders again. A locked one is shown unlocked and without its
 * host address, so that the VMM can install the guest's.
 */
static void v2_read_hdm(SimDevice *dev, bool keep_base)
{
    uint32_t *s = shadow_hdm(dev);
    unsigned i;

    for (i = 0; i < sim_component_decoders(dev); i++) {
        uint32_t *d = &s[(0x10 + SIM_HDM_STRIDE * i) / 4];
        const uint32_t *h = &dev->st->cm[VFIO_SIM_CM_HDM / 4 + (d - s)];
        uint32_t lo = d[0], hi = d[1];

        memcpy(d, h, SIM_HDM_STRIDE);
        if (!(d[4] & SIM_HDM_CTRL_COMMITTED)) {
            continue;
        }
        if (d[4] & SIM_HDM_CTRL_LOCK) {
            d[4] &= ~SIM_HDM_CTRL_LOCK;
            d[0] = d[1] = 0;
        }
        if (keep_base && i < 16) {
            d[0] = lo;
            d[1] = hi;
        }
    }
    memcpy(s, &dev->st->cm[VFIO_SIM_CM_HDM / 4], 0x10);
    dev->st->mem_active = sim_component_committed(dev);
}

static void v2_bind(SimDevice *dev)
{
    memcpy(dev->st->shadow, dev->st->cm, SIM_CM_SIZE);
    v2_read_hdm(dev, false);
}

static void v2_open(SimDevice *dev)
{
    v2_read_hdm(dev, false);
}

static int v2_reset(SimDevice *dev, SimStat why)
{
    (void)why;
    sim_device_reset_hw(dev);
    if (has_reset_patches(dev) && dev->st->knobs[SIM_KNOB_RESET_ENABLES]) {
        sim_config_enable_memory(dev);
    }
    v2_read_hdm(dev, keeps_base(dev));
    return 0;
}

static size_t v2_device_cap(SimDevice *dev, void *buf)
{
    const uint8_t *dvsec = dev->st->hw + SIM_ECAP_CXL_DEVICE;
    SimCapCxlV2 cap = {
        .header = { .id = VFIO_DEVICE_INFO_CAP_CXL, .version = 1 },
        .hdm_regs_bar_index = VFIO_SIM_COMPONENT_BAR,
        .flags = SIM_CXL_CAP_FIRMWARE_COMMITTED,
        .hdm_regs_offset = dev->block + SIM_CM_OFFSET,
        .dpa_region_index = dev->kernel->mem_region,
        .comp_regs_region_index = dev->kernel->comp_region,
    };

    if (sim_ld16(dvsec + DVSEC_CAP) & CAP_CACHE) {
        cap.flags |= SIM_CXL_CAP_CACHE_CAPABLE;
    }
    memcpy(buf, &cap, sizeof(cap));
    return sizeof(cap);
}

static void v2_decoder_write(SimDevice *dev, unsigned n, unsigned reg,
                             uint32_t value)
{
    uint32_t cap = shadow_hdm(dev)[0];
    uint32_t *d = &shadow_hdm(dev)[(0x10 + SIM_HDM_STRIDE * n) / 4];
    uint32_t keep = SIM_HDM_CTRL_COMMITTED | SIM_HDM_CTRL_ERROR | 1u << 12;
    uint32_t reserved = 1u << 15 | 0xf0000000 | 0x00ff0000;
    uint32_t *ctrl = &d[4];

    switch (reg + 0x10) {
    case SIM_HDM_BASE_LO:
    case SIM_HDM_SIZE_LO:
        value &= 0xf0000000;
        /* fall through */
    case SIM_HDM_BASE_HI:
    case SIM_HDM_SIZE_HI:
        if (!(*ctrl & SIM_HDM_CTRL_LOCK)) {
            d[reg / 4] = value;
        }
        break;
    case SIM_HDM_CTRL:
        if (*ctrl & SIM_HDM_CTRL_LOCK) {
            if (!(value & SIM_HDM_CTRL_LOCK)) {
                *ctrl &= ~SIM_HDM_CTRL_LOCK;
            }
            break;
        }
        if (!(cap & HDM_UIO_CAPABLE)) {
            reserved |= 1u << 14 | 0x0f000000;
        }
        if (!(sim_ld16(dev->st->hw + SIM_ECAP_CXL_DEVICE + DVSEC_CAP) &
              CAP_CACHE)) {
            reserved |= 1u << 13;
        }
        value = (value & ~(reserved | keep)) | (*ctrl & keep);
        value &= ~SIM_HDM_CTRL_COMMITTED;
        if (value & SIM_HDM_CTRL_COMMIT) {
            value |= SIM_HDM_CTRL_COMMITTED;
        }
        *ctrl = value;
        break;
    default:
        break;
    }
}

static void v2_comp_write(SimDevice *dev, uint64_t pos, uint32_t value)
{
    uint64_t hdm = pos - VFIO_SIM_CM_HDM;

    if (pos < VFIO_SIM_CM_HDM) {
        return;
    }
    if (hdm == SIM_HDM_GLOBAL) {
        value &= 3;
        if (!(shadow_hdm(dev)[0] & (1u << 10))) {
            value &= ~1u;
        }
        shadow_hdm(dev)[1] = value;
    } else if (hdm >= 0x10) {
        unsigned n = (hdm - 0x10) / SIM_HDM_STRIDE;

        if (n < sim_component_decoders(dev)) {
            v2_decoder_write(dev, n, (hdm - 0x10) % SIM_HDM_STRIDE, value);
        }
    }
}

static ssize_t v2_comp_rw(SimDevice *dev, void *buf, size_t count,
                          uint64_t pos, bool write)
{
    size_t size = v2_comp_size(dev);

    if (pos >= size) {
        return -EINVAL;
    }
    count = count < size - pos ? count : size - pos;
    if (count != 4 || pos % 4) {
        return -EINVAL;
    }
    if (write) {
        v2_comp_write(dev, pos, sim_ld32(buf));
    } else {
        sim_st32(buf, sim_component_show(dev, pos, dev->st->shadow[pos / 4]));
    }
    return 4;
}

static ssize_t v2_mem_rw(SimDevice *dev, void *buf, size_t count, uint64_t pos,
                         bool write)
{
    if (pos >= dev->mem_size) {
        return 0;
    }
    if (!dev->st->mem_active) {
        return -EIO;
    }
    count = count < dev->mem_size - pos ? count : dev->mem_size - pos;
    return sim_kernel_mem_file(dev, buf, count, pos, write);
}

static bool v2_dvsec_read(SimDevice *dev, unsigned reg, void *buf, size_t n)
{
    uint8_t *v = dev->st->vconfig + SIM_ECAP_CXL_DEVICE;
    const uint8_t *hw = dev->st->hw + SIM_ECAP_CXL_DEVICE;

    if (reg < DVSEC_CONTROL || reg >= DVSEC_LOCK + 2) {
        memcpy(buf, hw + reg, n);
    } else if (has_reset_patches(dev)) {
        const uint16_t own = STATUS2_RESET_DONE | STATUS2_RESET_ERROR;

        sim_st16(v + DVSEC_STATUS2,
                 (sim_ld16(v + DVSEC_STATUS2) & own) |
                 (sim_ld16(hw + DVSEC_STATUS2) & ~own));
        memcpy(buf, v + reg, n);
    } else {
        memcpy(buf, reg & 1 || reg == DVSEC_STATUS2 ? hw + reg : v + reg, n);
    }
    return true;
}

static void v2_cxl_reset(SimDevice *dev, uint8_t *v)
{
    uint16_t status = sim_ld16(v + DVSEC_STATUS2);
    int err = sim_fault_locked(dev, "cxl-reset");

    /* Continue after a failed reset as after a successful one */
    if (err < 0) {
        v2_read_hdm(dev, keeps_base(dev));
        sim_mmap_update(dev);
    } else {
        sim_device_reset(dev, SIM_STAT_CXL_RESETS);
    }
    status &= ~(STATUS2_RESET_DONE | STATUS2_RESET_ERROR);
    sim_st16(v + DVSEC_STATUS2, status | (err ? STATUS2_RESET_ERROR :
                                                STATUS2_RESET_DONE));
}

static void v2_control2(SimDevice *dev, uint8_t *v, uint8_t *hw, uint16_t value)
{
    uint16_t cap = sim_ld16(hw + DVSEC_CAP);
    uint16_t keep = 0x3f & ~(CONTROL2_WBI | CONTROL2_RESET);

    if (!(sim_ld16(hw + DVSEC_CAP3) & CAP3_VOLATILE)) {
        keep &= ~CONTROL2_VOLATILE;
    }
    if (!(sim_ld16(hw + DVSEC_CAP2) & CAP2_COMPLETION)) {
        keep &= ~CONTROL2_COMPLETION;
    }
    sim_st16(v + DVSEC_CONTROL2, value & keep);
    /* Nothing reaches the hardware without the doorbell */
    if ((value & CONTROL2_WBI) && (cap & CAP_WBI)) {
        uint16_t status = sim_ld16(hw + DVSEC_STATUS2) & ~STATUS2_INVALID;

        sim_st16(hw + DVSEC_CONTROL2, value & CONTROL2_NO_CACHE);
        sim_st16(hw + DVSEC_STATUS2,
                 status | (value & CONTROL2_NO_CACHE ? STATUS2_INVALID : 0));
    }
    if ((value & CONTROL2_RESET) && (cap & CAP_RESET) &&
        has_reset_patches(dev)) {
        v2_cxl_reset(dev, v);
    }
}

static void v2_status2(SimDevice *dev, uint8_t *v, uint8_t *hw, uint16_t ones)
{
    uint16_t clear = 0;

    if (sim_ld16(hw + DVSEC_CAP3) & CAP3_VOLATILE) {
        clear |= STATUS2_VOLATILE;
    }
    if (has_reset_patches(dev)) {
        clear |= STATUS2_PM_INIT;
    }
    clear &= ones;
    sim_st16(v + DVSEC_STATUS2, sim_ld16(v + DVSEC_STATUS2) & ~clear);
    sim_st16(hw + DVSEC_STATUS2, sim_ld16(hw + DVSEC_STATUS2) & ~clear);
}

/* A write to one register; the bits that were not written are not in @mask */
static void v2_field(SimDevice *dev, unsigned reg, uint16_t value,
                     uint16_t mask)
{
    uint8_t *v = dev->st->vconfig + SIM_ECAP_CXL_DEVICE;
    uint8_t *hw = dev->st->hw + SIM_ECAP_CXL_DEVICE;
    uint16_t old = sim_ld16(v + reg);
    uint16_t merged = (old & ~mask) | (value & mask);
    bool locked = v[DVSEC_LOCK] & 1;

    switch (reg) {
    case DVSEC_CONTROL:
        if (!locked) {
            sim_st16(v + reg, (merged & ~0xb000) | CONTROL_IO);
        }
        break;
    case DVSEC_STATUS:
        sim_st16(v + reg, old & ~(value & mask & STATUS_VIRAL));
        break;
    case DVSEC_CONTROL2:
        v2_control2(dev, v, hw, merged);
        break;
    case DVSEC_STATUS2:
        v2_status2(dev, v, hw, value & mask);
        break;
    case DVSEC_LOCK:
        if (!locked) {
            sim_st16(v + reg, merged & 1);
        }
        break;
    default:
        /* Reads of ranges go to the hardware, regardless of writes */
        break;
    }
}

/*
 * The first revision only considers where the access starts, and takes the low
 * 16 bits; a byte is extended with zeros. The one with the reset patches splits
 * the access.
 */
static void v2_dvsec_write(SimDevice *dev, unsigned reg, uint32_t value,
                           size_t n)
{
    if (has_reset_patches(dev)) {
        sim_kernel_dvsec_fields(dev, reg, value, n, v2_field);
    } else if (!(reg & 1)) {
        v2_field(dev, reg, value, 0xffff);
    }
}

#define V2_TRAITS \
    .cxl = true, \
    .mem_region = 9, \
    .comp_region = 10, \
    .region_type = SIM_REGION_TYPE_CXL, \
    .zap_on_reset = true, \
    .fault_size = 4096, \
    .device_cap = v2_device_cap, \
    .comp_size = v2_comp_size, \
    .comp_rw = v2_comp_rw, \
    .mem_rw = v2_mem_rw, \
    /* Nothing stops the program: it reaches the hardware */ \
    .block_rw = sim_kernel_block_rw, \
    .hole = sim_kernel_whole_hole, \
    .bind = v2_bind, \
    .open = v2_open, \
    .reset = v2_reset, \
    .dvsec_read = v2_dvsec_read, \
    .dvsec_write = v2_dvsec_write

const SimKernel sim_kernel_v2 = {
    .mem_mmap = true,
    V2_TRAITS,
};

const SimKernel sim_kernel_v2_reset = {
    .mem_mmap = true,
    V2_TRAITS,
};

const SimKernel sim_kernel_v2_nommap = {
    V2_TRAITS,
};
