/*
 * Stub for targets without KVM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cxl-host.h"

int vfio_cxl_kvm_maps_cacheable(void)
{
    g_assert_not_reached();
}
