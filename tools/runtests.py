# SPDX-License-Identifier: GPL-2.0-or-later
"""Run test programs that QEMU's build knows, and keep their results."""

import concurrent.futures
import fnmatch
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Set

import tap
from common import Failure, environment, jobs, say


# Sessions of the tests that run at this moment.
RUNNING: Set[int] = set()


class Test(NamedTuple):
    name: str
    command: List[str]
    environment: Dict[str, str]
    obj: Path
    timeout: int
    is_tap: bool


def find(obj: Path, patterns: List[str]) -> List[Test]:
    """The tests of a configured build whose names match."""
    listing = obj / 'meson-info/intro-tests.json'
    tests = []
    for entry in json.loads(listing.read_text(encoding='utf-8')):
        if any(fnmatch.fnmatchcase(entry['name'], p) for p in patterns):
            tests.append(Test(entry['name'], entry['cmd'], entry['env'], obj,
                              entry['timeout'], entry['protocol'] == 'tap'))
    return sorted(tests)


def targets(tests: List[Test]) -> List[str]:
    """What ninja must build for these tests."""
    return sorted({os.path.relpath(test.command[0], test.obj)
                   for test in tests
                   if test.command[0].startswith(str(test.obj))})


def end(session: int) -> None:
    try:
        os.killpg(session, signal.SIGKILL)
    except ProcessLookupError:
        pass


def end_all(number: int, _frame) -> None:
    for session in list(RUNNING):
        end(session)
    os._exit(128 + number)


def execute(command: List[str], log: Path, timeout: int, cwd: Path,
            env: dict) -> str:
    """Run to the end or to the limit; returns '' or what went wrong."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, 'w', encoding='utf-8') as out:
        out.write(f'# {" ".join(command)}\n')
        out.flush()
        # A session of its own, so that what a test leaves behind ends too.
        with subprocess.Popen(command, cwd=cwd, env=env, stdout=out,
                              stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL,
                              start_new_session=True) as process:
            RUNNING.add(process.pid)
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                RUNNING.discard(process.pid)
                end(process.pid)
    if status is None:
        return f'no end after {timeout} s'
    if status < 0:
        return f'ended by signal {-status}'
    return f'ended with status {status}' if status else ''


def run_one(test: Test, logs: Path) -> List[tap.Case]:
    log = logs / (test.name.replace('/', '.') + '.log')
    trouble = execute(test.command, log, test.timeout, test.obj,
                      {**environment(), **test.environment})
    if not test.is_tap:
        return [tap.Case('not ok' if trouble else 'ok', test.name, trouble)]
    text = log.read_text(encoding='utf-8', errors='replace')
    cases = [tap.Case(case.result, f'{test.name} {case.name}',
                      case.remark or (f'log: {log}' if case.result == 'not ok'
                                      else ''))
             for case in tap.parse(text)]
    if not trouble and tap.planned(text) > len(cases):
        trouble = f'{tap.planned(text) - len(cases)} planned cases did not run'
    if trouble and not any(case.result == 'not ok' for case in cases):
        after = f' after {cases[-1].name}' if cases else ''
        cases.append(tap.Case('not ok', f'{test.name} runs to its end',
                              f'{trouble}{after}; log: {log}'))
    return cases


def run(tests: List[Test], logs: Path, label: str = '',
        keep: Callable[[List[tap.Case]], None] = lambda cases: None
        ) -> Dict[str, List[tap.Case]]:
    """Run tests side by side; one line for each as it ends."""
    if not tests:
        raise Failure(f'{label or "check"}: no tests found')
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end_all)
    results: Dict[str, List[tap.Case]] = {}
    guard = threading.Lock()

    def work(test: Test) -> None:
        start = time.monotonic()
        cases = run_one(test, logs)
        with guard:
            results[test.name] = cases
            keep(cases)
            bad = [case for case in cases if case.result == 'not ok']
            good = sum(case.result == 'ok' for case in cases)
            say(f'[{len(results)}/{len(tests)}] {label}{test.name}: '
                f'{good} of {len(cases)} passed'
                f'{f", {len(bad)} FAILED" if bad else ""}'
                f' ({time.monotonic() - start:.0f} s)')
            for case in bad:
                say(f'    FAILED {case.name}: {case.remark}')

    # The longest first: then no core idles at the end.
    ordered = sorted(tests, key=lambda test: -test.timeout)
    with concurrent.futures.ThreadPoolExecutor(int(jobs())) as pool:
        for future in [pool.submit(work, test) for test in ordered]:
            future.result()
    return results
