/*
 * vfio-sim: uncorrectable errors in a device's memory
 *
 * The kernel notifies a process by SIGBUS: immediately the thread that asked
 * for early notice, which for a VMM is its main thread (action optional), and a
 * vCPU that accesses the location (action required). Only a thread itself may
 * send such a signal, so both are made to.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sim.h"

/* One that no VMM is known to use */
#define NOTICE (SIGRTMAX - 5)

static uint64_t early, touched;

static void send_to_self(int code, uint64_t addr)
{
    siginfo_t info;

    memset(&info, 0, sizeof(info));
    info.si_signo = SIGBUS;
    info.si_code = code;
    info.si_addr = (void *)(uintptr_t)addr;
    info.si_addr_lsb = 12;
    syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGBUS,
            &info);
}

static void notice(int signo)
{
    int saved = errno;

    (void)signo;
    send_to_self(BUS_MCEERR_AO, __atomic_load_n(&early, __ATOMIC_ACQUIRE));
    errno = saved;
}

const char *sim_poison(SimDevice *dev, const char *spec)
{
    struct sigaction action = {
        .sa_handler = notice,
        .sa_flags = SA_RESTART, /* must not make calls of the VMM fail */
    };
    size_t length = strcspn(spec, " ");
    bool vcpu = !strcmp(spec + length, " vcpu");
    char *offset = strndup(spec, length);
    const SimMmap *m = sim_mmap_first();
    uint64_t at;
    bool valid;

    valid = offset && (vcpu || !spec[length]) &&
            sim_parse_number(offset, sim_region_size(dev,
                             dev->kernel->mem_region) - 1, &at);
    free(offset);
    if (!valid) {
        return "poison: expected an offset in the device's memory, "
               "optionally followed by vcpu";
    }
    while (m && (m->dev != dev || m->region != dev->kernel->mem_region ||
                 at < m->offset || at - m->offset >= m->len)) {
        m = m->next;
    }
    if (!m) {
        return "poison: the VMM has not mapped that memory";
    }
    at = m->addr + (at - m->offset);
    if (vcpu) {
        __atomic_store_n(&touched, at, __ATOMIC_RELEASE);
        return NULL;
    }
    __atomic_store_n(&early, at, __ATOMIC_RELEASE);
    if (sigaction(NOTICE, &action, NULL) < 0 ||
        syscall(SYS_tgkill, getpid(), getpid(), NOTICE) < 0) {
        return "poison: cannot notify the main thread";
    }
    return NULL;
}

bool sim_poison_touched(void)
{
    uint64_t at;

    if (!__atomic_load_n(&touched, __ATOMIC_RELAXED)) {
        return false;
    }
    at = __atomic_exchange_n(&touched, 0, __ATOMIC_ACQ_REL);
    if (at) {
        send_to_self(BUS_MCEERR_AR, at);
    }
    return at;
}
