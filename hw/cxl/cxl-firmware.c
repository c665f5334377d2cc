/*
 * Virtual firmware: places CXL memory at system reset
 *
 * Operating systems expect to find the decoders of some devices committed by
 * the platform's firmware. Guest firmware does not support CXL, so this object
 * does it: in the exit phase of the root reset container, when the hold phase
 * of every device is over. A device's own exit phase would also run at a
 * secondary bus reset, where real firmware does nothing.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/cxl/cxl.h"
#include "hw/cxl/cxl_firmware.h"
#include "hw/cxl/cxl_host.h"
#include "hw/cxl/cxl_route.h"
#include "hw/cxl/cxl_window.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pcie_port.h"
#include "hw/core/resettable.h"
#include "system/reset.h"
#include "trace.h"

#define TYPE_CXL_FIRMWARE "cxl-firmware"
OBJECT_DECLARE_SIMPLE_TYPE(CXLFirmware, CXL_FIRMWARE)

struct CXLFirmware {
    Object parent_obj;

    ResettableState reset_state;
    bool in_reset;
};

static CXLFirmware *cxl_firmware_find(void)
{
    Object *obj = object_resolve_path_component(qdev_get_machine(),
                                                TYPE_CXL_FIRMWARE);

    return obj ? CXL_FIRMWARE(obj) : NULL;
}

static const char *cxl_firmware_host_bridge_name(PXBCXLDev *hb)
{
    return DEVICE(hb)->id ?: "(no id)";
}

static const char *cxl_firmware_device_name(PCIDevice *pdev)
{
    return DEVICE(pdev)->id ?: pdev->name;
}

/* Find the lowest multiple of @align in @fw with @size bytes not @taken */
static bool cxl_firmware_find_in_window(CXLFixedWindow *fw, uint64_t size,
                                        uint64_t align, GArray *taken,
                                        uint64_t *base)
{
    uint64_t at = ROUND_UP(fw->base, align);

    while (at - fw->base <= fw->size && size <= fw->size - (at - fw->base)) {
        const CXLHDMRange *r = cxl_route_find_overlap(taken, at, size);

        if (!r) {
            *base = at;
            return true;
        }
        at = ROUND_UP(r->base + r->size, align);
    }
    return false;
}

/*
 * 1 GiB is preferred, as it lets the host use its largest pages. The second
 * alignment is used if a device would otherwise have no room or no decoder.
 */
static const uint64_t aligns[] = { 1 * GiB, CXL_HDM_ALIGN };

/* Find the lowest place in a window, with the best of @aligns from @first on */
static bool cxl_firmware_find_place(CXLEndpoint *ep, GArray *taken,
                                    unsigned first, uint64_t *base,
                                    Error **errp)
{
    PCIDevice *pdev = cxl_endpoint_pci_device(ep);
    PXBCXLDev *hb = cxl_route_host_bridge(pdev);
    uint64_t size = cxl_endpoint_info(ep).memory_size;
    g_autoptr(GSList) windows = cxl_fmws_get_all_sorted();
    g_autofree char *need = size_to_str(size);
    g_autofree char *option = NULL;

    for (unsigned i = first; i < ARRAY_SIZE(aligns); i++) {
        for (GSList *l = windows; l; l = l->next) {
            if (cxl_window_serves(l->data, hb) &&
                cxl_firmware_find_in_window(l->data, size, aligns[i], taken,
                                            base)) {
                return true;
            }
        }
    }
    option = cxl_window_option(hb, size);
    error_setg(errp,
               "%s: no CXL fixed memory window that targets host bridge "
               "'%s' alone has room for %s of device memory: add one with "
               "%s, or switch CXL off for the device with x-cxl=off (all "
               "windows must be given in one -M option)",
               cxl_firmware_device_name(pdev),
               cxl_firmware_host_bridge_name(hb), need, option);
    return false;
}

/* Configuration for one decoder of a host bridge or switch */
typedef struct PortRange {
    uint32_t *cache_mem;
    PCIDevice *port;
    uint64_t base;
    uint64_t size;
    bool host_only;
} PortRange;

/* Endpoints below a host bridge that have been placed, and where */
typedef struct Plan {
    PXBCXLDev *hb;
    GPtrArray *endpoints;
    GArray *ranges;
} Plan;

