/*
 * vfio-sim: a kernel that knows nothing of CXL, or a device that it does not
 * take for one: plain vfio-pci
 *
 * The program reaches the component registers through the BAR. Where it has
 * mapped them they are memory with the registers' contents, since nobody
 * sees its accesses.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
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

static bool none_dvsec_read(SimDevice *dev, unsigned reg, void *buf,
                            size_t count)
{
    (void)dev;
    (void)reg;
    (void)buf;
    (void)count;
    return false;       /* as any capability: the hardware's */
}

const SimKernel sim_kernel_none = {
    .name = "none",
    .mem_region = SIM_NO_REGION,
    .comp_region = SIM_NO_REGION,
    .dma_buf = SIM_DMA_BUF_BARS,
    .block_rw = none_block_rw,
    .hole = none_hole,
    .bind = none_bind,
    .open = none_bind,
    .reset = none_reset,
    .dvsec_read = none_dvsec_read,
    .dvsec_write = sim_kernel_dvsec_hw_write,
};
