/*
 * From CXL fixed memory windows to the memory of endpoints
 *
 * An endpoint's memory is visible at an address while every decoder on the
 * way agrees: a fixed window that targets the host bridge, the host bridge
 * (or its pass-through rule), each switch, and a committed decoder of the
 * endpoint. It then appears as an alias inside the window's MemoryRegion.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CXL_ROUTE_H
#define CXL_ROUTE_H

#include "hw/cxl/cxl.h"
#include "hw/cxl/cxl_endpoint.h"
#include "hw/cxl/cxl_hdm.h"

/**
 * cxl_route_check() - Check that the fixed windows allow @range
 * @ep: the endpoint
 * @range: what one of its decoders would map
 * @errp: set to why not
 *
 * The ports on the way are no reason for refusal, since operating systems
 * commit the endpoint first.
 */
bool cxl_route_check(CXLEndpoint *ep, const CXLHDMRange *range, Error **errp);

/* Why a decoder's range is not mapped */
typedef enum CXLRouteState {
    CXL_ROUTE_MAPPED,
    CXL_ROUTE_NOT_COMMITTED,    /* or decoders are disabled */
    CXL_ROUTE_NO_WINDOW,
    CXL_ROUTE_NO_MEMORY,        /* the endpoint's is not accessible */
    CXL_ROUTE_NOT_DECODED,      /* by a host bridge or switch on the way */
    CXL_ROUTE_TAKEN,            /* mapped for another endpoint */
} CXLRouteState;

/**
 * struct CXLRouteStatus - where a decoder leads
 * @range: what it maps, unless it is not committed
 * @window: the fixed window with that range, NULL if there is none
 * @port: with CXL_ROUTE_NOT_DECODED the port to which no decoder above it
 *        sends all of the range; parts may be mapped
 */
typedef struct CXLRouteStatus {
    CXLHDMRange range;
    CXLFixedWindow *window;
    PCIDevice *port;
} CXLRouteStatus;

/**
 * cxl_route_status() - Find out whether a decoder's range is mapped
 * @ep: the endpoint
 * @n: the decoder
 * @status: filled in
 */
CXLRouteState cxl_route_status(CXLEndpoint *ep, unsigned n,
                               CXLRouteStatus *status);

/**
 * cxl_route_find_overlap() - Find a range that overlaps another
 * @ranges: CXLHDMRanges
 * @base: guest physical address
 * @size: bytes
 *
 * Returns: the first one in @ranges, NULL if there is none
 */
const CXLHDMRange *cxl_route_find_overlap(const GArray *ranges, uint64_t base,
                                          uint64_t size);

/**
 * cxl_route_find_decoded() - Find a range that is already sent to an endpoint
 * @ep: the endpoint
 * @taken: CXLHDMRanges that others use
 * @base: where to store the guest physical address
 *
 * Returns: true if each host bridge and switch on the way has a decoder for
 * exactly a range of the size and type of the memory, which is in a window and
 * not mapped for another endpoint. They may be left from an earlier device.
 */
bool cxl_route_find_decoded(CXLEndpoint *ep, const GArray *taken,
                            uint64_t *base);

/**
 * cxl_route_add() - Add an endpoint
 * @ep: the endpoint
 */
void cxl_route_add(CXLEndpoint *ep);

/**
 * cxl_route_remove() - Unmap an endpoint and forget it
 * @ep: the endpoint; need not have been added
 */
void cxl_route_remove(CXLEndpoint *ep);

/**
 * cxl_route_update_all() - Update the map to match all decoders
 *
 * To be called after each change of a decoder of a host bridge, switch or
 * endpoint, and of whether an endpoint's memory is accessible. A reset of a
 * port needs no call: it resets the endpoints below as well. Addresses are
 * mapped that every decoder on the way sends to the endpoint; if two functions
 * behind one port claim the same address, the one that has it keeps it. Does
 * nothing in a machine without endpoints.
 */
void cxl_route_update_all(void);

/**
 * cxl_endpoints() - Get all endpoints
 *
 * Returns: CXLEndpoints in the order of bus_nr of the host bridge, numbers of
 * the ports, and function, regardless of the order of creation. Free with
 * g_slist_free().
 */
GSList *cxl_endpoints(void);

#endif /* CXL_ROUTE_H */
