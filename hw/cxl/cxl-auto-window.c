/*
 * CXL fixed memory windows that the machine makes and checks itself
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/range.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/cxl/cxl.h"
#include "hw/cxl/cxl_auto_window.h"
#include "hw/cxl/cxl_host.h"
#include "hw/cxl/cxl_route.h"
#include "hw/cxl/cxl_window.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"

/* CXL r3.1 Section 9.18.1.3: Window Restrictions of a CFMWS */
#define CFMWS_DEVICE_COHERENT   BIT(0)
#define CFMWS_HOST_ONLY         BIT(1)
#define CFMWS_VOLATILE          BIT(2)
#define CFMWS_PERSISTENT        BIT(3)
#define CFMWS_FIXED_CONFIG      BIT(4)
#define CFMWS_BACK_INVALIDATE   BIT(5)

/* What the devices below a host bridge need */
typedef struct BridgeNeed {
    PXBCXLDev *hb;
    uint64_t size;
} BridgeNeed;

static PXBCXLDev *cxl_window_endpoint_bridge(CXLEndpoint *ep)
{
    return cxl_route_host_bridge(cxl_endpoint_pci_device(ep));
}

static GArray *cxl_window_bridge_needs(void)
{
    GArray *needs = g_array_new(false, false, sizeof(BridgeNeed));
    g_autoptr(GSList) endpoints = cxl_endpoints();
    BridgeNeed *need = NULL;

    /* They are sorted, so those of one bridge follow each other */
    for (GSList *l = endpoints; l; l = l->next) {
        uint64_t size = cxl_endpoint_info(l->data).memory_size;
        BridgeNeed entry = { .hb = cxl_window_endpoint_bridge(l->data) };

        if (!need || need->hb != entry.hb) {
            g_array_append_val(needs, entry);
            need = &g_array_index(needs, BridgeNeed, needs->len - 1);
        }
        need->size = ROUND_UP(need->size, GiB) + ROUND_UP(size, CXL_HDM_ALIGN);
    }
    return needs;
}

uint64_t cxl_auto_windows_size(void)
{
    g_autoptr(GSList) windows = cxl_fmws_get_all_sorted();
    g_autoptr(GArray) needs = NULL;
    uint64_t size = 0;

    if (windows) {
        return 0;
    }
    needs = cxl_window_bridge_needs();
    for (unsigned i = 0; i < needs->len; i++) {
        size = ROUND_UP(size, GiB) + g_array_index(needs, BridgeNeed, i).size;
    }
    return size;
}

static void cxl_window_make_window(unsigned index, BridgeNeed *need,
                                   hwaddr base)
{
    DeviceState *dev = qdev_new(TYPE_CXL_AUTO_FMW);
    CXLFixedWindow *fw = CXL_FMW(dev);
    g_autofree char *name = g_strdup_printf("cxl-fmw[%u]", index);

    fw->index = index;
    fw->size = need->size;
    fw->num_targets = 1;
    fw->targets = g_new0(char *, 1);
    /* The host bridge need not have an id */
    fw->targets[0] = object_get_canonical_path(OBJECT(need->hb));
    object_property_add_child(qdev_get_machine(), name, OBJECT(dev));
    sysbus_realize_and_unref(SYS_BUS_DEVICE(dev), &error_fatal);
    fw->base = base;
    sysbus_mmio_map(SYS_BUS_DEVICE(dev), 0, base);
}

void cxl_auto_windows_make(hwaddr base)
{
    g_autoptr(GArray) needs = cxl_window_bridge_needs();

    for (unsigned i = 0; i < needs->len; i++) {
        BridgeNeed *need = &g_array_index(needs, BridgeNeed, i);

        base = ROUND_UP(base, GiB);
        cxl_window_make_window(i, need, base);
        base += need->size;
    }
}

hwaddr cxl_windows_end(void)
{
    g_autoptr(GSList) windows = cxl_fmws_get_all_sorted();
    hwaddr end = 0;

    for (GSList *l = windows; l; l = l->next) {
        CXLFixedWindow *fw = l->data;

        if (fw->base) {
            end = MAX(end, fw->base + fw->size);
        }
    }
    return end;
}

uint64_t cxl_windows_total(void)
{
    g_autoptr(GSList) windows = cxl_fmws_get_all_sorted();
    uint64_t size = 0;

    for (GSList *l = windows; l; l = l->next) {
        size += CXL_FMW(l->data)->size;
    }
    return size;
}

bool cxl_windows_overlap(hwaddr base, uint64_t size)
{
    g_autoptr(GSList) windows = cxl_fmws_get_all_sorted();

    for (GSList *l = windows; l; l = l->next) {
        CXLFixedWindow *fw = l->data;

        if (fw->size && ranges_overlap(base, size, fw->base, fw->size)) {
            return true;
        }
    }
    return false;
}

