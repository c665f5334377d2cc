// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A vfio-pci variant driver that offers a CXL Type-2 device as the kernels in
 * the making do, on the exported parts of vfio-pci-core. It gives QEMU, and
 * all that vfio-sim only imitates, memory that is VM_PFNMAP, faults, pinning
 * and locks of a real kernel. It is for tests and for nothing else.
 *
 * form=v2: device capability, two regions of the consortium's type, memory in
 *          pages of 4 KiB that stays accessible with Memory Space off, the
 *          decoder as a copy without its address, the DVSEC as a copy in part.
 * form=v4: regions of a type of their own with a geometry capability, memory
 *          in pages as large as possible that goes with Memory Space, copies
 *          of the decoder and of the whole DVSEC.
 *
 * The behaviour of each form follows a description of these interfaces. Decoder
 * 0 must be committed, by firmware.
 */
#include <linux/bitfield.h>
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/uaccess.h>
#include <linux/unaligned.h>
#include <linux/vfio.h>
#include <linux/vfio_pci_core.h>

#define CXL_VENDOR		0x1e98
#define DVSEC_DEVICE		0
#define DVSEC_LOCATOR		8
#define COMPONENT_SIZE		0x10000
#define CM_OFFSET		0x1000
#define CM_SIZE			0x1000
#define CM_CAP_HDM		5

/* The HDM decoder block */
#define HDM_GLOBAL		0x04
#define HDM_BASE_LO		0x10
#define HDM_BASE_HI		0x14
#define HDM_SIZE_LO		0x18
#define HDM_SIZE_HI		0x1c
#define HDM_CTRL		0x20
#define HDM_TARGET_LO		0x24
#define HDM_TARGET_HI		0x28
#define HDM_STRIDE		0x20
#define   CTRL_LOCK		BIT(8)
#define   CTRL_COMMIT		BIT(9)
#define   CTRL_COMMITTED	BIT(10)
#define   CTRL_ERROR		BIT(11)
#define   CTRL_HOSTONLY		BIT(12)

/* The CXL Device DVSEC */
#define DV_CAP			0x0a
#define   CAP_CACHE		BIT(0)
#define   CAP_RESET		BIT(7)
#define DV_CONTROL		0x0c
#define   CONTROL_IO		BIT(1)
#define   CONTROL_MEM		BIT(2)
#define DV_STATUS		0x0e
#define   STATUS_VIRAL		BIT(14)
#define DV_CONTROL2		0x10
#define   CONTROL2_NO_CACHE	BIT(0)
#define   CONTROL2_WBI		BIT(1)
#define   CONTROL2_RESET	BIT(2)
#define   CONTROL2_VOLATILE	BIT(4)
#define   CONTROL2_MODIFIED	BIT(5)
#define DV_STATUS2		0x12
#define   STATUS2_DONE		BIT(1)
#define   STATUS2_ERROR		BIT(2)
#define   STATUS2_VOLATILE	BIT(3)
#define   STATUS2_PM_INIT	BIT(15)
#define DV_LOCK			0x14
#define DV_CAP2			0x16
#define DV_BASE1_HI		0x20
#define DV_END			0x3c
#define DV_CAP3			0x38

#define FLAGS_CXL		BIT(9)
#define REGION_TYPE_1E98	(BIT(31) | CXL_VENDOR)
#define REGION_TYPE_V4		4
#define SUBTYPE_MEMORY		1
#define SUBTYPE_REGISTERS	2

enum form { FORM_V2, FORM_V4 };

static char *form = "v2";
module_param(form, charp, 0444);
MODULE_PARM_DESC(form, "the interface that is offered: v2 or v4");

struct cap_v2 {
	struct vfio_info_cap_header header;
	__u8 hdm_regs_bar_index;
	__u8 reserved[3];
	__u32 flags;
	__u64 hdm_regs_offset;
	__u32 dpa_region_index;
	__u32 comp_regs_region_index;
};

struct cap_geometry {
	struct vfio_info_cap_header header;
	__u32 bar;
	__u32 reserved;
	__u64 offset;
};

struct nested {
	struct vfio_pci_core_device core;
	enum form form;
	int dvsec;
	unsigned int bar;
	u64 block;
	u32 hdm;		/* offset in the CM area */
	u32 decoders;
	phys_addr_t hpa;
	u64 size;
	void __iomem *regs;	/* the CM area */
	void *memory;
	unsigned int mem_region;
	unsigned int regs_region;
	/* Below: under core.memory_lock */
	bool active;
	u32 shadow[CM_SIZE / 4];
	struct mutex lock;	/* the copies, against each other's users */
	u8 dv[DV_END];
};

static struct nested *to_nested(struct vfio_pci_core_device *core)
{
	return container_of(core, struct nested, core);
}

static struct nested *from_vdev(struct vfio_device *vdev)
{
	return container_of(vdev, struct nested, core.vdev);
}

static u32 hdm_size(struct nested *n)
{
	return 0x10 + HDM_STRIDE * n->decoders;
}

static u32 *hdm_shadow(struct nested *n, u32 off)
{
	return &n->shadow[(n->hdm + off) / 4];
}

/* --- device memory ------------------------------------------------------- */

