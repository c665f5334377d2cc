/*
 * vfio-sim: event queues of virtual IOMMUs
 *
 * The descriptor is the reading end of a pipe, in which there is a byte as
 * long as there are events, so that poll works by itself.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "iommufd.h"

/* As it is read */
typedef struct Record {
    struct iommufd_vevent_header header;
    struct iommu_vevent_arm_smmuv3 data;
} Record;

typedef struct Event {
    Record record;
    struct Event *next;
} Event;

struct SimVeventq {
    unsigned depth;
    unsigned num;
    Event *first;
    Event **end;
    uint32_t sequence;
    bool lost;              /* behind the last event */
    uint32_t lost_sequence;
    int read_fd;            /* our own copy */
    int write_fd;
    bool readable;
};

static void update(SimVeventq *q)
{
    bool readable = q->num || q->lost;
    char c = 0;

    if (readable && !q->readable) {
        syscall(SYS_write, q->write_fd, &c, 1L);
    } else if (!readable && q->readable) {
        syscall(SYS_read, q->read_fd, &c, 1L);
    }
    q->readable = readable;
}

bool sim_veventq_report(SimVeventq *q, const uint64_t *record)
{
    uint32_t sequence = q->sequence;
    Event *e = q->num == q->depth ? NULL : calloc(1, sizeof(*e));

    q->sequence = (q->sequence + 1) & INT32_MAX;
    /* What comes after a loss shows it by its number */
    q->lost = !e;
    if (e) {
        e->record.header.sequence = sequence;
        memcpy(e->record.data.evt, record, sizeof(e->record.data.evt));
        *q->end = e;
        q->end = &e->next;
        q->num++;
    } else {
        q->lost_sequence = sequence;
    }
    update(q);
    return e;
}

static void remove_first(SimVeventq *q)
{
    Event *e = q->first;

    q->first = e->next;
    if (!q->first) {
        q->end = &q->first;
    }
    q->num--;
    free(e);
}

unsigned sim_veventq_pending(const SimVeventq *q)
{
    return q->num;
}

unsigned sim_veventq_depth(const SimVeventq *q)
{
    return q->depth;
}

ssize_t sim_veventq_read(SimFile *file, void *buf, size_t count)
{
    SimVeventq *q = file->veventq->veventq;
    size_t done = 0;

    while (q->num && count - done >= sizeof(Record)) {
        if (sim_copy_user(&q->first->record, (uintptr_t)buf + done,
                          sizeof(Record), true) != sizeof(Record)) {
            return done ? (ssize_t)done : -EFAULT;
        }
        remove_first(q);
        done += sizeof(Record);
    }
    if (!q->num && q->lost &&
        count - done >= sizeof(struct iommufd_vevent_header)) {
        struct iommufd_vevent_header h = {
            .flags = IOMMU_VEVENTQ_FLAG_LOST_EVENTS,
            .sequence = q->lost_sequence,
        };

        if (sim_copy_user(&h, (uintptr_t)buf + done, sizeof(h),
                          true) != sizeof(h)) {
            return done ? (ssize_t)done : -EFAULT;
        }
        q->lost = false;
        done += sizeof(h);
    }
    update(q);
    return done;
}

void sim_veventq_free(SimVeventq *q)
{
    if (q) {
        while (q->num) {
            remove_first(q);
        }
        sys_close(q->read_fd);
        sys_close(q->write_fd);
        free(q);
    }
}

static SimVeventq *queue_new(unsigned depth, int *fd)
{
    SimVeventq *q = calloc(1, sizeof(*q));
    int fds[2];

    if (!q) {
        return NULL;
    }
    if (syscall(SYS_pipe2, fds, O_CLOEXEC) < 0) {
        free(q);
        return NULL;
    }
    q->depth = depth;
    q->end = &q->first;
    q->read_fd = sys_dup(fds[0]);
    q->write_fd = sim_high_fd(fds[1]);
    *fd = fds[0];
    return q;
}

int sim_veventq_alloc(SimIommufd *ictx, struct iommu_veventq_alloc *cmd)
{
    SimObject *viommu, *o;
    SimFile *file;
    int fd;

    if (cmd->flags || cmd->__reserved ||
        cmd->type == IOMMU_VEVENTQ_TYPE_DEFAULT) {
        return -EOPNOTSUPP;
    }
    if (!cmd->veventq_depth) {
        return -EINVAL;
    }
    viommu = sim_object_get(ictx, cmd->viommu_id, SIM_OBJ_VIOMMU);
    if (!viommu) {
        return -ENOENT;
    }
    /* The kernel takes any type; of others nothing ever comes */
    for (o = ictx->objects; o; o = o->next) {
        if (o->type == SIM_OBJ_VEVENTQ && o->parent == viommu &&
            o->veventq_type == cmd->type) {
            return -EEXIST;
        }
    }
    o = sim_object_new(ictx, SIM_OBJ_VEVENTQ);
    if (!o) {
        return -ENOMEM;
    }
    o->veventq = queue_new(cmd->veventq_depth, &fd);
    file = o->veventq ? sim_file_new(fd, SIM_FD_VEVENTQ, NULL) : NULL;
    if (!file) {
        if (o->veventq) {
            sys_close(fd);
        }
        sim_object_free(ictx, o);
        return -ENOMEM;
    }
    sim_object_set_parent(o, viommu);
    o->veventq_type = cmd->type;
    o->users++;             /* the open file */
    if (cmd->type == IOMMU_VEVENTQ_TYPE_ARM_SMMUV3) {
        viommu->veventq = o->veventq;
    }
    file->veventq = o;
    file->ictx = ictx;
    ictx->refs++;
    cmd->out_veventq_id = o->id;
    cmd->out_veventq_fd = fd;
    return 0;
}

void sim_veventq_close(SimFile *file)
{
    file->veventq->users--;
    sim_iommufd_unref(file->ictx);
}
