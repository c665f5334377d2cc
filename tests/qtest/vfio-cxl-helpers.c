/*
 * A machine with a simulated CXL Type-2 device, for tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "qobject/qjson.h"
#include "qobject/qnum.h"
#include "vfio-cxl-maps.h"

#define BRIDGE_BUS 12
#define DEVICE_BUS 13

/* NULL if there is none */
static char *find_launcher(void)
{
    const char *given = getenv("VFIO_SIM");

    return given && *given ? g_strdup(given) :
                             g_find_program_in_path("vfio-sim");
}

void vfio_cxl_test_init(int *argc, char ***argv)
{
    g_autofree char *launcher = find_launcher();

    g_test_init(argc, argv, NULL);
    if (!launcher) {
        printf("1..0 # SKIP vfio-sim is not installed, and VFIO_SIM does not "
               "name it\n");
        exit(0);
    }
}

/* Returns what vfio-sim prints with these options */
static char *run_launcher(const char *options)
{
    g_autofree char *launcher = find_launcher();
    g_autofree char *command = g_strdup_printf("%s %s", launcher, options);
    GError *err = NULL;
    char *output;
    int status;

    g_spawn_command_line_sync(command, &output, NULL, &status, &err);
    g_assert_no_error(err);
    g_assert_cmpint(status, ==, 0);
    return output;
}

static const char *preloaded_library(void)
{
    static char *library;

    if (!library) {
        library = g_strchomp(run_launcher("--library"));
    }
    return library;
}

VFIOSim *vfio_sim_start(const char *options)
{
    g_autofree char *output = NULL;
    g_autofree char *all = NULL;
    VFIOSim *sim = g_new0(VFIOSim, 1);

    sim->library = preloaded_library();
    sim->dir = g_dir_make_tmp("vfio-cxl-test-XXXXXX", NULL);
    g_assert_nonnull(sim->dir);
    all = g_strdup_printf("%s --prepare %s", options, sim->dir);
    output = run_launcher(all);
    return sim;
}

void vfio_sim_stop(VFIOSim *sim)
{
    char *argv[] = { (char *)"rm", (char *)"-rf", sim->dir, NULL };

    g_assert_true(g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL,
                               NULL, NULL, NULL, NULL, NULL));
    g_free(sim->dir);
    g_free(sim);
}

void vfio_sim_enter(VFIOSim *sim)
{
    const char *first = getenv("VFIO_CXL_TEST_PRELOAD");
    g_autofree char *preload = first ? g_strdup_printf("%s:%s", first,
                                                       sim->library)
                                     : g_strdup(sim->library);

    g_setenv("VFIO_SIM_DIR", sim->dir, true);
    g_setenv("LD_PRELOAD", preload, true);
}

void vfio_sim_leave(void)
{
    g_unsetenv("LD_PRELOAD");
    g_unsetenv("VFIO_SIM_DIR");
}

QObject *vfio_sim_command(VFIOSim *sim, const char *command)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    g_autoptr(GString) reply = g_string_new(NULL);
    g_autofree char *line = g_strdup_printf("%s\n", command);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    QObject *object;
    QDict *dict;
    char part[4096];
    ssize_t len;

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/control",
             sim->dir);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address,
                            sizeof(address)), ==, 0);
    g_assert_cmpint(write(fd, line, strlen(line)), ==, strlen(line));
    do {
        len = read(fd, part, sizeof(part));
        g_string_append_len(reply, part, MAX(len, 0));
    } while (len > 0 && part[len - 1] != '\n');
    close(fd);
    object = qobject_from_json(reply->str, &error_abort);
    dict = qobject_to(QDict, object);
    if (!qdict_haskey(dict, "return")) {
        g_error("%s: %s", command, reply->str);
    }
    object = qobject_ref(qdict_get(dict, "return"));
    qobject_unref(dict);
    return object;
}

int64_t vfio_sim_stat(VFIOSim *sim, const char *name)
{
    QObject *stats = vfio_sim_command(sim, "stats " VFIO_CXL_HOST);
    int64_t value = qdict_get_int(qobject_to(QDict, stats), name);

    qobject_unref(stats);
    return value;
}

