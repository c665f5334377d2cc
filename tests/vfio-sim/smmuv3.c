/*
 * vfio-sim: how the host's SMMUv3 translates what a device asks for
 *
 * Stage 1 is the guest's: context descriptors and tables in its memory, found
 * by intermediate physical addresses. Stage 2 is a SimSpace, what the VMM has
 * mapped into the nesting parent.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdlib.h>
#include <string.h>

#include "iommufd.h"
#include "smmuv3.h"

#define CD_SIZE         64
#define CD_ENDI         (1ull << 15)
#define CD_V            (1ull << 31)
#define CD_AFFD         (1ull << 35)
#define CD_AA64         (1ull << 41)
#define CD_HD           (1ull << 42)
#define CD_HA           (1ull << 43)
#define CD_S            (1ull << 44)
#define CD_R            (1ull << 45)
/* In the words of either half */
#define CD_HAD          (1ull << 1)
#define CD_TTB          0xffffffffffff0ull

#define MASK(n)         ((n) >= 64 ? UINT64_MAX : (1ull << (n)) - 1)

enum {
    CLASS_CD = 0,
    CLASS_TTD = 1,
    CLASS_IN = 2,
};

/* The reserved value terminates, too */
enum {
    S1DSS_BYPASS = 1,
    S1DSS_SSID0 = 2,
};

/* S1FMT is linear otherwise, with the reserved value as well */
enum {
    S1FMT_4K_L2 = 1,
    S1FMT_64K_L2 = 2,
};

/* Why a request was not translated */
typedef struct Fault {
    uint8_t type;
    uint8_t class;
    bool has_address;
    bool stage2;            /* the host's business */
    bool silent;            /* terminated, and recorded nowhere */
} Fault;

typedef struct Request {
    SimDevice *dev;
    SimStream *s;
    uint64_t iova;
    bool write;
    bool ssv;
    uint32_t ssid;
} Request;

/* One half of the address space that a CD describes */
typedef struct Regime {
    const SimCd *cd;
    uint64_t va;
    uint64_t ttb;
    unsigned va_bits;
    unsigned granule;
    unsigned ips;
    uint32_t asid;
    bool flat;              /* HAD: tables limit nothing */
} Regime;

static unsigned oas_code(unsigned oas)
{
    static const uint8_t bits[] = { 32, 36, 40, 42, 44, 48, 52 };
    unsigned i;

    for (i = 0; i + 1 < sizeof(bits) && bits[i] < oas; i++) {
        continue;
    }
    return i;
}

static unsigned ips_bits(unsigned code)
{
    static const uint8_t bits[] = { 32, 36, 40, 42, 44, 48, 52, 52 };
    unsigned oas = sim_config()->smmu.oas;

    return bits[code] < oas ? bits[code] : oas;
}

void sim_smmu_registers(struct iommu_hw_info_arm_smmuv3 *info)
{
    const SimSmmuConfig *cfg = &sim_config()->smmu;

    memset(info, 0, sizeof(*info));
    /* S2P, S1P, TTF: AArch64, COHACC, ASID16, VMID16, CD2L */
    info->idr[0] = 1 | 1 << 1 | 2 << 2 | 1 << 4 | 1 << 12 | 1 << 18 | 1 << 19;
    if (cfg->ats) {
        info->idr[0] |= 1 << 10;
    }
    /* TTENDIAN: little, STALL_MODEL: none, TERM_MODEL, ST_LEVEL: 2 */
    info->idr[0] |= 2 << 21 | 1 << 24 | 1 << 26 | 1 << 27;
    /* SIDSIZE, SSIDSIZE, EVENTQS, CMDQS */
    info->idr[1] = 16 | cfg->pasid_bits << 6 | 19 << 16 | 19 << 21;
    /* HAD, FWB, RIL, BBML 1 */
    info->idr[3] = 1 << 2 | 1 << 8 | 1 << 10 | 1 << 11;
    /* OAS, GRAN4K, GRAN16K, GRAN64K */
    info->idr[5] = oas_code(cfg->oas) | 7 << 4;
    info->aidr = 2;
}

bool sim_smmu_probe(SimDevice *dev, unsigned number, SimDevice *neighbour)
{
    SimStream *s = calloc(1, sizeof(*s));

    if (!s) {
        return false;
    }
    s->smmu = neighbour ? neighbour->stream->smmu : calloc(1, sizeof(SimSmmu));
    if (!s->smmu) {
        free(s);
        return false;
    }
    s->smmu->number = number;
    dev->stream = s;
    return true;
}

