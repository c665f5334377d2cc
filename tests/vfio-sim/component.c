/*
 * vfio-sim: the physical CXL component registers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>

#include "sim.h"

#define CAP_RAS     2
#define CAP_HDM     5
#define CAP_SNOOP   8

#define RAS_UNC_STATUS      0x00
#define RAS_UNC_MASK        0x04
#define RAS_UNC_SEVERITY    0x08
#define RAS_COR_STATUS      0x0c
#define RAS_COR_MASK        0x10
#define RAS_LOG             0x18
#define RAS_SIZE            0x58

#define HDM_GLOBAL_ENABLE   (1u << 1)
#define HDM_CAP_POISON      (1u << 10)
#define HDM_CTRL_IW_2       (1u << 4)

static uint32_t *hdm(SimDevice *dev)
{
    return &dev->st->cm[VFIO_SIM_CM_HDM / 4];
}

static uint32_t array_entry(unsigned id, unsigned version, unsigned offset)
{
    return id | version << 16 | offset << 20;
}

/* The state in which the host's firmware leaves it */
static uint32_t firmware_ctrl(void)
{
    const char *decoder = sim_config()->decoder;
    uint32_t committed = SIM_HDM_CTRL_COMMIT | SIM_HDM_CTRL_COMMITTED;

    if (!strcmp(decoder, "uncommitted")) {
        return 0;
    }
    if (!strcmp(decoder, "unlocked")) {
        return committed;
    }
    if (!strcmp(decoder, "interleaved")) {
        return committed | SIM_HDM_CTRL_LOCK | HDM_CTRL_IW_2;
    }
    return committed | SIM_HDM_CTRL_LOCK;
}

/* Errors that the host has seen, with its addresses in the log */
static void fill_ras(SimDevice *dev)
{
    uint32_t *ras = &dev->st->cm[VFIO_SIM_CM_RAS / 4];
    uint64_t hpa = VFIO_SIM_HPA(dev->index);
    unsigned i;

    ras[RAS_UNC_STATUS / 4] = 1 << 10;
    ras[RAS_UNC_MASK / 4] = 0x1cfff;
    ras[RAS_UNC_SEVERITY / 4] = 0x1cfff;
    ras[RAS_COR_STATUS / 4] = 1 << 5;
    ras[RAS_COR_MASK / 4] = 0x7f;
    for (i = RAS_LOG; i < RAS_SIZE; i += 8) {
        ras[i / 4] = (uint32_t)hpa | i;
        ras[i / 4 + 1] = hpa >> 32;
    }
}

void sim_component_bind(SimDevice *dev)
{
    uint32_t *cm = dev->st->cm;
    uint32_t *h = hdm(dev);
    uint64_t hpa = VFIO_SIM_HPA(dev->index);

    memset(cm, 0, SIM_CM_SIZE);
    cm[0] = 1 | 1 << 16 | 1 << 20 | 3 << 24;
    cm[1] = array_entry(CAP_RAS, 2, VFIO_SIM_CM_RAS);
    cm[2] = array_entry(CAP_HDM, 3, VFIO_SIM_CM_HDM);
    cm[3] = array_entry(CAP_SNOOP, 1, VFIO_SIM_CM_SNOOP);
    fill_ras(dev);
    cm[VFIO_SIM_CM_SNOOP / 4] = 1;

    h[SIM_HDM_CAP / 4] = HDM_CAP_POISON | sim_config()->decoders / 2;
    h[SIM_HDM_GLOBAL / 4] = HDM_GLOBAL_ENABLE;
    h[SIM_HDM_BASE_LO / 4] = hpa;
    h[SIM_HDM_BASE_HI / 4] = hpa >> 32;
    h[SIM_HDM_SIZE_LO / 4] = dev->mem_size;
    h[SIM_HDM_SIZE_HI / 4] = dev->mem_size >> 32;
    h[SIM_HDM_CTRL / 4] = firmware_ctrl();
}

