# SPDX-License-Identifier: GPL-2.0-or-later
"""Ask the kernel's VFIO interface about a device, as QEMU does."""

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, Optional, Tuple

MIB = 1 << 20


def _io(number: int) -> int:
    """An ioctl of VFIO (linux/vfio.h)."""
    return (ord(';') << 8) | (100 + number)


GET_API_VERSION = _io(0)
CHECK_EXTENSION = _io(1)
SET_IOMMU = _io(2)
GROUP_GET_STATUS = _io(3)
GROUP_SET_CONTAINER = _io(4)
GROUP_GET_DEVICE_FD = _io(6)
DEVICE_GET_INFO = _io(7)
DEVICE_GET_REGION_INFO = _io(8)
DEVICE_BIND_IOMMUFD = _io(18)
IOMMU_GET_HW_INFO = ord(';') << 8 | 0x8a

TYPE1V2_IOMMU = 3
GROUP_FLAGS_VIABLE = 1 << 0
DEVICE_FLAGS_RESET = 1 << 0
DEVICE_FLAGS_CAPS = 1 << 7
DEVICE_FLAGS_CXL = 1 << 9
DEVICE_INFO_CAP_CXL = 6
REGION_FLAG_MMAP = 1 << 2
REGION_FLAG_CAPS = 1 << 3
REGION_INFO_CAP_TYPE = 2
REGION_TYPE_CXL = 4
REGION_TYPE_VENDOR_CXL = 1 << 31 | 0x1e98
REGION_SUBTYPE_MEM = 1
REGION_SUBTYPE_REGISTERS = 2
PCI_NUM_REGIONS = 9
PCI_NUM_BARS = 6
PCI_CONFIG_REGION = 7
PCI_COMMAND = 4
PCI_COMMAND_MEMORY = 2

# CXL r3.1, 8.2.4: the CXL.cache/mem registers begin here in the component
# register block, with the capability array
CM_OFFSET = 0x1000
HDM_CAPABILITY_ID = 5
HDM_CTRL = 0x20
HDM_INTERLEAVE_WAYS = 0xf << 4
HDM_COMMITTED = 1 << 10
# Decoder Count of the HDM Decoder Capability Register
HDM_COUNTS = (1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 0, 0, 0)

# The ID registers of an SMMUv3 (Arm IHI 0070, 6.3)
HW_INFO_ARM_SMMUV3 = 2
SMMU_OAS = (32, 36, 40, 42, 44, 48, 52, 56)
# Widths that QEMU offers to a guest
GUEST_OAS = (44, 48)
MAX_SSIDSIZE = 20


class VFIOError(Exception):
    """Why a device cannot be queried; the text is for the user."""


@dataclass
class Offer:
    """How the kernel offers a device's CXL half."""
    cxl: bool = False
    generation: str = ''
    memory: int = 0
    bars: int = 0
    mappable: bool = False
    committed: Optional[bool] = None
    interleaved: bool = False
    decoders: int = 0
    resettable: bool = False
    interface: str = ''
    trouble: str = ''

    @property
    def max_decoders(self) -> int:
        """How many decoders QEMU accepts."""
        return 10 if self.generation == 'v2' else 1

    @property
    def exported(self) -> bool:
        """Whether the memory can be mapped into an iommufd."""
        return self.generation not in ('v2', 'v3', 'v4')


@dataclass
class Smmu:
    """What a guest's SMMUv3 can have of the host's."""
    ats: bool
    oas: int
    ssidsize: int
    pasid_bits: int
    trouble: str = ''


def _call(fd: int, request: int, head: bytes) -> bytearray:
    """An ioctl whose struct begins with argsz, which may have to grow."""
    size = len(head)
    for _ in range(4):
        data = bytearray(head.ljust(size, b'\0'))
        struct.pack_into('=I', data, 0, size)
        fcntl.ioctl(fd, request, data, True)
        wanted = struct.unpack_from('=I', data)[0]
        if wanted <= size:
            return data
        size = min(wanted, MIB)
    raise VFIOError('the kernel requests more and more space')


