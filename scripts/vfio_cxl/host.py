# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of a host and its devices, by sysfs and ioctls."""

import fcntl
import os
import re
import resource
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import List, Optional

from . import vfio

DEVICES = Path('/sys/bus/pci/devices')
GIB = 1 << 30
# Distributions' UEFI firmware for virt; QEMU's own is installed with it
FIRMWARE = ('/usr/share/AAVMF/AAVMF_CODE.fd',
            '/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw',
            'edk2-aarch64-code.fd')

KVM_GET_API_VERSION = 0xae00
KVM_CREATE_VM = 0xae01
KVM_CHECK_EXTENSION = 0xae03
KVM_CAP_ARM_VM_IPA_SIZE = 165
KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED = 243

EXT_CAP_DVSEC = 0x23
CXL_VENDOR = 0x1e98
DVSEC_CXL_DEVICE = 0

VERDICTS = ('ok', 'note', 'warn', 'FAIL')


@dataclass
class Finding:
    """One line of the report."""
    subject: str
    check: str
    verdict: str
    text: str


@dataclass
class Device:
    """A PCI device of the host."""
    address: str
    ident: str = ''
    driver: str = ''
    group: str = ''
    iommu: str = ''
    numa_node: int = -1
    offer: vfio.Offer = field(default_factory=vfio.Offer)
    smmu: Optional[vfio.Smmu] = None

    @property
    def sysfs(self) -> Path:
        """Its directory in sysfs."""
        return DEVICES / self.address


@dataclass
class Report:
    """All findings."""
    findings: List[Finding] = field(default_factory=list)

    def add(self, subject: str, check: str, verdict: str, text: str) -> None:
        """Record what a check found."""
        assert verdict in VERDICTS
        self.findings.append(Finding(subject, check, verdict, text))

    @property
    def failed(self) -> bool:
        """Whether anything will not work."""
        return any(f.verdict == 'FAIL' for f in self.findings)


def read(path: Path) -> str:
    """A small file of sysfs, '' if it cannot be read."""
    try:
        return path.read_text(encoding='utf-8').strip()
    except OSError:
        return ''


def full_address(text: str) -> Optional[str]:
    """DOMAIN:BUS:SLOT.FUNCTION as sysfs writes it; None if it is not an
    address."""
    match = re.fullmatch(r'(?:([0-9a-fA-F]{4}):)?([0-9a-fA-F]{2}):'
                         r'([0-9a-fA-F]{2})\.([0-7])', text)
    if not match or int(match.group(3), 16) > 31:
        return None
    return f'{match.group(1) or "0000"}:{match.group(2)}:{match.group(3)}' \
           f'.{match.group(4)}'.lower()


def cxl_dvsec(config: bytes) -> Optional[int]:
    """Capability register of the CXL Device DVSEC (CXL r3.1, 8.1.3)."""
    offset = 0x100
    for _ in range(480):
        if not 0x100 <= offset <= len(config) - 12:
            return None
        header, first, second = struct.unpack_from('<III', config, offset)
        if header & 0xffff == EXT_CAP_DVSEC and \
                first & 0xffff == CXL_VENDOR and \
                second & 0xffff == DVSEC_CXL_DEVICE:
            return second >> 16
        offset = header >> 20
    return None


def check_identity(device: Device, report: Report) -> bool:
    """Check that it exists and is a CXL device."""
    if not device.sysfs.exists():
        report.add(device.address, 'device', 'FAIL', 'no such device')
        return False
    device.ident = f'{read(device.sysfs / "vendor")[2:]}:' \
                   f'{read(device.sysfs / "device")[2:]}'
    text = f'{device.ident}, class {read(device.sysfs / "class")}'
    try:
        config = (device.sysfs / 'config').read_bytes()
    except OSError:
        config = b''
    node = read(device.sysfs / 'numa_node')
    device.numa_node = int(node) if re.fullmatch(r'-?\d+', node) else -1
    if len(config) <= 0x100:
        report.add(device.address, 'device', 'note', text + '; only root can '
                   'check whether it is a CXL device')
        return True
    dvsec = cxl_dvsec(config)
    if dvsec is None or not dvsec & 4:
        report.add(device.address, 'device', 'FAIL', text + ', is not a CXL '
                   'device with memory (according to its DVSECs)')
        return False
    kind = 'Type 2 (cache and memory)' if dvsec & 1 else 'memory, no cache'
    report.add(device.address, 'device', 'ok', f'{text}, CXL: {kind}')
    return True


