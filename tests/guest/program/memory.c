/*
 * The device's memory in the window
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "cxl-guest.h"

bool map_window(const char *name)
{
    if (dev.window) {
        munmap(dev.window, dev.size);
    }
    if (opt.driver) {
        dev.window = map_file(opt.driver, dev.gpa, dev.size);
        dev.cached = true;
    } else {
        dev.window = map_file("/dev/mem", dev.gpa, dev.size);
        /* On arm64, /dev/mem maps everything except RAM as registers */
#ifdef __x86_64__
        dev.cached = true;
#endif
    }
    if (!dev.window) {
        return fail(name, "mmap of 0x%" PRIx64 " through %s: %s", dev.gpa,
                    opt.driver ? opt.driver : "/dev/mem", strerror(errno));
    }
    ok(name, "by=%s", opt.driver ? opt.driver : "/dev/mem");
    return true;
}

uint64_t peek(uint64_t dpa)
{
    barrier();
    set64(dev.regs + VFIO_SIM_REG_PEEK_ADDR, dpa);
    return get64(dev.regs + VFIO_SIM_REG_PEEK_DATA);
}

static void poke(uint64_t dpa, uint64_t val)
{
    barrier();
    set64(dev.regs + VFIO_SIM_REG_PEEK_ADDR, dpa);
    set64(dev.regs + VFIO_SIM_REG_PEEK_DATA, val);
    barrier();
}

/* Bytes that the host wrote before the guest started */
void check_token(const char *name)
{
    const char *want = opt.token;
    unsigned device;
    char text[65];
    int i;

    for (device = 0; want && device < dev.index; device++) {
        want = strchr(want, ':');
        want = want ? want + 1 : NULL;
    }
    if (!want) {
        skip(name, "%s", "no token given");
        return;
    }
    for (i = 0; i < 32; i++) {
        snprintf(text + 2 * i, 3, "%02x", dev.window[4096 + i]);
    }
    if (strncmp(text, want, 64)) {
        fail(name, "0x1000 holds %s, the host wrote %.64s", text, want);
        return;
    }
    ok(name, "%s", "the host's bytes are in the window");
}

void check_peek(const char *name)
{
    uint64_t step = dev.size / 64;
    uint64_t i, dpa;

    for (i = 0; i <= 64; i++) {
        dpa = i == 64 ? dev.size - 8 : i * step + 8 * (i & 15);
        poke(dpa, mix(dpa));
        if (get64(dev.window + dpa) != mix(dpa)) {
            fail(name, "the device put 0x%" PRIx64 " at 0x%" PRIx64
                 ", the window reads 0x%" PRIx64, mix(dpa), dpa,
                 get64(dev.window + dpa));
            return;
        }
        set64(dev.window + dpa, ~mix(dpa));
        if (peek(dpa) != ~mix(dpa)) {
            fail(name, "the window put 0x%" PRIx64 " at 0x%" PRIx64
                 ", the device reads 0x%" PRIx64, ~mix(dpa), dpa, peek(dpa));
            return;
        }
    }
    ok(name, "%s", "65 places, both ways");
}

typedef struct {
    uint64_t lo, hi;
} U128;

static inline void store16(uint8_t *p, U128 v)
{
#if defined(__x86_64__)
    asm volatile("movdqu %1, %%xmm0; movdqu %%xmm0, %0"
                 : "=m"(*(uint8_t (*)[16])p) : "m"(v) : "xmm0");
#elif defined(__aarch64__)
    asm volatile("ldr q0, %1; str q0, %0"
                 : "=Q"(*(uint8_t (*)[16])p) : "Q"(v) : "v0");
#endif
}

static inline U128 load16(const uint8_t *p)
{
    U128 v;

#if defined(__x86_64__)
    asm volatile("movdqu %1, %%xmm0; movdqu %%xmm0, %0"
                 : "=m"(v) : "m"(*(const uint8_t (*)[16])p) : "xmm0");
#elif defined(__aarch64__)
    asm volatile("ldr q0, %1; str q0, %0"
                 : "=Q"(v) : "Q"(*(const uint8_t (*)[16])p) : "v0");
#endif
    return v;
}

