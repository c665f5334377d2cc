# SPDX-License-Identifier: GPL-2.0-or-later
"""A q35 machine that runs guest.c, below vfio-sim.

There is no firmware: the guest does single accesses for us too, with which
bridges, BARs and decoders are set up here.
"""

import json
import mmap
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

# Level 2 of tests/nested runs without it, where this file is elsewhere
SIM = Path(os.environ.get('VFIO_SIM') or Path(__file__).resolve()
           .parent.parent.parent / 'build/vfio-sim/vfio-sim').absolute()

CHANNEL = 0x200000              # as in guest.c
(READ, WRITE, COPY, CHAIN, CHASE, LOAD32, STORE32, LOAD64, STORE64, LOAD16,
 STORE16, OUT32) = range(1, 13)

MIB, GIB = 1 << 20, 1 << 30
RAM_SIZE = GIB
ECAM = 0xb0000000
MMIO = 0xe0000000               # 16 MiB for each root port
MMIO_STRIDE = 0x1000000
# CXL r3.1 section 8.2.4.20, in the HDM decoder block
HDM_CONTROL, HDM_BASE, HDM_SIZE, HDM_DECODER = 0x04, 0x10, 0x18, 0x20
COMMIT, COMMITTED = 1 << 9, 1 << 10


class BenchError(Exception):
    """An error, for the user."""


class Qmp:
    """Just enough of a client for QEMU's monitor."""

    def __init__(self, path: Path, process: subprocess.Popen) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.socket.connect(str(path))
                break
            except OSError as err:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchError('QEMU did not start') from err
                time.sleep(0.001)
        self.lines = self.socket.makefile('r')
        self.lines.readline()
        self.do('qmp_capabilities')

    def do(self, name: str, **arguments):
        command = {'execute': name, 'arguments': arguments}
        self.socket.sendall(json.dumps(command).encode() + b'\n')
        while True:
            line = self.lines.readline()
            if not line:
                raise BenchError(f'QEMU ended during {name}')
            reply = json.loads(line)
            if 'error' in reply:
                raise BenchError(f'{name}: {reply["error"]["desc"]}')
            if 'return' in reply:
                return reply['return']


class Result(NamedTuple):
    ticks: int
    value: int


def kilobytes(path: Path, what: str) -> int:
    """Of this process's mapping of a file, from smaps."""
    text = Path('/proc/self/smaps').read_text(encoding='utf-8')
    found = re.search(rf'{re.escape(str(path))}\n(?:[A-Z].*\n)*?{what}: +'
                      r'([0-9]+) kB', text)
    if not found:
        raise BenchError(f'no {what} of {path} in /proc/self/smaps')
    return int(found[1])


def compile_guest(out: Path, compiler: str = 'gcc') -> Path:
    """Make the ROM; its file is in the directory OUT."""
    here = Path(__file__).resolve().parent
    elf, binary = out / 'guest.elf', out / 'guest.rom'
    out.mkdir(parents=True, exist_ok=True)
    for command in (
            [compiler, '-m64', '-O2', '-Wall', '-Werror', '-ffreestanding',
             '-fno-pic', '-no-pie', '-mcmodel=large', '-fno-stack-protector',
             '-fno-asynchronous-unwind-tables', '-fcf-protection=none',
             '-mno-red-zone', '-mgeneral-regs-only', '-nostdlib', '-static',
             '-Wl,--build-id=none', '-Wl,--no-warn-rwx-segments',
             f'-Wl,-T,{here}/guest.ld', '-o', str(elf), f'{here}/start.S',
             f'{here}/guest.c'],
            ['objcopy', '-O', 'binary', '--gap-fill', '0', str(elf),
             str(binary)]):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=120, check=False)
        if done.returncode:
            raise BenchError(f'{" ".join(command)}:\n{done.stderr}')
    return binary


