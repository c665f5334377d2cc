/*
 * CXL Type-2 devices behind vfio-pci
 *
 * The guest's view of the device's HDM decoders is QEMU's own, whatever the
 * kernel does with its copy: the kernel's interface is read once, and asked
 * again only whether the physical decoder is committed. Commits move an
 * alias of the mapped memory into a CXL fixed memory window.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
#include <linux/vfio.h>

#include "qapi/error.h"
#include "qapi/qapi-builtin-types.h"
#include "qapi/util.h"
#include "qemu/error-report.h"
#include "qemu/units.h"
#include "hw/cxl/cxl.h"
#include "hw/cxl/cxl_hdm.h"
#include "hw/cxl/cxl_route.h"
#include "hw/pci/pci.h"
#include "hw/qdev-properties.h"
#include "system/tcg.h"
#include "pci.h"
#include "cxl-dvsec.h"
#include "cxl-uapi.h"
#include "trace.h"

#define TYPE_VFIO_CXL "vfio-cxl"
OBJECT_DECLARE_SIMPLE_TYPE(VFIOCXL, VFIO_CXL)

/* Why the memory may not be touched, whatever the guest's registers say */
enum {
    VFIO_CXL_IN_RESET = 1 << 0,
    VFIO_CXL_IN_CONFIG_WRITE = 1 << 1, /* one that may end the access */
    VFIO_CXL_HOST_NOT_COMMITTED = 1 << 2,
    VFIO_CXL_NOT_MAPPED = 1 << 3,
};

/**
 * struct VFIOCXL - the CXL side of a vfio-pci device
 * @vdev: the device
 * @plain: it runs as plain PCI; only @bar, @block, @overlay, @dvsecs count
 * @exited: it is being taken away
 * @firmware_commits: virtual firmware commits decoder 0
 * @info: what the kernel said
 * @bar: the component BAR
 * @block: offset of the component registers in it
 * @overlay: the component registers as the guest sees them
 * @overlay_start: offset of the first of them in the block
 * @array: the capability array and what the kernel keeps of the registers
 *         between it and the HDM decoders, where the block is trapped
 * @dvsecs: the CXL DVSECs
 * @hdm: the HDM decoders that the guest sees
 * @route: where the memory is mapped
 * @mmap: the device's memory
 * @memory: the same for the guest
 * @scratch: @mmap is not the device's memory now, see set_backing()
 * @blocked: VFIO_CXL_IN_RESET etc.
 * @view_known: the kernel's view of decoder 0 is @view_base and @view_lock
 * @view_lock: locked
 * @view_base: guest physical address
 */
struct VFIOCXL {
    Object parent_obj;

    VFIOPCIDevice *vdev;
    bool plain;
    bool exited;
    bool firmware_commits;
    VFIOCXLInfo info;
    unsigned bar;
    uint64_t block;
    MemoryRegion overlay;
    unsigned overlay_start;
    uint8_t *array;
    VFIOCXLDVSECs dvsecs;
    CXLHDM hdm;
    CXLRoute route;
    void *mmap;
    MemoryRegion memory;
    bool scratch;
    unsigned blocked;
    bool view_known;
    bool view_lock;
    uint64_t view_base;
};

static const char *name_of(VFIOCXL *cxl)
{
    return cxl->vdev->vbasedev.name;
}

/* May the memory be touched, as far as the guest has a say? */
static bool guest_allows(VFIOCXL *cxl)
{
    PCIDevice *pdev = PCI_DEVICE(cxl->vdev);

    if (pdev->pm_cap &&
        pci_get_word(pdev->config + pdev->pm_cap + PCI_PM_CTRL) &
        PCI_PM_CTRL_STATE_MASK) {
        return false;
    }
    /* Newer kernels take the memory away with Memory Space Enable */
    return pci_get_word(pdev->config + PCI_COMMAND) & PCI_COMMAND_MEMORY &&
           vfio_cxl_dvsec_mem_enabled(cxl->vdev, &cxl->dvsecs);
}

