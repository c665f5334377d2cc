/*
 * Mappings for DMA, compared with the expected ones
 *
 * vfio-sim's control channel lists the mappings of each container and IOAS.
 * A test says which memory it expects the guest to have, and where; all the
 * rest must be as it was at the start.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_CXL_MAPS_H
#define VFIO_CXL_MAPS_H

#include "vfio-cxl-helpers.h"

/* Memory of a device in the guest's map. A list ends with a size of 0. */
typedef struct CXLMapped {
    uint64_t gpa;
    uint64_t size;
    uint64_t dpa;
    const char *host;   /* NULL for the first device */
} CXLMapped;

#define DMA_MAPS_SPACES 4

/**
 * struct DMAMaps - the expected mappings
 * @m: the machine
 * @spaces: how many containers and IOASes there are
 * @dma_buf: IOASes can have device memory, as dma-bufs
 * @dma_buf_bars: IOASes can have BARs, as dma-bufs
 * @pfnmap: IOASes can have device memory and BARs, by address
 * @bars: the first device's BARs are where m->bar0 says
 * @others: RAM and BARs of other devices, as text, for each space
 */
typedef struct DMAMaps {
    CXLMachine *m;
    unsigned spaces;
    bool dma_buf;
    bool dma_buf_bars;
    bool pfnmap;
    bool bars;
    GPtrArray *others[DMA_MAPS_SPACES];
} DMAMaps;

/**
 * dma_maps_new() - Record the mappings for later comparisons
 * @m: a machine with the first device's BARs enabled
 * @mode: the VFIOCXLMode that it was started with
 * @spaces: see DMAMaps, at most DMA_MAPS_SPACES
 */
DMAMaps *dma_maps_new(CXLMachine *m, gconstpointer mode, unsigned spaces);
void dma_maps_free(DMAMaps *maps);

/**
 * dma_maps_check() - Check that the mappings are as expected
 * @maps: the expected mappings
 * @memory: device memory in the guest's map; NULL for none
 *
 * Compares everything that is in every container and IOAS.
 */
void dma_maps_check(DMAMaps *maps, const CXLMapped *memory);

/**
 * dma_maps_agree() - Check that DMA and the CPU agree on an address
 * @m: the machine
 * @gpa: the address
 * @dpa: a place in the first device's memory
 * @shown: whether the CPU sees the one at the other
 *
 * Checks each container, and each IOAS with a kernel that supports it. If the
 * CPU does not see the memory, no device must.
 */
void dma_maps_agree(CXLMachine *m, uint64_t gpa, uint64_t dpa, bool shown);

/**
 * dma_maps_others() - Mappings of all but one device, one line each
 * @m: the machine
 * @host: address of the device to leave out
 * @space: number of the container or IOAS, counted from 0
 */
GPtrArray *dma_maps_others(CXLMachine *m, const char *host, unsigned space);

/* An unused address in RAM; the 64 KiB from there are free */
uint64_t guest_ram(void);

/**
 * dma_copy() - Let a device copy 64 bytes
 * @m: the machine
 * @regs: where the device's registers are
 * @src: from
 * @dst: to
 * @flags: VFIO_SIM_DMA_SRC_LOCAL, VFIO_SIM_DMA_DST_LOCAL
 *
 * Returns: the resulting status of the device
 */
uint32_t dma_copy(CXLMachine *m, uint64_t regs, uint64_t src, uint64_t dst,
                  uint32_t flags);

/**
 * dma_reaches() - Check that a device reaches a guest address
 * @m: the machine
 * @regs: where the device's registers are
 * @gpa: the address
 *
 * Tried in both directions. If it does not, both have to fault, at @gpa.
 */
bool dma_reaches(CXLMachine *m, uint64_t regs, uint64_t gpa);

#endif /* VFIO_CXL_MAPS_H */