class Machine:
    """Guest and QEMU with these options, until the with block ends.

    sim: options of vfio-sim, or None to run without it
    size: bytes of RAM
    buffers: where in RAM what is compared with the device's memory begins
    length: bytes of each, and of the first device's memory

    What memory is how fast depends on where the host has its pages. So those
    of the buffers and of the device's memory are allocated by turns; mixed
    says why that did not give pages of one kind, or is empty.
    """

    def __init__(self, qemu: Path, rom: Path, accel: str, options: List[str],
                 sim: Optional[List[str]], size: int = RAM_SIZE,
                 buffers: Sequence[int] = (), length: int = 0) -> None:
        # Files of the same kind for RAM and for device memory
        self.place = Path(tempfile.mkdtemp(prefix='vfio-cxl-bench-',
                                           dir='/dev/shm'))
        ram = self.place / 'ram'
        with open(ram, 'w+b') as file:
            file.truncate(size)
            self.ram = mmap.mmap(file.fileno(), size)
        self.mixed = self.allocate(buffers, length) if buffers else ''
        self.sim = SIM
        command = [] if sim is None else [
            str(self.sim),
            f'--state-dir={self.place}/sim',
            f'--memory-file={self.place}/memory', *sim, '--']
        command += [
            str(qemu), '-M', f'q35,cxl=on,memory-backend=ram,accel={accel}',
            '-cpu', 'max' if accel == 'tcg' else 'host',
            '-m', f'{size // MIB}M',
            '-object', f'memory-backend-file,id=ram,mem-path={ram},share=on,'
            f'size={size}', '-bios', str(rom), '-display', 'none',
            '-nodefaults', '-no-reboot', '-qmp',
            f'unix:{self.place}/qmp,server=on,wait=off', *options]
        self.sequence = 0
        self.log = open(self.place / 'log', 'w+', encoding='utf-8')
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)
        try:
            started = time.monotonic()
            self.qmp = Qmp(self.place / 'qmp', self.process)
            self.qmp.do('query-status')
            self.start_seconds = time.monotonic() - started
        except BaseException as err:
            self.close()
            raise BenchError(f'{err}: {self.words}') from err

    def __enter__(self) -> 'Machine':
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.seek(0)
        self.words = self.log.read()
        self.log.close()
        shutil.rmtree(self.place, ignore_errors=True)

    def allocate(self, buffers: Sequence[int], length: int) -> str:
        with open(self.place / 'memory', 'w+b') as file:
            file.truncate(length)
            memory = mmap.mmap(file.fileno(), length)
        for page in range(0, length, mmap.PAGESIZE):
            memory[page] = 1
            for buffer in buffers:
                self.ram[buffer + page] = 1
        huge = [kilobytes(self.place / name, 'ShmemPmdMapped')
                for name in ('ram', 'memory')]
        want = len(buffers) * length >> 10, length >> 10
        memory.close()
        return '' if huge in ([0, 0], list(want)) else \
            f'of RAM {huge[0]} KiB are in huge pages, of device memory ' \
            f'{huge[1]} KiB'

    def stat(self, name: str) -> int:
        """A count of vfio-sim's for the first device."""
        done = subprocess.run(
            [str(self.sim), '--control', f'{self.place}/sim',
             'stats 0000:c1:00.0'], stdin=subprocess.DEVNULL, text=True,
            capture_output=True, timeout=60, check=True)
        return int(json.loads(done.stdout)['return'][name])

    # -- commands for the guest

    def do(self, op: int, a: int, b: int = 0, length: int = 0, count: int = 1,
           limit: float = 120) -> Result:
        self.sequence += 1
        at = CHANNEL
        self.ram[at + 16:at + 56] = struct.pack('<5Q', op, a, b, length, count)
        self.ram[at:at + 8] = struct.pack('<Q', self.sequence)
        deadline = time.monotonic() + limit
        wait = 0.00001
        while struct.unpack_from('<Q', self.ram, at + 8)[0] != self.sequence:
            if self.process.poll() is not None:
                raise BenchError(f'QEMU ended: the guest failed at {a:#x}')
            if time.monotonic() > deadline:
                raise BenchError(f'no answer from the guest for {a:#x}')
            time.sleep(wait)
            wait = min(2 * wait, 0.002)
        return Result(*struct.unpack_from('<2Q', self.ram, at + 56))

    def load(self, address: int) -> int:
        return self.do(LOAD32, address).value

    def store(self, address: int, value: int) -> None:
        self.do(STORE32, address, value)

    # -- the platform

    def config(self, bus: int, device: int = 0) -> int:
        return ECAM + (bus << 20) + (device << 15)

    def enumerate(self, bridges: Dict[int, int]) -> List['Device']:
        """Set up root ports: bus of a host bridge -> how many. One device
        is below each; they get the buses that follow."""
        self.do(OUT32, 0xcf8, 0x80000060)
        self.do(OUT32, 0xcfc, ECAM | 1)
        devices: List[Device] = []
        for bus, ports in bridges.items():
            for port in range(ports):
                below = bus + 1 + port
                mmio = MMIO + MMIO_STRIDE * len(devices)
                config = self.config(bus, port)
                self.store(config + 0x18, bus | below << 8 | below << 16)
                self.store(config + 0x20,
                           mmio >> 16 | (mmio + 0xf00000) & 0xfff00000)
                self.store(config + 0x24, 0x0000fff0)
                self.do(STORE16, config + 4, 6)
                devices.append(Device(self, self.config(below), mmio))
        return devices

    def windows(self) -> List[int]:
        tree = self.qmp.do('human-monitor-command',
                           **{'command-line': 'info mtree'})
        found = re.findall(r'^\s*([0-9a-f]{16})-.*cxl-fixed-memory-region',
                           tree, re.MULTILINE)
        return sorted({int(base, 16) for base in found})

    def exits(self) -> Dict[str, int]:
        """KVM's counts for the one vCPU."""
        stats = self.qmp.do('query-stats', target='vcpu',
                            providers=[{'provider': 'kvm'}])
        return {item['name']: item['value'] for item in stats[0]['stats']
                if isinstance(item['value'], int)}


