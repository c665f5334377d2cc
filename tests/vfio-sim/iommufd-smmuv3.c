/*
 * vfio-sim: what the kernel's driver of an SMMUv3 makes of /dev/iommu
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "iommufd.h"
#include "smmuv3.h"

#define STE_0_ALLOWED   0xf80fffffffffffffull
/* S1DSS, S1CIR, S1COR, S1CSH, S1STALLD, EATS */
#define STE_1_ALLOWED   0x00000000380000ffull

/* The kernel hands commands to the hardware in batches */
#define BATCH           63

/* False: the program has given an address where there is nothing */
static bool copy_in(void *to, uint64_t from, size_t size)
{
    return sim_copy_user(to, from, size, false) == size;
}

static int hw_info(const SimObject *dev, struct iommu_hw_info *cmd)
{
    struct iommu_hw_info_arm_smmuv3 info;
    static const uint8_t zero[256];
    const SimSmmuConfig *cfg = &sim_config()->smmu;
    uint64_t at;

    if (cmd->out_data_type != IOMMU_HW_INFO_TYPE_DEFAULT &&
        cmd->out_data_type != IOMMU_HW_INFO_TYPE_ARM_SMMUV3) {
        return -EOPNOTSUPP;
    }
    sim_smmu_registers(&info);
    for (at = 0; at < cmd->data_len;) {
        bool data = at < sizeof(info);
        size_t n = data ? sizeof(info) : sizeof(zero);

        n = n < cmd->data_len - at ? n : cmd->data_len - at;
        if (sim_copy_user(data ? (void *)&info : (void *)zero,
                          cmd->data_uptr + at, n, true) != n) {
            return -EFAULT;
        }
        at += n;
    }
    cmd->data_len = sizeof(info);
    cmd->out_data_type = IOMMU_HW_INFO_TYPE_ARM_SMMUV3;
    cmd->out_capabilities = cfg->ats ? 0 : IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED;
    cmd->out_max_pasid_log2 = cfg->pasid_bits;
    return 0;
}

int sim_smmu_hw_info(SimIommufd *ictx, struct iommu_hw_info *cmd)
{
    const SimObject *dev;

    if ((cmd->flags & ~IOMMU_HW_INFO_FLAG_INPUT_TYPE) || cmd->__reserved[0] ||
        cmd->__reserved[1] || cmd->__reserved[2]) {
        return -EOPNOTSUPP;
    }
    if (!(cmd->flags & IOMMU_HW_INFO_FLAG_INPUT_TYPE)) {
        cmd->out_data_type = IOMMU_HW_INFO_TYPE_DEFAULT;
    }
    dev = sim_object_get(ictx, cmd->dev_id, SIM_OBJ_DEVICE);
    return dev ? hw_info(dev, cmd) : -ENOENT;
}

/* -- page tables */

void sim_smmu_hwpt_init(SimObject *hwpt, SimDevice *dev)
{
    if (dev->stream) {
        SimSmmu *smmu = dev->stream->smmu;

        hwpt->smmu = smmu;
        /* 0 is for streams that bypass stage 2 */
        if (!++smmu->next_vmid) {
            smmu->next_vmid = 1;
        }
        hwpt->vmid = smmu->next_vmid;
    }
}

/* Its VMID may be another's next */
void sim_smmu_hwpt_free(SimObject *hwpt)
{
    SimXlatRange r = SIM_XLAT_ALL;

    r.vmid = hwpt->vmid;
    sim_xlat_drop(&hwpt->smmu->tlb, &r);
}

