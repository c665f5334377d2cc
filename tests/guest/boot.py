# Boots one guest and reads its verdicts.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Run a guest with a simulated device, within a time limit."""

import os
import re
import secrets
import selectors
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from debian import GuestError
from image import Image

HOST_ADDRESS = '0000:c1:00.0'
MEMORY = 256 << 20
TOKEN_AT = 4096
MISSING_EFI = ('the UEFI firmware for arm is missing: install the package '
               'qemu-efi-aarch64')

MACHINES: Dict[str, Dict[str, str]] = {
    'q35': {'arch': 'amd64', 'qemu': 'qemu-system-x86_64',
            'machine': 'q35', 'console': 'ttyS0',
            # Linux refuses to flush caches for CXL under a hypervisor bit
            'cpu': 'max,-hypervisor'},
    'virt': {'arch': 'arm64', 'qemu': 'qemu-system-aarch64',
             'machine': 'virt,gic-version=3', 'console': 'ttyAMA0',
             'cpu': 'neoverse-n1'},
}
FIRMWARE_DIRS = ('/usr/share/seabios', '/usr/share/qemu',
                 '/usr/lib/ipxe/qemu')
EFI = ('/usr/share/qemu-efi-aarch64/QEMU_EFI.fd',
       '/usr/share/AAVMF/AAVMF_CODE.fd')


@dataclass
class Case:
    """One guest: what it runs on, and what it is asked to do."""
    machine: str
    mode: str = 'firmware'
    backend: str = 'legacy'
    driver: str = 'cxl'
    smp: int = 1
    topology: str = 'A'
    # The kernel generation that vfio-sim stands in for
    kernel: str = 'v2-reset'
    # Give the host bridge a decoder of its own. Linux 7.3 finds committed
    # regions only where it has one, even with a single root port.
    bridge: bool = False

    @property
    def name(self) -> str:
        """A short name, for a test and for its log file."""
        name = '-'.join((self.machine, self.mode, self.backend, self.driver))
        return name if self.kernel == 'v2-reset' else f'{name}-{self.kernel}'


@dataclass
class Result:
    """What a guest said, and what the host saw."""
    case: Case
    log: Path
    seconds: float = 0.0
    problems: List[str] = field(default_factory=list)
    ok: Dict[str, str] = field(default_factory=dict)
    skipped: Dict[str, str] = field(default_factory=dict)
    failed: Dict[str, str] = field(default_factory=dict)
    infos: List[Dict[str, str]] = field(default_factory=list)
    blocks: Dict[str, List[str]] = field(default_factory=dict)
    boot: Dict[str, str] = field(default_factory=dict)
    verdict: str = ''
    host: str = 'not reached'

    @property
    def passed(self) -> bool:
        """All verdicts, the guest's and the host's."""
        return self.verdict == 'PASS' and not self.problems \
            and not self.failed

    def value(self, check: str, key: str) -> str:
        """A value that a passed check reported."""
        return pairs(self.ok.get(check, '')).get(key, '?')


def pairs(text: str) -> Dict[str, str]:
    """The key=value words of a line."""
    return dict(word.split('=', 1) for word in text.split() if '=' in word)


def parse(text: str, result: Result) -> None:
    """Read the guest's lines into a result."""
    block: Optional[List[str]] = None
    for line in text.splitlines():
        line = line.rstrip('\r')
        at = line.find('GUEST: ')
        if at < 0:
            if block is not None:
                block.append(line)
            continue
        words = line[at + 7:].split(' ', 2)
        word, name = words[0], words[1] if len(words) > 1 else ''
        rest = words[2] if len(words) > 2 else ''
        if word in ('ok', 'fail', 'skip'):
            {'ok': result.ok, 'fail': result.failed,
             'skip': result.skipped}[word][name] = rest
        elif word == 'begin':
            block = result.blocks.setdefault(name, [])
        elif word == 'end':
            block = None
        elif word == 'boot':
            result.boot = pairs(name + ' ' + rest)
        elif word == 'verdict':
            result.verdict = name
        elif word == 'info':
            result.infos.append(pairs(name + ' ' + rest))


