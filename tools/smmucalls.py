# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU asks of iommufd for plain devices behind accelerated SMMUv3s.

The pristine build and ours run on vfio-sim, with a test in the guest's place,
and must make the same calls in the same order. The pristine one has only the
property that such SMMUs need without KVM.
"""

import concurrent.futures
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

import dmamaps
import machines
import sim
import tap
from common import Failure, SIM, environment, jobs, say

ARCH = 'aarch64'
SMMU, SMMU_STEP = 0x0c000000, 0x20000
CR0, STRTAB, CMDQ, PROD, CONS, EVENTQ = 0x20, 0x80, 0x90, 0x98, 0x9c, 0xa0
TABLES, TABLES_STEP = 0x48000000, 0x400000
STREAMS, ENTRIES = 15, 7        # as powers of two
CFGI_STE, CFGI_ALL, CFGI_CD = 0x03, 0x04, 0x05
TLBI_ALL, TLBI_ASID, TLBI_VA, SYNC = 0x10, 0x11, 0x12, 0x46
VALID, BYPASS, STAGE1 = 1, 4 << 1, 5 << 1
ACCEL = 'accel=on,x-accel-tcg=on,ats=on,ril=on,oas=48,ssidsize=16'
# Differs from run to run
CHANGING = re.compile(r'(iommufd|i?fd|addr|data_ptr|devfd)=\w+|\(\d+\) pasid'
                      r'|\(fd=\d+\)|(/dev/\S+ )\(?fd=\d+\)?')
ATTACH = 'pasid_attach_ioas_hwpt'
STREAM = 'stream '


class Setup(NamedTuple):
    """SMMUs, and the devices behind them."""
    name: str
    options: str
    smmus: int
    # Per device: its SMMU, the ports on the way to it (bus, device, secondary
    # bus), and its bus and device
    devices: Tuple[Tuple[int, List[Tuple[int, int, int]], int, int], ...]


def device(number: int, bus: str, more: str = '') -> str:
    return (f'-device vfio-pci,host={dmamaps.HOST.format(number)},bus={bus},'
            f'iommufd=fd0{more} ')


def bridge(number: int) -> str:
    return (f'-device pxb-pcie,id=pxb{number},bus=pcie.0,bus_nr={16 * number} '
            f'-device pcie-root-port,id=rp{number},bus=pxb{number},'
            f'chassis={number},slot={number} ')


def smmu(number: int, bus: str) -> str:
    return f'-device arm-smmuv3,id=smmu{number},primary-bus={bus},{ACCEL} '


SETUPS = (
    Setup('root-bus', smmu(0, 'pcie.0') + device(1, 'pcie.0', ',addr=8'), 1,
          ((0, [], 0, 8),)),
    Setup('port', bridge(1) + smmu(0, 'pxb1') + device(1, 'rp1'), 1,
          ((0, [(16, 0, 17)], 17, 0),)),
    Setup('two', bridge(1) + bridge(2) + smmu(0, 'pxb1') + smmu(1, 'pxb2')
          + device(1, 'rp1') + device(2, 'rp2'), 2,
          ((0, [(16, 0, 17)], 17, 0), (1, [(32, 0, 33)], 33, 0))),
    Setup('shared', smmu(0, 'pcie.0') + device(1, 'pcie.0', ',addr=8')
          + device(2, 'pcie.0', ',addr=9'), 1,
          ((0, [], 0, 8), (0, [], 0, 9))),
)


class Guest:
    """A guest's driver of SMMUs, and what QEMU asks of iommufd for it."""

    def __init__(self, obj: Path, setup: Setup, where: Path) -> None:
        self.setup, self.where = setup, where
        self.log, self.prod = where / 'trace', [0] * setup.smmus
        self.seen = 0
        shared = f',smmus={setup.smmus}'
        subprocess.run([str(SIM), '--kernel=none', f'--iommu=smmuv3{shared}',
                        f'--devices={len(setup.devices)}', '--prepare',
                        str(where / 'sim')], env=environment(), check=True,
                       stdin=subprocess.DEVNULL, timeout=machines.LIMIT)
        (where / 'firmware').write_bytes(bytes(4096))
        options = (machines.COMMON[ARCH].format(firmware=where / 'firmware')
                   + '-M virt,gic-version=3 -object iommufd,id=fd0 '
                   + f'-bios {where / "firmware"} '
                   + f'-trace iommufd_* -D {self.log} ' + setup.options)
        self.machine = machines.start(obj, ARCH, options, where, {
            'LD_PRELOAD': sim.library(), 'VFIO_SIM_DIR': str(where / 'sim')})

    def write(self, kind: str, address: int, value: int) -> None:
        self.machine.do(f'write{kind} {address} {value}\n')

    def calls(self) -> List[str]:
        """The calls since the last time, and how streams are configured."""
        lines = self.log.read_text(encoding='utf-8').splitlines()
        new, self.seen = lines[self.seen:], len(lines)
        found = [CHANGING.sub(r'\1', line.split(' ', 1)[-1]
                              if line[:1].isdigit() else line)
                 for line in new]
        streams = dmamaps.ask(self.where / 'sim/control', 'iommu')['streams']
        return found + [f'{STREAM}{one["host"]} {one["config"]}'
                        for one in streams]

    # -- the guest's driver

    def regs(self, number: int) -> int:
        return SMMU + number * SMMU_STEP

    def ram(self, number: int) -> int:
        return TABLES + number * TABLES_STEP

    def command(self, number: int, low: int, high: int) -> None:
        at = self.ram(number) + (2 << 20) + self.prod[number] % 128 * 16
        self.write('q', at, low)
        self.write('q', at + 8, high)
        self.prod[number] += 1
        self.write('l', self.regs(number) + PROD, self.prod[number])
        if dmamaps.read32(self.machine, self.regs(number) + CONS) != \
                self.prod[number]:
            raise Failure(f'the SMMU does not accept {low:#x}, {high:#x}')

    def commands(self, number: int, *pairs: Tuple[int, int]) -> None:
        for low, high in [*pairs, (SYNC, 0)]:
            self.command(number, low, high)

    def enumerate(self) -> None:
        """Bus numbers, and addresses for BARs."""
        ecam, at = dmamaps.PLACES[ARCH].ecam, dmamaps.PLACES[ARCH].mmio
        for _, ports, bus, slot in self.setup.devices:
            for primary, number, secondary in ports:
                port = ecam + (primary << 20) + (number << 15)
                buses = primary | secondary << 8 | secondary << 16
                limit = (at + 8 * dmamaps.STRIDE - 1) & 0xfff00000
                self.write('l', port + dmamaps.BUSES, buses)
                self.write('l', port + dmamaps.WINDOW, at >> 16 | limit)
                self.write('w', port + dmamaps.COMMAND, 6)
            dmamaps.place_bars(self.machine, ecam + (bus << 20) + (slot << 15),
                               at, 6)
            at += 8 * dmamaps.STRIDE

    def prepare(self) -> None:
        """Tables and queues; the SMMUs stay disabled."""
        for number in range(self.setup.smmus):
            regs, ram = self.regs(number), self.ram(number)
            self.machine.do(f'memset {ram} {TABLES_STEP} 0\n')
            self.write('q', regs + STRTAB, ram)
            self.write('l', regs + STRTAB + 8, STREAMS)
            self.write('q', regs + CMDQ, ram + (2 << 20) | ENTRIES)
            self.write('q', regs + EVENTQ, ram + (3 << 20) | ENTRIES)
            self.prod[number] = 0
            self.write('l', regs + PROD, 0)
            self.write('l', regs + CONS, 0)
            self.write('l', regs + CR0, 0x8)
            self.commands(number, (CFGI_ALL, 31), (TLBI_ALL, 0))
            self.write('l', regs + CR0, 0xc)

    def enable(self) -> None:
        for number in range(self.setup.smmus):
            self.write('l', self.regs(number) + CR0, 0xd)

    def stream(self, config: int) -> None:
        """Give all streams an STE, with context descriptors if it has any."""
        for number, _, bus, slot in self.setup.devices:
            sid, ram = bus << 8 | slot << 3, self.ram(number)
            cds = ram + (3 << 20) + 0x10000 + sid % 256 * 512
            translates = config == STAGE1
            self.write('q', ram + sid * 64 + 8, 2 if translates else 0)
            self.write('q', ram + sid * 64, VALID | config
                       | (cds | 3 << 59 if translates else 0))
            self.commands(number, (CFGI_STE | sid << 32, 1))

    def invalidate(self) -> None:
        for number, _, bus, slot in self.setup.devices:
            sid = bus << 8 | slot << 3
            self.commands(number, (CFGI_CD | sid << 32, 1),
                          (TLBI_VA | 1 << 48, 0x1001), (TLBI_ASID | 1 << 48, 0),
                          (TLBI_ALL, 0))

    def reset(self) -> None:
        self.machine.qmp('system_reset')
        end = time.monotonic() + machines.LIMIT
        while dmamaps.read32(self.machine, self.regs(0) + CR0):
            if time.monotonic() > end:
                raise Failure('the machine is not reset')
        self.machine.qmp('query-status')

    def stages(self) -> Dict[str, List[str]]:
        """The calls of each stage of a guest's life."""
        found = {'start': self.calls()}
        for turn in ('', ' again'):
            for name, stage in (
                    ('enumerate', self.enumerate), ('prepare', self.prepare),
                    ('enable', self.enable),
                    ('stage 1', lambda: self.stream(STAGE1)),
                    ('invalidate', self.invalidate),
                    ('bypass', lambda: self.stream(BYPASS)),
                    ('abort', lambda: self.stream(0)),
                    ('stage 1 anew', lambda: self.stream(STAGE1)),
                    ('reset', self.reset)):
                stage()
                found[name + turn] = self.calls()
        return found