static bool is_open(VFIOCXL *cxl)
{
    return !cxl->blocked && guest_allows(cxl);
}

/*
 * Under TCG vCPUs take a change of the map late: until they do, they may
 * touch what the kernel has closed. Give them memory that does no harm, at
 * the same address, before the kernel is told. KVM removes a memory slot
 * while no vCPU runs.
 */
static void set_backing(VFIOCXL *cxl, bool scratch)
{
    VFIODevice *vbasedev = &cxl->vdev->vbasedev;
    int flags = MAP_FIXED, fd = -1;
    struct vfio_region_info *info;
    off_t offset = 0;

    if (!tcg_enabled() || scratch == cxl->scratch) {
        return;
    }
    if (scratch) {
        flags |= MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    } else {
        vfio_device_get_region_info(vbasedev, cxl->info.memory_region, &info);
        flags |= MAP_SHARED;
        fd = vfio_device_get_region_fd(vbasedev, cxl->info.memory_region);
        offset = info->offset;
    }
    if (mmap(cxl->mmap, cxl->info.memory_size, PROT_READ | PROT_WRITE, flags,
             fd, offset) == MAP_FAILED) {
        error_report(VFIO_MSG_PREFIX "cannot map device memory: %s",
                     name_of(cxl), strerror(errno));
        cxl->blocked |= VFIO_CXL_NOT_MAPPED;
        return;
    }
    cxl->scratch = scratch;
}

/* Some kernels want to know where the guest has decoder 0 */
static void update_view(VFIOCXL *cxl, uint64_t base)
{
    VFIODevice *vbasedev = &cxl->vdev->vbasedev;
    bool lock = cxl_hdm_is_locked(&cxl->hdm, 0);

    if (!cxl->info.kernel->wants_gpa || cxl->blocked & VFIO_CXL_IN_RESET ||
        (cxl->view_known && cxl->view_base == base &&
         cxl->view_lock == lock)) {
        return;
    }
    cxl->view_known = vfio_cxl_write_view(vbasedev, &cxl->info, base, lock);
    cxl->view_base = base;
    cxl->view_lock = lock;
    trace_vfio_cxl_view(name_of(cxl), base, lock, cxl->view_known);
}

static void update(VFIOCXL *cxl)
{
    CXLHDMRange range = { };

    cxl_hdm_is_committed(&cxl->hdm, 0, &range);
    update_view(cxl, range.base);
    vfio_cxl_dvsec_set_base(cxl->vdev, &cxl->dvsecs, range.base);
    if (is_open(cxl)) {
        set_backing(cxl, false);
    }
    cxl_route_update(CXL_ENDPOINT(cxl));
    if (!is_open(cxl)) {
        set_backing(cxl, true);
    }
}

static void block_memory(VFIOCXL *cxl, unsigned reason)
{
    cxl->blocked |= reason;
    trace_vfio_cxl_block(name_of(cxl), reason, cxl->blocked);
    update(cxl);
}

/* Is there memory behind the host's decoder? Ask when that may have changed */
static void check_host(VFIOCXL *cxl)
{
    Error *err = NULL;

    cxl->view_known = false;
    if (vfio_cxl_read_committed(&cxl->vdev->vbasedev, &cxl->info, &err)) {
        cxl->blocked &= ~VFIO_CXL_HOST_NOT_COMMITTED;
        return;
    }
    if (cxl->blocked & VFIO_CXL_HOST_NOT_COMMITTED) {
        error_free(err); /* said already; a guest can ask again and again */
    } else if (err) {
        error_reportf_err(err, VFIO_MSG_PREFIX, name_of(cxl));
    } else {
        error_report(VFIO_MSG_PREFIX "the host's HDM decoder is not "
                     "committed: device memory is not available until a "
                     "reset brings it back", name_of(cxl));
    }
    cxl->blocked |= VFIO_CXL_HOST_NOT_COMMITTED;
    cxl_hdm_decommit(&cxl->hdm);
}

