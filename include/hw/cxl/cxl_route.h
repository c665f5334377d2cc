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
#include "hw/cxl/cxl_hdm.h"

#define TYPE_CXL_ENDPOINT "cxl-endpoint"
typedef struct CXLEndpoint CXLEndpoint;
typedef struct CXLEndpointClass CXLEndpointClass;
DECLARE_CLASS_CHECKERS(CXLEndpointClass, CXL_ENDPOINT, TYPE_CXL_ENDPOINT)
#define CXL_ENDPOINT(obj) INTERFACE_CHECK(CXLEndpoint, (obj), TYPE_CXL_ENDPOINT)

/**
 * struct CXLEndpointInfo - what does not change about an endpoint
 * @memory_size: bytes of memory that it has
 * @host_only: the memory is host-only coherent (HDM-H), not device coherent
 * @firmware_commits: the platform's firmware is to commit decoder 0, not the
 *                    operating system
 * @firmware_locks: and to lock it
 */
typedef struct CXLEndpointInfo {
    uint64_t memory_size;
    bool host_only;
    bool firmware_commits;
    bool firmware_locks;
} CXLEndpointInfo;

/**
 * struct CXLEndpointClass - a device whose memory is mapped directly
 * @pci_device: its PCI function
 * @get_info: fill in what does not change
 * @get_decoder: what decoder @n maps; false if it is not committed or there
 *               is no such decoder. @active: HDM Decoder Enable is set, too
 * @memory: the device's memory, DPA 0 first; NULL while it may not be touched
 * @firmware_commit: commit all memory to decoder 0 at @base, and enable it
 */
struct CXLEndpointClass {
    InterfaceClass parent_class;

    PCIDevice *(*pci_device)(CXLEndpoint *ep);
    void (*get_info)(CXLEndpoint *ep, CXLEndpointInfo *info);
    bool (*get_decoder)(CXLEndpoint *ep, unsigned n, CXLHDMRange *range,
                        bool *active);
    MemoryRegion *(*memory)(CXLEndpoint *ep);
    bool (*firmware_commit)(CXLEndpoint *ep, uint64_t base, Error **errp);
};

/**
 * cxl_endpoint_pci_device() - The PCI function of an endpoint
 * @ep: the endpoint
 */
PCIDevice *cxl_endpoint_pci_device(CXLEndpoint *ep);

/**
 * cxl_endpoint_info() - What does not change about an endpoint
 * @ep: the endpoint
 */
CXLEndpointInfo cxl_endpoint_info(CXLEndpoint *ep);

/**
 * cxl_route_host_bridge() - The pxb-cxl above a PCI device
 * @pdev: the device
 *
 * Returns: NULL unless all ports between the two are CXL ports, of which each
 * upstream port has a root port or a downstream port above it
 */
PXBCXLDev *cxl_route_host_bridge(PCIDevice *pdev);

typedef bool CXLRouteDecoderFunc(uint32_t *cache_mem, PCIDevice *port,
                                 void *opaque);

/**
 * cxl_route_foreach_decoder() - Visit the HDM decoders above a device
 * @pdev: the device
 * @hb: its host bridge
 * @func: called with the CXL.cache/mem registers of each switch and of the
 *        host bridge, and the port there that leads to the device
 * @opaque: passed to @func
 *
 * A host bridge with one root port decodes nothing (CXL r3.1 Section
 * 8.2.4.20) and is not visited, unless it was told to.
 *
 * Returns: false as soon as @func does
 */
bool cxl_route_foreach_decoder(PCIDevice *pdev, PXBCXLDev *hb,
                               CXLRouteDecoderFunc *func, void *opaque);

/**
 * cxl_window_serves() - Can a device below @hb be mapped in window @fw?
 * @fw: the window
 * @hb: the host bridge
 *
 * Returns: true if @fw was given a place and @hb is its only target
 */
bool cxl_window_serves(CXLFixedWindow *fw, PXBCXLDev *hb);

