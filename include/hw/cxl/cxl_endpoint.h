/*
 * CXL endpoints whose memory is mapped directly, and the ports above them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CXL_ENDPOINT_H
#define CXL_ENDPOINT_H

#include "hw/cxl/cxl.h"
#include "hw/cxl/cxl_hdm.h"

#define TYPE_CXL_ENDPOINT "cxl-endpoint"
typedef struct CXLEndpoint CXLEndpoint;
typedef struct CXLEndpointClass CXLEndpointClass;
DECLARE_CLASS_CHECKERS(CXLEndpointClass, CXL_ENDPOINT, TYPE_CXL_ENDPOINT)
#define CXL_ENDPOINT(obj) INTERFACE_CHECK(CXLEndpoint, (obj), TYPE_CXL_ENDPOINT)

/**
 * struct CXLEndpointInfo - constant properties of an endpoint
 * @memory_size: size of its memory in bytes
 * @host_only: the memory is host-only coherent (HDM-H), not device coherent
 * @firmware_commits: the platform's firmware is to commit decoder 0, rather
 *                    than the operating system
 * @firmware_locks: the platform's firmware is also to lock it
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
 * @get_info: fill in the constant properties
 * @get_decoder: what decoder @n maps; false if it is not committed or there
 *               is no such decoder. @active: HDM Decoder Enable is set, too
 * @memory: the device's memory, DPA 0 first; NULL while it must not be accessed
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
 * cxl_endpoint_pci_device() - Get the PCI function of an endpoint
 * @ep: the endpoint
 */
PCIDevice *cxl_endpoint_pci_device(CXLEndpoint *ep);

/**
 * cxl_endpoint_info() - Get the constant properties of an endpoint
 * @ep: the endpoint
 */
CXLEndpointInfo cxl_endpoint_info(CXLEndpoint *ep);

/**
 * cxl_route_host_bridge() - Get the pxb-cxl above a PCI device
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
 * 8.2.4.20) and is not visited, unless it was configured to.
 *
 * Returns: false as soon as @func does
 */
bool cxl_route_foreach_decoder(PCIDevice *pdev, PXBCXLDev *hb,
                               CXLRouteDecoderFunc *func, void *opaque);

/**
 * cxl_endpoint_compare() - Compare two endpoints
 * @a: a CXLEndpoint
 * @b: another
 *
 * Orders by bus_nr of the host bridge, numbers of the ports, and function,
 * regardless of the order of creation. A GCompareFunc.
 *
 * Returns: less than, equal to or greater than 0
 */
gint cxl_endpoint_compare(gconstpointer a, gconstpointer b);

#endif /* CXL_ENDPOINT_H */
