/*
 * CXL Type-2 devices behind vfio-pci: what the host supports
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_VFIO_CXL_HOST_H
#define HW_VFIO_CXL_HOST_H

#include "qapi/qapi-types-common.h"

/**
 * vfio_cxl_host_may_access() - Check whether QEMU may access device memory
 * @mode: property x-cxl-host-access
 * @cpus_are_qemu: QEMU also executes the guest's code, as with TCG
 * @open: the memory is accessible now
 *
 * A load or store by the host that the device does not expect can bring the
 * host down. With KVM, QEMU does not need to access the memory, so it does not
 * unless the user asks for it.
 */
bool vfio_cxl_host_may_access(OnOffAuto mode, bool cpus_are_qemu, bool open);

/**
 * vfio_cxl_host_can_map() - Check whether KVM can map device memory
 * @is_arm: KVM on Arm
 * @errp: set to what is missing
 *
 * The memory is cacheable and has no struct page. KVM on Arm needs support for
 * mapping such memory; without it, the first access by a guest fails.
 */
bool vfio_cxl_host_can_map(bool is_arm, Error **errp);

/**
 * vfio_cxl_host_can_keep_off() - Check that accesses by QEMU can be prevented
 * @emulates_xen: QEMU emulates Xen for the guest, on top of KVM
 * @errp: set to what makes that impossible
 *
 * A guest passes Xen the addresses of its info pages and of granted pages; QEMU
 * accesses these without asking the region.
 */
bool vfio_cxl_host_can_keep_off(bool emulates_xen, Error **errp);

#endif /* HW_VFIO_CXL_HOST_H */
