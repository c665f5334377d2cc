/*
 * vCPUs that read and write one address each forever
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_CXL_VCPU_H
#define VFIO_CXL_VCPU_H

#include "vfio-cxl-helpers.h"

/* Data shared by a vCPU and the test, 8 bytes each */
enum {
    VCPU_ADDRESS,
    VCPU_LOOPS,
    VCPU_READ,          /* the value at the address */
    VCPU_ABORTS,        /* external aborts, on arm only */
    VCPU_FACTOR,        /* loops times this is written 8 bytes behind it */
};

/* A host with KVM can be tried as well, by VFIO_CXL_TEST_ACCEL=kvm */
const char *vcpu_accel(void);

/**
 * vcpu_options() - Options of QEMU for a machine with such vCPUs
 * @sim: in its directory is the firmware
 * @count: vCPUs; on arm only one
 *
 * Returns: the options, to be freed. They need the address to be set.
 */
char *vcpu_options(VFIOSim *sim, unsigned count);

/*
 * Give a vCPU an address below 8 GiB, or 0: then it waits. On arm the factor is
 * always 1.
 */
void vcpu_set_target(QTestState *qts, unsigned vcpu, uint64_t target,
                     uint64_t factor);

uint64_t vcpu_shared(QTestState *qts, unsigned vcpu, unsigned n);

#endif /* VFIO_CXL_VCPU_H */
