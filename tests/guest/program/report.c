/*
 * Verdicts, and faults that become verdicts
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "cxl-guest.h"

static int n_ok, n_fail, n_skip;

/* Verdicts */

static void verdict(const char *word, const char *name, const char *fmt,
                    va_list ap)
{
    printf("GUEST: %s %s%s", word, opt.prefix, name);
    if (fmt && *fmt) {
        putchar(' ');
        vprintf(fmt, ap);
    }
    putchar('\n');
    fflush(stdout);
}

void ok(const char *name, const char *fmt, ...)
{
    va_list ap;

    n_ok++;
    va_start(ap, fmt);
    verdict("ok", name, fmt, ap);
    va_end(ap);
}

bool fail(const char *name, const char *fmt, ...)
{
    va_list ap;

    n_fail++;
    va_start(ap, fmt);
    verdict("fail", name, fmt, ap);
    va_end(ap);
    return false;
}

void skip(const char *name, const char *fmt, ...)
{
    va_list ap;

    n_skip++;
    va_start(ap, fmt);
    verdict("skip", name, fmt, ap);
    va_end(ap);
}

void info(const char *fmt, ...)
{
    va_list ap;

    printf("GUEST: info ");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    fflush(stdout);
}

_Noreturn void finish(void)
{
    printf("GUEST: %s%s ok=%d fail=%d skip=%d\n", opt.prefix,
           n_fail ? "FAIL" : "PASS", n_ok, n_fail, n_skip);
    fflush(stdout);
    exit(n_fail ? 1 : 0);
}

bool wanted(const char *action)
{
    size_t len = strlen(action);
    const char *p = opt.actions;

    if (!strcmp(opt.actions, "all")) {
        return true;
    }
    while ((p = strstr(p, action))) {
        if ((p == opt.actions || p[-1] == ',') &&
            (p[len] == ',' || p[len] == '\0')) {
            return true;
        }
        p += len;
    }
    return false;
}

/* A fault in a check is a verdict, not the end of the program */
static __thread sigjmp_buf fault_env;
static __thread volatile sig_atomic_t fault_armed;
static __thread void *volatile fault_addr;

void on_fault(int sig, siginfo_t *si, void *ctx)
{
    if (!fault_armed) {
        printf("GUEST: fail fault signal %d at %p\nGUEST: FAIL\n", sig,
               si->si_addr);
        fflush(stdout);
        _exit(1);
    }
    fault_armed = 0;
    fault_addr = si->si_addr;
    siglongjmp(fault_env, sig);
}

/*
 * An access to where nothing is: a bus error on arm64, and not on x86. The
 * handler does not block its signal, so there is no mask to be restored.
 */
bool access_faults(void (*access)(void *), void *opaque)
{
    sig_atomic_t was_armed = fault_armed;
    sigjmp_buf saved;
    bool faulted;

    memcpy(&saved, &fault_env, sizeof(saved));
    faulted = sigsetjmp(fault_env, 0);
    if (!faulted) {
        fault_armed = 1;
        access(opaque);
    }
    memcpy(&fault_env, &saved, sizeof(saved));
    fault_armed = was_armed;
    return faulted;
}

void run_check(const char *name, void (*check)(const char *name))
{
    int sig = sigsetjmp(fault_env, 0);

    if (sig) {
        fail(name, "%s at %p", sig == SIGBUS ? "bus error" : "fault",
             fault_addr);
        return;
    }
    fault_armed = 1;
    check(name);
    fault_armed = 0;
}
