/*
 * vfio-sim: sysfs as the devices appear in it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher.h"
#include "vfio-sim-regs.h"

void make_dir(const char *path)
{
    char copy[SIM_PATH_MAX + 128];
    char *p;

    snprintf(copy, sizeof(copy), "%s", path);
    for (p = copy + 1; ; p++) {
        if (*p == '/' || !*p) {
            char c = *p;

            *p = '\0';
            if (mkdir(copy, 0700) < 0 && errno != EEXIST) {
                die("cannot make the directory %s: %s", copy, strerror(errno));
            }
            *p = c;
            if (!c) {
                return;
            }
        }
    }
}

static void __attribute__((format(printf, 3, 4))) make_file(const char *dir,
                                                            const char *name,
                                                            const char *fmt,
                                                            ...)
{
    char path[SIM_PATH_MAX + 256];
    va_list ap;
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    f = fopen(path, "we");
    if (!f) {
        die("cannot write %s: %s", path, strerror(errno));
    }
    va_start(ap, fmt);
    vfprintf(f, fmt, ap);
    va_end(ap);
    fclose(f);
}

static void make_link(const char *target, const char *dir, const char *name)
{
    char path[SIM_PATH_MAX + 256];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (symlink(target, path) < 0 && errno != EEXIST) {
        die("cannot make the link %s: %s", path, strerror(errno));
    }
}

static void link_entries(const SimConfig *config, const char *path)
{
    char dir[SIM_PATH_MAX + 128], target[PATH_MAX];
    struct dirent *entry;
    DIR *real;

    snprintf(dir, sizeof(dir), "%s%s", config->dir, path);
    make_dir(dir);
    real = opendir(path);
    if (!real) {
        return;
    }
    while ((entry = readdir(real))) {
        if (entry->d_name[0] != '.') {
            /* make_link() does not touch existing files */
            snprintf(target, sizeof(target), "%s/%s", path, entry->d_name);
            make_link(target, dir, entry->d_name);
        }
    }
    closedir(real);
}

/* After the devices: their files hide those of the machine */
void make_host_sysfs(const SimConfig *config)
{
    link_entries(config, "/sys/kernel/iommu_groups");
    link_entries(config, "/sys/bus/pci/devices");
    link_entries(config, "/sys/bus/pci/drivers/vfio-pci");
}

/* As the driver of SMMUs registers them with the IOMMU subsystem */
static void make_smmu(const SimConfig *config, unsigned index, const char *host)
{
    unsigned number = sim_config_smmu(config, index);
    char name[128], dir[SIM_PATH_MAX + 192], target[256];

    snprintf(name, sizeof(name), SIM_SMMU_SYSFS "%u/iommu/smmu3.0x%016x",
             number, 0x40000000 + number * 0x200000);
    snprintf(dir, sizeof(dir), "%s%s/devices", config->dir, name);
    make_dir(dir);
    snprintf(target, sizeof(target), "../../../../../pci0000:c0/%s", host);
    make_link(target, dir, host);
    snprintf(dir, sizeof(dir), "%s/sys/devices/pci0000:c0/%s", config->dir,
             host);
    snprintf(target, sizeof(target), "../..%s", name + strlen("/sys/devices"));
    make_link(target, dir, "iommu");
}

void make_sysfs(const SimConfig *config, unsigned index)
{
    char host[16], dir[SIM_PATH_MAX + 128], target[128], name[32];
    unsigned group = SIM_FIRST_GROUP + index;

    sim_config_host(index, host, sizeof(host));
    snprintf(dir, sizeof(dir), "%s/sys/kernel/iommu_groups/%u/devices",
             config->dir, group);
    make_dir(dir);
    snprintf(target, sizeof(target), "../../../../devices/pci0000:c0/%s", host);
    make_link(target, dir, host);
    snprintf(dir, sizeof(dir), "%s/sys/bus/pci/devices", config->dir);
    make_dir(dir);
    snprintf(target, sizeof(target), "../../../devices/pci0000:c0/%s", host);
    make_link(target, dir, host);
    snprintf(dir, sizeof(dir), "%s/sys/bus/pci/drivers/vfio-pci", config->dir);
    make_dir(dir);
    if (sim_config_bound(config)) {
        snprintf(target, sizeof(target), "../../../../devices/pci0000:c0/%s",
                 host);
        make_link(target, dir, host);
    }

    snprintf(dir, sizeof(dir), "%s/sys/devices/pci0000:c0/%s", config->dir,
             host);
    make_dir(dir);
    make_file(dir, "vendor", "0x%04x\n", VFIO_SIM_VENDOR_ID);
    make_file(dir, "device", "0x%04x\n", VFIO_SIM_DEVICE_ID);
    make_file(dir, "class", "0x%04x00\n", VFIO_SIM_CLASS);
    make_file(dir, "revision", "0x01\n");
    make_file(dir, "subsystem_vendor", "0x%04x\n", VFIO_SIM_VENDOR_ID);
    make_file(dir, "subsystem_device", "0x1100\n");
    make_file(dir, "numa_node", "-1\n");
    /* The library fills it when it is opened */
    make_file(dir, "config", "%s", "");
    make_file(dir, "reset_method", "flr cxl_reset bus\n");
    snprintf(target, sizeof(target), "../../../kernel/iommu_groups/%u", group);
    make_link(target, dir, "iommu_group");
    make_link("../../../bus/pci", dir, "subsystem");
    if (config->smmu.count) {
        make_smmu(config, index, host);
    }
    if (!sim_config_bound(config)) {
        return;
    }
    make_link("../../../bus/pci/drivers/vfio-pci", dir, "driver");
    snprintf(name, sizeof(name), "/vfio-dev/vfio%u", index);
    strncat(dir, name, sizeof(dir) - strlen(dir) - 1);
    make_dir(dir);
    make_file(dir, "dev", "%d:%u\n", SIM_CDEV_MAJOR, index);
}
