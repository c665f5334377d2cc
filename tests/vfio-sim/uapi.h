/*
 * The kernel's user interface that vfio-sim answers
 *
 * What no released kernel header defines yet stands here, each guarded so
 * that the tree's own header may define it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_SIM_UAPI_H
#define VFIO_SIM_UAPI_H

#include <stdint.h>
#include <linux/vfio.h>
#include <linux/iommufd.h>
#include <linux/kvm.h>

#ifndef VFIO_DEVICE_FLAGS_CXL
#define VFIO_DEVICE_FLAGS_CXL               (1 << 9)
#endif
#ifndef VFIO_DEVICE_INFO_CAP_CXL
#define VFIO_DEVICE_INFO_CAP_CXL            6
#endif

#ifndef VFIO_DEVICE_FEATURE_DMA_BUF
#define VFIO_DEVICE_FEATURE_DMA_BUF         11
#endif

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
