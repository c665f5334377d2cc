/*
 * vfio-sim: start of the preloaded library
 *
 * The library does nothing until a program uses a path or a descriptor of
 * the simulated kernel, so that shells and wrappers can pass it on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "smmuv3.h"

bool sim_enabled;

static const char *sim_dir;
static SimConfig config;
static bool config_ok;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static SimDevice devices[SIM_MAX_DEVICES];

void sim_lock(void)
{
    pthread_mutex_lock(&lock);
}

void sim_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

static void forked(void)
{
    sim_service_forked();
    sim_unlock();
}

static uint64_t block_offset(char topology)
{
    switch (topology) {
    case 'B':
        return VFIO_SIM_BLOCK_B;
    case 'C':
        return VFIO_SIM_BLOCK_C;
    default:
        return VFIO_SIM_BLOCK_A;
    }
}

static bool probe_smmu(unsigned i)
{
    unsigned number = sim_config_smmu(&config, i);
    bool first = !i || sim_config_smmu(&config, i - 1) != number;

    return sim_smmu_probe(&devices[i], number,
                          first ? NULL : &devices[i - 1]);
}

static void load(void)
{
    const SimKernel *kernel;
    const char *bound;
    unsigned i;

    if (sim_config_load(&config, sim_dir) < 0) {
        return;
    }
    bound = sim_config_bound(&config);
    /* Without a driver this one is never used */
    kernel = sim_kernel_find(bound ? bound : "none");
    if (!kernel) {
        return;
    }
    for (i = 0; i < config.devices; i++) {
        SimDevice *dev = &devices[i];

        dev->index = i;
        dev->mem_fd = dev->bar0_fd = -1;
        sim_config_host(i, dev->host, sizeof(dev->host));
        if (snprintf(dev->dir, sizeof(dev->dir), "%s/%s", config.dir,
                     dev->host) >= (int)sizeof(dev->dir)) {
            return;
        }
        dev->mem_size = config.memory;
        dev->block = block_offset(config.topology);
        dev->kernel = kernel;
        if (config.smmu.count && !probe_smmu(i)) {
            return;
        }
    }
    pthread_atfork(sim_lock, sim_unlock, forked);
    config_ok = true;
}

bool sim_ready(void)
{
    if (!sim_enabled) {
        return false;
    }
    pthread_once(&once, load);
    return config_ok;
}

const SimConfig *sim_config(void)
{
    return &config;
}

SimDevice *sim_device(unsigned index)
{
    return index < config.devices ? &devices[index] : NULL;
}

SimDevice *sim_device_by_host(const char *host)
{
    unsigned i;

    for (i = 0; i < config.devices; i++) {
        if (!strcmp(devices[i].host, host)) {
            return &devices[i];
        }
    }
    return NULL;
}

static void __attribute__((constructor)) sim_start(void)
{
    const char *dir = getenv("VFIO_SIM_DIR");

    if (dir && dir[0] == '/') {
        /* the program may change its environment */
        sim_dir = strdup(dir);
        sim_enabled = sim_dir != NULL;
        sim_keep_root();
        sim_fd_scan();
    }
}
