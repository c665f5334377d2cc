/*
 * vfio-sim: interrupts
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sim.h"

void sim_irq_init(SimDevice *dev)
{
    SimIrq *irq = &dev->irq;
    unsigned i;

    irq->type = -1;
    irq->intx_fd = irq->unmask_fd = irq->err_fd = irq->req_fd = -1;
    for (i = 0; i < VFIO_SIM_MSIX_VECTORS; i++) {
        irq->msix_fd[i] = -1;
    }
}

static void drop(int *fd)
{
    if (*fd >= 0) {
        sys_close(*fd);
        *fd = -1;
    }
}

static void disable(SimDevice *dev)
{
    SimIrq *irq = &dev->irq;
    unsigned i;

    drop(&irq->intx_fd);
    drop(&irq->unmask_fd);
    for (i = 0; i < VFIO_SIM_MSIX_VECTORS; i++) {
        drop(&irq->msix_fd[i]);
    }
    irq->type = -1;
    irq->intx_masked = false;
    sim_service_wake();
}

void sim_irq_release(SimDevice *dev)
{
    disable(dev);
    drop(&dev->irq.err_fd);
    drop(&dev->irq.req_fd);
}

static unsigned irq_count(unsigned index)
{
    switch (index) {
    case VFIO_PCI_MSIX_IRQ_INDEX:
        return VFIO_SIM_MSIX_VECTORS;
    case VFIO_PCI_MSI_IRQ_INDEX:
        return 0;
    default:
        return 1;
    }
}

int sim_get_irq_info(SimDevice *dev, struct vfio_irq_info *arg)
{
    (void)dev;
    if (arg->argsz < sizeof(*arg) || arg->index >= VFIO_PCI_NUM_IRQS) {
        return -EINVAL;
    }
    arg->flags = VFIO_IRQ_INFO_EVENTFD;
    arg->count = irq_count(arg->index);
    if (arg->index == VFIO_PCI_INTX_IRQ_INDEX) {
        arg->flags |= VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
    } else if (arg->index != VFIO_PCI_MSIX_IRQ_INDEX) {
        /* MSI-X vectors can be added while it is enabled */
        arg->flags |= VFIO_IRQ_INFO_NORESIZE;
    }
    return 0;
}

bool sim_irq_fire(int fd)
{
    uint64_t one = 1;

    return fd >= 0 && syscall(SYS_write, fd, &one, sizeof(one)) == sizeof(one);
}

/* A level: signalled once, then masked until the program unmasks it */
void sim_irq_intx_update(SimDevice *dev)
{
    SimIrq *irq = &dev->irq;

    if (irq->type == VFIO_PCI_INTX_IRQ_INDEX && !irq->intx_masked &&
        !sim_config_intx_off(dev) && dev->st->accel.intr_status) {
        irq->intx_masked = true;
        sim_count(dev, sim_irq_fire(irq->intx_fd) ? SIM_STAT_IRQS :
                                                    SIM_STAT_IRQS_LOST);
    }
}

void sim_irq_intx_unmask(SimDevice *dev)
{
    sim_count(dev, SIM_STAT_UNMASKS);
    dev->irq.intx_masked = false;
    sim_irq_intx_update(dev);
}

bool sim_irq_raise(SimDevice *dev, unsigned vector)
{
    SimIrq *irq = &dev->irq;
    bool ok = false;

    if (irq->type == VFIO_PCI_MSIX_IRQ_INDEX) {
        /* It is a write to memory, so not without Bus Master */
        ok = vector < VFIO_SIM_MSIX_VECTORS && sim_config_master_on(dev) &&
             sim_irq_fire(irq->msix_fd[vector]);
        sim_count(dev, ok ? SIM_STAT_IRQS : SIM_STAT_IRQS_LOST);
    } else {
        sim_irq_intx_update(dev);
        ok = irq->type == VFIO_PCI_INTX_IRQ_INDEX;
    }
    return ok;
}

/* Takes a reference to the eventfd, as the kernel does */
static int set_fd(int *slot, int fd)
{
    int copy = -1;

    if (fd < -1) {
        return -EINVAL;
    }
    if (fd >= 0) {
        if (sys_fcntl(fd, F_GETFD, NULL) < 0) {
            return -EBADF;
        }
        if (!sim_fd_is(fd, "anon_inode:[eventfd]")) {
            return -EINVAL;
        }
        copy = sys_dup(fd);
        if (copy < 0) {
            return copy;
        }
    }
    drop(slot);
    *slot = copy;
    return 0;
}

static int set_intx(SimDevice *dev, uint32_t flags,
                    const struct vfio_irq_set *s)
{
    SimIrq *irq = &dev->irq;
    uint32_t data = flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
    uint32_t action = flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
    bool enabled = irq->type == VFIO_PCI_INTX_IRQ_INDEX;
    bool yes = data == VFIO_IRQ_SET_DATA_NONE ||
               (data == VFIO_IRQ_SET_DATA_BOOL && s->data[0]);
    int32_t fd = -1;
    int ret;

    if (data == VFIO_IRQ_SET_DATA_EVENTFD) {
        memcpy(&fd, s->data, 4);
    }
    if (action == VFIO_IRQ_SET_ACTION_TRIGGER) {
        if (enabled && !s->count && data == VFIO_IRQ_SET_DATA_NONE) {
            disable(dev);
            return 0;
        }
        if ((!enabled && irq->type >= 0) || s->start != 0 || s->count != 1) {
            return -EINVAL;
        }
        if (data == VFIO_IRQ_SET_DATA_EVENTFD) {
            ret = set_fd(&irq->intx_fd, fd);
            if (ret == 0) {
                irq->type = VFIO_PCI_INTX_IRQ_INDEX;
                if (!enabled) {
                    irq->intx_masked = false;
                }
                sim_irq_intx_update(dev);
            }
            return ret;
        }
        if (!enabled) {
            return -EINVAL;
        }
        if (yes) {
            sim_irq_fire(irq->intx_fd);
        }
        return 0;
    }
    if (!enabled || s->start != 0 || s->count != 1) {
        return -EINVAL;
    }
    if (action == VFIO_IRQ_SET_ACTION_MASK) {
        if (data == VFIO_IRQ_SET_DATA_EVENTFD) {
            return -ENOTTY;
        }
        irq->intx_masked |= yes;
        return 0;
    }
    if (data == VFIO_IRQ_SET_DATA_EVENTFD) {
        ret = set_fd(&irq->unmask_fd, fd);
        sim_service_wake();
        return ret;
    }
    if (yes) {
        sim_irq_intx_unmask(dev);
    }
    return 0;
}

