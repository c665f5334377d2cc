/*
 * ACPI methods of CXL host bridges with passed-through devices
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_ACPI_CXL_BRIDGE_H
#define HW_ACPI_CXL_BRIDGE_H

#include "hw/acpi/aml-build.h"
#include "hw/pci/pci.h"

/**
 * build_cxl_bridge_dsm_method() - Keep firmware's assignment of addresses
 * @dev: the host bridge's device, to which a _DSM is added
 * @bus: its root bus
 * @preserve_config: the machine keeps the assignment of all its host bridges
 *
 * PCI Firmware Specification 3.3 Section 4.6.5. Without @preserve_config, the
 * method is added only if cxl_bus_keeps_config() says so.
 */
void build_cxl_bridge_dsm_method(Aml *dev, PCIBus *bus, bool preserve_config);

#endif /* HW_ACPI_CXL_BRIDGE_H */
