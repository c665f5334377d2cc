/*
 * CXL Type-2 devices behind vfio-pci: plug, unplug, and plug that fails
 *
 * The test plays the guest: it drives the slot below the CXL root port as
 * the native PCIe hot-plug driver does.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/units.h"
#include "qobject/qjson.h"
#include "qobject/qstring.h"
#include "hw/pci/pci_regs.h"
#include "vfio-cxl-slot.h"

#define HOST2 "0000:c2:00.0"

/* One window that has room for one device of 256 MiB */
#define SMALL_WINDOW " -M cxl-fmw.0.targets.0=cxl.0,cxl-fmw.0.size=256M"

static CXLMachine *start(gconstpointer mode, const char *sim_options,
                         const char *options)
{
    g_autofree char *all = g_strdup_printf("%s%s", options,
        mode_is_iommufd(mode) ? " -object iommufd,id=iommufd0" : "");
    CXLMachine *m = cxl_machine_start_empty(mode_sim(mode, sim_options), all);

    cxl_machine_enumerate(m);
    return m;
}

/* Put all of its memory at the start of the window, if it is not yet there */
static uint64_t commit(CXLMachine *m)
{
    if (!(hdm_read(m, HDM_CTRL(0)) & HDM_COMMITTED)) {
        g_assert_true(hdm_commit(m, m->window, M256));
        hdm_enable(m);
    }
    return hdm_base(m, 0);
}

/* Nothing responds in the window */
static void assert_empty(CXLMachine *m, uint64_t gpa)
{
    qtest_writeq(m->qts, gpa, UINT64_MAX);
    g_assert_cmphex(qtest_readq(m->qts, gpa), ==, 0);
}

static const char *state(CXLMachine *m)
{
    static char text[40];
    QDict *reply = qtest_qmp(m->qts, "{'execute': 'query-vfio-cxl'}");
    const QListEntry *entry = qlist_first(qdict_get_qlist(reply, "return"));

    g_strlcpy(text, entry ? qdict_get_str(qobject_to(QDict, entry->value),
                                          "state") : "none", sizeof(text));
    qobject_unref(reply);
    return text;
}

/*
 * Resources of the process
 */
typedef struct Held {
    unsigned files;     /* open file descriptors */
    unsigned maps;      /* mappings of the memory of devices */
    unsigned all_maps;
    uint64_t resident;  /* bytes of memory that the kernel must keep */
} Held;

