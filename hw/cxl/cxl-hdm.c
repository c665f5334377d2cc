/*
 * CXL HDM Decoder Capability of an endpoint
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/log.h"
#include "qemu/range.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "hw/core/registerfields.h"
#include "hw/cxl/cxl.h"
#include "hw/cxl/cxl_hdm.h"
#include "trace.h"

/* Offset in the block, for one that includes the block's own offset */
#define HDM_OFFSET(reg) (A_CXL_HDM_DECODER_##reg - CXL_HDM_REGISTERS_OFFSET)
#define HDM0_OFFSET(reg) \
    (A_CXL_HDM_DECODER0_##reg - A_CXL_HDM_DECODER0_BASE_LO)
#define HDM_FIRST (A_CXL_HDM_DECODER0_BASE_LO - CXL_HDM_REGISTERS_OFFSET)

#define CTRL_FIELD(name) R_CXL_HDM_DECODER0_CTRL_##name##_MASK
#define CTRL_CONFIG (CTRL_FIELD(IG) | CTRL_FIELD(IW) | CTRL_FIELD(TYPE))
#define CTRL_WRITABLE \
    (CTRL_CONFIG | CTRL_FIELD(LOCK_ON_COMMIT) | CTRL_FIELD(COMMIT))
#define LOW_MASK R_CXL_HDM_DECODER0_BASE_LO_L_MASK

static bool cxl_hdm_decoder_is_committed(const CXLHDMDecoder *d)
{
    return d->ctrl & CTRL_FIELD(COMMITTED);
}

/* CXL r3.1 Section 8.2.4.20.13: Lock On Commit takes effect while committed */
static bool cxl_hdm_decoder_is_locked(const CXLHDMDecoder *d)
{
    return cxl_hdm_decoder_is_committed(d) &&
           (d->ctrl & CTRL_FIELD(LOCK_ON_COMMIT));
}

static uint64_t cxl_hdm_pair(uint32_t lo, uint32_t hi)
{
    return lo | ((uint64_t)hi << 32);
}

static uint64_t cxl_hdm_decoder_base(const CXLHDMDecoder *d)
{
    return cxl_hdm_pair(d->base_lo, d->base_hi);
}

static uint64_t cxl_hdm_decoder_size(const CXLHDMDecoder *d)
{
    return cxl_hdm_pair(d->size_lo, d->size_hi);
}

void cxl_hdm_init(CXLHDM *hdm, unsigned count, uint32_t capability,
                  bool host_only, const CXLHDMOps *ops, void *opaque)
{
    const uint32_t removed =
        R_CXL_HDM_DECODER_CAPABILITY_TARGET_COUNT_MASK |
        R_CXL_HDM_DECODER_CAPABILITY_INTERLEAVE_256B_MASK |
        R_CXL_HDM_DECODER_CAPABILITY_INTERLEAVE_4K_MASK |
        R_CXL_HDM_DECODER_CAPABILITY_3_6_12_WAY_MASK |
        R_CXL_HDM_DECODER_CAPABILITY_16_WAY_MASK |
        R_CXL_HDM_DECODER_CAPABILITY_UIO_MASK |
        R_CXL_HDM_DECODER_CAPABILITY_UIO_DECODER_COUNT_MASK;

    assert(count > 0 && count <= HDM_DECODE_MAX);
    memset(hdm, 0, sizeof(*hdm));
    hdm->count = count;
    hdm->capability = capability & ~removed;
    hdm->reset_type = host_only ? CTRL_FIELD(TYPE) : 0;
    hdm->ops = ops;
    hdm->opaque = opaque;
    cxl_hdm_reset(hdm);
}

void cxl_hdm_reset(CXLHDM *hdm)
{
    bool was_committed = false;

    for (unsigned n = 0; n < hdm->count; n++) {
        was_committed |= cxl_hdm_decoder_is_committed(&hdm->decoder[n]);
        hdm->decoder[n] = (CXLHDMDecoder) { .ctrl = hdm->reset_type };
    }
    hdm->global_control = 0;
    if (was_committed) {
        hdm->ops->update(hdm->opaque);
    }
}

bool cxl_hdm_is_committed(const CXLHDM *hdm, unsigned n, CXLHDMRange *range)
{
    const CXLHDMDecoder *d = &hdm->decoder[n];

    if (n >= hdm->count || !cxl_hdm_decoder_is_committed(d)) {
        return false;
    }
    if (range) {
        range->base = cxl_hdm_decoder_base(d);
        range->size = cxl_hdm_decoder_size(d);
        range->dpa = d->dpa;
    }
    return true;
}

bool cxl_hdm_is_locked(const CXLHDM *hdm, unsigned n)
{
    return n < hdm->count && cxl_hdm_decoder_is_locked(&hdm->decoder[n]);
}

bool cxl_hdm_get(const CXLHDM *hdm, unsigned n, CXLHDMRange *range)
{
    if (!FIELD_EX32(hdm->global_control, CXL_HDM_DECODER_GLOBAL_CONTROL,
                    HDM_DECODER_ENABLE)) {
        return false;
    }
    return cxl_hdm_is_committed(hdm, n, range);
}

/*
 * CXL r3.1 Section 8.2.4.20.12: check the rules that concern the block alone.
 * Sets @range to what decoder @n would map.
 */
static bool cxl_hdm_check_rules(const CXLHDM *hdm, unsigned n,
                                CXLHDMRange *range, Error **errp)
{
    const CXLHDMDecoder *d = &hdm->decoder[n];
    uint64_t skip = cxl_hdm_pair(d->skip_lo, d->skip_hi);
    CXLHDMRange below = { };

    range->base = cxl_hdm_decoder_base(d);
    range->size = cxl_hdm_decoder_size(d);
    if (range->size == 0) {
        error_setg(errp, "decoder size is 0");
        return false;
    }
    if (range->base > UINT64_MAX - range->size) {
        error_setg(errp, "range wraps around the end of the address space");
        return false;
    }
    if (FIELD_EX32(d->ctrl, CXL_HDM_DECODER0_CTRL, IW)) {
        error_setg(errp, "interleaving is not supported");
        return false;
    }
    if (n > 0 && !cxl_hdm_is_committed(hdm, n - 1, &below)) {
        error_setg(errp, "decoder %u is not committed", n - 1);
        return false;
    }
    if (skip > UINT64_MAX - below.dpa - below.size ||
        range->size > UINT64_MAX - below.dpa - below.size - skip) {
        error_setg(errp, "DPA skip is too large");
        return false;
    }
    range->dpa = below.dpa + below.size + skip;

    /* A decommitted decoder can come back between committed ones */
    for (unsigned i = 0; i < hdm->count; i++) {
        CXLHDMRange other;

        if (i == n || !cxl_hdm_is_committed(hdm, i, &other)) {
            continue;
        }
        if (i < n ? range->base < other.base + other.size
                  : other.base < range->base + range->size) {
            error_setg(errp, "range is not %s that of decoder %u",
                       i < n ? "above" : "below", i);
            return false;
        }
        if (i > n && other.dpa < range->dpa + range->size) {
            error_setg(errp, "DPA range overlaps that of decoder %u", i);
            return false;
        }
    }
    return true;
}

static bool cxl_hdm_try_commit(CXLHDM *hdm, unsigned n, Error **errp)
{
    CXLHDMDecoder *d = &hdm->decoder[n];
    CXLHDMRange range;

    if (!cxl_hdm_check_rules(hdm, n, &range, errp) ||
        !hdm->ops->check(hdm->opaque, n, &range, errp)) {
        return false;
    }
    d->dpa = range.dpa;
    d->ctrl |= CTRL_FIELD(COMMIT) | CTRL_FIELD(COMMITTED);
    d->ctrl &= ~CTRL_FIELD(ERR);
    trace_cxl_hdm_commit(n, range.base, range.size, range.dpa);
    return true;
}

/* CXL r3.1 Section 8.2.4.20.7 */
static void cxl_hdm_write_ctrl(CXLHDM *hdm, unsigned n, uint32_t value)
{
    CXLHDMDecoder *d = &hdm->decoder[n];
    Error *err = NULL;

    if (cxl_hdm_decoder_is_locked(d)) {
        return;
    }

    if (cxl_hdm_decoder_is_committed(d)) {
        if (value & CTRL_FIELD(COMMIT)) {
            /* A committed decoder keeps its configuration, but can be locked */
            if (value & CTRL_FIELD(LOCK_ON_COMMIT)) {
                d->ctrl |= CTRL_FIELD(LOCK_ON_COMMIT);
                hdm->ops->update(hdm->opaque);
            }
            return;
        }
        d->ctrl = value & CTRL_WRITABLE;
        trace_cxl_hdm_decommit(n);
        hdm->ops->update(hdm->opaque);
        return;
    }

    d->ctrl = value & CTRL_WRITABLE;
    if (!(value & CTRL_FIELD(COMMIT))) {
        return;
    }
    if (cxl_hdm_try_commit(hdm, n, &err)) {
        hdm->ops->update(hdm->opaque);
        return;
    }
    d->ctrl |= CTRL_FIELD(ERR);
    qemu_log_mask(LOG_GUEST_ERROR, "CXL HDM decoder %u not committed: %s\n",
                  n, error_get_pretty(err));
    trace_cxl_hdm_refuse(n, cxl_hdm_decoder_base(d), cxl_hdm_decoder_size(d),
                         error_get_pretty(err));
    error_free(err);
}

static void cxl_hdm_write_global_control(CXLHDM *hdm, uint32_t value)
{
    uint32_t mask = R_CXL_HDM_DECODER_GLOBAL_CONTROL_HDM_DECODER_ENABLE_MASK;
    uint32_t old = hdm->global_control;

    if (FIELD_EX32(hdm->capability, CXL_HDM_DECODER_CAPABILITY,
                   POISON_ON_ERR_CAP)) {
        mask |= R_CXL_HDM_DECODER_GLOBAL_CONTROL_POISON_ON_ERR_EN_MASK;
    }
    hdm->global_control = value & mask;
    if ((old ^ hdm->global_control) &
        R_CXL_HDM_DECODER_GLOBAL_CONTROL_HDM_DECODER_ENABLE_MASK) {
        hdm->ops->update(hdm->opaque);
    }
}

/* Find the register at @offset in decoder @d and its writable bits */
static uint32_t *cxl_hdm_config_register(CXLHDMDecoder *d, unsigned offset,
                                         uint32_t *mask)
{
    switch (offset) {
    case HDM0_OFFSET(BASE_LO):
        *mask = LOW_MASK;
        return &d->base_lo;
    case HDM0_OFFSET(BASE_HI):
        *mask = UINT32_MAX;
        return &d->base_hi;
    case HDM0_OFFSET(SIZE_LO):
        *mask = LOW_MASK;
        return &d->size_lo;
    case HDM0_OFFSET(SIZE_HI):
        *mask = UINT32_MAX;
        return &d->size_hi;
    case HDM0_OFFSET(CTRL):
        *mask = CTRL_WRITABLE;
        return &d->ctrl;
    case HDM0_OFFSET(DPA_SKIP_LO):
        *mask = LOW_MASK;
        return &d->skip_lo;
    case HDM0_OFFSET(DPA_SKIP_HI):
        *mask = UINT32_MAX;
        return &d->skip_hi;
    default:
        return NULL;
    }
}

static uint32_t cxl_hdm_read_dword(const CXLHDM *hdm, unsigned offset)
{
    unsigned n = (offset - HDM_FIRST) / CXL_HDM_STRIDE;
    CXLHDMDecoder decoder;
    uint32_t mask, *reg;

    switch (offset) {
    case HDM_OFFSET(CAPABILITY):
        return hdm->capability;
    case HDM_OFFSET(GLOBAL_CONTROL):
        return hdm->global_control;
    }
    if (offset < HDM_FIRST || n >= hdm->count) {
        return 0;
    }
    decoder = hdm->decoder[n];
    reg = cxl_hdm_config_register(&decoder,
                                  (offset - HDM_FIRST) % CXL_HDM_STRIDE, &mask);
    return reg ? *reg : 0;
}

static void cxl_hdm_write_dword(CXLHDM *hdm, unsigned offset, uint32_t value)
{
    unsigned n = (offset - HDM_FIRST) / CXL_HDM_STRIDE;
    uint32_t mask, *reg;

    if (offset == HDM_OFFSET(GLOBAL_CONTROL)) {
        cxl_hdm_write_global_control(hdm, value);
        return;
    }
    if (offset < HDM_FIRST || n >= hdm->count) {
        return;
    }
    reg = cxl_hdm_config_register(&hdm->decoder[n],
                                  (offset - HDM_FIRST) % CXL_HDM_STRIDE, &mask);
    if (reg == &hdm->decoder[n].ctrl) {
        cxl_hdm_write_ctrl(hdm, n, value);
    } else if (reg && !cxl_hdm_decoder_is_committed(&hdm->decoder[n])) {
        *reg = value & mask;
    }
}

uint64_t cxl_hdm_peek(const CXLHDM *hdm, unsigned offset, unsigned size)
{
    uint64_t value;

    value = cxl_hdm_read_dword(hdm, offset & ~3u);
    if (size == 8) {
        value |= (uint64_t)cxl_hdm_read_dword(hdm, offset + 4) << 32;
    } else if (size < 4) {
        value = extract64(value, (offset & 3) * 8, size * 8);
    }
    return value;
}

uint64_t cxl_hdm_read(const CXLHDM *hdm, unsigned offset, unsigned size)
{
    uint64_t value = cxl_hdm_peek(hdm, offset, size);

    trace_cxl_hdm_read(offset, size, value);
    return value;
}

void cxl_hdm_write(CXLHDM *hdm, unsigned offset, uint64_t value,
                   unsigned size)
{
    trace_cxl_hdm_write(offset, size, value);
    if (size < 4) {
        /* CXL r3.1 Section 8.2.2: partial accesses are not permitted */
        qemu_log_mask(LOG_GUEST_ERROR,
                      "CXL HDM decoder: %u-byte write at 0x%x ignored\n",
                      size, offset);
        return;
    }
    /* The upper half first: in one access DPA skip must precede COMMIT */
    if (size == 8) {
        cxl_hdm_write_dword(hdm, offset + 4, value >> 32);
    }
    cxl_hdm_write_dword(hdm, offset, value);
}

bool cxl_hdm_commit(CXLHDM *hdm, unsigned n, uint64_t base, uint64_t size,
                    bool lock, Error **errp)
{
    CXLHDMDecoder *d = &hdm->decoder[n];
    CXLHDMDecoder old = *d;

    assert(n < hdm->count);
    assert(QEMU_IS_ALIGNED(base | size, CXL_HDM_ALIGN));
    if (cxl_hdm_decoder_is_committed(d)) {
        error_setg(errp, "decoder is already committed");
        return false;
    }

    d->base_lo = base;
    d->base_hi = base >> 32;
    d->size_lo = size;
    d->size_hi = size >> 32;
    d->ctrl = hdm->reset_type | (lock ? CTRL_FIELD(LOCK_ON_COMMIT) : 0);
    if (!cxl_hdm_try_commit(hdm, n, errp)) {
        *d = old;
        return false;
    }
    hdm->global_control |=
        R_CXL_HDM_DECODER_GLOBAL_CONTROL_HDM_DECODER_ENABLE_MASK;
    hdm->ops->update(hdm->opaque);
    return true;
}

void cxl_hdm_decommit(CXLHDM *hdm)
{
    bool was_committed = false;

    for (unsigned n = 0; n < hdm->count; n++) {
        CXLHDMDecoder *d = &hdm->decoder[n];

        if (cxl_hdm_decoder_is_committed(d)) {
            was_committed = true;
            d->ctrl &= ~CTRL_FIELD(COMMITTED);
            d->ctrl |= CTRL_FIELD(ERR);
        }
    }
    if (was_committed) {
        hdm->ops->update(hdm->opaque);
    }
}
