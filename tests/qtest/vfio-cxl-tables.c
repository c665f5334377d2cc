/*
 * ACPI tables of a machine that runs no firmware, as text
 *
 * iasl disassembles the DSDT. The other tables have few fields, and iasl of
 * Debian 12 supports neither the CEDT nor generic ports.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <glib/gstdio.h>
#include "qemu/bswap.h"
#include "vfio-cxl-tables.h"

#define HEADER_LENGTH 36

/* docs/specs/fw_cfg.rst: the directory, and transfers by DMA */
#define FW_CFG_DIRECTORY  0x19
#define FW_CFG_DMA_READ   0x02
#define FW_CFG_DMA_SELECT 0x08

typedef struct FWCfgFile {
    uint32_t size;
    uint16_t key;
    uint16_t reserved;
    char name[56];
} FWCfgFile;

static bool is_q35(void)
{
    return g_str_equal(qtest_get_arch(), "x86_64");
}

/* Read a file by its key, through 1 MiB of RAM */
static void read_key(QTestState *qts, uint16_t key, void *to, uint32_t length)
{
    uint64_t command = is_q35() ? 0x1000000 : 0x41000000;
    uint64_t data = command + 0x1000;
    struct {
        uint32_t control;
        uint32_t length;
        uint64_t address;
    } dma = {
        .control = cpu_to_be32((uint32_t)key << 16 | FW_CFG_DMA_SELECT |
                               FW_CFG_DMA_READ),
        .length = cpu_to_be32(length),
        .address = cpu_to_be64(data),
    };

    g_assert_cmpuint(length, <=, 0xff000);
    qtest_memwrite(qts, command, &dma, sizeof(dma));
    if (is_q35()) {
        qtest_outl(qts, 0x514, 0);
        qtest_outl(qts, 0x518, bswap32(command));
    } else {
        qtest_writeq(qts, 0x9020010, bswap64(command));
    }
    g_assert_cmphex(qtest_readl(qts, command), ==, 0);
    qtest_memread(qts, data, to, length);
}

GByteArray *acpi_tables_read(QTestState *qts)
{
    GByteArray *tables = g_byte_array_new();
    struct {
        uint32_t count;
        FWCfgFile file[64];
    } directory;

    read_key(qts, FW_CFG_DIRECTORY, &directory, sizeof(directory));
    for (int i = 0; i < MIN(be32_to_cpu(directory.count), 64); i++) {
        FWCfgFile *file = &directory.file[i];

        if (g_str_equal(file->name, "etc/acpi/tables")) {
            g_byte_array_set_size(tables, be32_to_cpu(file->size));
            read_key(qts, be16_to_cpu(file->key), tables->data, tables->len);
            return tables;
        }
    }
    g_error("fw_cfg has no ACPI tables");
}

uint8_t *acpi_tables_find(GByteArray *tables, const char *signature,
                          unsigned *length)
{
    for (unsigned at = 0; at + HEADER_LENGTH <= tables->len; at += *length) {
        uint8_t *table = tables->data + at, sum = 0;

        *length = ldl_le_p(table + 4);
        if (!*length || *length > tables->len - at) {
            break;
        }
        if (memcmp(table, signature, 4)) {
            continue;
        }
        table[9] = 0;
        for (unsigned i = 0; i < *length; i++) {
            sum += table[i];
        }
        table[9] = -sum;
        return table;
    }
    return NULL;
}

/*
 * CEDT, CXL r3.1 Section 9.18.1
 */
static void append_restrictions(GString *text, uint16_t restrictions)
{
    static const char *const names[] = {
        "device coherent", "host-only coherent", "volatile", "persistent",
        "fixed configuration", "BI",
    };

    g_string_append_printf(text, "    Window Restrictions: 0x%04x",
                           restrictions);
    for (int i = 0; i < ARRAY_SIZE(names); i++) {
        if (restrictions & 1 << i) {
            g_string_append_printf(text, ", %s", names[i]);
        }
    }
    g_string_append(text, "\n");
}

static void append_chbs(GString *text, const uint8_t *entry)
{
    g_string_append_printf(text, "  CHBS (CXL Host Bridge)\n"
                           "    UID: %u\n    CXL Version: %u\n"
                           "    Base: 0x%" PRIx64 "\n"
                           "    Length: 0x%" PRIx64 "\n",
                           ldl_le_p(entry + 4), ldl_le_p(entry + 8),
                           ldq_le_p(entry + 16), ldq_le_p(entry + 24));
}

