/*
 * vfio-sim: /dev/iommu
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "iommufd.h"
#include "smmuv3.h"

SimIommufd *sim_iommufd_new(void)
{
    SimIommufd *ictx = calloc(1, sizeof(*ictx));

    if (ictx) {
        ictx->refs = 1;
        ictx->next_id = 1;
    }
    return ictx;
}

int sim_iommufd_open(int flags)
{
    SimFile *file;
    int fd = sim_fault_any("open");

    if (fd < 0) {
        return fd;
    }
    fd = sim_file_anon(SIM_FD_IOMMUFD, flags, &file);
    if (fd >= 0) {
        file->ictx = sim_iommufd_new();
    }
    return fd;
}

SimObject *sim_object_new(SimIommufd *ictx, SimObjectType type)
{
    SimObject *o = calloc(1, sizeof(*o));

    if (o) {
        o->id = ictx->next_id++;
        o->type = type;
        o->next = ictx->objects;
        ictx->objects = o;
    }
    return o;
}

SimObject *sim_object_find(SimIommufd *ictx, uint32_t id)
{
    SimObject *o;

    for (o = ictx->objects; o && o->id != id; o = o->next) {
        continue;
    }
    return o;
}

SimObject *sim_object_get(SimIommufd *ictx, uint32_t id, SimObjectType type)
{
    SimObject *o = sim_object_find(ictx, id);

    return o && o->type == type ? o : NULL;
}

void sim_object_set_parent(SimObject *o, SimObject *parent)
{
    o->parent = parent;
    parent->users++;
}

void sim_object_free(SimIommufd *ictx, SimObject *o)
{
    SimObject **p;

    for (p = &ictx->objects; *p != o; p = &(*p)->next) {
        continue;
    }
    *p = o->next;
    if (o->parent) {
        o->parent->users--;
    }
    if (o->type == SIM_OBJ_HWPT && o->smmu) {
        sim_smmu_hwpt_free(o);
    }
    if (o->type == SIM_OBJ_VEVENTQ) {
        if (o->parent && o->parent->veventq == o->veventq) {
            o->parent->veventq = NULL;
        }
        sim_veventq_free(o->veventq);
    }
    sim_space_unref(o->space);
    free(o);
}

void sim_iommufd_unref(SimIommufd *ictx)
{
    if (!ictx || --ictx->refs) {
        return;
    }
    while (ictx->objects) {
        SimObject *o = ictx->objects;

        o->parent = NULL;
        sim_object_free(ictx, o);
    }
    free(ictx);
}

int sim_iommufd_bind(SimFile *file, SimFile *iommufd)
{
    SimIommufd *ictx = iommufd->ictx;
    SimObject *o = sim_object_new(ictx, SIM_OBJ_DEVICE);

    if (!o) {
        return -ENOMEM;
    }
    o->dev = file->dev;
    file->ictx = ictx;
    file->devid = o->id;
    ictx->refs++;
    return 0;
}

void sim_iommufd_unbind(SimFile *file)
{
    SimDevice *dev = file->dev;

    if (file->opened && --dev->opens == 0) {
        sim_device_last_close(dev);
    }
    if (file->ictx) {
        SimObject *o = sim_object_find(file->ictx, file->devid);

        sim_smmu_detach_pasid(o, SIM_NO_SSID);
        sim_iommufd_detach(file);
        if (o->vdevice) {
            sim_vdevice_free(file->ictx, o->vdevice);
        }
        sim_object_free(file->ictx, o);
        sim_iommufd_unref(file->ictx);
        file->ictx = NULL;
    }
}

SimSpace *sim_pt_space(const SimObject *pt)
{
    const SimObject *hwpt = pt->type == SIM_OBJ_HWPT_NESTED ?
                            pt->parent->parent : pt;

    return hwpt->parent->space;
}

static SimObject *auto_hwpt(SimIommufd *ictx, SimObject *ioas, SimDevice *dev)
{
    SimSmmu *smmu = dev->stream ? dev->stream->smmu : NULL;
    SimObject *o;

    for (o = ictx->objects; o; o = o->next) {
        if (o->type == SIM_OBJ_HWPT && o->automatic && o->parent == ioas &&
            o->smmu == smmu) {
            return o;
        }
    }
    o = sim_object_new(ictx, SIM_OBJ_HWPT);
    if (o) {
        o->automatic = true;
        sim_object_set_parent(o, ioas);
        sim_smmu_hwpt_init(o, dev);
    }
    return o;
}

static void put_hwpt(SimIommufd *ictx, SimObject *hwpt)
{
    if (--hwpt->users == 0 && hwpt->automatic) {
        sim_object_free(ictx, hwpt);
    }
}

int sim_iommufd_attach(SimFile *file, uint32_t *pt_id)
{
    SimIommufd *ictx = file->ictx;
    SimObject *dev, *pt, *old;
    int ret;

    if (!ictx) {
        return -EINVAL;
    }
    dev = sim_object_find(ictx, file->devid);
    pt = sim_object_find(ictx, *pt_id);
    if (!pt) {
        return -ENOENT;
    }
    if (pt->type == SIM_OBJ_IOAS) {
        pt = auto_hwpt(ictx, pt, file->dev);
        if (!pt) {
            return -ENOMEM;
        }
    } else if (pt->type != SIM_OBJ_HWPT && pt->type != SIM_OBJ_HWPT_NESTED) {
        return -EINVAL;
    }
    pt->users++;
    old = dev->parent;
    ret = old == pt ? 0 : sim_smmu_attach_check(dev, pt);
    if (ret < 0) {
        put_hwpt(ictx, pt);
        return ret;
    }
    dev->parent = pt;
    file->dev->space = sim_pt_space(pt);
    if (old != pt) {
        sim_smmu_attach(dev, pt);
    }
    if (old) {
        put_hwpt(ictx, old);
    }
    *pt_id = pt->id;
    return 0;
}

void sim_iommufd_detach(SimFile *file)
{
    SimObject *dev = file->ictx ? sim_object_find(file->ictx, file->devid) :
                                  NULL;
    SimObject *pt = dev ? dev->parent : NULL;

    file->dev->space = NULL;
    if (pt) {
        sim_smmu_detach(dev);
        dev->parent = NULL;
        put_hwpt(file->ictx, pt);
    }
}

int sim_iommufd_attach_pasid(SimFile *file, uint32_t pasid, uint32_t *pt_id)
{
    if (!file->dev->stream) {
        return -EOPNOTSUPP;
    }
    return sim_smmu_attach_pasid(file->ictx,
                                 sim_object_find(file->ictx, file->devid),
                                 pasid, pt_id);
}

int sim_iommufd_detach_pasid(SimFile *file, uint32_t pasid)
{
    if (!file->dev->stream) {
        return -EOPNOTSUPP;
    }
    sim_smmu_detach_pasid(sim_object_find(file->ictx, file->devid), pasid);
    return 0;
}

static int do_destroy(SimIommufd *ictx, struct iommu_destroy *cmd)
{
    SimObject *o = sim_object_find(ictx, cmd->id);

    if (!o) {
        return -ENOENT;
    }
    if (o->users || o->type == SIM_OBJ_DEVICE) {
        return -EBUSY;
    }
    if (o->type == SIM_OBJ_VDEVICE) {
        sim_vdevice_free(ictx, o);
    } else {
        sim_object_free(ictx, o);
    }
    return 0;
}

static int do_ioas_alloc(SimIommufd *ictx, struct iommu_ioas_alloc *cmd)
{
    SimObject *o;

    if (cmd->flags) {
        return -EOPNOTSUPP;
    }
    o = sim_object_new(ictx, SIM_OBJ_IOAS);
    if (!o) {
        return -ENOMEM;
    }
    o->space = sim_space_new(false);
    cmd->out_ioas_id = o->id;
    return 0;
}

static int do_iova_ranges(SimIommufd *ictx, struct iommu_ioas_iova_ranges *cmd)
{
    struct iommu_iova_range *out = (void *)(uintptr_t)cmd->allowed_iovas;
    const SimIova *r;
    unsigned i, n, max = cmd->num_iovas;

    if (cmd->__reserved) {
        return -EOPNOTSUPP;
    }
    if (!sim_object_get(ictx, cmd->ioas_id, SIM_OBJ_IOAS)) {
        return -ENOENT;
    }
    r = sim_iova_ranges(&n);
    for (i = 0; i < n && i < max; i++) {
        out[i].start = r[i].first;
        out[i].last = r[i].last;
    }
    cmd->num_iovas = n;
    cmd->out_iova_alignment = SIM_PAGE;
    return n > max ? -EMSGSIZE : 0;
}

#define MAP_FLAGS (IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE | \
                   IOMMU_IOAS_MAP_READABLE)

/* An IOVA for a mapping that leaves the choice to the kernel */
static int pick_iova(SimSpace *space, uint64_t size, uint64_t *iova)
{
    const SimMap *m = NULL;
    uint64_t at = SIM_PAGE;
    int ret = sim_space_check(space, at, size);

    for (m = space->maps; m && ret; m = m->next) {
        at = m->iova + m->size;
        ret = sim_space_check(space, at, size);
    }
    *iova = at;
    return ret ? -ENOSPC : 0;
}

