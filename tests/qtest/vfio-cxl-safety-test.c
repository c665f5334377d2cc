/*
 * CXL Type-2 devices behind vfio-pci: only the guest's CPUs and the device
 * access the memory
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "qemu/units.h"
#include <sys/socket.h>
#include <sys/un.h>
#include "vfio-cxl-helpers.h"
#include "vfio-cxl-vhost-user.h"

#define SLOT 0x10               /* of an emulated device on pcie.0 */
#define MARK 0x1020304050607080ull
#define NVME \
    " -drive if=none,id=drive0,driver=null-co,size=1M" \
    " -device nvme,serial=1,drive=drive0,bus=pcie.0,addr=0x10"
#define RNG \
    " -device virtio-rng-pci,disable-legacy=on,bus=pcie.0,addr=0x10"
#define REFUSED "access by QEMU itself"

/* The file in @sim to which QEMU's output goes */
static char *log_path(VFIOSim *sim)
{
    return g_build_filename(sim->dir, "log", NULL);
}

static CXLMachine *start(gconstpointer mode, const char *options,
                         const char *properties)
{
    VFIOSim *sim = mode_sim(mode, "");
    g_autofree char *log = log_path(sim);
    g_autofree char *all = g_strdup_printf(CXL_BRIDGE CXL_WINDOW "%s 2>%s",
                                           options, log);

    return cxl_machine_start(sim, all, mode_is_iommufd(mode), properties);
}

/* Count how often QEMU has printed @text */
static unsigned said(CXLMachine *m, const char *text)
{
    g_autofree char *path = log_path(m->sim);
    g_autofree char *log = NULL;
    unsigned count = 0;

    g_assert_true(g_file_get_contents(path, &log, NULL, NULL));
    for (char *at = log; (at = strstr(at, text)); at++) {
        count++;
    }
    return count;
}

static uint64_t ram_base(void)
{
    return strcmp(qtest_get_arch(), "aarch64") ? 0x100000 : 0x40100000;
}

/* Give a 64-bit BAR of the device in SLOT an address, enable the device */
static uint64_t map_bar(CXLMachine *m, unsigned bar)
{
    uint64_t config = m->ecam + (SLOT << 15);
    uint64_t address = m->bar0 + 4 * MiB;

    qtest_writel(m->qts, config + 0x10 + 4 * bar, address);
    qtest_writel(m->qts, config + 0x14 + 4 * bar, 0);
    qtest_writew(m->qts, config + 0x04, 0x6);
    return address;
}

/*
 * An emulated device that does DMA for the guest: NVMe
 */
typedef struct NVMe {
    CXLMachine *m;
    uint64_t regs;
    uint64_t queues;            /* submission, completion */
    unsigned commands;
} NVMe;

/* Enable it with its queues, two pages, at @queues */
static NVMe nvme_start(CXLMachine *m, uint64_t queues)
{
    NVMe nvme = { m, map_bar(m, 0), queues };

    qtest_memset(m->qts, queues, 0, 0x2000);
    qtest_writel(m->qts, nvme.regs + 0x14, 0);          /* CC: reset */
    qtest_writel(m->qts, nvme.regs + 0x24, 0x003f003f); /* AQA: 64 entries */
    qtest_writeq(m->qts, nvme.regs + 0x28, nvme.queues);
    qtest_writeq(m->qts, nvme.regs + 0x30, nvme.queues + 0x1000);
    qtest_writel(m->qts, nvme.regs + 0x14, 0x00460001); /* CC: enable */
    g_assert_cmphex(qtest_readl(m->qts, nvme.regs + 0x1c), ==, 1);
    return nvme;
}