static Held held_now(CXLMachine *m)
{
    pid_t pid = qtest_pid(m->qts);
    g_autofree char *fds = g_strdup_printf("/proc/%d/fd", pid);
    g_autofree char *maps = g_strdup_printf("/proc/%d/maps", pid);
    g_autofree char *statm = g_strdup_printf("/proc/%d/statm", pid);
    g_autofree char *text = NULL, *numbers = NULL;
    g_auto(GStrv) lines = NULL, words = NULL;
    GDir *dir = g_dir_open(fds, 0, NULL);
    Held held = { };
    const char *name;

    while ((name = g_dir_read_name(dir))) {
        /* vfio-sim's own have higher numbers, and stay */
        held.files += atoi(name) < 512;
    }
    g_dir_close(dir);
    g_assert_true(g_file_get_contents(maps, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (int i = 0; lines[i]; i++) {
        held.all_maps++;
        held.maps += g_str_has_suffix(lines[i], "/memory") ||
                     g_str_has_suffix(lines[i], "/bar0");
    }
    g_assert_true(g_file_get_contents(statm, &numbers, NULL, NULL));
    words = g_strsplit(numbers, " ", -1);
    /* Pages of files and of shared memory do not count as growth of QEMU */
    held.resident = (g_ascii_strtoull(words[1], NULL, 10) -
                     g_ascii_strtoull(words[2], NULL, 10)) *
                    qemu_real_host_page_size();
    return held;
}

/* Flat views drop references after RCU: wait, but not forever */
static void assert_held(CXLMachine *m, const Held *before)
{
    Held now;

    for (int i = 0; i < 1000; i++) {
        now = held_now(m);
        if (now.files == before->files && now.maps == before->maps) {
            return;
        }
        g_usleep(10 * 1000);
    }
    g_assert_cmpuint(now.files, ==, before->files);
    g_assert_cmpuint(now.maps, ==, before->maps);
}

/*
 * Plug and unplug
 */
static void test_consent(gconstpointer data)
{
    CXLMachine *m = start(data, "--devices=2", CXL_BRIDGE SMALL_WINDOW);
    Held before = held_now(m);
    uint64_t base;

    g_assert_cmpstr(state(m), ==, "none");
    device_plug(m, data, VFIO_CXL_HOST, "");
    base = commit(m);
    g_assert_true(shows_memory(m, base, 0));
    g_assert_true(shows_memory(m, base + M256 - 8, M256 - 8));
    g_assert_cmpstr(state(m), ==, "mapped");

    /* Nothing happens until the guest agrees; asking twice is an error */
    device_del(m, NULL);
    device_del(m, "already in the process of unplug");
    g_assert_true(shows_memory(m, base, 0));
    g_assert_cmpstr(state(m), ==, "mapped");
    device_release(m);
    g_assert_cmpstr(state(m), ==, "none");
    assert_empty(m, base);
    assert_held(m, &before);

    /* The next device takes its place, and the first can come back */
    device_plug(m, data, HOST2, "");
    g_assert_cmphex(commit(m), ==, base);
    g_assert_cmpstr(state(m), ==, "mapped");
    device_unplug(m);
    assert_held(m, &before);
    device_plug(m, data, VFIO_CXL_HOST, "");
    g_assert_cmphex(commit(m), ==, base);
    g_assert_true(shows_memory(m, base, 0));

    /* A reboot commits it by firmware, and it can still be unplugged */
    qtest_system_reset(m->qts);
    cxl_machine_enumerate(m);
    g_assert_cmphex(hdm_base(m, 0), ==, base);
    g_assert_true(shows_memory(m, base, 0));
    device_unplug(m);
    assert_empty(m, base);
    assert_held(m, &before);
    cxl_machine_stop(m);
}

/* The guest removes the power without having been asked */
static void test_surprise(gconstpointer data)
{
    CXLMachine *m = start(data, "", CXL_BRIDGE SMALL_WINDOW);
    Held before = held_now(m);
    uint64_t base;

    for (int i = 0; i < 2; i++) {
        device_plug(m, data, VFIO_CXL_HOST, "");
        base = commit(m);
        g_assert_true(shows_memory(m, base, 0));
        slot_power(m, SLOT_POWER_OFF);
        wait_deleted(m);
        assert_empty(m, base);
        assert_held(m, &before);
    }

    /* A guest that has not powered the slot is not asked */
    qobject_unref(device_add(m, mode_is_iommufd(data), "dev0", VFIO_CXL_HOST,
                             ""));
    g_assert_true(qom_exists(m, "/machine/peripheral/dev0"));
    device_del(m, NULL);
    wait_deleted(m);
    assert_held(m, &before);
    cxl_machine_stop(m);
}

/* The kernel asks for the device: that is a device_del */
static void test_request(gconstpointer data)
{
    CXLMachine *m = start(data, "", CXL_BRIDGE SMALL_WINDOW);
    Held before = held_now(m);

    device_plug(m, data, VFIO_CXL_HOST, "");
    commit(m);
    qobject_unref(vfio_sim_command(m->sim, "req " VFIO_CXL_HOST));
    for (int i = 0; i < 1000 && !(slot_status(m) & SLOT_BUTTON); i++) {
        g_usleep(10 * 1000);
    }
    g_assert_cmphex(slot_status(m) & SLOT_BUTTON, ==, SLOT_BUTTON);
    device_del(m, "already in the process of unplug");
    device_release(m);
    assert_held(m, &before);
    cxl_machine_stop(m);
}

/* The device reports an error: the VM stops, and can do without it */
static void test_error(gconstpointer data)
{
    CXLMachine *m = start(data, "", CXL_BRIDGE SMALL_WINDOW);
    Held before = held_now(m);
    uint64_t base;
    QDict *reply;

    device_plug(m, data, VFIO_CXL_HOST, "");
    base = commit(m);
    qobject_unref(vfio_sim_command(m->sim, "err " VFIO_CXL_HOST));
    qtest_qmp_eventwait(m->qts, "STOP");
    reply = qtest_qmp(m->qts, "{'execute': 'query-status'}");
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(reply, "return"), "status"),
                    ==, "internal-error");
    qobject_unref(reply);
    g_assert_cmpstr(state(m), ==, "mapped");
    device_unplug(m);
    assert_empty(m, base);
    assert_held(m, &before);
    cxl_machine_stop(m);
}

