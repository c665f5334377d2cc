/*
 * vfio-sim: a device's state, which survives the processes that use it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sim.h"

#define STATE_MAGIC 0x3354534d49535856ull   /* "VXSIMST3" */

static const char *const stat_names[SIM_STAT__MAX] = {
    [SIM_STAT_OPENS] = "opens",
    [SIM_STAT_RESETS] = "resets",
    [SIM_STAT_FLR] = "flr",
    [SIM_STAT_HOT_RESETS] = "hot-resets",
    [SIM_STAT_CXL_RESETS] = "cxl-resets",
    [SIM_STAT_IRQS] = "irqs",
    [SIM_STAT_IRQS_LOST] = "irqs-lost",
    [SIM_STAT_UNMASKS] = "unmasks",
    [SIM_STAT_DMA] = "dma",
    [SIM_STAT_DMA_FAULTS] = "dma-faults",
    [SIM_STAT_COMP_READS] = "comp-reads",
    [SIM_STAT_COMP_WRITES] = "comp-writes",
    [SIM_STAT_CONFIG_READS] = "config-reads",
    [SIM_STAT_CONFIG_WRITES] = "config-writes",
    [SIM_STAT_BAR_READS] = "bar-reads",
    [SIM_STAT_BAR_WRITES] = "bar-writes",
    [SIM_STAT_BLOCK_READS] = "block-reads",
    [SIM_STAT_BLOCK_WRITES] = "block-writes",
    [SIM_STAT_MEMORY_READS] = "memory-reads",
    [SIM_STAT_MEMORY_WRITES] = "memory-writes",
    [SIM_STAT_MMAPS] = "mmaps",
    [SIM_STAT_FAULTS] = "faults",
    [SIM_STAT_STALE_MAPS] = "stale-maps",
    [SIM_STAT_MEMORY_MAPS] = "memory-maps",
    [SIM_STAT_PAGE_FAULTS] = "page-faults",
    [SIM_STAT_TLB_HITS] = "tlb-hits",
    [SIM_STAT_TLB_MISSES] = "tlb-misses",
    [SIM_STAT_CD_HITS] = "cd-hits",
    [SIM_STAT_CD_MISSES] = "cd-misses",
    [SIM_STAT_ATC_HITS] = "atc-hits",
    [SIM_STAT_ATS_REQUESTS] = "ats-requests",
    [SIM_STAT_EVENTS] = "events",
    [SIM_STAT_EVENTS_LOST] = "events-lost",
    [SIM_STAT_EVENTS_UNTOLD] = "events-untold",
};

const char *sim_stat_name(SimStat stat)
{
    return stat_names[stat];
}

void sim_count(SimDevice *dev, SimStat stat)
{
    __atomic_add_fetch(&dev->st->stats[stat], 1, __ATOMIC_RELAXED);
}

void sim_device_lock(SimDevice *dev)
{
    if (pthread_mutex_lock(&dev->st->lock) == EOWNERDEAD) {
        pthread_mutex_consistent(&dev->st->lock);
    }
}

void sim_device_unlock(SimDevice *dev)
{
    pthread_mutex_unlock(&dev->st->lock);
}

void sim_log_write(SimDevice *dev, unsigned region, uint64_t offset,
                   const void *buf, size_t size)
{
    SimState *st = dev->st;
    SimWrite *w = &st->writes[st->writes_seq++ % SIM_MAX_WRITES];

    w->region = region;
    w->offset = offset;
    w->size = size > UINT32_MAX ? UINT32_MAX : size;
    w->value = 0;
    memcpy(&w->value, buf, size < 8 ? size : 8);
}

/* Actions of the driver when it binds to the device */
static void state_bind(SimDevice *dev)
{
    const SimConfig *cfg = sim_config();
    SimState *st = dev->st;
    pthread_mutexattr_t attr;
    unsigned i;

    memset(st, 0, sizeof(*st));
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&st->lock, &attr);
    pthread_mutexattr_destroy(&attr);

    st->knobs[SIM_KNOB_HARDWARE_COMMITTED] = 1;
    st->knobs[SIM_KNOB_VIABLE] = 1;
    st->knobs[SIM_KNOB_KEEPS_BASE] = 1;
    st->knobs[SIM_KNOB_RESET_CLEARS] = 1;
    st->knobs[SIM_KNOB_GEOMETRY_ID] = 6;
    st->knobs[SIM_KNOB_GEOMETRY_FORM] = 64;
    sim_component_bind(dev);
    sim_config_bind(dev);
    sim_accel_reset(dev);
    sim_accel_fill_bar0(dev);
    dev->kernel->bind(dev);

    /* "HOST OP..." and "HOST KNOB=VALUE", which the launcher has checked */
    for (i = 0; i < cfg->num_faults + cfg->num_knobs; i++) {
        bool fault = i < cfg->num_faults;
        const char *spec = fault ? cfg->faults[i] :
                                   cfg->knobs[i - cfg->num_faults];
        size_t len = strlen(dev->host);

        if (!strncmp(spec, dev->host, len) && spec[len] == ' ') {
            spec += len + 1;
            if (fault) {
                sim_fault_add(st, spec);
            } else {
                sim_knob_set(dev, spec);
            }
        }
    }
    __atomic_store_n(&st->magic, STATE_MAGIC, __ATOMIC_RELEASE);
}

static int open_in(const char *dir, const char *name, uint64_t size)
{
    char path[SIM_PATH_MAX + 16];
    struct {
        int fd;
        long ret;
    } f;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    f.fd = sim_high_fd(sys_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (f.fd >= 0 && size) {
        f.ret = syscall(SYS_ftruncate, f.fd, size);
        if (f.ret < 0) {
            int err = -errno;

            sys_close(f.fd);
            return err;
        }
    }
    return f.fd;
}

int sim_state_attach(SimDevice *dev)
{
    const SimConfig *cfg = sim_config();
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
    int fd;

    if (dev->st) {
        return 0;
    }
    dev->mem_fd = sim_high_fd(sys_open(cfg->memory_file[dev->index],
                                       O_RDWR | O_CLOEXEC, 0));
    if (dev->mem_fd < 0) {
        return dev->mem_fd;
    }
    dev->bar0_fd = open_in(dev->dir, "bar0", VFIO_SIM_BAR0_SIZE);
    fd = open_in(dev->dir, "state", SIM_ROUND_UP(sizeof(SimState), SIM_PAGE));
    if (dev->bar0_fd < 0 || fd < 0) {
        return dev->bar0_fd < 0 ? dev->bar0_fd : fd;
    }
    dev->st = sys_mmap(NULL, SIM_ROUND_UP(sizeof(SimState), SIM_PAGE),
                       PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (dev->st == MAP_FAILED) {
        dev->st = NULL;
        sys_close(fd);
        return -ENOMEM;
    }
    while (sys_fcntl(fd, F_OFD_SETLKW, &fl) == -EINTR) {
        continue;
    }
    if (dev->st->magic != STATE_MAGIC) {
        state_bind(dev);
    }
    /* The mapping holds the open file, so closing alone would not do */
    sim_ofd_lock(fd, F_UNLCK);
    sys_close(fd);
    sim_irq_init(dev);
    return 0;
}
