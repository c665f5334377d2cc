/*
 * Everything that takes the memory away for a while, while other threads read
 * and write it: FLR, secondary bus reset, D3hot, Memory Space Enable, and
 * Mem_Enable of the CXL Device DVSEC
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "cxl-guest.h"

#define WORKERS         2
#define PLACES          64
#define STRIDE          0x11008         /* pages and cache lines vary */
#define STEP_LIMIT      60      /* seconds; reached if something hangs */

/* A thread that loads and stores in its own part of the window */
typedef struct {
    pthread_t thread;
    uint64_t first;                     /* DPA of its first place */
    uint64_t steps;
    uint64_t hits, zeros, ones, faults;
    uint64_t alien_at, alien;           /* bytes without a writer */
    bool found_alien;
} Worker;

typedef struct {
    uint64_t dpa, value;
} Access;

static Worker workers[WORKERS];
static bool stop;
static uint64_t mark_dpa;               /* the main thread's own place */
static int kept_in_d0;                  /* times that D3hot was refused */

static void load(void *opaque)
{
    Access *access = opaque;

    access->value = get64(dev.window + access->dpa);
}

static void store(void *opaque)
{
    Access *access = opaque;

    set64(dev.window + access->dpa, access->value);
}

/* The upper half names the place, the lower half counts */
static uint64_t worker_value(uint64_t dpa, uint64_t count)
{
    return (mix(dpa) & ~0xffffffffull) | (count & 0xffffffff);
}

static void classify(Worker *w, const Access *access)
{
    if ((access->value ^ worker_value(access->dpa, 0)) >> 32 == 0) {
        w->hits++;
    } else if (access->value == 0) {
        /* A kernel clears at reset; a late vCPU is given other memory */
        w->zeros++;
    } else if (access->value == ~0ull) {
        w->ones++;
    } else if (!w->found_alien) {
        w->found_alien = true;
        w->alien_at = access->dpa;
        w->alien = access->value;
    }
}

