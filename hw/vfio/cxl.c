/*
 * CXL Type-2 devices behind vfio-pci
 *
 * The guest's view of the device's HDM decoders is QEMU's own, whatever the
 * kernel does with its copy: the kernel's interface is read once; later QEMU
 * only asks whether the physical decoder is committed. Commits move an alias of
 * the mapped memory into a CXL fixed memory window.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/vfio.h>

#include "qapi/error.h"
#include "qapi/qapi-builtin-types.h"
#include "qapi/util.h"
#include "qemu/error-report.h"
#include "hw/cxl/cxl.h"
#include "hw/pci/pci.h"
#include "hw/core/qdev-properties.h"
#include "migration/blocker.h"
#include "system/runstate.h"
#include "system/system.h"
#include "cxl-internal.h"
#include "trace.h"

/*
 * Endpoint of CXL routing
 */
static PCIDevice *vfio_cxl_endpoint_pci_device(CXLEndpoint *ep)
{
    return PCI_DEVICE(VFIO_CXL(ep)->vdev);
}

static void vfio_cxl_endpoint_get_info(CXLEndpoint *ep, CXLEndpointInfo *info)
{
    VFIOCXL *cxl = VFIO_CXL(ep);

    info->memory_size = cxl->info.memory_size;
    info->host_only = cxl->info.host_only;
    info->firmware_commits = cxl->firmware_commits;
    info->firmware_locks = cxl->firmware_commits && cxl->info.locked;
}

static bool vfio_cxl_endpoint_get_decoder(CXLEndpoint *ep, unsigned n,
                                          CXLHDMRange *range, bool *active)
{
    VFIOCXL *cxl = VFIO_CXL(ep);

    *active = cxl_hdm_get(&cxl->hdm, n, range);
    return cxl_hdm_is_committed(&cxl->hdm, n, range);
}

static MemoryRegion *vfio_cxl_endpoint_memory(CXLEndpoint *ep)
{
    VFIOCXL *cxl = VFIO_CXL(ep);

    return vfio_cxl_is_open(cxl) ? &cxl->memory.mmaps[0].mem : NULL;
}

static bool vfio_cxl_endpoint_firmware_commit(CXLEndpoint *ep, uint64_t base,
                                              Error **errp)
{
    VFIOCXL *cxl = VFIO_CXL(ep);

    if (cxl->blocked & VFIO_CXL_LOST) {
        return true; /* already reported */
    }
    if (!cxl_hdm_commit(&cxl->hdm, 0, base, cxl->info.memory_size,
                        cxl->info.locked, errp)) {
        error_prepend(errp, VFIO_MSG_PREFIX "firmware cannot commit the HDM "
                      "decoder: ", vfio_cxl_name(cxl));
        return false;
    }
    vfio_cxl_dvsec_enable_mem(&cxl->dvsecs);
    vfio_cxl_update(cxl);
    return true;
}

/*
 * Life cycle
 */

/*
 * No kernel can save the state of the device's memory and decoders. CPR is
 * blocked as well, because the new QEMU would reprogram a device that the
 * guest is using. As part of a failover pair the device is unplugged before
 * the VM is migrated, and the destination's is plugged when the state of
 * virtio-net is loaded.
 */
static bool vfio_cxl_block_migration(VFIOCXL *cxl, Error **errp)
{
    unsigned modes = BIT(MIG_MODE_CPR_REBOOT) | BIT(MIG_MODE_CPR_TRANSFER) |
                     BIT(MIG_MODE_CPR_EXEC);
    bool failover = PCI_DEVICE(cxl->vdev)->failover_pair_id;
    bool arrives = failover && DEVICE(cxl->vdev)->hotplugged;

    if (cxl->vdev->vbasedev.enable_migration == ON_OFF_AUTO_ON) {
        error_setg(errp, "enable-migration=on: device state cannot be saved");
        return false;
    }
    if (runstate_check(RUN_STATE_INMIGRATE) && !arrives) {
        error_setg(errp, "a CXL device cannot be present on the migration "
                   "destination: start without it, and hot-plug it once "
                   "migration has completed");
        return false;
    }
    if (!failover) {
        modes |= BIT(MIG_MODE_NORMAL);
    }
    error_setg(&cxl->migration_blocker, "%s: the state of a passed-through "
               "CXL device cannot be saved; unplug it first",
               vfio_cxl_name(cxl));
    return !migrate_add_blocker_modes(&cxl->migration_blocker, modes, errp);
}

