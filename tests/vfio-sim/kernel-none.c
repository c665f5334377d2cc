/*
 * vfio-sim: a kernel without CXL support, or a device that it does not
 * recognise as CXL: plain vfio-pci
 *
 * The program reaches the component registers through the BAR. If it has mapped
 * them, they are memory with the registers' contents, since its accesses cannot
 * be trapped.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include <unistd.h>

#include "kernel.h"

static void show_registers(SimDevice *dev)
{
    sys_pwrite(dev->bar0_fd, dev->st->cm, SIM_CM_SIZE,
               dev->block + SIM_CM_OFFSET);
}

static void none_bind(SimDevice *dev)
{
    dev->st->mem_active = 0;
    show_registers(dev);
}

static int none_reset(SimDevice *dev, SimStat why)
{
    (void)why;
    sim_device_reset_hw(dev);
    show_registers(dev);
    return 0;
}

static ssize_t none_block_rw(SimDevice *dev, void *buf, size_t count,
                             uint64_t pos, bool write)
{
    pos += dev->block;
    return write ? sys_pwrite(dev->bar0_fd, buf, count, pos) :
                   sys_pread(dev->bar0_fd, buf, count, pos);
}

static void none_hole(SimDevice *dev, uint64_t *start, uint64_t *end)
{
    (void)dev;
    *start = *end = 0;
}

/* Like any capability: the hardware's */
static bool none_dvsec_read(SimDevice *dev, unsigned reg, void *buf,
                            size_t count)
{
    uint8_t dvsec[SIM_CXL_DVSEC_LEN];

    memcpy(dvsec, dev->st->hw + SIM_ECAP_CXL_DEVICE, sizeof(dvsec));
    dvsec[DVSEC_STATUS2] |= dev->st->dvsec[DVSEC_STATUS2];
    memcpy(buf, dvsec + reg, count);
    return true;
}

/*
 * If a CXL device is not handled as one, a guest may neither move nor lock the
 * ranges; its request for a CXL reset is acknowledged without involving the
 * device.
 */
static void guard_field(SimDevice *dev, unsigned reg, uint16_t value,
                        uint16_t mask)
{
    uint8_t *stamp = &dev->st->dvsec[DVSEC_STATUS2];

    switch (reg) {
    case DVSEC_CONTROL2:
        if (value & mask & CONTROL2_RESET) {
            *stamp |= STATUS2_RESET_DONE;
        }
        mask &= ~CONTROL2_RESET;
        break;
    case DVSEC_STATUS2:
        *stamp &= ~(value & mask);
        break;
    case DVSEC_CONTROL:
    case DVSEC_STATUS:
        break;
    default:
        return;
    }
    for (unsigned byte = 0; byte < 2; byte++) {
        if (mask >> (8 * byte) & 0xff) {
            sim_kernel_dvsec_hw_write(dev, reg + byte,
                                      (value & mask) >> (8 * byte) & 0xff, 1);
        }
    }
}

static void none_dvsec_write(SimDevice *dev, unsigned reg, uint32_t value,
                             size_t count)
{
    if (dev->st->knobs[SIM_KNOB_GUARD_MAP]) {
        sim_kernel_dvsec_fields(dev, reg, value, count, guard_field);
    } else {
        sim_kernel_dvsec_hw_write(dev, reg, value, count);
    }
}

const SimKernel sim_kernel_none = {
    .mem_region = SIM_NO_REGION,
    .comp_region = SIM_NO_REGION,
    .dma_buf = SIM_DMA_BUF_BARS,
    .block_rw = none_block_rw,
    .hole = none_hole,
    .bind = none_bind,
    .open = none_bind,
    .reset = none_reset,
    .dvsec_read = none_dvsec_read,
    .dvsec_write = none_dvsec_write,
};
