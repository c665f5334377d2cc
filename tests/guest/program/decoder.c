/*
 * HDM decoder 0 of the device, and the host bridge's
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "cxl-guest.h"

static uint64_t hdm_pair(int lo)
{
    return ((uint64_t)get32(dev.hdm + lo + 4) << 32) | get32(dev.hdm + lo);
}

static void hdm_set_pair(int lo, uint64_t val)
{
    set32(dev.hdm + lo, (uint32_t)val);
    set32(dev.hdm + lo + 4, val >> 32);
}

uint64_t dvsec_range(int hi, uint32_t *flags)
{
    uint32_t low = cfg_read(dev.dvsec_device + hi + 4, 4);

    if (flags) {
        *flags = low & 3;
    }
    return ((uint64_t)cfg_read(dev.dvsec_device + hi, 4) << 32) |
           (low & 0xf0000000);
}

bool show_decoder(void)
{
    uint64_t base = hdm_pair(HDM_BASE_LO);
    uint64_t size = hdm_pair(HDM_SIZE_LO);
    uint32_t ctrl = get32(dev.hdm + HDM_CTRL);

    info("decoder base=0x%" PRIx64 " size=0x%" PRIx64 " ctrl=0x%08x "
         "global=0x%x capability=0x%x dvsec-control=0x%04x", base, size, ctrl,
         get32(dev.hdm + HDM_GLOBAL), get32(dev.hdm + HDM_CAPABILITY),
         cfg_read(dev.dvsec_device + DVD_CONTROL, 2));
    return ctrl & HDM_CTRL_COMMITTED;
}

/* Check whether decoder 0 is committed at BASE */
bool decoder_shows(uint64_t base)
{
    return get32(dev.hdm + HDM_CTRL) & HDM_CTRL_COMMITTED &&
           hdm_pair(HDM_BASE_LO) == base;
}

static bool mem_enabled(void)
{
    return cfg_read(dev.dvsec_device + DVD_CONTROL, 2) & DVD_CONTROL_MEM;
}

/* The decoder is committed: check that all registers agree on it */
bool check_committed(const char *name)
{
    uint32_t ctrl = get32(dev.hdm + HDM_CTRL);
    uint64_t base = hdm_pair(HDM_BASE_LO);
    uint64_t size = hdm_pair(HDM_SIZE_LO);
    uint32_t flags;

    if ((ctrl & (HDM_CTRL_COMMITTED | HDM_CTRL_ERROR)) !=
        HDM_CTRL_COMMITTED) {
        return fail(name, "decoder 0 is not committed, ctrl=0x%08x", ctrl);
    }
    if (get64(dev.hdm + HDM_BASE_LO) != base ||
        get64(dev.hdm + HDM_SIZE_LO) != size) {
        return fail(name, "%s", "8-byte and 4-byte reads of it differ");
    }
    if (size != dev.size) {
        return fail(name, "decoder size 0x%" PRIx64 ", device memory 0x%"
                    PRIx64, size, dev.size);
    }
    if (!in_window(base, size)) {
        return fail(name, "0x%" PRIx64 " is in no fixed window", base);
    }
    if (!(get32(dev.hdm + HDM_GLOBAL) & HDM_GLOBAL_ENABLE)) {
        return fail(name, "%s", "HDM Decoder Enable is clear");
    }
    if (!mem_enabled()) {
        return fail(name, "%s", "Mem_Enable is clear");
    }
    if (dvsec_range(DVD_RANGE1_BASE_HI, NULL) != base) {
        return fail(name, "DVSEC range 1 base 0x%" PRIx64 ", decoder 0x%"
                    PRIx64, dvsec_range(DVD_RANGE1_BASE_HI, NULL), base);
    }
    if (dvsec_range(DVD_RANGE1_SIZE_HI, &flags) != size || flags != 3) {
        return fail(name, "DVSEC range 1 size 0x%" PRIx64 " flags %u",
                    dvsec_range(DVD_RANGE1_SIZE_HI, NULL), flags);
    }
    dev.gpa = base;
    ok(name, "gpa=0x%" PRIx64 " size=0x%" PRIx64 " locked=%d", base, size,
       !!(ctrl & HDM_CTRL_LOCK));
    return true;
}

