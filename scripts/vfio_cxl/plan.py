# SPDX-License-Identifier: GPL-2.0-or-later
"""The bridges, ports and windows that the devices need."""

import shlex
from dataclasses import dataclass
from typing import List

GIB = 1 << 30
MIB = 1 << 20
WINDOW_UNIT = 256 * MIB
FIRST_BUS = 0x40
BUS_STEP = 8
MAX_DEVICES = 16

# The 64-bit hole for BARs that q35 reserves above all memory
Q35_PCI_HOLE = 32 * GIB
# With an AMD CPU model, windows that do not fit below go above 1 TiB
AMD_HT_START = 0xfd00000000
AMD_ABOVE_1TB = 1 << 40


class PlanError(Exception):
    """The devices cannot be given to one guest like this."""


@dataclass
class Slot:
    """One device's own host bridge, root port and window."""
    address: str
    number: int
    window: int

    @property
    def bus(self) -> int:
        """Number of the host bridge's bus."""
        return FIRST_BUS + BUS_STEP * self.number


@dataclass
class Plan:
    """A guest with devices."""
    machine: str
    ram: int
    slots: List[Slot]
    iommufd: bool = False
    kvm: bool = False

    @property
    def top(self) -> int:
        """The end of the guest's address space as far as q35 uses it."""
        low = 0x80000000 if self.ram >= 0xb0000000 else 0xb0000000
        end = 4 * GIB + max(0, self.ram - low)

        def above(start: int) -> int:
            # One MiB of host bridges' registers, then the windows
            start = -(-(start + MIB) // WINDOW_UNIT) * WINDOW_UNIT
            start += sum(slot.window for slot in self.slots)
            return -(-start // GIB) * GIB + Q35_PCI_HOLE

        if above(end) > AMD_HT_START:
            return above(end - 4 * GIB + AMD_ABOVE_1TB)
        return above(end)

    @property
    def bits(self) -> int:
        """Bits of a physical address that the guest needs."""
        if self.machine == 'q35':
            return (self.top - 1).bit_length()
        # virt puts the windows above its registers and BARs, from 1 TiB
        end = (1 << 40) + max(0, self.ram - 255 * GIB) + \
            sum(slot.window for slot in self.slots) + GIB
        return (end - 1).bit_length()


def window_size(memory: int) -> int:
    """
    A window that holds @memory bytes.

    From 1 GiB up there is room to place the memory at a multiple of 1 GiB,
    wherever the window begins: the host can then use its largest pages.
    """
    size = -(-memory // WINDOW_UNIT) * WINDOW_UNIT
    return -(-size // GIB) * GIB + GIB if memory >= GIB else size


def size_option(size: int) -> str:
    """A size as QEMU's options take it."""
    return f'{size // GIB}G' if size % GIB == 0 else f'{size // MIB}M'


def windows(plan: Plan, bridges: List[str]) -> str:
    """The machine's options for CXL, with the ids of the host bridges."""
    words = ['cxl=on']
    for slot, bridge in zip(plan.slots, bridges):
        words += [f'cxl-fmw.{slot.number}.targets.0={bridge}',
                  f'cxl-fmw.{slot.number}.size={size_option(slot.window)}']
    return ','.join(words)


def cpu(plan: Plan, bits: int) -> str:
    """The CPU model; @bits are its own address bits."""
    if plan.kvm:
        return 'host'
    # Linux on q35 flushes caches for CXL only without the hypervisor flag
    model = 'max,-hypervisor' if plan.machine == 'q35' else 'max'
    if plan.machine == 'q35' and plan.bits > bits:
        model += f',phys-bits={plan.bits}'
    return model


def command(plan: Plan, qemu: str, bits: int) -> List[str]:
    """QEMU's command line, without disks and networks."""
    words = [qemu, '-machine', plan.machine
             + (',gic-version=3' if plan.machine == 'virt' and not plan.kvm
                else ''),
             '-accel', 'kvm' if plan.kvm else 'tcg',
             '-cpu', cpu(plan, bits), '-m', size_option(plan.ram)]
    words += ['-machine', windows(plan, [f'cxl.{s.number}'
                                         for s in plan.slots])]
    if plan.iommufd:
        words += ['-object', 'iommufd,id=iommufd0']
    for slot in plan.slots:
        number = slot.number
        words += ['-device', f'pxb-cxl,id=cxl.{number},bus=pcie.0,'
                             f'bus_nr={slot.bus},hdm_for_passthrough=on',
                  '-device', f'cxl-rp,id=cxl-rp{number},bus=cxl.{number},'
                             f'port=0,chassis={64 + number},slot=0',
                  '-device', f'vfio-pci,id=accel{number},'
                             f'host={slot.address},bus=cxl-rp{number},'
                             'x-cxl=on'
                  + (',iommufd=iommufd0' if plan.iommufd else '')]
    return words


def shell(words: List[str]) -> str:
    """A command for a shell, an option with its value on each line."""
    lines = [shlex.quote(words[0])]
    for word in words[1:]:
        if word.startswith('-'):
            lines.append(word)
        else:
            lines[-1] += ' ' + shlex.quote(word)
    return ' \\\n    '.join(lines)
