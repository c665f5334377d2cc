/*
 * CXL Type-2 devices behind vfio-pci: kernel interfaces that will not be merged
 * as they are
 *
 * A generation is one VFIOCXLKernel and whatever only that refers to.
 * docs/devel/vfio-cxl-kernels.rst says when each of them can be removed.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/vfio.h>

#include "qemu/units.h"
#include "hw/cxl/cxl.h"
#include "hw/pci/pci.h"
#include "cxl-internal.h"
#include "trace.h"

#define HDM_OFFSET(reg) (A_CXL_HDM_DECODER##reg - CXL_HDM_REGISTERS_OFFSET)

/*
 * v2 and v4: the kernel carries out a CXL reset when the guest's bit is written
 */
static bool vfio_cxl_write_control2(VFIOCXL *cxl, uint16_t value)
{
    bool ok = vfio_cxl_config_write(cxl->vdev,
                                    cxl->dvsecs.device + A_CXL_DVSEC_CTRL2,
                                    value);

    trace_vfio_cxl_doorbell(vfio_cxl_name(cxl), value, ok);
    return ok;
}

/* Status2, 0 if it cannot be read */
static uint16_t vfio_cxl_read_status2(VFIOCXL *cxl)
{
    uint32_t value;

    vfio_cxl_config_read(cxl->vdev,
                         cxl->dvsecs.device + A_CXL_DVSEC_STATUS2, 2, &value);
    return value;
}

static int vfio_cxl_config_reset(VFIOCXL *cxl, uint16_t control2)
{
    const uint16_t done = R_CXL_DVSEC_STATUS2_RST_DONE_MASK;
    const uint16_t error = R_CXL_DVSEC_STATUS2_RST_ERR_MASK;

    control2 |= R_CXL_DVSEC_CTRL2_INITIATE_RST_MASK;
    if (!vfio_cxl_write_control2(cxl, control2)) {
        return -EIO;
    }
    return (vfio_cxl_read_status2(cxl) & (done | error)) == done ? 0 : -EIO;
}

/*
 * v2: the kernel keeps a view of decoder 0 for its user, which clears LOCK and
 * the base of a locked decoder, and forwards cache control bits
 */

/* Base address for probing, which no guest has seen */
#define PROBE_BASE (256 * MiB)

/**
 * struct VFIOCXLV2 - the kernel's state as far as QEMU knows it
 * @known: @base and @lock are known to be the kernel's view
 * @lock: locked
 * @base: guest physical address
 * @probing: the next reset shows whether the view survives it
 * @keeps_view: the view survives a reset, which implies that the kernel also
 *              carries out a guest's CXL reset
 * @wrote_back: the guest has asked for a write-back since it last changed
 *              Disable Caching
 */
typedef struct VFIOCXLV2 {
    bool known;
    bool lock;
    uint64_t base;
    bool probing;
    bool keeps_view;
    bool wrote_back;
} VFIOCXLV2;

static void vfio_cxl_v2_init(VFIOCXL *cxl)
{
    cxl->kernel_state = g_new0(VFIOCXLV2, 1);
}

static bool vfio_cxl_v2_write_decoder(VFIOCXL *cxl, unsigned reg,
                                      uint32_t value)
{
    VFIODevice *vbasedev = &cxl->vdev->vbasedev;
    unsigned offset = cxl->info.hdm_offset + reg - cxl->info.registers_offset;

    value = cpu_to_le32(value);
    return vbasedev->io_ops->region_write(vbasedev, cxl->info.registers_region,
                                          offset, sizeof(value), &value,
                                          false) == sizeof(value);
}

static bool vfio_cxl_v2_write_view(VFIOCXL *cxl, uint64_t base, bool lock)
{
    uint32_t ctrl;

    if (!vfio_cxl_read_register(&cxl->info,
                                cxl->info.hdm_offset + HDM_OFFSET(0_CTRL),
                                &ctrl, NULL)) {
        return false;
    }
    /* A locked view accepts nothing but clearing the lock */
    if (FIELD_EX32(ctrl, CXL_HDM_DECODER0_CTRL, LOCK_ON_COMMIT)) {
        ctrl = FIELD_DP32(ctrl, CXL_HDM_DECODER0_CTRL, LOCK_ON_COMMIT, 0);
        if (!vfio_cxl_v2_write_decoder(cxl, HDM_OFFSET(0_CTRL), ctrl)) {
            return false;
        }
    }
    if (!vfio_cxl_v2_write_decoder(cxl, HDM_OFFSET(0_BASE_LO), base) ||
        !vfio_cxl_v2_write_decoder(cxl, HDM_OFFSET(0_BASE_HI), base >> 32)) {
        return false;
    }
    ctrl = FIELD_DP32(ctrl, CXL_HDM_DECODER0_CTRL, LOCK_ON_COMMIT, 1);
    return !lock || vfio_cxl_v2_write_decoder(cxl, HDM_OFFSET(0_CTRL), ctrl);
}

