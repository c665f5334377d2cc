/*
 * CXL Type-2 devices behind vfio-pci: resets, power, gates
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "vfio-cxl-slot.h"

#define MARK 0x1122334455667788
#define MARK_AT 0x2000

/* Bits of the CXL Device DVSEC, CXL r3.1 Section 8.1.3 */
#define CAP_WBI             (1u << 6)
#define CAP_RST             (1u << 7)
#define CAP_MEM_CLR         (1u << 11)
#define CONTROL2_NO_CACHE   (1u << 0)
#define CONTROL2_WBI        (1u << 1)
#define CONTROL2_MEM_CLR    (1u << 3)
#define DVSEC_STATUS2       0x12
#define STATUS2_INVALID     (1u << 0)
#define STATUS2_DONE        (1u << 1)
#define STATUS2_ERROR       (1u << 2)
#define STATUS2_PM_INIT     (1u << 15)

static void sim(CXLMachine *m, const char *verb, const char *what)
{
    g_autofree char *command = g_strdup_printf("%s " VFIO_CXL_HOST " %s",
                                               verb, what);

    qobject_unref(vfio_sim_command(m->sim, command));
}

static uint16_t dvsec(CXLMachine *m, unsigned reg)
{
    return cfg_readw(m, m->dvsec + reg);
}

/* A link that was trained once stays so, whatever else is reset */
static uint16_t status2(CXLMachine *m)
{
    uint16_t value = dvsec(m, DVSEC_STATUS2);

    g_assert_cmphex(value & STATUS2_PM_INIT, !=, 0);
    return value & ~STATUS2_PM_INIT;
}

static void set_dvsec(CXLMachine *m, unsigned reg, uint16_t value)
{
    cfg_writew(m, m->dvsec + reg, value);
}

/*
 * Effect of a reset of the device on the contents of its memory: since v5,
 * resets are CXL resets that clear it. QEMU never changes it.
 */
static void mark(CXLMachine *m)
{
    vfio_sim_poke(m->sim, MARK_AT, MARK);
}

static void assert_contents(CXLMachine *m, gconstpointer data)
{
    g_assert_cmphex(vfio_sim_peek(m->sim, MARK_AT), ==,
                    mode_since_v5(data) ? 0 : MARK);
    g_assert_cmpint(vfio_sim_stat(m->sim, "memory-writes"), ==, 0);
    mark(m);
}

static void sbr_only(CXLMachine *m)
{
    uint64_t control = m->ecam + (12ull << 20) + 0x3e;

    qtest_writew(m->qts, control, 0x40);
    qtest_writew(m->qts, control, 0);
}

static void sbr(CXLMachine *m)
{
    sbr_only(m);
    cxl_machine_enumerate(m);
}

/* Decoder 0 maps nothing and refuses commits; everything else works */
static void assert_lost(CXLMachine *m, uint64_t base)
{
    g_assert_cmphex(hdm_read(m, HDM_CTRL(0)) & HDM_COMMITTED, ==, 0);
    g_assert_false(shows_memory(m, base, 0));
    g_assert_false(hdm_commit(m, base, M256));
    g_assert_false(shows_memory(m, base, 0));
    g_assert_cmphex(qtest_readl(m->qts, m->bar2 + VFIO_SIM_REG_ID), ==,
                    VFIO_SIM_ID);
}

static void test_reboot(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=512M", "");
    uint64_t base = hdm_base(m, 0);

    mark(m);
    for (int i = 0; i < 3; i++) {
        int64_t resets = vfio_sim_stat(m->sim, "resets");

        if (i == 1) {
            /* Whatever the guest has done to its registers */
            set_dvsec(m, DVSEC_CONTROL, 0);
            hdm_write(m, HDM_GLOBAL_CONTROL, 0);
            cfg_writew(m, 0x04, 0);
        } else if (i == 2) {
            cfg_writew(m, cfg_find_cap(m, 0x01) + 4, 3);
        }
        qtest_system_reset(m->qts);
        g_assert_cmpint(vfio_sim_stat(m->sim, "resets"), ==, resets + 1);
        cxl_machine_enumerate(m);
        assert_firmware_committed(m, 2 * M256);
        g_assert_cmphex(hdm_base(m, 0), ==, base);
        assert_contents(m, data);
        g_assert_cmphex(qtest_readq(m->qts, base + MARK_AT), ==, MARK);
    }
    cxl_machine_stop(m);
}

