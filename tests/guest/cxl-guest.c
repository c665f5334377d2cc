/*
 * Runs inside the guest: drives the accelerator of vfio-sim from user space,
 * through nothing but sysfs, /dev/mem and, where it is loaded, the small
 * driver beside this file. One line of verdict for each check:
 *
 *   GUEST: ok NAME [key=value ...]     GUEST: fail NAME why
 *   GUEST: skip NAME why               GUEST: info key=value ...
 *   GUEST: PASS|FAIL ok=N fail=N skip=N
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vfio-sim-regs.h"

#define KiB ((uint64_t)1024)
#define MiB (1024 * KiB)
#define GiB (1024 * MiB)

/* PCI configuration space */
#define CFG_COMMAND             0x04
#define CFG_COMMAND_MEMORY      0x0002
#define CFG_COMMAND_MASTER      0x0004
#define CFG_COMMAND_INTX_OFF    0x0400
#define CFG_EXT_CAPS            0x100
#define EXT_CAP_DVSEC           0x0023
#define CXL_VENDOR              0x1e98

/* DVSEC ids, and fields as offsets from the extended capability's header */
#define DVSEC_DEVICE            0
#define DVSEC_REG_LOCATOR       8
#define DVD_CAPABILITY          0x0a
#define DVD_CAPABILITY_MEM      0x0004
#define DVD_CONTROL             0x0c
#define DVD_CONTROL_MEM         0x0004
#define DVD_RANGE1_SIZE_HI      0x18
#define DVD_RANGE1_SIZE_LO      0x1c
#define DVD_RANGE1_BASE_HI      0x20
#define DVD_RANGE1_BASE_LO      0x24
#define DVD_INFO_VALID          0x1
#define DVD_MEM_ACTIVE          0x2

/* Component registers */
#define CM_OFFSET               0x1000
#define CM_CAP_ARRAY            1
#define CM_CAP_HDM              5
#define HDM_CAPABILITY          0x00
#define HDM_GLOBAL              0x04
#define HDM_GLOBAL_ENABLE       0x2
#define HDM_BASE_LO             0x10
#define HDM_BASE_HI             0x14
#define HDM_SIZE_LO             0x18
#define HDM_SIZE_HI             0x1c
#define HDM_CTRL                0x20
#define HDM_CTRL_LOCK           0x100
#define HDM_CTRL_COMMIT         0x200
#define HDM_CTRL_COMMITTED      0x400
#define HDM_CTRL_ERROR          0x800
#define HDM_GRAIN               (256 * MiB)

/* A host bridge's decoder has a target list where an endpoint's has none */
#define HDM_TARGETS             0x24

#define MAX_WINDOWS             32

typedef struct {
    uint64_t base, size;
} Window;

typedef struct {
    char bdf[32];
    char dir[PATH_MAX];
    int config;                     /* fd */
    int dvsec_device;               /* offset in configuration space */
    int dvsec_locator;
    int block_bar;
    uint64_t block_offset;
    volatile uint8_t *bar0, *regs;
    uint64_t bar0_size;
    volatile uint8_t *hdm;          /* in BAR 0 */
    uint64_t gpa, size;             /* where device memory is, once known */
    uint8_t *window;                /* mapping of [gpa, gpa + size) */
    bool cached;                    /* mapped as memory, not as registers */
} Device;

typedef struct {
    uint8_t *va;
    uint64_t pa, size;
} Buffer;

static Device dev;
static Buffer ram;                  /* contiguous guest RAM */
static Window windows[MAX_WINDOWS];
static int n_windows;
static uint64_t bridge_block;       /* the host bridge's component registers */
static int n_ok, n_fail, n_skip;

static const char *opt_mode = "firmware";
static const char *opt_driver;
static const char *opt_actions = "all";
static const char *opt_token;
static const char *opt_seed = "0";
static int opt_lock = -1;
static bool opt_bridge;
static bool opt_peer = true;

/* ------------------------------------------------------------------ */
/* Verdicts */

static void verdict(const char *word, const char *name, const char *fmt,
                    va_list ap)
{
    printf("GUEST: %s %s", word, name);
    if (fmt && *fmt) {
        putchar(' ');
        vprintf(fmt, ap);
    }
    putchar('\n');
    fflush(stdout);
}

__attribute__((format(printf, 2, 3)))
static void ok(const char *name, const char *fmt, ...)
{
    va_list ap;

    n_ok++;
    va_start(ap, fmt);
    verdict("ok", name, fmt, ap);
    va_end(ap);
}

__attribute__((format(printf, 2, 3)))
static bool fail(const char *name, const char *fmt, ...)
{
    va_list ap;

    n_fail++;
    va_start(ap, fmt);
    verdict("fail", name, fmt, ap);
    va_end(ap);
    return false;
}

__attribute__((format(printf, 2, 3)))
static void skip(const char *name, const char *fmt, ...)
{
    va_list ap;

    n_skip++;
    va_start(ap, fmt);
    verdict("skip", name, fmt, ap);
    va_end(ap);
}

__attribute__((format(printf, 1, 2)))
static void info(const char *fmt, ...)
{
    va_list ap;

    printf("GUEST: info ");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    fflush(stdout);
}

static _Noreturn void finish(void)
{
    printf("GUEST: %s ok=%d fail=%d skip=%d\n", n_fail ? "FAIL" : "PASS",
           n_ok, n_fail, n_skip);
    fflush(stdout);
    exit(n_fail ? 1 : 0);
}

static bool wanted(const char *action)
{
    size_t len = strlen(action);
    const char *p = opt_actions;

    if (!strcmp(opt_actions, "all")) {
        return true;
    }
    while ((p = strstr(p, action))) {
        if ((p == opt_actions || p[-1] == ',') &&
            (p[len] == ',' || p[len] == '\0')) {
            return true;
        }
        p += len;
    }
    return false;
}

/* ------------------------------------------------------------------ */
/* A fault in a check is a verdict, not the end of the program */

static sigjmp_buf fault_env;
static volatile sig_atomic_t fault_armed;
static void *volatile fault_addr;

static void on_fault(int sig, siginfo_t *si, void *ctx)
{
    if (!fault_armed) {
        printf("GUEST: fail fault signal %d at %p\nGUEST: FAIL\n", sig,
               si->si_addr);
        fflush(stdout);
        _exit(1);
    }
    fault_armed = 0;
    fault_addr = si->si_addr;
    siglongjmp(fault_env, sig);
}

/* An access to where nothing is: a bus error on arm64, and not on x86 */
static bool access_faults(void (*access)(void *), void *opaque)
{
    sigjmp_buf saved;
    bool faulted;

    memcpy(&saved, &fault_env, sizeof(saved));
    faulted = sigsetjmp(fault_env, 1);
    if (!faulted) {
        fault_armed = 1;
        access(opaque);
    }
    memcpy(&fault_env, &saved, sizeof(saved));
    fault_armed = 1;
    return faulted;
}

static void run_check(const char *name, void (*check)(const char *name))
{
    int sig = sigsetjmp(fault_env, 1);

    if (sig) {
        fail(name, "%s at %p", sig == SIGBUS ? "bus error" : "fault",
             fault_addr);
        return;
    }
    fault_armed = 1;
    check(name);
    fault_armed = 0;
}

/* ------------------------------------------------------------------ */
/* Small tools */

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

static bool read_text(const char *path, char *buf, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got;

    if (fd < 0) {
        return false;
    }
    got = read(fd, buf, size - 1);
    close(fd);
    if (got < 0) {
        return false;
    }
    while (got && (buf[got - 1] == '\n' || buf[got - 1] == ' ')) {
        got--;
    }
    buf[got] = '\0';
    return true;
}

static bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool done;

    if (fd < 0) {
        return false;
    }
    done = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return done;
}

