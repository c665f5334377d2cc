/*
 * Fuzz the reader of VFIO's CXL interface
 *
 * The input is a kernel's replies: to GET_INFO, to GET_REGION_INFO for each
 * region, and to reads of config space and component registers. The reader must
 * not access anything outside the replies, must terminate, and must only accept
 * consistent replies.
 *
 * tools/fuzz.py runs it under libFuzzer. With VFIO_CXL_FUZZ_EXPECT=NAME in the
 * environment the input must be accepted as that kernel's. Built with
 * VFIO_CXL_FUZZ_SEEDS it is a program that writes one such input for each.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/vfio.h>

#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "hw/cxl/cxl.h"
#include "hw/cxl/cxl_hdm.h"
#include "hw/pci/pci.h"
#include "hw/vfio/cxl-internal.h"
#include "hw/vfio/vfio-helpers.h"

#define REGIONS 13
#define REPLY 160

/* Replies of the kernel. If the input is shorter, the rest is zeros. */
typedef struct Input {
    uint8_t num_regions;
    uint8_t fail_reads;         /* 1 in so many reads fails, 0: none */
    uint16_t region_errors;     /* a bit for each region */
    uint32_t gate;              /* 1: memory goes with Memory Space */
    uint8_t device[REPLY];
    uint8_t region[REGIONS][REPLY];
    uint8_t config[0x200];      /* from 0x100 on; below it all is zeros */
    uint8_t bar[0x300];         /* what any BAR has at offset 0x..000 */
    uint8_t registers[0x300];   /* and any other region */
} Input;

static Input input;
static VFIOPCIDevice vdev;
static unsigned reads;
static uint16_t command;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of exactly the length that the kernel reports, so that ASan sees its end */
static void *copy_reply(const uint8_t *reply, uint32_t minimum)
{
    uint32_t argsz = MAX(MIN((uint32_t)ldl_he_p(reply), REPLY), minimum);
    uint8_t *copy = g_memdup2(reply, argsz);

    stl_he_p(copy, argsz);
    return copy;
}

struct vfio_device_info *vfio_get_device_info(int fd)
{
    return copy_reply(input.device, sizeof(struct vfio_device_info));
}

int vfio_device_get_region_info(VFIODevice *vbasedev, int index,
                                struct vfio_region_info **info)
{
    g_assert(index >= 0 && index < vbasedev->num_initial_regions);
    if (input.region_errors >> index & 1) {
        return -EINVAL;
    }
    if (!vbasedev->reginfo[index]) {
        vbasedev->reginfo[index] =
            copy_reply(input.region[index], sizeof(**info));
    }
    *info = vbasedev->reginfo[index];
    return 0;
}

/* The decoding of the count is upstream's; any answer must be checked */
int cxl_decoder_count_dec(int code)
{
    return code > 12 ? 0 : code ? 2 * code : 1;
}

static int region_read(VFIODevice *vbasedev, uint8_t nr, off_t off,
                       uint32_t size, void *data)
{
    const uint8_t *from = nr < PCI_ROM_SLOT ? input.bar : input.registers;
    uint64_t at = off, have = sizeof(input.bar);

    g_assert(off >= 0 && size <= 4);
    if (input.fail_reads && ++reads % input.fail_reads == 0) {
        return -EIO;
    }
    if (nr == VFIO_PCI_CONFIG_REGION_INDEX) {
        g_assert(at + size <= PCIE_CONFIG_SPACE_SIZE);
        if (at == PCI_COMMAND && size == sizeof(command)) {
            memcpy(data, &command, size);
            return size;
        }
        from = input.config;
        have = sizeof(input.config);
        at -= PCI_CONFIG_SPACE_SIZE;
    } else {
        /* The same bytes wherever the component registers are */
        at &= 0xfff;
    }
    memset(data, 0, size);
    if (at < have && size <= have - at) {
        memcpy(data, from + at, size);
    }
    return size;
}

static int region_write(VFIODevice *vbasedev, uint8_t nr, off_t off,
                        uint32_t size, void *data, bool post)
{
    if (nr == VFIO_PCI_CONFIG_REGION_INDEX && off == PCI_COMMAND &&
        size == sizeof(command)) {
        memcpy(&command, data, size);
    }
    return size;
}

static VFIODeviceIOOps io_ops = {
    .region_read = region_read,
    .region_write = region_write,
};

/*
 * What the reader, and the generations in cxl-compat.c, need of the rest. The
 * reader calls only the first two.
 */