/* Operations that take the memory away */
static void test_gates(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=256M", "");
    uint64_t base = hdm_base(m, 0);
    unsigned pm = cfg_find_cap(m, 0x01) + 4;
    bool gate = mode_has_space_gate(data);

    g_assert_true(shows_memory(m, base, 0));
    /* CXL.mem */
    set_dvsec(m, DVSEC_CONTROL, dvsec(m, DVSEC_CONTROL) & ~DVSEC_MEM_ENABLE);
    g_assert_false(shows_memory(m, base, 0));
    set_dvsec(m, DVSEC_CONTROL, dvsec(m, DVSEC_CONTROL) | DVSEC_MEM_ENABLE);
    g_assert_true(shows_memory(m, base, 0));
    /* Memory Space Enable and D3hot, in accesses of each size */
    for (int size = 1; size <= 4; size *= 2) {
        const struct {
            unsigned reg;
            uint32_t off, on;
        } gates[] = { { 0x04, 0x4, 0x6 }, { pm, 3, 0 } };

        for (int i = 0; i < ARRAY_SIZE(gates); i++) {
            for (int on = 0; on < 2; on++) {
                uint64_t at = m->ecam + (13ull << 20) + gates[i].reg;
                uint32_t value = on ? gates[i].on : gates[i].off;
                /* v5 keeps the device in D0, and the guest can see that */
                bool shown = on || (i ? mode_is_kernel(data, "v5") : !gate);

                if (size == 1) {
                    qtest_writeb(m->qts, at, value);
                } else if (size == 2) {
                    qtest_writew(m->qts, at, value);
                } else {
                    qtest_writel(m->qts, at, value);
                }
                g_assert_cmpint(shows_memory(m, base, 0), ==, shown);
                g_assert_cmpint((cfg_readw(m, pm) & 3) == 0, ==, shown || !i);
            }
        }
    }
    /* Gates that overlap, and a machine that is stopped in between */
    cfg_writew(m, pm, 3);
    cfg_writew(m, 0x04, 0x4);
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'stop' }");
    cfg_writew(m, pm, 0);
    g_assert_cmpint(shows_memory(m, base, 0), ==, !gate);
    cfg_writew(m, 0x04, 0x6);
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'cont' }");
    g_assert_true(shows_memory(m, base, 0));
    /* An enable that the kernel rejects opens nothing */
    cfg_writew(m, 0x04, 0x4);
    sim(m, "fault", "pwrite-config errno=5 count=1");
    cfg_writew(m, 0x04, 0x6);
    g_assert_cmpint(shows_memory(m, base, 0), ==, !gate);
    assert_info(m, gate ? "host-closed" : "mapped");
    cfg_writew(m, 0x04, 0x4);
    cfg_writew(m, 0x04, 0x6);
    g_assert_true(shows_memory(m, base, 0));
    /* None of this is a reset */
    g_assert_cmphex(hdm_read(m, HDM_CTRL(0)), ==,
                    HDM_LOCK | HDM_COMMIT | HDM_COMMITTED);
    g_assert_cmphex(hdm_base(m, 0), ==, base);
    cxl_machine_stop(m);
}

