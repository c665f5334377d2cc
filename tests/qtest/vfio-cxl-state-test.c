/*
 * CXL Type-2 devices behind vfio-pci: state as seen from outside
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qobject/qnum.h"
#include "vfio-cxl-helpers.h"

/* The reply of query-vfio-cxl for a single device; owns the list */
static QDict *query(CXLMachine *m)
{
    QDict *reply = qtest_qmp(m->qts, "{'execute': 'query-vfio-cxl'}");
    QList *list = qdict_get_qlist(reply, "return");
    QDict *device;

    g_assert_cmpint(qlist_size(list), ==, 1);
    device = qobject_ref(qobject_to(QDict, qlist_peek(list)));
    qobject_unref(reply);
    return device;
}

static QDict *decoder(QDict *device, unsigned n)
{
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(device, "decoders"), entry) {
        if (n-- == 0) {
            return qobject_to(QDict, entry->value);
        }
    }
    g_assert_not_reached();
}

static uint64_t number(QDict *dict, const char *key)
{
    return qnum_get_uint(qobject_to(QNum, qdict_get(dict, key)));
}

/* Device and decoder 0 report @state, in QMP, QOM and HMP */
static void assert_state(CXLMachine *m, const char *state)
{
    g_autofree char *text = qtest_hmp(m->qts, "info vfio-cxl");
    g_autofree char *first = g_strdup_printf("dev0 (" VFIO_CXL_HOST "): %s, ",
                                             state);
    g_autofree char *second = g_strdup_printf("decoder 0: %s", state);
    QDict *device = query(m);
    QDict *reply = qtest_qmp(m->qts, "{'execute': 'qom-get', 'arguments': "
                             "{'path': '/machine/peripheral/dev0/cxl', "
                             "'property': 'status'}}");

    g_assert_cmpstr(qdict_get_str(device, "state"), ==, state);
    g_assert_cmpstr(qdict_get_str(decoder(device, 0), "state"), ==, state);
    g_assert_true(qobject_is_equal(QOBJECT(device),
                                   qdict_get(reply, "return")));
    if (!strstr(text, first) || !strstr(text, second)) {
        g_error("expected '%s' and '%s' in: %s", first, second, text);
    }
    g_assert_true(shows_memory(m, m->window, 0) ==
                  !strcmp(state, "mapped"));
    qobject_unref(reply);
    qobject_unref(device);
}

static void assert_decoder(CXLMachine *m, const char *id, const char *state)
{
    QDict *reply = qtest_qmp(m->qts, "{'execute': 'query-vfio-cxl'}");
    QListEntry *entry;
    bool found = false;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(reply, "return"), entry) {
        QDict *device = qobject_to(QDict, entry->value);

        if (!strcmp(qdict_get_str(device, "id"), id)) {
            g_assert_cmpstr(qdict_get_str(device, "state"), ==, state);
            found = true;
        }
    }
    g_assert_true(found);
    qobject_unref(reply);
}

/* The reasons for inaccessible memory, one after the other */
static void test_reasons(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "", ",x-cxl-commit=guest");
    unsigned control = m->dvsec + DVSEC_CONTROL;
    unsigned pm = cfg_find_cap(m, 0x01) + 4;

    assert_state(m, "cxl-mem-disabled");
    cfg_writew(m, control, DVSEC_MEM_ENABLE);
    assert_state(m, "not-committed");
    g_assert_true(hdm_commit(m, m->window, M256));
    assert_state(m, "decoders-disabled");
    hdm_write(m, HDM_GLOBAL_CONTROL, HDM_ENABLE);
    assert_state(m, "mapped");

    cfg_writew(m, control, 0);
    assert_state(m, "cxl-mem-disabled");
    cfg_writew(m, 0x04, 0x4);
    assert_state(m, mode_has_space_gate(data) ? "memory-space-disabled"
                                              : "cxl-mem-disabled");
    cfg_writew(m, pm, 3);
    /* v5 lets no device leave D0 */
    assert_state(m, mode_is_kernel(data, "v5") ? "memory-space-disabled"
                                               : "low-power");
    cfg_writew(m, pm, 0);
    cfg_writew(m, 0x04, 0x6);
    assert_state(m, "cxl-mem-disabled");
    cfg_writew(m, control, DVSEC_MEM_ENABLE);
    assert_state(m, "mapped");

    hdm_write(m, HDM_CTRL(0), 0);
    assert_state(m, "not-committed");
    cxl_machine_stop(m);
}

