/*
 * Stub of query-vfio-cxl for a QEMU without CXL or without VFIO
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/qapi-commands-vfio-cxl.h"

VfioCxlDeviceList *qmp_query_vfio_cxl(Error **errp)
{
    return NULL;
}
