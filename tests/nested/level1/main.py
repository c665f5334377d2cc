#!/usr/bin/env python3
# Tests of a kernel's VFIO, inside a guest of level 1 or, for comparison, below
# vfio-sim.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Try the VFIO driver of this kernel on a CXL device and print what it does."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import level2
import probe
import registers
from rows import Rows

SYSFS = Path('/sys/bus/pci')


def host_check(rows: Rows, script: str, device: str) -> None:
    """vfio-cxl-host.py, what it says of the kernel and of the device."""
    done = subprocess.run(
        [sys.executable, script, '--check', device], text=True, timeout=120,
        stdin=subprocess.DEVNULL, capture_output=True, check=False)
    for line in done.stdout.splitlines():
        words = line.split(None, 3)
        if len(words) == 4 and words[1] == device and \
                words[2] in ('device', 'kernel', 'memory'):
            rows.add(f'host/{words[2]}', f'{words[0]}, {words[3]}')
    if done.stderr.strip():
        rows.fail('host/stderr', done.stderr.strip().splitlines()[-1])


def conformance(rows: Rows, program: str, device: str) -> None:
    """Each case of test-vfio-kernels."""
    try:
        done = subprocess.run([program, '--tap', '-k', f'--device={device}'],
                              text=True, timeout=600, capture_output=True,
                              stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        rows.fail('conformance', 'no end after 600 s')
        return
    # Where a case stopped; the numbers of lines are of no interest
    reasons = re.findall(r'^(?:.*ERROR:\S+?:\d+:(\w+): )(.*)$', done.stderr,
                         re.M)
    found = re.findall(r'^(ok|not ok) \d+ (\S+)(.*)$', done.stdout, re.M)
    for result, path, rest in found:
        name = 'conformance/' + path.split('/', 3)[-1]
        if 'SKIP' in rest:
            continue
        if result == 'ok':
            rows.add(name, 'ok')
        else:
            function, text = reasons.pop(0) if reasons else ('', 'no reason')
            rows.fail(name, f'{function}: {text}')
    if not found:
        rows.fail('conformance', 'it ran no case: '
                  + ' / '.join(done.stderr.splitlines()[-2:]))


def write(path: Path, text: str) -> bool:
    """To a file of sysfs."""
    try:
        path.write_text(text + '\n')
    except OSError as err:
        print(f'{path}: {err}', flush=True)
        return False
    return True


def bind(rows: Rows, device: str, driver: str) -> bool:
    """Give the device to a driver."""
    place = SYSFS / 'devices' / device
    write(place / 'driver_override', driver)
    write(SYSFS / 'drivers_probe', device)
    owner = place / 'driver'
    ok = owner.exists() and os.path.basename(os.readlink(owner)) == driver
    if ok:
        rows.add('bind', 'ok')
    else:
        rows.fail('bind', 'the driver does not take the device')
    return ok


def unbind(device: str) -> None:
    """Take it away again."""
    write(SYSFS / 'devices' / device / 'driver/unbind', device)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--device', required=True)
    parser.add_argument('--driver', help='bind it to this driver, and compare '
                        "the hardware's registers before and after QEMU")
    parser.add_argument('--qemu', required=True)
    parser.add_argument('--rom', required=True)
    parser.add_argument('--conformance', required=True)
    parser.add_argument('--host-check', required=True)
    args = parser.parse_args()
    rows = Rows()
    before = registers.read(args.device) if args.driver else {}
    if not args.driver or bind(rows, args.device, args.driver):
        host_check(rows, args.host_check, args.device)
        level2.run(rows, args.device, Path(args.qemu), Path(args.rom))
        if args.driver:
            # What the tests below leave behind is their own affair
            unbind(args.device)
            registers.compare(rows, before, registers.read(args.device))
            bind(rows, args.device, args.driver)
        probe.run(rows, args.device)
        conformance(rows, args.conformance, args.device)
        if args.driver:
            unbind(args.device)
    print('NESTED-END', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
