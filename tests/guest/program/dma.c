/*
 * The accelerator's DMA engine
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "cxl-guest.h"

Buffer ram;

bool make_buffer(const char *name)
{
    uint64_t entry;
    int fd;

    if (ram.va) {
        return true;
    }
    write_text("/proc/sys/vm/nr_hugepages", "2");
    ram.size = 2 * MiB;
    ram.va = mmap(NULL, ram.size, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE,
                  -1, 0);
    if (ram.va == MAP_FAILED) {
        ram.size = 4096;
        ram.va = mmap(NULL, ram.size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    }
    if (ram.va == MAP_FAILED || mlock(ram.va, ram.size)) {
        return fail(name, "no locked memory: %s", strerror(errno));
    }
    memset(ram.va, 0x11, ram.size);
    fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || pread(fd, &entry, 8, (uintptr_t)ram.va /
                        sysconf(_SC_PAGESIZE) * 8) != 8) {
        return fail(name, "pagemap: %s", strerror(errno));
    }
    close(fd);
    ram.pa = (entry & ((1ull << 55) - 1)) * sysconf(_SC_PAGESIZE);
    if (!ram.pa) {
        return fail(name, "%s", "pagemap hides the address");
    }
    info("buffer pa=0x%" PRIx64 " size=0x%" PRIx64, ram.pa, ram.size);
    return true;
}

uint32_t dma(uint64_t src, uint64_t dst, uint32_t len, uint32_t flags)
{
    double end = now() + 5;
    uint32_t status;

    barrier();
    set64(dev.regs + VFIO_SIM_REG_DMA_SRC, src);
    set64(dev.regs + VFIO_SIM_REG_DMA_DST, dst);
    set32(dev.regs + VFIO_SIM_REG_DMA_LEN, len);
    set32(dev.regs + VFIO_SIM_REG_DMA_CTRL, VFIO_SIM_DMA_START | flags);
    do {
        status = get32(dev.regs + VFIO_SIM_REG_DMA_STATUS);
    } while (status == VFIO_SIM_DMA_IDLE && now() < end);
    barrier();
    return status;
}

static void fill_ram(uint64_t salt)
{
    uint64_t i;

    for (i = 0; i < ram.size; i += 8) {
        *(volatile uint64_t *)(ram.va + i) = mix(i ^ salt);
    }
}

/* SRC and DST flags say whether device memory is named by DPA or by GPA */
static bool dma_round(const char *name, bool local, uint64_t dpa)
{
    uint64_t place = local ? dpa : dev.gpa + dpa;
    uint32_t len = ram.size / 2;
    uint64_t salt = dpa ^ (local ? 0x10ca1 : 0x6bab), i;
    uint32_t status;

    fill_ram(salt);
    for (i = 0; i < len; i += 4096) {
        set64(dev.window + dpa + i, 0);
    }
    status = dma(ram.pa, place, len, local ? VFIO_SIM_DMA_DST_LOCAL : 0);
    if (status != VFIO_SIM_DMA_DONE) {
        return fail(name, "RAM to device at 0x%" PRIx64 ": status %u, fault "
                    "at 0x%" PRIx64, place, status,
                    get64(dev.regs + VFIO_SIM_REG_DMA_FAULT_ADDR));
    }
    for (i = 0; i < len; i += 8) {
        if (get64(dev.window + dpa + i) != mix(i ^ salt)) {
            return fail(name, "RAM to device: window at 0x%" PRIx64
                        " reads 0x%" PRIx64, dpa + i,
                        get64(dev.window + dpa + i));
        }
    }
    /* Back, to the buffer's other half, with new data from the CPU */
    for (i = 0; i < len; i += 8) {
        set64(dev.window + dpa + i, mix(i ^ ~salt));
    }
    status = dma(place, ram.pa + len, len, local ? VFIO_SIM_DMA_SRC_LOCAL : 0);
    if (status != VFIO_SIM_DMA_DONE) {
        return fail(name, "device to RAM from 0x%" PRIx64 ": status %u, fault "
                    "at 0x%" PRIx64, place, status,
                    get64(dev.regs + VFIO_SIM_REG_DMA_FAULT_ADDR));
    }
    for (i = 0; i < len; i += 8) {
        if (*(volatile uint64_t *)(ram.va + len + i) != mix(i ^ ~salt)) {
            return fail(name, "device to RAM: wrong at offset 0x%" PRIx64, i);
        }
    }
    return true;
}

void check_dma_local(const char *name)
{
    double start;
    int i;

    if (!dma_round(name, true, 0x10000) ||
        !dma_round(name, true, dev.size - ram.size / 2)) {
        return;
    }
    start = now();
    for (i = 0; i < 16; i++) {
        dma(ram.pa, 0x10000, ram.size, VFIO_SIM_DMA_DST_LOCAL);
    }
    info("rate dma=%.0f unit=MB/s", 16 * ram.size / (now() - start) / 1e6);
    ok(name, "%s", "RAM to device and back, by device address");
}

void check_dma_window(const char *name)
{
    if (!opt.peer) {
        uint32_t status = dma(ram.pa, dev.gpa, 4096, 0);

        skip(name, "device memory is not mapped for DMA with this backend "
             "(status %u)", status);
        return;
    }
    if (dma_round(name, false, 0x20000) &&
        dma_round(name, false, dev.size - ram.size / 2)) {
        ok(name, "%s", "RAM to window and back, by guest physical address");
    }
}

void check_dma_fault(const char *name)
{
    /* Above each window there is nothing */
    uint64_t nowhere = windows[n_windows - 1].base +
                       windows[n_windows - 1].size + 64 * GiB;
    uint32_t status = dma(nowhere, 0x30000, 4096, VFIO_SIM_DMA_DST_LOCAL);
    uint32_t command;

    if (status != VFIO_SIM_DMA_FAULT ||
        get64(dev.regs + VFIO_SIM_REG_DMA_FAULT_ADDR) != nowhere) {
        fail(name, "DMA from 0x%" PRIx64 ": status %u, fault at 0x%" PRIx64,
             nowhere, status,
             get64(dev.regs + VFIO_SIM_REG_DMA_FAULT_ADDR));
        return;
    }
    command = cfg_read(CFG_COMMAND, 2);
    cfg_write(CFG_COMMAND, command & ~CFG_COMMAND_MASTER, 2);
    status = dma(ram.pa, 0x30000, 4096, VFIO_SIM_DMA_DST_LOCAL);
    cfg_write(CFG_COMMAND, command, 2);
    if (status != VFIO_SIM_DMA_MASTER_OFF) {
        fail(name, "DMA without Bus Master Enable: status %u", status);
        return;
    }
    ok(name, "%s", "unmapped address, bus master off");
}