/* A function reset leaves the decoder as it is, unless a test says otherwise */
void sim_component_reset(SimDevice *dev)
{
    uint32_t bits = SIM_HDM_CTRL_LOCK | SIM_HDM_CTRL_COMMIT |
                    SIM_HDM_CTRL_COMMITTED;
    uint32_t *ctrl = &hdm(dev)[SIM_HDM_CTRL / 4];

    *ctrl &= ~bits;
    if (dev->st->knobs[SIM_KNOB_HARDWARE_COMMITTED]) {
        *ctrl |= firmware_ctrl();
    }
}

bool sim_component_committed(SimDevice *dev)
{
    return hdm(dev)[SIM_HDM_CTRL / 4] & SIM_HDM_CTRL_COMMITTED;
}

unsigned sim_component_decoders(SimDevice *dev)
{
    unsigned code = hdm(dev)[SIM_HDM_CAP / 4] & 0xf;

    return code ? 2 * code : 1;
}

uint32_t sim_component_show(SimDevice *dev, unsigned cm_off, uint32_t value)
{
    return sim_mangle_cm(dev->st->knobs[SIM_KNOB_MANGLE], cm_off, value);
}

uint32_t sim_component_read(SimDevice *dev, uint64_t off)
{
    sim_count(dev, SIM_STAT_BLOCK_READS);
    if (off < SIM_CM_OFFSET || off >= SIM_CM_OFFSET + SIM_CM_SIZE) {
        return 0;
    }
    off -= SIM_CM_OFFSET;
    return sim_component_show(dev, off, dev->st->cm[off / 4]);
}

static size_t hdm_size(SimDevice *dev)
{
    return 0x10 + SIM_HDM_STRIDE * sim_component_decoders(dev);
}

static void hdm_write(SimDevice *dev, unsigned off, uint32_t value)
{
    unsigned decoder = off < 0x10 ? 0 : (off - 0x10) / SIM_HDM_STRIDE;
    uint32_t *h = hdm(dev) + decoder * SIM_HDM_STRIDE / 4;
    uint32_t *ctrl = &h[SIM_HDM_CTRL / 4];
    bool frozen = *ctrl & SIM_HDM_CTRL_COMMITTED;

    off -= decoder * SIM_HDM_STRIDE;
    switch (off) {
    case SIM_HDM_GLOBAL:
        h[off / 4] = value & 3;
        break;
    case SIM_HDM_BASE_LO:
    case SIM_HDM_SIZE_LO:
        value &= 0xf0000000;
        /* fall through */
    case SIM_HDM_BASE_HI:
    case SIM_HDM_SIZE_HI:
        if (!frozen) {
            h[off / 4] = value;
        }
        break;
    case SIM_HDM_CTRL:
        if (frozen && (*ctrl & SIM_HDM_CTRL_LOCK)) {
            break;
        }
        *ctrl = value & (0xff | SIM_HDM_CTRL_LOCK | SIM_HDM_CTRL_COMMIT |
                         1u << 12);
        if (value & SIM_HDM_CTRL_COMMIT) {
            bool ok = h[SIM_HDM_SIZE_LO / 4] || h[SIM_HDM_SIZE_HI / 4];

            *ctrl |= ok ? SIM_HDM_CTRL_COMMITTED : SIM_HDM_CTRL_ERROR;
        }
        break;
    default:
        break;
    }
}

void sim_component_write(SimDevice *dev, uint64_t off, uint32_t value)
{
    uint64_t cm = off - SIM_CM_OFFSET;

    sim_count(dev, SIM_STAT_BLOCK_WRITES);
    if (off < SIM_CM_OFFSET || cm >= SIM_CM_SIZE) {
        return;
    }
    if (cm >= VFIO_SIM_CM_HDM && cm < VFIO_SIM_CM_HDM + hdm_size(dev)) {
        hdm_write(dev, cm - VFIO_SIM_CM_HDM, value);
    } else if (cm == VFIO_SIM_CM_RAS + RAS_UNC_MASK ||
               cm == VFIO_SIM_CM_RAS + RAS_UNC_SEVERITY ||
               cm == VFIO_SIM_CM_RAS + RAS_COR_MASK) {
        dev->st->cm[cm / 4] = value;
    }
}