static int map_prepare(SimIommufd *ictx, uint32_t flags, uint32_t ioas_id,
                       uint64_t length, uint64_t *iova, SimMap *map,
                       SimSpace **space)
{
    SimObject *ioas;

    if (flags & ~MAP_FLAGS) {
        return -EOPNOTSUPP;
    }
    if (*iova == UINT64_MAX || length == UINT64_MAX) {
        return -EOVERFLOW;
    }
    if (!(flags & (IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE))) {
        return -EINVAL;
    }
    ioas = sim_object_get(ictx, ioas_id, SIM_OBJ_IOAS);
    if (!ioas) {
        return -ENOENT;
    }
    *space = ioas->space;
    if (!length) {
        return -EINVAL;
    }
    map->size = length;
    map->read = flags & IOMMU_IOAS_MAP_READABLE;
    map->write = flags & IOMMU_IOAS_MAP_WRITEABLE;
    if (!(flags & IOMMU_IOAS_MAP_FIXED_IOVA)) {
        return pick_iova(*space, length, iova);
    }
    return sim_space_check(*space, *iova, length);
}

static int do_map(SimIommufd *ictx, struct iommu_ioas_map *cmd)
{
    uint64_t iova = cmd->iova;
    SimMap map = { .vaddr = cmd->user_va };
    const SimMmap *m;
    SimSpace *space;
    int ret;

    if (cmd->__reserved) {
        return -EOPNOTSUPP;
    }
    ret = map_prepare(ictx, cmd->flags, cmd->ioas_id, cmd->length, &iova, &map,
                      &space);
    if (ret < 0) {
        return ret;
    }
    if (cmd->user_va % SIM_PAGE) {
        return -EINVAL;
    }
    if (cmd->user_va + cmd->length < cmd->user_va) {
        return -EOVERFLOW;
    }
    m = sim_mmap_find(map.vaddr, map.size);
    if (m) {
        /* Memory without pages cannot be pinned */
        if (!m->dev->st->knobs[SIM_KNOB_PFNMAP] || map.vaddr < m->addr ||
            map.vaddr + map.size > m->addr + m->len ||
            !sim_region_accessible(m->dev, m->region)) {
            return -EFAULT;
        }
        sim_mmap_fault_in(map.vaddr, map.size);
        map.dev = m->dev;
        map.region = m->region;
        map.offset = m->offset + (map.vaddr - m->addr);
        map.iova = cmd->iova = iova;
        return sim_space_map(space, &map);
    }
    ret = sim_space_user_memory(map.vaddr, map.size, map.write);
    if (ret < 0) {
        return ret;
    }
    map.iova = cmd->iova = iova;
    return sim_space_map(space, &map);
}

