/*
 * ACPI methods of CXL host bridges with passed-through devices
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/acpi/aml-build.h"
#include "hw/acpi/cxl-bridge.h"
#include "hw/cxl/cxl_auto_window.h"

/*
 * PCI Firmware Specification 3.3 Section 4.6.5, _DSM for Ignoring PCI Boot
 * Configurations: returning 0, function 5 tells the operating system to keep
 * what firmware has assigned. The component registers of a device whose
 * decoder is locked should not move.
 */
#define DSM_FUNCTIONS               0
#define DSM_KEEP_BOOT_CONFIGURATION 5

void build_cxl_bridge_dsm_method(Aml *dev, PCIBus *bus, bool preserve_config)
{
    uint8_t functions[] = {
        1 << DSM_FUNCTIONS | 1 << DSM_KEEP_BOOT_CONFIGURATION
    };
    uint8_t none[] = { 0 };
    Aml *method, *if_uuid, *if_function;

    if (!preserve_config && !cxl_bus_keeps_config(bus)) {
        return;
    }
    method = aml_method("_DSM", 4, AML_SERIALIZED);
    if_uuid = aml_if(aml_equal(
        aml_arg(0), aml_touuid("E5C937D0-3553-4D7A-9117-EA4D19C3434D")));

    if_function = aml_if(aml_equal(aml_arg(2), aml_int(DSM_FUNCTIONS)));
    aml_append(if_function,
               aml_return(aml_buffer(sizeof(functions), functions)));
    aml_append(if_uuid, if_function);

    if_function = aml_if(aml_equal(aml_arg(2),
                                   aml_int(DSM_KEEP_BOOT_CONFIGURATION)));
    aml_append(if_function, aml_return(aml_int(0)));
    aml_append(if_uuid, if_function);

    aml_append(method, if_uuid);
    aml_append(method, aml_return(aml_buffer(sizeof(none), none)));
    aml_append(dev, method);
}