/* CXL r3.1 Section 9.5: decoders, locks and DVSECs stay as they are */
static void test_flr(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=256M", "");
    uint64_t base = hdm_base(m, 0);
    int64_t resets = vfio_sim_stat(m->sim, "resets");
    unsigned pm = cfg_find_cap(m, 0x01) + 4;
    uint16_t control;

    mark(m);
    set_dvsec(m, DVSEC_LOCK, 1);
    set_dvsec(m, DVSEC_CONTROL2, CONTROL2_NO_CACHE);
    control = dvsec(m, DVSEC_CONTROL);
    cxl_machine_flr(m);
    assert_firmware_committed(m, M256);
    g_assert_cmphex(hdm_base(m, 0), ==, base);
    g_assert_cmphex(dvsec(m, DVSEC_LOCK), ==, 1);
    g_assert_cmphex(dvsec(m, DVSEC_CONTROL), ==, control);
    g_assert_cmphex(dvsec(m, DVSEC_CONTROL2), ==, CONTROL2_NO_CACHE);
    assert_contents(m, data);
    /* In a way that reports success or failure */
    g_assert_cmpint(vfio_sim_stat(m->sim, "flr"), ==, 0);
    g_assert_cmpint(vfio_sim_stat(m->sim, "resets"), ==, resets + 1);

    /* Closed before, closed after */
    cfg_writew(m, 0x04, 0x4);
    cxl_machine_flr(m);
    g_assert_cmpint(shows_memory(m, base, 0), ==, !mode_has_space_gate(data));
    cfg_writew(m, 0x04, 0x6);
    assert_firmware_committed(m, M256);
    assert_contents(m, data);

    /* The kernel brings it back from D3 for that */
    cfg_writew(m, pm, 3);
    cxl_machine_flr(m);
    g_assert_cmphex(cfg_readw(m, pm) & 3, ==, 0);
    assert_firmware_committed(m, M256);
    g_assert_cmphex(qtest_readl(m->qts, m->bar2 + VFIO_SIM_REG_ID), ==,
                    VFIO_SIM_ID);
    cxl_machine_stop(m);

    /* An FLR does not run firmware: an uncommitted decoder stays uncommitted */
    m = mode_start(data, "--memory=256M", ",x-cxl-commit=guest");
    cxl_machine_flr(m);
    g_assert_cmphex(hdm_read(m, HDM_CTRL(0)), ==, 0);
    g_assert_true(hdm_commit(m, m->window + GiB, M256));
    hdm_enable(m);
    cxl_machine_flr(m);
    g_assert_cmphex(hdm_base(m, 0), ==, m->window + GiB);
    g_assert_true(shows_memory(m, m->window + GiB, 0));
    cxl_machine_stop(m);
}

/*
 * A conventional reset clears decoders and locks. Firmware commits at system
 * reset only; after the reset of a bus the guest's software has to.
 */
static void test_sbr(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=256M", "");
    uint64_t base = hdm_base(m, 0);
    int64_t resets = vfio_sim_stat(m->sim, "resets");

    mark(m);
    set_dvsec(m, DVSEC_LOCK, 1);
    sbr(m);
    g_assert_cmpint(vfio_sim_stat(m->sim, "resets"), ==, resets + 1);
    g_assert_cmphex(hdm_read(m, HDM_CTRL(0)), ==, 0);
    g_assert_cmphex(hdm_read(m, HDM_GLOBAL_CONTROL), ==, 0);
    g_assert_cmphex(hdm_base(m, 0), ==, 0);
    g_assert_cmphex(dvsec(m, DVSEC_LOCK), ==, 0);
    g_assert_cmphex(dvsec(m, DVSEC_CONTROL), ==, 1 << 1);
    g_assert_cmphex(cfg_read(m, m->dvsec + DVSEC_RANGE1_BASE + 4), ==, 0);
    g_assert_false(shows_memory(m, base, 0));
    assert_contents(m, data);

    g_assert_true(hdm_commit(m, base + GiB, M256));
    hdm_enable(m);
    g_assert_true(shows_memory(m, base + GiB, 0));
    sbr(m);
    g_assert_false(shows_memory(m, base + GiB, 0));

    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    assert_firmware_committed(m, M256);
    g_assert_cmphex(hdm_base(m, 0), ==, base);
    cxl_machine_stop(m);
}

/* Writes that reached the kernel's CXL Device DVSEC, a digit for each */
static uint64_t kernel_dvsec_writes(CXLMachine *m)
{
    QList *log = qobject_to(QList, vfio_sim_command(m->sim, "writes "
                                                    VFIO_CXL_HOST));
    uint64_t values = 0;
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(log, entry) {
        QDict *dict = qobject_to(QDict, qlist_entry_obj(entry));
        unsigned offset = qdict_get_int(dict, "offset");

        if (g_str_equal(qdict_get_str(dict, "region"), "config") &&
            offset >= m->dvsec && offset < m->dvsec + 0x3c) {
            g_assert_cmphex(offset, ==, m->dvsec + DVSEC_CONTROL2);
            g_assert_cmphex(qdict_get_int(dict, "size"), ==, 2);
            values = values << 4 | qdict_get_int(dict, "value");
        }
    }
    qobject_unref(log);
    sim(m, "writes", "clear");
    return values;
}

