/*
 * Decommit and recommit elsewhere; leaves the decoder committed
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "cxl-guest.h"

static uint8_t *volatile place;

static void read_place(void *opaque)
{
    *(uint64_t *)opaque = get64(place);
}

static void write_place(void *opaque)
{
    set64(place, 0);
}

void check_recommit(const char *name)
{
    uint64_t dpa = 0x3000, mark = mix(0x5ec0);
    bool read_fault, write_fault;
    uint64_t old = dev.gpa, val;
    uint32_t ctrl;

    if (opt.bridge || windows[0].size < dev.size + 2 * HDM_GRAIN) {
        skip(name, "%s", opt.bridge ? "the bridge's decoder stays" :
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
