/*
 * CXL Type-2 devices behind vfio-pci: their state, for QMP and HMP
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qapi/qapi-commands-vfio-cxl.h"
#include "qapi/qapi-visit-vfio-cxl.h"
#include "qobject/qdict.h"
#include "hw/cxl/cxl.h"
#include "hw/pci/pci.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "cxl-internal.h"

/* Reason for no access regardless of decoders; "mapped" if there is none */
static VfioCxlState vfio_cxl_device_state(VFIOCXL *cxl)
{
    bool low_power;

    if (cxl->blocked & (VFIO_CXL_IN_RESET | VFIO_CXL_IN_CONFIG_WRITE)) {
        return VFIO_CXL_STATE_IN_RESET;
    }
    if (cxl->blocked & VFIO_CXL_RESET_FAILED) {
        return VFIO_CXL_STATE_RESET_FAILED;
    }
    if (cxl->blocked & VFIO_CXL_HOST_NOT_COMMITTED) {
        return VFIO_CXL_STATE_HOST_NOT_COMMITTED;
    }
    if (cxl->blocked & VFIO_CXL_HOST_CLOSED) {
        return VFIO_CXL_STATE_HOST_CLOSED;
    }
    if (cxl->blocked & VFIO_CXL_NOT_ACTIVE) {
        return VFIO_CXL_STATE_MEMORY_INACTIVE;
    }
    if (cxl->blocked) {
        return VFIO_CXL_STATE_MMAP_FAILED;
    }
    if (!vfio_cxl_config_allows(cxl, &low_power)) {
        return low_power ? VFIO_CXL_STATE_LOW_POWER :
                           VFIO_CXL_STATE_MEMORY_SPACE_DISABLED;
    }
    if (vfio_cxl_dvsec_mem_enabled(&cxl->dvsecs)) {
        return VFIO_CXL_STATE_MAPPED;
    }
    return VFIO_CXL_STATE_CXL_MEM_DISABLED;
}

static VfioCxlState vfio_cxl_decoder_state(VFIOCXL *cxl, unsigned n,
                                           const CXLRouteStatus *status,
                                           CXLRouteState route)
{
    VfioCxlState state = vfio_cxl_device_state(cxl);

    if (state != VFIO_CXL_STATE_MAPPED) {
        return state;
    }
    switch (route) {
    case CXL_ROUTE_MAPPED:
        return VFIO_CXL_STATE_MAPPED;
    case CXL_ROUTE_NOT_COMMITTED:
        return cxl_hdm_is_committed(&cxl->hdm, n, NULL) ?
               VFIO_CXL_STATE_DECODERS_DISABLED :
               VFIO_CXL_STATE_NOT_COMMITTED;
    case CXL_ROUTE_NO_WINDOW:
        return VFIO_CXL_STATE_NO_WINDOW;
    case CXL_ROUTE_NOT_DECODED:
        return VFIO_CXL_STATE_PATH_NOT_PROGRAMMED;
    case CXL_ROUTE_TAKEN:
        return VFIO_CXL_STATE_RANGE_TAKEN;
    case CXL_ROUTE_NO_MEMORY: /* see vfio_cxl_device_state() */
    default:
        g_assert_not_reached();
    }
}

static uint64_t vfio_cxl_read_pair(VFIOCXL *cxl, unsigned n, unsigned reg)
{
    const unsigned start = A_CXL_HDM_DECODER0_BASE_LO -
                           CXL_HDM_REGISTERS_OFFSET;

    return cxl_hdm_peek(&cxl->hdm, start + n * CXL_HDM_STRIDE + reg -
                        A_CXL_HDM_DECODER0_BASE_LO, 8);
}

static VfioCxlDecoder *vfio_cxl_query_decoder(VFIOCXL *cxl, unsigned n)
{
    VfioCxlDecoder *info = g_new0(VfioCxlDecoder, 1);
    CXLHDMRange range = { };
    CXLRouteStatus status;
    CXLRouteState route = cxl_route_status(CXL_ENDPOINT(cxl), n, &status);

    info->committed = cxl_hdm_is_committed(&cxl->hdm, n, &range);
    info->locked = cxl_hdm_is_locked(&cxl->hdm, n);
    info->error = FIELD_EX32(vfio_cxl_read_pair(cxl, n,
                                                A_CXL_HDM_DECODER0_CTRL),
                             CXL_HDM_DECODER0_CTRL, ERR);
    info->base = vfio_cxl_read_pair(cxl, n, A_CXL_HDM_DECODER0_BASE_LO);
    info->size = vfio_cxl_read_pair(cxl, n, A_CXL_HDM_DECODER0_SIZE_LO);
    info->dpa = range.dpa;
    info->state = vfio_cxl_decoder_state(cxl, n, &status, route);
    if (status.window) {
        info->window = g_new0(VfioCxlWindow, 1);
        info->window->index = status.window->index;
        info->window->base = status.window->base;
        info->window->size = status.window->size;
    }
    if (info->state == VFIO_CXL_STATE_PATH_NOT_PROGRAMMED) {
        info->port = object_get_canonical_path(OBJECT(status.port));
    }
    return info;
}

