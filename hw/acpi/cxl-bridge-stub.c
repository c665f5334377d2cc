/*
 * Stubs for a QEMU without CXL host bridges
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/acpi/cxl-bridge.h"

void build_cxl_bridge_dsm_method(Aml *dev, PCIBus *bus, bool preserve_config)
{
    g_assert_not_reached();
}
