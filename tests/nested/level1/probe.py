# Raw ioctls and mappings, where a real kernel and an imitation may differ.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Observations of a VFIO device: errors, order of checks, pages, lifetimes."""

import array
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import stat
import struct
import sys
import threading
from typing import Callable, Dict, Optional, Tuple

from rows import Rows

VFIO = 0x3b64                   # _IO(';', 100)
SET_IOMMU, GET_DEVICE_FD, SET_CONTAINER = VFIO + 2, VFIO + 6, VFIO + 4
GET_INFO, GET_REGION_INFO, RESET = VFIO + 7, VFIO + 8, VFIO + 11
MAP_DMA, UNMAP_DMA, FEATURE = VFIO + 13, VFIO + 14, VFIO + 17
TYPE1V2 = 3
CONFIG = 7
REGIONS = 9
PAGE = 4096
HUGE = 2 << 20
IOVA = 1 << 32

PROT = mmap.PROT_READ | mmap.PROT_WRITE
MAP_FIXED = 0x10
MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4
FAILED = ctypes.c_void_p(-1).value

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int,
                      ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mremap.restype = ctypes.c_void_p
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t,
                        ctypes.c_int, ctypes.c_void_p]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def outcome(function: Callable[[], object]) -> str:
    """The name of the error, or 'ok'."""
    try:
        function()
    except OSError as err:
        return errno.errorcode.get(err.errno or 0, str(err.errno))
    return 'ok'


def called(result: int) -> None:
    """Turn a result of the C library's into an exception."""
    if result < 0:
        raise OSError(ctypes.get_errno(), '')