static int paging_alloc(SimIommufd *ictx, SimObject *dev, SimObject *ioas,
                        const struct iommu_hwpt_alloc *cmd, SimObject **hwpt)
{
    uint32_t flags = cmd->flags & ~IOMMU_HWPT_FAULT_ID_VALID;

    /* Nothing of it for dirty tracking: the SMMU has no HTTU */
    if ((flags & ~(IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_ALLOC_PASID)) ||
        ((cmd->flags & IOMMU_HWPT_FAULT_ID_VALID) &&
         (flags & IOMMU_HWPT_ALLOC_NEST_PARENT)) || cmd->data_len) {
        return -EOPNOTSUPP;
    }
    /* A nesting parent is stage 2, a table for a PASID stage 1 */
    if (flags == (IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_ALLOC_PASID)) {
        return -EOPNOTSUPP;
    }
    *hwpt = sim_object_new(ictx, SIM_OBJ_HWPT);
    if (!*hwpt) {
        return -ENOMEM;
    }
    sim_object_set_parent(*hwpt, ioas);
    sim_smmu_hwpt_init(*hwpt, dev->dev);
    (*hwpt)->nest_parent = flags & IOMMU_HWPT_ALLOC_NEST_PARENT;
    (*hwpt)->pasid_compat = flags & IOMMU_HWPT_ALLOC_PASID;
    return 0;
}

static int check_ste(uint64_t *ste, bool *ats)
{
    unsigned cfg = SIM_STE_CFG(ste[0]), eats = SIM_STE_EATS(ste[1]);

    *ats = false;
    if (!(ste[0] & SIM_STE_V)) {
        ste[0] = ste[1] = 0;
        return 0;
    }
    if ((ste[0] & ~STE_0_ALLOWED) || (ste[1] & ~STE_1_ALLOWED)) {
        return -EIO;
    }
    if (cfg != SIM_STE_CFG_ABORT && cfg != SIM_STE_CFG_BYPASS &&
        cfg != SIM_STE_CFG_S1_TRANS) {
        return -EIO;
    }
    if (eats > SIM_STE_EATS_TRANS) {
        return -EIO;
    }
    *ats = cfg == SIM_STE_CFG_S1_TRANS && eats == SIM_STE_EATS_TRANS;
    ste[1] &= ~SIM_STE_EATS_MASK;
    return 0;
}

static int nested_alloc(SimIommufd *ictx, SimObject *dev, SimObject *viommu,
                        const struct iommu_hwpt_alloc *cmd, SimObject **hwpt)
{
    struct iommu_hwpt_arm_smmuv3 data;
    bool ats;
    int ret;

    if (viommu->smmu != dev->dev->stream->smmu) {
        return -EINVAL;
    }
    if ((cmd->flags & ~IOMMU_HWPT_FAULT_ID_VALID) || !cmd->data_len) {
        return -EOPNOTSUPP;
    }
    if (cmd->data_type != IOMMU_HWPT_DATA_ARM_SMMUV3 ||
        cmd->data_len != sizeof(data)) {
        return -EINVAL;
    }
    if (!copy_in(&data, cmd->data_uptr, sizeof(data))) {
        return -EFAULT;
    }
    ret = check_ste(data.ste, &ats);
    if (ret < 0) {
        return ret;
    }
    *hwpt = sim_object_new(ictx, SIM_OBJ_HWPT_NESTED);
    if (!*hwpt) {
        return -ENOMEM;
    }
    sim_object_set_parent(*hwpt, viommu);
    (*hwpt)->smmu = viommu->smmu;
    (*hwpt)->vmid = viommu->vmid;
    (*hwpt)->ste[0] = data.ste[0];
    (*hwpt)->ste[1] = data.ste[1];
    (*hwpt)->ats = ats;
    return 0;
}

int sim_smmu_hwpt_alloc(SimIommufd *ictx, struct iommu_hwpt_alloc *cmd)
{
    SimObject *dev, *pt, *hwpt;
    int ret;

    if (cmd->__reserved) {
        return -EOPNOTSUPP;
    }
    if ((cmd->data_type == IOMMU_HWPT_DATA_NONE) != !cmd->data_len) {
        return -EINVAL;
    }
    dev = sim_object_get(ictx, cmd->dev_id, SIM_OBJ_DEVICE);
    if (!dev) {
        return -ENOENT;
    }
    pt = sim_object_find(ictx, cmd->pt_id);
    if (!pt) {
        return -EINVAL;
    }
    switch (pt->type) {
    case SIM_OBJ_IOAS:
        ret = paging_alloc(ictx, dev, pt, cmd, &hwpt);
        break;
    case SIM_OBJ_HWPT:
        return -EOPNOTSUPP;     /* an SMMU's are nested in a vIOMMU */
    case SIM_OBJ_VIOMMU:
        ret = nested_alloc(ictx, dev, pt, cmd, &hwpt);
        break;
    default:
        return -EINVAL;
    }
    if (ret < 0) {
        return ret;
    }
    if (cmd->flags & IOMMU_HWPT_FAULT_ID_VALID) {
        sim_object_free(ictx, hwpt);
        return -ENOENT;         /* there are no fault queues */
    }
    cmd->out_hwpt_id = hwpt->id;
    return 0;
}

