/*
 * Machines with any CXL topology, for tests
 *
 * Firmware's part of the work for a tree of host bridges, switches and
 * endpoints: bus numbers, BARs, and where the HDM decoders are.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_CXL_TOPOLOGY_H
#define VFIO_CXL_TOPOLOGY_H

#include "vfio-cxl-helpers.h"

#define CXL_TOPOLOGY_NODES 96
#define CXL_TOPOLOGY_WINDOWS 20

/* PCI vendor and device ID, as a config space dword */
#define CXL_ID_RP       0x70758086
#define CXL_ID_USP      0xa12819e5
#define CXL_ID_DSP      0xa12919e5
#define CXL_ID_TYPE3    0x0d938086

/**
 * struct CXLNode - a PCI function, or a host bridge
 * @id: of its -device option
 * @parent: the port that it is below; NULL on a root bus, for host bridges
 * @pci_id: CXL_ID_RP etc.; 0 for a host bridge
 * @bus: number; for a host bridge that of its root bus
 * @devfn: device and function
 * @bar0: address of its first BAR, 0 if it has none
 * @hdm: address of its HDM decoders, 0 if it has none
 * @dvsec: offset of the CXL Device DVSEC, 0 if it has none
 */
typedef struct CXLNode {
    char *id;
    struct CXLNode *parent;
    uint32_t pci_id;
    uint8_t bus;
    uint8_t devfn;
    uint64_t bar0;
    uint64_t hdm;
    uint16_t dvsec;
} CXLNode;

typedef struct CXLTopology {
    QTestState *qts;
    VFIOSim *sim;
    uint64_t ecam;
    CXLNode node[CXL_TOPOLOGY_NODES];
    unsigned nodes;
    uint64_t window[CXL_TOPOLOGY_WINDOWS];      /* by cxl-fmw's number */
    unsigned windows;
    uint64_t mmio;                              /* next free address */
    unsigned last_bus;
} CXLTopology;

/**
 * cxl_topology_start() - Start QEMU and enumerate all host bridges
 * @sim: the devices; belongs to the topology then
 * @options: beyond cxl_machine_options(); each pxb-cxl with id and bus_nr
 *           and listed in @bridges
 * @bridges: "id=bus_nr" of each, in the order of their options, NULL last
 */
CXLTopology *cxl_topology_start(VFIOSim *sim, const char *options,
                                const char *const bridges[]);
void cxl_topology_stop(CXLTopology *t);

/* The same again after a reset */
void cxl_topology_enumerate(CXLTopology *t);

/* The node of an -device option; asserts that it is there */
CXLNode *cxl_topology_find(CXLTopology *t, const char *id);

/* Address of a register in config space */
uint64_t cxl_node_config(CXLTopology *t, const CXLNode *node, unsigned offset);

/* Offset of a PCI capability; asserts that it is there */
unsigned cxl_node_find_cap(CXLTopology *t, const CXLNode *node, uint8_t id);

/* A register of the HDM decoders */
uint32_t cxl_node_read(CXLTopology *t, const CXLNode *node, unsigned offset);
void cxl_node_write(CXLTopology *t, const CXLNode *node, unsigned offset,
                    uint32_t value);

/**
 * cxl_node_program() - Program a decoder and commit it
 * @target: port number, for host bridges and switches; else DPA skip's
 *          lower half
 *
 * Returns: true if it shows COMMITTED
 */
bool cxl_node_program(CXLTopology *t, const CXLNode *node, unsigned n,
                      uint64_t base, uint64_t size, uint32_t target);

/* Base of a committed decoder, 0 if it is not committed */
uint64_t cxl_node_base(CXLTopology *t, const CXLNode *node, unsigned n);
uint64_t cxl_node_size(CXLTopology *t, const CXLNode *node, unsigned n);

/* Set HDM Decoder Enable, Mem_Enable and Memory Space Enable */
void cxl_node_enable(CXLTopology *t, const CXLNode *node);

/* Secondary bus reset by a port; function level reset */
void cxl_node_bus_reset(CXLTopology *t, const CXLNode *port);
void cxl_node_flr(CXLTopology *t, const CXLNode *node);

/* Power the slot of a port on or off, and acknowledge its events */
void cxl_node_power_slot(CXLTopology *t, const CXLNode *port, bool on);

/* The memory of a simulated device, as a file descriptor */
int cxl_topology_memory(CXLTopology *t, const char *host);

/* Check whether the memory of @host is at @gpa, by writing on both sides */
bool cxl_topology_shows(CXLTopology *t, uint64_t gpa, const char *host,
                        uint64_t dpa);

#endif /* VFIO_CXL_TOPOLOGY_H */