static const char *in_dir(const char *name)
{
    static char path[PATH_MAX + 64];

    snprintf(path, sizeof(path), "%s/%s", dev.dir, name);
    return path;
}

static uint64_t hex_file(const char *path)
{
    char text[64];

    return read_text(path, text, sizeof(text)) ? strtoull(text, NULL, 0) : 0;
}

static uint32_t cfg_read(int offset, int bytes)
{
    uint32_t val = 0;

    if (pread(dev.config, &val, bytes, offset) != bytes) {
        return ~0u;
    }
    return val;
}

static void cfg_write(int offset, uint32_t val, int bytes)
{
    if (pwrite(dev.config, &val, bytes, offset) != bytes) {
        fail("config-write", "at 0x%x: %s", offset, strerror(errno));
    }
}

static uint32_t get32(volatile uint8_t *p)
{
    return *(volatile uint32_t *)p;
}

static void set32(volatile uint8_t *p, uint32_t val)
{
    *(volatile uint32_t *)p = val;
}

static uint64_t get64(volatile uint8_t *p)
{
    return *(volatile uint64_t *)p;
}

static void set64(volatile uint8_t *p, uint64_t val)
{
    *(volatile uint64_t *)p = val;
}

/* Make plain accesses to mapped memory visible before a register access */
static void barrier(void)
{
    __sync_synchronize();
}

/* ------------------------------------------------------------------ */
/* Finding things */

static void *map_file(const char *path, uint64_t offset, uint64_t size)
{
    int fd = open(path, O_RDWR | O_SYNC | O_CLOEXEC);
    void *p;

    if (fd < 0) {
        return NULL;
    }
    p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
    close(fd);
    return p == MAP_FAILED ? NULL : p;
}

static bool find_device(const char *name)
{
    DIR *dir = opendir("/sys/bus/pci/devices");
    struct dirent *entry;
    char path[PATH_MAX];

    while (dir && (entry = readdir(dir))) {
        uint64_t vendor, device;

        if (entry->d_name[0] == '.') {
            continue;
        }
        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vendor",
                 entry->d_name);
        vendor = hex_file(path);
        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/device",
                 entry->d_name);
        device = hex_file(path);
        if (vendor == VFIO_SIM_VENDOR_ID && device == VFIO_SIM_DEVICE_ID) {
            snprintf(dev.bdf, sizeof(dev.bdf), "%.31s", entry->d_name);
            snprintf(dev.dir, sizeof(dev.dir), "/sys/bus/pci/devices/%s",
                     dev.bdf);
            break;
        }
    }
    if (dir) {
        closedir(dir);
    }
    if (!dev.bdf[0]) {
        return fail(name, "no PCI device %04x:%04x", VFIO_SIM_VENDOR_ID,
                    VFIO_SIM_DEVICE_ID);
    }
    dev.config = open(in_dir("config"), O_RDWR | O_CLOEXEC);
    if (dev.config < 0) {
        return fail(name, "config of %s: %s", dev.bdf, strerror(errno));
    }
    ok(name, "bdf=%s class=0x%06" PRIx64, dev.bdf, hex_file(in_dir("class")));
    return true;
}

static bool enable_device(const char *name)
{
    uint32_t command;

    /* A driver that is bound has done it */
    if (!opt_driver && !write_text(in_dir("enable"), "1")) {
        return fail(name, "sysfs enable: %s", strerror(errno));
    }
    command = cfg_read(CFG_COMMAND, 2);
    cfg_write(CFG_COMMAND, command | CFG_COMMAND_MEMORY | CFG_COMMAND_MASTER,
              2);
    command = cfg_read(CFG_COMMAND, 2);
    if ((command & 6) != 6) {
        return fail(name, "command register reads 0x%04x", command);
    }
    ok(name, "command=0x%04x", command);
    return true;
}

static uint64_t bar_size(int bar)
{
    char text[2048], *line = text;
    uint64_t start, end;

    if (!read_text(in_dir("resource"), text, sizeof(text))) {
        return 0;
    }
    while (bar-- && (line = strchr(line, '\n'))) {
        line++;
    }
    if (!line || sscanf(line, "%" SCNx64 " %" SCNx64, &start, &end) != 2) {
        return 0;
    }
    return start ? end - start + 1 : 0;
}

static bool map_bars(const char *name)
{
    dev.bar0_size = bar_size(VFIO_SIM_COMPONENT_BAR);
    if (dev.bar0_size != VFIO_SIM_BAR0_SIZE ||
        bar_size(VFIO_SIM_REG_BAR) != VFIO_SIM_BAR2_SIZE) {
        return fail(name, "BAR 0 has 0x%" PRIx64 " bytes, BAR 2 0x%" PRIx64,
                    dev.bar0_size, bar_size(VFIO_SIM_REG_BAR));
    }
    dev.bar0 = map_file(in_dir("resource0"), 0, dev.bar0_size);
    dev.regs = map_file(in_dir("resource2"), 0, VFIO_SIM_BAR2_SIZE);
    if (!dev.bar0 || !dev.regs) {
        return fail(name, "mmap: %s", strerror(errno));
    }
    if (get32(dev.regs + VFIO_SIM_REG_ID) != VFIO_SIM_ID) {
        return fail(name, "identity reads 0x%08x",
                    get32(dev.regs + VFIO_SIM_REG_ID));
    }
    set32(dev.regs + VFIO_SIM_REG_SCRATCH, 0x600df00d);
    if (get32(dev.regs + VFIO_SIM_REG_SCRATCH) != 0x600df00d) {
        return fail(name, "scratch register does not hold a value");
    }
    dev.size = get64(dev.regs + VFIO_SIM_REG_MEM_SIZE);
    ok(name, "memory=0x%" PRIx64 " resets=%u", dev.size,
       get32(dev.regs + VFIO_SIM_REG_RESETS));
    return true;
}

static bool find_dvsecs(const char *name)
{
    int offset = CFG_EXT_CAPS;
    int steps = 0;
    uint32_t i, dwords;

    dev.dvsec_device = dev.dvsec_locator = 0;
    while (offset >= CFG_EXT_CAPS && steps++ < 96) {
        uint32_t header = cfg_read(offset, 4);
        uint32_t dv1 = cfg_read(offset + 4, 4);
        uint32_t id = cfg_read(offset + 8, 2);

        if (header == 0 || header == ~0u) {
            break;
        }
        if ((header & 0xffff) == EXT_CAP_DVSEC &&
            (dv1 & 0xffff) == CXL_VENDOR) {
            if (id == DVSEC_DEVICE) {
                dev.dvsec_device = offset;
            } else if (id == DVSEC_REG_LOCATOR) {
                dev.dvsec_locator = offset;
            }
        }
        offset = (header >> 20) & 0xffc;
    }
    if (!dev.dvsec_device || !dev.dvsec_locator) {
        return fail(name, "CXL Device DVSEC at 0x%x, Register Locator at 0x%x",
                    dev.dvsec_device, dev.dvsec_locator);
    }
    if (!(cfg_read(dev.dvsec_device + DVD_CAPABILITY, 2) &
          DVD_CAPABILITY_MEM)) {
        return fail(name, "the device is not Mem_Capable");
    }

    dev.block_bar = -1;
    dwords = (cfg_read(dev.dvsec_locator + 4, 4) >> 20) / 4;
    for (i = 3; i + 1 < dwords; i += 2) {
        uint32_t lo = cfg_read(dev.dvsec_locator + i * 4, 4);
        uint32_t hi = cfg_read(dev.dvsec_locator + i * 4 + 4, 4);

        if (((lo >> 8) & 0xff) == 1) {
            dev.block_bar = lo & 7;
            dev.block_offset = ((uint64_t)hi << 32) | (lo & 0xffff0000);
        }
    }
    if (dev.block_bar != VFIO_SIM_COMPONENT_BAR ||
        dev.block_offset + VFIO_SIM_BLOCK_SIZE > dev.bar0_size) {
        return fail(name, "component block: BAR %d + 0x%" PRIx64,
                    dev.block_bar, dev.block_offset);
    }
    ok(name, "device=0x%x locator=0x%x block=bar%d+0x%" PRIx64,
       dev.dvsec_device, dev.dvsec_locator, dev.block_bar, dev.block_offset);
    return true;
}

