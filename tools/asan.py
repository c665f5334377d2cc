# SPDX-License-Identifier: GPL-2.0-or-later
"""make check-asan: our tests under AddressSanitizer, LeakSanitizer and UBSan.

asan.py          builds QEMU for one machine with them, and runs part of the
                 tests: two kernels, each with one of the backends
asan.py TAP      the same, and writes its results there

The test programs and vfio-sim are those of the ordinary build.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import List

import build as ordinary
import mesontest
import ninja
import tap
import tree
from common import (Clock, Failure, QEMU, RESULTS, ROOT, lock, main,
                    say)

OBJ = QEMU / 'asan'
LEAKS = ROOT / 'tools/asan.supp'
UNDEFINED = ROOT / 'tools/ubsan.supp'
TARGETS = ['qemu-system-x86_64', 'tests/qtest/libvfio-cxl-vhost-log.so']
TESTS = ['qtest-x86_64/vfio-cxl*']
MODES = ['v2-reset/legacy', 'v6/iommufd']
OTHERS = ['acpi', 'windows']
# A hundred starts of QEMU; check-fuzz has the same replies under sanitizers
LONG = ['malformed']


def build() -> None:
    assembled = tree.assembled()
    clock = Clock()
    with lock(OBJ):
        ninja.build(assembled.src, OBJ, TARGETS, ninja.SANITIZED)
    say(f'built: {OBJ} ({clock})')


def runtime() -> str:
    """The library that must come before all others, vfio-sim's too."""
    listing = subprocess.run(['ldd', str(OBJ / 'qemu-system-x86_64')],
                             stdout=subprocess.PIPE, check=True,
                             universal_newlines=True).stdout
    for line in listing.splitlines():
        words = line.split()
        if words[0].startswith('libasan.so') and len(words) > 2:
            return words[2]
    raise Failure('qemu-system-x86_64 is not linked with AddressSanitizer')


def settings() -> dict:
    return {
        'ASAN_OPTIONS': 'detect_leaks=1:detect_stack_use_after_return=0',
        'LSAN_OPTIONS': f'suppressions={LEAKS}:print_suppressions=0',
        'UBSAN_OPTIONS': 'halt_on_error=1:print_stacktrace=1:'
                         f'suppressions={UNDEFINED}',
        'VFIO_CXL_TEST_PRELOAD': runtime(),
        'VFIO_CXL_BLIND_VCPUS': '1',
    }


def arguments() -> List[str]:
    chosen = [word for path in MODES + OTHERS
              for word in ('-p', f'/x86_64/vfio-cxl/{path}')]
    return mesontest.ALL_KERNELS + chosen + [word for mode in MODES
                                             for name in LONG
                     for word in ('-s', f'/x86_64/vfio-cxl/{mode}/{name}')]


def run() -> int:
    ordinary.build()
    build()
    results = Path(sys.argv[1]) if len(sys.argv) > 1 else None

    def keep(cases: List[tap.Case]) -> None:
        if results:
            tap.append(results, [case for case in cases
                                 if case.result != 'skip'])

    # In front of the test, since its own environment names the other QEMU
    wrapper = shlex.join(
        ['env', f'QTEST_QEMU_BINARY={OBJ / "qemu-system-x86_64"}',
         *(f'{name}={value}' for name, value in settings().items())])
    cases = mesontest.run(QEMU / 'obj', TESTS, RESULTS / 'asan', arguments(),
                          wrapper, keep)
    return int(any(case.result == 'not ok' for some in cases.values()
                   for case in some))


if __name__ == '__main__':
    os.environ['PYTHONDONTWRITEBYTECODE'] = '1'
    main(run)
