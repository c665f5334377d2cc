/*
 * Conformance test of the kernel generations: malformations
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include <sys/ioctl.h>

#include "test-vfio-kernels.h"

static void add_reply(GString *s, Device *d, unsigned long cmd, void *arg)
{
    int ret = ioctl(d->fd, cmd, arg);

    g_string_append_printf(s, "%d:", ret < 0 ? errno : 0);
    if (ret == 0) {
        g_string_append_len(s, arg, 16384);
    }
}

/* Everything that a malformation may change, as one string */
static GString *view(Device *d)
{
    static const unsigned sizes[] = { 32, 16384 };
    g_autofree uint8_t *buf = g_malloc(16384);
    GString *s = g_string_new(NULL);
    unsigned i, index;

    for (i = 0; i < G_N_ELEMENTS(sizes); i++) {
        SimDeviceInfo *info = (void *)buf;
        struct vfio_region_info *r = (void *)buf;

        memset(buf, 0, 16384);
        info->argsz = sizes[i];
        add_reply(s, d, VFIO_DEVICE_GET_INFO, buf);
        for (index = 0; index < 12; index++) {
            memset(buf, 0, 16384);
            r->argsz = sizes[i];
            r->index = index;
            add_reply(s, d, VFIO_DEVICE_GET_REGION_INFO, buf);
        }
    }
    for (i = 0; i < 0x400; i += 4) {
        ssize_t n = get(d, d->bar, d->block + CM + i, buf, 4);
        ssize_t m = get(d, d->regs, i, buf + 4, 4);
        ssize_t k = get(d, d->regs, CM + i, buf + 8, 4);

        g_string_append_printf(s, "%zd,%zd,%zd:", n, m, k);
        g_string_append_len(s, (char *)buf, 12);
    }
    for (i = 0; i < 4096; i += 4) {
        ssize_t n = get(d, VFIO_PCI_CONFIG_REGION_INDEX, i, buf, 4);

        g_string_append_printf(s, "%zd:", n);
        g_string_append_len(s, (char *)buf, 4);
    }
    g_string_append_printf(s, "%zd %zd %zd %zd", get(d, d->mem, 0, buf, 8),
                           get(d, d->bar, 0, buf, 8),
                           put(d, VFIO_PCI_CONFIG_REGION_INDEX, 0x3c, "\5", 2),
                           put(d, d->regs, reg_off(d, 8), "\0\0\0\0", 4));
    return s;
}

/* Each malformation makes a difference, until it is removed */
static void test_mangle(void)
{
    Device *d = device_open();
    GString *truth = view(d);       /* writes a little as well */
    g_autofree struct vfio_region_info *info = region_info(d, d->mem);
    GString *after;
    g_autofree char *out = NULL;
    g_auto(GStrv) lines = NULL;
    const char *argv[] = { g_getenv("VFIO_SIM"), "--mangle=help", NULL };
    g_autofree char *tag = g_strdup_printf(" %.2s ", kernel->name);
    unsigned i, done = 0;

    g_string_free(truth, true);
    truth = view(d);
    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT,
                               NULL, NULL, &out, NULL, NULL, NULL));
    lines = g_strsplit(out, "\n", -1);
    for (i = 2; lines[i] && *lines[i]; i++) {
        g_autofree char *name = g_strndup(lines[i] + 2,
                                          strcspn(lines[i] + 2, " *"));
        GString *now;

        if (!strstr(lines[i], tag)) {
            continue;
        }
        control_ok("set %s mangle=%s", host, name);
        now = view(d);
        if (g_string_equal(now, truth)) {
            g_error("malformation %s makes no difference", name);
        }
        g_string_free(now, true);
        control_ok("set %s mangle=none", host);
        done++;
    }
    g_assert_cmpint(done, >=, 60);
    after = view(d);
    g_assert_true(g_string_equal(after, truth));
    g_string_free(after, true);
    g_string_free(truth, true);

    control_ok("set %s mangle=memory-argsz-grows", host);
    info->argsz = 4096;
    info->index = d->mem;
    ok(ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, info));
    g_assert_cmpint(info->argsz, >, 4096);
    control_ok("set %s mangle=short-write-registers", host);
    g_assert_cmpint(put(d, d->regs, reg_off(d, 8), "\0\0\0\0", 4), ==, 2);
    device_close(d);
}

const Case mangle_cases[] = {
    { "mangle", test_mangle, V2R | V3 | GEOMETRY, true, NULL, NULL },
    { NULL }
};
