/*
 * vfio-sim: runs a command with simulated CXL devices on a simulated kernel
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "launcher.h"
#include "mangle.h"
#include "vfio-sim-regs.h"

#define LIBRARY "libvfio-sim.so"
#define VERSION "1"

static SimConfig config;
static const char *memory_file;
static bool given_kernel, given_devices, given_memory, given_topology;
static bool given_decoders, given_decoder;
/* Volatile, because the signal handler reads it */
static volatile pid_t child;

static const char help[] =
"Usage: vfio-sim [OPTION]... -- COMMAND [ARGUMENT]...\n"
"       vfio-sim [OPTION]... --prepare DIR\n"
"       vfio-sim --control DIR CONTROL-COMMAND...\n"
"\n"
"Runs COMMAND on a stand-in for the kernel's VFIO interface, with CXL Type-2\n"
"devices that this machine does not have. The first has the host address\n"
"0000:c1:00.0, the IOMMU group 1 and /dev/vfio/devices/vfio0, for example:\n"
"\n"
"  vfio-sim -- qemu-system-x86_64 -device vfio-pci,host=0000:c1:00.0 ...\n"
"\n"
"Devices:\n"
"  --kernel=GENERATION  the kernel to stand in for: v2-reset (default), v2,\n"
"                       v2-nommap, v3, v4, v5, v6, or none for one without\n"
"                       CXL\n"
"  --devices=N          number of devices, 1 (default) to 16; the second has\n"
"                       the address 0000:c2:00.0, and so on\n"
"  --memory=SIZE        memory of each device, a multiple of 256M up to 4T\n"
"                       (default 256M); takes no space until it is written\n"
"  --memory-file=PATH   file that holds the first device's memory; the others\n"
"                       use PATH.1, PATH.2, ... (default: in the state\n"
"                       directory)\n"
"  --topology=A|B|C     component registers at the end (A, the default), at\n"
"                       the start (B) or in the middle (C) of BAR 0\n"
"  --decoders=N         HDM decoders: 1 (default), 2, 4, ... 14\n"
"  --decoder=STATE      how the host's firmware has left the first of them:\n"
"                       locked (default), unlocked, uncommitted, interleaved\n"
"  --geometry-id=N      since v4: id of the capability that says where the\n"
"                       registers are (default 6, which is a guess)\n"
"  --geometry-form=F    since v4: its offset is u64 (default) or u32, as well\n"
"  --inactive           v6: memory is not active in time when the driver binds\n"
"  --guard-map          none: the kernel filters writes to the CXL Device DVSEC\n"
"  --mangle=NAME        a malformed reply or an odd device; --mangle=help\n"
"                       lists them\n"
"  --iova=x86|arm       the host's IOVA ranges: which interrupt window they\n"
"                       leave out (default x86)\n"
"  --raise-memlock      let programs raise the limit of locked memory, as a\n"
"                       manager of VMs that has privileges can\n"
"  --fault=SPEC         as the control command \"fault\", from the start\n"
"  --set=SPEC           as the control command \"set\", from the start\n"
"\n"
"Running:\n"
"  --state-dir=DIR      keep the state in DIR, instead of a temporary\n"
"                       directory that is removed at the end\n"
"  --prepare DIR        only make the state directory; run programs with\n"
"                       LD_PRELOAD=PATH/libvfio-sim.so VFIO_SIM_DIR=DIR\n"
"  --control DIR        send a command to the program that uses DIR and print\n"
"                       its reply\n"
"  --preload=LIST       libraries to preload before vfio-sim's own; a command\n"
"                       that was built with AddressSanitizer is recognised\n"
"  -h, --help           print this\n"
"  -V, --version        print the version\n"
"\n"
"Control commands, also taken as lines of text by the socket DIR/control:\n"
"  devices              the devices and their decoders\n"
"  maps                 DMA mappings that the program has made\n"
"  mmaps HOST           regions of the device that it has mapped\n"
"  writes HOST [clear]  writes that reached the kernel, the last 1024\n"
"  stats HOST           counts of resets, interrupts, accesses, ...\n"
"  fault HOST OP errno=N [count=K] [skip=M]   let OP fail, K times or always,\n"
"                       after it was done M times; OP is an ioctl\n"
"                       (device_reset, ioas_map, ...), open, cxl-reset, any,\n"
"                       or pread-, pwrite-, mmap- with a region (bar0, config,\n"
"                       memory, comp-regs, ...)\n"
"  fault HOST clear     no more faults\n"
"  set HOST hardware-committed=0|1   the decoder after the next open or reset\n"
"  set HOST viable=0|1  whether the device's group may be used\n"
"  set HOST mangle=NAME a malformation, or none\n"
"  set HOST reset-enables-memory=0|1 v2-reset: a reset enables Memory Space\n"
"  set HOST keeps-base=0|1           v2-reset: a reset keeps the decoder's base\n"
"  set HOST dma-buf-exporter=0|1     v2: the base kernel exports BARs\n"
"  set HOST reset-busy=N             v5, v6: the next N resets fail: EAGAIN\n"
"  set HOST reset-delay=N            each reset takes N milliseconds\n"
"  set HOST no-flr=0|1               no FLR, but a reset by D3, when next opened\n"
"  set HOST no-write-back=0|1        no Cache Writeback, when next opened\n"
"  set HOST reset-clears=0|1         v5, v6: whether a reset clears the memory\n"
"  set HOST fault-ns=N               each page fault takes N nanoseconds\n"
"  set HOST sbr-unmasked=0|1         v5, v6: hot resets reach the device\n"
"  set HOST active-delay=N           v6: memory is back N milliseconds after a\n"
"                       reset or D3\n"
"  set HOST dvsec-snapshot=0|1       v6: Memory_Active in the DVSEC stays set\n"
"  set HOST no-bar-areas=0|1         v6: no part of BAR 0 can be mapped\n"
"  set HOST guard-map=0|1            none: as --guard-map\n"
"  set HOST pfnmap=0|1  whether iommufd maps device memory by its address\n"
"  set HOST geometry-id=N, set HOST geometry-form=u64|u32\n"
"  irq HOST N           let the device raise interrupt N\n"
"  err HOST, req HOST   signal the error or the unplug request eventfd\n"
"\n"
"Exit status: COMMAND's, 128 + N if signal N ended it, 2 on wrong usage, 126\n"
"if COMMAND cannot be run and 127 if it is not found.\n";

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

