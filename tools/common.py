# SPDX-License-Identifier: GPL-2.0-or-later
"""Shared by the tools: paths, messages, running commands."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / 'build'
CACHE = BUILD / 'cache'
HOST = BUILD / 'host'
QEMU = BUILD / 'qemu'
RESULTS = BUILD / 'results'
# The launcher that tests use; the one setting for it
SIM = Path(os.environ.get('VFIO_SIM')
           or BUILD / 'vfio-sim/vfio-sim').absolute()


class Failure(Exception):
    """An error whose text tells the user what is wrong and what to do."""


def say(text: str) -> None:
    print(f'-- {text}', file=sys.stderr, flush=True)


def main(function) -> None:
    """Run a tool's main function; a Failure becomes a message and status 1."""
    try:
        sys.exit(function())
    except Failure as err:
        print(f'\nerror: {err}', file=sys.stderr, flush=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def environment() -> dict:
    """The environment for configure, ninja and the tests.

    Compiler output must not depend on which of our trees it comes from: then
    the pristine tree, ours and the series share ccache's results.
    """
    env = dict(os.environ)
    env.setdefault('CCACHE_BASEDIR', str(BUILD))
    env.setdefault('CCACHE_NOHASHDIR', '1')
    # Otherwise the first compilation takes a quarter longer
    env.setdefault('CCACHE_DEPEND', '1')
    # Page faults take a third of a test's time: a heap of huge pages has fewer
    env.setdefault('GLIBC_TUNABLES',
                   'glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1')
    env['VFIO_SIM'] = str(SIM)
    extra = HOST / 'usr/lib/python3/dist-packages'
    if extra.is_dir():
        env['PYTHONPATH'] = os.pathsep.join(
            filter(None, [str(extra), env.get('PYTHONPATH')]))
    return env


def jobs() -> str:
    return os.environ.get('JOBS') or str(len(os.sched_getaffinity(0)))


def tail(path: Path, lines: int = 15) -> str:
    try:
        text = path.read_text(errors='replace').splitlines()
    except OSError:
        return ''
    return '\n'.join('    ' + line for line in text[-lines:])


def run_logged(argv: list, log: Path, what: str, cwd=None, env=None,
               timeout=None) -> None:
    """Run a command with its output in a log file, shown only on failure."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, 'w', encoding='utf-8') as out:
        try:
            status = subprocess.run(
                argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, timeout=timeout, check=False
            ).returncode
        except subprocess.TimeoutExpired as err:
            raise Failure(f'{what}: not finished after {timeout} s\n'
                          f'{tail(log)}\n  whole log: {log}') from err
    if status:
        raise Failure(f'{what} failed (status {status})\n'
                      f'{tail(log)}\n  whole log: {log}')


@contextlib.contextmanager
def lock(directory: Path):
    """Lock a directory against a second tool; report when waiting."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / '.lock', 'w', encoding='utf-8') as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f'waiting: another make works on {directory}')
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class Clock:
    """Seconds since it was made, for messages."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self.start

    def __str__(self) -> str:
        return f'{self.seconds():.0f} s'
