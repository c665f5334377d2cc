/*
 * Virtual firmware: places CXL memory at system reset
 *
 * Operating systems expect to find the decoders of some devices committed by
 * the platform's firmware. Guest firmware knows nothing of CXL, so this
 * object does it: in the exit phase of the root reset container, when every
 * device has left its own reset. A device's exit phase would also run at a
 * secondary bus reset, where real firmware does nothing.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/range.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/cxl/cxl.h"
#include "hw/cxl/cxl_host.h"
#include "hw/cxl/cxl_route.h"
#include "hw/pci/pci_bus.h"
#include "hw/resettable.h"
#include "system/reset.h"
#include "trace.h"

#define TYPE_CXL_FIRMWARE "cxl-firmware"
OBJECT_DECLARE_SIMPLE_TYPE(CXLFirmware, CXL_FIRMWARE)

struct CXLFirmware {
    Object parent_obj;

    ResettableState reset_state;
};

static const char *host_bridge_name(PXBCXLDev *hb)
{
    return DEVICE(hb)->id ?: "(no id)";
}

static const char *device_name(PCIDevice *pdev)
{
    return DEVICE(pdev)->id ?: pdev->name;
}

/* First address in @fw, a multiple of @align, with @size bytes not @taken */
static bool find_in_window(CXLFixedWindow *fw, uint64_t size, uint64_t align,
                           GArray *taken, uint64_t *base)
{
    uint64_t at = ROUND_UP(fw->base, align);
    bool moved;

    do {
        moved = false;
        if (at - fw->base > fw->size || size > fw->size - (at - fw->base)) {
            return false;
        }
        for (unsigned i = 0; i < taken->len; i++) {
            CXLHDMRange *r = &g_array_index(taken, CXLHDMRange, i);

            if (ranges_overlap(at, size, r->base, r->size)) {
                at = ROUND_UP(r->base + r->size, align);
                moved = true;
            }
        }
    } while (moved);
    *base = at;
    return true;
}

static bool find_place(CXLEndpoint *ep, GArray *taken, uint64_t *base,
                       Error **errp)
{
    CXLEndpointClass *epc = CXL_ENDPOINT_GET_CLASS(ep);
    PCIDevice *pdev = epc->pci_device(ep);
    PXBCXLDev *hb = cxl_route_host_bridge(pdev);
    uint64_t size = epc->memory_size(ep);
    /* 1 GiB lets the host use its largest pages */
    static const uint64_t aligns[] = { 1 * GiB, CXL_HDM_ALIGN };
    GSList *windows = cxl_fmws_get_all_sorted();
    g_autofree char *need = size_to_str(size);
    unsigned index;

    for (int i = 0; i < ARRAY_SIZE(aligns); i++) {
        for (GSList *l = windows; l; l = l->next) {
            CXLFixedWindow *fw = l->data;

            if (!cxl_window_serves(fw, hb)) {
                continue;
            }
            if (find_in_window(fw, size, aligns[i], taken, base)) {
                g_slist_free(windows);
                return true;
            }
        }
    }

    index = g_slist_length(windows);
    error_setg(errp, "%s: no CXL fixed memory window that targets host bridge "
               "'%s' alone has room for %s of device memory: add one with "
               "-M cxl-fmw.%u.targets.0=%s,cxl-fmw.%u.size=%" PRIu64 "M, or "
               "switch CXL off for the device with x-cxl=off",
               device_name(pdev), host_bridge_name(hb), need, index,
               host_bridge_name(hb), index, size / MiB);
    g_slist_free(windows);
    return false;
}

/* What is committed now, but for @except */
static GArray *taken_ranges(CXLEndpoint *except)
{
    GArray *taken = g_array_new(false, false, sizeof(CXLHDMRange));
    GSList *endpoints = cxl_endpoints();

    for (GSList *l = endpoints; l; l = l->next) {
        CXLEndpointClass *epc = CXL_ENDPOINT_GET_CLASS(l->data);
        CXLHDMRange range;

        for (unsigned n = 0; l->data != except && n < HDM_DECODE_MAX; n++) {
            if (epc->get_decoder(l->data, n, &range)) {
                g_array_append_val(taken, range);
            }
        }
    }
    g_slist_free(endpoints);
    return taken;
}

/*
 * Find a place for each endpoint that wants one, and @commit it there. One
 * that fails does not keep the next from its place.
 */