/*
 * CXL reset: by the kernels that carry out the guest's write, and by QEMU if
 * VFIO_DEVICE_RESET is one. The others do not offer it.
 */
static bool resets_cxl(gconstpointer data)
{
    return mode_is_kernel(data, "v2-reset") || mode_is_kernel(data, "v4") ||
           mode_since_v5(data);
}

static void test_cxl_reset(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=256M", "");
    bool clears = mode_since_v5(data);
    uint64_t base = hdm_base(m, 0);
    int64_t done = vfio_sim_stat(m->sim, "cxl-resets");
    int64_t resets = vfio_sim_stat(m->sim, "resets");
    uint16_t control = dvsec(m, DVSEC_CONTROL);

    mark(m);
    g_assert_cmphex(dvsec(m, DVSEC_CAP) & (CAP_RST | CAP_MEM_CLR), ==,
                    (resets_cxl(data) ? CAP_RST : 0) |
                    (clears ? CAP_MEM_CLR : 0));
    if (!resets_cxl(data)) {
        set_dvsec(m, DVSEC_CONTROL2, CONTROL2_RST | CONTROL2_MEM_CLR);
        g_assert_cmphex(dvsec(m, DVSEC_CONTROL2), ==, 0);
        g_assert_cmphex(status2(m), ==, 0);
        g_assert_cmpint(vfio_sim_stat(m->sim, "cxl-resets"), ==, done);
        g_assert_cmpint(vfio_sim_stat(m->sim, "resets"), ==, resets);
        assert_firmware_committed(m, M256);
        cxl_machine_stop(m);
        return;
    }

    sim(m, "writes", "clear");
    for (int i = 1; i <= 3; i++) {
        uint16_t value = CONTROL2_RST | CONTROL2_NO_CACHE | CONTROL2_MEM_CLR;

        if (i == 2) {
            /* With both registers in one access */
            cfg_write(m, m->dvsec + DVSEC_CONTROL2, value);
        } else if (i == 3) {
            /* Nothing in CONTROL2 is locked */
            set_dvsec(m, DVSEC_LOCK, 1);
            qtest_writeb(m->qts, m->ecam + (13ull << 20) + m->dvsec +
                         DVSEC_CONTROL2, value);
        } else {
            set_dvsec(m, DVSEC_CONTROL2, value);
        }
        g_assert_cmpint(vfio_sim_stat(m->sim, "cxl-resets"), ==, done + i);
        /*
         * v2 forwards the guest's choice of caching, which is undone at its end
         */
        g_assert_cmphex(kernel_dvsec_writes(m), ==,
                        clears ? 0 : mode_is_kernel(data, "v4") ? 0x4 : 0x352);
        g_assert_cmphex(dvsec(m, DVSEC_CONTROL2), ==, 0);
        g_assert_cmphex(status2(m), ==, STATUS2_DONE);
        g_assert_cmphex(dvsec(m, DVSEC_CONTROL), ==, control);
        assert_firmware_committed(m, M256);
        g_assert_cmphex(hdm_base(m, 0), ==, base);
        assert_contents(m, data);
    }
    /* Its result is cleared eventually */
    sbr(m);
    g_assert_cmphex(status2(m), ==, 0);
    g_assert_cmphex(dvsec(m, DVSEC_CAP) & CAP_RST, ==, CAP_RST);
    cxl_machine_stop(m);
}

