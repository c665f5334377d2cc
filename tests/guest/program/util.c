/*
 * Text files, configuration space, registers, mappings
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "cxl-guest.h"

double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

bool read_text(const char *path, char *buf, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got;

    if (fd < 0) {
        return false;
    }
    got = read(fd, buf, size - 1);
    close(fd);
    if (got < 0) {
        return false;
    }
    while (got && (buf[got - 1] == '\n' || buf[got - 1] == ' ')) {
        got--;
    }
    buf[got] = '\0';
    return true;
}

bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool done;

    if (fd < 0) {
        return false;
    }
    done = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return done;
}

const char *in_dir(const char *name)
{
    static char path[PATH_MAX + 64];

    snprintf(path, sizeof(path), "%s/%s", dev.dir, name);
    return path;
}

uint64_t hex_file(const char *path)
{
    char text[64];

    return read_text(path, text, sizeof(text)) ? strtoull(text, NULL, 0) : 0;
}

uint32_t cfg_read(int offset, int bytes)
{
    uint32_t val = 0;

    if (pread(dev.config, &val, bytes, offset) != bytes) {
        return ~0u;
    }
    return val;
}

void cfg_write(int offset, uint32_t val, int bytes)
{
    if (pwrite(dev.config, &val, bytes, offset) != bytes) {
        fail("config-write", "at 0x%x: %s", offset, strerror(errno));
    }
}

/* Offset of a capability in configuration space, or 0 */
int find_capability(uint32_t id)
{
    int offset = cfg_read(CFG_CAPS, 1) & 0xfc;
    int steps = 0;

    while (offset && steps++ < 48 && cfg_read(offset, 1) != id) {
        offset = cfg_read(offset + 1, 1) & 0xfc;
    }
    return steps > 48 ? 0 : offset;
}

void *map_file(const char *path, uint64_t offset, uint64_t size)
{
    int fd = open(path, O_RDWR | O_SYNC | O_CLOEXEC);
    void *p;

    if (fd < 0) {
        return NULL;
    }
    p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
    close(fd);
    return p == MAP_FAILED ? NULL : p;
}