static void unblock_memory(VFIOCXL *cxl, unsigned reason)
{
    cxl->blocked &= ~reason;
    trace_vfio_cxl_block(name_of(cxl), 0, cxl->blocked);
    update(cxl);
}

/*
 * HDM decoders
 */
static bool hdm_check(void *opaque, unsigned n, const CXLHDMRange *range,
                      Error **errp)
{
    VFIOCXL *cxl = opaque;

    if (range->dpa > cxl->info.memory_size ||
        range->size > cxl->info.memory_size - range->dpa) {
        error_setg(errp, "the device has only 0x%" PRIx64 " bytes of memory",
                   cxl->info.memory_size);
        return false;
    }
    if (cxl->blocked & VFIO_CXL_HOST_NOT_COMMITTED) {
        error_setg(errp, "the host's decoder is not committed");
        return false;
    }
    return cxl_route_check(CXL_ENDPOINT(cxl), range, errp);
}

static void hdm_update(void *opaque)
{
    update(opaque);
}

static const CXLHDMOps hdm_ops = {
    .check = hdm_check,
    .update = hdm_update,
};

/*
 * The component registers. What is neither the HDM decoders nor the kernel's
 * copy of the capability array is hardware that a guest must not touch.
 */
static bool in_hdm(VFIOCXL *cxl, hwaddr addr)
{
    return !cxl->plain && addr >= cxl->info.hdm_offset &&
           addr - cxl->info.hdm_offset < cxl_hdm_length(&cxl->hdm);
}

static uint64_t overlay_read(void *opaque, hwaddr addr, unsigned size)
{
    const unsigned cm = CXL2_COMPONENT_IO_REGION_SIZE;
    VFIOCXL *cxl = opaque;
    uint64_t value = 0;

    addr += cxl->overlay_start;
    if (in_hdm(cxl, addr)) {
        value = cxl_hdm_read(&cxl->hdm, addr - cxl->info.hdm_offset, size);
    } else if (!cxl->plain && addr >= cm &&
               addr + size <= cxl->info.hdm_offset) {
        value = ldn_le_p(cxl->array + addr - cm, size);
    }
    trace_vfio_cxl_read(name_of(cxl), addr, size, value);
    return value;
}

static void overlay_write(void *opaque, hwaddr addr, uint64_t value,
                          unsigned size)
{
    VFIOCXL *cxl = opaque;

    addr += cxl->overlay_start;
    trace_vfio_cxl_write(name_of(cxl), addr, size, value);
    if (in_hdm(cxl, addr)) {
        cxl_hdm_write(&cxl->hdm, addr - cxl->info.hdm_offset, value, size);
    }
}

static const MemoryRegionOps overlay_ops = {
    .read = overlay_read,
    .write = overlay_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = {
        .min_access_size = 1,
        .max_access_size = 8,
    },
    .impl = {
        .min_access_size = 1,
        .max_access_size = 8,
    },
};

void vfio_cxl_bar_register(VFIOPCIDevice *vdev, int nr)
{
    VFIOCXL *cxl = vdev->cxl.cxl;
    uint64_t size = CXL2_COMPONENT_BLOCK_SIZE;

    if (!cxl || nr != cxl->bar || !vdev->bars[nr].size) {
        return;
    }
    if (!cxl->plain && !cxl->info.kernel->traps_block) {
        cxl->overlay_start = cxl->info.hdm_offset;
        size = cxl_hdm_length(&cxl->hdm);
    }
    memory_region_init_io(&cxl->overlay, OBJECT(vdev), &overlay_ops, cxl,
                          "cxl-component-registers", size);
    memory_region_add_subregion_overlap(vdev->bars[nr].mr,
                                        cxl->block + cxl->overlay_start,
                                        &cxl->overlay, 1);
    trace_vfio_cxl_overlay(name_of(cxl), nr, cxl->block + cxl->overlay_start,
                           size, cxl->plain);
}

/*
 * Config space
 */
