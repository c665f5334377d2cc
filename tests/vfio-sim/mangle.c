/*
 * vfio-sim: replies and registers that no kernel or device should give
 *
 * A malformation is a row of changes to the bytes of one reply. Offsets are
 * those of the structs in <linux/vfio.h>: the first capability follows the
 * struct immediately, and every generation adds them in the same order.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mangle.h"

#define NUM(a) (sizeof(a) / sizeof((a)[0]))

typedef enum Op {
    OP_SET,
    OP_OR,
    OP_CLEAR,
    OP_ADD,
    OP_CUT,         /* the reply ends at this offset */
    OP_CAPS,        /* append @off capabilities of 16 bytes with id @value */
    OP_GROW,        /* never enough room */
    OP_FAIL,        /* the errno */
    OP_COUNT,       /* at most so many bytes */
} Op;

typedef struct Change {
    uint8_t where;
    uint8_t op;
    uint8_t size;       /* in bytes; registers: 4 */
    uint16_t off;
    uint64_t value;
} Change;

/* Kernel generations */
enum {
    V2 = 1,
    V3 = 2,
    V4 = 4,
    V5 = 8,
    V6 = 16,
    CAP = V2 | V3,      /* with a device capability */
    GEO = V4 | V5 | V6, /* with a geometry capability */
    CXL = CAP | GEO,
};

typedef struct Mangle {
    const char *name;
    const char *text;
    unsigned kernels;
    bool harmless;      /* a program should cope with it */
    Change changes[7];
} Mangle;

/* struct vfio_device_info, and the capability behind it */
#define D_ARGSZ     0
#define D_FLAGS     4
#define D_REGIONS   8
#define D_IRQS      12
#define D_CAP       16
#define D_CAP_ID    24
#define D_CAP_VER   26
#define D_CAP_NEXT  28
#define V2_BAR      32
#define V2_RESERVED 33
#define V2_FLAGS    36
#define V2_OFFSET   40
#define V2_MEMORY   48
#define V2_REGS     52
#define V3_FLAGS    32
#define V3_MEMORY   36
#define V3_REGS     40
#define V3_BAR      44
#define V3_OFFSET   56
#define V3_SIZE     64

/* struct vfio_region_info, its type and what follows that */
#define R_ARGSZ     0
#define R_FLAGS     4
#define R_INDEX     8
#define R_CAP       12
#define R_SIZE      16
#define R_OFFSET    24
#define R_CAP_ID    32
#define R_CAP_NEXT  36
#define R_TYPE      40
#define R_SUBTYPE   44
#define G_ID        48
#define G_NEXT      52
#define G_BAR       56
#define G_OFFSET    64
#define S_COUNT     40
#define S_AREA0     48
#define S_SIZE0     56
#define S_AREA1     64

#define READ        1
#define WRITE       2
#define MMAP        4
#define CAPS        8

/* Component registers, from the start of the CM area */
#define CM_RAS_ENTRY    0x004
#define CM_HDM_ENTRY    0x008
#define CM_RAS          0x080
#define CM_HDM          0x200
#define CM_SIZE_LO      (CM_HDM + 0x18)
#define CM_SIZE_HI      (CM_HDM + 0x1c)
#define CM_CTRL         (CM_HDM + 0x20)

/* Configuration space */
#define C_CLASS     0x008
#define C_DEVICE    0x150       /* DVSEC with id 0 */
#define C_LOCATOR   0x1b0       /* DVSEC with id 8 */
#define C_FLEXBUS   0x1d0       /* DVSEC with id 7, of 0x20 bytes */

#define DEV(op, size, off, value)   { SIM_AT_DEVICE, op, size, off, value }
#define MEM(op, size, off, value)   { SIM_AT_MEMORY, op, size, off, value }
#define REGS(op, size, off, value)  { SIM_AT_REGISTERS, op, size, off, value }
#define BAR(op, size, off, value)   { SIM_AT_BAR, op, size, off, value }
#define CM(op, off, value)          { SIM_AT_CM, op, 4, off, value }
#define CFG(op, size, off, value)   { SIM_AT_CONFIG, op, size, off, value }
#define IO(where, value)            { SIM_AT_##where, OP_COUNT, 0, 0, value }