static void nested_zap(struct nested *n)
{
	unmap_mapping_range(n->core.vdev.inode->i_mapping,
			    VFIO_PCI_INDEX_TO_OFFSET(n->mem_region), n->size,
			    true);
}

/* Nothing may touch the memory from here on */
static void nested_close_gate(struct nested *n)
{
	down_write(&n->core.memory_lock);
	n->active = false;
	nested_zap(n);
	up_write(&n->core.memory_lock);
}

static vm_fault_t nested_huge_fault(struct vm_fault *vmf, unsigned int order)
{
	struct vm_area_struct *vma = vmf->vma;
	struct nested *n = vma->vm_private_data;
	unsigned long address = vmf->address & ~((PAGE_SIZE << order) - 1);
	u64 offset = ((u64)vma->vm_pgoff << PAGE_SHIFT) & VFIO_PCI_OFFSET_MASK;
	unsigned long pfn;
	vm_fault_t ret = VM_FAULT_SIGBUS;

	offset += address - vma->vm_start;
	pfn = PHYS_PFN(n->hpa + offset);
	if (!is_aligned_for_order(vma, address, pfn, order))
		return VM_FAULT_FALLBACK;

	down_read(&n->core.memory_lock);
	if (n->active && offset < n->size) {
		if (n->form == FORM_V2)
			ret = vmf_insert_pfn(vma, vmf->address, pfn);
		else
			ret = vfio_pci_vmf_insert_pfn(&n->core, vmf, pfn, order);
	}
	up_read(&n->core.memory_lock);
	return ret;
}

static vm_fault_t nested_fault(struct vm_fault *vmf)
{
	return nested_huge_fault(vmf, 0);
}

static const struct vm_operations_struct nested_v2_vm_ops = {
	.fault = nested_fault,
};

static const struct vm_operations_struct nested_v4_vm_ops = {
	.fault = nested_fault,
	.huge_fault = nested_huge_fault,
};

static int nested_mem_mmap(struct vfio_pci_core_device *core,
			   struct vfio_pci_region *region,
			   struct vm_area_struct *vma)
{
	struct nested *n = to_nested(core);
	u64 offset = ((u64)vma->vm_pgoff << PAGE_SHIFT) & VFIO_PCI_OFFSET_MASK;
	u64 length = vma->vm_end - vma->vm_start;

	if (offset >= n->size || length > n->size - offset)
		return -EINVAL;
	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_page_prot = pgprot_decrypted(vma->vm_page_prot);
	vma->vm_private_data = n;
	vma->vm_ops = n->form == FORM_V2 ? &nested_v2_vm_ops :
					   &nested_v4_vm_ops;
	return 0;
}

static ssize_t nested_mem_rw(struct vfio_pci_core_device *core,
			     char __user *buf, size_t count, loff_t *ppos,
			     bool iswrite)
{
	struct nested *n = to_nested(core);
	u64 pos = *ppos & VFIO_PCI_OFFSET_MASK;
	ssize_t ret = -EIO;

	if (n->form == FORM_V4)
		return -EIO;
	if (pos >= n->size)
		return 0;
	count = min_t(u64, count, n->size - pos);
	down_read(&core->memory_lock);
	if (n->active) {
		if (iswrite ? copy_from_user(n->memory + pos, buf, count) :
			      copy_to_user(buf, n->memory + pos, count))
			ret = -EFAULT;
		else
			ret = count;
	}
	up_read(&core->memory_lock);
	if (ret > 0)
		*ppos += ret;
	return ret;
}

static void nested_region_release(struct vfio_pci_core_device *core,
				  struct vfio_pci_region *region)
{
}

static const struct vfio_pci_regops nested_mem_ops = {
	.rw = nested_mem_rw,
	.mmap = nested_mem_mmap,
	.release = nested_region_release,
};

/* --- the decoder --------------------------------------------------------- */

/*
 * Copy the hardware's registers, with memory_lock held for writing. v2 shows
 * a locked decoder unlocked and without its address.
 */
static void nested_sample(struct nested *n)
{
	struct pci_dev *pdev = n->core.pdev;
	u16 command;
	u32 i, first = n->form == FORM_V2 ? n->hdm / 4 : 0;

	/* Memory Space is on loan where the user has switched it off */
	pci_read_config_word(pdev, PCI_COMMAND, &command);
	if (!(command & PCI_COMMAND_MEMORY))
		pci_write_config_word(pdev, PCI_COMMAND,
				      command | PCI_COMMAND_MEMORY);
	for (i = first; i < (n->hdm + hdm_size(n)) / 4; i++)
		n->shadow[i] = ioread32(n->regs + 4 * i);
	if (!(command & PCI_COMMAND_MEMORY))
		pci_write_config_word(pdev, PCI_COMMAND, command);

	n->active = *hdm_shadow(n, HDM_CTRL) & CTRL_COMMITTED;
	for (i = 0; n->form == FORM_V2 && i < n->decoders; i++) {
		u32 *d = hdm_shadow(n, 0x10 + HDM_STRIDE * i);

		if (d[4] & CTRL_COMMITTED && d[4] & CTRL_LOCK) {
			d[4] &= ~CTRL_LOCK;
			d[0] = d[1] = 0;
		}
	}
}

