/*
 * vfio-sim: what the parts of the launcher share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_SIM_LAUNCHER_H
#define VFIO_SIM_LAUNCHER_H

#include <stddef.h>

#include "config.h"

/* What the options have asked for */
typedef struct Launch {
    SimConfig config;
    uint32_t given;             /* bit n: the table's option n */
    const char *memory_file;
    const char *state_dir;
    const char *prepare;        /* directory, or NULL */
    const char *control_dir;    /* the same */
    const char *preload;
    /* Values of knobs for all devices, or NULL */
    const char *geometry_id;
    const char *geometry_form;
    const char *guard_map;
    const char *mangle;
} Launch;

/* Ends the launcher with a message and status 2 */
void die(const char *fmt, ...)
    __attribute__((format(printf, 1, 2), noreturn));

/* The library that is preloaded: its path, or the end */
void find_library(char *path, size_t size);

/*
 * Fill in @launch; returns the index of the first argument that is not an
 * option. --help and others that only print end the launcher.
 */
int options_parse(Launch *launch, int argc, char **argv);
/* Whether a state directory made with @old is one for these options */
bool options_fit(const Launch *launch, const SimConfig *old);

void state_dir_set(SimConfig *config, const char *dir);
/* One that goes when the launcher and all that uses a device have ended */
void state_dir_set_temporary(SimConfig *config);
void state_dir_remove_unused(const SimConfig *config);
/* Fill it, unless it has devices already */
void state_dir_make(Launch *launch);

void make_dir(const char *path);

/* The directories that list our devices besides the machine's own */
void make_host_sysfs(const SimConfig *config);
/* What a VMM or a management program looks up in sysfs about a device */
void make_sysfs(const SimConfig *config, unsigned index);

/*
 * Whether a program names a library that begins with @prefix as one that it
 * needs, and which it is
 */
bool elf_needs(const char *path, const char *prefix, char *name, size_t size);

#endif /* VFIO_SIM_LAUNCHER_H */
