/*
 * CXL Type-2 devices behind vfio-pci: the slot that they are plugged into
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qobject/qjson.h"
#include "vfio-cxl-slot.h"

/* PCI Express Slot Control and Status, PCIe 6.0 Section 7.5.3.10 and .11 */
#define SLOT_CONTROL        0x18
#define SLOT_STATUS         0x1a
#define SLOT_EVENTS         0x0019  /* button, presence, command done */

uint64_t root_port(CXLMachine *m)
{
    return m->ecam + (12 << 20);
}

static uint64_t slot(CXLMachine *m)
{
    unsigned pos = qtest_readb(m->qts, root_port(m) + 0x34);

    for (int i = 0; i < 48 && pos; i++) {
        uint16_t header = qtest_readw(m->qts, root_port(m) + pos);

        if ((header & 0xff) == 0x10) {
            return root_port(m) + pos;
        }
        pos = header >> 8;
    }
    g_assert_not_reached();
}

uint64_t slot_control(CXLMachine *m)
{
    return slot(m) + SLOT_CONTROL;
}

uint16_t slot_status(CXLMachine *m)
{
    return qtest_readw(m->qts, slot(m) + SLOT_STATUS);
}

void slot_power(CXLMachine *m, uint16_t control)
{
    qtest_writew(m->qts, slot_control(m), control);
    /* Not those that are not set: that would be taken for a mistake */
    qtest_writew(m->qts, slot(m) + SLOT_STATUS, slot_status(m) & SLOT_EVENTS);
}

QDict *device_add(CXLMachine *m, bool iommufd, const char *id,
                  const char *host, const char *more)
{
    g_autofree char *json = g_strdup_printf("{'driver': 'vfio-pci', "
        "'id': '%s', 'host': '%s'%s%s%s}", id, host,
        strstr(more, "'bus'") ? "" : ", 'bus': 'rp0'",
        iommufd ? ", 'iommufd': 'iommufd0'" : "", more);

    return qtest_qmp(m->qts, "{'execute': 'device_add', 'arguments': %p}",
                     qobject_from_json(json, &error_abort));
}

void device_plug(CXLMachine *m, gconstpointer mode, const char *host,
                 const char *more)
{
    QDict *reply = device_add(m, mode_is_iommufd(mode), "dev0", host, more);

    if (!qdict_haskey(reply, "return")) {
        g_error("%s", qdict_get_str(qdict_get_qdict(reply, "error"), "desc"));
    }
    qobject_unref(reply);
    g_assert_cmphex(slot_status(m) & SLOT_PRESENT, ==, SLOT_PRESENT);
    slot_power(m, SLOT_POWER_ON);
    cxl_machine_enumerate(m);
    cxl_machine_find(m);
}

void device_del(CXLMachine *m, const char *error)
{
    QDict *reply = qtest_qmp(m->qts, "{'execute': 'device_del', "
                             "'arguments': {'id': 'dev0'}}");

    g_assert_cmpint(qdict_haskey(reply, "error"), ==, error != NULL);
    if (error) {
        const char *desc = qdict_get_str(qdict_get_qdict(reply, "error"),
                                         "desc");

        g_assert_nonnull(strstr(desc, error));
    }
    qobject_unref(reply);
}

bool qom_exists(CXLMachine *m, const char *path)
{
    QDict *reply = qtest_qmp(m->qts, "{'execute': 'qom-list', "
                             "'arguments': {'path': %s}}", path);
    bool found = qdict_haskey(reply, "return");

    qobject_unref(reply);
    return found;
}

void wait_deleted(CXLMachine *m)
{
    QDict *event = NULL;

    for (int i = 0; i < 1000 && !event; i++) {
        /* Events arrive before a reply */
        if (!qom_exists(m, "/machine/peripheral/dev0")) {
            event = qtest_qmp_event_ref(m->qts, "DEVICE_DELETED");
        }
        g_usleep(event ? 0 : 10 * 1000);
    }
    g_assert_nonnull(event);
    qobject_unref(event);
}

void device_release(CXLMachine *m)
{
    slot_power(m, SLOT_POWER_BLINK);
    slot_power(m, SLOT_POWER_OFF);
    wait_deleted(m);
    g_assert_cmphex(slot_status(m) & SLOT_PRESENT, ==, 0);
}

void device_unplug(CXLMachine *m)
{
    device_del(m, NULL);
    g_assert_cmphex(slot_status(m) & SLOT_BUTTON, ==, SLOT_BUTTON);
    device_release(m);
}
