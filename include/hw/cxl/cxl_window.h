/*
 * Helpers for CXL fixed memory windows
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CXL_WINDOW_H
#define CXL_WINDOW_H

#include "hw/cxl/cxl.h"

/* A window that no option asked for. Options replace all of these. */
#define TYPE_CXL_AUTO_FMW "cxl-auto-fmw"

/**
 * cxl_window_serves() - Check whether a window can map a device below @hb
 * @fw: the window
 * @hb: the host bridge
 *
 * Returns: true if @fw was given a place and @hb is its only target
 */
bool cxl_window_serves(CXLFixedWindow *fw, PXBCXLDev *hb);

/**
 * cxl_window_option() - Get the option that gives a host bridge more room
 * @hb: the host bridge
 * @size: bytes that are missing
 *
 * Options replace all automatic windows, so the text names each of them.
 *
 * Returns: text to be freed, such as "-M cxl-fmw.0.targets.0=..."
 */
char *cxl_window_option(PXBCXLDev *hb, uint64_t size);

/**
 * cxl_window_append_option() - Add one window to an option
 * @option: the option so far, or an empty string
 * @index: the number of the window
 * @hb: the host bridge that it targets
 * @size: its bytes
 */
void cxl_window_append_option(GString *option, unsigned index, PXBCXLDev *hb,
                              uint64_t size);

#endif /* CXL_WINDOW_H */
