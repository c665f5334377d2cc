/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What /dev/cxl-accel-ADDRESS can do besides read(), poll() and mmap()
 */
#ifndef CXL_ACCEL_H
#define CXL_ACCEL_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct accel_dma - memory that the device is to reach
 * @phys: where it is: RAM, or memory of any device's
 * @size: in bytes
 * @iova: the address that the device has for it, set by ACCEL_DMA_MAP
 */
struct accel_dma {
	__u64 phys;
	__u64 size;
	__u64 iova;
};

#define ACCEL_DMA_MAP	_IOWR('A', 0, struct accel_dma)
#define ACCEL_DMA_UNMAP	_IOW('A', 1, struct accel_dma)

#endif /* CXL_ACCEL_H */
