/*
 * Test of vfio-sim: the program that starts the VMM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test-vfio-sim.h"

static void expect(int want, const char *text, ...)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autofree char *sim = launcher();
    g_autofree char *err = NULL;
    const char *arg;
    int status;
    va_list ap;

    g_ptr_array_add(argv, sim);
    va_start(ap, text);
    while ((arg = va_arg(ap, const char *))) {
        g_ptr_array_add(argv, (char *)arg);
    }
    va_end(ap);
    g_ptr_array_add(argv, NULL);
    status = spawn((char **)argv->pdata, &err);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, want);
    if (text) {
        g_assert_nonnull(strstr(err, text));
    }
}

void test_launcher(void)
{
    g_autofree char *dir = g_dir_make_tmp("vfio-sim-test-XXXXXX", NULL);
    g_autofree char *config = g_build_filename(dir, "config", NULL);
    g_autofree char *in = g_strconcat("--state-dir=", dir, NULL);
    const char *gone = "test -d \"$VFIO_SIM_DIR\" || exit 9; "
                       "echo \"$VFIO_SIM_DIR\" >&2; exit 7";

    expect(2, "a command is missing", NULL);
    expect(2, "--help", "--no-such-option", NULL);
    expect(2, "multiple of 256M", "--memory=100M", "--", "true", NULL);
    expect(2, "not a size", "--memory=lots", "--", "true", NULL);
    expect(2, "not a size", "--memory=-256M", "--", "true", NULL);
    expect(2, "1 to 16", "--devices=17", "--", "true", NULL);
    expect(2, "A, B or C", "--topology=D", "--", "true", NULL);
    expect(2, "v2-reset", "--kernel=v9", "--", "true", NULL);
    expect(2, "address of a device", "--fault=open errno=1", "--", "true",
           NULL);
    expect(2, "unknown operation", "--fault=" HOST0 " nothing errno=1", "--",
           "true", NULL);
    expect(2, "skip must be", "--fault=" HOST0 " open errno=1 skip=x", "--",
           "true", NULL);
    expect(2, "set: expected", "--set=" HOST0 " nothing=1", "--", "true", NULL);
    expect(127, "not found", "--", "no-such-command-here", NULL);
    expect(2, "no program listens", "--control", dir, "devices", NULL);
    expect(0, NULL, "--help", NULL);
    expect(0, NULL, "--library", NULL);
    expect(0, NULL, "-V", NULL);
    expect(2, "takes no command", "--prepare", dir, "true", NULL);
    expect(2, "must be 1, 2, 4", "--decoders=3", "--", "true", NULL);
    expect(2, "does not concern", "--kernel=v4", "--mangle=v2-bar-2", "--",
           "true", NULL);
    expect(7, NULL, "--", "/bin/sh", "-c", gone, NULL);
    expect(128 + SIGTERM, NULL, "--", "/bin/sh", "-c", "kill -TERM $$", NULL);
    expect(0, NULL, "--", "/bin/sh", "-c",
           "kill -0 $PPID && test \"$(cat /sys/bus/pci/devices/" HOST0
           "/vendor)\" = 0x1af4", NULL);

    /* The launcher passes a signal on and waits for the end */
    expect(5, NULL, "--", "/bin/sh", "-c",
           "trap 'exit 5' TERM; kill -TERM $PPID; "
           "for i in 1 2 3 4 5 6 7 8 9; do sleep 0.5; done", NULL);

    expect(0, NULL, "--prepare", dir, "--memory=512M", NULL);
    g_assert_true(g_file_test(config, G_FILE_TEST_EXISTS));
    expect(2, "made with other options", in, "--memory=256M", "--", "true",
           NULL);
    expect(2, "made with other options", in, "--guard-map", "--", "true",
           NULL);
    expect(3, NULL, in, "--", "/bin/sh", "-c", "exit 3", NULL);
    expect(3, NULL, in, "--memory=512M", "--kernel=v2-reset", "--iova=arm",
           "--", "/bin/sh", "-c", "exit 3", NULL);
    remove_tree(dir);
}

static void kill_launcher(void)
{
    g_autofree char *sim = launcher();
    char dir[128] = "";
    int out[2], status;
    unsigned i;
    pid_t pid;

    ok(pipe(out));
    pid = fork();
    if (pid == 0) {
        dup2(out[1], 1);
        execl(sim, sim, "--", "/bin/sh", "-c",
              "echo -n $VFIO_SIM_DIR; exec sleep 30", NULL);
        _exit(99);
    }
    g_assert_cmpint(read(out[0], dir, sizeof(dir) - 1), >, 0);
    g_assert_true(g_file_test(dir, G_FILE_TEST_EXISTS));
    kill(pid, SIGKILL);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    for (i = 0; i < 100 && g_file_test(dir, G_FILE_TEST_EXISTS); i++) {
        g_usleep(100000);
    }
    g_assert_false(g_file_test(dir, G_FILE_TEST_EXISTS));
    close(out[0]);
    close(out[1]);
}

/* Goes to the background and uses the device there for a second */
int child_daemon(int unused)
{
    int ready[2];
    char c = 0;

    ok(pipe(ready));
    if (fork() == 0) {
        int null = open("/dev/null", O_RDWR);
        Dev d;

        setsid();
        open_iommufd(&d);
        g_printerr("%s", g_getenv("VFIO_SIM_DIR"));
        dup2(null, 1);
        dup2(null, 2);
        c = reg_r(d.fd, VFIO_SIM_REG_ID) == VFIO_SIM_ID ? 'y' : 'n';
        g_assert_cmpint(write(ready[1], &c, 1), ==, 1);
        sleep(1);
        _exit(0);
    }
    return read(ready[0], &c, 1) == 1 && c == 'y' ? 0 : 1;
}

void test_cleanup(void)
{
    g_autofree char *sim = launcher();
    char *argv[] = {
        sim, (char *)"--", (char *)"/bin/sh", (char *)"-c",
        (char *)"echo -n \"$VFIO_SIM_DIR\" >&2", NULL
    };
    char *daemon[] = {
        sim, (char *)"--", (char *)self, (char *)"--child",
        (char *)"daemon", (char *)"0", NULL
    };
    g_autofree char *dir = NULL, *dir2 = NULL;
    unsigned i;

    g_assert_cmpint(spawn(argv, &dir), ==, 0);
    g_assert_true(g_path_is_absolute(dir));
    g_assert_false(g_file_test(dir, G_FILE_TEST_EXISTS));

    /* It is also removed if the launcher is killed, and the command with it */
    kill_launcher();

    /* A command in the background keeps its state until it ends */
    g_assert_cmpint(spawn(daemon, &dir2), ==, 0);
    g_assert_true(g_file_test(dir2, G_FILE_TEST_EXISTS));
    for (i = 0; i < 100 && g_file_test(dir2, G_FILE_TEST_EXISTS); i++) {
        g_usleep(100000);
    }
    g_assert_false(g_file_test(dir2, G_FILE_TEST_EXISTS));
}
