/*
 * vfio-sim: a stand-in for the kernel's VFIO user interface
 *
 * Shared by the parts of the preloaded library. A function that acts for the
 * kernel returns a value >= 0 or a negative errno, like the kernel's own.
 *
 * Locks: sim_lock() guards everything that belongs to this process (file
 * descriptors, mappings, interrupts). A device's state is shared by all
 * processes that use the state directory; sim_device_lock() guards it and is
 * taken inside sim_lock().
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_SIM_H
#define VFIO_SIM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "uapi.h"
#include "vfio-sim-regs.h"
#include "config.h"
#include "mangle.h"

#define SIM_PAGE            0x1000ull
#define SIM_REGION_SHIFT    40
#define SIM_CONFIG_SIZE     4096
#define SIM_MEM_REGION      9       /* in the order of generation v2 */
#define SIM_COMP_REGION     10
#define SIM_NUM_REGIONS     11
#define SIM_NO_REGION       (~0u)

#define SIM_CM_OFFSET       0x1000  /* of the CM area in the block */
#define SIM_CM_SIZE         0x1000

#define SIM_CXL_DVSEC_LEN   0x3c

#define SIM_MAX_FAULTS      32
#define SIM_MAX_WRITES      1024

#define SIM_ROUND_UP(n, d)  (((n) + (d) - 1) / (d) * (d))

typedef enum SimKind {
    SIM_FD_NONE,
    SIM_FD_CONTAINER,
    SIM_FD_GROUP,
    SIM_FD_DEVICE,      /* from VFIO_GROUP_GET_DEVICE_FD */
    SIM_FD_CDEV,
    SIM_FD_IOMMUFD,
    SIM_FD_KVM,
    SIM_FD_DMABUF,
    SIM_FD_VEVENTQ,
} SimKind;

typedef enum SimStat {
    SIM_STAT_OPENS,
    SIM_STAT_RESETS,
    SIM_STAT_FLR,
    SIM_STAT_HOT_RESETS,
    SIM_STAT_CXL_RESETS,
    SIM_STAT_IRQS,
    SIM_STAT_IRQS_LOST,
    SIM_STAT_UNMASKS,
    SIM_STAT_DMA,
    SIM_STAT_DMA_FAULTS,
    SIM_STAT_COMP_READS,
    SIM_STAT_COMP_WRITES,
    SIM_STAT_CONFIG_READS,
    SIM_STAT_CONFIG_WRITES,
    SIM_STAT_BAR_READS,
    SIM_STAT_BAR_WRITES,
    SIM_STAT_BLOCK_READS,
    SIM_STAT_BLOCK_WRITES,
    SIM_STAT_MEMORY_READS,
    SIM_STAT_MEMORY_WRITES,
    SIM_STAT_MMAPS,
    SIM_STAT_FAULTS,
    SIM_STAT_STALE_MAPS,
    SIM_STAT_MEMORY_MAPS,
    SIM_STAT_PAGE_FAULTS,
    SIM_STAT_TLB_HITS,
    SIM_STAT__SMMU = SIM_STAT_TLB_HITS,     /* from here on: of an SMMU */
    SIM_STAT_TLB_MISSES,
    SIM_STAT_CD_HITS,
    SIM_STAT_CD_MISSES,
    SIM_STAT_ATC_HITS,
    SIM_STAT_ATS_REQUESTS,
    SIM_STAT_EVENTS,
    SIM_STAT_EVENTS_LOST,
    SIM_STAT_EVENTS_UNTOLD,
    SIM_STAT__MAX
} SimStat;

typedef struct SimWrite {
    uint64_t offset;
    uint64_t value;
    uint32_t region;
    uint32_t size;
} SimWrite;

typedef struct SimAccel {
    uint64_t dma_src;
    uint64_t dma_dst;
    uint64_t dma_fault_addr;
    uint64_t peek_addr;
    uint32_t dma_pasid;
    uint32_t dma_len;
    uint32_t dma_status;
    uint32_t scratch;
    uint32_t intr_status;
    uint32_t intr_count;
    uint32_t resets;
} SimAccel;

