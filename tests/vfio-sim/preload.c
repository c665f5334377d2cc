/*
 * vfio-sim: the C library functions that the preloaded library replaces
 *
 * Each checks whether the path or descriptor is one of ours and otherwise calls
 * the next function of that name (the C library's, or a sanitizer's).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "sim.h"

/*
 * The wrappers have names of their own and get the C library's through an
 * assembler label, because headers may rename or inline the functions.
 */
#define EXPORT(ret, name, ...) \
    ret wrap_##name(__VA_ARGS__) \
        __asm__(#name) __attribute__((visibility("default"), used))

static void *find_next(void **cache, const char *name)
{
    void *next = __atomic_load_n(cache, __ATOMIC_RELAXED);

    if (!next) {
        next = dlsym(RTLD_NEXT, name);
        __atomic_store_n(cache, next, __ATOMIC_RELAXED);
    }
    return next;
}

#define NEXT(name, ret, ...) \
    __typeof__(ret(*)(__VA_ARGS__)) next = ({ \
        static void *cache; \
        find_next(&cache, #name); \
    })

static long fail(long ret)
{
    if (ret < 0) {
        errno = -ret;
        return -1;
    }
    return ret;
}

/* A descriptor came from elsewhere: our information on the number is stale */
static int fresh(int fd)
{
    if (fd >= 0 && sim_fd_known(fd)) {
        sim_lock();
        sim_fd_forget(fd);
        sim_unlock();
    }
    return fd;
}

static bool is_open_path(const char *path)
{
    return sim_enabled && path && !strncmp(path, "/dev/", 5);
}

static mode_t open_mode(int flags, va_list ap)
{
    return flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)) ?
           va_arg(ap, mode_t) : 0;
}

#define WRAP_OPEN(name) \
int wrap_##name(const char *path, int flags, ...) \
{ \
    NEXT(name, int, const char *, int, ...); \
    char buf[PATH_MAX]; \
    mode_t mode; \
    va_list ap; \
    int fd; \
    \
    va_start(ap, flags); \
    mode = open_mode(flags, ap); \
    va_end(ap); \
    if (is_open_path(path)) { \
        fd = sim_path_open(path, flags); \
        if (fd != SIM_NOT_OURS) { \
            return fail(fd); \
        } \
    } else if (sim_path_sysfs(path, buf, sizeof(buf))) { \
        path = buf; \
    } \
    return fresh(next(path, flags, mode)); \
}

EXPORT(int, open, const char *path, int flags, ...);
WRAP_OPEN(open)
EXPORT(int, open64, const char *path, int flags, ...);
WRAP_OPEN(open64)

#define WRAP_OPEN_2(name) \
int wrap_##name(const char *path, int flags) \
{ \
    NEXT(name, int, const char *, int); \
    char buf[PATH_MAX]; \
    int fd; \
    \
    if (is_open_path(path)) { \
        fd = sim_path_open(path, flags); \
        if (fd != SIM_NOT_OURS) { \
            return fail(fd); \
        } \
    } else if (sim_path_sysfs(path, buf, sizeof(buf))) { \
        path = buf; \
    } \
    return fresh(next(path, flags)); \
}

EXPORT(int, __open_2, const char *path, int flags);
WRAP_OPEN_2(__open_2)
EXPORT(int, __open64_2, const char *path, int flags);
WRAP_OPEN_2(__open64_2)

#define WRAP_OPENAT(name) \
int wrap_##name(int dirfd, const char *path, int flags, ...) \
{ \
    NEXT(name, int, int, const char *, int, ...); \
    char buf[PATH_MAX]; \
    mode_t mode; \
    va_list ap; \
    int fd; \
    \
    va_start(ap, flags); \
    mode = open_mode(flags, ap); \
    va_end(ap); \
    if (is_open_path(path)) { \
        fd = sim_path_open(path, flags); \
        if (fd != SIM_NOT_OURS) { \
            return fail(fd); \
        } \
    } else if (sim_path_sysfs(path, buf, sizeof(buf))) { \
        path = buf; \
    } \
    return fresh(next(dirfd, path, flags, mode)); \
}

EXPORT(int, openat, int dirfd, const char *path, int flags, ...);
WRAP_OPENAT(openat)
EXPORT(int, openat64, int dirfd, const char *path, int flags, ...);
WRAP_OPENAT(openat64)

