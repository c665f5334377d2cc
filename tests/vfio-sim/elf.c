/*
 * vfio-sim: the libraries that a program needs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher.h"

typedef struct Elf {
    const char *base;
    uint64_t size;
    const Elf64_Phdr *segments;
    unsigned num_segments;
} Elf;

/* Part of the file, or NULL if the file does not have all of it */
static const void *part(const Elf *elf, uint64_t offset, uint64_t size)
{
    return offset <= elf->size && size <= elf->size - offset ?
           elf->base + offset : NULL;
}

static bool open_elf(Elf *elf)
{
    const Elf64_Ehdr *header = part(elf, 0, sizeof(*header));

    if (!header || memcmp(header->e_ident, ELFMAG, SELFMAG) ||
        header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_phoff % 8) {
        return false;
    }
    elf->num_segments = header->e_phnum;
    elf->segments = part(elf, header->e_phoff,
                         elf->num_segments * sizeof(Elf64_Phdr));
    return elf->segments;
}

static const Elf64_Dyn *dynamic_section(const Elf *elf, unsigned *count)
{
    unsigned i;

    for (i = 0; i < elf->num_segments; i++) {
        const Elf64_Phdr *s = &elf->segments[i];

        if (s->p_type == PT_DYNAMIC && s->p_offset % 8 == 0) {
            *count = s->p_filesz / sizeof(Elf64_Dyn);
            return part(elf, s->p_offset, s->p_filesz);
        }
    }
    return NULL;
}

/* The string at an offset from a virtual address, or NULL */
static const char *string(const Elf *elf, uint64_t table, uint64_t offset)
{
    unsigned i;

    for (i = 0; i < elf->num_segments; i++) {
        const Elf64_Phdr *s = &elf->segments[i];
        const char *text;
        uint64_t skip = table - s->p_vaddr;

        if (s->p_type != PT_LOAD || table < s->p_vaddr ||
            skip >= s->p_filesz || offset >= s->p_filesz - skip) {
            continue;
        }
        text = part(elf, s->p_offset, s->p_filesz);
        return text && memchr(text + skip + offset, '\0',
                              s->p_filesz - skip - offset) ?
               text + skip + offset : NULL;
    }
    return NULL;
}

static bool find_needed(const Elf *elf, const char *prefix, char *name,
                        size_t size)
{
    const Elf64_Dyn *entries;
    uint64_t table = 0;
    unsigned count, i;

    entries = dynamic_section(elf, &count);
    if (!entries) {
        return false;
    }
    for (i = 0; i < count; i++) {
        if (entries[i].d_tag == DT_STRTAB) {
            table = entries[i].d_un.d_ptr;
        }
    }
    for (i = 0; i < count; i++) {
        const char *text;

        if (entries[i].d_tag != DT_NEEDED) {
            continue;
        }
        text = string(elf, table, entries[i].d_un.d_val);
        if (text && !strncmp(text, prefix, strlen(prefix))) {
            snprintf(name, size, "%s", text);
            return true;
        }
    }
    return false;
}

bool elf_needs(const char *path, const char *prefix, char *name, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool found = false;
    struct stat st;
    Elf elf;

    if (fd < 0) {
        return false;
    }
    if (fstat(fd, &st) == 0 && st.st_size > 0) {
        void *base = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);

        if (base != MAP_FAILED) {
            elf = (Elf) { .base = base, .size = st.st_size };
            found = open_elf(&elf) && find_needed(&elf, prefix, name, size);
            munmap(base, st.st_size);
        }
    }
    close(fd);
    return found;
}
