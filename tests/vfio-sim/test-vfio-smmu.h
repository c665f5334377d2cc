/*
 * Test of the kernel's interface to an SMMUv3: what its parts share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_SIM_TEST_VFIO_SMMU_H
#define VFIO_SIM_TEST_VFIO_SMMU_H

#include <stddef.h>
#include <sys/types.h>

#include "test-util.h"
#include "uapi.h"
#include "vfio-sim-regs.h"

#define HOST0       "0000:c1:00.0"
#define HOST1       "0000:c2:00.0"

/* The virtual machine's memory */
#define RAM         0x40000000ull
#define RAM_SIZE    (96ull << 20)
#define SID         0x123u

/* Words of an STE */
#define STE_V       1ull
#define STE_ABORT   0ull
#define STE_BYPASS  (4ull << 1)
#define STE_S1      (5ull << 1)
#define STE_FMT(n)  ((uint64_t)(n) << 4)
#define STE_CDMAX(n) ((uint64_t)(n) << 59)
#define STE_EATS    (1ull << 28)
enum { LINEAR = 0, L2_4K = 1, L2_64K = 2 };
enum { DSS_TERMINATE = 0, DSS_BYPASS = 1, DSS_SSID0 = 2 };

/* Words of a CD */
#define CD_V        (1ull << 31)
#define CD_AA64     (1ull << 41)
#define CD_R        (1ull << 45)
#define CD_EPD1     (1ull << 30)
#define CD_ASID     48

/* Descriptors of a translation table */
#define PTE_VALID   1ull
#define PTE_PAGE    3ull
#define PTE_USER    (1ull << 6)
#define PTE_RO      (1ull << 7)
#define PTE_AF      (1ull << 10)
#define PTE_NG      (1ull << 11)
#define PTE_RW      (PTE_USER | PTE_AF | PTE_NG)

/* Commands */
#define CFGI_CD(ssid)   (0x05ull | (uint64_t)(ssid) << 12 | (uint64_t)SID << 32)
#define CFGI_CD_ALL     (0x06ull | (uint64_t)SID << 32)
#define TLBI_ALL        0x10ull
#define TLBI_ASID(a)    (0x11ull | (uint64_t)(a) << 48)
#define TLBI_VA(a)      (0x12ull | (uint64_t)(a) << 48)
#define TLBI_VAA        0x13ull
#define TLBI_NSNH       0x30ull
#define ATC_INV         (0x40ull | (uint64_t)SID << 32)

enum {
    C_BAD_STE = 4, F_STREAM_DISABLED = 6, C_BAD_SUBSTREAMID = 8,
    C_BAD_CD = 0xa, F_TRANSLATION = 0x10, F_ADDR_SIZE = 0x11, F_ACCESS = 0x12,
    F_PERMISSION = 0x13,
};

typedef struct Dev {
    int iommufd;
    int fd;
    uint32_t id;
    uint32_t ioas;
    uint32_t parent;
    uint32_t viommu;
    uint32_t vdevice;
    uint32_t hwpt;          /* attached last by attach_ste() */
} Dev;

/* A translation table: @granule and @va_bits are powers of two */
typedef struct Table {
    unsigned granule;
    unsigned va_bits;
    uint64_t root;
} Table;

typedef struct Event {
    struct iommufd_vevent_header header;
    uint64_t evt[4];
} Event;

typedef struct Case {
    const char *name;
    void (*fn)(void);
    const char *iommu;      /* option of vfio-sim; NULL: smmuv3, "": none */
    const char *options;    /* more of them */
    bool control;           /* needs vfio-sim's help */
} Case;

/* The last has no name */
extern const Case object_cases[], walk_cases[], cache_cases[], event_cases[];

extern uint8_t *ram;
extern const char *hosts[2];

/* Objects; those that can fail return what the ioctl returns */
void open_device(Dev *d, unsigned n, int iommufd);
uint32_t new_ioas(int iommufd);
int alloc_hwpt(const Dev *d, uint32_t flags, uint32_t pt, uint32_t type,
               const void *data, uint32_t len, uint32_t *id);
int alloc_nested(const Dev *d, uint64_t ste0, uint64_t ste1, uint32_t *id);
int alloc_viommu(const Dev *d, uint32_t parent, uint32_t type, uint32_t *id);
int alloc_vdevice(const Dev *d, uint32_t viommu, uint64_t sid, uint32_t *id);
int alloc_veventq(const Dev *d, uint32_t type, uint32_t depth, uint32_t *id,
                  int *fd);
int destroy(const Dev *d, uint32_t id);
int attach(const Dev *d, uint32_t pt);
int detach(const Dev *d);
int attach_pasid(const Dev *d, uint32_t pasid, uint32_t pt);
int map_ram(const Dev *d, uint64_t iova, void *va, uint64_t size);
int unmap_ram(const Dev *d, uint64_t iova, uint64_t size);
int commands(const Dev *d, const uint64_t (*cmds)[2], uint32_t *num);
/* One that has to succeed */
void command(const Dev *d, uint64_t cmd0, uint64_t cmd1);

/* A device with its memory in a nesting parent, and a vIOMMU */
void open_nested(Dev *d);
void attach_ste(Dev *d, uint64_t ste0, uint64_t ste1);

/* The virtual machine's memory: pages that are zero, and what is in them */
uint64_t new_pages(uint64_t size, uint64_t align);
void *at(uint64_t ipa);

/* Translation tables */
Table new_table(unsigned granule, unsigned va_bits);
/* @bits: log2 of the size of the page or block */
uint64_t *map_page(Table *t, uint64_t iova, uint64_t ipa, unsigned bits,
                   uint64_t attr);
/* @table1 may be NULL */
void write_cd(uint64_t *cd, unsigned asid, const Table *table0,
              const Table *table1);
/* A CD and a table of 4 KiB pages, attached */
typedef struct Space {
    Dev d;
    Table table;
    uint64_t *cd;
    uint64_t cd_ipa;
    uint64_t page[2];       /* that hold 0x11111111 and 0x22222222 */
} Space;
void open_space(Space *s, uint64_t ste1);
void close_dev(Dev *d);

/* The engine: what is at @iova, or the status if it cannot be read */
#define FAULT   0xffffffff00000002ull
#define NO_PASID 0xffffffff00000004ull
uint64_t dma_read(const Dev *d, uint64_t iova, uint32_t flags);
uint32_t dma_write(const Dev *d, uint64_t iova, uint32_t value,
                   uint32_t flags);
void use_pasid(const Dev *d, uint32_t pasid);
void no_pasid(const Dev *d);
uint32_t reg(const Dev *d, unsigned off);
uint32_t cfg(const Dev *d, unsigned off, unsigned size);
void set_cfg(const Dev *d, unsigned off, uint32_t value, unsigned size);

#endif /* VFIO_SIM_TEST_VFIO_SMMU_H */