#define WRAP_FOPEN(name) \
FILE *wrap_##name(const char *path, const char *mode) \
{ \
    NEXT(name, FILE *, const char *, const char *); \
    char buf[PATH_MAX]; \
    \
    if (sim_path_sysfs(path, buf, sizeof(buf))) { \
        path = buf; \
    } \
    return next(path, mode); \
}

EXPORT(FILE *, fopen, const char *path, const char *mode);
WRAP_FOPEN(fopen)
EXPORT(FILE *, fopen64, const char *path, const char *mode);
WRAP_FOPEN(fopen64)

EXPORT(DIR *, opendir, const char *path);
DIR *wrap_opendir(const char *path)
{
    NEXT(opendir, DIR *, const char *);
    char buf[PATH_MAX];

    if (sim_path_sysfs(path, buf, sizeof(buf))) {
        path = buf;
    }
    return next(path);
}

EXPORT(ssize_t, readlink, const char *path, char *out, size_t size);
ssize_t wrap_readlink(const char *path, char *out, size_t size)
{
    NEXT(readlink, ssize_t, const char *, char *, size_t);
    char buf[PATH_MAX];

    if (sim_path_sysfs(path, buf, sizeof(buf))) {
        path = buf;
    }
    return next(path, out, size);
}

/* readlink() of fortified programs, as distributions build them */
EXPORT(ssize_t, __readlink_chk, const char *path, char *out, size_t size,
       size_t room);
ssize_t wrap___readlink_chk(const char *path, char *out, size_t size,
                            size_t room)
{
    NEXT(__readlink_chk, ssize_t, const char *, char *, size_t, size_t);
    char buf[PATH_MAX];

    if (sim_path_sysfs(path, buf, sizeof(buf))) {
        path = buf;
    }
    return next(path, out, size, room);
}

EXPORT(ssize_t, readlinkat, int dirfd, const char *path, char *out,
       size_t size);
ssize_t wrap_readlinkat(int dirfd, const char *path, char *out, size_t size)
{
    NEXT(readlinkat, ssize_t, int, const char *, char *, size_t);
    char buf[PATH_MAX];

    if (sim_path_sysfs(path, buf, sizeof(buf))) {
        path = buf;
    }
    return next(dirfd, path, out, size);
}

EXPORT(char *, realpath, const char *path, char *out);
char *wrap_realpath(const char *path, char *out)
{
    NEXT(realpath, char *, const char *, char *);
    char buf[PATH_MAX];
    char *ret;

    if (!sim_path_sysfs(path, buf, sizeof(buf))) {
        return next(path, out);
    }
    ret = next(buf, out);
    if (ret) {
        sim_path_strip(ret);
    }
    return ret;
}

EXPORT(char *, __realpath_chk, const char *path, char *out, size_t size);
char *wrap___realpath_chk(const char *path, char *out, size_t size)
{
    NEXT(__realpath_chk, char *, const char *, char *, size_t);
    char buf[PATH_MAX];
    char *ret;

    if (!sim_path_sysfs(path, buf, sizeof(buf))) {
        return next(path, out, size);
    }
    ret = next(buf, out, size);
    if (ret) {
        sim_path_strip(ret);
    }
    return ret;
}

static bool is_node(const char *path)
{
    SimKind kind;
    unsigned index;

    return is_open_path(path) && sim_path_device_node(path, &kind, &index);
}

EXPORT(int, access, const char *path, int mode);
int wrap_access(const char *path, int mode)
{
    NEXT(access, int, const char *, int);
    char buf[PATH_MAX];

    if (is_node(path)) {
        return fail(mode & X_OK ? -EACCES : 0);
    }
    return next(sim_path_sysfs(path, buf, sizeof(buf)) ? buf : path, mode);
}

EXPORT(int, faccessat, int dirfd, const char *path, int mode, int flags);
int wrap_faccessat(int dirfd, const char *path, int mode, int flags)
{
    NEXT(faccessat, int, int, const char *, int, int);
    char buf[PATH_MAX];

    if (is_node(path)) {
        return fail(mode & X_OK ? -EACCES : 0);
    }
    return next(dirfd, sim_path_sysfs(path, buf, sizeof(buf)) ? buf : path,
                mode, flags);
}

