/*
 * CXL Type-2 devices behind vfio-pci: several devices that reach each other
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/units.h"
#include "qobject/qjson.h"
#include "vfio-cxl-maps.h"

/* The first device is VFIO_CXL_HOST, a CXL device below "rp0" */
#define HOST2 "0000:c2:00.0"    /* another one, below "rp1" */
#define HOST3 "0000:c3:00.0"    /* not CXL, below "hp" */

#define PORTS \
    CXL_BRIDGE \
    " -device cxl-rp,id=rp1,bus=cxl.0,chassis=0,slot=1,port=1,addr=1" \
    " -device pcie-root-port,id=hp,bus=pcie.0,addr=0x10,chassis=9,slot=9"
#define NOT_CXL "--devices=3 --set='" HOST3 " mangle=device-no-flag' "

#define BRIDGE_BUS  12
#define RP0_BUS     13  /* as cxl_machine_enumerate() has it */
#define RP1_BUS     14
#define HP_BUS      1

#define SLOT_CONTROL        0x18
#define SLOT_POWER_ON       0x01c0
#define SLOT_POWER_BLINK    0x02c0
#define SLOT_POWER_OFF      0x07c0

static uint64_t config(CXLMachine *m, unsigned bus, unsigned device)
{
    return m->ecam + ((uint64_t)bus << 20) + (device << 15);
}

/*
 * Open a port to one device, and program its BARs. Returns the address of BAR
 * 0; BAR 2 is 1 MiB above.
 */
static uint64_t enable(CXLMachine *m, unsigned primary, unsigned port,
                       unsigned bus)
{
    uint64_t mmio = m->bar0 + bus * 2 * MiB;
    uint64_t cfg = config(m, primary, port);

    qtest_writel(m->qts, cfg + 0x18, primary | bus << 8 | bus << 16);
    qtest_writew(m->qts, cfg + 0x20, mmio >> 16);
    qtest_writew(m->qts, cfg + 0x22, (mmio + 0x100000) >> 16);
    qtest_writew(m->qts, cfg + 0x24, 0xfff0);
    qtest_writew(m->qts, cfg + 0x26, 0);
    qtest_writew(m->qts, cfg + 0x04, 0x6);
    cfg = config(m, bus, 0);
    qtest_writel(m->qts, cfg + 0x10, mmio);
    qtest_writel(m->qts, cfg + 0x14, 0);
    qtest_writel(m->qts, cfg + 0x18, mmio + 0x100000);
    qtest_writel(m->qts, cfg + 0x1c, 0);
    qtest_writew(m->qts, cfg + 0x04, 0x6);
    return mmio;
}

static uint64_t enable_second(CXLMachine *m)
{
    return enable(m, BRIDGE_BUS, 1, RP1_BUS);
}

static uint64_t enable_third(CXLMachine *m)
{
    return enable(m, 0, 0x10, HP_BUS);
}

static void slot_control(CXLMachine *m, uint64_t port, uint16_t value)
{
    unsigned pos = qtest_readb(m->qts, port + 0x34);

    while ((qtest_readw(m->qts, port + pos) & 0xff) != 0x10) {
        pos = qtest_readw(m->qts, port + pos) >> 8;
        g_assert_cmpuint(pos, !=, 0);
    }
    qtest_writew(m->qts, port + pos + SLOT_CONTROL, value);
}

static void add_third(CXLMachine *m, bool iommufd)
{
    g_autofree char *json = g_strdup_printf("{'driver': 'vfio-pci', "
        "'id': 'dev2', 'host': '" HOST3 "', 'bus': 'hp'%s}",
        iommufd ? ", 'iommufd': 'iommufd0'" : "");
    QDict *reply = qtest_qmp(m->qts, "{'execute': 'device_add', "
                             "'arguments': %p}",
                             qobject_from_json(json, &error_abort));

    g_assert_true(qdict_haskey(reply, "return"));
    qobject_unref(reply);
    slot_control(m, config(m, 0, 0x10), SLOT_POWER_ON);
}

/* The guest releases the device below the first port */
static void unplug_first(CXLMachine *m)
{
    uint64_t port = config(m, BRIDGE_BUS, 0);

    qobject_unref(qtest_qmp(m->qts, "{'execute': 'device_del', "
                            "'arguments': {'id': 'dev0'}}"));
    slot_control(m, port, SLOT_POWER_BLINK);
    slot_control(m, port, SLOT_POWER_OFF);
    qtest_qmp_eventwait(m->qts, "DEVICE_DELETED");
}

static void set_mem_enable(CXLMachine *m, unsigned bus, bool on)
{
    uint64_t at = config(m, bus, 0) + m->dvsec + DVSEC_CONTROL;
    uint16_t control = qtest_readw(m->qts, at);

    qtest_writew(m->qts, at, on ? control | DVSEC_MEM_ENABLE :
                                  control & ~DVSEC_MEM_ENABLE);
}

/*
 * The memory of each CXL device is in the container or IOAS of each device:
 * of other CXL devices, of devices that are not CXL and are plugged later, with
 * either backend.
 */
