/*
 * Shared by the parts of the guest program
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CXL_GUEST_H
#define CXL_GUEST_H

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
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
#define CFG_CAPS                0x34
#define CAP_PM                  0x01
#define PM_CONTROL              4
#define PM_STATE                0x0003
#define PM_D3HOT                0x0003
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
    unsigned index;                 /* which of vfio-sim's devices */
    volatile uint8_t *hdm;          /* in BAR 0 */
    uint64_t gpa, size;             /* where device memory is, once known */
    uint8_t *window;                /* mapping of [gpa, gpa + size) */
    bool cached;                    /* mapped as memory, not as registers */
} Device;

typedef struct {
    uint8_t *va;
    uint64_t pa, size;
} Buffer;

typedef struct {
    const char *mode;
    const char *device;             /* address; NULL for the only one */
    const char *driver;
    const char *actions;
    const char *prefix;             /* of the checks' names */
    const char *token;              /* for each device, with : between */
    const char *seed;
    int lock;
    int rounds;                     /* of "resets" */
    uint64_t peer_memory;           /* address of another's; 0 for none */
    bool bridge;
    bool peer;
    bool clears;                    /* the kernel clears memory at reset */
    bool space_gate;                /* and takes it with Memory Space */
} Options;

extern Device dev;
extern Buffer ram;                  /* contiguous guest RAM */
extern Window windows[MAX_WINDOWS];
extern int n_windows;
extern uint64_t bridge_block;       /* the host bridge's component registers */
extern Options opt;

static inline uint32_t get32(volatile uint8_t *p)
{
    return *(volatile uint32_t *)p;
}

static inline void set32(volatile uint8_t *p, uint32_t val)
{
    *(volatile uint32_t *)p = val;
}

static inline uint64_t get64(volatile uint8_t *p)
{
    return *(volatile uint64_t *)p;
}

static inline void set64(volatile uint8_t *p, uint64_t val)
{
    *(volatile uint64_t *)p = val;
}

/* Make plain accesses to mapped memory visible before a register access */
static inline void barrier(void)
{
    __sync_synchronize();
}

static inline uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

/* report.c */
__attribute__((format(printf, 2, 3)))
void ok(const char *name, const char *fmt, ...);
__attribute__((format(printf, 2, 3)))
bool fail(const char *name, const char *fmt, ...);
__attribute__((format(printf, 2, 3)))
void skip(const char *name, const char *fmt, ...);
__attribute__((format(printf, 1, 2)))
void info(const char *fmt, ...);
_Noreturn void finish(void);
bool wanted(const char *action);
void on_fault(int sig, siginfo_t *si, void *ctx);
bool access_faults(void (*access)(void *), void *opaque);
void run_check(const char *name, void (*check)(const char *name));

/* util.c */
double now(void);
bool read_text(const char *path, char *buf, size_t size);
bool write_text(const char *path, const char *text);
const char *in_dir(const char *name);
uint64_t hex_file(const char *path);
uint32_t cfg_read(int offset, int bytes);
void cfg_write(int offset, uint32_t val, int bytes);
int find_capability(uint32_t id);
void *map_file(const char *path, uint64_t offset, uint64_t size);

/* device.c */
bool find_device(const char *name);
bool enable_device(const char *name);
bool map_bars(const char *name);
bool find_dvsecs(const char *name);
bool walk_component(const char *name);
void check_bar_rest(const char *name);

/* windows.c */
bool read_windows(const char *name);
bool in_window(uint64_t base, uint64_t size);

/* decoder.c */
uint64_t dvsec_range(int hi, uint32_t *flags);
bool show_decoder(void);
bool decoder_shows(uint64_t base);
bool check_committed(const char *name);
void check_hidden(const char *name);
void check_lock(const char *name);
bool commit_at(uint64_t base, uint64_t size, uint32_t *ctrl);
bool decommit(void);
void enable_decoding(void);
bool commit_ourselves(const char *name);

/* memory.c */
bool map_window(const char *name);
uint64_t peek(uint64_t dpa);
void check_token(const char *name);
void check_peek(const char *name);
void check_patterns(const char *name);
void check_unaligned(const char *name);
void check_whole(const char *name);
void check_rates(const char *name);
void write_signature(const char *name);

/* recommit.c */
void check_recommit(const char *name);

/* resets.c */
void check_resets(const char *name);

/* dma.c */
bool make_buffer(const char *name);
uint32_t dma(uint64_t src, uint64_t dst, uint32_t len, uint32_t flags);
void check_dma_local(const char *name);
void check_dma_window(const char *name);
void check_dma_fault(const char *name);

/* iommu.c */
void check_wild(const char *name);
void check_iommu(const char *name);

/* interrupts.c */
void check_msix(const char *name);
void check_intx(const char *name);

#endif /* CXL_GUEST_H */
