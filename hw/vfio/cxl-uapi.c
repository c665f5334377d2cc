/*
 * VFIO's user interface for CXL Type-2 devices, whatever the kernel
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/vfio.h>

#include "qapi/error.h"
#include "qemu/range.h"
#include "qemu/units.h"
#include "hw/cxl/cxl.h"
#include "hw/cxl/cxl_hdm.h"
#include "hw/pci/pci.h"
#include "hw/core/registerfields.h"
#include "cxl-dvsec.h"
#include "cxl-uapi.h"
#include "info-cap.h"
#include "trace.h"
#include "vfio-helpers.h"

#define HDM_OFFSET(reg) (A_CXL_HDM_DECODER##reg - CXL_HDM_REGISTERS_OFFSET)

#define TYPE_1E98 (VFIO_REGION_TYPE_PCI_VENDOR_TYPE | CXL_VENDOR_ID)

static const VFIOCXLKernel kernel_v2 = {
    .name = "v2",
    .region_type = TYPE_1E98,
    .max_decoders = HDM_DECODE_MAX,
    .traps_block = true,
    .wants_gpa = true,
    .rereads_decoder = true,
    .writes_back = true,
    .cxl_reset = VFIO_CXL_RESET_BY_CONFIG,
};

static const VFIOCXLKernel kernel_v3 = {
    .name = "v3",
    .region_type = TYPE_1E98,
    .max_decoders = 1,
    .traps_block = true,
};

static const VFIOCXLKernel kernel_v4 = {
    .name = "v4",
    .region_type = VFIO_REGION_TYPE_CXL,
    .max_decoders = 1,
    .memory_space_gate = true,
    .rereads_decoder = true,
    .cxl_reset = VFIO_CXL_RESET_BY_CONFIG,
};

static const VFIOCXLKernel kernel_v5 = {
    .name = "v5",
    .region_type = TYPE_1E98,
    .max_decoders = 1,
    .memory_space_gate = true,
    .rereads_decoder = true,
    .cxl_reset = VFIO_CXL_RESET_BY_IOCTL,
    .reset_clears = true,
};

static const VFIOCXLKernel kernel_v6 = {
    .name = "v6",
    .region_type = TYPE_1E98,
    .max_decoders = 1,
    .rereads_decoder = true,
    .cxl_reset = VFIO_CXL_RESET_BY_IOCTL,
    .reset_clears = true,
    .memory_returns_late = true,
};

static bool vfio_cxl_read_region(VFIODevice *vbasedev, unsigned region,
                                 off_t offset, unsigned size, void *data)
{
    return vbasedev->io_ops->region_read(vbasedev, region, offset, size,
                                         data) == size;
}

static bool vfio_cxl_read_config_dword(VFIODevice *vbasedev, unsigned offset,
                                       uint32_t *value)
{
    if (!vfio_cxl_read_region(vbasedev, VFIO_PCI_CONFIG_REGION_INDEX, offset,
                              sizeof(*value), value)) {
        return false;
    }
    *value = le32_to_cpu(*value);
    return true;
}

/* Offset and @length of the CXL DVSEC @id in config space; 0 if none */
static uint16_t vfio_cxl_find_dvsec(VFIODevice *vbasedev, uint16_t id,
                                    unsigned *length)
{
    uint16_t pos = PCI_CONFIG_SPACE_SIZE;
    uint32_t header, dvsec1, dvsec2;

    /* No more capabilities than fit: the chain may be a loop */
    for (int i = 0; i < PCIE_CONFIG_SPACE_SIZE / 8 && pos; i++) {
        if (pos < PCI_CONFIG_SPACE_SIZE || !QEMU_IS_ALIGNED(pos, 4) ||
            pos > PCIE_CONFIG_SPACE_SIZE - sizeof(DVSECHeader) ||
            !vfio_cxl_read_config_dword(vbasedev, pos, &header)) {
            return 0;
        }
        if (PCI_EXT_CAP_ID(header) == PCI_EXT_CAP_ID_DVSEC &&
            vfio_cxl_read_config_dword(vbasedev, pos + PCI_DVSEC_HEADER1,
                                       &dvsec1) &&
            vfio_cxl_read_config_dword(vbasedev, pos + PCI_DVSEC_HEADER2,
                                       &dvsec2) &&
            PCI_DVSEC_HEADER1_VID(dvsec1) == CXL_VENDOR_ID &&
            PCI_DVSEC_HEADER2_ID(dvsec2) == id) {
            *length = PCI_DVSEC_HEADER1_LEN(dvsec1);
            return *length <= PCIE_CONFIG_SPACE_SIZE - pos ? pos : 0;
        }
        pos = PCI_EXT_CAP_NEXT(header);
    }
    return 0;
}