static int do_map_file(SimIommufd *ictx, struct iommu_ioas_map_file *cmd)
{
    uint64_t iova = cmd->iova;
    SimMap map = { .file = true };
    SimFile *file = sim_file_get(cmd->fd);
    struct statfs fs;
    struct stat st;
    SimSpace *space;
    void *p;
    int ret;

    ret = map_prepare(ictx, cmd->flags, cmd->ioas_id, cmd->length, &iova, &map,
                      &space);
    if (ret < 0) {
        return ret;
    }
    if (file && file->kind == SIM_FD_DMABUF) {
        if (cmd->start % SIM_PAGE) {
            return -EINVAL;
        }
        map.file = false;
        ret = sim_dmabuf_map(file, cmd->start, &map);
        map.iova = cmd->iova = iova;
        return ret < 0 ? ret : sim_space_map(space, &map);
    }
    if (file) {
        return -EINVAL;
    }
    if (syscall(SYS_fstatfs, cmd->fd, &fs) < 0 || fstat(cmd->fd, &st) < 0) {
        return -EBADF;
    }
    if (cmd->start % SIM_PAGE || !S_ISREG(st.st_mode) ||
        map.size > (uint64_t)st.st_size ||
        cmd->start > st.st_size - map.size ||
        (fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC)) {
        return -EINVAL;
    }
    p = sys_mmap(NULL, map.size, PROT_READ | (map.write ? PROT_WRITE : 0),
                 MAP_SHARED | MAP_NORESERVE, cmd->fd, cmd->start);
    if (p == MAP_FAILED) {
        return -errno;
    }
    map.vaddr = (uintptr_t)p;
    map.iova = cmd->iova = iova;
    return sim_space_map(space, &map);
}

