# SPDX-License-Identifier: GPL-2.0-or-later
"""make check-asan: our tests under AddressSanitizer, LeakSanitizer and UBSan.

asan.py          builds QEMU for one machine with them, and runs part of the
                 tests: two kernels, each with one of the backends
asan.py TAP      the same, and writes its results there

It is the ordinary build with some of its objects compiled again. Nothing else
is instrumented, but the sanitizers' malloc() is everybody's, and so are leaks.
"""

import fnmatch
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import build
import mesontest
import ninja
import ours
import tap
import tree
from common import (Clock, Failure, QEMU, RESULTS, ROOT, lock, main,
                    say)

PLACE = QEMU / 'sanitized'
EMULATOR = 'qemu-system-x86_64'
LIBRARY = 'tests/qtest/libvfio-cxl-vhost-log.so'
SANITIZE = '-g -fsanitize=address,undefined'
LEAKS = ROOT / 'tools/asan.supp'
UNDEFINED = ROOT / 'tools/ubsan.supp'
TESTS = ['qtest-x86_64/vfio-cxl*']
MODES = ['v2-reset/legacy', 'v6/iommufd']
OTHERS = ['acpi', 'windows']

# Instrumented besides our files and those with hooks: what our code calls or is
# called by
NEIGHBOURS = ['hw/core/qdev*.c', 'hw/core/resettable.c', 'hw/cxl/*', 'hw/mem/*',
              'hw/pci/*', 'hw/pci-bridge/*', 'hw/vfio/*', 'qom/*.c',
              'system/memory.c', 'system/physmem.c']


def instrumented() -> List[str]:
    """Patterns of the source files that are instrumented."""
    names, ordinary = ours.files(), tree.assembled()
    return [*names, *ours.hooks(names, ordinary.modes(ordinary.base)),
            *NEIGHBOURS]


def rules(compile_commands: Dict[str, dict], link_command: str,
          patterns: List[str]) -> str:
    """The ninja file for the emulator, which is run in the ordinary build."""
    def moved(command: str, output: str) -> str:
        return command.replace(output, f'{PLACE}/{output}') + f' {SANITIZE}'

    def step(rule: str, output: str, inputs: List[str], command: str) -> str:
        escaped = command.replace('$', '$$')
        return (f'build {PLACE}/{output}: {rule} {" ".join(inputs)}\n'
                f'  command = {escaped}\n')

    source = Path(os.path.relpath(QEMU / 'src', QEMU / 'obj')).as_posix() + '/'
    text = ('rule compile\n  command = $command\n  description = '
            'Compiling with sanitizers $out\n  deps = gcc\n'
            '  depfile = $out.d\n'
            'rule link\n  command = $command\n  description = Linking $out\n')
    words = link_command.split()
    link_inputs = []
    for number, word in enumerate(words):
        entry = compile_commands.get(word)
        name = entry['file'].replace(source, '', 1) if entry else ''
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            text += step('compile', word, [entry['file']],
                         moved(entry['command'], word))
            words[number] = f'{PLACE}/{word}'
        if words[number].endswith(('.o', '.a')):
            link_inputs.append(words[number])
    command = ' '.join(words).replace(f'-o {EMULATOR}',
                                      f'-o {PLACE / EMULATOR}')
    return text + step('link', EMULATOR, link_inputs,
                       f'{command} {SANITIZE}')


def build_sanitized() -> None:
    clock = Clock()
    obj = QEMU / 'obj'
    with lock(PLACE):
        PLACE.mkdir(parents=True, exist_ok=True)
        file = PLACE / 'build.ninja'
        file.write_text(f'builddir = {PLACE}\n' + rules(
            ninja.commands(obj, 'c_COMPILER'),
            ninja.linker_commands(obj)[EMULATOR], instrumented()))
        ninja.ninja(obj, ['-f', str(file), str(PLACE / EMULATOR)])
        ninja.link_runtime_files(obj, PLACE)
        # A test looks for its library next to the emulator
        library = PLACE / LIBRARY
        library.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(obj / LIBRARY, library)
    say(f'built: {PLACE / EMULATOR} ({clock})')


def runtime() -> str:
    """The library that must come before all others, vfio-sim's too."""
    listing = subprocess.run(['ldd', str(PLACE / EMULATOR)],
                             stdout=subprocess.PIPE, check=True,
                             universal_newlines=True).stdout
    for line in listing.splitlines():
        words = line.split()
        if words[0].startswith('libasan.so') and len(words) > 2:
            return words[2]
    raise Failure(f'{EMULATOR} is not linked with AddressSanitizer')


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
    return mesontest.ALL_KERNELS + chosen


def run() -> int:
    build.build()
    build_sanitized()
    results = Path(sys.argv[1]) if len(sys.argv) > 1 else None

    def keep(cases: List[tap.Case]) -> None:
        if results:
            tap.append(results, [case for case in cases
                                 if case.result != 'skip'])

    # In front of the test, since its own environment names the other QEMU
    wrapper = shlex.join(
        ['env', f'QTEST_QEMU_BINARY={PLACE / EMULATOR}',
         *(f'{name}={value}' for name, value in settings().items())])
    cases = mesontest.run(QEMU / 'obj', TESTS, RESULTS / 'asan', arguments(),
                          wrapper, keep)
    return int(any(case.result == 'not ok' for some in cases.values()
                   for case in some))


if __name__ == '__main__':
    os.environ['PYTHONDONTWRITEBYTECODE'] = '1'
    main(run)
