/*
 * VFIO's user interface for CXL Type-2 devices, in all its generations
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
#include "info-cap.h"
#include "trace.h"
#include "vfio-helpers.h"

/* A capability to be read as a struct: kernels with CXL align it to 8 bytes */
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
static const struct vfio_region_info *vfio_cxl_get_region(
    const VFIOCXLInfo *cxl, unsigned index, uint32_t subtype, Error **errp)
{
    VFIODevice *vbasedev = cxl->vbasedev;
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
        error_setg_errno(errp, -ret, "cannot get info about CXL region %u",
                         index);
        return NULL;
    }
    type = vfio_cxl_get_type(info);
    if (!type || type->type != cxl->kernel->region_type ||
        type->subtype != subtype) {
        error_setg(errp, "region %u is not of CXL type %u", index,
                   subtype);
        return NULL;
    }
    return info;
}

static bool vfio_cxl_get_memory(VFIOCXLInfo *info, Error **errp)
{
    const uint32_t need = VFIO_REGION_INFO_FLAG_READ |
                          VFIO_REGION_INFO_FLAG_WRITE |
                          VFIO_REGION_INFO_FLAG_MMAP;
    const struct vfio_region_info *region;

    region = vfio_cxl_get_region(info, info->memory_region,
                                 VFIO_REGION_SUBTYPE_CXL_MEM, errp);
    if (!region) {
        return false;
    }
    if ((region->flags & need) != need) {
        error_setg(errp, "the kernel does not allow device memory to be "
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

static bool vfio_cxl_get_registers(VFIOCXLInfo *info, Error **errp)
{
    const struct vfio_region_info *region;

    region = vfio_cxl_get_region(info, info->registers_region,
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

/* CXL r3.1 Section 8.1.3: the device must advertise CXL.mem */
static bool vfio_cxl_check_dvsec(const VFIOCXLInfo *info, Error **errp)
{
    if (!info->dvsecs->device) {
        error_setg(errp, "device has no CXL Device DVSEC");
        return false;
    }
    if (!vfio_cxl_dvsec_has_mem(info->dvsecs)) {
        error_setg(errp, "CXL Device DVSEC does not advertise CXL.mem");
        return false;
    }
    return true;
}

/* The component register block must be where the device itself says */
static bool vfio_cxl_check_block(const VFIOCXLInfo *info, Error **errp)
{
    uint64_t block;
    unsigned bar;

    if (!vfio_cxl_dvsec_find_block(info->dvsecs, &bar, &block) ||
        bar != info->bar || block != info->block) {
        error_setg(errp, "component registers at BAR %u + 0x%" PRIx64
                   ", but the Register Locator has none there",
                   info->bar, info->block);
        return false;
    }
    return true;
}

/* The part of the BAR that is reserved for the host must not be mapped */
static bool vfio_cxl_check_bar(const VFIOCXLInfo *info, Error **errp)
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
    ret = vfio_device_get_region_info(info->vbasedev, info->bar, &region);
    if (ret) {
        error_setg_errno(errp, -ret, "cannot get info about BAR %u", info->bar);
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
        error_setg(errp, "the kernel does not report which parts of BAR %u, "
                   "with component registers, can be mapped", info->bar);
        return false;
    }
    for (uint32_t i = 0; i < sparse->nr_areas; i++) {
        uint64_t at = sparse->areas[i].offset, size = sparse->areas[i].size;

        if (at < end ||
            !QEMU_IS_ALIGNED(at | size, qemu_real_host_page_size()) ||
            (size && ranges_overlap(at, size, hole, hole_size))) {
            error_setg(errp, "invalid mappable area in BAR %u at 0x%" PRIx64
                       ", 0x%" PRIx64 " bytes", info->bar, at, size);
            return false;
        }
        end = at + size;
    }
    return true;
}

typedef bool VFIOCXLKernelMatch(const VFIOCXLKernel *kernel, void *opaque);

/* The first generation, by name, that matches; NULL if none does */
static const VFIOCXLKernel *vfio_cxl_find_kernel(VFIOCXLKernelMatch *match,
                                                 void *opaque)
{
    g_autoptr(GSList) classes =
        object_class_get_list_sorted(TYPE_VFIO_CXL_KERNEL, true);

    for (GSList *l = classes; l; l = l->next) {
        const VFIOCXLKernel *kernel = VFIO_CXL_KERNEL_CLASS(l->data)->kernel;

        if (kernel && match(kernel, opaque)) {
            return kernel;
        }
    }
    return NULL;
}

typedef struct VFIOCXLCap {
    const void *cap;
    uint32_t length;
    VFIOCXLInfo *info;
} VFIOCXLCap;

static bool vfio_cxl_kernel_reads(const VFIOCXLKernel *kernel, void *opaque)
{
    VFIOCXLCap *c = opaque;

    return kernel->read_cap && kernel->read_cap(c->cap, c->length, c->info);
}

static bool vfio_cxl_read_device_cap(VFIOCXLInfo *info, const void *cap,
                                     uint32_t length, Error **errp)
{
    VFIOCXLCap opaque = { cap, length, info };

    info->kernel = vfio_cxl_find_kernel(vfio_cxl_kernel_reads, &opaque);
    if (!info->kernel) {
        error_setg(errp, "the kernel describes the CXL device in an unknown "
                   "form (capability %d, %u bytes)",
                   VFIO_DEVICE_INFO_CAP_CXL, length);
    }
    return info->kernel;
}

static bool vfio_cxl_kernel_has_type(const VFIOCXLKernel *kernel, void *opaque)
{
    uint32_t *region_type = opaque;

    return !kernel->read_cap && !kernel->is_this &&
           kernel->region_type == *region_type;
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

/* Newer kernels: the regions identify themselves */
static bool vfio_cxl_read_regions(VFIOCXLInfo *info, Error **errp)
{
    VFIODevice *vbasedev = info->vbasedev;
    struct vfio_region_info *registers = NULL;
    unsigned bar, failed = 0;
    uint64_t offset = 0;
    int failure = 0;

    for (unsigned i = VFIO_PCI_NUM_REGIONS;
         i < vbasedev->num_initial_regions; i++) {
        const struct vfio_region_info_cap_type *type;
        struct vfio_region_info *region = NULL;
        const VFIOCXLKernel *kernel;
        int ret = vfio_device_get_region_info(vbasedev, i, &region);

        if (ret) {
            failed = failed ?: i;
            failure = failure ?: ret;
            continue;
        }
        type = vfio_cxl_get_type(region);
        kernel = type ? vfio_cxl_find_kernel(vfio_cxl_kernel_has_type,
                                             (void *)&type->type) : NULL;
        if (!kernel) {
            continue;
        }
        info->kernel = kernel;
        if (type->subtype == VFIO_REGION_SUBTYPE_CXL_MEM) {
            info->memory_region = i;
        } else if (type->subtype == VFIO_REGION_SUBTYPE_CXL_COMP_REGS) {
            info->registers_region = i;
            registers = region;
        }
    }
    if ((!registers || !info->memory_region) && failed) {
        error_setg_errno(errp, -failure, "cannot get info about CXL region %u",
                         failed);
        return false;
    }
    if (!registers || !info->memory_region) {
        error_setg(errp, "the kernel describes the CXL device in an unknown "
                   "form (no capability %d, no regions for memory and "
                   "registers)", VFIO_DEVICE_INFO_CAP_CXL);
        return false;
    }
    if (!vfio_cxl_read_geometry(registers, &info->bar, &offset)) {
        error_setg(errp, "no capability of region %u locates its registers in "
                   "a BAR", info->registers_region);
        return false;
    }
    if (!vfio_cxl_dvsec_find_block(info->dvsecs, &bar, &info->block) ||
        bar != info->bar || offset < info->block ||
        offset - info->block >= CXL2_COMPONENT_BLOCK_SIZE) {
        error_setg(errp, "HDM decoders at BAR %u + 0x%" PRIx64
                   ", but the Register Locator has no component registers "
                   "there", info->bar, offset);
        return false;
    }
    info->registers_offset = offset - info->block;
    /* These kernels only offer devices with a committed decoder */
    info->committed = true;
    return true;
}

bool vfio_cxl_uapi_read(VFIODevice *vbasedev, const VFIOCXLDVSECSet *dvsecs,
                        VFIOCXLInfo *info, Error **errp)
{
    g_autofree struct vfio_device_info *reply = NULL;
    const void *cap = NULL;
    uint32_t length = 0;

    *info = (VFIOCXLInfo) { .vbasedev = vbasedev, .dvsecs = dvsecs };
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
              : vfio_cxl_read_regions(info, errp))) {
        return false;
    }
    if (info->memory_region == info->registers_region) {
        error_setg(errp, "memory and registers share the same region");
        return false;
    }
    if (!vfio_cxl_get_memory(info, errp) ||
        !vfio_cxl_get_registers(info, errp) ||
        !vfio_cxl_check_dvsec(info, errp) ||
        !vfio_cxl_check_block(info, errp) || !vfio_cxl_check_bar(info, errp)) {
        return false;
    }
    if (!vfio_cxl_read_decoders(info, errp)) {
        return false;
    }
    trace_vfio_cxl_uapi(vbasedev->name, info->kernel->name, info->bar,
                        info->block, info->hdm_offset, info->decoder_count,
                        info->memory_size, info->locked);
    return true;
}

typedef struct VFIOCXLGuess {
    const VFIOCXLInfo *info;
    bool known;
} VFIOCXLGuess;

static bool vfio_cxl_kernel_is_this(const VFIOCXLKernel *kernel, void *opaque)
{
    VFIOCXLGuess *guess = opaque;

    return kernel->is_this && !guess->info->kernel->read_cap &&
           kernel->region_type == guess->info->kernel->region_type &&
           kernel->is_this(guess->info, &guess->known);
}

bool vfio_cxl_uapi_distinguish(VFIOCXLInfo *info)
{
    VFIOCXLGuess guess = { info, true };
    const VFIOCXLKernel *kernel;

    kernel = vfio_cxl_find_kernel(vfio_cxl_kernel_is_this, &guess);
    if (kernel && guess.known) {
        info->kernel = kernel;
    }
    return guess.known;
}

void vfio_cxl_kernel_class_init(ObjectClass *klass, const void *data)
{
    VFIO_CXL_KERNEL_CLASS(klass)->kernel = data;
}

static const TypeInfo vfio_cxl_kernel_info = {
    .name = TYPE_VFIO_CXL_KERNEL,
    .parent = TYPE_OBJECT,
    .class_size = sizeof(VFIOCXLKernelClass),
    .abstract = true,
};

static void vfio_cxl_kernel_register_types(void)
{
    type_register_static(&vfio_cxl_kernel_info);
}

type_init(vfio_cxl_kernel_register_types)
