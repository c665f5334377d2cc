/*
 * vfio-sim: KVM's VFIO device, which KVM cannot create for files of ours
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static void find_kvm(SimFile *file, void *opaque)
{
    if (file->kind == SIM_FD_KVM) {
        *(bool *)opaque = true;
    }
}

/* True: the request was for us, the answer is in @ret */
bool sim_kvm_create(int fd, struct kvm_create_device *arg, int *ret)
{
    bool exists = false;
    SimFile *file;

    if (arg->type != KVM_DEV_TYPE_VFIO || !sim_fd_is(fd, "anon_inode:kvm-vm") ||
        !sim_ready()) {
        return false;
    }
    if (arg->flags & KVM_CREATE_DEVICE_TEST) {
        *ret = 0;
        return true;
    }
    sim_file_foreach(find_kvm, &exists);
    if (exists) {
        *ret = -EBUSY;
        return true;
    }
    *ret = sim_file_anon(SIM_FD_KVM, O_CLOEXEC, &file);
    if (*ret >= 0) {
        arg->fd = *ret;
        *ret = 0;
    }
    return true;
}

static int add_file(SimFile *file, const SimFile *vfio)
{
    unsigned i;

    for (i = 0; i < file->kvm_files; i++) {
        if (file->kvm_file[i].st_ino == vfio->st_ino &&
            file->kvm_file[i].st_dev == vfio->st_dev) {
            return -EEXIST;
        }
    }
    if (i == sizeof(file->kvm_file) / sizeof(file->kvm_file[0])) {
        return -ENOMEM;
    }
    file->kvm_file[i].st_ino = vfio->st_ino;
    file->kvm_file[i].st_dev = vfio->st_dev;
    file->kvm_files++;
    return 0;
}

static int del_file(SimFile *file, const SimFile *vfio)
{
    unsigned i;

    for (i = 0; i < file->kvm_files; i++) {
        if (file->kvm_file[i].st_ino == vfio->st_ino &&
            file->kvm_file[i].st_dev == vfio->st_dev) {
            file->kvm_file[i] = file->kvm_file[--file->kvm_files];
            return 0;
        }
    }
    return -ENOENT;
}

int sim_kvm_ioctl(SimFile *file, unsigned cmd, struct kvm_device_attr *arg)
{
    SimFile *vfio;
    int32_t fd;

    if (cmd != KVM_SET_DEVICE_ATTR && cmd != KVM_HAS_DEVICE_ATTR) {
        return -ENOTTY;
    }
    if (!arg) {
        return -EFAULT;
    }
    if (arg->group != KVM_DEV_VFIO_GROUP ||
        (arg->attr != KVM_DEV_VFIO_GROUP_ADD &&
         arg->attr != KVM_DEV_VFIO_GROUP_DEL)) {
        return -ENXIO;
    }
    if (cmd == KVM_HAS_DEVICE_ATTR) {
        return 0;
    }
    if (!arg->addr) {
        return -EFAULT;
    }
    memcpy(&fd, (void *)(uintptr_t)arg->addr, sizeof(fd));
    vfio = sim_file_get(fd);
    if (!vfio) {
        return sys_fcntl(fd, F_GETFD, NULL) < 0 ? -EBADF : -EINVAL;
    }
    if (vfio->kind != SIM_FD_GROUP && vfio->kind != SIM_FD_CDEV) {
        return -EINVAL;
    }
    return arg->attr == KVM_DEV_VFIO_GROUP_ADD ? add_file(file, vfio) :
                                                 del_file(file, vfio);
}