/* Kept in a file from bind to unbind, regardless of who opens the device */
typedef struct SimState {
    uint64_t magic;
    pthread_mutex_t lock;
    uint8_t hw[SIM_CONFIG_SIZE];        /* physical configuration space */
    uint8_t vconfig[SIM_CONFIG_SIZE];   /* bits that vfio-pci virtualises */
    uint32_t cm[SIM_CM_SIZE / 4];       /* physical CM area */
    uint32_t shadow[SIM_CM_SIZE / 4];   /* the kernel's copy of it */
    uint8_t dvsec[SIM_CXL_DVSEC_LEN];   /* the kernel's copy, if it has one */
    uint32_t dvsec_locked;
    uint32_t mem_active;                /* the kernel allows access to memory */
    uint32_t reset_failed;
    uint32_t in_reset;
    uint64_t active_at;                 /* memory is away until then, ns */
    uint8_t saved[SIM_CONFIG_SIZE];     /* hw when the device was opened */
    uint32_t knobs[SIM_KNOB__MAX];
    SimAccel accel;
    uint64_t stats[SIM_STAT__MAX];
    SimFault faults[SIM_MAX_FAULTS];
    uint64_t writes_seq;
    SimWrite writes[SIM_MAX_WRITES];
} SimState;

typedef struct SimDevice SimDevice;
typedef struct SimFile SimFile;
typedef struct SimSpace SimSpace;
typedef struct SimIommufd SimIommufd;
typedef struct SimObject SimObject;
typedef struct SimSmmu SimSmmu;
typedef struct SimStream SimStream;
typedef struct SimVeventq SimVeventq;

/* What a DMA request says besides its address */
typedef struct SimDma {
    bool write;
    bool pasid_valid;
    uint32_t pasid;
    bool ats;               /* by translated requests, where enabled */
} SimDma;

/* Regions that can be exported as a dma-buf */
typedef enum SimDmaBuf {
    SIM_DMA_BUF_NONE,
    SIM_DMA_BUF_BARS,
    SIM_DMA_BUF_MEMORY,     /* and BARs */
} SimDmaBuf;

/* Differences between kernel generations */
typedef struct SimKernel {
    bool cxl;               /* sets VFIO_DEVICE_FLAGS_CXL */
    bool geometry;          /* the registers' region says where they are */
    unsigned mem_region;
    unsigned comp_region;
    uint32_t region_type;
    bool mem_mmap;
    bool memory_space_gate; /* no memory while PCI Memory Space is off */
    bool zap_on_reset;
    bool stays_in_d0;
    bool restores_config;   /* at close, to what it was at open */
    uint32_t fault_size;    /* bytes of memory that one fault maps */
    SimDmaBuf dma_buf;
    /* Fill in the CXL device capability; returns its size. NULL: none */
    size_t (*device_cap)(SimDevice *dev, void *buf);
    size_t (*comp_size)(SimDevice *dev);
    ssize_t (*comp_rw)(SimDevice *dev, void *buf, size_t count, uint64_t pos,
                       bool write);
    ssize_t (*mem_rw)(SimDevice *dev, void *buf, size_t count, uint64_t pos,
                      bool write);
    /* Refuses a BAR fd access as a whole; NULL: never */
    int (*bar_check)(SimDevice *dev, uint64_t pos, size_t count);
    /* BAR fd access inside the component block */
    ssize_t (*block_rw)(SimDevice *dev, void *buf, size_t count, uint64_t pos,
                        bool write);
    /* The part of the component BAR that cannot be mapped */
    void (*hole)(SimDevice *dev, uint64_t *start, uint64_t *end);
    void (*bind)(SimDevice *dev);
    void (*open)(SimDevice *dev);
    /* Resets the device and the kernel's state of it, unless that fails */
    int (*reset)(SimDevice *dev, SimStat why);
    /* From D0 to D3 and back; NULL: nothing */
    void (*suspend)(SimDevice *dev);
    void (*resume)(SimDevice *dev);
    /* False: read it like any other capability */
    bool (*dvsec_read)(SimDevice *dev, unsigned reg, void *buf, size_t count);
    void (*dvsec_write)(SimDevice *dev, unsigned reg, uint32_t value,
                        size_t count);
} SimKernel;

typedef struct SimIrq {
    int type;               /* VFIO_PCI_*_IRQ_INDEX that is enabled, or -1 */
    int intx_fd;
    int unmask_fd;
    bool intx_masked;
    int msix_fd[VFIO_SIM_MSIX_VECTORS];
    int err_fd;
    int req_fd;
} SimIrq;

struct SimDevice {
    unsigned index;
    char host[16];
    char dir[SIM_PATH_MAX];
    uint64_t mem_size;
    uint64_t block;         /* of the component registers, in BAR 0 */
    const SimKernel *kernel;
    SimState *st;
    int mem_fd;
    int bar0_fd;
    unsigned opens;         /* device files of this process */
    SimIrq irq;
    SimSpace *space;        /* where its DMA goes, NULL: nowhere */
    SimStream *stream;      /* behind an SMMUv3, NULL: there is none */
};