bool vfio_cxl_hides_ext_cap(VFIOPCIDevice *vdev, uint16_t pos)
{
    VFIOCXL *cxl = vdev->cxl.cxl;

    return cxl && cxl->plain && vfio_cxl_dvsec_owns(&cxl->dvsecs, pos, 1);
}

/* Bits that a config write stores in the 16-bit register at @reg */
static uint16_t written_bits(uint32_t addr, uint32_t val, int len,
                             unsigned reg, uint16_t *mask)
{
    uint8_t bytes[2] = { }, covered[2] = { };

    for (int i = 0; i < len; i++) {
        if (addr + i >= reg && addr + i < reg + 2) {
            bytes[addr + i - reg] = val >> (8 * i);
            covered[addr + i - reg] = 0xff;
        }
    }
    *mask = lduw_le_p(covered);
    return lduw_le_p(bytes);
}

/* Can the kernel take the memory away during a config write? */
static bool may_end_access(PCIDevice *pdev, uint32_t addr, uint32_t val,
                           int len)
{
    uint16_t bits, mask;

    bits = written_bits(addr, val, len, PCI_COMMAND, &mask);
    if (mask & ~bits & PCI_COMMAND_MEMORY) {
        return true;
    }
    if (pdev->pm_cap) {
        bits = written_bits(addr, val, len, pdev->pm_cap + PCI_PM_CTRL, &mask);
        if (bits & PCI_PM_CTRL_STATE_MASK) {
            return true;
        }
    }
    if (pdev->exp.exp_cap) {
        bits = written_bits(addr, val, len,
                            pdev->exp.exp_cap + PCI_EXP_DEVCTL, &mask);
        if (bits & PCI_EXP_DEVCTL_BCR_FLR) {
            return true;
        }
    }
    return false;
}

static void vfio_cxl_write_config(PCIDevice *pdev, uint32_t addr,
                                  uint32_t val, int len)
{
    VFIOPCIDevice *vdev = VFIO_PCI_DEVICE(pdev);
    VFIOCXL *cxl = vdev->cxl.cxl;

    if (vfio_cxl_dvsec_owns(&cxl->dvsecs, addr, len)) {
        vfio_cxl_dvsec_write(vdev, &cxl->dvsecs, addr, val, len);
        if (!cxl->plain) {
            update(cxl);
        }
        return;
    }
    if (cxl->plain) {
        vfio_pci_write_config(pdev, addr, val, len);
    } else if (may_end_access(pdev, addr, val, len)) {
        block_memory(cxl, VFIO_CXL_IN_CONFIG_WRITE);
        vfio_pci_write_config(pdev, addr, val, len);
        if (guest_allows(cxl)) {
            check_host(cxl);
        }
        unblock_memory(cxl, VFIO_CXL_IN_CONFIG_WRITE);
    } else {
        bool allowed = guest_allows(cxl);

        vfio_pci_write_config(pdev, addr, val, len);
        if (allowed != guest_allows(cxl)) {
            check_host(cxl);
            update(cxl);
        }
    }
}

void vfio_cxl_config_setup(VFIOPCIDevice *vdev)
{
    VFIOCXL *cxl = vdev->cxl.cxl;

    if (!cxl) {
        return;
    }
    if (cxl->plain) {
        vfio_cxl_dvsec_hide(vdev, &cxl->dvsecs);
    } else {
        vfio_cxl_dvsec_setup(vdev, &cxl->dvsecs);
    }
    PCI_DEVICE(vdev)->config_write = vfio_cxl_write_config;
}

/*
 * Reset
 */
void vfio_cxl_reset_prepare(VFIOPCIDevice *vdev)
{
    VFIOCXL *cxl = vdev->cxl.cxl;

    if (cxl && !cxl->plain) {
        block_memory(cxl, VFIO_CXL_IN_RESET);
        cxl_hdm_reset(&cxl->hdm);
        vfio_cxl_dvsec_reset(vdev, &cxl->dvsecs);
    }
}

void vfio_cxl_reset_done(VFIOPCIDevice *vdev)
{
    VFIOCXL *cxl = vdev->cxl.cxl;

    if (cxl && !cxl->plain) {
        check_host(cxl);
        unblock_memory(cxl, VFIO_CXL_IN_RESET | VFIO_CXL_NOT_MAPPED);
    }
}

