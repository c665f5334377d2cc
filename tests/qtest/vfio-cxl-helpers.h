/*
 * A machine with a simulated CXL Type-2 device, for tests
 *
 * vfio-sim, a program of its own, stands in for the kernel: it is preloaded
 * into the QEMU under test. The helpers program the PCI path to the device, as
 * firmware would, and then access its registers like a guest's driver.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_CXL_HELPERS_H
#define VFIO_CXL_HELPERS_H

#include "libqtest.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "vfio-sim-regs.h"

/* Offsets in the HDM decoder block, CXL r3.1 Section 8.2.4.20 */
#define HDM_CAPABILITY      0x00
#define HDM_GLOBAL_CONTROL  0x04
#define HDM_BASE_LO(n)      (0x10 + 0x20 * (n))
#define HDM_BASE_HI(n)      (0x14 + 0x20 * (n))
#define HDM_SIZE_LO(n)      (0x18 + 0x20 * (n))
#define HDM_SIZE_HI(n)      (0x1c + 0x20 * (n))
#define HDM_CTRL(n)         (0x20 + 0x20 * (n))
#define HDM_SKIP_LO(n)      (0x24 + 0x20 * (n))
#define HDM_SKIP_HI(n)      (0x28 + 0x20 * (n))

#define HDM_LOCK            (1u << 8)
#define HDM_COMMIT          (1u << 9)
#define HDM_COMMITTED       (1u << 10)
#define HDM_ERROR           (1u << 11)
#define HDM_HOST_ONLY       (1u << 12)
#define HDM_ENABLE          (1u << 1)

/* Offsets in the CXL Device DVSEC, CXL r3.1 Section 8.1.3 */
#define DVSEC_CAP           0x0a
#define DVSEC_CONTROL       0x0c
#define DVSEC_CONTROL2      0x10
#define DVSEC_LOCK          0x14
#define DVSEC_RANGE1_SIZE   0x18
#define DVSEC_RANGE1_BASE   0x20
#define DVSEC_RANGE2_BASE   0x30
#define DVSEC_MEM_ENABLE    (1u << 2)
#define CONTROL2_RST        (1u << 2)

#define M256                (256ull * 1024 * 1024)

/* A simulated kernel and its devices, in a directory of their own */
typedef struct VFIOSim {
    char *dir;
    const char *library;    /* what is preloaded */
} VFIOSim;

/**
 * vfio_cxl_test_init() - g_test_init() for tests that need vfio-sim
 *
 * vfio-sim is the program named by VFIO_SIM in the environment, or else the one
 * in PATH. If there is none, the test program exits as skipped.
 */
void vfio_cxl_test_init(int *argc, char ***argv);

/**
 * vfio_sim_start() - Make devices
 * @options: of the vfio-sim launcher, as one string
 */
VFIOSim *vfio_sim_start(const char *options);
void vfio_sim_stop(VFIOSim *sim);

/* Set and unset the environment that makes a program see the devices */
void vfio_sim_enter(VFIOSim *sim);
void vfio_sim_leave(void);

/* Send a command to the control channel; returns what is in "return" */
QObject *vfio_sim_command(VFIOSim *sim, const char *command);

/* A count from `stats` of the first device */
int64_t vfio_sim_stat(VFIOSim *sim, const char *name);

/* Malformations of vfio-sim: name, "*" if it is harmless, kernels */
char *vfio_sim_malformations(void);

/* The device's memory from the host's side */
uint64_t vfio_sim_peek(VFIOSim *sim, uint64_t dpa);
void vfio_sim_poke(VFIOSim *sim, uint64_t dpa, uint64_t value);

typedef struct CXLMachine {
    QTestState *qts;
    VFIOSim *sim;
    uint64_t ecam;
    uint64_t bar0;          /* component BAR of the device */
    uint64_t bar2;          /* its registers */
    uint64_t block;         /* component register block */
    uint64_t hdm;           /* HDM decoder block */
    uint16_t dvsec;         /* CXL Device DVSEC in config space, 0 if none */
    uint64_t window;        /* first fixed memory window, 0 if none */
} CXLMachine;