/* VFIO_CXL_TEST_CYCLES=1000 for a long run */
static void test_cycles(gconstpointer data)
{
    const char *number = getenv("VFIO_CXL_TEST_CYCLES");
    unsigned cycles = number ? atoi(number) : 25;
    CXLMachine *m = start(data, "--devices=2", CXL_BRIDGE SMALL_WINDOW);
    Held before = { }, after;

    g_assert_cmpuint(cycles, >, 10);
    for (unsigned i = 0; i < cycles; i++) {
        /* Caches and arenas have reached their final size by now */
        if (i == 10) {
            before = held_now(m);
        }
        device_plug(m, data, i & 1 ? HOST2 : VFIO_CXL_HOST, "");
        commit(m);
        g_assert_cmpstr(state(m), ==, "mapped");
        qtest_writeq(m->qts, m->window + 8 * i, i);
        g_assert_cmphex(qtest_readq(m->qts, m->window + 8 * i), ==, i);
        device_unplug(m);
        if (i > 10) {
            assert_held(m, &before);
        }
    }
    after = held_now(m);
    g_test_message("%u cycles: %u and %u fds, %u and %u mappings, "
                   "%" PRIu64 " and %" PRIu64 " KiB", cycles, before.files,
                   after.files, before.all_maps, after.all_maps,
                   before.resident / KiB, after.resident / KiB);
    g_assert_cmpuint(after.all_maps, <=, before.all_maps + 8);
    /* AddressSanitizer keeps what was freed, and finds leaks by itself */
    if (!getenv("VFIO_CXL_TEST_PRELOAD")) {
        g_assert_cmpuint(after.resident, <=, before.resident + 4 * MiB);
    }
    cxl_machine_stop(m);
}

/*
 * Plug that fails
 */
static char *machine_now(CXLMachine *m)
{
    static const char *const commands[] = {
        "info mtree", "info pci", "info qom-tree", "info qtree",
        "info vfio-cxl", "info ramblock",
    };
    g_autofree uint32_t *port = read_dwords(m, root_port(m), 0x1000);
    GString *text = g_string_new(NULL);

    for (int i = 0; i < ARRAY_SIZE(commands); i++) {
        g_autofree char *output = qtest_hmp(m->qts, "%s", commands[i]);

        g_string_append(text, output);
    }
    for (unsigned off = 0; off < 0x1000; off += 4) {
        g_string_append_printf(text, "port %03x %08x\n", off, port[off / 4]);
    }
    return g_string_free(text, FALSE);
}

static void assert_machine(CXLMachine *m, const char *expected)
{
    g_autofree char *now = machine_now(m);
    g_auto(GStrv) want = g_strsplit(expected, "\n", -1);
    g_auto(GStrv) got = g_strsplit(now, "\n", -1);

    for (int i = 0; want[i] && got[i]; i++) {
        g_assert_cmpstr(got[i], ==, want[i]);
    }
    g_assert_cmpuint(g_strv_length(got), ==, g_strv_length(want));
}

static void assert_refused(QDict *reply, const char *message)
{
    const char *desc;

    g_assert_true(qdict_haskey(reply, "error"));
    desc = qdict_get_str(qdict_get_qdict(reply, "error"), "desc");
    if (!strstr(desc, message)) {
        g_error("expected '%s' in: %s", message, desc);
    }
    qobject_unref(reply);
}

