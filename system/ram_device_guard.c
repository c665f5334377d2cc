/*
 * RAM devices that QEMU itself must not access at any time
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "system/ram_device_guard.h"

static uint64_t ram_device_guard_read(void *opaque, hwaddr addr, unsigned size)
{
    RAMDeviceGuard *guard = opaque;
    uint8_t *ram = memory_region_get_ram_ptr(guard->mr);

    return ldn_he_p(ram + addr, size);
}

static void ram_device_guard_write(void *opaque, hwaddr addr, uint64_t data,
                                   unsigned size)
{
    RAMDeviceGuard *guard = opaque;
    uint8_t *ram = memory_region_get_ram_ptr(guard->mr);

    stn_he_p(ram + addr, size, data);
}

static bool ram_device_guard_accepts(void *opaque, hwaddr addr, unsigned size,
                                     bool is_write, MemTxAttrs attrs)
{
    RAMDeviceGuard *guard = opaque;

    return guard->accepts(guard, addr, size, is_write);
}

static const MemoryRegionOps ram_device_guard_ops = {
    .read = ram_device_guard_read,
    .write = ram_device_guard_write,
    .endianness = HOST_BIG_ENDIAN ? DEVICE_BIG_ENDIAN : DEVICE_LITTLE_ENDIAN,
    .valid = {
        .min_access_size = 1,
        .max_access_size = 8,
        .unaligned = true,
        .accepts = ram_device_guard_accepts,
    },
    .impl = {
        .min_access_size = 1,
        .max_access_size = 8,
        .unaligned = true,
    },
};

void memory_region_guard_ram_device(RAMDeviceGuard *guard)
{
    assert(memory_region_is_ram_device(guard->mr));
    guard->mr->ops = &ram_device_guard_ops;
    guard->mr->opaque = guard;
}

bool memory_region_is_guarded(const MemoryRegion *mr)
{
    return mr->ops == &ram_device_guard_ops;
}
