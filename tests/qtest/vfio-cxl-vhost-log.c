/*
 * A stand-in for the kernel's vhost that only logs the memory it is given
 *
 * To be preloaded into QEMU. Each file that QEMU uses as a vhost device
 * (vhostfd=) gets a line for each region of the memory table: guest address,
 * size, QEMU's address. It does nothing else, so a guest's queues stand still.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <dlfcn.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <sys/ioctl.h>

static void write_table(int fd, const struct vhost_memory *table)
{
    char line[80];
    int length;

    if (ftruncate(fd, 0) < 0) {
        return;
    }
    lseek(fd, 0, SEEK_SET);
    for (unsigned i = 0; i < table->nregions; i++) {
        const struct vhost_memory_region *region = &table->regions[i];

        length = snprintf(line, sizeof(line), "0x%" PRIx64 " 0x%" PRIx64
                          " 0x%" PRIx64 "\n",
                          (uint64_t)region->guest_phys_addr,
                          (uint64_t)region->memory_size,
                          (uint64_t)region->userspace_addr);
        if (write(fd, line, length) != length) {
            return;
        }
    }
    /* The last line, so that a reader knows that the table is whole */
    if (write(fd, "end\n", 4) != 4) {
        return;
    }
}

__attribute__((visibility("default")))
int ioctl(int fd, unsigned long request, ...)
{
    static int (*next)(int fd, unsigned long request, ...);
    va_list words;
    void *arg;

    va_start(words, request);
    arg = va_arg(words, void *);
    va_end(words);
    switch (request) {
    case VHOST_GET_FEATURES:
        *(uint64_t *)arg = 1ull << VIRTIO_F_VERSION_1;
        return 0;
    case VHOST_SET_MEM_TABLE:
        write_table(fd, arg);
        return 0;
    }
    if (_IOC_TYPE(request) == VHOST_VIRTIO) {
        return 0;
    }
    if (!next) {
        *(void **)&next = dlsym(RTLD_NEXT, "ioctl");
    }
    return next(fd, request, arg);
}