static bool place_all(bool commit, Error **errp)
{
    GArray *taken = g_array_new(false, false, sizeof(CXLHDMRange));
    GSList *endpoints = cxl_endpoints();
    Error *first = NULL;

    for (GSList *l = endpoints; l; l = l->next) {
        CXLEndpoint *ep = l->data;
        CXLEndpointClass *epc = CXL_ENDPOINT_GET_CLASS(ep);
        CXLHDMRange range = { .size = epc->memory_size(ep) };
        Error *err = NULL;

        if (!epc->firmware_commits(ep)) {
            continue;
        }
        if (find_place(ep, taken, &range.base, &err)) {
            g_array_append_val(taken, range);
            if (commit) {
                trace_cxl_firmware_place(epc->pci_device(ep)->name,
                                         range.base, range.size);
                epc->firmware_commit(ep, range.base, &err);
            }
        }
        error_propagate(&first, err);
    }
    g_slist_free(endpoints);
    g_array_free(taken, true);
    error_propagate(errp, first);
    return !first;
}

/* Can the endpoint be used where it is, whatever else there is? */
static bool check_topology(CXLEndpoint *ep, Error **errp)
{
    PCIDevice *pdev = CXL_ENDPOINT_GET_CLASS(ep)->pci_device(ep);
    g_autoptr(GArray) none = g_array_new(false, false, sizeof(CXLHDMRange));
    uint64_t base;

    if (CXL_ENDPOINT_GET_CLASS(ep)->firmware_commits(ep) &&
        !cxl_route_is_pass_through(pdev)) {
        error_setg(errp, "%s: firmware commits a device only directly below "
                   "the one root port of its CXL host bridge: give it a "
                   "pxb-cxl of its own, or leave its decoder to the guest "
                   "with x-cxl-commit=guest", device_name(pdev));
        return false;
    }
    return find_place(ep, none, &base, errp);
}

bool cxl_firmware_check(Error **errp)
{
    GSList *endpoints = cxl_endpoints();
    bool ok = true;

    for (GSList *l = endpoints; l && ok; l = l->next) {
        ok = check_topology(l->data, errp);
    }
    g_slist_free(endpoints);
    return ok && place_all(false, errp);
}

bool cxl_firmware_check_endpoint(CXLEndpoint *ep, Error **errp)
{
    GArray *taken;
    uint64_t base;
    bool ok;

    if (!check_topology(ep, errp)) {
        return false;
    }
    if (!CXL_ENDPOINT_GET_CLASS(ep)->firmware_commits(ep)) {
        return true;
    }
    taken = taken_ranges(ep);
    ok = find_place(ep, taken, &base, errp);
    g_array_free(taken, true);
    return ok;
}

static void cxl_firmware_reset_exit(Object *obj, ResetType type)
{
    Error *err = NULL;

    /* cxl_firmware_check() found it possible; a device may have failed since */
    if (!place_all(true, &err)) {
        error_report_err(err);
    }
}

static ResettableState *cxl_firmware_reset_state(Object *obj)
{
    return &CXL_FIRMWARE(obj)->reset_state;
}

void cxl_firmware_init(void)
{
    Object *machine = qdev_get_machine();
    Object *firmware;

    if (object_resolve_path_component(machine, TYPE_CXL_FIRMWARE)) {
        return;
    }
    firmware = object_new(TYPE_CXL_FIRMWARE);
    object_property_add_child(machine, TYPE_CXL_FIRMWARE, firmware);
    qemu_register_resettable(firmware);
    object_unref(firmware);
}

static void cxl_firmware_class_init(ObjectClass *klass, const void *data)
{
    ResettableClass *rc = RESETTABLE_CLASS(klass);

    rc->phases.exit = cxl_firmware_reset_exit;
    rc->get_state = cxl_firmware_reset_state;
}

static const TypeInfo cxl_firmware_info = {
    .name = TYPE_CXL_FIRMWARE,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(CXLFirmware),
    .class_init = cxl_firmware_class_init,
    .interfaces = (const InterfaceInfo[]) {
        { TYPE_RESETTABLE_INTERFACE },
        { }
    },
};

static void cxl_firmware_register_types(void)
{
    type_register_static(&cxl_firmware_info);
}

type_init(cxl_firmware_register_types)