/* -- attaching */

int sim_smmu_attach_check(const SimObject *device, const SimObject *pt)
{
    const SimStream *s = device->dev->stream;
    unsigned cfg = SIM_STE_CFG(pt->ste[0]);

    if (!s) {
        return 0;
    }
    /* The core's checks come first, then the driver's */
    if (s->pasids && !pt->pasid_compat) {
        return -EINVAL;
    }
    if (pt->smmu != s->smmu) {
        return -EINVAL;
    }
    if (pt->type == SIM_OBJ_HWPT_NESTED && cfg == SIM_STE_CFG_S1_TRANS &&
        (!device->vdevice || device->vdevice->parent != pt->parent)) {
        return -ENOENT;
    }
    return 0;
}

void sim_smmu_attach(SimObject *device, const SimObject *pt)
{
    SimSte ste = {
        .config = SIM_STE_S2,
        .space = sim_pt_space(pt),
        .vmid = pt->vmid,
        .ats = sim_config()->smmu.ats,
    };

    if (!device->dev->stream) {
        return;
    }
    if (pt->type == SIM_OBJ_HWPT_NESTED) {
        ste.word[0] = pt->ste[0];
        ste.word[1] = pt->ste[1];
        ste.ats = ste.ats && pt->ats;
        switch (SIM_STE_CFG(pt->ste[0])) {
        case SIM_STE_CFG_S1_TRANS:
            ste.config = SIM_STE_S1;
            break;
        case SIM_STE_CFG_BYPASS:
            break;
        default:
            ste.config = SIM_STE_ABORT;
            break;
        }
        if (device->vdevice && device->vdevice->parent == pt->parent) {
            ste.viommu = pt->parent;
            ste.vsid = device->vdevice->virt_id;
        }
    }
    sim_smmu_set_ste(device->dev, &ste);
}

void sim_smmu_detach(SimObject *device)
{
    SimSte blocked = { .config = SIM_STE_BLOCKED };

    if (device->dev->stream) {
        sim_smmu_set_ste(device->dev, &blocked);
    }
}

static SimPasid *find_pasid(SimStream *s, uint32_t pasid)
{
    SimPasid *p;

    for (p = s->pasids; p && p->pasid != pasid; p = p->next) {
        continue;
    }
    return p;
}

int sim_smmu_attach_pasid(SimIommufd *ictx, SimObject *device, uint32_t pasid,
                          uint32_t *pt_id)
{
    SimStream *s = device->dev->stream;
    SimObject *pt = sim_object_find(ictx, *pt_id);
    SimPasid *p;

    if (!pt) {
        return -ENOENT;
    }
    /* A table that is made for an IOAS is none for a PASID */
    if (pt->type != SIM_OBJ_HWPT || !pt->pasid_compat ||
        (device->parent && !device->parent->pasid_compat) ||
        !pasid || pasid >= 1u << sim_config()->smmu.pasid_bits ||
        pt->smmu != s->smmu) {
        return -EINVAL;
    }
    p = find_pasid(s, pasid);
    if (p) {
        p->hwpt->users--;
    } else {
        p = calloc(1, sizeof(*p));
        if (!p) {
            return -ENOMEM;
        }
        p->next = s->pasids;
        s->pasids = p;
    }
    p->pasid = pasid;
    p->hwpt = pt;
    p->space = sim_pt_space(pt);
    pt->users++;
    return 0;
}