static void nested_open_gate(struct nested *n)
{
	down_write(&n->core.memory_lock);
	nested_sample(n);
	up_write(&n->core.memory_lock);
}

static void nested_v2_decoder(struct nested *n, u32 *d, u32 reg, u32 value)
{
	u32 keep = CTRL_COMMITTED | CTRL_ERROR | CTRL_HOSTONLY;
	u32 reserved = BIT(15) | GENMASK(31, 28) | GENMASK(23, 16);
	u32 cap = *hdm_shadow(n, 0);
	u16 dvcap;

	switch (reg) {
	case HDM_BASE_LO:
	case HDM_SIZE_LO:
		value &= GENMASK(31, 28);
		fallthrough;
	case HDM_BASE_HI:
	case HDM_SIZE_HI:
		if (!(d[4] & CTRL_LOCK))
			d[(reg - 0x10) / 4] = value;
		break;
	case HDM_CTRL:
		if (d[4] & CTRL_LOCK) {
			if (!(value & CTRL_LOCK))
				d[4] &= ~CTRL_LOCK;
			break;
		}
		if (!(cap & BIT(13)))
			reserved |= BIT(14) | GENMASK(27, 24);
		pci_read_config_word(n->core.pdev, n->dvsec + DV_CAP, &dvcap);
		if (!(dvcap & CAP_CACHE))
			reserved |= BIT(13);
		d[4] = (value & ~(reserved | keep)) |
		       (d[4] & (keep & ~CTRL_COMMITTED));
		if (value & CTRL_COMMIT)
			d[4] |= CTRL_COMMITTED;
		break;
	}
}

static void nested_v2_write(struct nested *n, u32 pos, u32 value)
{
	u32 off = pos - n->hdm;

	if (pos < n->hdm)
		return;
	if (off == HDM_GLOBAL) {
		if (!(*hdm_shadow(n, 0) & BIT(10)))
			value &= ~BIT(0);
		*hdm_shadow(n, HDM_GLOBAL) = value & 3;
	} else if (off >= 0x10) {
		u32 at = (off - 0x10) / HDM_STRIDE;

		nested_v2_decoder(n, hdm_shadow(n, 0x10 + HDM_STRIDE * at),
				  0x10 + (off - 0x10) % HDM_STRIDE, value);
	}
}

static void nested_v4_write(struct nested *n, u32 off, u32 value)
{
	const u32 changeable = GENMASK(7, 0) | CTRL_LOCK | CTRL_COMMIT |
			       CTRL_HOSTONLY;
	u32 *r = hdm_shadow(n, off), *ctrl = hdm_shadow(n, HDM_CTRL);

	switch (off) {
	case HDM_GLOBAL:
		*r = value;
		break;
	case HDM_BASE_LO:
	case HDM_SIZE_LO:
		value = (*r & GENMASK(27, 0)) | (value & GENMASK(31, 28));
		fallthrough;
	case HDM_BASE_HI:
	case HDM_SIZE_HI:
	case HDM_TARGET_LO:
	case HDM_TARGET_HI:
		if (!(*ctrl & CTRL_COMMITTED))
			*r = value;
		break;
	case HDM_CTRL:
		if (*ctrl & CTRL_COMMITTED && *ctrl & CTRL_LOCK)
			break;
		value = (*ctrl & ~changeable) | (value & changeable);
		if (value & CTRL_COMMIT)
			value = (value | CTRL_COMMITTED) & ~CTRL_ERROR;
		else
			value &= ~CTRL_COMMITTED;
		*ctrl = value;
		break;
	}
}

/* v2: one dword, from the CM array on; v4: dwords, the decoder block only */
static ssize_t nested_regs_rw(struct vfio_pci_core_device *core,
			      char __user *buf, size_t count, loff_t *ppos,
			      bool iswrite)
{
	struct nested *n = to_nested(core);
	bool v2 = n->form == FORM_V2;
	u64 pos = *ppos & VFIO_PCI_OFFSET_MASK;
	u64 end = v2 ? n->hdm + hdm_size(n) : hdm_size(n);
	ssize_t done = 0;

	if (!count && v2)
		return 0;
	if (pos >= end)
		return -EINVAL;
	if (v2)
		count = min_t(u64, count, end - pos);
	if (pos % 4 || count % 4 || (v2 && count != 4))
		return -EINVAL;
	count = min_t(u64, count, end - pos);

	mutex_lock(&n->lock);
	for (; count; count -= 4, pos += 4, done += 4) {
		u32 value;

		if (!iswrite) {
			value = n->shadow[(v2 ? pos : n->hdm + pos) / 4];
			if (put_user(value, (u32 __user *)(buf + done)))
				break;
		} else {
			if (get_user(value, (u32 __user *)(buf + done)))
				break;
			if (v2)
				nested_v2_write(n, pos, value);
			else
				nested_v4_write(n, pos, value);
		}
	}
	mutex_unlock(&n->lock);
	if (!done)
		return -EFAULT;
	*ppos += done;
	return done;
}

