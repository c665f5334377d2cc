/*
 * vfio-sim: a thread that serves the control channel and takes INTx unmask
 * events
 *
 * It starts when a program first opens a file of ours, and again in a child
 * that does so after a fork.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "sim.h"

#define MAX_CLIENTS 8
#define MAX_LINE    4096

typedef struct Client {
    int fd;
    size_t in;
    char line[MAX_LINE];
    char *out;              /* reply not yet sent */
    size_t out_len;
    size_t out_done;
} Client;

static bool running;
static int wake_fd = -1, listen_fd = -1, in_use_fd = -1;
static char *socket_path;
static Client clients[MAX_CLIENTS];

static bool alive(const char *name)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok;

    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", name);
    ok = fd >= 0 && connect(fd, (void *)&sa, sizeof(sa)) == 0;
    if (fd >= 0) {
        sys_close(fd);
    }
    return ok;
}

/* The state directory by a short name, since socket paths are limited */
static int control_socket(void)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int dir = sys_open(sim_config()->dir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    int fd = sim_high_fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC |
                                SOCK_NONBLOCK, 0));
    bool taken;

    if (dir < 0 || fd < 0) {
        goto fail;
    }
    snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/control", dir);
    taken = alive(sa.sun_path);
    if (taken) {
        snprintf(sa.sun_path, sizeof(sa.sun_path),
                 "/proc/self/fd/%d/control.%d", dir, (int)getpid());
    }
    unlink(sa.sun_path);
    if (bind(fd, (void *)&sa, sizeof(sa)) < 0 || listen(fd, 4) < 0) {
        goto fail;
    }
    free(socket_path);
    if (asprintf(&socket_path, "%s/%s", sim_config()->dir,
                 strrchr(sa.sun_path, '/') + 1) < 0) {
        socket_path = NULL;
    }
    sys_close(dir);
    return fd;

fail:
    if (dir >= 0) {
        sys_close(dir);
    }
    if (fd >= 0) {
        sys_close(fd);
    }
    return -1;
}

static void client_drop(Client *c)
{
    sys_close(c->fd);
    free(c->out);
    memset(c, 0, sizeof(*c));
    c->fd = -1;
}

static void client_send(Client *c)
{
    ssize_t n = send(c->fd, c->out + c->out_done, c->out_len - c->out_done,
                     MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        client_drop(c);
    } else if (n > 0) {
        c->out_done += n;
        if (c->out_done == c->out_len) {
            free(c->out);
            c->out = NULL;
        }
    }
}

/* Answers the first complete line, if there is one */
static void client_answer(Client *c)
{
    char *end = memchr(c->line, '\n', c->in);
    char *reply;

    if (!end || c->out) {
        return;
    }
    *end = '\0';
    reply = sim_control(c->line);
    c->in -= end + 1 - c->line;
    memmove(c->line, end + 1, c->in);
    if (!reply || asprintf(&c->out, "%s\n", reply) < 0) {
        c->out = NULL;
        free(reply);
        client_drop(c);
        return;
    }
    free(reply);
    c->out_len = strlen(c->out);
    c->out_done = 0;
    client_send(c);
}

static void client_receive(Client *c)
{
    ssize_t n = recv(c->fd, c->line + c->in, sizeof(c->line) - c->in,
                     MSG_DONTWAIT);

    if (n > 0) {
        c->in += n;
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        client_drop(c);
        return;
    }
    if (c->in == sizeof(c->line) && !memchr(c->line, '\n', c->in)) {
        client_drop(c);     /* no valid command is that long */
    }
}

static void client_accept(void)
{
    int fd = sim_high_fd(accept4(listen_fd, NULL, NULL,
                                 SOCK_CLOEXEC | SOCK_NONBLOCK));
    unsigned i;

    for (i = 0; fd >= 0 && i < MAX_CLIENTS; i++) {
        if (clients[i].fd < 0) {
            clients[i].fd = fd;
            return;
        }
    }
    if (fd >= 0) {
        sys_close(fd);
    }
}