static bool walk_component(const char *name)
{
    volatile uint8_t *cm = dev.bar0 + dev.block_offset + CM_OFFSET;
    uint32_t header = get32(cm);
    char list[128] = "";
    size_t len = 0;
    unsigned i;

    dev.hdm = NULL;
    if ((header & 0xffff) != CM_CAP_ARRAY) {
        return fail(name, "capability array header reads 0x%08x", header);
    }
    for (i = 1; i <= header >> 24 && i < 64; i++) {
        uint32_t entry = get32(cm + 4 * i);

        len += snprintf(list + len, len < sizeof(list) ? sizeof(list) - len : 0,
                        "%s%u@0x%x", i > 1 ? "," : "", entry & 0xffff,
                        entry >> 20);
        if (len >= sizeof(list)) {
            return fail(name, "%u capabilities", header >> 24);
        }
        if ((entry & 0xffff) == CM_CAP_HDM) {
            dev.hdm = cm + (entry >> 20);
        }
    }
    if (!dev.hdm) {
        return fail(name, "no HDM decoder capability among %s", list);
    }
    ok(name, "caps=%s", list);
    return true;
}

/* The rest of the component BAR is the device's own and comes untouched */
static void check_bar_rest(const char *name)
{
    uint64_t offset, before = 0;

    for (offset = 0; offset < dev.bar0_size; offset += 0x1008) {
        uint64_t want = VFIO_SIM_BAR0_PATTERN(offset);

        if (offset + 8 > dev.block_offset &&
            offset < dev.block_offset + VFIO_SIM_BLOCK_SIZE) {
            continue;
        }
        if (get64(dev.bar0 + offset) != want) {
            /* An earlier run may have left its mark */
            fail(name, "0x%" PRIx64 " reads 0x%" PRIx64, offset,
                 get64(dev.bar0 + offset));
            return;
        }
        set64(dev.bar0 + offset, ~want);
        before = get64(dev.bar0 + offset);
        set64(dev.bar0 + offset, want);
        if (before != ~want) {
            fail(name, "0x%" PRIx64 " does not hold a value", offset);
            return;
        }
    }
    ok(name, "%s", "");
}

/* ------------------------------------------------------------------ */
/* Windows: the CEDT's CFMWS entries that target the device's host bridge */

static bool host_bridge_uid(uint32_t *uid)
{
    char real[PATH_MAX], path[PATH_MAX + 64], text[64];
    char *root, *slash;

    if (!realpath(dev.dir, real)) {
        return false;
    }
    root = strstr(real, "/pci");
    if (!root) {
        return false;
    }
    slash = strchr(root + 1, '/');
    if (slash) {
        *slash = '\0';
    }
    snprintf(path, sizeof(path), "%s/firmware_node/uid", real);
    if (!read_text(path, text, sizeof(text))) {
        return false;
    }
    *uid = strtoul(text, NULL, 0);
    return true;
}

static uint64_t le(const uint8_t *p, int bytes)
{
    uint64_t val = 0;

    memcpy(&val, p, bytes);
    return val;
}

static bool read_windows(const char *name)
{
    static uint8_t cedt[65536];
    int fd = open("/sys/firmware/acpi/tables/CEDT", O_RDONLY | O_CLOEXEC);
    uint32_t uid = 0;
    bool have_uid = host_bridge_uid(&uid);
    ssize_t size, at;

    if (fd < 0) {
        return fail(name, "no CEDT: %s", strerror(errno));
    }
    size = read(fd, cedt, sizeof(cedt));
    close(fd);
    n_windows = 0;
    for (at = 36; at + 4 <= size; at += le(cedt + at + 2, 2)) {
        unsigned len = le(cedt + at + 2, 2);
        bool ours = !have_uid;
        unsigned i;

        if (len < 4 || at + len > size) {
            break;
        }
        if (cedt[at] == 0 && len >= 32 && have_uid &&
            le(cedt + at + 4, 4) == uid) {
            bridge_block = le(cedt + at + 16, 8);
        }
        if (cedt[at] != 1 || len < 40) {
            continue;
        }
        for (i = 36; i + 4 <= len; i += 4) {
            ours |= le(cedt + at + i, 4) == uid;
        }
        /* Only windows that go to one host bridge */
        if (ours && cedt[at + 24] == 0 && n_windows < MAX_WINDOWS) {
            windows[n_windows].base = le(cedt + at + 8, 8);
            windows[n_windows].size = le(cedt + at + 16, 8);
            n_windows++;
        }
    }
    if (!n_windows) {
        return fail(name, "no fixed window for host bridge %u", uid);
    }
    ok(name, "base=0x%" PRIx64 " size=0x%" PRIx64 " windows=%d bridge=%u",
       windows[0].base, windows[0].size, n_windows, uid);
    return true;
}

