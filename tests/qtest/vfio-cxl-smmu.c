/*
 * The driver of an SMMUv3, for tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "vfio-cxl-smmu.h"

/* virt's platform bus, on which SMMUs take 128 KiB each */
#define PLATFORM_BUS        0x0c000000ull
#define SMMU_SIZE           0x20000
#define RAM_BASE            0x48000000ull

/* Registers, Arm IHI 0070 Section 6.3 */
#define CR0                 0x20
#define CR0_SMMUEN          0x1
#define CR0_EVENTQEN        0x4
#define CR0_CMDQEN          0x8
#define GBPA                0x44
#define GBPA_ABORT          (1u << 20)
#define GBPA_UPDATE         (1u << 31)
#define GERROR              0x60
#define GERRORN             0x64
#define STRTAB_BASE         0x80
#define STRTAB_BASE_CFG     0x88
#define CMDQ_BASE           0x90
#define CMDQ_PROD           0x98
#define CMDQ_CONS           0x9c
#define EVENTQ_BASE         0xa0
#define EVENTQ_PROD         0x100a8
#define EVENTQ_CONS         0x100ac

/* In the SMMU's RAM */
#define LOG2_ENTRIES        7
#define CMDQ_WRAP           ((2u << LOG2_ENTRIES) - 1)
#define CMDQ                0x80000
#define EVENTQ              0x81000
#define CDS                 0x82000
#define LOG2_SUBSTREAMS     3
#define CDS_STREAM          0x200
#define TABLES              0x90000

#define CMD_CFGI_STE        0x03
#define CMD_CFGI_ALL        0x04
#define CMD_CFGI_CD         0x05
#define CMD_TLBI_NH_ALL     0x10
#define CMD_TLBI_NH_ASID    0x11
#define CMD_TLBI_NH_VA      0x12
#define CMD_ATC_INV         0x40
#define CMD_SYNC            0x46
#define SID(sid)            ((uint64_t)(sid) << 32)
#define ASID(asid)          ((uint64_t)(asid) << 48)
#define LEAF                1

#define STE_VALID           1ull
#define STE_S1CDMAX(n)      ((uint64_t)(n) << 59)
#define STE1_S1DSS_SSID0    2ull
#define STE1_EATS_TRANS     (1ull << 28)

#define CD_T0SZ_48          16ull
#define CD_EPD1             (1ull << 30)
#define CD_VALID            (1ull << 31)
#define CD_IPS_48           (5ull << 32)
#define CD_AA64             (1ull << 41)
#define CD_RECORD           (1ull << 45)

#define PTE_VALID           1ull
#define PTE_TABLE           3ull            /* a page, at the last level */
#define PTE_ATTRIBUTES      0xc40ull        /* nG, AF, unprivileged */
#define PTE_ADDRESS         0xfffffffff000ull

SMMU *smmu_new(QTestState *qts, unsigned number)
{
    SMMU *s = g_new0(SMMU, 1);

    s->qts = qts;
    s->regs = PLATFORM_BUS + number * SMMU_SIZE;
    s->ram = RAM_BASE + number * 2 * MiB;
    return s;
}

void smmu_enable(SMMU *s)
{
    qtest_memset(s->qts, s->ram, 0, 2 * MiB);
    s->free = s->ram + TABLES;
    s->prod = s->cons = 0;
    qtest_writel(s->qts, s->regs + CR0, 0);
    qtest_writeq(s->qts, s->regs + STRTAB_BASE, s->ram);
    smmu_set_streams(s, LOG2_STREAMS);
    qtest_writeq(s->qts, s->regs + CMDQ_BASE, (s->ram + CMDQ) | LOG2_ENTRIES);
    qtest_writel(s->qts, s->regs + CMDQ_PROD, 0);
    qtest_writel(s->qts, s->regs + CMDQ_CONS, 0);
    qtest_writeq(s->qts, s->regs + EVENTQ_BASE,
                 (s->ram + EVENTQ) | LOG2_ENTRIES);
    qtest_writel(s->qts, s->regs + EVENTQ_PROD, 0);
    qtest_writel(s->qts, s->regs + EVENTQ_CONS, 0);
    qtest_writel(s->qts, s->regs + CR0, CR0_CMDQEN);
    smmu_cfgi_all(s);
    smmu_tlbi_all(s);
    qtest_writel(s->qts, s->regs + CR0, CR0_CMDQEN | CR0_EVENTQEN);
    smmu_switch(s, true);
}

void smmu_switch(SMMU *s, bool on)
{
    qtest_writel(s->qts, s->regs + CR0, CR0_CMDQEN | CR0_EVENTQEN |
                                        (on ? CR0_SMMUEN : 0));
}

void smmu_set_streams(SMMU *s, unsigned log2)
{
    qtest_writel(s->qts, s->regs + STRTAB_BASE_CFG, log2);
}

void smmu_gbpa_abort(SMMU *s, bool abort)
{
    qtest_writel(s->qts, s->regs + GBPA,
                 GBPA_UPDATE | (abort ? GBPA_ABORT : 0));
}

/* Without its error code, which stays there when the error is over */
static uint32_t cmdq_cons(SMMU *s)
{
    return qtest_readl(s->qts, s->regs + CMDQ_CONS) & CMDQ_WRAP;
}

static bool cmdq_error(SMMU *s)
{
    return (qtest_readl(s->qts, s->regs + GERROR) ^
            qtest_readl(s->qts, s->regs + GERRORN)) & 1;
}

static void write_command(SMMU *s, uint64_t low, uint64_t high)
{
    uint64_t at = s->ram + CMDQ + s->prod % (1u << LOG2_ENTRIES) * 16;

    qtest_writeq(s->qts, at, low);
    qtest_writeq(s->qts, at + 8, high);
}