def touch(address: int, store: bool = False) -> str:
    """Access an address in a child, which may die of it."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        if store:
            ctypes.c_uint32.from_address(address).value = 1
        else:
            _ = ctypes.c_uint32.from_address(address).value
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return 'ok'


class Device:
    """A device, opened through group and container."""

    def __init__(self, name: str) -> None:
        self.name = name
        group = os.path.basename(os.readlink(
            f'/sys/bus/pci/devices/{name}/iommu_group'))
        self.group_path = f'/dev/vfio/{group}'
        self.container = os.open('/dev/vfio/vfio', os.O_RDWR)
        self.group = os.open(self.group_path, os.O_RDWR)
        fcntl.ioctl(self.group, SET_CONTAINER,
                    struct.pack('i', self.container))
        fcntl.ioctl(self.container, SET_IOMMU, TYPE1V2)
        self.fd = self.another()

    def another(self) -> int:
        """One more descriptor of the device."""
        return fcntl.ioctl(self.group, GET_DEVICE_FD,
                           array.array('B', self.name.encode() + b'\0'))

    def close(self) -> None:
        """All of it."""
        for fd in (self.fd, self.group, self.container):
            os.close(fd)

    def info(self, size: int = 256) -> bytes:
        """VFIO_DEVICE_GET_INFO."""
        data = bytearray(struct.pack('I', size).ljust(max(size, 24), b'\0'))
        fcntl.ioctl(self.fd, GET_INFO, data)
        return bytes(data)

    def region(self, index: int, size: int = 1024) -> bytes:
        """VFIO_DEVICE_GET_REGION_INFO."""
        data = bytearray(struct.pack('III', size, 0, index)
                         .ljust(max(size, 32), b'\0'))
        fcntl.ioctl(self.fd, GET_REGION_INFO, data)
        return bytes(data)

    def read(self, index: int, offset: int, size: int) -> bytes:
        """From a region."""
        return os.pread(self.fd, size, (index << 40) + offset)

    def write(self, index: int, offset: int, data: bytes) -> int:
        """To a region."""
        return os.pwrite(self.fd, data, (index << 40) + offset)

    def map(self, index: int, offset: int, size: int, flags: int =
            mmap.MAP_SHARED, at: Optional[int] = None, prot: int = PROT) -> int:
        """Map a part of a region."""
        address = libc.mmap(at, size, prot, flags, self.fd,
                            (index << 40) + offset)
        if address == FAILED:
            raise OSError(ctypes.get_errno(), 'mmap')
        return int(address)

    def map_aligned(self, index: int, size: int) -> int:
        """Map a region where pages of 2 MiB fit."""
        place = libc.mmap(None, size + HUGE, 0, mmap.MAP_PRIVATE |
                          mmap.MAP_ANONYMOUS, -1, 0)
        return self.map(index, 0, size, mmap.MAP_SHARED | MAP_FIXED,
                        (place + HUGE - 1) & -HUGE)

    def memory_space(self, on: bool) -> None:
        """Memory Space Enable."""
        command, = struct.unpack('<H', self.read(CONFIG, 4, 2))
        self.write(CONFIG, 4, struct.pack('<H', command & ~2 | 2 * on))

    def reset(self) -> None:
        """VFIO_DEVICE_RESET."""
        fcntl.ioctl(self.fd, RESET)

    def map_dma(self, address: int, size: int, iova: int = IOVA) -> None:
        """Type1: map by address."""
        fcntl.ioctl(self.container, MAP_DMA, struct.pack(
            '<IIQQQ', 32, 3, address, iova, size))

    def unmap_dma(self, size: int, iova: int = IOVA) -> int:
        """Type1: how much was unmapped."""
        data = bytearray(struct.pack('<IIQQ', 24, 0, iova, size))
        fcntl.ioctl(self.container, UNMAP_DMA, data)
        return int(struct.unpack('<IIQQ', data)[3])


def capabilities(data: bytes, offset: int) -> Dict[int, bytes]:
    """The capabilities of a reply."""
    found: Dict[int, bytes] = {}
    while offset and len(found) < 16:
        ident, version, following = struct.unpack_from('<HHI', data, offset)
        found[ident] = data[offset:following or struct.unpack_from('I', data)
                            [0]]
        assert version == 1
        offset = following
    return found


def describe_regions(rows: Rows, device: Device) -> Dict[str, Tuple[int, int]]:
    """What the kernel says of each region; those of CXL are returned."""
    _, flags, count, irqs = struct.unpack_from('<4I', device.info())
    rows.add('info', f'flags {flags:#x}, {count} regions, {irqs} interrupts')
    rows.add('info, 16 bytes', outcome(lambda: device.info(16)))
    rows.add('info, 12 bytes', outcome(lambda: device.info(12)))
    found = {}
    for index in range(count + 1):
        try:
            data = device.region(index)
        except OSError as err:
            rows.add(f'region {index}', errno.errorcode[err.errno or 0])
            continue
        _, flags, _, at, size, offset = struct.unpack_from('<4IQQ', data)
        text = f'flags {flags:#x}, size {size:#x}'
        if offset != index << 40:
            text += f', offset {offset:#x}'
        for ident, cap in sorted(capabilities(data, at).items()):
            if ident == 1:
                areas, = struct.unpack_from('I', cap, 8)
                text += ''.join(', area %x+%x' % struct.unpack_from(
                    '<QQ', cap, 16 + 16 * n) for n in range(areas))
            elif ident == 2:
                kind, subtype = struct.unpack_from('<II', cap, 8)
                text += f', type {kind:#x}/{subtype}'
                found[{1: 'memory', 2: 'registers'}[subtype]] = (index, size)
            else:
                text += f', capability {ident}'
        rows.add(f'region {index}', text)
    return found


def try_descriptors(rows: Rows, device: Device) -> None:
    """Opens, and what the descriptor is."""
    rows.add('group, second open', outcome(
        lambda: os.open(device.group_path, os.O_RDWR)))
    second = device.another()
    rows.add('device, second descriptor', 'ok')
    os.close(second)
    rows.add('device, after the second is closed', outcome(
        lambda: device.read(CONFIG, 0, 4)))
    is_file = stat.S_ISREG(os.fstat(device.fd).st_mode)
    rows.add('device, fstat', ('a' if is_file else 'no') + ' regular file, '
             f'size {os.fstat(device.fd).st_size}')


def try_config(rows: Rows, device: Device) -> None:
    """Accesses to configuration space and BARs."""
    for name, offset, size in (('past the end', 4096, 4),
                               ('across the end', 4094, 4),
                               ('8 bytes', 0, 8), ('odd dword', 1, 4)):
        try:
            value = f'{len(device.read(CONFIG, offset, size))} bytes'
        except OSError as err:
            value = errno.errorcode[err.errno or 0]
        rows.add(f'config read, {name}', value)
    for index in (0, 2):
        size, = struct.unpack_from('<Q', device.region(index), 16)
        rows.add(f'BAR {index}, read at the end', outcome(
            lambda i=index, s=size: device.read(i, s, 4)))
        device.memory_space(False)
        rows.add(f'BAR {index}, read with Memory Space off', outcome(
            lambda i=index: device.read(i, 0, 4)))
        device.memory_space(True)
    address = device.map(0, 0, PAGE)
    rows.add('BAR 0, touch', touch(address))
    device.memory_space(False)
    rows.add('BAR 0, touch with Memory Space off', touch(address))
    device.memory_space(True)
    rows.add('BAR 0, touch with Memory Space on again', touch(address))
    device.reset()
    rows.add('BAR 0, touch after a reset', touch(address))
    libc.munmap(address, PAGE)


def try_dma(rows: Rows, device: Device, address: int, size: int,
            name: str) -> None:
    """Type1 mappings of device memory."""
    rows.add(f'{name}, map', outcome(lambda: device.map_dma(address, size)))
    rows.add(f'{name}, map twice', outcome(
        lambda: device.map_dma(address, size)))
    rows.add(f'{name}, reset', outcome(device.reset))
    device.memory_space(True)
    rows.add(f'{name}, map after a reset', outcome(
        lambda: device.map_dma(address, size)))
    rows.add(f'{name}, unmap', f'{device.unmap_dma(size):#x} bytes')
    rows.add(f'{name}, unmap again', f'{device.unmap_dma(size):#x} bytes')
    device.memory_space(False)
    rows.add(f'{name}, map with Memory Space off', outcome(
        lambda: device.map_dma(address, size)))
    device.unmap_dma(size)
    device.memory_space(True)


def faults(function: Callable[[], None]) -> int:
    """Page faults that something takes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    function()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def try_pages(rows: Rows, device: Device, index: int) -> None:
    """How much one fault maps."""
    cell = ctypes.c_uint32.from_address
    # vfio-sim's memory is a file, whose pages have to be there first
    for attempt in range(2):
        address = device.map_aligned(index, 2 * HUGE)

        def walk(start: int = address) -> None:
            for at in range(start, start + HUGE, PAGE):
                cell(at).value = 0

        walked = faults(walk)
        if attempt == 0:
            libc.munmap(address, 2 * HUGE)
    rows.add('memory, faults for 2 MiB', 'one for each page'
             if walked >= HUGE // PAGE else
             'few' if walked > 16 else 'one for all')
    libc.munmap(address, 2 * HUGE)


