# SPDX-License-Identifier: GPL-2.0-or-later
"""Run tests of a build by `meson test`, and take over their cases."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, List, Sequence

import tap
from common import QEMU, environment, jobs, say

Cases = Dict[str, List[tap.Case]]
# Without these a qtest of ours runs with one kernel only
ALL_KERNELS = ['-m', 'slow']
# The limits of tests, which are for an idle machine, are multiplied by this
PATIENCE = 2


def ended(entry: dict) -> bool:
    """Check that the test program ran to its end.

    glib prints a plan for each -p. To meson that is an error in the TAP, then.
    """
    plans = re.findall(r'^1\.\.\d+$', entry['stdout'], re.MULTILINE)
    return entry['result'] in ('OK', 'SKIP') or (
        entry['result'] == 'ERROR' and entry['returncode'] == 0
        and len(plans) > 1)


def cases(entry: dict, log: Path) -> List[tap.Case]:
    """The cases of a test program, which has an entry as in meson's log."""
    name = entry['name'].rpartition(' / ')[2]
    remark = f'log: {log}'
    found = [tap.Case(case.result, f'{name} {case.name}', case.remark
                      or (remark if case.result == 'not ok' else ''))
             for case in tap.parse(entry['stdout'])]
    if not ended(entry) and not any(case.result == 'not ok' for case in found):
        after = f' after {found[-1].name}' if found else ''
        found.append(tap.Case('not ok', f'{name} runs to its end',
                              f'{entry["result"]}{after}; {remark}'))
    return found


def read(log: Path) -> Cases:
    """The cases in meson's log, which has a line for each test that ended."""
    lines = log.read_text(encoding='utf-8').splitlines() if log.exists() else []
    return {entry['name'].rpartition(' / ')[2]:
            cases(entry, log.with_suffix('.txt'))
            for entry in map(json.loads, lines)}


def meson(obj: Path) -> str:
    """The meson of a build: QEMU's have their own, vfio-sim's has theirs."""
    own = obj / 'pyvenv/bin/meson'
    return str(own if own.exists() else QEMU / 'obj/pyvenv/bin/meson')


def introspect(obj: Path) -> List[dict]:
    """All tests that a build has, as `meson introspect` prints them."""
    return json.loads((obj / 'meson-info/intro-tests.json').read_text(
        encoding='utf-8'))


def run(obj: Path, names: Sequence[str], logs: Path,
        arguments: Sequence[str] = (), wrapper: str = '',
        keep: Callable[[List[tap.Case]], None] = lambda cases: None,
        patience: int = PATIENCE) -> Cases:
    """Run the tests of these names, which may have wildcards, with arguments.

    Results of tests that finish before this program is terminated are kept.
    The limits of tests are multiplied by patience.
    """
    if arguments.count('-p') > 1:
        say('meson calls programs that pass an ERROR here, as they print a plan '
            'for each -p')
    logs.mkdir(parents=True, exist_ok=True)
    made = obj / 'meson-logs'
    for old in made.glob('qct*'):
        old.unlink()
    # One more than there are processors, as some tests wait most of their time
    command = [meson(obj), 'test', '-C', str(obj), '--no-rebuild',
               '--num-processes', str(int(jobs()) + 1), '--logbase', 'qct',
               f'--timeout-multiplier={patience}',
               f'--test-args={shlex.join(arguments)}']
    if wrapper:
        command.append('--wrapper=' + wrapper)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    with subprocess.Popen([*command, *names], env=environment(),
                          stdin=subprocess.DEVNULL, stdout=sys.stderr
                          ) as process:
        try:
            process.wait()
        finally:
            process.terminate()
            process.wait()
            for log in made.glob('qct*'):
                shutil.copy(log, logs / re.sub('^qct[^.]*', 'testlog',
                                               log.name))
            results = read(logs / 'testlog.json')
            for found in results.values():
                keep(found)
                for case in found:
                    if case.result == 'not ok':
                        say(f'    FAILED {case.name}: {case.remark}')
    if not results:
        results['none'] = [tap.Case('not ok', 'tests of the names '
                                    + ' '.join(names), 'none ran')]
        keep(results['none'])
    return results
