#!/usr/bin/env python3
# A real libvirtd that starts guests with a passed-through CXL device.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Define, start, reboot and shut down domains that vfio-cxl-host.py made."""

import argparse
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, TextIO

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path.insert(0, str(TOP / 'tests/guest'))

# pylint: disable=wrong-import-position
import run as guests  # noqa: E402
from boot import MEMORY, SIM, Backing, Harness, Result, parse  # noqa: E402
from boot import Case as GuestCase  # noqa: E402
from debian import GuestError, say  # noqa: E402
from image import Image  # noqa: E402
from machines import MACHINES  # noqa: E402
from session import (LibvirtError, Session, Version, installed,  # noqa: E402
                     newest, no_namespace, unpacked)

TOOL = TOP / 'scripts/vfio-cxl-host.py'
FIRMWARE = Path('/usr/share/AAVMF')
CODE = FIRMWARE / 'AAVMF_CODE.fd'

DOMAIN = '''<domain type='qemu'
    xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <uuid>c1c1c1c1-0000-4000-8000-0000000000c1</uuid>
  <memory unit='GiB'>1</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='{arch}' machine='{machine}'>hvm</type>{loader}
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>{cmdline}</cmdline>
  </os>
  <features><acpi/>{features}</features>
  {cpu}
  <devices>
    <emulator>{emulator}</emulator>
    <controller type='usb' model='none'/>
    <serial type='file'><source path='{serial}'/></serial>
    <memballoon model='none'/>
  </devices>
  <qemu:commandline>
    <qemu:env name='VFIO_SIM_DIR' value='{state}'/>
  </qemu:commandline>
</domain>'''

PARTS: Dict[str, Dict[str, str]] = {
    'q35': {'arch': 'x86_64', 'features': '<apic/>', 'cpu':
            "<cpu mode='maximum'><feature policy='disable' "
            "name='hypervisor'/></cpu>"},
    'virt': {'arch': 'aarch64', 'features': "<gic version='3'/>", 'cpu':
             "<cpu mode='custom' match='exact'><model>neoverse-n1</model>"
             '</cpu>'},
}


# libvirt has elements for them since then
SMMU_VERSION = (12, 8)
# Two behind one SMMU, one behind another; this kernel exports their memory
SMMU_HOST = ['--iommu=smmuv3,smmus=2', '--kernel=v6']
SMMU_DEVICES = ['c1:00.0', 'c2:00.0', 'c3:00.0']
# Without a driver, the guest's program does DMA by physical addresses
SMMU_OPTIONS = 'cxlguest.actions=bar,hidden,lock,peek '


def without_kvm(text: str) -> str:
    """A domain with accelerated SMMUv3s, for QEMU's TCG."""
    for alias in sorted(set(re.findall(r'"(ua-smmu\d+)"', text)), reverse=True):
        text = text.replace('<qemu:override>', f'''<qemu:override>
    <qemu:device alias="{alias}"><qemu:frontend>
      <qemu:property name="x-accel-tcg" type="bool" value="true"/>
    </qemu:frontend></qemu:device>''')
    return text