static int nested_add_geometry(struct vfio_pci_core_device *core,
			       struct vfio_pci_region *region,
			       struct vfio_info_cap *caps)
{
	struct nested *n = to_nested(core);
	struct cap_geometry cap = {
		.header = { .id = 6, .version = 1 },
		.bar = n->bar,
		.offset = n->block + CM_OFFSET + n->hdm,
	};

	return vfio_info_add_capability(caps, &cap.header, sizeof(cap));
}

static const struct vfio_pci_regops nested_v2_regs_ops = {
	.rw = nested_regs_rw,
	.release = nested_region_release,
};

static const struct vfio_pci_regops nested_v4_regs_ops = {
	.rw = nested_regs_rw,
	.release = nested_region_release,
	.add_capability = nested_add_geometry,
};

/* --- resets -------------------------------------------------------------- */

/* Duties of the initiator of a reset; see CXL r3.1, 9.7 */
static int nested_cxl_reset(struct nested *n)
{
	static const unsigned int limits[] = { 10, 100, 1000, 10000, 100000 };
	struct pci_dev *pdev = n->core.pdev;
	u16 cap, status, control2;
	unsigned int waited = 0, limit;

	pci_read_config_word(pdev, n->dvsec + DV_CAP, &cap);
	limit = limits[min_t(u16, FIELD_GET(GENMASK(10, 8), cap), 4)];
	pci_save_state(pdev);
	pci_read_config_word(pdev, n->dvsec + DV_CONTROL2, &control2);
	pci_write_config_word(pdev, n->dvsec + DV_CONTROL2,
			      control2 | CONTROL2_RESET);
	do {
		msleep(10);
		waited += 10;
		pci_read_config_word(pdev, n->dvsec + DV_STATUS2, &status);
	} while (!(status & (STATUS2_DONE | STATUS2_ERROR)) && waited < limit);
	pci_restore_state(pdev);
	return status & STATUS2_DONE && !(status & STATUS2_ERROR) ? 0 : -EIO;
}

/* The user asks for a CXL reset, with n->lock held */
static void nested_user_reset(struct nested *n)
{
	u16 status = get_unaligned_le16(n->dv + DV_STATUS2), cap;
	int ret;

	pci_read_config_word(n->core.pdev, n->dvsec + DV_CAP, &cap);
	if (!(cap & CAP_RESET))
		return;
	nested_close_gate(n);
	ret = nested_cxl_reset(n);
	/* v2 comes to its end like this whether it failed or not */
	if (!ret || n->form == FORM_V2)
		nested_open_gate(n);
	status &= ~(STATUS2_DONE | STATUS2_ERROR);
	put_unaligned_le16(status | (ret ? STATUS2_ERROR : STATUS2_DONE),
			   n->dv + DV_STATUS2);
}

/* --- the DVSEC ----------------------------------------------------------- */

static void nested_v2_control2(struct nested *n, u16 value)
{
	struct pci_dev *pdev = n->core.pdev;
	u16 cap2, cap3;

	pci_read_config_word(pdev, n->dvsec + DV_CAP2, &cap2);
	pci_read_config_word(pdev, n->dvsec + DV_CAP3, &cap3);
	if (!(cap3 & BIT(3)))
		value &= ~CONTROL2_VOLATILE;
	if (!(cap2 & BIT(3)))
		value &= ~CONTROL2_MODIFIED;
	put_unaligned_le16(value & 0x3f & ~(CONTROL2_WBI | CONTROL2_RESET),
			   n->dv + DV_CONTROL2);
	/* Hardware hears of it only together with a write-back */
	if (value & CONTROL2_WBI)
		pci_write_config_word(pdev, n->dvsec + DV_CONTROL2, value &
				      (CONTROL2_WBI | CONTROL2_NO_CACHE));
	if (value & CONTROL2_RESET)
		nested_user_reset(n);
}

static void nested_v2_field(struct nested *n, u32 reg, u16 value)
{
	struct pci_dev *pdev = n->core.pdev;
	u8 *at = n->dv + reg;
	u16 old = get_unaligned_le16(at), cap3;
	bool locked = n->dv[DV_LOCK] & 1;

	switch (reg) {
	case DV_CONTROL:
		if (!locked)
			put_unaligned_le16((value & ~0xb000) | CONTROL_IO, at);
		break;
	case DV_STATUS:
		put_unaligned_le16(old & ~(value & STATUS_VIRAL), at);
		break;
	case DV_CONTROL2:
		nested_v2_control2(n, value);
		break;
	case DV_STATUS2:
		pci_read_config_word(pdev, n->dvsec + DV_CAP3, &cap3);
		if (!(cap3 & BIT(3)))
			value &= ~STATUS2_VOLATILE;
		value &= STATUS2_VOLATILE | STATUS2_PM_INIT;
		if (value)
			pci_write_config_word(pdev, n->dvsec + reg, value);
		break;
	case DV_LOCK:
		if (!locked)
			put_unaligned_le16(value & 1, at);
		break;
	}
}

static void nested_v4_field(struct nested *n, u32 reg, u16 value)
{
	u8 *at = n->dv + reg;
	u16 old = get_unaligned_le16(at);

	switch (reg) {
	case DV_CONTROL:
		put_unaligned_le16(value | CONTROL_MEM, at);
		break;
	case DV_STATUS:
	case DV_STATUS2:
		put_unaligned_le16(old & ~value, at);
		break;
	case DV_CONTROL2:
		put_unaligned_le16(value & ~CONTROL2_RESET, at);
		if (value & CONTROL2_RESET && !(old & CONTROL2_RESET))
			nested_user_reset(n);
		break;
	}
}

