/*
 * The CXL part of a PC's memory map
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_I386_PC_CXL_H
#define HW_I386_PC_CXL_H

#include "hw/i386/pc.h"

/**
 * pc_cxl_complete() - Make automatic windows, when all devices are known
 * @pcms: the machine, before guest firmware is told of its memory map
 * @errp: set where the CPU's address space has no room for them
 */
bool pc_cxl_complete(PCMachineState *pcms, Error **errp);

/**
 * pc_cxl_skip_amd_hole() - Keep clear of the hole below 1 TiB
 * @pcms: the machine
 * @base: where the memory map would be extended
 * @end: where it would end
 *
 * Returns: @base, or 1 TiB where the hole of AMD's IOMMUs is in between
 */
hwaddr pc_cxl_skip_amd_hole(PCMachineState *pcms, hwaddr base, hwaddr end);

#endif /* HW_I386_PC_CXL_H */
