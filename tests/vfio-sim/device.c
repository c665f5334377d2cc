/*
 * vfio-sim: the VFIO device, as the kernel's core and vfio-pci implement it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"

static int open_file(SimDevice *dev, const char *name, SimKind kind, int flags)
{
    SimFdHeader h = { .magic = "VFIOSIM", .kind = kind, .index = dev->index };
    char path[SIM_PATH_MAX + 16];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", dev->dir, name);
    fd = sys_open(path, O_RDWR | O_CREAT | (flags & O_CLOEXEC), 0600);
    if (fd < 0) {
        return fd;
    }
    memcpy(h.id, sim_config()->id, sizeof(h.id));
    if (sys_pwrite(fd, &h, sizeof(h), 0) != sizeof(h)) {
        sys_close(fd);
        return -ENOSPC;
    }
    return fd;
}

int sim_cdev_open(unsigned index, int flags)
{
    SimDevice *dev = sim_device(index);
    int ret = sim_state_attach(dev);
    int fd;

    if (ret == 0) {
        ret = sim_fault(dev, "open");
    }
    if (ret < 0) {
        return ret;
    }
    fd = open_file(dev, "cdev", SIM_FD_CDEV, flags);
    if (fd >= 0 && !sim_file_new(fd, SIM_FD_CDEV, dev)) {
        sys_close(fd);
        return -ENOMEM;
    }
    return fd;
}

int sim_device_from_group(SimFile *group, const char *name)
{
    SimDevice *dev = group->dev;
    SimFile *file;
    int fd, ret;

    if (strcmp(name, dev->host)) {
        return -ENODEV;
    }
    ret = sim_fault(dev, "open");
    if (ret < 0) {
        return ret;
    }
    if (!group->container || !group->container->iommu_set) {
        return -EINVAL;
    }
    fd = open_file(dev, "device", SIM_FD_DEVICE, O_CLOEXEC);
    if (fd < 0) {
        return fd;
    }
    file = sim_file_new(fd, SIM_FD_DEVICE, dev);
    if (!file) {
        sys_close(fd);
        return -ENOMEM;
    }
    file->group = group;
    file->group_fd = sys_dup(group->first_fd);
    sim_file_use(group);
    if (dev->opens++ == 0) {
        sim_device_first_open(dev);
    }
    file->opened = true;
    dev->space = group->container;
    return fd;
}

void sim_device_first_open(SimDevice *dev)
{
    sim_device_lock(dev);
    sim_count(dev, SIM_STAT_OPENS);
    sim_config_open(dev);
    sim_accel_reset(dev);
    sim_accel_fill_bar0(dev);
    sim_component_reset(dev);
    dev->kernel->open(dev);
    memcpy(dev->st->saved, dev->st->hw, SIM_CONFIG_SIZE);
    sim_device_unlock(dev);
}

void sim_device_last_close(SimDevice *dev)
{
    sim_irq_release(dev);
    sim_dmabuf_close(dev);
    if (dev->kernel->restores_config) {
        sim_device_lock(dev);
        memcpy(dev->st->hw, dev->st->saved, SIM_CONFIG_SIZE);
        sim_device_unlock(dev);
    }
    dev->space = NULL;
}

void sim_device_reset_hw(SimDevice *dev)
{
    sim_dma_reset(dev);
    sim_accel_reset(dev);
    sim_accel_fill_bar0(dev);
    sim_component_reset(dev);
    sim_config_reset(dev);
}

/* Where the kernel answers with an error, or with nothing at all */
static int reset_fault(SimDevice *dev, SimStat why)
{
    switch (why) {
    case SIM_STAT_RESETS:
        return sim_fault_locked(dev, "device_reset");
    case SIM_STAT_FLR:
        return sim_fault_locked(dev, "flr");
    default:
        return 0;       /* at the ioctl, or in the kernel's own part */
    }
}

