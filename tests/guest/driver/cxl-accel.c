// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A driver for the accelerator of vfio-sim. It lends user space the device's
 * memory as ordinary cached memory and counts MSI-X interrupts. With cxl=1 it
 * hands the device to the kernel's CXL core first, which then knows the memory
 * as a region, as a product's driver would do it. With conditions=1 it only
 * tells which conditions of the kernel's own accelerator drivers are met, and
 * lets the device go.
 *
 * /dev/cxl-accel-ADDRESS: read() gives a u32 count for each vector; poll() says
 * that one has changed since the file's last read; mmap() at an address
 * inside the committed range maps device memory. ioctl() maps memory for DMA,
 * until it unmaps it or the file is closed.
 */
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/interrupt.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/poll.h>
#include <linux/range.h>
#include <linux/uaccess.h>
#ifdef HAVE_CXL_ACCEL
#include <cxl/cxl.h>
#include <cxl/pci.h>
#endif

#include "cxl-accel.h"
#include "vfio-sim-regs.h"

#define ACCEL_DVSEC_VENDOR	0x1e98
#define ACCEL_DVSEC_DEVICE	0
#define ACCEL_DVSEC_BASE_HI	0x20
#define ACCEL_DVSEC_BASE_LO	0x24

static int cxl;
module_param(cxl, int, 0444);
MODULE_PARM_DESC(cxl, "attach the memory with the kernel's CXL core");

static int conditions;
module_param(conditions, int, 0444);
MODULE_PARM_DESC(conditions, "tell what stock drivers would find");

struct accel_vector {
	struct accel *accel;
	atomic_t count;
};

struct accel {
#ifdef HAVE_CXL_ACCEL
	struct cxl_dev_state cxlds;	/* has to be first */
#endif
	struct pci_dev *pdev;
	void __iomem *regs;
	struct miscdevice misc;
	struct range range;
	char state[80];
	wait_queue_head_t wait;
	struct accel_vector vector[VFIO_SIM_MSIX_VECTORS];
};

struct accel_mapping {
	struct list_head list;
	struct accel_dma dma;
	bool ram;
};

struct accel_file {
	struct accel *accel;
	u32 seen[VFIO_SIM_MSIX_VECTORS];
	struct mutex lock;		/* of the list */
	struct list_head mappings;
};

static irqreturn_t accel_irq(int irq, void *data)
{
	struct accel_vector *vector = data;

	atomic_inc(&vector->count);
	wake_up_all(&vector->accel->wait);
	return IRQ_HANDLED;
}

static int accel_open(struct inode *inode, struct file *file)
{
	struct accel *accel = container_of(file->private_data, struct accel,
					   misc);
	struct accel_file *priv = kzalloc(sizeof(*priv), GFP_KERNEL);
	int i;

	if (!priv)
		return -ENOMEM;
	priv->accel = accel;
	mutex_init(&priv->lock);
	INIT_LIST_HEAD(&priv->mappings);
	for (i = 0; i < VFIO_SIM_MSIX_VECTORS; i++)
		priv->seen[i] = atomic_read(&accel->vector[i].count);
	file->private_data = priv;
	return 0;
}

static void accel_dma_unmap(struct accel_file *priv, struct accel_mapping *m)
{
	struct device *dev = &priv->accel->pdev->dev;

	if (m->ram)
		dma_unmap_page(dev, m->dma.iova, m->dma.size,
			       DMA_BIDIRECTIONAL);
	else
		dma_unmap_resource(dev, m->dma.iova, m->dma.size,
				   DMA_BIDIRECTIONAL, 0);
	list_del(&m->list);
	kfree(m);
}

static int accel_dma_map(struct accel_file *priv, struct accel_dma *dma)
{
	struct device *dev = &priv->accel->pdev->dev;
	struct accel_mapping *m;

	m = kzalloc(sizeof(*m), GFP_KERNEL);
	if (!m)
		return -ENOMEM;
	m->ram = pfn_valid(PHYS_PFN(dma->phys));
	if (m->ram)
		dma->iova = dma_map_page(dev, pfn_to_page(PHYS_PFN(dma->phys)),
					 offset_in_page(dma->phys), dma->size,
					 DMA_BIDIRECTIONAL);
	else
		dma->iova = dma_map_resource(dev, dma->phys, dma->size,
					     DMA_BIDIRECTIONAL, 0);
	if (dma_mapping_error(dev, dma->iova)) {
		kfree(m);
		return -EIO;
	}
	m->dma = *dma;
	list_add(&m->list, &priv->mappings);
	return 0;
}

