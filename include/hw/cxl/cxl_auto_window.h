/*
 * CXL fixed memory windows that the machine makes and checks itself
 *
 * Fixed memory windows are part of the machine's memory map: they are placed
 * before there is any device. Where the user gave none, the machine makes
 * those that its passed-through devices need when all devices are known, and
 * before guest firmware is told of the map.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CXL_AUTO_WINDOW_H
#define CXL_AUTO_WINDOW_H

#include "hw/cxl/cxl.h"

/**
 * cxl_auto_windows_size() - Get the size of automatic windows
 *
 * There is one window for each host bridge with endpoints below it, large
 * enough to give each endpoint a place that is aligned to 1 GiB.
 *
 * Returns: bytes from a multiple of 1 GiB on; 0 if there are no such
 * endpoints, or if there are windows already
 */
uint64_t cxl_auto_windows_size(void);

/**
 * cxl_auto_windows_make() - Make the automatic windows, and map them
 * @base: where the first begins, a multiple of 1 GiB
 *
 * To be called once, after cxl_auto_windows_size() has given their size.
 */
void cxl_auto_windows_make(hwaddr base);

/**
 * cxl_auto_windows_option() - The option that asks for the same windows
 *
 * Returns: text to be freed, such as "-M cxl-fmw.0.targets.0=..."
 */
char *cxl_auto_windows_option(void);

/**
 * cxl_windows_end() - Get the end of the highest fixed memory window
 *
 * Returns: the address after it; 0 if there is no window that has a place
 */
hwaddr cxl_windows_end(void);

/**
 * cxl_windows_total() - Bytes of all fixed memory windows, placed or not
 */
uint64_t cxl_windows_total(void);

/**
 * cxl_windows_overlap() - Check whether a window overlaps a range
 * @base: first address
 * @size: bytes
 */
bool cxl_windows_overlap(hwaddr base, uint64_t size);

/**
 * cxl_window_restrictions() - Window Restrictions of a window in the CEDT
 * @fw: the window, its targets linked
 *
 * CXL r3.1 Section 9.18.1.3. For a window that only passed-through devices can
 * use, they describe what these devices can do.
 *
 * Returns: the value of the field
 */
uint16_t cxl_window_restrictions(CXLFixedWindow *fw);

/**
 * cxl_bus_keeps_config() - Check whether to keep firmware's addresses
 * @bus: the root bus of a CXL host bridge
 *
 * Returns: true if there is a passed-through device below it, and no port that
 * waits for hot-plug. Firmware has left no room for devices to be plugged in
 * there; Linux then takes it from neighbouring ports, whatever is below those.
 */
bool cxl_bus_keeps_config(PCIBus *bus);

#endif /* CXL_AUTO_WINDOW_H */
