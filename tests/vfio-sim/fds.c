/*
 * vfio-sim: the file descriptors that represent the kernel's
 *
 * Each is a real descriptor of a small regular file in the state directory,
 * so that close, poll, fork and SCM_RIGHTS just work. The file describes
 * itself, so that a program that inherits or receives it can recognise it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sim.h"

#define MAX_FD 65536
#define MAGIC "VFIOSIM"

static SimFile *table[MAX_FD];

static bool fd_stat(int fd, struct stat *st)
{
#ifdef SYS_newfstatat
    return syscall(SYS_newfstatat, fd, "", st, AT_EMPTY_PATH) == 0;
#else
    return syscall(SYS_fstat, fd, st) == 0;
#endif
}

bool sim_fd_known(int fd)
{
    return fd >= 0 && fd < MAX_FD &&
           __atomic_load_n(&table[fd], __ATOMIC_ACQUIRE);
}

/* Called with sim_lock() */
SimFile *sim_file_get(int fd)
{
    SimFile *file = sim_fd_known(fd) ? table[fd] : NULL;
    struct stat st;

    /* It may have been closed in a way that we did not notice */
    if (file && (!fd_stat(fd, &st) || st.st_ino != file->st_ino ||
                 st.st_dev != file->st_dev)) {
        sim_fd_forget(fd);
        file = NULL;
    }
    return file;
}

static void file_free(SimFile *file)
{
    SimDevice *dev = file->dev;

    switch (file->kind) {
    case SIM_FD_CDEV:
        sim_iommufd_unbind(file);
        break;
    case SIM_FD_DEVICE:
        if (file->opened && --dev->opens == 0) {
            sim_device_last_close(dev);
        }
        if (file->group) {
            sim_file_put(file->group);
            sys_close(file->group_fd);
        }
        break;
    case SIM_FD_GROUP:
        sim_group_detach(file);
        break;
    case SIM_FD_CONTAINER:
        sim_space_unref(file->container);
        break;
    case SIM_FD_IOMMUFD:
        sim_iommufd_unref(file->ictx);
        break;
    case SIM_FD_VEVENTQ:
        sim_veventq_close(file);
        break;
    default:
        break;
    }
    if (file->mmap_fd >= 0) {
        sys_close(file->mmap_fd);
    }
    free(file);
}

void sim_file_use(SimFile *file)
{
    file->users++;
}

void sim_file_put(SimFile *file)
{
    if (--file->users == 0 && file->refs == 0) {
        file_free(file);
    }
}

static void fd_set_file(int fd, SimFile *file)
{
    file->refs++;
    __atomic_store_n(&table[fd], file, __ATOMIC_RELEASE);
}

SimFile *sim_file_new(int fd, SimKind kind, SimDevice *dev)
{
    SimFile *file;
    struct stat st;

    if (fd < 0 || fd >= MAX_FD || !fd_stat(fd, &st)) {
        return NULL;
    }
    sim_fd_forget(fd);
    file = calloc(1, sizeof(*file));
    if (!file) {
        return NULL;
    }
    file->kind = kind;
    file->dev = dev;
    file->st_dev = st.st_dev;
    file->st_ino = st.st_ino;
    file->first_fd = fd;
    file->group_fd = file->mmap_fd = -1;
    fd_set_file(fd, file);
    return file;
}

int sim_file_anon(SimKind kind, int flags, SimFile **file)
{
    SimFdHeader h = { .magic = MAGIC, .kind = kind };
    char path[SIM_PATH_MAX + 32];
    static unsigned serial;
    int fd;

    snprintf(path, sizeof(path), "%s/fd.%d.%u", sim_config()->dir,
             (int)getpid(), serial++);
    fd = sys_open(path, O_RDWR | O_CREAT | O_EXCL | (flags & O_CLOEXEC), 0600);
    if (fd < 0) {
        return fd;
    }
    syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    memcpy(h.id, sim_config()->id, sizeof(h.id));
    if (sys_pwrite(fd, &h, sizeof(h), 0) != sizeof(h)) {
        sys_close(fd);
        return -ENOSPC;
    }
    *file = sim_file_new(fd, kind, NULL);
    if (!*file) {
        sys_close(fd);
        return -ENOMEM;
    }
    return fd;
}

