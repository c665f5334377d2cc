/*
 * vfio-sim: what an SMMUv3 and the devices behind it have cached
 *
 * Nothing is ever evicted to make room: what a guest has forgotten to
 * invalidate is used until it is invalidated.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdlib.h>
#include <string.h>

#include "smmuv3.h"

/* With so many a cache starts anew, which only a wild guest can bring about */
#define MAX_XLATS       (1u << 20)

static unsigned bucket(const SimXlatCache *c, uint64_t iova, unsigned bits)
{
    uint64_t h = ((iova >> bits) + bits) * 0x9e3779b97f4a7c15ull;

    return (h >> 32) & (c->num_buckets - 1);
}

const SimXlat *sim_xlat_find(const SimXlatCache *c, uint16_t vmid,
                             uint32_t tag, uint64_t iova)
{
    const SimXlat *x;
    unsigned bits;

    for (bits = 0; c->count && bits < 64; bits++) {
        if (!c->sizes[bits]) {
            continue;
        }
        for (x = c->buckets[bucket(c, iova, bits)]; x; x = x->next) {
            if (x->bits == bits && x->iova >> bits == iova >> bits &&
                x->vmid == vmid && (x->tag == tag || x->global)) {
                return x;
            }
        }
    }
    return NULL;
}

static void link_xlat(SimXlatCache *c, SimXlat *x)
{
    SimXlat **p = &c->buckets[bucket(c, x->iova, x->bits)];

    x->next = *p;
    *p = x;
}

static bool grow(SimXlatCache *c)
{
    unsigned i, old = c->num_buckets, n = old ? old * 2 : 64;
    SimXlat **from = c->buckets, **to = calloc(n, sizeof(*to));

    if (!to) {
        return old;
    }
    c->buckets = to;
    c->num_buckets = n;
    for (i = 0; i < old; i++) {
        while (from[i]) {
            SimXlat *x = from[i];

            from[i] = x->next;
            link_xlat(c, x);
        }
    }
    free(from);
    return true;
}

void sim_xlat_add(SimXlatCache *c, const SimXlat *x)
{
    SimXlatRange same = {
        .first = x->iova, .last = x->iova + (1ull << x->bits) - 1,
        .vmid = x->vmid, .tag = x->tag, .keep_global = true,
    };
    SimXlatRange all = SIM_XLAT_ALL;
    SimXlat *copy;

    /* A conflict would be an error of the guest's; the new one wins */
    sim_xlat_drop(c, &same);
    if (c->count >= MAX_XLATS) {
        sim_xlat_drop(c, &all);
    }
    if (c->count >= c->num_buckets && !grow(c)) {
        return;
    }
    copy = malloc(sizeof(*copy));
    if (copy) {
        *copy = *x;
        link_xlat(c, copy);
        c->count++;
        c->sizes[x->bits]++;
    }
}

static bool concerns(const SimXlatRange *r, const SimXlat *x)
{
    return x->iova <= r->last && r->first <= x->iova + (1ull << x->bits) - 1 &&
           (r->vmid < 0 || r->vmid == x->vmid) &&
           (r->any_tag || (x->global ? !r->keep_global : x->tag == r->tag)) &&
           (!r->granule || r->granule == x->granule) &&
           (!r->level || r->level == x->level) &&
           (!r->space || r->space == x->space);
}

static void drop_from(SimXlatCache *c, unsigned i, const SimXlatRange *r)
{
    SimXlat **p = &c->buckets[i];

    while (*p) {
        SimXlat *x = *p;

        if (concerns(r, x)) {
            *p = x->next;
            c->count--;
            c->sizes[x->bits]--;
            free(x);
        } else {
            p = &x->next;
        }
    }
}

void sim_xlat_drop(SimXlatCache *c, const SimXlatRange *r)
{
    unsigned bits, i;

    for (bits = 0; c->count && bits < 64; bits++) {
        uint64_t n = (r->last >> bits) - (r->first >> bits);
        uint64_t k;

        if (!c->sizes[bits]) {
            continue;
        }
        if (n >= c->num_buckets) {
            for (i = 0; i < c->num_buckets; i++) {
                drop_from(c, i, r);
            }
            return;
        }
        for (k = 0; k <= n; k++) {
            drop_from(c, bucket(c, r->first + (k << bits), bits), r);
        }
    }
}

const SimCd *sim_cd_find(const SimStream *s, uint32_t ssid)
{
    const SimCd *cd;

    for (cd = s->cds; cd && cd->ssid != ssid; cd = cd->next) {
        continue;
    }
    return cd;
}

const SimCd *sim_cd_add(SimStream *s, const SimCd *cd)
{
    SimCd *copy = malloc(sizeof(*copy));

    if (copy) {
        *copy = *cd;
        copy->next = s->cds;
        s->cds = copy;
    }
    return copy;
}