static const struct {
    const char *id, *host, *more, *message, *fault;
} refused[] = {
    { "dev1", HOST2, ", 'bus': 'rp1'", "has room for" },
    { "dev1", HOST2, ", 'bus': 'rp1', 'x-cxl-commit': 'guest', 'x-cxl': 'on'"
      ", 'x-no-mmap': true", "no way to use device memory" },
    { "dev1", HOST2, ", 'bus': 'rp3'", "has room for" },
    { "dev1", HOST2, ", 'bus': 'rp3', 'x-cxl-commit': 'guest'",
      "has room for" },
    { "dev1", HOST2, ", 'bus': 'rp4', 'x-cxl': 'on'",
      "not below a CXL root port" },
    { "dev1", HOST2, ", 'bus': 'rp2'", "does not support hotplugging" },
    { "dev1", HOST2, ", 'bus': 'nowhere'", "not found" },
    { "dev1", HOST2, ", 'bus': 'pcie.0'", "does not support hotplugging" },
    { "dev1", HOST2, ", 'bus': 'rp0'", "occupied" },
    { "dev1", VFIO_CXL_HOST, ", 'bus': 'rp1'", "" },
    { "dev1", "0000:c9:00.0", ", 'bus': 'rp1'", "" },
    { "dev0", HOST2, ", 'bus': 'rp1'", "Duplicate" },
    { "dev1", HOST2, ", 'bus': 'rp1', 'x-cxl': 'bogus'", "x-cxl" },
    { "dev1", HOST2, ", 'bus': 'rp1', 'bogus': 1", "bogus" },
    { "dev1", HOST2, ", 'bus': 'rp1'", "/dev/vfio/",
      "fault " HOST2 " open errno=16 count=1" },
    { "dev1", HOST2, ", 'bus': 'rp1'", "cannot map device memory",
      "fault " HOST2 " mmap-memory errno=12 count=1" },
    { "dev1", HOST2, ", 'bus': 'rp1', 'x-cxl': 'on'", "not a multiple",
      "set " HOST2 " mangle=memory-size-0" },
};

#define MANY_PORTS \
    " -device cxl-rp,id=rp1,bus=cxl.0,chassis=0,slot=1,port=1" \
    " -device cxl-rp,id=rp2,bus=cxl.0,chassis=0,slot=2,port=2,hotplug=off" \
    " -device pxb-cxl,id=cxl.1,bus=pcie.0,bus_nr=24" \
    " -device cxl-rp,id=rp3,bus=cxl.1,chassis=1,slot=1" \
    " -device pcie-root-port,id=rp4,bus=pcie.0,chassis=2"

static void test_refused(gconstpointer data)
{
    CXLMachine *m = start(data, "--devices=2",
                          CXL_BRIDGE MANY_PORTS SMALL_WINDOW);
    g_autofree char *machine = NULL;
    Held before;

    device_plug(m, data, VFIO_CXL_HOST, "");
    commit(m);
    before = held_now(m);
    machine = machine_now(m);
    for (int i = 0; i < ARRAY_SIZE(refused); i++) {
        if (refused[i].fault) {
            qobject_unref(vfio_sim_command(m->sim, refused[i].fault));
        }
        assert_refused(device_add(m, mode_is_iommufd(data), refused[i].id,
                                  refused[i].host, refused[i].more),
                       refused[i].message);
        assert_machine(m, machine);
        assert_held(m, &before);
    }
    cxl_machine_stop(m);
}

/* However QEMU uses the device, the guest sees no address of the host */
static void assert_hidden(CXLMachine *m)
{
    uint32_t high = host_hpa(m) >> 32;
    g_autofree uint32_t *config = NULL;

    slot_power(m, SLOT_POWER_ON);
    cxl_machine_enumerate(m);
    cxl_machine_find(m);
    config = read_dwords(m, m->ecam + (13 << 20), 0x1000);
    for (unsigned off = 0; off < 0x1000; off += 4) {
        g_assert_cmphex(config[off / 4], !=, high);
    }
    for (unsigned off = 0; off < 0x40; off += 4) {
        g_assert_cmphex(hdm_read(m, off), !=, high);
    }
}

/*
 * An empty slot, and elsewhere another device on the other backend: it keeps
 * vfio-sim's control channel open
 */
static CXLMachine *start_with_keeper(gconstpointer mode)
{
    CXLMachine *m = cxl_machine_start_empty(mode_sim(mode, "--devices=2"),
        CXL_BRIDGE " -device pcie-root-port,id=rp4,bus=pcie.0,chassis=2"
        " -object iommufd,id=iommufd0 " CXL_WINDOW);

    cxl_machine_enumerate(m);
    qobject_unref(device_add(m, !mode_is_iommufd(mode), "keeper", HOST2,
                             ", 'bus': 'rp4', 'x-cxl': 'off'"));
    return m;
}