static void vfio_cxl_query_decoders(VFIOCXL *cxl, VfioCxlDeviceCxl *info)
{
    VfioCxlDecoderList **tail = &info->decoders;

    info->kernel = g_strdup(cxl->info.kernel->name);
    info->size = cxl->info.memory_size;
    for (unsigned n = 0; n < cxl->hdm.count; n++) {
        VfioCxlDecoder *decoder = vfio_cxl_query_decoder(cxl, n);

        if (n == 0 || decoder->state == VFIO_CXL_STATE_MAPPED) {
            info->state = decoder->state;
        }
        QAPI_LIST_APPEND(tail, decoder);
    }
}

static VfioCxlDevice *vfio_cxl_query_device(VFIOPCIDevice *vdev)
{
    VfioCxlDevice *info = g_new0(VfioCxlDevice, 1);

    info->id = g_strdup(DEVICE(vdev)->id);
    info->qom_path = object_get_canonical_path(OBJECT(vdev));
    info->host = g_strdup(vdev->vbasedev.name);
    if (vdev->cxl.hidden) {
        info->mode = VFIO_CXL_MODE_PCI;
        info->u.pci.reason = g_strdup(vdev->cxl.hidden->reason);
    } else {
        info->mode = VFIO_CXL_MODE_CXL;
        vfio_cxl_query_decoders(vdev->cxl.cxl, &info->u.cxl);
    }
    return info;
}

static int vfio_cxl_collect_device(Object *obj, void *opaque)
{
    VfioCxlDeviceList ***tail = opaque;
    VFIOPCIDevice *vdev;

    if (object_dynamic_cast(obj, TYPE_VFIO_PCI) && DEVICE(obj)->realized) {
        vdev = VFIO_PCI_DEVICE(obj);
        if (vdev->cxl.hidden || (vdev->cxl.cxl && !vdev->cxl.cxl->exited)) {
            QAPI_LIST_APPEND(*tail, vfio_cxl_query_device(vdev));
        }
    }
    return 0;
}

VfioCxlDeviceList *qmp_query_vfio_cxl(Error **errp)
{
    VfioCxlDeviceList *list = NULL, **tail = &list;

    object_child_foreach_recursive(object_get_root(), vfio_cxl_collect_device,
                                   &tail);
    return list;
}

static void vfio_cxl_print_decoder(Monitor *mon, unsigned n, VfioCxlDecoder *d)
{
    monitor_printf(mon, "  decoder %u: %s", n,
                   qapi_enum_lookup(&VfioCxlState_lookup, d->state));
    if (d->port) {
        monitor_printf(mon, " (to %s)", d->port);
    }
    monitor_printf(mon, ", %scommitted%s%s\n", d->committed ? "" : "not ",
                   d->locked ? ", locked" : "", d->error ? ", error" : "");
    if (!d->size) {
        return;
    }
    monitor_printf(mon, "    0x%016" PRIx64 "-0x%016" PRIx64, d->base,
                   d->base + d->size - 1);
    if (d->committed) {
        monitor_printf(mon, " = device 0x%" PRIx64, d->dpa);
    }
    monitor_printf(mon, "\n");
    if (d->window) {
        monitor_printf(mon, "    in cxl-fmw.%" PRId64 ", 0x%016" PRIx64
                       "-0x%016" PRIx64 "\n", d->window->index,
                       d->window->base,
                       d->window->base + d->window->size - 1);
    }
}

static void vfio_cxl_hmp_info(Monitor *mon, const QDict *qdict)
{
    g_autoptr(VfioCxlDeviceList) list = qmp_query_vfio_cxl(NULL);

    if (!list) {
        monitor_printf(mon, "No CXL devices\n");
    }
    for (VfioCxlDeviceList *l = list; l; l = l->next) {
        VfioCxlDevice *device = l->value;
        unsigned n = 0;

        monitor_printf(mon, "%s (%s): ", device->id ?: device->qom_path,
                       device->host);
        if (device->mode == VFIO_CXL_MODE_PCI) {
            monitor_printf(mon, "plain PCI: %s\n", device->u.pci.reason);
            continue;
        }
        monitor_printf(mon, "%s, 0x%" PRIx64 " bytes, kernel %s\n",
                       qapi_enum_lookup(&VfioCxlState_lookup,
                                        device->u.cxl.state),
                       device->u.cxl.size, device->u.cxl.kernel);
        for (VfioCxlDecoderList *d = device->u.cxl.decoders; d; d = d->next) {
            vfio_cxl_print_decoder(mon, n++, d->value);
        }
    }
}

static void vfio_cxl_get_status(Object *obj, Visitor *v, const char *name,
                                void *opaque, Error **errp)
{
    VfioCxlDevice *info = vfio_cxl_query_device(VFIO_CXL(obj)->vdev);

    visit_type_VfioCxlDevice(v, name, &info, errp);
    qapi_free_VfioCxlDevice(info);
}

void vfio_cxl_query_class_init(ObjectClass *klass)
{
    object_class_property_add(klass, "status", "VfioCxlDevice",
                              vfio_cxl_get_status, NULL, NULL, NULL);
    object_class_property_set_description(klass, "status",
        "State of the device, as in query-vfio-cxl");
}

static void vfio_cxl_query_init(void)
{
    monitor_register_hmp("vfio-cxl", true, vfio_cxl_hmp_info);
}

type_init(vfio_cxl_query_init)
