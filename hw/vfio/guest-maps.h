/*
 * Device memory that a guest has mapped in its virtual IOMMU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_VFIO_GUEST_MAPS_H
#define HW_VFIO_GUEST_MAPS_H

#include "exec/hwaddr.h"

typedef struct VFIOContainer VFIOContainer;

/**
 * vfio_guest_maps_add() - Record a guest's mapping of a RAM device, or of what
 * may become one
 * @bcontainer: container or IOAS
 * @iova: I/O virtual address
 * @size: bytes
 * @gpa: guest physical address
 * @readonly: devices may not write
 * @mapped: the kernel has accepted the mapping that the caller has made
 *
 * The mapping is removed when the memory leaves @gpa, and made again when
 * memory of a RAM device is there. If the kernel has refused it because an
 * earlier one is still there, that one's record stays. Of mappings that the
 * kernel does not have, only so many are recorded, and none on sPAPR, which
 * replaces mappings without removing them.
 */
void vfio_guest_maps_add(VFIOContainer *bcontainer, hwaddr iova, hwaddr size,
                         hwaddr gpa, bool readonly, bool mapped);

/**
 * vfio_guest_maps_remove() - Forget the mappings in a range to unmap
 * @bcontainer: container or IOAS
 * @iova: I/O virtual address
 * @size: bytes
 * @all: everything
 *
 * The caller unmaps the range afterwards. Mappings that are only partly in the
 * range are removed here as a whole.
 */
void vfio_guest_maps_remove(VFIOContainer *bcontainer, hwaddr iova,
                            hwaddr size, bool all);

/**
 * vfio_guest_maps_free() - Forget all mappings
 * @bcontainer: container or IOAS, which has unmapped everything
 */
void vfio_guest_maps_free(VFIOContainer *bcontainer);

#endif /* HW_VFIO_GUEST_MAPS_H */