/* Let QEMU's Nth request to the kernel fail, for each N */
static void test_faults(gconstpointer data)
{
    bool iommufd = mode_is_iommufd(data);
    CXLMachine *m = start_with_keeper(data);
    g_autofree char *machine = NULL;
    unsigned refusals = 0, survived = 0;
    bool hit = true;
    Held before;

    machine = machine_now(m);
    before = held_now(m);
    for (unsigned n = 0; hit && n < 1000; n++) {
        g_autofree char *fault = g_strdup_printf("fault " VFIO_CXL_HOST
            " any errno=5 count=1 skip=%u", n);
        int64_t faults = vfio_sim_stat(m->sim, "faults");
        QDict *reply;

        qobject_unref(vfio_sim_command(m->sim, fault));
        reply = device_add(m, iommufd, "dev0", VFIO_CXL_HOST, "");
        hit = vfio_sim_stat(m->sim, "faults") > faults;
        qobject_unref(vfio_sim_command(m->sim,
                                       "fault " VFIO_CXL_HOST " clear"));
        if (qdict_haskey(reply, "error")) {
            g_assert_true(hit);
            assert_machine(m, machine);
            refusals++;
        } else {
            survived += hit;
            assert_hidden(m);
            device_unplug(m);
        }
        qobject_unref(reply);
        assert_held(m, &before);
    }
    g_assert_false(hit);
    g_test_message("%u calls: %u refusals, %u were not essential",
                   refusals + survived, refusals, survived);
    g_assert_cmpuint(refusals, >, 20);

    /* After all that the same id works */
    device_plug(m, data, VFIO_CXL_HOST, "");
    g_assert_true(shows_memory(m, commit(m), 0));
    device_unplug(m);
    cxl_machine_stop(m);
}

/*
 * Malformed replies
 */
typedef struct Outcomes {
    unsigned refused, plain, cxl;
} Outcomes;

static void try_malformation(CXLMachine *m, bool iommufd, const char *name,
                             bool harmless, Outcomes *outcomes)
{
    g_autofree char *set = g_strdup_printf("set " VFIO_CXL_HOST " mangle=%s",
                                           name);
    g_autofree char *output = NULL;
    bool used, plain;

    qobject_unref(vfio_sim_command(m->sim, set));
    /* Unlike QMP it returns the warnings as well */
    output = qtest_hmp(m->qts, "device_add vfio-pci,id=dev0,bus=rp0,host="
                       VFIO_CXL_HOST "%s",
                       iommufd ? ",iommufd=iommufd0" : "");
    used = qom_exists(m, "/machine/peripheral/dev0");
    plain = strstr(output, "used as plain PCI: ");
    if (!used && !strstr(output, "Error: ")) {
        g_error("%s: refused without a message: %s", name, output);
    }
    /* Reads that are cut short may only show at run time */
    if (!g_str_has_prefix(name, "short-") &&
        (harmless ? !used || plain
                  : used && !plain && strcmp(name, "device-no-flag"))) {
        g_error("%s: %s: %s", name, used ? "used" : "refused", output);
    }
    outcomes->refused += !used;
    outcomes->plain += plain;
    outcomes->cxl += used && !plain;
    if (used) {
        slot_power(m, SLOT_POWER_ON);
        device_unplug(m);
    }
}

static void test_malformed(gconstpointer data)
{
    g_autofree char *list = vfio_sim_malformations();
    g_auto(GStrv) lines = g_strsplit(list, "\n", -1);
    g_autofree char *generation =
        g_strndup(((const VFIOCXLMode *)data)->kernel, 2);
    CXLMachine *m = start_with_keeper(data);
    g_autofree char *machine = machine_now(m);
    Held before = held_now(m);
    Outcomes outcomes = { };

    for (int i = 0; lines[i]; i++) {
        g_auto(GStrv) words = g_strsplit_set(g_strchug(lines[i]), " ", -1);
        bool harmless = false, concerned = false;

        if (!words[0] || !strchr(words[0], '-')) {
            continue;
        }
        for (int w = 1; words[w] && (words[w][0] == '*' || !*words[w] ||
                                     (words[w][0] == 'v' &&
                                      strlen(words[w]) == 2)); w++) {
            harmless |= words[w][0] == '*';
            concerned |= !strcmp(words[w], generation);
        }
        if (concerned) {
            try_malformation(m, mode_is_iommufd(data), words[0], harmless,
                             &outcomes);
            assert_machine(m, machine);
            assert_held(m, &before);
        }
    }
    g_test_message("%u refused, %u used as plain PCI, %u as CXL",
                   outcomes.refused, outcomes.plain, outcomes.cxl);
    g_assert_cmpuint(outcomes.refused, >, 5);
    g_assert_cmpuint(outcomes.plain, >, 40);
    g_assert_cmpuint(outcomes.cxl, >, 5);

    qobject_unref(vfio_sim_command(m->sim, "set " VFIO_CXL_HOST
                                   " mangle=none"));
    device_plug(m, data, VFIO_CXL_HOST, "");
    g_assert_true(shows_memory(m, commit(m), 0));
    device_unplug(m);
    cxl_machine_stop(m);
}

