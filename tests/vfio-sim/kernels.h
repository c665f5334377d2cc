/*
 * vfio-sim: the one list of the kernel generations
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_SIM_KERNELS_H
#define VFIO_SIM_KERNELS_H

/*
 * K(name, id) for each, where name is what --kernel= takes and sim_kernel_id
 * is its SimKernel. The first is the default.
 */
#define SIM_KERNELS(K) \
    K("v2-reset", v2_reset) \
    K("v2", v2) \
    K("v2-nommap", v2_nommap) \
    K("v3", v3) \
    K("v4", v4) \
    K("v5", v5) \
    K("v6", v6) \
    K("none", none)

#endif /* VFIO_SIM_KERNELS_H */
