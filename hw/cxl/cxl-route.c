/*
 * From CXL fixed memory windows to the memory of endpoints
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/range.h"
#include "qapi/error.h"
#include "hw/cxl/cxl.h"
#include "hw/cxl/cxl_host.h"
#include "hw/cxl/cxl_route.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pcie_port.h"
#include "trace.h"

static PCIDevice *endpoint_pci(CXLEndpoint *ep)
{
    return CXL_ENDPOINT_GET_CLASS(ep)->pci_device(ep);
}

static CXLRoute *endpoint_route(CXLEndpoint *ep)
{
    return CXL_ENDPOINT_GET_CLASS(ep)->route(ep);
}

static bool is_port(PCIDevice *pdev, const char *type)
{
    return pdev && object_dynamic_cast(OBJECT(pdev), type);
}

PXBCXLDev *cxl_route_host_bridge(PCIDevice *pdev)
{
    PCIBus *bus = pci_get_bus(pdev);

    while (!pci_bus_is_root(bus)) {
        PCIDevice *port = pci_bridge_get_device(bus);

        if (!is_port(port, "cxl-rp") && !is_port(port, TYPE_CXL_DSP) &&
            !is_port(port, TYPE_CXL_USP)) {
            return NULL;
        }
        bus = pci_get_bus(port);
    }
    /* A root bus itself is no place for a device: it needs a root port */
    if (!pci_bus_is_cxl(bus) || bus == pci_get_bus(pdev)) {
        return NULL;
    }
    return PXB_CXL_DEV(bus->parent_dev);
}

static PCIBus *host_bridge_bus(PXBCXLDev *hb)
{
    return PCI_HOST_BRIDGE(hb->cxl_host_bridge)->bus;
}

static bool host_bridge_is_pass_through(PXBCXLDev *hb)
{
    return !hb->hdm_for_passthrough &&
           pcie_count_ds_ports(host_bridge_bus(hb)) == 1;
}

bool cxl_route_foreach_decoder(PCIDevice *pdev, PXBCXLDev *hb,
                               CXLRouteDecoderFunc *func, void *opaque)
{
    PCIDevice *port = pci_bridge_get_device(pci_get_bus(pdev));
    CXLComponentState *cstate;

    for (; !pci_bus_is_root(pci_get_bus(port));
         port = pci_bridge_get_device(pci_get_bus(port))) {
        PCIDevice *above = pci_bridge_get_device(pci_get_bus(port));

        if (is_port(above, TYPE_CXL_USP)) {
            cstate = cxl_usp_to_cstate(CXL_USP(above));
            if (!func(cstate->crb.cache_mem_registers, port, opaque)) {
                return false;
            }
        }
    }
    if (host_bridge_is_pass_through(hb)) {
        return true;
    }
    cstate = cxl_get_hb_cstate(PCI_HOST_BRIDGE(hb->cxl_host_bridge));
    return func(cstate->crb.cache_mem_registers, port, opaque);
}

/* Does the decoder of a host bridge or switch send all of a range to @port? */
static bool decodes_to_port(uint32_t *cache_mem, PCIDevice *port,
                            void *opaque)
{
    CXLRouteStatus *status = opaque;
    const CXLHDMRange *range = &status->range;
    const unsigned inc = R_CXL_HDM_DECODER1_BASE_LO -
                         R_CXL_HDM_DECODER0_BASE_LO;
    uint32_t cap = ldl_le_p(cache_mem + R_CXL_HDM_DECODER_CAPABILITY);
    int count = cxl_decoder_count_dec(FIELD_EX32(cap,
                                                 CXL_HDM_DECODER_CAPABILITY,
                                                 DECODER_COUNT));

    status->port = port;
    for (int i = 0; i < MIN(count, CXL_HDM_DECODER_COUNT); i++) {
        uint32_t *reg = cache_mem + i * inc;
        uint32_t ctrl = ldl_le_p(reg + R_CXL_HDM_DECODER0_CTRL);
        uint32_t list = ldl_le_p(reg + R_CXL_HDM_DECODER0_TARGET_LIST_LO);
        uint64_t base, size;

        base = ldl_le_p(reg + R_CXL_HDM_DECODER0_BASE_LO) &
               R_CXL_HDM_DECODER0_BASE_LO_L_MASK;
        base |= (uint64_t)ldl_le_p(reg + R_CXL_HDM_DECODER0_BASE_HI) << 32;
        size = ldl_le_p(reg + R_CXL_HDM_DECODER0_SIZE_LO) &
               R_CXL_HDM_DECODER0_BASE_LO_L_MASK;
        size |= (uint64_t)ldl_le_p(reg + R_CXL_HDM_DECODER0_SIZE_HI) << 32;

        /* As for type 3 devices, the first decoder with the address counts */
        if (range->base < base || range->base - base >= size) {
            continue;
        }
        return FIELD_EX32(ctrl, CXL_HDM_DECODER0_CTRL, COMMITTED) &&
               FIELD_EX32(ctrl, CXL_HDM_DECODER0_CTRL, IW) == 0 &&
               range->size <= size - (range->base - base) &&
               pcie_find_port_by_pn(pci_get_bus(port),
                                    extract32(list, 0, 8)) == port;
    }
    return false;
}