/*
 * Migration
 */
#define UNSAVED VFIO_CXL_HOST ": the state of a passed-through CXL device " \
                "cannot be saved; unplug it first"

static bool is_blocked(CXLMachine *m)
{
    QDict *reply = qtest_qmp(m->qts, "{'execute': 'query-migrate'}");
    QDict *info = qdict_get_qdict(reply, "return");
    QListEntry *entry;
    bool found = false;

    if (qdict_haskey(info, "blocked-reasons")) {
        QLIST_FOREACH_ENTRY(qdict_get_qlist(info, "blocked-reasons"), entry) {
            found |= !strcmp(qstring_get_str(qobject_to(QString,
                                                        entry->value)),
                             UNSAVED);
        }
    }
    qobject_unref(reply);
    return found;
}

static QDict *migrate(CXLMachine *m, const char *mode)
{
    QDict *reply;

    if (!strcmp(mode, "cpr-exec")) {
        qobject_unref(qtest_qmp(m->qts, "{'execute': 'migrate-set-parameters',"
                                "'arguments': {'cpr-exec-command': "
                                "['/bin/false']}}"));
    }
    reply = qtest_qmp(m->qts, "{'execute': 'migrate-set-parameters', "
                      "'arguments': {'mode': %s}}", mode);
    g_assert_true(qdict_haskey(reply, "return"));
    qobject_unref(reply);
    return qtest_qmp(m->qts, "{'execute': 'migrate', 'arguments': "
                     "{'channels': [ { 'channel-type': 'main', 'addr': "
                     "{'transport': 'exec', 'args': "
                     "['/bin/sh', '-c', 'cat >/dev/null']}}]}}");
}

static void test_migration(gconstpointer data)
{
    static const char *const modes[] = { "normal", "cpr-reboot", "cpr-exec" };
    CXLMachine *m = start(data, "", CXL_BRIDGE SMALL_WINDOW);
    g_autofree char *save = NULL;
    bool done = false;
    QDict *reply;

    g_assert_false(is_blocked(m));
    device_plug(m, data, VFIO_CXL_HOST, "");
    commit(m);
    g_assert_true(is_blocked(m));
    for (int i = 0; i < ARRAY_SIZE(modes); i++) {
        if (!strcmp(modes[i], "cpr-exec") && getenv("VFIO_CXL_TEST_PRELOAD")) {
            continue; /* QEMU never frees cpr-exec-command */
        }
        assert_refused(migrate(m, modes[i]), UNSAVED);
    }
    save = qtest_hmp(m->qts, "savevm snapshot");
    g_assert_nonnull(strstr(save, UNSAVED));
    g_assert_true(shows_memory(m, commit(m), 0));
    device_unplug(m);

    g_assert_false(is_blocked(m));
    reply = migrate(m, "normal");
    g_assert_true(qdict_haskey(reply, "return"));
    qobject_unref(reply);
    for (int i = 0; i < 1000 && !done; i++) {
        g_usleep(10 * 1000);
        reply = qtest_qmp(m->qts, "{'execute': 'query-migrate'}");
        done = !strcmp(qdict_get_str(qdict_get_qdict(reply, "return"),
                                     "status"), "completed");
        qobject_unref(reply);
    }
    g_assert_true(done);
    cxl_machine_stop(m);
}

static void test_migration_options(gconstpointer data)
{
    const char *target = "cannot be present on the migration destination";
    CXLMachine *m;

    mode_refused(data, "", CXL_BRIDGE CXL_WINDOW " -only-migratable",
                 ",bus=rp0", "(--only-migratable) for: " UNSAVED);
    mode_refused(data, "", CXL_BRIDGE CXL_WINDOW " -incoming defer",
                 ",bus=rp0", target);
    mode_refused(data, "", CXL_BRIDGE CXL_WINDOW " -incoming defer",
                 ",bus=rp0,failover_pair_id=nobody,x-pci-class-code=131072",
                 target);
    mode_refused(data, "", CXL_BRIDGE CXL_WINDOW,
                 ",bus=rp0,enable-migration=on",
                 "enable-migration=on: device state cannot be saved");

    m = start(data, "", CXL_BRIDGE CXL_WINDOW " -incoming defer");
    assert_refused(device_add(m, mode_is_iommufd(data), "dev0", VFIO_CXL_HOST,
                              ""), target);
    cxl_machine_stop(m);
}