static Plan *cxl_firmware_plan_new(PXBCXLDev *hb)
{
    Plan *plan = g_new(Plan, 1);

    plan->hb = hb;
    plan->endpoints = g_ptr_array_new();
    plan->ranges = g_array_new(false, false, sizeof(CXLHDMRange));
    return plan;
}

static void cxl_firmware_plan_free(Plan *plan)
{
    g_ptr_array_unref(plan->endpoints);
    g_array_unref(plan->ranges);
    g_free(plan);
}

typedef struct AddPort {
    GArray *decoders;
    const CXLHDMRange *range;
    bool host_only;
} AddPort;

static bool cxl_firmware_add_port(uint32_t *cache_mem, PCIDevice *port,
                                  void *opaque)
{
    AddPort *add = opaque;
    PortRange entry = {
        .cache_mem = cache_mem,
        .port = port,
        .base = add->range->base,
        .size = add->range->size,
        .host_only = add->host_only,
    };

    g_array_append_val(add->decoders, entry);
    return true;
}

static gint cxl_firmware_compare_port_ranges(gconstpointer a, gconstpointer b)
{
    const PortRange *ra = a, *rb = b;

    if (ra->cache_mem != rb->cache_mem) {
        return ra->cache_mem < rb->cache_mem ? -1 : 1;
    }
    return ra->base < rb->base ? -1 : ra->base > rb->base;
}

static bool cxl_firmware_can_share(const PortRange *run, const PortRange *next)
{
    return next->port == run->port && next->host_only == run->host_only &&
           next->base == run->base + run->size;
}

/*
 * All decoders that a plan needs in host bridge and switches, in ascending
 * order for each: one for each device, as Linux expects it. If these are too
 * many, neighbouring ranges of the same type behind the same port share one.
 */
static GArray *cxl_firmware_plan_decoders(Plan *plan)
{
    GArray *all = g_array_new(false, false, sizeof(PortRange));
    AddPort add = { .decoders = all };
    unsigned kept = 0, next;

    for (unsigned i = 0; i < plan->endpoints->len; i++) {
        CXLEndpoint *ep = g_ptr_array_index(plan->endpoints, i);

        add.range = &g_array_index(plan->ranges, CXLHDMRange, i);
        add.host_only = cxl_endpoint_info(ep).host_only;
        cxl_route_foreach_decoder(cxl_endpoint_pci_device(ep),
                                  plan->hb, cxl_firmware_add_port, &add);
    }
    g_array_sort(all, cxl_firmware_compare_port_ranges);
    for (unsigned first = 0; first < all->len; first = next) {
        PortRange *entry = &g_array_index(all, PortRange, 0);

        for (next = first; next < all->len &&
             entry[next].cache_mem == entry[first].cache_mem; next++) {
            /* those of one host bridge or switch */
        }
        for (unsigned i = first; i < next; i++) {
            if (next - first > CXL_HDM_DECODER_COUNT && i > first &&
                cxl_firmware_can_share(&entry[kept - 1], &entry[i])) {
                entry[kept - 1].size += entry[i].size;
            } else {
                entry[kept++] = entry[i];
            }
        }
    }
    g_array_set_size(all, kept);
    return all;
}

/* Call @func, if any, for each decoder of a plan; false if there are too few */
static bool cxl_firmware_plan_foreach(Plan *plan,
                                      void (*func)(PortRange *, unsigned n),
                                      Error **errp)
{
    g_autoptr(GArray) decoders = cxl_firmware_plan_decoders(plan);
    unsigned n = 0;

    for (unsigned i = 0; i < decoders->len; i++) {
        PortRange *entry = &g_array_index(decoders, PortRange, i);

        n = i && entry->cache_mem == entry[-1].cache_mem ? n + 1 : 0;
        if (n == CXL_HDM_DECODER_COUNT) {
            error_setg(errp,
                       "%s: firmware needs more than the %d HDM "
                       "decoders above it: use another pxb-cxl, or leave "
                       "devices to the guest with x-cxl-commit=guest",
                       cxl_firmware_device_name(entry->port),
                       CXL_HDM_DECODER_COUNT);
            return false;
        }
        if (func) {
            func(entry, n);
        }
    }
    return true;
}