/* Run an admin command with its data at @data; returns its status */
static uint16_t nvme_admin(NVMe *nvme, uint8_t opcode, uint32_t cdw10,
                           uint64_t data)
{
    QTestState *qts = nvme->m->qts;
    uint64_t command = nvme->queues + 64 * nvme->commands;
    uint64_t result = nvme->queues + 0x1000 + 16 * nvme->commands + 14;
    uint16_t status = 0;

    g_assert_cmpint(++nvme->commands, <, 64);
    qtest_writel(qts, command, opcode | nvme->commands << 16);
    qtest_writeq(qts, command + 24, data);
    qtest_writel(qts, command + 40, cdw10);
    qtest_writel(qts, nvme->regs + 0x1000, nvme->commands);
    for (int i = 0; i < 10000 && !(status & 1); i++) {
        g_usleep(i ? 1000 : 0);
        status = qtest_readw(qts, result);
    }
    g_assert_cmphex(status & 1, ==, 1);
    return status >> 1;
}

/* Have it fetch a command; returns whether that fails */
static bool nvme_fetch_fails(NVMe *nvme)
{
    uint32_t status = 1;

    qtest_writel(nvme->m->qts, nvme->regs + 0x1000, 1);
    for (int i = 0; i < 10000 && status == 1; i++) {
        g_usleep(i ? 1000 : 0);
        status = qtest_readl(nvme->m->qts, nvme->regs + 0x1c);
    }
    return status == 2; /* CSTS: Controller Fatal Status */
}

#define nvme_identify(nvme, data) nvme_admin(nvme, 0x06, 1, data)
#define nvme_set_timestamp(nvme, data) nvme_admin(nvme, 0x09, 0x0e, data)
#define nvme_get_timestamp(nvme, data) nvme_admin(nvme, 0x0a, 0x0e, data)

/* Without KVM, emulated devices can access the memory, like CPUs */
static void test_dma_allowed(gconstpointer data)
{
    CXLMachine *m = start(data, NVME, "");
    unsigned control = m->dvsec + DVSEC_CONTROL;
    uint64_t base = hdm_base(m, 0), ram = ram_base() + 0x4000;
    NVMe nvme = nvme_start(m, base + 0x8000);

    g_assert_cmphex(nvme_identify(&nvme, base + 0x1000), ==, 0);
    g_assert_cmphex(nvme_identify(&nvme, ram), ==, 0);
    g_assert_cmphex(vfio_sim_peek(m->sim, 0x1000), !=, 0);
    g_assert_cmphex(vfio_sim_peek(m->sim, 0x1000), ==,
                    qtest_readq(m->qts, ram));
    vfio_sim_poke(m->sim, 0x3000, 0x112233445566);
    g_assert_cmphex(nvme_set_timestamp(&nvme, base + 0x3000), ==, 0);
    g_assert_cmphex(nvme_get_timestamp(&nvme, ram), ==, 0);
    g_assert_cmphex(qtest_readq(m->qts, ram) >> 16 & 0xffffffff, ==,
                    0x11223344);
    nvme = nvme_start(m, ram_base());
    g_assert_cmphex(nvme_identify(&nvme, base + 0x1000), ==, 0);

    /* But not while it is inaccessible */
    cfg_writew(m, control, cfg_readw(m, control) & ~DVSEC_MEM_ENABLE);
    vfio_sim_poke(m->sim, 0x1000, MARK);
    /* NVMe reports no error here, but nothing gets in or out */
    nvme_identify(&nvme, base + 0x1000);
    g_assert_cmphex(vfio_sim_peek(m->sim, 0x1000), ==, MARK);
    nvme_set_timestamp(&nvme, base + 0x1000);
    g_assert_cmphex(nvme_get_timestamp(&nvme, ram), ==, 0);
    g_assert_cmphex(qtest_readq(m->qts, ram) >> 16 & 0xffffffff, !=,
                    MARK >> 16 & 0xffffffff);
    nvme = nvme_start(m, base + 0x8000);
    g_assert_true(nvme_fetch_fails(&nvme));
    nvme = nvme_start(m, ram_base());
    cfg_writew(m, control, cfg_readw(m, control) | DVSEC_MEM_ENABLE);
    g_assert_cmphex(nvme_identify(&nvme, base + 0x1000), ==, 0);
    g_assert_cmphex(vfio_sim_peek(m->sim, 0x1000), !=, MARK);
    g_assert_cmpint(said(m, REFUSED), ==, 0);
    cxl_machine_stop(m);
}