bool vfio_cxl_find_block(VFIODevice *vbasedev, unsigned *bar,
                         uint64_t *offset)
{
    unsigned length, first = offsetof(CXLDVSECRegisterLocator, reg0_base_lo);
    uint16_t pos = vfio_cxl_find_dvsec(vbasedev, REG_LOC_DVSEC, &length);
    uint32_t lo, hi;

    if (!pos) {
        return false;
    }
    for (unsigned i = first; i + 8 <= length; i += 8) {
        if (vfio_cxl_read_config_dword(vbasedev, pos + i, &lo) &&
            vfio_cxl_read_config_dword(vbasedev, pos + i + 4, &hi) &&
            (lo & 0xff00) == RBI_COMPONENT_REG && (lo & 7) < PCI_ROM_SLOT) {
            *bar = lo & 7;
            *offset = ((uint64_t)hi << 32) | (lo & 0xffff0000);
            return true;
        }
    }
    return false;
}

/* A capability that can be read as a struct: kernels with CXL align to 8 */
static const void *vfio_cxl_find_cap(const void *reply, uint32_t size,
                                     uint32_t offset, uint16_t id,
                                     uint32_t *length)
{
    const void *cap = vfio_info_find_cap(reply, size, offset, id, length);

    return QEMU_PTR_IS_ALIGNED(cap, 8) ? cap : NULL;
}

static const void *vfio_cxl_find_region_cap(const struct vfio_region_info *info,
                                            uint16_t id, uint32_t *length)
{
    if (!(info->flags & VFIO_REGION_INFO_FLAG_CAPS)) {
        return NULL;
    }
    return vfio_cxl_find_cap(info, info->argsz, info->cap_offset, id, length);
}

/* Type and subtype of a device-specific region; NULL if it has none */
static const struct vfio_region_info_cap_type *vfio_cxl_get_type(
    const struct vfio_region_info *info)
{
    const struct vfio_region_info_cap_type *type;
    uint32_t length;

    type = vfio_cxl_find_region_cap(info, VFIO_REGION_INFO_CAP_TYPE, &length);
    return type && length >= sizeof(*type) ? type : NULL;
}

/* A region of type CXL, by its index */
static const struct vfio_region_info *vfio_cxl_get_region(VFIODevice *vbasedev,
                                                          unsigned index,
                                                          uint32_t region_type,
                                                          uint32_t subtype,
                                                          Error **errp)
{
    const struct vfio_region_info_cap_type *type;
    struct vfio_region_info *info = NULL;
    int ret;

    if (index < VFIO_PCI_NUM_REGIONS ||
        index >= vbasedev->num_initial_regions) {
        error_setg(errp, "CXL region index %u out of range (%u regions)",
                   index, vbasedev->num_initial_regions);
        return NULL;
    }
    ret = vfio_device_get_region_info(vbasedev, index, &info);
    if (ret) {
        error_setg_errno(errp, -ret, "cannot get info of CXL region %u",
                         index);
        return NULL;
    }
    type = vfio_cxl_get_type(info);
    if (!type || type->type != region_type || type->subtype != subtype) {
        error_setg(errp, "region %u is not of the CXL type %u", index,
                   subtype);
        return NULL;
    }
    return info;
}

static bool vfio_cxl_get_memory(VFIODevice *vbasedev, VFIOCXLInfo *info,
                                Error **errp)
{
    const uint32_t need = VFIO_REGION_INFO_FLAG_READ |
                          VFIO_REGION_INFO_FLAG_WRITE |
                          VFIO_REGION_INFO_FLAG_MMAP;
    const struct vfio_region_info *region;

    region = vfio_cxl_get_region(vbasedev, info->memory_region,
                                 info->kernel->region_type,
                                 VFIO_REGION_SUBTYPE_CXL_MEM, errp);
    if (!region) {
        return false;
    }
    if ((region->flags & need) != need) {
        error_setg(errp, "the kernel does not let the device's memory be "
                   "mapped (region flags 0x%x)", region->flags);
        return false;
    }
    if (!region->size || !QEMU_IS_ALIGNED(region->size, CXL_HDM_ALIGN)) {
        error_setg(errp, "device memory of 0x%" PRIx64 " bytes is not a "
                   "multiple of 256 MiB", (uint64_t)region->size);
        return false;
    }
    info->memory_size = region->size;
    return true;
}