static void test_cxl_reset_fails(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=256M", "");
    uint64_t base = hdm_base(m, 0);

    sim(m, "fault", "cxl-reset errno=5 count=1");
    set_dvsec(m, DVSEC_CONTROL2, CONTROL2_RST);
    g_assert_cmphex(dvsec(m, DVSEC_CONTROL2), ==, 0);
    g_assert_cmphex(status2(m), ==, STATUS2_ERROR);
    assert_lost(m, base);
    /* The guest tries again, and brings back what it has lost */
    set_dvsec(m, DVSEC_CONTROL2, CONTROL2_RST);
    g_assert_cmphex(status2(m), ==, STATUS2_DONE);
    g_assert_true(hdm_commit(m, base, M256));
    g_assert_true(shows_memory(m, base, 0));
    cxl_machine_stop(m);
}

/* CONTROL2 of the hardware, which the kernel does not show */
static uint64_t hardware_control2(CXLMachine *m)
{
    QObject *reply = vfio_sim_command(m->sim, "devices");
    QDict *first = qobject_to(QDict, qlist_peek(qobject_to(QList, reply)));
    uint64_t value = qdict_get_int(first, "control2");

    qobject_unref(reply);
    return value;
}

/* The hardware caches exactly while the guest wants it to */
static void test_caching(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=256M", ",id=dev0");

    for (int i = 0; i < 2; i++) {
        uint16_t wbi = i ? CONTROL2_WBI : 0;

        g_assert_cmphex(hardware_control2(m), ==, 0);
        set_dvsec(m, DVSEC_CONTROL2, CONTROL2_NO_CACHE | wbi);
        g_assert_cmphex(hardware_control2(m), ==, CONTROL2_NO_CACHE);
        set_dvsec(m, DVSEC_CONTROL2, 0);
        g_assert_cmphex(hardware_control2(m), ==, 0);
        cxl_machine_flr(m);
        g_assert_cmphex(hardware_control2(m), ==, 0);

        set_dvsec(m, DVSEC_CONTROL2, CONTROL2_NO_CACHE | wbi);
        cxl_machine_flr(m);
        g_assert_cmphex(hardware_control2(m), ==, CONTROL2_NO_CACHE);
        sim(m, "fault", "device_reset errno=5 count=1");
        cxl_machine_flr(m);
        g_assert_cmphex(hardware_control2(m), ==, CONTROL2_NO_CACHE);
        cxl_machine_flr(m);
        sbr(m);
        g_assert_cmphex(hardware_control2(m), ==, 0);

        set_dvsec(m, DVSEC_CONTROL2, CONTROL2_NO_CACHE | wbi);
        g_assert_cmphex(hardware_control2(m), ==, CONTROL2_NO_CACHE);
        qtest_system_reset(m->qts);
        cxl_machine_enumerate(m);
    }
    set_dvsec(m, DVSEC_CONTROL2, CONTROL2_NO_CACHE);
    device_unplug(m);
    g_assert_cmphex(hardware_control2(m), ==, 0);
    cxl_machine_stop(m);
}

/* A decoder stays committed, locked or not; restoring it is allowed */
static void test_cxl_reset_unlocked(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=256M", ",x-cxl-commit=guest");
    uint64_t base = m->window;

    hdm_enable(m);
    g_assert_true(hdm_commit(m, base, M256));
    for (int i = 0; i < 2; i++) {
        set_dvsec(m, DVSEC_CONTROL2, CONTROL2_RST);
        g_assert_cmphex(status2(m), ==, STATUS2_DONE);
        g_assert_cmphex(hdm_read(m, HDM_CTRL(0)) & (HDM_COMMITTED | HDM_LOCK),
                        ==, HDM_COMMITTED);
        g_assert_true(shows_memory(m, base, 0));
        hdm_write(m, HDM_BASE_LO(0), base);
        hdm_write(m, HDM_BASE_HI(0), base >> 32);
        hdm_write(m, HDM_CTRL(0), HDM_COMMIT);
        hdm_enable(m);
        set_dvsec(m, DVSEC_CONTROL, dvsec(m, DVSEC_CONTROL) |
                                    DVSEC_MEM_ENABLE);
        g_assert_cmphex(hdm_read(m, HDM_CTRL(0)), ==,
                        HDM_COMMIT | HDM_COMMITTED);
        g_assert_true(shows_memory(m, base, 0));
    }
    cxl_machine_stop(m);
}