def try_mappings(rows: Rows, device: Device, index: int, size: int) -> None:
    """Mappings of device memory, whole and in parts."""
    private = mmap.MAP_PRIVATE
    for name, arguments in (('private', (0, PAGE, private)),
                            ('past the end', (size, PAGE)),
                            ('across the end', (size - PAGE, 2 * PAGE)),
                            ('far beyond', (1 << 39, PAGE)),
                            ('last page', (size - PAGE, PAGE))):
        rows.add(f'memory, map {name}', outcome(
            lambda a=arguments: libc.munmap(device.map(index, *a), PAGE)))
    address = device.map(index, 0, 4 * PAGE)
    rows.add('memory, touch', touch(address, True))
    libc.munmap(address + PAGE, PAGE)
    rows.add('memory, hole unmapped, before it', touch(address))
    rows.add('memory, hole unmapped, inside', touch(address + PAGE))
    rows.add('memory, hole unmapped, behind it', touch(address + 2 * PAGE))
    device.map(index, 8 * PAGE, PAGE, mmap.MAP_SHARED | MAP_FIXED,
               address + 2 * PAGE)
    rows.add('memory, mapped over, touch', touch(address + 2 * PAGE, True))
    libc.munmap(address, 4 * PAGE)

    address = device.map(index, 0, 16 * PAGE)
    for name, advice in (('WILLNEED', 3), ('DONTNEED', 4), ('FREE', 8),
                         ('REMOVE', 9), ('DONTFORK', 10), ('DOFORK', 11),
                         ('MERGEABLE', 12), ('HUGEPAGE', 14),
                         ('NOHUGEPAGE', 15), ('DONTDUMP', 16), ('DODUMP', 17),
                         ('COLD', 20), ('PAGEOUT', 21), ('POPULATE_READ', 22),
                         ('POPULATE_WRITE', 23)):
        rows.add(f'memory, madvise {name}', outcome(
            lambda a=advice: called(libc.madvise(address, 16 * PAGE, a))))
    rows.add('memory, mlock', outcome(
        lambda: called(libc.mlock(address, 16 * PAGE))))
    libc.munmap(address, 16 * PAGE)


