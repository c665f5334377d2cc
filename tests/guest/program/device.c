/*
 * Finding the device and its registers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "cxl-guest.h"

Device dev;

bool find_device(const char *name)
{
    DIR *dir = opendir("/sys/bus/pci/devices");
    struct dirent *entry;
    char path[PATH_MAX];

    while (dir && (entry = readdir(dir))) {
        uint64_t vendor, device;

        if (entry->d_name[0] == '.') {
            continue;
        }
        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vendor",
                 entry->d_name);
        vendor = hex_file(path);
        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/device",
                 entry->d_name);
        device = hex_file(path);
        if (vendor == VFIO_SIM_VENDOR_ID && device == VFIO_SIM_DEVICE_ID &&
            (!opt.device || !strcmp(entry->d_name, opt.device))) {
            snprintf(dev.bdf, sizeof(dev.bdf), "%.31s", entry->d_name);
            snprintf(dev.dir, sizeof(dev.dir), "/sys/bus/pci/devices/%s",
                     dev.bdf);
            break;
        }
    }
    if (dir) {
        closedir(dir);
    }
    if (!dev.bdf[0]) {
        return fail(name, "no PCI device %04x:%04x%s%s", VFIO_SIM_VENDOR_ID,
                    VFIO_SIM_DEVICE_ID, opt.device ? " at " : "",
                    opt.device ? opt.device : "");
    }
    dev.config = open(in_dir("config"), O_RDWR | O_CLOEXEC);
    if (dev.config < 0) {
        return fail(name, "config of %s: %s", dev.bdf, strerror(errno));
    }
    ok(name, "bdf=%s class=0x%06" PRIx64, dev.bdf, hex_file(in_dir("class")));
    return true;
}

bool enable_device(const char *name)
{
    uint32_t command;

    /* A driver that is bound has done it */
    if (!opt.driver && !write_text(in_dir("enable"), "1")) {
        return fail(name, "sysfs enable: %s", strerror(errno));
    }
    command = cfg_read(CFG_COMMAND, 2);
    cfg_write(CFG_COMMAND, command | CFG_COMMAND_MEMORY | CFG_COMMAND_MASTER,
              2);
    command = cfg_read(CFG_COMMAND, 2);
    if ((command & 6) != 6) {
        return fail(name, "command register reads 0x%04x", command);
    }
    ok(name, "command=0x%04x", command);
    return true;
}

static uint64_t bar_size(int bar)
{
    char text[2048], *line = text;
    uint64_t start, end;

    if (!read_text(in_dir("resource"), text, sizeof(text))) {
        return 0;
    }
    while (bar-- && (line = strchr(line, '\n'))) {
        line++;
    }
    if (!line || sscanf(line, "%" SCNx64 " %" SCNx64, &start, &end) != 2) {
        return 0;
    }
    return start ? end - start + 1 : 0;
}

bool map_bars(const char *name)
{
    dev.bar0_size = bar_size(VFIO_SIM_COMPONENT_BAR);
    if (dev.bar0_size != VFIO_SIM_BAR0_SIZE ||
        bar_size(VFIO_SIM_REG_BAR) != VFIO_SIM_BAR2_SIZE) {
        return fail(name, "BAR 0 has 0x%" PRIx64 " bytes, BAR 2 0x%" PRIx64,
                    dev.bar0_size, bar_size(VFIO_SIM_REG_BAR));
    }
    dev.bar0 = map_file(in_dir("resource0"), 0, dev.bar0_size);
    dev.regs = map_file(in_dir("resource2"), 0, VFIO_SIM_BAR2_SIZE);
    if (!dev.bar0 || !dev.regs) {
        return fail(name, "mmap: %s", strerror(errno));
    }
    if (get32(dev.regs + VFIO_SIM_REG_ID) != VFIO_SIM_ID) {
        return fail(name, "identity reads 0x%08x",
                    get32(dev.regs + VFIO_SIM_REG_ID));
    }
    set32(dev.regs + VFIO_SIM_REG_SCRATCH, 0x600df00d);
    if (get32(dev.regs + VFIO_SIM_REG_SCRATCH) != 0x600df00d) {
        return fail(name, "scratch register does not hold a value");
    }
    dev.size = get64(dev.regs + VFIO_SIM_REG_MEM_SIZE);
    dev.index = get32(dev.regs + VFIO_SIM_REG_INDEX);
    ok(name, "memory=0x%" PRIx64 " resets=%u index=%u", dev.size,
       get32(dev.regs + VFIO_SIM_REG_RESETS), dev.index);
    return true;
}

