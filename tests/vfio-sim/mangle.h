/*
 * vfio-sim: replies and registers that no kernel or device should give
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_SIM_MANGLE_H
#define VFIO_SIM_MANGLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_REPLY_MAX 16384

/* A reply as the program would get it, given enough room */
typedef struct SimReply {
    uint32_t size;
    uint32_t head;          /* size of the struct before the capabilities */
    uint32_t cap_field;     /* where it says where they begin */
    uint8_t buf[SIM_REPLY_MAX] __attribute__((aligned(8)));
} SimReply;

/* What a malformation concerns */
typedef enum SimWhere {
    SIM_AT_NOTHING,
    SIM_AT_DEVICE,          /* VFIO_DEVICE_GET_INFO */
    SIM_AT_MEMORY,          /* VFIO_DEVICE_GET_REGION_INFO of that region */
    SIM_AT_REGISTERS,
    SIM_AT_BAR,             /* the component BAR */
    SIM_AT_CONFIG_REGION,
    SIM_AT_OTHER,           /* any other region */
    SIM_AT_CM,              /* a component register as the program sees it */
    SIM_AT_CONFIG,
    SIM_AT_READ_MEMORY,     /* the return value of a read or write */
    SIM_AT_READ_REGISTERS,
    SIM_AT_READ_BAR,
    SIM_AT_READ_CONFIG,
    SIM_AT_WRITE_MEMORY,
    SIM_AT_WRITE_REGISTERS,
    SIM_AT_WRITE_BAR,
    SIM_AT_WRITE_CONFIG,
} SimWhere;

/* Number of a malformation, 0 for "none", -1 if there is none of that name */
int sim_mangle_find(const char *name);
const char *sim_mangle_name(unsigned n);
/* Checks whether it makes a difference to this kernel generation */
bool sim_mangle_concerns(unsigned n, const char *kernel);
void sim_mangle_help(void);

/* Returns whether the reply's first field, argsz, is to stay as it is */
bool sim_mangle_reply(unsigned n, SimWhere where, SimReply *reply,
                      uint32_t given);
/* Returns 0 or the errno (negative) that the call is to fail with */
int sim_mangle_error(unsigned n, SimWhere where);
uint32_t sim_mangle_cm(unsigned n, unsigned off, uint32_t value);
void sim_mangle_config(unsigned n, unsigned pos, uint8_t *buf, size_t count);
/* Returns how many of @done bytes a read or write reports */
size_t sim_mangle_count(unsigned n, SimWhere where, size_t done);

#endif /* VFIO_SIM_MANGLE_H */