/*
 * Endpoint of CXL routing
 */
static PCIDevice *endpoint_pci_device(CXLEndpoint *ep)
{
    return PCI_DEVICE(VFIO_CXL(ep)->vdev);
}

static CXLRoute *endpoint_route(CXLEndpoint *ep)
{
    return &VFIO_CXL(ep)->route;
}

static bool endpoint_get_decoder(CXLEndpoint *ep, unsigned n,
                                 CXLHDMRange *range)
{
    VFIOCXL *cxl = VFIO_CXL(ep);

    return !cxl->exited && cxl_hdm_get(&cxl->hdm, n, range);
}

static MemoryRegion *endpoint_memory(CXLEndpoint *ep)
{
    VFIOCXL *cxl = VFIO_CXL(ep);

    return is_open(cxl) ? &cxl->memory : NULL;
}

static uint64_t endpoint_memory_size(CXLEndpoint *ep)
{
    return VFIO_CXL(ep)->info.memory_size;
}

static bool endpoint_firmware_commits(CXLEndpoint *ep)
{
    return VFIO_CXL(ep)->firmware_commits;
}

static bool endpoint_firmware_commit(CXLEndpoint *ep, uint64_t base,
                                     Error **errp)
{
    VFIOCXL *cxl = VFIO_CXL(ep);

    if (!cxl_hdm_commit(&cxl->hdm, 0, base, cxl->info.memory_size,
                        cxl->info.locked, errp)) {
        error_prepend(errp, VFIO_MSG_PREFIX "firmware cannot commit: ",
                      name_of(cxl));
        return false;
    }
    vfio_cxl_dvsec_enable_mem(cxl->vdev, &cxl->dvsecs);
    update(cxl);
    return true;
}

/*
 * Life cycle
 */

/*
 * Map all of the memory, aligned as the largest pages need it. There is no
 * fallback to access by read and write: at that speed nothing can use it.
 */
static bool map_memory(VFIOCXL *cxl, Error **errp)
{
    VFIODevice *vbasedev = &cxl->vdev->vbasedev;
    uint64_t size = cxl->info.memory_size;
    size_t align = MIN(pow2floor(size), 1 * GiB);
    struct vfio_region_info *info;
    uint8_t *reserved, *aligned;
    int ret;

    if (vbasedev->no_mmap) {
        error_setg(errp, "x-no-mmap=on leaves no way to use its memory");
        return false;
    }
    ret = vfio_device_get_region_info(vbasedev, cxl->info.memory_region,
                                      &info);
    if (ret) {
        error_setg_errno(errp, -ret, "cannot get info of the memory region");
        return false;
    }
    reserved = mmap(NULL, size + align, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (reserved == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot reserve 0x%" PRIx64
                         " bytes of address space", size + align);
        return false;
    }
    aligned = QEMU_ALIGN_PTR_UP(reserved, align);
    if (mmap(aligned, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
             vfio_device_get_region_fd(vbasedev, cxl->info.memory_region),
             info->offset) == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot map its memory, 0x%" PRIx64
                         " bytes", size);
        munmap(reserved, size + align);
        return false;
    }
    if (aligned > reserved) {
        munmap(reserved, aligned - reserved);
    }
    munmap(aligned + size, reserved + align - aligned);

    cxl->mmap = aligned;
    memory_region_init_ram_device_ptr(&cxl->memory, OBJECT(cxl->vdev),
                                      "cxl-memory", size, cxl->mmap);
    trace_vfio_cxl_map(name_of(cxl), cxl->mmap, size);
    return true;
}

