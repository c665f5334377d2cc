/*
 * CXL Type-2 devices behind vfio-pci
 *
 * The guest's view of the device's HDM decoders is QEMU's own, whatever the
 * kernel does with its copy: the kernel's interface is read once, and asked
 * again only whether the physical decoder is committed. Commits move an
 * alias of the mapped memory into a CXL fixed memory window.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
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

    return vfio_cxl_is_open(cxl) ? &cxl->memory : NULL;
}

static bool vfio_cxl_endpoint_firmware_commit(CXLEndpoint *ep, uint64_t base,
                                              Error **errp)
{
    VFIOCXL *cxl = VFIO_CXL(ep);

    if (cxl->blocked & VFIO_CXL_LOST) {
        return true; /* has been reported */
    }
    if (!cxl_hdm_commit(&cxl->hdm, 0, base, cxl->info.memory_size,
                        cxl->info.locked, errp)) {
        error_prepend(errp, VFIO_MSG_PREFIX "firmware cannot commit: ",
                      vfio_cxl_name(cxl));
        return false;
    }
    vfio_cxl_dvsec_enable_mem(cxl->vdev, &cxl->dvsecs);
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
 * the VM is migrated.
 */
static bool vfio_cxl_block_migration(VFIOCXL *cxl, Error **errp)
{
    unsigned modes = BIT(MIG_MODE_CPR_REBOOT) | BIT(MIG_MODE_CPR_TRANSFER) |
                     BIT(MIG_MODE_CPR_EXEC);

    if (cxl->vdev->vbasedev.enable_migration == ON_OFF_AUTO_ON) {
        error_setg(errp, "enable-migration=on: its state cannot be saved");
        return false;
    }
    if (runstate_check(RUN_STATE_INMIGRATE)) {
        error_setg(errp, "a CXL device cannot be present in the target of a "
                   "migration: start without it, and plug it when the "
                   "migration is done");
        return false;
    }
    if (!PCI_DEVICE(cxl->vdev)->failover_pair_id) {
        modes |= BIT(MIG_MODE_NORMAL);
    }
    error_setg(&cxl->migration_blocker, "%s: the state of a CXL device that "
               "is passed through cannot be saved; unplug it first",
               vfio_cxl_name(cxl));
    return !migrate_add_blocker_modes(&cxl->migration_blocker, modes, errp);
}

bool vfio_cxl_blocks_migration(VFIOPCIDevice *vdev)
{
    return vdev->cxl.cxl && !vdev->cxl.cxl->plain;
}

static void vfio_cxl_qemu_exit(Notifier *notifier, void *data)
{
    vfio_cxl_release_caching(container_of(notifier, VFIOCXL, exit_notifier));
}

static bool vfio_cxl_realize_device(VFIOCXL *cxl, Error **errp)
{
    VfioCxlCommit commit = cxl->vdev->cxl.commit;

    if (!vfio_cxl_await_memory(cxl, errp) ||
        !vfio_cxl_block_migration(cxl, errp)) {
        return false;
    }
    if (!vfio_cxl_access_check_host(errp) || !vfio_cxl_map_memory(cxl, errp)) {
        return false;
    }
    cxl->bar = cxl->info.bar;
    cxl->block = cxl->info.block;
    cxl->firmware_commits = commit == VFIO_CXL_COMMIT_AUTO ?
                            cxl->info.committed :
                            commit == VFIO_CXL_COMMIT_FIRMWARE;
    cxl_hdm_init(&cxl->hdm, cxl->info.decoder_count,
                 cxl->info.hdm_capability, cxl->info.host_only,
                 &vfio_cxl_hdm_ops, cxl);
    vfio_cxl_ras_reset(cxl);
    vfio_cxl_viommu_init(cxl);
    cxl->exit_notifier.notify = vfio_cxl_qemu_exit;
    qemu_add_exit_notifier(&cxl->exit_notifier);

    /* Cold-plugged devices are checked together, when all windows are known */
    cxl_firmware_init();
    cxl_route_add(CXL_ENDPOINT(cxl));
    cxl->arriving = DEVICE(cxl->vdev)->hotplugged;
    return !DEVICE(cxl->vdev)->hotplugged ||
           cxl_firmware_check_endpoint(CXL_ENDPOINT(cxl), errp);
}

/* Decide whether to use CXL; if not, @plain is set to the reason */
static bool vfio_cxl_choose_mode(VFIOCXL *cxl, char **plain, Error **errp)
{
    VFIOPCIDevice *vdev = cxl->vdev;
    Error *err = NULL;

    if (vdev->cxl.mode == ON_OFF_AUTO_OFF) {
        *plain = g_strdup("x-cxl=off");
        return true;
    }
    if (!cxl_route_host_bridge(PCI_DEVICE(vdev))) {
        error_setg(&err, "it is not below a CXL root port (a cxl-rp of a "
                   "pxb-cxl)");
    } else if (!vdev->vbasedev.reset_works) {
        error_setg(&err, "the kernel cannot reset it");
    } else if (vfio_cxl_uapi_read(&vdev->vbasedev, &cxl->info, &err)) {
        return true;
    }
    if (vdev->cxl.mode == ON_OFF_AUTO_ON) {
        error_propagate_prepend(errp, err, "x-cxl=on: ");
        return false;
    }
    *plain = g_strdup(error_get_pretty(err));
    error_free(err);
    return true;
}