const SimL1Cd *sim_l1cd_find(const SimStream *s, uint32_t index)
{
    const SimL1Cd *l1;

    for (l1 = s->l1cds; l1 && l1->index != index; l1 = l1->next) {
        continue;
    }
    return l1;
}

void sim_l1cd_add(SimStream *s, uint32_t index, uint64_t l2ptr)
{
    SimL1Cd *l1 = malloc(sizeof(*l1));

    if (l1) {
        *l1 = (SimL1Cd) { index, l2ptr, s->l1cds };
        s->l1cds = l1;
    }
}

unsigned sim_cd_count(const SimStream *s)
{
    const SimCd *cd;
    unsigned n = 0;

    for (cd = s->cds; cd; cd = cd->next) {
        n++;
    }
    return n;
}

static unsigned l1_shift(const SimStream *s)
{
    return SIM_STE_S1FMT(s->ste.word[0]) == 1 ? 6 : 10;
}

void sim_cd_drop(SimStream *s, uint32_t ssid, bool leaf)
{
    SimCd **p = &s->cds;
    SimL1Cd **q = &s->l1cds;

    while (*p) {
        SimCd *cd = *p;

        if (ssid == SIM_NO_SSID || cd->ssid == ssid) {
            *p = cd->next;
            free(cd);
        } else {
            p = &cd->next;
        }
    }
    while (*q && !leaf) {
        SimL1Cd *l1 = *q;

        if (ssid == SIM_NO_SSID || l1->index == ssid >> l1_shift(s)) {
            *q = l1->next;
            free(l1);
        } else {
            q = &l1->next;
        }
    }
}

/*
 * TG 0: one address. Otherwise (NUM + 1) << SCALE pages of that granule, and
 * an entry of another granule or, with TTL, of another level may stay.
 */
static void tlbi_range(SimXlatRange *r, const uint64_t *cmd)
{
    unsigned tg = cmd[1] >> 10 & 3;
    unsigned ttl = cmd[1] >> 8 & 3;
    uint64_t addr = cmd[1] & ~0xfffull;
    uint64_t pages = ((cmd[0] >> 12 & 0x1f) + 1) << (cmd[0] >> 20 & 0x1f);

    r->first = r->last = addr;
    if (tg) {
        r->granule = 10 + 2 * tg;
        /* No block of 32 GiB; that is reserved, and taken for any level */
        r->level = tg == 2 && ttl == 1 ? 0 : ttl;
        r->first = addr >> r->granule << r->granule;
        r->last = r->first + (pages << r->granule) - 1;
        if (r->last < r->first) {
            r->last = UINT64_MAX;
        }
    }
}

static void tlbi(SimSmmu *smmu, uint16_t vmid, const uint64_t *cmd)
{
    SimXlatRange r = SIM_XLAT_ALL;

    r.vmid = vmid;
    switch (cmd[0] & 0xff) {
    case SIM_CMD_TLBI_NH_ASID:
        r.keep_global = true;
        r.any_tag = false;
        break;
    case SIM_CMD_TLBI_NH_VA:
        r.any_tag = false;
        tlbi_range(&r, cmd);
        break;
    case SIM_CMD_TLBI_NH_VAA:
        tlbi_range(&r, cmd);
        break;
    default:
        break;
    }
    r.tag = cmd[0] >> 48;
    sim_xlat_drop(&smmu->tlb, &r);
}

/* Without a substream the request has no PASID, and concerns all of them */
static void atc_inv(SimStream *s, const uint64_t *cmd)
{
    bool ssv = cmd[0] >> 11 & 1, global = cmd[0] >> 9 & 1;
    unsigned size = cmd[1] & 0x3f;
    SimXlatRange r = SIM_XLAT_ALL;

    if (size < 52) {
        r.first = cmd[1] >> (12 + size) << (12 + size);
        r.last = r.first + (1ull << (12 + size)) - 1;
    }
    r.any_tag = !ssv || global;
    r.tag = cmd[0] >> 12 & 0xfffff;
    sim_xlat_drop(&s->atc, &r);
}

void sim_smmu_command(SimSmmu *smmu, SimStream *s, uint16_t vmid,
                      const uint64_t *cmd)
{
    smmu->commands[cmd[0] & 0xff]++;
    switch (cmd[0] & 0xff) {
    case SIM_CMD_CFGI_CD:
        sim_cd_drop(s, cmd[0] >> 12 & 0xfffff, cmd[1] & 1);
        break;
    case SIM_CMD_CFGI_CD_ALL:
        sim_cd_drop(s, SIM_NO_SSID, false);
        break;
    case SIM_CMD_ATC_INV:
        atc_inv(s, cmd);
        break;
    default:
        tlbi(smmu, vmid, cmd);
        break;
    }
}
