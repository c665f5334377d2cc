/*
 * Benchmarks: a guest that measures on command
 *
 * It shares a page of RAM with machine.py, takes one command at a time from
 * there and leaves the time that it took. Everything runs in user mode, and a
 * wait for the next command does not leave the guest.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdint.h>

#define CHANNEL 0x200000ul      /* as in machine.py */

/* volatile: each access is measured, or visible outside */
#define AT(type, address) (*(volatile type *)(address))

enum {
    OP_READ = 1,        /* read @length bytes at @a in order */
    OP_WRITE,           /* write them */
    OP_COPY,            /* copy @length bytes from @a to @b */
    OP_CHAIN,           /* link lines of @length bytes at @a, in random order */
    OP_CHASE,           /* follow that chain for @count steps */
    OP_LOAD32,          /* one load from @a, @count times */
    OP_STORE32,         /* store @b to @a, @count times */
    OP_LOAD64,
    OP_STORE64,
    OP_LOAD16,
    OP_STORE16,
    OP_OUT32,           /* @b to port @a */
};

typedef struct Channel {
    uint64_t wanted;            /* number of the newest command */
    uint64_t done;              /* of the last that was carried out */
    uint64_t op;
    uint64_t a;
    uint64_t b;
    uint64_t length;
    uint64_t count;
    uint64_t ticks;             /* that it took */
    uint64_t value;             /* a result */
} Channel;

static uint64_t now(void)
{
    uint32_t lo, hi;

    asm volatile("lfence; rdtsc; lfence" : "=a" (lo), "=d" (hi) : : "memory");
    return lo | (uint64_t)hi << 32;
}

static uint64_t read_all(uint64_t p, uint64_t words)
{
    uint64_t sum = 0;

    for (uint64_t end = p + words * 8; p < end; p += 64) {
        sum += AT(uint64_t, p) + AT(uint64_t, p + 8) +
               AT(uint64_t, p + 16) + AT(uint64_t, p + 24) +
               AT(uint64_t, p + 32) + AT(uint64_t, p + 40) +
               AT(uint64_t, p + 48) + AT(uint64_t, p + 56);
    }
    return sum;
}

static void write_all(void *p, uint64_t words, uint64_t value)
{
    asm volatile("rep stosq" : "+D" (p), "+c" (words) : "a" (value)
                 : "memory");
}

static void copy_all(void *to, const void *from, uint64_t words)
{
    asm volatile("rep movsq" : "+D" (to), "+S" (from), "+c" (words) : :
                 "memory");
}

/* One cycle through all lines: a generator of full period, size 2^n */
static void make_chain(uint64_t base, uint64_t length)
{
    uint64_t lines = length / 64, line = 0;

    for (uint64_t i = 0; i < lines; i++) {
        uint64_t next = (line * 1664525 + 1013904223) & (lines - 1);

        AT(uint64_t, base + line * 64) = base + next * 64;
        line = next;
    }
}

static uint64_t follow(uint64_t at, uint64_t steps)
{
    while (steps--) {
        at = AT(uint64_t, at);
    }
    return at;
}

static void run(Channel *c)
{
    uint64_t start = now();

    switch (c->op) {
    case OP_READ:
        for (uint64_t i = 0; i < c->count; i++) {
            c->value = read_all(c->a, c->length / 8);
        }
        break;
    case OP_WRITE:
        for (uint64_t i = 0; i < c->count; i++) {
            write_all((void *)c->a, c->length / 8, c->b);
        }
        break;
    case OP_COPY:
        for (uint64_t i = 0; i < c->count; i++) {
            copy_all((void *)c->b, (void *)c->a, c->length / 8);
        }
        break;
    case OP_CHAIN:
        make_chain(c->a, c->length);
        break;
    case OP_CHASE:
        c->value = follow(c->a, c->count);
        break;
    case OP_LOAD32:
        for (uint64_t i = 0; i < c->count; i++) {
            c->value = AT(uint32_t, c->a);
        }
        break;
    case OP_STORE32:
        for (uint64_t i = 0; i < c->count; i++) {
            AT(uint32_t, c->a) = c->b;
        }
        break;
    case OP_LOAD64:
        c->value = AT(uint64_t, c->a);
        break;
    case OP_STORE64:
        AT(uint64_t, c->a) = c->b;
        break;
    case OP_LOAD16:
        c->value = AT(uint16_t, c->a);
        break;
    case OP_STORE16:
        AT(uint16_t, c->a) = c->b;
        break;
    case OP_OUT32:
        asm volatile("outl %0, %1" : : "a" ((uint32_t)c->b),
                     "d" ((uint16_t)c->a));
        break;
    }
    c->ticks = now() - start;
}

void __attribute__((noreturn)) bench_main(void)
{
    Channel *c = (Channel *)CHANNEL;

    for (;;) {
        while (AT(uint64_t, &c->wanted) == c->done) {
            asm volatile("pause" : : : "memory");
        }
        run(c);
        asm volatile("" : : : "memory");
        AT(uint64_t, &c->done) = AT(uint64_t, &c->wanted);
    }
}
