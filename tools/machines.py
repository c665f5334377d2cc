# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's view of machines without passthrough, on two builds.

Memory map, ACPI tables and everything else that is passed to guest firmware
are compared byte by byte. No guest runs: QEMU is driven by its test protocol.
"""

import concurrent.futures
import json
import re
import shlex
import socket
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Dict, List, NamedTuple

import tap
from common import Failure, environment, jobs, say

LIMIT = 60
DIRECTORY = 0x19            # fw_cfg's key of the list of files
READ, SELECT = 0x02, 0x08   # fw_cfg's commands for DMA

TYPE3 = ('-device pxb-cxl,id=cxl.1,bus=pcie.0,bus_nr=12 '
         '-device cxl-rp,id=rp0,bus=cxl.1,chassis=0,slot=0,port=0 '
         '-object memory-backend-ram,id=mem0,size=256M '
         '-device cxl-type3,id=type3,bus=rp0,volatile-memdev=mem0 ')
SWITCH = ('-device pxb-cxl,id=cxl.1,bus=pcie.0,bus_nr=12 '
          '-device pxb-cxl,id=cxl.2,bus=pcie.0,bus_nr=24 '
          '-device cxl-rp,id=rp0,bus=cxl.1,chassis=0,slot=0,port=0 '
          '-device cxl-rp,id=rp1,bus=cxl.1,chassis=0,slot=1,port=1,addr=1 '
          '-device cxl-rp,id=rp2,bus=cxl.2,chassis=0,slot=2,port=0 '
          '-device cxl-upstream,id=us0,bus=rp1 '
          '-device cxl-downstream,id=ds0,bus=us0,chassis=0,slot=3,port=0 '
          '-object memory-backend-ram,id=mem0,size=256M '
          '-device cxl-type3,id=type3,bus=ds0,volatile-memdev=mem0 '
          '-device virtio-net-pci,bus=rp2 ')
WINDOW = ',cxl=on,cxl-fmw.0.targets.0=cxl.1,cxl-fmw.0.size=4G '
WINDOWS = (',cxl=on,cxl-fmw.0.targets.0=cxl.1,cxl-fmw.0.targets.1=cxl.2,'
           'cxl-fmw.0.size=4G,cxl-fmw.1.targets.0=cxl.2,cxl-fmw.1.size=3840M ')
HOTPLUG = '-m 512M,slots=2,maxmem=4G '
NODES = ('-object memory-backend-ram,id=ram0,size=512M '
         '-numa node,nodeid=0,memdev=ram0 -numa node,nodeid=1 '
         '-object acpi-generic-port,id=gp0,pci-bus=cxl.1,node=1 ')

# Beside each version of a machine, plain and with a type 3 device.
MORE = {
    'x86_64': {
        'pc': '-M pc',
        'q35/cxl-without-bridge': '-M q35,cxl=on',
        'q35/switch': '-M q35' + WINDOWS + SWITCH,
        'q35/hotplug': '-M q35' + WINDOWS + SWITCH + HOTPLUG,
        'q35/large-windows': '-M q35,cxl=on,cxl-fmw.0.targets.0=cxl.1,'
                             'cxl-fmw.0.size=512G -cpu max,phys-bits=46 '
                             + TYPE3,
        'q35/numa': '-M q35' + WINDOW + TYPE3 + NODES,
        'q35/pxb-pcie': '-M q35,cxl=on -device pxb-pcie,id=pxb,bus_nr=12,'
                        'bus=pcie.0 -device pcie-root-port,bus=pxb,id=rp0',
    },
    'aarch64': {
        'virt/cxl-without-bridge': '-M virt,cxl=on',
        'virt/switch': '-M virt' + WINDOWS + SWITCH,
        'virt/hotplug': '-M virt' + WINDOWS + SWITCH + HOTPLUG,
        'virt/large-windows': '-M virt,cxl=on,cxl-fmw.0.targets.0=cxl.1,'
                              'cxl-fmw.0.size=2T ' + TYPE3,
        'virt/numa': '-M virt' + WINDOW + TYPE3 + NODES,
        'virt/smmuv3': '-M virt,iommu=smmuv3' + WINDOW + TYPE3,
        'virt/smmuv3-devices': '-M virt' + WINDOW + TYPE3 +
                               '-device pxb-pcie,id=pxb,bus_nr=24,bus=pcie.0 '
                               '-device arm-smmuv3,primary-bus=pcie.0 '
                               '-device arm-smmuv3,primary-bus=pxb',
        'virt/no-high-regions': '-M virt,highmem-ecam=off,highmem-mmio=off'
                                + WINDOW + TYPE3,
        'virt/no-highmem': '-M virt,highmem=off',
        'virt/no-redistributors': '-M virt,highmem-redists=off,cxl=on',
        'virt/a53': '-M virt,cxl=on -cpu cortex-a53 ' + TYPE3,
    },
}
VERSIONED = {'x86_64': r'\b(pc-q35-\d+\.\d+)\b',
             'aarch64': r'\b(virt-\d+\.\d+)\b'}
COMMON = {'x86_64': '-cpu max -m 512M ',
          'aarch64': '-cpu max -m 512M -bios {firmware} '
                     '-M dtb-randomness=off '}


class Access(NamedTuple):
    """How fw_cfg is reached."""
    ram: int            # an unused place in RAM
    commands: str       # start a transfer whose command is there
    prepare: str = ''   # what firmware does before it reads the tables


ACCESS = {
    'x86_64': Access(0x1000000, 'outl 0x514 0\noutl 0x518 {ram32}\n',
                     'outl 0xcf8 0x80000060\noutl 0xcfc 0xb0000001\n'),
    'aarch64': Access(0x41000000, 'writeq 0x9020010 {ram64}\n'),
}


class Machine:
    """A QEMU that runs no guest."""

    def __init__(self, obj: Path, arch: str, options: str, where: Path,
                 more: Dict[str, str]):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(where / 'qtest'))
        listener.listen(1)
        listener.settimeout(LIMIT)
        self.access = ACCESS[arch]
        with open(where / 'log', 'w', encoding='utf-8') as log:
            self.process = subprocess.Popen(
                [str(obj / f'qemu-system-{arch}'), '-display', 'none',
                 '-nodefaults', '-accel', 'qtest', '-qmp', 'stdio',
                 '-qtest', f'unix:{where / "qtest"}', *shlex.split(options)],
                cwd=obj, env={**environment(), **more}, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, universal_newlines=True)
        try:
            self.qtest, _ = listener.accept()
            self.qtest.settimeout(LIMIT)
            self.replies = self.qtest.makefile('r', encoding='ascii')
            self.qmp('qmp_capabilities')
            if self.access.prepare:
                self.do(self.access.prepare)
        except BaseException:
            self.end()
            raise
        finally:
            listener.close()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def qmp(self, command: str, **arguments):
        self.process.stdin.write(json.dumps({'execute': command,
                                             'arguments': arguments}))
        self.process.stdin.flush()
        for line in self.process.stdout:
            reply = json.loads(line)
            if 'error' in reply:
                raise Failure(reply['error']['desc'])
            if 'return' in reply:
                return reply['return']
        raise Failure('QEMU has exited')

    def do(self, commands: str) -> List[str]:
        self.qtest.sendall(commands.encode('ascii'))
        replies = [self.replies.readline().split()
                   for _ in commands.splitlines()]
        if any(not reply or reply[0] != 'OK' for reply in replies):
            raise Failure(f'QEMU does not accept {commands!r}')
        return replies[-1]

    def read_key(self, key: int, size: int) -> bytes:
        if not size:
            return b''
        ram, data = self.access.ram, self.access.ram + 0x1000
        command = struct.pack('>IIQ', key << 16 | SELECT | READ, size, data)
        self.do(f'write {ram} {len(command)} 0x{command.hex()}\n')
        self.do(self.access.commands.format(
            ram32=int.from_bytes(struct.pack('>I', ram), 'little'),
            ram64=int.from_bytes(struct.pack('>Q', ram), 'little')))
        return bytes.fromhex(self.do(f'read {data} {size}\n')[1][2:])

    def files(self) -> Dict[str, bytes]:
        """All of fw_cfg's files."""
        count, = struct.unpack('>I', self.read_key(DIRECTORY, 4))
        listing = self.read_key(DIRECTORY, 4 + 64 * count)[4:]
        found = {}
        for entry in range(count):
            size, key, _, name = struct.unpack_from('>IHH56s', listing,
                                                    64 * entry)
            found[name.rstrip(b'\0').decode()] = self.read_key(key, size)
        return found


