/*
 * VFIO's user interface for CXL Type-2 devices, in all its generations
 *
 * The interface has been posted in several forms, and the same capability id
 * has meant different things. This reader turns all of them into one struct
 * and checks everything that the kernel reports before anything relies on it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_VFIO_CXL_UAPI_H
#define HW_VFIO_CXL_UAPI_H

#include "hw/vfio/vfio-device.h"
#include "cxl-linux.h"

#include "cxl-dvsec.h"

typedef struct VFIOCXL VFIOCXL;
typedef struct VFIOCXLInfo VFIOCXLInfo;

/**
 * struct VFIOCXLKernel - how the generations of the interface differ
 * @name: for messages and traces
 * @region_type: type of its CXL regions
 * @max_decoders: HDM decoders that a device can have
 * @traps_block: the whole component register block cannot be mapped, and no
 *               access to it through the BAR is safe; otherwise only the
 *               HDM Decoder Capability is special to the kernel
 * @clears_lock: a locked decoder is shown with lock and base cleared
 * @memory_space_gate: the memory is inaccessible while Memory Space Enable is
 *                     clear; CXL has no such rule
 * @rereads_decoder: a reset makes the kernel read the physical decoder again
 * @writes_back: the kernel forwards cache control bits to the device
 * @reset_clears: a CXL reset clears the memory
 * @memory_returns_late: after a reset, or in D0 again, the memory may take
 *                       seconds to be active although decoder 0 is committed
 * @read_cap: read the CXL capability of the device info if it has this
 *            generation's form; NULL for generations that describe the device
 *            by regions
 * @is_this: check whether a kernel whose regions have this @region_type is of
 *           this generation. Sets @known if that can be determined, which
 *           requires the memory to be active
 * @init: the device is realized
 * @exit: the device is about to be released
 * @update: the guest's decoder 0 now has this base, 0 if it is not committed
 * @changed: the kernel's state may have changed
 * @reset_prepare: before a conventional reset
 * @reset_done: after a successful one
 * @device_reset_prepare: before each VFIO_DEVICE_RESET, until @deadline, in
 *                        microseconds of g_get_monotonic_time()
 * @device_reset_done: after it
 * @cxl_reset: carry out a CXL reset (CXL r3.1 Section 9.7), returns 0 or
 *             -errno; NULL if the kernel cannot do that
 * @can_cxl_reset: whether @cxl_reset can be used; NULL if always
 * @write_control2: the guest has changed Control2 from @old, or rung one of
 *                  @doorbells
 * @read_status2: the guest is about to read Status2
 *
 * A function may be NULL if there is nothing to do.
 */
typedef struct VFIOCXLKernel {
    const char *name;
    uint32_t region_type;
    unsigned max_decoders;
    bool traps_block;
    bool clears_lock;
    bool memory_space_gate;
    bool rereads_decoder;
    bool writes_back;
    bool reset_clears;
    bool memory_returns_late;
    bool (*read_cap)(const void *cap, uint32_t length, VFIOCXLInfo *info);
    bool (*is_this)(const VFIOCXLInfo *info, bool *known);
    void (*init)(VFIOCXL *cxl);
    void (*exit)(VFIOCXL *cxl);
    void (*update)(VFIOCXL *cxl, uint64_t base);
    void (*changed)(VFIOCXL *cxl);
    void (*reset_prepare)(VFIOCXL *cxl);
    void (*reset_done)(VFIOCXL *cxl);
    void (*device_reset_prepare)(VFIOCXL *cxl, int64_t deadline);
    void (*device_reset_done)(VFIOCXL *cxl);
    int (*cxl_reset)(VFIOCXL *cxl);
    bool (*can_cxl_reset)(VFIOCXL *cxl);
    void (*write_control2)(VFIOCXL *cxl, uint16_t old, uint16_t doorbells);
    void (*read_status2)(VFIOCXL *cxl);
} VFIOCXLKernel;

/*
 * Each generation is a class, so that QEMU can be built with any subset of
 * them. There are no instances.
 */
#define TYPE_VFIO_CXL_KERNEL "vfio-cxl-kernel"
OBJECT_DECLARE_TYPE(VFIOCXLKernelObject, VFIOCXLKernelClass, VFIO_CXL_KERNEL)

