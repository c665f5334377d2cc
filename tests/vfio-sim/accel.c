/*
 * vfio-sim: the accelerator behind BAR 2, see vfio-sim-regs.h
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include <unistd.h>

#include "sim.h"

#define DMA_CHUNK 0x10000

void sim_accel_reset(SimDevice *dev)
{
    SimAccel *a = &dev->st->accel;
    uint32_t resets = a->resets + 1;

    memset(a, 0, sizeof(*a));
    a->resets = resets;
}

void sim_accel_fill_bar0(SimDevice *dev)
{
    uint64_t page[SIM_PAGE / 8];
    uint64_t off;
    unsigned i;

    for (off = 0; off < VFIO_SIM_BAR0_SIZE; off += SIM_PAGE) {
        if (off >= dev->block && off < dev->block + VFIO_SIM_BLOCK_SIZE) {
            continue;
        }
        for (i = 0; i < SIM_PAGE / 8; i++) {
            page[i] = VFIO_SIM_BAR0_PATTERN(off + i * 8);
        }
        sys_pwrite(dev->bar0_fd, page, sizeof(page), off);
    }
}

static uint64_t local_rw(SimDevice *dev, uint64_t dpa, void *buf, uint64_t len,
                         bool write)
{
    ssize_t n;

    if (dpa >= dev->mem_size) {
        return 0;
    }
    len = len < dev->mem_size - dpa ? len : dev->mem_size - dpa;
    n = write ? sys_pwrite(dev->mem_fd, buf, len, dpa) :
                sys_pread(dev->mem_fd, buf, len, dpa);
    return n < 0 ? 0 : n;
}

static unsigned pasid_bits(SimDevice *dev)
{
    return dev->stream ? sim_config()->smmu.pasid_bits : 0;
}

static bool pasid_possible(SimDevice *dev, uint32_t pasid)
{
    return pasid_bits(dev) && !(pasid >> pasid_bits(dev));
}

static void dma_run(SimDevice *dev, uint32_t ctrl)
{
    SimAccel *a = &dev->st->accel;
    SimDma from = {
        .pasid_valid = a->dma_pasid & VFIO_SIM_DMA_PASID_VALID,
        .pasid = a->dma_pasid & VFIO_SIM_DMA_PASID_MASK,
        .ats = (ctrl & VFIO_SIM_DMA_ATS) && sim_config_ats_on(dev),
    };
    SimDma to = from;
    uint64_t src = a->dma_src, dst = a->dma_dst, left = a->dma_len;
    static uint8_t buf[DMA_CHUNK];      /* under sim_lock() */

    a->dma_fault_addr = 0;
    if (!sim_config_master_on(dev)) {
        a->dma_status = VFIO_SIM_DMA_MASTER_OFF;
        return;
    }
    if (from.pasid_valid && !pasid_possible(dev, from.pasid)) {
        a->dma_status = VFIO_SIM_DMA_NO_PASID;
        return;
    }
    to.write = true;
    sim_count(dev, SIM_STAT_DMA);
    a->dma_status = VFIO_SIM_DMA_DONE;
    while (left) {
        uint64_t n = left < DMA_CHUNK ? left : DMA_CHUNK;
        uint64_t got, put;

        got = ctrl & VFIO_SIM_DMA_SRC_LOCAL ?
              local_rw(dev, src, buf, n, false) :
              sim_dma_rw(dev, src, buf, n, &from);
        put = ctrl & VFIO_SIM_DMA_DST_LOCAL ?
              local_rw(dev, dst, buf, got, true) :
              sim_dma_rw(dev, dst, buf, got, &to);
        if (put < n) {
            a->dma_fault_addr = put < got ? dst + put : src + got;
            a->dma_status = VFIO_SIM_DMA_FAULT;
            sim_count(dev, SIM_STAT_DMA_FAULTS);
            return;
        }
        src += n;
        dst += n;
        left -= n;
    }
}

static uint32_t half(uint64_t value, uint64_t off)
{
    return off & 4 ? value >> 32 : value;
}