def _capabilities(data: bytes, offset: int) -> Iterator[Tuple[int, bytes]]:
    """Ids and contents of a chain of capabilities, without following loops."""
    seen = set()
    while offset and offset + 8 <= len(data) and offset not in seen:
        seen.add(offset)
        ident, _, following = struct.unpack_from('=HHI', data, offset)
        end = following if following > offset else len(data)
        yield ident, bytes(data[offset:end])
        offset = following


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as err:
        if err.errno == errno.EBUSY:
            raise VFIOError(f'{path} is in use, perhaps by a running VM') \
                from err
        raise VFIOError(f'{path}: {err.strerror}') from err
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _through_group(group: int, address: str) -> Iterator[int]:
    """The device, through its group and a container."""
    with _opened('/dev/vfio/vfio') as container, \
            _opened(f'/dev/vfio/{group}') as handle:
        if fcntl.ioctl(container, GET_API_VERSION) != 0 or \
                fcntl.ioctl(container, CHECK_EXTENSION, TYPE1V2_IOMMU) != 1:
            raise VFIOError('/dev/vfio/vfio has no type 1 v2 IOMMU')
        status = _call(handle, GROUP_GET_STATUS, bytes(8))
        if not struct.unpack_from('=I', status, 4)[0] & GROUP_FLAGS_VIABLE:
            raise VFIOError(f'IOMMU group {group} is not viable: bind all of '
                            'its devices to vfio-pci')
        try:
            fcntl.ioctl(handle, GROUP_SET_CONTAINER,
                        struct.pack('=i', container))
            fcntl.ioctl(container, SET_IOMMU, TYPE1V2_IOMMU)
            fd = fcntl.ioctl(handle, GROUP_GET_DEVICE_FD,
                             bytearray(address.encode() + b'\0'), True)
        except OSError as err:
            raise VFIOError(f'cannot open the device in IOMMU group {group}: '
                            f'{err.strerror}') from err
        try:
            yield fd
        finally:
            os.close(fd)


@contextlib.contextmanager
def _bound(node: str) -> Iterator[Tuple[int, int, int]]:
    """/dev/iommu, a device's character device, its number at the former."""
    with _opened('/dev/iommu') as iommufd, _opened(node) as fd:
        data = bytearray(struct.pack('=IIiI', 16, 0, iommufd, 0))
        try:
            fcntl.ioctl(fd, DEVICE_BIND_IOMMUFD, data, True)
        except OSError as err:
            raise VFIOError(f'cannot bind {node} to iommufd: '
                            f'{err.strerror}') from err
        yield iommufd, fd, struct.unpack('=IIiI', data)[3]


@contextlib.contextmanager
def _through_iommufd(node: str) -> Iterator[int]:
    """The device, through its character device and /dev/iommu."""
    with _bound(node) as (_, fd, _):
        yield fd


def nodes(sysfs: Path) -> Dict[str, str]:
    """The device nodes that exist: 'legacy', 'iommufd' or both."""
    found = {}
    try:
        group = (sysfs / 'iommu_group').resolve().name
        if (sysfs / 'iommu_group').exists() and \
                os.path.exists(f'/dev/vfio/{group}') and \
                os.path.exists('/dev/vfio/vfio'):
            found['legacy'] = f'/dev/vfio/{group}'
        for entry in os.listdir(sysfs / 'vfio-dev'):
            node = f'/dev/vfio/devices/{entry}'
            if os.path.exists(node) and os.path.exists('/dev/iommu'):
                found['iommufd'] = node
    except OSError:
        pass
    return found


