#!/usr/bin/env python3
# A real kernel's VFIO on a device of vfio-sim, without hardware.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Try a kernel's VFIO: a guest gets a CXL device as hardware would be, binds
its own driver to it, and runs our QEMU, the conformance test and raw probes
on that. The same programs run below vfio-sim, and the report shows both."""

import argparse
import concurrent.futures
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path[1:1] = [str(TOP / 'tests/guest'), str(TOP / 'tests/bench')]

# pylint: disable=wrong-import-position
from boot import MEMORY, Harness, tail, vfio_device  # noqa: E402
from debian import GuestError, say  # noqa: E402
from driver import DriverBuilder  # noqa: E402
from image import Image  # noqa: E402
from initramfs import (LEVEL1, Kernel, Level1, own_kernel,  # noqa: E402
                       stock_kernel)
from machines import MACHINES, base_command, kernel_line  # noqa: E402
from report import Report, parse  # noqa: E402
from topology import DECODER  # noqa: E402

EXPECTED = HERE / 'expected'
DRIVER = 'vfio-cxl-nested'
SOURCES = [HERE / 'driver' / name for name in
           ('vfio-cxl-nested.c', 'Makefile')]
# The generation of the hardware that level 1 sees has no bearing on what its
# kernel offers; this one resets it as a real device would be
HARDWARE = 'v2-reset'


class Try(NamedTuple):
    """A kernel's driver, and what is compared with it."""
    name: str
    driver: str                 # as sysfs calls it
    form: str                   # of our own driver, or ''
    sim: str                    # vfio-sim's generation; '' to be found out
    knobs: Tuple[str, ...] = ()  # its revision


TRIES = [Try('stock', 'vfio-pci', '', 'none'),
         Try('driver-v2', DRIVER, 'v2', 'v2-reset',
             ('keeps-base=0', 'dma-buf-exporter=1')),
         Try('driver-v4', DRIVER, 'v4', 'v4')]


class Level0(Harness):
    """Starts level 1, and the same programs below vfio-sim."""

    def boot(self, kernel: Kernel, initramfs: Path, one: Try,
             shell: bool) -> str:
        """Level 1's words."""
        append = ('intel_iommu=on no_timer_check watchdog_thresh=60 '
                  f'nested.driver={one.driver}')
        if one.form:
            append += f' nested.form={one.form}'
        command = [str(self.sim), f'--memory={MEMORY >> 20}M',
                   f'--kernel={HARDWARE}', '--topology=A', '--']
        command += base_command(self.qemu, self.image('q35'), 'q35', 'tcg', 1,
                                '3G')
        command[command.index('-kernel') + 1] = str(kernel.image)
        command += ['-initrd', str(initramfs), '-no-reboot',
                    '-append', kernel_line('q35', append)
                    + (' nested.shell=1' if shell else ''),
                    '-machine', MACHINES['q35']['machine'] + ','
                    + DECODER.machine(),
                    '-device', 'intel-iommu,intremap=on,caching-mode=on',
                    *DECODER.arguments(),
                    '-device', vfio_device(0, 'rp0', 'legacy', 'firmware')]
        if shell:
            subprocess.run(command, check=False)
            return ''
        text, seconds, why = self._run(command, self.log(f'nested-{one.name}'),
                                       self.limit)
        say(f'  {one.name}: {seconds:.0f} s')
        if why:
            raise GuestError(f'level 1 of {one.name}: {why}\n'
                             + tail(self.log(f'nested-{one.name}')))
        return text

    def compare(self, one: Try, sim: str) -> str:
        """The same programs, below vfio-sim."""
        command = [str(self.sim), f'--memory={MEMORY >> 20}M',
                   f'--kernel={sim}', '--topology=A',
                   *(f'--set=0000:c1:00.0 {knob}' for knob in one.knobs),
                   '--', sys.executable, str(LEVEL1 / 'main.py'), '--device=0000:c1:00.0',
                   f'--qemu={self.qemu}/qemu-system-x86_64',
                   f'--rom={self.build}/guest.rom',
                   f'--conformance={self.sim.parent}/test-vfio-kernels',
                   f'--host-check={TOP}/scripts/vfio-cxl-host.py']
        environment = {**os.environ, 'PYTHONDONTWRITEBYTECODE': '1',
                       'PYTHONPATH': str(TOP / 'tests/bench')}
        text, _, why = self._run(command, self.log(f'sim-{one.name}'),
                                 self.limit, environment)
        if why:
            raise GuestError(f'{one.name} below vfio-sim: {why}')
        return text


def judge(one: Try, report: Report, regenerate: bool) -> List[str]:
    """What is not as expected."""
    path = EXPECTED / f'{one.name}.txt'
    text = report.table()
    if regenerate:
        path.write_text(text)
    if not path.exists():
        return [f'{path} does not exist']
    return report.unlike(path.read_text())


