/*
 * The part of the kernel's user interface that vfio-sim implements
 *
 * The behaviour of vfio-sim must not depend on the headers of the machine where
 * it is built. So definitions that these may lack, or have in an older form,
 * are here: structs that have grown since Linux 6.1 by names of their own, and
 * iommufd in uapi-iommufd.h. No released kernel has the parts for CXL yet.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_SIM_UAPI_H
#define VFIO_SIM_UAPI_H

#include <stdint.h>
#include <linux/vfio.h>
#include <linux/kvm.h>

#include "uapi-iommufd.h"

#ifndef VFIO_DEVICE_FLAGS_CXL
#define VFIO_DEVICE_FLAGS_CXL               (1 << 9)
#endif
#ifndef VFIO_DEVICE_INFO_CAP_CXL
#define VFIO_DEVICE_INFO_CAP_CXL            6
#endif

/* Linux 6.6 */
#ifndef VFIO_DEVICE_BIND_IOMMUFD
#define VFIO_DEVICE_BIND_IOMMUFD            _IO(VFIO_TYPE, VFIO_BASE + 18)
#define VFIO_DEVICE_ATTACH_IOMMUFD_PT       _IO(VFIO_TYPE, VFIO_BASE + 19)
#define VFIO_DEVICE_DETACH_IOMMUFD_PT       _IO(VFIO_TYPE, VFIO_BASE + 20)
#endif
#ifndef VFIO_PCI_HOT_RESET_FLAG_DEV_ID
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID      (1 << 0)
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED (1 << 1)
#endif

/* Linux 6.15 */
#ifndef VFIO_DEVICE_ATTACH_PASID
#define VFIO_DEVICE_ATTACH_PASID            (1 << 0)
#define VFIO_DEVICE_DETACH_PASID            (1 << 0)
#endif

/* Later */
#ifndef VFIO_DEVICE_BIND_FLAG_TOKEN
#define VFIO_DEVICE_BIND_FLAG_TOKEN         (1 << 0)
#endif
#ifndef VFIO_DEVICE_FEATURE_DMA_BUF
#define VFIO_DEVICE_FEATURE_DMA_BUF         11
#endif

/* struct vfio_device_info with what Linux 6.6 has appended */
typedef struct SimDeviceInfo {
    uint32_t argsz;
    uint32_t flags;
    uint32_t num_regions;
    uint32_t num_irqs;
    uint32_t cap_offset;
    uint32_t pad;
} SimDeviceInfo;

/* struct vfio_device_bind_iommufd */
typedef struct SimBindIommufd {
    uint32_t argsz;
    uint32_t flags;
    int32_t iommufd;
    uint32_t out_devid;
    uint64_t token_uuid_ptr;
} SimBindIommufd;

/* struct vfio_device_attach_iommufd_pt */
typedef struct SimAttach {
    uint32_t argsz;
    uint32_t flags;
    uint32_t pt_id;
    uint32_t pasid;
} SimAttach;

/* struct vfio_device_detach_iommufd_pt */
typedef struct SimDetach {
    uint32_t argsz;
    uint32_t flags;
    uint32_t pasid;
} SimDetach;

#define SIM_VENDOR_CXL                      0x1e98
#define SIM_REGION_TYPE_CXL \
    (VFIO_REGION_TYPE_PCI_VENDOR_TYPE | SIM_VENDOR_CXL)
#define SIM_REGION_TYPE_V4                  4
#define SIM_REGION_SUBTYPE_CXL_MEM          1
#define SIM_REGION_SUBTYPE_CXL_COMP_REGS    2

/* The device capability of generation v2 */
typedef struct SimCapCxlV2 {
    struct vfio_info_cap_header header;
    uint8_t hdm_regs_bar_index;
    uint8_t reserved[3];
    uint32_t flags;
    uint64_t hdm_regs_offset;
    uint32_t dpa_region_index;
    uint32_t comp_regs_region_index;
} SimCapCxlV2;

#define SIM_CXL_CAP_FIRMWARE_COMMITTED      (1u << 0)
#define SIM_CXL_CAP_CACHE_CAPABLE           (1u << 1)

#endif /* VFIO_SIM_UAPI_H */
