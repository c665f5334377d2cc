/*
 * vfio-sim: the kernel generation v3
 *
 * Its copies of the decoder and of the DVSEC are made when the driver binds
 * and live until it unbinds; neither an open nor a reset refreshes them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <string.h>

#include "kernel.h"

typedef struct CapCxlV3 {
    struct vfio_info_cap_header header;
    uint32_t flags;
    uint32_t hdm_region_idx;
    uint32_t comp_reg_region_idx;
    uint32_t comp_reg_bar;
    uint32_t reserved;
    uint32_t hole;
    uint64_t comp_reg_offset;
    uint64_t comp_reg_size;
} CapCxlV3;

static void v3_bind(SimDevice *dev)
{
    SimState *st = dev->st;

    memcpy(st->shadow, st->cm, SIM_CM_SIZE);
    memcpy(st->dvsec, st->hw + SIM_ECAP_CXL_DEVICE, SIM_CXL_DVSEC_LEN);
    st->dvsec_locked = 0;
    st->mem_active = 1;
}

static void v3_open(SimDevice *dev)
{
    (void)dev;
}

static int v3_reset(SimDevice *dev, SimStat why)
{
    (void)why;
    sim_device_reset_hw(dev);
    dev->st->mem_active = 1;
    return 0;
}

static size_t v3_device_cap(SimDevice *dev, void *buf)
{
    CapCxlV3 cap = {
        .header = { .id = VFIO_DEVICE_INFO_CAP_CXL, .version = 1 },
        .flags = SIM_CXL_CAP_FIRMWARE_COMMITTED,
        .hdm_region_idx = dev->kernel->mem_region,
        .comp_reg_region_idx = dev->kernel->comp_region,
        .comp_reg_bar = VFIO_SIM_COMPONENT_BAR,
        .comp_reg_offset = dev->block,
        .comp_reg_size = VFIO_SIM_BLOCK_SIZE,
    };

    memcpy(buf, &cap, sizeof(cap));
    return sizeof(cap);
}

static size_t v3_comp_size(SimDevice *dev)
{
    (void)dev;
    return VFIO_SIM_BLOCK_SIZE;
}

static void v3_hdm_write(SimDevice *dev, unsigned off, uint32_t value)
{
    uint32_t *h = &dev->st->shadow[VFIO_SIM_CM_HDM / 4];
    uint32_t *ctrl = &h[SIM_HDM_CTRL / 4];

    switch (off) {
    case SIM_HDM_CAP:
    case 0x08:
    case 0x0c:
        return;
    case SIM_HDM_BASE_LO:
    case SIM_HDM_BASE_HI:
    case SIM_HDM_SIZE_LO:
    case SIM_HDM_SIZE_HI:
        if (*ctrl & (SIM_HDM_CTRL_COMMITTED | SIM_HDM_CTRL_LOCK)) {
            return;
        }
        break;
    case SIM_HDM_CTRL:
        if (*ctrl & SIM_HDM_CTRL_COMMITTED) {
            if (value & SIM_HDM_CTRL_COMMIT) {
                return;
            }
            value = *ctrl & ~(SIM_HDM_CTRL_COMMIT | SIM_HDM_CTRL_COMMITTED |
                              SIM_HDM_CTRL_LOCK);
        } else {
            value &= ~(SIM_HDM_CTRL_COMMITTED | SIM_HDM_CTRL_ERROR);
            if (value & SIM_HDM_CTRL_COMMIT) {
                value |= SIM_HDM_CTRL_COMMITTED;
            }
        }
        break;
    default:
        break;
    }
    h[off / 4] = value;
}

static uint32_t v3_dword(SimDevice *dev, uint64_t pos, uint32_t value,
                         bool write)
{
    uint64_t cm = pos - SIM_CM_OFFSET;
    bool hdm = cm >= VFIO_SIM_CM_HDM && cm < VFIO_SIM_CM_HDM + HDM_BLOCK_SIZE;

    if (pos < SIM_CM_OFFSET || cm >= VFIO_SIM_CM_HDM + HDM_BLOCK_SIZE) {
        return 0;       /* including what follows the decoder */
    }
    if (write) {
        if (hdm) {
            v3_hdm_write(dev, cm - VFIO_SIM_CM_HDM, value);
        }
        return 0;
    }
    return sim_component_show(dev, cm, dev->st->shadow[cm / 4]);
}