def start(obj: Path, arch: str, options: str, where: Path,
          more: Dict[str, str]) -> Machine:
    """A machine, or a Failure with QEMU's output; more is of environment."""
    try:
        return Machine(obj, arch, options, where, more)
    except (OSError, Failure) as err:
        said = (where / 'log').read_text(errors='replace').strip()
        raise Failure(f'{err}: {said}' if said else str(err)) from err


def tables(blob: bytes) -> Dict[str, bytes]:
    """ACPI tables by signature."""
    found: Dict[str, bytes] = {}
    at = 0
    while at + 8 <= len(blob):
        size, = struct.unpack_from('<I', blob, at + 4)
        if not size:
            break
        name = f'table {blob[at:at + 4].decode("ascii", "replace")}'
        while name in found:
            name += "'"
        found[name] = blob[at:at + size]
        at += size
    return found


def memory_map(text: str) -> bytes:
    """Flat views, in an order that is not that of QEMU's hash tables."""
    views = []
    for view in re.split(r'FlatView #\d+', text.replace('\r', '')):
        lines = [line for line in view.split('\n') if line]
        spaces = [line for line in lines if line.startswith(' AS ')]
        views.append('\n'.join(sorted(spaces) + [line for line in lines
                                                 if line not in spaces]))
    return '\n\n'.join(sorted(views)).strip().encode()


