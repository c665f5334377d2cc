/*
 * Helpers for CXL fixed memory windows
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "hw/cxl/cxl.h"
#include "hw/cxl/cxl_host.h"
#include "hw/cxl/cxl_window.h"
#include "hw/pci/pci_bridge.h"

bool cxl_window_serves(CXLFixedWindow *fw, PXBCXLDev *hb)
{
    /* A window that did not fit was left at address 0 */
    if (fw->num_targets != 1 || fw->base == 0) {
        return false;
    }
    if (fw->target_hbs[0]) {
        return fw->target_hbs[0] == hb;
    }
    /* Before the machine has linked the targets only their names are known */
    return object_resolve_path_type(fw->targets[0], TYPE_PXB_CXL_DEV, NULL) ==
           OBJECT(hb);
}

void cxl_window_append_option(GString *option, unsigned index, PXBCXLDev *hb,
                              uint64_t size)
{
    g_autofree char *path = object_get_canonical_path(OBJECT(hb));

    g_string_append_printf(option, "%scxl-fmw.%u.targets.0=%s,"
                           "cxl-fmw.%u.size=%" PRIu64 "M",
                           option->len ? "," : "-M ", index,
                           DEVICE(hb)->id ?: path, index, size / MiB);
}

char *cxl_window_option(PXBCXLDev *hb, uint64_t size)
{
    g_autoptr(GSList) windows = cxl_fmws_get_all_sorted();
    GString *option = g_string_new(NULL);
    unsigned index = 0;
    bool found = false;

    for (GSList *l = windows; l; l = l->next, index++) {
        CXLFixedWindow *fw = l->data;

        if (object_dynamic_cast(OBJECT(fw), TYPE_CXL_AUTO_FMW)) {
            bool same = cxl_window_serves(fw, hb);

            cxl_window_append_option(option, index, fw->target_hbs[0],
                                     same ? ROUND_UP(fw->size, GiB) + size :
                                            fw->size);
            found |= same;
        }
    }
    if (!found) {
        cxl_window_append_option(option, index, hb, size);
    }
    return g_string_free(option, false);
}