def prepare(build: Path, image: Image, qemu: Path, place: Optional[Path],
            update: bool) -> Tuple[Kernel, Path]:
    """The kernel and the initramfs of level 1."""
    image.resolve(os.environ.get('GUEST_KERNEL', ''), update)
    image.unpack()
    module: Optional[Path] = None
    if place:
        kernel = own_kernel(place)
    else:
        kernel = stock_kernel(image, build)
        builder = DriverBuilder(image.build, {'amd64': image.apt}, update)
        module, why = builder.build('amd64', kernel.release, DRIVER, SOURCES)
        if module is None:
            raise GuestError(why)
    say(f'Level 1: Linux {kernel.release}, {kernel.image}')
    level1 = Level1(build, image, qemu)
    level1.make()
    out = build / 'level1.cpio'
    level1.pack(kernel, module, out)
    return kernel, out


def try_one(level0: Level0, kernel: Kernel, initramfs: Path, one: Try) -> \
        Report:
    """Run one, and what it is compared with."""
    seen = parse(level0.boot(kernel, initramfs, one, False))
    sim = one.sim or seen.generation() or 'none'
    reference = parse(level0.compare(one, sim))
    report = Report(one.name, kernel.release, sim, seen, reference)
    path = level0.build / f'{one.name}.txt'
    path.write_text(report.text())
    return report


def select(args: argparse.Namespace, place: Optional[Path]) -> List[Try]:
    """What is tried."""
    if place:
        driver = os.environ.get('DRIVER') or 'vfio-pci'
        return [Try(place.resolve().name, driver, '', '')]
    found = [one for one in TRIES if not args.only or one.name in args.only]
    if not found:
        raise GuestError('there are: ' + ', '.join(t.name for t in TRIES))
    return found


def try_all(level0: Level0, kernel: Kernel, initramfs: Path,
            tries: List[Try], args: argparse.Namespace) -> int:
    """Try them, and judge or show their reports."""
    lines = [f'1..{len(tries)}']
    failures = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        todo = [(one, pool.submit(try_one, level0, kernel, initramfs, one))
                for one in tries]
        for number, (one, future) in enumerate(todo, 1):
            notes = []
            try:
                report = future.result()
                if args.check:
                    notes = judge(one, report, args.regenerate)
                else:
                    print(report.text(), flush=True)
                    failures += report.failed()
            except GuestError as err:
                notes = str(err).splitlines()
            except BaseException:
                level0.children.end_all()
                raise
            failures += bool(notes)
            lines.append(f'{"not ok" if notes else "ok"} {number} - nested/'
                         + one.name)
            lines += [f'# {note}' for note in notes]
            if notes and not args.check:
                print('\n'.join(notes), flush=True)
    if args.check:
        print('\n'.join(lines), flush=True)
    if args.tap:
        args.tap.parent.mkdir(parents=True, exist_ok=True)
        args.tap.write_text('\n'.join(lines) + '\n')
    return int(failures > 0)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog='Environment: KERNEL, a built tree of '
        'Linux or a directory with a vmlinuz and its modules; DRIVER, the one '
        'of it that takes the device (vfio-pci); QEMU_BUILD, GUEST_BUILD, '
        'VFIO_SIM.')
    parser.add_argument('--check', action='store_true', help='compare the '
                        'reports with the expected ones, TAP output')
    parser.add_argument('--only', action='append', metavar='NAME',
                        help=', '.join(one.name for one in TRIES))
    parser.add_argument('--regenerate', action='store_true', help='write the '
                        'expected reports, to be reviewed')
    parser.add_argument('--shell', action='store_true',
                        help='a shell at level 1 instead')
    parser.add_argument('--limit', type=float, default=600,
                        help='seconds for one of them (default 600)')
    parser.add_argument('--jobs', type=int, default=2, metavar='N',
                        help='how many at the same time (default 2)')
    parser.add_argument('--update', action='store_true',
                        help='ask Debian for newer packages')
    parser.add_argument('--tap', type=Path, metavar='FILE',
                        help='with --check: write TAP there too')
    args = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))

    place = None
    if os.environ.get('KERNEL') and not args.check:
        place = Path(os.environ['KERNEL'])
    guest_build = Path(os.environ.get('GUEST_BUILD') or TOP / 'build/guest')
    build = (guest_build.parent / 'nested').resolve()
    build.mkdir(parents=True, exist_ok=True)
    qemu = Path(os.environ.get('QEMU_BUILD') or
                TOP / 'build/qemu/obj').resolve()
    image = Image(guest_build.resolve(), 'amd64')
    level0 = Level0(qemu, build, {'amd64': image}, 'tcg', args.limit)
    level0.check_tools(['q35'])
    tries = select(args, place)
    kernel, initramfs = prepare(build, image, qemu, place, args.update)
    if args.shell:
        level0.boot(kernel, initramfs, tries[0], True)
        return 0
    return try_all(level0, kernel, initramfs, tries, args)


if __name__ == '__main__':
    try:
        sys.exit(main())
    except GuestError as error:
        print(f'nested: {error}', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