/* The host's own address of the memory is not the guest's business */
void check_hidden(const char *name)
{
    uint64_t hpa = VFIO_SIM_HPA(dev.index);
    uint32_t offset;

    for (offset = 0; offset < 4096; offset += 4) {
        if (cfg_read(offset, 4) == hpa >> 32) {
            fail(name, "0x%" PRIx64 " shows in configuration space at 0x%x",
                 hpa, offset);
            return;
        }
    }
    for (offset = 0; offset < VFIO_SIM_BLOCK_SIZE; offset += 4) {
        if (get32(dev.bar0 + dev.block_offset + offset) == hpa >> 32) {
            fail(name, "0x%" PRIx64 " shows in the component block at 0x%x",
                 hpa, offset);
            return;
        }
    }
    ok(name, "%s", "configuration space, component block");
}

void check_lock(const char *name)
{
    uint64_t base = hdm_pair(HDM_BASE_LO);
    uint32_t ctrl = get32(dev.hdm + HDM_CTRL);
    bool locked = ctrl & HDM_CTRL_LOCK;

    if (opt.lock >= 0 && opt.lock != locked) {
        fail(name, "lock-on-commit reads %d", locked);
        return;
    }
    if (!locked) {
        skip(name, "%s", "the decoder is not locked");
        return;
    }
    set32(dev.hdm + HDM_BASE_LO, (uint32_t)base + HDM_GRAIN);
    set32(dev.hdm + HDM_CTRL, ctrl & ~HDM_CTRL_COMMIT);
    if (hdm_pair(HDM_BASE_LO) != base || get32(dev.hdm + HDM_CTRL) != ctrl) {
        fail(name, "a locked decoder changed: base=0x%" PRIx64 " ctrl=0x%08x",
             hdm_pair(HDM_BASE_LO), get32(dev.hdm + HDM_CTRL));
        return;
    }
    ok(name, "%s", "");
}

static bool wait_commit(uint32_t *ctrl)
{
    double end = now() + 2;

    do {
        *ctrl = get32(dev.hdm + HDM_CTRL);
        if (*ctrl & (HDM_CTRL_COMMITTED | HDM_CTRL_ERROR)) {
            break;
        }
    } while (now() < end);
    return (*ctrl & (HDM_CTRL_COMMITTED | HDM_CTRL_ERROR)) ==
           HDM_CTRL_COMMITTED;
}

bool commit_at(uint64_t base, uint64_t size, uint32_t *ctrl)
{
    uint32_t old = get32(dev.hdm + HDM_CTRL) &
                   ~(HDM_CTRL_COMMIT | HDM_CTRL_LOCK | 0xff);

    hdm_set_pair(HDM_BASE_LO, base);
    hdm_set_pair(HDM_SIZE_LO, size);
    set32(dev.hdm + HDM_CTRL, old);
    set32(dev.hdm + HDM_CTRL, old | HDM_CTRL_COMMIT);
    return wait_commit(ctrl);
}

bool decommit(void)
{
    double end = now() + 2;

    set32(dev.hdm + HDM_CTRL,
          get32(dev.hdm + HDM_CTRL) & ~HDM_CTRL_COMMIT);
    while (get32(dev.hdm + HDM_CTRL) & HDM_CTRL_COMMITTED) {
        if (now() > end) {
            return false;
        }
    }
    return true;
}

static void check_refused(const char *name)
{
    uint64_t nowhere = windows[0].base + windows[0].size;
    uint32_t ctrl;

    while (in_window(nowhere, dev.size)) {
        nowhere += HDM_GRAIN;
    }
    if (commit_at(nowhere, dev.size, &ctrl) || !(ctrl & HDM_CTRL_ERROR)) {
        fail(name, "commit at 0x%" PRIx64 " outside each window: ctrl=0x%08x",
             nowhere, ctrl);
        return;
    }
    if (commit_at(windows[0].base, 0, &ctrl) || !(ctrl & HDM_CTRL_ERROR)) {
        fail(name, "commit of size 0: ctrl=0x%08x", ctrl);
        return;
    }
    set32(dev.hdm + HDM_CTRL, ctrl & ~HDM_CTRL_COMMIT);
    ok(name, "%s", "");
}

