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
#define IOMMU_HWPT_INVALIDATE       IOMMU_REQUEST(13)
#define IOMMU_IOAS_MAP_FILE         IOMMU_REQUEST(15)
#define IOMMU_VIOMMU_ALLOC          IOMMU_REQUEST(16)
#define IOMMU_VDEVICE_ALLOC         IOMMU_REQUEST(17)
#define IOMMU_IOAS_CHANGE_PROCESS   IOMMU_REQUEST(18)
#define IOMMU_VEVENTQ_ALLOC         IOMMU_REQUEST(19)

/* Flags of a mapping */
#define IOMMU_IOAS_MAP_FIXED_IOVA   (1u << 0)
#define IOMMU_IOAS_MAP_WRITEABLE    (1u << 1)
#define IOMMU_IOAS_MAP_READABLE     (1u << 2)

#define IOMMU_OPTION_RLIMIT_MODE    0
#define IOMMU_OPTION_HUGE_PAGES     1
#define IOMMU_OPTION_OP_SET         0
#define IOMMU_OPTION_OP_GET         1

#define IOMMU_HWPT_ALLOC_NEST_PARENT    (1u << 0)
#define IOMMU_HWPT_ALLOC_DIRTY_TRACKING (1u << 1)
#define IOMMU_HWPT_FAULT_ID_VALID       (1u << 2)
#define IOMMU_HWPT_ALLOC_PASID          (1u << 3)
#define IOMMU_HWPT_DATA_NONE        0
#define IOMMU_HWPT_DATA_ARM_SMMUV3  2

#define IOMMU_HW_INFO_FLAG_INPUT_TYPE   (1u << 0)
#define IOMMU_HW_INFO_TYPE_NONE     0
#define IOMMU_HW_INFO_TYPE_DEFAULT  0
#define IOMMU_HW_INFO_TYPE_ARM_SMMUV3   2
#define IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED  (1u << 3)

#define IOMMU_VIOMMU_TYPE_DEFAULT   0
#define IOMMU_VIOMMU_TYPE_ARM_SMMUV3    1
#define IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3 1
#define IOMMU_VEVENTQ_TYPE_DEFAULT  0
#define IOMMU_VEVENTQ_TYPE_ARM_SMMUV3   1
#define IOMMU_VEVENTQ_FLAG_LOST_EVENTS  (1u << 0)

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

struct iommu_hw_info_arm_smmuv3 {
    uint32_t flags;
    uint32_t __reserved;
    uint32_t idr[6];
    uint32_t iidr;
    uint32_t aidr;
};

struct iommu_hwpt_arm_smmuv3 {
    uint64_t ste[2];
};

struct iommu_viommu_arm_smmuv3_invalidate {
    uint64_t cmd[2];
};

struct iommu_hwpt_invalidate {
    uint32_t size;
    uint32_t hwpt_id;
    uint64_t data_uptr;
    uint32_t data_type;
    uint32_t entry_len;
    uint32_t entry_num;
    uint32_t __reserved;
};

struct iommu_viommu_alloc {
    uint32_t size;
    uint32_t flags;
    uint32_t type;
    uint32_t dev_id;
    uint32_t hwpt_id;
    uint32_t out_viommu_id;
    uint32_t data_len;
    uint32_t __reserved;
    uint64_t data_uptr;
};

struct iommu_vdevice_alloc {
    uint32_t size;
    uint32_t viommu_id;
    uint32_t dev_id;
    uint32_t out_vdevice_id;
    uint64_t virt_id;
};

struct iommu_veventq_alloc {
    uint32_t size;
    uint32_t flags;
    uint32_t viommu_id;
    uint32_t type;
    uint32_t veventq_depth;
    uint32_t out_veventq_id;
    uint32_t out_veventq_fd;
    uint32_t __reserved;
};

struct iommufd_vevent_header {
    uint32_t flags;
    uint32_t sequence;
};

struct iommu_vevent_arm_smmuv3 {
    uint64_t evt[4];
};

#endif /* VFIO_SIM_UAPI_IOMMUFD_H */