/* One register after the other; a part of one is completed from the copy */
static void nested_dvsec_write(struct nested *n, u32 reg, u32 value,
			       size_t count)
{
	u32 end = reg + count;
	u32 field;

	for (field = reg & ~1u; field < end; field += 2) {
		bool rw1c = field == DV_STATUS || field == DV_STATUS2;
		u8 bytes[2] = { 0, 0 };
		u32 i;

		if (!rw1c)
			memcpy(bytes, n->dv + field, 2);
		for (i = 0; i < 2; i++)
			if (field + i >= reg && field + i < end)
				bytes[i] = value >> 8 * (field + i - reg);
		if (n->form == FORM_V2)
			nested_v2_field(n, field, get_unaligned_le16(bytes));
		else
			nested_v4_field(n, field, get_unaligned_le16(bytes));
	}
}

static u32 nested_dvsec_read(struct nested *n, u32 reg, size_t count)
{
	struct pci_dev *pdev = n->core.pdev;
	u32 value = 0, i;
	u16 live;

	if (n->form == FORM_V2) {
		/* Live, except for the results of our own resets */
		pci_read_config_word(pdev, n->dvsec + DV_STATUS2, &live);
		live &= ~(STATUS2_DONE | STATUS2_ERROR);
		live |= get_unaligned_le16(n->dv + DV_STATUS2) &
			(STATUS2_DONE | STATUS2_ERROR);
		put_unaligned_le16(live, n->dv + DV_STATUS2);
	}
	for (i = 0; i < count; i++) {
		u32 at = reg + i;
		u8 byte = n->dv[at];

		if (n->form == FORM_V2 && (at < DV_CONTROL || at >= DV_CAP2))
			pci_read_config_byte(pdev, n->dvsec + at, &byte);
		value |= (u32)byte << 8 * i;
	}
	return value;
}

static void nested_dvsec_sample(struct nested *n)
{
	u32 i;

	for (i = 0; i < DV_END; i++)
		pci_read_config_byte(n->core.pdev, n->dvsec + i, &n->dv[i]);
}

/* --- configuration space and BARs ---------------------------------------- */

/* Check whether a config space write requests a Function Level Reset */
static bool nested_is_flr(struct nested *n, u64 pos, size_t count, u32 value)
{
	u32 reg = n->core.pdev->pcie_cap + PCI_EXP_DEVCTL + 1;

	return pos <= reg && reg < pos + count &&
	       value >> 8 * (reg - pos) & (PCI_EXP_DEVCTL_BCR_FLR >> 8);
}

static ssize_t nested_config_write(struct nested *n, const char __user *buf,
				   size_t count, loff_t *ppos, u32 value)
{
	struct pci_dev *pdev = n->core.pdev;
	u64 pos = *ppos & VFIO_PCI_OFFSET_MASK;
	bool flr = nested_is_flr(n, pos, count, value);
	bool power = pdev->pm_cap && pos < pdev->pm_cap + PCI_PM_SIZEOF &&
		     pos + count > pdev->pm_cap;
	bool gate = n->form == FORM_V4 && (power ||
		(pos <= PCI_COMMAND && pos + count > PCI_COMMAND));
	ssize_t ret;

	if (flr)
		nested_close_gate(n);
	ret = vfio_pci_core_write(&n->core.vdev, buf, count, ppos);
	if (flr) {
		mutex_lock(&n->lock);
		nested_open_gate(n);
		mutex_unlock(&n->lock);
	}
	if (gate && ret > 0) {
		bool on;

		/* A page that is touched again asks whether it may be */
		down_write(&n->core.memory_lock);
		on = __vfio_pci_memory_enabled(&n->core);
		if (!on)
			nested_zap(n);
		else if (power)
			nested_sample(n);
		up_write(&n->core.memory_lock);
	}
	return ret;
}

/* As vfio-pci does it: aligned parts of 4, 2 or 1 bytes */
static ssize_t nested_config_rw(struct nested *n, char __user *buf,
				size_t count, loff_t *ppos, bool iswrite)
{
	ssize_t done = 0, ret = 0;

	while (count) {
		u64 pos = *ppos & VFIO_PCI_OFFSET_MASK;
		size_t part = count >= 4 && !(pos % 4) ? 4 :
			      count >= 2 && !(pos % 2) ? 2 : 1;
		bool ours = pos >= n->dvsec + DV_CAP &&
			    pos + part <= n->dvsec + DV_END;
		u32 value = 0;

		if (iswrite && copy_from_user(&value, buf, part))
			return -EFAULT;
		if (ours) {
			mutex_lock(&n->lock);
			if (iswrite)
				nested_dvsec_write(n, pos - n->dvsec,
						   le32_to_cpu(value), part);
			else
				value = cpu_to_le32(nested_dvsec_read(n,
						pos - n->dvsec, part));
			mutex_unlock(&n->lock);
			if (!iswrite && copy_to_user(buf, &value, part))
				return -EFAULT;
			*ppos += part;
			ret = part;
		} else if (iswrite) {
			ret = nested_config_write(n, buf, part, ppos,
						  le32_to_cpu(value));
		} else {
			ret = vfio_pci_core_read(&n->core.vdev, buf, part,
						 ppos);
		}
		if (ret <= 0)
			return ret;
		count -= ret;
		buf += ret;
		done += ret;
	}
	return done;
}

