# SPDX-License-Identifier: GPL-2.0-or-later
"""The bridges, ports, windows and SMMUs that the devices need."""

import shlex
from dataclasses import dataclass, field
from typing import List

from .vfio import Smmu

GIB = 1 << 30
MIB = 1 << 20
WINDOW_UNIT = 256 * MIB
FIRST_BUS = 0x40
BUS_STEP = 8
MAX_DEVICES = 16
# A host bridge has this many decoders, one for each port
MAX_PORTS = 4
MAX_NODES = 128
# Parts into which a GPU can be divided, each of which needs a node
GPU_NODES = 8

# The 64-bit hole for BARs that q35 reserves above all memory
Q35_PCI_HOLE = 32 * GIB
# With an AMD CPU model, windows that do not fit below go above 1 TiB
AMD_HT_START = 0xfd00000000
AMD_ABOVE_1TB = 1 << 40
# virt's 64-bit hole for BARs: a power of two, not less than this
VIRT_PCI_HOLE = 512 * GIB


class PlanError(Exception):
    """The devices cannot be given to one guest like this."""


@dataclass
class Slot:
    """One device's own root port and window, and the host bridge above."""
    address: str
    number: int
    window: int
    bridge: int
    port: int = 0


@dataclass
class Plan:
    """A guest with devices."""
    machine: str
    ram: int
    slots: List[Slot]
    iommufd: bool = False
    kvm: bool = False
    # For each host bridge, if there are any
    smmus: List[Smmu] = field(default_factory=list)
    nodes: int = 0
    cpus: int = 1
    bars: int = 0
    firmware: str = ''
    # The range for memory that is plugged in later
    hotplug: int = 0

    @property
    def bridges(self) -> List[int]:
        """Numbers of the host bridges."""
        return sorted({slot.bridge for slot in self.slots})

    @property
    def pci_hole(self) -> int:
        """Size of virt's hole for 64-bit BARs."""
        # A bridge's window begins at a multiple of the largest BAR's size
        wanted = max(2 * self.bars, VIRT_PCI_HOLE)
        return 1 << (wanted - 1).bit_length()

    @property
    def top(self) -> int:
        """The end of the guest's address space as far as q35 uses it."""
        low = 0x80000000 if self.ram >= 0xb0000000 else 0xb0000000
        end = 4 * GIB + max(0, self.ram - low)
        if self.hotplug:
            end = -(-end // GIB) * GIB + self.hotplug

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
        # virt: RAM, less than one GiB of registers, BARs, windows
        hole = self.pci_hole if self.smmus else VIRT_PCI_HOLE
        end = 257 * GIB + max(0, self.ram + self.hotplug - 255 * GIB)
        end = -(-end // hole) * hole + hole + \
            sum(slot.window for slot in self.slots)
        return (end - 1).bit_length()

    def check(self) -> None:
        """Raises: PlanError if QEMU has less of something."""
        if self.nodes * len(self.slots) >= MAX_NODES:
            raise PlanError(f'{self.nodes} nodes for each device are too many '
                            f'(--nodes); QEMU has {MAX_NODES} in all')

    def slot_nodes(self, slot: Slot, first: int = 1) -> List[int]:
        """The nodes of a device, of which the guest's first is @first."""
        start = first + slot.number * self.nodes
        return list(range(start, start + self.nodes))


def bus(bridge: int) -> int:
    """Number of a host bridge's bus."""
    return FIRST_BUS + BUS_STEP * bridge


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
    for slot in plan.slots:
        words += [f'cxl-fmw.{slot.number}.targets.0={bridges[slot.bridge]}',
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


def machine(plan: Plan) -> List[str]:
    """Options of the machine, beside those for CXL."""
    words = [f'highmem-mmio-size={size_option(plan.pci_hole)}'] \
        if plan.smmus else []
    return words + (['hmat=on'] if plan.nodes else [])


def smmu(plan: Plan, bridge: int) -> str:
    """A device that is the SMMU of a host bridge."""
    host = plan.smmus[bridge]
    return (f'arm-smmuv3,id=smmu{bridge},primary-bus=cxl.{bridge},accel=on,'
            f'ats={"on" if host.ats else "off"},ril=off,oas={host.oas},'
            f'ssidsize={host.ssidsize}')


def command(plan: Plan, qemu: str, bits: int) -> List[str]:
    """QEMU's command line, without disks and networks."""
    options = [plan.machine]
    if plan.machine == 'virt' and not plan.kvm:
        options.append('gic-version=3')
    if plan.smmus:
        options.append('ras=on')
    words = [qemu, '-machine', ','.join(options + machine(plan)),
             '-accel', 'kvm' if plan.kvm else 'tcg',
             '-cpu', cpu(plan, bits), '-m', size_option(plan.ram)]
    if plan.cpus > 1:
        words += ['-smp', str(plan.cpus)]
    if plan.smmus:
        # An accelerated SMMU is described by ACPI only
        words += ['-bios', plan.firmware]
    words += ['-machine', windows(plan, [f'cxl.{n}' for n in plan.bridges])]
    if plan.nodes:
        words += ['-object', 'memory-backend-ram,id=ram0,'
                             f'size={size_option(plan.ram)}',
                  '-numa', 'node,nodeid=0,memdev=ram0,'
                           f'cpus=0-{plan.cpus - 1}']
    if plan.iommufd:
        words += ['-object', 'iommufd,id=iommufd0']
    for bridge in plan.bridges:
        words += ['-device', f'pxb-cxl,id=cxl.{bridge},bus=pcie.0,'
                             f'bus_nr={bus(bridge)},hdm_for_passthrough=on']
        if plan.smmus:
            words += ['-device', smmu(plan, bridge)]
        for slot in plan.slots:
            if slot.bridge == bridge:
                words += _device(plan, slot)
    return words


def _device(plan: Plan, slot: Slot) -> List[str]:
    number = slot.number
    words = ['-device', f'cxl-rp,id=cxl-rp{number},bus=cxl.{slot.bridge},'
                        f'port={slot.port},chassis={64 + number},slot=0',
             '-device', f'{"vfio-pci-nohotplug" if plan.smmus else "vfio-pci"},'
                        f'id=accel{number},host={slot.address},'
                        f'bus=cxl-rp{number},x-cxl=on'
             + (',iommufd=iommufd0' if plan.iommufd else '')]
    for node in plan.slot_nodes(slot):
        words += ['-numa', f'node,nodeid={node}',
                  '-object', f'acpi-generic-initiator,id=gi{node},'
                             f'pci-dev=accel{number},node={node}']
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