bool vfio_cxl_blocks_migration(VFIOPCIDevice *vdev)
{
    return vdev->cxl.cxl;
}

static void vfio_cxl_kernel_exit(VFIOCXL *cxl)
{
    if (cxl->info.kernel->exit) {
        cxl->info.kernel->exit(cxl);
    }
}

static void vfio_cxl_qemu_exit(Notifier *notifier, void *data)
{
    vfio_cxl_kernel_exit(container_of(notifier, VFIOCXL, exit_notifier));
}

static bool vfio_cxl_realize_device(VFIOCXL *cxl, Error **errp)
{
    VfioCxlCommit commit = cxl->vdev->cxl.commit;

    if (!vfio_cxl_memory_await(cxl, errp) ||
        !vfio_cxl_block_migration(cxl, errp) ||
        !vfio_cxl_memory_init(cxl, errp)) {
        return false;
    }
    cxl->firmware_commits = commit == VFIO_CXL_COMMIT_AUTO ?
                            cxl->info.committed :
                            commit == VFIO_CXL_COMMIT_FIRMWARE;
    vfio_cxl_regs_init(cxl);
    if (cxl->info.kernel->init) {
        cxl->info.kernel->init(cxl);
    }
    cxl->exit_notifier.notify = vfio_cxl_qemu_exit;
    qemu_add_exit_notifier(&cxl->exit_notifier);

    /* Cold-plugged devices are checked together, when all windows are known */
    cxl_firmware_init();
    cxl_route_add(CXL_ENDPOINT(cxl));
    cxl->arriving = DEVICE(cxl->vdev)->hotplugged;
    return !DEVICE(cxl->vdev)->hotplugged ||
           cxl_firmware_check_endpoint(CXL_ENDPOINT(cxl), errp);
}

/*
 * Decide whether the guest gets a CXL device. If it gets a plain PCI device
 * instead, set @reason to why.
 */
static bool vfio_cxl_choose_mode(VFIOPCIDevice *vdev,
                                 const VFIOCXLDVSECSet *dvsecs,
                                 VFIOCXLInfo *info, char **reason, Error **errp)
{
    Error *err = NULL;

    if (vdev->cxl.mode == ON_OFF_AUTO_OFF) {
        *reason = g_strdup("x-cxl=off");
        return true;
    }
    if (!cxl_route_host_bridge(PCI_DEVICE(vdev))) {
        error_setg(&err, "device is not below a CXL root port (a cxl-rp of a "
                   "pxb-cxl)");
    } else if (!vdev->vbasedev.reset_works) {
        error_setg(&err, "the kernel cannot reset the device");
    } else if (vfio_cxl_uapi_read(&vdev->vbasedev, dvsecs, info, &err)) {
        return true;
    }
    if (vdev->cxl.mode == ON_OFF_AUTO_ON) {
        error_propagate_prepend(errp, err, "x-cxl=on: ");
        return false;
    }
    *reason = g_strdup(error_get_pretty(err));
    error_free(err);
    return true;
}

static bool vfio_cxl_realize_hidden(VFIOPCIDevice *vdev,
                                    const VFIOCXLDVSECSet *dvsecs,
                                    char *reason, Error **errp)
{
    vdev->cxl.hidden = vfio_cxl_hidden_new(vdev, dvsecs, reason, errp);
    if (vdev->cxl.hidden && vdev->cxl.mode == ON_OFF_AUTO_AUTO) {
        info_report(VFIO_MSG_PREFIX "CXL device used as plain PCI: %s",
                    vdev->vbasedev.name, reason);
    }
    return vdev->cxl.hidden;
}