static int set_msix(SimDevice *dev, uint32_t flags,
                    const struct vfio_irq_set *s)
{
    SimIrq *irq = &dev->irq;
    uint32_t data = flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
    bool enabled = irq->type == VFIO_PCI_MSIX_IRQ_INDEX;
    uint32_t i;

    if ((flags & VFIO_IRQ_SET_ACTION_TYPE_MASK) !=
        VFIO_IRQ_SET_ACTION_TRIGGER) {
        return -ENOTTY;
    }
    if (enabled && !s->count && data == VFIO_IRQ_SET_DATA_NONE) {
        disable(dev);
        return 0;
    }
    if (!enabled && irq->type >= 0) {
        return -EINVAL;
    }
    if (data != VFIO_IRQ_SET_DATA_EVENTFD && !enabled) {
        return -EINVAL;
    }
    if (!enabled) {
        irq->type = VFIO_PCI_MSIX_IRQ_INDEX;
    }
    for (i = 0; i < s->count; i++) {
        int *slot = &irq->msix_fd[s->start + i];

        if (data == VFIO_IRQ_SET_DATA_EVENTFD) {
            int32_t fd;
            int ret;

            memcpy(&fd, s->data + i * 4, 4);
            ret = set_fd(slot, fd);
            if (ret < 0) {
                if (!enabled) {
                    disable(dev);
                }
                /* The kernel takes back those of the same call, this one too */
                for (unsigned j = 0; enabled && j <= i; j++) {
                    set_fd(&irq->msix_fd[s->start + j], -1);
                }
                return ret;
            }
        } else if (data == VFIO_IRQ_SET_DATA_NONE || s->data[i]) {
            sim_irq_fire(*slot);
        }
    }
    return 0;
}

static int set_single(int *slot, uint32_t flags, const struct vfio_irq_set *s)
{
    uint32_t data = flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
    int32_t fd;

    if ((flags & VFIO_IRQ_SET_ACTION_TYPE_MASK) !=
        VFIO_IRQ_SET_ACTION_TRIGGER) {
        return -ENOTTY;
    }
    if (data == VFIO_IRQ_SET_DATA_EVENTFD && s->count == 1) {
        memcpy(&fd, s->data, 4);
        return set_fd(slot, fd);
    }
    if (data == VFIO_IRQ_SET_DATA_NONE && !s->count) {
        if (*slot < 0) {
            return -EINVAL;
        }
        drop(slot);
        return 0;
    }
    if (data == VFIO_IRQ_SET_DATA_NONE || s->data[0]) {
        sim_irq_fire(*slot);
    }
    return 0;
}

int sim_set_irqs(SimDevice *dev, struct vfio_irq_set *s)
{
    size_t minsz = offsetof(struct vfio_irq_set, data);
    uint32_t action = s->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
    uint32_t data = s->flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
    unsigned max;
    size_t each;

    if (s->argsz < minsz || s->index >= VFIO_PCI_NUM_IRQS ||
        s->count >= UINT32_MAX - s->start ||
        (s->flags & ~(VFIO_IRQ_SET_ACTION_TYPE_MASK |
                      VFIO_IRQ_SET_DATA_TYPE_MASK))) {
        return -EINVAL;
    }
    max = irq_count(s->index);
    if (s->start >= max || s->start + s->count > max) {
        return -EINVAL;
    }
    switch (data) {
    case VFIO_IRQ_SET_DATA_NONE:
        each = 0;
        break;
    case VFIO_IRQ_SET_DATA_BOOL:
        each = 1;
        break;
    case VFIO_IRQ_SET_DATA_EVENTFD:
        each = 4;
        break;
    default:
        return -EINVAL;
    }
    if (each && (s->argsz - minsz < s->count * each || !s->count)) {
        return -EINVAL;
    }
    if (action != VFIO_IRQ_SET_ACTION_MASK &&
        action != VFIO_IRQ_SET_ACTION_UNMASK &&
        action != VFIO_IRQ_SET_ACTION_TRIGGER) {
        return -ENOTTY;
    }
    switch (s->index) {
    case VFIO_PCI_INTX_IRQ_INDEX:
        return set_intx(dev, s->flags, s);
    case VFIO_PCI_MSIX_IRQ_INDEX:
        return set_msix(dev, s->flags, s);
    case VFIO_PCI_ERR_IRQ_INDEX:
        return set_single(&dev->irq.err_fd, s->flags, s);
    case VFIO_PCI_REQ_IRQ_INDEX:
        return set_single(&dev->irq.req_fd, s->flags, s);
    default:
        return -ENOTTY;
    }
}
