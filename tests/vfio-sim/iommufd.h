/*
 * vfio-sim: the objects of /dev/iommu
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef VFIO_SIM_IOMMUFD_H
#define VFIO_SIM_IOMMUFD_H

#include "sim.h"

typedef enum SimObjectType {
    SIM_OBJ_IOAS,
    SIM_OBJ_HWPT,
    SIM_OBJ_HWPT_NESTED,
    SIM_OBJ_DEVICE,
    SIM_OBJ_VIOMMU,
    SIM_OBJ_VDEVICE,
    SIM_OBJ_VEVENTQ,
} SimObjectType;

struct SimObject {
    uint32_t id;
    SimObjectType type;
    unsigned users;         /* that keep it from being destroyed */
    bool automatic;         /* page table made by attaching to an IOAS */
    SimSpace *space;        /* IOAS */
    /*
     * What it is a user of. Page table: IOAS, or vIOMMU if nested; device:
     * what it is attached to; vIOMMU: nesting parent; the others: vIOMMU
     */
    SimObject *parent;
    SimDevice *dev;
    SimObject *next;

    /* Only with an SMMUv3 */
    SimSmmu *smmu;          /* page table, vIOMMU */
    bool nest_parent;       /* page table */
    bool pasid_compat;
    uint16_t vmid;
    uint64_t ste[2];        /* nested page table, without EATS */
    bool ats;
    SimObject *device;      /* virtual device: the physical one */
    SimObject *vdevice;     /* and the way back */
    uint64_t virt_id;
    SimVeventq *veventq;    /* vIOMMU, event queue */
    uint32_t veventq_type;
};

struct SimIommufd {
    unsigned refs;
    uint32_t next_id;
    SimObject *objects;
};

SimObject *sim_object_new(SimIommufd *ictx, SimObjectType type);
SimObject *sim_object_find(SimIommufd *ictx, uint32_t id);
SimObject *sim_object_get(SimIommufd *ictx, uint32_t id, SimObjectType type);
/* Takes part of @parent until it is freed */
void sim_object_set_parent(SimObject *o, SimObject *parent);
void sim_object_free(SimIommufd *ictx, SimObject *o);
/* Where the addresses go that a page table gives out */
SimSpace *sim_pt_space(const SimObject *pt);

/* iommufd-viommu.c */
int sim_viommu_alloc(SimIommufd *ictx, struct iommu_viommu_alloc *cmd);
int sim_vdevice_alloc(SimIommufd *ictx, struct iommu_vdevice_alloc *cmd);
void sim_vdevice_free(SimIommufd *ictx, SimObject *vdevice);
int sim_hwpt_invalidate(SimIommufd *ictx, struct iommu_hwpt_invalidate *cmd);

/* iommufd-smmuv3.c: what the kernel's driver of the SMMU adds */
int sim_smmu_hw_info(SimIommufd *ictx, struct iommu_hw_info *cmd);
int sim_smmu_hwpt_alloc(SimIommufd *ictx, struct iommu_hwpt_alloc *cmd);
/* The page table's part of it; also for those that attaching makes */
void sim_smmu_hwpt_init(SimObject *hwpt, SimDevice *dev);
void sim_smmu_hwpt_free(SimObject *hwpt);
/* Returns 0 if the device may be attached to @pt */
int sim_smmu_attach_check(const SimObject *device, const SimObject *pt);
void sim_smmu_attach(SimObject *device, const SimObject *pt);
void sim_smmu_detach(SimObject *device);
int sim_smmu_attach_pasid(SimIommufd *ictx, SimObject *device, uint32_t pasid,
                          uint32_t *pt_id);
/* UINT32_MAX: all */
void sim_smmu_detach_pasid(SimObject *device, uint32_t pasid);
int sim_smmu_invalidate(SimIommufd *ictx, SimObject *viommu,
                        struct iommu_hwpt_invalidate *arg);

/* veventq.c */
int sim_veventq_alloc(SimIommufd *ictx, struct iommu_veventq_alloc *cmd);
void sim_veventq_free(SimVeventq *q);
/* Returns false if the event is lost */
bool sim_veventq_report(SimVeventq *q, const uint64_t *record);
unsigned sim_veventq_pending(const SimVeventq *q);
unsigned sim_veventq_depth(const SimVeventq *q);

#endif /* VFIO_SIM_IOMMUFD_H */