static int accel_dma_find(struct accel_file *priv, struct accel_dma *dma)
{
	struct accel_mapping *m;

	list_for_each_entry(m, &priv->mappings, list) {
		if (m->dma.iova == dma->iova && m->dma.size == dma->size) {
			accel_dma_unmap(priv, m);
			return 0;
		}
	}
	return -ENOENT;
}

static long accel_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct accel_file *priv = file->private_data;
	struct accel_dma dma;
	int rc;

	if (cmd != ACCEL_DMA_MAP && cmd != ACCEL_DMA_UNMAP)
		return -ENOTTY;
	if (copy_from_user(&dma, (void __user *)arg, sizeof(dma)))
		return -EFAULT;
	mutex_lock(&priv->lock);
	rc = cmd == ACCEL_DMA_MAP ? accel_dma_map(priv, &dma)
				  : accel_dma_find(priv, &dma);
	mutex_unlock(&priv->lock);
	if (!rc && copy_to_user((void __user *)arg, &dma, sizeof(dma)))
		return -EFAULT;
	return rc;
}

static int accel_release(struct inode *inode, struct file *file)
{
	struct accel_file *priv = file->private_data;
	struct accel_mapping *m, *next;

	list_for_each_entry_safe(m, next, &priv->mappings, list)
		accel_dma_unmap(priv, m);
	kfree(priv);
	return 0;
}

static ssize_t accel_read(struct file *file, char __user *buf, size_t len,
			  loff_t *pos)
{
	struct accel_file *priv = file->private_data;
	int i;

	if (len < sizeof(priv->seen))
		return -EINVAL;
	for (i = 0; i < VFIO_SIM_MSIX_VECTORS; i++)
		priv->seen[i] = atomic_read(&priv->accel->vector[i].count);
	if (copy_to_user(buf, priv->seen, sizeof(priv->seen)))
		return -EFAULT;
	return sizeof(priv->seen);
}

static __poll_t accel_poll(struct file *file, poll_table *table)
{
	struct accel_file *priv = file->private_data;
	int i;

	poll_wait(file, &priv->accel->wait, table);
	for (i = 0; i < VFIO_SIM_MSIX_VECTORS; i++) {
		if (priv->seen[i] != atomic_read(&priv->accel->vector[i].count))
			return EPOLLIN | EPOLLRDNORM;
	}
	return 0;
}

static int accel_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct accel_file *priv = file->private_data;
	struct range *range = &priv->accel->range;
	u64 start = (u64)vma->vm_pgoff << PAGE_SHIFT;
	u64 size = vma->vm_end - vma->vm_start;

	if (start < range->start || start > range->end ||
	    size - 1 > range->end - start)
		return -ENXIO;
	return remap_pfn_range(vma, vma->vm_start, vma->vm_pgoff, size,
			       vma->vm_page_prot);
}

static const struct file_operations accel_fops = {
	.owner = THIS_MODULE,
	.open = accel_open,
	.release = accel_release,
	.read = accel_read,
	.poll = accel_poll,
	.mmap = accel_mmap,
	.unlocked_ioctl = accel_ioctl,
};

static ssize_t cxl_state_show(struct device *dev,
			      struct device_attribute *attr, char *buf)
{
	struct accel *accel = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%s\n", accel->state);
}
static DEVICE_ATTR_RO(cxl_state);

static ssize_t cxl_range_show(struct device *dev,
			      struct device_attribute *attr, char *buf)
{
	struct accel *accel = dev_get_drvdata(dev);

	return sysfs_emit(buf, "0x%llx-0x%llx\n", accel->range.start,
			  accel->range.end);
}
static DEVICE_ATTR_RO(cxl_range);

