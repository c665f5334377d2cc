/*
 * vfio-sim: system calls and small helpers
 *
 * The library's own file accesses must not reach its wrappers, so they go to
 * the kernel directly.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "sim.h"

_Static_assert(sizeof(long) == 8, "vfio-sim needs a 64-bit host");

static long result(long ret)
{
    return ret < 0 ? -errno : ret;
}

/* A program may change its root: paths are those from before */
static int root_fd = -1;

void sim_keep_root(void)
{
    root_fd = sim_high_fd(sys_open("/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
}

int sys_open(const char *path, int flags, mode_t mode)
{
    int save = errno;
    int ret = -EBADF;

    if (root_fd >= 0 && path[0] == '/' && path[1]) {
        ret = result(syscall(SYS_openat, root_fd, path + 1, flags, mode));
    }
    /* It may have closed a descriptor that it did not open */
    if (ret == -EBADF) {
        ret = result(syscall(SYS_openat, AT_FDCWD, path, flags, mode));
    }
    errno = save;
    return ret;
}

int sys_close(int fd)
{
    int save = errno;
    int ret = result(syscall(SYS_close, fd));

    errno = save;
    return ret;
}

int sys_dup(int fd)
{
    return sim_high_fd(sys_fcntl(fd, F_DUPFD_CLOEXEC, NULL));
}

ssize_t sys_pread(int fd, void *buf, size_t count, uint64_t pos)
{
    return result(syscall(SYS_pread64, fd, buf, count, pos));
}

ssize_t sys_pwrite(int fd, const void *buf, size_t count, uint64_t pos)
{
    return result(syscall(SYS_pwrite64, fd, buf, count, pos));
}

int sys_fcntl(int fd, int cmd, void *arg)
{
    int save = errno;
    int ret = result(syscall(SYS_fcntl, fd, cmd, arg));

    errno = save;
    return ret;
}

void *sys_mmap(void *addr, size_t len, int prot, int flags, int fd,
               uint64_t pos)
{
    return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, pos);
}

int sys_munmap(void *addr, size_t len)
{
    return result(syscall(SYS_munmap, addr, len));
}

int sys_memfd(const char *name)
{
    return result(syscall(SYS_memfd_create, name, MFD_CLOEXEC));
}

int sim_high_fd(int fd)
{
    int high;

    if (fd < 0) {
        return fd;
    }
    high = sys_fcntl(fd, F_DUPFD_CLOEXEC, (void *)512L);
    if (high < 0) {
        return fd;
    }
    sys_close(fd);
    return high;
}

int sim_ofd_lock(int fd, short type)
{
    struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_len = 1 };

    return sys_fcntl(fd, F_OFD_SETLK, &fl);
}

bool sim_ofd_locked(const char *path)
{
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
    int fd = sys_open(path, O_RDWR | O_CLOEXEC, 0);
    int ret;

    if (fd < 0) {
        return false;
    }
    ret = sys_fcntl(fd, F_OFD_GETLK, &fl);
    sys_close(fd);
    return ret == 0 && fl.l_type != F_UNLCK;
}

bool sim_fd_is(int fd, const char *link)
{
    char path[64], buf[128];
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    n = syscall(SYS_readlinkat, root_fd, path + 1, buf, sizeof(buf) - 1);
    if (n < 0) {
        n = syscall(SYS_readlinkat, AT_FDCWD, path, buf, sizeof(buf) - 1);
    }
    if (n < 0) {
        return false;
    }
    buf[n] = '\0';
    return !strcmp(buf, link);
}

size_t sim_copy_user(void *buf, uint64_t vaddr, size_t len, bool to_user)
{
    size_t done = 0;

    /*
     * A page at a time, because the kernel may transfer nothing of a piece
     * that faults in its middle
     */
    while (done < len) {
        uint64_t at = vaddr + done;
        size_t n = SIM_PAGE - at % SIM_PAGE;
        struct iovec local, remote;
        ssize_t ret;

        if (n > len - done) {
            n = len - done;
        }
        local = (struct iovec) { (char *)buf + done, n };
        remote = (struct iovec) { (void *)(uintptr_t)at, n };
        ret = syscall(to_user ? SYS_process_vm_writev : SYS_process_vm_readv,
                      getpid(), &local, 1L, &remote, 1L, 0L);
        if (ret <= 0) {
            break;
        }
        done += ret;
    }
    return done;
}