def check_driver(device: Device, report: Report) -> bool:
    """Check that vfio-pci, or a driver built on it, is bound."""
    link = device.sysfs / 'driver'
    device.driver = link.resolve().name if link.exists() else ''
    if 'vfio' in device.driver:
        report.add(device.address, 'driver', 'ok', device.driver)
        return True
    bind = f'driverctl set-override {device.address} vfio-pci'
    report.add(device.address, 'driver', 'FAIL',
               (f'bound to {device.driver}' if device.driver
                else 'not bound to a driver') + f'; to bind it: {bind}')
    return False


def check_group(device: Device, report: Report) -> None:
    """Check the IOMMU, and the other devices of the group."""
    link = device.sysfs / 'iommu_group'
    if not link.exists():
        report.add(device.address, 'iommu', 'FAIL', 'in no IOMMU group: '
                   "enable the IOMMU in the host's firmware and kernel")
        return
    group = link.resolve()
    device.group = group.name
    iommu = device.sysfs / 'iommu'
    device.iommu = iommu.resolve().name if iommu.exists() else ''
    foreign = []
    members = Path('/sys/kernel/iommu_groups') / group.name / 'devices'
    try:
        others = sorted(os.listdir(members))
    except OSError:
        others = []
    for other in others:
        driver = DEVICES / other / 'driver'
        name = driver.resolve().name if driver.exists() else ''
        # The kernel tolerates ports, which do no DMA of their own
        if other != device.address and name and 'vfio' not in name and \
                name not in ('pcieport', 'pci-stub'):
            foreign.append(f'{other} ({name})')
    if foreign:
        report.add(device.address, 'iommu', 'FAIL', f'group {device.group} '
                   f'has {", ".join(foreign)}: bind these to vfio-pci, too')
    else:
        report.add(device.address, 'iommu', 'ok', f'group {device.group}'
                   + (f', behind {device.iommu}' if device.iommu else ''))


def behind_smmu(device: Device) -> bool:
    """Whether its IOMMU is an SMMUv3, as sysfs calls it."""
    return device.iommu.startswith('smmu3.')


def check_smmu(device: Device, verdict: str, report: Report) -> None:
    """
    Check that the guest's SMMU can be an accelerated one.

    @verdict: what it is if that cannot be
    """
    if not behind_smmu(device):
        report.add(device.address, 'smmu', verdict, 'the device is not behind '
                   "an SMMUv3, so the guest's cannot be accelerated")
        return
    try:
        smmu = vfio.ask_smmu(device.sysfs)
    except vfio.VFIOError as err:
        report.add(device.address, 'smmu', verdict, "the guest's SMMUv3 "
                   f'cannot be accelerated: {err}')
        return
    if smmu.trouble:
        report.add(device.address, 'smmu', verdict, "the guest's SMMUv3 "
                   f"cannot be accelerated by the host's: {smmu.trouble}")
        return
    device.smmu = smmu
    report.add(device.address, 'smmu', 'ok', f'{smmu.oas} bits of address; '
               f'ATS: {"yes" if smmu.ats else "no"}; PASIDs: '
               + (f'{min(smmu.ssidsize, smmu.pasid_bits)} bits'
                  if smmu.ssidsize and smmu.pasid_bits else 'no'))


def size_text(size: int) -> str:
    """A size for people."""
    for unit, shift in (('TiB', 40), ('GiB', 30)):
        if size >> shift and not size & ((1 << shift) - 1):
            return f'{size >> shift} {unit}'
    return f'{size >> 20} MiB'


def check_offer(device: Device, report: Report) -> None:
    """Check how the kernel offers it."""
    try:
        offer = device.offer = vfio.ask(device.sysfs, device.address)
    except vfio.VFIOError as err:
        report.add(device.address, 'kernel', 'FAIL', str(err))
        return
    if not offer.cxl:
        report.add(device.address, 'kernel', 'FAIL', 'this kernel offers it '
                   'as an ordinary PCI device (no VFIO_DEVICE_FLAGS_CXL); it '
                   'needs vfio-pci with CXL Type-2 support, and firmware that '
                   "has committed the device's decoder")
    elif offer.trouble:
        report.add(device.address, 'kernel', 'FAIL', offer.trouble)
    elif not offer.resettable:
        report.add(device.address, 'kernel', 'FAIL', 'the kernel cannot reset '
                   'it, and memory must not pass from one guest to another')
    else:
        report.add(device.address, 'kernel', 'ok', 'offers CXL, generation '
                   f'{offer.generation}, through the {offer.interface}')
        _check_memory(device, report)


