/*
 * The kernel's interface for CXL Type-2 devices behind vfio-pci
 *
 * No released Linux has it yet, so the imported linux-headers cannot have it
 * either. This file goes away as soon as they do.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef HW_VFIO_CXL_LINUX_H
#define HW_VFIO_CXL_LINUX_H

#include <linux/vfio.h>

/* A flag of struct vfio_device_info; VFIO_DEVICE_FLAGS_PCI is set, too */
#define VFIO_DEVICE_FLAGS_CXL                   (1 << 9)

/*
 * A capability of the device info that some generations have, in different
 * forms that all say version 1
 */
#define VFIO_DEVICE_INFO_CAP_CXL                6

/*
 * Sub-types of the regions with device memory and with component registers, of
 * the vendor type of 1e98 (CXL)
 */
#define VFIO_REGION_SUBTYPE_CXL_MEM             1
#define VFIO_REGION_SUBTYPE_CXL_COMP_REGS       2

/*
 * On the region with the component registers, if the kernel provides no device
 * capability: the location of the HDM decoder registers in a BAR.
 */
#define VFIO_REGION_INFO_CAP_CXL_COMP_REGS      6

struct vfio_region_info_cap_cxl_comp_regs {
    struct vfio_info_cap_header header;
    uint32_t bar;
    uint32_t reserved;
    uint64_t offset;            /* from the start of the BAR */
};

#endif /* HW_VFIO_CXL_LINUX_H */