uint32_t sim_accel_read(SimDevice *dev, uint64_t off)
{
    SimAccel *a = &dev->st->accel;
    uint64_t data = 0;

    switch (off & ~4ull) {
    case VFIO_SIM_REG_ID:
        return off & 4 ? VFIO_SIM_VERSION : VFIO_SIM_ID;
    case VFIO_SIM_REG_INDEX:
        return off & 4 ? a->scratch : dev->index;
    case VFIO_SIM_REG_MEM_SIZE:
        return half(dev->mem_size, off);
    case VFIO_SIM_REG_RESETS:
        return off & 4 ? 0 : a->resets;
    case VFIO_SIM_REG_DOORBELL:
        return off & 4 ? a->intr_status : 0;
    case VFIO_SIM_REG_INTR_COUNT:
        return off & 4 ? 0 : a->intr_count;
    case VFIO_SIM_REG_DMA_SRC:
        return half(a->dma_src, off);
    case VFIO_SIM_REG_DMA_DST:
        return half(a->dma_dst, off);
    case VFIO_SIM_REG_DMA_LEN:
        return off & 4 ? 0 : a->dma_len;
    case VFIO_SIM_REG_DMA_STATUS:
        return off & 4 ? 0 : a->dma_status;
    case VFIO_SIM_REG_DMA_FAULT_ADDR:
        return half(a->dma_fault_addr, off);
    case VFIO_SIM_REG_DMA_PASID:
        return off & 4 ? sim_config_ats_on(dev) | pasid_bits(dev) << 8 :
                         a->dma_pasid;
    case VFIO_SIM_REG_PEEK_ADDR:
        return half(a->peek_addr, off);
    case VFIO_SIM_REG_PEEK_DATA:
        local_rw(dev, a->peek_addr & ~7ull, &data, 8, false);
        return half(data, off);
    default:
        return 0;
    }
}

static void raise_irq(SimDevice *dev, unsigned vector)
{
    SimAccel *a = &dev->st->accel;

    if (vector >= VFIO_SIM_MSIX_VECTORS) {
        return;
    }
    a->intr_count++;
    if (dev->irq.type != VFIO_PCI_MSIX_IRQ_INDEX) {
        a->intr_status |= 1u << vector;
    }
    sim_irq_raise(dev, vector);
}

static void write32(SimDevice *dev, uint64_t off, uint32_t value)
{
    SimAccel *a = &dev->st->accel;
    uint64_t data;
    uint32_t *p;

    switch (off) {
    case VFIO_SIM_REG_SCRATCH:
        a->scratch = value;
        break;
    case VFIO_SIM_REG_DOORBELL:
        raise_irq(dev, value);
        break;
    case VFIO_SIM_REG_INTR_STATUS:
        a->intr_status &= ~value;
        sim_irq_intx_update(dev);
        break;
    case VFIO_SIM_REG_DMA_LEN:
        a->dma_len = value;
        break;
    case VFIO_SIM_REG_DMA_PASID:
        a->dma_pasid = dev->stream ? value : 0;
        break;
    case VFIO_SIM_REG_DMA_CTRL:
        if (value & VFIO_SIM_DMA_START) {
            dma_run(dev, value);
            if (value & VFIO_SIM_DMA_IRQ) {
                raise_irq(dev, VFIO_SIM_DMA_VECTOR);
            }
        }
        break;
    case VFIO_SIM_REG_DMA_SRC:
    case VFIO_SIM_REG_DMA_SRC + 4:
        p = (uint32_t *)&a->dma_src;
        p[off & 4 ? 1 : 0] = value;
        break;
    case VFIO_SIM_REG_DMA_DST:
    case VFIO_SIM_REG_DMA_DST + 4:
        p = (uint32_t *)&a->dma_dst;
        p[off & 4 ? 1 : 0] = value;
        break;
    case VFIO_SIM_REG_PEEK_ADDR:
    case VFIO_SIM_REG_PEEK_ADDR + 4:
        p = (uint32_t *)&a->peek_addr;
        p[off & 4 ? 1 : 0] = value;
        break;
    case VFIO_SIM_REG_PEEK_DATA:
    case VFIO_SIM_REG_PEEK_DATA + 4:
        data = value;
        if (a->peek_addr < dev->mem_size) {
            sys_pwrite(dev->mem_fd, &data, 4,
                       (a->peek_addr & ~7ull) + (off & 4));
        }
        break;
    default:
        break;
    }
}

void sim_accel_write(SimDevice *dev, uint64_t off, uint64_t value, size_t size)
{
    if (size < 4) {
        return;
    }
    write32(dev, off, value);
    if (size == 8) {
        write32(dev, off + 4, value >> 32);
    }
}