/* A descriptor or path of ours looks like the character device it stands for */
static bool fd_devnum(int fd, unsigned *maj, unsigned *min)
{
    SimFile *file;

    if (!sim_fd_known(fd)) {
        return false;
    }
    sim_lock();
    file = sim_file_get(fd);
    if (file && (file->kind == SIM_FD_DEVICE || file->kind == SIM_FD_KVM ||
                 file->kind == SIM_FD_DMABUF ||
                 file->kind == SIM_FD_VEVENTQ)) {
        file = NULL;
    }
    if (file) {
        sim_path_devnum(file->kind, file->dev ? file->dev->index : 0, maj,
                        min);
    }
    sim_unlock();
    return file != NULL;
}

/* The kernel gives a device from a group an anonymous file, of no type */
static bool fd_is_device(int fd)
{
    SimFile *file;
    bool found;

    if (!sim_fd_known(fd)) {
        return false;
    }
    sim_lock();
    file = sim_file_get(fd);
    found = file && file->kind == SIM_FD_DEVICE;
    sim_unlock();
    return found;
}

static bool path_devnum(const char *path, unsigned *maj, unsigned *min)
{
    SimKind kind;
    unsigned index;

    if (!is_open_path(path) || !sim_path_device_node(path, &kind, &index)) {
        return false;
    }
    sim_path_devnum(kind, index, maj, min);
    return true;
}

/* struct stat and struct stat64 are the same on 64-bit hosts */
static int chardev_stat(struct stat *st, unsigned maj, unsigned min)
{
    memset(st, 0, sizeof(*st));
    st->st_mode = S_IFCHR | 0600;
    st->st_nlink = 1;
    st->st_rdev = makedev(maj, min);
    st->st_dev = makedev(0, 6);
    st->st_ino = (maj << 12 | min) + 1;
    st->st_blksize = 4096;
    return 0;
}

static int device_stat(struct stat *st)
{
    memset(st, 0, sizeof(*st));
    st->st_mode = 0600;
    st->st_nlink = 1;
    st->st_dev = makedev(0, 14);
    st->st_ino = 1;
    st->st_blksize = 4096;
    return 0;
}

#define WRAP_FSTAT(name) \
int wrap_##name(int fd, struct stat *st) \
{ \
    NEXT(name, int, int, struct stat *); \
    unsigned maj, min; \
    \
    if (fd_devnum(fd, &maj, &min)) { \
        return chardev_stat(st, maj, min); \
    } \
    if (fd_is_device(fd)) { \
        return device_stat(st); \
    } \
    return next(fd, st); \
}

EXPORT(int, fstat, int fd, struct stat *st);
WRAP_FSTAT(fstat)
EXPORT(int, fstat64, int fd, struct stat *st);
WRAP_FSTAT(fstat64)

#define WRAP_STAT(name) \
int wrap_##name(const char *path, struct stat *st) \
{ \
    NEXT(name, int, const char *, struct stat *); \
    char buf[PATH_MAX]; \
    unsigned maj, min; \
    \
    if (path_devnum(path, &maj, &min)) { \
        return chardev_stat(st, maj, min); \
    } \
    return next(sim_path_sysfs(path, buf, sizeof(buf)) ? buf : path, st); \
}

EXPORT(int, stat, const char *path, struct stat *st);
WRAP_STAT(stat)
EXPORT(int, stat64, const char *path, struct stat *st);
WRAP_STAT(stat64)
EXPORT(int, lstat, const char *path, struct stat *st);
WRAP_STAT(lstat)
EXPORT(int, lstat64, const char *path, struct stat *st);
WRAP_STAT(lstat64)

#define WRAP_FSTATAT(name) \
int wrap_##name(int dirfd, const char *path, struct stat *st, int flags) \
{ \
    NEXT(name, int, int, const char *, struct stat *, int); \
    char buf[PATH_MAX]; \
    unsigned maj, min; \
    \
    if (path_devnum(path, &maj, &min) || \
        ((flags & AT_EMPTY_PATH) && path && !*path && \
         fd_devnum(dirfd, &maj, &min))) { \
        return chardev_stat(st, maj, min); \
    } \
    return next(dirfd, sim_path_sysfs(path, buf, sizeof(buf)) ? buf : path, \
                st, flags); \
}

EXPORT(int, fstatat, int dirfd, const char *path, struct stat *st, int flags);
WRAP_FSTATAT(fstatat)
EXPORT(int, fstatat64, int dirfd, const char *path, struct stat *st, int flags);
WRAP_FSTATAT(fstatat64)

