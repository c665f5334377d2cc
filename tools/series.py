# SPDX-License-Identifier: GPL-2.0-or-later
"""make series, make check-series: our files as commits for upstream.

series.py [-v N]         write build/series/*.patch
series.py check          is it complete and clean; does each step compile, and
                         pass the tests that it has
"""

import argparse
import fnmatch
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Callable, List

import hooks
import mesontest
import ninja
import ours
import sim
import tap
from common import BUILD, Clock, Failure, RESULTS, lock, main, say
from tree import Tree, assembled

PLACE = BUILD / 'series'

# What each step is tested with, as far as it has them: QEMU's tests of CXL and
# our unit tests. The step that adds our qtests runs those of one kernel, with
# one backend; check-qtest runs the rest.
TESTS = ['qtest-*/cxl-test', 'test-cxl*']
TEST_TARGETS = ['tests/qtest/cxl-test']
QTESTS = ['qtest-x86_64/vfio-cxl*']
QTEST_PATH = '/x86_64/vfio-cxl/v5/iommufd'


class Series:
    """The commits, and a git repository in which they are made."""

    def __init__(self, tree: Tree, place: Path = PLACE) -> None:
        self.tree, self.place, self.root = tree, place, tree.root
        self.src = place / 'src'
        self.git_dir = place / 'git'    # not in src, as Tree's
        root = self.root
        self.names = ours.files(root)
        self.hooks = ours.hooks(self.names, tree.modes(tree.base))
        self.commits = ours.commits(root)

    # -- the lists

    def complaints(self) -> List[str]:
        """What is wrong with the lists in series/."""
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
        return found

    # -- the git repository

    def git(self, *words: str, stdin: str = '') -> str:
        result = subprocess.run(
            ['git', '--git-dir', str(self.git_dir), '--work-tree',
             str(self.src), *words], cwd=self.src, input=stdin,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            universal_newlines=True, check=False)
        if result.returncode:
            raise Failure(f'git {words[0]} failed in {self.src}:\n'
                          + result.stderr)
        return result.stdout.strip()

    def identity(self) -> List[str]:
        """Who makes the commits: as the user's git is set up here."""
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
        name, email = self.identity()
        self.git('config', 'user.name', name)
        self.git('config', 'user.email', email)
        self.git('tag', '-f', 'pristine', self.tree.base)
        self.git('checkout', '-q', '--force', '--detach', 'pristine')
        self.git('clean', '-q', '-d', '-x', '--force')

    def write(self, commit: ours.Commit) -> None:
        """Put a commit's files into the work tree."""
        for name in self.names:
            if commit.has(name) and not name.endswith('.patch'):
                target = self.src / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.root / name, target)
        for target, names in self.hooks.items():
            for hook in names:
                if commit.has(hook):
                    path = self.src / target
                    path.write_bytes(hooks.apply(
                        path.read_bytes(), (self.root / hook).read_text(
                            encoding='utf-8'), hook, target))

    def make(self, commit: ours.Commit) -> str:
        """Make one commit; returns its id."""
        self.write(commit)
        # Who sends it certifies its origin, and signs it off then
        self.git('add', '--all', '--force')
        self.git('commit', '-q', '--allow-empty', '-F', '-',
                 stdin=commit.message)
        return self.git('rev-parse', 'HEAD')

    def differences(self) -> List[str]:
        """Files that all commits together do not make as the tree has them."""
        found = []
        for name in self.names:
            if not name.endswith('.patch'):
                made, wanted = self.src / name, self.root / name
                if (not made.exists()
                        or made.read_bytes() != wanted.read_bytes()):
                    found.append(name)
        changed = self.git('diff', '--name-only', '--no-renames', 'HEAD',
                           self.tree.make(self.tree.from_hooks()))
        return found + [name for name in changed.splitlines()
                        if name not in self.names]

    def mail(self, version: int) -> List[Path]:
        """Write the commits as mailable patches, with the cover letter."""
        for old in self.place.glob('*.patch'):
            old.unlink()
        # Without -M every reader sees whole files; without a base id, as no
        # reader has this repository.
        self.git('format-patch', '-q', '--cover-letter', '--no-renames',
                 '--no-base', *([f'-v{version}'] if version > 1 else []),
                 '-o', str(self.place), 'pristine')
        patches = sorted(self.place.glob('*.patch'))
        cover = patches[0]
        letter = (self.root / 'series/cover-letter').read_text(encoding='utf-8')
        letter = ''.join(line for line in letter.splitlines(True)
                         if not line.startswith('#'))
        subject, _, blurb = letter.strip().partition('\n')
        text = cover.read_text(encoding='utf-8')
        text = text.replace('*** SUBJECT HERE ***', subject)
        text = text.replace('*** BLURB HERE ***', blurb.strip())
        cover.write_text(text, encoding='utf-8')
        return patches

    def checkpatch(self, mail: Path) -> str:
        """'' when upstream's checker is content, else its words."""
        result = subprocess.run(
            ['perl', 'scripts/checkpatch.pl', '--no-color', '--no-signoff',
             str(mail)],
            cwd=self.src, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            universal_newlines=True, check=False)
        found = re.findall(r'^((?:ERROR|WARNING): .*)\n(?:#\d+: (.*))?',
                           result.stdout, re.MULTILINE)
        if result.returncode and not found:
            return result.stdout
        return '\n'.join(f'{place} {words}' for words, place in found
                         if not expected(words))