static ssize_t v3_comp_rw(SimDevice *dev, void *buf, size_t count,
                          uint64_t pos, bool write)
{
    uint8_t *b = buf;
    size_t done;

    if (pos > VFIO_SIM_BLOCK_SIZE || count > VFIO_SIM_BLOCK_SIZE - pos ||
        pos % 4 || count % 4) {
        return -EINVAL;
    }
    for (done = 0; done < count; done += 4) {
        uint32_t value = write ? sim_ld32(b + done) : 0;

        value = v3_dword(dev, pos + done, value, write);
        if (!write) {
            sim_st32(b + done, value);
        }
    }
    return count;
}

static ssize_t v3_mem_rw(SimDevice *dev, void *buf, size_t count, uint64_t pos,
                         bool write)
{
    if (pos > dev->mem_size || count > dev->mem_size - pos) {
        return -EINVAL;
    }
    return sim_kernel_mem_file(dev, buf, count, pos, write);
}

static int v3_bar_check(SimDevice *dev, uint64_t pos, size_t count)
{
    return pos < dev->block + VFIO_SIM_BLOCK_SIZE &&
           dev->block < pos + count ? -EINVAL : 0;
}

static ssize_t v3_block_rw(SimDevice *dev, void *buf, size_t count,
                           uint64_t pos, bool write)
{
    (void)dev;
    (void)buf;
    (void)count;
    (void)pos;
    (void)write;
    return -EINVAL;
}

static bool v3_dvsec_read(SimDevice *dev, unsigned reg, void *buf,
                          size_t count)
{
    size_t i;

    /* The header is not its own */
    for (i = 0; i < count; i++) {
        const uint8_t *from = reg + i < DVSEC_BODY ?
                              dev->st->hw + SIM_ECAP_CXL_DEVICE :
                              dev->st->dvsec;

        ((uint8_t *)buf)[i] = from[reg + i];
    }
    return true;
}

/* Only the first 16-bit register that the access touches */
static void v3_dvsec_write(SimDevice *dev, unsigned reg, uint32_t value,
                           size_t count)
{
    uint8_t *v = dev->st->dvsec;
    uint16_t old = sim_ld16(v + (reg & ~1u));
    uint16_t new = value;

    if (count == 1) {
        new = reg & 1 ? (old & 0xff) | value << 8 : (old & 0xff00) | value;
        reg &= ~1u;
    }
    switch (reg) {
    case DVSEC_CONTROL:
    case DVSEC_CONTROL2:
        if (!dev->st->dvsec_locked) {
            sim_st16(v + reg, new);
        }
        break;
    case DVSEC_STATUS:
    case DVSEC_STATUS2:
        sim_st16(v + reg, old & ~new);
        break;
    case DVSEC_LOCK:
        if (!(old & 1) && (new & 1)) {
            sim_st16(v + reg, old | 1);
            dev->st->dvsec_locked = 1;
        }
        break;
    default:
        break;
    }
}

const SimKernel sim_kernel_v3 = {
    .cxl = true,
    .mem_region = 10,
    .comp_region = 9,
    .region_type = SIM_REGION_TYPE_CXL,
    .mem_mmap = true,
    .fault_size = 4096,
    .dma_buf = SIM_DMA_BUF_BARS,
    .device_cap = v3_device_cap,
    .comp_size = v3_comp_size,
    .comp_rw = v3_comp_rw,
    .mem_rw = v3_mem_rw,
    .bar_check = v3_bar_check,
    .block_rw = v3_block_rw,
    .hole = sim_kernel_whole_hole,
    .bind = v3_bind,
    .open = v3_open,
    .reset = v3_reset,
    .dvsec_read = v3_dvsec_read,
    .dvsec_write = v3_dvsec_write,
};