class Harness:
    """Where things are, and how guests are run."""

    def __init__(self, qemu: Path, build: Path, images: Dict[str, Image],
                 accel: str, limit: float) -> None:
        self.qemu = qemu.resolve()
        self.build = build
        self.images = images
        self.accel = accel
        self.limit = limit
        self.sim = self.qemu / 'tests/vfio-sim/vfio-sim'

    def check_tools(self, machines: List[str]) -> None:
        """Say now what would fail later."""
        for name in machines:
            binary = self.qemu / MACHINES[name]['qemu']
            if not os.access(binary, os.X_OK):
                raise GuestError(f"{binary} is not there: say 'make build' "
                                 'first, or set QEMU_BUILD.')
        if not os.access(self.sim, os.X_OK):
            raise GuestError(f"{self.sim} is not there: say 'make build' "
                             'first.')

    def base(self, machine: str, accel: str, smp: int,
             append: str) -> List[str]:
        """A QEMU command line without devices."""
        spec = MACHINES[machine]
        image = self.images[spec['arch']]
        command = [str(self.qemu / spec['qemu']), '-nodefaults',
                   '-display', 'none', '-no-reboot', '-serial', 'stdio',
                   '-accel', accel,
                   '-cpu', 'host' if accel == 'kvm' else spec['cpu'],
                   '-smp', str(smp), '-m', '1G']
        for path in FIRMWARE_DIRS:
            if os.path.isdir(path):
                command += ['-L', path]
        if machine == 'virt':
            efi = next((p for p in EFI if os.path.exists(p)), None)
            if efi is None:
                raise GuestError(MISSING_EFI)
            command += ['-bios', efi]
        return command + [
            '-kernel', str(image.kernel), '-initrd', str(image.initramfs),
            '-append', f'console={spec["console"]} panic=-1 quiet '
                       # our program maps what drivers have claimed
                       f'iomem=relaxed {append}']

    def accel_for(self, machine: str) -> str:
        """KVM runs guests of the machine's own architecture only."""
        if self.accel == 'kvm' and os.uname().machine != {
                'q35': 'x86_64', 'virt': 'aarch64'}[machine]:
            return 'tcg'
        return self.accel

    def try_accel(self, machine: str) -> None:
        """Boot a kernel with the accelerator that was asked for."""
        accel = self.accel_for(machine)
        if accel == 'tcg':
            return
        command = self.base(machine, accel, 1, 'cxlguest.mode=probe') + \
            ['-machine', MACHINES[machine]['machine']]
        text, _, why = self._run(command, self._log(f'probe-{accel}'), 60,
                                 dict(os.environ))
        if 'GUEST: verdict PASS' not in text:
            tail = '\n'.join(text.splitlines()[-8:])
            raise GuestError(
                f'a trial boot of {machine} with {accel} did not reach user '
                f'space ({why or "QEMU ended"}). Leave ACCEL unset to use '
                f'tcg. Its last words:\n{tail}')

    def _log(self, name: str) -> Path:
        logs = self.build / 'logs'
        logs.mkdir(parents=True, exist_ok=True)
        return logs / f'{name}.log'

    @staticmethod
    def _run(command: List[str], log: Path, limit: float,
             env: Dict[str, str]) -> Tuple[str, float, str]:
        """Run, with output to a log; text, seconds, what went wrong."""
        start = time.monotonic()
        why = ''
        data = bytearray()
        with log.open('wb') as out, subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, env=env,
                start_new_session=True) as proc:
            out.write((' '.join(command) + '\n').encode())
            assert proc.stdout is not None
            try:
                os.set_blocking(proc.stdout.fileno(), False)
                with selectors.DefaultSelector() as sel:
                    sel.register(proc.stdout, selectors.EVENT_READ)
                    while True:
                        left = start + limit - time.monotonic()
                        if left <= 0:
                            why = f'stopped after {limit:.0f} s'
                            break
                        if not sel.select(left):
                            continue
                        chunk = proc.stdout.read(65536)
                        if not chunk:
                            break
                        data += chunk
                        out.write(chunk)
                        out.flush()
                if not why:
                    status = proc.wait(max(1, start + limit
                                           - time.monotonic()))
                    if status:
                        why = f'exit status {status}'
            except subprocess.TimeoutExpired:
                why = f'did not end within {limit:.0f} s'
            finally:
                try:
                    os.killpg(proc.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        return (data.decode(errors='replace'), time.monotonic() - start, why)

    def run(self, case: Case) -> Result:
        """Boot one guest and judge it."""
        log = self._log(case.name)
        result = Result(case, log)
        state = self.build / 'state' / case.name
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True)
        memory = state / 'memory'
        token = secrets.token_bytes(32)
        seed = secrets.token_hex(8)
        with memory.open('wb') as file:
            file.truncate(MEMORY)
            file.seek(TOKEN_AT)
            file.write(token)

        # The reset of a v5 kernel clears what the host wrote
        found = bytes(len(token)) if case.kernel == 'v5' else token
        args = [f'--token={found.hex()}', f'--seed={seed}']
        if case.mode == 'firmware':
            # vfio-sim's host firmware locks what it commits
            args.append('--lock=1')
        if case.bridge and case.mode == 'guest':
            args.append('--bridge')
        if case.backend == 'iommufd' and case.kernel != 'v5':
            # Only v5 exports its memory, and no kernel pins it by address
            args.append('--no-peer')
        append = (f'cxlguest.mode={case.mode} cxlguest.driver={case.driver} '
                  f'cxlguest.args={",".join(args)}')
        accel = self.accel_for(case.machine)
        command = [str(self.sim), f'--memory={MEMORY >> 20}M',
                   f'--memory-file={memory}', f'--topology={case.topology}',
                   f'--kernel={case.kernel}',
                   '--']
        command += self.base(case.machine, accel, case.smp, append)
        command += ['-machine', MACHINES[case.machine]['machine'] +
                    ',cxl=on,cxl-fmw.0.targets.0=cxl.0,cxl-fmw.0.size=4G']
        command += ['-device', 'pxb-cxl,id=cxl.0,bus=pcie.0,bus_nr=12'
                    + (',hdm_for_passthrough=on' if case.bridge else ''),
                    '-device',
                    'cxl-rp,id=rp0,bus=cxl.0,chassis=0,slot=0,port=0']
        vfio = (f'vfio-pci,id=accel0,host={HOST_ADDRESS},bus=rp0,x-cxl=on,'
                f'x-cxl-commit={case.mode}')
        if case.backend == 'iommufd':
            command += ['-object', 'iommufd,id=iommufd0']
            vfio += ',iommufd=iommufd0'
        command += ['-device', vfio]

        text, result.seconds, why = self._run(command, log, self.limit,
                                              dict(os.environ))
        if why:
            result.problems.append(f'QEMU: {why}')
        parse(text, result)
        if not result.verdict:
            result.problems.append('the guest gave no verdict')
        else:
            self._look_into(memory, seed, result)
        if result.passed:
            shutil.rmtree(state, ignore_errors=True)
        return result

    @staticmethod
    def _look_into(memory: Path, seed: str, result: Result) -> None:
        """Find in the backing file what the guest wrote."""
        places = (0, 0x2ff0, MEMORY // 2 - 8, MEMORY - 64)
        wrong = []
        with memory.open('rb') as file:
            for place in places:
                want = f'guest {seed} wrote this at {place:016x}'.encode()
                file.seek(place)
                if file.read(64) != want + bytes(64 - len(want)):
                    wrong.append(f'{place:#x}')
        result.host = f'{len(places) - len(wrong)} of {len(places)} places ' \
                      "of the backing file hold the guest's bytes"
        if wrong:
            result.problems.append("the backing file lacks the guest's bytes "
                                   f'at {", ".join(wrong)} ({memory})')


def tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log, for a person to read."""
    try:
        text = log.read_text(errors='replace')
    except OSError:
        return '(no log)'
    text = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', text)
    return '\n'.join(text.splitlines()[-lines:])