class _Device:
    """An open device to be queried."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def info(self) -> Tuple[int, int, Optional[bytes]]:
        """Flags, number of regions, the CXL capability."""
        data = _call(self.fd, DEVICE_GET_INFO, bytes(24))
        _, flags, regions, _, offset = struct.unpack_from('=IIIII', data)
        found = None
        if flags & DEVICE_FLAGS_CAPS:
            for ident, cap in _capabilities(data, offset):
                if ident == DEVICE_INFO_CAP_CXL:
                    found = cap
        return flags, regions, found

    def region(self, index: int) -> Tuple[int, int, int, Dict[int, bytes]]:
        """Flags, size, offset and capabilities of a region."""
        data = _call(self.fd, DEVICE_GET_REGION_INFO,
                     struct.pack('=IIIIQQ', 0, 0, index, 0, 0, 0))
        _, flags, _, caps, size, offset = struct.unpack_from('=IIIIQQ', data)
        chain = dict(_capabilities(data, caps)) \
            if flags & REGION_FLAG_CAPS else {}
        return flags, size, offset, chain

    def read32(self, offset: int) -> int:
        """Four bytes at an offset of the device's file."""
        data = os.pread(self.fd, 4, offset)
        if len(data) != 4:
            raise VFIOError('short read from the device')
        return struct.unpack('<I', data)[0]

    def find_hdm(self, base: int, block: int) -> int:
        """File offset of the HDM decoders, through the capability array."""
        array = base + CM_OFFSET - block
        for number in range(1, (self.read32(array) >> 24) + 1):
            entry = self.read32(array + 4 * number)
            if entry & 0xffff == HDM_CAPABILITY_ID:
                return array + (entry >> 20)
        raise VFIOError('the component registers have no HDM decoders')

    def typed_regions(self, count: int) -> Tuple[str, Dict[int, int]]:
        """The generation of regions that say what they are, by subtype."""
        generation = ''
        found: Dict[int, int] = {}
        for index in range(PCI_NUM_REGIONS, min(count, 64)):
            cap = self.region(index)[3].get(REGION_INFO_CAP_TYPE)
            if not cap or len(cap) < 16:
                continue
            kind, subtype = struct.unpack_from('=II', cap, 8)
            if kind in (REGION_TYPE_CXL, REGION_TYPE_VENDOR_CXL):
                generation = 'v4' if kind == REGION_TYPE_CXL else 'v5'
                found[subtype] = index
        return generation, found

    @contextlib.contextmanager
    def memory_space(self, enabled: bool) -> Iterator[None]:
        """Set Memory Space Enable, and restore it at the end."""
        command = self.region(PCI_CONFIG_REGION)[2] + PCI_COMMAND
        before = self.read32(command) & 0xffff
        value = before & ~PCI_COMMAND_MEMORY
        if enabled:
            value |= PCI_COMMAND_MEMORY
        os.pwrite(self.fd, struct.pack('<H', value), command)
        try:
            yield
        finally:
            os.pwrite(self.fd, struct.pack('<H', before), command)

    def decoders(self, index: int, generation: str) -> Tuple[int, int]:
        """
        How many there are (0: a reserved value), and the control register of
        the first, as the kernel shows it.
        """
        base = self.region(index)[2]
        # Newer kernels read the hardware, which only responds then
        with self.memory_space(True):
            if generation in ('v2', 'v3'):
                # v2's region begins with the capability array
                base = self.find_hdm(base, CM_OFFSET if generation == 'v2'
                                     else 0)
            return (HDM_COUNTS[self.read32(base) & 0xf],
                    self.read32(base + HDM_CTRL))

    def keeps_memory(self, index: int) -> bool:
        """Ask the kernel whether memory is readable without Memory Space."""
        with self.memory_space(False):
            try:
                return len(os.pread(self.fd, 4, self.region(index)[2])) > 0
            except OSError:
                return False


def _describe(device: _Device, offer: Offer) -> None:
    flags, regions, cap = device.info()
    offer.cxl = bool(flags & DEVICE_FLAGS_CXL)
    offer.resettable = bool(flags & DEVICE_FLAGS_RESET)
    if not offer.cxl:
        return
    if cap is not None:
        offer.generation = {32: 'v2', 48: 'v3'}.get(len(cap), '')
        memory, registers = struct.unpack_from(
            '=II', cap, 24 if offer.generation == 'v2' else 12)
    else:
        offer.generation, found = device.typed_regions(regions)
        memory = found.get(REGION_SUBTYPE_MEM, 0)
        registers = found.get(REGION_SUBTYPE_REGISTERS, 0)
    if not offer.generation or memory < PCI_NUM_REGIONS or \
            registers < PCI_NUM_REGIONS:
        offer.generation = ''
        offer.trouble = 'the kernel describes the device in an unknown form'
        return
    flags, offer.memory = device.region(memory)[:2]
    offer.mappable = bool(flags & REGION_FLAG_MMAP)
    offer.bars = sum(device.region(bar)[1] for bar in range(PCI_NUM_BARS))
    offer.decoders, control = device.decoders(registers, offer.generation)
    offer.committed = bool(control & HDM_COMMITTED)
    offer.interleaved = bool(control & HDM_INTERLEAVE_WAYS)
    # The description alone does not tell these apart
    if offer.generation == 'v5' and device.keeps_memory(memory):
        offer.generation = 'v6'