/* From here on, any access to device memory raises SIGBUS */
static void forbid(CXLMachine *m)
{
    g_autofree char *path = g_build_filename(m->sim->dir, VFIO_CXL_HOST,
                                             "memory", NULL);

    g_assert_cmpint(truncate(path, 0), ==, 0);
}

/*
 * A device that maps memory for DMA: virtio. Its queue at @queue has one
 * buffer, at @buffer; returns whether it reports within @tries ms to have
 * filled that.
 */
static bool virtio_fills(CXLMachine *m, uint64_t queue, uint64_t buffer,
                         unsigned tries)
{
    uint64_t regs = map_bar(m, 4);
    QTestState *qts = m->qts;
    bool used = false;

    qtest_writeb(qts, regs + 0x14, 0);                  /* reset */
    qtest_writeb(qts, regs + 0x14, 0x3);                /* DRIVER */
    qtest_writel(qts, regs + 0x08, 1);
    qtest_writel(qts, regs + 0x0c, 1);                  /* VERSION_1 */
    qtest_writeb(qts, regs + 0x14, 0xb);                /* FEATURES_OK */
    qtest_writew(qts, regs + 0x16, 0);                  /* queue 0 */
    qtest_writew(qts, regs + 0x18, 8);                  /* 8 entries */
    for (int i = 0; i < 3; i++) {
        qtest_writel(qts, regs + 0x20 + 8 * i, queue + 0x1000 * i);
        qtest_writel(qts, regs + 0x24 + 8 * i, (queue + 0x1000 * i) >> 32);
    }
    qtest_memset(qts, queue, 0, 0x3000);
    qtest_writeq(qts, queue, buffer);
    qtest_writel(qts, queue + 8, 64);
    qtest_writew(qts, queue + 12, 2);                   /* to be written */
    qtest_writew(qts, queue + 0x1002, 1);               /* one is there */
    qtest_writew(qts, regs + 0x1c, 1);
    qtest_writeb(qts, regs + 0x14, 0xf);                /* DRIVER_OK */
    qtest_writew(qts, regs + 0x3000, 0);                /* notify */
    for (int i = 0; i < tries && !used; i++) {
        g_usleep(i ? 1000 : 0);
        used = qtest_readw(qts, queue + 0x2002) == 1;
    }
    return used;
}

static void test_virtio(gconstpointer data)
{
    uint64_t base, ram = ram_base();
    CXLMachine *m = start(data, RNG, "");

    base = hdm_base(m, 0);
    vfio_sim_poke(m->sim, 0x8000, 0);
    g_assert_true(virtio_fills(m, base, base + 0x8000, 10000));
    g_assert_cmphex(vfio_sim_peek(m->sim, 0x8000), !=, 0);
    cxl_machine_stop(m);

    m = start(data, RNG, ",x-cxl-host-access=off");
    base = hdm_base(m, 0);
    forbid(m);
    g_assert_true(virtio_fills(m, ram, ram + 0x8000, 10000));
    g_assert_cmphex(qtest_readq(m->qts, ram + 0x8000), !=, 0);
    /* It reports success, as with DMA to an unassigned address */
    g_assert_true(virtio_fills(m, ram, base, 10000));
    g_assert_false(virtio_fills(m, base, ram, 1));
    g_assert_cmpint(said(m, REFUSED), ==, 1);
    cxl_machine_stop(m);
}

static void assert_dma_refused(CXLMachine *m)
{
    uint64_t base = hdm_base(m, 0), ram = ram_base() + 0x4000;
    NVMe nvme = nvme_start(m, ram_base());

    for (int i = 0; i < 3; i++) {
        nvme_identify(&nvme, base);
        nvme_set_timestamp(&nvme, base);
    }
    g_assert_cmphex(nvme_identify(&nvme, ram), ==, 0);
    nvme = nvme_start(m, base);
    g_assert_true(nvme_fetch_fails(&nvme));
    g_assert_cmpint(said(m, REFUSED), ==, 1);
}

