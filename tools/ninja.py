# SPDX-License-Identifier: GPL-2.0-or-later
"""Configure a QEMU tree and build targets in it."""

import concurrent.futures
import fnmatch
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, Iterable, List

import firmware
import hostpython
from common import Failure, environment, jobs, run_logged, say

EMULATORS = ['qemu-system-x86_64', 'qemu-system-aarch64']
FIRMWARE = ['pc-bios/edk2-aarch64-code.fd', 'pc-bios/edk2-arm-vars.fd']
# What emulators look for next to themselves
RUNTIME_FILES = ['qemu-bundle', 'pc-bios']
OURS = ['tests/unit/test-cxl*', 'tests/unit/test-vfio-*',
        'tests/qtest/vfio-cxl*', 'tests/qtest/libvfio-cxl*.so']


# For a build that links the same programs again and again
FAST_LINKER = 'mold'


def compiler() -> str:
    command = os.environ.get('CC', 'gcc')
    return 'ccache ' + command if shutil.which('ccache') else command


@functools.lru_cache(maxsize=None)
def links_with(linker: str) -> bool:
    """Whether the linker is there, and the compiler knows it."""
    return bool(linker) and subprocess.run(
        [*shlex.split(os.environ.get('CC', 'gcc')), '-fuse-ld=' + linker,
         '-Wl,--version'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, check=False).returncode == 0


def configure_arguments(linker: str = '') -> List[str]:
    """For configure; with a linker, as -fuse-ld takes it, if it is there."""
    flags = [f'--extra-ldflags=-fuse-ld={linker}'] if links_with(linker) else []
    return [
        '--python=' + os.environ.get('PYTHON', '/usr/bin/python3'),
        '--cc=' + compiler(),
        '--target-list=aarch64-softmmu,x86_64-softmmu',
        '--without-default-features', '--enable-system', '--enable-tcg',
        '--enable-kvm', '--enable-fdt', '--enable-vhost-kernel',
        '--enable-vhost-user', '--disable-download', '--disable-docs',
        # A fifth of the time to compile. Sanitizers' reports have lines:
        # tools/asan.py
        '--disable-install-blobs', '--disable-debug-info', *flags,
        *os.environ.get('QEMU_CONFIGURE', '').split(),
    ]


def configure(src: Path, obj: Path, force: bool = False,
              linker: str = '') -> None:
    arguments = configure_arguments(linker)
    known = obj / 'configured.json'
    wanted = json.dumps(arguments)
    if (not force and known.exists() and known.read_text() == wanted
            and (obj / 'build.ninja').exists()):
        return
    hostpython.provide(src)
    obj.mkdir(parents=True, exist_ok=True)
    known.unlink(missing_ok=True)
    say(f'configuring {obj} (about a minute)')
    try:
        run_logged([os.path.relpath(src / 'configure', obj), *arguments],
                   obj / 'configure.log', 'configure', cwd=obj,
                   env=environment(), timeout=900)
    except Failure as err:
        raise Failure(f'{err}\n  A missing package? README.md lists what the '
                      'build needs.') from err
    hostpython.add_to_build(obj)
    known.write_text(wanted)


def ninja(obj: Path, targets: Iterable[str]) -> List[str]:
    """Build targets, with ninja's own [n/m]; returns the warnings.

    Other words for ninja's command line may be among the targets.
    """
    warnings = []
    command = ['ninja', '-j', jobs(), '-C', str(obj), *targets]
    with subprocess.Popen(
            command, env=environment(), stdin=subprocess.DEVNULL,
            stdout=None if sys.stdout.isatty() else subprocess.PIPE,
            stderr=subprocess.STDOUT, universal_newlines=True,
            errors='replace') as process:
        shown = time.monotonic()
        for line in process.stdout or []:
            # In a log one line of progress in ten seconds is enough.
            if re.match(r'\[\d+/\d+\] |ninja: ', line):
                if time.monotonic() - shown < 10:
                    continue
                shown = time.monotonic()
            if ': warning: ' in line:
                warnings.append(line.strip())
            print(line, end='', file=sys.stderr, flush=True)
    if process.returncode:
        raise Failure(f'the build in {obj} failed; the compiler\'s output is '
                      'above')
    return warnings


@functools.lru_cache(maxsize=1)
def linked(obj: Path, stamp: int) -> List[str]:
    """The build's programs and libraries; stamp is that of build.ninja."""
    listing = subprocess.run(
        ['ninja', '-C', str(obj), '-t', 'targets', 'all'], env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False,
        universal_newlines=True).stdout
    found = (line.rpartition(': ') for line in listing.splitlines())
    return sorted(name for name, _, rule in found if 'LINKER' in rule)


def known_targets(obj: Path, patterns: List[str]) -> List[str]:
    """Those of the build's programs and libraries that match."""
    stamp = (obj / 'build.ninja').stat().st_mtime_ns
    return [name for name in linked(obj, stamp)
            if any(fnmatch.fnmatchcase(name, p) for p in patterns)]


def commands(obj: Path, *rules: str) -> Dict[str, dict]:
    """The build's commands by these rules, by what they make.

    Each is a dict, with at least "command" and "file", its first input.
    """
    listing = subprocess.run(
        ['ninja', '-C', str(obj), '-t', 'compdb', '-x', *rules],
        env=environment(), stdout=subprocess.PIPE, check=True,
        universal_newlines=True).stdout
    return {entry['output']: entry for entry in json.loads(listing)}


def linker_commands(obj: Path) -> Dict[str, str]:
    """How the build's programs and libraries are linked."""
    return {output: entry['command'] for output, entry in
            commands(obj, 'c_LINKER', 'c_LINKER_RSP').items()}


def link_by_default(obj: Path, patterns: List[str]) -> str:
    """Link what matches by the usual linker, to nowhere; what it says."""
    wanted = known_targets(obj, patterns)
    linking = linker_commands(obj)

    with tempfile.TemporaryDirectory() as holder:
        def link(target: str) -> str:
            done = subprocess.run(
                f'{linking[target]} -fuse-ld=bfd -o '
                f'{holder}/{target.replace("/", "-")}',
                shell=True, cwd=obj, env=environment(), check=False,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, universal_newlines=True)
            return done.stdout or ('' if done.returncode == 0 else
                                   f'{target}: status {done.returncode}')

        with concurrent.futures.ThreadPoolExecutor(int(jobs())) as pool:
            return '\n'.join(filter(None, pool.map(link, wanted)))


def link_runtime_files(obj: Path, place: Path) -> None:
    """Let emulators in another folder find what those of a build find."""
    for name in RUNTIME_FILES:
        if not (place / name).is_symlink():
            (place / name).symlink_to(obj / name)


def build(src: Path, obj: Path, patterns: List[str],
          linker: str = '') -> List[str]:
    """Configure if needed, build what matches; returns the warnings."""
    configure(src, obj, linker=linker)
    # A changed meson.build adds targets: let ninja take it in first.
    run_logged(['ninja', '-C', str(obj), 'build.ninja'],
               obj / 'reconfigure.log', 'configuring again',
               env=environment(), timeout=900)
    targets = known_targets(obj, patterns)
    if not targets:
        raise Failure(f'{obj} has no target like ' + ', '.join(patterns))
    warnings = ninja(obj, [*targets, *FIRMWARE])
    firmware.link_into_build(src, obj)
    return warnings
