# SPDX-License-Identifier: GPL-2.0-or-later
"""The assembled tree: a git work tree with the release, our hooks over it.

tree.py              fetch, check and assemble
tree.py refresh      write the hooks again from the tree
tree.py discard      drop edits that no hook has
tree.py rebase       move the hooks to another release (TO=, or QEMU_SRC=)

The release is a commit. Over it lie a commit for each topic hook and one for
all others, made from the hooks and the same for the same hooks. Our whole files
are links into the repository, which git is told to ignore.
"""

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Set, Tuple

import fetch
import firmware
import hooks
import ours
import pin
from common import Clock, Failure, QEMU, ROOT, lock, main, \
    run_logged, say

# A commit's subject and the files that it changes, as they are after it. The
# subject is the name of the topic hook, or PLAIN.
Step = Tuple[str, Dict[str, bytes]]
PLAIN = 'hooks'

JUNK = ['__pycache__/', '*.pyc', '*.orig', '*.rej', '*.swp', '*~']
CONTEXTS = [3, 6, 12, 25]
IDENTITY = {
    f'GIT_{who}_{what}': value for who in ('AUTHOR', 'COMMITTER')
    for what, value in (('NAME', 'hooks'), ('EMAIL', 'hooks@localhost'),
                        ('DATE', '946684800 +0000'))}


