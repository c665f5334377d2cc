# SPDX-License-Identifier: GPL-2.0-or-later
"""make bench: the cost of passthrough of CXL memory, as ratios.

Each ratio compares two things measured alternately in one run, so that a busy
machine disturbs both. It is a measurement, not a test: the aims are printed
next to the results, and the status is 0 if everything was measured.

QUICK=1 takes less than a minute, with few samples, to check that it works.
"""

import ctypes
import fcntl
import json
import math
import mmap
import os
import platform
import re
import shutil
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import build
from common import (BUILD, Clock, Failure, QEMU, RESULTS, ROOT, main,
                    say)

sys.path.insert(0, str(ROOT / 'tests/bench'))
import machine as m  # noqa: E402  pylint: disable=wrong-import-position
from machine import GIB, MIB, Machine, compile_guest  # noqa: E402

HERE = ROOT / 'tests/bench'
QUICK = os.environ.get('QUICK', '') not in ('', '0')
ROUNDS = 7 if QUICK else 101    # many short ones: others disturb few
BOOTS = 1 if QUICK else 7       # each has its memory at other places
BUFFER = 64 * MIB
RAM = 0x10000000                # the buffer in RAM
HOST = 'vfio-pci,host=0000:c%d:00.0'
BRIDGE = ['-device', 'pxb-cxl,id=cxl.0,bus=pcie.0,bus_nr=12']


class Row(NamedTuple):
    """A line of the result: @ratio may be anything, @aim says what is good."""
    name: str
    ours: str
    other: str
    ratio: Optional[float]
    aim: str
    verdict: str
    remark: str = ''


ROWS: List[Row] = []


def note(name: str, ours: str, other: str, ratio: float, aim: str,
         met: Optional[bool], remark: str = '') -> None:
    verdict = {True: 'met', False: 'missed', None: 'the noise'}[met]
    ROWS.append(Row(name, ours, other, round(ratio, 3), aim, verdict, remark))
    say(f'{name}: {ours} against {other}, ratio {ratio:.3f}, aim {aim}: '
        f'{ROWS[-1].verdict}')


def not_measured(name: str, why: str) -> None:
    ROWS.append(Row(name, '', '', None, '', 'not measured', why))
    say(f'{name}: not measured: {why}')


def rom() -> Path:
    """Compile the guest."""
    return compile_guest(BUILD / 'bench', os.environ.get('CC', 'gcc'))


def qemu() -> Path:
    return QEMU / 'obj/qemu-system-x86_64'


def start(accel: str, sim: List[str], *options: str,
          buffers: Sequence[int] = (), length: int = 0) -> Machine:
    return Machine(qemu(), BUILD / 'bench/guest.rom', accel, list(options),
                   sim, buffers=buffers, length=length)


def port(number: int, bridge: int = 0) -> List[str]:
    return ['-device', f'cxl-rp,id=rp{bridge}{number},bus=cxl.{bridge},'
            f'chassis={bridge},slot={number},port={number},addr={number}']


def by_turns(first: Callable[[], float], second: Callable[[], float],
             rounds: int = ROUNDS) -> 'Pair':
    """Run both in each round, both once before it counts.

    What runs second finds other caches than what runs first. So there are two
    medians of ratios, one for each order, and the result is between them.
    """
    first()
    second()
    pairs, swapped = [], []
    for _ in range(rounds):
        a = first()
        pairs.append((a, second()))
        b = second()
        swapped.append((first(), b))
    both = pairs + swapped
    return Pair(statistics.median(a for a, _ in both),
                statistics.median(b for _, b in both),
                math.sqrt(statistics.median(b / a for a, b in pairs) *
                          statistics.median(b / a for a, b in swapped)),
                min(b for _, b in both) / min(a for a, _ in both))


class Pair(NamedTuple):
    """Medians of two times, second / first, the same of the shortest."""
    first: float
    second: float
    ratio: float
    best: float


def best(pair: Pair) -> str:
    """Less disturbed by a busy machine."""
    return f'ratio of the fastest {pair.best:.3f}'