static void assert_monitor_refused(CXLMachine *m)
{
    g_autofree char *saved = g_build_filename(m->sim->dir, "saved", NULL);
    g_autofree char *dump = g_strdup_printf("file:%s/dump", m->sim->dir);
    g_autofree char *text = NULL;
    g_autofree char *bytes = NULL;
    uint64_t base = hdm_base(m, 0);
    QDict *reply;
    size_t length;

    text = qtest_hmp(m->qts, "xp /4gx 0x%" PRIx64, base);
    g_assert_nonnull(strstr(text, "Cannot access memory"));
    qtest_qmp_assert_success(m->qts, "{'execute': 'pmemsave', 'arguments': "
                             "{'val': %" PRIu64 ", 'size': 64, "
                             "'filename': %s}}", base, saved);
    g_assert_true(g_file_get_contents(saved, &bytes, &length, NULL));
    g_assert_cmpint(length, ==, 64);
    g_assert_true(buffer_is_zero(bytes, length));
    /* A dump has no such memory */
    reply = qtest_qmp(m->qts, "{'execute': 'dump-guest-memory', 'arguments': "
                      "{'paging': false, 'protocol': %s, "
                      "'begin': %" PRIu64 ", 'length': 4096}}",
                      dump, base);
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(reply, "error"), "desc"),
                    ==, "dump: no guest memory to dump");
    qobject_unref(reply);
    g_assert_cmpint(said(m, REFUSED), ==, 1);
}

static void test_off(gconstpointer data)
{
    CXLMachine *m = start(data, NVME, ",x-cxl-host-access=off");

    forbid(m);
    assert_dma_refused(m);
    assert_monitor_refused(m);
    cxl_machine_stop(m);
}

/* Check whether KVM could run this machine, if the host has it */
static bool is_kvm_target(void)
{
    static const char *const targets[] = { CONFIG_KVM_TARGETS };
    g_autofree char *target = g_strconcat(qtest_get_arch(), "-softmmu", NULL);

    for (int i = 0; i < ARRAY_SIZE(targets); i++) {
        if (!strcmp(targets[i], target)) {
            return true;
        }
    }
    return false;
}

static bool need_kvm(void)
{
    if (!qtest_has_accel("kvm")) {
        g_test_skip("no access to /dev/kvm");
        return false;
    }
    return true;
}

static void test_kvm(gconstpointer data)
{
    CXLMachine *m;

    if (need_kvm()) {
        m = start(data, NVME " -S -accel kvm", "");
        forbid(m);
        assert_dma_refused(m);
        assert_monitor_refused(m);
        cxl_machine_stop(m);
    }
}

static void test_kvm_on(gconstpointer data)
{
    CXLMachine *m;

    if (need_kvm()) {
        m = start(data, " -S -accel kvm", ",x-cxl-host-access=on");
        assert_firmware_committed(m, M256);
        g_assert_cmpint(said(m, REFUSED), ==, 0);
        cxl_machine_stop(m);
    }
}

/*
 * The debugger
 */
static char *gdb_ask(int fd, const char *packet)
{
    g_autoptr(GString) reply = g_string_new(NULL);
    g_autofree char *frame = NULL;
    uint8_t sum = 0;
    char c = 0;

    for (const char *p = packet; *p; p++) {
        sum += *p;
    }
    frame = g_strdup_printf("+$%s#%02x", packet, sum);
    g_assert_cmpint(write(fd, frame, strlen(frame)), ==, strlen(frame));
    while (c != '$') {
        g_assert_cmpint(read(fd, &c, 1), ==, 1);
    }
    while (read(fd, &c, 1) == 1 && c != '#') {
        g_string_append_c(reply, c);
    }
    return g_strdup(reply->str);
}

