/*
 * Test of vfio-sim: conformance with the kernel
 *
 * Each case starts this program again under vfio-sim with a state directory
 * of its own. There it uses the VFIO interface directly, with no QEMU.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test-vfio-sim.h"

static const Case *const topics[] = {
    open_cases, memory_cases, interrupt_cases, register_cases, process_cases,
    control_cases,
};

const char *self;
const char *case_arg;

int run_child(const char *name, int arg)
{
    g_autofree char *number = g_strdup_printf("%d", arg);
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        execl(self, self, "--child", name, number, NULL);
        _exit(99);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

char *launcher(void)
{
    g_autofree char *dir = g_path_get_dirname(self);

    return g_build_filename(dir, "vfio-sim", NULL);
}

void remove_tree(const char *dir)
{
    char *argv[] = { (char *)"rm", (char *)"-rf", (char *)dir, NULL };

    g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL,
                 NULL, NULL);
}

int spawn(char **argv, char **err)
{
    GError *error = NULL;
    int status;

    /* Standard output is for TAP */
    g_spawn_sync(NULL, argv, NULL, G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL,
                 NULL, err, &status, &error);
    g_assert_no_error(error);
    return status;
}

static void run_case(gconstpointer opaque)
{
    const Case *c = opaque;
    g_autofree char *sim = launcher();
    g_autofree char *dir = g_dir_make_tmp("vfio-sim-test-XXXXXX", NULL);
    g_autofree char *where = g_strconcat("--state-dir=", dir, NULL);
    unsigned i, run;

    for (run = 0; run < MAX(c->runs, 1); run++) {
        g_autoptr(GPtrArray) argv = g_ptr_array_new();
        g_autofree char *err = NULL;
        int status;

        g_ptr_array_add(argv, sim);
        g_ptr_array_add(argv, where);
        for (i = 0; i < G_N_ELEMENTS(c->options) && c->options[i]; i++) {
            g_ptr_array_add(argv, (char *)c->options[i]);
        }
        g_ptr_array_add(argv, (char *)"--");
        g_ptr_array_add(argv, (char *)self);
        g_ptr_array_add(argv, (char *)"--run");
        g_ptr_array_add(argv, (char *)c->path);
        g_ptr_array_add(argv, (char *)(c->arg ? c->arg : ""));
        g_ptr_array_add(argv, NULL);
        status = spawn((char **)argv->pdata, &err);
        if (status) {
            g_test_message("%s", err);
            g_printerr("%s", err);
            g_test_fail();
        }
    }
    remove_tree(dir);
}

static int child_main(const char *name, int arg)
{
    static const struct {
        const char *name;
        int (*fn)(int arg);
    } children[] = {
        { "open", child_open }, { "cdev", child_cdev },
        { "device", child_device }, { "daemon", child_daemon },
    };
    unsigned i;

    alarm(30);
    for (i = 0; i < G_N_ELEMENTS(children); i++) {
        if (g_str_equal(name, children[i].name)) {
            return children[i].fn(arg);
        }
    }
    return 98;
}

/* The case itself, below vfio-sim */
static int case_main(const char *path)
{
    const Case *c;
    unsigned i;

    alarm(60);
    for (i = 0; i < G_N_ELEMENTS(topics); i++) {
        for (c = topics[i]; c->path; c++) {
            if (g_str_equal(c->path, path)) {
                c->fn();
                return 0;
            }
        }
    }
    return 3;
}

int main(int argc, char **argv)
{
    g_autofree char *exe = g_file_read_link("/proc/self/exe", NULL);
    const Case *c;
    unsigned i;

    self = exe;
    if (argc == 4 && g_str_equal(argv[1], "--child")) {
        return child_main(argv[2], atoi(argv[3]));
    }
    if (argc == 4 && g_str_equal(argv[1], "--run")) {
        case_arg = argv[3];
        return case_main(argv[2]);
    }
    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < G_N_ELEMENTS(topics); i++) {
        for (c = topics[i]; c->path; c++) {
            g_autofree char *path = g_strconcat("/vfio-sim/", c->path, NULL);

            g_test_add_data_func(path, c, run_case);
        }
    }
    g_test_add_func("/vfio-sim/launcher", test_launcher);
    g_test_add_func("/vfio-sim/cleanup", test_cleanup);
    return g_test_run();
}