/* One access of so many bytes, at any address */
typedef uint16_t __attribute__((aligned(1), may_alias)) Any16;
typedef uint32_t __attribute__((aligned(1), may_alias)) Any32;
typedef uint64_t __attribute__((aligned(1), may_alias)) Any64;

static inline void store(uint8_t *p, int bytes, uint64_t v)
{
    switch (bytes) {
    case 1:
        *(volatile uint8_t *)p = v;
        break;
    case 2:
        *(volatile Any16 *)p = v;
        break;
    case 4:
        *(volatile Any32 *)p = v;
        break;
    case 8:
        *(volatile Any64 *)p = v;
        break;
    case 16:
        store16(p, (U128) { v, ~v });
        break;
    }
}

static inline bool load_is(const uint8_t *p, int bytes, uint64_t v)
{
    U128 q;

    switch (bytes) {
    case 1:
        return *(volatile const uint8_t *)p == (uint8_t)v;
    case 2:
        return *(volatile const Any16 *)p == (uint16_t)v;
    case 4:
        return *(volatile const Any32 *)p == (uint32_t)v;
    case 8:
        return *(volatile const Any64 *)p == v;
    default:
        q = load16(p);
        return q.lo == v && q.hi == ~v;
    }
}

/*
 * Places to test densely: both ends, the middle, the powers of two, and the
 * sides of 1 GiB and 256 MiB boundaries. Each is a run of bytes.
 */
#define RUN 8192
#define MAX_PLACES 96

static int places(uint64_t *at)
{
    uint64_t x;
    int n = 0;

    at[n++] = 0;
    at[n++] = dev.size - RUN;
    at[n++] = dev.size / 2 - RUN / 2;
    for (x = 64 * KiB; x < dev.size && n < 32; x *= 2) {
        at[n++] = x - RUN / 2;
    }
    for (x = HDM_GRAIN; x < dev.size && n < 64; x += HDM_GRAIN) {
        at[n++] = x - RUN / 2;
    }
    while (n < MAX_PLACES - 16) {
        at[n] = mix(n) % (dev.size - RUN) & ~4095ull;
        n++;
    }
    return n;
}

static bool pattern(const char *name, int bytes, int shift)
{
    uint64_t at[MAX_PLACES];
    uint64_t salt = (uint64_t)bytes << 56 | (uint64_t)shift << 48;
    uint64_t off;
    int n = places(at), i;

    /* Runs may overlap: the bytes written depend on the place alone */
    for (i = 0; i < n; i++) {
        uint64_t first = (at[i] + bytes - 1) / bytes * bytes + shift;

        for (off = first; off + bytes <= at[i] + RUN; off += bytes) {
            store(dev.window + off, bytes, mix(off | salt));
        }
    }
    barrier();
    for (i = 0; i < n; i++) {
        uint64_t first = (at[i] + bytes - 1) / bytes * bytes + shift;

        for (off = first; off + bytes <= at[i] + RUN; off += bytes) {
            if (!load_is(dev.window + off, bytes, mix(off | salt))) {
                return fail(name, "%d bytes at 0x%" PRIx64 " are wrong", bytes,
                            off);
            }
        }
        /* The device's own view of the same bytes */
        off = (first + 7) & ~7ull;
        if (peek(off) != get64(dev.window + off)) {
            return fail(name, "at 0x%" PRIx64 " the device reads 0x%" PRIx64
                        ", the window 0x%" PRIx64, off, peek(off),
                        get64(dev.window + off));
        }
    }
    return true;
}

void check_patterns(const char *name)
{
    int bytes;

    for (bytes = 1; bytes <= 16; bytes *= 2) {
        if (!pattern(name, bytes, 0)) {
            return;
        }
    }
    ok(name, "%s", "widths=1,2,4,8,16");
}

void check_unaligned(const char *name)
{
    static const int shifts[] = { 1, 3, 5, 7 };
    int bytes, i;

    if (!dev.cached) {
        skip(name, "%s", "/dev/mem maps it as registers on this machine; done "
             "with the driver");
        return;
    }
    for (bytes = 2; bytes <= 16; bytes *= 2) {
        for (i = 0; i < 4; i++) {
            if (shifts[i] < bytes && !pattern(name, bytes, shifts[i])) {
                return;
            }
        }
    }
    ok(name, "%s", "widths=2,4,8,16");
}

