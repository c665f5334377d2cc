/*
 * vfio-sim: virtual IOMMUs of /dev/iommu, and the devices in them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>

#include "iommufd.h"
#include "smmuv3.h"

int sim_viommu_alloc(SimIommufd *ictx, struct iommu_viommu_alloc *cmd)
{
    SimObject *dev, *hwpt, *viommu;

    if (cmd->flags || cmd->type == IOMMU_VIOMMU_TYPE_DEFAULT) {
        return -EOPNOTSUPP;
    }
    dev = sim_object_get(ictx, cmd->dev_id, SIM_OBJ_DEVICE);
    if (!dev) {
        return -ENOENT;
    }
    if (cmd->type != IOMMU_VIOMMU_TYPE_ARM_SMMUV3) {
        return -EOPNOTSUPP;
    }
    hwpt = sim_object_get(ictx, cmd->hwpt_id, SIM_OBJ_HWPT);
    if (!hwpt) {
        return -ENOENT;
    }
    if (!hwpt->nest_parent || hwpt->smmu != dev->dev->stream->smmu) {
        return -EINVAL;
    }
    viommu = sim_object_new(ictx, SIM_OBJ_VIOMMU);
    if (!viommu) {
        return -ENOMEM;
    }
    sim_object_set_parent(viommu, hwpt);
    viommu->smmu = hwpt->smmu;
    viommu->vmid = hwpt->vmid;
    cmd->out_viommu_id = viommu->id;
    return 0;
}

static SimObject *find_virt_id(SimIommufd *ictx, const SimObject *viommu,
                               uint64_t virt_id)
{
    SimObject *o;

    for (o = ictx->objects; o; o = o->next) {
        if (o->type == SIM_OBJ_VDEVICE && o->parent == viommu &&
            o->virt_id == virt_id) {
            return o;
        }
    }
    return NULL;
}

int sim_vdevice_alloc(SimIommufd *ictx, struct iommu_vdevice_alloc *cmd)
{
    SimObject *viommu, *dev, *vdevice;

    viommu = sim_object_get(ictx, cmd->viommu_id, SIM_OBJ_VIOMMU);
    if (!viommu) {
        return -ENOENT;
    }
    dev = sim_object_get(ictx, cmd->dev_id, SIM_OBJ_DEVICE);
    if (!dev) {
        return -ENOENT;
    }
    if (viommu->smmu != dev->dev->stream->smmu) {
        return -EINVAL;
    }
    if (dev->vdevice || find_virt_id(ictx, viommu, cmd->virt_id)) {
        return -EEXIST;
    }
    vdevice = sim_object_new(ictx, SIM_OBJ_VDEVICE);
    if (!vdevice) {
        return -ENOMEM;
    }
    sim_object_set_parent(vdevice, viommu);
    vdevice->virt_id = cmd->virt_id;
    vdevice->device = dev;
    dev->vdevice = vdevice;
    cmd->out_vdevice_id = vdevice->id;
    return 0;
}

/*
 * Also when the physical device goes. An attached page table keeps the
 * stream ID that it was attached with.
 */
void sim_vdevice_free(SimIommufd *ictx, SimObject *vdevice)
{
    vdevice->device->vdevice = NULL;
    sim_object_free(ictx, vdevice);
}

static int invalidate(SimIommufd *ictx, struct iommu_hwpt_invalidate *cmd,
                      uint32_t *done)
{
    SimObject *o;
    int ret;

    if (cmd->__reserved) {
        return -EOPNOTSUPP;
    }
    if (cmd->entry_num && (!cmd->data_uptr || !cmd->entry_len)) {
        return -EINVAL;
    }
    o = sim_object_find(ictx, cmd->hwpt_id);
    if (!o) {
        return -ENOENT;
    }
    switch (o->type) {
    case SIM_OBJ_HWPT_NESTED:
        return -EOPNOTSUPP;     /* only by the vIOMMU */
    case SIM_OBJ_VIOMMU:
        ret = sim_smmu_invalidate(ictx, o, cmd);
        *done = cmd->entry_num;
        return ret;
    default:
        return -EINVAL;
    }
}

int sim_hwpt_invalidate(SimIommufd *ictx, struct iommu_hwpt_invalidate *cmd)
{
    uint32_t done = 0;
    int ret = invalidate(ictx, cmd, &done);

    cmd->entry_num = done;
    return ret;
}