static void drop_atc(SimStream *s)
{
    SimXlatRange all = SIM_XLAT_ALL;

    sim_xlat_drop(&s->atc, &all);
}

void sim_smmu_set_ste(SimDevice *dev, const SimSte *ste)
{
    SimStream *s = dev->stream;

    sim_cd_drop(s, SIM_NO_SSID, false);
    drop_atc(s);
    s->ste = *ste;
    sim_config_enable_ats(dev, ste->ats);
}

void sim_dma_reset(SimDevice *dev)
{
    if (dev->stream) {
        drop_atc(dev->stream);
    }
}

/*
 * The kernel cannot tell which guest's addresses lead there, so it flushes
 * all of the virtual machine's, and the ATCs of devices that it nests with
 * ATS.
 */
void sim_smmu_unmapped(const SimSpace *space)
{
    SimXlatRange r = SIM_XLAT_ALL;
    unsigned i;

    r.space = space;
    for (i = 0; i < sim_config()->devices; i++) {
        SimStream *s = sim_device(i)->stream;

        if (s) {
            sim_xlat_drop(&s->smmu->tlb, &r);
            sim_xlat_drop(&s->atc, &r);
        }
    }
}

/* -- events */

static bool forwarded(uint8_t type)
{
    switch (type) {
    case SIM_EVT_C_BAD_STE:
    case SIM_EVT_F_STREAM_DISABLED:
    case SIM_EVT_C_BAD_SUBSTREAMID:
    case SIM_EVT_C_BAD_CD:
    case SIM_EVT_F_TRANSLATION:
    case SIM_EVT_F_ADDR_SIZE:
    case SIM_EVT_F_ACCESS:
    case SIM_EVT_F_PERMISSION:
        return true;
    default:
        return false;
    }
}

static void report(const Request *q, const Fault *f)
{
    const SimSte *ste = &q->s->ste;
    uint64_t evt[4] = { f->type };

    if (f->silent) {
        return;
    }
    if (!ste->viommu || !ste->viommu->veventq || f->stage2 ||
        !forwarded(f->type) ||
        sim_knob_use(q->dev, SIM_KNOB_LOSE_EVENTS)) {
        sim_count(q->dev, SIM_STAT_EVENTS_UNTOLD);
        return;
    }
    evt[0] |= (uint64_t)ste->vsid << 32;
    if (q->ssv && f->type != SIM_EVT_F_STREAM_DISABLED) {
        evt[0] |= (uint64_t)q->ssid << 12;
        if (f->type != SIM_EVT_C_BAD_SUBSTREAMID) {
            evt[0] |= 1ull << 11;       /* SSV */
        }
    }
    if (f->has_address) {
        evt[1] = (q->write ? 0 : 1ull << 35) | (uint64_t)f->class << 40;
        evt[2] = q->iova;
    }
    sim_count(q->dev, sim_veventq_report(ste->viommu->veventq, evt) ?
                      SIM_STAT_EVENTS : SIM_STAT_EVENTS_LOST);
}

static bool fault(Fault *f, uint8_t type)
{
    *f = (Fault) { .type = type };
    return false;
}

static bool input_fault(Fault *f, uint8_t type)
{
    *f = (Fault) { .type = type, .class = CLASS_IN, .has_address = true };
    return false;
}

/* -- context descriptors */

static unsigned s1cdmax(const SimStream *s)
{
    return sim_config()->smmu.pasid_bits ? SIM_STE_S1CDMAX(s->ste.word[0]) : 0;
}

/* The guest's memory, through stage 2 */
static bool fetch(const Request *q, uint64_t ipa, void *buf, size_t size,
                  uint8_t class, Fault *f)
{
    if (sim_space_rw(q->s->ste.space, ipa, buf, size, false) == size) {
        return true;
    }
    *f = (Fault) { .type = SIM_EVT_F_TRANSLATION, .class = class,
                   .has_address = true, .stage2 = true };
    return false;
}