static void test_debugger(gconstpointer data)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct timeval limit = { .tv_sec = 60 };
    VFIOSim *sim = mode_sim(data, "");
    g_autofree char *log = log_path(sim);
    g_autofree char *options = g_strdup_printf(CXL_BRIDGE CXL_WINDOW
        " -S -accel tcg -gdb unix:%s/gdb,server=on,wait=off 2>%s",
        sim->dir, log);
    g_autofree char *good = NULL, *bad = NULL, *mode = NULL, *read = NULL;
    CXLMachine *m = cxl_machine_start(sim, options, mode_is_iommufd(data),
                                      ",x-cxl-host-access=off");
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    forbid(m);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/gdb", sim->dir);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address,
                            sizeof(address)), ==, 0);
    mode = gdb_ask(fd, "Qqemu.PhyMemMode:1");
    g_assert_cmpstr(mode, ==, "OK");
    read = g_strdup_printf("m%" PRIx64 ",8", ram_base());
    good = gdb_ask(fd, read);
    g_assert_cmpint(strlen(good), ==, 16);
    g_free(read);
    read = g_strdup_printf("m%" PRIx64 ",8", hdm_base(m, 0));
    bad = gdb_ask(fd, read);
    g_assert_cmpstr(bad, ==, "E14");
    g_assert_cmpint(said(m, REFUSED), ==, 1);
    close(fd);
    cxl_machine_stop(m);
}

/*
 * Other processes, and the kernel: vhost
 */

/* The latest memory table of vhost */
static char *vhost_table(VFIOSim *sim)
{
    g_autofree char *path = g_build_filename(sim->dir, "vhost", NULL);
    char *table = NULL;

    g_assert_true(g_file_get_contents(path, &table, NULL, NULL));
    g_assert_true(g_str_has_suffix(table, "end\n"));
    return table;
}

static bool table_shows(const char *table, uint64_t address)
{
    bool shows = false;

    g_auto(GStrv) lines = g_strsplit(table, "\n", -1);
    for (char **line = lines; *line; line++) {
        uint64_t base, size;

        if (sscanf(*line, "0x%" SCNx64 " 0x%" SCNx64, &base, &size) == 2) {
            shows |= address >= base && address - base < size;
        }
    }
    return shows;
}

static void test_vhost(gconstpointer data)
{
    VFIOSim *sim = mode_sim(data, "");
    g_autofree char *dir = g_path_get_dirname(getenv("QTEST_QEMU_BINARY"));
    g_autofree char *library = g_build_filename(dir, "tests", "qtest",
                                                "libvfio-cxl-vhost-log.so",
                                                NULL);
    g_autofree char *options = g_strdup_printf(CXL_BRIDGE CXL_WINDOW
        " -device vhost-vsock-pci,guest-cid=3,vhostfd=9,bus=pcie.0,addr=0x10"
        ",disable-legacy=on 9<>%s/vhost", sim->dir);
    const char *first = getenv("VFIO_CXL_TEST_PRELOAD");
    g_autofree char *old = g_strdup(first);
    g_autofree char *preload = first ? g_strdup_printf("%s:%s", first, library)
                                     : g_strdup(library);
    g_autofree char *table = NULL, *closed = NULL;
    unsigned control;
    uint64_t regs, base;
    CXLMachine *m;

    g_setenv("VFIO_CXL_TEST_PRELOAD", preload, true);
    m = cxl_machine_start(sim, options, mode_is_iommufd(data), "");
    if (old) {
        g_setenv("VFIO_CXL_TEST_PRELOAD", old, true);
    } else {
        g_unsetenv("VFIO_CXL_TEST_PRELOAD");
    }
    base = hdm_base(m, 0);
    regs = map_bar(m, 4);
    qtest_writeb(m->qts, regs + 0x14, 0x3);             /* DRIVER */
    qtest_writel(m->qts, regs + 0x08, 1);
    qtest_writel(m->qts, regs + 0x0c, 1);               /* VERSION_1 */
    qtest_writeb(m->qts, regs + 0x14, 0xb);             /* FEATURES_OK */
    qtest_writeb(m->qts, regs + 0x14, 0xf);             /* DRIVER_OK */
    g_assert_cmphex(qtest_readb(m->qts, regs + 0x14), ==, 0xf);

    g_assert_true(shows_memory(m, base, 0));
    table = vhost_table(sim);
    g_assert_true(table_shows(table, ram_base()));
    g_assert_false(table_shows(table, base));
    /* Nor does it appear with a change of the map */
    control = m->dvsec + DVSEC_CONTROL;
    cfg_writew(m, control, cfg_readw(m, control) & ~DVSEC_MEM_ENABLE);
    cfg_writew(m, control, cfg_readw(m, control) | DVSEC_MEM_ENABLE);
    g_assert_true(shows_memory(m, base, 0));
    closed = vhost_table(sim);
    g_assert_cmpstr(closed, ==, table);
    cxl_machine_stop(m);
}