static int do_unmap(SimIommufd *ictx, struct iommu_ioas_unmap *cmd)
{
    SimObject *ioas = sim_object_get(ictx, cmd->ioas_id, SIM_OBJ_IOAS);
    uint64_t last;

    if (!ioas) {
        return -ENOENT;
    }
    if (cmd->iova == 0 && cmd->length == UINT64_MAX) {
        cmd->length = sim_space_unmap(ioas->space, 0, UINT64_MAX);
        return 0;
    }
    if (cmd->iova == UINT64_MAX || cmd->length == UINT64_MAX) {
        return -EOVERFLOW;
    }
    if (!cmd->length) {
        return -EINVAL;
    }
    last = cmd->iova + cmd->length - 1;
    if (last < cmd->iova) {
        return -EOVERFLOW;
    }
    if (sim_space_bisects(ioas->space, cmd->iova)) {
        return -ENOENT;
    }
    if (last != UINT64_MAX && sim_space_bisects(ioas->space, last + 1)) {
        /*
         * The kernel works area by area and stops at one that it cannot split
         */
        sim_space_unmap(ioas->space, cmd->iova, last);
        return -ENOENT;
    }
    cmd->length = sim_space_unmap(ioas->space, cmd->iova, last);
    return cmd->length ? 0 : -ENOENT;
}

static int do_copy(SimIommufd *ictx, struct iommu_ioas_copy *cmd)
{
    SimObject *src = sim_object_get(ictx, cmd->src_ioas_id, SIM_OBJ_IOAS);
    uint64_t iova = cmd->dst_iova;
    SimSpace *space;
    SimMap map = { 0 };
    const SimMap *m;
    int ret;

    if (!src) {
        return -ENOENT;
    }
    for (m = src->space->maps; m; m = m->next) {
        if (cmd->src_iova >= m->iova &&
            cmd->src_iova + cmd->length <= m->iova + m->size) {
            break;
        }
    }
    if (!m || m->file) {
        return -ENOENT;
    }
    map = *m;
    ret = map_prepare(ictx, cmd->flags, cmd->dst_ioas_id, cmd->length, &iova,
                      &map, &space);
    if (ret < 0) {
        return ret;
    }
    map.vaddr += cmd->src_iova - m->iova;
    map.iova = cmd->dst_iova = iova;
    return sim_space_map(space, &map);
}

static int do_hwpt_alloc(SimIommufd *ictx, struct iommu_hwpt_alloc *cmd)
{
    SimObject *ioas, *hwpt;

    if (sim_config()->smmu.count) {
        return sim_smmu_hwpt_alloc(ictx, cmd);
    }
    /* Such an IOMMU cannot nest */
    if (cmd->flags || cmd->__reserved ||
        cmd->data_type != IOMMU_HWPT_DATA_NONE) {
        return -EOPNOTSUPP;
    }
    if (cmd->data_len) {
        return -EINVAL;
    }
    if (!sim_object_get(ictx, cmd->dev_id, SIM_OBJ_DEVICE)) {
        return -ENOENT;
    }
    ioas = sim_object_find(ictx, cmd->pt_id);
    if (!ioas) {
        return -ENOENT;
    }
    if (ioas->type != SIM_OBJ_IOAS) {
        return -EINVAL;
    }
    hwpt = sim_object_new(ictx, SIM_OBJ_HWPT);
    if (!hwpt) {
        return -ENOMEM;
    }
    sim_object_set_parent(hwpt, ioas);
    cmd->out_hwpt_id = hwpt->id;
    return 0;
}