struct SimFile {
    SimKind kind;
    unsigned refs;          /* fds of this process that refer to it */
    unsigned users;         /* other files that need it */
    dev_t st_dev;
    ino_t st_ino;
    int first_fd;
    SimDevice *dev;         /* group: its only device */
    bool opened;            /* device: may be used */
    SimFile *group;         /* device from a group */
    int group_fd;           /* keeps that group's lock */
    int mmap_fd;            /* keeps its own while it is mapped */
    SimSpace *container;    /* container, and group that is in one */
    SimIommufd *ictx;       /* iommufd, and cdev that is bound */
    uint32_t devid;
    SimObject *veventq;
    struct {                /* dma-buf */
        unsigned region;
        unsigned ranges;
        uint64_t offset;
        uint64_t size;
        bool revoked;
        bool closed;        /* so was the device: it stays revoked */
    } buf;
    struct {
        dev_t st_dev;
        ino_t st_ino;
    } kvm_file[16];         /* kvm device */
    unsigned kvm_files;
};

/* main.c */
extern bool sim_enabled;
void sim_lock(void);
void sim_unlock(void);
/* Reads the state directory's configuration once; false: stay inert */
bool sim_ready(void);
const SimConfig *sim_config(void);
SimDevice *sim_device(unsigned index);
SimDevice *sim_device_by_host(const char *host);

/* util.c: system calls that bypass our own wrappers */
int sys_open(const char *path, int flags, mode_t mode);
/* Absolute paths are looked up from the current root from now on */
void sim_keep_root(void);
int sys_close(int fd);
int sys_dup(int fd);
ssize_t sys_pread(int fd, void *buf, size_t count, uint64_t pos);
ssize_t sys_pwrite(int fd, const void *buf, size_t count, uint64_t pos);
int sys_fcntl(int fd, int cmd, void *arg);
void *sys_mmap(void *addr, size_t len, int prot, int flags, int fd,
               uint64_t pos);
int sys_munmap(void *addr, size_t len);
int sys_memfd(const char *name);
/* Moves a descriptor away from the numbers that programs expect */
int sim_high_fd(int fd);
/* Lock byte 0 of the open file; @type is F_RDLCK, F_WRLCK or F_UNLCK */
int sim_ofd_lock(int fd, short type);
bool sim_ofd_locked(const char *path);
bool sim_fd_is(int fd, const char *link);
/* Copies to or from this process's memory; returns the bytes done */
size_t sim_copy_user(void *buf, uint64_t vaddr, size_t len, bool to_user);
static inline uint32_t sim_ld32(const void *p)
{
    const uint8_t *b = p;

    return b[0] | b[1] << 8 | b[2] << 16 | (uint32_t)b[3] << 24;
}
static inline void sim_st32(void *p, uint32_t v)
{
    uint8_t *b = p;

    b[0] = v;
    b[1] = v >> 8;
    b[2] = v >> 16;
    b[3] = v >> 24;
}
static inline uint16_t sim_ld16(const void *p)
{
    const uint8_t *b = p;

    return b[0] | b[1] << 8;
}
static inline void sim_st16(void *p, uint16_t v)
{
    uint8_t *b = p;

    b[0] = v;
    b[1] = v >> 8;
}

/* state.c */
int sim_state_attach(SimDevice *dev);
void sim_device_lock(SimDevice *dev);
void sim_device_unlock(SimDevice *dev);
void sim_count(SimDevice *dev, SimStat stat);
const char *sim_stat_name(SimStat stat);
void sim_log_write(SimDevice *dev, unsigned region, uint64_t offset,
                   const void *buf, size_t size);

/* fault.c */
/* Returns the errno (negative) that a test asked for, or 0 */
int sim_fault(SimDevice *dev, const char *op);
int sim_fault_locked(SimDevice *dev, const char *op);
int sim_fault_any(const char *op);
int sim_fault_region(SimDevice *dev, const char *op, unsigned region);
/* Returns NULL or an error message about @spec */
const char *sim_fault_add(SimState *st, const char *spec);
const char *sim_knob_set(SimDevice *dev, const char *spec);
/* One of those that count down */
bool sim_knob_use(SimDevice *dev, SimKnob knob);
const char *sim_region_name(SimDevice *dev, unsigned region);