/* Options for the machine of this architecture, with CXL on */
const char *cxl_machine_options(void);

/* One pxb-cxl "cxl.0" with one root port "rp0" */
#define CXL_BRIDGE \
    " -device pxb-cxl,id=cxl.0,bus=pcie.0,bus_nr=12" \
    " -device cxl-rp,id=rp0,bus=cxl.0,chassis=0,slot=0,port=0"
#define CXL_WINDOW \
    " -M cxl-fmw.0.targets.0=cxl.0,cxl-fmw.0.size=4G"

/**
 * cxl_machine_start() - Start QEMU with the device behind "rp0", find it
 * @sim: the devices; belongs to the machine then
 * @topology: options up to the device, such as CXL_BRIDGE CXL_WINDOW
 * @iommufd: which backend
 * @properties: of the device, with a leading comma, or ""
 */
CXLMachine *cxl_machine_start(VFIOSim *sim, const char *topology,
                              bool iommufd, const char *properties);
void cxl_machine_stop(CXLMachine *m);

/**
 * qemu_quit() - qtest_quit(), which by itself looks only every 100 ms whether
 *               QEMU has exited
 */
void qemu_quit(QTestState *qts);

/* Start QEMU with these options; no device is looked for */
CXLMachine *cxl_machine_start_empty(VFIOSim *sim, const char *options);

/* Find the device's registers; it is behind "rp0" and powered */
void cxl_machine_find(CXLMachine *m);

/* Program bridges and BARs again, as firmware does after a reset */
void cxl_machine_enumerate(CXLMachine *m);

/**
 * cxl_machine_try() - Start QEMU and let it quit at once
 * @status: its exit status; asserts that no signal terminated it
 *
 * Returns: its output
 */
char *cxl_machine_try(VFIOSim *sim, const char *options, bool iommufd,
                      const char *properties, int *status);

/**
 * cxl_machine_refused() - Start QEMU and expect it to refuse
 *
 * Returns: its output. Asserts that it exited with status 1.
 */
char *cxl_machine_refused(VFIOSim *sim, const char *options, bool iommufd,
                          const char *properties);

/* Let the second port of the host bridge, at @addr, lead to a second device */
void cxl_machine_enable_second(CXLMachine *m, unsigned addr);

/**
 * read_dwords() - Read a part of the guest's address space, not one by one
 * @m: the machine
 * @at: guest physical address
 * @size: bytes
 *
 * Returns: memory to be freed
 */
uint32_t *read_dwords(CXLMachine *m, uint64_t at, size_t size);

uint32_t cfg_read(CXLMachine *m, unsigned offset);
uint16_t cfg_readw(CXLMachine *m, unsigned offset);
void cfg_write(CXLMachine *m, unsigned offset, uint32_t value);
void cfg_writew(CXLMachine *m, unsigned offset, uint16_t value);

uint32_t hdm_read(CXLMachine *m, unsigned offset);
void hdm_write(CXLMachine *m, unsigned offset, uint32_t value);
uint64_t hdm_base(CXLMachine *m, unsigned n);
uint64_t hdm_size(CXLMachine *m, unsigned n);

/* Program decoder 0 and commit it; true if it says COMMITTED */
bool hdm_commit(CXLMachine *m, uint64_t base, uint64_t size);

/* Set HDM Decoder Enable and Mem_Enable */
void hdm_enable(CXLMachine *m);

/*
 * Check whether the device's memory is at @gpa, by writing on both sides.
 * Asserts that it is mapped for DMA there if so, and only then.
 */
bool shows_memory(CXLMachine *m, uint64_t gpa, uint64_t dpa);

/*
 * Tests that are run with each generation of the kernel's interface and with
 * both backends
 */
#define VFIO_CXL_HOST "0000:c1:00.0"

typedef struct VFIOCXLMode {
    const char *kernel;
    bool iommufd;
} VFIOCXLMode;

/*
 * Names that vfio-sim knows. Each list ends with NULL: all kernels, those of
 * v2, and those that look at the physical decoder again after a reset.
 */
