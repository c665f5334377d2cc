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
#include "hw/cxl/cxl_window.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pcie_port.h"
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
    g_autofree char *option = NULL;

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

    option = cxl_window_option(hb, size);
    error_setg(errp, "%s: no CXL fixed memory window that targets host bridge "
               "'%s' alone has room for %s of device memory: add one with "
               "%s, or switch CXL off for the device with x-cxl=off",
               device_name(pdev), host_bridge_name(hb), need, option);
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

/* What one decoder of a port is to do */
typedef struct PortRange {
    uint32_t *cache_mem;
    PCIDevice *port;
    uint64_t base;
    uint64_t size;
} PortRange;

typedef struct PortPlan {
    GArray *ranges;
    CXLHDMRange *range;
} PortPlan;

static bool plan_port(uint32_t *cache_mem, PCIDevice *port, void *opaque)
{
    PortPlan *plan = opaque;
    PortRange entry = {
        .cache_mem = cache_mem,
        .port = port,
        .base = plan->range->base,
        .size = plan->range->size,
    };

    g_array_append_val(plan->ranges, entry);
    return true;
}

static gint compare_port_ranges(gconstpointer a, gconstpointer b)
{
    const PortRange *ra = a, *rb = b;

    if (ra->cache_mem != rb->cache_mem) {
        return ra->cache_mem < rb->cache_mem ? -1 : 1;
    }
    return ra->base < rb->base ? -1 : ra->base > rb->base;
}

/* Decoders are committed in ascending order of their ranges */
static void program_port(PortRange *entry, unsigned n)
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
             R_CXL_HDM_DECODER0_CTRL_COMMITTED_MASK);
    trace_cxl_firmware_port(entry->port->name, n, entry->base, entry->size);
}

/*
 * Give each port one decoder for each run of neighbouring ranges behind the
 * same port below it. Programs them if @commit.
 */
static bool program_ports(GArray *ranges, bool commit, Error **errp)
{
    unsigned n = 0;

    g_array_sort(ranges, compare_port_ranges);
    for (unsigned i = 0; i < ranges->len; i++) {
        PortRange *entry = &g_array_index(ranges, PortRange, i);
        PortRange *next = entry + 1;

        if (i + 1 < ranges->len && next->cache_mem == entry->cache_mem &&
            next->port == entry->port &&
            next->base == entry->base + entry->size) {
            next->base = entry->base;
            next->size += entry->size;
            continue;
        }
        if (pcie_find_port_by_pn(pci_get_bus(entry->port),
                                 PCIE_PORT(entry->port)->port) !=
            entry->port) {
            error_setg(errp, "%s: another port has the same number: give each "
                       "%s of a host bridge or switch its own port=",
                       device_name(entry->port), entry->port->name);
            return false;
        }
        if (n == CXL_HDM_DECODER_COUNT) {
            error_setg(errp, "%s: firmware needs more than the %d HDM "
                       "decoders above it: use another pxb-cxl, or leave "
                       "devices to the guest with x-cxl-commit=guest",
                       device_name(entry->port), CXL_HDM_DECODER_COUNT);
            return false;
        }
        if (commit) {
            program_port(entry, n);
        }
        n = i + 1 < ranges->len && next->cache_mem == entry->cache_mem ?
            n + 1 : 0;
    }
    return true;
}

/*
 * Find a place for each endpoint that wants one, and @commit it there. One
 * that fails does not keep the next from its place.
 */
static bool place_all(bool commit, Error **errp)
{
    g_autoptr(GArray) taken = g_array_new(false, false, sizeof(CXLHDMRange));
    g_autoptr(GArray) ports = g_array_new(false, false, sizeof(PortRange));
    g_autoptr(GSList) endpoints = cxl_endpoints();
    GSList *placed = NULL;
    Error *first = NULL;

    for (GSList *l = endpoints; l; l = l->next) {
        CXLEndpointClass *epc = CXL_ENDPOINT_GET_CLASS(l->data);
        CXLHDMRange range = { .size = epc->memory_size(l->data) };
        PCIDevice *pdev = epc->pci_device(l->data);
        PortPlan plan = { .ranges = ports, .range = &range };
        Error *err = NULL;

        if (!epc->firmware_commits(l->data)) {
            continue;
        }
        if (find_place(l->data, taken, &range.base, &err)) {
            g_array_append_val(taken, range);
            placed = g_slist_append(placed, l->data);
            cxl_route_foreach_decoder(pdev, cxl_route_host_bridge(pdev),
                                      plan_port, &plan);
        }
        error_propagate(&first, err);
    }
    if (!first) {
        program_ports(ports, commit, &first);
    }
    for (unsigned i = 0; commit && i < taken->len; i++) {
        CXLEndpoint *ep = g_slist_nth_data(placed, i);
        CXLEndpointClass *epc = CXL_ENDPOINT_GET_CLASS(ep);
        CXLHDMRange *range = &g_array_index(taken, CXLHDMRange, i);
        Error *err = NULL;

        trace_cxl_firmware_place(epc->pci_device(ep)->name, range->base,
                                 range->size);
        epc->firmware_commit(ep, range->base, &err);
        error_propagate(&first, err);
    }
    g_slist_free(placed);
    error_propagate(errp, first);
    return !first;
}

/* Is there a window at all that is large enough? */
static bool check_window(CXLEndpoint *ep, Error **errp)
{
    g_autoptr(GArray) none = g_array_new(false, false, sizeof(CXLHDMRange));
    uint64_t base;

    return find_place(ep, none, &base, errp);
}

bool cxl_firmware_check(Error **errp)
{
    GSList *endpoints = cxl_endpoints();
    bool ok = true;

    for (GSList *l = endpoints; l && ok; l = l->next) {
        ok = check_window(l->data, errp);
    }
    g_slist_free(endpoints);
    return ok && place_all(false, errp);
}

bool cxl_firmware_check_endpoint(CXLEndpoint *ep, Error **errp)
{
    GArray *taken;
    uint64_t base;
    bool ok;

    if (!check_window(ep, errp)) {
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

void cxl_firmware_exit(void)
{
    Object *firmware = object_resolve_path_component(qdev_get_machine(),
                                                     TYPE_CXL_FIRMWARE);
    GSList *endpoints = cxl_endpoints();

    if (firmware && !endpoints) {
        qemu_unregister_resettable(firmware);
        object_unparent(firmware);
    }
    g_slist_free(endpoints);
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