static int memory_file(VFIOSim *sim)
{
    g_autofree char *path = g_build_filename(sim->dir, VFIO_CXL_HOST,
                                             "memory", NULL);
    int fd = open(path, O_RDWR);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

uint64_t vfio_sim_peek(VFIOSim *sim, uint64_t dpa)
{
    int fd = memory_file(sim);
    uint64_t value;

    g_assert_cmpint(pread(fd, &value, 8, dpa), ==, 8);
    close(fd);
    return le64_to_cpu(value);
}

void vfio_sim_poke(VFIOSim *sim, uint64_t dpa, uint64_t value)
{
    int fd = memory_file(sim);

    value = cpu_to_le64(value);
    g_assert_cmpint(pwrite(fd, &value, 8, dpa), ==, 8);
    close(fd);
}

static bool is_q35(void)
{
    return strcmp(qtest_get_arch(), "aarch64");
}

const char *cxl_machine_options(void)
{
    return is_q35() ? "-M q35,cxl=on -m 512M"
                    : "-M virt,cxl=on -cpu max -m 512M";
}

static char *device_options(bool iommufd, const char *properties)
{
    return g_strdup_printf("%s -device vfio-pci,id=dev0,host=" VFIO_CXL_HOST
                           "%s%s",
                           iommufd ? " -object iommufd,id=iommufd0" : "",
                           iommufd ? ",iommufd=iommufd0" : "", properties);
}

static uint64_t cfg_address(CXLMachine *m, unsigned bus, unsigned offset)
{
    return m->ecam + ((uint64_t)bus << 20) + offset;
}

uint32_t *read_dwords(CXLMachine *m, uint64_t at, size_t size)
{
    uint32_t *data = g_malloc(size);

    qtest_memread(m->qts, at, data, size);
    for (size_t i = 0; i < size / 4; i++) {
        data[i] = le32_to_cpu(data[i]);
    }
    return data;
}

uint32_t cfg_read(CXLMachine *m, unsigned offset)
{
    return qtest_readl(m->qts, cfg_address(m, DEVICE_BUS, offset));
}

uint16_t cfg_readw(CXLMachine *m, unsigned offset)
{
    return qtest_readw(m->qts, cfg_address(m, DEVICE_BUS, offset));
}

void cfg_write(CXLMachine *m, unsigned offset, uint32_t value)
{
    qtest_writel(m->qts, cfg_address(m, DEVICE_BUS, offset), value);
}

void cfg_writew(CXLMachine *m, unsigned offset, uint16_t value)
{
    qtest_writew(m->qts, cfg_address(m, DEVICE_BUS, offset), value);
}

void cxl_machine_enumerate(CXLMachine *m)
{
    uint64_t mmio = is_q35() ? 0xe0000000 : 0x10000000;
    uint64_t port = cfg_address(m, BRIDGE_BUS, 0);

    if (is_q35()) {
        /* MMCONFIG at 0xb0000000, by the host bridge's PCIEXBAR */
        m->ecam = 0xb0000000;
        qtest_outl(m->qts, 0xcf8, 0x80000000 | 0x60);
        qtest_outl(m->qts, 0xcfc, m->ecam | 1);
    } else {
        m->ecam = 0x4010000000;
    }
    port = cfg_address(m, BRIDGE_BUS, 0);
    qtest_writel(m->qts, port + 0x18, BRIDGE_BUS | DEVICE_BUS << 8 |
                                      DEVICE_BUS << 16);
    /* 2 MiB of memory for the device, nothing prefetchable */
    qtest_writew(m->qts, port + 0x20, mmio >> 16);
    qtest_writew(m->qts, port + 0x22, (mmio + 0x100000) >> 16);
    qtest_writew(m->qts, port + 0x24, 0xfff0);
    qtest_writew(m->qts, port + 0x26, 0);
    qtest_writew(m->qts, port + 0x04, 0x6);

    m->bar0 = mmio;
    m->bar2 = mmio + 0x100000;
    cfg_write(m, 0x10, m->bar0);
    cfg_write(m, 0x14, 0);
    cfg_write(m, 0x18, m->bar2);
    cfg_write(m, 0x1c, 0);
    cfg_writew(m, 0x04, 0x6);
}

void cxl_machine_enable_second(CXLMachine *m, unsigned addr)
{
    unsigned bus = DEVICE_BUS + 1;

    qtest_writel(m->qts, cfg_address(m, BRIDGE_BUS, (addr << 15) + 0x18),
                 BRIDGE_BUS | bus << 8 | bus << 16);
    qtest_writew(m->qts, cfg_address(m, bus, 0x04), 0x2);
}

static uint16_t find_device_dvsec(CXLMachine *m)
{
    unsigned pos = 0x100;

    for (int i = 0; i < 64 && pos; i++) {
        uint32_t header = cfg_read(m, pos);

        if ((header & 0xffff) == 0x23 &&
            (cfg_read(m, pos + 4) & 0xffff) == 0x1e98 &&
            cfg_readw(m, pos + 8) == 0) {
            return pos;
        }
        pos = header >> 20;
    }
    return 0;
}

static uint64_t find_window(CXLMachine *m)
{
    g_autofree char *tree = qtest_hmp(m->qts, "info mtree");
    char *line = strstr(tree, "cxl-fixed-memory-region");

    if (!line) {
        return 0;
    }
    while (line > tree && line[-1] != '\n') {
        line--;
    }
    return g_ascii_strtoull(line, NULL, 16);
}

CXLMachine *cxl_machine_start(VFIOSim *sim, const char *topology,
                              bool iommufd, const char *properties)
{
    g_autofree char *device = device_options(iommufd, properties);
    g_autofree char *options = g_strdup_printf("%s%s%s", topology, device,
        strstr(properties, "bus=") ? "" : ",bus=rp0");
    CXLMachine *m = cxl_machine_start_empty(sim, options);

    cxl_machine_find(m);
    return m;
}

CXLMachine *cxl_machine_start_empty(VFIOSim *sim, const char *options)
{
    CXLMachine *m = g_new0(CXLMachine, 1);

    m->sim = sim;
    vfio_sim_enter(sim);
    m->qts = qtest_initf("%s%s", cxl_machine_options(), options);
    vfio_sim_leave();
    m->window = find_window(m);
    return m;
}

void cxl_machine_find(CXLMachine *m)
{
    QObject *devices;
    QDict *first;
    char letter;

    devices = vfio_sim_command(m->sim, "devices");
    first = qobject_to(QDict, qlist_peek(qobject_to(QList, devices)));
    letter = qdict_get_str(first, "topology")[0];
    qobject_unref(devices);

    cxl_machine_enumerate(m);
    m->block = m->bar0 + (letter == 'A' ? VFIO_SIM_BLOCK_A :
                          letter == 'B' ? VFIO_SIM_BLOCK_B : VFIO_SIM_BLOCK_C);
    m->hdm = m->block + 0x1000 + VFIO_SIM_CM_HDM;
    m->dvsec = find_device_dvsec(m);
}

void qemu_quit(QTestState *qts)
{
    pid_t pid = qtest_pid(qts);
    siginfo_t info = { };

    if (pid > 0) {
        kill(pid, SIGTERM);
        for (int i = 0; i < 500 && !info.si_pid; i++) {
            /* It stays for qtest_quit() to collect */
            if (waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT)) {
                break;
            }
            g_usleep(info.si_pid ? 0 : 1000);
        }
    }
    qtest_quit(qts);
}

