/*
 * CXL Type-2 devices behind vfio-pci: QEMU's own access to their memory
 *
 * The guest's CPUs reach the memory through KVM or through TCG's TLB and do
 * not pass here. What does: DMA of emulated devices, monitor, debugger. QEMU
 * accesses no RAM device directly, so a check in the region's operations
 * covers them all.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"

#include "qapi/qapi-builtin-types.h"
#include "qapi/util.h"
#include "qemu/bswap.h"
#include "qemu/error-report.h"
#include "qemu/madvise.h"
#include "qemu/target-info.h"
#include "hw/core/qdev-properties.h"
#include "hw/xen/xen.h"
#include "system/kvm.h"
#include "system/qtest.h"
#include "system/tcg.h"
#include "cxl-host.h"
#include "cxl-internal.h"
#include "trace.h"

static bool vfio_cxl_access_accepts(void *opaque, hwaddr addr, unsigned size,
                                    bool is_write, MemTxAttrs attrs)
{
    VFIOCXL *cxl = opaque;
    bool open = !cxl->exited && !cxl->scratch && vfio_cxl_is_open(cxl);

    if (vfio_cxl_host_may_access(cxl->vdev->cxl.host_access,
                                 tcg_enabled() || qtest_enabled(), open)) {
        return true;
    }
    trace_vfio_cxl_access_refused(vfio_cxl_name(cxl), addr, size, is_write,
                                  open);
    if (!qatomic_xchg(&cxl->refusal_told, true)) {
        warn_report(VFIO_MSG_PREFIX "access by QEMU itself (DMA of an "
                    "emulated device, monitor or debugger) to device memory "
                    "refused: %s; more will not be reported",
                    vfio_cxl_name(cxl),
                    open ? "x-cxl-host-access=on would allow it"
                         : "it may not be touched now");
    }
    return false;
}

static uint64_t vfio_cxl_access_read(void *opaque, hwaddr addr, unsigned size)
{
    VFIOCXL *cxl = opaque;

    return ldn_he_p((uint8_t *)cxl->mmap + addr, size);
}

static void vfio_cxl_access_write(void *opaque, hwaddr addr, uint64_t data,
                                  unsigned size)
{
    VFIOCXL *cxl = opaque;

    stn_he_p((uint8_t *)cxl->mmap + addr, size, data);
}

static const MemoryRegionOps access_ops = {
    .read = vfio_cxl_access_read,
    .write = vfio_cxl_access_write,
    .endianness = HOST_BIG_ENDIAN ? DEVICE_BIG_ENDIAN : DEVICE_LITTLE_ENDIAN,
    .valid = {
        .min_access_size = 1,
        .max_access_size = 8,
        .unaligned = true,
        .accepts = vfio_cxl_access_accepts,
    },
    .impl = {
        .min_access_size = 1,
        .max_access_size = 8,
        .unaligned = true,
    },
};

void vfio_cxl_access_init(VFIOCXL *cxl)
{
    cxl->memory.ops = &access_ops;
    cxl->memory.opaque = cxl;
    vfio_cxl_access_advise(cxl);
}

void vfio_cxl_access_advise(VFIOCXL *cxl)
{
    /* The kernel sees to that for a device, but not where it is a file */
    qemu_madvise(cxl->mmap, cxl->info.memory_size, QEMU_MADV_DONTDUMP);
    if (!qtest_enabled()) {
        qemu_madvise(cxl->mmap, cxl->info.memory_size, QEMU_MADV_DONTFORK);
    }
}

bool vfio_cxl_access_check_host(Error **errp)
{
    if (!vfio_cxl_host_can_keep_off(xen_mode == XEN_EMULATE, errp)) {
        return false;
    }
    if (!kvm_enabled()) {
        return true;
    }
    return vfio_cxl_host_can_map(target_base_arm(),
                                 vfio_cxl_kvm_maps_cacheable(), errp);
}

static int vfio_cxl_get_host_access(Object *obj, Error **errp)
{
    return VFIO_PCI_DEVICE(obj)->cxl.host_access;
}

static void vfio_cxl_set_host_access(Object *obj, int value, Error **errp)
{
    if (DEVICE(obj)->realized) {
        qdev_prop_set_after_realize(DEVICE(obj), "x-cxl-host-access", errp);
        return;
    }
    VFIO_PCI_DEVICE(obj)->cxl.host_access = value;
}

void vfio_cxl_access_class_init(ObjectClass *klass)
{
    vfio_cxl_add_property(klass, "x-cxl-host-access", "OnOffAuto",
                          &OnOffAuto_lookup, vfio_cxl_get_host_access,
                          vfio_cxl_set_host_access,
                          "Let QEMU itself (emulated devices, monitor, "
                          "debugger) access device memory: never (off), while "
                          "it may be touched (on), or that only without KVM "
                          "(auto)");
}