bool vfio_cxl_realize(VFIOPCIDevice *vdev, Error **errp)
{
    ERRP_GUARD();
    VFIOCXLDVSECSet dvsecs;
    char *reason = NULL;
    VFIOCXLInfo info;
    VFIOCXL *cxl;

    if (!(vdev->vbasedev.flags & VFIO_DEVICE_FLAGS_CXL)) {
        if (vdev->cxl.mode == ON_OFF_AUTO_ON) {
            error_setg(errp, "x-cxl=on: the kernel does not offer CXL for "
                       "this device");
            return false;
        }
        return true;
    }
    if (!vfio_cxl_dvsec_find(vdev, &dvsecs, errp) ||
        !vfio_cxl_choose_mode(vdev, &dvsecs, &info, &reason, errp)) {
        return false;
    }
    if (reason) {
        return vfio_cxl_realize_hidden(vdev, &dvsecs, reason, errp);
    }
    cxl = VFIO_CXL(object_new(TYPE_VFIO_CXL));
    cxl->vdev = vdev;
    cxl->dvsecs = dvsecs;
    cxl->info = info;
    cxl->info.dvsecs = &cxl->dvsecs;
    vdev->cxl.cxl = cxl;
    object_property_add_child(OBJECT(vdev), "cxl", OBJECT(cxl));
    if (!vfio_cxl_realize_device(cxl, errp)) {
        error_prepend(errp, "CXL: ");
        return false;
    }
    return true;
}

void vfio_cxl_bar_register(VFIOPCIDevice *vdev, int nr)
{
    VFIOCXL *cxl = vdev->cxl.cxl;
    VFIOCXLHidden *hidden = vdev->cxl.hidden;

    if (cxl && nr == cxl->info.bar && vdev->bars[nr].size) {
        vfio_cxl_regs_lay(cxl);
    }
    if (hidden && nr == hidden->bar && vdev->bars[nr].size) {
        vfio_cxl_hidden_lay(hidden);
    }
}

bool vfio_cxl_hides_ext_cap(VFIOPCIDevice *vdev, uint16_t pos)
{
    VFIOCXLHidden *hidden = vdev->cxl.hidden;
    bool hides = hidden && vfio_cxl_dvsec_owns(&hidden->dvsecs, pos, 1);

    if (hides) {
        trace_vfio_add_ext_cap_dropped(vdev->vbasedev.name,
                                       PCI_EXT_CAP_ID_DVSEC, pos);
    }
    return hides;
}

void vfio_cxl_config_setup(VFIOPCIDevice *vdev)
{
    if (vdev->cxl.cxl) {
        vfio_cxl_config_take(vdev->cxl.cxl);
    }
    if (vdev->cxl.hidden) {
        vfio_cxl_hidden_config_take(vdev->cxl.hidden);
    }
}

void vfio_cxl_exit(VFIOPCIDevice *vdev)
{
    VFIOCXL *cxl = vdev->cxl.cxl;

    if (vdev->cxl.hidden) {
        vfio_cxl_hidden_exit(vdev->cxl.hidden);
    }
    if (!cxl || cxl->exited) {
        return;
    }
    cxl->exited = true;
    migrate_del_blocker(&cxl->migration_blocker);
    if (cxl->exit_notifier.notify) {
        qemu_remove_exit_notifier(&cxl->exit_notifier);
        vfio_cxl_kernel_exit(cxl);
    }
    cxl_route_remove(CXL_ENDPOINT(cxl));
    vfio_cxl_memory_exit(cxl);
    object_unparent(OBJECT(cxl));
    cxl_firmware_exit();
    if (memory_region_is_mapped(&cxl->overlay)) {
        memory_region_del_subregion(vdev->bars[cxl->info.bar].mr,
                                    &cxl->overlay);
    }
}

void vfio_cxl_finalize(VFIOPCIDevice *vdev)
{
    g_clear_pointer(&vdev->cxl.hidden, vfio_cxl_hidden_free);
    if (vdev->cxl.cxl) {
        object_unref(OBJECT(vdev->cxl.cxl));
        vdev->cxl.cxl = NULL;
    }
}

static int vfio_cxl_get_mode(Object *obj, Error **errp)
{
    return VFIO_PCI_DEVICE(obj)->cxl.mode;
}

