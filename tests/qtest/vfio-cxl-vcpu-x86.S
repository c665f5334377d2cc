/*
 * A guest that reads and writes one address forever, as firmware of q35
 *
 * Each vCPU has an address of its own. The code is the last page below 1 MiB,
 * its bytes are in vfio-cxl-vcpu.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
        .set    BASE, 0xff000           /* where it runs */
        .set    PML4, 0x10000
        .set    BLOCK, 0x8000           /* as in vfio-cxl-vcpu.h */
        .set    APIC, 0xfee00000

        .code16
start:
        /* The first vCPU comes from reset, the others with CS 0xff00 */
        ljmpw   $0xf000, $(real - start + 0xf000)
real:
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
        movl    $APIC, %esi
        movl    0x20(%rsi), %ebx        /* APIC ID */
        shrl    $24, %ebx
        jnz     others
        movl    $0x000c4500, 0x300(%rsi) /* INIT to all others */
        movl    $0x000c46ff, 0x300(%rsi) /* Startup, at 0xff000 */
others:
        shll    $6, %ebx
        addl    $BLOCK, %ebx
2:      movq    (%rbx), %rdi
        testq   %rdi, %rdi
        jz      2b
        movq    (%rdi), %rax
        movq    %rax, 16(%rbx)
        movq    8(%rbx), %rcx
        incq    %rcx
        movq    %rcx, %rdx
        imulq   32(%rbx), %rdx
        movq    %rdx, 8(%rdi)
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