static bool vfio_cxl_v2_read_view(VFIOCXL *cxl, uint64_t *base)
{
    unsigned d0 = cxl->info.hdm_offset;
    uint32_t lo, hi;

    if (!vfio_cxl_read_register(&cxl->info, d0 + HDM_OFFSET(0_BASE_LO), &lo,
                                NULL) ||
        !vfio_cxl_read_register(&cxl->info, d0 + HDM_OFFSET(0_BASE_HI), &hi,
                                NULL)) {
        return false;
    }
    *base = lo | ((uint64_t)hi << 32);
    return true;
}

static void vfio_cxl_v2_update(VFIOCXL *cxl, uint64_t base)
{
    bool lock = cxl_hdm_is_locked(&cxl->hdm, 0);
    VFIOCXLV2 *v2 = cxl->kernel_state;

    if (cxl->blocked & VFIO_CXL_IN_RESET ||
        (v2->known && v2->base == base && v2->lock == lock)) {
        return;
    }
    v2->known = vfio_cxl_v2_write_view(cxl, base, lock);
    v2->base = base;
    v2->lock = lock;
    trace_vfio_cxl_view(vfio_cxl_name(cxl), base, lock, v2->known);
}

static void vfio_cxl_v2_changed(VFIOCXL *cxl)
{
    VFIOCXLV2 *v2 = cxl->kernel_state;

    v2->known = false;
}

/*
 * Two variants of v2 can be told apart only by whether the view survives a
 * reset.
 */
static void vfio_cxl_v2_reset_prepare(VFIOCXL *cxl)
{
    VFIOCXLV2 *v2 = cxl->kernel_state;

    v2->probing = !v2->keeps_view &&
                  vfio_cxl_v2_write_view(cxl, PROBE_BASE, false);
}

static void vfio_cxl_v2_reset_done(VFIOCXL *cxl)
{
    VFIOCXLV2 *v2 = cxl->kernel_state;
    uint64_t base;

    if (v2->probing && vfio_cxl_v2_read_view(cxl, &base)) {
        v2->keeps_view = base == PROBE_BASE;
        vfio_cxl_reset_offer(cxl);
    }
    v2->probing = false;
}

static bool vfio_cxl_v2_can_cxl_reset(VFIOCXL *cxl)
{
    VFIOCXLV2 *v2 = cxl->kernel_state;

    return v2->keeps_view;
}

static bool vfio_cxl_v2_caching_disabled(VFIOCXL *cxl)
{
    return vfio_cxl_dvsec_control2(&cxl->dvsecs) &
           R_CXL_DVSEC_CTRL2_DISABLE_CACHING_MASK;
}

/* The guest's Disable Caching, where the device can write back */
static uint16_t vfio_cxl_v2_caching(VFIOCXL *cxl)
{
    return vfio_cxl_dvsec_can_write_back(&cxl->dvsecs) &&
           vfio_cxl_v2_caching_disabled(cxl) ?
           R_CXL_DVSEC_CTRL2_DISABLE_CACHING_MASK : 0;
}

/*
 * Copy the guest's Disable Caching to the device. The kernel forwards it only
 * together with Initiate Cache Write Back and Invalidation, so each change
 * needs one.
 */
static void vfio_cxl_v2_set_caching(VFIOCXL *cxl)
{
    if (vfio_cxl_dvsec_can_write_back(&cxl->dvsecs)) {
        vfio_cxl_write_control2(cxl, R_CXL_DVSEC_CTRL2_INITIATE_WBI_MASK |
                                     vfio_cxl_v2_caching(cxl));
    }
}

/* Leave caching to the next user as a reset would */
static void vfio_cxl_v2_exit(VFIOCXL *cxl)
{
    if (vfio_cxl_dvsec_can_write_back(&cxl->dvsecs)) {
        vfio_cxl_write_control2(cxl, R_CXL_DVSEC_CTRL2_INITIATE_WBI_MASK);
    }
}