/* The part of the BAR that cannot be mapped */
static void nested_hole(struct nested *n, u64 *start, u64 *end)
{
	*start = n->block;
	*end = n->block + COMPONENT_SIZE;
	if (n->form == FORM_V4) {
		*start += CM_OFFSET + n->hdm;
		*end = PAGE_ALIGN(*start + hdm_size(n));
		*start = ALIGN_DOWN(*start, PAGE_SIZE);
	}
}

static bool nested_in_registers(struct nested *n, unsigned int index, u64 pos,
				size_t count)
{
	u64 start = n->block + CM_OFFSET + n->hdm;

	return n->form == FORM_V4 && index == n->bar &&
	       pos < start + hdm_size(n) && pos + count > start;
}

static ssize_t nested_rw(struct vfio_device *vdev, char __user *buf,
			 size_t count, loff_t *ppos, bool iswrite)
{
	struct nested *n = from_vdev(vdev);
	unsigned int index = VFIO_PCI_OFFSET_TO_INDEX(*ppos);
	u64 pos = *ppos & VFIO_PCI_OFFSET_MASK;

	if (index == VFIO_PCI_CONFIG_REGION_INDEX)
		return nested_config_rw(n, buf, count, ppos, iswrite);
	if (nested_in_registers(n, index, pos, count))
		return -EINVAL;
	return iswrite ? vfio_pci_core_write(vdev, buf, count, ppos) :
			 vfio_pci_core_read(vdev, buf, count, ppos);
}

static ssize_t nested_read(struct vfio_device *vdev, char __user *buf,
			   size_t count, loff_t *ppos)
{
	return nested_rw(vdev, buf, count, ppos, false);
}

static ssize_t nested_write(struct vfio_device *vdev, const char __user *buf,
			    size_t count, loff_t *ppos)
{
	return nested_rw(vdev, (char __user *)buf, count, ppos, true);
}

static int nested_mmap(struct vfio_device *vdev, struct vm_area_struct *vma)
{
	struct nested *n = from_vdev(vdev);
	unsigned int index = vma->vm_pgoff >> (VFIO_PCI_OFFSET_SHIFT -
					       PAGE_SHIFT);
	u64 offset = ((u64)vma->vm_pgoff << PAGE_SHIFT) & VFIO_PCI_OFFSET_MASK;
	u64 start, end;

	nested_hole(n, &start, &end);
	if (index == n->bar && offset < end &&
	    offset + (vma->vm_end - vma->vm_start) > start)
		return -EINVAL;
	return vfio_pci_core_mmap(vdev, vma);
}

static int nested_region_info(struct vfio_device *vdev,
			      struct vfio_region_info *info,
			      struct vfio_info_cap *caps)
{
	struct nested *n = from_vdev(vdev);
	struct vfio_region_info_cap_sparse_mmap *sparse;
	u64 start, end;
	u32 areas = 0;
	int ret = vfio_pci_ioctl_get_region_info(vdev, info, caps);

	if (ret || info->index != n->bar ||
	    !(info->flags & VFIO_REGION_INFO_FLAG_MMAP))
		return ret;
	sparse = kzalloc(struct_size(sparse, areas, 2), GFP_KERNEL);
	if (!sparse)
		return -ENOMEM;
	nested_hole(n, &start, &end);
	if (start) {
		sparse->areas[areas].offset = 0;
		sparse->areas[areas++].size = start;
	}
	if (end < info->size) {
		sparse->areas[areas].offset = end;
		sparse->areas[areas++].size = info->size - end;
	}
	if (areas) {
		sparse->header.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP;
		sparse->header.version = 1;
		sparse->nr_areas = areas;
		ret = vfio_info_add_capability(caps, &sparse->header,
				struct_size(sparse, areas, areas));
	} else {
		info->flags &= ~VFIO_REGION_INFO_FLAG_MMAP;
	}
	kfree(sparse);
	return ret;
}

/* --- ioctls -------------------------------------------------------------- */

