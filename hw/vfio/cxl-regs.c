/*
 * CXL Type-2 devices behind vfio-pci: their component registers
 *
 * Laid over the whole component register block of the BAR. The hardware's
 * registers are never visible.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/bitops.h"
#include "hw/core/registerfields.h"
#include "hw/cxl/cxl.h"
#include "cxl-internal.h"
#include "trace.h"

/*
 * HDM decoders
 */
static bool vfio_cxl_hdm_check(void *opaque, unsigned n,
                               const CXLHDMRange *range, Error **errp)
{
    VFIOCXL *cxl = opaque;

    if (range->dpa > cxl->info.memory_size ||
        range->size > cxl->info.memory_size - range->dpa) {
        error_setg(errp, "the device has only 0x%" PRIx64 " bytes of memory",
                   cxl->info.memory_size);
        return false;
    }
    if (cxl->blocked & VFIO_CXL_LOST) {
        error_setg(errp, "the host's decoder is not committed");
        return false;
    }
    return cxl_route_check(CXL_ENDPOINT(cxl), range, errp);
}

static void vfio_cxl_hdm_update(void *opaque)
{
    vfio_cxl_update(opaque);
}

static const CXLHDMOps vfio_cxl_hdm_ops = {
    .check = vfio_cxl_hdm_check,
    .update = vfio_cxl_hdm_update,
};

/*
 * The component registers. All that a guest sees of the block comes from QEMU:
 * a capability array, the HDM decoders, and a RAS Capability if the device has
 * one. The hardware's registers may hold addresses of the host.
 */
#define CM_START CXL2_COMPONENT_IO_REGION_SIZE

/* Errors that are defined */
#define RAS_UNC_ERR_BITS 0x1cfff
#define RAS_COR_ERR_BITS 0x7f

static bool vfio_cxl_is_in(hwaddr addr, unsigned start, unsigned length)
{
    return addr >= start && addr - start < length;
}

static uint32_t vfio_cxl_array_read(const VFIOCXLInfo *info, unsigned n)
{
    uint32_t entries[] = {
        FIELD_DP32(info->array_header, CXL_CAPABILITY_HEADER, ARRAY_SIZE,
                   info->ras_header ? 2 : 1),
        info->hdm_header,
        info->ras_header,
    };

    return n < ARRAY_SIZE(entries) ? entries[n] : 0;
}

/*
 * CXL r3.1 Section 8.2.4.17. Errors are handled by the host: a guest sees none,
 * and its masks have no effect.
 */
static uint32_t *vfio_cxl_ras_register(VFIOCXLRAS *ras, unsigned reg,
                                       uint32_t *mask)
{
    switch (reg) {
    case A_CXL_RAS_UNC_ERR_MASK - CXL_RAS_REGISTERS_OFFSET:
        *mask = RAS_UNC_ERR_BITS;
        return &ras->uncorrectable_mask;
    case A_CXL_RAS_UNC_ERR_SEVERITY - CXL_RAS_REGISTERS_OFFSET:
        *mask = RAS_UNC_ERR_BITS;
        return &ras->uncorrectable_severity;
    case A_CXL_RAS_COR_ERR_MASK - CXL_RAS_REGISTERS_OFFSET:
        *mask = RAS_COR_ERR_BITS;
        return &ras->correctable_mask;
    default:
        return NULL;
    }
}

static void vfio_cxl_ras_reset(VFIOCXL *cxl)
{
    cxl->ras = (VFIOCXLRAS) {
        .uncorrectable_mask = RAS_UNC_ERR_BITS,
        .uncorrectable_severity = RAS_UNC_ERR_BITS,
        .correctable_mask = RAS_COR_ERR_BITS,
    };
}

static uint32_t vfio_cxl_read_dword(VFIOCXL *cxl, unsigned addr)
{
    const VFIOCXLInfo *info = &cxl->info;

    if (addr < CM_START) {
        return 0;
    }
    if (info->ras_header &&
        vfio_cxl_is_in(addr, info->ras_offset, CXL_RAS_REGISTERS_SIZE)) {
        uint32_t mask, *reg;

        reg = vfio_cxl_ras_register(&cxl->ras, addr - info->ras_offset, &mask);
        return reg ? *reg : 0;
    }
    return vfio_cxl_array_read(info, (addr - CM_START) / 4);
}

