/*
 * The CXL part of a PC's memory map
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "cpu.h"
#include "hw/cxl/cxl_auto_window.h"
#include "hw/i386/pc-cxl.h"
#include "hw/nvram/fw_cfg.h"
#include "hw/pci/pci_host.h"

/* End of the memory map if windows of @size bytes were made at @base */
static hwaddr pc_cxl_map_end(PCMachineState *pcms, hwaddr base, uint64_t size)
{
    Object *host = OBJECT(BUS(pcms->pcibus)->parent);
    hwaddr end = base + size;

    /* As in pc_max_used_gpa(): the 64-bit PCI hole follows */
    if (X86_CPU(first_cpu)->env.features[FEAT_8000_0001_EDX] &
        CPUID_EXT2_LM) {
        end = ROUND_UP(end, GiB) +
              object_property_get_uint(host, PCI_HOST_PROP_PCI_HOLE64_SIZE,
                                       &error_abort);
    }
    return end;
}

static void pc_cxl_tell_firmware(PCMachineState *pcms)
{
    uint64_t *end = g_new(uint64_t, 1);

    *end = cpu_to_le64(ROUND_UP(cxl_windows_end(), GiB));
    g_free(fw_cfg_modify_file(X86_MACHINE(pcms)->fw_cfg,
                              "etc/reserved-memory-end", end, sizeof(*end)));
}

bool pc_cxl_complete(PCMachineState *pcms, Error **errp)
{
    MemoryRegion *regs = &pcms->cxl_devices_state.host_mr;
    X86CPU *cpu = X86_CPU(first_cpu);
    uint64_t size = cxl_auto_windows_size();
    hwaddr base = ROUND_UP(regs->addr + memory_region_size(regs), GiB);

    if (!size) {
        return true;
    }
    base = pc_cxl_skip_amd_hole(pcms, base, pc_cxl_map_end(pcms, base, size));
    if (pc_cxl_map_end(pcms, base, size) > BIT_ULL(cpu->phys_bits)) {
        g_autofree char *text = size_to_str(size);

        error_setg(errp, "The address space of the CPU (phys-bits=%u) has no "
                   "room for CXL fixed memory windows of %s: use -cpu with "
                   "phys-bits=%d", cpu->phys_bits, text,
                   64 - clz64(pc_cxl_map_end(pcms, base, size) - 1));
        return false;
    }
    cxl_auto_windows_make(base);
    pc_cxl_tell_firmware(pcms);
    return true;
}