bool find_dvsecs(const char *name)
{
    int offset = CFG_EXT_CAPS;
    int steps = 0;
    uint32_t i, dwords;

    dev.dvsec_device = dev.dvsec_locator = 0;
    while (offset >= CFG_EXT_CAPS && steps++ < 96) {
        uint32_t header = cfg_read(offset, 4);
        uint32_t dv1 = cfg_read(offset + 4, 4);
        uint32_t id = cfg_read(offset + 8, 2);

        if (header == 0 || header == ~0u) {
            break;
        }
        if ((header & 0xffff) == EXT_CAP_DVSEC &&
            (dv1 & 0xffff) == CXL_VENDOR) {
            if (id == DVSEC_DEVICE) {
                dev.dvsec_device = offset;
            } else if (id == DVSEC_REG_LOCATOR) {
                dev.dvsec_locator = offset;
            }
        }
        offset = (header >> 20) & 0xffc;
    }
    if (!dev.dvsec_device || !dev.dvsec_locator) {
        return fail(name, "CXL Device DVSEC at 0x%x, Register Locator at 0x%x",
                    dev.dvsec_device, dev.dvsec_locator);
    }
    if (!(cfg_read(dev.dvsec_device + DVD_CAPABILITY, 2) &
          DVD_CAPABILITY_MEM)) {
        return fail(name, "the device is not Mem_Capable");
    }

    dev.block_bar = -1;
    dwords = (cfg_read(dev.dvsec_locator + 4, 4) >> 20) / 4;
    for (i = 3; i + 1 < dwords; i += 2) {
        uint32_t lo = cfg_read(dev.dvsec_locator + i * 4, 4);
        uint32_t hi = cfg_read(dev.dvsec_locator + i * 4 + 4, 4);

        if (((lo >> 8) & 0xff) == 1) {
            dev.block_bar = lo & 7;
            dev.block_offset = ((uint64_t)hi << 32) | (lo & 0xffff0000);
        }
    }
    if (dev.block_bar != VFIO_SIM_COMPONENT_BAR ||
        dev.block_offset + VFIO_SIM_BLOCK_SIZE > dev.bar0_size) {
        return fail(name, "component block: BAR %d + 0x%" PRIx64,
                    dev.block_bar, dev.block_offset);
    }
    ok(name, "device=0x%x locator=0x%x block=bar%d+0x%" PRIx64,
       dev.dvsec_device, dev.dvsec_locator, dev.block_bar, dev.block_offset);
    return true;
}

bool walk_component(const char *name)
{
    volatile uint8_t *cm = dev.bar0 + dev.block_offset + CM_OFFSET;
    uint32_t header = get32(cm);
    char list[128] = "";
    size_t len = 0;
    unsigned i;

    dev.hdm = NULL;
    if ((header & 0xffff) != CM_CAP_ARRAY) {
        return fail(name, "capability array header reads 0x%08x", header);
    }
    for (i = 1; i <= header >> 24 && i < 64; i++) {
        uint32_t entry = get32(cm + 4 * i);

        len += snprintf(list + len, len < sizeof(list) ? sizeof(list) - len : 0,
                        "%s%u@0x%x", i > 1 ? "," : "", entry & 0xffff,
                        entry >> 20);
        if (len >= sizeof(list)) {
            return fail(name, "%u capabilities", header >> 24);
        }
        if ((entry & 0xffff) == CM_CAP_HDM) {
            dev.hdm = cm + (entry >> 20);
        }
    }
    if (!dev.hdm) {
        return fail(name, "no HDM decoder capability among %s", list);
    }
    ok(name, "caps=%s", list);
    return true;
}

/* The rest of the component BAR is the device's own and comes untouched */
void check_bar_rest(const char *name)
{
    uint64_t offset, before = 0;

    for (offset = 0; offset < dev.bar0_size; offset += 0x1008) {
        uint64_t want = VFIO_SIM_BAR0_PATTERN(offset);

        if (offset + 8 > dev.block_offset &&
            offset < dev.block_offset + VFIO_SIM_BLOCK_SIZE) {
            continue;
        }
        if (get64(dev.bar0 + offset) != want) {
            /* An earlier run may have left its mark */
            fail(name, "0x%" PRIx64 " reads 0x%" PRIx64, offset,
                 get64(dev.bar0 + offset));
            return;
        }
        set64(dev.bar0 + offset, ~want);
        before = get64(dev.bar0 + offset);
        set64(dev.bar0 + offset, want);
        if (before != ~want) {
            fail(name, "0x%" PRIx64 " does not hold a value", offset);
            return;
        }
    }
    ok(name, "%s", "");
}