class Device:
    """A CXL endpoint: BARs 0 and 2, HDM decoders."""

    def __init__(self, machine: Machine, config: int, mmio: int) -> None:
        self.machine, self.cfg = machine, config
        self.bar0, self.bar2 = mmio, mmio + 0x400000
        for offset, value in ((0x10, self.bar0), (0x14, 0),
                              (0x18, self.bar2), (0x1c, 0)):
            machine.store(config + offset, value)
        machine.do(STORE16, config + 4, 6)

    def find_decoders(self, block: int = 0) -> int:
        """Address of the HDM decoder block, by the capability array."""
        array = self.bar0 + block + 0x1000
        head = self.machine.load(array)
        for index in range(1, (head >> 24) + 1):
            entry = self.machine.load(array + 4 * index)
            if entry & 0xffff == 5:
                return array + (entry >> 20)
        raise BenchError('the device has no HDM decoders')

    def find_dvsec(self) -> int:
        """Address of the CXL Device DVSEC."""
        at = 0x100
        while at:
            head = self.machine.load(self.cfg + at)
            if head & 0xffff == 0x23 and \
                    self.machine.load(self.cfg + at + 4) & 0xffff == 0x1e98 \
                    and self.machine.load(self.cfg + at + 8) & 0xffff == 0:
                return self.cfg + at
            at = head >> 20
        raise BenchError('the device has no CXL Device DVSEC')

    def enable(self, hdm: int) -> None:
        """HDM Decoder Enable, and Mem_Enable in the CXL Device DVSEC."""
        self.machine.store(hdm + HDM_CONTROL, 2)
        self.machine.do(STORE16, self.find_dvsec() + 0xc, 4)

    def program(self, hdm: int, base: int, size: int) -> None:
        for offset, value in ((HDM_BASE, base), (HDM_SIZE, size)):
            self.machine.store(hdm + offset, value & 0xffffffff)
            self.machine.store(hdm + offset + 4, value >> 32)

    def commit(self, hdm: int, base: int, size: int) -> None:
        self.program(hdm, base, size)
        self.machine.store(hdm + HDM_DECODER, COMMIT)
        if not self.machine.load(hdm + HDM_DECODER) & COMMITTED:
            raise BenchError('the decoder did not commit')