static uint64_t parse_size(const char *text)
{
    static const char units[] = "kKmMgGtT";
    size_t len = strlen(text);
    const char *unit = len ? strchr(units, text[len - 1]) : NULL;
    unsigned shift = unit ? 10 * ((unit - units) / 2 + 1) : 0;
    char number[32];
    uint64_t n;

    snprintf(number, sizeof(number), "%.*s", (int)(len - !!unit), text);
    if (len >= sizeof(number) || !sim_parse_number(number, UINT64_MAX, &n)) {
        die("--memory=%s is not a size; give a number with K, M, G or T",
            text);
    }
    if (!n || n > SIM_MEM_MAX >> shift || (n << shift) % SIM_MEM_UNIT) {
        die("--memory=%s must be a multiple of 256M, up to 4T", text);
    }
    return n << shift;
}

static unsigned parse_count(const char *text)
{
    uint64_t n;

    if (!sim_parse_number(text, SIM_MAX_DEVICES, &n) || !n) {
        die("--devices=%s must be a number from 1 to %d", text,
            SIM_MAX_DEVICES);
    }
    return n;
}

/* "HOST REST": returns REST, or dies if HOST is none of the devices */
static const char *spec_device(const char *option, const char *spec)
{
    unsigned i;

    for (i = 0; i < config.devices; i++) {
        char host[16];
        size_t n;

        sim_config_host(i, host, sizeof(host));
        n = strlen(host);
        if (!strncmp(spec, host, n) && spec[n] == ' ') {
            return spec + n + 1;
        }
    }
    die("--%s=%s must begin with the address of a device, such as "
        "\"0000:c1:00.0 \"", option, spec);
}

static void check_specs(void)
{
    const char *err;
    SimFault fault;
    SimKnob knob;
    const char *kernel = sim_config_bound(&config);
    uint32_t value;
    unsigned i;

    for (i = 0; i < config.num_faults; i++) {
        const char *spec = config.faults[i];

        err = sim_fault_parse(spec_device("fault", spec), &fault);
        if (err) {
            die("--fault=%s: %s", spec, err);
        }
    }
    for (i = 0; i < config.num_knobs; i++) {
        const char *spec = config.knobs[i];

        err = sim_knob_parse(spec_device("set", spec), &knob, &value);
        if (err) {
            die("--set=%s: %s", spec, err);
        }
        if (knob == SIM_KNOB_MANGLE && kernel &&
            !sim_mangle_concerns(value, kernel)) {
            die("the malformation \"%s\" does not concern a kernel of "
                "generation %s; see --mangle=help", sim_mangle_name(value),
                kernel);
        }
    }
}

