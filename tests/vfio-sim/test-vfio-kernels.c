/*
 * Conformance test of the kernel generations that vfio-sim stands in for
 *
 * What is asserted here comes from the description of each generation's
 * interface, not from vfio-sim's code, and uses raw ioctls, no QEMU. Each
 * case runs in a process of its own under vfio-sim.
 *
 * With --device=ADDRESS the cases run on a real device instead, except those
 * that must control the device or its firmware. They reset the device, write to
 * its memory and change what the kernel lets them change; rebind the driver
 * before the next run, as a kernel may keep the changes until then.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test-vfio-kernels.h"

#define TYPE_1E98       0x80001e98u
#define CASE_SECONDS    60
#define SKIPPED         77

static const Kernel kernels[] = {
    { "v2", V2, 32, 9, 10, TYPE_1E98 },
    { "v2-reset", V2R, 32, 9, 10, TYPE_1E98 },
    { "v2-nommap", V2N, 32, 9, 10, TYPE_1E98 },
    { "v3", V3, 48, 10, 9, TYPE_1E98 },
    { "v4", V4, 0, 9, 10, 4 },
    { "v5", V5, 0, 9, 10, TYPE_1E98 },
    { "v6", V6, 0, 9, 10, TYPE_1E98 },
    { "none", NONE, 0, 0, 0, 0 },
};

static const Case *const topics[] = {
    discovery_cases, hdm_cases, reset_cases, dvsec_cases, memory_cases,
    active_cases, mangle_cases,
};

const Kernel *kernel;
const char *host = "0000:c1:00.0";
bool real;
static const char *self;

static const Kernel *find_kernel(const char *name)
{
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(kernels); i++) {
        if (!strcmp(kernels[i].name, name)) {
            return &kernels[i];
        }
    }
    return NULL;
}

void skip_case(void)
{
    exit(SKIPPED);
}

/* In a process of its own */
static int run_case(const char *name, const char *kernel_name)
{
    const Case *c;
    unsigned i;

    kernel = find_kernel(kernel_name);
    alarm(CASE_SECONDS);
    for (i = 0; i < G_N_ELEMENTS(topics); i++) {
        for (c = topics[i]; c->name; c++) {
            if (!strcmp(c->name, name)) {
                c->fn();
                return 0;
            }
        }
    }
    return 2;
}

typedef struct Run {
    const Case *c;
    const Kernel *k;
} Run;

static void spawn_case(const void *opaque)
{
    const Run *run = opaque;
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autofree char *kernel_arg = g_strdup_printf("--kernel=%s", run->k->name);
    g_autofree char *output = NULL, *device = NULL;
    g_auto(GStrv) options = g_strsplit(run->c->options ?: "", " ", -1);
    g_auto(GStrv) env = g_get_environ();
    g_auto(GStrv) extra = g_strsplit(run->c->env ?: "", " ", -1);
    GError *err = NULL;
    int status, i;

    if (real && run->c->control) {
        g_test_skip("only with vfio-sim");
        return;
    }
    if (!real) {
        g_ptr_array_add(argv, (char *)g_getenv("VFIO_SIM"));
        g_ptr_array_add(argv, kernel_arg);
        for (i = 0; options[i]; i++) {
            g_ptr_array_add(argv, options[i]);
        }
        g_ptr_array_add(argv, (char *)"--");
    }
    g_ptr_array_add(argv, (char *)self);
    g_ptr_array_add(argv, (char *)"--case");
    g_ptr_array_add(argv, (char *)run->c->name);
    g_ptr_array_add(argv, (char *)run->k->name);
    if (real) {
        device = g_strdup_printf("--device=%s", host);
        g_ptr_array_add(argv, device);
    }
    g_ptr_array_add(argv, NULL);
    for (i = 0; extra[i]; i++) {
        g_auto(GStrv) kv = g_strsplit(extra[i], "=", 2);

        env = g_environ_setenv(env, kv[0], kv[1], true);
    }
    if (!g_spawn_sync(NULL, (char **)argv->pdata, env,
                      G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL,
                      NULL, NULL, &output, &status, &err)) {
        g_error("%s", err->message);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED) {
        g_test_skip("not with this kernel");
    } else if (status) {
        g_test_message("%s", output);
        g_printerr("%s", output);
        g_test_fail();
    }
}

/*
 * All cases for real devices, on one that cannot write its cache back and that
 * keeps its memory in a reset
 */