static const Mangle mangles[] = {
    { "none", "the truth", CXL, true, { } },

    /* The device's capability chain */
    { "device-no-flag", "the device is not said to be CXL", CXL, false,
      { DEV(OP_CLEAR, 4, D_FLAGS, 1 << 9) } },
    { "device-no-reset", "the kernel cannot reset the device", CXL, false,
      { DEV(OP_CLEAR, 4, D_FLAGS, 1 << 0) } },
    { "device-fails", "GET_INFO fails", CXL, false,
      { DEV(OP_FAIL, 0, 0, EIO) } },
    { "device-no-caps-flag", "no flag says that there are capabilities",
      CAP, false, { DEV(OP_CLEAR, 4, D_FLAGS, 1 << 7) } },
    { "device-cap-offset-0", "the chain begins nowhere", CAP, false,
      { DEV(OP_SET, 4, D_CAP, 0) } },
    { "device-cap-offset-1", "the chain begins in the struct, unaligned",
      CAP, false, { DEV(OP_SET, 4, D_CAP, 1) } },
    { "device-cap-offset-8", "the chain begins in the struct", CAP, false,
      { DEV(OP_SET, 4, D_CAP, 8) } },
    { "device-cap-offset-out", "the chain begins beyond the reply", CAP,
      false, { DEV(OP_SET, 4, D_CAP, 0x1000) } },
    { "device-cap-offset-max", "the chain begins at 0xfffffff8", CAP, false,
      { DEV(OP_SET, 4, D_CAP, 0xfffffff8) } },
    { "device-cap-loop", "the capability is followed by itself", CAP, false,
      { DEV(OP_SET, 4, D_CAP_NEXT, D_CAP_ID) } },
    { "device-cap-back", "the chain goes back into the struct", CAP, false,
      { DEV(OP_SET, 4, D_CAP_NEXT, 8) } },
    { "device-cap-next-out", "the next capability is beyond the reply", CAP,
      true, { DEV(OP_SET, 4, D_CAP_NEXT, 0x1000) } },
    { "device-cap-next-max", "the next capability is at 0xfffffff8", CAP,
      true, { DEV(OP_SET, 4, D_CAP_NEXT, 0xfffffff8) } },
    { "device-cap-overlap", "the next capability is inside this one", CAP,
      false, { DEV(OP_SET, 4, D_CAP_NEXT, D_CAP_ID + 8) } },
    { "device-cap-unaligned", "the next capability is unaligned", CAP, false,
      { DEV(OP_SET, 4, D_CAP_NEXT, D_CAP_ID + 13) } },
    { "device-cap-unknown", "the capability has an unknown id", CAP, false,
      { DEV(OP_SET, 2, D_CAP_ID, 99) } },
    { "device-cap-cut-header", "the reply ends in the capability's header",
      CAP, false, { DEV(OP_CUT, 0, 28, 0) } },
    { "device-cap-cut", "the reply ends in the capability", CAP, false,
      { DEV(OP_CUT, 0, 40, 0) } },
    { "device-cap-only-header", "the capability is its header", CAP, false,
      { DEV(OP_CUT, 0, 32, 0) } },
    { "device-cap-many", "100 unknown capabilities follow", CAP, true,
      { DEV(OP_CAPS, 0, 100, 99) } },
    { "device-cap-twice", "a second one with the same id follows", CAP, true,
      { DEV(OP_CAPS, 0, 1, 6) } },
    { "device-argsz-0", "the reply needs no room", CAP, false,
      { DEV(OP_SET, 4, D_ARGSZ, 0) } },
    { "device-argsz-max", "the reply needs 4 GiB", CAP, false,
      { DEV(OP_SET, 4, D_ARGSZ, 0xffffffff) } },
    { "device-argsz-grows", "the reply always needs more room", CAP, false,
      { DEV(OP_GROW, 0, 0, 0) } },
    { "device-regions-0", "no regions", CXL, false,
      { DEV(OP_SET, 4, D_REGIONS, 0) } },
    { "device-regions-9", "only the regions of PCI", CXL, false,
      { DEV(OP_SET, 4, D_REGIONS, 9) } },
    { "device-regions-10", "one region too few", CXL, false,
      { DEV(OP_SET, 4, D_REGIONS, 10) } },
    { "device-regions-more", "a region that cannot be queried", CXL, true,
      { DEV(OP_SET, 4, D_REGIONS, 12) } },
    { "device-irqs-0", "no interrupts", CXL, false,
      { DEV(OP_SET, 4, D_IRQS, 0) } },

    /* Forms of the capability that are none of those known */
    { "form-v0", "the form of the first proposals, 40 bytes", V2, false,
      { DEV(OP_CAPS, 0, 1, 99), DEV(OP_SET, 4, D_CAP_NEXT, 0),
        DEV(OP_SET, 8, 32, 1), DEV(OP_SET, 8, 40, 0x30),
        DEV(OP_SET, 8, 48, 0x31200), DEV(OP_SET, 8, 56, 1 << 28),
        DEV(OP_CUT, 0, 64, 0) } },
    { "form-v1", "as v0, with flags", V2, false,
      { DEV(OP_CAPS, 0, 1, 99), DEV(OP_SET, 4, D_CAP_NEXT, 0),
        DEV(OP_SET, 8, 32, 1 | 3ull << 32), DEV(OP_SET, 8, 40, 0x30),
        DEV(OP_SET, 8, 48, 0x31200), DEV(OP_SET, 8, 56, 1 << 28),
        DEV(OP_CUT, 0, 64, 0) } },
    { "form-newer", "a form that is not known yet", CAP, false,
      { DEV(OP_SET, 8, 32, 0x1122334455667788), DEV(OP_SET, 8, 40, 0x99),
        DEV(OP_SET, 8, 48, ~0ull) } },
    { "form-zero", "all zero", CAP, false,
      { DEV(OP_SET, 8, 32, 0), DEV(OP_SET, 8, 40, 0),
        DEV(OP_SET, 8, 48, 0) } },
    { "form-ones", "all ones", CAP, false,
      { DEV(OP_SET, 8, 32, ~0ull), DEV(OP_SET, 8, 40, ~0ull),
        DEV(OP_SET, 8, 48, ~0ull) } },
    { "form-version-2", "version 2 of the capability", CAP, true,
      { DEV(OP_SET, 2, D_CAP_VER, 2) } },

    { "v2-bar-2", "a BAR that has no component registers", V2, false,
      { DEV(OP_SET, 1, V2_BAR, 2) } },
    { "v2-bar-6", "BAR 6, which does not exist", V2, false,
      { DEV(OP_SET, 1, V2_BAR, 6) } },
    { "v2-bar-255", "BAR 255", V2, false, { DEV(OP_SET, 1, V2_BAR, 255) } },
    { "v2-reserved", "a reserved byte that is not zero", V2, false,
      { DEV(OP_SET, 1, V2_RESERVED, 1) } },
    { "v2-flags", "an unknown flag", V2, false,
      { DEV(OP_OR, 4, V2_FLAGS, 0x80) } },
    { "v2-not-committed", "no flag says that the firmware has committed", V2,
      false, { DEV(OP_CLEAR, 4, V2_FLAGS, 1) } },
    { "v2-offset-0", "registers at offset 0", V2, false,
      { DEV(OP_SET, 8, V2_OFFSET, 0) } },
    { "v2-offset-unaligned", "registers at an odd offset", V2, false,
      { DEV(OP_ADD, 8, V2_OFFSET, 4) } },
    { "v2-offset-moved", "registers 64 KiB from where they are", V2, false,
      { DEV(OP_ADD, 8, V2_OFFSET, 0x10000) } },
    { "v2-offset-max", "registers at the end of all addresses", V2, false,
      { DEV(OP_SET, 8, V2_OFFSET, ~0xfffull) } },
    { "v2-memory-bar", "the memory's index is that of a BAR", V2, false,
      { DEV(OP_SET, 4, V2_MEMORY, 0) } },
    { "v2-memory-out", "the memory's index is too large", V2, false,
      { DEV(OP_SET, 4, V2_MEMORY, 99) } },
    { "v2-memory-max", "the memory's index is 0xffffffff", V2, false,
      { DEV(OP_SET, 4, V2_MEMORY, 0xffffffff) } },
    { "v2-registers-bar", "the registers' index is that of a BAR", V2, false,
      { DEV(OP_SET, 4, V2_REGS, 2) } },
    { "v2-registers-out", "the registers' index is too large", V2, false,
      { DEV(OP_SET, 4, V2_REGS, 11) } },
    { "v2-same-index", "one index for both regions", V2, false,
      { DEV(OP_SET, 4, V2_REGS, 9) } },
    { "v2-swapped", "the indices are swapped", V2, false,
      { DEV(OP_SET, 4, V2_MEMORY, 10), DEV(OP_SET, 4, V2_REGS, 9) } },

    { "v3-bar-2", "a BAR that has no component registers", V3, false,
      { DEV(OP_SET, 4, V3_BAR, 2) } },
    { "v3-bar-6", "BAR 6, which does not exist", V3, false,
      { DEV(OP_SET, 4, V3_BAR, 6) } },
    { "v3-not-committed", "no flag says that the firmware has committed", V3,
      false, { DEV(OP_CLEAR, 4, V3_FLAGS, 1) } },
    { "v3-offset-unaligned", "registers at an odd offset", V3, false,
      { DEV(OP_ADD, 8, V3_OFFSET, 4) } },
    { "v3-offset-moved", "registers 64 KiB from where they are", V3, false,
      { DEV(OP_ADD, 8, V3_OFFSET, 0x10000) } },
    { "v3-offset-max", "registers at the end of all addresses", V3, false,
      { DEV(OP_SET, 8, V3_OFFSET, ~0xffffull) } },
    { "v3-size-0", "no registers", V3, false,
      { DEV(OP_SET, 8, V3_SIZE, 0) } },
    { "v3-size-small", "4 KiB of registers", V3, false,
      { DEV(OP_SET, 8, V3_SIZE, 0x1000) } },
    { "v3-memory-bar", "the memory's index is that of a BAR", V3, false,
      { DEV(OP_SET, 4, V3_MEMORY, 0) } },
    { "v3-memory-out", "the memory's index is too large", V3, false,
      { DEV(OP_SET, 4, V3_MEMORY, 99) } },
    { "v3-registers-out", "the registers' index is too large", V3, false,
      { DEV(OP_SET, 4, V3_REGS, 11) } },
    { "v3-same-index", "one index for both regions", V3, false,
      { DEV(OP_SET, 4, V3_REGS, 10) } },
    { "v3-swapped", "the indices are swapped", V3, false,
      { DEV(OP_SET, 4, V3_MEMORY, 9), DEV(OP_SET, 4, V3_REGS, 10) } },

    /* The memory region */
    { "memory-fails", "GET_REGION_INFO of the memory fails", CXL, false,
      { MEM(OP_FAIL, 0, 0, EINVAL) } },
    { "memory-size-0", "no memory", CXL, false,
      { MEM(OP_SET, 8, R_SIZE, 0) } },
    { "memory-size-1", "one byte of memory", CXL, false,
      { MEM(OP_SET, 8, R_SIZE, 1) } },
    { "memory-size-page", "256 MiB and a page", CXL, false,
      { MEM(OP_SET, 8, R_SIZE, 0x10001000) } },
    { "memory-size-odd", "256 MiB and 1 byte", CXL, false,
      { MEM(OP_SET, 8, R_SIZE, 0x10000001) } },
    { "memory-size-other", "more than the decoder maps", CXL, false,
      { MEM(OP_ADD, 8, R_SIZE, 0x10000000) } },
    { "memory-size-max", "all addresses", CXL, false,
      { MEM(OP_SET, 8, R_SIZE, ~0xfffffffull) } },
    { "memory-no-read", "memory that cannot be read", CXL, false,
      { MEM(OP_CLEAR, 4, R_FLAGS, READ) } },
    { "memory-no-write", "memory that cannot be written", CXL, false,
      { MEM(OP_CLEAR, 4, R_FLAGS, WRITE) } },
    { "memory-no-mmap", "memory that cannot be mapped", CXL, false,
      { MEM(OP_CLEAR, 4, R_FLAGS, MMAP) } },
    { "memory-no-caps", "no flag says that there are capabilities", CXL,
      false, { MEM(OP_CLEAR, 4, R_FLAGS, CAPS) } },
    { "memory-cap-offset-0", "the chain begins nowhere", CXL, false,
      { MEM(OP_SET, 4, R_CAP, 0) } },
    { "memory-cap-offset-4", "the chain begins in the struct", CXL, false,
      { MEM(OP_SET, 4, R_CAP, 4) } },
    { "memory-cap-offset-out", "the chain begins beyond the reply", CXL,
      false, { MEM(OP_SET, 4, R_CAP, 0x1000) } },
    { "memory-cap-loop", "the type is followed by itself", CXL, false,
      { MEM(OP_SET, 2, R_CAP_ID, 99), MEM(OP_SET, 4, R_CAP_NEXT, R_CAP_ID) } },
    { "memory-cap-cut", "the reply ends in the type", CXL, false,
      { MEM(OP_CUT, 0, 44, 0) } },
    { "memory-cap-overlap", "the next capability is inside the type", CXL,
      false, { MEM(OP_SET, 4, R_CAP_NEXT, R_CAP_ID + 8) } },
    { "memory-cap-many", "500 unknown capabilities follow", CXL, true,
      { MEM(OP_CAPS, 0, 500, 99) } },
    { "memory-type", "the type of another vendor", CXL, false,
      { MEM(OP_SET, 4, R_TYPE, 0x80001002) } },
    { "memory-type-gfx", "type 1", CXL, false,
      { MEM(OP_SET, 4, R_TYPE, 1) } },
    { "memory-subtype", "an unknown subtype", CXL, false,
      { MEM(OP_SET, 4, R_SUBTYPE, 7) } },
    { "memory-subtype-2", "the subtype of the registers", CXL, false,
      { MEM(OP_SET, 4, R_SUBTYPE, 2) } },
    { "memory-index", "another region's index", CXL, false,
      { MEM(OP_SET, 4, R_INDEX, 3) } },
    { "memory-offset-unaligned", "file offset not on a page", CXL, false,
      { MEM(OP_ADD, 8, R_OFFSET, 1) } },
    { "memory-argsz-0", "the reply needs no room", CXL, false,
      { MEM(OP_SET, 4, R_ARGSZ, 0) } },
    { "memory-argsz-max", "the reply needs 4 GiB", CXL, false,
      { MEM(OP_SET, 4, R_ARGSZ, 0xffffffff) } },
    { "memory-argsz-grows", "the reply always needs more room", CXL, false,
      { MEM(OP_GROW, 0, 0, 0) } },

    /* The registers' region */
    { "registers-fails", "GET_REGION_INFO of the registers fails", CXL,
      false, { REGS(OP_FAIL, 0, 0, EINVAL) } },
    { "registers-size-0", "no registers", CXL, false,
      { REGS(OP_SET, 8, R_SIZE, 0) } },
    { "registers-size-small", "8 bytes of registers", CXL, false,
      { REGS(OP_SET, 8, R_SIZE, 8) } },
    { "registers-size-odd", "a size that is no multiple of 4", CXL, false,
      { REGS(OP_SET, 8, R_SIZE, 0x1e) } },
    { "registers-size-large", "more registers than a block has", CXL, false,
      { REGS(OP_SET, 8, R_SIZE, 0x20000) } },
    { "registers-size-max", "2^63 bytes of registers", CXL, false,
      { REGS(OP_SET, 8, R_SIZE, 1ull << 63) } },
    { "registers-no-caps", "no flag says that there are capabilities", CXL,
      false, { REGS(OP_CLEAR, 4, R_FLAGS, CAPS) } },
    { "registers-type", "the type of another vendor", CXL, false,
      { REGS(OP_SET, 4, R_TYPE, 0x80001002) } },
    { "registers-subtype", "an unknown subtype", CXL, false,
      { REGS(OP_SET, 4, R_SUBTYPE, 7) } },
    { "registers-subtype-1", "the subtype of the memory", CXL, false,
      { REGS(OP_SET, 4, R_SUBTYPE, 1) } },
    { "registers-cap-loop", "the type is followed by itself", CXL, false,
      { REGS(OP_SET, 2, R_CAP_ID, 99),
        REGS(OP_SET, 4, R_CAP_NEXT, R_CAP_ID) } },
    { "registers-cap-cut", "the reply ends in the type", CXL, false,
      { REGS(OP_CUT, 0, 44, 0) } },
    { "registers-argsz-0", "the reply needs no room", CXL, false,
      { REGS(OP_SET, 4, R_ARGSZ, 0) } },

    { "geometry-missing", "no geometry capability", GEO, false,
      { REGS(OP_SET, 4, R_CAP_NEXT, 0), REGS(OP_CUT, 0, 48, 0) } },
    { "geometry-bar-2", "a BAR that has no component registers", GEO, false,
      { REGS(OP_SET, 4, G_BAR, 2) } },
    { "geometry-bar-6", "BAR 6, which does not exist", GEO, false,
      { REGS(OP_SET, 4, G_BAR, 6) } },
    { "geometry-bar-max", "BAR 0xffffffff", GEO, false,
      { REGS(OP_SET, 4, G_BAR, 0xffffffff) } },
    { "geometry-offset-0", "the decoder at offset 0", GEO, false,
      { REGS(OP_SET, 8, G_OFFSET, 0) } },
    { "geometry-offset-unaligned", "the decoder at an odd offset", GEO,
      false, { REGS(OP_ADD, 8, G_OFFSET, 1) } },
    { "geometry-offset-moved", "the decoder 64 KiB from where it is", GEO,
      false, { REGS(OP_ADD, 8, G_OFFSET, 0x10000) } },
    { "geometry-offset-block", "the block's offset, not the decoder's", GEO,
      false, { REGS(OP_ADD, 8, G_OFFSET, (uint64_t)-0x1200) } },
    { "geometry-offset-max", "the decoder at the end of all addresses", GEO,
      false, { REGS(OP_SET, 8, G_OFFSET, ~0x2full) } },
    { "geometry-loop", "the capability is followed by itself", GEO, false,
      { REGS(OP_SET, 4, G_NEXT, G_ID) } },
    { "geometry-back", "the chain goes back to the type", GEO, false,
      { REGS(OP_SET, 4, G_NEXT, R_CAP_ID) } },
    { "geometry-overlap", "the next capability is inside this one", GEO,
      false, { REGS(OP_SET, 4, G_NEXT, G_ID + 8) } },
    { "geometry-cut-header", "the reply ends in its header", GEO, false,
      { REGS(OP_CUT, 0, 54, 0) } },
    { "geometry-cut", "the reply ends in it", GEO, false,
      { REGS(OP_CUT, 0, 60, 0) } },
    { "geometry-twice", "a second one with the same id follows", GEO, true,
      { REGS(OP_CAPS, 0, 1, 6) } },
    { "geometry-id-msix", "its id is that of another capability", GEO, false,
      { REGS(OP_SET, 2, G_ID, 3) } },

    /* The component BAR */
    { "bar-fails", "GET_REGION_INFO of the BAR fails", CXL, false,
      { BAR(OP_FAIL, 0, 0, EINVAL) } },
    { "bar-size-0", "no BAR", CXL, false, { BAR(OP_SET, 8, R_SIZE, 0) } },
    { "bar-size-small", "the registers are beyond the BAR", CXL, false,
      { BAR(OP_SET, 8, R_SIZE, 0x1000) } },
    { "bar-no-mmap", "a BAR that cannot be mapped", CXL, true,
      { BAR(OP_CLEAR, 4, R_FLAGS, MMAP) } },
    { "bar-no-areas", "a BAR that cannot be mapped, and no areas", CXL, true,
      { BAR(OP_CLEAR, 4, R_FLAGS, MMAP | CAPS), BAR(OP_SET, 4, R_CAP, 0),
        BAR(OP_CUT, 0, 32, 0) } },
    { "bar-all-mmap", "all of the BAR can be mapped", CXL, false,
      { BAR(OP_CLEAR, 4, R_FLAGS, CAPS), BAR(OP_SET, 4, R_CAP, 0) } },
    { "sparse-none", "no area can be mapped", CXL, true,
      { BAR(OP_SET, 4, S_COUNT, 0) } },
    { "sparse-count", "more areas than there is room for", CXL, false,
      { BAR(OP_SET, 4, S_COUNT, 0x10000000) } },
    { "sparse-count-max", "0xffffffff areas", CXL, false,
      { BAR(OP_SET, 4, S_COUNT, 0xffffffff) } },
    { "sparse-block", "an area over the registers", CXL, false,
      { BAR(OP_SET, 8, S_AREA0, 0), BAR(OP_SET, 8, S_SIZE0, 0x40000) } },
    { "sparse-out", "an area beyond the BAR", CXL, false,
      { BAR(OP_SET, 8, S_AREA0, 0x40000), BAR(OP_SET, 8, S_SIZE0, 0x10000) } },
    { "sparse-wrap", "an area around the end of all addresses", CXL, false,
      { BAR(OP_SET, 8, S_AREA0, ~0xfffull), BAR(OP_SET, 8, S_SIZE0, 0x2000) } },
    { "sparse-size-max", "an area of 2^64 - 1 bytes", CXL, false,
      { BAR(OP_SET, 8, S_SIZE0, ~0ull) } },
    { "sparse-unaligned", "an area that does not begin on a page", CXL,
      false, { BAR(OP_ADD, 8, S_AREA0, 0x10) } },
    { "sparse-cut", "the reply ends in the areas", CXL, false,
      { BAR(OP_CUT, 0, 52, 0) } },
    { "sparse-loop", "the capability is followed by itself", CXL, false,
      { BAR(OP_SET, 2, R_CAP_ID, 99), BAR(OP_SET, 4, R_CAP_NEXT, 32) } },

    /* What the component registers say */
    { "array-ones", "no response at the capability array", CXL, false,
      { CM(OP_SET, 0, 0xffffffff) } },
    { "array-zero", "the capability array's header is zero", CXL, false,
      { CM(OP_SET, 0, 0) } },
    { "array-id", "the capability array has another id", CXL, false,
      { CM(OP_ADD, 0, 1) } },
    { "array-empty", "the capability array has no entries", CXL, false,
      { CM(OP_CLEAR, 0, 0xff000000) } },
    { "array-full", "the capability array has 255 entries", CXL, true,
      { CM(OP_OR, 0, 0xff000000) } },
    { "array-full-no-hdm", "255 entries, none of them for an HDM decoder", CXL,
      false, { CM(OP_OR, 0, 0xff000000), CM(OP_OR, CM_HDM_ENTRY, 0xff) } },
    { "hdm-missing", "no HDM decoder in the capability array", CXL, false,
      { CM(OP_OR, CM_HDM_ENTRY, 0xff) } },
    { "hdm-at-0", "the HDM decoder is at the array", CXL, false,
      { CM(OP_CLEAR, CM_HDM_ENTRY, 0xfff00000) } },
    { "hdm-at-end", "the HDM decoder is at the end of the area", CXL, false,
      { CM(OP_OR, CM_HDM_ENTRY, 0xfff00000) } },
    { "ras-at-0", "RAS is at the array", CXL, false,
      { CM(OP_CLEAR, CM_RAS_ENTRY, 0xfff00000) } },
    { "ras-at-end", "RAS is at the end of the area", CXL, false,
      { CM(OP_OR, CM_RAS_ENTRY, 0xffc00000) } },
    { "ras-odd", "RAS is at an odd address", CXL, false,
      { CM(OP_OR, CM_RAS_ENTRY, 0x00100000) } },
    { "ras-among-decoders", "RAS is where the HDM decoder is", CXL, false,
      { CM(OP_ADD, CM_RAS_ENTRY, (CM_HDM - CM_RAS) << 20) } },
    { "ras-missing", "no RAS in the capability array", CXL, true,
      { CM(OP_OR, CM_RAS_ENTRY, 0xff) } },
    { "hdm-moved", "the HDM decoder is not where the kernel reports it", CXL,
      false, { CM(OP_ADD, CM_HDM_ENTRY, 0x10000000) } },
    { "hdm-ones", "no response at the HDM decoder", CXL, false,
      { CM(OP_SET, CM_HDM, 0xffffffff), CM(OP_SET, CM_CTRL, 0xffffffff) } },
    { "hdm-count-2", "2 decoders, room for one", CXL, false,
      { CM(OP_ADD, CM_HDM, 1) } },
    { "hdm-count-20", "20 decoders", CXL, false, { CM(OP_ADD, CM_HDM, 9) } },
    { "hdm-count-reserved", "a reserved number of decoders", CXL, false,
      { CM(OP_OR, CM_HDM, 0xf) } },
    { "hdm-uncommitted", "the decoder is not committed", CXL, false,
      { CM(OP_CLEAR, CM_CTRL, 7 << 8) } },
    { "hdm-error", "the decoder could not be committed", CXL, false,
      { CM(OP_CLEAR, CM_CTRL, 1 << 10), CM(OP_OR, CM_CTRL, 1 << 11) } },
    { "hdm-interleaved", "the decoder interleaves", CXL, false,
      { CM(OP_OR, CM_CTRL, 1 << 4) } },
    { "hdm-host-only", "the decoder's memory is host-only coherent", CXL, true,
      { CM(OP_OR, CM_CTRL, 1 << 12) } },
    { "hdm-size-0", "the decoder maps nothing", CXL, false,
      { CM(OP_SET, CM_SIZE_LO, 0), CM(OP_SET, CM_SIZE_HI, 0) } },
    { "hdm-size-odd", "the decoder maps no multiple of 256 MiB", CXL, false,
      { CM(OP_OR, CM_SIZE_LO, 0x1000) } },
    { "hdm-size-other", "the decoder maps more than the region", CXL, false,
      { CM(OP_SET, CM_SIZE_HI, 0x100) } },

    /* What the device says of itself */
    { "locator-bar-2", "the Register Locator names another BAR", CXL, false,
      { CFG(OP_OR, 4, C_LOCATOR + 0x0c, 2) } },
    { "locator-moved", "the Register Locator names another offset", CXL,
      false, { CFG(OP_ADD, 4, C_LOCATOR + 0x0c, 0x40000) } },
    { "locator-type", "the Register Locator has no component registers", CXL,
      false, { CFG(OP_OR, 4, C_LOCATOR + 0x0c, 0x700) } },
    { "locator-missing", "no Register Locator", CXL, false,
      { CFG(OP_SET, 2, C_LOCATOR + 8, 0x1f) } },
    { "locator-length-0", "a Register Locator of no length", CXL, false,
      { CFG(OP_CLEAR, 4, C_LOCATOR + 4, 0xfff00000) } },
    { "locator-length-max", "a Register Locator of 4095 bytes", CXL, false,
      { CFG(OP_OR, 4, C_LOCATOR + 4, 0xfff00000) } },
    { "dvsec-missing", "no DVSEC of a CXL device", CXL, false,
      { CFG(OP_SET, 2, C_DEVICE + 8, 0x1f) } },
    { "dvsec-vendor", "another vendor's DVSEC", CXL, false,
      { CFG(OP_SET, 2, C_DEVICE + 4, 0x1002) } },
    { "dvsec-short", "a DVSEC of 16 bytes", CXL, false,
      { CFG(OP_CLEAR, 4, C_DEVICE + 4, 0xfff00000),
        CFG(OP_OR, 4, C_DEVICE + 4, 0x01000000) } },
    { "dvsec-twice", "a second DVSEC of a CXL device", CXL, false,
      { CFG(OP_SET, 2, C_FLEXBUS + 8, 0),
        CFG(OP_OR, 4, C_FLEXBUS + 4, 0x01c00000) } },
    { "dvsec-no-mem", "a device without CXL.mem", CXL, false,
      { CFG(OP_CLEAR, 2, C_DEVICE + 0x0a, 4) } },
    { "dvsec-inactive", "memory that does not become active", V5 | V6, false,
      { CFG(OP_CLEAR, 4, C_DEVICE + 0x1c, 2) } },
    { "dvsec-loop", "extended capabilities in a loop", CXL, false,
      { CFG(OP_CLEAR, 4, C_DEVICE, 0xfff00000),
        CFG(OP_OR, 4, C_DEVICE, 0x10000000) } },
    { "ext-cap-last", "a capability in the last 8 bytes", CXL, true,
      { CFG(OP_OR, 4, C_FLEXBUS, 0xff800000),
        CFG(OP_SET, 4, 0xff8, 0x0001000f) } },
    { "config-size", "1 KiB of configuration space", CXL, false,
      { { SIM_AT_CONFIG_REGION, OP_SET, 8, R_SIZE, 0x400 } } },
    { "class-memory", "the class of a memory expander", CXL, true,
      { CFG(OP_SET, 4, C_CLASS, 0x05021001) } },

    /* Short reads and writes */
    { "short-read-config", "1 byte of configuration space", CXL, false,
      { IO(READ_CONFIG, 1) } },
    { "short-read-registers", "2 bytes of component registers", CXL, false,
      { IO(READ_REGISTERS, 2) } },
    { "empty-read-registers", "0 bytes of component registers", CXL, false,
      { IO(READ_REGISTERS, 0) } },
    { "short-read-memory", "3 bytes of memory", CAP | V5 | V6, true,
      { IO(READ_MEMORY, 3) } },
    { "short-read-bar", "1 byte of the BAR", CAP, true,
      { IO(READ_BAR, 1) } },
    { "short-read-array", "1 byte of the BAR that has the array", GEO, false,
      { IO(READ_BAR, 1) } },
    { "short-write-config", "1 byte of configuration space", CXL, true,
      { IO(WRITE_CONFIG, 1) } },
    { "short-write-registers", "2 bytes of component registers", CXL, true,
      { IO(WRITE_REGISTERS, 2) } },
};

