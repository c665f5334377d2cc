/*
 * VFIO's user interface for CXL Type-2 devices, whatever the kernel
 *
 * The interface has been posted in several forms, and the same capability id
 * has meant different things. This reader turns all of them into one struct
 * and checks all that the kernel said before anything else relies on it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_VFIO_CXL_UAPI_H
#define HW_VFIO_CXL_UAPI_H

#include "hw/vfio/vfio-device.h"
#include "cxl-linux.h"

/* How a kernel carries out a CXL reset (CXL r3.1 Section 9.7) for its user */
typedef enum VFIOCXLReset {
    VFIO_CXL_RESET_NONE,
    VFIO_CXL_RESET_BY_CONFIG,   /* when the guest's bit is written */
    VFIO_CXL_RESET_BY_IOCTL,    /* it is what VFIO_DEVICE_RESET does */
} VFIOCXLReset;

/**
 * struct VFIOCXLKernel - how the generations of the interface differ
 * @name: for messages and traces
 * @region_type: type of its CXL regions
 * @max_decoders: HDM decoders that a device can have
 * @traps_block: the whole component register block cannot be mapped, and no
 *               access to it through the BAR is safe; otherwise only the
 *               HDM Decoder Capability is special to the kernel
 * @wants_gpa: the kernel keeps a view of decoder 0 for its user: it clears
 *             LOCK and the base of a locked decoder, and the user sets them
 * @memory_space_gate: it takes the memory away while Memory Space Enable is
 *                     clear; CXL has no such rule
 * @rereads_decoder: a reset makes it look at the physical decoder
 * @writes_back: it forwards cache control bits to the device, and leaves it
 *               to its user to have the cache written back before a reset
 * @cxl_reset: how a CXL reset is done; where it @wants_gpa only by the
 *             variant that keeps the base during a reset
 * @reset_clears: a CXL reset clears the memory
 * @memory_returns_late: after a reset, or in D0 again, the memory may take
 *                       seconds to be active although decoder 0 is committed
 */
typedef struct VFIOCXLKernel {
    const char *name;
    uint32_t region_type;
    unsigned max_decoders;
    bool traps_block;
    bool wants_gpa;
    bool memory_space_gate;
    bool rereads_decoder;
    bool writes_back;
    VFIOCXLReset cxl_reset;
    bool reset_clears;
    bool memory_returns_late;
} VFIOCXLKernel;

/**
 * struct VFIOCXLInfo - what the kernel says of a CXL Type-2 device
 * @kernel: the form of its interface
 * @bar: BAR with the component registers
 * @block: offset of the component register block in @bar, bytes
 * @memory_region: VFIO region of the device's memory (HDM)
 * @memory_size: its size in bytes, a multiple of 256 MiB
 * @registers_region: VFIO region of the component registers
 * @registers_size: its size in bytes
 * @registers_offset: where it starts in the component register block, bytes
 * @array_header: CXL Capability Header, the first register of the array
 * @hdm_header: the array's entry for the HDM Decoder Capability
 * @ras_header: for the RAS Capability, 0 if the device has none
 * @ras_offset: where the RAS Capability starts in the block, bytes
 * @hdm_offset: where the HDM Decoder Capability starts in the block, bytes
 * @hdm_capability: CXL HDM Decoder Capability Register
 * @decoder_count: number of HDM decoders
 * @host_only: Target Range Type of decoder 0
 * @committed: host firmware committed decoder 0
 * @locked: and locked it
 */
typedef struct VFIOCXLInfo {
    const VFIOCXLKernel *kernel;
    unsigned bar;
    uint64_t block;
    unsigned memory_region;
    uint64_t memory_size;
    unsigned registers_region;
    uint64_t registers_size;
    unsigned registers_offset;
    uint32_t array_header;
    uint32_t hdm_header;
    uint32_t ras_header;
    unsigned ras_offset;
    unsigned hdm_offset;
    uint32_t hdm_capability;
    unsigned decoder_count;
    bool host_only;
    bool committed;
    bool locked;
} VFIOCXLInfo;