static void append_cfmws(GString *text, const uint8_t *entry, unsigned length)
{
    g_string_append_printf(text, "  CFMWS (CXL Fixed Memory Window)\n"
                           "    Base HPA: 0x%" PRIx64 "\n"
                           "    Window Size: 0x%" PRIx64 "\n"
                           "    Interleave Ways: %u, Arithmetic: %u, "
                           "Granularity: %u (encoded)\n",
                           ldq_le_p(entry + 8), ldq_le_p(entry + 16),
                           entry[24], entry[25], ldl_le_p(entry + 28));
    append_restrictions(text, lduw_le_p(entry + 32));
    g_string_append_printf(text, "    QTG ID: %u\n    Targets:",
                           lduw_le_p(entry + 34));
    for (unsigned at = 36; at + 4 <= length; at += 4) {
        g_string_append_printf(text, " %u", ldl_le_p(entry + at));
    }
    g_string_append(text, "\n");
}

char *acpi_cedt_text(GByteArray *tables)
{
    GString *text = g_string_new(NULL);
    unsigned length, entry_length;
    uint8_t *table = acpi_tables_find(tables, "CEDT", &length);

    if (table) {
        g_string_append_printf(text, "CEDT, revision %u\n", table[8]);
        for (unsigned at = HEADER_LENGTH; at < length; at += entry_length) {
            entry_length = lduw_le_p(table + at + 2);
            g_assert_cmpuint(entry_length, >=, 4);
            g_assert_cmpuint(entry_length, <=, length - at);
            if (table[at] == 0) {
                g_assert_cmpuint(entry_length, ==, 32);
                append_chbs(text, table + at);
            } else {
                g_assert_cmpuint(table[at], ==, 1);
                append_cfmws(text, table + at, entry_length);
            }
        }
    }
    return g_string_free(text, false);
}

/*
 * IORT, ARM DEN 0049E
 */
static void append_iort_node(GString *text, const uint8_t *table, unsigned at)
{
    static const char *const names[] = {
        "ITS Group", "Named component", "Root Complex", "SMMUv1 or v2",
        "SMMUv3", "PMCG", "Reserved memory",
    };
    const uint8_t *node = table + at;
    unsigned maps = ldl_le_p(node + 8), first = ldl_le_p(node + 12);

    g_assert_cmpuint(node[0], <, ARRAY_SIZE(names));
    g_string_append_printf(text, "  Node at 0x%x: %s\n", at, names[node[0]]);
    if (node[0] == 4) {
        g_string_append_printf(text, "    Base: 0x%" PRIx64 "\n",
                               ldq_le_p(node + 16));
    }
    if (node[0] == 6) {
        const uint8_t *range = node + ldl_le_p(node + 24);

        g_assert_cmpuint(ldl_le_p(node + 20), ==, 1);
        g_string_append_printf(text, "    Range: 0x%" PRIx64 ", 0x%" PRIx64
                               " bytes\n", ldq_le_p(range),
                               ldq_le_p(range + 8));
    }
    for (unsigned i = 0; i < maps; i++) {
        const uint8_t *map = node + first + 20 * i;

        g_string_append_printf(text, "    IDs 0x%04x to 0x%04x to 0x%04x of "
                               "the node at 0x%x\n", ldl_le_p(map),
                               ldl_le_p(map) + ldl_le_p(map + 4),
                               ldl_le_p(map + 8), ldl_le_p(map + 12));
    }
}

char *acpi_iort_text(GByteArray *tables)
{
    GString *text = g_string_new(NULL);
    unsigned length;
    uint8_t *table = acpi_tables_find(tables, "IORT", &length);
    unsigned at;

    if (table) {
        g_string_append_printf(text, "IORT, revision %u, %u nodes\n",
                               table[8], ldl_le_p(table + HEADER_LENGTH));
        for (at = ldl_le_p(table + 40); at < length;
             at += lduw_le_p(table + at + 1)) {
            g_assert_cmpuint(lduw_le_p(table + at + 1), >=, 16);
            append_iort_node(text, table, at);
        }
    }
    return g_string_free(text, false);
}

/*
 * SRAT, ACPI 6.5 Section 5.2.16
 */