static bool vfio_cxl_get_registers(VFIODevice *vbasedev, VFIOCXLInfo *info,
                                   Error **errp)
{
    const struct vfio_region_info *region;

    region = vfio_cxl_get_region(vbasedev, info->registers_region,
                                 info->kernel->region_type,
                                 VFIO_REGION_SUBTYPE_CXL_COMP_REGS, errp);
    if (!region) {
        return false;
    }
    if (!region->size ||
        info->registers_offset > CXL2_COMPONENT_BLOCK_SIZE ||
        region->size > CXL2_COMPONENT_BLOCK_SIZE - info->registers_offset) {
        error_setg(errp, "component register region has invalid size 0x%"
                   PRIx64, (uint64_t)region->size);
        return false;
    }
    info->registers_size = region->size;
    return true;
}

bool vfio_cxl_read_register(VFIODevice *vbasedev, const VFIOCXLInfo *info,
                            unsigned offset, uint32_t *value, Error **errp)
{
    bool ok;

    /* One dword a call: some kernels accept nothing else */
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

/* The command register, little-endian as these two have it */
static bool vfio_cxl_read_command(VFIODevice *vbasedev, uint16_t *command)
{
    return vfio_cxl_read_region(vbasedev, VFIO_PCI_CONFIG_REGION_INDEX,
                                PCI_COMMAND, sizeof(*command), command);
}

static void vfio_cxl_write_command(VFIODevice *vbasedev, uint16_t command)
{
    vbasedev->io_ops->region_write(vbasedev, VFIO_PCI_CONFIG_REGION_INDEX,
                                   PCI_COMMAND, sizeof(command), &command,
                                   false);
}

/*
 * Where registers are the hardware's, they answer only while Memory Space is
 * enabled. Returns the command register to be put back, or -1.
 */
static int vfio_cxl_enable_memory_space(VFIODevice *vbasedev,
                                        const VFIOCXLInfo *info)
{
    uint16_t command;

    if (info->kernel->traps_block ||
        !vfio_cxl_read_command(vbasedev, &command) ||
        le16_to_cpu(command) & PCI_COMMAND_MEMORY) {
        return -1;
    }
    vfio_cxl_write_command(vbasedev, command | cpu_to_le16(PCI_COMMAND_MEMORY));
    return command;
}

static void vfio_cxl_restore_memory_space(VFIODevice *vbasedev, int saved)
{
    if (saved >= 0) {
        vfio_cxl_write_command(vbasedev, saved);
    }
}

/* CXL r3.1 Section 8.2.4.20: bytes of the HDM Decoder Capability */
static unsigned vfio_cxl_hdm_length(const VFIOCXLInfo *info)
{
    return 0x10 + 0x20 * info->decoder_count;
}

/* Of the array that a guest sees: the header, and two entries */
#define ARRAY_LENGTH 12

/*
 * CXL r3.1 Section 8.2.4.1: walk the capability array to what a guest is to
 * see of it, the HDM decoders and RAS
 */
static bool vfio_cxl_find_capabilities(VFIODevice *vbasedev, VFIOCXLInfo *info,
                                       Error **errp)
{
    const unsigned cm = CXL2_COMPONENT_IO_REGION_SIZE;
    uint32_t value;
    unsigned count;

    if (!vfio_cxl_read_register(vbasedev, info, cm, &value, errp)) {
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

        if (!vfio_cxl_read_register(vbasedev, info, cm + 4 * i, &value,
                                    errp)) {
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
        error_setg(errp, "no HDM Decoder Capability in the array of %u",
                   count);
        return false;
    }
    if (info->hdm_offset < cm + ARRAY_LENGTH) {
        error_setg(errp, "HDM decoders at 0x%x, inside the capability array",
                   info->hdm_offset);
        return false;
    }
    if (!info->kernel->traps_block &&
        info->hdm_offset != info->registers_offset) {
        error_setg(errp, "HDM decoders at 0x%x, the kernel says 0x%x",
                   info->hdm_offset, info->registers_offset);
        return false;
    }
    return true;
}

/* The guest sees RAS where the device has it, so it must not be among others */
static bool vfio_cxl_check_ras(const VFIOCXLInfo *info, Error **errp)
{
    const unsigned cm = CXL2_COMPONENT_IO_REGION_SIZE;

    if (!info->ras_header ||
        (info->ras_offset >= cm + ARRAY_LENGTH &&
         QEMU_IS_ALIGNED(info->ras_offset, 4) &&
         info->ras_offset + CXL_RAS_REGISTERS_SIZE <=
         cm + CXL2_COMPONENT_CM_REGION_SIZE &&
         !ranges_overlap(info->ras_offset, CXL_RAS_REGISTERS_SIZE,
                         info->hdm_offset, vfio_cxl_hdm_length(info)))) {
        return true;
    }
    error_setg(errp, "RAS Capability at 0x%x, where other component registers "
               "or none are", info->ras_offset);
    return false;
}

static bool vfio_cxl_check_decoders(VFIODevice *vbasedev, VFIOCXLInfo *info,
                                    Error **errp)
{
    uint32_t ctrl, base_lo, base_hi, size_lo, size_hi;
    unsigned d0 = info->hdm_offset;
    uint64_t size;

    if (!vfio_cxl_read_register(vbasedev, info, d0, &info->hdm_capability,
                                errp)) {
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
    if (d0 + vfio_cxl_hdm_length(info) >
        info->registers_offset + info->registers_size) {
        error_setg(errp, "%u HDM decoders do not fit the component registers",
                   info->decoder_count);
        return false;
    }
    if (!vfio_cxl_read_register(vbasedev, info, d0 + HDM_OFFSET(0_CTRL),
                                &ctrl, errp) ||
        !vfio_cxl_read_register(vbasedev, info, d0 + HDM_OFFSET(0_BASE_LO),
                                &base_lo, errp) ||
        !vfio_cxl_read_register(vbasedev, info, d0 + HDM_OFFSET(0_BASE_HI),
                                &base_hi, errp) ||
        !vfio_cxl_read_register(vbasedev, info, d0 + HDM_OFFSET(0_SIZE_LO),
                                &size_lo, errp) ||
        !vfio_cxl_read_register(vbasedev, info, d0 + HDM_OFFSET(0_SIZE_HI),
                                &size_hi, errp)) {
        return false;
    }
    if (!info->committed ||
        !FIELD_EX32(ctrl, CXL_HDM_DECODER0_CTRL, COMMITTED)) {
        error_setg(errp, "the host's firmware did not commit its HDM decoder");
        return false;
    }
    if (FIELD_EX32(ctrl, CXL_HDM_DECODER0_CTRL, IW)) {
        error_setg(errp, "the host interleaves its memory");
        return false;
    }
    size = size_lo | ((uint64_t)size_hi << 32);
    if (info->decoder_count == 1 && size != info->memory_size) {
        error_setg(errp, "the decoder maps 0x%" PRIx64 " bytes, the region "
                   "has 0x%" PRIx64, size, info->memory_size);
        return false;
    }
    info->host_only = FIELD_EX32(ctrl, CXL_HDM_DECODER0_CTRL, TYPE);
    info->locked = FIELD_EX32(ctrl, CXL_HDM_DECODER0_CTRL, LOCK_ON_COMMIT) ||
                   (info->kernel->wants_gpa && !base_lo && !base_hi);
    return true;
}

/* CXL r3.1 Section 8.1.3: the device must say that it has CXL.mem */
static bool vfio_cxl_check_dvsec(VFIODevice *vbasedev, Error **errp)
{
    unsigned length;
    uint16_t pos = vfio_cxl_find_dvsec(vbasedev, PCIE_CXL_DEVICE_DVSEC,
                                       &length);
    uint32_t cap;

    if (!pos || length < offsetof(CXLDVSECDevice, cap3) ||
        !vfio_cxl_read_config_dword(vbasedev, pos + PCI_DVSEC_HEADER2, &cap)) {
        error_setg(errp, "it has no CXL Device DVSEC");
        return false;
    }
    /* The capability register is the upper half of this dword */
    if (!(cap & (1 << (16 + 2)))) {
        error_setg(errp, "its CXL Device DVSEC says that it has no CXL.mem");
        return false;
    }
    return true;
}

/* The component register block must be where the device itself says */
static bool vfio_cxl_check_block(VFIODevice *vbasedev, const VFIOCXLInfo *info,
                                 Error **errp)
{
    uint64_t block;
    unsigned bar;

    if (!vfio_cxl_find_block(vbasedev, &bar, &block) || bar != info->bar ||
        block != info->block) {
        error_setg(errp, "component registers at BAR %u + 0x%" PRIx64
                   ", where the Register Locator has none", info->bar,
                   info->block);
        return false;
    }
    return true;
}

/* The part of the BAR that is not the guest's must not be mapped */
static bool vfio_cxl_check_bar(VFIODevice *vbasedev, VFIOCXLInfo *info,
                               Error **errp)
{
    const struct vfio_region_info_cap_sparse_mmap *sparse;
    struct vfio_region_info *region = NULL;
    uint64_t hole = info->block, hole_size = CXL2_COMPONENT_BLOCK_SIZE;
    uint64_t end = 0;
    uint32_t length;
    int ret;

    if (!info->kernel->traps_block) {
        hole += info->registers_offset;
        hole_size = info->registers_size;
    }
    ret = vfio_device_get_region_info(vbasedev, info->bar, &region);
    if (ret) {
        error_setg_errno(errp, -ret, "cannot get info of BAR %u", info->bar);
        return false;
    }
    if (info->block > region->size ||
        CXL2_COMPONENT_BLOCK_SIZE > region->size - info->block) {
        error_setg(errp, "component registers at 0x%" PRIx64 " do not fit "
                   "BAR %u", info->block, info->bar);
        return false;
    }
    if (!(region->flags & VFIO_REGION_INFO_FLAG_MMAP)) {
        return true;
    }
    sparse = vfio_cxl_find_region_cap(region, VFIO_REGION_INFO_CAP_SPARSE_MMAP,
                                      &length);
    if (!sparse || length < sizeof(*sparse) ||
        !vfio_info_sparse_fits(region, sparse)) {
        error_setg(errp, "BAR %u with component registers does not say which "
                   "parts can be mapped", info->bar);
        return false;
    }
    for (uint32_t i = 0; i < sparse->nr_areas; i++) {
        uint64_t at = sparse->areas[i].offset, size = sparse->areas[i].size;

        if (at < end ||
            !QEMU_IS_ALIGNED(at | size, qemu_real_host_page_size()) ||
            (size && ranges_overlap(at, size, hole, hole_size))) {
            error_setg(errp, "BAR %u cannot be mapped at 0x%" PRIx64
                       ", 0x%" PRIx64 " bytes", info->bar, at, size);
            return false;
        }
        end = at + size;
    }
    return true;
}

static void vfio_cxl_read_v2(VFIOCXLInfo *info,
                             const struct vfio_device_info_cap_cxl *cap)
{
    info->kernel = &kernel_v2;
    info->bar = cap->hdm_regs_bar_index;
    info->block = cap->hdm_regs_offset - CXL2_COMPONENT_IO_REGION_SIZE;
    info->memory_region = cap->dpa_region_index;
    info->registers_region = cap->comp_regs_region_index;
    info->registers_offset = CXL2_COMPONENT_IO_REGION_SIZE;
    info->committed = cap->flags & VFIO_CXL_CAP_FIRMWARE_COMMITTED;
}

static void vfio_cxl_read_v3(VFIOCXLInfo *info,
                             const struct vfio_device_info_cap_cxl_v3 *cap)
{
    info->kernel = &kernel_v3;
    info->bar = cap->comp_reg_bar;
    info->block = cap->comp_reg_offset;
    info->memory_region = cap->hdm_region_idx;
    info->registers_region = cap->comp_reg_region_idx;
    info->registers_offset = 0;
    info->committed = cap->flags & VFIO_CXL_CAP_HOST_FIRMWARE_COMMITTED;
}

/* Do these bytes make sense as the second form of the capability? */
static bool vfio_cxl_looks_like_v2(const struct vfio_device_info_cap_cxl *cap,
                                   uint32_t length)
{
    const uint32_t flags = VFIO_CXL_CAP_FIRMWARE_COMMITTED |
                           VFIO_CXL_CAP_CACHE_CAPABLE;

    return length >= sizeof(*cap) && !(cap->flags & ~flags) &&
           !cap->reserved[0] && !cap->reserved[1] && !cap->reserved[2] &&
           cap->hdm_regs_offset >= CXL2_COMPONENT_IO_REGION_SIZE &&
           cap->dpa_region_index >= VFIO_PCI_NUM_REGIONS &&
           cap->comp_regs_region_index >= VFIO_PCI_NUM_REGIONS;
}

/* The same for v3, which has a region index where v2 has flags */
static bool vfio_cxl_looks_like_v3(
    const struct vfio_device_info_cap_cxl_v3 *cap, uint32_t length)
{
    return length >= sizeof(*cap) &&
           cap->hdm_region_idx >= VFIO_PCI_NUM_REGIONS &&
           cap->comp_reg_region_idx >= VFIO_PCI_NUM_REGIONS &&
           cap->comp_reg_bar < PCI_ROM_SLOT &&
           cap->comp_reg_size == CXL2_COMPONENT_BLOCK_SIZE;
}

static bool vfio_cxl_read_device_cap(VFIOCXLInfo *info, const void *cap,
                                     uint32_t length, Error **errp)
{
    if (vfio_cxl_looks_like_v2(cap, length)) {
        vfio_cxl_read_v2(info, cap);
        return true;
    }
    if (vfio_cxl_looks_like_v3(cap, length)) {
        vfio_cxl_read_v3(info, cap);
        return true;
    }
    error_setg(errp, "the kernel describes the CXL device in a form that is "
               "not known (capability %d, %u bytes)",
               VFIO_DEVICE_INFO_CAP_CXL, length);
    return false;
}

/*
 * The capability of the registers' region that says where they are. No id has
 * been assigned to it: take the first that is above all known ids.
 */
static bool vfio_cxl_read_geometry(const struct vfio_region_info *region,
                                   unsigned *bar, uint64_t *offset)
{
    const struct vfio_region_info_cap_cxl_comp_regs *geometry;
    const struct vfio_info_cap_header *header;
    uint32_t at = region->cap_offset, length;

    do {
        header = vfio_info_next_cap(region, region->argsz, &at, &length);
    } while (header && header->id <= VFIO_REGION_INFO_CAP_NVLINK2_LNKSPD);
    if (!header || !QEMU_PTR_IS_ALIGNED(header, 8)) {
        return false;
    }
    geometry = container_of(header,
                            struct vfio_region_info_cap_cxl_comp_regs, header);
    if (length >= sizeof(*geometry)) {
        *bar = geometry->bar;
        *offset = geometry->offset;
        return true;
    }
    if (length >= endof(struct vfio_region_info_cap_cxl_comp_regs,
                        reserved)) {
        *bar = geometry->bar;
        *offset = geometry->reserved;
        return true;
    }
    return false;
}

/* Newer kernels: the regions say themselves what they are */
static bool vfio_cxl_read_regions(VFIODevice *vbasedev, VFIOCXLInfo *info,
                                  Error **errp)
{
    struct vfio_region_info *registers = NULL;
    unsigned bar, failed = 0;
    uint64_t offset = 0;
    int failure = 0;

    for (unsigned i = VFIO_PCI_NUM_REGIONS;
         i < vbasedev->num_initial_regions; i++) {
        const struct vfio_region_info_cap_type *type;
        struct vfio_region_info *region = NULL;
        int ret = vfio_device_get_region_info(vbasedev, i, &region);

        if (ret) {
            failed = failed ?: i;
            failure = failure ?: ret;
            continue;
        }
        type = vfio_cxl_get_type(region);
        if (!type || (type->type != VFIO_REGION_TYPE_CXL &&
                      type->type != TYPE_1E98)) {
            continue;
        }
        info->kernel = type->type == TYPE_1E98 ? &kernel_v5 : &kernel_v4;
        if (type->subtype == VFIO_REGION_SUBTYPE_CXL_MEM) {
            info->memory_region = i;
        } else if (type->subtype == VFIO_REGION_SUBTYPE_CXL_COMP_REGS) {
            info->registers_region = i;
            registers = region;
        }
    }
    if ((!registers || !info->memory_region) && failed) {
        error_setg_errno(errp, -failure, "cannot get info of CXL region %u",
                         failed);
        return false;
    }
    if (!registers || !info->memory_region) {
        error_setg(errp, "the kernel describes the CXL device in a form that "
                   "is not known (no capability %d, no regions for memory "
                   "and registers)", VFIO_DEVICE_INFO_CAP_CXL);
        return false;
    }
    if (!vfio_cxl_read_geometry(registers, &info->bar, &offset)) {
        error_setg(errp, "region %u does not say where in a BAR its registers "
                   "are", info->registers_region);
        return false;
    }
    if (!vfio_cxl_find_block(vbasedev, &bar, &info->block) ||
        bar != info->bar || offset < info->block ||
        offset - info->block >= CXL2_COMPONENT_BLOCK_SIZE) {
        error_setg(errp, "HDM decoders at BAR %u + 0x%" PRIx64
                   ", where the Register Locator has no component registers",
                   info->bar, offset);
        return false;
    }
    info->registers_offset = offset - info->block;
    /* These kernels offer only devices whose decoder is committed */
    info->committed = true;
    return true;
}

bool vfio_cxl_uapi_read(VFIODevice *vbasedev, VFIOCXLInfo *info,
                        Error **errp)
{
    g_autofree struct vfio_device_info *reply = NULL;
    const void *cap = NULL;
    uint32_t length = 0;
    int command;
    bool ok;

    memset(info, 0, sizeof(*info));
    reply = vfio_get_device_info(vbasedev->fd);
    if (!reply) {
        error_setg_errno(errp, errno, "cannot get device info");
        return false;
    }
    if (reply->flags & VFIO_DEVICE_FLAGS_CAPS) {
        cap = vfio_cxl_find_cap(reply, reply->argsz, reply->cap_offset,
                                VFIO_DEVICE_INFO_CAP_CXL, &length);
    }
    if (!(cap ? vfio_cxl_read_device_cap(info, cap, length, errp)
              : vfio_cxl_read_regions(vbasedev, info, errp))) {
        return false;
    }
    if (info->memory_region == info->registers_region) {
        error_setg(errp, "memory and registers are the same region");
        return false;
    }
    if (!vfio_cxl_get_memory(vbasedev, info, errp) ||
        !vfio_cxl_get_registers(vbasedev, info, errp) ||
        !vfio_cxl_check_dvsec(vbasedev, errp) ||
        !vfio_cxl_check_block(vbasedev, info, errp) ||
        !vfio_cxl_check_bar(vbasedev, info, errp)) {
        return false;
    }
    command = vfio_cxl_enable_memory_space(vbasedev, info);
    ok = vfio_cxl_find_capabilities(vbasedev, info, errp) &&
         vfio_cxl_check_decoders(vbasedev, info, errp) &&
         vfio_cxl_check_ras(info, errp);
    vfio_cxl_restore_memory_space(vbasedev, command);
    if (ok) {
        trace_vfio_cxl_uapi(vbasedev->name, info->kernel->name, info->bar,
                            info->block, info->hdm_offset,
                            info->decoder_count, info->memory_size,
                            info->locked);
    }
    return ok;
}

bool vfio_cxl_read_committed(VFIODevice *vbasedev, const VFIOCXLInfo *info,
                             Error **errp)
{
    int command = vfio_cxl_enable_memory_space(vbasedev, info);
    uint32_t ctrl = 0;

    vfio_cxl_read_register(vbasedev, info,
                           info->hdm_offset + HDM_OFFSET(0_CTRL), &ctrl, errp);
    vfio_cxl_restore_memory_space(vbasedev, command);
    return FIELD_EX32(ctrl, CXL_HDM_DECODER0_CTRL, COMMITTED);
}

/* DVSEC CXL Range 1 Size Low, 0 if it cannot be read */
static uint32_t vfio_cxl_read_size_low(VFIODevice *vbasedev)
{
    unsigned length;
    uint16_t pos = vfio_cxl_find_dvsec(vbasedev, PCIE_CXL_DEVICE_DVSEC,
                                       &length);
    uint32_t value;

    if (!pos ||
        !vfio_cxl_read_config_dword(vbasedev, pos + A_DVSEC_RANGE1_SIZE_LO,
                                    &value)) {
        return 0;
    }
    return value;
}

unsigned vfio_cxl_memory_active_timeout(VFIODevice *vbasedev)
{
    /* 1, 4, 16, 64 or 256 seconds */
    return 1 << MIN(8, 2 * FIELD_EX32(vfio_cxl_read_size_low(vbasedev),
                                      DVSEC_RANGE1_SIZE_LO, ACTIVE_TIMEOUT));
}

static bool vfio_cxl_memory_readable(VFIODevice *vbasedev,
                                     const VFIOCXLInfo *info)
{
    uint32_t value;

    return vbasedev->io_ops->region_read(vbasedev, info->memory_region, 0,
                                         sizeof(value), &value) > 0;
}

bool vfio_cxl_memory_active(VFIODevice *vbasedev, const VFIOCXLInfo *info)
{
    uint32_t size = vfio_cxl_read_size_low(vbasedev);

    return (!FIELD_EX32(size, DVSEC_RANGE1_SIZE_LO, INFO_VALID) ||
            FIELD_EX32(size, DVSEC_RANGE1_SIZE_LO, ACTIVE)) &&
           vfio_cxl_memory_readable(vbasedev, info);
}

/* Is it there while Memory Space is off? @command is what it is set to now */
static bool vfio_cxl_memory_stays(VFIODevice *vbasedev,
                                  const VFIOCXLInfo *info, uint16_t command)
{
    const uint16_t memory = cpu_to_le16(PCI_COMMAND_MEMORY);
    uint16_t now;
    bool stays;

    vfio_cxl_write_command(vbasedev, command & ~memory);
    stays = vfio_cxl_read_command(vbasedev, &now) && !(now & memory) &&
            vfio_cxl_memory_readable(vbasedev, info);
    vfio_cxl_write_command(vbasedev, command);
    return stays;
}

bool vfio_cxl_uapi_distinguish(VFIODevice *vbasedev, VFIOCXLInfo *info)
{
    uint16_t command;
    bool active;
    int saved;

    if (info->kernel != &kernel_v5) {
        return true;
    }
    saved = vfio_cxl_enable_memory_space(vbasedev, info);
    active = vfio_cxl_memory_active(vbasedev, info);
    if (active && vfio_cxl_read_command(vbasedev, &command) &&
        vfio_cxl_memory_stays(vbasedev, info, command)) {
        info->kernel = &kernel_v6;
    }
    vfio_cxl_restore_memory_space(vbasedev, saved);
    return active;
}

static bool vfio_cxl_write_decoder(VFIODevice *vbasedev,
                                   const VFIOCXLInfo *info, unsigned reg,
                                   uint32_t value)
{
    unsigned offset = info->hdm_offset + reg - info->registers_offset;

    value = cpu_to_le32(value);
    return vbasedev->io_ops->region_write(vbasedev, info->registers_region,
                                          offset, sizeof(value), &value,
                                          false) == sizeof(value);
}

bool vfio_cxl_write_view(VFIODevice *vbasedev, const VFIOCXLInfo *info,
                         uint64_t base, bool lock)
{
    uint32_t ctrl;

    if (!vfio_cxl_read_register(vbasedev, info,
                                info->hdm_offset + HDM_OFFSET(0_CTRL), &ctrl,
                                NULL)) {
        return false;
    }
    /* A locked view takes nothing but the end of the lock */
    if (FIELD_EX32(ctrl, CXL_HDM_DECODER0_CTRL, LOCK_ON_COMMIT)) {
        ctrl = FIELD_DP32(ctrl, CXL_HDM_DECODER0_CTRL, LOCK_ON_COMMIT, 0);
        if (!vfio_cxl_write_decoder(vbasedev, info, HDM_OFFSET(0_CTRL), ctrl)) {
            return false;
        }
    }
    if (!vfio_cxl_write_decoder(vbasedev, info, HDM_OFFSET(0_BASE_LO), base) ||
        !vfio_cxl_write_decoder(vbasedev, info, HDM_OFFSET(0_BASE_HI),
                                base >> 32)) {
        return false;
    }
    ctrl = FIELD_DP32(ctrl, CXL_HDM_DECODER0_CTRL, LOCK_ON_COMMIT, 1);
    return !lock || vfio_cxl_write_decoder(vbasedev, info, HDM_OFFSET(0_CTRL),
                                           ctrl);
}

bool vfio_cxl_read_view(VFIODevice *vbasedev, const VFIOCXLInfo *info,
                        uint64_t *base)
{
    uint32_t lo, hi;

    if (!vfio_cxl_read_register(vbasedev, info,
                                info->hdm_offset + HDM_OFFSET(0_BASE_LO), &lo,
                                NULL) ||
        !vfio_cxl_read_register(vbasedev, info,
                                info->hdm_offset + HDM_OFFSET(0_BASE_HI), &hi,
                                NULL)) {
        return false;
    }
    *base = lo | ((uint64_t)hi << 32);
    return true;
}