def ticks_per_ns(guest: Machine) -> float:
    clock = Clock()
    ticks = guest.do(m.CHASE, RAM, count=400000 if QUICK else 4000000).ticks
    return ticks / ((clock.seconds()) * 1e9)


# -- memory

def measure(guest: Machine, here: int, there: int, length: int,
            rounds: int = ROUNDS) -> Dict[str, Pair]:
    """Compare memory at two addresses: ns for a byte, or for a step."""
    half = length // 2
    steps = length // 64 // 16

    def sample(op: int, base: int) -> Callable[[], float]:
        if op == m.CHASE:
            return lambda: guest.do(op, base, count=steps).ticks / steps
        moved = half if op == m.COPY else length
        return lambda: guest.do(op, base, base + half, moved).ticks / moved

    speed = ticks_per_ns(guest)
    found = {}
    for name, op in OPERATIONS.items():
        if op == m.CHASE:
            for base in (here, there):
                guest.do(m.CHAIN, base, length=length)
        pair = by_turns(sample(op, here), sample(op, there), rounds)
        found[name] = pair._replace(first=pair.first / speed,
                                    second=pair.second / speed)
    return found


def memory(what: str, aim: Optional[float],
           found: List[Dict[str, Pair]]) -> None:
    """Report what machines have measured: ratio is the speed of the first.

    Without an aim it is the same memory: what differs is the noise.
    """
    for name, op in OPERATIONS.items():
        pair = Pair(*(statistics.median(values)
                      for values in zip(*(one[name] for one in found))))
        ours, other = (f'{ns:.1f} ns' if op == m.CHASE else f'{1 / ns:.2f} GB/s'
                       for ns in pair[:2])
        note(f'{what}: {name}', ours, other, pair.ratio,
             f'>= {aim}' if aim else '1',
             pair.ratio >= aim if aim else None, best(pair))


OPERATIONS = {'write': m.WRITE, 'read': m.READ, 'copy': m.COPY,
              'random latency': m.CHASE}


