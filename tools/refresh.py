# SPDX-License-Identifier: GPL-2.0-or-later
"""make refresh: write the hooks anew from the assembled tree.

Edits go into PATH.patch, or into the hook named by HOOK= (a topic hook, in
which case the hooks that apply after it stay as they are).
"""

import os
from typing import Dict, List

import ours
import patch
import tree as tree_tool
from assemble import Tree
from common import Failure, QEMU, lock, main, say


def new_texts(tree: Tree, target: str, hooks: List[str],
              receiver: str) -> Dict[str, str]:
    """Hook -> its new text, for all the hooks of one file."""
    base = (tree.pristine / target).read_bytes()
    before: List[bytes] = [base]
    position = hooks.index(receiver)
    for hook in hooks[:position]:
        before.append(patch.apply(before[-1], tree.root / hook, target))
    after: List[bytes] = [(tree.src / target).read_bytes()]
    for hook in reversed(hooks[position + 1:]):
        after.insert(0, patch.apply(after[0], tree.root / hook, target,
                                    reverse=True))
    states = before + after
    texts = {}
    for hook, old, new in zip(hooks, states, states[1:]):
        path = tree.root / hook
        head = ours.SPDX
        if path.exists():
            head = patch.split(path.read_text(encoding='utf-8'))[0] or head
        texts[hook] = patch.make(old, new, target, head)
    return texts


def check_hooks_are_in_tree(tree: Tree) -> None:
    """A hook that changed since the tree was made must not be lost."""
    if os.environ.get('FORCE'):
        return
    for target in tree.hooks:
        known = tree.state.get(target)
        if known and known['hooks'] == tree.hooks_digest(target):
            continue
        if tree.edited(target):
            raise Failure(
                f'{target}: both its hooks and {tree.src / target} changed.\n'
                '  The tree\'s version counts:   make refresh FORCE=1\n'
                f'  The hooks\' version counts:  make discard FILE={target}')
        tree.update_hooked(target)


def refresh(tree: Tree, wanted: str = '') -> List[str]:
    """Returns the hooks that were written or removed."""
    status = tree.status()
    if status.missing:
        raise Failure('files of QEMU are gone from the assembled tree: '
                      + ', '.join(status.missing[:5])
                      + '\n  A hook cannot delete a file. Restore them: '
                      'make discard FILE=...')
    for name in status.stray:
        say(f'not ours and not upstream\'s, left alone: {tree.src / name}\n'
            f'   (a new file of ours belongs at {name} in the repository)')
    wanted_target = None
    if wanted:
        if not wanted.endswith('.patch'):
            raise Failure(f'HOOK={wanted}: a hook\'s name ends in .patch')
        wanted_target = ours.hook_target(wanted, tree.pristine)
        if wanted_target is None:
            raise Failure(f'HOOK={wanted}: QEMU has no file of that name')
    check_hooks_are_in_tree(tree)
    changed = []
    for target in sorted(set(status.edited) | set(tree.hooks)):
        hooks = list(tree.hooks.get(target, []))
        receiver = wanted if target == wanted_target else target + '.patch'
        if receiver not in hooks:
            if target not in status.edited:
                receiver = hooks[-1]
            elif receiver == target + '.patch':
                hooks.append(receiver)
            else:
                hooks.insert(len([h for h in hooks
                                  if ours.is_topic(h, target)]), receiver)
        for hook, text in new_texts(tree, target, hooks, receiver).items():
            path = tree.root / hook
            old = path.read_text(encoding='utf-8') if path.exists() else ''
            if text == old:
                continue
            changed.append(hook if text else hook + ' (removed: no change left)')
            if text:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding='utf-8')
            else:
                path.unlink()
    return changed


def run() -> int:
    source = tree_tool.pristine()
    if not (QEMU / 'src').is_dir():
        raise Failure('there is no assembled tree yet: make tree')
    with lock(QEMU):
        tree = Tree(QEMU / 'src', source)
        changed = refresh(tree, os.environ.get('HOOK', ''))
        again = Tree(QEMU / 'src', source)
        again.assemble()
        for name in changed:
            say(f'hook: {name}')
        if not changed:
            say('hooks: nothing changed')
    return 0


if __name__ == '__main__':
    main(run)
