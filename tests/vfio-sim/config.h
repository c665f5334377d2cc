/*
 * vfio-sim: the configuration in a state directory
 *
 * The launcher writes it, the preloaded library reads it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_SIM_CONFIG_H
#define VFIO_SIM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define SIM_PATH_MAX        1024
#define SIM_MAX_DEVICES     16
#define SIM_MAX_SPECS       128
#define SIM_MEM_UNIT        (256ull << 20)
#define SIM_MEM_MAX         (4ull << 40)
#define SIM_FIRST_BUS       0xc1
#define SIM_FIRST_GROUP     1
#define SIM_CDEV_MAJOR      511     /* as the kernel's dynamic majors */
#define SIM_GROUP_MAJOR     510
#define SIM_MISC_MAJOR      10
/* Where the SMMUs are in sysfs; their number follows */
#define SIM_SMMU_SYSFS      "/sys/devices/platform/vfio-sim-smmu-v3."

/* The host's SMMUv3s; none: an IOMMU without nested translation */
typedef struct SimSmmuConfig {
    unsigned count;                 /* devices are spread over them, 0: none */
    bool ats;
    unsigned pasid_bits;
    unsigned oas;                   /* bits of an output address */
} SimSmmuConfig;

typedef struct SimConfig {
    char dir[SIM_PATH_MAX];
    char id[24];                    /* tells state directories apart */
    char kernel[32];
    char iova[8];                   /* "x86" or "arm": the host's IOVA holes */
    SimSmmuConfig smmu;
    unsigned devices;
    uint64_t memory;
    unsigned decoders;
    char decoder[16];               /* how the firmware has left the first */
    bool inactive;                  /* memory does not become active */
    char topology;
    bool raise_memlock;             /* RLIMIT_MEMLOCK, as with privileges */
    char memory_file[SIM_MAX_DEVICES][SIM_PATH_MAX];
    char *faults[SIM_MAX_SPECS];
    unsigned num_faults;
    char *knobs[SIM_MAX_SPECS];
    unsigned num_knobs;
} SimConfig;

typedef struct SimFault {
    char op[32];
    int32_t err;
    int32_t count;      /* < 0: always */
    int32_t skip;       /* calls that pass before it */
} SimFault;

typedef enum SimKnob {
    SIM_KNOB_HARDWARE_COMMITTED,    /* at the next open or reset */
    SIM_KNOB_VIABLE,                /* no other driver in the group */
    SIM_KNOB_RESET_ENABLES,         /* v2-reset: and leaves memory enabled */
    SIM_KNOB_KEEPS_BASE,            /* v2-reset: of the decoder, in a reset */
    SIM_KNOB_EXPORTER,              /* v2: the base kernel has dma-bufs */
    SIM_KNOB_RESET_BUSY,            /* v5, v6: resets that give EAGAIN */
    SIM_KNOB_RESET_DELAY,           /* milliseconds that each takes */
    SIM_KNOB_NO_FLR,                /* at the next open: no FLR, but by PM */
    SIM_KNOB_NO_WBI,                /* no cache write-back, likewise */
    SIM_KNOB_RESET_CLEARS,          /* v5, v6: and its CXL reset the memory */
    SIM_KNOB_FAULT_NS,              /* duration of one page fault */
    SIM_KNOB_SBR_UNMASKED,          /* v5, v6: hot reset reaches the device */
    SIM_KNOB_ACTIVE_DELAY,          /* v6: ms until memory is active again */
    SIM_KNOB_DVSEC_SNAPSHOT,        /* v6: the DVSEC does not show that */
    SIM_KNOB_NO_BAR_AREAS,          /* v6: no part of BAR 0 can be mapped */
    SIM_KNOB_GUARD_MAP,             /* none: writes to the DVSEC are filtered */
    SIM_KNOB_PFNMAP,                /* iommufd maps device memory by address */
    SIM_KNOB_LOSE_INVALIDATIONS,    /* the next are not done, behind its SMMU */
    SIM_KNOB_LOSE_EVENTS,           /* and nobody hears of these */
    SIM_KNOB_GEOMETRY_ID,
    SIM_KNOB_GEOMETRY_FORM,         /* 64 or 32: bits of the offset */
    SIM_KNOB_MANGLE,                /* number of a malformation */
    SIM_KNOB__MAX
} SimKnob;

void sim_config_host(unsigned index, char *host, size_t size);
/* Neighbours are behind the same SMMU, if there are less than devices */
unsigned sim_config_smmu(const SimConfig *cfg, unsigned index);
/* Returns 0 or a negative errno */
int sim_config_load(SimConfig *cfg, const char *dir);
int sim_config_save(const SimConfig *cfg);
/*
 * How the kernel treats the devices: its generation, "none" if it treats them
 * as ordinary PCI devices, or NULL if the driver refuses them.
 */
const char *sim_config_bound(const SimConfig *cfg);

/* Parses a complete decimal or, with 0x, hexadecimal number */
bool sim_parse_number(const char *text, uint64_t max, uint64_t *value);

/* These return NULL or an error message */
const char *sim_fault_parse(const char *spec, SimFault *fault);
const char *sim_knob_parse(const char *spec, SimKnob *knob, uint32_t *value);
/* Checks whether a fault of this name applies to the operation */
bool sim_op_is(const char *op, const char *name);

#endif /* VFIO_SIM_CONFIG_H */