class Machine:
    """Domains of one machine type under one libvirt."""

    def __init__(self, session: Session, machine: str, image: Image,
                 qemu: Path, devices: int = 1, more: str = '') -> None:
        self.session, self.machine = session, machine
        self.devices, self.more = devices, more
        self.image, self.qemu = image, qemu
        self.seed = secrets.token_hex(8)
        self.serial = session.place / f'{machine}.serial'

    def base(self, name: str) -> str:
        """A domain of the guest program, without the device."""
        spec = MACHINES[self.machine]
        loader = ''
        if self.machine == 'virt':
            loader = (f"<loader readonly='yes' type='pflash'>{CODE}</loader>"
                      f"<nvram template='{FIRMWARE}/AAVMF_VARS.fd'>"
                      f'{self.session.place}/nvram</nvram>')
        cmdline = (f'console={spec["console"]} panic=-1 quiet iomem=relaxed '
                   'cxlguest.mode=firmware cxlguest.driver=plain '
                   f'{self.more}cxlguest.args=--seed={self.seed},--lock=1')
        return DOMAIN.format(
            name=name, machine=self.machine, kernel=self.image.kernel,
            initrd=self.image.initramfs, cmdline=cmdline, loader=loader,
            emulator=self.qemu / spec['qemu'], serial=self.serial,
            state=self.session.state, **PARTS[self.machine])

    def define(self, name: str, *options: str) -> None:
        """Let the host tool add the device, and libvirt take the result."""
        done = subprocess.run(
            [sys.executable, str(TOOL), '--libvirt', '--domain', '-',
             '--machine', self.machine, '--accel', 'tcg', *options],
            env={**os.environ, **self.session.simulated,
                 'PYTHONDONTWRITEBYTECODE': '1'},
            input=self.base(name), text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, timeout=60, check=False)
        if done.returncode:
            raise LibvirtError(f'vfio-cxl-host.py:\n{done.stderr}')
        self.session.define(without_kvm(done.stdout))

    def native(self, name: str) -> str:
        """libvirt's command line, one option a line, without our paths."""
        text = self.session.virsh('domxml-to-native', 'qemu-argv', '--domain',
                                  name).stdout
        text = text[text.index(f'{self.qemu}/qemu-system'):]
        for place, word in ((str(self.session.place), 'PLACE'),
                            (str(self.qemu), 'BUILD'),
                            (str(self.image.kernel), 'KERNEL'),
                            (str(self.image.initramfs), 'INITRD'),
                            # Some versions follow the link that it can be
                            (str(CODE.resolve()), str(CODE)),
                            (self.seed, 'SEED')):
            text = text.replace(place, word)
        return re.sub(r' (?=-[a-z])', '\n', text.strip()) + '\n'

    def wait_verdict(self, count: int) -> Result:
        """Wait for the guest's verdict number @count."""
        deadline = time.monotonic() + 150
        text = ''
        while time.monotonic() < deadline:
            if self.serial.exists():
                text = self.serial.read_text(errors='replace')
            if text.count('GUEST: verdict') >= count:
                break
            time.sleep(0.3)
        else:
            raise LibvirtError(f'no verdict number {count}; the last words:\n'
                               + text[-2000:])
        result = Result(GuestCase(self.machine), self.serial)
        parse('GUEST: boot'.join(['', *text.split('GUEST: boot')[count:]]),
              result)
        if not result.passed or not result.ok:
            raise LibvirtError(f'verdict {count}: {result.verdict}, failed: '
                               f'{result.failed}')
        return result

    def wait_off(self, name: str) -> str:
        """Wait until the domain is off; returns its state."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            state = self.session.state_of(name)
            if state.startswith('shut off'):
                return state
            time.sleep(0.3)
        raise LibvirtError(f'{name} does not shut off')


class Check:
    """Test points, as TAP."""

    def __init__(self, tap: Optional[TextIO], update: bool) -> None:
        self.tap, self.update = tap, update
        self.points = self.failures = 0

    def emit(self, text: str) -> None:
        """One line."""
        print(text, flush=True)
        if self.tap:
            self.tap.write(text + '\n')
            self.tap.flush()

    def point(self, name: str, step: Callable[[], Optional[str]]) -> bool:
        """One step; it returns a reason for skipping, or raises."""
        self.points += 1
        skip, trouble = None, ''
        try:
            skip = step()
        except (LibvirtError, subprocess.SubprocessError) as err:
            trouble = str(err)
        self.failures += bool(trouble)
        self.emit(f'{"not ok" if trouble else "ok"} {self.points} - libvirt/'
                  + name + (f' # SKIP {skip}' if skip else ''))
        for line in trouble.splitlines():
            self.emit(f'# {line}')
        return not trouble

    def compare(self, machine: Machine, name: str) -> Optional[str]:
        """libvirt's command line is the one that we expect."""
        number = machine.session.version.number
        path = HERE / f'expected/{name}-{number}.args'
        found = machine.native('cxl')
        if self.update:
            path.write_text(found, encoding='utf-8')
        if not path.exists():
            return f'there is no expected result for libvirt {number}'
        expected = path.read_text(encoding='utf-8')
        if found != expected:
            left, right = expected.splitlines(), found.splitlines()
            raise LibvirtError('expected, not found:\n  ' + '\n  '.join(
                line for line in left if line not in right)
                + '\nfound, not expected:\n  ' + '\n  '.join(
                    line for line in right if line not in left))
        return None

    def life(self, machine: Machine, label: str) -> None:
        """Start, reboot, shut down, and what the host sees afterwards."""
        virsh = machine.session.virsh

        def start() -> None:
            virsh('start', 'cxl')
            # The guest powers off by itself, which is then a reboot
            virsh('reboot', 'cxl')
            machine.wait_verdict(1)

        def reboot() -> None:
            before = virsh('domid', 'cxl').stdout
            machine.wait_verdict(2)
            if virsh('domid', 'cxl').stdout not in (before, '-\n'):
                raise LibvirtError('libvirt started another QEMU')

        def shutdown() -> None:
            state = machine.wait_off('cxl')
            if state != 'shut off (shutdown)':
                raise LibvirtError(f'the domain is {state}')

        def contents() -> None:
            result = Result(GuestCase(machine.machine), machine.serial)
            Harness.look_into(Backing(machine.session.place / 'memory',
                                      machine.devices), machine.seed, result)
            if result.problems:
                raise LibvirtError('; '.join(result.problems))

        if self.point(f'{label}/start', start) and \
                self.point(f'{label}/reboot', reboot):
            self.point(f'{label}/shutdown', shutdown)
        virsh('destroy', 'cxl', check=False)
        self.point(f'{label}/contents', contents)

    def paused(self, machine: Machine, label: str, *options: str) -> None:
        """A domain that is only started, and ended at once."""
        virsh = machine.session.virsh

        def start() -> None:
            machine.define('cxl-other', *options)
            virsh('start', '--paused', 'cxl-other')
            state = machine.session.state_of('cxl-other')
            virsh('destroy', 'cxl-other')
            virsh('undefine', '--nvram', 'cxl-other')
            if not state.startswith('paused'):
                raise LibvirtError(f'the domain is {state}')

        self.point(label, start)

    def version(self, version: Version, name: str, image: Image, qemu: Path,
                logs: Path) -> None:
        """All of one machine under one version."""
        label = f'{version.number}/{name}'
        log = logs / f'libvirtd-{label.replace("/", "-")}.log'
        options = ['--devices=4', f'--memory={MEMORY >> 20}M']
        if name == 'virt':
            options.append('--iova=arm')
        session = Session(version, SIM, options, log)
        link_memory(session, 1)
        with session:
            machine = Machine(session, name, image, qemu)
            if not self.point(f'{label}/define',
                              lambda: machine.define('cxl', 'c1:00.0')):
                return
            self.point(f'{label}/native', lambda: self.compare(machine, name))
            self.life(machine, label)
            session.virsh('undefine', '--nvram', 'cxl', check=False)
            self.paused(machine, f'{label}/four', 'c1:00.0', 'c2:00.0',
                        'c3:00.0', 'c4:00.0')
            self.paused(machine, f'{label}/iommufd', '--iommufd', 'c1:00.0')
            self.show(log)

    def smmus(self, version: Version, image: Image, qemu: Path,
              logs: Path) -> None:
        """A host with SMMUv3s, and a guest that has some of its own."""
        label = f'{version.number}/virt-smmuv3'
        if not version.at_least(*SMMU_VERSION):
            self.point(label, lambda: 'this libvirt has no elements for them')
            return
        log = logs / f'libvirtd-{label.replace("/", "-")}.log'
        session = Session(version, SIM, ['--devices=4', *SMMU_HOST,
                                         f'--memory={MEMORY >> 20}M'], log)
        link_memory(session, len(SMMU_DEVICES))
        with session:
            machine = Machine(session, 'virt', image, qemu, len(SMMU_DEVICES),
                              SMMU_OPTIONS)
            options = ['--smmuv3=on', *SMMU_DEVICES]
            if self.point(f'{label}/define',
                          lambda: machine.define('cxl', *options)):
                self.point(f'{label}/native',
                           lambda: self.compare(machine, 'virt-smmuv3'))
                self.life(machine, label)
            self.show(log)

    def show(self, log: Path) -> None:
        """libvirtd's last words, if anything has failed."""
        if self.failures:
            for words in log.read_text(errors='replace').splitlines()[-15:]:
                self.emit(f'#   {words}')


