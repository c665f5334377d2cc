/*
 * vfio-sim: the commands of the control channel
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "iommufd.h"
#include "kernel.h"
#include "smmuv3.h"

typedef struct Text {
    char *s;
    size_t len;
    size_t size;
} Text;

static void __attribute__((format(printf, 2, 3))) put(Text *t, const char *fmt,
                                                      ...)
{
    va_list ap;
    int n;

    for (;;) {
        size_t room = t->size - t->len;

        va_start(ap, fmt);
        n = vsnprintf(t->s ? t->s + t->len : NULL, t->s ? room : 0, fmt, ap);
        va_end(ap);
        if (t->s && (size_t)n < room) {
            t->len += n;
            return;
        }
        t->size = t->size * 2 + n + 256;
        t->s = realloc(t->s, t->size);
        if (!t->s) {
            abort();
        }
    }
}

static void put_string(Text *t, const char *s)
{
    put(t, "\"");
    for (; *s; s++) {
        unsigned char c = *s;

        if (c == '"' || c == '\\') {
            put(t, "\\%c", c);
        } else if (c < 0x20 || c >= 0x7f) {
            put(t, "\\u%04x", c);
        } else {
            put(t, "%c", c);
        }
    }
    put(t, "\"");
}

static const char *json_bool(bool b)
{
    return b ? "true" : "false";
}

static void put_decoder(Text *t, const char *name, const uint32_t *hdm)
{
    uint64_t base = (uint64_t)hdm[SIM_HDM_BASE_HI / 4] << 32 |
                    hdm[SIM_HDM_BASE_LO / 4];
    uint64_t size = (uint64_t)hdm[SIM_HDM_SIZE_HI / 4] << 32 |
                    hdm[SIM_HDM_SIZE_LO / 4];

    put(t, "\"%s\": {\"base\": %llu, \"size\": %llu, \"ctrl\": %u, "
        "\"global\": %u}", name, (unsigned long long)base,
        (unsigned long long)size, hdm[SIM_HDM_CTRL / 4],
        hdm[SIM_HDM_GLOBAL / 4]);
}

static bool device_open(SimDevice *dev)
{
    char path[SIM_PATH_MAX + 16];

    snprintf(path, sizeof(path), "%s/cdev", dev->dir);
    if (dev->opens || sim_ofd_locked(path)) {
        return true;
    }
    snprintf(path, sizeof(path), "%s/group", dev->dir);
    return sim_ofd_locked(path);
}

static void cmd_devices(Text *t)
{
    unsigned i;

    put(t, "[");
    for (i = 0; i < sim_config()->devices; i++) {
        SimDevice *dev = sim_device(i);

        put(t, "%s{\"host\": \"%s\", \"generation\": \"%s\", \"memory\": %llu, "
            "\"topology\": \"%c\", \"open\": %s", i ? ", " : "", dev->host,
            sim_kernel_name(dev->kernel), (unsigned long long)dev->mem_size,
            sim_config()->topology, json_bool(device_open(dev)));
        if (sim_state_attach(dev) == 0) {
            sim_device_lock(dev);
            put(t, ", \"active\": %s, ",
                json_bool(sim_region_answers(dev, dev->kernel->mem_region)));
            put_decoder(t, "hdm", &dev->st->shadow[VFIO_SIM_CM_HDM / 4]);
            put(t, ", ");
            put_decoder(t, "hardware", &dev->st->cm[VFIO_SIM_CM_HDM / 4]);
            put(t, ", \"control2\": %u",
                sim_ld16(dev->st->hw + SIM_ECAP_CXL_DEVICE + DVSEC_CONTROL2));
            sim_device_unlock(dev);
        }
        put(t, "}");
    }
    put(t, "]");
}

static void cmd_maps(Text *t)
{
    const SimSpace *s;
    const SimMap *m;
    bool first = true;

    put(t, "[");
    for (s = sim_space_first(); s; s = s->next) {
        for (m = s->maps; m; m = m->next) {
            put(t, "%s{\"space\": %u, \"backend\": \"%s\", \"iova\": %llu, "
                "\"size\": %llu, \"backing\": \"%s\", \"kind\": \"%s\", "
                "\"read\": %s, \"write\": %s", first ? "" : ", ", s->number,
                s->legacy ? "legacy" : "iommufd",
                (unsigned long long)m->iova, (unsigned long long)m->size,
                m->dma_buf ? "dma-buf" : m->file ? "file" : "vaddr",
                !m->dev ? "ram" :
                m->region == m->dev->kernel->mem_region ? "memory" : "bar",
                json_bool(m->read), json_bool(m->write));
            if (m->dev) {
                put(t, ", \"host\": \"%s\", \"offset\": %llu", m->dev->host,
                    (unsigned long long)m->offset);
            }
            if (m->dma_buf) {
                put(t, ", \"revoked\": %s", json_bool(m->revoked));
            }
            put(t, "}");
            first = false;
        }
    }
    put(t, "]");
}

static void cmd_mmaps(Text *t, SimDevice *dev)
{
    const SimMmap *m;
    bool first = true;

    put(t, "[");
    for (m = sim_mmap_first(); m; m = m->next) {
        if (m->dev == dev) {
            put(t, "%s{\"region\": \"%s\", \"offset\": %llu, \"size\": %llu, "
                "\"address\": %llu, \"accessible\": %s}", first ? "" : ", ",
                sim_region_name(dev, m->region), (unsigned long long)m->offset,
                (unsigned long long)m->len, (unsigned long long)m->addr,
                json_bool(m->open));
            first = false;
        }
    }
    put(t, "]");
}

static void cmd_writes(Text *t, SimDevice *dev)
{
    SimState *st = dev->st;
    uint64_t seq = st->writes_seq > SIM_MAX_WRITES ?
                   st->writes_seq - SIM_MAX_WRITES : 0;
    bool first = true;

    put(t, "[");
    for (; seq < st->writes_seq; seq++) {
        const SimWrite *w = &st->writes[seq % SIM_MAX_WRITES];

        put(t, "%s{\"region\": \"%s\", \"offset\": %llu, \"size\": %u, "
            "\"value\": %llu}", first ? "" : ", ",
            sim_region_name(dev, w->region), (unsigned long long)w->offset,
            w->size, (unsigned long long)w->value);
        first = false;
    }
    put(t, "]");
}

static void cmd_stats(Text *t, SimDevice *dev)
{
    unsigned i, n = dev->stream ? SIM_STAT__MAX : SIM_STAT__SMMU;

    put(t, "{");
    for (i = 0; i < n; i++) {
        put(t, "%s\"%s\": %llu", i ? ", " : "", sim_stat_name(i),
            (unsigned long long)dev->st->stats[i]);
    }
    put(t, "}");
}

/* -- "iommu": the SMMUs, and the objects of each iommufd */

