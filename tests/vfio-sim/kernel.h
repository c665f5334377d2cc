/*
 * vfio-sim: shared code of the kernel generations
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_SIM_KERNEL_H
#define VFIO_SIM_KERNEL_H

#include "kernels.h"
#include "sim.h"

/* Registers of the CXL Device DVSEC */
enum {
    DVSEC_BODY = 0x0a,
    DVSEC_CAP = 0x0a,
    DVSEC_CONTROL = 0x0c,
    DVSEC_STATUS = 0x0e,
    DVSEC_CONTROL2 = 0x10,
    DVSEC_STATUS2 = 0x12,
    DVSEC_LOCK = 0x14,
    DVSEC_CAP2 = 0x16,
    DVSEC_SIZE1_LO = 0x1c,
    DVSEC_BASE1_HI = 0x20,
    DVSEC_BASE1_LO = 0x24,
    DVSEC_BASE2_HI = 0x30,
    DVSEC_BASE2_LO = 0x34,
    DVSEC_CAP3 = 0x38,
};

#define CAP_CACHE           (1u << 0)
#define CAP_WBI             (1u << 6)
#define CAP_RESET           (1u << 7)
#define CAP2_COMPLETION     (1u << 3)
#define CAP3_VOLATILE       (1u << 3)
#define CONTROL_IO          (1u << 1)
#define CONTROL_MEM         (1u << 2)
#define CONTROL2_NO_CACHE   (1u << 0)
#define CONTROL2_WBI        (1u << 1)
#define CONTROL2_RESET      (1u << 2)
#define CONTROL2_VOLATILE   (1u << 4)
#define CONTROL2_COMPLETION (1u << 5)
#define SIZE_ACTIVE         (1u << 1)
#define STATUS_VIRAL        (1u << 14)
#define STATUS2_INVALID     (1u << 0)
#define STATUS2_RESET_DONE  (1u << 1)
#define STATUS2_RESET_ERROR (1u << 2)
#define STATUS2_VOLATILE    (1u << 3)
#define STATUS2_PM_INIT     (1u << 15)

#define HDM_BLOCK_SIZE      0x30    /* with one decoder */

#define SIM_KERNEL_DECLARE(name, id) extern const SimKernel sim_kernel_##id;
SIM_KERNELS(SIM_KERNEL_DECLARE)

/* Device memory by its file, and the component block by its registers */
ssize_t sim_kernel_mem_file(SimDevice *dev, void *buf, size_t count,
                            uint64_t pos, bool write);
ssize_t sim_kernel_block_rw(SimDevice *dev, void *buf, size_t count,
                            uint64_t pos, bool write);
/* Where BAR pages can be mapped, the rest of the block is memory */
ssize_t sim_kernel_paged_block_rw(SimDevice *dev, void *buf, size_t count,
                                  uint64_t pos, bool write);
void sim_kernel_whole_hole(SimDevice *dev, uint64_t *start, uint64_t *end);
void sim_kernel_page_hole(SimDevice *dev, uint64_t *start, uint64_t *end);
size_t sim_kernel_hdm_size(SimDevice *dev);
bool sim_kernel_in_hdm(SimDevice *dev, uint64_t bar_pos, size_t count);

/* Access rules of COMP_REGS since v4; @access handles one dword */
typedef uint32_t SimDword(SimDevice *dev, unsigned off, uint32_t value,
                          bool write);
ssize_t sim_kernel_dwords(SimDevice *dev, void *buf, size_t count,
                          uint64_t pos, bool write, SimDword *access);

/* Splits a write to the DVSEC into its 16-bit registers */
typedef void SimField(SimDevice *dev, unsigned reg, uint16_t value,
                      uint16_t mask);
void sim_kernel_dvsec_fields(SimDevice *dev, unsigned reg, uint32_t value,
                             size_t count, SimField *write);
/* Since v4 the copy in configuration space; each handles CONTROL2 itself */
bool sim_kernel_dvsec_read(SimDevice *dev, unsigned reg, void *buf,
                           size_t count);
void sim_kernel_dvsec_store(SimDevice *dev, unsigned reg, uint16_t value,
                            uint16_t mask);
/* The device's own DVSEC: effect of a write by the host */
void sim_kernel_dvsec_hw_write(SimDevice *dev, unsigned reg, uint32_t value,
                               size_t count);

#endif /* VFIO_SIM_KERNEL_H */