static void append_affinity(GString *text, const uint8_t *entry)
{
    const uint8_t *handle = entry + 8;

    switch (entry[0]) {
    case 1:
        if (ldl_le_p(entry + 28) & 1) {
            g_string_append_printf(text, "  Memory: domain %u, base 0x%"
                                   PRIx64 ", length 0x%" PRIx64 "\n",
                                   ldl_le_p(entry + 2), ldq_le_p(entry + 8),
                                   ldq_le_p(entry + 16));
        }
        break;
    case 5:
    case 6:
        g_string_append_printf(text, "  Generic %s: domain %u, ",
                               entry[0] == 5 ? "initiator" : "port",
                               ldl_le_p(entry + 4));
        if (entry[3] == 0) {
            g_string_append_printf(text, "ACPI device %.8s, UID %u\n", handle,
                                   ldl_le_p(handle + 8));
        } else {
            g_string_append_printf(text, "PCI device %04x:%02x:%02x.%u\n",
                                   lduw_le_p(handle), handle[2],
                                   handle[3] >> 3, handle[3] & 7);
        }
        break;
    }
}

char *acpi_srat_text(GByteArray *tables)
{
    GString *text = g_string_new(NULL);
    unsigned length;
    uint8_t *table = acpi_tables_find(tables, "SRAT", &length);

    if (table) {
        g_string_append_printf(text, "SRAT, revision %u\n", table[8]);
        for (unsigned at = HEADER_LENGTH + 12; at < length;
             at += table[at + 1]) {
            g_assert_cmpuint(table[at + 1], >=, 2);
            append_affinity(text, table + at);
        }
    }
    return g_string_free(text, false);
}

/*
 * DSDT
 */
bool acpi_has_iasl(void)
{
    g_autofree char *path = g_find_program_in_path("iasl");

    return path;
}

static char *disassemble(const uint8_t *table, unsigned length)
{
    g_autofree char *dir = g_dir_make_tmp("vfio-cxl-acpi-XXXXXX", NULL);
    g_autofree char *aml = g_build_filename(dir, "dsdt.aml", NULL);
    g_autofree char *dsl = g_build_filename(dir, "dsdt.dsl", NULL);
    const char *argv[] = { "iasl", "-d", aml, NULL };
    char *text;
    int status;

    g_assert_true(g_file_set_contents(aml, (const char *)table, length, NULL));
    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL,
                               G_SPAWN_SEARCH_PATH |
                               G_SPAWN_STDOUT_TO_DEV_NULL |
                               G_SPAWN_STDERR_TO_DEV_NULL,
                               NULL, NULL, NULL, NULL, &status, NULL));
    g_assert_cmpint(status, ==, 0);
    g_assert_true(g_file_get_contents(dsl, &text, NULL, NULL));
    g_unlink(dsl);
    g_unlink(aml);
    g_rmdir(dir);
    return text;
}

static int indent(const char *line)
{
    return strspn(line, " ");
}

/* Index of the line after the block that begins at line @i */
static int block_end(char **lines, int i)
{
    int depth = indent(lines[i]);

    /* A block ends with a brace below its beginning */
    for (i++; lines[i] && !(indent(lines[i]) == depth &&
                            strchr("{})", lines[i][depth]) == NULL); i++) {
        if (indent(lines[i]) == depth && lines[i][depth] == '}') {
            return i + 1;
        }
    }
    return i;
}

static bool is_routing(const char *line)
{
    line += indent(line);
    return g_str_has_prefix(line, "Name (_PRT") ||
           g_str_has_prefix(line, "Method (_PRT") ||
           g_str_has_prefix(line, "Device (L");
}

char *acpi_device_text(GByteArray *tables, const char *name)
{
    g_autofree char *start = g_strdup_printf("Device (%s)", name);
    g_autofree char *dsl = NULL, *plain = NULL;
    g_autoptr(GRegex) comments = NULL;
    g_auto(GStrv) lines = NULL;
    GString *text = g_string_new(NULL);
    unsigned length;
    uint8_t *table = acpi_tables_find(tables, "DSDT", &length);
    int i = 0, end, depth;

    g_assert_nonnull(table);
    dsl = disassemble(table, length);
    /* The comments of iasl on a name or UUID depend on its version */
    comments = g_regex_new(" */\\*.*?\\*/| *//.*", 0, 0, NULL);
    plain = g_regex_replace_literal(comments, dsl, -1, 0, "", 0, NULL);
    lines = g_strsplit(plain, "\n", -1);
    while (lines[i] && !strstr(lines[i], start)) {
        i++;
    }
    g_assert_nonnull(lines[i]);
    end = block_end(lines, i);
    depth = indent(lines[i]);
    while (i < end) {
        if (is_routing(lines[i])) {
            i = block_end(lines, i);
            continue;
        }
        g_strchomp(lines[i]);
        if (*lines[i]) {
            g_string_append_printf(text, "%s\n", lines[i] + depth);
        }
        i++;
    }
    return g_string_free(text, false);
}