def unpack(source: fetch.Source, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    if source.path.is_dir():
        say(f'copying {source.path} (a directory: not checked against a sum)')
        shutil.copytree(source.path, target, symlinks=True,
                        ignore=shutil.ignore_patterns('.git', '__pycache__'))
    else:
        say(f'unpacking {source.path.name}')
        target.mkdir(parents=True)
        run_logged(['tar', '--no-same-owner', '--strip-components=1', '-C',
                    str(target), '-xf', str(source.path)],
                   target.parent / 'unpack.log', 'unpacking')
    firmware.add_to_source(target)


def untitled(hook: str) -> str:
    """A hook without the functions' names, which diff finds by guessing."""
    return re.sub(r'^(@@ .* @@).*', r'\1', hook, flags=re.MULTILINE)


class Tree:
    """One assembled tree."""

    def __init__(self, place: Path = QEMU, root: Path = ROOT) -> None:
        self.place, self.root = place, root
        self.src = place / 'src'
        # Not in src: QEMU's configure builds otherwise where it sees .git,
        # and ccache would find nothing.
        self.git_dir = place / 'git'

    # -- git

    def run(self, *words: str, data: bytes = b'', status: bool = True,
            src: Path = Path(), index: str = 'index') -> bytes:
        env = {**os.environ, **IDENTITY, 'LC_ALL': 'C', 'GIT_EDITOR': 'true',
               'GIT_CONFIG_GLOBAL': '/dev/null', 'GIT_CONFIG_NOSYSTEM': '1',
               'GIT_DIR': str(self.git_dir),
               'GIT_WORK_TREE': str(src if src.name else self.src),
               'GIT_INDEX_FILE': str(self.git_dir / index)}
        result = subprocess.run(
            ['git', *words], env=env, input=data, stdout=subprocess.PIPE,
            cwd=env['GIT_WORK_TREE'] if os.path.isdir(env['GIT_WORK_TREE'])
            else self.place, stderr=subprocess.PIPE, check=False)
        if result.returncode and status:
            raise Failure(f'git {words[0]} in {self.src}:\n'
                          + result.stderr.decode(errors='replace'))
        return result.stdout

    def git(self, *words: str, **options) -> str:
        return self.run(*words, **options).decode(errors='replace').strip()

    def list(self, *words: str) -> List[str]:
        """What git prints with -z."""
        return [name for name in
                self.run(*words).decode(errors='surrogateescape').split('\0')
                if name]

    def commit(self, name: str) -> str:
        """The commit that a name stands for; '' if there is none."""
        return self.git('rev-parse', '--verify', '--quiet', name + '^{commit}',
                        status=False) if self.git_dir.is_dir() else ''

    @functools.lru_cache(maxsize=None)
    def blob(self, commit: str, name: str) -> bytes:
        return self.run('cat-file', 'blob', f'{commit}:{name}')

    @functools.lru_cache(maxsize=None)
    def modes(self, commit: str) -> Dict[str, str]:
        """The files of a commit and their modes."""
        return {name: line.split(' ', 1)[0] for line, _, name in
                (entry.partition('\t')
                 for entry in self.list('ls-tree', '-r', '-z', commit))}

    # -- the release

    @property
    def base(self) -> str:
        return self.commit('refs/qct/pristine')

    def add_release(self, source: fetch.Source) -> str:
        """The commit that holds a release as it is."""
        ref = 'refs/qct/releases/' + hashlib.sha1(
            source.identity.encode()).hexdigest()
        if self.commit(ref):
            return self.commit(ref)
        clock, new = Clock(), self.place / 'src.new'
        self.place.mkdir(parents=True, exist_ok=True)
        if not self.git_dir.is_dir():
            self.run('init', '-q', '--template=')
            self.git('config', 'core.worktree', '../src')
            self.git('config', 'gc.auto', '0')
        unpack(source, new)
        (self.git_dir / 'index.new').unlink(missing_ok=True)
        self.run('add', '--all', '--force', src=new, index='index.new')
        commit = self.git('commit-tree', '-m', 'pristine',
                          self.git('write-tree', index='index.new'))
        if self.commit('HEAD'):
            shutil.rmtree(new)
        else:
            if not self.src.is_dir():
                new.rename(self.src)
            (self.git_dir / 'index.new').rename(self.git_dir / 'index')
            self.git('update-ref', '--no-deref', 'HEAD', commit)
        shutil.rmtree(new, ignore_errors=True)
        self.git('update-ref', ref, commit)
        say(f'QEMU\'s files are in {self.git_dir} ({clock})')
        return commit

    def release(self) -> str:
        """The pinned release, or the user's, which stays in use."""
        if (self.base and not os.environ.get('QEMU_SRC')
                and self.git('config', 'qct.pin', status=False) == pin.VERSION):
            return self.base
        return self.add_release(fetch.find())

    # -- the commits

    def from_hooks(self) -> List[Step]:
        """The steps as the hooks have them."""
        base, upstream = self.base, self.modes(self.base)
        names = ours.files(self.root)
        found = ours.hooks(names, upstream)
        current = {target: self.blob(base, target) for target in found}
        steps: List[Step] = []
        complaints = []

        def apply(hook: str, target: str) -> bytes:
            text = (self.root / hook).read_text(encoding='utf-8')
            try:
                current[target] = hooks.apply(current[target], text, hook,
                                              target)
            except Failure as err:
                complaints.append(str(err))
            return current[target]

        for hook, target in ours.topics(found, self.root):
            steps.append((hook, {target: apply(hook, target)}))
        steps.append((PLAIN, {target: apply(target + '.patch', target)
                              for target, list_ in sorted(found.items())
                              if target + '.patch' in list_}))
        if complaints:
            raise Failure('\n'.join(complaints)
                          + '\n  Fix the hook by hand; for another release of '
                          'QEMU, see make rebase.')
        return steps

    def steps(self) -> List[Step]:
        """The steps as they are in git."""
        result: List[Step] = []
        for line in self.git('log', '--reverse', '--format=%H %s',
                             f'{self.base}..HEAD').splitlines():
            commit, _, subject = line.partition(' ')
            names = self.list('diff', '--name-only', '-z', '--no-renames',
                              commit + '^', commit)
            result.append((subject, {n: self.blob(commit, n) for n in names}))
        return result

    def make(self, steps: List[Step]) -> str:
        """Make the commits; the last one's id."""
        parent = self.base
        modes = self.modes(parent)
        who = 'hooks <hooks@localhost> 946684800 +0000'
        stream = b''
        for subject, files in steps:
            stream += (f'commit refs/qct/made\ncommitter {who}\n'
                       f'data {len(subject.encode())}\n{subject}\n').encode()
            if parent:
                stream += f'from {parent}\n'.encode()
                parent = ''
            for name, data in files.items():
                if name not in modes:
                    raise Failure(f'this release has no {name} to hook into')
                stream += (f'M {modes[name]} inline {name}\n'
                           f'data {len(data)}\n').encode() + data + b'\n'
        self.run('fast-import', '--quiet', '--force', data=stream)
        return self.commit('refs/qct/made')

    # -- the tree

    def edited(self) -> List[str]:
        """Files of QEMU whose contents no hook has yet."""
        return self.list('diff', '--name-only', '-z', '--no-renames', 'HEAD')

    def stray(self) -> List[str]:
        return self.list('ls-files', '-z', '--others', '--exclude-standard')

    def update(self) -> List[str]:
        """Bring the tree up to date with the hooks and links."""
        if self.commit('refs/qct/onto'):
            raise Failure('a move to another release is not finished. Solve '
                          f'what conflicts in {self.src} and say\n  make '
                          'refresh, or give it up: make discard')
        new, head = self.make(self.from_hooks()), self.commit('HEAD')
        changed = self.list('diff', '--name-only', '-z', '--no-renames', head,
                            new) if new != head else []
        for name in sorted(set(changed) & set(self.edited())):
            path = self.src / name
            if not path.is_file() or path.read_bytes() != self.blob(new, name):
                raise Failure(
                    f'{name}: its hooks changed, and {path} has edits that no '
                    'hook has yet.\n'
                    '  Keep the edits, not the hooks\' change:  '
                    'make refresh FORCE=1\n'
                    f'  Drop the edits:  make discard FILE={name}')
            self.git('add', '--force', name)
        if new != head:
            self.git('checkout', '-q', '--detach', new)
        return changed + self.update_links()

    def update_links(self) -> List[str]:
        links = [name for name in ours.files(self.root)
                 if not name.endswith('.patch')]
        taken = sorted(set(links) & set(self.modes(self.commit('HEAD'))))
        if taken:
            raise Failure(f'{taken[0]} is a whole new file of ours, but QEMU '
                          'has a file of that name. Rename ours, or make '
                          f'the change a hook ({taken[0]}.patch).')
        changed = []
        known = self.git_dir / 'info/exclude'
        known.parent.mkdir(exist_ok=True)
        before = [line[1:] for line in known.read_text().splitlines()
                  if line.startswith('/')] if known.exists() else []
        for name in set(before) - set(links):
            path = self.src / name
            if path.is_symlink():
                path.unlink()
                changed.append(name)
                self.prune(path.parent)
        for name in links:
            path = self.src / name
            want = os.path.relpath(self.root / name, path.parent)
            if path.is_symlink() and os.readlink(path) == want:
                continue
            if os.path.lexists(path):
                if not path.is_symlink():
                    raise Failure(f'{path} should be a link to {name}, but is '
                                  'a file of its own. Move it there or delete '
                                  'it, then run make tree again.')
                path.unlink()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(want)
            changed.append(name)
        known.write_text('\n'.join(JUNK + ['/' + name for name in links])
                         + '\n')
        return sorted(changed)

    def prune(self, directory: Path) -> None:
        """Remove directories that only our files had made."""
        while directory != self.src and directory.is_dir():
            shutil.rmtree(directory / '__pycache__', ignore_errors=True)
            if any(directory.iterdir()):
                return
            directory.rmdir()
            directory = directory.parent

    def discard(self, wanted: str = '') -> List[str]:
        if self.commit('refs/qct/onto') and not wanted:
            if (self.git_dir / 'rebase-merge').is_dir():
                self.git('rebase', '--abort')
            self.git('update-ref', '-d', 'refs/qct/onto')
            self.git('checkout', '-q', '--force', '--detach',
                     self.make(self.from_hooks()))
            return ['the move to another release']
        names = [name for name in self.edited() if wanted in ('', name)]
        if names:
            self.git('checkout', '-q', 'HEAD', '--', *names)
        return names

    # -- from the tree to the hooks

    def merge(self, name: str, mine: bytes, base: bytes, other: bytes) -> bytes:
        with tempfile.TemporaryDirectory() as tmp:
            for part, data in (('mine', mine), ('base', base),
                               ('other', other)):
                (Path(tmp) / part).write_bytes(data)
            result = subprocess.run(
                ['git', 'merge-file', '-p', *(f'{tmp}/{part}' for part in
                                              ('mine', 'base', 'other'))],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        if result.returncode:
            raise Failure(f'{name}: the edit changes lines that a later hook '
                          'also changes. Put it into that one.')
        return result.stdout

    def with_edits(self, wanted: str) -> List[Step]:
        """The steps in git, with the tree's edits in the right ones."""
        steps = self.steps()
        if not steps or steps[-1][0] != PLAIN:
            steps.append((PLAIN, {}))
        base, old = self.base, self.commit('HEAD')
        target = ''
        if wanted:
            target = ours.hook_target(wanted, self.modes(base)) or ''
            if not target or not wanted.endswith('.patch'):
                raise Failure(f'HOOK={wanted}: not PATH.patch or '
                              'PATH.TOPIC.patch of a file that QEMU has')
        for name in self.edited():
            path = self.src / name
            if not path.is_file():
                raise Failure(f'{path} is gone, and a hook cannot delete a '
                              f'file. Restore it: make discard FILE={name}')
            receiver = wanted if name == target \
                and wanted != target + '.patch' else PLAIN
            if receiver not in [subject for subject, _ in steps]:
                steps.insert(len(steps) - 1, (receiver, {}))
            subjects = [subject for subject, _ in steps]
            head, data = self.blob(old, name), path.read_bytes()
            state, started = self.blob(base, name), False
            last = max([n for n, (_, files) in enumerate(steps)
                        if name in files] + [subjects.index(receiver)])
            for number, (subject, files) in enumerate(steps):
                state = files.get(name, state)
                started = started or subject == receiver
                if started and (name in files or subject == receiver):
                    files[name] = data if number == last else \
                        self.merge(name, state, head, data)
        return steps

    def hook_text(self, hook: str, target: str, before: str,
                  after: str) -> str:
        """The hook that makes one commit's file into the other's."""
        path = self.root / hook
        head = hooks.split(path.read_text(encoding='utf-8'))[0] \
            if path.exists() else ours.SPDX
        for context in CONTEXTS:
            diff = self.run('diff', f'-U{context}', '--no-renames', before,
                            after, '--', target).decode()
            if not diff:
                return ''
            text = head + hooks.split(diff)[1]
            try:
                if hooks.apply(self.blob(before, target), text, hook,
                               target) == self.blob(after, target):
                    return text
            except Failure as err:      # not unique: more context
                said = str(err)
        raise Failure(said)

    def refresh(self, wanted: str = '') -> List[str]:
        """Write the hooks again; returns those that changed."""
        onto = self.commit('refs/qct/onto')
        if onto:
            self.go_on()
            self.git('update-ref', 'refs/qct/pristine', onto)
        elif not os.environ.get('FORCE'):
            self.update()
        steps = [(subject, files) for subject, files in
                 self.with_edits(wanted) if files or subject == PLAIN]
        base, head = self.base, self.make(steps)
        commits = self.git('rev-list', '--reverse', f'{base}..{head}').split()
        texts: Dict[str, str] = {}
        for (subject, files), before, after in zip(
                steps, [base, *commits], commits):
            for target in files:
                hook = target + '.patch' if subject == PLAIN else subject
                texts[hook] = self.hook_text(hook, target, before, after)
        changed = []
        for hook in sorted({*texts, *(name for name in ours.files(self.root)
                                      if name.endswith('.patch'))}):
            path, text = self.root / hook, texts.get(hook, '')
            old = path.read_text(encoding='utf-8') if path.exists() else ''
            if untitled(text) != untitled(old) and text:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding='utf-8')
                changed.append(hook)
            elif not text and old:
                path.unlink()
                changed.append(hook + ' (removed: no change left)')
        self.git('reset', '-q', '--mixed', head)
        if onto:
            self.pin_version()
            self.git('update-ref', '-d', 'refs/qct/onto')
        return changed

    # -- another release

    def rebase(self, source: fetch.Source) -> None:
        self.update()
        if self.edited():
            raise Failure('edits that no hook has: '
                          + ', '.join(self.edited())
                          + '\n  make refresh or make discard first')
        onto = self.add_release(source)
        links: Set[str] = set(ours.files(self.root)) & set(self.modes(onto))
        if links:
            raise Failure('this release has files of our names: '
                          + ', '.join(sorted(links)))
        self.git('update-ref', 'refs/qct/onto', onto)
        self.merge_commits('-q', '--empty=drop', '--onto', onto, self.base)

    def merge_commits(self, *words: str) -> None:
        """Run git rebase until it ends or there are conflicts: a Failure."""
        try:
            self.git('rebase', *words)
            return
        except Failure as err:
            said = str(err)
        names = self.list('diff', '--name-only', '-z', '--diff-filter=U')
        if names:
            said = f'conflicts to resolve in {self.src}:\n' + '\n'.join(
                '    ' + name for name in names) + '\n  Then make refresh.'
        raise Failure(said + ' To abort: make discard')

    def go_on(self) -> None:
        for name in self.list('diff', '--name-only', '-z', 'HEAD'):
            path = self.src / name
            if path.is_file() and re.search(rb'^(<<<<<<<|>>>>>>>) ',
                                            path.read_bytes(), re.MULTILINE):
                raise Failure(f'{path} still has conflict markers')
        if (self.git_dir / 'rebase-merge').is_dir():
            self.git('add', '--update')
            self.merge_commits('--continue')
        onto = self.commit('refs/qct/onto')
        if self.git('merge-base', onto, 'HEAD', status=False) != onto:
            raise Failure('the merge did not take place. Abort it: make '
                          'discard')

    def pin_version(self) -> None:
        """The hooks are for this release from now on."""
        version = self.blob(self.base, 'VERSION').decode().strip()
        path = self.root / 'tools/pin.py'
        path.write_text(re.sub(r"^VERSION = '.*'", f"VERSION = '{version}'",
                               path.read_text(encoding='utf-8'),
                               flags=re.MULTILINE), encoding='utf-8')
        self.git('config', 'qct.pin', version)
        say(f'tools/pin.py: the release is {version}')


def assembled() -> Tree:
    """Our tree, up to date."""
    tree = Tree()
    with lock(QEMU):
        before = tree.base
        tree.git('update-ref', 'refs/qct/pristine', tree.release())
        try:
            changed = tree.update()
        except Failure:
            if before:
                tree.git('update-ref', 'refs/qct/pristine', before)
            raise
        tree.git('config', 'qct.pin', pin.VERSION)
    for name in changed[:20]:
        say(f'tree: {name}')
    if len(changed) > 20:
        say(f'tree: and {len(changed) - 20} more')
    return tree


def run() -> int:
    action = (sys.argv[1:] or ['tree'])[0]
    tree = Tree()
    if action == 'tree':
        assembled()
        return 0
    if not tree.base:
        raise Failure('there is no assembled tree yet: make tree')
    with lock(QEMU):
        if action == 'refresh':
            changed = tree.refresh(os.environ.get('HOOK', ''))
            for name in tree.stray():
                say(f'not ours and not upstream\'s: {tree.src / name}\n'
                    f'   (a new file of ours belongs at {name} in the '
                    'repository)')
            say('hooks: ' + ('\n   '.join(changed) or 'nothing changed'))
        elif action == 'discard':
            names = tree.discard(os.environ.get('FILE', ''))
            tree.update()
            say('dropped: ' + (', '.join(names) or 'nothing'))
        elif action == 'rebase':
            if not os.environ.get('TO') and not os.environ.get('QEMU_SRC'):
                raise Failure('specify the release: TO=VERSION, or QEMU_SRC=')
            tree.rebase(fetch.find(os.environ.get('TO', '')))
            say('no conflicts. Now make refresh')
    return 0


if __name__ == '__main__':
    main(run)