static void put_smmu(Text *t, const SimSmmu *smmu)
{
    static const struct {
        uint8_t opcode;
        const char *name;
    } commands[] = {
        { SIM_CMD_CFGI_CD, "CFGI_CD" },
        { SIM_CMD_CFGI_CD_ALL, "CFGI_CD_ALL" },
        { SIM_CMD_TLBI_NH_ALL, "TLBI_NH_ALL" },
        { SIM_CMD_TLBI_NH_ASID, "TLBI_NH_ASID" },
        { SIM_CMD_TLBI_NH_VA, "TLBI_NH_VA" },
        { SIM_CMD_TLBI_NH_VAA, "TLBI_NH_VAA" },
        { SIM_CMD_ATC_INV, "ATC_INV" },
    };
    unsigned i;

    put(t, "{\"smmu\": %u, \"tlb\": %u, \"commands\": {", smmu->number,
        smmu->tlb.count);
    for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        put(t, "\"%s\": %llu, ", commands[i].name,
            (unsigned long long)smmu->commands[commands[i].opcode]);
    }
    put(t, "\"refused\": %llu}}", (unsigned long long)smmu->refused);
}

static void put_stream(Text *t, SimDevice *dev)
{
    static const char *const configs[] = {
        [SIM_STE_BLOCKED] = "blocked", [SIM_STE_ABORT] = "abort",
        [SIM_STE_S2] = "stage2", [SIM_STE_S1] = "nested",
    };
    const SimStream *s = dev->stream;

    put(t, "{\"host\": \"%s\", \"smmu\": %u, \"config\": \"%s\", "
        "\"ats\": %s, \"cds\": %u, \"atc\": %u", dev->host, s->smmu->number,
        configs[s->ste.config], json_bool(s->ste.ats), sim_cd_count(s),
        s->atc.count);
    if (s->ste.viommu) {
        put(t, ", \"viommu\": %u, \"sid\": %u", s->ste.viommu->id,
            s->ste.vsid);
    }
    if (s->ste.config == SIM_STE_S1) {
        put(t, ", \"ste\": [%llu, %llu]", (unsigned long long)s->ste.word[0],
            (unsigned long long)s->ste.word[1]);
    }
    put(t, "}");
}