/* The kernel does not write back before it resets */
static void vfio_cxl_v2_flush_cache(VFIOCXL *cxl, int64_t deadline)
{
    bool done;

    if (!vfio_cxl_dvsec_can_write_back(&cxl->dvsecs)) {
        return;
    }
    vfio_cxl_write_control2(cxl, R_CXL_DVSEC_CTRL2_DISABLE_CACHING_MASK |
                                 R_CXL_DVSEC_CTRL2_INITIATE_WBI_MASK);
    do {
        done = vfio_cxl_read_status2(cxl) &
               R_CXL_DVSEC_STATUS2_CACHE_INVALID_MASK;
    } while (!done && vfio_cxl_reset_wait(deadline));
    trace_vfio_cxl_flush(vfio_cxl_name(cxl), done);
}

static int vfio_cxl_v2_cxl_reset(VFIOCXL *cxl)
{
    return vfio_cxl_config_reset(cxl, vfio_cxl_v2_caching(cxl));
}

static void vfio_cxl_v2_write_control2(VFIOCXL *cxl, uint16_t old,
                                       uint16_t doorbells)
{
    uint16_t changed = old ^ vfio_cxl_dvsec_control2(&cxl->dvsecs);
    uint16_t wbi = doorbells & R_CXL_DVSEC_CTRL2_INITIATE_WBI_MASK;
    VFIOCXLV2 *v2 = cxl->kernel_state;

    if (wbi || changed & R_CXL_DVSEC_CTRL2_DISABLE_CACHING_MASK) {
        vfio_cxl_v2_set_caching(cxl);
        /* The guest must not see bits that QEMU has added to its write */
        v2->wrote_back = wbi;
    }
}

static void vfio_cxl_v2_read_status2(VFIOCXL *cxl)
{
    VFIOCXLV2 *v2 = cxl->kernel_state;

    if (vfio_cxl_dvsec_can_write_back(&cxl->dvsecs)) {
        bool shown = vfio_cxl_v2_caching_disabled(cxl) && v2->wrote_back;

        vfio_cxl_dvsec_set_status2(&cxl->dvsecs,
                                   R_CXL_DVSEC_STATUS2_CACHE_INVALID_MASK,
                                   shown ? vfio_cxl_read_status2(cxl) : 0);
    }
}

/* Second form of VFIO_DEVICE_INFO_CAP_CXL */
struct vfio_device_info_cap_cxl {
    struct vfio_info_cap_header header;
    uint8_t hdm_regs_bar_index;
    uint8_t reserved[3];
    uint32_t flags;
#define VFIO_CXL_CAP_FIRMWARE_COMMITTED         (1 << 0)
#define VFIO_CXL_CAP_CACHE_CAPABLE              (1 << 1)
    uint64_t hdm_regs_offset;   /* of CXL.cache/mem registers in the BAR */
    uint32_t dpa_region_index;
    uint32_t comp_regs_region_index;
};

/* Check whether these bytes make sense as the second form of the capability */
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

static bool vfio_cxl_v2_read_cap(const void *data, uint32_t length,
                                 VFIOCXLInfo *info)
{
    const struct vfio_device_info_cap_cxl *cap = data;

    if (!vfio_cxl_looks_like_v2(cap, length)) {
        return false;
    }
    info->bar = cap->hdm_regs_bar_index;
    info->block = cap->hdm_regs_offset - CXL2_COMPONENT_IO_REGION_SIZE;
    info->memory_region = cap->dpa_region_index;
    info->registers_region = cap->comp_regs_region_index;
    info->registers_offset = CXL2_COMPONENT_IO_REGION_SIZE;
    info->committed = cap->flags & VFIO_CXL_CAP_FIRMWARE_COMMITTED;
    return true;
}

static const VFIOCXLKernel vfio_cxl_kernel_v2 = {
    .name = "v2",
    .region_type = VFIO_CXL_REGION_TYPE,
    .max_decoders = HDM_DECODE_MAX,
    .traps_block = true,
    .clears_lock = true,
    .rereads_decoder = true,
    .writes_back = true,
    .read_cap = vfio_cxl_v2_read_cap,
    .init = vfio_cxl_v2_init,
    .exit = vfio_cxl_v2_exit,
    .update = vfio_cxl_v2_update,
    .changed = vfio_cxl_v2_changed,
    .reset_prepare = vfio_cxl_v2_reset_prepare,
    .reset_done = vfio_cxl_v2_reset_done,
    .device_reset_prepare = vfio_cxl_v2_flush_cache,
    .device_reset_done = vfio_cxl_v2_set_caching,
    .cxl_reset = vfio_cxl_v2_cxl_reset,
    .can_cxl_reset = vfio_cxl_v2_can_cxl_reset,
    .write_control2 = vfio_cxl_v2_write_control2,
    .read_status2 = vfio_cxl_v2_read_status2,
};

/*
 * v3
 */