/* Copy what the kernel has of the registers before the HDM decoders */
static bool read_array(VFIOCXL *cxl, Error **errp)
{
    const unsigned cm = CXL2_COMPONENT_IO_REGION_SIZE;
    unsigned length = cxl->info.hdm_offset - cm;

    cxl->array = g_malloc0(length);
    for (unsigned i = 0; i < length; i += 4) {
        uint32_t value;

        if (!vfio_cxl_read_register(&cxl->vdev->vbasedev, &cxl->info, cm + i,
                                    &value, errp)) {
            return false;
        }
        stl_le_p(cxl->array + i, value);
    }
    return true;
}

static bool realize_cxl(VFIOCXL *cxl, Error **errp)
{
    VFIOCXLCommit commit = cxl->vdev->cxl.commit;

    if (cxl->info.kernel->traps_block && !read_array(cxl, errp)) {
        return false;
    }
    if (!map_memory(cxl, errp)) {
        return false;
    }
    cxl->bar = cxl->info.bar;
    cxl->block = cxl->info.block;
    cxl->firmware_commits = commit == VFIO_CXL_COMMIT_AUTO ?
                            cxl->info.committed :
                            commit == VFIO_CXL_COMMIT_FIRMWARE;
    cxl_hdm_init(&cxl->hdm, cxl->info.decoder_count,
                 cxl->info.hdm_capability, cxl->info.host_only, &hdm_ops,
                 cxl);

    /* Cold-plugged devices are checked together, when all windows are known */
    cxl_firmware_init();
    return !DEVICE(cxl->vdev)->hotplugged ||
           cxl_firmware_check_endpoint(CXL_ENDPOINT(cxl), errp);
}

/* Is the device to be used with CXL? If not, @plain says why */
static bool choose_mode(VFIOCXL *cxl, char **plain, Error **errp)
{
    VFIOPCIDevice *vdev = cxl->vdev;
    Error *err = NULL;

    if (vdev->cxl.mode == ON_OFF_AUTO_OFF) {
        *plain = g_strdup("x-cxl=off");
        return true;
    }
    if (!cxl_route_host_bridge(PCI_DEVICE(vdev))) {
        error_setg(&err, "it is not below a CXL root port (a cxl-rp of a "
                   "pxb-cxl)");
    } else if (vfio_cxl_uapi_read(&vdev->vbasedev, &cxl->info, &err)) {
        return true;
    }
    if (vdev->cxl.mode == ON_OFF_AUTO_ON) {
        error_propagate_prepend(errp, err, "x-cxl=on: ");
        return false;
    }
    *plain = g_strdup(error_get_pretty(err));
    error_free(err);
    return true;
}

bool vfio_cxl_realize(VFIOPCIDevice *vdev, Error **errp)
{
    ERRP_GUARD();
    g_autofree char *plain = NULL;
    VFIOCXL *cxl;

    if (!(vdev->vbasedev.flags & VFIO_DEVICE_FLAGS_CXL)) {
        if (vdev->cxl.mode == ON_OFF_AUTO_ON) {
            error_setg(errp, "x-cxl=on: the kernel does not offer CXL for "
                       "this device");
            return false;
        }
        return true;
    }

    cxl = VFIO_CXL(object_new(TYPE_VFIO_CXL));
    cxl->vdev = vdev;
    cxl->bar = PCI_NUM_REGIONS;
    vdev->cxl.cxl = cxl;
    if (!vfio_cxl_dvsec_find(vdev, &cxl->dvsecs, errp) ||
        !choose_mode(cxl, &plain, errp)) {
        return false;
    }
    if (plain) {
        cxl->plain = true;
        if (!vfio_cxl_find_block(&vdev->vbasedev, &cxl->bar, &cxl->block) ||
            cxl->block > vdev->bars[cxl->bar].region.size ||
            CXL2_COMPONENT_BLOCK_SIZE >
            vdev->bars[cxl->bar].region.size - cxl->block) {
            error_setg(errp, "the CXL component registers, which hold "
                       "addresses of the host, are not where the Register "
                       "Locator says and cannot be hidden from the guest");
            return false;
        }
        if (vdev->cxl.mode == ON_OFF_AUTO_AUTO) {
            info_report(VFIO_MSG_PREFIX "CXL device used as plain PCI: %s",
                        name_of(cxl), plain);
        }
        return true;
    }
    object_property_add_child(OBJECT(vdev), "cxl", OBJECT(cxl));
    if (!realize_cxl(cxl, errp)) {
        vfio_cxl_exit(vdev);
        error_prepend(errp, "CXL: ");
        return false;
    }
    return true;
}

