/*
 * vfio-sim: what the parts of the launcher share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_SIM_LAUNCHER_H
#define VFIO_SIM_LAUNCHER_H

#include "config.h"

/* Ends the launcher with a message and status 2 */
void die(const char *fmt, ...)
    __attribute__((format(printf, 1, 2), noreturn));

void make_dir(const char *path);

/* The directories that list our devices besides the machine's own */
void make_host_sysfs(const SimConfig *config);
/* What a VMM or a management program looks up in sysfs about a device */
void make_sysfs(const SimConfig *config, unsigned index);

#endif /* VFIO_SIM_LAUNCHER_H */
