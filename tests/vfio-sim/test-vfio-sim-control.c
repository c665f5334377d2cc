/*
 * Test of vfio-sim: faults, its control channel and KVM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test-vfio-sim.h"

static void test_faults(void)
{
    struct vfio_region_info r = {
        .argsz = sizeof(r), .index = VFIO_PCI_CONFIG_REGION_INDEX,
    };
    g_autofree char *bad = NULL;
    uint32_t v = 0;
    Dev d;

    /* From the start, by option */
    fails(open("/dev/vfio/1", O_RDWR), ENOMEM);
    open_legacy_n(&d, 0, NULL);
    control_ok("fault " HOST0 " get_region_info errno=5 count=2");
    fails(ioctl(d.fd, VFIO_DEVICE_GET_REGION_INFO, &r), EIO);
    fails(ioctl(d.fd, VFIO_DEVICE_GET_REGION_INFO, &r), EIO);
    ok(ioctl(d.fd, VFIO_DEVICE_GET_REGION_INFO, &r));
    control_ok("fault " HOST0 " device_reset errno=11");
    control_ok("fault " HOST0 " pread-comp-regs errno=14");
    control_ok("fault " HOST0 " pwrite-config errno=22");
    control_ok("fault " HOST0 " mmap-memory errno=12");
    control_ok("fault " HOST0 " map_dma errno=28");
    fails(ioctl(d.fd, VFIO_DEVICE_RESET), EAGAIN);
    fails(pread(d.fd, &v, 4, REGION(COMP_REGION)), EFAULT);
    ok(pwrite(d.fd, &v, 4, REGION(COMP_REGION)) - 4);
    fails(pwrite(d.fd, &v, 4, REGION(7)), EINVAL);
    map_fails(map_region(d.fd, MEM_REGION, 0, PAGE), ENOMEM);
    fails(dma_map(&d, 0x10000, anon(PAGE), PAGE, true, true), ENOSPC);
    g_assert_cmpuint(stat_of(HOST0, "resets"), ==, 0);
    control_ok("fault " HOST0 " clear");
    ok(ioctl(d.fd, VFIO_DEVICE_RESET));

    /* One call after the other, whatever it is */
    control_ok("fault " HOST0 " any errno=5 count=1 skip=2");
    ok(ioctl(d.fd, VFIO_DEVICE_RESET));
    ok(pread(d.fd, &v, 4, REGION(7)) - 4);
    fails(ioctl(d.fd, VFIO_DEVICE_GET_REGION_INFO, &r), EIO);
    ok(ioctl(d.fd, VFIO_DEVICE_GET_REGION_INFO, &r));
    control_ok("fault " HOST0 " mmap-memory errno=12 skip=1");
    ok(munmap(map_region(d.fd, MEM_REGION, 0, PAGE), PAGE));
    map_fails(map_region(d.fd, MEM_REGION, 0, PAGE), ENOMEM);
    map_fails(map_region(d.fd, MEM_REGION, 0, PAGE), ENOMEM);
    control_ok("fault " HOST0 " clear");

    bad = control("fault " HOST0 " no_such_ioctl errno=5");
    g_assert_nonnull(strstr(bad, "\"error\": \"fault: unknown operation"));
}

static void test_control(void)
{
    g_autofree char *devices = NULL, *maps = NULL, *writes = NULL, *bad = NULL;
    g_autofree char *second = NULL, *first = NULL;
    int a, b;
    unsigned i;
    Dev d;

    open_legacy_n(&d, 0, NULL);
    devices = control("devices");
    g_assert_nonnull(strstr(devices, "{\"host\": \"" HOST0 "\", "
                            "\"generation\": \"v2-reset\", "
                            "\"memory\": 268435456, \"topology\": \"A\", "
                            "\"open\": true, \"active\": true, "
                            "\"hdm\": {\"base\": 0, \"size\": 268435456, "
                            "\"ctrl\": 1536"));
    g_assert_nonnull(strstr(devices, "\"hardware\": {\"base\": 765534970"));
    maps = control("maps");
    g_assert_cmpstr(maps, ==, "{\"return\": []}");
    comp_w(d.fd, HDM + 0x14, 0x21);
    writes = control("writes " HOST0);
    g_assert_cmpstr(writes, ==, "{\"return\": [{\"region\": \"comp-regs\", "
                    "\"offset\": 532, \"size\": 4, \"value\": 33}]}");
    control_ok("writes " HOST0 " clear");
    for (i = 0; i < 3000; i++) {
        comp_w(d.fd, HDM + 0x14, i);
    }
    g_free(writes);
    writes = control("writes " HOST0);
    g_assert_null(strstr(writes, "\"value\": 1975}"));
    g_assert_nonnull(strstr(writes, "\"value\": 1976}"));
    bad = control("no \"such\" command");
    g_assert_true(g_str_has_prefix(bad, "{\"error\": \""));

    /* A client that sends half a line does not hold up another */
    a = control_connect();
    b = control_connect();
    g_assert_cmpint(write(a, "dev", 3), ==, 3);
    g_assert_cmpint(write(b, "maps\n", 5), ==, 5);
    second = control_reply(b);
    g_assert_cmpstr(second, ==, "{\"return\": []}");
    g_assert_cmpint(write(a, "ices\n", 5), ==, 5);
    first = control_reply(a);
    g_assert_true(g_str_has_prefix(first, "{\"return\": [{\"host\""));
}

static void test_kvm(void)
{
    struct kvm_create_device c = { .type = KVM_DEV_TYPE_VFIO };
    int32_t fd;
    struct kvm_device_attr attr = {
        .group = KVM_DEV_VFIO_GROUP, .attr = KVM_DEV_VFIO_GROUP_ADD,
        .addr = (uintptr_t)&fd,
    };
    int kvm = open("/dev/kvm", O_RDWR), vm;
    Dev d;

    vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm < 0) {
        g_printerr("# no KVM here, not tested\n");
        return;
    }
    open_legacy_n(&d, 0, NULL);
    ok(ioctl(vm, KVM_CREATE_DEVICE, &c));
    fails(ioctl(vm, KVM_CREATE_DEVICE, &c), EBUSY);
    fd = vm;
    fails(ioctl(c.fd, KVM_SET_DEVICE_ATTR, &attr), EINVAL);
    fd = d.group;
    ok(ioctl(c.fd, KVM_SET_DEVICE_ATTR, &attr));
    fails(ioctl(c.fd, KVM_SET_DEVICE_ATTR, &attr), EEXIST);
    attr.attr = KVM_DEV_VFIO_GROUP_DEL;
    ok(ioctl(c.fd, KVM_SET_DEVICE_ATTR, &attr));
    fails(ioctl(c.fd, KVM_SET_DEVICE_ATTR, &attr), ENOENT);
    attr.group = 9;
    fails(ioctl(c.fd, KVM_SET_DEVICE_ATTR, &attr), ENXIO);
}

const Case control_cases[] = {
    { .path = "faults", .fn = test_faults,
      .options = { "--fault=" HOST0 " open errno=12 count=1" } },
    { .path = "control", .fn = test_control },
    { .path = "kvm", .fn = test_kvm },
    { }
};
