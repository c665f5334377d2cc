/*
 * A guest that reads and writes one address for ever, as firmware of q35
 *
 * It is the last page below 1 MiB. Its bytes are in vfio-cxl-vcpu.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
        .set    BASE, 0xff000           /* where it runs */
        .set    PML4, 0x10000
        .set    BLOCK, 0x8000           /* address, loops, last value read */

        .code16
start:
        cli
        cs lgdtl gdt_pointer - start + 0xf000
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $8, $(BASE + protected - start)

        .code32
protected:
        movw    $16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        /* The page tables are there when the address is */
1:      cmpl    $0, BLOCK
        je      1b
        movl    %cr4, %eax
        orl     $0x20, %eax
        movl    %eax, %cr4
        movl    $PML4, %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx
        rdmsr
        orl     $0x100, %eax
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000000, %eax
        movl    %eax, %cr0
        ljmpl   $24, $(BASE + long - start)

        .code64
long:
        movl    $BLOCK, %ebx
2:      movq    (%rbx), %rdi
        testq   %rdi, %rdi
        jz      2b
        movq    (%rdi), %rax
        movq    %rax, 16(%rbx)
        movq    8(%rbx), %rcx
        incq    %rcx
        movq    %rcx, 8(%rdi)
        movq    %rcx, 8(%rbx)
        jmp     2b

        .balign 8
gdt:    .quad   0
        .quad   0x00cf9b000000ffff      /* 8: code of 32 bits */
        .quad   0x00cf93000000ffff      /* 16: data */
        .quad   0x00af9b000000ffff      /* 24: code of 64 bits */
gdt_pointer:
        .word   31
        .long   BASE + gdt - start

        /* What follows is at 0xfffffff0, where a reset leads to */
        .code16
reset:
        ljmpw   $0xf000, $0xf000        /* start */
