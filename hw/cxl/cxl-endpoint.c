/*
 * CXL endpoints whose memory is mapped directly, and the ports above them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/cxl/cxl.h"
#include "hw/cxl/cxl_endpoint.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pcie_port.h"

PCIDevice *cxl_endpoint_pci_device(CXLEndpoint *ep)
{
    return CXL_ENDPOINT_GET_CLASS(ep)->pci_device(ep);
}

CXLEndpointInfo cxl_endpoint_info(CXLEndpoint *ep)
{
    CXLEndpointInfo info = { };

    CXL_ENDPOINT_GET_CLASS(ep)->get_info(ep, &info);
    return info;
}

static bool cxl_endpoint_is_a(PCIDevice *pdev, const char *type)
{
    return pdev && object_dynamic_cast(OBJECT(pdev), type);
}

PXBCXLDev *cxl_route_host_bridge(PCIDevice *pdev)
{
    PCIBus *bus = pci_get_bus(pdev);
    PCIDevice *port = pci_bridge_get_device(bus);

    /* Switches alternate downstream and upstream ports */
    while (!pci_bus_is_root(bus) && cxl_endpoint_is_a(port, TYPE_CXL_DSP)) {
        port = pci_bridge_get_device(pci_get_bus(port));
        if (!cxl_endpoint_is_a(port, TYPE_CXL_USP)) {
            return NULL;
        }
        bus = pci_get_bus(port);
        port = pci_bridge_get_device(bus);
    }
    if (pci_bus_is_root(bus) || !cxl_endpoint_is_a(port, "cxl-rp")) {
        return NULL;
    }
    bus = pci_get_bus(port);
    if (!pci_bus_is_root(bus) || !pci_bus_is_cxl(bus)) {
        return NULL;
    }
    return PXB_CXL_DEV(bus->parent_dev);
}

static PCIBus *cxl_endpoint_host_bridge_bus(PXBCXLDev *hb)
{
    return PCI_HOST_BRIDGE(hb->cxl_host_bridge)->bus;
}

static bool cxl_endpoint_host_bridge_is_pass_through(PXBCXLDev *hb)
{
    return !hb->hdm_for_passthrough &&
           pcie_count_ds_ports(cxl_endpoint_host_bridge_bus(hb)) == 1;
}

bool cxl_route_foreach_decoder(PCIDevice *pdev, PXBCXLDev *hb,
                               CXLRouteDecoderFunc *func, void *opaque)
{
    PCIDevice *port = pci_bridge_get_device(pci_get_bus(pdev));
    CXLComponentState *cstate;

    for (; !pci_bus_is_root(pci_get_bus(port));
         port = pci_bridge_get_device(pci_get_bus(port))) {
        PCIDevice *above = pci_bridge_get_device(pci_get_bus(port));

        if (cxl_endpoint_is_a(above, TYPE_CXL_USP)) {
            cstate = cxl_usp_to_cstate(CXL_USP(above));
            if (!func(cstate->crb.cache_mem_registers, port, opaque)) {
                return false;
            }
        }
    }
    if (cxl_endpoint_host_bridge_is_pass_through(hb)) {
        return true;
    }
    cstate = cxl_get_hb_cstate(PCI_HOST_BRIDGE(hb->cxl_host_bridge));
    return func(cstate->crb.cache_mem_registers, port, opaque);
}

/* Depth of @pdev below its root bus; 0 directly on it */
static unsigned cxl_endpoint_depth(PCIDevice *pdev)
{
    unsigned n = 0;

    while (!pci_bus_is_root(pci_get_bus(pdev))) {
        pdev = pci_bridge_get_device(pci_get_bus(pdev));
        n++;
    }
    return n;
}

static PCIDevice *cxl_endpoint_ancestor(PCIDevice *pdev, unsigned levels)
{
    while (levels--) {
        pdev = pci_bridge_get_device(pci_get_bus(pdev));
    }
    return pdev;
}

/* Users choose port numbers; slots may depend on the order of options */
static int cxl_endpoint_compare_step(PCIDevice *a, PCIDevice *b)
{
    int diff = 0;

    if (cxl_endpoint_is_a(a, TYPE_PCIE_PORT) &&
        cxl_endpoint_is_a(b, TYPE_PCIE_PORT)) {
        diff = PCIE_PORT(a)->port - PCIE_PORT(b)->port;
    }
    return diff ?: a->devfn - b->devfn;
}

gint cxl_endpoint_compare(gconstpointer a, gconstpointer b)
{
    PCIDevice *pa = cxl_endpoint_pci_device((CXLEndpoint *)a);
    PCIDevice *pb = cxl_endpoint_pci_device((CXLEndpoint *)b);
    unsigned da = cxl_endpoint_depth(pa), db = cxl_endpoint_depth(pb);
    int diff = pci_bus_num(pci_get_bus(cxl_endpoint_ancestor(pa, da))) -
               pci_bus_num(pci_get_bus(cxl_endpoint_ancestor(pb, db)));

    for (unsigned i = 0; !diff && i <= MIN(da, db); i++) {
        diff = cxl_endpoint_compare_step(cxl_endpoint_ancestor(pa, da - i),
                                      cxl_endpoint_ancestor(pb, db - i));
    }
    return diff ? diff : (int)da - (int)db;
}

static const TypeInfo cxl_endpoint_types[] = {
    {
        .name = TYPE_CXL_ENDPOINT,
        .parent = TYPE_INTERFACE,
        .class_size = sizeof(CXLEndpointClass),
    },
};

DEFINE_TYPES(cxl_endpoint_types)
