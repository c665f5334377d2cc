/*
 * CXL Type-2 devices behind vfio-pci: their component registers
 *
 * Laid over the BAR: QEMU's HDM decoders, and nothing of the hardware that a
 * guest must not touch.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/cxl/cxl.h"
#include "cxl-internal.h"
#include "trace.h"

/*
 * HDM decoders
 */
static bool hdm_check(void *opaque, unsigned n, const CXLHDMRange *range,
                      Error **errp)
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

static void hdm_update(void *opaque)
{
    vfio_cxl_update(opaque);
}

const CXLHDMOps vfio_cxl_hdm_ops = {
    .check = hdm_check,
    .update = hdm_update,
};

/*
 * The component registers. What is neither the HDM decoders nor the kernel's
 * copy of the capability array is hardware that a guest must not touch.
 */
static bool in_hdm(VFIOCXL *cxl, hwaddr addr)
{
    return !cxl->plain && addr >= cxl->info.hdm_offset &&
           addr - cxl->info.hdm_offset < cxl_hdm_length(&cxl->hdm);
}

static uint64_t overlay_read(void *opaque, hwaddr addr, unsigned size)
{
    const unsigned cm = CXL2_COMPONENT_IO_REGION_SIZE;
    VFIOCXL *cxl = opaque;
    uint64_t value = 0;

    /* A vCPU may have waited for the BQL while the device was unplugged */
    if (cxl->exited) {
        return 0;
    }
    addr += cxl->overlay_start;
    if (in_hdm(cxl, addr)) {
        value = cxl_hdm_read(&cxl->hdm, addr - cxl->info.hdm_offset, size);
    } else if (!cxl->plain && addr >= cm &&
               addr + size <= cxl->info.hdm_offset) {
        value = ldn_le_p(cxl->array + addr - cm, size);
    }
    trace_vfio_cxl_read(vfio_cxl_name(cxl), addr, size, value);
    return value;
}

static void overlay_write(void *opaque, hwaddr addr, uint64_t value,
                          unsigned size)
{
    VFIOCXL *cxl = opaque;

    if (cxl->exited) {
        return;
    }
    addr += cxl->overlay_start;
    trace_vfio_cxl_write(vfio_cxl_name(cxl), addr, size, value);
    if (in_hdm(cxl, addr)) {
        cxl_hdm_write(&cxl->hdm, addr - cxl->info.hdm_offset, value, size);
    }
}

static const MemoryRegionOps overlay_ops = {
    .read = overlay_read,
    .write = overlay_write,
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

/* Copy what the kernel has of the registers before the HDM decoders */
bool vfio_cxl_read_array(VFIOCXL *cxl, Error **errp)
{
    const unsigned cm = CXL2_COMPONENT_IO_REGION_SIZE;
    unsigned length = cxl->info.hdm_offset - cm;

    cxl->array = g_malloc0(length);
    for (unsigned i = 0; i < length; i += 4) {
        uint32_t value;

        if (!vfio_cxl_read_register(&cxl->vdev->vbasedev, &cxl->info, cm + i,
                                    &value, errp)) {
            return false;
        }
        stl_le_p(cxl->array + i, value);
    }
    return true;
}

void vfio_cxl_bar_register(VFIOPCIDevice *vdev, int nr)
{
    VFIOCXL *cxl = vdev->cxl.cxl;
    uint64_t size = CXL2_COMPONENT_BLOCK_SIZE;

    if (!cxl || nr != cxl->bar || !vdev->bars[nr].size) {
        return;
    }
    if (!cxl->plain && !cxl->info.kernel->traps_block) {
        cxl->overlay_start = cxl->info.hdm_offset;
        size = cxl_hdm_length(&cxl->hdm);
    }
    memory_region_init_io(&cxl->overlay, OBJECT(vdev), &overlay_ops, cxl,
                          "cxl-component-registers", size);
    memory_region_add_subregion_overlap(vdev->bars[nr].mr,
                                        cxl->block + cxl->overlay_start,
                                        &cxl->overlay, 1);
    trace_vfio_cxl_overlay(vfio_cxl_name(cxl), nr,
                           cxl->block + cxl->overlay_start, size, cxl->plain);
}
