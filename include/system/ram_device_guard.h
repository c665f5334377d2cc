/*
 * RAM devices that QEMU itself must not access at any time
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef SYSTEM_RAM_DEVICE_GUARD_H
#define SYSTEM_RAM_DEVICE_GUARD_H

#include "system/memory.h"

typedef struct RAMDeviceGuard RAMDeviceGuard;

/**
 * struct RAMDeviceGuard - checks the accesses of QEMU to a RAM device
 * @mr: the RAM device
 * @accepts: returns whether @size bytes at @addr may be read or written now
 *
 * It must live as long as the RAM device.
 */
struct RAMDeviceGuard {
    MemoryRegion *mr;
    bool (*accepts)(RAMDeviceGuard *guard, hwaddr addr, unsigned size,
                    bool is_write);
};

/**
 * memory_region_guard_ram_device() - Have accesses by QEMU itself checked
 * @guard: the RAM device and what checks it
 *
 * QEMU accesses RAM devices through their operations only, never directly.
 * Accesses by the guest's CPUs are not checked.
 */
void memory_region_guard_ram_device(RAMDeviceGuard *guard);

/**
 * memory_region_is_guarded() - Check whether a region has a guard
 * @mr: any MemoryRegion
 *
 * Nothing that does not ask the guard may map such a region: neither another
 * process nor the host's kernel.
 */
bool memory_region_is_guarded(const MemoryRegion *mr);

#endif /* SYSTEM_RAM_DEVICE_GUARD_H */
