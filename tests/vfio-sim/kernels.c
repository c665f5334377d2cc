/*
 * vfio-sim: the kernel generations by name, and what they have in common
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kernel.h"

#define NUM(a) (sizeof(a) / sizeof((a)[0]))
#define ENTRY(name, id) { name, &sim_kernel_##id },

static const struct {
    const char *name;
    const SimKernel *kernel;
} kernels[] = {
    SIM_KERNELS(ENTRY)
};

const SimKernel *sim_kernel_find(const char *name)
{
    unsigned i;

    for (i = 0; i < NUM(kernels); i++) {
        if (!strcmp(name, kernels[i].name)) {
            return kernels[i].kernel;
        }
    }
    return NULL;
}

const char *sim_kernel_name(const SimKernel *kernel)
{
    unsigned i;

    for (i = 0; i < NUM(kernels) - 1 && kernels[i].kernel != kernel; i++) {
        continue;
    }
    return kernels[i].name;
}

ssize_t sim_kernel_mem_file(SimDevice *dev, void *buf, size_t count,
                            uint64_t pos, bool write)
{
    return write ? sys_pwrite(dev->mem_fd, buf, count, pos) :
                   sys_pread(dev->mem_fd, buf, count, pos);
}

ssize_t sim_kernel_block_rw(SimDevice *dev, void *buf, size_t count,
                            uint64_t pos, bool write)
{
    uint8_t *b = buf;
    size_t done;

    for (done = 0; done < count; ) {
        uint64_t at = (pos + done) & ~3ull;
        unsigned skip = (pos + done) & 3;
        size_t n = count - done < 4 - skip ? count - done : 4 - skip;
        uint32_t value = sim_component_read(dev, at);

        if (write) {
            memcpy((uint8_t *)&value + skip, b + done, n);
            sim_component_write(dev, at, value);
        } else {
            memcpy(b + done, (uint8_t *)&value + skip, n);
        }
        done += n;
    }
    return count;
}

ssize_t sim_kernel_paged_block_rw(SimDevice *dev, void *buf, size_t count,
                                  uint64_t pos, bool write)
{
    uint64_t start = SIM_CM_OFFSET, end = start + SIM_CM_SIZE;

    if (pos >= start && pos < end) {
        count = count < end - pos ? count : end - pos;
        return sim_kernel_block_rw(dev, buf, count, pos, write);
    }
    if (pos < start && count > start - pos) {
        count = start - pos;
    }
    pos += dev->block;
    return write ? sys_pwrite(dev->bar0_fd, buf, count, pos) :
                   sys_pread(dev->bar0_fd, buf, count, pos);
}

void sim_kernel_whole_hole(SimDevice *dev, uint64_t *start, uint64_t *end)
{
    *start = dev->block;
    *end = dev->block + VFIO_SIM_BLOCK_SIZE;
}

size_t sim_kernel_hdm_size(SimDevice *dev)
{
    return 0x10 + SIM_HDM_STRIDE * sim_component_decoders(dev);
}

void sim_kernel_page_hole(SimDevice *dev, uint64_t *start, uint64_t *end)
{
    uint64_t hdm = dev->block + SIM_CM_OFFSET + VFIO_SIM_CM_HDM;

    *start = hdm & ~(SIM_PAGE - 1);
    *end = SIM_ROUND_UP(hdm + sim_kernel_hdm_size(dev), SIM_PAGE);
}

bool sim_kernel_in_hdm(SimDevice *dev, uint64_t bar_pos, size_t count)
{
    uint64_t hdm = dev->block + SIM_CM_OFFSET + VFIO_SIM_CM_HDM;

    return bar_pos < hdm + sim_kernel_hdm_size(dev) && hdm < bar_pos + count;
}

ssize_t sim_kernel_dwords(SimDevice *dev, void *buf, size_t count,
                          uint64_t pos, bool write, SimDword *access)
{
    size_t size = dev->kernel->comp_size(dev);
    uint8_t *b = buf;
    size_t done;

    if (pos >= size || pos % 4 || count % 4) {
        return -EINVAL;
    }
    count = count < size - pos ? count : size - pos;
    for (done = 0; done < count; done += 4) {
        uint32_t value = write ? sim_ld32(b + done) : 0;

        value = access(dev, pos + done, value, write);
        if (!write) {
            sim_st32(b + done, value);
        }
    }
    return count;
}