static void put_object(Text *t, unsigned iommufd, const SimObject *o)
{
    static const char *const types[] = {
        [SIM_OBJ_IOAS] = "ioas", [SIM_OBJ_HWPT] = "hwpt",
        [SIM_OBJ_HWPT_NESTED] = "hwpt-nested", [SIM_OBJ_DEVICE] = "device",
        [SIM_OBJ_VIOMMU] = "viommu", [SIM_OBJ_VDEVICE] = "vdevice",
        [SIM_OBJ_VEVENTQ] = "veventq",
    };

    put(t, "{\"iommufd\": %u, \"id\": %u, \"type\": \"%s\", \"users\": %u",
        iommufd, o->id, types[o->type], o->users);
    if (o->parent) {
        put(t, ", \"parent\": %u", o->parent->id);
    }
    switch (o->type) {
    case SIM_OBJ_IOAS:
        put(t, ", \"space\": %u, \"maps\": %u", o->space->number,
            o->space->count);
        break;
    case SIM_OBJ_HWPT:
        put(t, ", \"nest-parent\": %s, \"automatic\": %s",
            json_bool(o->nest_parent), json_bool(o->automatic));
        break;
    case SIM_OBJ_HWPT_NESTED:
        put(t, ", \"ste\": [%llu, %llu], \"ats\": %s",
            (unsigned long long)o->ste[0], (unsigned long long)o->ste[1],
            json_bool(o->ats));
        break;
    case SIM_OBJ_DEVICE:
        put(t, ", \"host\": \"%s\"", o->dev->host);
        break;
    case SIM_OBJ_VDEVICE:
        put(t, ", \"host\": \"%s\", \"sid\": %llu", o->device->dev->host,
            (unsigned long long)o->virt_id);
        break;
    case SIM_OBJ_VEVENTQ:
        put(t, ", \"depth\": %u, \"pending\": %u",
            sim_veventq_depth(o->veventq), sim_veventq_pending(o->veventq));
        break;
    default:
        break;
    }
    put(t, "}");
}

typedef struct Iommufds {
    const SimIommufd *list[64];
    unsigned count;
} Iommufds;

static void find_iommufd(SimFile *file, void *opaque)
{
    Iommufds *found = opaque;
    unsigned i;

    for (i = 0; i < found->count && found->list[i] != file->ictx; i++) {
        continue;
    }
    if (file->ictx && i == found->count && i < 64) {
        found->list[found->count++] = file->ictx;
    }
}

static void cmd_iommu(Text *t)
{
    unsigned i, devices = sim_config()->devices;
    const char *comma = "";
    Iommufds found = { 0 };
    const SimObject *o;

    put(t, "{\"smmus\": [");
    for (i = 0; sim_config()->smmu.count && i < devices; i++) {
        SimSmmu *smmu = sim_device(i)->stream->smmu;

        if (!i || sim_device(i - 1)->stream->smmu != smmu) {
            put(t, "%s", i ? ", " : "");
            put_smmu(t, smmu);
        }
    }
    put(t, "], \"streams\": [");
    for (i = 0; sim_config()->smmu.count && i < devices; i++) {
        put(t, "%s", i ? ", " : "");
        put_stream(t, sim_device(i));
    }
    put(t, "], \"objects\": [");
    sim_file_foreach(find_iommufd, &found);
    for (i = 0; i < found.count; i++) {
        for (o = found.list[i]->objects; o; o = o->next) {
            put(t, "%s", comma);
            put_object(t, i, o);
            comma = ", ";
        }
    }
    put(t, "]}");
}