/* @shift: log2 of how many CDs a table of the second level has */
static bool l2_table(const Request *q, uint32_t ssid, unsigned shift,
                     uint64_t *cd, Fault *f)
{
    SimStream *s = q->s;
    uint32_t index = ssid >> shift;
    const SimL1Cd *l1 = sim_l1cd_find(s, index);
    uint64_t desc, l2ptr;

    if (l1) {
        l2ptr = l1->l2ptr;
    } else {
        if (!fetch(q, SIM_STE_S1CTXPTR(s->ste.word[0]) + index * 8ull, &desc,
                   8, CLASS_CD, f)) {
            return false;
        }
        l2ptr = desc & 0xffffffffff000ull;
        if (!(desc & 1) || l2ptr >> sim_config()->smmu.oas) {
            return fault(f, SIM_EVT_C_BAD_SUBSTREAMID);
        }
        sim_l1cd_add(s, index, l2ptr);
    }
    *cd = l2ptr + (ssid & MASK(shift)) * CD_SIZE;
    return true;
}

static bool half_is_off(const SimCd *cd, unsigned half)
{
    return cd->dword[0] >> (14 + half * 16) & 1;
}

/* 4, 16 or 64 KiB: 12, 14, 16; 0: reserved */
static unsigned half_granule(const SimCd *cd, unsigned half)
{
    static const uint8_t tg[2][4] = { { 12, 16, 14, 0 }, { 0, 14, 12, 16 } };

    return tg[half][cd->dword[0] >> (6 + half * 16) & 3];
}

static bool half_is_legal(const SimCd *cd, unsigned half)
{
    unsigned tsz = cd->dword[0] >> (half * 16) & 0x3f;
    unsigned granule = half_granule(cd, half);
    unsigned bits = ips_bits(cd->dword[0] >> 32 & 7);

    if (granule < 16 && bits > 48) {
        bits = 48;
    }
    return half_is_off(cd, half) ||
           (granule && tsz >= 16 && tsz <= 39 &&
            !((cd->dword[1 + half] & CD_TTB) >> bits));
}

static bool cd_is_legal(const SimCd *cd)
{
    uint64_t w0 = cd->dword[0];

    return (w0 & CD_V) && (w0 & CD_AA64) &&
           /* No tables of big endian, no update of flags, no stalls */
           !(w0 & (CD_ENDI | CD_HA | CD_HD | CD_S)) &&
           half_is_legal(cd, 0) && half_is_legal(cd, 1);
}

static const SimCd *get_cd(const Request *q, uint32_t ssid, Fault *f)
{
    SimStream *s = q->s;
    uint64_t at = SIM_STE_S1CTXPTR(s->ste.word[0]) + ssid * (uint64_t)CD_SIZE;
    unsigned fmt = s1cdmax(s) ? SIM_STE_S1FMT(s->ste.word[0]) : 0;
    const SimCd *cd = sim_cd_find(s, ssid);
    SimCd new = { .ssid = ssid };

    if (cd) {
        sim_count(q->dev, SIM_STAT_CD_HITS);
    } else {
        sim_count(q->dev, SIM_STAT_CD_MISSES);
        if ((fmt == S1FMT_4K_L2 && !l2_table(q, ssid, 6, &at, f)) ||
            (fmt == S1FMT_64K_L2 && !l2_table(q, ssid, 10, &at, f))) {
            return NULL;
        }
        if (!fetch(q, at, new.dword, sizeof(new.dword), CLASS_CD, f)) {
            return NULL;
        }
        /* One that is not valid may be cached as well */
        cd = sim_cd_add(s, &new);
    }
    if (!cd || !cd_is_legal(cd)) {
        fault(f, SIM_EVT_C_BAD_CD);
        return NULL;
    }
    return cd;
}

/* -- translation tables */

static bool choose_half(const Request *q, const SimCd *cd, Regime *r, Fault *f)
{
    uint64_t w0 = cd->dword[0];
    unsigned half = q->iova >> 55 & 1;

    *r = (Regime) { .cd = cd, .va = q->iova };
    if (w0 >> (38 + half) & 1) {
        /* TBI: the top byte is not part of the address */
        r->va = (uint64_t)((int64_t)(q->iova << 8) >> 8);
    }
    r->va_bits = 64 - (w0 >> (half * 16) & 0x3f);
    if (half_is_off(cd, half) ||
        (half ? ~r->va : r->va) >> r->va_bits) {
        return input_fault(f, SIM_EVT_F_TRANSLATION);
    }
    r->granule = half_granule(cd, half);
    r->ttb = cd->dword[1 + half] & CD_TTB;
    r->ips = ips_bits(w0 >> 32 & 7);
    r->asid = w0 >> 48;
    r->flat = cd->dword[1 + half] & CD_HAD;
    return true;
}