void cxl_machine_stop(CXLMachine *m)
{
    qemu_quit(m->qts);
    vfio_sim_stop(m->sim);
    g_free(m);
}

char *cxl_machine_try(VFIOSim *sim, const char *options, bool iommufd,
                      const char *properties, int *status)
{
    g_autofree char *device = device_options(iommufd, properties);
    /* Should it start, it is told to quit, and ends with status 0 */
    g_autofree char *command = g_strdup_printf(
        "printf '{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}' | "
        "timeout 60 %s -display none -nodefaults -accel qtest -qmp stdio "
        "%s%s%s 2>&1", getenv("QTEST_QEMU_BINARY"), cxl_machine_options(),
        options, device);
    const char *argv[] = { "/bin/sh", "-c", command, NULL };
    char *output = NULL;

    vfio_sim_enter(sim);
    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT,
                               NULL, NULL, &output, NULL, status, NULL));
    vfio_sim_leave();
    g_assert_true(WIFEXITED(*status));
    *status = WEXITSTATUS(*status);
    return output;
}

char *cxl_machine_refused(VFIOSim *sim, const char *options, bool iommufd,
                          const char *properties)
{
    int status;
    char *output = cxl_machine_try(sim, options, iommufd, properties,
                                   &status);

    if (status != 1) {
        g_error("not refused (status %d) with %s: %s", status, properties,
                output);
    }
    return output;
}

