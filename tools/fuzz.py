# SPDX-License-Identifier: GPL-2.0-or-later
"""make fuzz: arbitrary replies of a kernel, and arbitrary actions of a guest.

fuzz.py                both of what follows, ten million runs and a million
                       operations
fuzz.py RUNS [TAP]     feed replies to the reader of the kernel's interface, by
                       libFuzzer with ASan and UBSan, from tests/fuzz/corpus
fuzz.py --guest [OPS]  vfio-cxl-blind-test, OPS operations over all kernels,
                       both backends and both machines
fuzz.py --seeds        write each kernel's reply to tests/fuzz/corpus again
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List

import build
import mesontest
import tap
from common import Clock, Failure, QEMU, ROOT, main, run_logged, say

HARNESS = ROOT / 'tests/fuzz/fuzz-vfio-cxl-uapi.c'
SOURCES = ['cxl-compat.c', 'cxl-dvsec.c', 'cxl-host-regs.c', 'cxl-uapi.c',
           'info-cap.c']
CORPUS = ROOT / 'tests/fuzz/corpus'
OUT = ROOT / 'build/fuzz'
# Each has an input of its name there
KERNELS = sorted(path.name for path in CORPUS.glob('v[0-9]'))
OPERATIONS = 1000000
# The six kernels of the qtests, two backends, two machines
MODES = 24
# A run takes about 10 us; the limit is for a machine that is busy.
SECONDS_PER_MILLION = 120


def glib(what: str) -> List[str]:
    return subprocess.run(['pkg-config', what, 'gmodule-2.0'], check=True,
                          text=True, stdout=subprocess.PIPE).stdout.split()


def compile_harness(name: str, *extra: str) -> Path:
    if not shutil.which('clang'):
        raise Failure('no clang, which brings libFuzzer\n'
                      '  on Debian: apt-get install clang libclang-rt-dev')
    src, obj = QEMU / 'src', QEMU / 'obj'
    program = OUT / name
    say(f'compiling {name}')
    run_logged(['clang', '-std=gnu11', '-g', '-O1', '-fno-strict-aliasing',
                '-fwrapv', '-Wall', '-Werror',
                *extra, '-fno-sanitize-recover=undefined', '-D_GNU_SOURCE',
                '-DCOMPILING_SYSTEM_VS_USER', f'-I{obj}', f'-I{obj}/qapi',
                f'-I{obj}/trace', '-iquote', str(obj), '-iquote', str(src),
                '-iquote', f'{src}/include', '-iquote',
                f'{src}/host/include/generic', '-isystem',
                f'{src}/linux-headers', *glib('--cflags'),
                *(str(src / 'hw/vfio' / name) for name in SOURCES),
                str(HARNESS),
                '-Wl,--start-group', str(obj / 'libqom.a'),
                str(obj / 'libqemuutil.a'), '-Wl,--end-group',
                *glib('--libs'), '-lm', '-lpthread', '-o', str(program)],
               OUT / 'compile.log', f'compiling {name}')
    return program


def write_seeds() -> int:
    CORPUS.mkdir(exist_ok=True)
    program = compile_harness('seeds', '-fsanitize=address,undefined',
                              '-DVFIO_CXL_FUZZ_SEEDS')
    run_logged([str(program), str(CORPUS)], OUT / 'seeds.log', 'writing seeds')
    return 0


def check_seeds(program: Path, results: Path) -> None:
    """The reply of each kernel is recognised as that kernel's."""
    for name in KERNELS:
        run_logged([str(program), str(CORPUS / name)], OUT / 'seed.log',
                   f'the reader on the reply of a {name} kernel', timeout=60,
                   env={**os.environ, 'VFIO_CXL_FUZZ_EXPECT': name})
        tap.append(results, [tap.Case('ok', f'vfio-cxl-uapi: the reply of a '
                                      f'{name} kernel is accepted')])


def fuzz_guest(operations: int) -> int:
    build.build()
    clock = Clock()
    os.environ['VFIO_CXL_BLIND_OPS'] = str(-(-operations // MODES))
    os.environ.setdefault('VFIO_CXL_BLIND_SEED', str(os.getpid()))
    say(f'{operations} operations of a guest, '
        f'VFIO_CXL_BLIND_SEED={os.environ["VFIO_CXL_BLIND_SEED"]}')
    found = mesontest.run(QEMU / 'obj', ['qtest-*/vfio-cxl-blind-test'],
                          OUT / 'guest', mesontest.ALL_KERNELS, patience=10)
    cases = [case for some in found.values() for case in some]
    bad = [case.name for case in cases if case.result != 'ok']
    if bad or len(cases) != MODES:
        raise Failure(f'{len(cases)} of {MODES} tests ran, failed: '
                      f'{", ".join(bad) or "none"}')
    say(f'{operations} operations without a finding ({clock})')
    return 0


def run() -> int:
    if sys.argv[1:2] == ['--guest']:
        return fuzz_guest(int(sys.argv[2]) if sys.argv[2:] else OPERATIONS)
    build.build(('libqom.a', 'libqemuutil.a'))
    if sys.argv[1:] == ['--seeds']:
        return write_seeds()
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10000000
    results = Path(sys.argv[2]) if len(sys.argv) > 2 else OUT / 'fuzz.tap'
    program = compile_harness('fuzz-vfio-cxl-uapi',
                              '-fsanitize=fuzzer,address,undefined')
    results.unlink(missing_ok=True)
    check_seeds(program, results)
    work = OUT / 'corpus'
    work.mkdir(exist_ok=True)
    log = OUT / 'fuzz.log'
    limit = 60 + SECONDS_PER_MILLION * runs // 1000000
    say(f'{runs} runs from {len(list(CORPUS.iterdir()))} inputs, at most '
        f'{limit} s')
    clock = Clock()
    run_logged([str(program), f'-runs={runs}', '-max_len=4296', '-seed=1',
                f'-artifact_prefix={OUT}/', str(work), str(CORPUS)], log,
               'fuzzing (the input that failed is named below)',
               timeout=limit)
    done = re.search(r'Done (\d+) runs', log.read_text(encoding='utf-8',
                                                      errors='replace'))
    if not done or int(done.group(1)) < runs:
        raise Failure(f'fuzzing ended early; log: {log}')
    say(f'{done.group(1)} runs without a finding ({clock})')
    tap.append(results, [tap.Case('ok', f'vfio-cxl-uapi: {done.group(1)} '
                                  'fuzz runs without a finding')])
    return 0 if sys.argv[1:] else fuzz_guest(OPERATIONS)


if __name__ == '__main__':
    main(run)
