/*
 * Test of the kernel's interface to an SMMUv3, by system calls alone
 *
 * What is asserted here is what Linux's iommufd and its driver of the SMMU
 * do, and what the Arm manual says of the hardware. Each case runs in a
 * process of its own under vfio-sim. With --device=ADDRESS the cases run on
 * a device of vfio-sim's that a real kernel offers, as in a nested run, except
 * those that need vfio-sim's help.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test-vfio-smmu.h"

#define CASE_SECONDS    60

static const Case *const topics[] = {
    object_cases, walk_cases, cache_cases, event_cases,
};

static const char *self, *device;
const char *hosts[2] = { HOST0, HOST1 };

static void spawn_case(const void *opaque)
{
    const Case *c = opaque;
    g_autofree char *dir = g_path_get_dirname(self);
    g_autofree char *sim = g_build_filename(dir, "vfio-sim", NULL);
    g_autofree char *iommu = g_strdup_printf("--iommu=%s",
                                             c->iommu ?: "smmuv3");
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autofree char *output = NULL;
    GError *err = NULL;
    int status;

    if (device && (c->control || c->iommu || c->options)) {
        g_test_skip("only with vfio-sim");
        return;
    }
    if (!device) {
        g_ptr_array_add(argv, sim);
        if (!c->iommu || *c->iommu) {
            g_ptr_array_add(argv, iommu);
        }
        if (c->options) {
            g_ptr_array_add(argv, (char *)c->options);
        }
        g_ptr_array_add(argv, (char *)"--");
    }
    g_ptr_array_add(argv, (char *)self);
    g_ptr_array_add(argv, (char *)"--case");
    g_ptr_array_add(argv, (char *)c->name);
    g_ptr_array_add(argv, (char *)device);
    g_ptr_array_add(argv, NULL);
    if (!g_spawn_sync(NULL, (char **)argv->pdata, NULL,
                      G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL, &output,
                      &status, &err)) {
        g_error("%s", err->message);
    }
    if (status) {
        g_test_message("%s", output);
        g_printerr("%s", output);
        g_test_fail();
    }
}

int main(int argc, char **argv)
{
    const char *one = NULL;
    const Case *c;
    unsigned i;

    self = realpath("/proc/self/exe", NULL);
    if (argc >= 3 && !strcmp(argv[1], "--case")) {
        one = argv[2];
        device = argv[3];
        hosts[0] = device ?: HOST0;
        alarm(CASE_SECONDS);
    } else {
        for (i = 1; (int)i < argc; i++) {
            if (g_str_has_prefix(argv[i], "--device=")) {
                device = strdup(argv[i] + 9);
                argv[i] = (char *)"-q";
            }
        }
        g_test_init(&argc, &argv, NULL);
    }
    for (i = 0; i < G_N_ELEMENTS(topics); i++) {
        for (c = topics[i]; c->name; c++) {
            g_autofree char *path = g_strdup_printf("/vfio-sim/smmuv3/%s",
                                                    c->name);

            if (!one) {
                g_test_add_data_func(path, c, spawn_case);
            } else if (!strcmp(c->name, one)) {
                c->fn();
                return 0;
            }
        }
    }
    return one ? 2 : g_test_run();
}