/* An output address of a descriptor, whose lowest bits are @bits' */
static uint64_t desc_address(const Regime *r, uint64_t desc, unsigned bits)
{
    uint64_t addr = desc & MASK(48) & ~MASK(bits);

    if (r->granule == 16 && sim_config()->smmu.oas > 48) {
        addr |= (desc >> 12 & 0xf) << 48;
    }
    return addr;
}

static bool block_allowed(const Regime *r, unsigned level)
{
    return level == 2 || (level == 1 && r->granule == 12);
}

static bool walk(const Request *q, const Regime *r, SimXlat *x, Fault *f)
{
    unsigned stride = r->granule - 3;
    unsigned levels = (r->va_bits - r->granule + stride - 1) / stride;
    unsigned level = 4 - levels;
    unsigned shift = r->granule + stride * (3 - level);
    unsigned index_bits = r->va_bits - shift;
    uint64_t table = r->ttb & ~MASK(index_bits + 3);
    bool no_write = false, no_user = false;
    uint64_t desc;

    for (;;) {
        if (table >> r->ips) {
            return input_fault(f, SIM_EVT_F_ADDR_SIZE);
        }
        if (!fetch(q, table + (r->va >> shift & MASK(index_bits)) * 8, &desc,
                   8, CLASS_TTD, f)) {
            return false;
        }
        if (level == 3 ? (desc & 3) == 3 :
            (desc & 3) == 1 && block_allowed(r, level)) {
            break;
        }
        if (level == 3 || (desc & 3) != 3) {
            return input_fault(f, SIM_EVT_F_TRANSLATION);
        }
        if (!r->flat) {
            no_write |= desc >> 62 & 1;
            no_user |= desc >> 61 & 1;
        }
        table = desc_address(r, desc, r->granule);
        level++;
        shift -= stride;
        index_bits = stride;
    }
    *x = (SimXlat) {
        .iova = r->va & ~MASK(shift), .ipa = desc_address(r, desc, shift),
        .space = q->s->ste.space, .tag = r->asid, .vmid = q->s->ste.vmid,
        .bits = shift, .granule = r->granule, .level = level,
        .global = !(desc >> 11 & 1),
        /* A device is never privileged: it needs AP[1] */
        .read = (desc >> 6 & 1) && !no_user,
        .write = (desc >> 6 & 1) && !no_user && !(desc >> 7 & 1) && !no_write,
    };
    if (x->ipa >> r->ips) {
        return input_fault(f, SIM_EVT_F_ADDR_SIZE);
    }
    if (!(desc >> 10 & 1) && !(r->cd->dword[0] & CD_AFFD)) {
        return input_fault(f, SIM_EVT_F_ACCESS);
    }
    return true;
}

static bool stage1(const Request *q, uint32_t ssid, SimXlat *x, Fault *f)
{
    const SimCd *cd = get_cd(q, ssid, f);
    SimSmmu *smmu = q->s->smmu;
    const SimXlat *hit;
    bool ok = cd;
    Regime r;

    if (!cd) {
        return false;
    }
    ok = choose_half(q, cd, &r, f);
    if (ok) {
        hit = sim_xlat_find(&smmu->tlb, q->s->ste.vmid, r.asid, r.va);
        sim_count(q->dev, hit ? SIM_STAT_TLB_HITS : SIM_STAT_TLB_MISSES);
        if (hit) {
            *x = *hit;
        } else {
            ok = walk(q, &r, x, f);
            if (ok) {
                sim_xlat_add(&smmu->tlb, x);
            }
        }
    }
    if (ok && !(q->write ? x->write : x->read)) {
        ok = input_fault(f, SIM_EVT_F_PERMISSION);
    }
    if (!ok && !f->stage2 && !(cd->dword[0] & CD_R)) {
        f->silent = true;
    }
    return ok;
}

static bool bypass(const Request *q, SimXlat *x, Fault *f)
{
    if (q->iova >> sim_config()->smmu.oas) {
        return input_fault(f, SIM_EVT_F_ADDR_SIZE);
    }
    *x = (SimXlat) {
        .iova = q->iova & ~MASK(12), .ipa = q->iova & ~MASK(12),
        .space = q->s->ste.space, .bits = 12, .granule = 12,
        .read = true, .write = true,
    };
    return true;
}