static void make_memory(unsigned index)
{
    char *path = config.memory_file[index];
    char host[16], dir[SIM_PATH_MAX + 32];
    struct stat st;
    int fd, n;

    sim_config_host(index, host, sizeof(host));
    snprintf(dir, sizeof(dir), "%s/%s", config.dir, host);
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
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > config.memory) {
        die("the memory file %s is not a regular file of at most --memory=; "
            "remove it or choose another", path);
    }
    if (ftruncate(fd, config.memory) < 0) {
        die("cannot give the memory file %s its size: %s; the file system may "
            "limit the size of files, choose another with --memory-file=",
            path, strerror(errno));
    }
    close(fd);
}

static void make_id(void)
{
    uint64_t n[1] = { getpid() };

    if (getrandom(n, sizeof(n), GRND_NONBLOCK) < 0) {
        n[0] ^= (uint64_t)time(NULL) << 20;
    }
    snprintf(config.id, sizeof(config.id), "%016llx",
             (unsigned long long)n[0]);
}

/* An existing directory is used again, unless it does not fit the options */
static bool reuse_state(void)
{
    SimConfig old;
    int ret = sim_config_load(&old, config.dir);

    if (ret == -ENOENT) {
        return false;
    }
    if (ret < 0) {
        die("%s/config cannot be read (%s); remove the directory or choose "
            "another", config.dir, strerror(-ret));
    }
    if ((given_kernel && strcmp(old.kernel, config.kernel)) ||
        (given_devices && old.devices != config.devices) ||
        (given_memory && old.memory != config.memory) ||
        (given_topology && old.topology != config.topology) ||
        (given_decoders && old.decoders != config.decoders) ||
        (given_decoder && strcmp(old.decoder, config.decoder)) ||
        (config.inactive && !old.inactive) || memory_file ||
        config.num_faults || config.num_knobs) {
        die("%s holds the state of devices made with other options; remove "
            "it, choose another, or give no options for devices", config.dir);
    }
    return true;
}

static void make_state(void)
{
    unsigned i;

    make_dir(config.dir);
    if (reuse_state()) {
        return;
    }
    make_id();
    for (i = 0; i < config.devices; i++) {
        make_memory(i);
        make_sysfs(&config, i);
    }
    make_host_sysfs(&config);
    if (sim_config_save(&config) < 0) {
        die("cannot write %s/config: %s", config.dir, strerror(errno));
    }
}

static void set_dir(const char *dir)
{
    char cwd[SIM_PATH_MAX / 2];
    int n;

    if (dir[0] == '/') {
        n = snprintf(config.dir, sizeof(config.dir), "%s", dir);
    } else if (getcwd(cwd, sizeof(cwd))) {
        n = snprintf(config.dir, sizeof(config.dir), "%s/%s", cwd, dir);
    } else {
        n = SIM_PATH_MAX;
    }
    while (n > 1 && n < SIM_PATH_MAX && config.dir[n - 1] == '/') {
        config.dir[--n] = '\0';
    }
    /* Leave room for the names below it */
    if (n < 1 || n >= SIM_PATH_MAX - 256 || strchr(config.dir, '\n')) {
        die("%s cannot be a state directory: its path is too long or odd",
            dir);
    }
}

/* Memory is the best place, if there is enough of it */
static void make_temporary(void)
{
    const char *base = getenv("TMPDIR");
    struct statvfs fs;

    if (access("/dev/shm", W_OK) == 0 && statvfs("/dev/shm", &fs) == 0 &&
        (uint64_t)fs.f_bavail * fs.f_frsize >= 1ull << 30) {
        base = "/dev/shm";
    } else if (!base || base[0] != '/') {
        base = "/tmp";
    }
    if (snprintf(config.dir, sizeof(config.dir), "%s/vfio-sim-XXXXXX", base) >=
        SIM_PATH_MAX - 256 || !mkdtemp(config.dir)) {
        die("cannot make a temporary directory in %s: %s; use --state-dir=",
            base, strerror(errno));
    }
}

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    remove(path);
    return 0;
}