void sim_smmu_detach_pasid(SimObject *device, uint32_t pasid)
{
    SimStream *s = device->dev->stream;
    SimPasid **at = s ? &s->pasids : NULL;

    while (at && *at) {
        SimPasid *p = *at;

        if (pasid == SIM_NO_SSID || p->pasid == pasid) {
            *at = p->next;
            p->hwpt->users--;
            free(p);
        } else {
            at = &p->next;
        }
    }
}

/* -- invalidation */

/* Puts the host's IDs in place of the guest's; false: not for a guest */
static bool convert(SimIommufd *ictx, const SimObject *viommu, uint64_t *cmd,
                    SimStream **s)
{
    const SimObject *o;

    *s = NULL;
    switch (cmd[0] & 0xff) {
    case SIM_CMD_TLBI_NSNH_ALL:
        cmd[0] = SIM_CMD_TLBI_NH_ALL;
        cmd[1] = 0;
        return true;
    case SIM_CMD_TLBI_NH_VA:
    case SIM_CMD_TLBI_NH_VAA:
    case SIM_CMD_TLBI_NH_ALL:
    case SIM_CMD_TLBI_NH_ASID:
        return true;
    case SIM_CMD_ATC_INV:
    case SIM_CMD_CFGI_CD:
    case SIM_CMD_CFGI_CD_ALL:
        for (o = ictx->objects; o; o = o->next) {
            if (o->type == SIM_OBJ_VDEVICE && o->parent == viommu &&
                o->virt_id == cmd[0] >> 32) {
                *s = o->device->dev->stream;
            }
        }
        return *s;
    default:
        return false;
    }
}

/* A test may ask for an SMMU that loses commands */
static bool is_lost(const SimSmmu *smmu)
{
    unsigned i;

    for (i = 0; i < sim_config()->devices; i++) {
        SimDevice *dev = sim_device(i);

        if (dev->st && dev->stream->smmu == smmu &&
            sim_knob_use(dev, SIM_KNOB_LOSE_INVALIDATIONS)) {
            return true;
        }
    }
    return false;
}

typedef struct Command {
    uint64_t cmd[2];
    SimStream *stream;
} Command;

/* As the kernel copies structs that may be longer or shorter than its own */
static int copy_command(const struct iommu_hwpt_invalidate *arg, unsigned i,
                        uint64_t *cmd)
{
    uint64_t at = arg->data_uptr + (uint64_t)arg->entry_len * i;
    size_t size = 2 * sizeof(*cmd), n = arg->entry_len;
    uint8_t byte;

    cmd[0] = cmd[1] = 0;
    for (; n > size; n--) {
        if (!copy_in(&byte, at + n - 1, 1)) {
            return -EFAULT;
        }
        if (byte) {
            return -E2BIG;
        }
    }
    return copy_in(cmd, at, n) ? 0 : -EFAULT;
}

int sim_smmu_invalidate(SimIommufd *ictx, SimObject *viommu,
                        struct iommu_hwpt_invalidate *arg)
{
    unsigned i, last = 0, n = arg->entry_num;
    Command *cmds;
    int ret = 0;

    arg->entry_num = 0;
    if (arg->data_type != IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3 || !n) {
        return -EINVAL;
    }
    cmds = calloc(n, sizeof(*cmds));
    if (!cmds) {
        return -ENOMEM;
    }
    for (i = 0; i < n && !ret; i++) {
        ret = copy_command(arg, i, cmds[i].cmd);
    }
    for (i = 0; i < n && !ret;) {
        if (!convert(ictx, viommu, cmds[i].cmd, &cmds[i].stream)) {
            /* It counts those of the batch, although they are not done */
            viommu->smmu->refused++;
            ret = -EIO;
            break;
        }
        i++;
        if (i != n && i - last != BATCH) {
            continue;
        }
        for (; last < i; last++) {
            if (!is_lost(viommu->smmu)) {
                sim_smmu_command(viommu->smmu, cmds[last].stream,
                                 viommu->vmid, cmds[last].cmd);
            }
        }
    }
    if (!ret || ret == -EIO) {
        arg->entry_num = i;
    }
    free(cmds);
    return ret;
}
