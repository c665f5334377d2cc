# SPDX-License-Identifier: GPL-2.0-or-later
"""make build: our QEMU, vfio-sim and our tests.

build.py emulators   leaves our tests of QEMU out
"""

import sys
from typing import Sequence

import ninja
import sim
import tree
from common import Clock, Failure, QEMU, lock, main, say


def build(extra: Sequence[str] = (), tests: bool = True) -> None:
    targets = ninja.EMULATORS + (ninja.OURS if tests else []) + list(extra)
    assembled = tree.assembled()
    clock = Clock()
    with lock(QEMU / 'obj'):
        ninja.build(assembled.src, QEMU / 'obj', targets)
    say(f'built: {QEMU / "obj"} ({clock})')
    sim.build()


def run() -> int:
    if sys.argv[1:] not in ([], ['emulators']):
        raise Failure(f'build.py does not know {" ".join(sys.argv[1:])}')
    build(tests=not sys.argv[1:])
    return 0


if __name__ == '__main__':
    main(run)
