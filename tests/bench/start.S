/*
 * Benchmarks: from the reset vector to user mode
 *
 * A ROM of 64 KiB that takes the place of the firmware: real mode, protected
 * mode, long mode with 32 GiB from 0 and from 1 TiB mapped for user mode, then
 * bench_main() in ring 3. No interrupts; an exception resets the machine.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define TABLES      0x300000    /* page tables: PML4, 2 PDPTs, 64 PDs */
#define STACK       0x2f0000
#define GIBS        32

#define CODE32      0x08
#define DATA        0x10
#define CODE64      0x18
#define USER_DATA   0x23
#define USER_CODE   0x2b

    .section .reset, "ax"
    .code16
reset16:
    cli
    data32 lgdt %cs:(gdt_pointer - reset16 + 0xfe00)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $CODE32, $reset32

    .code32
reset32:
    movl $DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $rom_base, %esi        /* the rest runs in RAM */
    movl $payload, %edi
    movl $payload_words, %ecx
    cld
    rep movsl
    movl $STACK, %esp
    movl $start32, %eax
    jmp *%eax

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff    /* CODE32 */
    .quad 0x00cf93000000ffff    /* DATA */
    .quad 0x00af9b000000ffff    /* CODE64 */
    .quad 0x00cff3000000ffff    /* USER_DATA */
    .quad 0x00affb000000ffff    /* USER_CODE */
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt

    .section .vector, "ax"
    .code16
    jmp reset16

    .section .start, "ax"
    .code32
start32:
    movl $TABLES, %edi          /* PML4, two PDPTs */
    xorl %eax, %eax
    movl $(3 * 1024), %ecx
    rep stosl
    movl $(TABLES + 0x1007), TABLES
    movl $(TABLES + 0x2007), TABLES + 2 * 8
    movl $(TABLES + 0x3007), %eax
    xorl %edx, %edx             /* from 0 */
    movl $(TABLES + 0x1000), %edi
    call map
    movl $0x100, %edx           /* from 1 TiB */
    movl $(TABLES + 0x2000), %edi
    call map
    jmp long_mode

/* EDI: a PDPT, EAX: its first PD with flags, EDX: high half of the address */
map:
    movl %eax, %esi
    movl $GIBS, %ecx
1:  movl %eax, (%edi)
    addl $0x1000, %eax
    addl $8, %edi
    loop 1b
    movl %eax, %ebx

    leal -7(%esi), %edi         /* pages of 2 MiB for user mode */
    movl $0x87, %eax
    movl $(GIBS * 512), %ecx
2:  movl %eax, (%edi)
    movl %edx, 4(%edi)
    addl $0x200000, %eax
    adcl $0, %edx
    addl $8, %edi
    loop 2b
    movl %ebx, %eax
    ret

long_mode:
    movl %cr4, %eax
    orl $0x20, %eax             /* PAE */
    movl %eax, %cr4
    movl $TABLES, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx      /* EFER: LME */
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    ljmpl $CODE64, $start64

    .code64
start64:
    pushq $USER_DATA
    pushq $STACK
    pushq $0x3002               /* IOPL 3, no interrupts */
    pushq $USER_CODE
    movabsq $bench_main, %rax
    pushq %rax
    iretq
