/*
 * vfio-sim: how the launcher makes a state directory, and removes it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "launcher.h"

/* For atexit() */
static char temporary[SIM_PATH_MAX];

static void make_memory(Launch *launch, unsigned index)
{
    SimConfig *config = &launch->config;
    const char *memory_file = launch->memory_file;
    char *path = config->memory_file[index];
    char host[16], dir[SIM_PATH_MAX + 32];
    struct stat st;
    int fd, n;

    sim_config_host(index, host, sizeof(host));
    snprintf(dir, sizeof(dir), "%s/%s", config->dir, host);
    make_dir(dir);
    if (!memory_file) {
        n = snprintf(path, SIM_PATH_MAX, "%s/memory", dir);
    } else if (memory_file[0] == '/') {
        n = snprintf(path, SIM_PATH_MAX, index ? "%s.%u" : "%s", memory_file,
                     index);
    } else {
        char cwd[SIM_PATH_MAX];

        if (!getcwd(cwd, sizeof(cwd))) {
            die("cannot find the current directory; give --memory-file an "
                "absolute path");
        }
        n = snprintf(path, SIM_PATH_MAX, index ? "%s/%s.%u" : "%s/%s", cwd,
                     memory_file, index);
    }
    if (n >= SIM_PATH_MAX) {
        die("the path of the memory file is too long");
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fstat(fd, &st) < 0) {
        die("cannot open the memory file %s: %s", path, strerror(errno));
    }
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > config->memory) {
        die("the memory file %s is not a regular file of at most --memory=; "
            "remove it or choose another", path);
    }
    if (ftruncate(fd, config->memory) < 0) {
        die("cannot give the memory file %s its size: %s; the file system may "
            "limit the size of files, choose another with --memory-file=",
            path, strerror(errno));
    }
    close(fd);
}

static void make_id(SimConfig *config)
{
    uint64_t n[1] = { getpid() };

    if (getrandom(n, sizeof(n), GRND_NONBLOCK) < 0) {
        n[0] ^= (uint64_t)time(NULL) << 20;
    }
    snprintf(config->id, sizeof(config->id), "%016llx",
             (unsigned long long)n[0]);
}

/* An existing directory is used again, unless it does not fit the options */
static bool reuse_state(const Launch *launch)
{
    const SimConfig *config = &launch->config;
    SimConfig old;
    int ret = sim_config_load(&old, config->dir);

    if (ret == -ENOENT) {
        return false;
    }
    if (ret < 0) {
        die("%s/config cannot be read (%s); remove the directory or choose "
            "another", config->dir, strerror(-ret));
    }
    if (!options_fit(launch, &old)) {
        die("%s holds the state of devices made with other options; remove "
            "it, choose another, or give no options for devices", config->dir);
    }
    return true;
}

void state_dir_make(Launch *launch)
{
    SimConfig *config = &launch->config;
    unsigned i;

    make_dir(config->dir);
    if (reuse_state(launch)) {
        return;
    }
    make_id(config);
    for (i = 0; i < config->devices; i++) {
        make_memory(launch, i);
        make_sysfs(config, i);
    }
    make_host_sysfs(config);
    if (sim_config_save(config) < 0) {
        die("cannot write %s/config: %s", config->dir, strerror(errno));
    }
}

void state_dir_set(SimConfig *config, const char *dir)
{
    char cwd[SIM_PATH_MAX / 2];
    int n;

    if (dir[0] == '/') {
        n = snprintf(config->dir, sizeof(config->dir), "%s", dir);
    } else if (getcwd(cwd, sizeof(cwd))) {
        n = snprintf(config->dir, sizeof(config->dir), "%s/%s", cwd, dir);
    } else {
        n = SIM_PATH_MAX;
    }
    while (n > 1 && n < SIM_PATH_MAX && config->dir[n - 1] == '/') {
        config->dir[--n] = '\0';
    }
    /* Leave room for the names below it */
    if (n < 1 || n >= SIM_PATH_MAX - 256 || strchr(config->dir, '\n')) {
        die("%s cannot be a state directory: its path is too long or odd",
            dir);
    }
}

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *ftw)
{
    remove(path);
    return 0;
}

static void remove_state(const char *dir)
{
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void remove_temporary(void)
{
    remove_state(temporary);
}

/*
 * Leave a process behind that removes the directory when the launcher has
 * exited for any reason and no background process uses it.
 */
static void start_guard(const SimConfig *config)
{
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
    char path[SIM_PATH_MAX + 16], c;
    int alive[2], fd, null;
    pid_t pid;

    if (pipe2(alive, O_CLOEXEC) < 0) {
        die("cannot make a pipe: %s", strerror(errno));
    }
    pid = fork();
    if (pid < 0) {
        die("cannot start a process: %s", strerror(errno));
    }
    if (pid > 0) {
        close(alive[0]);    /* the other end stays open as long as we live */
        return;
    }
    setsid();
    null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
    /* Do not keep descriptors that the caller has left open */
    for (fd = 3; fd < 1024; fd++) {
        if (fd != alive[0]) {
            close(fd);
        }
    }
    if (chdir("/") < 0) {
        _exit(1);
    }
    while (read(alive[0], &c, 1) < 0 && errno == EINTR) {
        continue;
    }
    snprintf(path, sizeof(path), "%s/in-use", config->dir);
    fd = open(path, O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fcntl(fd, F_OFD_SETLKW, &fl) < 0 && errno == EINTR) {
        continue;
    }
    remove_state(config->dir);
    _exit(0);
}

/* Prefer memory, if there is enough of it */
void state_dir_set_temporary(SimConfig *config)
{
    const char *base = getenv("TMPDIR");
    struct statvfs fs;

    if (access("/dev/shm", W_OK) == 0 && statvfs("/dev/shm", &fs) == 0 &&
        (uint64_t)fs.f_bavail * fs.f_frsize >= 1ull << 30) {
        base = "/dev/shm";
    } else if (!base || base[0] != '/') {
        base = "/tmp";
    }
    if (snprintf(config->dir, sizeof(config->dir), "%s/vfio-sim-XXXXXX",
                 base) >= SIM_PATH_MAX - 256 || !mkdtemp(config->dir)) {
        die("cannot make a temporary directory in %s: %s; use --state-dir=",
            base, strerror(errno));
    }
    /* The error paths leave through exit() until the command runs */
    strcpy(temporary, config->dir);
    atexit(remove_temporary);
    start_guard(config);
}

/* Remove it now, unless a command in the background needs it */
void state_dir_remove_unused(const SimConfig *config)
{
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
    char path[SIM_PATH_MAX + 16];
    int fd;

    snprintf(path, sizeof(path), "%s/in-use", config->dir);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fcntl(fd, F_OFD_SETLK, &fl) == 0) {
        remove_state(config->dir);
    }
    if (fd >= 0) {
        close(fd);
    }
}

