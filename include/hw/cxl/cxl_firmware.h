/*
 * Virtual firmware: places CXL memory at system reset
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CXL_FIRMWARE_H
#define CXL_FIRMWARE_H

#include "hw/cxl/cxl_endpoint.h"

/**
 * cxl_firmware_init() - Make sure that there is virtual firmware
 *
 * It stands in for what platform firmware does: after each system reset it
 * gives the endpoints that want it a place in a window and commits them.
 */
void cxl_firmware_init(void);

/**
 * cxl_firmware_exit() - Remove virtual firmware after the last endpoint
 */
void cxl_firmware_exit(void);

/**
 * cxl_firmware_check() - Check that all endpoints can be placed
 * @errp: set to which endpoint cannot, and which option would help
 *
 * That takes ports that can be told apart, enough room in windows, and enough
 * decoders in the ports. Always true in a machine without endpoints.
 */
bool cxl_firmware_check(Error **errp);

/**
 * cxl_firmware_check_endpoint() - Check that @ep can be placed, too
 * @ep: an endpoint that is being plugged into a running machine
 * @errp: set to why not, and which option would help
 *
 * That concerns the next system reset, and all other endpoints as well. Until
 * then @ep may have to wait for the guest's software to make room.
 */
bool cxl_firmware_check_endpoint(CXLEndpoint *ep, Error **errp);

/**
 * cxl_firmware_plug() - Commit an endpoint that has been plugged
 * @ep: the endpoint, as its reset left it
 *
 * If firmware is to commit it, nothing between window and endpoint has a
 * decoder, and a window has room. Otherwise the endpoint stays uncommitted
 * for the guest's software: outside a system reset the decoders of host
 * bridges and switches are the guest's. Does nothing during a system reset.
 */
void cxl_firmware_plug(CXLEndpoint *ep);

#endif /* CXL_FIRMWARE_H */