/* CXL r3.1 Section 9.6; only v2 kernels pass it on */
static void test_cache(gconstpointer data)
{
    bool passes = mode_is_kernel(data, "v2");
    CXLMachine *m = mode_start(data, "--memory=256M", "");

    g_assert_cmphex(dvsec(m, DVSEC_CAP) & CAP_WBI, ==, passes ? CAP_WBI : 0);
    sim(m, "writes", "clear");
    /* Undefined with caching enabled: nothing happens */
    set_dvsec(m, DVSEC_CONTROL2, CONTROL2_WBI);
    g_assert_cmphex(kernel_dvsec_writes(m), ==, 0);
    g_assert_cmphex(status2(m), ==, 0);

    set_dvsec(m, DVSEC_CONTROL2, CONTROL2_NO_CACHE | CONTROL2_WBI);
    g_assert_cmphex(kernel_dvsec_writes(m), ==, passes ? 0x3 : 0);
    g_assert_cmphex(dvsec(m, DVSEC_CONTROL2), ==, CONTROL2_NO_CACHE);
    g_assert_cmphex(status2(m), ==,
                    passes ? STATUS2_INVALID : 0);
    set_dvsec(m, DVSEC_CONTROL2, 0);
    g_assert_cmphex(status2(m), ==, 0);
    kernel_dvsec_writes(m);

    /* These kernels leave it to QEMU to write back before a reset */
    cxl_machine_flr(m);
    g_assert_cmphex(kernel_dvsec_writes(m), ==, passes ? 0x32 : 0);
    g_assert_cmphex(status2(m), ==, 0);
    g_assert_cmphex(dvsec(m, DVSEC_CONTROL2), ==, 0);
    /* And the guest's choice stays in force */
    set_dvsec(m, DVSEC_CONTROL2, CONTROL2_NO_CACHE);
    kernel_dvsec_writes(m);
    cxl_machine_flr(m);
    g_assert_cmphex(kernel_dvsec_writes(m), ==, passes ? 0x33 : 0);
    cxl_machine_stop(m);
}

/*
 * Resets that fail
 */
static CXLMachine *start_with_log(gconstpointer data, char **log)
{
    VFIOSim *s = mode_sim(data, "--memory=256M");
    g_autofree char *topology = NULL;

    *log = g_build_filename(s->dir, "qemu.log", NULL);
    topology = g_strdup_printf(CXL_BRIDGE CXL_WINDOW " 2>>%s", *log);
    return cxl_machine_start(s, topology, mode_is_iommufd(data), "");
}

/* Count @text since the last call; other messages of this kind fail */
static unsigned messages(const char *log, const char *text)
{
    g_autofree char *all = NULL;
    g_auto(GStrv) lines = NULL;
    unsigned count = 0;

    g_assert_true(g_file_get_contents(log, &all, NULL, NULL));
    lines = g_strsplit(all, "\n", -1);
    for (int i = 0; lines[i]; i++) {
        if (strstr(lines[i], text)) {
            count++;
        } else if (strstr(lines[i], "reset") || strstr(lines[i], "commit")) {
            g_error("expected '%s', found '%s'", text, lines[i]);
        }
    }
    g_assert_cmpint(truncate(log, 0), ==, 0);
    return count;
}

static void test_reset_fails(gconstpointer data)
{
    const char *text = "reset failed: Input/output error; device memory is "
                       "not available until a reset succeeds";
    g_autofree char *log = NULL;
    CXLMachine *m = start_with_log(data, &log);
    uint64_t base = hdm_base(m, 0);

    /* Several system resets, in which firmware cannot commit */
    sim(m, "fault", "device_reset errno=5");
    for (int i = 0; i < 2; i++) {
        qtest_system_reset(m->qts);
        cxl_machine_enumerate(m);
        assert_lost(m, base);
        assert_info(m, "reset-failed");
    }
    sbr(m);
    assert_lost(m, base);
    g_assert_cmpint(messages(log, text), ==, 1);
    sim(m, "fault", "clear");
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    assert_firmware_committed(m, M256);

    /* FLRs: a later one brings the memory back, the guest its decoder */
    sim(m, "fault", "device_reset errno=5");
    cxl_machine_flr(m);
    assert_lost(m, base);
    cxl_machine_flr(m);
    assert_lost(m, base);
    g_assert_cmpint(messages(log, text), ==, 1);
    sim(m, "fault", "clear");
    cxl_machine_flr(m);
    g_assert_cmphex(hdm_read(m, HDM_CTRL(0)) & HDM_COMMITTED, ==, 0);
    g_assert_false(shows_memory(m, base, 0));
    g_assert_true(hdm_commit(m, base, M256));
    g_assert_true(shows_memory(m, base, 0));

    /* A reset has not succeeded if the memory cannot be mapped again */
    set_dvsec(m, DVSEC_CONTROL, 0);
    sim(m, "fault", "device_reset errno=5");
    cxl_machine_flr(m);
    sim(m, "fault", "clear");
    set_dvsec(m, DVSEC_CONTROL, DVSEC_MEM_ENABLE);
    assert_lost(m, base);
    g_assert_cmpint(messages(log, text), ==, 1);
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    assert_firmware_committed(m, M256);
    cxl_machine_stop(m);
}