def link_memory(session: Session, devices: int) -> None:
    """The memory of each device where Backing looks for it."""
    for n in range(devices):
        (session.place / (f'memory.{n}' if n else 'memory')).symlink_to(
            session.state / f'0000:{0xc1 + n:02x}:00.0/memory')


def versions(build: Path, only: List[str], check: Check) -> List[Version]:
    """Those that can be had here."""
    found = [installed()]
    for other in (unpacked, newest):
        try:
            found.append(other(build))
        except GuestError as err:
            reason = str(err).splitlines()[0]
            check.point('another version', lambda said=reason: said)
    return [v for v in found if v and (not only or v.number in only)]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--tap', type=Path, metavar='FILE',
                        help='write TAP there too')
    parser.add_argument('--version', action='append', metavar='N',
                        help='only this version of libvirt, such as 9.0')
    parser.add_argument('--machine', action='append', choices=list(PARTS),
                        help='only this machine')
    parser.add_argument('--update', action='store_true',
                        help="make what libvirt's command lines are the "
                        'expected ones')
    args = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))

    qemu = Path(os.environ.get('QEMU_BUILD') or TOP / 'build/qemu/obj')
    build = TOP / 'build/libvirt'
    build.mkdir(parents=True, exist_ok=True)
    images = guests.prepare(
        Path(os.environ.get('GUEST_BUILD') or TOP / 'build/guest').resolve(),
        args.machine or list(PARTS), False)
    tap = args.tap.open('w', encoding='utf-8') if args.tap else None
    check = Check(tap, args.update)
    refused = no_namespace()
    found = [] if refused else versions(build, args.version or [], check)
    if refused:
        check.point('libvirtd', lambda: refused)
    elif not found:
        check.point('libvirtd', lambda: 'libvirtd and virsh are not installed')
    for version in found:
        for name in args.machine or PARTS:
            image = images[MACHINES[name]['arch']]
            check.version(version, name, image, qemu.resolve(), build / 'logs')
            if name == 'virt':
                check.smmus(version, image, qemu.resolve(), build / 'logs')
    check.emit(f'1..{check.points}')
    say(f'{check.points - check.failures} passed, {check.failures} failed')
    return int(check.failures > 0)


if __name__ == '__main__':
    try:
        sys.exit(main())
    except (GuestError, LibvirtError) as error:
        print(f'libvirt: {error}', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
