# The registers of the hardware, as sysfs shows them while no driver has it.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Registers that a driver and its users have changed and not restored."""

import mmap
import struct
from pathlib import Path
from typing import Dict, Iterator, Tuple

from rows import Rows

CXL_VENDOR = 0x1e98
DVSEC = {0x0a: 'CAPABILITY', 0x0c: 'CONTROL', 0x0e: 'STATUS',
         0x10: 'CONTROL2', 0x12: 'STATUS2', 0x14: 'LOCK', 0x16: 'CAPABILITY2'}


def dvsecs(config: bytes) -> Iterator[Tuple[int, int]]:
    """The DVSECs of the CXL consortium: offset and ID."""
    at, left = 0x100, 480
    while at and at + 12 <= len(config) and left:
        head, vendor, number = struct.unpack_from('<IIH', config, at)
        if head & 0xffff == 0x23 and vendor & 0xffff == CXL_VENDOR:
            yield at, number
        at, left = head >> 20 & 0xffc, left - 1


def component(config: bytes) -> Tuple[int, int]:
    """BAR and offset of the component registers; BAR -1 without."""
    for at, number in dvsecs(config):
        if number != 8:
            continue
        length = struct.unpack_from('<I', config, at + 4)[0] >> 20
        for entry in range(at + 0x0c, at + length, 8):
            low, high = struct.unpack_from('<2I', config, entry)
            if low >> 8 & 0xff == 1:
                return low & 7, high << 32 | low & 0xffff0000
    return -1, 0


def read(device: str) -> Dict[str, int]:
    """Names of registers, and what they hold."""
    place = Path('/sys/bus/pci/devices') / device
    config = (place / 'config').read_bytes()
    found = {}
    covered = set()
    for at, number in dvsecs(config):
        if number == 0:
            for offset, name in DVSEC.items():
                found[f'DVSEC {name}'] = \
                    struct.unpack_from('<H', config, at + offset)[0]
                covered |= {at + offset, at + offset + 1}
    for at in range(0, len(config), 2):
        if at not in covered:
            found[f'config {at:03x}'] = struct.unpack_from('<H', config, at)[0]
    bar, block = component(config)
    if bar >= 0:
        found.update(read_block(place, bar, block))
    return found


def read_block(place: Path, bar: int, block: int) -> Dict[str, int]:
    """The CXL.cache and CXL.mem registers, with the device enabled."""
    found = {}
    (place / 'enable').write_text('1\n')
    try:
        with open(place / f'resource{bar}', 'r+b') as file, \
                mmap.mmap(file.fileno(), 0x1000, offset=block + 0x1000) as area:
            for at in range(0, 0x1000, 4):
                found[f'component {0x1000 + at:04x}'] = \
                    struct.unpack_from('<I', area, at)[0]
    finally:
        (place / 'enable').write_text('0\n')
    return found


def compare(rows: Rows, before: Dict[str, int], after: Dict[str, int]) -> None:
    """A row for each register of the DVSEC and for what else has changed."""
    changed = [name for name in before if before[name] != after.get(name)]
    for name in [f'DVSEC {name}' for name in DVSEC.values()]:
        if name not in changed:
            rows.add(f'registers/{name}', 'as before')
    for name in changed:
        rows.fail(f'registers/{name}',
                  f'{before[name]:04x} is {after.get(name, 0):04x} afterwards')
    rows.add('registers/others', f'{len(before) - len(DVSEC)} compared')
