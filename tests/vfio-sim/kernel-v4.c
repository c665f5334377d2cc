/*
 * vfio-sim: the kernel generation v4
 *
 * Its copies of the decoder and of the DVSEC are made when the device is
 * opened; resets and the return from D3 refresh that of the decoder.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <string.h>

#include "kernel.h"

static void v4_sample(SimDevice *dev)
{
    memcpy(dev->st->shadow, dev->st->cm, SIM_CM_SIZE);
    dev->st->mem_active = sim_component_committed(dev);
}

/* Whatever the decoder says */
static void v4_open(SimDevice *dev)
{
    v4_sample(dev);
    dev->st->mem_active = 1;
}

static int v4_reset(SimDevice *dev, SimStat why)
{
    int ret = why == SIM_STAT_CXL_RESETS ? sim_fault_locked(dev, "cxl-reset") :
                                           0;

    if (ret == 0) {
        sim_device_reset_hw(dev);
        v4_sample(dev);
    }
    return ret;
}

static void v4_resume(SimDevice *dev)
{
    sim_component_reset(dev);
    v4_sample(dev);
}

static uint32_t v4_dword(SimDevice *dev, unsigned off, uint32_t value,
                         bool write)
{
    const uint32_t changeable = 0xff | SIM_HDM_CTRL_LOCK |
                                SIM_HDM_CTRL_COMMIT | 1u << 12;
    uint32_t *h = &dev->st->shadow[VFIO_SIM_CM_HDM / 4];
    uint32_t *r = &h[off / 4];
    uint32_t *ctrl = &h[SIM_HDM_CTRL / 4];

    if (!write) {
        return sim_component_show(dev, VFIO_SIM_CM_HDM + off, *r);
    }
    switch (off) {
    case SIM_HDM_GLOBAL:
        *r = value;
        break;
    case SIM_HDM_BASE_LO:
    case SIM_HDM_SIZE_LO:
        value = (*r & 0x0fffffff) | (value & 0xf0000000);
        /* fall through */
    case SIM_HDM_BASE_HI:
    case SIM_HDM_SIZE_HI:
    case SIM_HDM_TARGET_LO:
    case SIM_HDM_TARGET_HI:
        if (!(*ctrl & SIM_HDM_CTRL_COMMITTED)) {
            *r = value;
        }
        break;
    case SIM_HDM_CTRL:
        if ((*ctrl & SIM_HDM_CTRL_COMMITTED) && (*ctrl & SIM_HDM_CTRL_LOCK)) {
            break;
        }
        value = (*ctrl & ~changeable) | (value & changeable);
        if (value & SIM_HDM_CTRL_COMMIT) {
            value |= SIM_HDM_CTRL_COMMITTED;
            value &= ~SIM_HDM_CTRL_ERROR;
        } else {
            value &= ~SIM_HDM_CTRL_COMMITTED;
        }
        *ctrl = value;
        break;
    default:
        break;
    }
    return 0;
}

static ssize_t v4_comp_rw(SimDevice *dev, void *buf, size_t count,
                          uint64_t pos, bool write)
{
    return sim_kernel_dwords(dev, buf, count, pos, write, v4_dword);
}

/* The region's flags concern mappings only */
static ssize_t v4_mem_rw(SimDevice *dev, void *buf, size_t count, uint64_t pos,
                         bool write)
{
    (void)dev;
    (void)buf;
    (void)count;
    (void)pos;
    (void)write;
    return -EIO;
}

static int v4_bar_check(SimDevice *dev, uint64_t pos, size_t count)
{
    return sim_kernel_in_hdm(dev, pos, count) ? -EINVAL : 0;
}

static void v4_control2(SimDevice *dev, uint16_t value, uint16_t mask)
{
    uint8_t *v = dev->st->vconfig + SIM_ECAP_CXL_DEVICE;
    uint16_t status = sim_ld16(v + DVSEC_STATUS2);
    uint16_t old = sim_ld16(v + DVSEC_CONTROL2);
    uint16_t new = (old & ~mask) | (value & mask);
    int ret;

    sim_st16(v + DVSEC_CONTROL2, new & ~CONTROL2_RESET);
    if (!(new & CONTROL2_RESET) || (old & CONTROL2_RESET)) {
        return;
    }
    ret = sim_device_reset(dev, SIM_STAT_CXL_RESETS);
    status &= ~(STATUS2_RESET_DONE | STATUS2_RESET_ERROR);
    sim_st16(v + DVSEC_STATUS2,
             status | (ret ? STATUS2_RESET_ERROR : STATUS2_RESET_DONE));
}

static void v4_field(SimDevice *dev, unsigned reg, uint16_t value,
                     uint16_t mask)
{
    if (reg == DVSEC_CONTROL2) {
        v4_control2(dev, value, mask);
        return;
    }
    if (reg == DVSEC_CONTROL) {
        value |= CONTROL_MEM;
        mask |= CONTROL_MEM;
    }
    sim_kernel_dvsec_store(dev, reg, value, mask);
}

static void v4_dvsec_write(SimDevice *dev, unsigned reg, uint32_t value,
                           size_t count)
{
    sim_kernel_dvsec_fields(dev, reg, value, count, v4_field);
}

const SimKernel sim_kernel_v4 = {
    .cxl = true,
    .geometry = true,
    .mem_region = 9,
    .comp_region = 10,
    .region_type = SIM_REGION_TYPE_V4,
    .mem_mmap = true,
    .fault_size = 2 << 20,
    .memory_space_gate = true,
    .zap_on_reset = true,
    .dma_buf = SIM_DMA_BUF_BARS,
    .comp_size = sim_kernel_hdm_size,
    .comp_rw = v4_comp_rw,
    .mem_rw = v4_mem_rw,
    .bar_check = v4_bar_check,
    .block_rw = sim_kernel_paged_block_rw,
    .hole = sim_kernel_page_hole,
    .bind = v4_sample,
    .open = v4_open,
    .reset = v4_reset,
    .resume = v4_resume,
    .dvsec_read = sim_kernel_dvsec_read,
    .dvsec_write = v4_dvsec_write,
};