/* fds.c */
typedef struct SimFdHeader {
    char magic[8];
    uint32_t kind;
    uint32_t index;
    char id[24];
} SimFdHeader;

SimFile *sim_file_get(int fd);          /* NULL: not ours */
SimFile *sim_file_new(int fd, SimKind kind, SimDevice *dev);
/* Open an anonymous file of @kind; returns the fd */
int sim_file_anon(SimKind kind, int flags, SimFile **file);
void sim_file_put(SimFile *file);       /* drops what sim_file_use() took */
void sim_file_use(SimFile *file);
bool sim_fd_known(int fd);
void sim_fd_dup(int from, int to);
/* The program is about to close or has replaced the fd */
void sim_fd_forget(int fd);
/* Checks whether an inherited or received fd is one of ours */
SimFile *sim_fd_learn(int fd);
void sim_fd_scan(void);
/* Calls @fn for each open file of ours */
void sim_file_foreach(void (*fn)(SimFile *file, void *opaque), void *opaque);

/* paths.c */
#define SIM_NOT_OURS (-4096)
/* Opens a path of ours; SIM_NOT_OURS when it is not */
int sim_path_open(const char *path, int flags);
/* True: @buf is the file that stands for @path */
bool sim_path_sysfs(const char *path, char *buf, size_t size);
bool sim_path_device_node(const char *path, SimKind *kind, unsigned *index);
void sim_path_devnum(SimKind kind, unsigned index, unsigned *maj,
                     unsigned *min);
/* Strips the state directory from a resolved path */
void sim_path_strip(char *path);

/* device.c */
int sim_cdev_open(unsigned index, int flags);
int sim_device_from_group(SimFile *group, const char *name);
int sim_device_ioctl(SimFile *file, unsigned cmd, void *arg);
ssize_t sim_device_rw(SimFile *file, void *buf, size_t count, uint64_t pos,
                      bool write);
/* The first open of the device, and its last close */
void sim_device_first_open(SimDevice *dev);
void sim_device_last_close(SimDevice *dev);
int sim_device_reset(SimDevice *dev, SimStat why);
/* Memory takes a while to be active again, SIM_KNOB_ACTIVE_DELAY */
void sim_device_memory_away(SimDevice *dev);
/* The device's own part of it */
void sim_device_reset_hw(SimDevice *dev);
uint64_t sim_region_size(SimDevice *dev, unsigned region);
/* Checks whether the program may access its mappings of the region */
bool sim_region_accessible(SimDevice *dev, unsigned region);
/* And whether a decoder responds to accesses that the kernel lets through */
bool sim_region_answers(SimDevice *dev, unsigned region);

/* region.c */
int sim_get_region_info(SimDevice *dev, struct vfio_region_info *arg);
ssize_t sim_region_rw(SimDevice *dev, unsigned region, void *buf, size_t count,
                      uint64_t pos, bool write);

/* pci-config.c */
enum {
    SIM_CAP_PM = 0x40,
    SIM_CAP_MSIX = 0x50,
    SIM_CAP_EXP = 0x60,
    SIM_ECAP_AER = 0x100,
    SIM_ECAP_CXL_DEVICE = 0x150,
    SIM_ECAP_VSEC = 0x190,
    SIM_ECAP_LOCATOR = 0x1b0,
    SIM_ECAP_FLEXBUS = 0x1d0,
    SIM_ECAP_GPF = 0x200,
    SIM_ECAP_DSN = 0x220,
    SIM_ECAP_ATS = 0x240,   /* behind an SMMUv3 that has ATS */
};

void sim_config_bind(SimDevice *dev);
void sim_config_open(SimDevice *dev);
void sim_config_reset(SimDevice *dev);
/* Memory_Active in the device's DVSEC, and in what the kernel shows */
void sim_config_memory_active(SimDevice *dev, bool active);
ssize_t sim_config_rw(SimDevice *dev, void *buf, size_t count, uint64_t pos,
                      bool write);
bool sim_config_memory_on(SimDevice *dev);
void sim_config_enable_memory(SimDevice *dev);
bool sim_config_master_on(SimDevice *dev);
/* What the kernel's driver of the IOMMU does */
void sim_config_enable_ats(SimDevice *dev, bool on);
bool sim_config_ats_on(SimDevice *dev);
bool sim_config_intx_off(SimDevice *dev);