char *vfio_sim_malformations(void)
{
    return run_launcher("--mangle=help");
}

uint32_t hdm_read(CXLMachine *m, unsigned offset)
{
    return qtest_readl(m->qts, m->hdm + offset);
}

void hdm_write(CXLMachine *m, unsigned offset, uint32_t value)
{
    qtest_writel(m->qts, m->hdm + offset, value);
}

uint64_t hdm_base(CXLMachine *m, unsigned n)
{
    return hdm_read(m, HDM_BASE_LO(n)) |
           (uint64_t)hdm_read(m, HDM_BASE_HI(n)) << 32;
}

uint64_t hdm_size(CXLMachine *m, unsigned n)
{
    return hdm_read(m, HDM_SIZE_LO(n)) |
           (uint64_t)hdm_read(m, HDM_SIZE_HI(n)) << 32;
}

bool hdm_commit(CXLMachine *m, uint64_t base, uint64_t size)
{
    hdm_write(m, HDM_CTRL(0), 0);
    hdm_write(m, HDM_BASE_LO(0), base);
    hdm_write(m, HDM_BASE_HI(0), base >> 32);
    hdm_write(m, HDM_SIZE_LO(0), size);
    hdm_write(m, HDM_SIZE_HI(0), size >> 32);
    hdm_write(m, HDM_CTRL(0), HDM_COMMIT);
    return hdm_read(m, HDM_CTRL(0)) & HDM_COMMITTED;
}

void hdm_enable(CXLMachine *m)
{
    hdm_write(m, HDM_GLOBAL_CONTROL, HDM_ENABLE);
    cfg_writew(m, m->dvsec + DVSEC_CONTROL,
               cfg_readw(m, m->dvsec + DVSEC_CONTROL) | DVSEC_MEM_ENABLE);
}

bool shows_memory(CXLMachine *m, uint64_t gpa, uint64_t dpa)
{
    uint64_t old = vfio_sim_peek(m->sim, dpa);
    uint64_t value = ((uint64_t)g_test_rand_int() << 32) | g_test_rand_int();
    bool reads, writes;

    vfio_sim_poke(m->sim, dpa, value);
    reads = qtest_readq(m->qts, gpa) == value;
    qtest_writeq(m->qts, gpa, ~value);
    writes = vfio_sim_peek(m->sim, dpa) == ~value;
    vfio_sim_poke(m->sim, dpa, old);
    g_assert_true(reads == writes);
    dma_maps_agree(m, gpa, dpa, reads);
    return reads;
}

bool mode_is_iommufd(gconstpointer data)
{
    return ((const VFIOCXLMode *)data)->iommufd;
}

bool mode_is_kernel(gconstpointer data, const char *name)
{
    return g_str_has_prefix(((const VFIOCXLMode *)data)->kernel, name);
}

bool mode_since_v5(gconstpointer data)
{
    return mode_is_kernel(data, "v5") || mode_is_kernel(data, "v6");
}

bool mode_has_space_gate(gconstpointer data)
{
    return mode_is_kernel(data, "v4") || mode_is_kernel(data, "v5");
}

VFIOSim *mode_sim(gconstpointer data, const char *options)
{
    g_autofree char *all = g_strdup_printf("--kernel=%s %s",
                                           ((const VFIOCXLMode *)data)->kernel,
                                           options);

    return vfio_sim_start(all);
}