static void submit(SMMU *s)
{
    s->prod++;
    qtest_writel(s->qts, s->regs + CMDQ_PROD, s->prod & CMDQ_WRAP);
}

void smmu_command(SMMU *s, uint64_t low, uint64_t high)
{
    write_command(s, low, high);
    submit(s);
    g_assert_cmphex(cmdq_cons(s), ==, s->prod & CMDQ_WRAP);
    g_assert_false(cmdq_error(s));
}

static void smmu_sync(SMMU *s)
{
    smmu_command(s, CMD_SYNC, 0);
}

void smmu_cfgi_ste(SMMU *s, uint32_t sid)
{
    smmu_command(s, CMD_CFGI_STE | SID(sid), LEAF);
    smmu_sync(s);
}

void smmu_cfgi_ste_fails(SMMU *s, uint32_t sid)
{
    write_command(s, CMD_CFGI_STE | SID(sid), LEAF);
    submit(s);
    g_assert_true(cmdq_error(s));
    g_assert_cmphex(cmdq_cons(s), ==, (s->prod - 1) & CMDQ_WRAP);
    /* Put a command in its place that cannot fail, as Linux does */
    s->prod--;
    write_command(s, CMD_SYNC, 0);
    qtest_writel(s->qts, s->regs + GERRORN,
                 qtest_readl(s->qts, s->regs + GERROR));
    submit(s);
    g_assert_cmphex(cmdq_cons(s), ==, s->prod & CMDQ_WRAP);
    g_assert_false(cmdq_error(s));
}

void smmu_cfgi_all(SMMU *s)
{
    smmu_command(s, CMD_CFGI_ALL, 31);
    smmu_sync(s);
}

void smmu_cfgi_cd(SMMU *s, uint32_t sid, uint32_t ssid)
{
    smmu_command(s, CMD_CFGI_CD | (uint64_t)ssid << 12 | SID(sid), LEAF);
    smmu_sync(s);
}

void smmu_tlbi_va(SMMU *s, uint16_t asid, uint64_t iova)
{
    smmu_command(s, CMD_TLBI_NH_VA | ASID(asid), iova | LEAF);
    smmu_sync(s);
}

void smmu_tlbi_asid(SMMU *s, uint16_t asid)
{
    smmu_command(s, CMD_TLBI_NH_ASID | ASID(asid), 0);
    smmu_sync(s);
}

void smmu_tlbi_all(SMMU *s)
{
    smmu_command(s, CMD_TLBI_NH_ALL, 0);
    smmu_sync(s);
}

void smmu_atc_inv(SMMU *s, uint32_t sid, uint64_t iova)
{
    smmu_command(s, CMD_ATC_INV | SID(sid), iova);
    smmu_sync(s);
}

/* The device's number on its bus is 0: each bus has one stream here */
static uint64_t cds(SMMU *s, uint32_t sid)
{
    return s->ram + CDS + (sid >> 8) * CDS_STREAM;
}

void smmu_set_ste(SMMU *s, uint32_t sid, unsigned config)
{
    uint64_t at = s->ram + (uint64_t)sid * 64, low = STE_VALID | config << 1;
    uint64_t high = 0;

    g_assert_cmphex(sid, <, 1u << LOG2_STREAMS);
    if (config == STE_S1) {
        low |= cds(s, sid) | STE_S1CDMAX(LOG2_SUBSTREAMS);
        high = STE1_S1DSS_SSID0 | STE1_EATS_TRANS;
    }
    qtest_writeq(s->qts, at + 8, high);
    qtest_writeq(s->qts, at, low);
}

void smmu_set_cd(SMMU *s, uint32_t sid, uint32_t ssid, uint16_t asid,
                 uint64_t tables)
{
    uint64_t at = cds(s, sid) + ssid * 64;

    qtest_writeq(s->qts, at + 8, tables);
    qtest_writeq(s->qts, at, CD_T0SZ_48 | CD_EPD1 | CD_VALID | CD_IPS_48 |
                             CD_AA64 | CD_RECORD | ASID(asid));
}

uint64_t smmu_tables(SMMU *s)
{
    uint64_t table = s->free;

    g_assert_cmphex(table, <, s->ram + 2 * MiB);
    qtest_memset(s->qts, table, 0, 0x1000);
    s->free += 0x1000;
    return table;
}

void smmu_map(SMMU *s, uint64_t tables, uint64_t iova, uint64_t gpa,
              uint64_t size)
{
    unsigned last = size == GiB ? 1 : 3;
    uint64_t pte = gpa ? gpa | PTE_ATTRIBUTES |
                         (last == 3 ? PTE_TABLE : PTE_VALID) : 0;
    uint64_t at = tables;

    for (unsigned level = 0; ; level++) {
        at += (iova >> (39 - 9 * level) & 511) * 8;
        if (level == last) {
            break;
        }
        if (!(qtest_readq(s->qts, at) & PTE_VALID)) {
            qtest_writeq(s->qts, at, smmu_tables(s) | PTE_TABLE);
        }
        at = qtest_readq(s->qts, at) & PTE_ADDRESS;
    }
    qtest_writeq(s->qts, at, pte);
}

bool smmu_event(SMMU *s, uint64_t record[4])
{
    uint64_t at = s->ram + EVENTQ + s->cons % (1u << LOG2_ENTRIES) * 32;

    for (int i = 0; i < 50; i++) {
        if (qtest_readl(s->qts, s->regs + EVENTQ_PROD) != s->cons) {
            for (int word = 0; word < 4; word++) {
                record[word] = qtest_readq(s->qts, at + 8 * word);
            }
            s->cons++;
            qtest_writel(s->qts, s->regs + EVENTQ_CONS, s->cons);
            return true;
        }
        g_usleep(10 * 1000);
    }
    return false;
}