/**
 * vfio_cxl_uapi_read() - Read and check what the kernel offers
 * @vbasedev: an attached device with VFIO_DEVICE_FLAGS_CXL
 * @info: filled in
 * @errp: what was found instead of a known and consistent interface
 */
bool vfio_cxl_uapi_read(VFIODevice *vbasedev, VFIOCXLInfo *info,
                        Error **errp);

/**
 * vfio_cxl_uapi_distinguish() - Tell kernels apart that describe it alike
 * @vbasedev: the device
 * @info: its description, of which @kernel may change
 *
 * What differs is whether memory stays while Memory Space is off. The kernel
 * is asked to read some: it does so or refuses, and touches nothing that it
 * has to keep away from.
 *
 * Returns: false if the memory is not active yet, so that it cannot be told
 */
bool vfio_cxl_uapi_distinguish(VFIODevice *vbasedev, VFIOCXLInfo *info);

/**
 * vfio_cxl_memory_active() - Is the memory there, if decoder 0 is committed?
 * @vbasedev: the device, in D0 and with Memory Space enabled
 * @info: its description
 *
 * Memory_Active of the CXL Device DVSEC (CXL r3.1 Section 8.1.3.8.2), and the
 * kernel's own opinion, which a copy of the DVSEC would not show.
 */
bool vfio_cxl_memory_active(VFIODevice *vbasedev, const VFIOCXLInfo *info);

/**
 * vfio_cxl_memory_active_timeout() - How long may that take?
 * @vbasedev: the device
 *
 * Returns: Memory_Active_Timeout in seconds
 */
unsigned vfio_cxl_memory_active_timeout(VFIODevice *vbasedev);

/**
 * vfio_cxl_read_register() - Read a component register from the kernel
 * @vbasedev: the device
 * @info: its description
 * @offset: bytes from the start of the component register block; the device
 *          may have named it, so one that is no multiple of 4 is an error
 * @value: the register
 * @errp: the error
 */
bool vfio_cxl_read_register(VFIODevice *vbasedev, const VFIOCXLInfo *info,
                            unsigned offset, uint32_t *value, Error **errp);

/**
 * vfio_cxl_read_committed() - Is decoder 0 of the host committed now?
 * @vbasedev: the device
 * @info: its description
 * @errp: the error, if the kernel could not be asked
 *
 * Returns: false also if it could not be asked
 */
bool vfio_cxl_read_committed(VFIODevice *vbasedev, const VFIOCXLInfo *info,
                             Error **errp);

/**
 * vfio_cxl_write_view() - Keep the kernel's view of decoder 0 in step
 * @vbasedev: the device
 * @info: its description, of a kernel that @wants_gpa
 * @base: guest physical address of decoder 0, 0 if it is not committed
 * @lock: the guest's decoder is locked
 *
 * Returns: false if the kernel did not take it
 */
bool vfio_cxl_write_view(VFIODevice *vbasedev, const VFIOCXLInfo *info,
                         uint64_t base, bool lock);

/**
 * vfio_cxl_read_view() - The base of decoder 0 in the kernel's view
 * @vbasedev: the device
 * @info: its description, of a kernel that @wants_gpa
 * @base: guest physical address
 *
 * Returns: false if it cannot be read
 */
bool vfio_cxl_read_view(VFIODevice *vbasedev, const VFIOCXLInfo *info,
                        uint64_t *base);

/**
 * vfio_cxl_find_block() - Find the component registers by the Register Locator
 * @vbasedev: the device
 * @bar: BAR, if found
 * @offset: offset in it, bytes
 *
 * Returns: true if the DVSEC (CXL r3.1 Section 8.1.9) names a block
 */
bool vfio_cxl_find_block(VFIODevice *vbasedev, unsigned *bar,
                         uint64_t *offset);

#endif /* HW_VFIO_CXL_UAPI_H */
