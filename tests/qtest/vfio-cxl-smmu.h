/*
 * The driver of an SMMUv3, for tests
 *
 * A test plays the guest: stream table, context descriptors and page tables
 * are in guest RAM, and commands go through the SMMU's queue.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_CXL_SMMU_H
#define VFIO_CXL_SMMU_H

#include "libqtest.h"

/* STE.Config, Arm IHI 0070 Section 5.2 */
#define STE_ABORT       0
#define STE_BYPASS      4
#define STE_S1          5
#define STE_S2          6

/* Of the stream table: buses 0 to 31 */
#define LOG2_STREAMS    13

/* Types of event records, Arm IHI 0070 Section 7.3 */
#define EVENT_F_TRANSLATION     0x10

/**
 * struct SMMU - one of the machine's SMMUs
 * @regs: its registers
 * @ram: 2 MiB of guest RAM for its tables and queues
 * @free: what is left of them
 * @prod: commands so far
 * @cons: events so far
 */
typedef struct SMMU {
    QTestState *qts;
    uint64_t regs;
    uint64_t ram;
    uint64_t free;
    uint32_t prod;
    uint32_t cons;
} SMMU;

/**
 * smmu_new() - Find an SMMU; it stays disabled
 * @qts: the machine, arm virt
 * @number: in the order of the options, counted from 0
 */
SMMU *smmu_new(QTestState *qts, unsigned number);

/* Give it its tables and queues, and enable it */
void smmu_enable(SMMU *s);

/* Clear or set CR0.SMMUEN, and nothing else */
void smmu_switch(SMMU *s, bool on);

/* The stream table has 1 << @log2 entries; only while the SMMU is disabled */
void smmu_set_streams(SMMU *s, unsigned log2);

/* GBPA.ABORT */
void smmu_gbpa_abort(SMMU *s, bool abort);

/* Put a command into the queue; asserts that the SMMU has executed it */
void smmu_command(SMMU *s, uint64_t low, uint64_t high);

/* Commands: of the stream @sid, of the address space @asid */
void smmu_cfgi_ste(SMMU *s, uint32_t sid);
void smmu_cfgi_ste_fails(SMMU *s, uint32_t sid);
void smmu_cfgi_all(SMMU *s);
void smmu_cfgi_cd(SMMU *s, uint32_t sid, uint32_t ssid);
void smmu_tlbi_va(SMMU *s, uint16_t asid, uint64_t iova);
void smmu_tlbi_asid(SMMU *s, uint16_t asid);
void smmu_tlbi_all(SMMU *s);
void smmu_atc_inv(SMMU *s, uint32_t sid, uint64_t iova);

/**
 * smmu_set_ste() - Write a stream table entry; the SMMU is not told
 * @s: the SMMU
 * @sid: the stream
 * @config: STE.Config; STE_S1 with 8 substreams and ATS
 */
void smmu_set_ste(SMMU *s, uint32_t sid, unsigned config);

/* Write a context descriptor of the stream; the SMMU is not told */
void smmu_set_cd(SMMU *s, uint32_t sid, uint32_t ssid, uint16_t asid,
                 uint64_t tables);

/* New page tables of 4 KiB granules, empty */
uint64_t smmu_tables(SMMU *s);

/* Map 4 KiB or 1 GiB in page tables, or unmap with @gpa 0; no invalidation */
void smmu_map(SMMU *s, uint64_t tables, uint64_t iova, uint64_t gpa,
              uint64_t size);

/**
 * smmu_event() - Take the next record from the event queue
 * @s: the SMMU
 * @record: set to it
 *
 * Returns: false if there is none within half a second
 */
bool smmu_event(SMMU *s, uint64_t record[4]);

#endif /* VFIO_CXL_SMMU_H */
