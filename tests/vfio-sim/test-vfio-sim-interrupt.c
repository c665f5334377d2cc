/*
 * Test of vfio-sim: interrupts
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test-vfio-sim.h"

static bool signalled(int fd)
{
    struct pollfd p = { fd, POLLIN, 0 };
    uint64_t n;

    return poll(&p, 1, 0) == 1 && read(fd, &n, 8) == 8;
}

static bool signalled_soon(int fd)
{
    struct pollfd p = { fd, POLLIN, 0 };

    return poll(&p, 1, 5000) == 1 && signalled(fd);
}

static int set_irqs(int fd, uint32_t index, uint32_t flags, uint32_t start,
                    uint32_t count, const int *fds)
{
    struct {
        struct vfio_irq_set s;
        int32_t fds[8];
    } r = {
        .s = {
            .argsz = sizeof(r.s) + (fds ? count * 4 : 0), .flags = flags,
            .index = index, .start = start, .count = count,
        },
    };

    /* The array begins in the structure's flexible member */
    if (fds) {
        memcpy(r.s.data, fds, count * sizeof(*fds));
    }
    return ioctl(fd, VFIO_DEVICE_SET_IRQS, &r);
}

#define FD_TRIGGER (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)
#define NO_TRIGGER (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER)
#define FD_UNMASK  (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK)
#define NO_UNMASK  (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK)

static void test_msix(void)
{
    int fds[4], one, minus = -1, null = open("/dev/null", O_RDWR);
    unsigned i;
    Dev d;

    open_dev(&d, g_str_equal(case_arg, "iommufd"));
    for (i = 0; i < 4; i++) {
        fds[i] = eventfd(0, EFD_NONBLOCK);
    }
    fails(set_irqs(d.fd, 2, FD_TRIGGER, 1, 4, fds), EINVAL);
    fails(set_irqs(d.fd, 2, FD_TRIGGER, 0, 1, &null), EINVAL);
    fails(set_irqs(d.fd, 5, FD_TRIGGER, 0, 1, fds), EINVAL);
    fails(set_irqs(d.fd, 1, FD_TRIGGER, 0, 1, fds), EINVAL);
    fails(set_irqs(d.fd, 2, NO_TRIGGER, 0, 1, NULL), EINVAL);
    ok(set_irqs(d.fd, 2, FD_TRIGGER, 0, 4, fds));
    fails(set_irqs(d.fd, 0, FD_TRIGGER, 0, 1, fds), EINVAL);
    reg_w(d.fd, VFIO_SIM_REG_DOORBELL, 0);
    g_assert_false(signalled(fds[0]));      /* no Bus Master */
    cfg_w(d.fd, PCI_COMMAND, 6, 2);
    for (i = 0; i < 4; i++) {
        reg_w(d.fd, VFIO_SIM_REG_DOORBELL, i);
        g_assert_true(signalled(fds[i]));
        g_assert_false(signalled(fds[(i + 1) % 4]));
    }
    g_assert_cmpuint(reg_r(d.fd, VFIO_SIM_REG_INTR_STATUS), ==, 0);
    g_assert_cmpuint(reg_r(d.fd, VFIO_SIM_REG_INTR_COUNT), ==, 5);

    /* One vector alone, taken away and given again */
    ok(set_irqs(d.fd, 2, FD_TRIGGER, 2, 1, &minus));
    reg_w(d.fd, VFIO_SIM_REG_DOORBELL, 2);
    g_assert_false(signalled(fds[2]));
    ok(set_irqs(d.fd, 2, FD_TRIGGER, 2, 1, &fds[2]));
    close(fds[2]);      /* the kernel holds it */
    reg_w(d.fd, VFIO_SIM_REG_DOORBELL, 2);
    ok(set_irqs(d.fd, 2, NO_TRIGGER, 1, 1, NULL));
    g_assert_true(signalled(fds[1]));

    /* Up to the one that fails they are taken away, the rest stays */
    fails(set_irqs(d.fd, 2, FD_TRIGGER, 0, 2, (int[]) { fds[0], null }),
          EINVAL);
    for (i = 0; i < 4; i++) {
        reg_w(d.fd, VFIO_SIM_REG_DOORBELL, i);
    }
    g_assert_false(signalled(fds[0]));
    g_assert_false(signalled(fds[1]));
    g_assert_true(signalled(fds[3]));
    ok(set_irqs(d.fd, 2, FD_TRIGGER, 0, 2, fds));

    dma(d.fd, 0, 0x100, 16, VFIO_SIM_DMA_SRC_LOCAL | VFIO_SIM_DMA_DST_LOCAL |
                            VFIO_SIM_DMA_IRQ);
    g_assert_true(signalled(fds[VFIO_SIM_DMA_VECTOR]));
    control_ok("irq " HOST0 " 3");
    g_assert_true(signalled(fds[3]));

    ok(set_irqs(d.fd, 2, NO_TRIGGER, 0, 0, NULL));
    reg_w(d.fd, VFIO_SIM_REG_DOORBELL, 3);
    g_assert_false(signalled(fds[3]));

    one = eventfd(0, EFD_NONBLOCK);
    ok(set_irqs(d.fd, 3, FD_TRIGGER, 0, 1, &one));
    control_ok("err " HOST0);
    g_assert_true(signalled(one));
    ok(set_irqs(d.fd, 4, FD_TRIGGER, 0, 1, &one));
    control_ok("req " HOST0);
    g_assert_true(signalled(one));
    ok(set_irqs(d.fd, 4, FD_TRIGGER, 0, 1, &minus));
    ok(set_irqs(d.fd, 3, NO_TRIGGER, 0, 0, NULL));
    fails(set_irqs(d.fd, 3, NO_TRIGGER, 0, 0, NULL), EINVAL);
    /* Vector tables are the driver's */
    g_assert_cmphex(rd(d.fd, 2, VFIO_SIM_MSIX_TABLE, 4), ==, 0xffffffff);
}