/* The slot loses power and gets it back: the device arrives again */
static void test_power(gconstpointer data)
{
    CXLMachine *m = mode_start(data, "--memory=256M", ",id=dev0");

    for (int i = 0; i < 2; i++) {
        /* Controller off, indicator on: nothing is to be unplugged */
        slot_power(m, SLOT_POWER_ON | PCI_EXP_SLTCTL_PCC);
        slot_power(m, SLOT_POWER_ON);
        cxl_machine_enumerate(m);
        assert_firmware_committed(m, M256);
    }
    cxl_machine_stop(m);
}

/*
 * Failover. The guest's driver of the standby device only has to accept the
 * feature.
 */
#define STANDBY_SLOT    5
#define STANDBY \
    CXL_BRIDGE CXL_WINDOW " -netdev hubport,id=net0,hubid=0" \
    " -device virtio-net-pci,id=standby,netdev=net0,failover=on,bus=pcie.0," \
    "addr=" stringify(STANDBY_SLOT)
#define STANDBY_BAR     0xd0000000
#define VIRTIO_FEATURE_SELECT   0x00
#define VIRTIO_FEATURE          0x04
#define VIRTIO_DRIVER_SELECT    0x08
#define VIRTIO_DRIVER_FEATURE   0x0c
#define VIRTIO_STATUS           0x14