static void *work(void *opaque)
{
    Worker *w = opaque;
    uint64_t n;

    for (n = 0; !__atomic_load_n(&stop, __ATOMIC_ACQUIRE); n++) {
        Access access = { .dpa = w->first + n % PLACES * STRIDE };

        access.value = worker_value(access.dpa, n);
        if (access_faults(store, &access)) {
            w->faults++;
        }
        if (access_faults(load, &access)) {
            w->faults++;
        } else {
            classify(w, &access);
        }
        __atomic_store_n(&w->steps, n + 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

/* Wait until each thread has made so many steps, successful or not */
static bool wait_steps(const char *name, const char *when, uint64_t steps)
{
    double end = now() + STEP_LIMIT;
    uint64_t from[WORKERS];
    int i;

    for (i = 0; i < WORKERS; i++) {
        from[i] = __atomic_load_n(&workers[i].steps, __ATOMIC_ACQUIRE);
    }
    for (i = 0; i < WORKERS; i++) {
        while (__atomic_load_n(&workers[i].steps, __ATOMIC_ACQUIRE) <
               from[i] + steps) {
            if (now() > end) {
                return fail(name, "thread %d stands still %s", i, when);
            }
            usleep(200);
        }
    }
    return true;
}

/* Check for absence: all ones, or an abort; stores have no effect */
static bool check_absent(const char *name, const char *when)
{
    Access access = { .dpa = mark_dpa };

    if (!access_faults(load, &access) && access.value != ~0ull &&
        access.value != 0) {
        return fail(name, "%s a load gives 0x%" PRIx64, when, access.value);
    }
    access.value = 0xbadbadbadull;
    access_faults(store, &access);
    return wait_steps(name, when, 50);
}

/* Check that the memory is present and holds WANT in window and device */
static bool check_present(const char *name, const char *when, uint64_t want)
{
    Access access = { .dpa = mark_dpa };

    if (access_faults(load, &access)) {
        return fail(name, "after %s a load faults", when);
    }
    if (access.value != want || peek(mark_dpa) != want) {
        return fail(name, "after %s the window reads 0x%" PRIx64 ", the "
                    "device 0x%" PRIx64 ", not 0x%" PRIx64, when, access.value,
                    peek(mark_dpa), want);
    }
    set64(dev.window + mark_dpa, ~want);
    if (peek(mark_dpa) != ~want) {
        return fail(name, "after %s a store does not arrive", when);
    }
    return wait_steps(name, when, 50);
}

static bool reset_by(const char *name, const char *method)
{
    uint32_t before = get32(dev.regs + VFIO_SIM_REG_RESETS), after;

    if (!write_text(in_dir("reset_method"), method)) {
        return fail(name, "Linux has no reset method %s here: %s", method,
                    strerror(errno));
    }
    if (!write_text(in_dir("reset"), "1")) {
        return fail(name, "reset by %s: %s", method, strerror(errno));
    }
    after = get32(dev.regs + VFIO_SIM_REG_RESETS);
    if (after == before) {
        return fail(name, "reset by %s did not reach the device", method);
    }
    return true;
}

static bool step_flr(const char *name, uint64_t *want)
{
    uint64_t base = dev.gpa;

    if (!reset_by(name, "flr")) {
        return false;
    }
    if (!decoder_shows(base)) {
        return fail(name, "%s", "FLR did not keep the decoder");
    }
    *want = opt.clears ? 0 : *want;
    return true;
}

/* A conventional reset: the guest's software commits again */
static bool step_bus(const char *name, uint64_t *want)
{
    uint32_t ctrl;

    if (!reset_by(name, "cxl_bus")) {
        return false;
    }
    if (decoder_shows(dev.gpa)) {
        return fail(name, "%s", "a bus reset kept the decoder");
    }
    if (!check_absent(name, "after a bus reset")) {
        return false;
    }
    enable_decoding();
    if (!commit_at(dev.gpa, dev.size, &ctrl)) {
        return fail(name, "commit after a bus reset: ctrl=0x%08x", ctrl);
    }
    *want = opt.clears ? 0 : *want;
    return true;
}

/* CXL.mem does not depend on it; the device's registers do */
static bool check_stays(const char *name, uint64_t want)
{
    Access access = { .dpa = mark_dpa };

    if (access_faults(load, &access) || access.value != want) {
        return fail(name, "with Memory Space off a load gives 0x%" PRIx64,
                    access.value);
    }
    return true;
}

static bool step_space(const char *name, uint64_t *want)
{
    uint32_t command = cfg_read(CFG_COMMAND, 2);
    bool right;

    cfg_write(CFG_COMMAND, command & ~CFG_COMMAND_MEMORY, 2);
    right = opt.space_gate ? check_absent(name, "with Memory Space off") :
                             check_stays(name, *want);
    cfg_write(CFG_COMMAND, command, 2);
    return right;
}

static bool step_enable(const char *name, uint64_t *want)
{
    uint32_t control = cfg_read(dev.dvsec_device + DVD_CONTROL, 2);
    bool absent;

    cfg_write(dev.dvsec_device + DVD_CONTROL, control & ~DVD_CONTROL_MEM, 2);
    absent = check_absent(name, "with Mem_Enable off");
    cfg_write(dev.dvsec_device + DVD_CONTROL, control | DVD_CONTROL_MEM, 2);
    return absent;
}

static bool step_power(const char *name, uint64_t *want)
{
    int cap = find_capability(CAP_PM);
    uint32_t control;
    bool absent;

    if (!cap) {
        return fail(name, "%s", "no power management capability");
    }
    control = cfg_read(cap + PM_CONTROL, 2);
    cfg_write(cap + PM_CONTROL, control | PM_D3HOT, 2);
    usleep(10000);
    if (!(cfg_read(cap + PM_CONTROL, 2) & PM_STATE)) {
        /* A kernel may keep the device in D0; then all has to be there */
        kept_in_d0++;
        return true;
    }
    absent = check_absent(name, "in D3hot");
    cfg_write(cap + PM_CONTROL, control & ~PM_STATE, 2);
    usleep(10000);
    return absent;
}

static const struct {
    const char *name;
    bool (*go)(const char *name, uint64_t *want);
} steps[] = {
    { "flr", step_flr },
    { "memory-space", step_space },
    { "bus", step_bus },
    { "mem-enable", step_enable },
    { "d3hot", step_power },
};

#define STEPS (sizeof(steps) / sizeof(steps[0]))

static bool one_round(const char *name, unsigned kind, int round)
{
    uint64_t want = mix(round ^ 0x4e5e7);

    set64(dev.window + mark_dpa, want);
    if (peek(mark_dpa) != want) {
        return fail(name, "before %s a store does not arrive",
                    steps[kind].name);
    }
    return steps[kind].go(name, &want) &&
           check_present(name, steps[kind].name, want);
}

static bool start_workers(const char *name)
{
    int i;

    mark_dpa = dev.size / 4 + 0x18;
    for (i = 0; i < WORKERS; i++) {
        memset(&workers[i], 0, sizeof(workers[i]));
        workers[i].first = dev.size / 2 * i + 0x100000;
    }
    for (i = 0; i < WORKERS; i++) {
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i])) {
            fail(name, "%s", "no thread");
            exit(1);
        }
    }
    return wait_steps(name, "at the start", 100);
}

static bool judge(const char *name, Worker *w)
{
    if (w->found_alien) {
        return fail(name, "at 0x%" PRIx64 " a thread read 0x%" PRIx64,
                    w->alien_at, w->alien);
    }
    if (!w->hits || !(w->ones + w->zeros + w->faults)) {
        return fail(name, "a thread met the memory %" PRIu64 " times, and its "
                    "absence %" PRIu64, w->hits, w->ones + w->zeros +
                    w->faults);
    }
#ifdef __x86_64__
    if (w->faults) {
        return fail(name, "%" PRIu64 " faults", w->faults);
    }
#endif
    return true;
}

void check_resets(const char *name)
{
    uint64_t hits = 0, zeros = 0, ones = 0, faults = 0;
    char methods[64] = "";
    int round = 0, i;
    bool good;

    read_text(in_dir("reset_method"), methods, sizeof(methods));
    info("reset-methods=%s", methods);
    __atomic_store_n(&stop, false, __ATOMIC_RELEASE);
    good = start_workers(name);
    for (; good && round < opt.rounds; round++) {
        good = one_round(name, round % STEPS, round);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    for (i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
        good = good && judge(name, &workers[i]);
        hits += workers[i].hits;
        zeros += workers[i].zeros;
        ones += workers[i].ones;
        faults += workers[i].faults;
    }
    write_text(in_dir("reset_method"), "default");
    if (good) {
        ok(name, "rounds=%d kinds=%zu kept-in-d0=%d hits=%" PRIu64
           " ones=%" PRIu64 " zeros=%" PRIu64 " faults=%" PRIu64, round,
           STEPS, kept_in_d0, hits, ones, zeros, faults);
    }
}