static void drain(int fd)
{
    uint64_t n;

    syscall(SYS_read, fd, &n, sizeof(n));
}

static void *serve(void *opaque)
{
    struct pollfd p[2 + MAX_CLIENTS + SIM_MAX_DEVICES];
    unsigned i, devices = sim_config()->devices;

    (void)opaque;
    for (;;) {
        struct pollfd *unmask = p + 2 + MAX_CLIENTS;

        p[0] = (struct pollfd) { wake_fd, POLLIN, 0 };
        p[1] = (struct pollfd) { listen_fd, POLLIN, 0 };
        for (i = 0; i < MAX_CLIENTS; i++) {
            p[2 + i] = (struct pollfd) {
                clients[i].fd, clients[i].out ? POLLOUT : POLLIN, 0
            };
        }
        sim_lock();
        for (i = 0; i < devices; i++) {
            SimDevice *dev = sim_device(i);

            unmask[i] = (struct pollfd) {
                dev->st ? dev->irq.unmask_fd : -1, POLLIN, 0
            };
        }
        sim_unlock();
        if (poll(p, 2 + MAX_CLIENTS + devices, -1) < 0) {
            continue;
        }
        if (p[0].revents) {
            drain(wake_fd);
        }
        sim_lock();
        for (i = 0; i < devices; i++) {
            SimDevice *dev = sim_device(i);

            if ((unmask[i].revents & POLLIN) &&
                dev->irq.unmask_fd == unmask[i].fd) {
                drain(unmask[i].fd);
                sim_irq_intx_unmask(dev);
            }
        }
        sim_unlock();
        for (i = 0; i < MAX_CLIENTS; i++) {
            Client *c = &clients[i];

            if (p[2 + i].revents && c->fd >= 0) {
                if (c->out) {
                    client_send(c);
                } else {
                    client_receive(c);
                }
            }
            if (c->fd >= 0) {
                client_answer(c);
            }
        }
        if (p[1].revents) {
            client_accept();
        }
    }
    return NULL;
}

/* Called with sim_lock() */
void sim_service_start(void)
{
    char path[SIM_PATH_MAX + 16];
    sigset_t all, old;
    pthread_t thread;
    unsigned i;

    if (running) {
        return;
    }
    running = true;
    for (i = 0; i < MAX_CLIENTS; i++) {
        clients[i].fd = -1;
    }
    if (in_use_fd < 0) {
        /* Tells the launcher that the state directory is still needed */
        snprintf(path, sizeof(path), "%s/in-use", sim_config()->dir);
        in_use_fd = sim_high_fd(sys_open(path, O_RDWR | O_CREAT | O_CLOEXEC,
                                         0600));
        if (in_use_fd >= 0) {
            sim_ofd_lock(in_use_fd, F_RDLCK);
        }
    }
    wake_fd = sim_high_fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    listen_fd = control_socket();

    /* The program's signals are for the program's threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (pthread_create(&thread, NULL, serve, NULL) == 0) {
        pthread_detach(thread);
        pthread_setname_np(thread, "vfio-sim");
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void sim_service_wake(void)
{
    if (running) {
        sim_irq_fire(wake_fd);
    }
}

/* In the child of a fork: the thread is gone, its sockets are the parent's */
void sim_service_forked(void)
{
    unsigned i;

    if (!running) {
        return;
    }
    running = false;
    for (i = 0; i < MAX_CLIENTS; i++) {
        if (clients[i].fd >= 0) {
            client_drop(&clients[i]);
        }
    }
    sys_close(wake_fd);
    if (listen_fd >= 0) {
        sys_close(listen_fd);
    }
    free(socket_path);
    socket_path = NULL;
}

static void __attribute__((destructor)) service_end(void)
{
    if (running && socket_path) {
        unlink(socket_path);
    }
}
