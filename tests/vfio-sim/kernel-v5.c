/*
 * vfio-sim: the kernel generations v5 and v6
 *
 * They keep no copy of the decoder: reads return the hardware's values, writes
 * are dropped.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel.h"

/* The control channel shows the copy. The decoder is not checked. */
static void v5_sample(SimDevice *dev)
{
    memcpy(dev->st->shadow, dev->st->cm, SIM_CM_SIZE);
    dev->st->mem_active = !dev->st->reset_failed;
}

static void v5_open(SimDevice *dev)
{
    dev->st->reset_failed = 0;
    v5_sample(dev);
}

/* Here it is checked, and Memory Space is ignored */
static void v6_sample(SimDevice *dev)
{
    v5_sample(dev);
    dev->st->mem_active &= sim_component_committed(dev);
}

static void v6_open(SimDevice *dev)
{
    dev->st->reset_failed = 0;
    v6_sample(dev);
}

static int clear_memory(SimDevice *dev)
{
    const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

    return syscall(SYS_fallocate, dev->mem_fd, mode, 0,
                   (off_t)dev->mem_size) < 0 ? -errno : 0;
}

/* A CXL reset takes the place of an FLR: it may clear the memory */
static int cxl_reset(SimDevice *dev)
{
    uint32_t *busy = &dev->st->knobs[SIM_KNOB_RESET_BUSY];
    int ret;

    if (*busy) {
        --*busy;
        return -EAGAIN;
    }
    ret = sim_fault_locked(dev, "cxl-reset");
    if (ret < 0) {
        return ret;
    }
    sim_count(dev, SIM_STAT_CXL_RESETS);
    sim_device_reset_hw(dev);
    return dev->st->knobs[SIM_KNOB_RESET_CLEARS] ? clear_memory(dev) : 0;
}

static int v5_reset(SimDevice *dev, SimStat why)
{
    int ret = 0;

    if (why != SIM_STAT_HOT_RESETS) {
        ret = cxl_reset(dev);
        dev->st->reset_failed = ret < 0;
    } else if (dev->st->knobs[SIM_KNOB_SBR_UNMASKED]) {
        sim_device_reset_hw(dev);
        dev->st->reset_failed = 1;
    }
    v5_sample(dev);
    return ret;
}

static int v6_reset(SimDevice *dev, SimStat why)
{
    int ret = v5_reset(dev, why);

    if (ret == 0 && why != SIM_STAT_HOT_RESETS) {
        sim_device_memory_away(dev);
    }
    v6_sample(dev);
    return ret;
}

/* A device without power loses its decoder, the kernel programs it again */
static void v6_suspend(SimDevice *dev)
{
    dev->st->cm[(VFIO_SIM_CM_HDM + SIM_HDM_CTRL) / 4] = 0;
    v6_sample(dev);
}

static void v6_resume(SimDevice *dev)
{
    sim_component_reset(dev);
    sim_device_memory_away(dev);
    v6_sample(dev);
}

static uint32_t v5_dword(SimDevice *dev, unsigned off, uint32_t value,
                         bool write)
{
    (void)value;
    if (write) {
        return 0;
    }
    if (!sim_config_memory_on(dev)) {
        return UINT32_MAX;      /* let through, without a response */
    }
    off += VFIO_SIM_CM_HDM;
    return sim_component_show(dev, off, dev->st->cm[off / 4]);
}

static ssize_t v5_comp_rw(SimDevice *dev, void *buf, size_t count,
                          uint64_t pos, bool write)
{
    return sim_kernel_dwords(dev, buf, count, pos, write, v5_dword);
}

static ssize_t v6_comp_rw(SimDevice *dev, void *buf, size_t count,
                          uint64_t pos, bool write)
{
    bool valid = pos < dev->kernel->comp_size(dev) && !(pos % 4 || count % 4);

    if (valid && !write && !sim_config_memory_on(dev)) {
        return -EIO;
    }
    return v5_comp_rw(dev, buf, count, pos, write);
}

static void v6_hole(SimDevice *dev, uint64_t *start, uint64_t *end)
{
    if (dev->st->knobs[SIM_KNOB_NO_BAR_AREAS]) {
        *start = 0;
        *end = VFIO_SIM_BAR0_SIZE;
    } else {
        sim_kernel_page_hole(dev, start, end);
    }
}