/**
 * cxl_route_check() - Do the fixed windows allow @range for an endpoint?
 * @ep: the endpoint
 * @range: what one of its decoders would map
 * @errp: why not
 *
 * The ports on the way are no reason to refuse: operating systems commit
 * the endpoint first.
 */
bool cxl_route_check(CXLEndpoint *ep, const CXLHDMRange *range, Error **errp);

/* Why a decoder's range is not mapped */
typedef enum CXLRouteState {
    CXL_ROUTE_MAPPED,
    CXL_ROUTE_NOT_COMMITTED,    /* or decoders are disabled */
    CXL_ROUTE_NO_WINDOW,
    CXL_ROUTE_NO_MEMORY,        /* the endpoint's may not be touched */
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
 * cxl_route_status() - Is a decoder's range mapped, and if not why
 * @ep: the endpoint
 * @n: the decoder
 * @status: filled in
 */
CXLRouteState cxl_route_status(CXLEndpoint *ep, unsigned n,
                               CXLRouteStatus *status);

/**
 * cxl_route_add() - Let an endpoint take part
 * @ep: the endpoint
 */
void cxl_route_add(CXLEndpoint *ep);

/**
 * cxl_route_remove() - Unmap an endpoint and forget it
 * @ep: the endpoint; need not have been added
 */
void cxl_route_remove(CXLEndpoint *ep);

/**
 * cxl_route_update_all() - Make the map what the decoders say
 *
 * To be called after each change of a decoder of a host bridge, switch or
 * endpoint, and of whether an endpoint's memory may be touched. A reset of a
 * port needs no call: it resets the endpoints below as well. Addresses
 * are mapped that every decoder on the way sends to the endpoint; of two
 * functions behind one port that claim the same, the one that has it keeps
 * it. Does nothing in a machine without endpoints.
 */
void cxl_route_update_all(void);

/**
 * cxl_route_update() - The same, after a change in one endpoint
 * @ep: the endpoint
 */
void cxl_route_update(CXLEndpoint *ep);

/**
 * cxl_endpoints() - All endpoints
 *
 * Returns: CXLEndpoints in the order of bus_nr of the host bridge, numbers of
 * the ports, and function, whatever the order in which they were made. Free
 * with g_slist_free().
 */
GSList *cxl_endpoints(void);

/**
 * cxl_firmware_init() - Make sure that there is virtual firmware
 *
 * It stands in for what platform firmware does: after each system reset it
 * gives the endpoints that want it a place in a window and commits them.
 */
void cxl_firmware_init(void);

/**
 * cxl_firmware_exit() - Remove virtual firmware after the last endpoint
 */
void cxl_firmware_exit(void);

/**
 * cxl_firmware_check() - Check that all endpoints can be placed
 * @errp: an endpoint that cannot, and which option would help
 *
 * Ports that can be told apart, enough room in windows, and enough decoders
 * in the ports. Always true in a machine without endpoints.
 */
bool cxl_firmware_check(Error **errp);

/**
 * cxl_firmware_check_endpoint() - Will @ep find a place with all others?
 * @ep: an endpoint that is being plugged into a running machine
 * @errp: why not, and which option would help
 *
 * At the next system reset, that is: now it may have to wait until the
 * guest's software makes room.
 */
bool cxl_firmware_check_endpoint(CXLEndpoint *ep, Error **errp);

/**
 * cxl_firmware_plug() - Commit an endpoint that has been plugged
 * @ep: the endpoint, as its reset left it
 *
 * If firmware is to commit it, nothing between window and endpoint has a
 * decoder, and a window has room. Otherwise the endpoint stays uncommitted
 * for the guest's software: outside a system reset the decoders of host
 * bridges and switches are the guest's. Does nothing during a system reset.
 */
void cxl_firmware_plug(CXLEndpoint *ep);

#endif /* CXL_ROUTE_H */