/* Place of the guest's own commit: not the window's first byte */
static uint64_t own_choice(void)
{
    uint64_t base = windows[0].base;

    return windows[0].size >= dev.size + HDM_GRAIN ? base + HDM_GRAIN : base;
}

/* Program the host bridge's decoder 0 as well, to send it all to port 0 */
static bool commit_bridge(const char *name, uint64_t base)
{
    uint8_t *block = bridge_block ? map_file("/dev/mem", bridge_block, 65536)
                                  : NULL;
    volatile uint8_t *hdm = NULL;
    uint32_t header, ctrl;
    unsigned i;

    if (!block) {
        return fail(name, "no component registers of the host bridge: %s",
                    strerror(errno));
    }
    header = get32(block + CM_OFFSET);
    for (i = 1; i <= header >> 24 && i < 64; i++) {
        uint32_t entry = get32(block + CM_OFFSET + 4 * i);

        if ((entry & 0xffff) == CM_CAP_HDM) {
            hdm = block + CM_OFFSET + (entry >> 20);
        }
    }
    if (!hdm) {
        munmap(block, 65536);
        return fail(name, "%s", "the host bridge has no HDM decoder");
    }
    set32(hdm + HDM_BASE_LO, (uint32_t)base);
    set32(hdm + HDM_BASE_HI, base >> 32);
    set32(hdm + HDM_SIZE_LO, (uint32_t)dev.size);
    set32(hdm + HDM_SIZE_HI, dev.size >> 32);
    set32(hdm + HDM_TARGETS, 0);
    set32(hdm + HDM_TARGETS + 4, 0);
    set32(hdm + HDM_CTRL, HDM_CTRL_COMMIT);
    set32(hdm + HDM_GLOBAL, get32(hdm + HDM_GLOBAL) | HDM_GLOBAL_ENABLE);
    ctrl = get32(hdm + HDM_CTRL);
    munmap(block, 65536);
    if (!(ctrl & HDM_CTRL_COMMITTED)) {
        return fail(name, "ctrl=0x%08x", ctrl);
    }
    ok(name, "registers=0x%" PRIx64, bridge_block);
    return true;
}

void enable_decoding(void)
{
    set32(dev.hdm + HDM_GLOBAL,
          get32(dev.hdm + HDM_GLOBAL) | HDM_GLOBAL_ENABLE);
    cfg_write(dev.dvsec_device + DVD_CONTROL,
              cfg_read(dev.dvsec_device + DVD_CONTROL, 2) | DVD_CONTROL_MEM,
              2);
}

bool commit_ourselves(const char *name)
{
    uint32_t ctrl = get32(dev.hdm + HDM_CTRL);

    if (ctrl & HDM_CTRL_COMMITTED) {
        return fail(name, "decoder 0 is committed already, ctrl=0x%08x", ctrl);
    }
    if (dvsec_range(DVD_RANGE1_BASE_HI, NULL)) {
        return fail(name, "DVSEC range 1 base is 0x%" PRIx64 " with no decoder"
                    " committed", dvsec_range(DVD_RANGE1_BASE_HI, NULL));
    }
    if (dev.size != dvsec_range(DVD_RANGE1_SIZE_HI, NULL)) {
        return fail(name, "DVSEC range 1 size is 0x%" PRIx64,
                    dvsec_range(DVD_RANGE1_SIZE_HI, NULL));
    }
    enable_decoding();
    run_check("commit-refused", check_refused);
    if (!commit_at(own_choice(), dev.size, &ctrl)) {
        return fail(name, "commit at 0x%" PRIx64 ": ctrl=0x%08x",
                    own_choice(), ctrl);
    }
    ok(name, "gpa=0x%" PRIx64, own_choice());
    return !opt.bridge || commit_bridge("commit-bridge", own_choice());
}