def kvm_access() -> None:
    """Memory and registers, with a plain device next to the CXL one."""
    ours, noise = [], []
    for boot in reversed(range(BOOTS)):
        with start('kvm', ['--devices=2', '--memory=256M', '--topology=B'],
                   *BRIDGE, *port(0), *port(1),
                   '-M', 'cxl-fmw.0.targets.0=cxl.0,cxl-fmw.0.size=1G',
                   '-device', HOST % 1 + ',bus=rp00',
                   '-device', HOST % 2 + ',bus=rp01,x-cxl=off',
                   buffers=(RAM, RAM + BUFFER), length=BUFFER) as guest:
            if guest.mixed:
                not_measured('KVM, device memory / RAM', guest.mixed)
                return
            device, plain = guest.enumerate({12: 2})
            hdm = device.find_decoders()
            base = guest.load(hdm + m.HDM_BASE) | \
                guest.load(hdm + m.HDM_BASE + 4) << 32
            for address in (base, RAM, RAM + BUFFER):
                guest.do(m.WRITE, address, length=BUFFER)
            rounds = max(ROUNDS // BOOTS, 3)
            ours.append(measure(guest, base, RAM, BUFFER, rounds))
            noise.append(measure(guest, RAM + BUFFER, RAM, BUFFER, rounds))
            if boot:
                continue
            memory('KVM, device memory / RAM', 0.97, ours)
            memory('KVM, RAM / RAM', None, noise)
            kvm_exits(guest, base)
            kvm_registers(guest, device, plain, hdm)


def kvm_exits(guest: Machine, base: int) -> None:
    """After the first touch nothing should leave the guest because of it."""
    name = 'KVM, exits and page faults per GiB of device memory'
    passes = GIB // BUFFER
    faults = ('pf_taken', 'pf_fixed', 'mmio_exits', 'insn_emulation')
    if not set(faults) < guest.exits().keys():
        not_measured(name, 'this KVM does not count them')
        return
    counts = {}
    for where, address in (('device', base), ('RAM', RAM)):
        found = []
        for _ in range(5):
            before = guest.exits()
            guest.do(m.READ, address, length=BUFFER, count=passes)
            guest.do(m.WRITE, address, length=BUFFER, count=passes)
            after = guest.exits()
            found.append({key: (after[key] - before[key]) / 2
                          for key in (*faults, 'exits')})
        counts[where] = {key: statistics.median(c[key] for c in found)
                         for key in (*faults, 'exits')}
    caused = sum(counts['device'][key] for key in faults)
    texts = [f'{counts[w]["exits"]:.0f} exits, '
             f'{sum(counts[w][k] for k in faults):.0f} of them by memory'
             for w in ('device', 'RAM')]
    note(name, texts[0], texts[1], caused, '0', caused == 0,
         'the others are the host\'s interrupts; the number is the count')


def kvm_registers(guest: Machine, ours: m.Device, plain: m.Device,
                  hdm: int) -> None:
    count = 20
    scratch = 0x0c

    def sample(op: int, address: int, times: int) -> Callable[[], float]:
        return lambda: guest.do(op, address, 1, count=times).ticks / times

    def compare(name: str, op: int, first: int, second: int, aim: str,
                met: Callable[[float], bool], times: int = count) -> None:
        speed = ticks_per_ns(guest)
        pair = by_turns(sample(op, first, times),
                        sample(op, second, times))
        note(name, f'{pair.first / speed:.1f} ns',
             f'{pair.second / speed:.1f} ns', pair.ratio, aim, met(pair.ratio),
             best(pair))

    for word, op in (('read', m.LOAD32), ('write', m.STORE32)):
        compare(f'KVM, register window {word}: CXL / plain vfio-pci', op,
                ours.bar2 + scratch, plain.bar2 + scratch, '>= 0.98',
                lambda r: r >= 0.98)
    compare('KVM, BAR that is mapped, read: CXL / plain vfio-pci', m.LOAD32,
            ours.bar0 + 0x20000, plain.bar0 + 0x20000, '>= 0.98',
            lambda r: r >= 0.98, count * 1000)
    for word, op in (('read', m.LOAD32), ('write', m.STORE32)):
        compare(f'KVM, decoder register {word}: QEMU\'s model / forwarded', op,
                hdm + m.HDM_SIZE, ours.bar2 + scratch, '> 1',
                lambda r: r > 1)


# -- sizes

def sizes() -> List[int]:
    return [GIB // 4, 16 * GIB, 1024 * GIB] if QUICK else \
        [GIB // 4, GIB, 16 * GIB, 256 * GIB, 1024 * GIB]


def size_name(size: int) -> str:
    return f'{size // GIB}G' if size >= GIB else f'{size // MIB}M'


def growing(accel: str) -> None:
    """Start-up, and from COMMIT to mapped, for growing memory."""
    started: Dict[int, List[float]] = {size: [] for size in sizes()}
    mapped: Dict[int, List[float]] = {size: [] for size in sizes()}
    bare: List[float] = []
    for _ in range(1 if QUICK else 9):
        for size in sizes():
            name = size_name(size)
            with start(accel, [f'--memory={name}', '--topology=B'],
                       *(['-cpu', 'max,phys-bits=44'] if accel == 'tcg' else
                         []), *BRIDGE, *port(0), '-M',
                       'cxl-fmw.0.targets.0=cxl.0,cxl-fmw.0.size='
                       f'{size_name(max(size, GIB))}', '-device',
                       HOST % 1 + ',bus=rp00,x-cxl-commit=guest') as guest:
                started[size].append(guest.start_seconds * 1e3)
                mapped[size].append(commit_time(guest, size))
        if accel == 'kvm':
            bare.append(slot_time(max(sizes())))
    flat(f'{accel.upper()}, start-up (ms)', started,
         '' if accel == 'kvm' else
         'what grows is QEMU\'s dirty bitmap, three bits for 4 KiB: ')
    flat(f'{accel.upper()}, from COMMIT to mapped (us)', mapped)
    if bare:
        largest = statistics.median(mapped[max(sizes())])
        alone = statistics.median(bare)
        note(f'KVM, from COMMIT to mapped, {size_name(max(sizes()))} / KVM\'s '
             'ioctl alone', f'{largest:.0f} us', f'{alone:.0f} us',
             largest / alone, '<= 1.2', largest / alone <= 1.2,
             'KVM_SET_USER_MEMORY_REGION for a memory of that size, without '
             'QEMU')


def slot_time(size: int) -> float:
    """Microseconds that KVM takes for a memory slot, nothing else."""
    create_vm, set_region = 0xae01, 0x4020ae46
    times = []
    with open('/dev/kvm', 'r+b', buffering=0) as kvm, \
            tempfile.TemporaryFile(dir='/dev/shm') as file:
        file.truncate(size)
        vm = fcntl.ioctl(kvm, create_vm, 0)
        memory_ = mmap.mmap(file.fileno(), size)
        byte = ctypes.c_char.from_buffer(memory_)
        at = ctypes.addressof(byte)
        for _ in range(3):
            start_ = time.monotonic()
            fcntl.ioctl(vm, set_region,
                        struct.pack('<IIQQQ', 0, 0, 1 << 40, size, at))
            times.append((time.monotonic() - start_) * 1e6)
            fcntl.ioctl(vm, set_region,
                        struct.pack('<IIQQQ', 0, 0, 1 << 40, 0, at))
        os.close(vm)
        del byte
        memory_.close()
    return statistics.median(times)


def commit_time(guest: Machine, size: int) -> float:
    """Microseconds: when the store returns, the memory is there."""
    device, = guest.enumerate({12: 1})
    hdm = device.find_decoders()
    window, = guest.windows()
    device.enable(hdm)
    device.commit(hdm, window, size)
    # The guest has mapped so much for itself
    probe = window + min(size, 16 * GIB) - 8
    guest.do(m.STORE64, probe, 0x5a5a)
    if guest.do(m.LOAD64, probe).value != 0x5a5a:
        raise Failure(f'device memory is not at {probe:#x} after the commit')
    speed = ticks_per_ns(guest)
    times = []
    for _ in range(5):
        guest.store(hdm + m.HDM_DECODER, 0)
        times.append(guest.do(m.STORE32, hdm + m.HDM_DECODER, m.COMMIT).ticks)
    return statistics.median(times) / speed / 1e3


def flat(name: str, found: Dict[int, List[float]], remark: str = '') -> None:
    medians = {size: statistics.median(values)
               for size, values in found.items()}
    least, most = min(sizes()), max(sizes())
    note(f'{name}, {size_name(most)} / {size_name(least)}',
         f'{medians[most]:.1f}', f'{medians[least]:.1f}',
         medians[most] / medians[least], '<= 1.5 (flat)',
         medians[most] / medians[least] <= 1.5,
         remark + ', '.join(f'{size_name(s)}: {t:.1f}'
                            for s, t in medians.items()))


# -- TCG

def tcg_type3() -> None:
    length = MIB // 4 if QUICK else MIB
    with start('tcg', ['--memory=256M', '--topology=B'], *BRIDGE, *port(0),
               '-device', 'pxb-cxl,id=cxl.1,bus=pcie.0,bus_nr=20',
               *port(0, 1),
               '-M', 'cxl-fmw.0.targets.0=cxl.0,cxl-fmw.0.size=1G,'
               'cxl-fmw.1.targets.0=cxl.1,cxl-fmw.1.size=1G',
               '-object', 'memory-backend-ram,id=mem1,size=256M',
               '-device', HOST % 1 + ',bus=rp00',
               '-device', 'cxl-type3,bus=rp10,volatile-memdev=mem1,id=type3',
               buffers=(RAM,), length=MIB) as guest:
        if guest.mixed:
            not_measured('TCG, device memory / RAM', guest.mixed)
            return
        ours, type3 = guest.enumerate({12: 1, 20: 1})
        hdm = ours.find_decoders()
        base = guest.load(hdm + m.HDM_BASE) | \
            guest.load(hdm + m.HDM_BASE + 4) << 32
        other = guest.windows()[1]
        hdm = type3.find_decoders()
        type3.enable(hdm)
        type3.commit(hdm, other, GIB // 4)
        for address in (base, other, RAM):
            guest.do(m.WRITE, address, length=length)
        memory('TCG, device memory / RAM', 0.97,
               [measure(guest, base, RAM, length)])
        memory('TCG, device memory / cxl-type3', 0.97,
               [measure(guest, base, other, length, 3 if QUICK else 7)])


# -- page faults

def space_toggles() -> None:
    """What a guest's enumeration costs where a page fault maps 4 KiB.

    vfio-sim charges for faults as v2 kernels have them. A reset maps the
    memory again; that a guest switches Memory Space must not.
    """
    size, ns, toggles = 64 * GIB, 250, 10
    with start('tcg', ['--kernel=v2-reset', f'--memory={size_name(size)}',
                       '--topology=B', f'--set=0000:c1:00.0 fault-ns={ns}'],
               '-cpu', 'max,phys-bits=44', *BRIDGE, *port(0), '-M',
               'cxl-fmw.0.targets.0=cxl.0,cxl-fmw.0.size='
               + size_name(size), '-device', HOST % 1 + ',bus=rp00') as guest:
        device, = guest.enumerate({12: 1})
        speed = ticks_per_ns(guest)

        def write(register: int, value: int) -> float:
            return guest.do(m.STORE16, device.cfg + register,
                            value).ticks / speed / 1e6

        before = guest.stat('page-faults')
        toggled = statistics.median(write(4, 4) + write(4, 6)
                                    for _ in range(toggles))
        between = guest.stat('page-faults')
        reset = write(0x68, 0x8000)
        after = guest.stat('page-faults')
    note(f'TCG, v2 kernel, {size_name(size)}: Memory Space off and on / reset',
         f'{toggled:.3f} ms', f'{reset:.0f} ms', toggled / reset, '<= 0.01',
         toggled / reset <= 0.01,
         f'{between - before} page faults for {toggles} times off and on, '
         f'{after - between} for a function level reset, {ns} ns each')


def report(clock: Clock) -> None:
    flags = Path('/proc/cpuinfo').read_text(encoding='ascii')
    software = not re.search(r'\b(vmx|svm)\b', flags)
    remarks = [
        'vfio-sim stands in for kernel and device: a forwarded register '
        'access costs no system call here, and device memory is a file on '
        'tmpfs, as RAM is']
    if software:
        remarks.append('no vmx or svm: KVM is a software one; memory is '
                       'measured in user mode, which runs directly, and '
                       'not in a Linux guest, whose kernel would not boot')
    RESULTS.mkdir(parents=True, exist_ok=True)
    where = RESULTS / 'bench.json'
    where.write_text(json.dumps({
        'quick': QUICK, 'rounds': ROUNDS, 'buffer': BUFFER,
        'cpus': os.cpu_count(), 'kernel': platform.release(),
        'load': os.getloadavg()[0], 'remarks': remarks,
        'results': [row._asdict() for row in ROWS]}, indent=1) + '\n',
        encoding='utf-8')
    width = max(len(row.name) for row in ROWS)
    print(f'{"":{width}}  {"ratio":>8}  {"aim":<13} verdict')
    for row in ROWS:
        ratio = '' if row.ratio is None else f'{row.ratio:.3f}'
        print(f'{row.name:{width}}  {ratio:>8}  {row.aim:<13} {row.verdict}')
        detail = f'{row.ours} against {row.other}' if row.ours else ''
        print('    ' + '; '.join(filter(None, [detail, row.remark])))
    for remark in remarks:
        print(f'* {remark}')
    print(f'{where.relative_to(ROOT)} has the numbers ({clock})')


def run() -> int:
    clock = Clock()
    if platform.machine() != 'x86_64':
        raise Failure('the guest of make bench is for x86_64 hosts')
    if shutil.disk_usage('/dev/shm').free < GIB:
        raise Failure('/dev/shm has less than 1 GiB free, for the guest\'s RAM '
                      'and the device\'s memory')
    build.build()
    try:
        rom()
        if os.access('/dev/kvm', os.R_OK | os.W_OK):
            kvm_access()
            growing('kvm')
        else:
            not_measured('KVM', '/dev/kvm cannot be used here')
        tcg_type3()
        growing('tcg')
        space_toggles()
    except m.BenchError as err:
        raise Failure(str(err)) from err
    report(clock)
    return 0


if __name__ == '__main__':
    main(run)