static void test_host_lost(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "", "");
    QDict *device;

    qobject_unref(vfio_sim_command(m->sim, "set " VFIO_CXL_HOST
                                   " hardware-committed=0"));
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    assert_state(m, "host-not-committed");
    qobject_unref(vfio_sim_command(m->sim, "set " VFIO_CXL_HOST
                                   " hardware-committed=1"));
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    device = query(m);
    g_assert_cmpstr(qdict_get_str(device, "state"), ==, "mapped");
    qobject_unref(device);
    cxl_machine_stop(m);
}

/* The complete state of a device that firmware has committed */
static void test_device(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=512M", "");
    g_autofree char *kernel = g_strndup(((const VFIOCXLMode *)data)->kernel,
                                        2);
    QDict *device = query(m), *d = decoder(device, 0);
    QDict *window = qdict_get_qdict(d, "window");

    g_assert_cmpstr(qdict_get_str(device, "id"), ==, "dev0");
    g_assert_cmpstr(qdict_get_str(device, "qom-path"), ==,
                    "/machine/peripheral/dev0");
    g_assert_cmpstr(qdict_get_str(device, "host"), ==, VFIO_CXL_HOST);
    g_assert_cmpstr(qdict_get_str(device, "mode"), ==, "cxl");
    g_assert_cmpstr(qdict_get_str(device, "kernel"), ==, kernel);
    g_assert_cmphex(number(device, "size"), ==, 2 * M256);
    g_assert_true(qdict_get_bool(d, "committed"));
    g_assert_true(qdict_get_bool(d, "locked"));
    g_assert_false(qdict_get_bool(d, "error"));
    g_assert_cmphex(number(d, "base"), ==, hdm_base(m, 0));
    g_assert_cmphex(number(d, "size"), ==, 2 * M256);
    g_assert_cmphex(number(d, "dpa"), ==, 0);
    g_assert_false(qdict_haskey(d, "port"));
    g_assert_cmpint(number(window, "index"), ==, 0);
    g_assert_cmphex(number(window, "base"), ==, m->window);
    g_assert_cmphex(number(window, "size"), ==, 4 * GiB);
    qobject_unref(device);
    cxl_machine_stop(m);

    /* Half of it, and a COMMIT that is refused */
    m = mode_start(data, "--memory=512M", ",x-cxl-commit=guest");
    hdm_enable(m);
    hdm_write(m, HDM_SKIP_LO(0), M256);
    g_assert_true(hdm_commit(m, m->window + M256, M256));
    device = query(m);
    d = decoder(device, 0);
    g_assert_cmpstr(qdict_get_str(d, "state"), ==, "mapped");
    g_assert_false(qdict_get_bool(d, "locked"));
    g_assert_cmphex(number(d, "base"), ==, m->window + M256);
    g_assert_cmphex(number(d, "dpa"), ==, M256);
    qobject_unref(device);
    g_assert_false(hdm_commit(m, 0, M256));
    device = query(m);
    d = decoder(device, 0);
    g_assert_cmpstr(qdict_get_str(d, "state"), ==, "not-committed");
    g_assert_false(qdict_get_bool(d, "committed"));
    g_assert_true(qdict_get_bool(d, "error"));
    g_assert_false(qdict_haskey(d, "window"));
    qobject_unref(device);
    cxl_machine_stop(m);
}

/* The port above which no decoder matches the range is named */
static void test_path(gconstpointer data)
{
    CXLMachine *m = cxl_machine_start(mode_sim(data, ""),
        " -device pxb-cxl,id=cxl.0,bus=pcie.0,bus_nr=12,hdm_for_passthrough=on"
        " -device cxl-rp,id=rp0,bus=cxl.0,chassis=0,slot=0" CXL_WINDOW,
        mode_is_iommufd(data), ",x-cxl-commit=guest");
    QDict *device;

    hdm_enable(m);
    g_assert_true(hdm_commit(m, m->window, M256));
    assert_state(m, "path-not-programmed");
    device = query(m);
    g_assert_cmpstr(qdict_get_str(decoder(device, 0), "port"), ==,
                    "/machine/peripheral/rp0");
    g_assert_true(qdict_haskey(decoder(device, 0), "window"));
    qobject_unref(device);
    cxl_machine_stop(m);
}

