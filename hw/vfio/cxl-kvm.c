/*
 * CXL Type-2 devices behind vfio-pci: what KVM has to offer
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/kvm.h>
#include "cxl-host.h"
#include "system/kvm.h"

int vfio_cxl_kvm_maps_cacheable(void)
{
    return kvm_check_extension(kvm_state,
                               KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED);
}
