/*
 * vfio-sim: the paths that seem to exist
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sim.h"

static bool parse_index(const char *s, unsigned *index)
{
    uint64_t n;

    if (!sim_parse_number(s, 255, &n)) {
        return false;
    }
    *index = n;
    return true;
}

bool sim_path_device_node(const char *path, SimKind *kind, unsigned *index)
{
    if (strncmp(path, "/dev/", 5)) {
        return false;
    }
    path += 5;
    *index = 0;
    if (!strcmp(path, "iommu")) {
        *kind = SIM_FD_IOMMUFD;
    } else if (!strcmp(path, "vfio/vfio")) {
        *kind = SIM_FD_CONTAINER;
    } else if (!strncmp(path, "vfio/devices/vfio", 17) &&
               parse_index(path + 17, index)) {
        *kind = SIM_FD_CDEV;
    } else if (!strncmp(path, "vfio/", 5) && parse_index(path + 5, index)) {
        *kind = SIM_FD_GROUP;
        *index -= SIM_FIRST_GROUP;
    } else {
        return false;
    }
    if (!sim_ready()) {
        return false;
    }
    /* A device that the driver refuses has no files */
    return (*kind != SIM_FD_CDEV && *kind != SIM_FD_GROUP) ||
           (sim_device(*index) && sim_config_bound(sim_config()));
}

void sim_path_devnum(SimKind kind, unsigned index, unsigned *maj,
                     unsigned *min)
{
    switch (kind) {
    case SIM_FD_CDEV:
        *maj = SIM_CDEV_MAJOR;
        *min = index;
        break;
    case SIM_FD_GROUP:
        *maj = SIM_GROUP_MAJOR;
        *min = index;
        break;
    default:
        *maj = SIM_MISC_MAJOR;
        *min = kind == SIM_FD_CONTAINER ? 196 : 58;
        break;
    }
}

int sim_path_open(const char *path, int flags)
{
    SimKind kind;
    unsigned index;
    int ret;

    if (!sim_path_device_node(path, &kind, &index)) {
        return SIM_NOT_OURS;
    }
    sim_lock();
    switch (kind) {
    case SIM_FD_CONTAINER:
        ret = sim_container_open(flags);
        break;
    case SIM_FD_IOMMUFD:
        ret = sim_iommufd_open(flags);
        break;
    case SIM_FD_GROUP:
        ret = sim_group_open(index, flags);
        break;
    default:
        ret = sim_cdev_open(index, flags);
        break;
    }
    if (ret >= 0) {
        sim_service_start();
    }
    sim_unlock();
    return ret;
}

/* Directories in which the launcher has put ours next to the machine's */
static bool sysfs_merged(const char *path)
{
    static const char *const dirs[] = {
        "/sys/kernel/iommu_groups",
        "/sys/bus/pci/devices",
        "/sys/bus/pci/drivers/vfio-pci",
    };
    unsigned i;

    for (i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
        size_t n = strlen(dirs[i]);

        if (!strncmp(path, dirs[i], n) && !path[n + strspn(path + n, "/")]) {
            return true;
        }
    }
    return false;
}

/* Otherwise only paths that belong to a device of ours */
static bool sysfs_ours(const char *path)
{
    unsigned i;

    if (sysfs_merged(path) ||
        !strncmp(path, SIM_SMMU_SYSFS, strlen(SIM_SMMU_SYSFS))) {
        return true;
    }
    for (i = 0; i < sim_config()->devices; i++) {
        char name[40];

        sim_config_host(i, name, sizeof(name));
        if (strstr(path, name)) {
            return true;
        }
        snprintf(name, sizeof(name), "/sys/kernel/iommu_groups/%u",
                 i + SIM_FIRST_GROUP);
        if (!strncmp(path, name, strlen(name))) {
            const char *end = path + strlen(name);

            return *end == '\0' || *end == '/';
        }
    }
    return false;
}

/* A device's "config" shows what the hardware has at the moment */
static void fill_config(const char *path, const char *real)
{
    const char *name = strrchr(path, '/');
    SimDevice *dev = NULL;
    unsigned i;
    int fd;

    if (strcmp(name, "/config")) {
        return;
    }
    for (i = 0; i < sim_config()->devices && !dev; i++) {
        ptrdiff_t n = strlen(sim_device(i)->host);

        if (name - path > n && !strncmp(name - n, sim_device(i)->host, n)) {
            dev = sim_device(i);
        }
    }
    sim_lock();
    fd = dev && sim_state_attach(dev) == 0 ? sys_open(real, O_WRONLY, 0) : -1;
    if (fd >= 0) {
        sys_pwrite(fd, dev->st->hw, SIM_CONFIG_SIZE, 0);
        sys_close(fd);
    }
    sim_unlock();
}

bool sim_path_sysfs(const char *path, char *buf, size_t size)
{
    int save = errno;
    bool ok;

    if (!sim_enabled || !path || strncmp(path, "/sys/", 5) || !sim_ready() ||
        !sysfs_ours(path) ||
        snprintf(buf, size, "%s%s", sim_config()->dir, path) >= (int)size) {
        return false;
    }
    ok = syscall(SYS_faccessat, AT_FDCWD, buf, F_OK) == 0 ||
         syscall(SYS_readlinkat, AT_FDCWD, buf, (char[1]) { 0 }, 1L) >= 0;
    if (ok) {
        fill_config(path, buf);
    }
    errno = save;
    return ok;
}

void sim_path_strip(char *path)
{
    size_t n = strlen(sim_config()->dir);

    if (!strncmp(path, sim_config()->dir, n) &&
        !strncmp(path + n, "/sys/", 5)) {
        memmove(path, path + n, strlen(path + n) + 1);
    }
}