static void remove_state(void)
{
    nftw(config.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/*
 * Leave a process behind that removes the directory when the launcher has
 * ended, however that came about, and nothing in the background uses it.
 */
static void start_guard(void)
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
    /* What the caller has left open is not for us to keep */
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
    snprintf(path, sizeof(path), "%s/in-use", config.dir);
    fd = open(path, O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fcntl(fd, F_OFD_SETLKW, &fl) < 0 && errno == EINTR) {
        continue;
    }
    remove_state();
    _exit(0);
}

/* At once, unless a command that went into the background needs it */
static void remove_when_unused(void)
{
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
    char path[SIM_PATH_MAX + 16];
    int fd;

    snprintf(path, sizeof(path), "%s/in-use", config.dir);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fcntl(fd, F_OFD_SETLK, &fl) == 0) {
        remove_state();
    }
    if (fd >= 0) {
        close(fd);
    }
}

/* The library is beside the launcher, or in ../lib when installed */
static void find_library(char *path, size_t size)
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    char *slash;

    if (n < 0) {
        die("cannot read /proc/self/exe: %s", strerror(errno));
    }
    exe[n] = '\0';
    slash = strrchr(exe, '/');
    *slash = '\0';
    snprintf(path, size, "%s/" LIBRARY, exe);
    if (access(path, R_OK) < 0) {
        snprintf(path, size, "%s/../lib/" LIBRARY, exe);
    }
    if (access(path, R_OK) < 0) {
        die("the library " LIBRARY " is missing: it must be in %s or in "
            "%s/../lib; build it with \"make build\" or \"ninja "
            "tests/vfio-sim/" LIBRARY "\"", exe, exe);
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

/* The file offset of a virtual address, or 0 */
static uint64_t elf_offset(const Elf64_Ehdr *e, uint64_t addr)
{
    const Elf64_Phdr *ph = (const void *)((const char *)e + e->e_phoff);
    unsigned i;

    for (i = 0; i < e->e_phnum; i++) {
        if (ph[i].p_type == PT_LOAD && addr >= ph[i].p_vaddr &&
            addr < ph[i].p_vaddr + ph[i].p_filesz) {
            return addr - ph[i].p_vaddr + ph[i].p_offset;
        }
    }
    return 0;
}

static bool elf_needs(const Elf64_Ehdr *e, uint64_t size, const char *prefix,
                      char *name, size_t name_size)
{
    const char *base = (const char *)e;
    const Elf64_Phdr *ph = (const void *)(base + e->e_phoff);
    uint64_t strings = 0;
    unsigned i, pass;

    if (e->e_phoff + (uint64_t)e->e_phnum * sizeof(*ph) > size) {
        return false;
    }
    for (pass = 0; pass < 2; pass++) {
        for (i = 0; i < e->e_phnum; i++) {
            uint64_t at;

            for (at = ph[i].p_offset; ph[i].p_type == PT_DYNAMIC &&
                 at + sizeof(Elf64_Dyn) <= ph[i].p_offset + ph[i].p_filesz &&
                 at + sizeof(Elf64_Dyn) <= size; at += sizeof(Elf64_Dyn)) {
                const Elf64_Dyn *d = (const void *)(base + at);
                uint64_t s = strings + d->d_un.d_val;

                if (pass == 0 && d->d_tag == DT_STRTAB) {
                    strings = elf_offset(e, d->d_un.d_ptr);
                }
                if (pass == 1 && d->d_tag == DT_NEEDED && strings &&
                    s < size && memchr(base + s, 0, size - s) &&
                    !strncmp(base + s, prefix, strlen(prefix))) {
                    snprintf(name, name_size, "%s", base + s);
                    return true;
                }
            }
        }
    }
    return false;
}

/*
 * AddressSanitizer must come before all others, and then catches what goes
 * through our functions as well.
 */
static bool find_asan(const char *path, char *name, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    Elf64_Ehdr *e;
    bool found = false;

    if (fd < 0) {
        return false;
    }
    if (fstat(fd, &st) == 0 && st.st_size > (off_t)sizeof(*e)) {
        e = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (e != MAP_FAILED) {
            found = !memcmp(e->e_ident, ELFMAG, SELFMAG) &&
                    e->e_ident[EI_CLASS] == ELFCLASS64 &&
                    elf_needs(e, st.st_size, "libasan.so", name, size);
            munmap(e, st.st_size);
        }
    }
    close(fd);
    return found;
}

static void forward(int sig, siginfo_t *info, void *context)
{
    (void)context;
    /* What the terminal sends reaches the command anyway */
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

static int run_command(char **argv, const char *preload)
{
    static const int signals[] = {
        SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2,
    };
    struct sigaction sa = {
        .sa_sigaction = forward, .sa_flags = SA_SIGINFO | SA_RESTART,
    };
    char library[PATH_MAX + 32], command[PATH_MAX], asan[64];
    const char *old = getenv("LD_PRELOAD");
    char *list;
    sigset_t block, unblock;
    unsigned i;

    find_library(library, sizeof(library));
    if (!find_command(argv[0], command, sizeof(command))) {
        fprintf(stderr, "vfio-sim: %s: command not found\n", argv[0]);
        return 127;
    }
    if (!find_asan(command, asan, sizeof(asan))) {
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
        setenv("VFIO_SIM_DIR", config.dir, 1);
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
        die("nobody listens at %s/control: a program must have opened a "
            "device, and still run (%s)", dir, strerror(errno));
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

static void add_spec(char **list, unsigned *n, const char *text)
{
    if (*n == SIM_MAX_SPECS || strchr(text, '\n')) {
        die("too many or odd options --fault and --set");
    }
    list[(*n)++] = strdup(text);
}

/* A knob of all devices */
static void add_knob(const char *knob, const char *value)
{
    char spec[128], host[16];
    unsigned i;

    for (i = 0; value && i < config.devices; i++) {
        sim_config_host(i, host, sizeof(host));
        snprintf(spec, sizeof(spec), "%s %s=%s", host, knob, value);
        add_spec(config.knobs, &config.num_knobs, spec);
    }
}

static void set_kernel(const char *name)
{
    static const char *const names[] = {
        "v2-reset", "v2", "v2-nommap", "v3", "v4", "v5", "v6", "none",
    };
    unsigned i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!strcmp(name, names[i])) {
            strcpy(config.kernel, name);
            given_kernel = true;
            return;
        }
    }
    die("--kernel=%s is unknown; there are v2-reset, v2, v2-nommap, v3, v4, "
        "v5, v6 and none", name);
}

static void set_decoders(const char *text)
{
    uint64_t n;

    /* Other numbers cannot be expressed, more would hit what is behind */
    if (!sim_parse_number(text, 14, &n) || !n || (n > 1 && n % 2)) {
        die("--decoders=%s must be 1, 2, 4, 6, 8, 10, 12 or 14", text);
    }
    config.decoders = n;
    given_decoders = true;
}

static void set_decoder(const char *state)
{
    if (strcmp(state, "locked") && strcmp(state, "unlocked") &&
        strcmp(state, "uncommitted") && strcmp(state, "interleaved")) {
        die("--decoder=%s must be locked, unlocked, uncommitted or "
            "interleaved", state);
    }
    strcpy(config.decoder, state);
    given_decoder = true;
}

int main(int argc, char **argv)
{
    enum {
        OPT_KERNEL = 256, OPT_DEVICES, OPT_MEMORY, OPT_MEMORY_FILE,
        OPT_TOPOLOGY, OPT_IOVA, OPT_FAULT, OPT_SET, OPT_STATE_DIR, OPT_PREPARE,
        OPT_CONTROL, OPT_PRELOAD, OPT_DECODERS, OPT_DECODER, OPT_GEOMETRY_ID,
        OPT_GEOMETRY_FORM, OPT_MANGLE, OPT_RAISE_MEMLOCK, OPT_GUARD_MAP,
        OPT_INACTIVE,
    };
    static const struct option options[] = {
        { "kernel", required_argument, NULL, OPT_KERNEL },
        { "devices", required_argument, NULL, OPT_DEVICES },
        { "memory", required_argument, NULL, OPT_MEMORY },
        { "memory-file", required_argument, NULL, OPT_MEMORY_FILE },
        { "topology", required_argument, NULL, OPT_TOPOLOGY },
        { "decoders", required_argument, NULL, OPT_DECODERS },
        { "decoder", required_argument, NULL, OPT_DECODER },
        { "geometry-id", required_argument, NULL, OPT_GEOMETRY_ID },
        { "geometry-form", required_argument, NULL, OPT_GEOMETRY_FORM },
        { "inactive", no_argument, NULL, OPT_INACTIVE },
        { "guard-map", no_argument, NULL, OPT_GUARD_MAP },
        { "mangle", required_argument, NULL, OPT_MANGLE },
        { "iova", required_argument, NULL, OPT_IOVA },
        { "raise-memlock", no_argument, NULL, OPT_RAISE_MEMLOCK },
        { "fault", required_argument, NULL, OPT_FAULT },
        { "set", required_argument, NULL, OPT_SET },
        { "state-dir", required_argument, NULL, OPT_STATE_DIR },
        { "prepare", required_argument, NULL, OPT_PREPARE },
        { "control", required_argument, NULL, OPT_CONTROL },
        { "preload", required_argument, NULL, OPT_PRELOAD },
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'V' },
        { NULL, 0, NULL, 0 }
    };
    const char *state_dir = NULL, *prepare = NULL, *preload = NULL;
    const char *control_dir = NULL;
    const char *geometry_id = NULL, *geometry_form = NULL, *mangle = NULL;
    const char *guard_map = NULL;
    int opt, ret;

    strcpy(config.kernel, "v2-reset");
    strcpy(config.iova, "x86");
    config.devices = 1;
    config.memory = SIM_MEM_UNIT;
    config.topology = 'A';
    config.decoders = 1;
    strcpy(config.decoder, "locked");
    while ((opt = getopt_long(argc, argv, "+hV", options, NULL)) != -1) {
        switch (opt) {
        case OPT_KERNEL:
            set_kernel(optarg);
            break;
        case OPT_DECODERS:
            set_decoders(optarg);
            break;
        case OPT_DECODER:
            set_decoder(optarg);
            break;
        case OPT_GEOMETRY_ID:
            geometry_id = optarg;
            break;
        case OPT_GEOMETRY_FORM:
            geometry_form = optarg;
            break;
        case OPT_INACTIVE:
            config.inactive = true;
            break;
        case OPT_GUARD_MAP:
            guard_map = "1";
            break;
        case OPT_MANGLE:
            if (!strcmp(optarg, "help")) {
                sim_mangle_help();
                return 0;
            }
            mangle = optarg;
            break;
        case OPT_DEVICES:
            config.devices = parse_count(optarg);
            given_devices = true;
            break;
        case OPT_MEMORY:
            config.memory = parse_size(optarg);
            given_memory = true;
            break;
        case OPT_MEMORY_FILE:
            memory_file = optarg;
            break;
        case OPT_TOPOLOGY:
            if (strlen(optarg) != 1 || !strchr("ABC", optarg[0])) {
                die("--topology=%s must be A, B or C", optarg);
            }
            config.topology = optarg[0];
            given_topology = true;
            break;
        case OPT_IOVA:
            if (strcmp(optarg, "x86") && strcmp(optarg, "arm")) {
                die("--iova=%s must be x86 or arm", optarg);
            }
            strcpy(config.iova, optarg);
            break;
        case OPT_RAISE_MEMLOCK:
            config.raise_memlock = true;
            break;
        case OPT_FAULT:
            add_spec(config.faults, &config.num_faults, optarg);
            break;
        case OPT_SET:
            add_spec(config.knobs, &config.num_knobs, optarg);
            break;
        case OPT_STATE_DIR:
            state_dir = optarg;
            break;
        case OPT_PREPARE:
            prepare = optarg;
            break;
        case OPT_CONTROL:
            control_dir = optarg;
            break;
        case OPT_PRELOAD:
            preload = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            return 0;
        case 'V':
            puts("vfio-sim " VERSION);
            return 0;
        default:
            fputs("vfio-sim: see --help\n", stderr);
            return 2;
        }
    }
    if (control_dir) {
        return control(control_dir, argv + optind);
    }
    add_knob("geometry-id", geometry_id);
    add_knob("geometry-form", geometry_form);
    add_knob("guard-map", guard_map);
    add_knob("mangle", mangle);
    check_specs();
    if (prepare) {
        if (optind < argc || state_dir) {
            die("--prepare DIR takes no command and no --state-dir");
        }
        set_dir(prepare);
        make_state();
        return 0;
    }
    if (optind == argc) {
        die("a command is missing: vfio-sim [OPTION]... -- COMMAND; see "
            "--help");
    }
    if (state_dir) {
        set_dir(state_dir);
    } else {
        make_temporary();
        /* The error paths leave through exit() until the command runs */
        atexit(remove_state);
        start_guard();
    }
    make_state();
    ret = run_command(argv + optind, preload);
    if (!state_dir) {
        remove_when_unused();
        _exit(ret);
    }
    return ret;
}
