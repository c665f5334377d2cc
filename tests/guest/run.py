#!/usr/bin/env python3
# Real Linux guests that use a passed-through CXL Type-2 device.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Prepare guests, show what they can do, and test with them."""

import argparse
import concurrent.futures
import json
import os
import signal
import sys
from pathlib import Path
from typing import (Any, Callable, Dict, Iterator, List, Optional, Sequence,
                    TextIO, Tuple)

from boot import Case, Harness, Result, tail
from cases import CHECK, DEMO
from debian import GuestError, say
from driver import DriverBuilder
from image import Image
from life import life_tests
from listing import outline
from machines import MACHINES
from placement import NumaTest, SmmuTest
from smmu import FourSmmusTest
from stock import GPUTest, StockDriverTest
from tests import CaseTest, Test

TOP = Path(__file__).resolve().parents[2]


def prepare(build: Path, machines: List[str], update: bool) -> \
        Dict[str, Image]:
    """Fetch and make all that guests boot."""
    wish = os.environ.get('GUEST_KERNEL', '')
    needed = sorted({MACHINES[m]['arch'] for m in machines})
    # The compiler comes from the other's packages, so both are always known
    images = {arch: Image(build, arch) for arch in ('amd64', 'arm64')}
    for arch in needed:
        images[arch].resolve(wish, update)
    builder = DriverBuilder(build, {a: i.apt for a, i in images.items()},
                            update)
    for arch in needed:
        images[arch].make(builder)
    return {arch: images[arch] for arch in needed}


def size_text(text: str) -> str:
    """A size in hexadecimal, for people."""
    try:
        size = int(text, 16)
    except ValueError:
        return text
    for unit, shift in (('GiB', 30), ('MiB', 20), ('KiB', 10)):
        if size >= 1 << shift:
            return f'{size / (1 << shift):g} {unit}'
    return f'{size} bytes'


def report(result: Result) -> None:
    """What one guest showed, in a few lines."""
    case = result.case
    rates: Dict[str, str] = {}
    for line in result.infos:
        rates.update({k: v for k, v in line.items()
                      if k.startswith(('device-', 'ram-', 'dma'))})
    backend = {'legacy': 'container', 'iommufd': 'iommufd'}[case.backend]
    who = {'firmware': 'firmware', 'guest': 'the guest program'}[case.mode]
    lock = {'1': ', locked', '0': ''}.get(result.value('decoder', 'locked'),
                                          '')
    base = result.value('cfmws', 'base')
    size = result.value('cfmws', 'size')

    def line(head: str, text: str) -> None:
        print(f'  {head:<9} {text}')

    print(f'{case.machine}: decoder committed by {who}, VFIO {backend}')
    line('guest', f'Linux {result.boot.get("kernel", "?")}, '
         f'{result.seconds:.1f} s from start to power-off')
    line('topology', f'fixed window {base} ({size_text(size)}) -> '
         f'{case.topology.path} -> {result.value("device", "bdf")}')
    line('decoder', f'GPA {result.value("decoder", "gpa")}, '
         f'{size_text(result.value("decoder", "size"))}{lock}')
    if rates:
        line('rates', f'write {rates.get("device-write", "?")}, read '
             f'{rates.get("device-read", "?")}, DMA {rates.get("dma", "?")} '
             f'MB/s (guest RAM: write {rates.get("ram-write", "?")}, read '
             f'{rates.get("ram-read", "?")})')
    if case.driver == 'cxl':
        reason = result.skipped.get('cxl-core') or \
            result.skipped.get('driver') or result.failed.get('cxl-core', '')
        line('CXL core', 'region attached at '
             + result.value('cxl-core', 'range') if 'cxl-core' in result.ok
             else reason or 'not reached')
    line('checks', f'{len(result.ok)} ok, {len(result.failed)} failed, '
         f'{len(result.skipped)} skipped')
    for name, why in result.skipped.items():
        line('', f'skipped {name}: {why}')
    for name, why in result.failed.items():
        line('', f'FAILED {name}: {why}')
    line('host', result.host)
    for problem in result.problems:
        line('', f'PROBLEM {problem}')
    line('verdict', 'PASS' if result.passed else f'FAIL (log: {result.log})')
    print(flush=True)


def show_topology(result: Result) -> None:
    """The kernel's own view of the topology."""
    lines = result.blocks.get('cxl-list')
    if not lines:
        return
    try:
        lines = outline(json.loads('\n'.join(lines)))
    except (ValueError, TypeError, StopIteration):
        pass
    print("The guest kernel's own view (cxl list) on "
          f'{result.case.machine}:')
    for text in lines:
        print('  ' + text)
    print(flush=True)


