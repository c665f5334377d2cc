/*
 * The CEDT's fixed windows that target the device's host bridge
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "cxl-guest.h"

Window windows[MAX_WINDOWS];
int n_windows;
uint64_t bridge_block;

static bool host_bridge_uid(uint32_t *uid)
{
    char real[PATH_MAX], path[PATH_MAX + 64], text[64];
    char *root, *slash;

    if (!realpath(dev.dir, real)) {
        return false;
    }
    root = strstr(real, "/pci");
    if (!root) {
        return false;
    }
    slash = strchr(root + 1, '/');
    if (slash) {
        *slash = '\0';
    }
    snprintf(path, sizeof(path), "%s/firmware_node/uid", real);
    if (!read_text(path, text, sizeof(text))) {
        return false;
    }
    *uid = strtoul(text, NULL, 0);
    return true;
}

static uint64_t le(const uint8_t *p, int bytes)
{
    uint64_t val = 0;

    memcpy(&val, p, bytes);
    return val;
}

bool read_windows(const char *name)
{
    static uint8_t cedt[65536];
    int fd = open("/sys/firmware/acpi/tables/CEDT", O_RDONLY | O_CLOEXEC);
    uint32_t uid = 0;
    bool have_uid = host_bridge_uid(&uid);
    ssize_t size, at;

    if (fd < 0) {
        return fail(name, "no CEDT: %s", strerror(errno));
    }
    size = read(fd, cedt, sizeof(cedt));
    close(fd);
    n_windows = 0;
    for (at = 36; at + 4 <= size; at += le(cedt + at + 2, 2)) {
        unsigned len = le(cedt + at + 2, 2);
        bool ours = !have_uid;
        unsigned i;

        if (len < 4 || at + len > size) {
            break;
        }
        if (cedt[at] == 0 && len >= 32 && have_uid &&
            le(cedt + at + 4, 4) == uid) {
            bridge_block = le(cedt + at + 16, 8);
        }
        if (cedt[at] != 1 || len < 40) {
            continue;
        }
        for (i = 36; i + 4 <= len; i += 4) {
            ours |= le(cedt + at + i, 4) == uid;
        }
        /* Only windows that go to one host bridge */
        if (ours && cedt[at + 24] == 0 && n_windows < MAX_WINDOWS) {
            windows[n_windows].base = le(cedt + at + 8, 8);
            windows[n_windows].size = le(cedt + at + 16, 8);
            n_windows++;
        }
    }
    if (!n_windows) {
        return fail(name, "no fixed window for host bridge %u", uid);
    }
    ok(name, "base=0x%" PRIx64 " size=0x%" PRIx64 " windows=%d bridge=%u",
       windows[0].base, windows[0].size, n_windows, uid);
    return true;
}

bool in_window(uint64_t base, uint64_t size)
{
    int i;

    for (i = 0; i < n_windows; i++) {
        if (base >= windows[i].base && size <= windows[i].size &&
            base - windows[i].base <= windows[i].size - size) {
            return true;
        }
    }
    return false;
}