char *cxl_auto_windows_option(void)
{
    g_autoptr(GArray) needs = cxl_window_bridge_needs();
    GString *option = g_string_new(NULL);

    for (unsigned i = 0; i < needs->len; i++) {
        BridgeNeed *need = &g_array_index(needs, BridgeNeed, i);

        cxl_window_append_option(option, i, need->hb, need->size);
    }
    return g_string_free(option, false);
}

static bool cxl_window_is_empty(PCIBus *bus)
{
    for (int i = 0; i < ARRAY_SIZE(bus->devices); i++) {
        if (bus->devices[i]) {
            return false;
        }
    }
    return true;
}

static bool cxl_window_any_below(PCIBus *bus, bool (*test)(PCIDevice *pdev))
{
    for (int i = 0; i < ARRAY_SIZE(bus->devices); i++) {
        PCIDevice *pdev = bus->devices[i];

        if (pdev &&
            (test(pdev) ||
             (IS_PCI_BRIDGE(pdev) &&
              cxl_window_any_below(pci_bridge_get_sec_bus(PCI_BRIDGE(pdev)),
                                   test)))) {
            return true;
        }
    }
    return false;
}

static bool cxl_window_is_type3(PCIDevice *pdev)
{
    return object_dynamic_cast(OBJECT(pdev), TYPE_CXL_TYPE3);
}

/* A port that anything can be plugged into */
static bool cxl_window_is_open_port(PCIDevice *pdev)
{
    PCIBus *sec;

    if (!IS_PCI_BRIDGE(pdev)) {
        return false;
    }
    sec = pci_bridge_get_sec_bus(PCI_BRIDGE(pdev));
    return cxl_window_is_empty(sec) && qbus_is_hotpluggable(BUS(sec));
}

/* Window Restrictions that are compatible with @ep */
static uint16_t cxl_window_endpoint_restrictions(CXLEndpoint *ep)
{
    CXLEndpointInfo info = cxl_endpoint_info(ep);
    bool fixed = info.firmware_locks &&
                 !DEVICE(cxl_endpoint_pci_device(ep))->hotplugged;

    return CFMWS_VOLATILE |
           (info.host_only ? CFMWS_HOST_ONLY : CFMWS_DEVICE_COHERENT) |
           (fixed ? CFMWS_FIXED_CONFIG : 0);
}

uint16_t cxl_window_restrictions(CXLFixedWindow *fw)
{
    const uint16_t any = CFMWS_DEVICE_COHERENT | CFMWS_HOST_ONLY |
                         CFMWS_VOLATILE | CFMWS_PERSISTENT |
                         CFMWS_BACK_INVALIDATE;
    g_autoptr(GSList) endpoints = cxl_endpoints();
    PXBCXLDev *hb = fw->target_hbs[0];
    uint16_t allowed = 0, common = UINT16_MAX;
    PCIBus *bus;

    for (GSList *l = endpoints; l; l = l->next) {
        if (cxl_window_endpoint_bridge(l->data) == hb &&
            cxl_window_serves(fw, hb)) {
            allowed |= cxl_window_endpoint_restrictions(l->data);
            common &= cxl_window_endpoint_restrictions(l->data);
        }
    }
    if (!allowed) {
        return any;
    }
    bus = PCI_HOST_BRIDGE(hb->cxl_host_bridge)->bus;
    if (cxl_window_any_below(bus, cxl_window_is_type3) ||
        cxl_window_any_below(bus, cxl_window_is_open_port)) {
        return any;
    }
    /* Fixed only if the configuration of every device in it is fixed */
    return (allowed & ~CFMWS_FIXED_CONFIG) | (common & CFMWS_FIXED_CONFIG);
}

bool cxl_bus_keeps_config(PCIBus *bus)
{
    g_autoptr(GSList) endpoints = cxl_endpoints();

    for (GSList *l = endpoints; l; l = l->next) {
        PXBCXLDev *hb = cxl_window_endpoint_bridge(l->data);

        if (PCI_HOST_BRIDGE(hb->cxl_host_bridge)->bus == bus) {
            return !cxl_window_any_below(bus, cxl_window_is_open_port);
        }
    }
    return false;
}

static void cxl_auto_fmw_class_init(ObjectClass *klass, const void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);

    dc->desc = "CXL Fixed Memory Window made for passed-through devices";
    /* Created when the machine is complete; not by -device */
    dc->hotpluggable = true;
}

static const TypeInfo cxl_auto_fmw_info = {
    .name = TYPE_CXL_AUTO_FMW,
    .parent = TYPE_CXL_FMW,
    .class_init = cxl_auto_fmw_class_init,
};

static void cxl_window_register_types(void)
{
    type_register_static(&cxl_auto_fmw_info);
}

type_init(cxl_window_register_types)
