/*
 * MSI-X and INTx
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "cxl-guest.h"

static bool wait_readable(int fd, int ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    return poll(&p, 1, ms) == 1 && (p.revents & POLLIN);
}

/* MSI-X, counted by our driver: reads return a count for each vector */
void check_msix(const char *name)
{
    uint32_t before[VFIO_SIM_MSIX_VECTORS], after[VFIO_SIM_MSIX_VECTORS];
    double worst = 0;
    int fd, n, i;

    fd = open(opt.driver, O_RDWR | O_CLOEXEC);
    if (fd < 0 || pread(fd, before, sizeof(before), 0) != sizeof(before)) {
        fail(name, "%s: %s", opt.driver, strerror(errno));
        return;
    }
    for (n = 0; n < VFIO_SIM_MSIX_VECTORS; n++) {
        double start = now();

        set32(dev.regs + VFIO_SIM_REG_DOORBELL, n);
        if (!wait_readable(fd, 3000)) {
            fail(name, "vector %d did not arrive", n);
            goto out;
        }
        if (now() - start > worst) {
            worst = now() - start;
        }
        if (pread(fd, after, sizeof(after), 0) != sizeof(after)) {
            fail(name, "read: %s", strerror(errno));
            goto out;
        }
        for (i = 0; i < VFIO_SIM_MSIX_VECTORS; i++) {
            if (after[i] - before[i] != (i == n)) {
                fail(name, "doorbell %d raised vector %d %u times", n, i,
                     after[i] - before[i]);
                goto out;
            }
        }
        memcpy(before, after, sizeof(before));
    }
    if (dma(0x20000, 0x30000, 4096, VFIO_SIM_DMA_SRC_LOCAL |
            VFIO_SIM_DMA_DST_LOCAL | VFIO_SIM_DMA_IRQ) != VFIO_SIM_DMA_DONE ||
        !wait_readable(fd, 3000) ||
        pread(fd, after, sizeof(after), 0) != sizeof(after) ||
        after[VFIO_SIM_DMA_VECTOR] - before[VFIO_SIM_DMA_VECTOR] != 1) {
        fail(name, "%s", "no interrupt at the end of a DMA");
        goto out;
    }
    ok(name, "vectors=%d slowest=%.1fms", VFIO_SIM_MSIX_VECTORS, worst * 1e3);
out:
    close(fd);
}

/* INTx, by a stock driver of the kernel's */
void check_intx(const char *name)
{
    char path[PATH_MAX];
    uint32_t count, command;
    DIR *dir;
    struct dirent *entry;
    char uio[64] = "";
    int fd, round;

    snprintf(path, sizeof(path), "%04x %04x", VFIO_SIM_VENDOR_ID,
             VFIO_SIM_DEVICE_ID);
    if (!write_text("/sys/bus/pci/drivers/uio_pci_generic/new_id", path)) {
        skip(name, "uio_pci_generic is not there: %s", strerror(errno));
        return;
    }
    dir = opendir(in_dir("uio"));
    while (dir && (entry = readdir(dir))) {
        if (!strncmp(entry->d_name, "uio", 3)) {
            snprintf(uio, sizeof(uio), "/dev/%.50s", entry->d_name);
        }
    }
    if (dir) {
        closedir(dir);
    }
    if (!uio[0]) {
        fail(name, "%s", "uio_pci_generic does not take the device");
        goto unbind;
    }
    fd = open(uio, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        fail(name, "%s: %s", uio, strerror(errno));
        goto unbind;
    }
    /* It raises one interrupt, is masked by the driver, and unmasked here */
    for (round = 0; round < 3; round++) {
        command = cfg_read(CFG_COMMAND, 2);
        cfg_write(CFG_COMMAND, (command & ~CFG_COMMAND_INTX_OFF) |
                  CFG_COMMAND_MEMORY | CFG_COMMAND_MASTER, 2);
        set32(dev.regs + VFIO_SIM_REG_DOORBELL, 0);
        if (!wait_readable(fd, 3000) || read(fd, &count, 4) != 4) {
#ifdef __x86_64__
            /* unmodified QEMU, any device: _PRT and pxb_map_irq_fn differ */
            if (round == 0) {
                skip(name, "%s", "q35 raises INTx below an expander bridge on "
                     "another line than its ACPI tables say");
                set32(dev.regs + VFIO_SIM_REG_INTR_STATUS, 1);
                goto close;
            }
#endif
            fail(name, "interrupt %d did not arrive, status 0x%x", round,
                 get32(dev.regs + VFIO_SIM_REG_INTR_STATUS));
            goto close;
        }
        if (!(get32(dev.regs + VFIO_SIM_REG_INTR_STATUS) & 1)) {
            fail(name, "%s", "interrupt without a cause");
            goto close;
        }
        set32(dev.regs + VFIO_SIM_REG_INTR_STATUS, 1);
    }
    ok(name, "interrupts=%d", round);
close:
    close(fd);
unbind:
    write_text("/sys/bus/pci/drivers/uio_pci_generic/unbind", dev.bdf);
    snprintf(path, sizeof(path), "%04x %04x", VFIO_SIM_VENDOR_ID,
             VFIO_SIM_DEVICE_ID);
    write_text("/sys/bus/pci/drivers/uio_pci_generic/remove_id", path);
    /* Unbinding disabled it */
    enable_device("enable-again");
}
