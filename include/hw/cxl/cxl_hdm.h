/*
 * CXL HDM Decoder Capability of an endpoint
 *
 * The register block of CXL r3.1 Section 8.2.4.20 as a device has it: n
 * decoders that each place a part of the device's memory (HDM) at an address
 * of the host. The block knows the rules of the registers; its owner knows
 * where memory may go and is told when that changes. Register offsets and
 * fields are those of hw/cxl/cxl_component.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CXL_HDM_H
#define CXL_HDM_H

#include "qemu/units.h"
#include "hw/cxl/cxl_component.h"

/* Bases, sizes and DPA skips of decoders are multiples of this */
#define CXL_HDM_ALIGN (256 * MiB)

/* From the registers of one decoder to those of the next, bytes */
#define CXL_HDM_STRIDE (A_CXL_HDM_DECODER1_BASE_LO - A_CXL_HDM_DECODER0_BASE_LO)

typedef struct CXLHDM CXLHDM;

/**
 * struct CXLHDMRange - what a decoder maps
 * @base: first address in the host's (here: the guest's) address space
 * @size: bytes
 * @dpa: device physical address that appears at @base
 */
typedef struct CXLHDMRange {
    uint64_t base;
    uint64_t size;
    uint64_t dpa;
} CXLHDMRange;

/**
 * struct CXLHDMOps - what the owner of the block provides
 * @check: check whether decoder @n may be committed with @range. Called after
 *         the rules of the block itself have been checked. Returns false and
 *         sets @errp if not.
 * @update: a decoder was committed, locked or decommitted, or HDM Decoder
 *          Enable changed.
 */
typedef struct CXLHDMOps {
    bool (*check)(void *opaque, unsigned n, const CXLHDMRange *range,
                  Error **errp);
    void (*update)(void *opaque);
} CXLHDMOps;

/* CXL r3.1 Section 8.2.4.20.3 to 8.2.4.20.10: the registers of one decoder */
typedef struct CXLHDMDecoder {
    uint32_t base_lo;
    uint32_t base_hi;
    uint32_t size_lo;
    uint32_t size_hi;
    uint32_t ctrl;
    uint32_t skip_lo;
    uint32_t skip_hi;
    uint64_t dpa; /* latched at commit: decommits below do not move it */
} CXLHDMDecoder;

struct CXLHDM {
    unsigned count;
    uint32_t capability;
    uint32_t global_control;
    uint32_t reset_type; /* Target Range Type that reset brings back */
    CXLHDMDecoder decoder[HDM_DECODE_MAX];
    const CXLHDMOps *ops;
    void *opaque;
};

/**
 * cxl_hdm_init() - Set up a block in its reset state
 * @hdm: the block
 * @count: number of decoders, 1 to HDM_DECODE_MAX
 * @capability: what the device says in its CXL HDM Decoder Capability
 *              register. Interleaving and UIO are removed from it, because
 *              the block refuses them.
 * @host_only: Target Range Type at reset: true for HDM-H, false for HDM-D
 * @ops: the owner's callbacks
 * @opaque: passed to them
 */
void cxl_hdm_init(CXLHDM *hdm, unsigned count, uint32_t capability,
                  bool host_only, const CXLHDMOps *ops, void *opaque);

/**
 * cxl_hdm_reset() - Conventional reset: clears all decoders, locks included
 * @hdm: the block
 *
 * Calls @update if a decoder was committed.
 */
void cxl_hdm_reset(CXLHDM *hdm);

/**
 * cxl_hdm_length() - Length of a block's registers in bytes
 * @count: its decoders
 */
static inline unsigned cxl_hdm_length(unsigned count)
{
    return A_CXL_HDM_DECODER0_BASE_LO - CXL_HDM_REGISTERS_OFFSET +
           count * CXL_HDM_STRIDE;
}

/**
 * cxl_hdm_read() - Read a register
 * @hdm: the block
 * @offset: bytes from the start of the block, a multiple of @size
 * @size: 1, 2, 4 or 8 bytes
 *
 * Registers have 4 bytes; software should use 4 or 8.
 *
 * Returns: the value, 0 for reserved registers and bits
 */
uint64_t cxl_hdm_read(const CXLHDM *hdm, unsigned offset, unsigned size);

/**
 * cxl_hdm_peek() - Read a register on behalf of QEMU itself
 * @hdm: the block
 * @offset: see cxl_hdm_read()
 * @size: see cxl_hdm_read()
 *
 * Returns: what cxl_hdm_read() does, without a trace of a guest's access
 */
uint64_t cxl_hdm_peek(const CXLHDM *hdm, unsigned offset, unsigned size);

/**
 * cxl_hdm_write() - Write a register
 * @hdm: the block
 * @offset: bytes from the start of the block, a multiple of @size
 * @value: the value
 * @size: 4 or 8 bytes; narrower writes are guest errors, and ignored
 */
void cxl_hdm_write(CXLHDM *hdm, unsigned offset, uint64_t value,
                   unsigned size);

/**
 * cxl_hdm_get() - Get what decoder @n maps now
 * @hdm: the block
 * @n: the decoder
 * @range: set if the function returns true
 *
 * Returns: true if the decoder is committed and HDM Decoder Enable is set
 */
bool cxl_hdm_get(const CXLHDM *hdm, unsigned n, CXLHDMRange *range);

/**
 * cxl_hdm_is_committed() - Check whether decoder @n is committed
 * @hdm: the block
 * @n: the decoder
 * @range: if not NULL, set if the function returns true
 *
 * HDM Decoder Enable is not taken into account.
 */
bool cxl_hdm_is_committed(const CXLHDM *hdm, unsigned n, CXLHDMRange *range);

/**
 * cxl_hdm_is_locked() - Check whether decoder @n is committed and locked
 * @hdm: the block
 * @n: the decoder
 */
bool cxl_hdm_is_locked(const CXLHDM *hdm, unsigned n);

/**
 * cxl_hdm_commit() - Program, commit and enable decoder @n, as firmware does
 * @hdm: the block
 * @n: the decoder
 * @base: multiple of CXL_HDM_ALIGN
 * @size: multiple of CXL_HDM_ALIGN, not 0
 * @lock: set Lock On Commit
 * @errp: set to why it is not possible
 *
 * Returns: true on success. On failure the decoder is as it was.
 */
bool cxl_hdm_commit(CXLHDM *hdm, unsigned n, uint64_t base, uint64_t size,
                    bool lock, Error **errp);

/**
 * cxl_hdm_decommit() - Decommit all decoders, as the memory is gone
 * @hdm: the block
 *
 * Programmed values stay readable; ERROR NOT COMMITTED is set in decoders that
 * had been committed.
 */
void cxl_hdm_decommit(CXLHDM *hdm);

#endif /* CXL_HDM_H */