/* vfio-pci's answer, with the flag and with v2's capability behind it */
static long nested_get_info(struct nested *n, unsigned int cmd,
			    unsigned long arg)
{
	struct vfio_device_info info = { };
	u32 argsz, length = offsetofend(struct vfio_device_info, num_irqs);
	struct cap_v2 cap = {
		.header = { .id = 6, .version = 1 },
		.hdm_regs_bar_index = n->bar,
		.flags = 1,
		.hdm_regs_offset = n->block + CM_OFFSET,
		.dpa_region_index = n->mem_region,
		.comp_regs_region_index = n->regs_region,
	};
	u16 dvcap;
	long ret;

	if (get_user(argsz, (u32 __user *)arg))
		return -EFAULT;
	ret = vfio_pci_core_ioctl(&n->core.vdev, cmd, arg);
	if (ret)
		return ret;
	length = argsz >= sizeof(info) ? sizeof(info) : length;
	if (copy_from_user(&info, (void __user *)arg, length))
		return -EFAULT;
	info.flags |= FLAGS_CXL;
	if (n->form == FORM_V2) {
		pci_read_config_word(n->core.pdev, n->dvsec + DV_CAP, &dvcap);
		if (dvcap & CAP_CACHE)
			cap.flags |= 2;
		info.flags |= VFIO_DEVICE_FLAGS_CAPS;
		if (argsz < sizeof(info) + sizeof(cap)) {
			info.argsz = sizeof(info) + sizeof(cap);
			info.cap_offset = 0;
		} else {
			info.cap_offset = sizeof(info);
			if (copy_to_user((void __user *)arg + sizeof(info),
					 &cap, sizeof(cap)))
				return -EFAULT;
		}
	}
	return copy_to_user((void __user *)arg, &info, length) ? -EFAULT : 0;
}

static long nested_ioctl(struct vfio_device *vdev, unsigned int cmd,
			 unsigned long arg)
{
	struct nested *n = from_vdev(vdev);
	long ret;

	switch (cmd) {
	case VFIO_DEVICE_GET_INFO:
		return nested_get_info(n, cmd, arg);
	case VFIO_DEVICE_RESET:
	case VFIO_DEVICE_PCI_HOT_RESET:
		nested_close_gate(n);
		ret = vfio_pci_core_ioctl(vdev, cmd, arg);
		mutex_lock(&n->lock);
		nested_open_gate(n);
		mutex_unlock(&n->lock);
		return ret;
	default:
		return vfio_pci_core_ioctl(vdev, cmd, arg);
	}
}

/* --- life ---------------------------------------------------------------- */

static int nested_open(struct vfio_device *vdev)
{
	struct nested *n = from_vdev(vdev);
	u32 type = n->form == FORM_V2 ? REGION_TYPE_1E98 : REGION_TYPE_V4;
	u32 rw = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	int ret = vfio_pci_core_enable(&n->core);

	if (ret)
		return ret;
	n->mem_region = VFIO_PCI_NUM_REGIONS + n->core.num_regions;
	ret = vfio_pci_core_register_dev_region(&n->core, type, SUBTYPE_MEMORY,
			&nested_mem_ops, n->size,
			rw | VFIO_REGION_INFO_FLAG_MMAP, n);
	n->regs_region = VFIO_PCI_NUM_REGIONS + n->core.num_regions;
	if (!ret)
		ret = vfio_pci_core_register_dev_region(&n->core, type,
			SUBTYPE_REGISTERS, n->form == FORM_V2 ?
			&nested_v2_regs_ops : &nested_v4_regs_ops,
			n->form == FORM_V2 ? n->hdm + hdm_size(n) :
					     hdm_size(n), rw, n);
	if (ret) {
		vfio_pci_core_disable(&n->core);
		return ret;
	}
	nested_open_gate(n);
	nested_dvsec_sample(n);
	vfio_pci_core_finish_enable(&n->core);
	return 0;
}

static const struct vfio_device_ops nested_ops = {
	.name = "vfio-cxl-nested",
	.init = vfio_pci_core_init_dev,
	.release = vfio_pci_core_release_dev,
	.open_device = nested_open,
	.close_device = vfio_pci_core_close_device,
	.ioctl = nested_ioctl,
	.get_region_info_caps = nested_region_info,
	.device_feature = vfio_pci_core_ioctl_feature,
	.read = nested_read,
	.write = nested_write,
	.mmap = nested_mmap,
	.request = vfio_pci_core_request,
	.match = vfio_pci_core_match,
	.match_token_uuid = vfio_pci_core_match_token_uuid,
	.bind_iommufd = vfio_iommufd_physical_bind,
	.unbind_iommufd = vfio_iommufd_physical_unbind,
	.attach_ioas = vfio_iommufd_physical_attach_ioas,
	.detach_ioas = vfio_iommufd_physical_detach_ioas,
};

/* v4 exports no range that touches the registers it hides */
static int nested_dmabuf_phys(struct vfio_pci_core_device *core,
			      struct p2pdma_provider **provider,
			      unsigned int index, struct phys_vec *phys_vec,
			      struct vfio_region_dma_range *ranges, size_t count)
{
	struct nested *n = to_nested(core);
	size_t i;

	for (i = 0; i < count; i++)
		if (nested_in_registers(n, index, ranges[i].offset,
					ranges[i].length))
			return -EINVAL;
	return vfio_pci_core_get_dmabuf_phys(core, provider, index, phys_vec,
					     ranges, count);
}

static const struct vfio_pci_device_ops nested_pci_ops = {
	.get_dmabuf_phys = nested_dmabuf_phys,
};