#define WRAP_XSTAT(name) \
int wrap_##name(int ver, const char *path, struct stat *st) \
{ \
    NEXT(name, int, int, const char *, struct stat *); \
    char buf[PATH_MAX]; \
    unsigned maj, min; \
    \
    if (path_devnum(path, &maj, &min)) { \
        return chardev_stat(st, maj, min); \
    } \
    return next(ver, sim_path_sysfs(path, buf, sizeof(buf)) ? buf : path, \
                st); \
}

/* For programs that were built against a C library before 2.33 */
EXPORT(int, __xstat, int ver, const char *path, struct stat *st);
WRAP_XSTAT(__xstat)
EXPORT(int, __xstat64, int ver, const char *path, struct stat *st);
WRAP_XSTAT(__xstat64)
EXPORT(int, __lxstat, int ver, const char *path, struct stat *st);
WRAP_XSTAT(__lxstat)
EXPORT(int, __lxstat64, int ver, const char *path, struct stat *st);
WRAP_XSTAT(__lxstat64)

#define WRAP_FXSTAT(name) \
int wrap_##name(int ver, int fd, struct stat *st) \
{ \
    NEXT(name, int, int, int, struct stat *); \
    unsigned maj, min; \
    \
    if (fd_devnum(fd, &maj, &min)) { \
        return chardev_stat(st, maj, min); \
    } \
    if (fd_is_device(fd)) { \
        return device_stat(st); \
    } \
    return next(ver, fd, st); \
}

EXPORT(int, __fxstat, int ver, int fd, struct stat *st);
WRAP_FXSTAT(__fxstat)
EXPORT(int, __fxstat64, int ver, int fd, struct stat *st);
WRAP_FXSTAT(__fxstat64)

EXPORT(int, statx, int dirfd, const char *path, int flags, unsigned mask,
       struct statx *stx);
int wrap_statx(int dirfd, const char *path, int flags, unsigned mask,
               struct statx *stx)
{
    NEXT(statx, int, int, const char *, int, unsigned, struct statx *);
    char buf[PATH_MAX];
    unsigned maj, min;

    if (path_devnum(path, &maj, &min) ||
        ((flags & AT_EMPTY_PATH) && path && !*path &&
         fd_devnum(dirfd, &maj, &min))) {
        memset(stx, 0, sizeof(*stx));
        stx->stx_mask = STATX_TYPE | STATX_MODE | STATX_NLINK;
        stx->stx_mode = S_IFCHR | 0600;
        stx->stx_nlink = 1;
        stx->stx_rdev_major = maj;
        stx->stx_rdev_minor = min;
        return 0;
    }
    if ((flags & AT_EMPTY_PATH) && path && !*path && fd_is_device(dirfd)) {
        memset(stx, 0, sizeof(*stx));
        stx->stx_mask = STATX_TYPE | STATX_MODE | STATX_NLINK | STATX_SIZE;
        stx->stx_mode = 0600;
        stx->stx_nlink = 1;
        return 0;
    }
    return next(dirfd, sim_path_sysfs(path, buf, sizeof(buf)) ? buf : path,
                flags, mask, stx);
}

static long file_ioctl(SimFile *file, unsigned cmd, void *arg)
{
    switch (file->kind) {
    case SIM_FD_CONTAINER:
        return sim_container_ioctl(file, cmd, (uintptr_t)arg);
    case SIM_FD_GROUP:
        return sim_group_ioctl(file, cmd, arg);
    case SIM_FD_DEVICE:
    case SIM_FD_CDEV:
        return sim_device_ioctl(file, cmd, arg);
    case SIM_FD_IOMMUFD:
        return sim_iommufd_ioctl(file, cmd, arg);
    case SIM_FD_KVM:
        return sim_kvm_ioctl(file, cmd, arg);
    default:
        return -ENOTTY;
    }
}

