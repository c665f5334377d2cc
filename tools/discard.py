# SPDX-License-Identifier: GPL-2.0-or-later
"""make discard: drop edits in the assembled tree that no hook has."""

import os

import tree as tree_tool
from assemble import Tree
from common import Failure, QEMU, lock, main, say


def discard(tree: Tree, wanted: str = '') -> list:
    status = tree.status()
    names = [name for name in status.edited + status.missing
             if not wanted or name == wanted]
    for name in names:
        tree.restore(name)
    tree.save()
    return names


def run() -> int:
    wanted = os.environ.get('FILE', '')
    source = tree_tool.pristine()
    with lock(QEMU):
        if not (QEMU / 'src').is_dir():
            raise Failure('there is no assembled tree yet: make tree')
        tree = Tree(QEMU / 'src', source)
        names = discard(tree, wanted)
        tree.assemble()
    for name in names:
        say(f'dropped the edits in {name}')
    if not names:
        say('nothing to drop')
    return 0


if __name__ == '__main__':
    main(run)