static int do_hw_info(SimIommufd *ictx, struct iommu_hw_info *cmd)
{
    if (sim_config()->smmu.count) {
        return sim_smmu_hw_info(ictx, cmd);
    }
    if (cmd->flags || cmd->__reserved[0] || cmd->__reserved[1] ||
        cmd->__reserved[2]) {
        return -EOPNOTSUPP;
    }
    if (!sim_object_get(ictx, cmd->dev_id, SIM_OBJ_DEVICE)) {
        return -ENOENT;
    }
    if (cmd->data_len) {
        memset((void *)(uintptr_t)cmd->data_uptr, 0, cmd->data_len);
    }
    cmd->data_len = 0;
    cmd->out_data_type = IOMMU_HW_INFO_TYPE_NONE;
    cmd->out_max_pasid_log2 = 0;
    cmd->out_capabilities = 0;
    return 0;
}

static int do_option(SimIommufd *ictx, struct iommu_option *cmd)
{
    if (cmd->__reserved) {
        return -EOPNOTSUPP;
    }
    if (cmd->option_id == IOMMU_OPTION_RLIMIT_MODE) {
        if (cmd->object_id) {
            return -EOPNOTSUPP;
        }
        if (cmd->op == IOMMU_OPTION_OP_GET) {
            cmd->val64 = 0;
            return 0;
        }
        return ictx->objects ? -EBUSY : cmd->val64 > 1 ? -EINVAL : 0;
    }
    if (cmd->option_id != IOMMU_OPTION_HUGE_PAGES) {
        return -EOPNOTSUPP;
    }
    if (!sim_object_get(ictx, cmd->object_id, SIM_OBJ_IOAS)) {
        return -ENOENT;
    }
    if (cmd->op == IOMMU_OPTION_OP_GET) {
        cmd->val64 = 1;
        return 0;
    }
    return cmd->val64 > 1 ? -EINVAL : 0;
}

/* Mappings of files move with their files, those by address cannot */
static int do_change_process(SimIommufd *ictx,
                             struct iommu_ioas_change_process *cmd)
{
    const SimObject *o;
    const SimMap *m;

    if (cmd->__reserved) {
        return -EOPNOTSUPP;
    }
    for (o = ictx->objects; o; o = o->next) {
        for (m = o->space ? o->space->maps : NULL; m; m = m->next) {
            if (!m->file) {
                return -EINVAL;
            }
        }
    }
    return 0;
}

static int dispatch(SimIommufd *ictx, unsigned cmd, void *arg)
{
    switch (cmd) {
    case IOMMU_DESTROY:
        return do_destroy(ictx, arg);
    case IOMMU_IOAS_ALLOC:
        return do_ioas_alloc(ictx, arg);
    case IOMMU_IOAS_IOVA_RANGES:
        return do_iova_ranges(ictx, arg);
    case IOMMU_IOAS_MAP:
        return do_map(ictx, arg);
    case IOMMU_IOAS_MAP_FILE:
        return do_map_file(ictx, arg);
    case IOMMU_IOAS_UNMAP:
        return do_unmap(ictx, arg);
    case IOMMU_IOAS_COPY:
        return do_copy(ictx, arg);
    case IOMMU_HWPT_ALLOC:
        return do_hwpt_alloc(ictx, arg);
    case IOMMU_GET_HW_INFO:
        return do_hw_info(ictx, arg);
    case IOMMU_OPTION:
        return do_option(ictx, arg);
    case IOMMU_HWPT_INVALIDATE:
        return sim_hwpt_invalidate(ictx, arg);
    case IOMMU_VIOMMU_ALLOC:
        return sim_viommu_alloc(ictx, arg);
    case IOMMU_VDEVICE_ALLOC:
        return sim_vdevice_alloc(ictx, arg);
    case IOMMU_VEVENTQ_ALLOC:
        return sim_veventq_alloc(ictx, arg);
    default:
        return do_change_process(ictx, arg);
    }
}

