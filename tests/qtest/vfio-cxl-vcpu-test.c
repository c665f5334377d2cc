/*
 * CXL Type-2 devices behind vfio-pci: memory that is taken away under load
 *
 * A vCPU continuously reads and writes device memory while access to it is
 * closed and opened again. The simulated kernel raises SIGBUS for each access
 * at the wrong time, which terminates QEMU.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "vfio-cxl-helpers.h"
#include "vfio-cxl-slot.h"
#include "vfio-cxl-vcpu.h"

#define ROUNDS 5
#define EJECTS 100
/* Loops of the vCPU that make sure that it has seen something */
#define LOOPS 1000
/* Bounds each wait, in steps of a millisecond */
#define PATIENCE 20000

/* In device memory: what the vCPU reads, and where it writes its count */
#define DPA_READ 0x3000
#define DPA_WRITE (DPA_READ + 8)

#define DVSEC_STATUS2 0x12

static bool is_arm(void)
{
    return g_str_equal(qtest_get_arch(), "aarch64");
}

static uint64_t shared(CXLMachine *m, unsigned n)
{
    return vcpu_shared(m->qts, 0, n);
}

static void set_target(CXLMachine *m, uint64_t target)
{
    vcpu_set_target(m->qts, 0, target, 1);
}

static CXLMachine *start_vcpus(gconstpointer data, unsigned count,
                               const char *properties)
{
    VFIOSim *sim = mode_sim(data, "--memory=256M");
    g_autofree char *vcpus = vcpu_options(sim, count);
    g_autofree char *options = g_strconcat(CXL_BRIDGE CXL_WINDOW, vcpus, NULL);

    return cxl_machine_start(sim, options, mode_is_iommufd(data), properties);
}

static CXLMachine *start(gconstpointer data, const char *properties)
{
    return start_vcpus(data, 1, properties);
}

/* The vCPU keeps running: it does not hang */
static void wait_loops(CXLMachine *m)
{
    uint64_t from = shared(m, 1);

    for (int i = 0; shared(m, 1) - from < LOOPS; i++) {
        g_assert_cmpint(i, <, PATIENCE);
        g_usleep(1000);
    }
}

static void assert_closed(CXLMachine *m)
{
    uint64_t aborts = shared(m, 3), written;

    /* A first time, until it has taken the new map */
    wait_loops(m);
    written = vfio_sim_peek(m->sim, DPA_WRITE);
    vfio_sim_poke(m->sim, DPA_READ, written + 1);
    wait_loops(m);
    g_assert_cmphex(vfio_sim_peek(m->sim, DPA_WRITE), ==, written);
    /* No data, or an external abort, as QEMU does it for each machine */
    if (is_arm()) {
        g_assert_cmpint(shared(m, 3), >=, aborts + LOOPS);
    } else {
        g_assert_cmphex(shared(m, 2), !=, written + 1);
    }
}

static void assert_open(CXLMachine *m)
{
    uint64_t value = ((uint64_t)g_test_rand_int() << 32) | 1;
    uint64_t written = vfio_sim_peek(m->sim, DPA_WRITE);

    vfio_sim_poke(m->sim, DPA_READ, value);
    for (int i = 0; shared(m, 2) != value ||
                    vfio_sim_peek(m->sim, DPA_WRITE) == written; i++) {
        g_assert_cmpint(i, <, PATIENCE);
        g_usleep(1000);
    }
}

static void set_knob(CXLMachine *m, const char *what)
{
    g_autofree char *command = g_strdup_printf("%s " VFIO_CXL_HOST " %s",
        strchr(what, '=') && !strchr(what, ' ') ? "set" : "fault", what);

    qobject_unref(vfio_sim_command(m->sim, command));
}

static void set_dvsec(CXLMachine *m, unsigned reg, uint16_t value)
{
    cfg_writew(m, m->dvsec + reg, value);
}

