/*
 * A guest that reads and writes one address forever, as firmware of virt
 *
 * Its instructions are in vfio-cxl-vcpu.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
        .set    BLOCK, 0x42000000       /* address, loops, last value, aborts */

start:
        adr     x0, start + 0x800       /* vectors */
        msr     vbar_el1, x0
        mov     x1, #BLOCK              /* above the device tree */
1:      ldr     x2, [x1]
        cbz     x2, 1b
        ldr     x3, [x2]
        str     x3, [x1, #16]
        ldr     x4, [x1, #8]
        add     x4, x4, #1
        str     x4, [x2, #8]
        str     x4, [x1, #8]
        b       1b

        /* What follows is at 0xa00: a synchronous exception in EL1 */
abort:
        mrs     x5, elr_el1
        add     x5, x5, #4
        msr     elr_el1, x5
        ldr     x6, [x1, #24]
        add     x6, x6, #1
        str     x6, [x1, #24]
        eret
