/*
 * The part of /dev/iommu that vfio-sim implements
 *
 * In place of <linux/iommufd.h>, which Linux 6.1 lacks and whose structs have
 * grown since. Every struct begins with its size.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_SIM_UAPI_IOMMUFD_H
#define VFIO_SIM_UAPI_IOMMUFD_H

#include <stdint.h>
#include <linux/ioctl.h>

#define IOMMU_REQUEST(n)            _IO(';', 0x80 + (n))

#define IOMMU_DESTROY               IOMMU_REQUEST(0)
#define IOMMU_IOAS_ALLOC            IOMMU_REQUEST(1)
#define IOMMU_IOAS_ALLOW_IOVAS      IOMMU_REQUEST(2)
#define IOMMU_IOAS_COPY             IOMMU_REQUEST(3)
#define IOMMU_IOAS_IOVA_RANGES      IOMMU_REQUEST(4)
#define IOMMU_IOAS_MAP              IOMMU_REQUEST(5)
#define IOMMU_IOAS_UNMAP            IOMMU_REQUEST(6)
#define IOMMU_OPTION                IOMMU_REQUEST(7)
#define IOMMU_HWPT_ALLOC            IOMMU_REQUEST(9)
#define IOMMU_GET_HW_INFO           IOMMU_REQUEST(10)
#define IOMMU_IOAS_MAP_FILE         IOMMU_REQUEST(15)
#define IOMMU_IOAS_CHANGE_PROCESS   IOMMU_REQUEST(18)

/* Flags of a mapping */
#define IOMMU_IOAS_MAP_FIXED_IOVA   (1u << 0)
#define IOMMU_IOAS_MAP_WRITEABLE    (1u << 1)
#define IOMMU_IOAS_MAP_READABLE     (1u << 2)

#define IOMMU_OPTION_RLIMIT_MODE    0
#define IOMMU_OPTION_HUGE_PAGES     1
#define IOMMU_OPTION_OP_SET         0
#define IOMMU_OPTION_OP_GET         1

#define IOMMU_HWPT_ALLOC_NEST_PARENT (1u << 0)
#define IOMMU_HWPT_DATA_NONE        0
#define IOMMU_HW_INFO_TYPE_NONE     0

struct iommu_destroy {
    uint32_t size;
    uint32_t id;
};

struct iommu_ioas_alloc {
    uint32_t size;
    uint32_t flags;
    uint32_t out_ioas_id;
};

struct iommu_iova_range {
    uint64_t start;
    uint64_t last;
};

struct iommu_ioas_iova_ranges {
    uint32_t size;
    uint32_t ioas_id;
    uint32_t num_iovas;
    uint32_t __reserved;
    uint64_t allowed_iovas;
    uint64_t out_iova_alignment;
};

struct iommu_ioas_map {
    uint32_t size;
    uint32_t flags;
    uint32_t ioas_id;
    uint32_t __reserved;
    uint64_t user_va;
    uint64_t length;
    uint64_t iova;
};

struct iommu_ioas_map_file {
    uint32_t size;
    uint32_t flags;
    uint32_t ioas_id;
    int32_t fd;
    uint64_t start;
    uint64_t length;
    uint64_t iova;
};

struct iommu_ioas_copy {
    uint32_t size;
    uint32_t flags;
    uint32_t dst_ioas_id;
    uint32_t src_ioas_id;
    uint64_t length;
    uint64_t dst_iova;
    uint64_t src_iova;
};

struct iommu_ioas_unmap {
    uint32_t size;
    uint32_t ioas_id;
    uint64_t iova;
    uint64_t length;
};

struct iommu_ioas_change_process {
    uint32_t size;
    uint32_t __reserved;
};

struct iommu_option {
    uint32_t size;
    uint32_t option_id;
    uint16_t op;
    uint16_t __reserved;
    uint32_t object_id;
    uint64_t val64;
};

struct iommu_hwpt_alloc {
    uint32_t size;
    uint32_t flags;
    uint32_t dev_id;
    uint32_t pt_id;
    uint32_t out_hwpt_id;
    uint32_t __reserved;
    uint32_t data_type;
    uint32_t data_len;
    uint64_t data_uptr;
    uint32_t fault_id;
    uint32_t __reserved2;
};

struct iommu_hw_info {
    uint32_t size;
    uint32_t flags;
    uint32_t dev_id;
    uint32_t data_len;
    uint64_t data_uptr;
    uint32_t out_data_type;
    uint8_t out_max_pasid_log2;
    uint8_t __reserved[3];
    uint64_t out_capabilities;
};

#endif /* VFIO_SIM_UAPI_IOMMUFD_H */