/* component.c: the physical component registers */
enum {
    SIM_HDM_CAP = 0x00,
    SIM_HDM_GLOBAL = 0x04,
    SIM_HDM_BASE_LO = 0x10,
    SIM_HDM_BASE_HI = 0x14,
    SIM_HDM_SIZE_LO = 0x18,
    SIM_HDM_SIZE_HI = 0x1c,
    SIM_HDM_CTRL = 0x20,
    SIM_HDM_TARGET_LO = 0x24,
    SIM_HDM_TARGET_HI = 0x28,
    SIM_HDM_STRIDE = 0x20,
};
#define SIM_HDM_CTRL_LOCK       (1u << 8)
#define SIM_HDM_CTRL_COMMIT     (1u << 9)
#define SIM_HDM_CTRL_COMMITTED  (1u << 10)
#define SIM_HDM_CTRL_ERROR      (1u << 11)

void sim_component_bind(SimDevice *dev);
void sim_component_reset(SimDevice *dev);
bool sim_component_committed(SimDevice *dev);
unsigned sim_component_decoders(SimDevice *dev);
/* A register at @cm_off as the program sees it */
uint32_t sim_component_show(SimDevice *dev, unsigned cm_off, uint32_t value);
uint32_t sim_component_read(SimDevice *dev, uint64_t off);
void sim_component_write(SimDevice *dev, uint64_t off, uint32_t value);

/* accel.c */
void sim_accel_reset(SimDevice *dev);
void sim_accel_fill_bar0(SimDevice *dev);
uint32_t sim_accel_read(SimDevice *dev, uint64_t off);
void sim_accel_write(SimDevice *dev, uint64_t off, uint64_t value, size_t size);

/* irq.c */
void sim_irq_init(SimDevice *dev);
void sim_irq_release(SimDevice *dev);
int sim_get_irq_info(SimDevice *dev, struct vfio_irq_info *arg);
int sim_set_irqs(SimDevice *dev, struct vfio_irq_set *arg);
bool sim_irq_raise(SimDevice *dev, unsigned vector);
void sim_irq_intx_update(SimDevice *dev);
void sim_irq_intx_unmask(SimDevice *dev);
bool sim_irq_fire(int fd);

/* memory.c: live mappings of device regions in this process */
typedef struct SimMmap {
    uint64_t addr;
    uint64_t len;
    SimDevice *dev;
    SimFile *file;
    unsigned region;
    uint64_t offset;
    int prot;
    bool open;              /* the program may access it */
    bool populated;         /* its pages have been faulted in */
    struct SimMmap *next;
} SimMmap;

void *sim_device_mmap(SimFile *file, void *addr, size_t len, int prot,
                      int flags, int fd, uint64_t pos, int *err);
bool sim_mmap_any(void);
/* Fault the pages in, as pinning them for DMA does */
void sim_mmap_fault_in(uint64_t addr, uint64_t len);
void sim_mmap_gone(uint64_t addr, uint64_t len);
int sim_mmap_check_move(uint64_t from, uint64_t from_len, uint64_t len,
                        int flags);
void sim_mmap_moved(uint64_t from, uint64_t from_len, uint64_t to,
                    uint64_t len);
/* Refuses advice on device memory; @len becomes what comes before it */
int sim_mmap_advice(uint64_t addr, uint64_t *len, int advice);
const SimMmap *sim_mmap_find(uint64_t addr, uint64_t len);
const SimMmap *sim_mmap_first(void);
/* Opens or closes the mappings of a device after a change of its state */
void sim_mmap_update(SimDevice *dev);

/*
 * poison.c: "OFFSET" or "OFFSET vcpu" of its memory; returns NULL or an error
 * message
 */
const char *sim_poison(SimDevice *dev, const char *spec);
/* Called by a vCPU before it runs; true if it got a signal and must not run */
bool sim_poison_touched(void);

/* space.c: DMA mappings */
typedef struct SimMap {
    uint64_t iova;
    uint64_t size;
    uint64_t vaddr;
    bool read;
    bool write;
    bool file;              /* vaddr is our own mapping of a file */
    bool dma_buf;
    bool revoked;
    bool stale;             /* see sim_space_stale() */
    SimDevice *dev;         /* device memory or BAR behind it */
    unsigned region;
    uint64_t offset;
    struct SimMap *next;
} SimMap;

struct SimSpace {
    unsigned refs;
    unsigned number;
    bool legacy;
    bool iommu_set;         /* container: VFIO_SET_IOMMU was done */
    unsigned groups;        /* container: groups in it */
    unsigned count;
    SimMap *maps;
    SimSpace *next;
};

