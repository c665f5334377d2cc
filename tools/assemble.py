# SPDX-License-Identifier: GPL-2.0-or-later
"""Assemble QEMU's tree: upstream's files, our hooks, links to our files.

Touches only what changed since last time, so that ninja rebuilds little. An
edit in the tree that no hook has yet is never overwritten.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple

import ours
import patch
from common import Failure, ROOT, say

JUNK_DIRS = {'__pycache__', '.git'}
JUNK_ENDS = ('.orig', '.rej', '.pyc', '.swp', '~')


def scan(top: Path) -> Iterator[Tuple[str, os.stat_result]]:
    """All files and links below top, with their lstat."""
    pending = ['']
    while pending:
        rel = pending.pop()
        with os.scandir(top / rel if rel else top) as entries:
            for entry in entries:
                name = f'{rel}/{entry.name}' if rel else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in JUNK_DIRS:
                        pending.append(name)
                elif not entry.name.endswith(JUNK_ENDS):
                    yield name, entry.stat(follow_symlinks=False)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def stamp(info: os.stat_result) -> List[int]:
    return [info.st_mtime_ns, info.st_size]


class Status(NamedTuple):
    """How the tree differs from upstream plus hooks."""
    edited: List[str]       # upstream files with changes no hook has
    missing: List[str]      # upstream files deleted in the tree
    stray: List[str]        # files that are neither upstream's nor ours


class Tree:
    """One assembled tree and what was last written into it."""

    def __init__(self, src: Path, pristine: Path, root: Path = ROOT) -> None:
        self.src, self.pristine, self.root = src, pristine, root
        self.state_file = src.parent / 'state.json'
        self.names = ours.files(root)
        self.hooks = ours.hooks(self.names, pristine, root)
        self.links = [n for n in self.names if not n.endswith('.patch')]
        for name in self.links:
            if (pristine / name).exists():
                raise Failure(f'{name} is a whole new file of ours, but QEMU '
                              'has a file of that name. Rename ours, or make '
                              f'the change a hook ({name}.patch).')
        # Upstream file -> {'hooks': digest, 'result': digest, 'stamp': [..]}
        self.state: Dict[str, dict] = {}
        if self.state_file.exists():
            self.state = json.loads(self.state_file.read_text())

    def save(self) -> None:
        self.src.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.state_file.with_suffix('.new')
        temporary.write_text(json.dumps(self.state, indent=1, sort_keys=True))
        temporary.replace(self.state_file)

    # -- one hooked file

    def hooks_digest(self, target: str) -> str:
        parts = [str(stamp(os.stat(self.pristine / target)))]
        for hook in self.hooks.get(target, []):
            parts.append(hook)
            parts.append((self.root / hook).read_text(encoding='utf-8'))
        return digest('\0'.join(parts).encode())

    def hooked(self, target: str) -> bytes:
        """The upstream file with all our hooks for it."""
        data = (self.pristine / target).read_bytes()
        for hook in self.hooks.get(target, []):
            data = patch.apply(data, self.root / hook, target)
        return data

    def record(self, target: str, result: bytes) -> None:
        self.state[target] = {
            'hooks': self.hooks_digest(target),
            'result': digest(result),
            'stamp': stamp(os.lstat(self.src / target)),
        }

    def restore(self, target: str) -> None:
        """Give an upstream file its original contents again."""
        path = self.src / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        shutil.copy2(self.pristine / target, path, follow_symlinks=False)
        if target in self.state:
            # Its time stamp goes back: ninja compares times, so set it anew.
            os.utime(path, follow_symlinks=False)
            self.state[target] = {
                'hooks': '', 'result': digest(path.read_bytes()),
                'stamp': stamp(os.lstat(path))}

    def write_hooked(self, target: str, data: bytes) -> bool:
        path = self.src / target
        changed = not path.is_file() or path.read_bytes() != data
        if changed:
            path.unlink(missing_ok=True)
            path.write_bytes(data)
            shutil.copymode(self.pristine / target, path)
        self.record(target, data)
        return changed

    def edited(self, target: str) -> bool:
        """Does the tree's copy differ from what we last wrote there?"""
        path, known = self.src / target, self.state.get(target)
        if not os.path.lexists(path):
            return False
        if known and stamp(os.lstat(path)) == known['stamp']:
            return False
        if path.is_symlink():
            return False
        data = path.read_bytes()
        if known:
            return digest(data) != known['result']
        return data != (self.pristine / target).read_bytes()

    def update_hooked(self, target: str) -> bool:
        known = self.state.get(target)
        current = self.hooks_digest(target)
        if not (self.src / target).exists():
            return self.write_hooked(target, self.hooked(target))
        if known and known['hooks'] == current:
            return False
        data = self.hooked(target)
        if (self.edited(target)
                and (self.src / target).read_bytes() != data):
            raise Failure(
                f'{target}: its hooks changed, and {self.src / target} has '
                'edits that no hook has yet.\n'
                '  Keep the edits, not the hooks\' change:  make refresh FORCE=1\n'
                f'  Drop the edits:  make discard FILE={target}')
        return self.write_hooked(target, data)

    # -- the whole tree

    def copy_upstream(self) -> None:
        temporary = self.src.with_name('src.new')
        shutil.rmtree(temporary, ignore_errors=True)
        self.src.parent.mkdir(parents=True, exist_ok=True)
        say(f'copying QEMU\'s files to {self.src}')
        shutil.copytree(self.pristine, temporary, symlinks=True)
        temporary.rename(self.src)
        self.state = {}

    def assemble(self) -> List[str]:
        """Bring the tree up to date; returns what changed."""
        changed = []
        if not self.src.is_dir():
            self.copy_upstream()
            changed.append('whole tree')
        gone = [t for t, known in self.state.items()
                if t not in self.hooks and known['hooks']]
        for target in gone:
            if self.edited(target):
                raise Failure(
                    f'{target}: its hook is gone, and {self.src / target} has '
                    'edits that no hook has.\n'
                    '  Keep the edits:  make refresh\n'
                    f'  Drop the edits:  make discard FILE={target}')
            self.restore(target)
            changed.append(target)
        # Every hook is tried before the first complaint ends this, so that
        # one bad hook does not hold up the others.
        complaints = []
        for target in self.hooks:
            try:
                if self.update_hooked(target):
                    changed.append(target)
            except Failure as err:
                complaints.append(str(err))
        changed += self.update_links()
        self.save()
        if complaints:
            raise Failure('\n\n'.join(complaints))
        return changed

    def update_links(self) -> List[str]:
        changed = []
        known = self.src.parent / 'links'
        before = known.read_text().split('\n') if known.exists() else []
        for name in before:
            path = self.src / name
            if name and name not in self.links and path.is_symlink():
                path.unlink()
                changed.append(name)
                self.prune(path.parent)
        for name in self.links:
            path = self.src / name
            want = os.path.relpath(self.root / name, path.parent)
            if path.is_symlink() and os.readlink(path) == want:
                continue
            if os.path.lexists(path):
                if not path.is_symlink():
                    raise Failure(f'{path} should be a link to {name}, but is '
                                  'a file of its own. Move it there or delete '
                                  'it, then say make tree again.')
                path.unlink()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(want)
            changed.append(name)
        known.write_text('\n'.join(self.links))
        return changed

    def prune(self, directory: Path) -> None:
        """Remove directories that only our files had made."""
        while (directory != self.src and directory.is_dir()
               and not (self.pristine / directory.relative_to(self.src)).exists()):
            shutil.rmtree(directory / '__pycache__', ignore_errors=True)
            if any(directory.iterdir()):
                return
            directory.rmdir()
            directory = directory.parent

    def status(self) -> Status:
        upstream = dict(scan(self.pristine))
        present = dict(scan(self.src))
        links = set(self.links)
        edited, stray = [], []
        for name, info in present.items():
            if name in links:
                continue
            if name not in upstream:
                stray.append(name)
            elif name in self.state:
                if stamp(info) != self.state[name]['stamp'] and self.edited(name):
                    edited.append(name)
            elif stamp(info) != stamp(upstream[name]) and self.edited(name):
                edited.append(name)
        missing = [name for name in upstream if name not in present]
        return Status(sorted(edited), sorted(missing), sorted(stray))