def look(obj: Path, arch: str, options: str) -> Dict[str, bytes]:
    """Everything that is compared, by name."""
    with tempfile.TemporaryDirectory() as holder:
        where = Path(holder)
        (where / 'firmware').write_bytes(bytes(4096))
        options = (COMMON[arch] + options).format(firmware=where / 'firmware')
        machine = start(obj, arch, options, where, {})
        try:
            found = machine.files()
            found.update(tables(found['etc/acpi/tables']))
            found['memory map'] = memory_map(machine.qmp(
                'human-monitor-command', **{'command-line': 'info mtree -f'}))
            if arch == 'aarch64':
                machine.qmp('dumpdtb', filename=str(where / 'dtb'))
                found['device tree'] = (where / 'dtb').read_bytes()
        except KeyError as err:
            raise Failure('no ACPI tables') from err
        finally:
            machine.end()
    return found


def differences(before: Dict[str, bytes], after: Dict[str, bytes]) -> str:
    """'' if all is equal, else what is not and where it begins."""
    found = []
    for name in sorted({**before, **after}):
        was, now = before.get(name), after.get(name)
        if was is None or now is None:
            found.append(f'{name}: {"new" if was is None else "gone"}')
        elif was != now:
            at = next((n for n, (a, b) in enumerate(zip(was, now)) if a != b),
                      min(len(was), len(now)))
            found.append(f'{name}: differs at byte {at}')
    return ', '.join(found)


def versions(obj: Path, arch: str) -> List[str]:
    said = subprocess.run([str(obj / f'qemu-system-{arch}'), '-M', 'help'],
                          cwd=obj, stdout=subprocess.PIPE, check=True,
                          universal_newlines=True).stdout
    return sorted(set(re.findall(VERSIONED[arch], said)))


def configurations(obj: Path) -> List[tuple]:
    """(name, architecture, options) of each machine to look at."""
    found = []
    for arch, more in MORE.items():
        for version in versions(obj, arch):
            found.append((f'{version}/plain', arch, f'-M {version}'))
            found.append((f'{version}/type3', arch,
                          f'-M {version}' + WINDOW + TYPE3))
        found += [(name, arch, options) for name, options in more.items()]
    return found


def compare_one(pristine: Path, ours: Path, name: str, arch: str,
                options: str) -> tap.Case:
    try:
        remark = differences(look(pristine, arch, options),
                             look(ours, arch, options))
    except Failure as err:
        remark = str(err)
    return tap.Case('not ok' if remark else 'ok', f'machines/{name}', remark)


def compare(pristine: Path, ours: Path) -> List[tap.Case]:
    """One case for each machine: a guest must find the same in both."""
    wanted = configurations(pristine)
    if not wanted:
        raise Failure('no machine to compare')
    say(f'comparing {len(wanted)} machines without passthrough')
    with concurrent.futures.ThreadPoolExecutor(int(jobs())) as pool:
        return list(pool.map(lambda one: compare_one(pristine, ours, *one),
                             wanted))
