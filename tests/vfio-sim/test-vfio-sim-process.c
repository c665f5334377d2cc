/*
 * Test of vfio-sim: other processes, and persistent state
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test-vfio-sim.h"

/* Exit status 0: an iommufd and a device that the parent opened work here */
int child_cdev(int fd)
{
    uint32_t v;

    return bind_fd(fd, fd + 1, NULL) || attach_fd(fd, new_ioas(fd + 1)) ||
           pread(fd, &v, 4, REGION(7)) != 4;
}

/* Exit status 0: the descriptor works here as it did in the parent */
int child_device(int fd)
{
    SimDeviceInfo info = { .argsz = sizeof(info) };
    uint32_t v = 0;

    if (fd < 0) {       /* comes over the socket instead */
        char data, space[CMSG_SPACE(sizeof(int))];
        struct iovec iov = { &data, 1 };
        struct msghdr msg = {
            .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space,
            .msg_controllen = sizeof(space),
        };

        if (recvmsg(-fd, &msg, 0) != 1) {
            return 10;
        }
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
    }
    if (pread(fd, &v, 4, REGION(7)) != 4 || v != 0x10f21af4) {
        return 11;
    }
    if (ioctl(fd, VFIO_DEVICE_GET_INFO, &info) || info.num_regions != 11) {
        return 12;
    }
    if (map_region(fd, MEM_REGION, 0, PAGE) == MAP_FAILED) {
        return 13;
    }
    return 0;
}

static void test_inherit(void)
{
    char data = 'x', space[CMSG_SPACE(sizeof(int))] = { 0 };
    struct iovec iov = { &data, 1 };
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space,
        .msg_controllen = sizeof(space),
    };
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    SimDeviceInfo info = { .argsz = sizeof(info) };
    int copy, s[2], high, cdev;
    Dev d;

    /* As a management program opens them for a VMM */
    cdev = open("/dev/vfio/devices/vfio0", O_RDWR);
    g_assert_cmpint(open("/dev/iommu", O_RDWR), ==, cdev + 1);
    g_assert_cmpint(run_child("cdev", cdev), ==, 0);
    close(cdev);
    close(cdev + 1);

    open_dev(&d, g_str_equal(case_arg, "iommufd"));
    copy = dup(d.fd);       /* without close-on-exec */
    g_assert_cmpint(run_child("device", copy), ==, 0);

    ok(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &d.fd, sizeof(int));
    g_assert_cmpint(sendmsg(s[0], &msg, 0), ==, 1);
    close(copy);
    g_assert_cmpint(run_child("device", -s[1]), ==, 0);

    high = fcntl(d.fd, F_DUPFD_CLOEXEC, 100);
    close(d.fd);
    ok(ioctl(high, VFIO_DEVICE_GET_INFO, &info));
    g_assert_cmpint(dup2(high, d.fd), ==, d.fd);
    close(high);
    info.argsz = sizeof(info);      /* not what it would take */
    ok(ioctl(d.fd, VFIO_DEVICE_GET_INFO, &info));
    close(d.fd);
    fails(ioctl(d.fd, VFIO_DEVICE_GET_INFO, &info), EBADF);
}

/* Use of the parent's device by a forked child */
static int use_in_child(int fd)
{
    g_autofree char *name = g_strdup_printf("control.%d", (int)getpid());
    g_autofree char *reply = NULL;
    int ret, control;

    reg_w(fd, VFIO_SIM_REG_SCRATCH, 0xc0ffee);
    ret = child_device(fd);
    /* It has a channel of its own, since the parent's is still there */
    control = control_connect_to(name);
    g_assert_cmpint(write(control, "mmaps " HOST0 "\n", 19), ==, 19);
    reply = control_reply(control);
    return ret ? ret : strstr(reply, "\"memory\"") ? 0 : 20;
}

static void test_fork(void)
{
    Dev d;
    int status;
    pid_t pid;

    open_dev(&d, g_str_equal(case_arg, "iommufd"));
    pid = fork();
    if (pid == 0) {
        alarm(20);
        _exit(use_in_child(d.fd));
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmphex(status, ==, 0);
    g_assert_cmphex(reg_r(d.fd, VFIO_SIM_REG_SCRATCH), ==, 0xc0ffee);
    g_assert_cmpuint(stat_of(HOST0, "opens"), ==, 1);
}

static unsigned count_dir(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    unsigned n = 0;

    while (g_dir_read_name(dir)) {
        n++;
    }
    return n;
}

static void test_inert(void)
{
    g_autofree char *sock = g_build_filename(g_getenv("VFIO_SIM_DIR"),
                                             "control", NULL);
    g_autofree char *state = g_build_filename(g_getenv("VFIO_SIM_DIR"), HOST0,
                                              "state", NULL);
    Dev d;

    g_assert_cmpuint(count_dir("/proc/self/task"), ==, 1);
    g_assert_cmpuint(count_dir("/proc/self/fd"), <=, 5);
    g_assert_false(g_file_test(sock, G_FILE_TEST_EXISTS));
    g_assert_false(g_file_test(state, G_FILE_TEST_EXISTS));
    open_iommufd(&d);
    g_assert_cmpuint(count_dir("/proc/self/task"), ==, 2);
    g_assert_true(g_file_test(sock, G_FILE_TEST_EXISTS));
}

/* Runs twice on the same state directory */
static void test_persist(void)
{
    g_autofree char *mark = g_build_filename(g_getenv("VFIO_SIM_DIR"), "mark",
                                             NULL);
    Dev d;

    open_legacy_n(&d, 0, NULL);
    if (!g_file_test(mark, G_FILE_TEST_EXISTS)) {
        g_assert_true(g_file_set_contents(mark, "", 0, NULL));
        wr(d.fd, MEM_REGION, 0x1000, 0xabcd1234, 4);
        control_ok("set " HOST0 " hardware-committed=0");
        control_ok("fault " HOST0 " device_feature errno=5");
    } else {
        struct vfio_device_feature f = { .argsz = 8 };
        g_autofree char *writes = control("writes " HOST0);
        uint32_t v;

        g_assert_cmpuint(stat_of(HOST0, "opens"), ==, 2);
        /* The open reset has found the decoder uncommitted */
        fails(pread(d.fd, &v, 4, REGION(MEM_REGION) + 0x1000), EIO);
        fails(ioctl(d.fd, VFIO_DEVICE_FEATURE, &f), EIO);
        g_assert_nonnull(strstr(writes, "\"memory\", \"offset\": 4096, "
                                "\"size\": 4, \"value\": 2882343476"));
        control_ok("set " HOST0 " hardware-committed=1");
        ok(ioctl(d.fd, VFIO_DEVICE_RESET));
        g_assert_cmphex(rd(d.fd, MEM_REGION, 0x1000, 4), ==, 0xabcd1234);
    }
}

const Case process_cases[] = {
    { .path = "inherit/legacy", .fn = test_inherit, .arg = "legacy" },
    { .path = "inherit/iommufd", .fn = test_inherit, .arg = "iommufd" },
    { .path = "fork/legacy", .fn = test_fork, .arg = "legacy" },
    { .path = "fork/iommufd", .fn = test_fork, .arg = "iommufd" },
    { .path = "inert", .fn = test_inert },
    { .path = "persist", .fn = test_persist, .runs = 2 },
    { }
};
