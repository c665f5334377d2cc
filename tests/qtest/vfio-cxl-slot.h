/*
 * CXL Type-2 devices behind vfio-pci: the slot that they are plugged into
 *
 * A test plays the guest: it drives the slot below the CXL root port "rp0" as
 * the native PCIe hot-plug driver does. The device in it is "dev0".
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_CXL_SLOT_H
#define VFIO_CXL_SLOT_H

#include "vfio-cxl-helpers.h"

/* PCI Express Slot Control and Status, PCIe 6.0 Section 7.5.3.10 and .11 */
#define SLOT_POWER_ON       0x01c0  /* indicator on, controller on */
#define SLOT_POWER_BLINK    0x02c0
#define SLOT_POWER_OFF      0x07c0  /* indicator off, controller off */
#define SLOT_INTERLOCK      0x0800  /* Control: toggle it */
#define SLOT_BUTTON         0x0001
#define SLOT_PRESENT        0x0040
#define SLOT_INTERLOCKED    0x0080

/* Address of the root port's configuration space */
uint64_t root_port(CXLMachine *m);

/* Address of Slot Control */
uint64_t slot_control(CXLMachine *m);

uint16_t slot_status(CXLMachine *m);

/* Write Slot Control, and acknowledge events */
void slot_power(CXLMachine *m, uint16_t control);

/**
 * device_add() - Send device_add for a vfio-pci device
 * @m: the machine
 * @iommufd: which backend
 * @id: of the device
 * @host: its address in the host
 * @more: further properties as JSON, with a leading comma, or ""
 *
 * Returns: the reply
 */
QDict *device_add(CXLMachine *m, bool iommufd, const char *id,
                  const char *host, const char *more);

/* Plug "dev0", let the guest power it and find its registers */
void device_plug(CXLMachine *m, gconstpointer mode, const char *host,
                 const char *more);

/* Request removal of "dev0"; with @error, expect a refusal that contains it */
void device_del(CXLMachine *m, const char *error);

bool qom_exists(CXLMachine *m, const char *path);

/* Wait for the event, sent when nothing refers to the device any more */
void wait_deleted(CXLMachine *m);

/* The guest releases the device */
void device_release(CXLMachine *m);

/* Both: device_del(), and release by the guest */
void device_unplug(CXLMachine *m);

#endif /* VFIO_CXL_SLOT_H */