bool vfio_cxl_realize(VFIOPCIDevice *vdev, Error **errp)
{
    ERRP_GUARD();
    VFIOCXL *cxl;

    if (!(vdev->vbasedev.flags & VFIO_DEVICE_FLAGS_CXL)) {
        if (vdev->cxl.mode == ON_OFF_AUTO_ON) {
            error_setg(errp, "x-cxl=on: the kernel does not offer CXL for "
                       "this device");
            return false;
        }
        return true;
    }

    cxl = VFIO_CXL(object_new(TYPE_VFIO_CXL));
    cxl->vdev = vdev;
    cxl->bar = PCI_NUM_REGIONS;
    vdev->cxl.cxl = cxl;
    if (!vfio_cxl_dvsec_find(vdev, &cxl->dvsecs, errp) ||
        !vfio_cxl_choose_mode(cxl, &cxl->plain_reason, errp)) {
        return false;
    }
    if (cxl->plain_reason) {
        cxl->plain = true;
        if (!vfio_cxl_find_block(&vdev->vbasedev, &cxl->bar, &cxl->block) ||
            cxl->block > vdev->bars[cxl->bar].region.size ||
            CXL2_COMPONENT_BLOCK_SIZE >
            vdev->bars[cxl->bar].region.size - cxl->block) {
            error_setg(errp, "the CXL component registers, which hold "
                       "addresses of the host, are not where the Register "
                       "Locator says and cannot be hidden from the guest");
            return false;
        }
        if (vdev->cxl.mode == ON_OFF_AUTO_AUTO) {
            info_report(VFIO_MSG_PREFIX "CXL device used as plain PCI: %s",
                        vfio_cxl_name(cxl), cxl->plain_reason);
        }
        return true;
    }
    object_property_add_child(OBJECT(vdev), "cxl", OBJECT(cxl));
    if (!vfio_cxl_realize_device(cxl, errp)) {
        vfio_cxl_exit(vdev);
        error_prepend(errp, "CXL: ");
        return false;
    }
    return true;
}

void vfio_cxl_exit(VFIOPCIDevice *vdev)
{
    VFIOCXL *cxl = vdev->cxl.cxl;

    if (!cxl || cxl->exited) {
        return;
    }
    cxl->exited = true;
    migrate_del_blocker(&cxl->migration_blocker);
    if (cxl->exit_notifier.notify) {
        qemu_remove_exit_notifier(&cxl->exit_notifier);
        vfio_cxl_release_caching(cxl);
    }
    if (!cxl->plain) {
        cxl_route_remove(CXL_ENDPOINT(cxl));
        vfio_cxl_memory_exit(cxl);
        vfio_cxl_viommu_exit(cxl);
        object_unparent(OBJECT(cxl));
        cxl_firmware_exit();
    }
    if (memory_region_is_mapped(&cxl->overlay)) {
        memory_region_del_subregion(vdev->bars[cxl->bar].mr, &cxl->overlay);
    }
}

void vfio_cxl_finalize(VFIOPCIDevice *vdev)
{
    VFIOCXL *cxl = vdev->cxl.cxl;

    if (!cxl) {
        return;
    }
    if (cxl->mmap) {
        munmap(cxl->mmap, cxl->info.memory_size);
    }
    g_free(cxl->plain_reason);
    object_unref(OBJECT(cxl));
    vdev->cxl.cxl = NULL;
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

/*
 * Not in vfio-pci's own list of properties: a QEMU without CXL has none of
 * them.
 */
void vfio_cxl_add_property(ObjectClass *klass, const char *name,
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
                          "(auto), always or never");
    vfio_cxl_add_property(klass, "x-cxl-commit", "VfioCxlCommit",
                          &VfioCxlCommit_lookup, vfio_cxl_get_commit,
                          vfio_cxl_set_commit,
                          "Who commits its HDM decoder: auto (firmware if the "
                          "host's firmware did), firmware or guest");
    vfio_cxl_access_class_init(klass);
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

static const TypeInfo vfio_cxl_info = {
    .name = TYPE_VFIO_CXL,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(VFIOCXL),
    .class_init = vfio_cxl_object_class_init,
    .interfaces = (const InterfaceInfo[]) {
        { TYPE_CXL_ENDPOINT },
        { }
    },
};

static void vfio_cxl_register_types(void)
{
    type_register_static(&vfio_cxl_info);
}

type_init(vfio_cxl_register_types)