typedef struct SimIova {
    uint64_t first;
    uint64_t last;
} SimIova;

SimSpace *sim_space_new(bool legacy);
void sim_space_ref(SimSpace *space);
void sim_space_unref(SimSpace *space);
const SimIova *sim_iova_ranges(unsigned *count);
bool sim_iova_valid(uint64_t iova, uint64_t size);
/* Checks alignment, wrap, range and overlap */
int sim_space_check(SimSpace *space, uint64_t iova, uint64_t size);
int sim_space_map(SimSpace *space, const SimMap *map);
int sim_space_user_memory(uint64_t vaddr, uint64_t size, bool write);
/* True: a mapping crosses this address without starting there */
bool sim_space_bisects(SimSpace *space, uint64_t iova);
uint64_t sim_space_unmap(SimSpace *space, uint64_t iova, uint64_t last);
const SimSpace *sim_space_first(void);
/*
 * Counts the mappings of a device's memory that still exist when it becomes
 * inaccessible, that is, those that are unmapped too late
 */
void sim_space_stale(SimDevice *dev, bool out_of_reach);
/* Returns the bytes done before the first address that faults */
uint64_t sim_space_rw(SimSpace *space, uint64_t iova, void *buf, uint64_t len,
                      bool write);

/* container.c, group.c, iommufd.c, kvm.c */
int sim_container_open(int flags);
int sim_container_ioctl(SimFile *file, unsigned cmd, uintptr_t arg);
int sim_group_open(unsigned index, int flags);
int sim_group_ioctl(SimFile *file, unsigned cmd, void *arg);
void sim_group_detach(SimFile *file);
int sim_iommufd_open(int flags);
SimIommufd *sim_iommufd_new(void);
int sim_iommufd_ioctl(SimFile *file, unsigned cmd, void *arg);
void sim_iommufd_unref(SimIommufd *ictx);
int sim_iommufd_bind(SimFile *file, SimFile *iommufd);
void sim_iommufd_unbind(SimFile *file);
int sim_iommufd_attach(SimFile *file, uint32_t *pt_id);
void sim_iommufd_detach(SimFile *file);
int sim_iommufd_attach_pasid(SimFile *file, uint32_t pasid, uint32_t *pt_id);
int sim_iommufd_detach_pasid(SimFile *file, uint32_t pasid);
bool sim_kvm_create(int fd, struct kvm_create_device *arg, int *ret);
int sim_kvm_ioctl(SimFile *file, unsigned cmd, struct kvm_device_attr *arg);

/* veventq.c */
ssize_t sim_veventq_read(SimFile *file, void *buf, size_t count);
void sim_veventq_close(SimFile *file);

/* smmuv3.c */
/* A device's DMA; returns the bytes done before the first that faults */
uint64_t sim_dma_rw(SimDevice *dev, uint64_t addr, void *buf, uint64_t len,
                    const SimDma *dma);
/* The device has been reset */
void sim_dma_reset(SimDevice *dev);
/* The kernel has unmapped something, and flushes what may be cached of it */
void sim_smmu_unmapped(const SimSpace *space);

/* control.c, service.c */
void sim_service_start(void);
void sim_service_wake(void);
void sim_service_forked(void);
char *sim_control(const char *line);    /* malloc'ed reply without newline */

/* dmabuf.c */
typedef struct SimDmaBufArg {
    uint32_t region_index;
    uint32_t open_flags;
    uint32_t flags;
    uint32_t nr_ranges;
} SimDmaBufArg;

typedef struct SimDmaBufRange {
    uint64_t offset;
    uint64_t length;
} SimDmaBufRange;

int sim_dmabuf_feature(SimDevice *dev, struct vfio_device_feature *arg);
/* Maps the dma-buf for IOMMU_IOAS_MAP_FILE */
int sim_dmabuf_map(SimFile *file, uint64_t start, SimMap *map);
void sim_dmabuf_revoke(SimDevice *dev);
/* The device has been closed: its dma-bufs will not come back */
void sim_dmabuf_close(SimDevice *dev);
/* The device's regions may have become accessible or not */
void sim_dmabuf_update(SimDevice *dev);

/* reply.c */
void sim_reply_cap(SimReply *reply, const void *cap, size_t size);
void sim_reply_send(const SimReply *reply, SimDevice *dev, SimWhere where,
                    void *arg);

/* kernels.c */
const SimKernel *sim_kernel_find(const char *name);
const char *sim_kernel_name(const SimKernel *kernel);

#endif /* VFIO_SIM_H */
