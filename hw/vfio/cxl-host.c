/*
 * CXL Type-2 devices behind vfio-pci: what the host supports
 *
 * Nothing else is needed here, so that unit tests can run on any host.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/kvm.h>

#include "qapi/error.h"
#include "system/kvm.h"
#include "cxl-host.h"

bool vfio_cxl_host_may_access(OnOffAuto mode, bool cpus_are_qemu, bool open)
{
    if (!open) {
        return false;
    }
    return mode == ON_OFF_AUTO_AUTO ? cpus_are_qemu : mode == ON_OFF_AUTO_ON;
}

bool vfio_cxl_host_can_map(bool is_arm, Error **errp)
{
    if (!is_arm ||
        kvm_check_extension(kvm_state,
                            KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED) > 0) {
        return true;
    }
    error_setg(errp, "this host's KVM cannot map cacheable device memory; it "
               "needs Linux 6.17 or later and CPUs with FEAT_S2FWB and "
               "CTR_EL0.DIC (KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED)");
    return false;
}

bool vfio_cxl_host_can_keep_off(bool emulates_xen, Error **errp)
{
    if (emulates_xen) {
        error_setg(errp, "KVM Xen emulation (xen-version=) lets a guest make "
                   "QEMU access device memory at any time; use x-cxl=off or "
                   "omit xen-version=");
        return false;
    }
    return true;
}