struct VFIOCXLKernelClass {
    ObjectClass parent_class;
    const VFIOCXLKernel *kernel;
};

/**
 * vfio_cxl_kernel_class_init() - class_init of each generation
 * @klass: its class
 * @data: its VFIOCXLKernel
 */
void vfio_cxl_kernel_class_init(ObjectClass *klass, const void *data);

/* The TypeInfo of a generation, which is vfio_cxl_kernel_GENERATION */
#define VFIO_CXL_KERNEL_TYPE(generation)                                \
    {                                                                   \
        .name = TYPE_VFIO_CXL_KERNEL "-" #generation,                   \
        .parent = TYPE_VFIO_CXL_KERNEL,                                 \
        .abstract = true,                                               \
        .class_init = vfio_cxl_kernel_class_init,                       \
        .class_data = &vfio_cxl_kernel_##generation,                    \
    }

#define VFIO_CXL_REGION_TYPE (VFIO_REGION_TYPE_PCI_VENDOR_TYPE | CXL_VENDOR_ID)

/**
 * struct VFIOCXLInfo - the kernel's description of a CXL Type-2 device
 * @vbasedev: the device
 * @dvsecs: its DVSECs
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
 * @ras_header: the same for the RAS Capability, 0 if the device has none
 * @ras_offset: where the RAS Capability starts in the block, bytes
 * @hdm_offset: where the HDM Decoder Capability starts in the block, bytes
 * @hdm_capability: CXL HDM Decoder Capability Register
 * @decoder_count: number of HDM decoders
 * @host_only: Target Range Type of decoder 0
 * @committed: host firmware committed decoder 0
 * @locked: host firmware locked decoder 0
 */
struct VFIOCXLInfo {
    VFIODevice *vbasedev;
    const VFIOCXLDVSECSet *dvsecs;
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
};

/**
 * vfio_cxl_uapi_read() - Read and check the kernel's description
 * @vbasedev: an attached device with VFIO_DEVICE_FLAGS_CXL
 * @dvsecs: its DVSECs
 * @info: filled in
 * @errp: set if the interface is not known or not consistent
 */
bool vfio_cxl_uapi_read(VFIODevice *vbasedev, const VFIOCXLDVSECSet *dvsecs,
                        VFIOCXLInfo *info, Error **errp);

/**
 * vfio_cxl_uapi_distinguish() - Tell apart kernels that describe it alike
 * @info: the device's description, of which @kernel may change
 *
 * Returns: false if that is not possible yet because the memory is not active
 */
bool vfio_cxl_uapi_distinguish(VFIOCXLInfo *info);

/*
 * cxl-host-regs.c: the physical component registers
 */

/**
 * vfio_cxl_memory_space_enable() - Enable Memory Space for QEMU's own access
 * @info: the device's description
 *
 * Registers of the hardware can be read only while it is enabled.
 *
 * Returns: the value to pass to vfio_cxl_memory_space_restore()
 */
int vfio_cxl_memory_space_enable(const VFIOCXLInfo *info);

/**
 * vfio_cxl_memory_space_restore() - Undo vfio_cxl_memory_space_enable()
 * @info: the device's description
 * @saved: its result
 */
void vfio_cxl_memory_space_restore(const VFIOCXLInfo *info, int saved);

/**
 * vfio_cxl_read_register() - Read a component register from the kernel
 * @info: the device's description
 * @offset: bytes from the start of the component register block; since it may
 *          come from the device, an unaligned one is reported as an error
 * @value: the register
 * @errp: the error
 */
bool vfio_cxl_read_register(const VFIOCXLInfo *info, unsigned offset,
                            uint32_t *value, Error **errp);

/**
 * vfio_cxl_read_decoders() - Read and check HDM decoders and RAS Capability
 * @info: the device's description, in which their place and size are set
 * @errp: set to what is wrong with them
 */
bool vfio_cxl_read_decoders(VFIOCXLInfo *info, Error **errp);

/**
 * vfio_cxl_read_committed() - Check whether the host's decoder 0 is committed
 * @info: the device's description
 * @errp: set if the kernel could not be asked
 *
 * Returns: false also if it could not be asked
 */
bool vfio_cxl_read_committed(const VFIOCXLInfo *info, Error **errp);

#endif /* HW_VFIO_CXL_UAPI_H */