static bool in_window(uint64_t base, uint64_t size)
{
    int i;

    for (i = 0; i < n_windows; i++) {
        if (base >= windows[i].base && size <= windows[i].size &&
            base - windows[i].base <= windows[i].size - size) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ */
/* The decoder */

static uint64_t hdm_pair(int lo)
{
    return ((uint64_t)get32(dev.hdm + lo + 4) << 32) | get32(dev.hdm + lo);
}

static void hdm_set_pair(int lo, uint64_t val)
{
    set32(dev.hdm + lo, (uint32_t)val);
    set32(dev.hdm + lo + 4, val >> 32);
}

static uint64_t dvsec_range(int hi, uint32_t *flags)
{
    uint32_t low = cfg_read(dev.dvsec_device + hi + 4, 4);

    if (flags) {
        *flags = low & 3;
    }
    return ((uint64_t)cfg_read(dev.dvsec_device + hi, 4) << 32) |
           (low & 0xf0000000);
}

static bool show_decoder(void)
{
    uint64_t base = hdm_pair(HDM_BASE_LO);
    uint64_t size = hdm_pair(HDM_SIZE_LO);
    uint32_t ctrl = get32(dev.hdm + HDM_CTRL);

    info("decoder base=0x%" PRIx64 " size=0x%" PRIx64 " ctrl=0x%08x "
         "global=0x%x capability=0x%x dvsec-control=0x%04x", base, size, ctrl,
         get32(dev.hdm + HDM_GLOBAL), get32(dev.hdm + HDM_CAPABILITY),
         cfg_read(dev.dvsec_device + DVD_CONTROL, 2));
    return ctrl & HDM_CTRL_COMMITTED;
}

static bool mem_enabled(void)
{
    return cfg_read(dev.dvsec_device + DVD_CONTROL, 2) & DVD_CONTROL_MEM;
}

/* The decoder is committed: do all that speak of it agree? */
static bool check_committed(const char *name)
{
    uint32_t ctrl = get32(dev.hdm + HDM_CTRL);
    uint64_t base = hdm_pair(HDM_BASE_LO);
    uint64_t size = hdm_pair(HDM_SIZE_LO);
    uint32_t flags;

    if ((ctrl & (HDM_CTRL_COMMITTED | HDM_CTRL_ERROR)) !=
        HDM_CTRL_COMMITTED) {
        return fail(name, "decoder 0 is not committed, ctrl=0x%08x", ctrl);
    }
    if (get64(dev.hdm + HDM_BASE_LO) != base ||
        get64(dev.hdm + HDM_SIZE_LO) != size) {
        return fail(name, "%s", "8-byte and 4-byte reads of it differ");
    }
    if (size != dev.size) {
        return fail(name, "decoder size 0x%" PRIx64 ", device memory 0x%"
                    PRIx64, size, dev.size);
    }
    if (!in_window(base, size)) {
        return fail(name, "0x%" PRIx64 " is in no fixed window", base);
    }
    if (!(get32(dev.hdm + HDM_GLOBAL) & HDM_GLOBAL_ENABLE)) {
        return fail(name, "%s", "HDM Decoder Enable is clear");
    }
    if (!mem_enabled()) {
        return fail(name, "%s", "Mem_Enable is clear");
    }
    if (dvsec_range(DVD_RANGE1_BASE_HI, NULL) != base) {
        return fail(name, "DVSEC range 1 base 0x%" PRIx64 ", decoder 0x%"
                    PRIx64, dvsec_range(DVD_RANGE1_BASE_HI, NULL), base);
    }
    if (dvsec_range(DVD_RANGE1_SIZE_HI, &flags) != size || flags != 3) {
        return fail(name, "DVSEC range 1 size 0x%" PRIx64 " flags %u",
                    dvsec_range(DVD_RANGE1_SIZE_HI, NULL), flags);
    }
    dev.gpa = base;
    ok(name, "gpa=0x%" PRIx64 " size=0x%" PRIx64 " locked=%d", base, size,
       !!(ctrl & HDM_CTRL_LOCK));
    return true;
}

/* The host's own address of the memory is not the guest's business */
static void check_hidden(const char *name)
{
    uint64_t hpa = VFIO_SIM_HPA(get32(dev.regs + VFIO_SIM_REG_INDEX));
    uint32_t offset;

    for (offset = 0; offset < 4096; offset += 4) {
        if (cfg_read(offset, 4) == hpa >> 32) {
            fail(name, "0x%" PRIx64 " shows in configuration space at 0x%x",
                 hpa, offset);
            return;
        }
    }
    for (offset = 0; offset < VFIO_SIM_BLOCK_SIZE; offset += 4) {
        if (get32(dev.bar0 + dev.block_offset + offset) == hpa >> 32) {
            fail(name, "0x%" PRIx64 " shows in the component block at 0x%x",
                 hpa, offset);
            return;
        }
    }
    ok(name, "%s", "configuration space, component block");
}

static void check_lock(const char *name)
{
    uint64_t base = hdm_pair(HDM_BASE_LO);
    uint32_t ctrl = get32(dev.hdm + HDM_CTRL);
    bool locked = ctrl & HDM_CTRL_LOCK;

    if (opt_lock >= 0 && opt_lock != locked) {
        fail(name, "lock-on-commit reads %d", locked);
        return;
    }
    if (!locked) {
        skip(name, "%s", "the decoder is not locked");
        return;
    }
    set32(dev.hdm + HDM_BASE_LO, (uint32_t)base + HDM_GRAIN);
    set32(dev.hdm + HDM_CTRL, ctrl & ~HDM_CTRL_COMMIT);
    if (hdm_pair(HDM_BASE_LO) != base || get32(dev.hdm + HDM_CTRL) != ctrl) {
        fail(name, "a locked decoder changed: base=0x%" PRIx64 " ctrl=0x%08x",
             hdm_pair(HDM_BASE_LO), get32(dev.hdm + HDM_CTRL));
        return;
    }
    ok(name, "%s", "");
}

static bool wait_commit(uint32_t *ctrl)
{
    double end = now() + 2;

    do {
        *ctrl = get32(dev.hdm + HDM_CTRL);
        if (*ctrl & (HDM_CTRL_COMMITTED | HDM_CTRL_ERROR)) {
            break;
        }
    } while (now() < end);
    return (*ctrl & (HDM_CTRL_COMMITTED | HDM_CTRL_ERROR)) ==
           HDM_CTRL_COMMITTED;
}

static bool commit_at(uint64_t base, uint64_t size, uint32_t *ctrl)
{
    uint32_t old = get32(dev.hdm + HDM_CTRL) &
                   ~(HDM_CTRL_COMMIT | HDM_CTRL_LOCK | 0xff);

    hdm_set_pair(HDM_BASE_LO, base);
    hdm_set_pair(HDM_SIZE_LO, size);
    set32(dev.hdm + HDM_CTRL, old);
    set32(dev.hdm + HDM_CTRL, old | HDM_CTRL_COMMIT);
    return wait_commit(ctrl);
}

static bool decommit(void)
{
    double end = now() + 2;

    set32(dev.hdm + HDM_CTRL,
          get32(dev.hdm + HDM_CTRL) & ~HDM_CTRL_COMMIT);
    while (get32(dev.hdm + HDM_CTRL) & HDM_CTRL_COMMITTED) {
        if (now() > end) {
            return false;
        }
    }
    return true;
}

static void check_refused(const char *name)
{
    uint64_t nowhere = windows[0].base + windows[0].size;
    uint32_t ctrl;

    while (in_window(nowhere, dev.size)) {
        nowhere += HDM_GRAIN;
    }
    if (commit_at(nowhere, dev.size, &ctrl) || !(ctrl & HDM_CTRL_ERROR)) {
        fail(name, "commit at 0x%" PRIx64 " outside each window: ctrl=0x%08x",
             nowhere, ctrl);
        return;
    }
    if (commit_at(windows[0].base, 0, &ctrl) || !(ctrl & HDM_CTRL_ERROR)) {
        fail(name, "commit of size 0: ctrl=0x%08x", ctrl);
        return;
    }
    set32(dev.hdm + HDM_CTRL, ctrl & ~HDM_CTRL_COMMIT);
    ok(name, "%s", "");
}

/* Where the guest's own commit goes: not the window's first byte */
static uint64_t own_choice(void)
{
    uint64_t base = windows[0].base;

    return windows[0].size >= dev.size + HDM_GRAIN ? base + HDM_GRAIN : base;
}

/* Program the host bridge's decoder 0 as well, to send it all to port 0 */
static bool commit_bridge(const char *name, uint64_t base)
{
    uint8_t *block = bridge_block ? map_file("/dev/mem", bridge_block, 65536)
                                  : NULL;
    volatile uint8_t *hdm = NULL;
    uint32_t header, ctrl;
    unsigned i;

    if (!block) {
        return fail(name, "no component registers of the host bridge: %s",
                    strerror(errno));
    }
    header = get32(block + CM_OFFSET);
    for (i = 1; i <= header >> 24 && i < 64; i++) {
        uint32_t entry = get32(block + CM_OFFSET + 4 * i);

        if ((entry & 0xffff) == CM_CAP_HDM) {
            hdm = block + CM_OFFSET + (entry >> 20);
        }
    }
    if (!hdm) {
        munmap(block, 65536);
        return fail(name, "%s", "the host bridge has no HDM decoder");
    }
    set32(hdm + HDM_BASE_LO, (uint32_t)base);
    set32(hdm + HDM_BASE_HI, base >> 32);
    set32(hdm + HDM_SIZE_LO, (uint32_t)dev.size);
    set32(hdm + HDM_SIZE_HI, dev.size >> 32);
    set32(hdm + HDM_TARGETS, 0);
    set32(hdm + HDM_TARGETS + 4, 0);
    set32(hdm + HDM_CTRL, HDM_CTRL_COMMIT);
    set32(hdm + HDM_GLOBAL, get32(hdm + HDM_GLOBAL) | HDM_GLOBAL_ENABLE);
    ctrl = get32(hdm + HDM_CTRL);
    munmap(block, 65536);
    if (!(ctrl & HDM_CTRL_COMMITTED)) {
        return fail(name, "ctrl=0x%08x", ctrl);
    }
    ok(name, "registers=0x%" PRIx64, bridge_block);
    return true;
}

static bool commit_ourselves(const char *name)
{
    uint32_t ctrl = get32(dev.hdm + HDM_CTRL);

    if (ctrl & HDM_CTRL_COMMITTED) {
        return fail(name, "decoder 0 is committed already, ctrl=0x%08x", ctrl);
    }
    if (dvsec_range(DVD_RANGE1_BASE_HI, NULL)) {
        return fail(name, "DVSEC range 1 base is 0x%" PRIx64 " with no decoder"
                    " committed", dvsec_range(DVD_RANGE1_BASE_HI, NULL));
    }
    if (dev.size != dvsec_range(DVD_RANGE1_SIZE_HI, NULL)) {
        return fail(name, "DVSEC range 1 size is 0x%" PRIx64,
                    dvsec_range(DVD_RANGE1_SIZE_HI, NULL));
    }
    set32(dev.hdm + HDM_GLOBAL,
          get32(dev.hdm + HDM_GLOBAL) | HDM_GLOBAL_ENABLE);
    cfg_write(dev.dvsec_device + DVD_CONTROL,
              cfg_read(dev.dvsec_device + DVD_CONTROL, 2) | DVD_CONTROL_MEM,
              2);
    run_check("commit-refused", check_refused);
    if (!commit_at(own_choice(), dev.size, &ctrl)) {
        return fail(name, "commit at 0x%" PRIx64 ": ctrl=0x%08x",
                    own_choice(), ctrl);
    }
    ok(name, "gpa=0x%" PRIx64, own_choice());
    return !opt_bridge || commit_bridge("commit-bridge", own_choice());
}

/* ------------------------------------------------------------------ */
/* The memory */

static bool map_window(const char *name)
{
    if (dev.window) {
        munmap(dev.window, dev.size);
    }
    if (opt_driver) {
        dev.window = map_file(opt_driver, dev.gpa, dev.size);
        dev.cached = true;
    } else {
        dev.window = map_file("/dev/mem", dev.gpa, dev.size);
        /* /dev/mem maps what is not RAM as registers on arm64 */
#ifdef __x86_64__
        dev.cached = true;
#endif
    }
    if (!dev.window) {
        return fail(name, "mmap of 0x%" PRIx64 " through %s: %s", dev.gpa,
                    opt_driver ? opt_driver : "/dev/mem", strerror(errno));
    }
    ok(name, "by=%s", opt_driver ? opt_driver : "/dev/mem");
    return true;
}

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static uint64_t peek(uint64_t dpa)
{
    barrier();
    set64(dev.regs + VFIO_SIM_REG_PEEK_ADDR, dpa);
    return get64(dev.regs + VFIO_SIM_REG_PEEK_DATA);
}

static void poke(uint64_t dpa, uint64_t val)
{
    barrier();
    set64(dev.regs + VFIO_SIM_REG_PEEK_ADDR, dpa);
    set64(dev.regs + VFIO_SIM_REG_PEEK_DATA, val);
    barrier();
}

/* What the host put there before the guest started */
static void check_token(const char *name)
{
    char text[65];
    int i;

    if (!opt_token) {
        skip(name, "%s", "no token given");
        return;
    }
    for (i = 0; i < 32; i++) {
        snprintf(text + 2 * i, 3, "%02x", dev.window[4096 + i]);
    }
    if (strcmp(text, opt_token)) {
        fail(name, "0x1000 holds %s, the host wrote %s", text, opt_token);
        return;
    }
    ok(name, "%s", "the host's bytes are in the window");
}

static void check_peek(const char *name)
{
    uint64_t step = dev.size / 64;
    uint64_t i, dpa;

    for (i = 0; i <= 64; i++) {
        dpa = i == 64 ? dev.size - 8 : i * step + 8 * (i & 15);
        poke(dpa, mix(dpa));
        if (get64(dev.window + dpa) != mix(dpa)) {
            fail(name, "the device put 0x%" PRIx64 " at 0x%" PRIx64
                 ", the window reads 0x%" PRIx64, mix(dpa), dpa,
                 get64(dev.window + dpa));
            return;
        }
        set64(dev.window + dpa, ~mix(dpa));
        if (peek(dpa) != ~mix(dpa)) {
            fail(name, "the window put 0x%" PRIx64 " at 0x%" PRIx64
                 ", the device reads 0x%" PRIx64, ~mix(dpa), dpa, peek(dpa));
            return;
        }
    }
    ok(name, "%s", "65 places, both ways");
}

typedef struct {
    uint64_t lo, hi;
} U128;

static inline void store16(uint8_t *p, U128 v)
{
#if defined(__x86_64__)
    asm volatile("movdqu %1, %%xmm0; movdqu %%xmm0, %0"
                 : "=m"(*(uint8_t (*)[16])p) : "m"(v) : "xmm0");
#elif defined(__aarch64__)
    asm volatile("ldr q0, %1; str q0, %0"
                 : "=Q"(*(uint8_t (*)[16])p) : "Q"(v) : "v0");
#endif
}

static inline U128 load16(const uint8_t *p)
{
    U128 v;

#if defined(__x86_64__)
    asm volatile("movdqu %1, %%xmm0; movdqu %%xmm0, %0"
                 : "=m"(v) : "m"(*(const uint8_t (*)[16])p) : "xmm0");
#elif defined(__aarch64__)
    asm volatile("ldr q0, %1; str q0, %0"
                 : "=Q"(v) : "Q"(*(const uint8_t (*)[16])p) : "v0");
#endif
    return v;
}

/* One access of so many bytes, at any address */
typedef uint16_t __attribute__((aligned(1), may_alias)) Any16;
typedef uint32_t __attribute__((aligned(1), may_alias)) Any32;
typedef uint64_t __attribute__((aligned(1), may_alias)) Any64;

static inline void store(uint8_t *p, int bytes, uint64_t v)
{
    switch (bytes) {
    case 1:
        *(volatile uint8_t *)p = v;
        break;
    case 2:
        *(volatile Any16 *)p = v;
        break;
    case 4:
        *(volatile Any32 *)p = v;
        break;
    case 8:
        *(volatile Any64 *)p = v;
        break;
    case 16:
        store16(p, (U128) { v, ~v });
        break;
    }
}

static inline bool load_is(const uint8_t *p, int bytes, uint64_t v)
{
    U128 q;

    switch (bytes) {
    case 1:
        return *(volatile const uint8_t *)p == (uint8_t)v;
    case 2:
        return *(volatile const Any16 *)p == (uint16_t)v;
    case 4:
        return *(volatile const Any32 *)p == (uint32_t)v;
    case 8:
        return *(volatile const Any64 *)p == v;
    default:
        q = load16(p);
        return q.lo == v && q.hi == ~v;
    }
}

/*
 * Places to test densely: both ends, the middle, the powers of two, and the
 * sides of 1 GiB and 256 MiB boundaries. Each is a run of bytes.
 */
#define RUN 8192
#define MAX_PLACES 96

static int places(uint64_t *at)
{
    uint64_t x;
    int n = 0;

    at[n++] = 0;
    at[n++] = dev.size - RUN;
    at[n++] = dev.size / 2 - RUN / 2;
    for (x = 64 * KiB; x < dev.size && n < 32; x *= 2) {
        at[n++] = x - RUN / 2;
    }
    for (x = HDM_GRAIN; x < dev.size && n < 64; x += HDM_GRAIN) {
        at[n++] = x - RUN / 2;
    }
    while (n < MAX_PLACES - 16) {
        at[n] = mix(n) % (dev.size - RUN) & ~4095ull;
        n++;
    }
    return n;
}

static bool pattern(const char *name, int bytes, int shift)
{
    uint64_t at[MAX_PLACES];
    uint64_t salt = (uint64_t)bytes << 56 | (uint64_t)shift << 48;
    uint64_t off;
    int n = places(at), i;

    /* Runs may overlap: what is written depends on the place alone */
    for (i = 0; i < n; i++) {
        uint64_t first = (at[i] + bytes - 1) / bytes * bytes + shift;

        for (off = first; off + bytes <= at[i] + RUN; off += bytes) {
            store(dev.window + off, bytes, mix(off | salt));
        }
    }
    barrier();
    for (i = 0; i < n; i++) {
        uint64_t first = (at[i] + bytes - 1) / bytes * bytes + shift;

        for (off = first; off + bytes <= at[i] + RUN; off += bytes) {
            if (!load_is(dev.window + off, bytes, mix(off | salt))) {
                return fail(name, "%d bytes at 0x%" PRIx64 " are wrong", bytes,
                            off);
            }
        }
        /* What the device itself sees, of the same bytes */
        off = (first + 7) & ~7ull;
        if (peek(off) != get64(dev.window + off)) {
            return fail(name, "at 0x%" PRIx64 " the device reads 0x%" PRIx64
                        ", the window 0x%" PRIx64, off, peek(off),
                        get64(dev.window + off));
        }
    }
    return true;
}

static void check_patterns(const char *name)
{
    int bytes;

    for (bytes = 1; bytes <= 16; bytes *= 2) {
        if (!pattern(name, bytes, 0)) {
            return;
        }
    }
    ok(name, "%s", "widths=1,2,4,8,16");
}

static void check_unaligned(const char *name)
{
    static const int shifts[] = { 1, 3, 5, 7 };
    int bytes, i;

    if (!dev.cached) {
        skip(name, "%s", "/dev/mem maps it as registers on this machine; done "
             "with the driver");
        return;
    }
    for (bytes = 2; bytes <= 16; bytes *= 2) {
        for (i = 0; i < 4; i++) {
            if (shifts[i] < bytes && !pattern(name, bytes, shifts[i])) {
                return;
            }
        }
    }
    ok(name, "%s", "widths=2,4,8,16");
}

/* Each page of the device, so that two addresses for one byte are found */
static void check_whole(const char *name)
{
    uint64_t step = dev.size > 4 * GiB ? dev.size / (1 * MiB) : 4096;
    uint64_t dpa, n = 0;

    step &= ~7ull;
    for (dpa = 0; dpa + 8 <= dev.size; dpa += step) {
        set64(dev.window + dpa, mix(dpa ^ 0x77));
    }
    barrier();
    for (dpa = 0; dpa + 8 <= dev.size; dpa += step, n++) {
        if (get64(dev.window + dpa) != mix(dpa ^ 0x77)) {
            fail(name, "0x%" PRIx64 " reads 0x%" PRIx64, dpa,
                 get64(dev.window + dpa));
            return;
        }
    }
    ok(name, "places=%" PRIu64 " step=%" PRIu64, n, step);
}

static double rate_write(uint8_t *p, uint64_t size)
{
    double start = now();
    uint64_t i;

    for (i = 0; i < size; i += 8) {
        *(volatile uint64_t *)(p + i) = i;
    }
    barrier();
    return size / (now() - start) / 1e6;
}

static double rate_read(const uint8_t *p, uint64_t size)
{
    double start = now();
    uint64_t i, sum = 0;

    for (i = 0; i < size; i += 8) {
        sum += *(volatile const uint64_t *)(p + i);
    }
    asm volatile("" : : "r"(sum));
    return size / (now() - start) / 1e6;
}

static void check_rates(const char *name)
{
    uint64_t size = dev.size < 64 * MiB ? dev.size : 64 * MiB;
    uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    double dev_w, dev_r, ram_w, ram_r;

    if (p == MAP_FAILED) {
        fail(name, "no memory: %s", strerror(errno));
        return;
    }
    rate_read(dev.window, size);
    dev_w = rate_write(dev.window, size);
    dev_r = rate_read(dev.window, size);
    ram_w = rate_write(p, size);
    ram_r = rate_read(p, size);
    munmap(p, size);
    info("rate device-write=%.0f device-read=%.0f ram-write=%.0f ram-read=%.0f"
         " unit=MB/s", dev_w, dev_r, ram_w, ram_r);
    /*
     * Trapped accesses are some hundred times slower than RAM. Memory mapped
     * as registers costs TCG on arm64 a check of each access.
     */
    if (dev.cached && (dev_w * 10 < ram_w || dev_r * 10 < ram_r)) {
        fail(name, "device memory is more than 10 times slower than RAM "
             "(write %.0f to %.0f, read %.0f to %.0f MB/s)", dev_w, ram_w,
             dev_r, ram_r);
        return;
    }
    ok(name, "write=%.0fMB/s read=%.0fMB/s", dev_w, dev_r);
}

/* ------------------------------------------------------------------ */
/* Decommit and recommit elsewhere; leaves the decoder committed */

static uint8_t *volatile place;

static void read_place(void *opaque)
{
    *(uint64_t *)opaque = get64(place);
}

static void write_place(void *opaque)
{
    set64(place, 0);
}

static void check_recommit(const char *name)
{
    uint64_t dpa = 0x3000, mark = mix(0x5ec0);
    bool read_fault, write_fault;
    uint64_t old = dev.gpa, val;
    uint32_t ctrl;

    if (opt_bridge || windows[0].size < dev.size + 2 * HDM_GRAIN) {
        skip(name, "%s", opt_bridge ? "the bridge's decoder stays" :
             "the window has no second place");
        return;
    }
    place = dev.window + dpa;
    set64(place, mark);
    barrier();
    if (!decommit()) {
        fail(name, "COMMITTED stays set, ctrl=0x%08x",
             get32(dev.hdm + HDM_CTRL));
        return;
    }
    if (dvsec_range(DVD_RANGE1_BASE_HI, NULL)) {
        fail(name, "DVSEC range 1 base is 0x%" PRIx64 " after decommit",
             dvsec_range(DVD_RANGE1_BASE_HI, NULL));
        return;
    }
    val = 0;
    read_fault = access_faults(read_place, &val);
    if (!read_fault && val == mark) {
        fail(name, "%s", "memory is still there after decommit");
        return;
    }
    write_fault = access_faults(write_place, NULL);
    if (peek(dpa) != mark) {
        fail(name, "%s", "a write after decommit reached the device");
        return;
    }
    if (!commit_at(old + HDM_GRAIN, dev.size, &ctrl)) {
        fail(name, "commit at 0x%" PRIx64 ": ctrl=0x%08x", old + HDM_GRAIN,
             ctrl);
        return;
    }
    dev.gpa = old + HDM_GRAIN;
    if (!map_window("map-again")) {
        return;
    }
    if (get64(dev.window + dpa) != mark) {
        fail(name, "0x%" PRIx64 " reads 0x%" PRIx64 " at its new place", dpa,
             get64(dev.window + dpa));
        return;
    }
    ok(name, "gpa=0x%" PRIx64 " uncommitted-read=%s uncommitted-write=%s",
       dev.gpa, read_fault ? "fault" : val == ~0ull ? "ones" : val ? "other" :
       "zero", write_fault ? "fault" : "ignored");
}

/* ------------------------------------------------------------------ */
/* DMA */

static bool make_buffer(const char *name)
{
    uint64_t entry;
    int fd;

    if (ram.va) {
        return true;
    }
    write_text("/proc/sys/vm/nr_hugepages", "2");
    ram.size = 2 * MiB;
    ram.va = mmap(NULL, ram.size, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE,
                  -1, 0);
    if (ram.va == MAP_FAILED) {
        ram.size = 4096;
        ram.va = mmap(NULL, ram.size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    }
    if (ram.va == MAP_FAILED || mlock(ram.va, ram.size)) {
        return fail(name, "no locked memory: %s", strerror(errno));
    }
    memset(ram.va, 0x11, ram.size);
    fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || pread(fd, &entry, 8, (uintptr_t)ram.va /
                        sysconf(_SC_PAGESIZE) * 8) != 8) {
        return fail(name, "pagemap: %s", strerror(errno));
    }
    close(fd);
    ram.pa = (entry & ((1ull << 55) - 1)) * sysconf(_SC_PAGESIZE);
    if (!ram.pa) {
        return fail(name, "%s", "pagemap hides the address");
    }
    info("buffer pa=0x%" PRIx64 " size=0x%" PRIx64, ram.pa, ram.size);
    return true;
}

static uint32_t dma(uint64_t src, uint64_t dst, uint32_t len, uint32_t flags)
{
    double end = now() + 5;
    uint32_t status;

    barrier();
    set64(dev.regs + VFIO_SIM_REG_DMA_SRC, src);
    set64(dev.regs + VFIO_SIM_REG_DMA_DST, dst);
    set32(dev.regs + VFIO_SIM_REG_DMA_LEN, len);
    set32(dev.regs + VFIO_SIM_REG_DMA_CTRL, VFIO_SIM_DMA_START | flags);
    do {
        status = get32(dev.regs + VFIO_SIM_REG_DMA_STATUS);
    } while (status == VFIO_SIM_DMA_IDLE && now() < end);
    barrier();
    return status;
}

static void fill_ram(uint64_t salt)
{
    uint64_t i;

    for (i = 0; i < ram.size; i += 8) {
        *(volatile uint64_t *)(ram.va + i) = mix(i ^ salt);
    }
}

/* SRC and DST flags say whether device memory is named by DPA or by GPA */
static bool dma_round(const char *name, bool local, uint64_t dpa)
{
    uint64_t place = local ? dpa : dev.gpa + dpa;
    uint32_t len = ram.size / 2;
    uint64_t salt = dpa ^ (local ? 0x10ca1 : 0x6bab), i;
    uint32_t status;

    fill_ram(salt);
    for (i = 0; i < len; i += 4096) {
        set64(dev.window + dpa + i, 0);
    }
    status = dma(ram.pa, place, len, local ? VFIO_SIM_DMA_DST_LOCAL : 0);
    if (status != VFIO_SIM_DMA_DONE) {
        return fail(name, "RAM to device at 0x%" PRIx64 ": status %u, fault "
                    "at 0x%" PRIx64, place, status,
                    get64(dev.regs + VFIO_SIM_REG_DMA_FAULT_ADDR));
    }
    for (i = 0; i < len; i += 8) {
        if (get64(dev.window + dpa + i) != mix(i ^ salt)) {
            return fail(name, "RAM to device: window at 0x%" PRIx64
                        " reads 0x%" PRIx64, dpa + i,
                        get64(dev.window + dpa + i));
        }
    }
    /* Back, to the buffer's other half, with new data from the CPU */
    for (i = 0; i < len; i += 8) {
        set64(dev.window + dpa + i, mix(i ^ ~salt));
    }
    status = dma(place, ram.pa + len, len, local ? VFIO_SIM_DMA_SRC_LOCAL : 0);
    if (status != VFIO_SIM_DMA_DONE) {
        return fail(name, "device to RAM from 0x%" PRIx64 ": status %u, fault "
                    "at 0x%" PRIx64, place, status,
                    get64(dev.regs + VFIO_SIM_REG_DMA_FAULT_ADDR));
    }
    for (i = 0; i < len; i += 8) {
        if (*(volatile uint64_t *)(ram.va + len + i) != mix(i ^ ~salt)) {
            return fail(name, "device to RAM: wrong at offset 0x%" PRIx64, i);
        }
    }
    return true;
}

static void check_dma_local(const char *name)
{
    double start;
    int i;

    if (!dma_round(name, true, 0x10000) ||
        !dma_round(name, true, dev.size - ram.size / 2)) {
        return;
    }
    start = now();
    for (i = 0; i < 16; i++) {
        dma(ram.pa, 0x10000, ram.size, VFIO_SIM_DMA_DST_LOCAL);
    }
    info("rate dma=%.0f unit=MB/s", 16 * ram.size / (now() - start) / 1e6);
    ok(name, "%s", "RAM to device and back, by device address");
}

static void check_dma_window(const char *name)
{
    if (!opt_peer) {
        uint32_t status = dma(ram.pa, dev.gpa, 4096, 0);

        skip(name, "device memory is not mapped for DMA with this backend "
             "(status %u)", status);
        return;
    }
    if (dma_round(name, false, 0x20000) &&
        dma_round(name, false, dev.size - ram.size / 2)) {
        ok(name, "%s", "RAM to window and back, by guest physical address");
    }
}

static void check_dma_fault(const char *name)
{
    /* Above each window there is nothing */
    uint64_t nowhere = windows[n_windows - 1].base +
                       windows[n_windows - 1].size + 64 * GiB;
    uint32_t status = dma(nowhere, 0x30000, 4096, VFIO_SIM_DMA_DST_LOCAL);
    uint32_t command;

    if (status != VFIO_SIM_DMA_FAULT ||
        get64(dev.regs + VFIO_SIM_REG_DMA_FAULT_ADDR) != nowhere) {
        fail(name, "DMA from 0x%" PRIx64 ": status %u, fault at 0x%" PRIx64,
             nowhere, status,
             get64(dev.regs + VFIO_SIM_REG_DMA_FAULT_ADDR));
        return;
    }
    command = cfg_read(CFG_COMMAND, 2);
    cfg_write(CFG_COMMAND, command & ~CFG_COMMAND_MASTER, 2);
    status = dma(ram.pa, 0x30000, 4096, VFIO_SIM_DMA_DST_LOCAL);
    cfg_write(CFG_COMMAND, command, 2);
    if (status != VFIO_SIM_DMA_MASTER_OFF) {
        fail(name, "DMA without Bus Master Enable: status %u", status);
        return;
    }
    ok(name, "%s", "unmapped address, bus master off");
}

/* ------------------------------------------------------------------ */
/* Interrupts */

static bool wait_readable(int fd, int ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    return poll(&p, 1, ms) == 1 && (p.revents & POLLIN);
}

/* MSI-X, counted by our driver: what it reads is a count for each vector */
static void check_msix(const char *name)
{
    uint32_t before[VFIO_SIM_MSIX_VECTORS], after[VFIO_SIM_MSIX_VECTORS];
    double worst = 0;
    int fd, n, i;

    fd = open(opt_driver, O_RDWR | O_CLOEXEC);
    if (fd < 0 || pread(fd, before, sizeof(before), 0) != sizeof(before)) {
        fail(name, "%s: %s", opt_driver, strerror(errno));
        return;
    }
    for (n = 0; n < VFIO_SIM_MSIX_VECTORS; n++) {
        double start = now();

        set32(dev.regs + VFIO_SIM_REG_DOORBELL, n);
        if (!wait_readable(fd, 3000)) {
            fail(name, "vector %d did not arrive", n);
            goto out;
        }
        if (now() - start > worst) {
            worst = now() - start;
        }
        if (pread(fd, after, sizeof(after), 0) != sizeof(after)) {
            fail(name, "read: %s", strerror(errno));
            goto out;
        }
        for (i = 0; i < VFIO_SIM_MSIX_VECTORS; i++) {
            if (after[i] - before[i] != (i == n)) {
                fail(name, "doorbell %d raised vector %d %u times", n, i,
                     after[i] - before[i]);
                goto out;
            }
        }
        memcpy(before, after, sizeof(before));
    }
    if (dma(ram.pa, 0x30000, 4096,
            VFIO_SIM_DMA_DST_LOCAL | VFIO_SIM_DMA_IRQ) != VFIO_SIM_DMA_DONE ||
        !wait_readable(fd, 3000) ||
        pread(fd, after, sizeof(after), 0) != sizeof(after) ||
        after[VFIO_SIM_DMA_VECTOR] - before[VFIO_SIM_DMA_VECTOR] != 1) {
        fail(name, "%s", "no interrupt at the end of a DMA");
        goto out;
    }
    ok(name, "vectors=%d slowest=%.1fms", VFIO_SIM_MSIX_VECTORS, worst * 1e3);
out:
    close(fd);
}

/* INTx, by a stock driver of the kernel's */
static void check_intx(const char *name)
{
    char path[PATH_MAX];
    uint32_t count, command;
    DIR *dir;
    struct dirent *entry;
    char uio[64] = "";
    int fd, round;

    snprintf(path, sizeof(path), "%04x %04x", VFIO_SIM_VENDOR_ID,
             VFIO_SIM_DEVICE_ID);
    if (!write_text("/sys/bus/pci/drivers/uio_pci_generic/new_id", path)) {
        skip(name, "uio_pci_generic is not there: %s", strerror(errno));
        return;
    }
    dir = opendir(in_dir("uio"));
    while (dir && (entry = readdir(dir))) {
        if (!strncmp(entry->d_name, "uio", 3)) {
            snprintf(uio, sizeof(uio), "/dev/%.50s", entry->d_name);
        }
    }
    if (dir) {
        closedir(dir);
    }
    if (!uio[0]) {
        fail(name, "%s", "uio_pci_generic does not take the device");
        goto unbind;
    }
    fd = open(uio, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        fail(name, "%s: %s", uio, strerror(errno));
        goto unbind;
    }
    /* It raises one interrupt, is masked by the driver, and unmasked here */
    for (round = 0; round < 3; round++) {
        command = cfg_read(CFG_COMMAND, 2);
        cfg_write(CFG_COMMAND, (command & ~CFG_COMMAND_INTX_OFF) |
                  CFG_COMMAND_MEMORY | CFG_COMMAND_MASTER, 2);
        set32(dev.regs + VFIO_SIM_REG_DOORBELL, 0);
        if (!wait_readable(fd, 3000) || read(fd, &count, 4) != 4) {
#ifdef __x86_64__
            /* 10.2.2 unmodified, any device: _PRT and pxb_map_irq_fn differ */
            if (round == 0) {
                skip(name, "%s", "q35 raises INTx below an expander bridge on "
                     "another line than its ACPI tables say");
                set32(dev.regs + VFIO_SIM_REG_INTR_STATUS, 1);
                goto close;
            }
#endif
            fail(name, "interrupt %d did not arrive, status 0x%x", round,
                 get32(dev.regs + VFIO_SIM_REG_INTR_STATUS));
            goto close;
        }
        if (!(get32(dev.regs + VFIO_SIM_REG_INTR_STATUS) & 1)) {
            fail(name, "%s", "interrupt without a cause");
            goto close;
        }
        set32(dev.regs + VFIO_SIM_REG_INTR_STATUS, 1);
    }
    ok(name, "interrupts=%d", round);
close:
    close(fd);
unbind:
    write_text("/sys/bus/pci/drivers/uio_pci_generic/unbind", dev.bdf);
    snprintf(path, sizeof(path), "%04x %04x", VFIO_SIM_VENDOR_ID,
             VFIO_SIM_DEVICE_ID);
    write_text("/sys/bus/pci/drivers/uio_pci_generic/remove_id", path);
    /* Unbinding disabled it */
    enable_device("enable-again");
}

/* ------------------------------------------------------------------ */

/* Bytes that the host looks for in the device's backing file */
static void write_signature(const char *name)
{
    uint64_t at[] = { 0, 0x2ff0, dev.size / 2 - 8, dev.size - 64 };
    union {
        char text[64];
        uint64_t words[8];
    } u;
    unsigned i, k;

    for (i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        memset(&u, 0, sizeof(u));
        snprintf(u.text, sizeof(u.text), "guest %.20s wrote this at %016"
                 PRIx64, opt_seed, at[i]);
        for (k = 0; k < 8; k++) {
            set64(dev.window + at[i] + 8 * k, u.words[k]);
        }
    }
    barrier();
    ok(name, "places=%u seed=%s", i, opt_seed);
}

static void usage(void)
{
    puts("cxl-guest [--mode=firmware|guest] [--actions=all|NAME,...]\n"
         "          [--driver=DEVICE] [--lock=0|1] [--token=HEX]\n"
         "          [--seed=TEXT] [--no-peer] [--bridge]\n"
         "mode guest commits decoder 0 itself; with --bridge there is a decoder in\n"
         "the host bridge too, which it then programs.\n"
         "actions: bar hidden lock token peek patterns unaligned whole rates dma\n"
         "         intx msix recommit signature");
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "mode", required_argument, NULL, 'm' },
        { "actions", required_argument, NULL, 'a' },
        { "driver", required_argument, NULL, 'd' },
        { "lock", required_argument, NULL, 'l' },
        { "token", required_argument, NULL, 't' },
        { "seed", required_argument, NULL, 's' },
        { "bridge", no_argument, NULL, 'b' },
        { "no-peer", no_argument, NULL, 'p' },
        { "help", no_argument, NULL, 'h' },
        { }
    };
    struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
    bool guest_mode, committed;
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'm':
            opt_mode = optarg;
            break;
        case 'a':
            opt_actions = optarg;
            break;
        case 'd':
            opt_driver = optarg;
            break;
        case 'l':
            opt_lock = atoi(optarg);
            break;
        case 't':
            opt_token = optarg;
            break;
        case 's':
            opt_seed = optarg;
            break;
        case 'b':
            opt_bridge = true;
            break;
        case 'p':
            opt_peer = false;
            break;
        default:
            usage();
            return c == 'h' ? 0 : 2;
        }
    }
    guest_mode = !strcmp(opt_mode, "guest");
    sigaction(SIGBUS, &sa, NULL);
    sigaction(SIGSEGV, &sa, NULL);

    if (!find_device("device") || !enable_device("enable") ||
        !map_bars("registers") || !find_dvsecs("dvsec") ||
        !walk_component("component") || !read_windows("cfmws")) {
        finish();
    }
    if (wanted("bar")) {
        run_check("bar-rest", check_bar_rest);
    }
    committed = show_decoder();
    /* A later run of this program finds what the first one committed */
    if (guest_mode && !(committed && opt_driver) &&
        !commit_ourselves("commit")) {
        finish();
    }
    if (!check_committed("decoder")) {
        finish();
    }
    if (wanted("hidden")) {
        run_check("hpa-hidden", check_hidden);
    }
    if (wanted("lock") && !guest_mode) {
        run_check("lock", check_lock);
    }
    if (!map_window("map")) {
        finish();
    }
    if (wanted("token")) {
        run_check("host-bytes", check_token);
    }
    if (wanted("peek")) {
        run_check("window-peek", check_peek);
    }
    if (wanted("patterns")) {
        run_check("window-data", check_patterns);
    }
    if (wanted("unaligned")) {
        run_check("window-unaligned", check_unaligned);
    }
    if (wanted("whole")) {
        run_check("window-whole", check_whole);
    }
    if (wanted("rates")) {
        run_check("rates", check_rates);
    }
    if (wanted("dma") && make_buffer("buffer")) {
        run_check("dma-local", check_dma_local);
        run_check("dma-window", check_dma_window);
        run_check("dma-fault", check_dma_fault);
    }
    if (wanted("intx") && !opt_driver) {
        run_check("intx", check_intx);
    }
    if (wanted("msix") && opt_driver && make_buffer("buffer")) {
        run_check("msix", check_msix);
    }
    if (wanted("recommit") && guest_mode && !opt_driver) {
        run_check("recommit", check_recommit);
    }
    if (wanted("signature")) {
        run_check("signature", write_signature);
    }
    show_decoder();
    finish();
}