int sim_device_reset(SimDevice *dev, SimStat why)
{
    SimState *st = dev->st;
    uint32_t ms = st->knobs[SIM_KNOB_RESET_DELAY];
    struct timespec delay = { ms / 1000, ms % 1000 * 1000000 };
    int ret;

    if (dev->kernel->zap_on_reset) {
        st->mem_active = 0;
    }
    /* It must not be accessed, whether or not the kernel enforces that */
    st->in_reset = 1;
    sim_mmap_update(dev);
    sim_dmabuf_revoke(dev);
    nanosleep(&delay, NULL);
    ret = reset_fault(dev, why);
    if (ret < 0) {
        /* Memory is available again after a successful reset */
        st->mem_active = 0;
        st->reset_failed = 1;
    } else {
        sim_count(dev, why);
        ret = dev->kernel->reset(dev, why);
    }
    st->in_reset = 0;
    sim_mmap_update(dev);
    sim_irq_intx_update(dev);
    return ret;
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

void sim_device_memory_away(SimDevice *dev)
{
    uint64_t ms = dev->st->knobs[SIM_KNOB_ACTIVE_DELAY];

    dev->st->active_at = ms ? now_ns() + ms * 1000000 : 0;
    sim_config_memory_active(dev, !ms);
}

/* Noticed at the next request of the program to the kernel */
static void memory_back(SimDevice *dev)
{
    if (dev->st->active_at && now_ns() >= dev->st->active_at) {
        dev->st->active_at = 0;
        sim_config_memory_active(dev, true);
        sim_mmap_update(dev);
    }
}

bool sim_region_accessible(SimDevice *dev, unsigned region)
{
    if (region == dev->kernel->mem_region) {
        return dev->st->mem_active && !dev->st->in_reset &&
               !dev->st->active_at &&
               (!dev->kernel->memory_space_gate || sim_config_memory_on(dev));
    }
    return sim_config_memory_on(dev);
}

/*
 * Without a committed decoder, accesses that the kernel lets through get no
 * response: a host raises SIGBUS, or worse.
 */
bool sim_region_answers(SimDevice *dev, unsigned region)
{
    return sim_region_accessible(dev, region) &&
           (region != dev->kernel->mem_region ||
            !dev->kernel->memory_space_gate || sim_component_committed(dev));
}

static int get_info(SimDevice *dev, SimDeviceInfo *arg)
{
    SimDeviceInfo info = { 0 };
    static SimReply reply;      /* under sim_lock() */
    uint8_t cap[64] __attribute__((aligned(8)));
    int ret = sim_mangle_error(dev->st->knobs[SIM_KNOB_MANGLE], SIM_AT_DEVICE);

    if (arg->argsz < offsetof(SimDeviceInfo, cap_offset)) {
        return -EINVAL;
    }
    info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
    info.num_regions = dev->kernel->cxl ? SIM_NUM_REGIONS :
                                          VFIO_PCI_NUM_REGIONS;
    info.num_irqs = VFIO_PCI_NUM_IRQS;
    if (dev->kernel->cxl) {
        info.flags |= VFIO_DEVICE_FLAGS_CXL;
    }
    if (dev->kernel->device_cap) {
        info.flags |= VFIO_DEVICE_FLAGS_CAPS;
    }
    reply.size = reply.head = sizeof(info);
    reply.cap_field = offsetof(SimDeviceInfo, cap_offset);
    memcpy(reply.buf, &info, sizeof(info));
    if (dev->kernel->device_cap) {
        sim_reply_cap(&reply, cap, dev->kernel->device_cap(dev, cap));
    }
    if (ret == 0) {
        sim_reply_send(&reply, dev, SIM_AT_DEVICE, arg);
    }
    return ret;
}

static int hot_reset_info(SimFile *file, struct vfio_pci_hot_reset_info *arg)
{
    SimDevice *dev = file->dev;
    struct vfio_pci_dependent_device *d = arg->devices;
    bool cdev = file->kind == SIM_FD_CDEV;

    if (arg->argsz < sizeof(*arg)) {
        return -EINVAL;
    }
    arg->flags = !cdev ? 0 : VFIO_PCI_HOT_RESET_FLAG_DEV_ID |
                             VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;
    arg->count = 1;
    if (arg->argsz < sizeof(*arg) + sizeof(*d)) {
        return -ENOSPC;
    }
    /* Newer headers call it devid, in a union, when a cdev asks */
    d->group_id = cdev ? file->devid : dev->index + SIM_FIRST_GROUP;
    d->segment = 0;
    d->bus = SIM_FIRST_BUS + dev->index;
    d->devfn = 0;
    return 0;
}

static int hot_reset(SimFile *file, struct vfio_pci_hot_reset *arg)
{
    bool cdev = file->kind == SIM_FD_CDEV;

    if (arg->argsz < sizeof(*arg) || arg->flags) {
        return -EINVAL;
    }
    if (cdev ? arg->count != 0 : arg->count != 1) {
        return -EINVAL;
    }
    if (!cdev) {
        SimFile *group = sim_file_get(arg->group_fds[0]);

        if (!group || group->kind != SIM_FD_GROUP || group != file->group) {
            return -EINVAL;
        }
    }
    return sim_device_reset(file->dev, SIM_STAT_HOT_RESETS);
}

static int bind(SimFile *file, SimBindIommufd *arg)
{
    SimFile *iommufd;
    char path[SIM_PATH_MAX + 16];
    int ret;

    if (file->kind != SIM_FD_CDEV) {
        return -EINVAL;
    }
    if (arg->argsz < offsetof(SimBindIommufd,
                              token_uuid_ptr) ||
        (arg->flags & ~VFIO_DEVICE_BIND_FLAG_TOKEN) || arg->iommufd < 0) {
        return -EINVAL;
    }
    /* The group and the character device exclude each other */
    snprintf(path, sizeof(path), "%s/group", file->dev->dir);
    if (sim_ofd_locked(path)) {
        return -EBUSY;
    }
    if (file->opened) {
        return -EINVAL;
    }
    iommufd = sim_file_get(arg->iommufd);
    if (!iommufd || iommufd->kind != SIM_FD_IOMMUFD) {
        return sys_fcntl(arg->iommufd, F_GETFD, NULL) < 0 ? -EBADF : -EBADFD;
    }
    if (!file->dev->st->knobs[SIM_KNOB_VIABLE]) {
        return -EPERM;
    }
    /* One open file at a time, here or in another process */
    if (sim_ofd_lock(file->first_fd, F_WRLCK) < 0) {
        return -EINVAL;
    }
    ret = sim_iommufd_bind(file, iommufd);
    if (ret < 0) {
        sim_ofd_lock(file->first_fd, F_UNLCK);
        return ret;
    }
    arg->out_devid = file->devid;
    file->dev->opens++;
    sim_device_first_open(file->dev);
    file->opened = true;
    return 0;
}

static int feature(SimDevice *dev, struct vfio_device_feature *arg)
{
    uint32_t known = VFIO_DEVICE_FEATURE_MASK | VFIO_DEVICE_FEATURE_SET |
                     VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_PROBE;

    if (arg->argsz < sizeof(*arg) || (arg->flags & ~known)) {
        return -EINVAL;
    }
    if ((arg->flags & VFIO_DEVICE_FEATURE_MASK) ==
        VFIO_DEVICE_FEATURE_DMA_BUF) {
        return sim_dmabuf_feature(dev, arg);
    }
    return -ENOTTY;
}

static int attach(SimFile *file, SimAttach *arg)
{
    if (file->kind != SIM_FD_CDEV) {
        return -ENOTTY;
    }
    if (arg->argsz < offsetof(SimAttach, pasid) ||
        (arg->flags & ~VFIO_DEVICE_ATTACH_PASID)) {
        return -EINVAL;
    }
    if (arg->flags) {
        return file->dev->stream && arg->argsz < sizeof(*arg) ? -EINVAL :
               sim_iommufd_attach_pasid(file, arg->pasid, &arg->pt_id);
    }
    return sim_iommufd_attach(file, &arg->pt_id);
}

static int detach(SimFile *file, SimDetach *arg)
{
    if (file->kind != SIM_FD_CDEV) {
        return -ENOTTY;
    }
    if (arg->argsz < offsetof(SimDetach, pasid) ||
        (arg->flags & ~VFIO_DEVICE_DETACH_PASID)) {
        return -EINVAL;
    }
    if (arg->flags) {
        return file->dev->stream && arg->argsz < sizeof(*arg) ? -EINVAL :
               sim_iommufd_detach_pasid(file, arg->pasid);
    }
    sim_iommufd_detach(file);
    return 0;
}

static const char *op_name(unsigned cmd)
{
    static const struct {
        unsigned cmd;
        const char *name;
    } ops[] = {
        { VFIO_DEVICE_GET_INFO, "device_get_info" },
        { VFIO_DEVICE_GET_REGION_INFO, "device_get_region_info" },
        { VFIO_DEVICE_GET_IRQ_INFO, "device_get_irq_info" },
        { VFIO_DEVICE_SET_IRQS, "device_set_irqs" },
        { VFIO_DEVICE_RESET, "device_reset" },
        { VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
          "device_get_pci_hot_reset_info" },
        { VFIO_DEVICE_PCI_HOT_RESET, "device_pci_hot_reset" },
        { VFIO_DEVICE_FEATURE, "device_feature" },
        { VFIO_DEVICE_BIND_IOMMUFD, "device_bind_iommufd" },
        { VFIO_DEVICE_ATTACH_IOMMUFD_PT, "device_attach_iommufd_pt" },
        { VFIO_DEVICE_DETACH_IOMMUFD_PT, "device_detach_iommufd_pt" },
    };
    unsigned i;

    for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        if (ops[i].cmd == cmd) {
            return ops[i].name;
        }
    }
    return NULL;
}

