/*
 * Stubs for machines without CXL, which have no fixed memory windows
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/cxl/cxl_auto_window.h"

uint64_t cxl_auto_windows_size(void)
{
    return 0;
}

void cxl_auto_windows_make(hwaddr base)
{
    g_assert_not_reached();
}

char *cxl_auto_windows_option(void)
{
    return NULL;
}

hwaddr cxl_windows_end(void)
{
    return 0;
}

uint64_t cxl_windows_total(void)
{
    return 0;
}

bool cxl_windows_overlap(hwaddr base, uint64_t size)
{
    return false;
}

uint16_t cxl_window_restrictions(CXLFixedWindow *fw)
{
    g_assert_not_reached();
}

bool cxl_bus_keeps_config(PCIBus *bus)
{
    return false;
}