CXLMachine *mode_start(gconstpointer data, const char *sim_options,
                       const char *properties)
{
    return cxl_machine_start(mode_sim(data, sim_options),
                             CXL_BRIDGE CXL_WINDOW, mode_is_iommufd(data),
                             properties);
}

uint64_t host_decoder(CXLMachine *m, const char *which,
                             const char *reg)
{
    QObject *devices = vfio_sim_command(m->sim, "devices");
    QDict *dict = qobject_to(QDict, qlist_peek(qobject_to(QList, devices)));
    uint64_t value;

    value = qnum_get_uint(qobject_to(QNum,
                qdict_get(qdict_get_qdict(dict, which), reg)));
    qobject_unref(devices);
    return value;
}

uint64_t host_hpa(CXLMachine *m)
{
    uint64_t hpa = host_decoder(m, "hardware", "base");

    g_assert_cmphex(hpa, !=, 0);
    return hpa;
}

unsigned host_writes(CXLMachine *m, const char *region)
{
    QList *log = qobject_to(QList,
                            vfio_sim_command(m->sim, "writes " VFIO_CXL_HOST));
    unsigned count = 0;
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(log, entry) {
        QDict *dict = qobject_to(QDict, qlist_entry_obj(entry));

        count += g_str_has_prefix(qdict_get_str(dict, "region"), region);
    }
    qobject_unref(log);
    qobject_unref(vfio_sim_command(m->sim, "writes " VFIO_CXL_HOST " clear"));
    return count;
}

unsigned cfg_find_cap(CXLMachine *m, uint8_t id)
{
    for (uint8_t pos = cfg_readw(m, 0x34) & 0xff; pos;
         pos = cfg_readw(m, pos) >> 8) {
        if ((cfg_readw(m, pos) & 0xff) == id) {
            return pos;
        }
    }
    g_assert_not_reached();
}

void assert_firmware_committed(CXLMachine *m, uint64_t size)
{
    uint64_t base = hdm_base(m, 0);

    g_assert_cmphex(hdm_read(m, HDM_CTRL(0)), ==,
                    HDM_LOCK | HDM_COMMIT | HDM_COMMITTED);
    g_assert_cmphex(hdm_read(m, HDM_GLOBAL_CONTROL), ==, HDM_ENABLE);
    g_assert_cmphex(hdm_size(m, 0), ==, size);
    g_assert_cmphex(base, >=, m->window);
    g_assert_cmphex(base + size, <=, m->window + 4ull * GiB);
    g_assert_cmphex(base % GiB, ==, 0);

    g_assert_cmphex(cfg_readw(m, m->dvsec + DVSEC_CONTROL) & DVSEC_MEM_ENABLE,
                    !=, 0);
    g_assert_cmphex(cfg_read(m, m->dvsec + DVSEC_RANGE1_BASE), ==,
                    base >> 32);
    g_assert_cmphex(cfg_read(m, m->dvsec + DVSEC_RANGE1_BASE + 4), ==,
                    (uint32_t)base);

    g_assert_true(shows_memory(m, base, 0));
    g_assert_true(shows_memory(m, base + 0x1000, 0x1000));
    g_assert_true(shows_memory(m, base + size - 8, size - 8));
    g_assert_false(shows_memory(m, base + size, 0));
    g_assert_false(shows_memory(m, base - 8, 0));
}

void mode_refused(gconstpointer data, const char *sim_options,
                  const char *options, const char *properties,
                  const char *message)
{
    VFIOSim *sim = mode_sim(data, sim_options);
    g_autofree char *output = cxl_machine_refused(sim, options,
                                                  mode_is_iommufd(data),
                                                  properties);

    if (!strstr(output, message)) {
        g_error("expected '%s' in: %s", message, output);
    }
    vfio_sim_stop(sim);
}

const char *const vfio_cxl_kernels[] = {
    "v6", "v5", "v4", "v3", "v2", "v2-reset", NULL
};
const char *const vfio_cxl_kernels_v2[] = { "v2-reset", "v2", NULL };
const char *const vfio_cxl_kernels_rereading[] = {
    "v6", "v5", "v4", "v2", "v2-reset", NULL
};