def look(obj: Path, setup: Setup) -> Dict[str, List[str]]:
    with tempfile.TemporaryDirectory() as holder:
        guest = Guest(obj, setup, Path(holder))
        try:
            return guest.stages()
        finally:
            guest.machine.end()


def compared(stage: str, calls: List[str], setup: Setup) -> List[str]:
    """Without what fixes of series/0-arm change.

    Ours attaches devices again when an SMMU is enabled, and attaches one that
    joins others behind the same SMMU.
    """
    joins = stage == 'start' and setup.smmus < len(setup.devices)
    if joins or stage.startswith('enable'):
        return [line for line in calls
                if ATTACH not in line and not line.startswith(STREAM)]
    return calls


def compare_one(pristine: Path, ours: Path, setup: Setup) -> tap.Case:
    remark = ''
    try:
        before, after = look(pristine, setup), look(ours, setup)
        for stage, was in before.items():
            old = compared(stage, was, setup)
            new = compared(stage, after[stage], setup)
            if old != new:
                first = next(pair for pair in zip([*old, 'nothing'],
                                                  [*new, 'nothing'])
                             if pair[0] != pair[1])
                remark = f'{stage}: pristine {first[0]}, ours {first[1]}'
                break
        text = '\n'.join(line for lines in before.values() for line in lines)
        for word in ('alloc_viommu', 'alloc_vdev', 'invalidate_cache',
                     'alloc_eventq', ATTACH, 'nested', 'abort'):
            if word not in text:
                remark = remark or f'the pristine tree makes no {word}'
    except (Failure, OSError, subprocess.SubprocessError) as err:
        remark = str(err)
    return tap.Case('not ok' if remark else 'ok', f'smmu/{setup.name}', remark)


def compare(pristine: Path, ours: Path) -> List[tap.Case]:
    """One case for each setup: both must ask the same of iommufd."""
    say(f'comparing what {len(SETUPS)} machines with SMMUs ask of iommufd')
    with concurrent.futures.ThreadPoolExecutor(int(jobs())) as pool:
        return list(pool.map(lambda one: compare_one(pristine, ours, one),
                             SETUPS))