bool vfio_cxl_memory_readable(const VFIOCXLInfo *info)
{
    uint32_t value;

    if (input.gate == 1 && !(le16_to_cpu(command) & PCI_COMMAND_MEMORY)) {
        return false;
    }
    return region_read(info->vbasedev, info->memory_region, 0, sizeof(value),
                       &value) > 0;
}

bool vfio_cxl_memory_active(const VFIOCXLInfo *info)
{
    return vfio_cxl_memory_readable(info);
}

bool vfio_cxl_reset_wait(int64_t deadline)
{
    g_assert_not_reached();
}

int vfio_cxl_device_reset(VFIOCXL *cxl)
{
    g_assert_not_reached();
}

void vfio_cxl_reset_offer(VFIOCXL *cxl)
{
    g_assert_not_reached();
}

bool cxl_hdm_is_locked(const CXLHDM *hdm, unsigned n)
{
    g_assert_not_reached();
}

void pci_default_write_config(PCIDevice *d, uint32_t addr, uint32_t val, int l)
{
    g_assert_not_reached();
}

/* As in cxl.c, which cannot be linked without most of QEMU */
static const VFIOCXLKernel vfio_cxl_kernel_v6 = {
    .name = "v6",
    .region_type = VFIO_CXL_REGION_TYPE,
    .max_decoders = 1,
};

static const TypeInfo types[] = {
    VFIO_CXL_KERNEL_TYPE(v6),
};

DEFINE_TYPES(types)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    module_call_init(MODULE_INIT_QOM);
    return 0;
}