static void test_peers(gconstpointer data)
{
    bool iommufd = mode_is_iommufd(data), exports = mode_since_v5(data);
    g_autofree char *options = g_strdup_printf(PORTS CXL_WINDOW "%s -device "
        "vfio-pci,id=dev1,host=" HOST2 ",bus=rp1%s",
        iommufd ? "" : " -object iommufd,id=iommufd0",
        iommufd ? "" : ",iommufd=iommufd0");
    CXLMachine *m = cxl_machine_start(mode_sim(data, NOT_CXL), options,
                                      iommufd, "");
    uint64_t second = enable_second(m);
    uint64_t regs1 = m->bar2, regs2 = second + MiB, regs3;
    uint64_t hdm2 = second + (m->hdm - m->bar0);
    uint64_t at1 = hdm_base(m, 0);
    uint64_t at2 = qtest_readl(m->qts, hdm2 + HDM_BASE_LO(0)) |
                   (uint64_t)qtest_readl(m->qts, hdm2 + HDM_BASE_HI(0)) << 32;
    const CXLMapped both[] = { { at1, M256, 0 }, { at2, M256, 0, HOST2 }, { } };
    DMAMaps *maps = dma_maps_new(m, data, 2);
    /* Whether each can reach memory */
    bool one = !iommufd || exports, two = iommufd || exports;

    g_assert_cmphex(at1, !=, at2);
    dma_maps_check(maps, both);
    g_assert_true(dma_reaches(m, regs1, at1) == one);
    g_assert_true(dma_reaches(m, regs1, at2) == one);
    g_assert_true(dma_reaches(m, regs2, at1) == two);
    g_assert_true(dma_reaches(m, regs2, at2) == two);

    /* A reset revokes the mappings in the other backend, too */
    cxl_machine_flr(m);
    dma_maps_check(maps, both);
    cfg_writew(m, m->dvsec + DVSEC_CONTROL2, CONTROL2_RST);
    dma_maps_check(maps, both);

    add_third(m, iommufd);
    dma_maps_check(maps, both); /* its BARs are not there yet */
    regs3 = enable_third(m) + MiB;
    dma_maps_free(maps);
    maps = dma_maps_new(m, data, 2);
    dma_maps_check(maps, both);
    g_assert_true(dma_reaches(m, regs3, at1) == one);
    g_assert_true(dma_reaches(m, regs3, at2) == one);

    /* Changes to the memory of one device concern the others, too */
    set_mem_enable(m, RP1_BUS, false);
    dma_maps_check(maps, (CXLMapped[]) { both[0], { } });
    g_assert_true(dma_reaches(m, regs1, at1) == one);
    g_assert_false(dma_reaches(m, regs1, at2));
    g_assert_false(dma_reaches(m, regs2, at2));
    g_assert_false(dma_reaches(m, regs3, at2));
    set_mem_enable(m, RP1_BUS, true);
    dma_maps_check(maps, both);
    g_assert_true(dma_reaches(m, regs3, at2) == one);

    unplug_first(m);
    maps->bars = false;
    dma_maps_check(maps, both + 1);
    g_assert_false(dma_reaches(m, regs2, at1));
    g_assert_false(dma_reaches(m, regs3, at1));
    g_assert_true(dma_reaches(m, regs2, at2) == two);
    g_assert_true(dma_reaches(m, regs3, at2) == one);
    g_assert_cmpint(vfio_sim_stat(m->sim, "stale-maps"), ==, 0);
    dma_maps_free(maps);
    cxl_machine_stop(m);
}

/* Returns the mappings of a machine with the third device and @first */
static char *mapped_with(gconstpointer data, const char *first, bool memory)
{
    const char *backend = mode_is_iommufd(data) ? ",iommufd=iommufd0" : "";
    g_autofree char *options = g_strdup_printf(PORTS CXL_WINDOW "%s -device "
        "vfio-pci,host=" HOST3 ",bus=hp%s%s%s",
        *backend ? " -object iommufd,id=iommufd0" : "", backend, first,
        *first ? backend : "");
    CXLMachine *m = cxl_machine_start_empty(mode_sim(data, NOT_CXL
                                            "--set='" HOST3 " pfnmap=1'"),
                                            options);
    g_autoptr(GPtrArray) lines = NULL;
    g_autofree char *all = NULL;
    QObject *maps;
    GString *text;

    cxl_machine_enumerate(m);
    enable_third(m);
    maps = vfio_sim_command(m->sim, "maps");
    text = qobject_to_json(maps);
    all = g_string_free(text, false);
    g_assert_true(!!strstr(all, "\"memory\"") == memory);
    /* Its BARs are mapped if the kernel supports that */
    g_assert_true(!!strstr(all, VFIO_CXL_HOST) ==
                  (*first && (!*backend || !mode_is_kernel(data, "v2"))));
    qobject_unref(maps);
    lines = dma_maps_others(m, VFIO_CXL_HOST, 0);
    g_ptr_array_add(lines, NULL);
    cxl_machine_stop(m);
    return g_strjoinv("\n", (char **)lines->pdata);
}

/* RAM and other devices' BARs are mapped as without a CXL device */
static void test_unchanged(gconstpointer data)
{
    bool can = !mode_is_iommufd(data) || mode_since_v5(data);
    g_autofree char *without = mapped_with(data, "", false);
    g_autofree char *plain = mapped_with(data, " -device vfio-pci,host="
        VFIO_CXL_HOST ",bus=rp0,x-cxl=off", false);
    g_autofree char *with = mapped_with(data, " -device vfio-pci,host="
        VFIO_CXL_HOST ",bus=rp0,x-cxl=on", can);

    g_assert_nonnull(strstr(without, " ram "));
    g_assert_nonnull(strstr(without, HOST3));
    g_assert_cmpstr(plain, ==, without);
    g_assert_cmpstr(with, ==, without);
}

int main(int argc, char **argv)
{
    vfio_cxl_test_init(&argc, &argv);

    vfio_cxl_add("peers", vfio_cxl_kernels, test_peers);
    vfio_cxl_add("maps-unchanged", vfio_cxl_kernels, test_unchanged);
    return g_test_run();
}
