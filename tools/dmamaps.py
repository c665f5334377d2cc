# SPDX-License-Identifier: GPL-2.0-or-later
"""VFIO's DMA mappings, on the pristine build and on ours.

Both QEMUs run on vfio-sim, and its control channel has to list the same
mappings: RAM, BARs of plain devices and those of emulated ones. This also
holds next to a CXL device, which the pristine QEMU treats as a plain one; only
its own memory and BARs are left out then.
"""

import concurrent.futures
import itertools
import json
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple

import machines
import sim
import tap
from common import Failure, SIM, environment, jobs, say

HOST = '0000:c{}:00.0'
CXL = HOST.format(1)            # the device that is a CXL one, if any is
VGA, SLOT = 0x8, 0x10           # on the root bus; SLOT is the first device's
BRIDGE_BUS, PORT_BUS = 12, 13
COMMAND, BARS, BUSES, WINDOW = 0x04, 0x10, 0x18, 0x20
MEMORY, MASTER = 0x2, 0x4
ROOM, STRIDE = 0x4000000, 0x1000000     # for all BARs, and for each

# A device whose BAR 0 is RAM of QEMU's own, and a port for CXL devices
BESIDE = (f'-device VGA,addr={VGA:#x} '
          f'-device pxb-cxl,id=cxl.1,bus=pcie.0,bus_nr={BRIDGE_BUS} '
          '-device cxl-rp,id=rp0,bus=cxl.1,chassis=0,slot=0,port=0 ')


Stages = Dict[str, List[dict]]


class Place(NamedTuple):
    """Where a machine has configuration space and room for BARs."""
    ecam: int
    mmio: int
    options: str
    cxl: str


PLACES = {
    'x86_64': Place(0xb0000000, 0xc0000000, '-M q35 ',
                    '-M q35' + machines.WINDOW),
    'aarch64': Place(0x4010000000, 0x10000000, '-M virt ',
                     '-M virt' + machines.WINDOW),
}


class Setup(NamedTuple):
    """One machine to look at."""
    name: str
    arch: str
    kernel: str
    iommufd: bool
    devices: int
    cxl: bool           # the machine has all for CXL

    def plain(self) -> range:
        """Those of the devices that are not to be CXL devices."""
        return range(1 if self.kernel == 'none' else 2, self.devices + 1)

    def options(self, ours: bool) -> str:
        place = PLACES[self.arch]
        text = place.cxl + BESIDE if self.cxl else place.options
        text += '-object iommufd,id=fd0 ' if self.iommufd else ''
        backend = ',iommufd=fd0 ' if self.iommufd else ' '
        if self.kernel != 'none':
            text += f'-device vfio-pci,host={CXL},bus=rp0' + backend
        for number in self.plain():
            text += (f'-device vfio-pci,host={HOST.format(number)},bus=pcie.0,'
                     f'addr={SLOT + number - 1:#x}'
                     + (',x-cxl=off' if ours else '') + backend)
        return machines.COMMON[self.arch] + text


def setups() -> Iterator[Setup]:
    # One device with v5: another would be no plain one, as x-cxl=off hides
    # the registers that a guest without CXL finds in it
    for arch, iommufd, (devices, kernel, cxl) in itertools.product(
            PLACES, (False, True),
            ((1, 'none', False), (2, 'none', False), (2, 'none', True),
             (1, 'v2', True), (2, 'v2', True), (1, 'v5', True))):
        name = '/'.join(['maps', PLACES[arch].options.split()[1],
                         'iommufd' if iommufd else 'legacy',
                         f'{kernel}{"-cxl-machine" if cxl else ""}',
                         f'{devices}-devices'])
        yield Setup(name, arch, kernel, iommufd, devices, cxl)