def run_all(harness: Harness, items: Sequence[Any], jobs: int,
            run: Callable[[Any], Any]) -> Iterator[Tuple[Any, Any]]:
    """Run some at a time; yields each in order, with what it returned."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for item, future in [(i, pool.submit(run, i)) for i in items]:
            try:
                yield item, future.result()
            except BaseException:
                # The pool waits for what runs: let it find its guests dead
                harness.children.end_all()
                raise


def demo(harness: Harness, cases: List[Case], jobs: int) -> int:
    """Run the guests and show a report."""
    failures = 0
    shown = False
    say(f'Booting {len(cases)} guests, {jobs} at a time')
    for case, result in run_all(harness, cases, jobs, harness.run):
        report(result)
        if not result.passed:
            failures += 1
            print(f'Last lines of {result.log}:\n{tail(result.log)}\n',
                  flush=True)
        elif not shown and case.driver == 'cxl':
            show_topology(result)
            shown = True
    if failures:
        print(f'FAIL: {failures} of {len(cases)} guests')
        return 1
    print(f'PASS: {len(cases)} guests used the device memory, and the host '
          'found the same bytes')
    return 0


def check(harness: Harness, tests: List[Test], jobs: int,
          tap: Optional[TextIO]) -> int:
    """Run the tests, some of them at the same time."""
    lines = 0
    failures = 0

    def emit(text: str) -> None:
        print(text, flush=True)
        if tap:
            tap.write(text + '\n')
            tap.flush()

    emit(f'1..{sum(len(test.points) for test in tests)}')
    for test, _ in run_all(harness, tests, jobs, lambda t: t.run(harness)):
        for name, point in test.points.items():
            lines += 1
            failures += not point.passed
            emit(f'{"ok" if point.passed else "not ok"} {lines} - {name}'
                 + (f' # SKIP {point.skipped}' if point.skipped else ''))
            for text in point.notes:
                emit(f'# {text}')
        for text in test.notes:
            emit(f'# {text}')
    print(f'{lines - failures} passed, {failures} failed')
    return 1 if failures else 0


def select(tests: List[Any], args: argparse.Namespace) -> List[Any]:
    """The guests that the command line asks for."""
    found = [test for test in tests
             if not args.only or any(o in test.name for o in args.only)]
    if not found:
        raise GuestError('no guest of that name; existing ones: '
                         + ', '.join(test.name for test in tests))
    return found


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog='Environment: QEMU_BUILD (build/qemu/obj),'
        ' GUEST_BUILD (build/guest), VFIO_SIM (build/vfio-sim/vfio-sim), ACCEL '
        '(tcg, or kvm), GUEST_KERNEL (the beginning of a kernel version, such '
        'as 7.3).')
    sub = parser.add_subparsers(dest='what', required=True)
    for name, text in (('prepare', 'fetch and build what guests need'),
                       ('demo', 'boot guests and show a report'),
                       ('check', 'boot guests as tests, TAP output')):
        one = sub.add_parser(name, help=text)
        one.add_argument('--update', action='store_true',
                         help="ask Debian for newer packages")
        if name != 'prepare':
            one.add_argument('--only', action='append', metavar='TEXT',
                             help='only guests whose name contains TEXT')
            one.add_argument('--limit', type=float, default=300,
                             help='seconds for one guest (default 300)')
            one.add_argument('--jobs', type=int, metavar='N',
                             # A guest waits a tenth to a fifth of its time,
                             # but demo measures rates
                             default=min((os.cpu_count() or 1)
                                         + (name == 'check'), 4),
                             help='guests at the same time')
        if name == 'check':
            one.add_argument('--long', action='store_true',
                             help='only life cycles, at full length')
            one.add_argument('--regenerate', action='store_true',
                             help="write what 'cxl list' gives as the "
                             'expected results, to be reviewed')
            one.add_argument('--tap', type=Path, metavar='FILE',
                             help='write TAP there too')
    args = parser.parse_args()

    # Guests are in sessions of their own and have to be ended by us
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))

    build = Path(os.environ.get('GUEST_BUILD') or TOP / 'build/guest')
    build.mkdir(parents=True, exist_ok=True)
    build = build.resolve()
    qemu = Path(os.environ.get('QEMU_BUILD') or TOP / 'build/qemu/obj')
    accel = os.environ.get('ACCEL') or 'tcg'
    if accel not in ('tcg', 'kvm'):
        raise GuestError(f'ACCEL={accel}: must be tcg or kvm')

    if args.what == 'prepare':
        for image in prepare(build, list(MACHINES), args.update).values():
            say(f'{image.arch}: Linux {image.release}')
        return 0

    chosen: List[Any] = DEMO
    if args.what == 'check':
        chosen = life_tests(args.long)
        if not args.long:
            # What takes longest begins first
            chosen += [FourSmmusTest(), SmmuTest(), NumaTest('q35'), NumaTest('virt')]
            chosen += [test(machine) for test in (StockDriverTest, GPUTest)
                       for machine in ('q35', 'virt')]
            chosen += [CaseTest(case, args.regenerate) for case in CHECK]
    chosen = select(chosen, args)
    machines = sorted({one.machine for one in chosen})
    images = prepare(build, machines, args.update)
    harness = Harness(qemu, build, images, accel, args.limit)
    harness.check_tools(machines)
    for machine in machines:
        harness.try_accel(machine)
    if args.what == 'demo':
        return demo(harness, chosen, args.jobs)
    if args.tap:
        args.tap.parent.mkdir(parents=True, exist_ok=True)
        with args.tap.open('w', encoding='utf-8') as file:
            return check(harness, chosen, args.jobs, file)
    return check(harness, chosen, args.jobs, None)


if __name__ == '__main__':
    try:
        sys.exit(main())
    except GuestError as error:
        print(f'guest: {error}', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
