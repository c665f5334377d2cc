/*
 * The CXL part of the virt machine's memory map
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/range.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/arm/virt-cxl.h"
#include "hw/cxl/cxl_auto_window.h"
#include "hw/mem/memory-device.h"

static bool virt_cxl_overlap(const MemMapEntry *a, const MemMapEntry *b)
{
    return ranges_overlap(a->base, a->size, b->base, b->size);
}

/* End of the regions below the windows in a large enough address space */
static hwaddr virt_cxl_wanted_end(VirtMachineState *vms, int pa_bits)
{
    hwaddr end = vms->highest_gpa + 1;

    for (int i = VIRT_LOWMEMMAP_LAST; i <= VIRT_HIGH_PCIE_MMIO; i++) {
        hwaddr region_end = vms->memmap[i].base + vms->memmap[i].size;

        /* Left out for now: a CPU with more address bits would have it */
        if (region_end > BIT_ULL(pa_bits)) {
            end = MAX(end, region_end);
        }
    }
    return ROUND_UP(end, 256 * MiB);
}

bool virt_cxl_check_windows(VirtMachineState *vms, int pa_bits, Error **errp)
{
    hwaddr base = ROUND_UP(vms->highest_gpa + 1, 256 * MiB);
    uint64_t size = cxl_windows_total();
    g_autofree char *text = size_to_str(size);

    vms->pa_bits = pa_bits;
    if (!size || base + size <= BIT_ULL(pa_bits)) {
        return true;
    }
    error_setg(errp, "Addressing limited to %d bits, but with CXL fixed memory "
               "windows (cxl-fmw) of %s the memory map needs %d bits: use %s "
               "or smaller windows", pa_bits, text,
               64 - clz64(virt_cxl_wanted_end(vms, pa_bits) + size - 1),
               vms->highmem ? "a CPU with more bits" : "highmem=on");
    return false;
}

static bool virt_cxl_check_host_registers(VirtMachineState *vms, Error **errp)
{
    const MemMapEntry *map = vms->memmap;
    const MemMapEntry *regs = &map[VIRT_CXL_HOST];

    if (!vms->cxl_devices_state.next_mr_idx) {
        return true;
    }
    if (regs->base + regs->size > BIT_ULL(vms->pa_bits)) {
        error_setg(errp, "Addressing limited to %d bits, but the registers of "
                   "CXL host bridges are at 0x%" HWADDR_PRIx ": use %s",
                   vms->pa_bits, regs->base,
                   vms->highmem ? "a CPU with more bits" : "highmem=on");
        return false;
    }
    if ((vms->highmem_ecam &&
         virt_cxl_overlap(regs, &map[VIRT_HIGH_PCIE_ECAM])) ||
        (vms->highmem_mmio &&
         virt_cxl_overlap(regs, &map[VIRT_HIGH_PCIE_MMIO])) ||
        cxl_windows_overlap(regs->base, regs->size)) {
        error_setg(errp, "The registers of CXL host bridges clash with PCIe "
                   "or a CXL fixed memory window at 0x%" HWADDR_PRIx ": use "
                   "highmem-redists=on", regs->base);
        return false;
    }
    return true;
}

/* End of RAM, which is usually well below the high regions */
static hwaddr virt_cxl_above_ram(VirtMachineState *vms)
{
    MachineState *ms = MACHINE(vms);

    if (ms->device_memory) {
        return ms->device_memory->base +
               memory_region_size(&ms->device_memory->mr);
    }
    return vms->memmap[VIRT_MEM].base + ms->ram_size;
}

static bool virt_cxl_has_room(hwaddr base, hwaddr limit, uint64_t size)
{
    return base <= limit && size <= limit - base;
}

static bool virt_cxl_make_windows(VirtMachineState *vms, uint64_t size,
                                  Error **errp)
{
    const MemMapEntry *regs = &vms->memmap[VIRT_CXL_HOST];
    hwaddr limit = BIT_ULL(vms->pa_bits);
    hwaddr base = ROUND_UP(MAX(vms->highest_gpa + 1, regs->base + regs->size),
                           GiB);
    g_autofree char *option = NULL, *text = NULL;

    if (!virt_cxl_has_room(base, limit, size)) {
        base = ROUND_UP(virt_cxl_above_ram(vms), GiB);
        limit = MIN(limit, vms->memmap[VIRT_LOWMEMMAP_LAST].base);
    }
    if (virt_cxl_has_room(base, limit, size)) {
        cxl_auto_windows_make(base);
        return true;
    }
    option = cxl_auto_windows_option();
    text = size_to_str(size);
    error_setg(errp, "The memory map of %d bits has no room for CXL fixed "
               "memory windows of %s: use a CPU with more bits; under KVM, "
               "which fixes their number before devices are known, ask for "
               "the windows with %s", vms->pa_bits, text, option);
    return false;
}

bool virt_cxl_complete(VirtMachineState *vms, Error **errp)
{
    uint64_t size = cxl_auto_windows_size();

    return virt_cxl_check_host_registers(vms, errp) &&
           (!size || virt_cxl_make_windows(vms, size, errp));
}
