/*
 * Model of a machine's fixed windows, from the specification
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "vfio-cxl-model.h"

#define BLOCK 0x10000000ull     /* all ranges are multiples of 256 MiB */

/* Fields of a decoder's control register */
#define IG          0x000fu
#define IW          0x00f0u
#define LOCK        0x0100u
#define COMMIT      0x0200u
#define COMMITTED   0x0400u
#define ERROR       0x0800u
#define TYPE        0x1000u

static uint64_t join(uint32_t low, uint32_t high)
{
    return (uint64_t)high << 32 | low;
}

uint64_t model_base(const ModelDecoder *d)
{
    return join(d->reg[MODEL_BASE_LO], d->reg[MODEL_BASE_HI]);
}

uint64_t model_size(const ModelDecoder *d)
{
    return join(d->reg[MODEL_SIZE_LO], d->reg[MODEL_SIZE_HI]);
}

bool model_is_committed(const ModelDecoder *d)
{
    return d->reg[MODEL_CTRL] & COMMITTED;
}

static bool contains(const ModelDecoder *d, uint64_t address)
{
    return address >= model_base(d) && address - model_base(d) < model_size(d);
}

static ModelWindow *window_at(Model *model, uint64_t address)
{
    for (unsigned i = 0; i < model->windows; i++) {
        ModelWindow *w = &model->window[i];

        if (address >= w->base && address < w->base + w->size) {
            return w;
        }
    }
    return NULL;
}

static ModelNode *host_bridge(ModelNode *node)
{
    while (node->above) {
        node = node->above;
    }
    return node;
}

/* Check whether @node sends an address to its port @number */
static bool sends(const ModelNode *node, uint64_t address, unsigned number)
{
    for (unsigned i = 0; i < node->decoders; i++) {
        const ModelDecoder *d = &node->decoder[i];

        if (model_is_committed(d) && contains(d, address)) {
            return !(d->reg[MODEL_CTRL] & IW) &&
                   (d->reg[MODEL_LIST_LO] & 0xff) == number;
        }
    }
    return node->decoders == 0;
}

/*
 * For its emulated memory QEMU stops at the first decoder with the address,
 * committed or not, and supports interleaving.
 */
static bool sends_emulated(const ModelNode *node, uint64_t address,
                           unsigned number)
{
    for (unsigned i = 0; i < node->decoders; i++) {
        const ModelDecoder *d = &node->decoder[i];
        uint32_t ctrl = d->reg[MODEL_CTRL];
        unsigned ways = 1u << ((ctrl & IW) >> 4);
        unsigned index = (address >> ((ctrl & IG) + 8)) % ways;

        if (contains(d, address)) {
            return model_is_committed(d) && index < 8 &&
                   (join(d->reg[MODEL_LIST_LO], d->reg[MODEL_LIST_HI]) >>
                    (8 * index) & 0xff) == number;
        }
    }
    return node->decoders == 0;
}

static bool arrives(Model *model, ModelNode *endpoint, uint64_t address)
{
    ModelWindow *window = window_at(model, address);

    if (!window || window->target != host_bridge(endpoint)) {
        return false;
    }
    for (ModelNode *node = endpoint; node->above; node = node->above) {
        if (!(endpoint->emulated ? sends_emulated : sends)(node->above,
                                                           address,
                                                           node->number)) {
            return false;
        }
    }
    return true;
}

static bool is_open(const ModelNode *endpoint)
{
    return endpoint->emulated || (endpoint->enable && endpoint->mem_enable &&
                                  (endpoint->memory_space ||
                                   !endpoint->memory_space_gate));
}

ModelNode *model_lookup(Model *model, uint64_t address, uint64_t *dpa)
{
    ModelNode *found = NULL;

    for (unsigned i = 0; i < model->nodes; i++) {
        ModelNode *node = &model->node[i];

        if (!node->memory || !is_open(node) ||
            !arrives(model, node, address)) {
            continue;
        }
        for (unsigned n = 0; n < node->decoders; n++) {
            ModelDecoder *d = &node->decoder[n];

            if (model_is_committed(d) && contains(d, address)) {
                g_assert_null(found);
                found = node;
                *dpa = d->dpa + (address - model_base(d));
            }
        }
    }
    return found;
}