def _check_memory(device: Device, report: Report) -> None:
    offer = device.offer
    text = size_text(offer.memory)
    if not offer.memory or offer.memory % (256 << 20):
        report.add(device.address, 'memory', 'FAIL', f'{offer.memory} bytes '
                   'are not a multiple of 256 MiB')
    elif not offer.mappable:
        report.add(device.address, 'memory', 'FAIL', f'{text}, but the kernel '
                   'does not allow it to be mapped; use another kernel')
    elif not offer.committed:
        report.add(device.address, 'memory', 'FAIL', f'{text}, but its HDM '
                   "decoder is not committed, which the host's "
                   'firmware has to do')
    elif offer.interleaved:
        report.add(device.address, 'memory', 'FAIL', f'{text}, interleaved '
                   "with other devices; turn that off in the host's firmware")
    elif not 0 < offer.decoders <= offer.max_decoders:
        report.add(device.address, 'memory', 'FAIL', f'{text}, but '
                   f'{offer.decoders or "a reserved number of"} decoders; with '
                   f'{offer.generation}, QEMU supports {offer.max_decoders}')
    else:
        report.add(device.address, 'memory', 'ok', f'{text}, decoder '
                   'committed')


def check_kernel(report: Report) -> None:
    """Report the kernel, and check for VFIO."""
    system = os.uname()
    text = f'Linux {system.release} on {system.machine}'
    found = [name for name, path in (('container', '/dev/vfio/vfio'),
                                     ('iommufd', '/dev/iommu'))
             if os.path.exists(path)]
    if found:
        report.add('host', 'vfio', 'ok', f'{text}; VFIO with '
                   + ' and '.join(found))
    else:
        report.add('host', 'vfio', 'FAIL', f'{text}; no /dev/vfio/vfio and no '
                   '/dev/iommu: load the module vfio-pci')


def _extension(fd: int, number: int) -> int:
    try:
        return fcntl.ioctl(fd, KVM_CHECK_EXTENSION, number)
    except OSError:
        return 0


def check_kvm(machine: str, report: Report) -> bool:
    """Check that KVM can run the guest, and on arm map cacheable device
    memory."""
    native = {'q35': 'x86_64', 'virt': 'aarch64'}[machine]
    if os.uname().machine != native:
        report.add('host', 'kvm', 'warn', f'{machine} guests run on this host '
                   'slowly, without KVM')
        return False
    try:
        kvm = os.open('/dev/kvm', os.O_RDWR | os.O_CLOEXEC)
    except OSError as err:
        report.add('host', 'kvm', 'warn', f'/dev/kvm: {err.strerror}; guests '
                   'run slowly, without KVM')
        return False
    try:
        if fcntl.ioctl(kvm, KVM_GET_API_VERSION) != 12:
            report.add('host', 'kvm', 'warn', 'an unknown version of KVM')
            return False
        if machine == 'q35':
            report.add('host', 'kvm', 'ok', 'available')
            return True
        if _extension(kvm, KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED):
            report.add('host', 'kvm', 'ok', 'available, maps device memory '
                       'cacheable')
        else:
            report.add('host', 'kvm', 'FAIL', 'this kernel cannot map device '
                       'memory cacheable into a guest '
                       '(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED): it must be '
                       '6.17 or newer, and the CPU must have FWB and CTR_EL0.'
                       'DIC')
        return True
    finally:
        os.close(kvm)


def address_bits(machine: str, kvm: bool) -> int:
    """Bits of a guest's physical address that the CPU model has."""
    if not kvm:
        # -cpu max under TCG
        return 40 if machine == 'q35' else 48
    if machine == 'q35':
        match = re.search(r'^address sizes\s*: (\d+) bits physical',
                          read(Path('/proc/cpuinfo')), re.MULTILINE)
        return int(match.group(1)) if match else 40
    try:
        fd = os.open('/dev/kvm', os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return 40
    bits = _extension(fd, KVM_CAP_ARM_VM_IPA_SIZE)
    os.close(fd)
    return bits or 40


def firmware() -> str:
    """UEFI firmware for virt."""
    return next((path for path in FIRMWARE if os.path.exists(path)),
                FIRMWARE[-1])


def check_memlock(guest: int, report: Report) -> None:
    """Check that QEMU may lock the guest's memory."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY or soft >= guest + GIB:
        report.add('host', 'memlock', 'ok',
                   'no limit' if soft == resource.RLIM_INFINITY
                   else size_text(soft))
        return
    report.add('host', 'memlock', 'warn', f'programs may lock only '
               f'{soft >> 10} KiB here; VFIO locks all of the guest\'s memory, '
               f'so start QEMU with a limit of {size_text(guest + GIB)} or '
               'more (ulimit -l; libvirt sets it by itself)')
