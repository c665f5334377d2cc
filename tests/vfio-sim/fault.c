/*
 * vfio-sim: faults that a test asks for, and the device's knobs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <string.h>

#include "sim.h"

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

int sim_fault_locked(SimDevice *dev, const char *op)
{
    SimState *st = dev->st;
    int ret = 0;
    unsigned i;

    for (i = 0; i < SIM_MAX_FAULTS; i++) {
        SimFault *f = &st->faults[i];

        if (f->op[0] && sim_op_is(op, f->op)) {
            if (f->skip > 0) {
                f->skip--;
                continue;
            }
            ret = -f->err;
            if (f->count > 0 && --f->count == 0) {
                f->op[0] = '\0';
            }
            sim_count(dev, SIM_STAT_FAULTS);
            break;
        }
    }
    return ret;
}

int sim_fault(SimDevice *dev, const char *op)
{
    int ret;

    if (!dev->st) {
        return 0;
    }
    sim_device_lock(dev);
    ret = sim_fault_locked(dev, op);
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

const char *sim_fault_add(SimState *st, const char *spec)
{
    const char *err;
    SimFault fault;
    unsigned i;

    if (!strcmp(spec, "clear")) {
        memset(st->faults, 0, sizeof(st->faults));
        return NULL;
    }
    err = sim_fault_parse(spec, &fault);
    for (i = 0; !err && i < SIM_MAX_FAULTS; i++) {
        SimFault *f = &st->faults[i];

        if (!f->op[0] || !strcmp(f->op, fault.op)) {
            *f = fault;
            return NULL;
        }
    }
    return err ? err : "fault: too many faults, clear them first";
}

const char *sim_knob_set(SimDevice *dev, const char *spec)
{
    SimKnob knob;
    uint32_t value;
    const char *err = sim_knob_parse(spec, &knob, &value);

    if (!err && knob == SIM_KNOB_MANGLE &&
        !sim_mangle_concerns(value, sim_kernel_name(dev->kernel))) {
        return "set: this malformation does not concern this kernel "
               "generation; see vfio-sim --mangle=help";
    }
    if (!err) {
        dev->st->knobs[knob] = value;
    }
    return err;
}

bool sim_knob_use(SimDevice *dev, SimKnob knob)
{
    if (!dev->st->knobs[knob]) {
        return false;
    }
    dev->st->knobs[knob]--;
    return true;
}
