/*
 * Shared by the tests of vfio-sim
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "test-util.h"

static sigjmp_buf jump;

static void on_sigbus(int sig)
{
    siglongjmp(jump, sig);
}

/* The dword is volatile because others may change it */
bool touch(volatile uint32_t *p, uint32_t *value)
{
    struct sigaction sa = { .sa_handler = on_sigbus }, old;
    volatile bool done = false;     /* is to survive siglongjmp() */

    sigaction(SIGBUS, &sa, &old);
    if (!sigsetjmp(jump, 1)) {
        *value = *p;
        done = true;
    }
    sigaction(SIGBUS, &old, NULL);
    return done;
}

bool accessible(const void *p)
{
    uint32_t value;

    return touch((void *)((uintptr_t)p & ~(uintptr_t)3), &value);
}

int control_connect_to(const char *name)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    struct timeval limit = { .tv_sec = 10 };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/%s",
               g_getenv("VFIO_SIM_DIR"), name);
    ok(connect(fd, (void *)&sa, sizeof(sa)));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}

int control_connect(void)
{
    return control_connect_to("control");
}

char *control_reply(int fd)
{
    GString *s = g_string_new(NULL);
    char c;

    /* A signal ends a read with a time limit, SA_RESTART or not */
    while (TEMP_FAILURE_RETRY(read(fd, &c, 1)) == 1 && c != '\n') {
        g_string_append_c(s, c);
    }
    return g_string_free(s, FALSE);
}

static char *G_GNUC_PRINTF(1, 0) ask(const char *fmt, va_list ap)
{
    g_autofree char *line = g_strdup_vprintf(fmt, ap);
    g_autofree char *full = g_strconcat(line, "\n", NULL);
    int fd = control_connect();
    char *reply;

    g_assert_cmpint(write(fd, full, strlen(full)), ==, strlen(full));
    reply = control_reply(fd);
    close(fd);
    return reply;
}

char *control(const char *fmt, ...)
{
    char *reply;
    va_list ap;

    va_start(ap, fmt);
    reply = ask(fmt, ap);
    va_end(ap);
    return reply;
}

void control_ok(const char *fmt, ...)
{
    g_autofree char *reply = NULL;
    va_list ap;

    va_start(ap, fmt);
    reply = ask(fmt, ap);
    va_end(ap);
    g_assert_cmpstr(reply, ==, "{\"return\": {}}");
}

uint64_t number(const char *reply, const char *key)
{
    g_autofree char *quoted = g_strdup_printf("\"%s\": ", key);
    const char *at = strstr(reply, quoted);

    g_assert_nonnull(at);
    return g_ascii_strtoull(at + strlen(quoted), NULL, 10);
}

uint64_t stat_of(const char *host, const char *name)
{
    g_autofree char *reply = control("stats %s", host);

    return number(reply, name);
}