#define END(type, member) \
    (offsetof(type, member) + sizeof(((type *)NULL)->member))

static const struct {
    unsigned cmd;
    size_t min_size;
    size_t size;
    const char *op;
    bool smmu;              /* only with nested translation */
} ops[] = {
    { IOMMU_DESTROY, END(struct iommu_destroy, id),
      sizeof(struct iommu_destroy), "destroy" },
    { IOMMU_IOAS_ALLOC, END(struct iommu_ioas_alloc, out_ioas_id),
      sizeof(struct iommu_ioas_alloc), "ioas_alloc" },
    { IOMMU_IOAS_IOVA_RANGES,
      END(struct iommu_ioas_iova_ranges, out_iova_alignment),
      sizeof(struct iommu_ioas_iova_ranges), "ioas_iova_ranges" },
    { IOMMU_IOAS_MAP, END(struct iommu_ioas_map, iova),
      sizeof(struct iommu_ioas_map), "ioas_map" },
    { IOMMU_IOAS_MAP_FILE, END(struct iommu_ioas_map_file, iova),
      sizeof(struct iommu_ioas_map_file), "ioas_map_file" },
    { IOMMU_IOAS_UNMAP, END(struct iommu_ioas_unmap, length),
      sizeof(struct iommu_ioas_unmap), "ioas_unmap" },
    { IOMMU_IOAS_COPY, END(struct iommu_ioas_copy, src_iova),
      sizeof(struct iommu_ioas_copy), "ioas_copy" },
    { IOMMU_HWPT_ALLOC, END(struct iommu_hwpt_alloc, __reserved),
      sizeof(struct iommu_hwpt_alloc), "hwpt_alloc" },
    { IOMMU_GET_HW_INFO, END(struct iommu_hw_info, __reserved),
      sizeof(struct iommu_hw_info), "get_hw_info" },
    { IOMMU_OPTION, END(struct iommu_option, val64),
      sizeof(struct iommu_option), "option" },
    { IOMMU_IOAS_CHANGE_PROCESS,
      END(struct iommu_ioas_change_process, __reserved),
      sizeof(struct iommu_ioas_change_process), "ioas_change_process" },
    { IOMMU_HWPT_INVALIDATE, END(struct iommu_hwpt_invalidate, __reserved),
      sizeof(struct iommu_hwpt_invalidate), "hwpt_invalidate", true },
    { IOMMU_VIOMMU_ALLOC, END(struct iommu_viommu_alloc, out_viommu_id),
      sizeof(struct iommu_viommu_alloc), "viommu_alloc", true },
    { IOMMU_VDEVICE_ALLOC, END(struct iommu_vdevice_alloc, virt_id),
      sizeof(struct iommu_vdevice_alloc), "vdevice_alloc", true },
    { IOMMU_VEVENTQ_ALLOC, END(struct iommu_veventq_alloc, out_veventq_fd),
      sizeof(struct iommu_veventq_alloc), "veventq_alloc", true },
};

int sim_iommufd_ioctl(SimFile *file, unsigned cmd, void *arg)
{
    uint8_t buf[128] __attribute__((aligned(8))) = { 0 };
    uint32_t user_size;
    unsigned i;
    size_t n;
    int ret;

    for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        if (ops[i].cmd == cmd) {
            break;
        }
    }
    if (i == sizeof(ops) / sizeof(ops[0]) ||
        (ops[i].smmu && !sim_config()->smmu.count)) {
        return -ENOTTY;
    }
    if (!arg) {
        return -EFAULT;
    }
    ret = sim_fault_any(ops[i].op);
    if (ret < 0) {
        return ret;
    }
    memcpy(&user_size, arg, sizeof(user_size));
    if (user_size < ops[i].min_size) {
        return -EINVAL;
    }
    for (n = ops[i].size; n < user_size; n++) {
        if (((uint8_t *)arg)[n]) {
            return -E2BIG;
        }
    }
    n = user_size < ops[i].size ? user_size : ops[i].size;
    memcpy(buf, arg, n);
    ret = dispatch(file->ictx, cmd, buf);
    if (ret == 0 || ret == -EMSGSIZE || cmd == IOMMU_HWPT_INVALIDATE) {
        memcpy(arg, buf, n);
    }
    return ret;
}
