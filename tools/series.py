# SPDX-License-Identifier: GPL-2.0-or-later
"""make series, make check-series: our files as commits for upstream.

series.py [-v N] [SERIES]   write build/series/SERIES/*.patch; all, or one
series.py check             are they complete, small and clean; does each step
                            compile, and pass the tests that it has
"""

import argparse
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import direct
import hooks
import ninja
import ours
import sim
import tap
from common import BUILD, Clock, Failure, RESULTS, lock, main, say
from tree import Tree, assembled

PLACE = BUILD / 'series'

# What each step is tested with, as far as it has them: QEMU's tests of CXL and
# our unit tests. Our qtests run as in QEMU's own make check, with the first
# kernel that QEMU reads, where a step that is mailed has some; check-qtest runs
# the rest.
TESTS = ['qtest-*/cxl-test', 'test-cxl*', 'test-vfio-info-cap']
TARGETS = [*ninja.EMULATORS, *ninja.OURS, 'tests/qtest/cxl-test']
QTESTS = ['qtest-x86_64/vfio-cxl*']

# Limits for review: patches in a series, and lines of code that a patch adds,
# not counting tests and documents.
MAX_PATCHES = 12
MAX_CODE = 700
MAX_SUBJECT = 72


class Series:
    """The commits, and a git repository in which they are made."""

    def __init__(self, tree: Tree, place: Path = PLACE) -> None:
        self.tree, self.place, self.root = tree, place, tree.root
        self.src, self.obj = place / 'src', place / 'obj'
        self.git_dir = place / 'git'    # not in src, as Tree's
        self.head = ''                  # what the next commit comes after
        self.hooked: Dict[str, bytes] = {}      # upstream's files, in head
        root = self.root
        self.names = ours.files(root)
        self.modes = tree.modes(tree.base)
        self.hooks = ours.hooks(self.names, self.modes)
        self.folders = ours.folders(root)
        self.mailed = [name for name in self.folders if ours.is_mailed(name)]
        self.commits = ours.commits(root)

    def of(self, folder: str) -> List[ours.Commit]:
        return [c for c in self.commits if c.folder == folder]

    def bases(self, folder: str) -> List[str]:
        """The series that this one needs, directly or not, in their order."""
        known = {folder}
        for name in reversed(self.folders):
            if name in known:
                known.update(ours.letter(name, self.root).based_on)
        return [name for name in self.folders if name in known - {folder}]

    # -- the lists

    def complaints(self) -> List[str]:
        """Errors in the lists of series/."""
        found = []
        patterns = ours.local_patterns(self.root)
        for name in self.names:
            where = [c.name for c in self.commits if c.has(name)]
            if len(where) != 1:
                found.append(f'{name} is in '
                             + (' and '.join(where) or 'no commit'))
        for commit in self.commits:
            for pattern in commit.patterns:
                if ours.is_local(pattern, patterns):
                    found.append(f'series/{commit.name} lists {pattern}, '
                                 'which stays local (series/local)')
                elif not any(commit._replace(patterns=[pattern]).has(name)
                             for name in self.names):
                    found.append(f'series/{commit.name} lists {pattern}, '
                                 'which does not exist')
        return found + self.stray() + self.wrong_order() + self.wrong_bases()

    def stray(self) -> List[str]:
        """Files that would be forgotten."""
        known = {'local', *(f'{name}/cover-letter' for name in self.mailed),
                 *(commit.name for commit in self.commits)}
        top = self.root / 'series'
        found = (path.relative_to(top).as_posix()
                 for path in sorted(top.rglob('*')) if path.is_file())
        return [f'series/{name} is neither a commit nor a cover letter'
                for name in found if name not in known]

    def wrong_order(self) -> List[str]:
        """In the tree PATH.patch comes after PATH's topics: here, too."""
        def position(hook: str) -> int:
            return next((n for n, c in enumerate(self.commits) if c.has(hook)),
                        len(self.commits))

        return [f'{hook} comes after {target}.patch, which is always the last '
                'hook of its file: give that one a topic'
                for target, names in self.hooks.items()
                if target + '.patch' in names for hook in names
                if position(hook) > position(target + '.patch')]

    def wrong_bases(self) -> List[str]:
        found = []
        for number, folder in enumerate(self.folders):
            if not ours.is_mailed(folder):
                if self.folders[number + 1:]:
                    found.append(f'series/{folder} is not mailed, so nothing '
                                 'can come after it')
                continue
            letter = ours.letter(folder, self.root)
            if not letter.subject or not letter.body:
                found.append(f'series/{folder}/cover-letter says nothing')
            found += [f'series/{folder} is based on {name}, which is no '
                      'earlier series' for name in letter.based_on
                      if name not in self.folders[:number]]
        return found

    def limits(self) -> List[str]:
        """Whatever exceeds the limits for review."""
        found = []
        for folder in self.mailed:
            count = len(self.of(folder))
            if count > MAX_PATCHES:
                found.append(f'series/{folder} has {count} patches, and may '
                             f'have {MAX_PATCHES}')
        subjects = {c.name: c.subject for c in self.commits}
        subjects.update((f'{name}/cover-letter',
                         ours.letter(name, self.root).subject)
                        for name in self.mailed)
        return found + [f'series/{name}: a subject of {len(subject)} '
                        f'characters, more than {MAX_SUBJECT}'
                        for name, subject in sorted(subjects.items())
                        if len(subject) > MAX_SUBJECT]

    # -- the git repository

    def git(self, *words: str, data: bytes = b'') -> str:
        result = subprocess.run(
            ['git', '--git-dir', str(self.git_dir), '--work-tree',
             str(self.src), *words], cwd=self.src, input=data,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if result.returncode:
            raise Failure(f'git {words[0]} failed in {self.src}:\n'
                          + result.stderr.decode(errors='replace'))
        return result.stdout.decode(errors='replace').strip()

    def identity(self) -> List[str]:
        """The committer, as in the user's git configuration."""
        values = []
        for key in ('user.name', 'user.email'):
            got = subprocess.run(
                ['git', '-C', str(self.root), 'config', key],
                stdout=subprocess.PIPE, universal_newlines=True, check=False)
            values.append(got.stdout.strip())
        if not all(values):
            values = ['Nobody', 'nobody@localhost']
        return values

    def start(self) -> None:
        """A repository whose one commit is the pristine release."""
        objects = self.git_dir / 'objects/info/alternates'
        if not objects.exists():
            shutil.rmtree(self.src, ignore_errors=True)
            shutil.rmtree(self.git_dir, ignore_errors=True)
            self.src.mkdir(parents=True)
            self.git('init', '-q', '--template=')
            self.git('config', 'gc.auto', '0')
            objects.parent.mkdir(exist_ok=True)
            objects.write_text(f'{self.tree.git_dir}/objects\n')
        self.name, self.email = self.identity()
        self.git('config', 'user.name', self.name)
        self.git('config', 'user.email', self.email)
        self.git('tag', '-f', 'pristine', self.tree.base)
        self.rewind()
        self.show()
        self.git('clean', '-q', '-d', '-x', '--force')

    def rewind(self) -> None:
        """Go back to the release. The work tree stays as it is."""
        self.head, self.hooked = self.tree.base, {}

    def show(self, commit: str = '') -> None:
        """Put a commit's files into the work tree; head's, if not told."""
        self.git('checkout', '-q', '--force', '--detach', commit or self.head)

    def files(self, commit: ours.Commit) -> Dict[str, Tuple[str, bytes]]:
        """A commit's files, their modes and contents."""
        found = {}
        for name in self.names:
            if commit.has(name) and not name.endswith('.patch'):
                path = self.root / name
                mode = '100755' if os.access(path, os.X_OK) else '100644'
                found[name] = mode, path.read_bytes()
        for target, names in self.hooks.items():
            for hook in filter(commit.has, names):
                before = self.hooked.get(target)
                if before is None:
                    before = self.tree.blob(self.tree.base, target)
                self.hooked[target] = hooks.apply(
                    before, (self.root / hook).read_text(encoding='utf-8'),
                    hook, target)
                found[target] = self.modes[target], self.hooked[target]
        return found

    def make(self, commit: ours.Commit) -> str:
        """Make one commit; returns its id. The work tree stays as it is."""
        # Who sends it certifies its origin, and signs it off then
        message = commit.message.encode()
        stream = (f'commit refs/qct/made\nmark :1\n'
                  f'committer {self.name} <{self.email}> now\n'
                  f'data {len(message)}\n').encode() + message
        stream += f'\nfrom {self.head}\n'.encode()
        for name, (mode, data) in self.files(commit).items():
            stream += (f'M {mode} inline {name}\n'
                       f'data {len(data)}\n').encode() + data + b'\n'
        self.head = self.git('fast-import', '--quiet', '--force',
                             '--date-format=now',
                             data=stream + b'get-mark :1\n')
        return self.head

    def differences(self) -> List[str]:
        """Files in which all commits together differ from the tree."""
        found = []
        self.show()
        for name in self.names:
            if not name.endswith('.patch'):
                made, wanted = self.src / name, self.root / name
                if (not made.exists()
                        or made.read_bytes() != wanted.read_bytes()):
                    found.append(name)
        changed = self.git('diff', '--name-only', '--no-renames', self.head,
                           self.tree.make(self.tree.from_hooks()))
        return found + [name for name in changed.splitlines()
                        if name not in self.names]

    def make_all(self) -> None:
        """Make all commits, one after the other."""
        self.start()
        for commit in self.commits:
            self.make(commit)

    def format(self, base: str, out: Path, *words: str) -> List[Path]:
        """Write what was made after a commit as patches."""
        shutil.rmtree(out, ignore_errors=True)
        # Without -M every reader sees whole files; without a base id, as no
        # reader has this repository.
        self.git('format-patch', '-q', '--no-renames', '--no-base', *words,
                 '-o', str(out), f'{base}..{self.head}')
        return sorted(out.glob('*.patch'))

    def mail(self, folder: str, version: int = 1) -> List[Path]:
        """Write a series as mail: the cover letter, and its patches.

        They are made from the release and the series that it is based on, so
        that they apply to nothing else than what the cover letter says.
        """
        if not self.head:
            self.start()
        self.rewind()
        for base in self.bases(folder):
            for commit in self.of(base):
                self.make(commit)
        base = self.head
        for commit in self.of(folder):
            self.make(commit)
        patches = self.format(base, self.place / folder, '--cover-letter',
                              *([f'-v{version}'] if version > 1 else []))
        cover, letter = patches[0], ours.letter(folder, self.root)
        blurb = letter.body
        if letter.based_on:
            blurb += '\n\n' + '\n'.join(
                f'Based-on: {name} ("{ours.letter(name, self.root).subject}")'
                for name in letter.based_on)
        text = cover.read_text(encoding='utf-8')
        text = text.replace('*** SUBJECT HERE ***', letter.subject)
        text = text.replace('*** BLURB HERE ***', blurb)
        cover.write_text(text, encoding='utf-8')
        return patches

    def code(self, commit: str) -> int:
        """Lines of code that a commit adds, tests and documents aside."""
        counts = self.git('diff', '--numstat', '--no-renames', commit + '^',
                          commit).splitlines()
        return sum(int(added) for added, _, name in
                   (line.split('\t') for line in counts)
                   if name.endswith(('.c', '.h', '.S'))
                   and not name.startswith(('tests/', 'docs/')))

    def too_long(self, commit: str) -> str:
        added = self.code(commit)
        return f'{added} lines of code, more than {MAX_CODE}' \
            if added > MAX_CODE else ''

    def checkpatch(self, mail: Path) -> str:
        """'' if upstream's checker reports nothing, else its output."""
        result = subprocess.run(
            ['perl', 'scripts/checkpatch.pl', '--no-color', '--no-signoff',
             str(mail)],
            cwd=self.src, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            universal_newlines=True, check=False)
        found = re.findall(r'^((?:ERROR|WARNING): .*)\n(?:#\d+: (.*))?',
                           result.stdout, re.MULTILINE)
        if result.returncode and not found:
            return result.stdout
        return '\n'.join(f'{place} {words}' for words, place in found)


def case(cases: List[tap.Case], name: str, test: Callable[[], str]) -> bool:
    """Record one check; the test returns '' or what is wrong."""
    clock = Clock()
    try:
        trouble = test()
    except Failure as err:
        trouble = str(err)
    cases.append(tap.Case('not ok' if trouble else 'ok', name,
                          trouble.replace('\n', ' | ')))
    say(f'{"FAILED " if trouble else ""}{name} ({clock})')
    if trouble:
        say(trouble)
    return not trouble


def tests_of(obj: Path, place: Path, logs: Path,
             names: List[str]) -> List[direct.Run]:
    """Copy the tests of a step with these files."""
    found = direct.entries(obj, TESTS)
    if sum(entry['name'].endswith('/cxl-test') for entry in found) != 2:
        raise Failure('upstream\'s cxl-test is not there for both machines')
    runs = [direct.Run(entry, place, logs / f'{entry["name"]}.txt')
            for entry in direct.copy(obj, place, found)]
    if any(name.startswith('tests/qtest/vfio-cxl') for name in names):
        sim.build(obj)
        runs += [direct.Run(entry, place, logs / f'{entry["name"]}.txt')
                 for entry in direct.copy(obj, place,
                                          direct.entries(obj, QTESTS))]
    return runs


def failures(runs: List[direct.Run]) -> str:
    """Run the tests of a step; '' or which did not pass."""
    results = direct.run_all(runs)
    shutil.rmtree(runs[0].place)
    return '\n'.join(f'{c.name}: {c.remark}' for cases in results.values()
                     for c in cases if c.result == 'not ok')


def check_text(series: Series, cases: List[tap.Case]) -> Dict[str, str]:
    """All that needs no compiler; returns the commits, {} if they failed."""
    if not case(cases, 'series: each file is in exactly one commit',
                lambda: '\n'.join(series.complaints())):
        return {}
    case(cases, 'series: the limits for review are kept',
         lambda: '\n'.join(series.limits()))
    series.start()
    made: Dict[str, str] = {}

    def applies(commit: ours.Commit) -> str:
        made[commit.name] = series.make(commit)
        return ''

    for commit in series.commits:
        if not case(cases, f'series: {commit.name} applies',
                    lambda: applies(commit)):
            return {}
    case(cases, 'series: all commits together make our tree',
         lambda: ', '.join(series.differences()))
    for folder in series.mailed:
        mails: List[Path] = []

        def alone() -> str:
            mails.extend(series.mail(folder))
            return ''

        case(cases, f'series: {folder} applies to what it is based on', alone)
        for commit, mail in zip(series.of(folder), mails[1:]):
            case(cases, f'series: {commit.name} passes checkpatch',
                 lambda: series.checkpatch(mail))
            case(cases, f'series: {commit.name} can be reviewed',
                 lambda: series.too_long(made[commit.name]))
    return made


def check(series: Series) -> List[tap.Case]:
    """Build each step; its tests run while the next ones are built."""
    cases: List[tap.Case] = []
    tested: List[tap.Case] = []
    obj, copies = series.obj, series.place / 'tests'
    shutil.rmtree(copies, ignore_errors=True)
    made = check_text(series, cases)
    queue = direct.Queue()

    def test(commit: ours.Commit) -> None:
        title = f'series: {commit.name} passes its tests'
        names = [name for name in series.names
                 if commit.has(name) and ours.is_mailed(commit.folder)]
        try:
            runs = tests_of(obj, copies / commit.name,
                            RESULTS / 'series' / commit.name, names)
        except (OSError, Failure) as err:
            tested.append(tap.Case('not ok', title, str(err)))
            return
        queue.add(lambda: case(tested, title, lambda: failures(runs)))

    for commit in series.commits if made else []:
        def compiles() -> str:
            series.show(made[commit.name])
            return '\n'.join(ninja.build(series.src, obj, TARGETS,
                                         ninja.FAST_LINKER))
        if case(cases, f'series: {commit.name} compiles without a warning',
                compiles):
            test(commit)
    # The fast linker does not warn of all that the usual one does
    if made:
        case(cases, 'series: the usual linker gives no warning either',
             lambda: ninja.link_by_default(obj, TARGETS))
    queue.finish()
    shutil.rmtree(copies, ignore_errors=True)
    return cases + tested


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('action', nargs='?', metavar='check|SERIES')
    parser.add_argument('-v', type=int, default=int(os.environ.get('V') or 1))
    options = parser.parse_args()
    with lock(PLACE):
        series = Series(assembled())
        if options.action == 'check':
            cases = check(series)
            results = RESULTS / 'series.tap'
            results.unlink(missing_ok=True)
            tap.append(results, cases)
            return int(any(c.result != 'ok' for c in cases))
        wanted = [options.action] if options.action else series.mailed
        if not set(wanted) <= set(series.mailed):
            raise Failure(f'no such series: {options.action}. Existing ones: '
                          + ', '.join(series.mailed))
        complaints = series.complaints()
        if complaints:
            raise Failure('series/ is not complete:\n  '
                          + '\n  '.join(complaints))
        for folder in wanted:
            patches = series.mail(folder, options.v)
            say(f'{len(patches) - 1} patches and a cover letter: '
                f'{PLACE / folder}')
    say('git send-email can mail them, once signed off')
    return 0


if __name__ == '__main__':
    main(run)