/* BAR and offset of the component registers */
static int nested_locate(struct nested *n, struct pci_dev *pdev)
{
	int at = pci_find_dvsec_capability(pdev, CXL_VENDOR, DVSEC_LOCATOR);
	u32 length, lo, hi, i;

	if (!at)
		return -ENODEV;
	pci_read_config_dword(pdev, at + PCI_DVSEC_HEADER1, &length);
	for (i = 0x0c; i < PCI_DVSEC_HEADER1_LEN(length); i += 8) {
		pci_read_config_dword(pdev, at + i, &lo);
		pci_read_config_dword(pdev, at + i + 4, &hi);
		if (FIELD_GET(GENMASK(15, 8), lo) != 1)
			continue;
		n->bar = lo & 7;
		n->block = (u64)hi << 32 | (lo & GENMASK(31, 16));
		if (n->bar > 5 || n->block + COMPONENT_SIZE >
				  pci_resource_len(pdev, n->bar))
			return -EINVAL;
		return 0;
	}
	return -ENODEV;
}

/* The decoder, which firmware has committed */
static int nested_read_decoder(struct nested *n)
{
	u32 entries = ioread32(n->regs) >> 24, i, at;
	u64 base, size;

	for (i = 1; i <= entries && !n->hdm; i++) {
		u32 entry = ioread32(n->regs + 4 * i);

		if ((entry & 0xffff) == CM_CAP_HDM)
			n->hdm = entry >> 20;
	}
	if (!n->hdm)
		return -ENODEV;
	i = ioread32(n->regs + n->hdm) & 0xf;
	n->decoders = i ? 2 * i : 1;
	if (n->hdm + hdm_size(n) > CM_SIZE ||
	    (n->form == FORM_V4 && n->decoders != 1))
		return -EINVAL;
	at = n->hdm;
	base = ioread32(n->regs + at + HDM_BASE_LO) & GENMASK(31, 28);
	base |= (u64)ioread32(n->regs + at + HDM_BASE_HI) << 32;
	size = ioread32(n->regs + at + HDM_SIZE_LO) & GENMASK(31, 28);
	size |= (u64)ioread32(n->regs + at + HDM_SIZE_HI) << 32;
	if (!(ioread32(n->regs + at + HDM_CTRL) & CTRL_COMMITTED) || !size)
		return -ENXIO;
	for (i = 0; i < CM_SIZE / 4; i++)
		n->shadow[i] = ioread32(n->regs + 4 * i);
	n->hpa = base;
	n->size = size;
	return 0;
}

static int nested_find(struct nested *n, struct pci_dev *pdev)
{
	int ret;

	n->dvsec = pci_find_dvsec_capability(pdev, CXL_VENDOR, DVSEC_DEVICE);
	if (!n->dvsec)
		return -ENODEV;
	ret = nested_locate(n, pdev);
	if (ret)
		return ret;
	ret = pci_enable_device_mem(pdev);
	if (ret)
		return ret;
	n->regs = ioremap(pci_resource_start(pdev, n->bar) + n->block +
			  CM_OFFSET, CM_SIZE);
	ret = n->regs ? nested_read_decoder(n) : -ENOMEM;
	pci_disable_device(pdev);
	if (ret)
		return ret;
	/* Also sets the range's cache mode to that expected by mappings */
	n->memory = memremap(n->hpa, n->size, MEMREMAP_WB);
	return n->memory ? 0 : -ENOMEM;
}

static void nested_unmap(struct nested *n)
{
	if (n->memory)
		memunmap(n->memory);
	if (n->regs)
		iounmap(n->regs);
}

static int nested_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct nested *n;
	int ret;

	n = vfio_alloc_device(nested, core.vdev, &pdev->dev, &nested_ops);
	if (IS_ERR(n))
		return PTR_ERR(n);
	dev_set_drvdata(&pdev->dev, &n->core);
	n->core.pci_ops = &nested_pci_ops;
	n->form = strcmp(form, "v4") ? FORM_V2 : FORM_V4;
	mutex_init(&n->lock);
	ret = nested_find(n, pdev);
	if (ret)
		dev_err(&pdev->dev, "no committed decoder: %d\n", ret);
	else
		ret = vfio_pci_core_register_device(&n->core);
	if (ret) {
		nested_unmap(n);
		vfio_put_device(&n->core.vdev);
	}
	return ret;
}

static void nested_remove(struct pci_dev *pdev)
{
	struct nested *n = to_nested(dev_get_drvdata(&pdev->dev));

	vfio_pci_core_unregister_device(&n->core);
	nested_unmap(n);
	vfio_put_device(&n->core.vdev);
}

static const struct pci_device_id nested_ids[] = {
	{ PCI_DRIVER_OVERRIDE_DEVICE_VFIO(PCI_ANY_ID, PCI_ANY_ID) },
	{ }
};
MODULE_DEVICE_TABLE(pci, nested_ids);

static struct pci_driver nested_driver = {
	.name = "vfio-cxl-nested",
	.id_table = nested_ids,
	.probe = nested_probe,
	.remove = nested_remove,
	.err_handler = &vfio_pci_core_err_handlers,
	.driver_managed_dma = true,
};

static int __init nested_init(void)
{
	if (strcmp(form, "v2") && strcmp(form, "v4"))
		return -EINVAL;
	return pci_register_driver(&nested_driver);
}
module_init(nested_init);

static void __exit nested_exit(void)
{
	pci_unregister_driver(&nested_driver);
}
module_exit(nested_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("CXL Type-2 devices for user space, as kernels in the making do it");