def try_moves(rows: Rows, device: Device, index: int) -> None:
    """Mappings of device memory that are moved."""
    address = device.map(index, 0, 4 * PAGE)
    place = libc.mmap(None, 8 * PAGE, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
                      -1, 0)

    def move(old: int, new: int, flags: int) -> None:
        if libc.mremap(address, old, new, flags, place) == FAILED:
            raise OSError(ctypes.get_errno(), 'mremap')

    rows.add('memory, mremap to grow', outcome(
        lambda: move(4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE)))
    rows.add('memory, mremap to copy', outcome(
        lambda: move(0, 4 * PAGE, MREMAP_MAYMOVE)))
    rows.add('memory, mremap DONTUNMAP', outcome(
        lambda: move(4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP)))
    rows.add('memory, mremap to move', outcome(
        lambda: move(4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED)))
    rows.add('memory, moved, touch', touch(place, True))
    rows.add('memory, moved, touch the old place', touch(address))
    device.memory_space(False)
    rows.add('memory, moved, touch with Memory Space off', touch(place))
    device.memory_space(True)
    libc.munmap(place, 8 * PAGE)


def try_gate(rows: Rows, device: Device, index: int, size: int) -> None:
    """Memory while Memory Space is off, and file access to it."""
    address = device.map(index, 0, 4 * PAGE)
    rows.add('memory, touch before', touch(address))
    device.memory_space(False)
    rows.add('memory, touch with Memory Space off', touch(address))
    rows.add('memory, new page with Memory Space off', touch(address + PAGE))
    rows.add('memory, file read with Memory Space off', outcome(
        lambda: device.read(index, 0, 4)))
    rows.add('memory, map with Memory Space off', outcome(
        lambda: libc.munmap(device.map(index, 0, PAGE), PAGE)))
    device.memory_space(True)
    rows.add('memory, touch with Memory Space on again', touch(address))
    for name, offset, count in (('4 bytes', 0, 4), ('3 bytes', 1, 3),
                                ('across the end', size - 4, 8),
                                ('at the end', size, 4)):
        try:
            value = f'{len(device.read(index, offset, count))} bytes'
        except OSError as err:
            value = errno.errorcode[err.errno or 0]
        rows.add(f'memory, file read, {name}', value)
    libc.munmap(address, 4 * PAGE)


def try_resets(rows: Rows, device: Device, index: int) -> None:
    """Resets while another thread takes faults."""
    address = device.map(index, 0, 64 * PAGE)
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        cell = ctypes.c_uint32.from_address
        while True:
            for at in range(0, 64 * PAGE, PAGE):
                _ = cell(address + at).value
    results = {outcome(device.reset) for _ in range(5)}
    device.memory_space(True)
    ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    # Who uses it while the reset runs may get SIGBUS, or waits for its end
    died = ended and os.WTERMSIG(status) != signal.SIGBUS
    rows.add('memory, five resets while it is used', ', '.join(sorted(results))
             + (f'; the user died of {signal.Signals(os.WTERMSIG(status)).name}'
                if died else ''))
    rows.add('memory, touch afterwards', touch(address))
    libc.munmap(address, 64 * PAGE)


