# SPDX-License-Identifier: GPL-2.0-or-later
"""make check and its parts: run tests, keep their results as TAP, count.

check.py [PART...]             runs parts (unit qtest ...), or all of them
check.py --summary [PART...]   counts what the last run of these parts gave
"""

import os
import re
import subprocess
import sys
import threading
import unittest
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Set, Tuple

import build
import direct
import mesontest
import sim
import tap
from common import (Clock, Failure, QEMU, RESULTS, ROOT, SIM, environment, main,
                    say)

UNIT = ['test-cxl*', 'test-vfio-info-cap', 'test-vfio-sim*']
SIM_UNIT = ['test-vfio-sim*']
QTEST = ['qtest-*/vfio-cxl*']
EVERYTHING = 'QCT_EVERYTHING'   # set in a run of all parts
SHARE = 'VFIO_CXL_TEST_SHARE'   # between machines: tests/qtest/vfio-cxl-helpers.h


class Recorder(unittest.TestResult):
    """Collects the tools' own tests as cases."""

    def __init__(self) -> None:
        super().__init__()
        self.cases: List[tap.Case] = []

    def note(self, test, result: str, remark: str = '') -> None:
        name = test.id()
        self.cases.append(tap.Case(result, name, remark))
        if result == 'not ok':
            say(f'    FAILED {name}: {remark}')

    def addSuccess(self, test) -> None:
        self.note(test, 'ok')

    def addFailure(self, test, err) -> None:
        self.note(test, 'not ok', str(err[1]).splitlines()[0])

    def addError(self, test, err) -> None:
        self.note(test, 'not ok', repr(err[1]))

    def addSkip(self, test, reason) -> None:
        self.note(test, 'skip', reason)


def check_tools(results: Path) -> None:
    recorder = Recorder()
    unittest.defaultTestLoader.loadTestsFromName('selftest').run(recorder)
    say(f'tools: {sum(c.result == "ok" for c in recorder.cases)} of '
        f'{len(recorder.cases)} passed')
    tap.append(results, recorder.cases)


def run_meson_tests(names: List[str], results: Path,
                    arguments: Sequence[str] = ()) -> None:
    mesontest.run(QEMU / 'obj', names, RESULTS / results.stem, arguments,
                  keep=lambda cases: tap.append(results, cases))


def check_unit(results: Path) -> None:
    build.build()
    run_meson_tests(UNIT, results)
    mesontest.run(sim.OBJ, SIM_UNIT, RESULTS / 'vfio-sim',
                  keep=lambda cases: tap.append(results, cases))


def check_qtest(results: Path) -> None:
    build.build()
    if os.environ.get(EVERYTHING):
        os.environ[SHARE] = '1'
    run_meson_tests(QTEST, results, mesontest.ALL_KERNELS)
    cases = tap.read(results)
    for what, lost in (('each test runs on one machine at least',
                        left_out(cases)),
                       ('each kernel that vfio-sim has is tested',
                        untested(cases))):
        tap.append(results, [tap.Case('not ok' if lost else 'ok', what,
                                      ', '.join(sorted(lost)))])


def common_name(path: str) -> str:
    """What the cases of both machines share."""
    return path.partition('/vfio-cxl/')[2]


def untested(cases: List[tap.Case]) -> Set[str]:
    """The kernels without a test: QEMU may have lost their interface."""
    usage = subprocess.run([str(SIM), '--help'], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, text=True, check=True).stdout
    kernels = re.search(r'kernel to stand in for:([\w\s-]+)', usage)
    if not kernels:
        raise Failure('vfio-sim --help does not list its kernels')
    return (set(kernels[1].split()) -
            {common_name(case.name).partition('/')[0] for case in cases})


def left_out(cases: List[tap.Case]) -> Set[str]:
    """The tests that a machine has, but that none has run."""
    have: Set[str] = set()
    env = environment()
    env.pop(SHARE, None)
    for entry in direct.entries(QEMU / 'obj', QTEST):
        listing = subprocess.run(
            [*entry['cmd'], *mesontest.ALL_KERNELS, '-l'], cwd=QEMU / 'obj',
            env={**env, **entry['env']}, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, check=True).stdout
        have |= {common_name(line) for line in listing.splitlines()
                 if line.startswith('/')}
    return have - {common_name(case.name) for case in cases} - {''}


def run_program(command: List[str], what: str) -> None:
    """A part that writes its own TAP; its output goes to the terminal."""
    status = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL,
                            env=guest_environment(), check=False).returncode
    if status:
        raise Failure(f'{what} ended with status {status}')


def guest_environment() -> dict:
    env = environment()
    env.setdefault('ACCEL', 'tcg')
    env['QEMU_BUILD'] = str(QEMU / 'obj')
    env['GUEST_BUILD'] = str(ROOT / 'build/guest')
    return env


HARNESS = [sys.executable, str(ROOT / 'tests/guest/run.py')]


def check_guest(results: Path) -> None:
    build.build()
    run_program([*HARNESS, 'prepare'], 'preparing the guests')
    run_program([*HARNESS, 'check', '--tap', str(results)], 'the guest tests')


