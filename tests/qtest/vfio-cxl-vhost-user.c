/*
 * A vhost-user back-end that notes which memory it is given
 *
 * It serves no queue: it only sends the replies that the front-end waits for.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/range.h"
#include <sys/socket.h>
#include <sys/un.h>
#include "vfio-cxl-vhost-user.h"

/* Requests and flags of docs/interop/vhost-user.rst */
#define GET_FEATURES            1
#define SET_MEM_TABLE           5
#define GET_VRING_BASE          11
#define GET_PROTOCOL_FEATURES   15
#define SET_VRING_ENABLE        18
#define GET_MAX_MEM_SLOTS       36
#define ADD_MEM_REG             37
#define REM_MEM_REG             38
#define VERSION_AND_REPLY       0x5

#define F_PROTOCOL_FEATURES     (1ull << 30)
#define F_VERSION_1             (1ull << 32)
#define PROTOCOL_F_MEM_SLOTS    (1ull << 15)
#define SLOTS                   8

typedef struct Header {
    uint32_t request;
    uint32_t flags;
    uint32_t size;
} Header;

typedef struct Region {
    uint64_t gpa;
    uint64_t size;
    uint64_t user;
    uint64_t offset;
} Region;

typedef union Payload {
    uint64_t u64;
    struct {
        uint32_t index;
        uint32_t num;
    } vring;
    struct {
        uint32_t count;
        uint32_t padding;
        Region regions[SLOTS];
    } table;
    struct {
        uint64_t padding;
        Region region;
    } one;
    uint8_t bytes[512];
} Payload;

struct VhostUser {
    bool slots;
    int listener;
    GThread *thread;
    GMutex lock;
    GCond changed;
    GArray *now;        /* Region */
    GArray *ever;
    unsigned enabled;
};

/* Some messages carry descriptors, which are not needed here */
static void close_descriptors(struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            close(fd);
        }
    }
}

/* Returns: false if the other side has gone */
static bool receive(int fd, void *data, size_t size)
{
    char control[CMSG_SPACE(SLOTS * sizeof(int))];
    ssize_t done;

    for (uint8_t *at = data; size; at += done, size -= done) {
        struct iovec iov = { at, size };
        struct msghdr msg = {
            .msg_iov = &iov,
            .msg_iovlen = 1,
            .msg_control = control,
            .msg_controllen = sizeof(control),
        };

        done = RETRY_ON_EINTR(recvmsg(fd, &msg, MSG_CMSG_CLOEXEC));
        if (done <= 0) {
            return false;
        }
        close_descriptors(&msg);
    }
    return true;
}

static void reply(int fd, uint32_t request, const void *data, uint32_t size)
{
    Header header = { request, VERSION_AND_REPLY, size };

    /* The next receive() notices if the front-end has disconnected */
    if (send(fd, &header, sizeof(header), MSG_NOSIGNAL) == sizeof(header)) {
        (void)!send(fd, data, size, MSG_NOSIGNAL);
    }
}

static void add(VhostUser *user, const Region *region)
{
    g_array_append_vals(user->now, region, 1);
    g_array_append_vals(user->ever, region, 1);
}

static void remove_region(VhostUser *user, const Region *region)
{
    for (guint i = 0; i < user->now->len; i++) {
        if (g_array_index(user->now, Region, i).gpa == region->gpa) {
            g_array_remove_index(user->now, i);
            return;
        }
    }
    g_error("vhost-user: 0x%" PRIx64 " is not there to be removed",
            region->gpa);
}

static void handle(VhostUser *user, int fd, uint32_t request,
                   const Payload *payload)
{
    uint64_t value;

    switch (request) {
    case GET_FEATURES:
        value = F_VERSION_1 | F_PROTOCOL_FEATURES;
        reply(fd, request, &value, sizeof(value));
        break;
    case GET_PROTOCOL_FEATURES:
        value = user->slots ? PROTOCOL_F_MEM_SLOTS : 0;
        reply(fd, request, &value, sizeof(value));
        break;
    case GET_MAX_MEM_SLOTS:
        value = SLOTS;
        reply(fd, request, &value, sizeof(value));
        break;
    case GET_VRING_BASE:
        reply(fd, request, &payload->vring, sizeof(payload->vring));
        break;
    case SET_MEM_TABLE:
        g_assert_cmpuint(payload->table.count, <=, SLOTS);
        g_array_set_size(user->now, 0);
        for (uint32_t i = 0; i < payload->table.count; i++) {
            add(user, &payload->table.regions[i]);
        }
        break;
    case ADD_MEM_REG:
        add(user, &payload->one.region);
        break;
    case REM_MEM_REG:
        remove_region(user, &payload->one.region);
        break;
    case SET_VRING_ENABLE:
        user->enabled += payload->vring.num;
        g_cond_signal(&user->changed);
        break;
    }
}

static gpointer serve(gpointer opaque)
{
    VhostUser *user = opaque;
    int fd = RETRY_ON_EINTR(accept(user->listener, NULL, NULL));
    Payload payload;
    Header header;

    while (fd >= 0 && receive(fd, &header, sizeof(header))) {
        g_assert_cmpuint(header.size, <=, sizeof(payload));
        memset(&payload, 0, sizeof(payload));
        if (!receive(fd, &payload, header.size)) {
            break;
        }
        g_mutex_lock(&user->lock);
        handle(user, fd, header.request, &payload);
        g_mutex_unlock(&user->lock);
    }
    if (fd >= 0) {
        close(fd);
    }
    return NULL;
}

VhostUser *vhost_user_new(const char *path, bool slots)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    VhostUser *user = g_new0(VhostUser, 1);

    user->slots = slots;
    user->now = g_array_new(false, false, sizeof(Region));
    user->ever = g_array_new(false, false, sizeof(Region));
    g_mutex_init(&user->lock);
    g_cond_init(&user->changed);
    g_assert_cmpint(strlen(path), <, sizeof(address.sun_path));
    strcpy(address.sun_path, path);
    user->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(user->listener, (struct sockaddr *)&address,
                         sizeof(address)), ==, 0);
    g_assert_cmpint(listen(user->listener, 1), ==, 0);
    user->thread = g_thread_new("vhost-user", serve, user);
    return user;
}

void vhost_user_free(VhostUser *user)
{
    /* Ends accept() if that still waits */
    shutdown(user->listener, SHUT_RDWR);
    g_thread_join(user->thread);
    close(user->listener);
    g_array_free(user->now, true);
    g_array_free(user->ever, true);
    g_cond_clear(&user->changed);
    g_mutex_clear(&user->lock);
    g_free(user);
}

void vhost_user_wait_enabled(VhostUser *user, unsigned count)
{
    int64_t end = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;

    g_mutex_lock(&user->lock);
    while (user->enabled < count &&
           g_cond_wait_until(&user->changed, &user->lock, end)) {
        /* Not yet */
    }
    g_assert_cmpuint(user->enabled, ==, count);
    g_mutex_unlock(&user->lock);
}

static bool shows(VhostUser *user, GArray *regions, uint64_t address,
                  uint64_t size)
{
    bool found = false;

    g_mutex_lock(&user->lock);
    for (guint i = 0; i < regions->len; i++) {
        Region *region = &g_array_index(regions, Region, i);

        found |= ranges_overlap(region->gpa, region->size, address, size);
    }
    g_mutex_unlock(&user->lock);
    return found;
}

bool vhost_user_has(VhostUser *user, uint64_t address)
{
    return shows(user, user->now, address, 1);
}

bool vhost_user_had(VhostUser *user, uint64_t address, uint64_t size)
{
    return shows(user, user->ever, address, size);
}