void sim_fd_dup(int from, int to)
{
    SimFile *file = sim_file_get(from);

    if (from != to) {
        sim_fd_forget(to);
        if (file && to >= 0 && to < MAX_FD) {
            fd_set_file(to, file);
        }
    }
}

void sim_fd_forget(int fd)
{
    SimFile *file;

    if (!sim_fd_known(fd)) {
        return;
    }
    file = table[fd];
    __atomic_store_n(&table[fd], NULL, __ATOMIC_RELEASE);
    if (--file->refs == 0 && file->users == 0) {
        file_free(file);
    }
}

void sim_file_foreach(void (*fn)(SimFile *file, void *opaque), void *opaque)
{
    int fd;

    for (fd = 0; fd < MAX_FD; fd++) {
        if (table[fd]) {
            fn(table[fd], opaque);
        }
    }
}

static bool same_open_file(int a, int b)
{
    long ret = syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, a, b);

    /* Without kcmp, assume the common case */
    return ret <= 0;
}

static SimFile *learn_dup(int fd, const struct stat *st)
{
    int i;

    for (i = 0; i < MAX_FD; i++) {
        if (table[i] && i != fd && table[i]->st_ino == st->st_ino &&
            table[i]->st_dev == st->st_dev && same_open_file(i, fd)) {
            return table[i];
        }
    }
    return NULL;
}

/* Checks whether this open file itself holds the lock that binding takes */
static bool bound_elsewhere(int fd, SimDevice *dev)
{
    char path[SIM_PATH_MAX + 16];

    snprintf(path, sizeof(path), "%s/cdev", dev->dir);
    return sim_ofd_locked(path) && sim_ofd_lock(fd, F_WRLCK) == 0;
}

/* Called with sim_lock() */
SimFile *sim_fd_learn(int fd)
{
    SimFdHeader h;
    SimFile *file;
    struct stat st;
    SimDevice *dev = NULL;

    if (fd < 0 || fd >= MAX_FD || !fd_stat(fd, &st) || !S_ISREG(st.st_mode) ||
        st.st_size != sizeof(h) ||
        sys_pread(fd, &h, sizeof(h), 0) != sizeof(h) ||
        memcmp(h.magic, MAGIC, sizeof(h.magic)) || !sim_ready() ||
        memcmp(h.id, sim_config()->id, sizeof(h.id))) {
        return NULL;
    }
    file = learn_dup(fd, &st);
    if (file) {
        fd_set_file(fd, file);
        return file;
    }
    if (h.kind == SIM_FD_KVM) {
        return NULL;        /* of no use except to its VMM */
    }
    if (h.kind == SIM_FD_GROUP || h.kind == SIM_FD_DEVICE ||
        h.kind == SIM_FD_CDEV) {
        dev = sim_device(h.index);
        if (!dev || sim_state_attach(dev) < 0) {
            return NULL;
        }
    }
    file = sim_file_new(fd, h.kind, dev);
    if (!file) {
        return NULL;
    }
    switch (h.kind) {
    case SIM_FD_CONTAINER:
        file->container = sim_space_new(true);
        break;
    case SIM_FD_IOMMUFD:
        file->ictx = sim_iommufd_new();
        break;
    case SIM_FD_CDEV:
        file->opened = bound_elsewhere(fd, dev);
        dev->opens += file->opened;
        break;
    case SIM_FD_DEVICE:
        file->opened = true;
        dev->opens++;
        break;
    default:
        break;
    }
    sim_service_start();
    return file;
}

void sim_fd_scan(void)
{
    int fd;

    /* Inherited descriptors are few and have low numbers */
    sim_lock();
    for (fd = 0; fd < 1024; fd++) {
        struct stat st;

        if (fd_stat(fd, &st) && st.st_size == sizeof(SimFdHeader)) {
            sim_fd_learn(fd);
        }
    }
    sim_unlock();
}