static void sbr(CXLMachine *m)
{
    uint64_t control = m->ecam + (12ull << 20) + 0x3e;

    qtest_writew(m->qts, control, 0x40);
    qtest_writew(m->qts, control, 0);
    cxl_machine_enumerate(m);
}

/* Gates that the guest closes and opens */
static void test_gates(gconstpointer data)
{
    CXLMachine *m = start(data, "");
    unsigned pm = cfg_find_cap(m, 0x01) + 4;

    set_target(m, hdm_base(m, 0) + DPA_READ);
    assert_open(m);
    for (int i = 0; i < ROUNDS; i++) {
        set_dvsec(m, DVSEC_CONTROL, 0);
        assert_closed(m);
        set_dvsec(m, DVSEC_CONTROL, DVSEC_MEM_ENABLE);
        assert_open(m);
        cfg_writew(m, 0x04, 0x4);
        if (mode_has_space_gate(data)) {
            assert_closed(m);
        }
        cfg_writew(m, 0x04, 0x6);
        assert_open(m);
        cfg_writew(m, pm, 3);
        if (cfg_readw(m, pm) & 3) {
            assert_closed(m);
        }
        cfg_writew(m, pm, 0);
        assert_open(m);
        hdm_write(m, HDM_GLOBAL_CONTROL, 0);
        assert_closed(m);
        hdm_write(m, HDM_GLOBAL_CONTROL, HDM_ENABLE);
        assert_open(m);
    }
    cxl_machine_stop(m);
}

/* Resets, each of which takes the kernel a while */
static void test_resets(gconstpointer data)
{
    CXLMachine *m = start(data, "");
    uint64_t base = hdm_base(m, 0);

    set_target(m, base + DPA_READ);
    assert_open(m);
    for (int i = 0; i < ROUNDS; i++) {
        set_knob(m, i % 2 ? "reset-delay=5" : "reset-delay=0");
        cxl_machine_flr(m);
        assert_open(m);
        if (cfg_readw(m, m->dvsec + DVSEC_CAP) & 0x80) {
            set_dvsec(m, DVSEC_CONTROL2, 0x4);
            g_assert_cmphex(cfg_readw(m, m->dvsec + DVSEC_STATUS2) & 6, ==,
                            2);
            assert_open(m);
        }
        sbr(m);
        assert_closed(m);
        g_assert_true(hdm_commit(m, base, M256));
        hdm_enable(m);
        assert_open(m);
        qtest_system_reset(m->qts);
        cxl_machine_enumerate(m);
        assert_open(m);
    }
    /* Those that fail, too */
    set_knob(m, "device_reset errno=5");
    cxl_machine_flr(m);
    assert_closed(m);
    sbr(m);
    assert_closed(m);
    set_knob(m, "clear");
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    assert_open(m);
    cxl_machine_stop(m);
}

/* QEMU's address of the device's memory */
static uint64_t memory_address(CXLMachine *m)
{
    QObject *list = vfio_sim_command(m->sim, "mmaps " VFIO_CXL_HOST);
    QListEntry *entry;
    uint64_t address = 0;

    QLIST_FOREACH_ENTRY(qobject_to(QList, list), entry) {
        QDict *dict = qobject_to(QDict, qlist_entry_obj(entry));

        if (!strcmp(qdict_get_str(dict, "region"), "memory")) {
            address = qdict_get_int(dict, "address");
        }
    }
    g_assert_cmphex(address, !=, 0);
    qobject_unref(list);
    return address;
}

/* Nothing else may use these addresses of QEMU in the meantime */
static void assert_occupied(CXLMachine *m, uint64_t address)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/maps",
                                            qtest_pid(m->qts));
    g_autofree char *maps = NULL;
    uint64_t start, end;
    bool found = false;

    g_assert_true(g_file_get_contents(path, &maps, NULL, NULL));
    for (char *line = maps; line && *line; line = strchr(line, '\n') + 1) {
        g_assert_cmpint(sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end),
                        ==, 2);
        found |= start <= address && address < end;
    }
    g_assert_true(found);
}

