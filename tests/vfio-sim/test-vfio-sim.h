/*
 * Test of vfio-sim: shared declarations
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_SIM_TEST_VFIO_SIM_H
#define VFIO_SIM_TEST_VFIO_SIM_H

#include <stddef.h>

#include "test-util.h"
#include "uapi.h"
#include "vfio-sim-regs.h"

#define HOST0       "0000:c1:00.0"
#define HOST1       "0000:c2:00.0"
#define SYS         "/sys/bus/pci/devices/" HOST0
#define PAGE        0x1000ull
#define MEM         (256ull << 20)
#define REGION(n)   ((uint64_t)(n) << 40)
#define MEM_REGION  9
#define COMP_REGION 10
#define HDM         VFIO_SIM_CM_HDM
#define LOCK        (1u << 8)
#define COMMIT      (1u << 9)
#define COMMITTED   (1u << 10)
#define DVSEC       0x150   /* found by walking in test_config() */
#define DEVCTL      0x68

typedef struct Dev {
    bool iommufd;
    int iommu;      /* container or iommufd */
    int group;
    int fd;
    uint32_t ioas;
    uint32_t id;
} Dev;

typedef struct Case {
    const char *path;
    void (*fn)(void);
    const char *arg;
    const char *options[3];
    unsigned runs;
} Case;

/* Cases of each part; the last has no path */
extern const Case open_cases[], memory_cases[], interrupt_cases[],
                  register_cases[], process_cases[], control_cases[];

/* These start vfio-sim themselves */
void test_launcher(void);
void test_cleanup(void);

extern const char *self;        /* this program */
extern const char *case_arg;    /* of the running case */

/* Actions of this program when it is started again by run_child() */
int child_open(int what);
int child_cdev(int fd);
int child_device(int fd);
int child_daemon(int unused);
/* Runs it with descriptors inherited; returns its status */
int run_child(const char *name, int arg);

/* The path of vfio-sim, to be freed */
char *launcher(void);
void remove_tree(const char *dir);
/* Runs a program to its end; returns its wait status and its output */
int spawn(char **argv, char **err);

/* Both ways to a device */
void open_legacy_n(Dev *d, unsigned n, const Dev *share);
void open_iommufd(Dev *d);
void open_dev(Dev *d, bool iommufd);
void close_dev(Dev *d);
int bind_fd(int fd, int iommufd, uint32_t *id);
int attach_fd(int fd, uint32_t pt);
uint32_t new_ioas(int iommufd);
int dma_map(const Dev *d, uint64_t iova, void *va, uint64_t size, bool read,
            bool write);
int dma_unmap(const Dev *d, uint64_t iova, uint64_t size, uint64_t *done);

/* Registers, and what else is in a region */
uint32_t rd(int fd, unsigned region, uint64_t off, size_t size);
void wr(int fd, unsigned region, uint64_t off, uint32_t v, size_t size);
uint64_t reg_r64(int fd, uint64_t off);
void reg_w64(int fd, uint64_t off, uint64_t v);
uint32_t dma(int fd, uint64_t src, uint64_t dst, uint32_t len,
             uint32_t flags);
void *map_region(int fd, unsigned region, uint64_t off, size_t len);
void *anon(size_t len);

#define cfg_r(fd, off, size)    rd(fd, VFIO_PCI_CONFIG_REGION_INDEX, off, size)
#define cfg_w(fd, off, v, size) \
    wr(fd, VFIO_PCI_CONFIG_REGION_INDEX, off, v, size)
#define reg_r(fd, off)          rd(fd, VFIO_SIM_REG_BAR, off, 4)
#define reg_w(fd, off, v)       wr(fd, VFIO_SIM_REG_BAR, off, v, 4)
#define comp_r(fd, off)         rd(fd, COMP_REGION, off, 4)
#define comp_w(fd, off, v)      wr(fd, COMP_REGION, off, v, 4)

#endif /* VFIO_SIM_TEST_VFIO_SIM_H */