/* A stream whose STE asks for stage 1 */
static bool translate(const Request *q, SimXlat *x, Fault *f)
{
    unsigned cdmax = s1cdmax(q->s);
    unsigned dss = SIM_STE_S1DSS(q->s->ste.word[1]);

    if (cdmax > sim_config()->smmu.pasid_bits) {
        return fault(f, SIM_EVT_C_BAD_STE);
    }
    if (q->ssv) {
        if (!cdmax || q->ssid >= 1u << cdmax) {
            return fault(f, SIM_EVT_C_BAD_SUBSTREAMID);
        }
        if (dss == S1DSS_SSID0 && !q->ssid) {
            return fault(f, SIM_EVT_F_STREAM_DISABLED);
        }
        return stage1(q, q->ssid, x, f);
    }
    if (cdmax && dss == S1DSS_BYPASS) {
        return bypass(q, x, f);
    }
    if (cdmax && dss != S1DSS_SSID0) {
        return fault(f, SIM_EVT_F_STREAM_DISABLED);
    }
    return stage1(q, 0, x, f);
}

/* -- the device's side */

/* By what the device has cached, or a request to the SMMU for it */
static bool translate_ats(const Request *q, SimXlat *x, Fault *f)
{
    uint32_t tag = q->ssv ? q->ssid : SIM_NO_SSID;
    const SimXlat *hit = sim_xlat_find(&q->s->atc, 0, tag, q->iova);

    if (hit && (q->write ? hit->write : hit->read)) {
        sim_count(q->dev, SIM_STAT_ATC_HITS);
        *x = *hit;
        return true;
    }
    sim_count(q->dev, SIM_STAT_ATS_REQUESTS);
    if (!translate(q, x, f)) {
        /* The answer is the device's to deal with; nothing is recorded */
        f->silent = true;
        return false;
    }
    x->tag = tag;
    x->vmid = 0;
    x->global = false;
    sim_xlat_add(&q->s->atc, x);
    return true;
}

static uint64_t nested_rw(Request *q, uint8_t *buf, uint64_t len, bool ats)
{
    uint64_t done = 0;

    while (done < len) {
        uint64_t n, got, off;
        SimXlat x;
        Fault f;

        if (!(ats ? translate_ats : translate)(q, &x, &f)) {
            report(q, &f);
            break;
        }
        off = q->iova & MASK(x.bits);
        n = (1ull << x.bits) - off;
        n = n < len - done ? n : len - done;
        got = sim_space_rw(x.space, x.ipa + off, buf + done, n, q->write);
        done += got;
        q->iova += got;
        if (got < n) {
            f = (Fault) { .type = SIM_EVT_F_TRANSLATION, .class = CLASS_IN,
                          .has_address = true, .stage2 = true };
            report(q, &f);
            break;
        }
    }
    return done;
}

/* No guest's tables: the kernel's, perhaps those of a PASID */
static uint64_t plain_rw(Request *q, void *buf, uint64_t len)
{
    const SimPasid *p = q->s->pasids;
    SimSpace *space = q->s->ste.space;
    Fault f;

    if (q->ssv) {
        while (p && p->pasid != q->ssid) {
            p = p->next;
        }
        if (!p) {
            fault(&f, SIM_EVT_C_BAD_SUBSTREAMID);
            report(q, &f);
            return 0;
        }
        space = p->space;
    } else if (q->iova >> sim_config()->smmu.oas) {
        input_fault(&f, SIM_EVT_F_ADDR_SIZE);
        report(q, &f);
        return 0;
    }
    return sim_space_rw(space, q->iova, buf, len, q->write);
}

uint64_t sim_dma_rw(SimDevice *dev, uint64_t addr, void *buf, uint64_t len,
                    const SimDma *dma)
{
    SimStream *s = dev->stream;
    Request q = { dev, s, addr, dma->write, dma->pasid_valid, dma->pasid };

    if (!s || (dev->space && dev->space->legacy)) {
        return dma->pasid_valid ? 0 :
               sim_space_rw(dev->space, addr, buf, len, dma->write);
    }
    switch (s->ste.config) {
    case SIM_STE_S1:
        return nested_rw(&q, buf, len, dma->ats && s->ste.ats);
    case SIM_STE_S2:
        return plain_rw(&q, buf, len);
    case SIM_STE_BLOCKED:
        /* A PASID may be attached where the device itself is not */
        return q.ssv ? plain_rw(&q, buf, len) : 0;
    default:
        return 0;
    }
}