static void accept_failover(CXLMachine *m)
{
    uint64_t config = m->ecam + (STANDBY_SLOT << 15);
    static const uint8_t steps[] = { 0x1, 0x3, 0xb, 0xf };

    qtest_writel(m->qts, config + PCI_BASE_ADDRESS_4, STANDBY_BAR);
    qtest_writel(m->qts, config + PCI_BASE_ADDRESS_5, 0);
    qtest_writew(m->qts, config + PCI_COMMAND,
                 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    for (int i = 0; i < ARRAY_SIZE(steps); i++) {
        for (int n = 0; i == 2 && n < 2; n++) {
            qtest_writel(m->qts, STANDBY_BAR + VIRTIO_FEATURE_SELECT, n);
            qtest_writel(m->qts, STANDBY_BAR + VIRTIO_DRIVER_SELECT, n);
            qtest_writel(m->qts, STANDBY_BAR + VIRTIO_DRIVER_FEATURE,
                         qtest_readl(m->qts, STANDBY_BAR + VIRTIO_FEATURE));
        }
        qtest_writeb(m->qts, STANDBY_BAR + VIRTIO_STATUS, steps[i]);
    }
    g_assert_cmphex(qtest_readb(m->qts, STANDBY_BAR + VIRTIO_STATUS), ==, 0xf);
}

static void wait_migration(CXLMachine *m, const char *status)
{
    bool done = false;

    for (int i = 0; i < 1000 && !done; i++) {
        QDict *reply = qtest_qmp(m->qts, "{'execute': 'query-migrate'}");

        done = !strcmp(qdict_get_str(qdict_get_qdict(reply, "return"),
                                     "status"), status);
        qobject_unref(reply);
        g_usleep(done ? 0 : 10 * 1000);
    }
    g_assert_true(done);
}

/* A machine whose guest uses the primary */
static CXLMachine *start_pair(gconstpointer data)
{
    CXLMachine *m = start(data, "--memory=256M", STANDBY);

    accept_failover(m);
    device_plug(m, data, VFIO_CXL_HOST, ", 'failover_pair_id': 'standby', "
                "'x-pci-class-code': 131072");
    assert_firmware_committed(m, M256);
    return m;
}

static void migrate_without_primary(CXLMachine *m, const char *uri)
{
    qtest_qmp_assert_success(m->qts, "{'execute': 'migrate', 'arguments': "
                             "{'uri': %s}}", uri);
    qtest_qmp_eventwait(m->qts, "UNPLUG_PRIMARY");
    slot_power(m, SLOT_POWER_BLINK);
    slot_power(m, SLOT_POWER_OFF);
}

static void primary_returns(CXLMachine *m)
{
    g_assert_cmphex(slot_status(m) & SLOT_PRESENT, ==, SLOT_PRESENT);
    slot_power(m, SLOT_POWER_ON);
    cxl_machine_enumerate(m);
    cxl_machine_find(m);
    assert_firmware_committed(m, M256);
}

/* The primary leaves for a migration, and the destination's arrives */
static void test_failover_completes(gconstpointer data)
{
    g_autofree char *dir = g_dir_make_tmp("vfio-cxl-XXXXXX", NULL);
    g_autofree char *path = g_strdup_printf("%s/migration", dir);
    g_autofree char *uri = g_strdup_printf("unix:%s", path);
    g_autofree char *options = g_strdup_printf(STANDBY " -device vfio-pci,"
        "id=dev0,host=" VFIO_CXL_HOST ",bus=rp0,failover_pair_id=standby,"
        "x-pci-class-code=131072%s -incoming %s",
        mode_is_iommufd(data) ? ",iommufd=iommufd0" : "", uri);
    CXLMachine *source = start_pair(data);
    CXLMachine *m = start(data, "--memory=256M", options);

    migrate_without_primary(source, uri);
    wait_migration(source, "completed");
    wait_migration(m, "completed");
    primary_returns(m);
    cxl_machine_stop(m);
    cxl_machine_stop(source);
    unlink(path);
    g_assert_cmpint(rmdir(dir), ==, 0);
}

/* The primary leaves for a migration, which fails, and comes back */
static void test_failover(gconstpointer data)
{
    CXLMachine *m = start_pair(data);

    qtest_qmp_assert_success(m->qts, "{'execute': 'migrate-set-parameters', "
                             "'arguments': {'max-bandwidth': 4096}}");
    migrate_without_primary(m, "exec:cat >/dev/null");
    wait_migration(m, "active");
    assert_empty(m, m->window);
    qtest_qmp_assert_success(m->qts, "{'execute': 'migrate_cancel'}");
    wait_migration(m, "cancelled");
    primary_returns(m);
    cxl_machine_stop(m);
}

/* QEMU exits before the device has released all that it used */
static void test_exit(gconstpointer data)
{
    for (int i = 0; i < 10; i++) {
        CXLMachine *m = start(data, "", CXL_BRIDGE SMALL_WINDOW);

        device_plug(m, data, VFIO_CXL_HOST, "");
        device_del(m, NULL);
        slot_power(m, SLOT_POWER_BLINK);
        slot_power(m, SLOT_POWER_OFF);
        if (i % 2) {
            /* In use until then, and refused; or gone, and taken */
            qobject_unref(qtest_qmp(m->qts, "{'execute': 'object-del', "
                                    "'arguments': {'id': 'iommufd0'}}"));
        }
        cxl_machine_stop(m);
    }
}

static const char *const two_kernels[] = { "v6", "v2-reset", NULL };
/* With and without a gate at Memory Space */
static const char *const gates[] = { "v6", "v5", "v2-reset", NULL };
static const char *const malformed[] = { "v6", "v4", "v3", "v2-reset", NULL };
/* The reader is the same code on both machines */
static const char *const malformed_virt[] = { "v5", NULL };

int main(int argc, char **argv)
{
    vfio_cxl_test_init(&argc, &argv);

    vfio_cxl_add("consent", vfio_cxl_kernels, test_consent);
    vfio_cxl_add("surprise", vfio_cxl_kernels, test_surprise);
    vfio_cxl_add("request", two_kernels, test_request);
    vfio_cxl_add("error", two_kernels, test_error);
    vfio_cxl_add("cycles", gates, test_cycles);
    vfio_cxl_add("refused", two_kernels, test_refused);
    vfio_cxl_add("faults", gates, test_faults);
    vfio_cxl_add_here("malformed", g_str_equal(qtest_get_arch(), "x86_64") ?
                      malformed : malformed_virt, test_malformed);
    vfio_cxl_add("migration", two_kernels, test_migration);
    vfio_cxl_add("migration-options", two_kernels, test_migration_options);
    vfio_cxl_add("exit", two_kernels, test_exit);
    if (g_str_equal(qtest_get_arch(), "x86_64")) {
        vfio_cxl_add_here("failover", two_kernels, test_failover);
        vfio_cxl_add_here("failover-completes", two_kernels,
                          test_failover_completes);
    }
    vfio_cxl_add("power", gates, test_power);
    return g_test_run();
}