static ssize_t v5_mem_rw(SimDevice *dev, void *buf, size_t count, uint64_t pos,
                         bool write)
{
    if (pos >= dev->mem_size) {
        return -EINVAL;
    }
    if (!sim_region_accessible(dev, dev->kernel->mem_region)) {
        return -EIO;
    }
    count = count < dev->mem_size - pos ? count : dev->mem_size - pos;
    if (!sim_region_answers(dev, dev->kernel->mem_region)) {
        if (!write) {
            memset(buf, 0xff, count);
        }
        return count;
    }
    return sim_kernel_mem_file(dev, buf, count, pos, write);
}

static ssize_t v5_block_rw(SimDevice *dev, void *buf, size_t count,
                           uint64_t pos, bool write)
{
    uint64_t start = SIM_CM_OFFSET + VFIO_SIM_CM_HDM;
    uint64_t end = start + sim_kernel_hdm_size(dev);

    if (pos >= start && pos < end) {
        count = count < end - pos ? count : end - pos;
        if (!write) {
            memset(buf, 0xff, count);
        }
        return count;
    }
    if (pos < start && count > start - pos) {
        count = start - pos;
    }
    return sim_kernel_paged_block_rw(dev, buf, count, pos, write);
}

/* Doorbells are acknowledged without involving the device */
static void v5_control2(SimDevice *dev, uint16_t value, uint16_t mask)
{
    uint8_t *v = dev->st->vconfig + SIM_ECAP_CXL_DEVICE;
    uint16_t status = sim_ld16(v + DVSEC_STATUS2);

    value = (sim_ld16(v + DVSEC_CONTROL2) & ~mask) | (value & mask);
    sim_st16(v + DVSEC_CONTROL2, value & ~(CONTROL2_WBI | CONTROL2_RESET));
    if (value & CONTROL2_RESET) {
        status = (status & ~STATUS2_RESET_ERROR) | STATUS2_RESET_DONE;
    }
    if (value & CONTROL2_WBI) {
        status |= STATUS2_INVALID;
    } else if (!(value & CONTROL2_NO_CACHE)) {
        status &= ~STATUS2_INVALID;
    }
    sim_st16(v + DVSEC_STATUS2, status);
}

static void v5_field(SimDevice *dev, unsigned reg, uint16_t value,
                     uint16_t mask)
{
    if (reg == DVSEC_CONTROL2) {
        v5_control2(dev, value, mask);
    } else {
        sim_kernel_dvsec_store(dev, reg, value, mask);
    }
}

static void v5_dvsec_write(SimDevice *dev, unsigned reg, uint32_t value,
                           size_t count)
{
    sim_kernel_dvsec_fields(dev, reg, value, count, v5_field);
}

const SimKernel sim_kernel_v5 = {
    .cxl = true,
    .geometry = true,
    .mem_region = 9,
    .comp_region = 10,
    .region_type = SIM_REGION_TYPE_CXL,
    .mem_mmap = true,
    .fault_size = 2 << 20,
    .memory_space_gate = true,
    .zap_on_reset = true,
    .stays_in_d0 = true,
    .dma_buf = SIM_DMA_BUF_MEMORY,
    .comp_size = sim_kernel_hdm_size,
    .comp_rw = v5_comp_rw,
    .mem_rw = v5_mem_rw,
    .block_rw = v5_block_rw,
    .hole = sim_kernel_page_hole,
    .bind = v5_sample,
    .open = v5_open,
    .reset = v5_reset,
    .dvsec_read = sim_kernel_dvsec_read,
    .dvsec_write = v5_dvsec_write,
};

const SimKernel sim_kernel_v6 = {
    .cxl = true,
    .geometry = true,
    .mem_region = 9,
    .comp_region = 10,
    .region_type = SIM_REGION_TYPE_CXL,
    .mem_mmap = true,
    .fault_size = 2 << 20,
    .zap_on_reset = true,
    .restores_config = true,
    .dma_buf = SIM_DMA_BUF_MEMORY,
    .comp_size = sim_kernel_hdm_size,
    .comp_rw = v6_comp_rw,
    .mem_rw = v5_mem_rw,
    .block_rw = v5_block_rw,
    .hole = v6_hole,
    .bind = v6_sample,
    .open = v6_open,
    .reset = v6_reset,
    .suspend = v6_suspend,
    .resume = v6_resume,
    .dvsec_read = sim_kernel_dvsec_read,
    .dvsec_write = v5_dvsec_write,
};