def ask(sysfs: Path, address: str) -> Offer:
    """
    Open a device and query what the kernel offers.

    Like every user of VFIO this resets the device.

    Raises: VFIOError when it cannot be opened or queried
    """
    found = nodes(sysfs)
    offer = Offer()
    if 'legacy' in found:
        group = int(os.path.basename(found['legacy']))
        opened = _through_group(group, address)
    elif 'iommufd' in found:
        opened = _through_iommufd(found['iommufd'])
    else:
        raise VFIOError('the device has neither /dev/vfio/GROUP nor '
                        '/dev/vfio/devices/vfioN')
    offer.interface = 'container' if 'legacy' in found else 'iommufd'
    try:
        with opened as fd:
            _describe(_Device(fd), offer)
    except OSError as err:
        raise VFIOError(f'the kernel refuses to describe the device: '
                        f'{err.strerror}') from err
    except struct.error as err:
        raise VFIOError('the kernel\'s description of the device is '
                        'truncated') from err
    return offer


def read_smmu(registers: bytes, pasid_bits: int) -> Smmu:
    """An SMMUv3, from the kernel's struct iommu_hw_info_arm_smmuv3."""
    idr = struct.unpack_from('=6I', registers, 8)
    oas = SMMU_OAS[idr[5] & 7]
    smmu = Smmu(ats=bool(idr[0] & 1 << 10),
                oas=max((bits for bits in GUEST_OAS if bits <= oas), default=0),
                ssidsize=min(idr[1] >> 6 & 31, MAX_SSIDSIZE),
                pasid_bits=pasid_bits)
    # The guest's has all of these, so QEMU refuses a host's without them
    for there, what in ((idr[0] >> 27 & 3 == 1, 'two-level stream tables'),
                        (idr[0] >> 2 & 3 >= 2, 'page tables of AArch64'),
                        (idr[1] & 63 >= 16, 'stream IDs of 16 bits'),
                        (smmu.oas, 'addresses of 44 bits'),
                        (idr[5] & 1 << 4, 'pages of 4K'),
                        (idr[5] & 1 << 5, 'pages of 16K'),
                        (idr[5] & 1 << 6, 'pages of 64K')):
        if not there:
            smmu.trouble = f'it has no {what}, which QEMU requires'
            break
    return smmu


def ask_smmu(sysfs: Path) -> Smmu:
    """
    Query the SMMUv3 that a device is behind.

    Raises: VFIOError if iommufd does not say
    """
    node = nodes(sysfs).get('iommufd')
    if not node:
        raise VFIOError('it takes /dev/iommu and /dev/vfio/devices/vfioN '
                        '(CONFIG_IOMMUFD, CONFIG_VFIO_DEVICE_CDEV)')
    registers = ctypes.create_string_buffer(40)
    with _bound(node) as (iommufd, _, number):
        data = bytearray(struct.pack('=IIIIQIIQ', 40, 0, number,
                                     len(registers),
                                     ctypes.addressof(registers), 0, 0, 0))
        try:
            fcntl.ioctl(iommufd, IOMMU_GET_HW_INFO, data, True)
        except OSError as err:
            raise VFIOError('the kernel does not describe its IOMMU: '
                            f'{err.strerror}') from err
    kind, pasid_bits = struct.unpack_from('=IB', data, 24)
    if kind != HW_INFO_ARM_SMMUV3:
        raise VFIOError('the kernel does not describe an SMMUv3 '
                        '(CONFIG_ARM_SMMU_V3_IOMMUFD)')
    return read_smmu(registers.raw, pasid_bits)