extern const char *const vfio_cxl_kernels[];
extern const char *const vfio_cxl_kernels_v2[];
extern const char *const vfio_cxl_kernels_rereading[];

/**
 * vfio_cxl_reads() - Check whether QEMU reads the interface of a kernel
 * @kernel: its name; "none" has nothing to be read
 *
 * Not all generations of the interface need be in the QEMU under test.
 */
bool vfio_cxl_reads(const char *kernel);

/**
 * vfio_cxl_tested() - Choose from a list of kernels
 * @kernels: ends with NULL
 *
 * Returns: the first one whose interface QEMU reads, or with "-m slow" all such
 * ones, and NULL. To be freed, but not the names.
 */
const char **vfio_cxl_tested(const char *const kernels[]);

/**
 * vfio_cxl_add_mode() - Add a test for one kernel and one backend
 * @name: last part of its path
 * @kernel: stays valid
 * @iommufd: the backend, otherwise the container
 * @test: called with a VFIOCXLMode
 */
void vfio_cxl_add_mode(const char *name, const char *kernel, bool iommufd,
                       void (*test)(gconstpointer));

/**
 * vfio_cxl_add() - Add a test for each of some kernels, for both backends
 * @name: last part of its path
 * @kernels: see vfio_cxl_tested()
 * @test: called with a VFIOCXLMode
 *
 * Kernels and backends are the same code on both machines. If the environment
 * has VFIO_CXL_TEST_SHARE, the machines share them: each has one half of the
 * pairs of a kernel and a backend, with every kernel and both backends in it.
 */
void vfio_cxl_add(const char *name, const char *const kernels[],
                  void (*test)(gconstpointer));

/**
 * vfio_cxl_add_once() - Add a test for each of some kernels, for one backend
 * @name: last part of its path
 * @kernels: see vfio_cxl_tested(); of vfio_cxl_kernels
 * @test: called with a VFIOCXLMode
 *
 * For what depends little on the backend. A kernel always has the same one.
 */
void vfio_cxl_add_once(const char *name, const char *const kernels[],
                       void (*test)(gconstpointer));

/* vfio_cxl_add() for what the other machine does not have: nothing is shared */
void vfio_cxl_add_here(const char *name, const char *const kernels[],
                       void (*test)(gconstpointer));

bool mode_is_iommufd(gconstpointer mode);
bool mode_is_kernel(gconstpointer mode, const char *prefix);

/* Start a function level reset */
void cxl_machine_flr(CXLMachine *m);

/* "info vfio-cxl" must contain @text */
void assert_info(CXLMachine *m, const char *text);

/**
 * mode_since_v5() - Check for v5 or later, that is, for CXL resets by
 * VFIO_DEVICE_RESET and for dma-bufs
 * @mode: the test's data
 */
bool mode_since_v5(gconstpointer mode);

/**
 * mode_has_space_gate() - Check whether Memory Space gates memory
 * @mode: the test's data
 */
bool mode_has_space_gate(gconstpointer mode);

/* vfio_sim_start() and cxl_machine_start(), as the mode says */
VFIOSim *mode_sim(gconstpointer mode, const char *sim_options);
CXLMachine *mode_start(gconstpointer mode, const char *sim_options,
                       const char *properties);

/* Check that start with these options fails with this message */
void mode_refused(gconstpointer mode, const char *sim_options,
                  const char *options, const char *properties,
                  const char *message);

/* A register of decoder 0: "hdm" is the kernel's copy, or "hardware" */
uint64_t host_decoder(CXLMachine *m, const char *which, const char *reg);
uint64_t host_hpa(CXLMachine *m);

/* Writes to regions whose name begins so since the last call */
unsigned host_writes(CXLMachine *m, const char *region);

/* Offset of a PCI capability; asserts that it is there */
unsigned cfg_find_cap(CXLMachine *m, uint8_t id);

/* Decoder 0 is as firmware leaves it, and shows all the memory */
void assert_firmware_committed(CXLMachine *m, uint64_t size);

#endif /* VFIO_CXL_HELPERS_H */