/* Start the device in SLOT, with an empty queue at @queue */
static void virtio_start(CXLMachine *m, uint64_t regs, uint64_t queue)
{
    QTestState *qts = m->qts;

    qtest_writeb(qts, regs + 0x14, 0x3);                /* DRIVER */
    qtest_writel(qts, regs + 0x08, 1);
    qtest_writel(qts, regs + 0x0c, 1);                  /* VERSION_1 */
    qtest_writeb(qts, regs + 0x14, 0xb);                /* FEATURES_OK */
    qtest_writew(qts, regs + 0x16, 0);                  /* queue 0 */
    for (int i = 0; i < 3; i++) {
        qtest_writel(qts, regs + 0x20 + 8 * i, queue + 0x1000 * i);
        qtest_writel(qts, regs + 0x24 + 8 * i, 0);
    }
    qtest_memset(qts, queue, 0, 0x3000);
    qtest_writew(qts, regs + 0x1c, 1);
    qtest_writeb(qts, regs + 0x14, 0xf);                /* DRIVER_OK */
    g_assert_cmphex(qtest_readb(qts, regs + 0x14), ==, 0xf);
}

static void vhost_user(gconstpointer data, bool slots)
{
    VFIOSim *sim = mode_sim(data, "");
    g_autofree char *path = g_build_filename(sim->dir, "user", NULL);
    VhostUser *user = vhost_user_new(path, slots);
    g_autofree char *options = g_strdup_printf(CXL_BRIDGE CXL_WINDOW
        " -object memory-backend-memfd,id=ram,size=512M,share=on"
        " -M memory-backend=ram -chardev socket,id=user,path=%s"
        " -device vhost-user-rng-pci,chardev=user,bus=pcie.0,addr=0x10",
        path);
    CXLMachine *m = cxl_machine_start(sim, options, mode_is_iommufd(data), "");
    unsigned control = m->dvsec + DVSEC_CONTROL;
    uint64_t base = hdm_base(m, 0), regs = map_bar(m, 4);

    for (int i = 1; i < 3; i++) {
        virtio_start(m, regs, ram_base());
        vhost_user_wait_enabled(user, i);
        g_assert_true(shows_memory(m, base, 0));
        g_assert_true(vhost_user_has(user, ram_base()));
        /* Nor does it appear with a change of the map */
        cfg_writew(m, control, cfg_readw(m, control) & ~DVSEC_MEM_ENABLE);
        cfg_writew(m, control, cfg_readw(m, control) | DVSEC_MEM_ENABLE);
        g_assert_true(shows_memory(m, base, 0));
        /*
         * The reset queries the queue's state: earlier messages have arrived
         * then
         */
        qtest_writeb(m->qts, regs + 0x14, 0);
        g_assert_true(vhost_user_has(user, ram_base()));
        g_assert_false(vhost_user_had(user, m->window, 4 * GiB));
    }
    cxl_machine_stop(m);
    vhost_user_free(user);
}

static bool need_vhost_user(void)
{
    if (!qtest_has_device("vhost-user-rng-pci")) {
        g_test_skip("QEMU is built without vhost-user");
        return false;
    }
    return true;
}

static void test_vhost_user(gconstpointer data)
{
    if (need_vhost_user()) {
        vhost_user(data, false);
    }
}

static void test_vhost_user_slots(gconstpointer data)
{
    if (need_vhost_user()) {
        vhost_user(data, true);
    }
}