static void vfio_cxl_set_mode(Object *obj, int value, Error **errp)
{
    if (DEVICE(obj)->realized) {
        qdev_prop_set_after_realize(DEVICE(obj), "x-cxl", errp);
        return;
    }
    VFIO_PCI_DEVICE(obj)->cxl.mode = value;
}

static int vfio_cxl_get_commit(Object *obj, Error **errp)
{
    return VFIO_PCI_DEVICE(obj)->cxl.commit;
}

static void vfio_cxl_set_commit(Object *obj, int value, Error **errp)
{
    if (DEVICE(obj)->realized) {
        qdev_prop_set_after_realize(DEVICE(obj), "x-cxl-commit", errp);
        return;
    }
    VFIO_PCI_DEVICE(obj)->cxl.commit = value;
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

/*
 * Not in vfio-pci's own list of properties, because a QEMU without CXL has none
 * of them.
 */
static void vfio_cxl_add_property(ObjectClass *klass, const char *name,
                                  const char *type, const QEnumLookup *lookup,
                                  int (*get)(Object *, Error **),
                                  void (*set)(Object *, int, Error **),
                                  const char *description)
{
    ObjectProperty *property;

    property = object_class_property_add_enum(klass, name, type, lookup, get,
                                              set);
    object_property_set_default_str(property, "auto");
    object_class_property_set_description(klass, name, description);
}

void vfio_cxl_class_init(ObjectClass *klass)
{
    vfio_cxl_add_property(klass, "x-cxl", "OnOffAuto", &OnOffAuto_lookup,
                          vfio_cxl_get_mode, vfio_cxl_set_mode,
                          "Use the device as a CXL device: where possible "
                          "(auto), always (on) or never (off)");
    vfio_cxl_add_property(klass, "x-cxl-commit", "VfioCxlCommit",
                          &VfioCxlCommit_lookup, vfio_cxl_get_commit,
                          vfio_cxl_set_commit,
                          "Who commits HDM decoder 0: firmware, the guest, or "
                          "firmware if the host's firmware did (auto)");
    vfio_cxl_add_property(klass, "x-cxl-host-access", "OnOffAuto",
                          &OnOffAuto_lookup, vfio_cxl_get_host_access,
                          vfio_cxl_set_host_access,
                          "Let QEMU itself (emulated devices, monitor, "
                          "debugger) access device memory: never (off), while "
                          "it is accessible (on), or the latter only without "
                          "KVM (auto)");
}

static void vfio_cxl_instance_finalize(Object *obj)
{
    VFIOCXL *cxl = VFIO_CXL(obj);

    vfio_region_finalize(&cxl->memory);
    g_free(cxl->kernel_state);
}

static void vfio_cxl_object_class_init(ObjectClass *klass, const void *data)
{
    CXLEndpointClass *epc = CXL_ENDPOINT_CLASS(klass);

    epc->pci_device = vfio_cxl_endpoint_pci_device;
    epc->get_info = vfio_cxl_endpoint_get_info;
    epc->get_decoder = vfio_cxl_endpoint_get_decoder;
    epc->memory = vfio_cxl_endpoint_memory;
    epc->firmware_commit = vfio_cxl_endpoint_firmware_commit;
    vfio_cxl_query_class_init(klass);
}

/* The generation that is most likely to be merged */
static const VFIOCXLKernel vfio_cxl_kernel_v6 = {
    .name = "v6",
    .region_type = VFIO_CXL_REGION_TYPE,
    .max_decoders = 1,
    .rereads_decoder = true,
    .reset_clears = true,
    .memory_returns_late = true,
    .cxl_reset = vfio_cxl_device_reset,
};

static const TypeInfo vfio_cxl_types[] = {
    {
        .name = TYPE_VFIO_CXL,
        .parent = TYPE_OBJECT,
        .instance_size = sizeof(VFIOCXL),
        .instance_finalize = vfio_cxl_instance_finalize,
        .class_init = vfio_cxl_object_class_init,
        .interfaces = (const InterfaceInfo[]) {
            { TYPE_CXL_ENDPOINT },
            { }
        },
    },
    VFIO_CXL_KERNEL_TYPE(v6),
};

DEFINE_TYPES(vfio_cxl_types)
