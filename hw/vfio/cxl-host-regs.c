/*
 * The physical component registers of a CXL device, as the kernel shows them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/vfio.h>

#include "qapi/error.h"
#include "qemu/range.h"
#include "hw/cxl/cxl.h"
#include "hw/cxl/cxl_hdm.h"
#include "hw/pci/pci.h"
#include "pci.h"
#include "cxl-uapi.h"

#define HDM_OFFSET(reg) (A_CXL_HDM_DECODER##reg - CXL_HDM_REGISTERS_OFFSET)

static bool vfio_cxl_read_region(VFIODevice *vbasedev, unsigned region,
                                 off_t offset, unsigned size, void *data)
{
    return vbasedev->io_ops->region_read(vbasedev, region, offset, size,
                                         data) == size;
}

bool vfio_cxl_read_register(const VFIOCXLInfo *info, unsigned offset,
                            uint32_t *value, Error **errp)
{
    VFIODevice *vbasedev = info->vbasedev;
    bool ok;

    /* One dword per call: some kernels accept nothing else */
    if (!QEMU_IS_ALIGNED(offset, sizeof(*value))) {
        ok = false;
    } else if (offset >= info->registers_offset &&
               offset - info->registers_offset + 4 <= info->registers_size) {
        ok = vfio_cxl_read_region(vbasedev, info->registers_region,
                                  offset - info->registers_offset,
                                  sizeof(*value), value);
    } else if (!info->kernel->traps_block) {
        ok = vfio_cxl_read_region(vbasedev, info->bar, info->block + offset,
                                  sizeof(*value), value);
    } else {
        ok = false;
    }
    if (!ok) {
        error_setg(errp, "cannot read component register 0x%x", offset);
        return false;
    }
    *value = le32_to_cpu(*value);
    return true;
}

int vfio_cxl_memory_space_enable(const VFIOCXLInfo *info)
{
    VFIOPCIDevice *vdev = info->dvsecs->vdev;
    uint32_t command;

    if (info->kernel->traps_block ||
        !vfio_cxl_config_read(vdev, PCI_COMMAND, 2, &command) ||
        command & PCI_COMMAND_MEMORY) {
        return -1;
    }
    vfio_cxl_config_write(vdev, PCI_COMMAND, command | PCI_COMMAND_MEMORY);
    return command;
}

void vfio_cxl_memory_space_restore(const VFIOCXLInfo *info, int saved)
{
    if (saved >= 0) {
        vfio_cxl_config_write(info->dvsecs->vdev, PCI_COMMAND, saved);
    }
}

/* Length of the array that a guest sees: the header and two entries */
#define ARRAY_LENGTH 12

/*
 * CXL r3.1 Section 8.2.4.1: find the entries of the capability array that a
 * guest will see, HDM decoders and RAS
 */
static bool vfio_cxl_find_capabilities(VFIOCXLInfo *info, Error **errp)
{
    const unsigned cm = CXL2_COMPONENT_IO_REGION_SIZE;
    uint32_t value;
    unsigned count;

    if (!vfio_cxl_read_register(info, cm, &value, errp)) {
        return false;
    }
    count = FIELD_EX32(value, CXL_CAPABILITY_HEADER, ARRAY_SIZE);
    if (FIELD_EX32(value, CXL_CAPABILITY_HEADER, ID) != 1) {
        error_setg(errp, "no CXL capability array (0x%08x)", value);
        return false;
    }
    info->array_header = value;
    for (unsigned i = 1;
         i <= count && !(info->hdm_header && info->ras_header); i++) {
        unsigned id, offset;

        if (!vfio_cxl_read_register(info, cm + 4 * i, &value, errp)) {
            return false;
        }
        id = FIELD_EX32(value, CXL_HDM_CAPABILITY_HEADER, ID);
        offset = cm + FIELD_EX32(value, CXL_HDM_CAPABILITY_HEADER, PTR);
        if (id == 5 && !info->hdm_header) {
            info->hdm_header = value;
            info->hdm_offset = offset;
        } else if (id == 2 && !info->ras_header) {
            info->ras_header = value;
            info->ras_offset = offset;
        }
    }
    if (!info->hdm_header) {
        error_setg(errp, "no HDM Decoder Capability in the capability array "
                   "(%u entries)", count);
        return false;
    }
    if (info->hdm_offset < cm + ARRAY_LENGTH) {
        error_setg(errp, "HDM decoders at 0x%x are inside the capability array",
                   info->hdm_offset);
        return false;
    }
    if (!info->kernel->traps_block &&
        info->hdm_offset != info->registers_offset) {
        error_setg(errp, "HDM decoders are at 0x%x, but the kernel reports "
                   "0x%x", info->hdm_offset, info->registers_offset);
        return false;
    }
    return true;
}

