/*
 * The CXL part of the virt machine's memory map
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_ARM_VIRT_CXL_H
#define HW_ARM_VIRT_CXL_H

#include "hw/arm/virt.h"

/**
 * virt_cxl_check_windows() - Check that explicit windows fit
 * @vms: the machine, its memory map complete but for the windows
 * @pa_bits: size of the address space
 * @errp: set to how many bits are needed
 */
bool virt_cxl_check_windows(VirtMachineState *vms, int pa_bits, Error **errp);

/**
 * virt_cxl_complete() - Make automatic windows, when all devices are known
 * @vms: the machine, its CXL host bridges' registers in place
 * @errp: set where the memory map has no room for windows, or where the
 *        registers cannot be reached
 */
bool virt_cxl_complete(VirtMachineState *vms, Error **errp);

#endif /* HW_ARM_VIRT_CXL_H */