/* Sets the decoder's DPA if it can be committed */
static ModelRefusal check_commit(Model *model, ModelNode *node, unsigned n)
{
    ModelDecoder *d = &node->decoder[n];
    uint64_t base = model_base(d), size = model_size(d), dpa;
    uint64_t skip = join(d->reg[MODEL_LIST_LO], d->reg[MODEL_LIST_HI]);
    ModelWindow *window = window_at(model, base);

    if (!size) {
        return MODEL_NO_SIZE;
    }
    if (base + size < base || base + size == 0) {
        return MODEL_WRAPS;
    }
    if (d->reg[MODEL_CTRL] & IW) {
        return MODEL_INTERLEAVES;
    }
    if (n && !model_is_committed(d - 1)) {
        return MODEL_ORDER;
    }
    dpa = n ? d[-1].dpa + model_size(d - 1) : 0;
    if (skip > node->memory || size > node->memory ||
        dpa + skip + size > node->memory) {
        return MODEL_DPA;
    }
    dpa += skip;
    for (unsigned i = 0; i < node->decoders; i++) {
        ModelDecoder *other = &node->decoder[i];

        if (i == n || !model_is_committed(other)) {
            continue;
        }
        if (i < n ? model_base(other) + model_size(other) > base
                  : model_base(other) < base + size) {
            return MODEL_OVERLAP;
        }
        if (i > n && other->dpa < dpa + size) {
            return MODEL_DPA;
        }
    }
    if (!window) {
        return MODEL_NO_WINDOW;
    }
    if (!window->target) {
        return MODEL_WINDOW_INTERLEAVES;
    }
    if (window->target != host_bridge(node)) {
        return MODEL_OTHER_BRIDGE;
    }
    if (base + size > window->base + window->size) {
        return MODEL_WINDOW_END;
    }
    for (uint64_t at = base; at < base + size; at += BLOCK) {
        uint64_t theirs;
        ModelNode *other = model_lookup(model, at, &theirs);

        if (other && other != node && !other->emulated) {
            return MODEL_TAKEN;
        }
    }
    d->dpa = dpa;
    return MODEL_COMMITTED;
}

static ModelRefusal write_endpoint_ctrl(Model *model, ModelNode *node,
                                        unsigned n, uint32_t value)
{
    uint32_t *ctrl = &node->decoder[n].reg[MODEL_CTRL];
    ModelRefusal refusal;

    if (*ctrl & COMMITTED) {
        if (*ctrl & LOCK) {
            return MODEL_REFUSALS;
        }
        if (value & COMMIT) {
            *ctrl |= value & LOCK;
            return MODEL_REFUSALS;
        }
    }
    *ctrl = value & (IG | IW | TYPE | LOCK | COMMIT);
    if (!(value & COMMIT)) {
        return MODEL_REFUSALS;
    }
    refusal = check_commit(model, node, n);
    *ctrl |= refusal == MODEL_COMMITTED ? COMMITTED : ERROR;
    return refusal;
}

ModelRefusal model_write(Model *model, ModelNode *node, unsigned n,
                         unsigned reg, uint32_t value)
{
    ModelDecoder *d = &node->decoder[n];

    if (reg == MODEL_CTRL && node->memory) {
        return write_endpoint_ctrl(model, node, n, value);
    }
    if (reg == MODEL_CTRL) {
        /* QEMU's own ports accept any commit */
        d->reg[reg] = value & (IG | IW | TYPE | LOCK | COMMIT);
        d->reg[reg] |= value & COMMIT ? COMMITTED : 0;
        return MODEL_REFUSALS;
    }
    if (reg >= MODEL_REGS - 1 || (node->memory && model_is_committed(d))) {
        return MODEL_REFUSALS;
    }
    if (reg == MODEL_BASE_LO || reg == MODEL_SIZE_LO ||
        (reg == MODEL_LIST_LO && node->memory)) {
        value &= ~(uint32_t)(BLOCK - 1);
    }
    d->reg[reg] = value;
    return MODEL_REFUSALS;
}

void model_reset(Model *model, ModelNode *top)
{
    for (unsigned i = 0; i < model->nodes; i++) {
        ModelNode *node = &model->node[i], *up = node;

        while (up && up != top) {
            up = up->above;
        }
        if (!up) {
            continue;
        }
        memset(node->decoder, 0, sizeof(node->decoder));
        for (unsigned n = 0; n < node->decoders; n++) {
            node->decoder[n].reg[MODEL_CTRL] = node->reset_ctrl;
        }
        node->enable = false;
        node->mem_enable = false;
        node->memory_space = false;
    }
}