bool cxl_window_serves(CXLFixedWindow *fw, PXBCXLDev *hb)
{
    /* A window that did not fit was left at address 0 */
    if (fw->num_targets != 1 || fw->base == 0) {
        return false;
    }
    if (fw->target_hbs[0]) {
        return fw->target_hbs[0] == hb;
    }
    /* Before the machine has linked the targets only their names are known */
    return object_resolve_path_type(fw->targets[0], TYPE_PXB_CXL_DEV, NULL) ==
           OBJECT(hb);
}

static CXLFixedWindow *find_window(PXBCXLDev *hb, const CXLHDMRange *range,
                                   Error **errp)
{
    GSList *windows = cxl_fmws_get_all_sorted();
    CXLFixedWindow *found = NULL;

    for (GSList *l = windows; l; l = l->next) {
        CXLFixedWindow *fw = l->data;

        if (!fw->base || range->base < fw->base ||
            range->base - fw->base >= fw->size) {
            continue;
        }
        if (fw->num_targets != 1) {
            error_setg(errp, "the fixed window interleaves");
        } else if (!cxl_window_serves(fw, hb)) {
            error_setg(errp, "the fixed window does not target its host "
                       "bridge");
        } else if (range->size > fw->size - (range->base - fw->base)) {
            error_setg(errp, "it crosses the end of the fixed window");
        } else {
            found = fw;
        }
        g_slist_free(windows);
        return found;
    }
    error_setg(errp, "it is in no fixed window");
    g_slist_free(windows);
    return NULL;
}

static bool mapped_for_another(CXLEndpoint *ep, const CXLHDMRange *range)
{
    GSList *endpoints = cxl_endpoints();
    bool found = false;

    for (GSList *l = endpoints; l && !found; l = l->next) {
        CXLRoute *route = endpoint_route(l->data);

        for (int n = 0; l->data != ep && n < HDM_DECODE_MAX; n++) {
            found |= route->map[n].alias &&
                     ranges_overlap(range->base, range->size,
                                    route->map[n].range.base,
                                    route->map[n].range.size);
        }
    }
    g_slist_free(endpoints);
    return found;
}

bool cxl_route_check(CXLEndpoint *ep, const CXLHDMRange *range, Error **errp)
{
    PXBCXLDev *hb = cxl_route_host_bridge(endpoint_pci(ep));

    if (!hb) {
        error_setg(errp, "the device is not below a CXL host bridge");
        return false;
    }
    if (!find_window(hb, range, errp)) {
        return false;
    }
    if (mapped_for_another(ep, range)) {
        error_setg(errp, "the range is mapped for another device");
        return false;
    }
    return true;
}

static void unmap(CXLEndpoint *ep, CXLRoute *route, unsigned n)
{
    MemoryRegion *alias = route->map[n].alias;

    trace_cxl_route_unmap(endpoint_pci(ep)->name, n, route->map[n].range.base);
    memory_region_del_subregion(&route->map[n].fw->mr, alias);
    object_unparent(OBJECT(alias));
    g_free(alias);
    route->map[n].alias = NULL;
}

static void map(CXLEndpoint *ep, CXLRoute *route, unsigned n,
                CXLFixedWindow *fw, const CXLHDMRange *range)
{
    MemoryRegion *alias = g_new0(MemoryRegion, 1);

    /* The owner keeps the PCI device alive while a guest can reach it */
    memory_region_init_alias(alias, OBJECT(endpoint_pci(ep)), "cxl-hdm",
                             CXL_ENDPOINT_GET_CLASS(ep)->memory(ep),
                             range->dpa, range->size);
    memory_region_add_subregion(&fw->mr, range->base - fw->base, alias);
    route->map[n].alias = alias;
    route->map[n].fw = fw;
    route->map[n].range = *range;
    trace_cxl_route_map(endpoint_pci(ep)->name, n, range->base, range->size,
                        range->dpa);
}

static CXLRouteState find_state(CXLEndpoint *ep, unsigned n,
                                CXLRouteStatus *status)
{
    CXLEndpointClass *epc = CXL_ENDPOINT_GET_CLASS(ep);
    PCIDevice *pdev = epc->pci_device(ep);
    PXBCXLDev *hb;

    if (!epc->get_decoder(ep, n, &status->range)) {
        return CXL_ROUTE_NOT_COMMITTED;
    }
    hb = cxl_route_host_bridge(pdev);
    status->window = hb ? find_window(hb, &status->range, NULL) : NULL;
    if (!status->window) {
        return CXL_ROUTE_NO_WINDOW;
    }
    if (!epc->memory(ep)) {
        return CXL_ROUTE_NO_MEMORY;
    }
    if (!cxl_route_foreach_decoder(pdev, hb, decodes_to_port, status)) {
        return CXL_ROUTE_NOT_DECODED;
    }
    return CXL_ROUTE_MAPPED;
}