void cxl_machine_flr(CXLMachine *m)
{
    unsigned ctl = cfg_find_cap(m, 0x10) + 8;

    cfg_writew(m, ctl, cfg_readw(m, ctl) | 0x8000);
    g_assert_cmphex(cfg_readw(m, ctl) & 0x8000, ==, 0);
}

void assert_info(CXLMachine *m, const char *text)
{
    g_autofree char *info = qtest_hmp(m->qts, "info vfio-cxl");

    if (!strstr(info, text)) {
        g_error("expected '%s' in: %s", text, info);
    }
}

/* The names of QEMU's types for generations of the kernel's interface */
static char *kernel_types(void)
{
    QTestState *qts = qtest_init("-machine none");
    QDict *reply = qtest_qmp(qts, "{'execute': 'qom-list-types', 'arguments':"
                                  " {'implements': 'vfio-cxl-kernel',"
                                  " 'abstract': true}}");
    GString *types;

    g_assert_true(qdict_haskey(reply, "return"));
    types = qobject_to_json(qdict_get(reply, "return"));
    qobject_unref(reply);
    qtest_quit(qts);
    return g_string_free(types, FALSE);
}

bool vfio_cxl_reads(const char *kernel)
{
    static char *types, *usage;
    g_autofree char *type = g_strdup_printf("\"vfio-cxl-kernel-%.*s\"",
                                            (int)strcspn(kernel, "-"), kernel);

    if (!types) {
        types = kernel_types();
        usage = run_launcher("--help");
    }
    if (!strstr(usage, kernel)) {
        g_error("vfio-sim has no kernel %s", kernel);
    }
    return g_str_equal(kernel, "none") || strstr(types, type);
}

const char **vfio_cxl_tested(const char *const kernels[])
{
    GPtrArray *tested = g_ptr_array_new();

    for (int i = 0; kernels[i] && (!tested->len || g_test_slow()); i++) {
        if (vfio_cxl_reads(kernels[i])) {
            g_ptr_array_add(tested, (char *)kernels[i]);
        }
    }
    g_ptr_array_add(tested, NULL);
    return (const char **)g_ptr_array_free(tested, FALSE);
}

void vfio_cxl_add_mode(const char *name, const char *kernel, bool iommufd,
                       void (*test)(gconstpointer))
{
    g_autofree char *path = g_strdup_printf("vfio-cxl/%s/%s/%s", kernel,
                                            iommufd ? "iommufd" : "legacy",
                                            name);
    VFIOCXLMode *mode = g_new(VFIOCXLMode, 1);

    *mode = (VFIOCXLMode) { kernel, iommufd };
    qtest_add_data_func_full(path, mode, test, g_free);
}

static void add_pairs(const char *name, const char *const kernels[],
                      void (*test)(gconstpointer), bool share)
{
    g_autofree const char **tested = vfio_cxl_tested(kernels);

    share = share && tested[0] && tested[1];
    for (int i = 0; tested[i]; i++) {
        for (int iommufd = 0; iommufd < 2; iommufd++) {
            if (!share || (i + iommufd) % 2 == is_q35()) {
                vfio_cxl_add_mode(name, tested[i], iommufd, test);
            }
        }
    }
}

void vfio_cxl_add_once(const char *name, const char *const kernels[],
                       void (*test)(gconstpointer))
{
    g_autofree const char **tested = vfio_cxl_tested(kernels);

    for (int i = 0; tested[i]; i++) {
        int n = 0;

        while (!g_str_equal(vfio_cxl_kernels[n], tested[i])) {
            n++;
        }
        vfio_cxl_add_mode(name, tested[i], n % 2 == 0, test);
    }
}

void vfio_cxl_add(const char *name, const char *const kernels[],
                  void (*test)(gconstpointer))
{
    add_pairs(name, kernels, test, getenv("VFIO_CXL_TEST_SHARE"));
}

void vfio_cxl_add_here(const char *name, const char *const kernels[],
                       void (*test)(gconstpointer))
{
    add_pairs(name, kernels, test, false);
}