static void test_intx(void)
{
    int irq = eventfd(0, EFD_NONBLOCK), un = eventfd(0, EFD_NONBLOCK);
    uint64_t one = 1;
    Dev d;

    open_dev(&d, g_str_equal(case_arg, "iommufd"));
    fails(set_irqs(d.fd, 0, NO_UNMASK, 0, 1, NULL), EINVAL);
    ok(set_irqs(d.fd, 0, FD_TRIGGER, 0, 1, &irq));
    fails(set_irqs(d.fd, 2, FD_TRIGGER, 0, 1, &irq), EINVAL);
    reg_w(d.fd, VFIO_SIM_REG_DOORBELL, 1);
    g_assert_true(signalled(irq));
    g_assert_cmphex(reg_r(d.fd, VFIO_SIM_REG_INTR_STATUS), ==, 2);
    g_assert_true(cfg_r(d.fd, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);

    /* Masked by itself, and a level: unmasking raises it again */
    reg_w(d.fd, VFIO_SIM_REG_DOORBELL, 2);
    g_assert_false(signalled(irq));
    ok(set_irqs(d.fd, 0, NO_UNMASK, 0, 1, NULL));
    g_assert_true(signalled(irq));
    reg_w(d.fd, VFIO_SIM_REG_INTR_STATUS, 6);
    g_assert_false(cfg_r(d.fd, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
    ok(set_irqs(d.fd, 0, NO_UNMASK, 0, 1, NULL));
    g_assert_false(signalled(irq));

    /* By eventfd, as KVM does */
    ok(set_irqs(d.fd, 0, FD_UNMASK, 0, 1, &un));
    reg_w(d.fd, VFIO_SIM_REG_DOORBELL, 0);
    g_assert_true(signalled(irq));
    g_assert_cmpint(write(un, &one, 8), ==, 8);
    g_assert_true(signalled_soon(irq));

    /* Switched off in the command register */
    reg_w(d.fd, VFIO_SIM_REG_INTR_STATUS, 1);
    ok(set_irqs(d.fd, 0, NO_UNMASK, 0, 1, NULL));
    cfg_w(d.fd, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE, 2);
    reg_w(d.fd, VFIO_SIM_REG_DOORBELL, 0);
    g_assert_false(signalled(irq));
    cfg_w(d.fd, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
    g_assert_true(signalled(irq));

    /* A reset takes the level away */
    ok(ioctl(d.fd, VFIO_DEVICE_RESET));
    ok(set_irqs(d.fd, 0, NO_UNMASK, 0, 1, NULL));
    g_assert_false(signalled(irq));
    ok(set_irqs(d.fd, 0, NO_TRIGGER, 0, 0, NULL));
}

/* A program that has confined itself, as QEMU with -run-with chroot= */
static void test_chroot(void)
{
    int irq = eventfd(0, EFD_NONBLOCK);
    uint32_t *memory;
    Dev d, again;

    open_dev(&d, g_str_equal(case_arg, "iommufd"));
    if (geteuid() != 0) {
        ok(unshare(CLONE_NEWUSER));
    }
    ok(chroot(g_getenv("VFIO_SIM_DIR")));
    ok(chdir("/"));
    ok(set_irqs(d.fd, 0, FD_TRIGGER, 0, 1, &irq));
    reg_w(d.fd, VFIO_SIM_REG_DOORBELL, 0);
    g_assert_true(signalled(irq));
    ok(ioctl(d.fd, VFIO_DEVICE_RESET));
    cfg_w(d.fd, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
    memory = map_region(d.fd, MEM_REGION, 0, PAGE);
    ok(dma_map(&d, 0, anon(PAGE), PAGE, true, true));
    memory[0] = 1;
    ok(munmap(memory, PAGE));
    close_dev(&d);
    open_dev(&again, g_str_equal(case_arg, "iommufd"));
    close_dev(&again);
}

const Case interrupt_cases[] = {
    { .path = "chroot/legacy", .fn = test_chroot, .arg = "legacy" },
    { .path = "chroot/iommufd", .fn = test_chroot, .arg = "iommufd" },
    { .path = "msix/legacy", .fn = test_msix, .arg = "legacy" },
    { .path = "msix/iommufd", .fn = test_msix, .arg = "iommufd" },
    { .path = "intx/legacy", .fn = test_intx, .arg = "legacy" },
    { .path = "intx/iommufd", .fn = test_intx, .arg = "iommufd" },
    { }
};
