# Boots one guest and reads its verdicts.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Run a guest with simulated devices, within a time limit."""

import json
import os
import re
import secrets
import selectors
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from children import Children
from debian import GuestError
from image import Image
from kernlog import complaints
from machines import MACHINES, base_command, kernel_line
from topology import DECODER, ONE, Topology

# vfio-sim's launcher
SIM = Path(os.environ.get('VFIO_SIM')
           or Path(__file__).resolve().parents[2]
           / 'build/vfio-sim/vfio-sim').absolute()
MEMORY = 256 << 20
TOKEN_AT = 4096
TOKEN_SIZE = 32
# Kernels whose resets are CXL resets and that export the memory
SINCE_V5 = ('v5', 'v6')


@dataclass
class Case:
    """One guest: what it runs on, and what it is asked to do."""
    machine: str
    mode: str = 'firmware'
    backend: str = 'legacy'
    driver: str = 'cxl'
    smp: int = 1
    # Where the component registers are in BAR 0
    layout: str = 'A'
    # The kernel generation that vfio-sim stands in for
    kernel: str = 'v2-reset'
    # Linux 7.3 finds committed regions only where the host bridge has a
    # decoder, even with a single root port
    topology: Topology = ONE
    actions: str = 'all'

    @property
    def name(self) -> str:
        """A short name, for a test and for its log file."""
        name = '-'.join((self.machine, self.mode, self.backend, self.driver))
        if self.kernel != 'v2-reset':
            name += f'-{self.kernel}'
        if self.topology not in (ONE, DECODER):
            name += f'-{self.topology.name}'
        return name

    @property
    def listing(self) -> str:
        """The name of the result that 'cxl list' is expected to give."""
        name = f'{self.machine}-{self.topology.name}'
        if self.mode == 'guest':
            name += '-guest'
        return name if self.driver == 'cxl' else f'{name}-{self.driver}'


@dataclass
class Result:
    """A guest's output, and the host's observations."""
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
        """A value that a passed check reported, with several devices the
        first's."""
        text = self.ok.get(check) or self.ok.get(f'd0-{check}', '')
        return pairs(text).get(key, '?')

    def named(self, where: Dict[str, str], check: str) -> Dict[str, str]:
        """The verdicts on a check, one for each device."""
        return {k: v for k, v in where.items()
                if re.fullmatch(rf'(d\d+-)?{check}', k)}


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