/* Where VFIO_DEVICE_RESET fails, a hot reset may make the next one work */
static void test_hot_reset(gconstpointer data)
{
    bool tries = !mode_is_kernel(data, "v3");
    CXLMachine *m = mode_start(data, "--memory=256M", "");
    uint64_t base = hdm_base(m, 0);
    int64_t hot = vfio_sim_stat(m->sim, "hot-resets");

    sim(m, "set", "sbr-unmasked=1");
    sim(m, "fault", "device_reset errno=5 count=1");
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    g_assert_cmpint(vfio_sim_stat(m->sim, "hot-resets"), ==, hot + tries);
    if (tries) {
        assert_firmware_committed(m, M256);
        /* It is not relied on alone */
        sim(m, "fault", "device_reset errno=5 count=2");
        qtest_system_reset(m->qts);
        cxl_machine_enumerate(m);
    }
    assert_lost(m, base);
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    assert_firmware_committed(m, M256);
    cxl_machine_stop(m);
}

/*
 * vfio-pci resets the bus of a device without FLR for all of its devices, and
 * does so from the device's own reset. The kernel is still asked.
 */
static void test_no_flr(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=256M --set='" VFIO_CXL_HOST
                               " no-flr=1'", "");
    unsigned ctl = cfg_find_cap(m, 0x10) + 8;
    int64_t resets = vfio_sim_stat(m->sim, "resets");

    g_assert_cmphex(cfg_read(m, ctl - 4) & 1u << 28, ==, 0);
    mark(m);
    sim(m, "set", "sbr-unmasked=1");
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    assert_firmware_committed(m, M256);
    assert_contents(m, data);
    g_assert_cmpint(vfio_sim_stat(m->sim, "resets"), ==, resets + 2);
    sbr(m);
    g_assert_cmpint(vfio_sim_stat(m->sim, "resets"), ==, resets + 3);
    g_assert_true(hdm_commit(m, m->window, M256));
    hdm_enable(m);
    g_assert_true(shows_memory(m, m->window, 0));
    cxl_machine_stop(m);
}

/* EAGAIN: how long it is tried again, and that this ends */
static void test_busy(gconstpointer data)
{
    const char *text = "reset failed: Resource temporarily unavailable";
    g_autofree char *log = NULL;
    CXLMachine *m = start_with_log(data, &log);
    uint64_t base = hdm_base(m, 0);

    sim(m, "set", "reset-busy=3");
    cxl_machine_flr(m);
    assert_firmware_committed(m, M256);
    sim(m, "set", "reset-busy=3");
    set_dvsec(m, DVSEC_CONTROL2, CONTROL2_RST);
    g_assert_cmphex(status2(m), ==, STATUS2_DONE);
    assert_firmware_committed(m, M256);
    g_assert_cmpint(messages(log, "nothing"), ==, 0);

    sim(m, "set", "reset-busy=20");
    set_dvsec(m, DVSEC_CONTROL2, CONTROL2_RST);
    g_assert_cmphex(status2(m), ==, STATUS2_ERROR);
    assert_lost(m, base);
    g_assert_cmpint(messages(log, text), ==, 1);
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    assert_firmware_committed(m, M256);
    cxl_machine_stop(m);
}