int sim_mangle_find(const char *name)
{
    unsigned i;

    for (i = 0; i < NUM(mangles); i++) {
        if (!strcmp(name, mangles[i].name)) {
            return i;
        }
    }
    return -1;
}

const char *sim_mangle_name(unsigned n)
{
    return n < NUM(mangles) ? mangles[n].name : "none";
}

bool sim_mangle_concerns(unsigned n, const char *kernel)
{
    unsigned bit = kernel[0] == 'v' ? 1u << (kernel[1] - '2') : 0;

    return n == 0 || (n < NUM(mangles) && (mangles[n].kernels & bit));
}

void sim_mangle_help(void)
{
    unsigned i, k;

    puts("Malformations for --mangle=, with the generations that they "
         "concern. One that is\nmarked * does not prevent a program from "
         "using the device.");
    for (i = 1; i < NUM(mangles); i++) {
        const Mangle *m = &mangles[i];

        printf("  %-26s%c ", m->name, m->harmless ? '*' : ' ');
        for (k = 0; k < 5; k++) {
            if (m->kernels & 1u << k) {
                printf("v%u ", k + 2);
            }
        }
        printf(" %s\n", m->text);
    }
}

/* The n-th change that concerns @where, or NULL */
static const Change *change(unsigned n, SimWhere where, unsigned *i)
{
    const Change *c;

    for (; n < NUM(mangles) && *i < NUM(mangles[n].changes); ) {
        c = &mangles[n].changes[(*i)++];
        if (c->where == where) {
            return c;
        }
    }
    return NULL;
}