/* Each page of the device, so that two addresses for one byte are found */
void check_whole(const char *name)
{
    uint64_t step = dev.size > 4 * GiB ? dev.size / (1 * MiB) : 4096;
    uint64_t dpa, n = 0;

    step &= ~7ull;
    for (dpa = 0; dpa + 8 <= dev.size; dpa += step) {
        set64(dev.window + dpa, mix(dpa ^ 0x77));
    }
    barrier();
    for (dpa = 0; dpa + 8 <= dev.size; dpa += step, n++) {
        if (get64(dev.window + dpa) != mix(dpa ^ 0x77)) {
            fail(name, "0x%" PRIx64 " reads 0x%" PRIx64, dpa,
                 get64(dev.window + dpa));
            return;
        }
    }
    ok(name, "places=%" PRIu64 " step=%" PRIu64, n, step);
}

static double rate_write(uint8_t *p, uint64_t size)
{
    double start = now();
    uint64_t i;

    for (i = 0; i < size; i += 8) {
        *(volatile uint64_t *)(p + i) = i;
    }
    barrier();
    return size / (now() - start) / 1e6;
}

static double rate_read(const uint8_t *p, uint64_t size)
{
    double start = now();
    uint64_t i, sum = 0;

    for (i = 0; i < size; i += 8) {
        sum += *(volatile const uint64_t *)(p + i);
    }
    asm volatile("" : : "r"(sum));
    return size / (now() - start) / 1e6;
}

typedef struct {
    double dev_w, dev_r, ram_w, ram_r;
} Rates;

static Rates measure(uint8_t *p, uint64_t size)
{
    Rates rates;

    rates.dev_w = rate_write(dev.window, size);
    rates.dev_r = rate_read(dev.window, size);
    rates.ram_w = rate_write(p, size);
    rates.ram_r = rate_read(p, size);
    return rates;
}

/*
 * Trapped accesses are some hundred times slower than RAM, and stay so however
 * often one measures on a machine that is busy with other things.
 */
static bool slow(const Rates *rates)
{
    return rates->dev_w * 10 < rates->ram_w || rates->dev_r * 10 < rates->ram_r;
}

void check_rates(const char *name)
{
    uint64_t size = dev.size < 64 * MiB ? dev.size : 64 * MiB;
    uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    Rates rates;
    int tries;

    if (p == MAP_FAILED) {
        fail(name, "no memory: %s", strerror(errno));
        return;
    }
    rate_read(dev.window, size);
    rates = measure(p, size);
    /* Memory mapped as registers costs TCG on arm64 a check of each access */
    for (tries = 1; dev.cached && slow(&rates) && tries < 8; tries++) {
        rates = measure(p, size);
    }
    munmap(p, size);
    info("rate device-write=%.0f device-read=%.0f ram-write=%.0f ram-read=%.0f"
         " unit=MB/s", rates.dev_w, rates.dev_r, rates.ram_w, rates.ram_r);
    if (dev.cached && slow(&rates)) {
        fail(name, "device memory is more than 10 times slower than RAM "
             "(write %.0f to %.0f, read %.0f to %.0f MB/s), %d times",
             rates.dev_w, rates.ram_w, rates.dev_r, rates.ram_r, tries);
        return;
    }
    ok(name, "write=%.0fMB/s read=%.0fMB/s", rates.dev_w, rates.dev_r);
}

/* Bytes that the host looks for in the device's backing file */
void write_signature(const char *name)
{
    uint64_t at[] = { 0, 0x2ff0, dev.size / 2 - 8, dev.size - 64 };
    union {
        char text[64];
        uint64_t words[8];
    } u;
    unsigned i, k;

    for (i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        memset(&u, 0, sizeof(u));
        snprintf(u.text, sizeof(u.text), "guest %.16s device %u wrote this "
                 "at %012" PRIx64, opt.seed, dev.index, at[i]);
        for (k = 0; k < 8; k++) {
            set64(dev.window + at[i] + 8 * k, u.words[k]);
        }
    }
    barrier();
    ok(name, "places=%u seed=%s", i, opt.seed);
}