static void vfio_cxl_write_dword(VFIOCXL *cxl, unsigned addr, uint32_t value)
{
    const VFIOCXLInfo *info = &cxl->info;

    if (info->ras_header &&
        vfio_cxl_is_in(addr, info->ras_offset, CXL_RAS_REGISTERS_SIZE)) {
        uint32_t mask, *reg;

        reg = vfio_cxl_ras_register(&cxl->ras, addr - info->ras_offset, &mask);
        if (reg) {
            *reg = value & mask;
        }
    }
}

static bool vfio_cxl_in_hdm(VFIOCXL *cxl, hwaddr addr)
{
    return vfio_cxl_is_in(addr, cxl->info.hdm_offset,
                          cxl_hdm_length(cxl->hdm.count));
}

static uint64_t vfio_cxl_component_read(VFIOCXL *cxl, hwaddr addr,
                                        unsigned size)
{
    uint64_t value;

    if (vfio_cxl_in_hdm(cxl, addr)) {
        return cxl_hdm_read(&cxl->hdm, addr - cxl->info.hdm_offset, size);
    }
    value = vfio_cxl_read_dword(cxl, QEMU_ALIGN_DOWN(addr, 4));
    if (size == 8) {
        return value | (uint64_t)vfio_cxl_read_dword(cxl, addr + 4) << 32;
    }
    return extract64(value, 8 * (addr & 3), 8 * size);
}

/* CXL r3.1 Section 8.2.3: registers are accessed with 4 or 8 bytes */
static void vfio_cxl_component_write(VFIOCXL *cxl, hwaddr addr, uint64_t value,
                                     unsigned size)
{
    if (vfio_cxl_in_hdm(cxl, addr)) {
        cxl_hdm_write(&cxl->hdm, addr - cxl->info.hdm_offset, value, size);
    } else if (size >= 4) {
        vfio_cxl_write_dword(cxl, addr, value);
        if (size == 8) {
            vfio_cxl_write_dword(cxl, addr + 4, value >> 32);
        }
    }
}

/* A vCPU may have waited for the BQL while the device was unplugged */
static uint64_t vfio_cxl_overlay_read(void *opaque, hwaddr addr, unsigned size)
{
    VFIOCXL *cxl = opaque;
    uint64_t value = cxl->exited ? 0 : vfio_cxl_component_read(cxl, addr, size);

    trace_vfio_cxl_read(vfio_cxl_name(cxl), addr, size, value);
    return value;
}

static void vfio_cxl_overlay_write(void *opaque, hwaddr addr, uint64_t value,
                                   unsigned size)
{
    VFIOCXL *cxl = opaque;

    trace_vfio_cxl_write(vfio_cxl_name(cxl), addr, size, value);
    if (!cxl->exited) {
        vfio_cxl_component_write(cxl, addr, value, size);
    }
}

static const MemoryRegionOps vfio_cxl_overlay_ops = {
    .read = vfio_cxl_overlay_read,
    .write = vfio_cxl_overlay_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = {
        .min_access_size = 1,
        .max_access_size = 8,
    },
    .impl = {
        .min_access_size = 1,
        .max_access_size = 8,
    },
};

void vfio_cxl_regs_lay(VFIOCXL *cxl)
{
    VFIOCXLInfo *info = &cxl->info;

    memory_region_init_io(&cxl->overlay, OBJECT(cxl->vdev),
                          &vfio_cxl_overlay_ops, cxl,
                          "cxl-component-registers",
                          CXL2_COMPONENT_BLOCK_SIZE);
    memory_region_add_subregion_overlap(cxl->vdev->bars[info->bar].mr,
                                        info->block, &cxl->overlay, 1);
    trace_vfio_cxl_overlay(vfio_cxl_name(cxl), info->bar, info->block,
                           CXL2_COMPONENT_BLOCK_SIZE);
}

void vfio_cxl_regs_reset(VFIOCXL *cxl)
{
    cxl_hdm_reset(&cxl->hdm);
    vfio_cxl_ras_reset(cxl);
}

void vfio_cxl_regs_init(VFIOCXL *cxl)
{
    cxl_hdm_init(&cxl->hdm, cxl->info.decoder_count, cxl->info.hdm_capability,
                 cxl->info.host_only, &vfio_cxl_hdm_ops, cxl);
    vfio_cxl_ras_reset(cxl);
}