def try_fixed(rows: Rows, device: Device, index: int) -> None:
    """Mappings that are replaced while another thread takes faults."""
    address = device.map(index, 0, 64 * PAGE)
    stop = threading.Event()

    def use() -> None:
        cell = ctypes.c_uint32.from_address
        while not stop.is_set():
            for at in range(0, 64 * PAGE, PAGE):
                _ = cell(address + at).value

    thread = threading.Thread(target=use)
    thread.start()
    for _ in range(50):
        device.map(index, 0, 64 * PAGE, mmap.MAP_SHARED | MAP_FIXED, address)
    stop.set()
    thread.join()
    rows.add('memory, mapped over while it is used', 'ok')
    libc.munmap(address, 64 * PAGE)


def try_feature(rows: Rows, device: Device, index: int) -> None:
    """Export of a region as a dma-buf."""
    for name, number in (('BAR 0', 0), ('memory', index)):
        data = bytearray(struct.pack('<II IIII QQ', 40, 11 | 1 << 16, number,
                                     os.O_RDWR | os.O_CLOEXEC, 0, 1, 0, PAGE))
        rows.add(f'dma-buf of {name}', outcome(
            lambda d=data: os.close(fcntl.ioctl(device.fd, FEATURE, d))))


def try_registers(rows: Rows, device: Device, index: int, size: int) -> None:
    """Sizes and places of accesses to the region with the decoder."""
    for name, offset, count in (('4 bytes', 0, 4), ('8 bytes', 0, 8),
                                ('2 bytes', 0, 2), ('odd', 2, 4),
                                ('last 4', size - 4, 4),
                                ('across the end', size - 4, 8),
                                ('past the end', size, 4)):
        try:
            value = f'{len(device.read(index, offset, count))} bytes'
        except OSError as err:
            value = errno.errorcode[err.errno or 0]
        rows.add(f'registers, read {name}', value)
    rows.add('registers, map', outcome(lambda: device.map(index, 0, PAGE)))
    device.memory_space(False)
    rows.add('registers, read with Memory Space off', outcome(
        lambda: device.read(index, 0, 4)))
    device.memory_space(True)


def try_close(rows: Rows, device: Device, index: int) -> None:
    """A mapping keeps the device open."""
    address = device.map(index, 0, PAGE)
    device.close()
    rows.add('closed, touch what is mapped', touch(address))
    rows.add('closed, open while it is mapped', outcome(
        lambda: os.close(os.open(device.group_path, os.O_RDWR))))
    libc.munmap(address, PAGE)
    rows.add('closed, open afterwards', outcome(
        lambda: os.close(os.open(device.group_path, os.O_RDWR))))


def probe(rows: Rows, name: str) -> None:
    """All of it."""
    device = Device(name)
    found = describe_regions(rows, device)
    try_descriptors(rows, device)
    try_config(rows, device)
    address = device.map(0, 0, PAGE)
    try_dma(rows, device, address, PAGE, 'type1, BAR 0')
    libc.munmap(address, PAGE)
    try_feature(rows, device, found.get('memory', (REGIONS, 0))[0])
    if 'registers' in found:
        try_registers(rows, device, *found['registers'])
    if 'memory' in found:
        index, size = found['memory']
        try_mappings(rows, device, index, size)
        try_moves(rows, device, index)
        try_pages(rows, device, index)
        try_gate(rows, device, index, size)
        try_resets(rows, device, index)
        try_fixed(rows, device, index)
        address = device.map(index, 0, 64 * PAGE)
        try_dma(rows, device, address, 64 * PAGE, 'type1, memory')
        libc.munmap(address, 64 * PAGE)
        try_close(rows, device, index)
    else:
        try_close(rows, device, 0)


def run(rows: Rows, name: str) -> None:
    """In a process of its own: what is mapped keeps the device open."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            probe(rows, name)
            status = 0
        except BaseException as err:  # pylint: disable=broad-except
            rows.fail('probe', repr(err))
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.waitpid(pid, 0)
