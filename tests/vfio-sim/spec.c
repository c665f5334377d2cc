/*
 * vfio-sim: parser for the faults and knobs that a test requests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "mangle.h"

#define NUM(a) (sizeof(a) / sizeof((a)[0]))

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
    "get_hw_info", "ioas_change_process", "hwpt_invalidate", "viommu_alloc",
    "vdevice_alloc", "veventq_alloc",
};

static const char *const region_ops[] = { "pread-", "pwrite-", "mmap-" };

static const char *const region_names[] = {
    "bar0", "bar1", "bar2", "bar3", "bar4", "bar5", "rom", "config", "vga",
    "memory", "comp-regs",
};

static const char *const other_ops[] = { "open", "cxl-reset", "flr", "any" };

static const struct {
    const char *name;
    uint32_t max;
} knobs[SIM_KNOB__MAX] = {
    [SIM_KNOB_HARDWARE_COMMITTED] = { "hardware-committed", 1 },
    [SIM_KNOB_VIABLE] = { "viable", 1 },
    [SIM_KNOB_RESET_ENABLES] = { "reset-enables-memory", 1 },
    [SIM_KNOB_KEEPS_BASE] = { "keeps-base", 1 },
    [SIM_KNOB_EXPORTER] = { "dma-buf-exporter", 1 },
    [SIM_KNOB_RESET_BUSY] = { "reset-busy", INT32_MAX },
    [SIM_KNOB_RESET_DELAY] = { "reset-delay", 1000 },
    [SIM_KNOB_NO_FLR] = { "no-flr", 1 },
    [SIM_KNOB_NO_WBI] = { "no-write-back", 1 },
    [SIM_KNOB_RESET_CLEARS] = { "reset-clears", 1 },
    [SIM_KNOB_FAULT_NS] = { "fault-ns", 1000000 },
    [SIM_KNOB_SBR_UNMASKED] = { "sbr-unmasked", 1 },
    [SIM_KNOB_ACTIVE_DELAY] = { "active-delay", 1000000 },
    [SIM_KNOB_DVSEC_SNAPSHOT] = { "dvsec-snapshot", 1 },
    [SIM_KNOB_NO_BAR_AREAS] = { "no-bar-areas", 1 },
    [SIM_KNOB_GUARD_MAP] = { "guard-map", 1 },
    [SIM_KNOB_PFNMAP] = { "pfnmap", 1 },
    [SIM_KNOB_LOSE_INVALIDATIONS] = { "lose-invalidations", INT32_MAX },
    [SIM_KNOB_LOSE_EVENTS] = { "lose-events", INT32_MAX },
    [SIM_KNOB_GEOMETRY_ID] = { "geometry-id", 0xffff },
    [SIM_KNOB_GEOMETRY_FORM] = { "geometry-form", 0 },
    [SIM_KNOB_MANGLE] = { "mangle", 0 },
};

/* "device_reset" and "reset" are equivalent */
bool sim_op_is(const char *full, const char *name)
{
    static const char *const prefixes[] = { "device_", "group_", "iommu_" };
    unsigned i;

    if (!strcmp(full, name) || !strcmp(name, "any")) {
        return true;
    }
    for (i = 0; i < NUM(prefixes); i++) {
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

    for (i = 0; i < NUM(other_ops); i++) {
        if (!strcmp(op, other_ops[i])) {
            return true;
        }
    }
    for (i = 0; i < NUM(ioctl_ops); i++) {
        if (sim_op_is(ioctl_ops[i], op)) {
            return true;
        }
    }
    for (i = 0; i < NUM(region_ops); i++) {
        size_t n = strlen(region_ops[i]);

        for (j = 0; j < NUM(region_names) && !strncmp(op, region_ops[i], n);
             j++) {
            if (!strcmp(op + n, region_names[j])) {
                return true;
            }
        }
    }
    return false;
}

const char *sim_fault_parse(const char *spec, SimFault *fault)
{
    char copy[128];
    char *save, *op, *word;
    uint64_t err = 0, count = 0, skip = 0;

    if (snprintf(copy, sizeof(copy), "%s", spec) >= (int)sizeof(copy)) {
        return "fault: too long";
    }
    op = strtok_r(copy, " ", &save);
    if (!op || strlen(op) >= sizeof(fault->op) || !known_op(op)) {
        return "fault: unknown operation; expected an ioctl's name as in "
               "device_reset, pread-REGION, pwrite-REGION, mmap-REGION, "
               "cxl-reset, flr, open or any";
    }
    while ((word = strtok_r(NULL, " ", &save))) {
        if (!strncmp(word, "errno=", 6)) {
            if (!sim_parse_number(word + 6, 4095, &err) || !err) {
                return "fault: errno must be a number from 1 to 4095";
            }
        } else if (!strncmp(word, "count=", 6)) {
            if (!sim_parse_number(word + 6, INT32_MAX, &count) || !count) {
                return "fault: count must be a positive number";
            }
        } else if (!strncmp(word, "skip=", 5)) {
            if (!sim_parse_number(word + 5, INT32_MAX, &skip)) {
                return "fault: skip must be a number";
            }
        } else {
            return "fault: expected OP errno=N [count=K] [skip=M]";
        }
    }
    if (!err) {
        return "fault: errno=N is missing";
    }
    fault->err = err;
    fault->count = count ? (int32_t)count : -1;
    fault->skip = skip;
    snprintf(fault->op, sizeof(fault->op), "%s", op);
    return NULL;
}

static const char *knob_value(SimKnob knob, const char *text, uint32_t *value)
{
    static char err[80];
    uint64_t n;
    int mangle;

    switch (knob) {
    case SIM_KNOB_MANGLE:
        mangle = sim_mangle_find(text);
        if (mangle < 0) {
            return "set: unknown malformation; see vfio-sim --mangle=help";
        }
        n = mangle;
        break;
    case SIM_KNOB_GEOMETRY_FORM:
        if (strcmp(text, "u64") && strcmp(text, "u32")) {
            return "set: geometry-form must be u64 or u32";
        }
        n = text[1] == '6' ? 64 : 32;
        break;
    default:
        if (!sim_parse_number(text, knobs[knob].max, &n)) {
            snprintf(err, sizeof(err), "set: %s must be from 0 to %u",
                     knobs[knob].name, knobs[knob].max);
            return err;
        }
        break;
    }
    *value = n;
    return NULL;
}

const char *sim_knob_parse(const char *spec, SimKnob *knob, uint32_t *value)
{
    const char *eq = strchr(spec, '=');
    unsigned i;

    for (i = 0; eq && i < SIM_KNOB__MAX; i++) {
        if (strlen(knobs[i].name) == (size_t)(eq - spec) &&
            !strncmp(spec, knobs[i].name, eq - spec)) {
            *knob = i;
            return knob_value(i, eq + 1, value);
        }
    }
    return "set: expected KNOB=VALUE with hardware-committed, viable, "
           "reset-enables-memory, keeps-base, dma-buf-exporter, reset-busy, "
           "reset-delay, no-flr, no-write-back, reset-clears, fault-ns, "
           "sbr-unmasked, active-delay, dvsec-snapshot, no-bar-areas, "
           "guard-map, pfnmap, lose-invalidations, lose-events, "
           "geometry-id, geometry-form or mangle";
}
