# SPDX-License-Identifier: GPL-2.0-or-later
"""vfio-sim, which is a separate project: build it for our tests.

It is built by the meson that QEMU's build has, so that nothing more need be
installed. common.SIM is the launcher that all tests use.
"""

import json
import os
import subprocess
from pathlib import Path

import mesontest
import ninja
from common import (BUILD, Clock, Failure, QEMU, ROOT, SIM, environment, lock,
                    remove, run_logged, say)

SRC = ROOT / 'tests/vfio-sim'
OBJ = BUILD / 'vfio-sim'
PREFIX = '/usr/local'
OPTIONS = ['-Dtests=enabled', '--prefix=' + PREFIX, '--libdir=lib']


def sim_environment() -> dict:
    return {**environment(), 'CC': ninja.compiler()}


def configure(meson: str) -> None:
    version = subprocess.run([meson, '--version'], stdout=subprocess.PIPE,
                             check=True, env=sim_environment(),
                             universal_newlines=True).stdout
    known = OBJ / 'configured.json'
    wanted = json.dumps([meson, version, ninja.compiler(), *OPTIONS])
    if (known.exists() and known.read_text() == wanted
            and (OBJ / 'build.ninja').exists()):
        return
    # Another meson refuses the directory
    for path in OBJ.iterdir():
        if path.name != '.lock':
            remove(path)
    run_logged([meson, 'setup', *OPTIONS, str(OBJ), str(SRC)],
               OBJ / 'configure.log', 'configuring vfio-sim',
               env=sim_environment(), timeout=300)
    known.write_text(wanted)


def build(obj: Path = QEMU / 'obj') -> None:
    """Build it with the usual QEMU build's meson, or if need be another's."""
    clock = Clock()
    meson = mesontest.meson(OBJ)
    with lock(OBJ):
        configure(meson if os.path.exists(meson) else mesontest.meson(obj))
        ninja.ninja(OBJ, [])
    if not os.access(SIM, os.X_OK):
        raise Failure(f'VFIO_SIM={SIM} does not exist or is not a program')
    say(f'built: {OBJ} ({clock})')


def library() -> str:
    """What the launcher preloads."""
    return subprocess.run([str(SIM), '--library'], stdout=subprocess.PIPE,
                          check=True, timeout=60,
                          universal_newlines=True).stdout.strip()


def install(stage: Path) -> Path:
    """Install below a directory; returns what PREFIX has become."""
    run_logged([mesontest.meson(OBJ), 'install', '-C', str(OBJ),
                '--no-rebuild', '--destdir', str(stage)],
               OBJ / 'install.log', 'installing vfio-sim',
               env=sim_environment(), timeout=300)
    return stage / PREFIX.lstrip('/')
