/*
 * CXL Type-2 devices behind vfio-pci: what the host supports
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_VFIO_CXL_HOST_H
#define HW_VFIO_CXL_HOST_H

#include "qapi/qapi-types-common.h"

/**
 * vfio_cxl_host_may_access() - May QEMU itself load from and store to memory?
 * @mode: property x-cxl-host-access
 * @cpus_are_qemu: QEMU is the guest's CPU too, as with TCG
 * @open: the memory may be touched now
 *
 * A load or store of the host that the device does not expect can stop the
 * host. With KVM nothing in QEMU has to touch the memory, so nothing does
 * unless the user asks for it.
 */
bool vfio_cxl_host_may_access(OnOffAuto mode, bool cpus_are_qemu, bool open);

/**
 * vfio_cxl_host_can_map() - Can KVM, which is in use, give memory to a guest?
 * @is_arm: KVM on Arm
 * @errp: what is missing
 *
 * The memory is cacheable and has no struct page. KVM on Arm needs to know
 * how to map such memory; one that does not fails when a guest touches it.
 */
bool vfio_cxl_host_can_map(bool is_arm, Error **errp);

/**
 * vfio_cxl_host_can_keep_off() - Can QEMU itself be kept off the memory?
 * @emulates_xen: QEMU plays Xen for the guest, on top of KVM
 * @errp: what prevents it
 *
 * A guest tells Xen by address where to put its pages of information and what
 * to grant; QEMU accesses these without asking the region.
 */
bool vfio_cxl_host_can_keep_off(bool emulates_xen, Error **errp);

#endif /* HW_VFIO_CXL_HOST_H */