EXPORT(int, ioctl, int fd, unsigned long request, ...);
int wrap_ioctl(int fd, unsigned long request, ...)
{
    NEXT(ioctl, int, int, unsigned long, ...);
    unsigned cmd = request;
    SimFile *file;
    va_list ap;
    void *arg;
    long ret;

    va_start(ap, request);
    arg = va_arg(ap, void *);
    va_end(ap);
    if (!sim_enabled) {
        return next(fd, request, arg);
    }
    if (cmd == KVM_CREATE_DEVICE && arg) {
        int kvm = 0;
        bool ours;

        sim_lock();
        ours = sim_kvm_create(fd, arg, &kvm);
        sim_unlock();
        if (ours) {
            return fail(kvm);
        }
    }
    if (cmd == KVM_RUN && sim_poison_touched()) {
        return fail(-EINTR);
    }
    if (!sim_fd_known(fd) && _IOC_TYPE(cmd) != VFIO_TYPE) {
        return next(fd, request, arg);
    }
    sim_lock();
    file = sim_file_get(fd);
    if (!file && _IOC_TYPE(cmd) == VFIO_TYPE) {
        file = sim_fd_learn(fd);
    }
    if (!file) {
        sim_unlock();
        return next(fd, request, arg);
    }
    sim_service_start();
    ret = file_ioctl(file, cmd, arg);
    sim_unlock();
    return fail(ret);
}

/* True: the answer is in @ret */
static bool device_rw(int fd, void *buf, size_t count, uint64_t pos,
                      bool write, ssize_t *ret)
{
    SimFile *file;

    if (!sim_fd_known(fd)) {
        return false;
    }
    sim_lock();
    file = sim_file_get(fd);
    if (file) {
        *ret = file->kind == SIM_FD_DEVICE || file->kind == SIM_FD_CDEV ?
               sim_device_rw(file, buf, count, pos, write) :
               file->kind == SIM_FD_VEVENTQ ? -ESPIPE : -EINVAL;
    }
    sim_unlock();
    if (file) {
        *ret = fail(*ret);
    }
    return file != NULL;
}

#define WRAP_PREAD(name) \
ssize_t wrap_##name(int fd, void *buf, size_t count, off64_t pos) \
{ \
    NEXT(name, ssize_t, int, void *, size_t, off64_t); \
    ssize_t ret; \
    \
    return device_rw(fd, buf, count, pos, false, &ret) ? ret : \
           next(fd, buf, count, pos); \
}

EXPORT(ssize_t, pread, int fd, void *buf, size_t count, off64_t pos);
WRAP_PREAD(pread)
EXPORT(ssize_t, pread64, int fd, void *buf, size_t count, off64_t pos);
WRAP_PREAD(pread64)

#define WRAP_PREAD_CHK(name) \
ssize_t wrap_##name(int fd, void *buf, size_t count, off64_t pos, \
                    size_t buflen) \
{ \
    NEXT(name, ssize_t, int, void *, size_t, off64_t, size_t); \
    ssize_t ret; \
    \
    return count <= buflen && \
           device_rw(fd, buf, count, pos, false, &ret) ? ret : \
           next(fd, buf, count, pos, buflen); \
}

EXPORT(ssize_t, __pread_chk, int fd, void *buf, size_t count, off64_t pos,
       size_t buflen);
WRAP_PREAD_CHK(__pread_chk)
EXPORT(ssize_t, __pread64_chk, int fd, void *buf, size_t count, off64_t pos,
       size_t buflen);
WRAP_PREAD_CHK(__pread64_chk)

#define WRAP_PWRITE(name) \
ssize_t wrap_##name(int fd, const void *buf, size_t count, off64_t pos) \
{ \
    NEXT(name, ssize_t, int, const void *, size_t, off64_t); \
    ssize_t ret; \
    \
    return device_rw(fd, (void *)buf, count, pos, true, &ret) ? ret : \
           next(fd, buf, count, pos); \
}

EXPORT(ssize_t, pwrite, int fd, const void *buf, size_t count, off64_t pos);
WRAP_PWRITE(pwrite)
EXPORT(ssize_t, pwrite64, int fd, const void *buf, size_t count, off64_t pos);
WRAP_PWRITE(pwrite64)

/* True: the answer is in @ret */
static bool veventq_read(int fd, void *buf, size_t count, ssize_t *ret)
{
    SimFile *file;
    bool ours;

    if (!sim_fd_known(fd)) {
        return false;
    }
    sim_lock();
    file = sim_file_get(fd);
    ours = file && file->kind == SIM_FD_VEVENTQ;
    if (ours) {
        *ret = sim_veventq_read(file, buf, count);
    }
    sim_unlock();
    if (ours) {
        *ret = fail(*ret);
    }
    return ours;
}