class Backing:
    """The files that hold the devices' memory, seen from the host."""

    PLACES = (0, 0x2ff0, MEMORY // 2 - 8, MEMORY - 64)

    def __init__(self, path: Path, devices: int) -> None:
        self.path = path
        self.paths = [path] + [path.with_name(f'{path.name}.{n}')
                               for n in range(1, devices)]
        self.tokens: List[bytes] = []

    def write_tokens(self) -> None:
        """Bytes that a guest has to find; the files are made if need be."""
        self.tokens = []
        for path in self.paths:
            token = secrets.token_bytes(TOKEN_SIZE)
            with path.open('r+b' if path.exists() else 'wb') as file:
                file.truncate(MEMORY)
                file.seek(TOKEN_AT)
                file.write(token)
            self.tokens.append(token)

    def argument(self, cleared: bool) -> str:
        """The tokens as the guest program's option."""
        return '--token=' + ':'.join(
            (bytes(TOKEN_SIZE) if cleared else token).hex()
            for token in self.tokens)

    def lacking(self, seed: str) -> List[str]:
        """Where the guest program's signature is not."""
        wrong = []
        for number, path in enumerate(self.paths):
            with path.open('rb') as file:
                for place in self.PLACES:
                    want = (f'guest {seed} device {number} wrote this at '
                            f'{place:012x}').encode()
                    file.seek(place)
                    if file.read(64) != want + bytes(64 - len(want)):
                        wrong.append(f'{path.name}+{place:#x}')
        return wrong

    def is_clear(self) -> bool:
        """Check that everything that guest and host wrote has been cleared."""
        for path in self.paths:
            with path.open('rb') as file:
                for place in (TOKEN_AT, *self.PLACES):
                    file.seek(place)
                    if any(file.read(64)):
                        return False
        return True

    def holds_tokens(self) -> bool:
        """Check that the bytes written by the host are still there."""
        for path, token in zip(self.paths, self.tokens):
            with path.open('rb') as file:
                file.seek(TOKEN_AT)
                if file.read(TOKEN_SIZE) != token:
                    return False
        return True

    @property
    def places(self) -> int:
        """How many places 'lacking' looks at."""
        return len(self.PLACES) * len(self.paths)


def new_seed() -> str:
    """What a signature is told from another one by."""
    return secrets.token_hex(8)


def vfio_device(number: int, bus: str, backend: str, commit: str) -> str:
    """QEMU's option for vfio-sim's device of that number."""
    text = (f'vfio-pci,id=accel{number},host=0000:c{number + 1}:00.0,'
            f'bus={bus},x-cxl=on,x-cxl-commit={commit}')
    return text + (',iommufd=iommufd0' if backend == 'iommufd' else '')


class Harness:
    """Where things are, and how guests are run."""

    def __init__(self, qemu: Path, build: Path, images: Dict[str, Image],
                 accel: str, limit: float) -> None:
        self.qemu = qemu.resolve()
        self.build = build
        self.images = images
        self.accel = accel
        self.limit = limit
        self.sim = SIM
        self.children = Children()

    def check_tools(self, machines: List[str]) -> None:
        """Report missing files early."""
        for name in machines:
            binary = self.qemu / MACHINES[name]['qemu']
            if not os.access(binary, os.X_OK):
                raise GuestError(f"{binary} is missing: run 'make build' "
                                 'first, or set QEMU_BUILD.')
        if not os.access(self.sim, os.X_OK):
            raise GuestError(f"{self.sim} is missing: run 'make build' "
                             'first, or set VFIO_SIM.')

    def image(self, machine: str) -> Image:
        """What guests of a machine boot."""
        return self.images[MACHINES[machine]['arch']]

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
        image = self.image(machine)
        command = base_command(self.qemu, image, machine, accel, 1) + [
            '-no-reboot', '-machine', MACHINES[machine]['machine'],
            '-initrd', str(image.initramfs),
            '-append', kernel_line(machine, 'cxlguest.mode=probe')]
        text, _, why = self._run(command, self.log(f'probe-{accel}'), 60)
        if 'GUEST: verdict PASS' not in text:
            last = '\n'.join(text.splitlines()[-8:])
            raise GuestError(
                f'a trial boot of {machine} with {accel} did not reach user '
                f'space ({why or "QEMU ended"}). Leave ACCEL unset to use '
                f'tcg. Its last output:\n{last}')

    def log(self, name: str) -> Path:
        """The log file of a guest."""
        logs = self.build / 'logs'
        logs.mkdir(parents=True, exist_ok=True)
        return logs / f'{name}.log'

    def new_state(self, name: str) -> Path:
        """An empty directory for a guest's files."""
        state = self.build / 'state' / name
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True)
        return state

    def command(self, case: Case, memory: Path, append: str,
                initrd: Optional[Path] = None,
                sim: Sequence[str] = ()) -> List[str]:
        """vfio-sim and QEMU, all but the accelerators."""
        image = self.image(case.machine)
        command = [str(self.sim), f'--memory={MEMORY >> 20}M',
                   f'--state-dir={memory.parent}/sim',
                   f'--memory-file={memory}', f'--topology={case.layout}',
                   f'--kernel={case.kernel}',
                   f'--devices={len(case.topology.slots)}', *sim, '--']
        command += base_command(self.qemu, image, case.machine,
                                self.accel_for(case.machine), case.smp)
        command += ['-initrd', str(initrd or image.initramfs),
                    '-append', kernel_line(case.machine, append),
                    '-machine', MACHINES[case.machine]['machine'] + ','
                    + case.topology.machine()]
        if case.backend == 'iommufd':
            command += ['-object', 'iommufd,id=iommufd0']
        return command + case.topology.arguments()

    def use_newer_firmware(self, machine: str, command: List[str]) -> None:
        """For guests that look at what this machine's firmware gets wrong."""
        firmware = self.image(machine).firmware
        if firmware:
            command[command.index('-bios') + 1] = str(firmware)

    def stat(self, memory: Path, name: str) -> int:
        """A count of vfio-sim's for the device with this memory file."""
        done = subprocess.run(
            [str(self.sim), '--control', f'{memory.parent}/sim',
             'stats 0000:c1:00.0'], stdin=subprocess.DEVNULL, text=True,
            capture_output=True, timeout=20, check=False)
        if done.returncode:
            raise GuestError(f'vfio-sim --control: {done.stderr}')
        return int(json.loads(done.stdout)['return'][name])

    def _run(self, command: List[str], log: Path, limit: float,
             env: Optional[Dict[str, str]] = None) -> Tuple[str, float, str]:
        """Run, with output to a log; returns text, seconds, error."""
        start = time.monotonic()
        why = ''
        data = bytearray()
        with log.open('wb') as out, self.children.start(
                command, stdin=subprocess.DEVNULL, env=env,
                stderr=subprocess.STDOUT) as proc:
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
                self.children.end(proc)
        return (data.decode(errors='replace'), time.monotonic() - start, why)

    def run(self, case: Case) -> Result:
        """Boot one guest and judge it."""
        log = self.log(case.name)
        result = Result(case, log)
        state = self.new_state(case.name)
        backing = Backing(state / 'memory', len(case.topology.slots))
        backing.write_tokens()
        seed = new_seed()

        # Resets clear what the host wrote
        args = [backing.argument(case.kernel in SINCE_V5), f'--seed={seed}']
        if case.mode == 'firmware':
            # vfio-sim's host firmware locks what it commits
            args.append('--lock=1')
        if case.topology.decoder and case.mode == 'guest':
            args.append('--bridge')
        if case.backend == 'iommufd' and case.kernel not in SINCE_V5:
            # Others export no memory, and no kernel pins it by address
            args.append('--no-peer')
        append = (f'cxlguest.mode={case.mode} cxlguest.driver={case.driver} '
                  f'cxlguest.actions={case.actions} '
                  f'cxlguest.args={",".join(args)}')
        command = self.command(case, backing.path, append) + ['-no-reboot']
        for number, bus in enumerate(case.topology.slots):
            command += ['-device', vfio_device(number, bus, case.backend,
                                               case.mode)]

        text, result.seconds, why = self._run(command, log, self.limit)
        if why:
            result.problems.append(f'QEMU: {why}')
        parse(text, result)
        if not result.verdict:
            result.problems.append('the guest gave no verdict')
        else:
            self.look_into(backing, seed, result)
            for line in complaints(result.blocks.get('kernel-log', [])):
                result.problems.append(f"the guest kernel's log: {line}")
        if result.passed:
            shutil.rmtree(state, ignore_errors=True)
        return result

    @staticmethod
    def look_into(backing: Backing, seed: str, result: Result) -> None:
        """Find in the backing files what the guest wrote."""
        wrong = backing.lacking(seed)
        result.host = (f'{backing.places - len(wrong)} of {backing.places} '
                       "places of the backing file hold the guest's bytes")
        if wrong:
            result.problems.append("the backing file lacks the guest's bytes "
                                   f'at {", ".join(wrong)} '
                                   f'({backing.path.parent})')


def tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log, for a person to read."""
    try:
        text = log.read_text(errors='replace')
    except OSError:
        return '(no log)'
    text = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', text)
    return '\n'.join(text.splitlines()[-lines:])