/* Third form of the capability. Later kernels have none. */
struct vfio_device_info_cap_cxl_v3 {
    struct vfio_info_cap_header header;
    uint32_t flags;
#define VFIO_CXL_CAP_HOST_FIRMWARE_COMMITTED    (1 << 0)
    uint32_t hdm_region_idx;
    uint32_t comp_reg_region_idx;
    uint32_t comp_reg_bar;
    uint32_t __resv;
    uint64_t comp_reg_offset;   /* of the component block in the BAR */
    uint64_t comp_reg_size;
};

/* Same for the third form, which has a region index where v2 has flags */
static bool vfio_cxl_looks_like_v3(
    const struct vfio_device_info_cap_cxl_v3 *cap, uint32_t length)
{
    return length >= sizeof(*cap) &&
           cap->hdm_region_idx >= VFIO_PCI_NUM_REGIONS &&
           cap->comp_reg_region_idx >= VFIO_PCI_NUM_REGIONS &&
           cap->comp_reg_bar < PCI_ROM_SLOT &&
           cap->comp_reg_size == CXL2_COMPONENT_BLOCK_SIZE;
}

static bool vfio_cxl_v3_read_cap(const void *data, uint32_t length,
                                 VFIOCXLInfo *info)
{
    const struct vfio_device_info_cap_cxl_v3 *cap = data;

    if (!vfio_cxl_looks_like_v3(cap, length)) {
        return false;
    }
    info->bar = cap->comp_reg_bar;
    info->block = cap->comp_reg_offset;
    info->memory_region = cap->hdm_region_idx;
    info->registers_region = cap->comp_reg_region_idx;
    info->registers_offset = 0;
    info->committed = cap->flags & VFIO_CXL_CAP_HOST_FIRMWARE_COMMITTED;
    return true;
}

static const VFIOCXLKernel vfio_cxl_kernel_v3 = {
    .name = "v3",
    .region_type = VFIO_CXL_REGION_TYPE,
    .max_decoders = 1,
    .traps_block = true,
    .read_cap = vfio_cxl_v3_read_cap,
};

/*
 * v4
 */
#define VFIO_REGION_TYPE_CXL 4

static int vfio_cxl_v4_cxl_reset(VFIOCXL *cxl)
{
    return vfio_cxl_config_reset(cxl, 0);
}

static const VFIOCXLKernel vfio_cxl_kernel_v4 = {
    .name = "v4",
    .region_type = VFIO_REGION_TYPE_CXL,
    .max_decoders = 1,
    .memory_space_gate = true,
    .rereads_decoder = true,
    .cxl_reset = vfio_cxl_v4_cxl_reset,
};

/*
 * v5: describes a device as v6 does, but takes the memory away while Memory
 * Space is off. Try to read some of it then: the kernel either reads or
 * refuses, and never touches memory that must not be accessed.
 */
static bool vfio_cxl_memory_goes(const VFIOCXLInfo *info, uint16_t command)
{
    VFIOPCIDevice *vdev = info->dvsecs->vdev;
    uint32_t now;
    bool stays;

    vfio_cxl_config_write(vdev, PCI_COMMAND, command & ~PCI_COMMAND_MEMORY);
    stays = vfio_cxl_config_read(vdev, PCI_COMMAND, 2, &now) &&
            !(now & PCI_COMMAND_MEMORY) && vfio_cxl_memory_readable(info);
    vfio_cxl_config_write(vdev, PCI_COMMAND, command);
    return !stays;
}

static bool vfio_cxl_v5_is_this(const VFIOCXLInfo *info, bool *known)
{
    int saved = vfio_cxl_memory_space_enable(info);
    uint32_t command;
    bool found;

    *known = vfio_cxl_memory_active(info);
    found = !*known ||
            !vfio_cxl_config_read(info->dvsecs->vdev, PCI_COMMAND, 2,
                                  &command) ||
            vfio_cxl_memory_goes(info, command);
    vfio_cxl_memory_space_restore(info, saved);
    return found;
}

static const VFIOCXLKernel vfio_cxl_kernel_v5 = {
    .name = "v5",
    .region_type = VFIO_CXL_REGION_TYPE,
    .max_decoders = 1,
    .memory_space_gate = true,
    .rereads_decoder = true,
    .reset_clears = true,
    .is_this = vfio_cxl_v5_is_this,
    .cxl_reset = vfio_cxl_device_reset,
};

static const TypeInfo vfio_cxl_compat_types[] = {
    VFIO_CXL_KERNEL_TYPE(v2),
    VFIO_CXL_KERNEL_TYPE(v3),
    VFIO_CXL_KERNEL_TYPE(v4),
    VFIO_CXL_KERNEL_TYPE(v5),
};

DEFINE_TYPES(vfio_cxl_compat_types)