/*
 * Memory that cannot be mapped again is unavailable until a reset. The vCPU
 * goes on writing: there must be something at its address at every moment.
 */
static void test_map_fails(gconstpointer data)
{
    CXLMachine *m = start(data, "");
    uint64_t base = hdm_base(m, 0), address;

    set_target(m, base + DPA_READ);
    assert_open(m);
    address = memory_address(m);
    for (int round = 0; round < 20; round++) {
        set_dvsec(m, DVSEC_CONTROL, 0);
        set_knob(m, "mmap-memory errno=12");
        for (int i = 0; i < 3; i++) {
            set_dvsec(m, DVSEC_CONTROL, DVSEC_MEM_ENABLE);
            assert_closed(m);
            assert_occupied(m, address);
            cxl_machine_flr(m);
            assert_closed(m);
            assert_occupied(m, address);
        }
        set_knob(m, "clear");
        set_dvsec(m, DVSEC_CONTROL, 0);
        set_dvsec(m, DVSEC_CONTROL, DVSEC_MEM_ENABLE);
        assert_closed(m);
        cxl_machine_flr(m);
        assert_open(m);
    }
    cxl_machine_stop(m);
}

/*
 * One vCPU continuously writes the device's decoder, and another one the slot's
 * power: now and then the first waits for the BQL while the second ejects the
 * device being written to.
 */
static void test_eject(gconstpointer data)
{
    CXLMachine *m = start_vcpus(data, 2, ",id=dev0,x-cxl-commit=guest");
    uint64_t control = slot_control(m);

    for (int i = 0; i < EJECTS; i++) {
        /* It sets COMMIT in every other loop */
        g_assert_true(hdm_commit(m, m->window, M256));
        vcpu_set_target(m->qts, 0, m->hdm + HDM_CTRL(0) - 8, HDM_COMMIT);
        qtest_qmp_assert_success(m->qts, "{ 'execute': 'cont' }");
        wait_loops(m);
        vcpu_set_target(m->qts, 1, control - 8, 1);
        wait_deleted(m);
        vcpu_set_target(m->qts, 1, 0, 1);
        wait_loops(m);
        qtest_qmp_assert_success(m->qts, "{ 'execute': 'stop' }");
        /* It has written all values to Slot Control, also the interlock's */
        if (slot_status(m) & SLOT_INTERLOCKED) {
            slot_power(m, SLOT_POWER_OFF | SLOT_INTERLOCK);
        }
        device_plug(m, data, VFIO_CXL_HOST, ", 'x-cxl-commit': 'guest'");
    }
    g_assert_cmpuint(vcpu_shared(m->qts, 1, VCPU_LOOPS), >, EJECTS);
    cxl_machine_stop(m);
}

static const char *const kernels[] = { "v6", "v5", "v4", "v3", "v2-reset",
                                      NULL };
/* With each way of releasing the device */
static const char *const releases[] = { "v6", "v5", "v2-reset", NULL };
static const char *const one_kernel[] = { "v6", NULL };

int main(int argc, char **argv)
{
    vfio_cxl_test_init(&argc, &argv);

    if (getenv("VFIO_CXL_TEST_ACCEL") || qtest_has_accel("tcg")) {
        vfio_cxl_add_once("gates", kernels, test_gates);
        vfio_cxl_add_once("resets", kernels, test_resets);
    }
    /* Only with TCG is the memory mapped again */
    if (g_str_has_prefix(vcpu_accel(), "tcg") && qtest_has_accel("tcg")) {
        vfio_cxl_add_once("map-fails", one_kernel, test_map_fails);
        if (!is_arm()) {
            vfio_cxl_add_once("eject", releases, test_eject);
        }
    }
    return g_test_run();
}
