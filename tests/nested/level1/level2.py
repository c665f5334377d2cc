# QEMU at level 2, with a guest of ours.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Run our QEMU on the device: start, reset, unplug, plug, and a guest."""

import os
import re
import time
from pathlib import Path
from typing import Any, Dict, List

import machine as m
from rows import Rows

BUS = 12
FILL = 8 << 20                  # bytes of device memory that the guest fills
DMA_SRC, DMA_DST, DMA_LEN, DMA_CTRL, DMA_STATUS = 0x30, 0x38, 0x40, 0x44, 0x48
DMA_DONE = 1
CONTROL2, DISABLE_CACHING = 0x10, 1     # in the CXL Device DVSEC
FROM_LOCAL, TO_LOCAL = 3, 5     # START, with the device's end of the copy
RAM_SIZE = 16 << 20             # of the guest; VFIO pins all of it, slowly
RAM = 0x800000                  # a part that it does not use

# Firmware that a guest without one does not need; no KVM; our own signal
UNIMPORTANT = r"kvmvapic|KVM VFIO device isn't created|signal 15"

TOPOLOGY = ['-device', f'pxb-cxl,id=cxl.0,bus=pcie.0,bus_nr={BUS}',
            '-device', 'cxl-rp,id=rp0,bus=cxl.0,chassis=0,slot=1',
            '-M', 'cxl-fmw.0.targets.0=cxl.0,cxl-fmw.0.size=1G']