static uint64_t changed(const Change *c, uint64_t old)
{
    switch (c->op) {
    case OP_SET:
        return c->value;
    case OP_OR:
        return old | c->value;
    case OP_CLEAR:
        return old & ~c->value;
    default:
        return old + c->value;
    }
}

static void append(SimReply *r, unsigned count, uint64_t id)
{
    uint32_t link = r->cap_field, at;

    memcpy(&at, r->buf + link, 4);
    while (at) {
        link = at + 4;
        memcpy(&at, r->buf + link, 4);
    }
    for (; count && r->size + 16 <= SIM_REPLY_MAX; count--) {
        uint16_t header[2] = { id, 1 };

        memset(r->buf + r->size, 0xa5, 16);
        memcpy(r->buf + link, &r->size, 4);
        memcpy(r->buf + r->size, header, 4);
        link = r->size + 4;
        memset(r->buf + link, 0, 4);
        r->size += 16;
    }
    memcpy(r->buf, &r->size, 4);
}

bool sim_mangle_reply(unsigned n, SimWhere where, SimReply *r, uint32_t given)
{
    const Change *c;
    unsigned i = 0;
    bool odd = false;

    while ((c = change(n, where, &i))) {
        uint64_t value = 0;
        uint32_t need;

        switch (c->op) {
        case OP_CUT:
            r->size = c->off < r->size ? c->off : r->size;
            memcpy(r->buf, &r->size, 4);
            break;
        case OP_CAPS:
            append(r, c->off, c->value);
            break;
        case OP_GROW:
            need = given + 8;
            memcpy(r->buf, &need, 4);
            memset(r->buf + r->cap_field, 0, 4);
            odd = true;
            break;
        case OP_FAIL:
            break;
        default:
            memcpy(&value, r->buf + c->off, c->size);
            value = changed(c, value);
            memcpy(r->buf + c->off, &value, c->size);
            odd |= c->off == 0;
            break;
        }
    }
    return odd;
}