static void test_as_device(const void *opaque)
{
    const Kernel *k = opaque;
    g_autofree char *kernel_arg = g_strdup_printf("--kernel=%s", k->name);
    g_autofree char *device = g_strdup_printf("--device=%s", host);
    g_autofree char *cache = g_strdup_printf("--set=%s no-write-back=1", host);
    g_autofree char *memory = g_strdup_printf("--set=%s reset-clears=0", host);
    g_auto(GStrv) env = g_get_environ();
    char *argv[] = { (char *)g_getenv("VFIO_SIM"), kernel_arg, cache, memory,
                     (char *)"--", (char *)self, device, NULL };
    g_autofree char *output = NULL;
    GError *err = NULL;
    int status;

    env = g_environ_setenv(env, "VFIO_V2", k->name, true);
    if (!g_spawn_sync(NULL, argv, env, G_SPAWN_DEFAULT, NULL, NULL, &output,
                      NULL, &status, &err)) {
        g_error("%s", err->message);
    }
    if (status) {
        g_printerr("%s", output);
        g_test_fail();
    }
}

static void add_cases(const Kernel *k, const Case *c)
{
    for (; c->name; c++) {
        g_autofree char *path = g_strdup_printf("/vfio-sim/%s/%s", k->name,
                                                c->name);
        Run *run = g_new(Run, 1);

        *run = (Run) { c, k };
        if ((c->kernels & k->bit) && (!real || kernel == k)) {
            g_test_add_data_func_full(path, run, (GTestDataFunc)spawn_case,
                                      g_free);
        } else {
            g_free(run);
        }
    }
}

/* v5 and v6 differ in whether memory can be read while Memory Space is off */
static const Kernel *detect_newer(Device *d, unsigned mem)
{
    uint16_t command = cfg16(d, PCI_COMMAND);
    uint32_t value;
    bool gate;

    set_cfg(d, PCI_COMMAND, command & ~PCI_COMMAND_MEMORY, 2);
    gate = get(d, mem, 0, &value, 4) < 0;
    set_cfg(d, PCI_COMMAND, command, 2);
    return find_kernel(gate ? "v5" : "v6");
}

/* Detects the generation of a real device's kernel */
static const Kernel *detect(void)
{
    struct {
        SimDeviceInfo info;
        uint8_t rest[232];
    } b = { .info.argsz = sizeof(b) };
    struct vfio_region_info_cap_type *type = NULL;
    const Kernel *found = NULL;
    Device d = { 0 };
    unsigned i, mem = 0;
    uint8_t *cap;

    open_legacy(&d);
    g_assert_cmpint(d.fd, >=, 0);
    ok(ioctl(d.fd, VFIO_DEVICE_GET_INFO, &b.info));
    cap = info_cap(&b, b.info.cap_offset, 6);
    for (i = 9; i < b.info.num_regions && !mem; i++) {
        struct vfio_region_info *r = region_info(&d, i);

        type = r ? info_cap(r, r->cap_offset, 2) : NULL;
        mem = type && type->subtype == 1 ? i : 0;
    }
    if (mem && !cap && type->type == TYPE_1E98) {
        found = detect_newer(&d, mem);
    }
    close(d.fd);
    close(d.group);
    close(d.container);
    if (!(b.info.flags & 1 << 9)) {
        return find_kernel("none");
    }
    if (cap) {
        const char *v2 = g_getenv("VFIO_V2");

        return find_kernel(*(uint32_t *)(cap + 12) >= 9 ? "v3" :
                           v2 ? v2 : "v2-reset");
    }
    return found ?: find_kernel("v4");
}

int main(int argc, char **argv)
{
    g_autofree char *dir = NULL, *sim = NULL;
    const char *one = NULL, *name = NULL;
    unsigned i, k;

    self = realpath("/proc/self/exe", NULL);
    dir = g_path_get_dirname(self);
    sim = g_build_filename(dir, "vfio-sim", NULL);
    g_setenv("VFIO_SIM", sim, true);
    if (argc >= 4 && !strcmp(argv[1], "--case")) {
        one = argv[2];
        name = argv[3];
    }
    for (i = 1; (int)i < argc; i++) {
        if (g_str_has_prefix(argv[i], "--device=")) {
            real = true;
            host = strdup(argv[i] + 9);
            argv[i] = (char *)"-q";
        }
    }
    if (one) {
        return run_case(one, name);
    }
    g_test_init(&argc, &argv, NULL);
    kernel = real ? detect() : NULL;
    for (k = 0; k < G_N_ELEMENTS(kernels); k++) {
        for (i = 0; i < G_N_ELEMENTS(topics); i++) {
            add_cases(&kernels[k], topics[i]);
        }
        if (!real) {
            g_autofree char *path = g_strdup_printf("/vfio-sim/%s/as-device",
                                                    kernels[k].name);

            g_test_add_data_func(path, &kernels[k], test_as_device);
        }
    }
    return g_test_run();
}
