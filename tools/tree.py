# SPDX-License-Identifier: GPL-2.0-or-later
"""make tree: unpack the pinned QEMU and assemble our tree from it."""

import os
import shutil
from pathlib import Path

import fetch
import firmware
from assemble import Tree
from common import Clock, Failure, PRISTINE, QEMU, lock, main, run_logged, say


def unpack(source: fetch.Source, target: Path) -> None:
    temporary = target.with_name('src.new')
    shutil.rmtree(temporary, ignore_errors=True)
    clock = Clock()
    if source.path.is_dir():
        say(f'copying {source.path} (a directory: not checked against a sum)')
        shutil.copytree(source.path, temporary, symlinks=True,
                        ignore=shutil.ignore_patterns('.git', '__pycache__'))
    else:
        say(f'unpacking {source.path.name} (checksum is right)')
        temporary.mkdir(parents=True)
        run_logged(['tar', '--no-same-owner', '--strip-components=1', '-C',
                    str(temporary), '-xf', str(source.path)],
                   target.parent / 'unpack.log', 'unpacking')
    firmware.add_to_source(temporary)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    say(f'QEMU\'s files are in {target} ({clock})')


def pristine() -> Path:
    """Upstream's files, unpacked when they are not there yet."""
    target, known = PRISTINE / 'src', PRISTINE / 'identity'
    with lock(PRISTINE):
        if target.is_dir() and known.exists() and not os.environ.get('QEMU_SRC'):
            return target
        source = fetch.find()
        if not target.is_dir() or not known.exists() \
                or known.read_text() != source.identity:
            known.unlink(missing_ok=True)
            unpack(source, target)
            known.write_text(source.identity)
    return target


def assembled() -> Tree:
    """Our tree, up to date."""
    source = pristine()
    identity = (PRISTINE / 'identity').read_text()
    with lock(QEMU):
        known = QEMU / 'identity'
        tree = Tree(QEMU / 'src', source)
        if tree.src.is_dir() and known.exists() and known.read_text() != identity:
            edited = tree.status().edited
            if edited:
                raise Failure('the QEMU source changed, and the assembled '
                              'tree has edits that no hook has: '
                              + ', '.join(edited)
                              + '\n  make refresh or make discard first, with '
                              'the old source')
            shutil.rmtree(tree.src)
        changed = tree.assemble()
        known.write_text(identity)
        for name in changed[:20]:
            say(f'tree: {name}')
        if len(changed) > 20:
            say(f'tree: and {len(changed) - 20} more')
    return tree


def run() -> int:
    assembled()
    return 0


if __name__ == '__main__':
    main(run)
