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
#include "hw/cxl/cxl_window.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pcie_port.h"
#include "trace.h"

/*
 * All endpoints of the machine, in the order of cxl_endpoints(), and its
 * windows. Kept here to avoid a search at each change of a port's registers.
 */
#define TYPE_CXL_ROUTES "cxl-routes"
OBJECT_DECLARE_SIMPLE_TYPE(CXLRoutes, CXL_ROUTES)

struct CXLRoutes {
    Object parent_obj;

    GSList *endpoints;
    GSList *windows;
    GSList *maps; /* CXLRouteMaps */
};

/* A part of an endpoint's memory that is mapped, or is to be */
typedef struct CXLRouteMap {
    CXLEndpoint *ep;
    MemoryRegion *alias;        /* shows it; NULL if it is not mapped yet */
    CXLFixedWindow *fw;
    CXLHDMRange range;          /* all or a part of what the decoder maps */
    unsigned decoder;
} CXLRouteMap;

/* NULL in a machine that never had an endpoint */
static CXLRoutes *cxl_route_find_all(void)
{
    Object *obj = object_resolve_path_component(qdev_get_machine(),
                                                TYPE_CXL_ROUTES);

    return obj ? CXL_ROUTES(obj) : NULL;
}

/* Fixed once the machine is ready; sorted by index */
static GSList *cxl_route_find_windows(CXLRoutes *routes)
{
    if (!routes->windows && phase_check(PHASE_MACHINE_READY)) {
        routes->windows = cxl_fmws_get_all_sorted();
    }
    return routes->windows;
}

/* Addresses from @at on that take the same path; the last @port visited */
typedef struct RoutePoint {
    uint64_t at;
    uint64_t size;
    PCIDevice *port;
} RoutePoint;

static unsigned cxl_route_count_decoders(uint32_t *cache_mem)
{
    uint32_t cap = ldl_le_p(cache_mem + R_CXL_HDM_DECODER_CAPABILITY);
    int count = cxl_decoder_count_dec(FIELD_EX32(cap,
                                                 CXL_HDM_DECODER_CAPABILITY,
                                                 DECODER_COUNT));

    return MIN(count, CXL_HDM_DECODER_COUNT);
}

/* What a decoder of a host bridge or switch sends, and whether to the port */
typedef struct PortDecoder {
    uint64_t base;
    uint64_t size;
    bool host_only;
    bool to_port;
} PortDecoder;

/* Read decoder @n of a host bridge or switch; false if it is not committed */
static bool cxl_route_read_decoder(uint32_t *cache_mem, unsigned n,
                                   PCIDevice *port, PortDecoder *d)
{
    const unsigned inc = R_CXL_HDM_DECODER1_BASE_LO -
                         R_CXL_HDM_DECODER0_BASE_LO;
    uint32_t *reg = cache_mem + n * inc;
    uint32_t ctrl = ldl_le_p(reg + R_CXL_HDM_DECODER0_CTRL);
    uint32_t list = ldl_le_p(reg + R_CXL_HDM_DECODER0_TARGET_LIST_LO);

    if (!FIELD_EX32(ctrl, CXL_HDM_DECODER0_CTRL, COMMITTED)) {
        return false;
    }
    d->base = ldl_le_p(reg + R_CXL_HDM_DECODER0_BASE_LO) &
              R_CXL_HDM_DECODER0_BASE_LO_L_MASK;
    d->base |= (uint64_t)ldl_le_p(reg + R_CXL_HDM_DECODER0_BASE_HI) << 32;
    d->size = ldl_le_p(reg + R_CXL_HDM_DECODER0_SIZE_LO) &
              R_CXL_HDM_DECODER0_BASE_LO_L_MASK;
    d->size |= (uint64_t)ldl_le_p(reg + R_CXL_HDM_DECODER0_SIZE_HI) << 32;
    d->host_only = FIELD_EX32(ctrl, CXL_HDM_DECODER0_CTRL, TYPE);
    d->to_port = FIELD_EX32(ctrl, CXL_HDM_DECODER0_CTRL, IW) == 0 &&
                 pcie_find_port_by_pn(pci_get_bus(port),
                                      extract32(list, 0, 8)) == port;
    return true;
}

