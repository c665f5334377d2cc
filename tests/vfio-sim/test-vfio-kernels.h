/*
 * Conformance test of the kernel generations: shared declarations
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_SIM_TEST_VFIO_KERNELS_H
#define VFIO_SIM_TEST_VFIO_KERNELS_H

#include <stddef.h>
#include <sys/types.h>

#include "test-util.h"
#include "uapi.h"

#define BLOCK_SIZE      0x10000
#define CM              0x1000
#define MIB256          (256ull << 20)

/* Registers of the HDM decoder block */
enum {
    CAPABILITY = 0x00, GLOBAL = 0x04, BASE_LO = 0x10, BASE_HI = 0x14,
    SIZE_LO = 0x18, SIZE_HI = 0x1c, CTRL = 0x20, TARGET_LO = 0x24,
    TARGET_HI = 0x28, RESERVED = 0x2c,
};
#define LOCK            (1u << 8)
#define COMMIT          (1u << 9)
#define COMMITTED       (1u << 10)
#define ERROR           (1u << 11)

/* Registers of the CXL Device DVSEC */
enum {
    CONTROL = 0x0c, STATUS = 0x0e, CONTROL2 = 0x10, STATUS2 = 0x12,
    CONFIG_LOCK = 0x14, CAPABILITY2 = 0x16, SIZE1_HI = 0x18, SIZE1_LO = 0x1c,
    BASE1_HI = 0x20, BASE1_LO = 0x24, CAPABILITY3 = 0x38,
};

/* Generations, as a set */
enum {
    V2 = 1, V2R = 2, V2N = 4, V3 = 8, V4 = 16, V5 = 32, V6 = 64, NONE = 128,
    V2S = V2 | V2R | V2N, V2RS = V2R | V2N, V56 = V5 | V6,
    GEOMETRY = V4 | V56, CXL = V2S | V3 | GEOMETRY,
};
/* Those that let the memory be mapped */
#define MAPS            (CXL & ~V2N)

typedef struct Kernel {
    const char *name;
    unsigned bit;
    unsigned cap;           /* bytes of the device capability */
    unsigned mem;           /* region index on a device without others */
    unsigned regs;
    uint32_t type;
} Kernel;

typedef struct Device {
    int container;          /* or iommufd */
    int group;
    int fd;
    uint32_t ioas;
    unsigned mem;
    unsigned regs;
    unsigned bar;
    uint64_t block;
    unsigned hdm;           /* offset of the HDM block in the CM area */
    unsigned dvsec;
    uint64_t mem_size;
    uint64_t regs_size;
    uint64_t bar_size;
} Device;

typedef struct Case {
    const char *name;
    void (*fn)(void);
    unsigned kernels;
    bool control;           /* needs vfio-sim's help */
    const char *options;    /* of vfio-sim */
    const char *env;
} Case;

/* Cases of each part; the last has no name */
extern const Case discovery_cases[], hdm_cases[], reset_cases[], dvsec_cases[],
                  memory_cases[], active_cases[], mangle_cases[];

extern const Kernel *kernel;    /* the one below the running case */
extern const char *host;
extern bool real;              /* not vfio-sim's */

/* The running case makes no sense here */
void G_GNUC_NORETURN skip_case(void);

/* Checks whether the kernel is one of these */
bool is(unsigned bits);

/* Opening it, by group and container or by iommufd */
void open_legacy(Device *d);
void open_iommufd(Device *d);
Device *device_open_by(void (*open_fn)(Device *d));
Device *device_open(void);
void device_close(Device *d);

/* Regions; @off counts from a region's start */
uint64_t region(unsigned index, uint64_t offset);
struct vfio_region_info *region_info(Device *d, unsigned index);
void *info_cap(void *info, unsigned offset, unsigned id);
ssize_t get(Device *d, unsigned index, uint64_t off, void *buf, size_t count);
ssize_t put(Device *d, unsigned index, uint64_t off, const void *buf,
            size_t count);
uint32_t get32(Device *d, unsigned index, uint64_t off);
void put32(Device *d, unsigned index, uint64_t off, uint32_t value);
void *map(Device *d, unsigned index, uint64_t off, size_t size);
void *map_memory(Device *d);

/* Configuration space */
uint16_t cfg16(Device *d, unsigned off);
uint32_t cfg32(Device *d, unsigned off);
void set_cfg(Device *d, unsigned off, uint32_t value, unsigned size);
unsigned find_dvsec(Device *d, unsigned id);
unsigned find_cap(Device *d, unsigned id);
void memory_space(Device *d, bool on);
void power(Device *d, unsigned state);

/* The decoder, as the registers' region shows it */
unsigned reg_off(Device *d, unsigned hdm_off);
uint32_t hdm(Device *d, unsigned off);
void set_hdm(Device *d, unsigned off, uint32_t value);
/* Address of the memory according to the DVSEC */
uint64_t host_address(Device *d);

void reset(Device *d);

#endif /* VFIO_SIM_TEST_VFIO_KERNELS_H */