/* The rest of QEMU relies on this, regardless of the kernel's replies */
static void check(const VFIOCXLInfo *info)
{
    struct vfio_region_info **reginfo = vdev.vbasedev.reginfo;
    struct vfio_region_info *memory = reginfo[info->memory_region];
    struct vfio_region_info *registers = reginfo[info->registers_region];
    struct vfio_region_info *bar = reginfo[info->bar];

    g_assert(info->kernel && info->kernel->name);
    g_assert(info->memory_region >= VFIO_PCI_NUM_REGIONS);
    g_assert(info->registers_region >= VFIO_PCI_NUM_REGIONS);
    g_assert(info->memory_region != info->registers_region);
    g_assert(info->bar < PCI_ROM_SLOT);
    g_assert(info->memory_size == memory->size);
    g_assert(info->memory_size % CXL_HDM_ALIGN == 0 && info->memory_size);
    g_assert(memory->flags & VFIO_REGION_INFO_FLAG_MMAP);
    g_assert(info->registers_size == registers->size);
    g_assert(info->registers_offset + info->registers_size <=
             CXL2_COMPONENT_BLOCK_SIZE);
    g_assert(info->decoder_count >= 1 &&
             info->decoder_count <= HDM_DECODE_MAX);
    g_assert(info->hdm_offset >= CXL2_COMPONENT_IO_REGION_SIZE);
    g_assert(info->hdm_offset % 4 == 0);
    g_assert(info->hdm_offset + 0x10 + 0x20 * info->decoder_count <=
             info->registers_offset + info->registers_size);
    if (info->ras_header) {
        g_assert(info->ras_offset >= CXL2_COMPONENT_IO_REGION_SIZE + 12);
        g_assert(info->ras_offset % 4 == 0);
        g_assert(info->ras_offset + CXL_RAS_REGISTERS_SIZE <=
                 CXL2_COMPONENT_IO_REGION_SIZE + CXL2_COMPONENT_CM_REGION_SIZE);
        g_assert(info->ras_offset + CXL_RAS_REGISTERS_SIZE <=
                 info->hdm_offset ||
                 info->ras_offset >= info->hdm_offset + 0x10 +
                                     0x20 * info->decoder_count);
    }
    g_assert(bar->size >= CXL2_COMPONENT_BLOCK_SIZE);
    g_assert(info->block <= bar->size - CXL2_COMPONENT_BLOCK_SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *expect = getenv("VFIO_CXL_FUZZ_EXPECT");
    VFIODevice *device = &vdev.vbasedev;
    VFIOCXLDVSECSet dvsecs;
    Error *err = NULL;
    VFIOCXLInfo info;

    memset(&input, 0, sizeof(input));
    memcpy(&input, data, MIN(size, sizeof(input)));
    reads = 0;
    command = 0;
    memset(&vdev, 0, sizeof(vdev));
    vdev.config_size = PCIE_CONFIG_SPACE_SIZE;
    device->name = (char *)"fuzz";
    device->io_ops = &io_ops;
    device->num_initial_regions = MIN(MAX(input.num_regions,
                                          VFIO_PCI_NUM_REGIONS), REGIONS);
    device->reginfo = g_new0(struct vfio_region_info *, REGIONS);

    if (vfio_cxl_dvsec_find(&vdev, &dvsecs, &err) &&
        vfio_cxl_uapi_read(device, &dvsecs, &info, &err)) {
        g_assert(!err);
        check(&info);
        vfio_cxl_uapi_distinguish(&info);
        g_assert(!expect || !strcmp(expect, info.kernel->name));
        vfio_cxl_read_committed(&info, NULL);
    } else {
        g_assert(err && *error_get_pretty(err));
        if (expect) {
            g_error("not accepted as %s: %s", expect, error_get_pretty(err));
        }
        error_free(err);
    }
    for (int i = 0; i < REGIONS; i++) {
        g_free(device->reginfo[i]);
    }
    g_free(device->reginfo);
    return 0;
}

#ifdef VFIO_CXL_FUZZ_SEEDS
#define BLOCK 0x30000
#define HDM 0x200
#define MEMORY 0x10000000

typedef struct Generation {
    const char *name;
    uint32_t type;
    bool device_cap_v2;
    bool device_cap_v3;
    bool geometry;
    unsigned memory;
    uint64_t registers_size;
    uint32_t gate;
} Generation;

static const Generation generations[] = {
    { "v2", 0x80001e98, true, false, false, 9, HDM + 0x30 },
    { "v3", 0x80001e98, false, true, false, 10, 0x10000 },
    { "v4", 4, false, false, true, 9, 0x30 },
    { "v5", 0x80001e98, false, false, true, 9, 0x30, 1 },
    { "v6", 0x80001e98, false, false, true, 9, 0x30 },
};

static void fill_region(Input *in, unsigned index, uint32_t flags,
                        uint64_t size, uint32_t type, uint32_t subtype)
{
    struct vfio_region_info info = {
        .argsz = sizeof(info), .flags = flags, .index = index, .size = size,
    };
    struct vfio_region_info_cap_type cap = {
        .header = { .id = VFIO_REGION_INFO_CAP_TYPE, .version = 1 },
        .type = type,
        .subtype = subtype,
    };

    if (type) {
        info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
        info.cap_offset = sizeof(info);
        info.argsz += sizeof(cap);
        memcpy(in->region[index] + sizeof(info), &cap, sizeof(cap));
    }
    memcpy(in->region[index], &info, sizeof(info));
}

static void fill_bar(Input *in, uint64_t hole)
{
    const struct vfio_region_sparse_mmap_area areas[] = {
        { .offset = 0, .size = hole },
        { .offset = hole + 0x10000, .size = 0x30000 - hole },
    };
    const struct vfio_region_info_cap_sparse_mmap cap = {
        .header = { .id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .version = 1 },
        .nr_areas = ARRAY_SIZE(areas),
    };
    const struct vfio_region_info info = {
        .argsz = sizeof(info) + sizeof(cap) + sizeof(areas),
        .flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
                 VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS,
        .cap_offset = sizeof(info),
        .size = 0x40000,
    };
    uint8_t *to = in->region[0];

    memcpy(to, &info, sizeof(info));
    memcpy(to + sizeof(info), &cap, sizeof(cap));
    memcpy(to + sizeof(info) + sizeof(cap), areas, sizeof(areas));
}

/* Replies of a kernel of that generation for a device with one decoder */
static void make_seed(const Generation *g, Input *in)
{
    struct vfio_device_info *info = (void *)in->device;
    unsigned registers = 19 - g->memory;
    uint8_t *array;
    const uint32_t config[] = {
        0x11410023, 0x01411e98, 0x00000008, 0x00000100 | BLOCK, 0,
        0x00010023, 0x03c31e98, 0x00070000,     /* CXL Device, at 0x114 */
    };
    const uint32_t hdm[] = {
        0, 2, 0, 0, 0, 0x45a0, MEMORY, 0, 0x700,
    };

    memset(in, 0, sizeof(*in));
    in->num_regions = 11;
    in->gate = g->gate;
    info->argsz = sizeof(*info);
    info->flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_CXL;
    info->num_regions = 11;
    if (g->device_cap_v2 || g->device_cap_v3) {
        struct vfio_info_cap_header header = {
            .id = VFIO_DEVICE_INFO_CAP_CXL, .version = 1,
        };
        uint8_t *cap = in->device + info->argsz;

        /* Little-endian hosts only; the structs are in cxl-compat.c */
        memcpy(cap, &header, sizeof(header));
        if (g->device_cap_v2) {
            stl_le_p(cap + 12, 1);              /* committed */
            stq_le_p(cap + 16, BLOCK + 0x1000);
            stl_le_p(cap + 24, g->memory);
            stl_le_p(cap + 28, registers);
        } else {
            stl_le_p(cap + 8, 1);
            stl_le_p(cap + 12, g->memory);
            stl_le_p(cap + 16, registers);
            stq_le_p(cap + 32, BLOCK);
            stq_le_p(cap + 40, 0x10000);
        }
        info->cap_offset = info->argsz;
        info->argsz += g->device_cap_v2 ? 32 : 48;
    }
    if (info->cap_offset) {
        info->flags |= VFIO_DEVICE_FLAGS_CAPS;
    }
    fill_bar(in, BLOCK);
    fill_region(in, g->memory, 7, MEMORY, g->type, 1);
    fill_region(in, registers, 3, g->registers_size, g->type, 2);
    if (g->geometry) {
        struct vfio_region_info *region = (void *)in->region[registers];
        struct vfio_info_cap_header *type = (void *)(region + 1);
        struct vfio_region_info_cap_cxl_comp_regs cap = {
            .header = {
                .id = VFIO_REGION_INFO_CAP_CXL_COMP_REGS, .version = 1,
            },
            .offset = BLOCK + 0x1000 + HDM,
        };

        type->next = region->argsz;
        memcpy(in->region[registers] + region->argsz, &cap, sizeof(cap));
        region->argsz += sizeof(cap);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(config); i++) {
        stl_le_p(in->config + 4 * i, config[i]);
    }
    /* Two capabilities in the array: where it is depends on the kernel */
    array = g->geometry ? in->bar : in->registers;
    stl_le_p(array, 1 | 1 << 16 | 2 << 24);
    stl_le_p(array + 4, 2 | 2 << 16 | CXL_RAS_REGISTERS_OFFSET << 20);
    stl_le_p(array + 8, 5 | 3 << 16 | HDM << 20);
    for (unsigned i = 0; i < ARRAY_SIZE(hdm); i++) {
        stl_le_p(in->registers + (g->geometry ? 0 : HDM) + 4 * i, hdm[i]);
    }
}

/* Replies that are nearly acceptable, and must be refused */
static void spoil(const Generation *g, Input *in, const char *how)
{
    uint8_t *hdm = in->registers + (g->geometry ? 0 : HDM);
    struct vfio_region_info *memory = (void *)in->region[g->memory];
    struct vfio_region_info *registers = (void *)in->region[19 - g->memory];

    if (!strcmp(how, "decoders")) {
        stl_le_p(hdm, 7);
        registers->size = 0x10000 - (g->registers_size == 0x10000 ? 0 : 0x1200);
    } else if (!strcmp(how, "memory")) {
        memory->size += 0x1000;
    } else if (!strcmp(how, "no-mmap")) {
        memory->flags &= ~VFIO_REGION_INFO_FLAG_MMAP;
    } else if (!strcmp(how, "registers")) {
        registers->size = 0x20000;
    } else if (!strcmp(how, "bar")) {
        ((struct vfio_region_info *)in->region[0])->size = BLOCK + 0x1000;
    }
}

static bool write_seed(const char *dir, const char *name, const Input *in)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    return g_file_set_contents(path, (const char *)in, sizeof(*in), NULL);
}

int main(int argc, char **argv)
{
    static const char *const ways[] = {
        "decoders", "memory", "no-mmap", "registers", "bar",
    };

    for (unsigned i = 0; argc == 2 && i < ARRAY_SIZE(generations); i++) {
        const Generation *g = &generations[i];
        Input in;

        make_seed(g, &in);
        if (!write_seed(argv[1], g->name, &in)) {
            return 1;
        }
        for (unsigned w = 0; w < ARRAY_SIZE(ways); w++) {
            g_autofree char *name = g_strdup_printf("%s-%s", g->name, ways[w]);

            make_seed(g, &in);
            spoil(g, &in, ways[w]);
            if (!write_seed(argv[1], name, &in)) {
                return 1;
            }
        }
    }
    return argc == 2 ? 0 : 2;
}
#endif
