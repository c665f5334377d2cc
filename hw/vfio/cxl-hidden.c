/*
 * CXL Type-2 devices behind vfio-pci that the guest uses as plain PCI
 *
 * The guest sees neither CXL DVSECs nor component registers, which hold
 * addresses of the host.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/cxl/cxl.h"
#include "hw/pci/pci.h"
#include "cxl-internal.h"
#include "trace.h"

VFIOCXLHidden *vfio_cxl_hidden_new(VFIOPCIDevice *vdev,
                                   const VFIOCXLDVSECSet *dvsecs, char *reason,
                                   Error **errp)
{
    g_autofree VFIOCXLHidden *hidden = g_new0(VFIOCXLHidden, 1);
    uint64_t size;

    hidden->dvsecs = *dvsecs;
    if (vfio_cxl_dvsec_find_block(dvsecs, &hidden->bar, &hidden->block)) {
        size = vdev->bars[hidden->bar].region.size;
        if (hidden->block <= size &&
            CXL2_COMPONENT_BLOCK_SIZE <= size - hidden->block) {
            hidden->reason = reason;
            return g_steal_pointer(&hidden);
        }
    }
    error_setg(errp, "cannot hide the CXL component registers, which hold "
               "addresses of the host, from the guest: they are not where the "
               "Register Locator says");
    g_free(reason);
    return NULL;
}

static uint64_t vfio_cxl_hidden_read(void *opaque, hwaddr addr, unsigned size)
{
    return 0;
}

static void vfio_cxl_hidden_write(void *opaque, hwaddr addr, uint64_t value,
                                  unsigned size)
{
}

static const MemoryRegionOps vfio_cxl_hidden_ops = {
    .read = vfio_cxl_hidden_read,
    .write = vfio_cxl_hidden_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = {
        .min_access_size = 1,
        .max_access_size = 8,
    },
    .impl = {
        .min_access_size = 1,
        .max_access_size = 8,
    },
};

void vfio_cxl_hidden_lay(VFIOCXLHidden *hidden)
{
    VFIOPCIDevice *vdev = hidden->dvsecs.vdev;

    memory_region_init_io(&hidden->overlay, OBJECT(vdev), &vfio_cxl_hidden_ops,
                          NULL, "cxl-component-registers",
                          CXL2_COMPONENT_BLOCK_SIZE);
    memory_region_add_subregion_overlap(vdev->bars[hidden->bar].mr,
                                        hidden->block, &hidden->overlay, 1);
    trace_vfio_cxl_hidden(vdev->vbasedev.name, hidden->bar, hidden->block,
                          CXL2_COMPONENT_BLOCK_SIZE);
}

static void vfio_cxl_hidden_write_config(PCIDevice *pdev, uint32_t addr,
                                         uint32_t val, int len)
{
    VFIOCXLHidden *hidden = VFIO_PCI_DEVICE(pdev)->cxl.hidden;

    if (!vfio_cxl_dvsec_owns(&hidden->dvsecs, addr, len)) {
        vfio_pci_write_config(pdev, addr, val, len);
    }
}

void vfio_cxl_hidden_config_take(VFIOCXLHidden *hidden)
{
    vfio_cxl_dvsec_hide(&hidden->dvsecs);
    PCI_DEVICE(hidden->dvsecs.vdev)->config_write =
        vfio_cxl_hidden_write_config;
}

void vfio_cxl_hidden_exit(VFIOCXLHidden *hidden)
{
    if (memory_region_is_mapped(&hidden->overlay)) {
        memory_region_del_subregion(hidden->dvsecs.vdev->bars[hidden->bar].mr,
                                    &hidden->overlay);
    }
}

void vfio_cxl_hidden_free(VFIOCXLHidden *hidden)
{
    g_free(hidden->reason);
    g_free(hidden);
}