/* The guest sees RAS at the device's offset, so it must not overlap others */
static bool vfio_cxl_check_ras(const VFIOCXLInfo *info, Error **errp)
{
    const unsigned cm = CXL2_COMPONENT_IO_REGION_SIZE;

    if (!info->ras_header ||
        (info->ras_offset >= cm + ARRAY_LENGTH &&
         QEMU_IS_ALIGNED(info->ras_offset, 4) &&
         info->ras_offset + CXL_RAS_REGISTERS_SIZE <=
         cm + CXL2_COMPONENT_CM_REGION_SIZE &&
         !ranges_overlap(info->ras_offset, CXL_RAS_REGISTERS_SIZE,
                         info->hdm_offset,
                         cxl_hdm_length(info->decoder_count)))) {
        return true;
    }
    error_setg(errp, "RAS Capability at 0x%x overlaps other component "
               "registers or lies outside them", info->ras_offset);
    return false;
}

static bool vfio_cxl_check_decoders(VFIOCXLInfo *info, Error **errp)
{
    uint32_t ctrl, base_lo, base_hi, size_lo, size_hi;
    unsigned d0 = info->hdm_offset;
    uint64_t size;

    if (!vfio_cxl_read_register(info, d0, &info->hdm_capability, errp)) {
        return false;
    }
    info->decoder_count =
        cxl_decoder_count_dec(FIELD_EX32(info->hdm_capability,
                                         CXL_HDM_DECODER_CAPABILITY,
                                         DECODER_COUNT));
    if (info->decoder_count < 1 ||
        info->decoder_count > info->kernel->max_decoders) {
        error_setg(errp, "unsupported number of HDM decoders: %u (expected 1 "
                   "to %u)", info->decoder_count, info->kernel->max_decoders);
        return false;
    }
    if (d0 + cxl_hdm_length(info->decoder_count) >
        info->registers_offset + info->registers_size) {
        error_setg(errp, "%u HDM decoders do not fit the component registers",
                   info->decoder_count);
        return false;
    }
    if (!vfio_cxl_read_register(info, d0 + HDM_OFFSET(0_CTRL), &ctrl, errp) ||
        !vfio_cxl_read_register(info, d0 + HDM_OFFSET(0_BASE_LO), &base_lo,
                                errp) ||
        !vfio_cxl_read_register(info, d0 + HDM_OFFSET(0_BASE_HI), &base_hi,
                                errp) ||
        !vfio_cxl_read_register(info, d0 + HDM_OFFSET(0_SIZE_LO), &size_lo,
                                errp) ||
        !vfio_cxl_read_register(info, d0 + HDM_OFFSET(0_SIZE_HI), &size_hi,
                                errp)) {
        return false;
    }
    if (!info->committed ||
        !FIELD_EX32(ctrl, CXL_HDM_DECODER0_CTRL, COMMITTED)) {
        error_setg(errp, "host firmware did not commit the device's HDM "
                   "decoder");
        return false;
    }
    if (FIELD_EX32(ctrl, CXL_HDM_DECODER0_CTRL, IW)) {
        error_setg(errp, "the host interleaves the device's memory");
        return false;
    }
    size = size_lo | ((uint64_t)size_hi << 32);
    if (info->decoder_count == 1 && size != info->memory_size) {
        error_setg(errp, "the host's decoder maps 0x%" PRIx64 " bytes, but the "
                   "region has 0x%" PRIx64, size, info->memory_size);
        return false;
    }
    info->host_only = FIELD_EX32(ctrl, CXL_HDM_DECODER0_CTRL, TYPE);
    info->locked = FIELD_EX32(ctrl, CXL_HDM_DECODER0_CTRL, LOCK_ON_COMMIT) ||
                   (info->kernel->clears_lock && !base_lo && !base_hi);
    return true;
}

bool vfio_cxl_read_decoders(VFIOCXLInfo *info, Error **errp)
{
    int command = vfio_cxl_memory_space_enable(info);
    bool ok = vfio_cxl_find_capabilities(info, errp) &&
              vfio_cxl_check_decoders(info, errp) &&
              vfio_cxl_check_ras(info, errp);

    vfio_cxl_memory_space_restore(info, command);
    return ok;
}

bool vfio_cxl_read_committed(const VFIOCXLInfo *info, Error **errp)
{
    int command = vfio_cxl_memory_space_enable(info);
    uint32_t ctrl = 0;

    vfio_cxl_read_register(info, info->hdm_offset + HDM_OFFSET(0_CTRL), &ctrl,
                           errp);
    vfio_cxl_memory_space_restore(info, command);
    return FIELD_EX32(ctrl, CXL_HDM_DECODER0_CTRL, COMMITTED);
}