EXPORT(ssize_t, read, int fd, void *buf, size_t count);
ssize_t wrap_read(int fd, void *buf, size_t count)
{
    NEXT(read, ssize_t, int, void *, size_t);
    ssize_t ret;

    return veventq_read(fd, buf, count, &ret) ? ret : next(fd, buf, count);
}

EXPORT(ssize_t, __read_chk, int fd, void *buf, size_t count, size_t buflen);
ssize_t wrap___read_chk(int fd, void *buf, size_t count, size_t buflen)
{
    NEXT(__read_chk, ssize_t, int, void *, size_t, size_t);
    ssize_t ret;

    return count <= buflen && veventq_read(fd, buf, count, &ret) ? ret :
           next(fd, buf, count, buflen);
}

#define WRAP_MMAP(name) \
void *wrap_##name(void *addr, size_t len, int prot, int flags, int fd, \
                  off64_t pos) \
{ \
    NEXT(name, void *, void *, size_t, int, int, int, off64_t); \
    SimFile *file; \
    void *p; \
    int err = 0; \
    \
    if (fd >= 0 && !(flags & MAP_ANONYMOUS) && sim_fd_known(fd)) { \
        sim_lock(); \
        file = sim_file_get(fd); \
        if (file) { \
            p = MAP_FAILED; \
            err = -ENODEV; \
            if (file->kind == SIM_FD_DEVICE || file->kind == SIM_FD_CDEV) { \
                p = sim_device_mmap(file, addr, len, prot, flags, fd, pos, \
                                    &err); \
            } \
            sim_unlock(); \
            fail(err); \
            return p; \
        } \
        sim_unlock(); \
    } \
    p = next(addr, len, prot, flags, fd, pos); \
    if ((flags & MAP_FIXED) && p != MAP_FAILED && sim_mmap_any()) { \
        sim_lock(); \
        sim_mmap_gone((uintptr_t)p, len); \
        sim_unlock(); \
    } \
    return p; \
}

EXPORT(void *, mmap, void *addr, size_t len, int prot, int flags, int fd,
       off64_t pos);
WRAP_MMAP(mmap)
EXPORT(void *, mmap64, void *addr, size_t len, int prot, int flags, int fd,
       off64_t pos);
WRAP_MMAP(mmap64)

EXPORT(int, munmap, void *addr, size_t len);
int wrap_munmap(void *addr, size_t len)
{
    NEXT(munmap, int, void *, size_t);
    int ret;

    if (!sim_mmap_any()) {
        return next(addr, len);
    }
    /* Under the lock, or another thread could get the range in between */
    sim_lock();
    ret = next(addr, len);
    if (ret == 0) {
        sim_mmap_gone((uintptr_t)addr, len);
    }
    sim_unlock();
    return ret;
}

EXPORT(void *, mremap, void *old, size_t old_len, size_t len, int flags, ...);
void *wrap_mremap(void *old, size_t old_len, size_t len, int flags, ...)
{
    NEXT(mremap, void *, void *, size_t, size_t, int, ...);
    va_list ap;
    void *addr, *p;
    int err;

    va_start(ap, flags);
    addr = flags & MREMAP_FIXED ? va_arg(ap, void *) : NULL;
    va_end(ap);
    if (!sim_mmap_any()) {
        return next(old, old_len, len, flags, addr);
    }
    sim_lock();
    err = sim_mmap_check_move((uintptr_t)old, old_len, len, flags);
    p = err ? MAP_FAILED : next(old, old_len, len, flags, addr);
    if (p != MAP_FAILED) {
        sim_mmap_moved((uintptr_t)old, old_len, (uintptr_t)p, len);
    }
    sim_unlock();
    fail(err);
    return p;
}

EXPORT(int, madvise, void *addr, size_t len, int advice);
int wrap_madvise(void *addr, size_t len, int advice)
{
    NEXT(madvise, int, void *, size_t, int);
    uint64_t before = len;
    int err = 0, ret = 0;

    if (sim_mmap_any()) {
        sim_lock();
        err = sim_mmap_advice((uintptr_t)addr, &before, advice);
        sim_unlock();
    }
    if (!err || before) {
        ret = next(addr, before, advice);
    }
    return err ? fail(err) : ret;
}

EXPORT(int, close, int fd);
int wrap_close(int fd)
{
    NEXT(close, int, int);

    fresh(fd);
    return next(fd);
}