static int opened_ioctl(SimFile *file, unsigned cmd, void *arg)
{
    SimDevice *dev = file->dev;

    switch (cmd) {
    case VFIO_DEVICE_GET_INFO:
        return get_info(dev, arg);
    case VFIO_DEVICE_GET_REGION_INFO:
        return sim_get_region_info(dev, arg);
    case VFIO_DEVICE_GET_IRQ_INFO:
        return sim_get_irq_info(dev, arg);
    case VFIO_DEVICE_SET_IRQS:
        return sim_set_irqs(dev, arg);
    case VFIO_DEVICE_RESET:
        return sim_device_reset(dev, SIM_STAT_RESETS);
    case VFIO_DEVICE_GET_PCI_HOT_RESET_INFO:
        return hot_reset_info(file, arg);
    case VFIO_DEVICE_PCI_HOT_RESET:
        return hot_reset(file, arg);
    default:
        return feature(dev, arg);
    }
}

int sim_device_ioctl(SimFile *file, unsigned cmd, void *arg)
{
    const char *op = op_name(cmd);
    SimDevice *dev = file->dev;
    int ret;

    if (cmd != VFIO_DEVICE_BIND_IOMMUFD && !file->opened) {
        return -EINVAL;
    }
    if (!op) {
        return -ENOTTY;
    }
    if (!arg && cmd != VFIO_DEVICE_RESET) {
        return -EFAULT;
    }
    /* A reset that fails has consequences */
    ret = cmd == VFIO_DEVICE_RESET ? 0 : sim_fault(dev, op);
    if (ret < 0) {
        return ret;
    }
    switch (cmd) {
    case VFIO_DEVICE_BIND_IOMMUFD:
        return bind(file, arg);
    case VFIO_DEVICE_ATTACH_IOMMUFD_PT:
        return attach(file, arg);
    case VFIO_DEVICE_DETACH_IOMMUFD_PT:
        return detach(file, arg);
    default:
        sim_device_lock(dev);
        memory_back(dev);
        ret = opened_ioctl(file, cmd, arg);
        sim_device_unlock(dev);
        return ret;
    }
}

ssize_t sim_device_rw(SimFile *file, void *buf, size_t count, uint64_t pos,
                      bool write)
{
    SimDevice *dev = file->dev;
    unsigned region = pos >> SIM_REGION_SHIFT;
    uint64_t off = pos & ((1ull << SIM_REGION_SHIFT) - 1);
    ssize_t ret;

    if (!file->opened) {
        return -EINVAL;
    }
    ret = sim_fault_region(dev, write ? "pwrite" : "pread", region);
    if (ret < 0) {
        return ret;
    }
    sim_device_lock(dev);
    memory_back(dev);
    ret = sim_region_rw(dev, region, buf, count, off, write);
    sim_device_unlock(dev);
    return ret;
}