def prepare_ahead() -> None:
    """Fetch and unpack what guests boot while the build begins.

    If that fails, check_guest() tries again and reports it.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    with open(RESULTS / 'prepare.log', 'w', encoding='utf-8') as log:
        subprocess.run(['timeout', '--kill-after=20', '900', *HARNESS,
                        'prepare'], cwd=ROOT, stdin=subprocess.DEVNULL,
                       stdout=log, stderr=log, env=guest_environment(),
                       check=False)


def check_nested(results: Path) -> None:
    build.build()
    run_program([sys.executable, str(ROOT / 'tests/nested/run.py'), '--check',
                 '--tap', str(results)], 'the nested runs')


def check_install(results: Path) -> None:
    run_program([*HARNESS, 'prepare'], 'preparing the guests')
    tool('install.py', 'check')(results)


def check_libvirt(results: Path) -> None:
    build.build()
    run_program([sys.executable, str(ROOT / 'tests/libvirt/check.py'), '--tap',
                 str(results)], 'the tests with libvirt')


def check_fuzz(results: Path) -> None:
    tool('fuzz.py', '1000000', str(results))(results)


def check_asan(results: Path) -> None:
    tool('asan.py', str(results))(results)


def tool(name: str, *words: str) -> Callable[[Path], None]:
    command = [sys.executable, str(ROOT / 'tools' / name), *words]
    return lambda results: run_program(command, name)


# Part -> its function and time limit in seconds, in their order
PARTS: Dict[str, Tuple[Callable[[Path], None], int]] = {
    'unit': (check_unit, 1500),
    'tools': (check_tools, 300),
    'qtest': (check_qtest, 1500),
    'asan': (check_asan, 1500),
    'upstream': (tool('upstream.py'), 1200),
    'series': (tool('series.py', 'check'), 2100),
    'fuzz': (check_fuzz, 300),
    'dist': (tool('dist.py', 'check'), 600),
    'guest': (check_guest, 1200),
    'nested': (check_nested, 900),
    'install': (check_install, 600),
    'libvirt': (check_libvirt, 1500),
}


# In a run of all parts, these run beside each other. "unit" and "series" leave
# one of two processors idle while meson configures; what boots guests, but for
# "guest", has one at a time.
LANES = [(['unit'], ['tools']),
         (['series'], ['fuzz', 'dist', 'libvirt']),
         (['nested'], ['install'])]


def run_part(part: str, log: Optional[Path] = None) -> None:
    """Run it in a separate process, so that a time limit can end all of it."""
    results = RESULTS / f'{part}.tap'
    results.unlink(missing_ok=True)
    clock = Clock()
    say(f'==== {part}' + (f' (at the same time; log: {log})' if log else ''))
    command = ['timeout', '--kill-after=20', str(PARTS[part][1]),
               sys.executable, __file__, '--part', part]
    with open(log or os.devnull, 'w', encoding='utf-8') as file:
        output = file if log else None
        status = subprocess.run(command, check=False, stdout=output,
                                stderr=output).returncode
    if log:
        print(log.read_text(encoding='utf-8', errors='replace'), end='',
              flush=True)
    cases = tap.read(results) if results.exists() else []
    if status == 124:
        trouble = f'not finished after {PARTS[part][1]} s'
    elif status and not any(case.result == 'not ok' for case in cases):
        trouble = f'status {status}, see above'
    elif not cases:
        trouble = 'it produced no result'
    else:
        trouble = ''
    if trouble:
        say(f'    FAILED {part}: {trouble}')
        tap.append(results, [tap.Case('not ok', f'check-{part} runs to its '
                                      'end', trouble)])
    say(f'==== {part}: {clock}')


def run_lanes(first: List[str], second: List[str]) -> None:
    """Run two lists of parts at the same time."""
    logs = {part: RESULTS / f'{part}.log' for part in second}
    RESULTS.mkdir(parents=True, exist_ok=True)
    beside = threading.Thread(
        target=lambda: [run_part(part, logs[part]) for part in second])
    beside.start()
    for part in first:
        run_part(part)
    beside.join()


def run_parts(parts: List[str]) -> None:
    waiting, everything = list(parts), set(PARTS) <= set(parts)
    ahead = threading.Thread(target=prepare_ahead)
    if everything:
        os.environ[EVERYTHING] = '1'
        ahead.start()
    while waiting:
        if waiting[0] == 'series' and everything:
            ahead.join()    # for libvirt, beside it
        lanes = next((pair for pair in LANES if waiting[0] in sum(pair, [])),
                     None)
        if lanes and everything:
            run_lanes(*lanes)
            done = sum(lanes, [])
        else:
            run_part(waiting[0])
            done = waiting[:1]
        waiting = [part for part in waiting if part not in done]


def summary(parts: List[str]) -> int:
    total = {'ok': 0, 'not ok': 0, 'skip': 0}
    for results in [RESULTS / f'{part}.tap' for part in parts]:
        if not results.exists():
            tap.append(results, [tap.Case('not ok', 'was not run')])
        count = {'ok': 0, 'not ok': 0, 'skip': 0}
        for case in tap.read(results):
            count[case.result] += 1
            total[case.result] += 1
            if case.result == 'not ok':
                print(f'FAILED {results.stem}: {case.name}')
        print(f'{results.stem + ":":<16}{count["ok"]:5} passed '
              f'{count["not ok"]:3} failed {count["skip"]:3} skipped')
    skipped = f', {total["skip"]} skipped' if total['skip'] else ''
    print(f'{total["ok"]} passed, {total["not ok"]} failed{skipped}',
          flush=True)
    return int(total['not ok'] > 0 or total['ok'] == 0)


def run() -> int:
    words = sys.argv[1:]
    if words[:1] == ['--part']:
        PARTS[words[1]][0](RESULTS / f'{words[1]}.tap')
        return 0
    parts = [word for word in words if word != '--summary'] or list(PARTS)
    unknown = set(parts) - set(PARTS)
    if unknown:
        raise Failure(f'no such part: {", ".join(sorted(unknown))}\n  parts: '
                      + ', '.join(PARTS))
    if '--summary' not in words:
        run_parts(parts)
    return summary(parts)


if __name__ == '__main__':
    os.environ['PYTHONDONTWRITEBYTECODE'] = '1'
    main(run)