/*
 * Core dumps, forks, merging of pages, preallocation
 */

/* VmFlags of the mapping of device memory; NULL if there is none */
static char *vm_flags(CXLMachine *m)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/smaps",
                                            qtest_pid(m->qts));
    g_autofree char *smaps = NULL;
    g_auto(GStrv) lines = NULL;
    bool ours = false;

    g_assert_true(g_file_get_contents(path, &smaps, NULL, NULL));
    lines = g_strsplit(smaps, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (g_str_has_suffix(*line, VFIO_CXL_HOST "/memory")) {
            ours = true;
        } else if (ours && g_str_has_prefix(*line, "VmFlags:")) {
            return g_strconcat(*line, " ", NULL);
        }
    }
    return NULL;
}

static void assert_left_alone(CXLMachine *m)
{
    g_autofree char *flags = vm_flags(m);

    g_assert_nonnull(flags);
    g_assert_nonnull(strstr(flags, " dd "));
    g_assert_nonnull(strstr(flags, " dc "));
    g_assert_null(strstr(flags, " mg "));
}

static void test_mapping(gconstpointer data)
{
    CXLMachine *m = start(data, " -S -accel tcg -mem-prealloc"
                          " -M mem-merge=on,dump-guest-core=on", "");
    g_autofree char *path = g_build_filename(m->sim->dir, VFIO_CXL_HOST,
                                             "memory", NULL);
    unsigned control = m->dvsec + DVSEC_CONTROL;
    g_autofree char *closed = NULL;
    struct stat file;

    g_assert_cmpint(stat(path, &file), ==, 0);
    g_assert_cmpint(file.st_size, ==, M256);
    g_assert_cmpint(file.st_blocks, ==, 0);
    assert_left_alone(m);
    cfg_writew(m, control, cfg_readw(m, control) & ~DVSEC_MEM_ENABLE);
    closed = vm_flags(m);
    g_assert_null(closed);
    cfg_writew(m, control, cfg_readw(m, control) | DVSEC_MEM_ENABLE);
    assert_left_alone(m);
    cxl_machine_stop(m);
}

/* Large pages: QEMU's and the guest's address agree with the device's */
static void test_alignment(gconstpointer data)
{
    static const struct {
        const char *option;
        uint64_t alignment;
    } sizes[] = {
        { "--memory=256M", 256 * MiB },
        { "--memory=1280M", GiB },
        { "--memory=3G", GiB },
    };

    for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
        CXLMachine *m = mode_start(data, sizes[i].option, "");
        QObject *list = vfio_sim_command(m->sim, "mmaps " VFIO_CXL_HOST);
        unsigned found = 0;
        QListEntry *entry;

        QLIST_FOREACH_ENTRY(qobject_to(QList, list), entry) {
            QDict *dict = qobject_to(QDict, qlist_entry_obj(entry));

            if (!strcmp(qdict_get_str(dict, "region"), "memory")) {
                found++;
                g_assert_cmphex(qdict_get_int(dict, "offset"), ==, 0);
                g_assert_cmphex(qdict_get_int(dict, "address") %
                                sizes[i].alignment, ==, 0);
            }
        }
        g_assert_cmpint(found, ==, 1);
        g_assert_cmphex(hdm_base(m, 0) % GiB, ==, 0);
        qobject_unref(list);
        cxl_machine_stop(m);
    }
}

/*
 * Hardware errors in the memory
 */
static void poison(CXLMachine *m, const char *place)
{
    g_autofree char *command = g_strdup_printf("poison " VFIO_CXL_HOST " %s",
                                               place);

    qobject_unref(vfio_sim_command(m->sim, command));
}

/* Wait, without a limit of our own, until QEMU has printed @text */
static void wait_said(CXLMachine *m, const char *text)
{
    for (int i = 0; i < 10000 && !said(m, text); i++) {
        g_usleep(1000);
        qtest_qmp_assert_success(m->qts, "{'execute': 'query-status'}");
    }
    g_assert_cmpint(said(m, text), ==, 1);
}

