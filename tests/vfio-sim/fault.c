/*
 * vfio-sim: faults that a test asks for, and the device's knobs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

/* ioctls, in lower case without their VFIO_ or IOMMU_ prefix */
static const char *const ioctl_ops[] = {
    "get_api_version", "check_extension", "set_iommu", "iommu_get_info",
    "iommu_map_dma", "iommu_unmap_dma", "group_get_status",
    "group_set_container", "group_unset_container", "group_get_device_fd",
    "device_get_info", "device_get_region_info", "device_get_irq_info",
    "device_set_irqs", "device_reset", "device_get_pci_hot_reset_info",
    "device_pci_hot_reset", "device_feature", "device_bind_iommufd",
    "device_attach_iommufd_pt", "device_detach_iommufd_pt", "destroy",
    "ioas_alloc", "ioas_allow_iovas", "ioas_copy", "ioas_iova_ranges",
    "ioas_map", "ioas_map_file", "ioas_unmap", "option", "hwpt_alloc",
    "get_hw_info", "ioas_change_process",
};

static const char *const region_ops[] = { "pread-", "pwrite-", "mmap-" };

static const char *const region_names[] = {
    "bar0", "bar1", "bar2", "bar3", "bar4", "bar5", "rom", "config", "vga",
};

const char *sim_region_name(SimDevice *dev, unsigned region)
{
    if (region == dev->kernel->mem_region) {
        return "memory";
    }
    if (region == dev->kernel->comp_region) {
        return "comp-regs";
    }
    return region < 9 ? region_names[region] : "unknown";
}

/* "device_reset", "reset" and "DEVICE_RESET" are the same */
static bool same_op(const char *full, const char *name)
{
    static const char *const prefixes[] = { "device_", "group_", "iommu_" };
    unsigned i;

    if (!strcmp(full, name)) {
        return true;
    }
    for (i = 0; i < 3; i++) {
        size_t n = strlen(prefixes[i]);

        if (!strncmp(full, prefixes[i], n) && !strcmp(full + n, name)) {
            return true;
        }
    }
    return false;
}

static bool known_op(const char *op)
{
    unsigned i, j;

    if (!strcmp(op, "open")) {
        return true;
    }
    for (i = 0; i < sizeof(ioctl_ops) / sizeof(ioctl_ops[0]); i++) {
        if (same_op(ioctl_ops[i], op)) {
            return true;
        }
    }
    for (i = 0; i < 3; i++) {
        size_t n = strlen(region_ops[i]);

        if (strncmp(op, region_ops[i], n)) {
            continue;
        }
        for (j = 0; j < 9; j++) {
            if (!strcmp(op + n, region_names[j])) {
                return true;
            }
        }
        return !strcmp(op + n, "memory") || !strcmp(op + n, "comp-regs");
    }
    return false;
}

int sim_fault(SimDevice *dev, const char *op)
{
    SimState *st = dev->st;
    int ret = 0;
    unsigned i;

    if (!st) {
        return 0;
    }
    sim_device_lock(dev);
    for (i = 0; i < SIM_MAX_FAULTS; i++) {
        SimFault *f = &st->faults[i];

        if (f->op[0] && same_op(op, f->op)) {
            ret = -f->err;
            if (f->count > 0 && --f->count == 0) {
                f->op[0] = '\0';
            }
            sim_count(dev, SIM_STAT_FAULTS);
            break;
        }
    }
    sim_device_unlock(dev);
    return ret;
}

int sim_fault_any(const char *op)
{
    unsigned i;
    int ret = 0;

    for (i = 0; i < sim_config()->devices && !ret; i++) {
        ret = sim_fault(sim_device(i), op);
    }
    return ret;
}

int sim_fault_region(SimDevice *dev, const char *op, unsigned region)
{
    char name[40];

    snprintf(name, sizeof(name), "%s-%s", op, sim_region_name(dev, region));
    return sim_fault(dev, name);
}

static bool parse_number(const char *s, long min, long max, long *value)
{
    char *end;

    errno = 0;
    *value = strtol(s, &end, 0);
    return *s && !*end && !errno && *value >= min && *value <= max;
}

const char *sim_fault_add(SimState *st, const char *spec)
{
    char copy[128];
    char *save, *op, *word;
    long err = 0, count = -1;
    unsigned i;

    if (!strcmp(spec, "clear")) {
        memset(st->faults, 0, sizeof(st->faults));
        return NULL;
    }
    if (snprintf(copy, sizeof(copy), "%s", spec) >= (int)sizeof(copy)) {
        return "fault: too long";
    }
    op = strtok_r(copy, " ", &save);
    if (!op || strlen(op) >= sizeof(st->faults[0].op) || !known_op(op)) {
        return "fault: unknown operation";
    }
    while ((word = strtok_r(NULL, " ", &save))) {
        if (!strncmp(word, "errno=", 6)) {
            if (!parse_number(word + 6, 1, 4095, &err)) {
                return "fault: errno must be a number from 1 to 4095";
            }
        } else if (!strncmp(word, "count=", 6)) {
            if (!parse_number(word + 6, 1, INT32_MAX, &count)) {
                return "fault: count must be a positive number";
            }
        } else {
            return "fault: expected OP errno=N [count=K]";
        }
    }
    if (!err) {
        return "fault: errno=N is missing";
    }
    for (i = 0; i < SIM_MAX_FAULTS; i++) {
        SimFault *f = &st->faults[i];

        if (!f->op[0] || !strcmp(f->op, op)) {
            f->err = err;
            f->count = count;
            snprintf(f->op, sizeof(f->op), "%s", op);
            return NULL;
        }
    }
    return "fault: too many faults, clear them first";
}

const char *sim_knob_set(SimState *st, const char *spec)
{
    const char *eq = strchr(spec, '=');
    size_t n = eq ? (size_t)(eq - spec) : 0;
    long value;

    if (!eq || !parse_number(eq + 1, 0, 1, &value)) {
        return "set: expected KNOB=0 or KNOB=1";
    }
    if (n == 18 && !strncmp(spec, "hardware-committed", n)) {
        st->hw_commit = value;
    } else if (n == 6 && !strncmp(spec, "viable", n)) {
        st->viable = value;
    } else {
        return "set: unknown knob; there are hardware-committed and viable";
    }
    return NULL;
}