static void test_host_decoder_lost(gconstpointer data)
{
    const char *text = "the host's HDM decoder is not committed";
    g_autofree char *log = NULL;
    CXLMachine *m = start_with_log(data, &log);
    uint64_t base = hdm_base(m, 0);
    unsigned pm = cfg_find_cap(m, 0x01) + 4;

    g_assert_true(shows_memory(m, base, 0));
    sim(m, "set", "hardware-committed=0");
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    assert_lost(m, base);
    cxl_machine_flr(m);
    assert_lost(m, base);
    assert_info(m, "host-not-committed");
    g_assert_cmpint(messages(log, text), ==, 1);

    sim(m, "set", "hardware-committed=1");
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    assert_firmware_committed(m, M256);

    /* The same by the way back from D3; there is no other for v2 */
    if (mode_is_kernel(data, "v4") || mode_is_kernel(data, "v6")) {
        sim(m, "set", "hardware-committed=0");
        cfg_writew(m, pm, 3);
        cfg_writew(m, pm, 0);
        assert_lost(m, base);
        g_assert_cmpint(messages(log, text), ==, 1);
        sim(m, "set", "hardware-committed=1");
        cfg_writew(m, pm, 3);
        cfg_writew(m, pm, 0);
        g_assert_true(hdm_commit(m, base, M256));
        g_assert_true(shows_memory(m, base, 0));
    }
    cxl_machine_stop(m);
}

/* A kernel that leaves Memory Space enabled: the guest has not asked for it */
static void test_memory_space_left_on(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=256M", "");
    uint64_t base = hdm_base(m, 0);

    sim(m, "set", "reset-enables-memory=1");
    cfg_writew(m, 0x04, 0x4);
    cxl_machine_flr(m);
    g_assert_cmphex(cfg_readw(m, 0x04) & 0x2, ==, 0);
    set_dvsec(m, DVSEC_CONTROL2, CONTROL2_RST);
    g_assert_cmphex(status2(m), ==, STATUS2_DONE);
    g_assert_cmphex(cfg_readw(m, 0x04) & 0x2, ==, 0);
    g_assert_true(shows_memory(m, base, 0));
    cfg_writew(m, 0x04, 0x6);
    assert_firmware_committed(m, M256);
    sbr_only(m);
    g_assert_cmphex(cfg_readw(m, 0x04), ==, 0);
    cxl_machine_stop(m);
}

static const char *const resets[] = { "v6", "v5", "v4", "v2-reset", NULL };
static const char *const enables[] = { "v2-reset", NULL };
static const char *const busy[] = { "v5", NULL };

int main(int argc, char **argv)
{
    vfio_cxl_test_init(&argc, &argv);

    vfio_cxl_add("reboot", vfio_cxl_kernels, test_reboot);
    vfio_cxl_add_once("gates", vfio_cxl_kernels, test_gates);
    vfio_cxl_add_once("flr", vfio_cxl_kernels, test_flr);
    vfio_cxl_add("sbr", vfio_cxl_kernels, test_sbr);
    vfio_cxl_add_once("cxl-reset", vfio_cxl_kernels, test_cxl_reset);
    vfio_cxl_add_once("cxl-reset-unlocked", resets, test_cxl_reset_unlocked);
    vfio_cxl_add_once("cxl-reset-fails", resets, test_cxl_reset_fails);
    vfio_cxl_add_once("cache", vfio_cxl_kernels, test_cache);
    vfio_cxl_add_once("caching", vfio_cxl_kernels_v2, test_caching);
    vfio_cxl_add_once("reset-fails", vfio_cxl_kernels, test_reset_fails);
    vfio_cxl_add("hot-reset", vfio_cxl_kernels, test_hot_reset);
    vfio_cxl_add_once("no-flr", vfio_cxl_kernels, test_no_flr);
    vfio_cxl_add_once("busy", busy, test_busy);
    vfio_cxl_add_once("host-decoder-lost", vfio_cxl_kernels_rereading,
                      test_host_decoder_lost);
    vfio_cxl_add_once("memory-space-left-on", enables,
                      test_memory_space_left_on);
    return g_test_run();
}
