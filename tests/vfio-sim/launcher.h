/*
 * vfio-sim: shared by the parts of the launcher
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_SIM_LAUNCHER_H
#define VFIO_SIM_LAUNCHER_H

#include <stddef.h>

#include "config.h"

/* Values of the options */
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

/* Exits with a message and status 2 */
void die(const char *fmt, ...)
    __attribute__((format(printf, 1, 2), noreturn));

/* Finds the library to preload, or exits */
void find_library(char *path, size_t size);

/*
 * Fill in @launch; returns the index of the first argument that is not an
 * option. --help and others that only print exit.
 */
int options_parse(Launch *launch, int argc, char **argv);
/* Checks whether a state directory made with @old fits these options */
bool options_fit(const Launch *launch, const SimConfig *old);

void state_dir_set(SimConfig *config, const char *dir);
/* Make it temporary: it is removed when no process uses it any more */
void state_dir_set_temporary(SimConfig *config);
void state_dir_remove_unused(const SimConfig *config);
/* Fill it, unless it already has devices */
void state_dir_make(Launch *launch);

void make_dir(const char *path);

/* The directories that list our devices and the machine's own */
void make_host_sysfs(const SimConfig *config);
/* The sysfs files of a device that VMMs and management software read */
void make_sysfs(const SimConfig *config, unsigned index);

/*
 * Checks whether a program needs a library that begins with @prefix, and
 * returns its name
 */
bool elf_needs(const char *path, const char *prefix, char *name, size_t size);

#endif /* VFIO_SIM_LAUNCHER_H */
