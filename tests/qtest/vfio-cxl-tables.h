/*
 * ACPI tables of a machine that runs no firmware, as text
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_CXL_TABLES_H
#define VFIO_CXL_TABLES_H

#include "libqtest.h"

/**
 * acpi_tables_read() - Read fw_cfg's etc/acpi/tables, as firmware does
 * @qts: the machine; 1 MiB of its RAM is overwritten
 *
 * QEMU builds them again at the first access after a reset.
 */
GByteArray *acpi_tables_read(QTestState *qts);

/**
 * acpi_tables_find() - Find a table
 * @tables: what acpi_tables_read() returned
 * @signature: such as "CEDT"
 * @length: set to its length in bytes
 *
 * Returns: where it is in @tables, its checksum filled in; NULL if there is
 * none
 */
uint8_t *acpi_tables_find(GByteArray *tables, const char *signature,
                          unsigned *length);

/* Tables as text, or "" if there is none. To be freed. */
char *acpi_cedt_text(GByteArray *tables);
char *acpi_iort_text(GByteArray *tables);

/* Memory, generic initiators and generic ports, and nothing else */
char *acpi_srat_text(GByteArray *tables);

/**
 * acpi_device_text() - A device of the DSDT, disassembled by iasl
 * @tables: what acpi_tables_read() returned
 * @name: of the device, such as "PC0C"
 *
 * Without comments, without _PRT and its devices. To be freed.
 */
char *acpi_device_text(GByteArray *tables, const char *name);

/* Check for iasl */
bool acpi_has_iasl(void);

#endif /* VFIO_CXL_TABLES_H */