int sim_mangle_error(unsigned n, SimWhere where)
{
    const Change *c;
    unsigned i = 0;

    while ((c = change(n, where, &i))) {
        if (c->op == OP_FAIL) {
            return -(int)c->value;
        }
    }
    return 0;
}

uint32_t sim_mangle_cm(unsigned n, unsigned off, uint32_t value)
{
    const Change *c;
    unsigned i = 0;

    while ((c = change(n, SIM_AT_CM, &i))) {
        if (c->off == off) {
            value = changed(c, value);
        }
    }
    return value;
}

void sim_mangle_config(unsigned n, unsigned pos, uint8_t *buf, size_t count)
{
    const Change *c;
    unsigned i = 0, k;

    while ((c = change(n, SIM_AT_CONFIG, &i))) {
        /* The access is up to 4 aligned bytes, so is the register */
        if (pos >= c->off + c->size || c->off >= pos + count) {
            continue;
        }
        for (k = 0; k < count; k++) {
            unsigned shift;

            if (pos + k < c->off || pos + k >= c->off + c->size) {
                continue;
            }
            shift = 8 * (pos + k - c->off);
            switch (c->op) {
            case OP_SET:
                buf[k] = c->value >> shift;
                break;
            case OP_OR:
                buf[k] |= c->value >> shift;
                break;
            case OP_CLEAR:
                buf[k] &= ~(c->value >> shift);
                break;
            default:
                buf[k] += c->value >> shift;
                break;
            }
        }
    }
}

size_t sim_mangle_count(unsigned n, SimWhere where, size_t done)
{
    const Change *c;
    unsigned i = 0;

    while (where != SIM_AT_NOTHING && (c = change(n, where, &i))) {
        done = c->value < done ? c->value : done;
    }
    return done;
}