static const char *cmd_irq(SimDevice *dev, const char *arg)
{
    uint64_t n;

    if (!sim_parse_number(arg, VFIO_SIM_MSIX_VECTORS - 1, &n)) {
        return "irq: expected a vector from 0 to 3";
    }
    /* As if the device's firmware had rung the doorbell */
    sim_accel_write(dev, VFIO_SIM_REG_DOORBELL, n, 4);
    return NULL;
}

static const char *device_command(Text *t, const char *cmd, SimDevice *dev,
                                  const char *arg)
{
    if (!strcmp(cmd, "mmaps")) {
        cmd_mmaps(t, dev);
    } else if (!strcmp(cmd, "writes") && !strcmp(arg, "clear")) {
        dev->st->writes_seq = 0;
    } else if (!strcmp(cmd, "writes") && !*arg) {
        cmd_writes(t, dev);
    } else if (!strcmp(cmd, "stats")) {
        cmd_stats(t, dev);
    } else if (!strcmp(cmd, "fault")) {
        return sim_fault_add(dev->st, arg);
    } else if (!strcmp(cmd, "set")) {
        return sim_knob_set(dev, arg);
    } else if (!strcmp(cmd, "poison")) {
        return sim_poison(dev, arg);
    } else if (!strcmp(cmd, "irq")) {
        return cmd_irq(dev, arg);
    } else if (!strcmp(cmd, "err")) {
        return sim_irq_fire(dev->irq.err_fd) ? NULL :
               "err: the VMM has set no ERR eventfd";
    } else if (!strcmp(cmd, "req")) {
        return sim_irq_fire(dev->irq.req_fd) ? NULL :
               "req: the VMM has set no REQ eventfd";
    } else {
        return "unknown command; expected devices, maps, iommu, mmaps, "
               "writes, stats, fault, set, poison, irq, err or req";
    }
    return NULL;
}

static const char *run(Text *t, char *line)
{
    SimDevice *dev;
    const char *cmd, *host, *arg, *err;
    char *rest = line + strcspn(line, " \r");

    if (*rest) {
        *rest++ = '\0';
    }
    cmd = line;
    if (!strcmp(cmd, "devices")) {
        cmd_devices(t);
        return NULL;
    }
    if (!strcmp(cmd, "maps")) {
        cmd_maps(t);
        return NULL;
    }
    if (!strcmp(cmd, "iommu")) {
        cmd_iommu(t);
        return NULL;
    }
    rest += strspn(rest, " ");
    host = rest;
    rest += strcspn(rest, " \r");
    if (*rest) {
        *rest++ = '\0';
        rest += strspn(rest, " ");
    }
    arg = rest;
    rest[strcspn(rest, "\r")] = '\0';
    dev = sim_device_by_host(host);
    if (!dev || sim_state_attach(dev) < 0) {
        /* Report an unknown command rather than a missing device */
        return *host ? "no such device" :
               "expected COMMAND HOST, where COMMAND is devices, maps, iommu, "
               "mmaps, writes, stats, fault, set, poison, irq, err or req";
    }
    sim_device_lock(dev);
    err = device_command(t, cmd, dev, arg);
    sim_device_unlock(dev);
    return err;
}

char *sim_control(const char *line)
{
    Text out = { 0 }, reply = { 0 };
    char *copy = strdup(line);
    const char *err;

    if (!copy) {
        return NULL;
    }
    sim_lock();
    err = run(&out, copy);
    sim_unlock();
    if (err) {
        put(&reply, "{\"error\": ");
        put_string(&reply, err);
        put(&reply, "}");
    } else {
        put(&reply, "{\"return\": %s}", out.s ? out.s : "{}");
    }
    free(out.s);
    free(copy);
    return reply.s;
}