/*
 * Check whether a host bridge or switch sends an address to @port. As for
 * type 3 devices, the first committed decoder with the address decides.
 */
static bool cxl_route_decodes_to_port(uint32_t *cache_mem, PCIDevice *port,
                                      void *opaque)
{
    RoutePoint *point = opaque;

    point->port = port;
    for (unsigned i = 0; i < cxl_route_count_decoders(cache_mem); i++) {
        PortDecoder d;

        if (!cxl_route_read_decoder(cache_mem, i, port, &d)) {
            continue;
        }
        if (d.base > point->at) {
            if (d.size) {
                point->size = MIN(point->size, d.base - point->at);
            }
        } else if (point->at - d.base < d.size) {
            point->size = MIN(point->size, d.size - (point->at - d.base));
            return d.to_port;
        }
    }
    return false;
}

/* Check whether a decoder sends @port exactly what @opaque does */
static bool cxl_route_has_decoder(uint32_t *cache_mem, PCIDevice *port,
                                  void *opaque)
{
    const PortDecoder *wanted = opaque;

    for (unsigned i = 0; i < cxl_route_count_decoders(cache_mem); i++) {
        PortDecoder d;

        if (cxl_route_read_decoder(cache_mem, i, port, &d) && d.to_port &&
            d.base == wanted->base && d.size == wanted->size &&
            d.host_only == wanted->host_only) {
            return true;
        }
    }
    return false;
}

/* Add to @opaque the decoders of the host bridge or switch above @port */
static bool cxl_route_add_decoded(uint32_t *cache_mem, PCIDevice *port,
                                  void *opaque)
{
    for (unsigned i = 0; i < cxl_route_count_decoders(cache_mem); i++) {
        PortDecoder d;

        if (cxl_route_read_decoder(cache_mem, i, port, &d) && d.to_port) {
            g_array_append_val(opaque, d);
        }
    }
    return false;
}

static CXLFixedWindow *cxl_route_find_window(CXLRoutes *routes, PXBCXLDev *hb,
                                             const CXLHDMRange *range,
                                             Error **errp)
{
    for (GSList *l = cxl_route_find_windows(routes); l; l = l->next) {
        CXLFixedWindow *fw = l->data;

        if (!fw->base || range->base < fw->base ||
            range->base - fw->base >= fw->size) {
            continue;
        }
        if (fw->num_targets != 1) {
            error_setg(errp, "the fixed memory window is interleaved");
        } else if (!cxl_window_serves(fw, hb)) {
            error_setg(errp, "the fixed memory window does not target the "
                       "device's host bridge");
        } else if (range->size > fw->size - (range->base - fw->base)) {
            error_setg(errp, "range crosses the end of the fixed memory "
                       "window");
        } else {
            return fw;
        }
        return NULL;
    }
    error_setg(errp, "range is not inside a fixed memory window");
    return NULL;
}

static bool cxl_route_mapped_for_another(CXLRoutes *routes, CXLEndpoint *ep,
                                         const CXLHDMRange *range)
{
    for (GSList *l = routes->maps; l; l = l->next) {
        CXLRouteMap *map = l->data;

        if (map->ep != ep &&
            ranges_overlap(range->base, range->size, map->range.base,
                           map->range.size)) {
            return true;
        }
    }
    return false;
}

bool cxl_route_check(CXLEndpoint *ep, const CXLHDMRange *range, Error **errp)
{
    PXBCXLDev *hb = cxl_route_host_bridge(cxl_endpoint_pci_device(ep));
    CXLRoutes *routes = cxl_route_find_all();

    if (!hb || !routes) {
        error_setg(errp, "device is not below a CXL host bridge");
        return false;
    }
    if (!cxl_route_find_window(routes, hb, range, errp)) {
        return false;
    }
    if (cxl_route_mapped_for_another(routes, ep, range)) {
        error_setg(errp, "range is mapped for another device");
        return false;
    }
    return true;
}