/* Place @ep, if there is room and if its ports have enough decoders */
static bool cxl_firmware_plan_add(Plan *plan, CXLEndpoint *ep, unsigned align,
                                  Error **errp)
{
    CXLHDMRange range = {
        .size = cxl_endpoint_info(ep).memory_size,
    };

    if (!cxl_firmware_find_place(ep, plan->ranges, align, &range.base, errp)) {
        return false;
    }
    g_ptr_array_add(plan->endpoints, ep);
    g_array_append_val(plan->ranges, range);
    if (!cxl_firmware_plan_foreach(plan, NULL, errp)) {
        g_ptr_array_set_size(plan->endpoints, plan->endpoints->len - 1);
        g_array_set_size(plan->ranges, plan->ranges->len - 1);
        return false;
    }
    return true;
}

/*
 * Place all @endpoints that want it and are below @hb. A failure does not stop
 * later endpoints from being placed; @errp is set then, and the plan is the
 * best one found.
 */
static Plan *cxl_firmware_plan_host_bridge(GSList *endpoints, PXBCXLDev *hb,
                                           Error **errp)
{
    Error *first = NULL;
    Plan *plan = NULL;

    for (unsigned i = 0; i < ARRAY_SIZE(aligns) && (!plan || first); i++) {
        if (plan) {
            cxl_firmware_plan_free(plan);
            error_free(first);
            first = NULL;
        }
        plan = cxl_firmware_plan_new(hb);
        for (GSList *l = endpoints; l; l = l->next) {
            PCIDevice *pdev = cxl_endpoint_pci_device(l->data);
            Error *err = NULL;

            if (cxl_endpoint_info(l->data).firmware_commits &&
                cxl_route_host_bridge(pdev) == hb) {
                cxl_firmware_plan_add(plan, l->data, i, &err);
                error_propagate(&first, err);
            }
        }
    }
    error_propagate(errp, first);
    return plan;
}

static void cxl_firmware_program_port(PortRange *entry, unsigned n)
{
    const unsigned inc = R_CXL_HDM_DECODER1_BASE_LO -
                         R_CXL_HDM_DECODER0_BASE_LO;
    uint32_t *reg = entry->cache_mem + n * inc;

    stl_le_p(reg + R_CXL_HDM_DECODER0_BASE_LO, entry->base);
    stl_le_p(reg + R_CXL_HDM_DECODER0_BASE_HI, entry->base >> 32);
    stl_le_p(reg + R_CXL_HDM_DECODER0_SIZE_LO, entry->size);
    stl_le_p(reg + R_CXL_HDM_DECODER0_SIZE_HI, entry->size >> 32);
    stl_le_p(reg + R_CXL_HDM_DECODER0_TARGET_LIST_LO,
             PCIE_PORT(entry->port)->port);
    stl_le_p(reg + R_CXL_HDM_DECODER0_CTRL,
             R_CXL_HDM_DECODER0_CTRL_COMMIT_MASK |
             R_CXL_HDM_DECODER0_CTRL_COMMITTED_MASK |
             (entry->host_only ? R_CXL_HDM_DECODER0_CTRL_TYPE_MASK : 0));
    trace_cxl_firmware_port(entry->port->name, n, entry->base, entry->size);
}

static void cxl_firmware_commit_plan(Plan *plan, Error **errp)
{
    Error *first = NULL;

    cxl_firmware_plan_foreach(plan, cxl_firmware_program_port, &error_abort);
    for (unsigned i = 0; i < plan->endpoints->len; i++) {
        CXLEndpoint *ep = g_ptr_array_index(plan->endpoints, i);
        CXLHDMRange *range = &g_array_index(plan->ranges, CXLHDMRange, i);
        Error *err = NULL;

        trace_cxl_firmware_place(cxl_endpoint_pci_device(ep)->name,
                                 range->base, range->size);
        CXL_ENDPOINT_GET_CLASS(ep)->firmware_commit(ep, range->base, &err);
        error_propagate(&first, err);
    }
    error_propagate(errp, first);
}

/*
 * Plan host bridge by host bridge: they share no window, so that a device
 * behind one never moves those behind another.
 */
