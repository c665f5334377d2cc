/*
 * Capability chains in VFIO's replies
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "info-cap.h"

const struct vfio_info_cap_header *vfio_info_next_cap(const void *reply,
                                                      uint32_t size,
                                                      uint32_t *offset,
                                                      uint32_t *length)
{
    const struct vfio_info_cap_header *header = reply + *offset;
    uint32_t at = *offset;

    /* Old kernels align to 4 bytes only */
    if (!at || !QEMU_IS_ALIGNED(at, 4) || at > size ||
        sizeof(*header) > size - at ||
        (header->next && header->next < at + sizeof(*header))) {
        return NULL;
    }
    *offset = header->next;
    *length = (header->next ? MIN(header->next, size) : size) - at;
    return header;
}

const struct vfio_info_cap_header *vfio_info_find_cap(const void *reply,
                                                      uint32_t size,
                                                      uint32_t offset,
                                                      uint16_t id,
                                                      uint32_t *length)
{
    const struct vfio_info_cap_header *header;

    do {
        header = vfio_info_next_cap(reply, size, &offset, length);
    } while (header && header->id != id);
    return header;
}

bool vfio_info_sparse_fits(const struct vfio_region_info *info,
                           const struct vfio_region_info_cap_sparse_mmap
                           *sparse)
{
    uint32_t at = (const void *)sparse - (const void *)info;

    if (at > info->argsz || sizeof(*sparse) > info->argsz - at ||
        sparse->nr_areas > (info->argsz - at - sizeof(*sparse)) /
                           sizeof(sparse->areas[0])) {
        return false;
    }
    for (uint32_t i = 0; i < sparse->nr_areas; i++) {
        if (sparse->areas[i].offset > info->size ||
            sparse->areas[i].size > info->size - sparse->areas[i].offset) {
            return false;
        }
    }
    return true;
}
