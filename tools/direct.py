# SPDX-License-Identifier: GPL-2.0-or-later
"""Run a build's tests as meson has them, but without `meson test`.

That is for tests that run while their build goes on, in a copy of the programs,
and for single cases of a program at the same time.
"""

import concurrent.futures
import fnmatch
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Callable, List, NamedTuple, Sequence

import mesontest
import ninja
import tap
from common import environment, jobs, say

class Run(NamedTuple):
    """One start of a test program."""
    entry: dict         # as meson introspects it
    place: Path         # the build, or a copy
    log: Path
    arguments: Sequence[str] = ()


def entries(obj: Path, patterns: Sequence[str]) -> List[dict]:
    """The tests of these names that a build has."""
    return [entry for entry in mesontest.introspect(obj)
            if any(fnmatch.fnmatch(entry['name'], p) for p in patterns)]


def copy(obj: Path, place: Path, found: List[dict]) -> List[dict]:
    """Copy these tests and all that they run; the tests in their new place."""
    names = {Path(entry['cmd'][0]).relative_to(obj) for entry in found}
    names.update(path.relative_to(obj)
                 for path in obj.glob('tests/qtest/libvfio-cxl*.so'))
    for name in {*names, *map(Path, ninja.EMULATORS)}:
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(obj / name, target)
    ninja.link_runtime_files(obj, place)
    data = 'tests/data/vfio-cxl'
    if (obj / data).is_dir():
        shutil.copytree(obj / data, place / data, dirs_exist_ok=True)
    return [moved(entry, obj, place) for entry in found]


def moved(entry: dict, obj: Path, place: Path) -> dict:
    """A test with another build's programs."""
    def move(word: str) -> str:
        path = Path(word)
        return str(place / path.relative_to(obj)) if obj in path.parents \
            else word

    env = {name: move(value) if name == 'G_TEST_BUILDDIR' else value
           for name, value in entry['env'].items()}
    return {**entry, 'cmd': [move(word) for word in entry['cmd']], 'env': env}


def result(status: int, text: str) -> str:
    """meson's word for how a test program ended."""
    if status == 77:
        return 'SKIP'
    plans = re.findall(r'^1\.\.(\d+)', text, re.MULTILINE)
    return 'OK' if status == 0 and plans == [str(len(tap.parse(text)))] \
        else 'ERROR'


def run_one(run: Run) -> List[tap.Case]:
    env = {**environment(), 'MALLOC_PERTURB_': str(random.randint(1, 255)),
           **run.entry['env']}
    run.log.parent.mkdir(parents=True, exist_ok=True)
    output = run.log.with_suffix('.tap')
    status, how = -1, ''
    with run.log.open('wb') as errors, output.open('wb') as out:
        try:
            status = subprocess.run(
                [*run.entry['cmd'], *run.arguments], cwd=run.place, env=env,
                stdin=subprocess.DEVNULL, stdout=out, stderr=errors,
                timeout=run.entry['timeout'] * mesontest.PATIENCE,
                check=False).returncode
        except subprocess.TimeoutExpired:
            how = 'TIMEOUT'
    text = output.read_text(encoding='utf-8', errors='replace')
    return mesontest.cases({**run.entry, 'stdout': text, 'returncode': status,
                            'result': how or result(status, text)}, run.log)


def run_all(runs: Sequence[Run], workers: int = 0) -> mesontest.Cases:
    """Start them in this order, some at the same time."""
    results: mesontest.Cases = {}
    with concurrent.futures.ThreadPoolExecutor(workers or int(jobs())) as pool:
        for run, cases in zip(runs, pool.map(run_one, runs)):
            results.setdefault(run.entry['name'], []).extend(cases)
            for case in cases:
                if case.result == 'not ok':
                    say(f'    FAILED {case.name}: {case.remark}')
    return results


class Queue:
    """Does what it is given, one after the other, beside its owner."""

    def __init__(self) -> None:
        self.pool = concurrent.futures.ThreadPoolExecutor(1)
        self.waiting: List[concurrent.futures.Future] = []

    def add(self, job: Callable[[], object]) -> None:
        self.waiting.append(self.pool.submit(job))

    def finish(self) -> None:
        """Wait for all; the first exception is raised."""
        for future in self.waiting:
            future.result()
        self.pool.shutdown()