const CXLHDMRange *cxl_route_find_overlap(const GArray *ranges, uint64_t base,
                                          uint64_t size)
{
    for (unsigned i = 0; i < ranges->len; i++) {
        const CXLHDMRange *r = &g_array_index(ranges, CXLHDMRange, i);

        if (ranges_overlap(base, size, r->base, r->size)) {
            return r;
        }
    }
    return NULL;
}

bool cxl_route_find_decoded(CXLEndpoint *ep, const GArray *taken,
                            uint64_t *base)
{
    CXLEndpointInfo info = cxl_endpoint_info(ep);
    g_autoptr(GArray) found = g_array_new(false, false, sizeof(PortDecoder));
    PCIDevice *pdev = cxl_endpoint_pci_device(ep);
    PXBCXLDev *hb = cxl_route_host_bridge(pdev);

    cxl_route_foreach_decoder(pdev, hb, cxl_route_add_decoded, found);
    for (unsigned i = 0; i < found->len; i++) {
        PortDecoder *d = &g_array_index(found, PortDecoder, i);
        CXLHDMRange range = { .base = d->base, .size = d->size };
        RoutePoint point = { .at = d->base, .size = d->size };

        if (d->size == info.memory_size && d->host_only == info.host_only &&
            !cxl_route_find_overlap(taken, d->base, d->size) &&
            cxl_route_foreach_decoder(pdev, hb, cxl_route_has_decoder, d) &&
            /* Others do not come first, for any part of it */
            cxl_route_foreach_decoder(pdev, hb, cxl_route_decodes_to_port,
                                      &point) && point.size == d->size &&
            cxl_route_check(ep, &range, NULL)) {
            *base = d->base;
            return true;
        }
    }
    return false;
}

static void cxl_route_unmap(CXLRoutes *routes, CXLRouteMap *map)
{
    trace_cxl_route_unmap(cxl_endpoint_pci_device(map->ep)->name, map->decoder,
                          map->range.base);
    memory_region_del_subregion(&map->fw->mr, map->alias);
    object_unparent(OBJECT(map->alias));
    g_free(map->alias);
    routes->maps = g_slist_remove(routes->maps, map);
    g_free(map);
}

static void cxl_route_map(CXLRoutes *routes, const CXLRouteMap *wanted)
{
    CXLRouteMap *map = g_memdup2(wanted, sizeof(*wanted));
    CXLEndpoint *ep = map->ep;

    /* The owner keeps the PCI device alive while a guest can reach it */
    map->alias = g_new0(MemoryRegion, 1);
    memory_region_init_alias(map->alias, OBJECT(cxl_endpoint_pci_device(ep)),
                             "cxl-hdm", CXL_ENDPOINT_GET_CLASS(ep)->memory(ep),
                             map->range.dpa, map->range.size);
    memory_region_add_subregion(&map->fw->mr, map->range.base - map->fw->base,
                                map->alias);
    routes->maps = g_slist_prepend(routes->maps, map);
    trace_cxl_route_map(cxl_endpoint_pci_device(ep)->name, map->decoder,
                        map->range.base, map->range.size, map->range.dpa);
}

/*
 * Walk all ports for each part of @status->range that takes the same path, and
 * add to @wanted, if not NULL, what arrives at the endpoint. Returns true if
 * all of it does.
 */
static bool cxl_route_walk_ports(CXLEndpoint *ep, PXBCXLDev *hb, unsigned n,
                                 CXLRouteStatus *status, GArray *wanted)
{
    const CXLHDMRange *range = &status->range;
    RoutePoint point = { .at = range->base };
    CXLRouteMap *last = NULL;
    bool all = true;

    while (point.at - range->base < range->size) {
        point.size = range->size - (point.at - range->base);
        if (!cxl_route_foreach_decoder(cxl_endpoint_pci_device(ep), hb,
                                       cxl_route_decodes_to_port, &point)) {
            status->port = status->port ?: point.port;
            last = NULL;
            all = false;
        } else if (last) {
            last->range.size += point.size;
        } else if (wanted) {
            CXLRouteMap map = {
                .ep = ep,
                .fw = status->window,
                .decoder = n,
                .range.base = point.at,
                .range.size = point.size,
                .range.dpa = range->dpa + (point.at - range->base),
            };

            g_array_append_val(wanted, map);
            last = &g_array_index(wanted, CXLRouteMap, wanted->len - 1);
        }
        point.at += point.size;
    }
    return all;
}

