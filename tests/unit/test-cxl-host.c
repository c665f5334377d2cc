/*
 * CXL Type-2 devices behind vfio-pci: host capability checks
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/kvm.h>

#include "qapi/error.h"
#include "hw/vfio/cxl-host.h"
#include "system/kvm.h"

/* KVM as the code under test sees it */
static int capability;
KVMState *kvm_state;

int kvm_check_extension(KVMState *s, unsigned int extension)
{
    g_assert_cmpuint(extension, ==, KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED);
    return capability;
}

static void test_access(void)
{
    static const struct {
        OnOffAuto mode;
        bool cpus_are_qemu;
        bool allowed;
    } cases[] = {
        { ON_OFF_AUTO_AUTO, true, true },
        { ON_OFF_AUTO_AUTO, false, false }, /* KVM */
        { ON_OFF_AUTO_ON, true, true },
        { ON_OFF_AUTO_ON, false, true },
        { ON_OFF_AUTO_OFF, true, false },
        { ON_OFF_AUTO_OFF, false, false },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        g_assert_true(vfio_cxl_host_may_access(cases[i].mode,
                                               cases[i].cpus_are_qemu,
                                               true) == cases[i].allowed);
        /* Nothing allows it while the memory is inaccessible */
        g_assert_false(vfio_cxl_host_may_access(cases[i].mode,
                                                cases[i].cpus_are_qemu,
                                                false));
    }
}

static void test_kvm_arm(void)
{
    Error *err = NULL;

    capability = 1;
    g_assert_true(vfio_cxl_host_can_map(true, &error_abort));
    /* The replies of an old kernel, and of one that failed */
    for (capability = 0; capability >= -1; capability--) {
        g_assert_false(vfio_cxl_host_can_map(true, &err));
        g_assert_nonnull(strstr(error_get_pretty(err), "Linux 6.17"));
        error_free(err);
        err = NULL;
    }
}

static void test_kvm_x86(void)
{
    capability = 0;
    g_assert_true(vfio_cxl_host_can_map(false, &error_abort));
}

static void test_xen(void)
{
    Error *err = NULL;

    g_assert_true(vfio_cxl_host_can_keep_off(false, &error_abort));
    g_assert_false(vfio_cxl_host_can_keep_off(true, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), "xen-version"));
    error_free(err);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cxl-host/access", test_access);
    g_test_add_func("/cxl-host/kvm-arm", test_kvm_arm);
    g_test_add_func("/cxl-host/kvm-x86", test_kvm_x86);
    g_test_add_func("/cxl-host/xen", test_xen);
    return g_test_run();
}
