/*
 * What a guest has mapped of devices' memory in its virtual IOMMU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_VFIO_GUEST_MAPS_H
#define HW_VFIO_GUEST_MAPS_H

#include "exec/hwaddr.h"

typedef struct VFIOContainer VFIOContainer;

/**
 * vfio_guest_maps_add() - A guest has mapped a RAM device's memory
 * @bcontainer: container or IOAS
 * @iova: I/O virtual address
 * @size: bytes
 * @gpa: guest physical address
 * @readonly: devices may not write
 * @mapped: the kernel has taken the mapping that the caller has made
 *
 * The mapping is removed when the memory leaves @gpa, and made again when
 * memory of a RAM device is there.
 */
void vfio_guest_maps_add(VFIOContainer *bcontainer, hwaddr iova, hwaddr size,
                         hwaddr gpa, bool readonly, bool mapped);

/**
 * vfio_guest_maps_remove() - A container or IOAS is about to unmap a range
 * @bcontainer: container or IOAS
 * @iova: I/O virtual address
 * @size: bytes
 * @all: everything
 *
 * The caller unmaps the range then. Mappings of which it has only a part are
 * undone here, as a whole.
 */
void vfio_guest_maps_remove(VFIOContainer *bcontainer, hwaddr iova,
                            hwaddr size, bool all);

/**
 * vfio_guest_maps_free() - Forget all mappings
 * @bcontainer: container or IOAS, which has unmapped everything
 */
void vfio_guest_maps_free(VFIOContainer *bcontainer);

#endif /* HW_VFIO_GUEST_MAPS_H */