/* It has not been accessed: QEMU continues, with and without the map */
static void test_poison_untouched(gconstpointer data)
{
    CXLMachine *m = start(data, " -S -accel tcg", "");

    poison(m, "0x5000");
    wait_said(m, "Hardware memory error at addr");
    assert_firmware_committed(m, M256);
    cxl_machine_stop(m);
}

static void test_poison_kvm(gconstpointer data)
{
    g_autofree char *where = NULL;
    unsigned control;
    CXLMachine *m;

    if (!need_kvm()) {
        return;
    }
    m = start(data, " -S -accel kvm", "");
    control = m->dvsec + DVSEC_CONTROL;
    where = g_strdup_printf("GUEST addr 0x%" PRIx64 " of type BUS_MCEERR_AO",
                            hdm_base(m, 0) + 0x5000);
    poison(m, "0x5000");
    wait_said(m, where);

    /* The guest has no such address now */
    cfg_writew(m, control, cfg_readw(m, control) & ~DVSEC_MEM_ENABLE);
    poison(m, "0x6000");
    wait_said(m, "for memory used by QEMU itself");
    cxl_machine_stop(m);
}

/* A vCPU has accessed it */
static void test_poison_touched(gconstpointer data)
{
    g_autofree char *where = NULL;
    g_autofree char *flags = NULL;
    CXLMachine *m;
    QDict *event;

    if (!need_kvm()) {
        return;
    }
    m = start(data, " -S -accel kvm -action reboot=shutdown,shutdown=pause",
              ",x-cxl-host-access=on");
    where = g_strdup_printf("GUEST addr 0x%" PRIx64 " of type BUS_MCEERR_AR",
                            hdm_base(m, 0) + 0x5000);
    poison(m, "0x5000 vcpu");
    qtest_qmp_assert_success(m->qts, "{'execute': 'cont'}");
    wait_said(m, where);
    event = qtest_qmp_eventwait_ref(m->qts, "MEMORY_FAILURE");
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(event, "data"),
                                  "recipient"), ==, "guest");
    qobject_unref(event);
    qtest_qmp_assert_success(m->qts, "{'execute': 'stop'}");
    /* QEMU replaces bad pages of RAM at a reset; these are not its own */
    qtest_system_reset_nowait(m->qts);
    cxl_machine_enumerate(m);
    assert_firmware_committed(m, M256);
    flags = vm_flags(m);
    g_assert_nonnull(flags);
    g_assert_null(strstr(flags, " mg "));
    cxl_machine_stop(m);
}

int main(int argc, char **argv)
{
    static const char *const kernels[] = { "v6", "v2-reset", NULL };
    static const char *const gates[] = { "v6", "v5", "v2-reset", NULL };
    static const char *const one_kernel[] = { "v6", NULL };

    vfio_cxl_test_init(&argc, &argv);

    vfio_cxl_add("host-access-dma-allowed", kernels, test_dma_allowed);
    vfio_cxl_add("host-access-virtio", one_kernel, test_virtio);
    vfio_cxl_add("host-access-off", kernels, test_off);
    vfio_cxl_add("host-access-debugger", gates, test_debugger);
    vfio_cxl_add("vhost", kernels, test_vhost);
    vfio_cxl_add("vhost-user", kernels, test_vhost_user);
    vfio_cxl_add("vhost-user-slots", one_kernel, test_vhost_user_slots);
    vfio_cxl_add("mapping", gates, test_mapping);
    vfio_cxl_add("poison-untouched", one_kernel, test_poison_untouched);
    vfio_cxl_add("alignment", one_kernel, test_alignment);
    if (is_kvm_target()) {
        vfio_cxl_add("host-access-kvm", one_kernel, test_kvm);
        vfio_cxl_add("host-access-kvm-on", one_kernel, test_kvm_on);
        vfio_cxl_add("poison-kvm", one_kernel, test_poison_kvm);
        vfio_cxl_add("poison-touched", one_kernel, test_poison_touched);
    }
    return g_test_run();
}