static int duplicated(int from, int to)
{
    if (to >= 0 && (sim_fd_known(from) || sim_fd_known(to))) {
        sim_lock();
        sim_fd_dup(from, to);
        sim_unlock();
    }
    return to;
}

EXPORT(int, dup, int fd);
int wrap_dup(int fd)
{
    NEXT(dup, int, int);

    return duplicated(fd, next(fd));
}

EXPORT(int, dup2, int from, int to);
int wrap_dup2(int from, int to)
{
    NEXT(dup2, int, int, int);

    return duplicated(from, next(from, to));
}

EXPORT(int, dup3, int from, int to, int flags);
int wrap_dup3(int from, int to, int flags)
{
    NEXT(dup3, int, int, int, int);

    return duplicated(from, next(from, to, flags));
}

#define WRAP_FCNTL(name) \
int wrap_##name(int fd, int cmd, ...) \
{ \
    NEXT(name, int, int, int, ...); \
    va_list ap; \
    void *arg; \
    int ret; \
    \
    va_start(ap, cmd); \
    arg = va_arg(ap, void *); \
    va_end(ap); \
    ret = next(fd, cmd, arg); \
    if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) { \
        duplicated(fd, ret); \
    } \
    return ret; \
}

EXPORT(int, fcntl, int fd, int cmd, ...);
WRAP_FCNTL(fcntl)
EXPORT(int, fcntl64, int fd, int cmd, ...);
WRAP_FCNTL(fcntl64)

EXPORT(int, close_range, unsigned first, unsigned last, int flags);
int wrap_close_range(unsigned first, unsigned last, int flags)
{
    NEXT(close_range, int, unsigned, unsigned, int);
    unsigned fd;

    if (sim_enabled && !(flags & (1u << 2))) {
        for (fd = first; fd <= last && fd < 65536; fd++) {
            fresh(fd);
        }
    }
    if (!next) {
        errno = ENOSYS;
        return -1;
    }
    return next(first, last, flags);
}

EXPORT(ssize_t, recvmsg, int fd, struct msghdr *msg, int flags);
ssize_t wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
    NEXT(recvmsg, ssize_t, int, struct msghdr *, int);
    ssize_t ret = next(fd, msg, flags);
    struct cmsghdr *c;

    if (ret < 0 || !sim_enabled || !msg->msg_controllen) {
        return ret;
    }
    for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        size_t i;

        for (i = 0; c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
                    i < n; i++) {
            int got;

            memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            sim_lock();
            sim_fd_forget(got);
            sim_fd_learn(got);
            sim_unlock();
        }
    }
    return ret;
}

/*
 * VM management software runs with privileges and raises the limit on locked
 * memory for its VMM. No memory is locked here, so it does not matter if it
 * cannot.
 */
static int limit_set(int ret, int resource, const void *limit)
{
    if (ret < 0 && errno == EPERM && resource == RLIMIT_MEMLOCK && limit &&
        sim_ready() && sim_config()->raise_memlock) {
        return 0;
    }
    return ret;
}

#define WRAP_SETRLIMIT(name) \
int wrap_##name(int resource, const struct rlimit *limit) \
{ \
    NEXT(name, int, int, const struct rlimit *); \
    \
    return limit_set(next(resource, limit), resource, limit); \
}

/* struct rlimit and struct rlimit64 are the same on 64-bit hosts */
EXPORT(int, setrlimit, int resource, const struct rlimit *limit);
WRAP_SETRLIMIT(setrlimit)
EXPORT(int, setrlimit64, int resource, const struct rlimit *limit);
WRAP_SETRLIMIT(setrlimit64)

#define WRAP_PRLIMIT(name) \
int wrap_##name(pid_t pid, int resource, const struct rlimit *limit, \
                struct rlimit *old) \
{ \
    NEXT(name, int, pid_t, int, const struct rlimit *, struct rlimit *); \
    \
    return limit_set(next(pid, resource, limit, old), resource, limit); \
}

EXPORT(int, prlimit, pid_t pid, int resource, const struct rlimit *limit,
       struct rlimit *old);
WRAP_PRLIMIT(prlimit)
EXPORT(int, prlimit64, pid_t pid, int resource, const struct rlimit *limit,
       struct rlimit *old);
WRAP_PRLIMIT(prlimit64)
