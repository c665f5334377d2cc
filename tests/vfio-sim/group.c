/*
 * vfio-sim: groups, /dev/vfio/N, each with one device
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sim.h"

int sim_group_open(unsigned index, int flags)
{
    SimDevice *dev = sim_device(index);
    SimFdHeader h = { .magic = "VFIOSIM", .kind = SIM_FD_GROUP,
                      .index = index };
    char path[SIM_PATH_MAX + 16], cdev[SIM_PATH_MAX + 16];
    int fd, ret;

    ret = sim_state_attach(dev);
    if (ret == 0) {
        ret = sim_fault(dev, "open");
    }
    if (ret < 0) {
        return ret;
    }
    snprintf(path, sizeof(path), "%s/group", dev->dir);
    snprintf(cdev, sizeof(cdev), "%s/cdev", dev->dir);
    fd = sys_open(path, O_RDWR | O_CREAT | (flags & O_CLOEXEC), 0600);
    if (fd < 0) {
        return fd;
    }
    memcpy(h.id, sim_config()->id, sizeof(h.id));
    if (sim_ofd_lock(fd, F_WRLCK) < 0 || sim_ofd_locked(cdev)) {
        sys_close(fd);
        return -EBUSY;
    }
    if (sys_pwrite(fd, &h, sizeof(h), 0) != sizeof(h) ||
        !sim_file_new(fd, SIM_FD_GROUP, dev)) {
        sys_close(fd);
        return -ENOMEM;
    }
    return fd;
}

static int get_status(SimFile *file, struct vfio_group_status *arg)
{
    if (arg->argsz < sizeof(*arg)) {
        return -EINVAL;
    }
    arg->flags = 0;
    if (file->container) {
        arg->flags = VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET;
    } else if (file->dev->st->knobs[SIM_KNOB_VIABLE]) {
        arg->flags = VFIO_GROUP_FLAGS_VIABLE;
    }
    return 0;
}

static int set_container(SimFile *file, const int *arg)
{
    SimFile *container = sim_file_get(*arg);

    if (sys_fcntl(*arg, F_GETFD, NULL) < 0) {
        return -EBADF;
    }
    if (file->container) {
        return -EINVAL;
    }
    if (!container || container->kind != SIM_FD_CONTAINER) {
        return -EBADFD;
    }
    if (!file->dev->st->knobs[SIM_KNOB_VIABLE]) {
        return -EPERM;
    }
    file->container = container->container;
    file->container->groups++;
    sim_space_ref(file->container);
    return 0;
}

void sim_group_detach(SimFile *file)
{
    SimSpace *space = file->container;

    if (space) {
        file->container = NULL;
        if (--space->groups == 0) {
            /* The IOMMU driver is released with the last group */
            sim_space_unmap(space, 0, UINT64_MAX);
            space->iommu_set = false;
        }
        sim_space_unref(space);
    }
}

static int unset_container(SimFile *file)
{
    if (!file->container) {
        return -EINVAL;
    }
    if (file->users) {
        return -EBUSY;
    }
    sim_group_detach(file);
    return 0;
}

int sim_group_ioctl(SimFile *file, unsigned cmd, void *arg)
{
    int ret;

    switch (cmd) {
    case VFIO_GROUP_GET_STATUS:
        ret = sim_fault(file->dev, "group_get_status");
        return ret < 0 ? ret : arg ? get_status(file, arg) : -EFAULT;
    case VFIO_GROUP_SET_CONTAINER:
        ret = sim_fault(file->dev, "group_set_container");
        return ret < 0 ? ret : arg ? set_container(file, arg) : -EFAULT;
    case VFIO_GROUP_UNSET_CONTAINER:
        ret = sim_fault(file->dev, "group_unset_container");
        return ret < 0 ? ret : unset_container(file);
    case VFIO_GROUP_GET_DEVICE_FD:
        ret = sim_fault(file->dev, "group_get_device_fd");
        return ret < 0 ? ret : arg ? sim_device_from_group(file, arg) :
                                     -EFAULT;
    default:
        return -ENOTTY;
    }
}