/* Where decoder @n is to be mapped; NULL if nowhere */
static CXLFixedWindow *wanted(CXLEndpoint *ep, unsigned n, CXLHDMRange *range)
{
    static const char *const why[] = {
        [CXL_ROUTE_NO_WINDOW] = "no window",
        [CXL_ROUTE_NO_MEMORY] = "memory not accessible",
        [CXL_ROUTE_NOT_DECODED] = "not decoded by a port",
    };
    CXLRouteStatus status = { };
    CXLRouteState state = find_state(ep, n, &status);

    *range = status.range;
    if (state == CXL_ROUTE_MAPPED) {
        return status.window;
    }
    if (state != CXL_ROUTE_NOT_COMMITTED) {
        trace_cxl_route_none(endpoint_pci(ep)->name, n, range->base,
                             why[state]);
    }
    return NULL;
}

CXLRouteState cxl_route_status(CXLEndpoint *ep, unsigned n,
                               CXLRouteStatus *status)
{
    CXLRouteState state;

    memset(status, 0, sizeof(*status));
    state = find_state(ep, n, status);
    if (state == CXL_ROUTE_MAPPED && !endpoint_route(ep)->map[n].alias) {
        return CXL_ROUTE_TAKEN;
    }
    return state;
}

static bool unmap_stale(CXLEndpoint *ep)
{
    CXLRoute *route = endpoint_route(ep);
    bool found = false;

    for (unsigned n = 0; n < HDM_DECODE_MAX; n++) {
        CXLHDMRange range;

        if (route->map[n].alias &&
            (wanted(ep, n, &range) != route->map[n].fw ||
             memcmp(&range, &route->map[n].range, sizeof(range)))) {
            unmap(ep, route, n);
            found = true;
        }
    }
    return found;
}

static void map_wanted(CXLEndpoint *ep)
{
    CXLRoute *route = endpoint_route(ep);

    for (unsigned n = 0; n < HDM_DECODE_MAX; n++) {
        CXLFixedWindow *fw;
        CXLHDMRange range;

        if (route->map[n].alias) {
            continue;
        }
        fw = wanted(ep, n, &range);
        if (fw && !mapped_for_another(ep, &range)) {
            map(ep, route, n, fw, &range);
        }
    }
}

void cxl_route_update(CXLEndpoint *ep)
{
    memory_region_transaction_begin();
    if (unmap_stale(ep)) {
        /* Another endpoint may have waited for the range */
        cxl_route_update_all();
    } else {
        map_wanted(ep);
    }
    memory_region_transaction_commit();
}

void cxl_route_update_all(void)
{
    GSList *endpoints = cxl_endpoints();

    memory_region_transaction_begin();
    for (GSList *l = endpoints; l; l = l->next) {
        unmap_stale(l->data);
    }
    for (GSList *l = endpoints; l; l = l->next) {
        map_wanted(l->data);
    }
    memory_region_transaction_commit();
    g_slist_free(endpoints);
}

static int collect_endpoint(Object *obj, void *opaque)
{
    GSList **list = opaque;

    if (object_dynamic_cast(obj, TYPE_CXL_ENDPOINT)) {
        *list = g_slist_prepend(*list, CXL_ENDPOINT(obj));
    }
    return 0;
}

/* Depth of @pdev below its root bus; 0 directly on it */
static unsigned depth(PCIDevice *pdev)
{
    unsigned n = 0;

    while (!pci_bus_is_root(pci_get_bus(pdev))) {
        pdev = pci_bridge_get_device(pci_get_bus(pdev));
        n++;
    }
    return n;
}

static PCIDevice *ancestor(PCIDevice *pdev, unsigned levels)
{
    while (levels--) {
        pdev = pci_bridge_get_device(pci_get_bus(pdev));
    }
    return pdev;
}

static gint compare_endpoints(gconstpointer a, gconstpointer b, gpointer opaque)
{
    PCIDevice *pa = endpoint_pci((CXLEndpoint *)a);
    PCIDevice *pb = endpoint_pci((CXLEndpoint *)b);
    unsigned da = depth(pa), db = depth(pb);
    int diff = pci_bus_num(pci_get_bus(ancestor(pa, da))) -
               pci_bus_num(pci_get_bus(ancestor(pb, db)));

    for (unsigned i = 0; !diff && i <= MIN(da, db); i++) {
        diff = ancestor(pa, da - i)->devfn - ancestor(pb, db - i)->devfn;
    }
    return diff ? diff : (int)da - (int)db;
}

GSList *cxl_endpoints(void)
{
    GSList *list = NULL;

    object_child_foreach_recursive(qdev_get_machine(), collect_endpoint,
                                   &list);
    return g_slist_sort_with_data(list, compare_endpoints, NULL);
}

static const TypeInfo cxl_endpoint_info = {
    .name = TYPE_CXL_ENDPOINT,
    .parent = TYPE_INTERFACE,
    .class_size = sizeof(CXLEndpointClass),
};

static void cxl_route_register_types(void)
{
    type_register_static(&cxl_endpoint_info);
}

type_init(cxl_route_register_types)