static CXLRouteState cxl_route_find_state(CXLRoutes *routes, CXLEndpoint *ep,
                                          unsigned n, CXLRouteStatus *status,
                                          GArray *wanted)
{
    CXLEndpointClass *epc = CXL_ENDPOINT_GET_CLASS(ep);
    PCIDevice *pdev = epc->pci_device(ep);
    PCIDevice *first;
    PXBCXLDev *hb;
    bool active;

    if (!epc->get_decoder(ep, n, &status->range, &active) || !active) {
        return CXL_ROUTE_NOT_COMMITTED;
    }
    status->window = NULL;
    hb = cxl_route_host_bridge(pdev);
    if (hb) {
        status->window = cxl_route_find_window(routes, hb, &status->range,
                                               NULL);
    }
    if (!status->window) {
        return CXL_ROUTE_NO_WINDOW;
    }
    if (!epc->memory(ep)) {
        return CXL_ROUTE_NO_MEMORY;
    }
    /* CXL.mem of this port goes to the emulated device at function 0 */
    first = pci_get_bus(pdev)->devices[0];
    if (first && object_dynamic_cast(OBJECT(first), TYPE_CXL_TYPE3)) {
        status->port = pci_bridge_get_device(pci_get_bus(pdev));
        return CXL_ROUTE_NOT_DECODED;
    }
    return cxl_route_walk_ports(ep, hb, n, status, wanted) ?
           CXL_ROUTE_MAPPED : CXL_ROUTE_NOT_DECODED;
}

CXLRouteState cxl_route_status(CXLEndpoint *ep, unsigned n,
                               CXLRouteStatus *status)
{
    CXLRoutes *routes = cxl_route_find_all();
    CXLRouteState state;

    memset(status, 0, sizeof(*status));
    if (!routes) {
        return CXL_ROUTE_NOT_COMMITTED;
    }
    state = cxl_route_find_state(routes, ep, n, status, NULL);
    if (state == CXL_ROUTE_MAPPED &&
        cxl_route_mapped_for_another(routes, ep, &status->range)) {
        return CXL_ROUTE_TAKEN;
    }
    return state;
}

/* Find the ranges of an endpoint to map: CXLRouteMaps without alias */
static GArray *cxl_route_find_wanted(CXLRoutes *routes, CXLEndpoint *ep)
{
    static const char *const why[] = {
        [CXL_ROUTE_NO_WINDOW] = "no window",
        [CXL_ROUTE_NO_MEMORY] = "memory not accessible",
        [CXL_ROUTE_NOT_DECODED] = "not decoded by a port",
    };
    GArray *wanted = g_array_new(false, false, sizeof(CXLRouteMap));

    for (unsigned n = 0; n < HDM_DECODE_MAX; n++) {
        CXLRouteStatus status = { };
        CXLRouteState state = cxl_route_find_state(routes, ep, n, &status,
                                                   wanted);

        if (state != CXL_ROUTE_MAPPED && state != CXL_ROUTE_NOT_COMMITTED) {
            trace_cxl_route_none(cxl_endpoint_pci_device(ep)->name, n,
                                 status.range.base, why[state]);
        }
    }
    return wanted;
}

static bool cxl_route_same_map(const CXLRouteMap *a, const CXLRouteMap *b)
{
    return a->ep == b->ep && a->fw == b->fw && a->decoder == b->decoder &&
           !memcmp(&a->range, &b->range, sizeof(a->range));
}

