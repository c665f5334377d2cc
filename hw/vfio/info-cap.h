/*
 * Capability chains in VFIO's replies
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_VFIO_INFO_CAP_H
#define HW_VFIO_INFO_CAP_H

#include <linux/vfio.h>

/* Give up on a reply that still grows after so many calls */
#define VFIO_INFO_MAX_TRIES 8
/* Size limit in bytes, well above any known reply, since it is allocated */
#define VFIO_INFO_MAX_SIZE (1024 * 1024)

/**
 * vfio_info_next_cap() - Walk the capabilities of a reply
 * @reply: the reply of VFIO_DEVICE_GET_INFO and the like
 * @size: its length in bytes
 * @offset: where the capability is; updated to the next one
 * @length: its length in bytes: up to the next one or to the end
 *
 * Returns: the capability; NULL at the end of the chain, or if the chain goes
 * backwards, overlaps, or leaves the reply
 */
const struct vfio_info_cap_header *vfio_info_next_cap(const void *reply,
                                                      uint32_t size,
                                                      uint32_t *offset,
                                                      uint32_t *length);

/**
 * vfio_info_find_cap() - Find a capability of a reply
 * @reply: the reply
 * @size: its length in bytes
 * @offset: where the chain begins
 * @id: the capability
 * @length: its length in bytes, if found
 *
 * Returns: NULL if there is none
 */
const struct vfio_info_cap_header *vfio_info_find_cap(const void *reply,
                                                      uint32_t size,
                                                      uint32_t offset,
                                                      uint16_t id,
                                                      uint32_t *length);

/**
 * vfio_info_sparse_fits() - Check the bounds of mappable areas
 * @info: the reply of VFIO_DEVICE_GET_REGION_INFO
 * @sparse: its VFIO_REGION_INFO_CAP_SPARSE_MMAP
 *
 * The areas must be inside reply and region. Areas of size 0 are allowed, and
 * ignored by vfio_region_setup().
 */
bool vfio_info_sparse_fits(const struct vfio_region_info *info,
                           const struct vfio_region_info_cap_sparse_mmap
                           *sparse);

#endif /* HW_VFIO_INFO_CAP_H */