class Level2:
    """One QEMU, with one backend of VFIO."""

    def __init__(self, rows: Rows, device: str, backend: str) -> None:
        self.rows = rows
        self.backend = backend
        self.device = f'vfio-pci,id=accel,host={device},bus=rp0'
        self.options = list(TOPOLOGY)
        if backend == 'iommufd':
            self.options += ['-object', 'iommufd,id=iommufd0']
            self.device += ',iommufd=iommufd0'

    def row(self, name: str, value: str) -> None:
        """Something that was seen."""
        self.rows.add(f'{self.backend}/{name}', value)

    def check(self, name: str, holds: bool, why: str) -> None:
        """Something that has to be so."""
        if holds:
            self.row(name, 'ok')
        else:
            self.rows.fail(f'{self.backend}/{name}', why)

    def run(self, qemu: Path, rom: Path) -> None:
        """All steps."""
        # A guest that fails resets the machine; one that is asked to may
        options = ['-S', '-action', 'reboot=reset', *self.options,
                   '-device', self.device]
        machine = m.Machine(qemu, rom, 'tcg', options, None, RAM_SIZE)
        try:
            with machine:
                self.stopped(machine)
                machine.qmp.do('cont')
                self.running(machine)
        finally:
            said = [line for line in machine.words.splitlines()
                    if line and not re.search(UNIMPORTANT, line)]
            self.row('messages', re.sub(
                r'^.*warning: |^\S+: |0x[0-9a-f]+|[0-9a-f:]+\.0 ', '', said[0])
                if said else 'none')

    # -- before the guest runs

    def query(self, machine: m.Machine) -> List[Dict[str, Any]]:
        """The device, if there is one."""
        found = machine.qmp.do('query-vfio-cxl')
        assert isinstance(found, list)
        return found

    def show(self, machine: m.Machine, name: str) -> str:
        """A row that says what QEMU makes of the device."""
        found = self.query(machine)
        if not found:
            self.row(name, 'no CXL device')
            return ''
        one = found[0]
        if one['mode'] == 'pci':
            self.row(name, f'plain PCI: {one["reason"]}')
            return ''
        decoder = one['decoders'][0]
        self.row(name, f'{one["kernel"]}, {one["size"] >> 20} MiB, '
                 f'{one["state"]}, '
                 + ('committed' if decoder['committed'] else 'not committed')
                 + (', locked' if decoder['locked'] else ''))
        return str(one['state'])

    def stopped(self, machine: m.Machine) -> None:
        """A guest that has not run yet."""
        self.show(machine, 'started')
        machine.qmp.do('system_reset')
        self.show(machine, 'system_reset')

    # -- with the guest

    def running(self, machine: m.Machine) -> None:
        """A guest that uses it."""
        device = machine.enumerate({BUS: 1})[0]
        state = self.show(machine, 'enumerated')
        scratch = machine.load(device.bar2)
        self.check('register window', scratch == 0x4c584356,
                   f'ID {scratch:#x}')
        self.dma(machine, device, 0, 'dma from the device')
        if state:
            self.memory(machine, device)
        self.again(machine)
        self.unplug(machine)

    def memory(self, machine: m.Machine, device: m.Device) -> None:
        """Decoder, memory, engine."""
        hdm = device.find_decoders(0x30000)
        base = machine.load(hdm + m.HDM_BASE) | \
            machine.load(hdm + m.HDM_BASE + 4) << 32
        size = machine.load(hdm + m.HDM_SIZE) | \
            machine.load(hdm + m.HDM_SIZE + 4) << 32
        windows = machine.windows()
        self.check('decoder in a window', any(w <= base and base + size <=
                                              w + (1 << 30) for w in windows),
                   f'{base:#x}, size {size:#x}')
        seed = 0x5151000000000001
        machine.do(m.WRITE, base, seed, FILL)
        self.check('fill and read', all(
            machine.do(m.LOAD64, base + at).value == seed
            for at in (0, 0x1008, FILL // 2, FILL - 8)), 'other bytes')
        last = base + size - 8
        machine.do(m.STORE64, last, 0x77)
        self.check('last bytes', machine.do(m.LOAD64, last).value == 0x77,
                   'other bytes')
        self.dma(machine, device, seed, 'dma of what was filled')
        machine.do(m.STORE64, RAM, 0x1234567)
        self.copy(machine, device, RAM, 0x2000, TO_LOCAL)
        got = machine.do(m.LOAD64, base + 0x2000).value
        self.check('dma to the device', got == 0x1234567, f'{got:#x}')

    def copy(self, machine: m.Machine, device: m.Device, source: int, to: int,
             control: int) -> int:
        """64 KiB by the device's engine; its status."""
        for offset, value in ((DMA_SRC, source), (DMA_DST, to)):
            machine.store(device.bar2 + offset, value & 0xffffffff)
            machine.store(device.bar2 + offset + 4, value >> 32)
        machine.store(device.bar2 + DMA_LEN, 0x10000)
        machine.store(device.bar2 + DMA_CTRL, control)
        return machine.load(device.bar2 + DMA_STATUS)

    def dma(self, machine: m.Machine, device: m.Device, value: int,
            name: str) -> None:
        """From the device's memory to RAM."""
        machine.do(m.WRITE, RAM, 0xabcdef, 0x10000)
        status = self.copy(machine, device, 0, RAM, FROM_LOCAL)
        got = machine.do(m.LOAD64, RAM + 0xfff8).value
        self.check(name, status == DMA_DONE and
                   (got == value if value else got != 0xabcdef),
                   f'status {status}, {got:#x}')

    def again(self, machine: m.Machine) -> None:
        """The guest is reset and finds the device once more."""
        machine.qmp.do('system_reset')
        device = machine.enumerate({BUS: 1})[0]
        if self.show(machine, 'enumerated after a reset'):
            hdm = device.find_decoders(0x30000)
            base = machine.load(hdm + m.HDM_BASE) | \
                machine.load(hdm + m.HDM_BASE + 4) << 32
            machine.do(m.STORE64, base + 0x3000, 0x99)
            self.check('memory after a reset', machine.do(
                m.LOAD64, base + 0x3000).value == 0x99, 'other bytes')

    def unplug(self, machine: m.Machine) -> None:
        """The slot's power goes off, the device goes and comes back."""
        port = machine.config(BUS)
        at = machine.load(port + 0x34) & 0xfc
        while machine.load(port + at) & 0xff != 0x10:
            at = machine.load(port + at) >> 8 & 0xfc
        control = machine.do(m.LOAD16, port + at + 0x18).value
        machine.qmp.do('device_del', id='accel')
        machine.do(m.STORE16, port + at + 0x18, control | 0x0700)
        end = time.monotonic() + 30
        while 'accel' in [one['name'] for one in machine.qmp.do(
                'qom-list', path='/machine/peripheral')]:
            if time.monotonic() > end:
                self.check('unplug', False, 'it is still there after 30 s')
                return
            time.sleep(0.05)
        self.row('unplug', 'ok')
        words = dict(word.split('=', 1) for word in self.device.split(',')[1:])
        # QEMU closes the device's descriptors a little later
        while True:
            try:
                machine.qmp.do('device_add', driver='vfio-pci', **words)
                break
            except m.BenchError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
        machine.qmp.do('system_reset')
        device = machine.enumerate({BUS: 1})[0]
        if self.show(machine, 'plugged again'):
            self.disable_caching(machine, device)

    def disable_caching(self, machine: m.Machine, device: m.Device) -> None:
        """Something that QEMU has to undo when it exits."""
        control2 = device.find_dvsec() + CONTROL2
        machine.do(m.STORE16, control2, DISABLE_CACHING)
        value = machine.do(m.LOAD16, control2).value
        self.check('caching disabled', value == DISABLE_CACHING,
                   f'CONTROL2 {value:#x}')


def run(rows: Rows, device: str, qemu: Path, rom: Path) -> None:
    """With each backend that this kernel has."""
    backends = ['container']
    if os.path.exists('/dev/iommu') and \
            os.path.isdir(f'/sys/bus/pci/devices/{device}/vfio-dev'):
        backends.append('iommufd')
    else:
        rows.add('iommufd', 'not in this kernel')
    for backend in backends:
        try:
            Level2(rows, device, backend).run(qemu, rom)
        except (m.BenchError, OSError) as err:
            rows.fail(f'{backend}/qemu', ' / '.join(str(err).splitlines()))
