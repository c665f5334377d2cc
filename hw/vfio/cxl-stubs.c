/*
 * CXL Type-2 devices behind vfio-pci: stubs for a QEMU without CXL
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "cxl-linux.h"
#include "pci.h"

void vfio_cxl_class_init(ObjectClass *klass)
{
}

bool vfio_cxl_realize(VFIOPCIDevice *vdev, Error **errp)
{
    if (vdev->vbasedev.flags & VFIO_DEVICE_FLAGS_CXL) {
        error_setg(errp, "this is a CXL device and QEMU was built without "
                   "CONFIG_CXL");
        return false;
    }
    return true;
}

void vfio_cxl_bar_register(VFIOPCIDevice *vdev, int nr)
{
}

bool vfio_cxl_hides_ext_cap(VFIOPCIDevice *vdev, uint16_t pos)
{
    return false;
}

void vfio_cxl_config_setup(VFIOPCIDevice *vdev)
{
}

void vfio_cxl_reset_prepare(VFIOPCIDevice *vdev)
{
}

void vfio_cxl_reset_done(VFIOPCIDevice *vdev)
{
}

bool vfio_cxl_blocks_migration(VFIOPCIDevice *vdev)
{
    return false;
}

void vfio_cxl_exit(VFIOPCIDevice *vdev)
{
}

void vfio_cxl_finalize(VFIOPCIDevice *vdev)
{
}