def expected(words: str) -> bool:
    """What checkpatch cannot know about this series."""
    return (
        # One commit changes MAINTAINERS for all of them.
        'added, moved or deleted file(s)' in words
        # No released kernel has this interface yet.
        or 'are you using scripts/update-linux-headers.sh' in words)


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


def failures(obj: Path, logs: Path, names: List[str]) -> str:
    """Run the tests of a step with these files; '' or which did not pass."""
    # meson refuses a name that no test has
    has = mesontest.known(obj)
    wanted = TESTS[:1] + [name for name in TESTS[1:]
                          if fnmatch.filter(has, name)]
    results = mesontest.run(obj, wanted, logs)
    if any(name.startswith('tests/qtest/vfio-cxl') for name in names):
        sim.build(obj)
        results.update(mesontest.run(obj, QTESTS, logs / 'qtest',
                                     [*mesontest.ALL_KERNELS, '-p',
                                      QTEST_PATH]))
    return '\n'.join(f'{c.name}: {c.remark}' for cases in results.values()
                     for c in cases if c.result == 'not ok')


def check(series: Series) -> List[tap.Case]:
    cases: List[tap.Case] = []
    obj = series.place / 'obj'
    case(cases, 'series: each file is in exactly one commit',
         lambda: '\n'.join(series.complaints()))
    series.start()
    made = []

    def applies(commit: ours.Commit) -> str:
        made.append(series.make(commit))
        return ''

    for commit in series.commits:
        if not case(cases, f'series: {commit.name} applies',
                    lambda: applies(commit)):
            return cases
    case(cases, 'series: all commits together make our tree',
         lambda: ', '.join(series.differences()))
    for commit, mail in zip(series.commits, series.mail(1)[1:]):
        case(cases, f'series: {commit.name} passes checkpatch',
             lambda: series.checkpatch(mail))
    for commit, ident in zip(series.commits, made):
        def compiles() -> str:
            series.git('checkout', '-q', '--force', ident)
            return '\n'.join(
                ninja.build(series.src, obj, ninja.EMULATORS + ninja.OURS
                            + TEST_TARGETS))
        if case(cases, f'series: {commit.name} compiles without a warning',
                compiles):
            names = [name for name in series.names if commit.has(name)]
            case(cases, f'series: {commit.name} passes its tests',
                 lambda: failures(obj, RESULTS / 'series' / commit.name,
                                  names))
    return cases


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('action', nargs='?', choices=['check'])
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
        complaints = series.complaints()
        if complaints:
            raise Failure('series/ is not complete:\n  '
                          + '\n  '.join(complaints))
        series.start()
        for commit in series.commits:
            series.make(commit)
        patches = series.mail(options.v)
    for mail in patches:
        print(mail)
    say(f'{len(patches) - 1} patches and a cover letter. git send-email can '
        'mail them')
    return 0


if __name__ == '__main__':
    main(run)