static struct attribute *accel_attrs[] = {
	&dev_attr_cxl_state.attr,
	&dev_attr_cxl_range.attr,
	NULL
};
ATTRIBUTE_GROUPS(accel);

static u64 accel_memory_size(struct accel *accel)
{
	return readl(accel->regs + VFIO_SIM_REG_MEM_SIZE) |
	       (u64)readl(accel->regs + VFIO_SIM_REG_MEM_SIZE + 4) << 32;
}

/* Without the CXL core: the memory's address according to the DVSEC */
static int accel_find_range(struct accel *accel, int dvsec)
{
	u32 hi, lo;

	pci_read_config_dword(accel->pdev, dvsec + ACCEL_DVSEC_BASE_HI, &hi);
	pci_read_config_dword(accel->pdev, dvsec + ACCEL_DVSEC_BASE_LO, &lo);
	accel->range.start = (u64)hi << 32 | (lo & 0xf0000000);
	accel->range.end = accel->range.start + accel_memory_size(accel) - 1;
	return accel->range.start ? 0 : -ENODEV;
}

#ifdef HAVE_CXL_ACCEL
static struct accel *accel_alloc(struct pci_dev *pdev, int dvsec)
{
	return devm_cxl_dev_state_create(&pdev->dev, CXL_DEVTYPE_DEVMEM,
					 pci_get_dsn(pdev), dvsec,
					 struct accel, cxlds, false);
}

static int accel_attach(struct accel *accel)
{
	struct cxl_dev_state *cxlds = &accel->cxlds;
	struct range range = { };
	struct cxl_memdev *cxlmd;
	int rc;

	rc = cxl_pci_setup_regs(accel->pdev, CXL_REGLOC_RBI_COMPONENT,
				&cxlds->reg_map);
	if (rc) {
		snprintf(accel->state, sizeof(accel->state),
			 "component registers: error %d", rc);
		return rc;
	}
	if (!cxlds->reg_map.component_map.hdm_decoder.valid) {
		strscpy(accel->state, "no HDM decoder found");
		return -ENODEV;
	}
	/* The DVSEC's Memory_Active has been seen by the guest program */
	cxlds->media_ready = true;
	rc = cxl_set_capacity(cxlds, accel_memory_size(accel));
	if (rc) {
		snprintf(accel->state, sizeof(accel->state),
			 "capacity: error %d", rc);
		return rc;
	}
	cxlmd = devm_cxl_probe_mem(cxlds, &range);
	if (IS_ERR(cxlmd)) {
		snprintf(accel->state, sizeof(accel->state),
			 "devm_cxl_probe_mem: error %ld", PTR_ERR(cxlmd));
		return PTR_ERR(cxlmd);
	}
	accel->range = range;
	strscpy(accel->state, "attached");
	return 0;
}

MODULE_IMPORT_NS("CXL");
#else
static struct accel *accel_alloc(struct pci_dev *pdev, int dvsec)
{
	return devm_kzalloc(&pdev->dev, sizeof(struct accel), GFP_KERNEL);
}

static int accel_attach(struct accel *accel)
{
	strscpy(accel->state, "unsupported", sizeof(accel->state));
	return -EOPNOTSUPP;
}
#endif

/* In the order in which a stock driver would look at them */
static int accel_tell_conditions(struct accel *accel, int dvsec)
{
	struct pci_dev *pdev = accel->pdev;
#ifdef HAVE_CXL_ACCEL
	struct cxl_dev_state *cxlds = &accel->cxlds;
	struct cxl_component_reg_map *map = &cxlds->reg_map.component_map;
	int rc = accel_attach(accel);
	bool regs = cxlds->reg_map.reg_type == CXL_REGLOC_RBI_COMPONENT;

	dev_info(&pdev->dev,
		 "conditions: pcie-is-cxl=%d dvsec=%d registers=%d hdm=%d ras=%d region=%d (%s)\n",
		 pcie_is_cxl(pdev), !!dvsec, regs, regs && map->hdm_decoder.valid,
		 regs && map->ras.valid, !rc, accel->state);
#else
	dev_info(&pdev->dev, "conditions: unsupported\n");
#endif
	return -ENODEV;
}