def ask(channel: Path, command: str):
    """Send a command to vfio-sim's control channel."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(machines.LIMIT)
        client.connect(str(channel))
        client.sendall(command.encode() + b'\n')
        with client.makefile('r', encoding='utf-8') as replies:
            reply = json.loads(replies.readline())
    if 'return' not in reply:
        raise Failure(f'vfio-sim, {command}: {reply}')
    return reply['return']


def maps(where: Path) -> List[dict]:
    """All maps, sorted, as the order in which QEMU makes them is undefined."""
    return sorted(ask(where / 'sim/control', 'maps'),
                  key=lambda one: (one['space'], one['iova']))


def read32(machine: machines.Machine, address: int) -> int:
    return int(machine.do(f'readl {address}\n')[1], 0)


def place_bars(machine: machines.Machine, config: int, at: int,
               command: int) -> int:
    """Give each BAR an address from one on; returns the next address."""
    machine.do(f'writew {config + COMMAND} 0\n')
    bar = 0
    while bar < 6:
        register = config + BARS + 4 * bar
        machine.do(f'writel {register} 0xffffffff\n')
        kind = read32(machine, register) & 7
        if read32(machine, register) and not kind & 1:
            machine.do(f'writel {register} {at}\n')
            at += STRIDE
        if kind == 4:
            machine.do(f'writel {register + 4} 0\n')
        bar += 2 if kind == 4 else 1
    machine.do(f'writew {config + COMMAND} {command}\n')
    return at


def open_port(machine: machines.Machine, ecam: int, at: int) -> None:
    """Let the CXL root port lead to the device behind it."""
    port = ecam + (BRIDGE_BUS << 20)
    buses = BRIDGE_BUS | PORT_BUS << 8 | PORT_BUS << 16
    window = at >> 16 | (at + 2 * ROOM - 1) & 0xfff00000
    machine.do(f'writel {port + BUSES} {buses}\n'
               f'writel {port + WINDOW} {window}\n'
               f'writel {port + WINDOW + 4} 0xfff0\n'
               f'writew {port + COMMAND} {MEMORY | MASTER}\n')


def stages(machine: machines.Machine, setup: Setup, where: Path) -> Stages:
    """Mappings while BARs appear, move and disappear."""
    ecam, mmio = PLACES[setup.arch][:2]
    root = [SLOT + number - 1 for number in setup.plain()]
    if setup.cxl:
        root.append(VGA)
        open_port(machine, ecam, mmio + 4 * ROOM)
    found = {'at start': maps(where)}
    for name, moved, command in (('BARs on', 0, MEMORY | MASTER),
                                 ('BARs moved', ROOM, MEMORY | MASTER),
                                 ('BARs off', 0, MASTER)):
        at = mmio + moved
        for slot in root:
            at = place_bars(machine, ecam + (slot << 15), at, command)
        if setup.kernel != 'none':
            place_bars(machine, ecam + (PORT_BUS << 20),
                       mmio + 4 * ROOM + moved, command)
        found[name] = maps(where)
    return found


def look(obj: Path, setup: Setup, ours: bool) -> Stages:
    """All stages of a machine of one build."""
    with tempfile.TemporaryDirectory() as holder:
        where = Path(holder)
        (where / 'firmware').write_bytes(bytes(4096))
        subprocess.run([str(SIM), f'--kernel={setup.kernel}',
                        f'--devices={setup.devices}', '--prepare',
                        str(where / 'sim')], env=environment(), check=True,
                       stdin=subprocess.DEVNULL, timeout=machines.LIMIT)
        options = setup.options(ours).format(firmware=where / 'firmware')
        machine = machines.start(obj, setup.arch, options, where, {
            'LD_PRELOAD': sim.library(),
            'VFIO_SIM_DIR': str(where / 'sim')})
        try:
            return stages(machine, setup, where)
        finally:
            machine.end()


def compared(found: Stages, setup: Setup) -> Stages:
    """Without the mappings of a CXL device itself."""
    if setup.kernel == 'none':
        return found
    return {stage: [one for one in mapped if one.get('host') != CXL]
            for stage, mapped in found.items()}


def lacking(found: Stages, setup: Setup) -> str:
    """'' if the pristine QEMU makes the mappings to be compared."""
    mmio = PLACES[setup.arch].mmio
    for stage, mapped in compared(found, setup).items():
        on = stage in ('BARs on', 'BARs moved')
        ram = [one['iova'] for one in mapped if one['kind'] == 'ram']
        emulated = [iova for iova in ram if mmio <= iova < mmio + 4 * ROOM]
        bars = len({one['host'] for one in mapped if one['kind'] == 'bar'})
        # iommufd cannot map BARs by address, and needs a kernel with dma-bufs
        able = on and (not setup.iommufd or setup.kernel != 'v2')
        if bars != (len(setup.plain()) if able else 0):
            return f'{stage}: BARs of {bars} devices are mapped'
        if len(emulated) == len(ram):
            return f'{stage}: no RAM is mapped'
        if bool(emulated) != (on and setup.cxl):
            return f'{stage}: BARs of emulated devices: {emulated}'
    return ''


def has_memory(found: Stages, setup: Setup) -> bool:
    """Check that a CXL device's memory is mapped if that is possible."""
    able = setup.kernel == 'v5' or (setup.kernel == 'v2' and
                                    not setup.iommufd)
    return able == any(one['kind'] == 'memory' for one in found['BARs on'])


def differences(before: Stages, after: Stages) -> str:
    """'' if all is equal, else the first map of each stage that is not."""
    found = []
    for stage, was in before.items():
        for old, new in itertools.zip_longest(was, after[stage]):
            if old != new:
                found.append(f'{stage}: pristine {old}, ours {new}')
                break
    return '; '.join(found)


def compare_one(pristine: Path, ours: Path, setup: Setup) -> tap.Case:
    try:
        before = look(pristine, setup, False)
        after = look(ours, setup, True)
        remark = (lacking(before, setup) or
                  differences(compared(before, setup), compared(after, setup)))
        if not remark and not has_memory(after, setup):
            remark = 'ours: CXL memory is mapped unexpectedly, or is missing'
    except (Failure, OSError, subprocess.SubprocessError) as err:
        remark = str(err)
    return tap.Case('not ok' if remark else 'ok', f'machines/{setup.name}',
                    remark)


def compare(pristine: Path, ours: Path) -> List[tap.Case]:
    """One case for each machine: VFIO must map the same in both."""
    wanted = list(setups())
    say(f'comparing DMA maps of {len(wanted)} machines')
    with concurrent.futures.ThreadPoolExecutor(int(jobs())) as pool:
        return list(pool.map(lambda one: compare_one(pristine, ours, one),
                             wanted))
