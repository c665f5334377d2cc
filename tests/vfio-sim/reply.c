/*
 * vfio-sim: replies that consist of a struct and a chain of capabilities
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>

#include "sim.h"

#define CAP_NEXT 4          /* in a capability's header */

void sim_reply_cap(SimReply *r, const void *cap, size_t size)
{
    uint32_t at = r->size, end = 0;
    uint32_t link = r->cap_field;

    /* Append it to the last one, or to the struct itself */
    while (sim_ld32(r->buf + link)) {
        end = sim_ld32(r->buf + link);
        link = end + CAP_NEXT;
    }
    memcpy(r->buf + at, cap, size);
    sim_st32(r->buf + at + CAP_NEXT, 0);
    sim_st32(r->buf + link, at);
    r->size = SIM_ROUND_UP(at + size, 8);
}

void sim_reply_send(const SimReply *reply, SimDevice *dev, SimWhere where,
                    void *arg)
{
    uint32_t given = sim_ld32(arg);
    SimReply r = *reply;
    bool odd;

    if (r.size > r.head) {
        sim_st32(r.buf + 0, r.size);
    } else {
        sim_st32(r.buf + 0, given);
    }
    odd = sim_mangle_reply(dev->st->knobs[SIM_KNOB_MANGLE], where, &r, given);
    if (r.size > r.head && given < r.size) {
        /* Only report the room that it needs */
        sim_st32(r.buf + r.cap_field, 0);
        r.size = r.head;
    } else if (!odd) {
        sim_st32(r.buf + 0, given);
    }
    memcpy(arg, r.buf, given < r.size ? given : r.size);
}
