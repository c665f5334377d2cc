# SPDX-License-Identifier: GPL-2.0-or-later
"""make build: our QEMU, vfio-sim and our tests."""

import sys

import ninja
import sim
import tree
from common import Clock, QEMU, lock, main, say


def build(extra: tuple = ()) -> None:
    assembled = tree.assembled()
    clock = Clock()
    with lock(QEMU / 'obj'):
        ninja.build(assembled.src, QEMU / 'obj',
                    ninja.EMULATORS + ninja.OURS + list(extra))
    say(f'built: {QEMU / "obj"} ({clock})')
    sim.build()


def run() -> int:
    build(tuple(sys.argv[1:]))
    return 0


if __name__ == '__main__':
    main(run)
