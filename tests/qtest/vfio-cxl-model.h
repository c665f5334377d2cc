/*
 * Model of a machine's fixed windows, from the specification
 *
 * A model of HDM decoders (CXL r3.1 Section 8.2.4.20) and of the path from a
 * window to a device, for tests. It shares no code with QEMU: it is told of
 * each register write and reset, and computes which byte of which device is
 * visible at an address.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_CXL_MODEL_H
#define VFIO_CXL_MODEL_H

#define MODEL_DECODERS 10

/* The register at a dword of a decoder, in their order */
enum {
    MODEL_BASE_LO, MODEL_BASE_HI, MODEL_SIZE_LO, MODEL_SIZE_HI, MODEL_CTRL,
    MODEL_LIST_LO, MODEL_LIST_HI,       /* targets, or DPA skip */
    MODEL_REGS = 8,
};

typedef struct ModelDecoder {
    uint32_t reg[MODEL_REGS];
    uint64_t dpa;               /* as of its commit */
} ModelDecoder;

/* A host bridge, a switch or an endpoint */
typedef struct ModelNode {
    const char *id;
    struct ModelNode *above;    /* NULL: it is a host bridge */
    unsigned number;            /* of the port there that leads here */
    unsigned decoders;          /* 0: passes everything through */
    ModelDecoder decoder[MODEL_DECODERS];
    /* endpoints */
    uint64_t memory;            /* bytes; 0: not an endpoint */
    bool emulated;              /* QEMU's own rules, not the specification's */
    uint32_t reset_ctrl;
    bool enable;                /* HDM Decoder Enable */
    bool mem_enable;            /* in the CXL Device DVSEC */
    bool memory_space;          /* in the PCI command register */
    bool memory_space_gate;     /* the kernel honours it */
} ModelNode;

typedef struct ModelWindow {
    uint64_t base;
    uint64_t size;
    ModelNode *target;          /* NULL if it interleaves */
} ModelWindow;

typedef struct Model {
    ModelNode *node;
    unsigned nodes;
    ModelWindow *window;
    unsigned windows;
} Model;

/* Why a COMMIT is refused */
typedef enum ModelRefusal {
    MODEL_COMMITTED, MODEL_NO_SIZE, MODEL_WRAPS, MODEL_INTERLEAVES,
    MODEL_ORDER, MODEL_OVERLAP, MODEL_DPA, MODEL_NO_WINDOW,
    MODEL_WINDOW_INTERLEAVES, MODEL_OTHER_BRIDGE, MODEL_WINDOW_END,
    MODEL_TAKEN, MODEL_REFUSALS,
} ModelRefusal;

/* Write one dword of decoder @n; returns the result of a COMMIT */
ModelRefusal model_write(Model *model, ModelNode *node, unsigned n,
                         unsigned reg, uint32_t value);

/* A conventional reset of @node and everything below it */
void model_reset(Model *model, ModelNode *node);

/* The endpoint at an address, and which of its bytes; NULL if none */
ModelNode *model_lookup(Model *model, uint64_t address, uint64_t *dpa);

uint64_t model_base(const ModelDecoder *decoder);
uint64_t model_size(const ModelDecoder *decoder);
bool model_is_committed(const ModelDecoder *decoder);

#endif /* VFIO_CXL_MODEL_H */