static bool cxl_firmware_place_all(bool commit, Error **errp)
{
    g_autoptr(GSList) endpoints = cxl_endpoints();
    PXBCXLDev *last = NULL;
    Error *first = NULL;

    for (GSList *l = endpoints; l; l = l->next) {
        CXLEndpointClass *epc = CXL_ENDPOINT_GET_CLASS(l->data);
        PXBCXLDev *hb = cxl_route_host_bridge(epc->pci_device(l->data));
        Error *err = NULL;
        Plan *plan;

        if (hb == last) {
            continue;
        }
        last = hb;
        plan = cxl_firmware_plan_host_bridge(l, hb, &err);
        error_propagate(&first, err);
        if (commit) {
            err = NULL;
            cxl_firmware_commit_plan(plan, &err);
            error_propagate(&first, err);
        }
        cxl_firmware_plan_free(plan);
    }
    error_propagate(errp, first);
    return !first;
}

static bool cxl_firmware_has_own_number(uint32_t *cache_mem, PCIDevice *port,
                                        void *opaque)
{
    PCIBus *bus = pci_get_bus(port);
    Error **errp = opaque;

    for (unsigned i = 0; i < ARRAY_SIZE(bus->devices); i++) {
        PCIDevice *other = bus->devices[i];

        if (other && other != port &&
            object_dynamic_cast(OBJECT(other), TYPE_PCIE_PORT) &&
            PCIE_PORT(other)->port == PCIE_PORT(port)->port) {
            error_setg(errp,
                       "%s: '%s' has the same port number %u, so "
                       "decoders cannot tell them apart: give each %s of a "
                       "host bridge or switch its own port=",
                       cxl_firmware_device_name(port),
                       cxl_firmware_device_name(other), PCIE_PORT(port)->port,
                       port->name);
            return false;
        }
    }
    return true;
}

/* Check whether CXL.mem can reach @ep, regardless of decoders */
static bool cxl_firmware_check_path(CXLEndpoint *ep, Error **errp)
{
    PCIDevice *pdev = cxl_endpoint_pci_device(ep);
    PCIDevice *first = pci_get_bus(pdev)->devices[0];

    if (first && object_dynamic_cast(OBJECT(first), TYPE_CXL_TYPE3)) {
        error_setg(errp,
                   "%s: the port leads to the emulated memory of '%s': "
                   "give each device a port of its own with bus=",
                   cxl_firmware_device_name(pdev),
                   cxl_firmware_device_name(first));
        return false;
    }
    return cxl_route_foreach_decoder(pdev, cxl_route_host_bridge(pdev),
                                     cxl_firmware_has_own_number, errp);
}

/* Check that there is any window that is large enough */
static bool cxl_firmware_check_window(CXLEndpoint *ep, Error **errp)
{
    g_autoptr(GArray) none = g_array_new(false, false, sizeof(CXLHDMRange));
    uint64_t base;

    return cxl_firmware_find_place(ep, none, 0, &base, errp);
}

static int cxl_firmware_count_host_bridge(Object *obj, void *opaque)
{
    unsigned *count = opaque;

    *count += !!object_dynamic_cast(obj, TYPE_PXB_CXL_DEV);
    return 0;
}

/*
 * The machines accept more host bridges than they have room for; the guest
 * cannot reach the last one. Leave that as it is without passthrough.
 */
static bool cxl_firmware_check_host_bridges(PXBCXLDev *hb, Error **errp)
{
    CXLComponentState *cstate =
        cxl_get_hb_cstate(PCI_HOST_BRIDGE(hb->cxl_host_bridge));
    MemoryRegion *mr = &cstate->crb.component_registers;
    unsigned count = 0, room;

    if (!mr->container) {
        return true;
    }
    room = memory_region_size(mr->container) / memory_region_size(mr);
    object_child_foreach_recursive(qdev_get_machine(),
                                   cxl_firmware_count_host_bridge, &count);
    if (count > room) {
        error_setg(errp, "the machine has room for the registers of %u "
                   "pxb-cxl, but not for %u: add root ports to one of them "
                   "instead, with -device cxl-rp,bus=%s,port=N", room, count,
                   cxl_firmware_host_bridge_name(hb));
        return false;
    }
    return true;
}