static void accel_free_vectors(void *data)
{
	pci_free_irq_vectors(data);
}

static int accel_setup_irqs(struct accel *accel)
{
	struct pci_dev *pdev = accel->pdev;
	int i, rc;

	rc = pci_alloc_irq_vectors(pdev, VFIO_SIM_MSIX_VECTORS,
				   VFIO_SIM_MSIX_VECTORS, PCI_IRQ_MSIX);
	if (rc < 0)
		return dev_err_probe(&pdev->dev, rc, "no MSI-X vectors\n");
	rc = devm_add_action_or_reset(&pdev->dev, accel_free_vectors, pdev);
	if (rc)
		return rc;
	for (i = 0; i < VFIO_SIM_MSIX_VECTORS; i++) {
		accel->vector[i].accel = accel;
		rc = devm_request_irq(&pdev->dev, pci_irq_vector(pdev, i),
				      accel_irq, 0, "cxl-accel",
				      &accel->vector[i]);
		if (rc)
			return dev_err_probe(&pdev->dev, rc, "vector %d\n", i);
	}
	return 0;
}

static int accel_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct accel *accel;
	int dvsec, rc;

	dvsec = pci_find_dvsec_capability(pdev, ACCEL_DVSEC_VENDOR,
					  ACCEL_DVSEC_DEVICE);
	if (!dvsec)
		return dev_err_probe(&pdev->dev, -ENODEV, "no CXL DVSEC\n");
	accel = accel_alloc(pdev, dvsec);
	if (IS_ERR_OR_NULL(accel))
		return accel ? PTR_ERR(accel) : -ENOMEM;
	accel->pdev = pdev;
	init_waitqueue_head(&accel->wait);
	strscpy(accel->state, "not attached", sizeof(accel->state));
	pci_set_drvdata(pdev, accel);

	rc = pcim_enable_device(pdev);
	if (rc)
		return rc;
	pci_set_master(pdev);
	rc = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (rc)
		return rc;
	accel->regs = pcim_iomap(pdev, VFIO_SIM_REG_BAR, 0);
	if (!accel->regs)
		return -ENOMEM;
	if (readl(accel->regs + VFIO_SIM_REG_ID) != VFIO_SIM_ID)
		return dev_err_probe(&pdev->dev, -ENODEV, "wrong identity\n");
	if (conditions)
		return accel_tell_conditions(accel, dvsec);
	rc = accel_setup_irqs(accel);
	if (rc)
		return rc;

	rc = accel_find_range(accel, dvsec);
	if (cxl) {
		/* A failure is reported in cxl_state; the rest still works */
		int err = accel_attach(accel);

		if (err == -EPROBE_DEFER)
			return err;
		if (!err)
			rc = 0;
	}
	if (rc)
		return dev_err_probe(&pdev->dev, rc, "no memory committed\n");

	accel->misc.minor = MISC_DYNAMIC_MINOR;
	accel->misc.name = devm_kasprintf(&pdev->dev, GFP_KERNEL,
					  "cxl-accel-%s", pci_name(pdev));
	if (!accel->misc.name)
		return -ENOMEM;
	accel->misc.fops = &accel_fops;
	accel->misc.parent = &pdev->dev;
	return misc_register(&accel->misc);
}

static void accel_remove(struct pci_dev *pdev)
{
	struct accel *accel = pci_get_drvdata(pdev);

	misc_deregister(&accel->misc);
}

static const struct pci_device_id accel_ids[] = {
	{ PCI_DEVICE(VFIO_SIM_VENDOR_ID, VFIO_SIM_DEVICE_ID) },
	{ }
};
MODULE_DEVICE_TABLE(pci, accel_ids);

static struct pci_driver accel_driver = {
	.name = "cxl-accel",
	.id_table = accel_ids,
	.probe = accel_probe,
	.remove = accel_remove,
	.dev_groups = accel_groups,
};
module_pci_driver(accel_driver);

MODULE_DESCRIPTION("Test driver for the accelerator of vfio-sim");
MODULE_LICENSE("GPL");