static void cxl_route_unmap_stale(CXLRoutes *routes, CXLEndpoint *ep,
                                  GArray *wanted)
{
    GSList *next;

    for (GSList *l = routes->maps; l; l = next) {
        CXLRouteMap *map = l->data;
        bool stale = map->ep == ep;

        next = l->next;
        for (unsigned i = 0; i < wanted->len; i++) {
            CXLRouteMap *entry = &g_array_index(wanted, CXLRouteMap, i);

            stale &= !cxl_route_same_map(map, entry);
        }
        if (stale) {
            cxl_route_unmap(routes, map);
        }
    }
}

static void cxl_route_map_wanted(CXLRoutes *routes, CXLEndpoint *ep,
                                 GArray *wanted)
{
    for (unsigned i = 0; i < wanted->len; i++) {
        CXLRouteMap *entry = &g_array_index(wanted, CXLRouteMap, i);
        bool mapped = false;

        for (GSList *l = routes->maps; l; l = l->next) {
            mapped |= cxl_route_same_map(l->data, entry);
        }
        if (!mapped &&
            !cxl_route_mapped_for_another(routes, ep, &entry->range)) {
            cxl_route_map(routes, entry);
        }
    }
}

void cxl_route_update_all(void)
{
    CXLRoutes *routes = cxl_route_find_all();
    GPtrArray *wanted;
    unsigned i = 0;

    if (!routes || !routes->endpoints) {
        return;
    }
    wanted = g_ptr_array_new_with_free_func((GDestroyNotify)g_array_unref);
    memory_region_transaction_begin();
    for (GSList *l = routes->endpoints; l; l = l->next) {
        g_ptr_array_add(wanted, cxl_route_find_wanted(routes, l->data));
    }
    /* Unmap all first: a range may now belong to another endpoint */
    for (GSList *l = routes->endpoints; l; l = l->next) {
        cxl_route_unmap_stale(routes, l->data,
                              g_ptr_array_index(wanted, i++));
    }
    i = 0;
    for (GSList *l = routes->endpoints; l; l = l->next) {
        cxl_route_map_wanted(routes, l->data, g_ptr_array_index(wanted, i++));
    }
    memory_region_transaction_commit();
    g_ptr_array_unref(wanted);
}

GSList *cxl_endpoints(void)
{
    CXLRoutes *routes = cxl_route_find_all();

    return routes ? g_slist_copy(routes->endpoints) : NULL;
}

void cxl_route_add(CXLEndpoint *ep)
{
    CXLRoutes *routes = cxl_route_find_all();

    if (!routes) {
        routes = CXL_ROUTES(object_new(TYPE_CXL_ROUTES));
        object_property_add_child(qdev_get_machine(), TYPE_CXL_ROUTES,
                                  OBJECT(routes));
        object_unref(routes);
    }
    routes->endpoints = g_slist_insert_sorted(routes->endpoints, ep,
                                              cxl_endpoint_compare);
}

void cxl_route_remove(CXLEndpoint *ep)
{
    CXLRoutes *routes = cxl_route_find_all();
    g_autoptr(GArray) nothing = g_array_new(false, false, sizeof(CXLRouteMap));

    if (!routes) {
        return;
    }
    memory_region_transaction_begin();
    cxl_route_unmap_stale(routes, ep, nothing);
    routes->endpoints = g_slist_remove(routes->endpoints, ep);
    cxl_route_update_all();
    memory_region_transaction_commit();
    if (!routes->endpoints) {
        object_unparent(OBJECT(routes));
    }
}

static void cxl_routes_finalize(Object *obj)
{
    g_slist_free(CXL_ROUTES(obj)->endpoints);
    g_slist_free(CXL_ROUTES(obj)->windows);
}

static const TypeInfo cxl_route_types[] = {
    {
        .name = TYPE_CXL_ROUTES,
        .parent = TYPE_OBJECT,
        .instance_size = sizeof(CXLRoutes),
        .instance_finalize = cxl_routes_finalize,
    },
};

DEFINE_TYPES(cxl_route_types)