/* Two functions of a slot claim the same range: the first one gets it */
static void test_taken(gconstpointer data)
{
    g_autofree char *options = g_strdup_printf(CXL_BRIDGE CXL_WINDOW
        " -device vfio-pci,id=dev1,host=0000:c2:00.0,bus=rp0,addr=0.1,"
        "x-cxl-commit=guest%s", mode_is_iommufd(data) ? ",iommufd=iommufd0"
                                                      : "");
    CXLMachine *m = cxl_machine_start(mode_sim(data, "--devices=2"), options,
        mode_is_iommufd(data),
        ",bus=rp0,addr=0.0,multifunction=on,x-cxl-commit=guest");
    CXLMachine other = *m;

    other.ecam += 0x1000;
    other.bar0 += 0x80000;
    other.hdm += 0x80000;
    cfg_write(&other, 0x10, other.bar0);
    cfg_writew(&other, 0x04, 0x6);

    hdm_write(m, HDM_GLOBAL_CONTROL, HDM_ENABLE);
    g_assert_true(hdm_commit(m, m->window, M256));
    g_assert_true(hdm_commit(&other, m->window, M256));
    hdm_enable(&other);
    hdm_enable(m);
    assert_decoder(m, "dev0", "range-taken");
    assert_decoder(m, "dev1", "mapped");
    hdm_write(&other, HDM_CTRL(0), 0);
    assert_decoder(m, "dev1", "not-committed");
    assert_decoder(m, "dev0", "mapped");
    cxl_machine_stop(m);
}

static void test_plain(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "", ",x-cxl=off");
    g_autofree char *text = qtest_hmp(m->qts, "info vfio-cxl");
    QDict *device = query(m);

    g_assert_cmpstr(qdict_get_str(device, "mode"), ==, "pci");
    g_assert_cmpstr(qdict_get_str(device, "reason"), ==, "x-cxl=off");
    g_assert_false(qdict_haskey(device, "decoders"));
    g_assert_nonnull(strstr(text, "dev0 (" VFIO_CXL_HOST "): plain PCI: "
                            "x-cxl=off"));
    qobject_unref(device);
    cxl_machine_stop(m);
}

/*
 * The VM's states, and the monitor's other views
 */
static void assert_status(CXLMachine *m, const char *command,
                          const char *status)
{
    QDict *reply;

    if (command) {
        qobject_unref(qtest_qmp(m->qts, "{'execute': %s}", command));
    }
    reply = qtest_qmp(m->qts, "{'execute': 'query-status'}");
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(reply, "return"), "status"),
                    ==, status);
    qobject_unref(reply);
    assert_firmware_committed(m, M256);
}

static void test_run_state(gconstpointer data)
{
    CXLMachine *m = cxl_machine_start(mode_sim(data, ""),
                                      CXL_BRIDGE CXL_WINDOW " -S",
                                      mode_is_iommufd(data), "");
    g_autofree char *tree = qtest_hmp(m->qts, "info mtree");
    g_autofree char *pci = qtest_hmp(m->qts, "info pci");
    g_autofree char *qom = qtest_hmp(m->qts, "qom-list "
                                     "/machine/peripheral/dev0/cxl");
    g_autofree char *alias = g_strdup_printf(
        "%016" PRIx64 "-%016" PRIx64 " (prio 0, ramd): alias cxl-hdm",
        hdm_base(m, 0), (uint64_t)(hdm_base(m, 0) + M256 - 1));

    assert_status(m, NULL, "prelaunch");
    assert_status(m, "cont", "running");
    assert_status(m, "stop", "paused");
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    assert_status(m, NULL, "prelaunch");
    assert_status(m, "cont", "running");

    g_assert_nonnull(strstr(tree, alias));
    g_assert_nonnull(strstr(pci, "1af4:10f2"));
    g_assert_nonnull(strstr(qom, "status (VfioCxlDevice)"));
    cxl_machine_stop(m);
}

static const char *const rereads[] = { "v6", "v5", "v2-reset", NULL };

int main(int argc, char **argv)
{
    vfio_cxl_test_init(&argc, &argv);

    vfio_cxl_add("reasons", vfio_cxl_kernels, test_reasons);
    vfio_cxl_add("host-lost", rereads, test_host_lost);
    vfio_cxl_add("device", vfio_cxl_kernels, test_device);
    vfio_cxl_add("path", rereads, test_path);
    vfio_cxl_add("taken", rereads, test_taken);
    vfio_cxl_add("plain", rereads, test_plain);
    vfio_cxl_add("run-state", rereads, test_run_state);
    return g_test_run();
}
