/*
 * vfio-sim: runs a command with simulated CXL devices on a simulated kernel
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher.h"

#define LIBRARY "libvfio-sim.so"

/* For the signal handler */
static volatile pid_t child;

void die(const char *fmt, ...)
{
    va_list ap;

    fputs("vfio-sim: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputs("\n", stderr);
    exit(2);
}

/*
 * The library is next to the launcher, or where it is installed. LIBRARY_PLACE
 * is that place, as seen from the launcher or absolute.
 */
void find_library(char *path, size_t size)
{
    char exe[PATH_MAX], place[PATH_MAX * 2], *slash;
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

    if (n < 0) {
        die("cannot read /proc/self/exe: %s", strerror(errno));
    }
    exe[n] = '\0';
    slash = strrchr(exe, '/');
    *slash = '\0';
    snprintf(path, size, "%s/" LIBRARY, exe);
    if (access(path, R_OK) < 0) {
        snprintf(place, sizeof(place), "%s%s" LIBRARY_PLACE,
                 LIBRARY_PLACE[0] == '/' ? "" : exe,
                 LIBRARY_PLACE[0] == '/' ? "" : "/");
        if (realpath(place, exe)) {
            snprintf(path, size, "%s/" LIBRARY, exe);
        }
        if (access(path, R_OK) < 0) {
            die("the library " LIBRARY " is missing: it must be next to the "
                "launcher or in %s; build or install vfio-sim again", place);
        }
    }
    if (strpbrk(path, " :")) {
        die("the library's path %s has a space or a colon, which LD_PRELOAD "
            "cannot express; move it", path);
    }
}

static bool find_command(const char *name, char *path, size_t size)
{
    const char *dirs = getenv("PATH");
    struct stat st;

    if (strchr(name, '/')) {
        snprintf(path, size, "%s", name);
        return stat(path, &st) == 0 && S_ISREG(st.st_mode);
    }
    while (dirs && *dirs) {
        int n = strcspn(dirs, ":");

        snprintf(path, size, "%.*s/%s", n ? n : 1, n ? dirs : ".", name);
        if (access(path, X_OK) == 0 && stat(path, &st) == 0 &&
            S_ISREG(st.st_mode)) {
            return true;
        }
        dirs += n + (dirs[n] == ':');
    }
    return false;
}


static void forward(int sig, siginfo_t *info, void *context)
{
    /* Signals from the terminal reach the command anyway */
    if (child > 0 && info->si_code <= 0) {
        kill(child, sig);
    }
}

static int wait_child(void)
{
    int status;

    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) {
            return 2;
        }
    }
    child = 0;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int run_command(const Launch *launch, char **argv)
{
    static const int signals[] = {
        SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2,
    };
    struct sigaction sa = {
        .sa_sigaction = forward, .sa_flags = SA_SIGINFO | SA_RESTART,
    };
    char library[PATH_MAX + 32], command[PATH_MAX], asan[64];
    const char *old = getenv("LD_PRELOAD"), *preload = launch->preload;
    char *list;
    sigset_t block, unblock;
    unsigned i;

    find_library(library, sizeof(library));
    if (!find_command(argv[0], command, sizeof(command))) {
        fprintf(stderr, "vfio-sim: %s: command not found\n", argv[0]);
        return 127;
    }
    /*
     * AddressSanitizer must come before all others, and then also catches calls
     * that go through our functions.
     */
    if (!elf_needs(command, "libasan.so", asan, sizeof(asan))) {
        asan[0] = '\0';
    }
    if (asprintf(&list, "%s%s%s%s%s%s%s", asan, asan[0] ? ":" : "",
                 preload ? preload : "", preload ? ":" : "", library,
                 old && *old ? ":" : "", old ? old : "") < 0) {
        die("out of memory");
    }
    sigemptyset(&block);
    for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        sigaddset(&block, signals[i]);
    }
    sigprocmask(SIG_BLOCK, &block, &unblock);
    child = fork();
    if (child < 0) {
        die("cannot start a process: %s", strerror(errno));
    }
    if (child == 0) {
        sigprocmask(SIG_SETMASK, &unblock, NULL);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        setenv("LD_PRELOAD", list, 1);
        setenv("VFIO_SIM_DIR", launch->config.dir, 1);
        execvp(argv[0], argv);
        fprintf(stderr, "vfio-sim: cannot run %s: %s\n", argv[0],
                strerror(errno));
        _exit(126);
    }
    for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        sigaction(signals[i], &sa, NULL);
    }
    sigprocmask(SIG_SETMASK, &unblock, NULL);
    free(list);
    return wait_child();
}

static int control(const char *dir, char **argv)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = { .tv_sec = 30 };
    FILE *f;
    char *line = NULL;
    size_t size = 0;
    bool ok;

    if (!argv[0]) {
        die("--control needs a command; see --help");
    }
    /* The path of a socket is limited to about 100 characters */
    if (chdir(dir) < 0) {
        die("cannot use the state directory %s: %s", dir, strerror(errno));
    }
    strcpy(sa.sun_path, "control");
    if (fd < 0 || connect(fd, (void *)&sa, sizeof(sa)) < 0) {
        die("no program listens at %s/control: one must have opened a "
            "device, and still be running (%s)", dir, strerror(errno));
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    f = fdopen(fd, "r+");
    for (; *argv; argv++) {
        fprintf(f, "%s%s", *argv, argv[1] ? " " : "\n");
    }
    fflush(f);
    if (getline(&line, &size, f) < 0) {
        die("no reply from %s/control", dir);
    }
    fputs(line, stdout);
    ok = !strncmp(line, "{\"return\"", 9);
    free(line);
    fclose(f);
    return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
    Launch launch;
    char **command = argv + options_parse(&launch, argc, argv);
    int ret;

    if (launch.control_dir) {
        return control(launch.control_dir, command);
    }
    if (launch.prepare) {
        if (*command || launch.state_dir) {
            die("--prepare DIR takes no command and no --state-dir");
        }
        state_dir_set(&launch.config, launch.prepare);
        state_dir_make(&launch);
        return 0;
    }
    if (!*command) {
        die("a command is missing: vfio-sim [OPTION]... -- COMMAND; see "
            "--help");
    }
    if (launch.state_dir) {
        state_dir_set(&launch.config, launch.state_dir);
    } else {
        state_dir_set_temporary(&launch.config);
    }
    state_dir_make(&launch);
    ret = run_command(&launch, command);
    if (!launch.state_dir) {
        state_dir_remove_unused(&launch.config);
        _exit(ret);
    }
    return ret;
}