bool cxl_firmware_check(Error **errp)
{
    g_autoptr(GSList) endpoints = cxl_endpoints();

    for (GSList *l = endpoints; l; l = l->next) {
        PCIDevice *pdev = cxl_endpoint_pci_device(l->data);

        if (!cxl_firmware_check_host_bridges(cxl_route_host_bridge(pdev),
                                             errp) ||
            !cxl_firmware_check_path(l->data, errp) ||
            !cxl_firmware_check_window(l->data, errp)) {
            return false;
        }
    }
    return cxl_firmware_place_all(false, errp);
}

bool cxl_firmware_check_endpoint(CXLEndpoint *ep, Error **errp)
{
    ERRP_GUARD();

    if (!cxl_firmware_check_path(ep, errp) ||
        !cxl_firmware_check_window(ep, errp)) {
        return false;
    }
    if (!cxl_firmware_place_all(false, errp)) {
        error_prepend(errp, "the next system reset could not place all "
                      "devices: ");
        return false;
    }
    return true;
}

static bool cxl_firmware_no_decoder(uint32_t *cache_mem, PCIDevice *port,
                                    void *opaque)
{
    return false;
}

void cxl_firmware_plug(CXLEndpoint *ep)
{
    PCIDevice *pdev = cxl_endpoint_pci_device(ep);
    CXLEndpointInfo info = cxl_endpoint_info(ep);
    g_autoptr(GArray) taken = g_array_new(false, false, sizeof(CXLHDMRange));
    g_autoptr(GSList) endpoints = cxl_endpoints();
    Error *err = NULL;
    uint64_t base;

    if (!info.firmware_commits || cxl_firmware_find()->in_reset) {
        return;
    }
    for (GSList *l = endpoints; l; l = l->next) {
        CXLEndpointClass *epc = CXL_ENDPOINT_GET_CLASS(l->data);
        CXLHDMRange range;
        bool active;

        for (unsigned n = 0; l->data != ep && n < HDM_DECODE_MAX; n++) {
            if (epc->get_decoder(l->data, n, &range, &active)) {
                g_array_append_val(taken, range);
            }
        }
    }
    if (cxl_route_foreach_decoder(pdev, cxl_route_host_bridge(pdev),
                                  cxl_firmware_no_decoder, NULL) ?
        !cxl_firmware_find_place(ep, taken, 0, &base, NULL) :
        !cxl_route_find_decoded(ep, taken, &base)) {
        return;
    }
    trace_cxl_firmware_place(pdev->name, base, info.memory_size);
    if (!CXL_ENDPOINT_GET_CLASS(ep)->firmware_commit(ep, base, &err)) {
        warn_report_err(err);
    }
}

static void cxl_firmware_reset_enter(Object *obj, ResetType type)
{
    CXL_FIRMWARE(obj)->in_reset = true;
}

static void cxl_firmware_reset_exit(Object *obj, ResetType type)
{
    Error *err = NULL;

    /* cxl_firmware_check() has succeeded, but a device may have failed since */
    memory_region_transaction_begin();
    if (!cxl_firmware_place_all(true, &err)) {
        error_report_err(err);
    }
    memory_region_transaction_commit();
    CXL_FIRMWARE(obj)->in_reset = false;
}

static ResettableState *cxl_firmware_reset_state(Object *obj)
{
    return &CXL_FIRMWARE(obj)->reset_state;
}

void cxl_firmware_init(void)
{
    Object *firmware;

    if (cxl_firmware_find()) {
        return;
    }
    firmware = object_new(TYPE_CXL_FIRMWARE);
    object_property_add_child(qdev_get_machine(), TYPE_CXL_FIRMWARE, firmware);
    qemu_register_resettable(firmware);
    object_unref(firmware);
}

void cxl_firmware_exit(void)
{
    CXLFirmware *firmware = cxl_firmware_find();
    g_autoptr(GSList) endpoints = cxl_endpoints();

    if (firmware && !endpoints) {
        qemu_unregister_resettable(OBJECT(firmware));
        object_unparent(OBJECT(firmware));
    }
}

static void cxl_firmware_class_init(ObjectClass *klass, const void *data)
{
    ResettableClass *rc = RESETTABLE_CLASS(klass);

    rc->phases.enter = cxl_firmware_reset_enter;
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
