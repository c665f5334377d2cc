/*
 * vfio-sim: the host's SMMUv3s, as the hardware that they are
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_SIM_SMMUV3_H
#define VFIO_SIM_SMMUV3_H

#include "sim.h"

#define SIM_NO_SSID         UINT32_MAX

/* Commands, events and STE fields by the names of the Arm SMMUv3 manual */
enum {
    SIM_CMD_CFGI_CD = 0x05,
    SIM_CMD_CFGI_CD_ALL = 0x06,
    SIM_CMD_TLBI_NH_ALL = 0x10,
    SIM_CMD_TLBI_NH_ASID = 0x11,
    SIM_CMD_TLBI_NH_VA = 0x12,
    SIM_CMD_TLBI_NH_VAA = 0x13,
    SIM_CMD_TLBI_NSNH_ALL = 0x30,
    SIM_CMD_ATC_INV = 0x40,
};

enum {
    SIM_EVT_C_BAD_STE = 0x04,
    SIM_EVT_F_STREAM_DISABLED = 0x06,
    SIM_EVT_C_BAD_SUBSTREAMID = 0x08,
    SIM_EVT_C_BAD_CD = 0x0a,
    SIM_EVT_F_TRANSLATION = 0x10,
    SIM_EVT_F_ADDR_SIZE = 0x11,
    SIM_EVT_F_ACCESS = 0x12,
    SIM_EVT_F_PERMISSION = 0x13,
};

enum {
    SIM_STE_CFG_ABORT = 0,
    SIM_STE_CFG_BYPASS = 4,
    SIM_STE_CFG_S1_TRANS = 5,
};

#define SIM_STE_V               1ull
#define SIM_STE_CFG(w0)         ((unsigned)((w0) >> 1 & 7))
#define SIM_STE_S1FMT(w0)       ((unsigned)((w0) >> 4 & 3))
#define SIM_STE_S1CTXPTR(w0)    ((w0) & 0xfffffffffffc0ull)
#define SIM_STE_S1CDMAX(w0)     ((unsigned)((w0) >> 59))
#define SIM_STE_S1DSS(w1)       ((unsigned)((w1) & 3))
#define SIM_STE_EATS(w1)        ((unsigned)((w1) >> 28 & 3))
#define SIM_STE_EATS_MASK       (3ull << 28)
#define SIM_STE_EATS_TRANS      1

/* A translation, as a TLB or a device's ATC holds it */
typedef struct SimXlat {
    uint64_t iova;
    uint64_t ipa;
    SimSpace *space;        /* of the IPA, through stage 2 */
    uint32_t tag;           /* ASID; in an ATC the PASID or SIM_NO_SSID */
    uint16_t vmid;
    uint8_t bits;           /* log2 of its size */
    uint8_t granule;        /* the same of a page */
    uint8_t level;
    bool global;            /* for all ASIDs */
    bool read;
    bool write;
    struct SimXlat *next;
} SimXlat;

typedef struct SimXlatCache {
    SimXlat **buckets;
    unsigned num_buckets;
    unsigned count;
    unsigned sizes[64];     /* how many there are of 1 << n bytes */
} SimXlatCache;

/* Which of them an invalidation concerns */
typedef struct SimXlatRange {
    uint64_t first;
    uint64_t last;
    int vmid;               /* < 0: any */
    bool any_tag;
    uint32_t tag;
    bool keep_global;
    uint8_t granule;        /* only if of this granule, 0: any */
    uint8_t level;          /* only if of this level, 0: any */
    const SimSpace *space;  /* NULL: any */
} SimXlatRange;

#define SIM_XLAT_ALL { .last = UINT64_MAX, .vmid = -1, .any_tag = true }

typedef struct SimCd {
    uint32_t ssid;
    uint64_t dword[8];
    struct SimCd *next;
} SimCd;

/* A first-level descriptor of a two-level CD table */
typedef struct SimL1Cd {
    uint32_t index;
    uint64_t l2ptr;
    struct SimL1Cd *next;
} SimL1Cd;

struct SimSmmu {
    unsigned number;
    uint16_t next_vmid;
    SimXlatCache tlb;
    uint64_t commands[0x100];   /* done, by their opcode */
    uint64_t refused;
};

typedef enum SimSteConfig {
    SIM_STE_BLOCKED,        /* attached to nothing */
    SIM_STE_ABORT,
    SIM_STE_S2,             /* the kernel's tables alone: paging, bypass */
    SIM_STE_S1,             /* the guest's, and then the kernel's */
} SimSteConfig;

typedef struct SimSte {
    SimSteConfig config;
    uint64_t word[2];       /* what the guest has said */
    SimSpace *space;
    uint16_t vmid;
    bool ats;
    SimObject *viommu;      /* gets the events, NULL: nobody */
    uint32_t vsid;
} SimSte;

typedef struct SimPasid {
    uint32_t pasid;
    SimObject *hwpt;
    SimSpace *space;
    struct SimPasid *next;
} SimPasid;

/* A device and its place behind an SMMU */
struct SimStream {
    SimSmmu *smmu;
    SimSte ste;
    SimCd *cds;
    SimL1Cd *l1cds;
    SimXlatCache atc;
    SimPasid *pasids;       /* that are attached by themselves */
};

/* smmuv3-tlb.c */
const SimXlat *sim_xlat_find(const SimXlatCache *c, uint16_t vmid,
                             uint32_t tag, uint64_t iova);
void sim_xlat_add(SimXlatCache *c, const SimXlat *x);
void sim_xlat_drop(SimXlatCache *c, const SimXlatRange *r);
const SimCd *sim_cd_find(const SimStream *s, uint32_t ssid);
const SimCd *sim_cd_add(SimStream *s, const SimCd *cd);
const SimL1Cd *sim_l1cd_find(const SimStream *s, uint32_t index);
void sim_l1cd_add(SimStream *s, uint32_t index, uint64_t l2ptr);
unsigned sim_cd_count(const SimStream *s);
/* SIM_NO_SSID: all; with @leaf first-level descriptors stay */
void sim_cd_drop(SimStream *s, uint32_t ssid, bool leaf);
/* A command that has been checked; SID and VMID are the host's */
void sim_smmu_command(SimSmmu *smmu, SimStream *s, uint16_t vmid,
                      const uint64_t *cmd);

/* smmuv3.c */
/* Registers that the kernel shows */
void sim_smmu_registers(struct iommu_hw_info_arm_smmuv3 *info);
/* False: no memory. @neighbour is behind the same SMMU, NULL: nobody */
bool sim_smmu_probe(SimDevice *dev, unsigned number, SimDevice *neighbour);
/* Writes the STE and drops what was cached of the old one */
void sim_smmu_set_ste(SimDevice *dev, const SimSte *ste);

#endif /* VFIO_SIM_SMMUV3_H */