void vfio_cxl_exit(VFIOPCIDevice *vdev)
{
    VFIOCXL *cxl = vdev->cxl.cxl;

    if (!cxl || cxl->exited) {
        return;
    }
    cxl->exited = true;
    if (!cxl->plain) {
        cxl_route_update(CXL_ENDPOINT(cxl));
        object_unparent(OBJECT(cxl));
    }
    if (memory_region_is_mapped(&cxl->overlay)) {
        memory_region_del_subregion(vdev->bars[cxl->bar].mr, &cxl->overlay);
    }
}

void vfio_cxl_finalize(VFIOPCIDevice *vdev)
{
    VFIOCXL *cxl = vdev->cxl.cxl;

    if (!cxl) {
        return;
    }
    if (cxl->mmap) {
        munmap(cxl->mmap, cxl->info.memory_size);
    }
    g_free(cxl->array);
    object_unref(OBJECT(cxl));
    vdev->cxl.cxl = NULL;
}

static const char *const commit_names[] = { "auto", "firmware", "guest" };

static const QEnumLookup commit_lookup = {
    .array = commit_names,
    .size = VFIO_CXL_COMMIT__MAX,
};

static int get_mode(Object *obj, Error **errp)
{
    return VFIO_PCI_DEVICE(obj)->cxl.mode;
}

static void set_mode(Object *obj, int value, Error **errp)
{
    if (DEVICE(obj)->realized) {
        qdev_prop_set_after_realize(DEVICE(obj), "x-cxl", errp);
        return;
    }
    VFIO_PCI_DEVICE(obj)->cxl.mode = value;
}

static int get_commit(Object *obj, Error **errp)
{
    return VFIO_PCI_DEVICE(obj)->cxl.commit;
}

static void set_commit(Object *obj, int value, Error **errp)
{
    if (DEVICE(obj)->realized) {
        qdev_prop_set_after_realize(DEVICE(obj), "x-cxl-commit", errp);
        return;
    }
    VFIO_PCI_DEVICE(obj)->cxl.commit = value;
}

void vfio_cxl_class_init(ObjectClass *klass)
{
    object_class_property_add_enum(klass, "x-cxl", "OnOffAuto",
                                   &OnOffAuto_lookup, get_mode, set_mode);
    object_class_property_set_description(klass, "x-cxl",
        "Use the device as a CXL device: where possible (auto), always or "
        "never");
    object_class_property_add_enum(klass, "x-cxl-commit", "VFIOCXLCommit",
                                   &commit_lookup, get_commit, set_commit);
    object_class_property_set_description(klass, "x-cxl-commit",
        "Who commits its HDM decoder: auto (firmware if the host's firmware "
        "did), firmware or guest");
}

static void vfio_cxl_object_class_init(ObjectClass *klass, const void *data)
{
    CXLEndpointClass *epc = CXL_ENDPOINT_CLASS(klass);

    epc->pci_device = endpoint_pci_device;
    epc->route = endpoint_route;
    epc->get_decoder = endpoint_get_decoder;
    epc->memory = endpoint_memory;
    epc->memory_size = endpoint_memory_size;
    epc->firmware_commits = endpoint_firmware_commits;
    epc->firmware_commit = endpoint_firmware_commit;
}

static const TypeInfo vfio_cxl_info = {
    .name = TYPE_VFIO_CXL,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(VFIOCXL),
    .class_init = vfio_cxl_object_class_init,
    .interfaces = (const InterfaceInfo[]) {
        { TYPE_CXL_ENDPOINT },
        { }
    },
};

static void vfio_cxl_register_types(void)
{
    type_register_static(&vfio_cxl_info);
}

type_init(vfio_cxl_register_types)
