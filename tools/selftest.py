# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the tools themselves, on a tiny QEMU of four files."""

import contextlib
import hashlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from typing import Dict, List, Tuple
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent.parent / 'tests/bench'))
# pylint: disable=wrong-import-position
import asan
import check
import common
import direct
import dmamaps
import fetch
import hooks
import machine
import machines
import mesontest
import ninja
import ours
import series
import tap
import tree
import upstream
from common import Failure
from tree import Tree

LINES = [f'line {n}\n' for n in range(1, 21)]


def text(*edits: Tuple[int, str]) -> str:
    """The lines, with some changed."""
    lines = list(LINES)
    for number, line in edits:
        lines[number - 1] = line
    return ''.join(lines)


class Fixture(unittest.TestCase):
    template = tempfile.TemporaryDirectory()

    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        for module in (tree, fetch, series):
            quiet = mock.patch.object(module, 'say')
            quiet.start()
            self.addCleanup(quiet.stop)
        made = Path(self.template.name)
        if not any(made.iterdir()):
            self.use(made)
            self.write(self.root / 'series/local', '.*\nseries/\ntools/\n')
            self.write(self.root / '.gitignore', '/build/\n')
            self.write(self.root / 'hw/new.c', 'ours\n')
            self.write(self.root / 'tools/pin.py', "VERSION = '1'\n")
            subprocess.run(['git', 'init', '-q', '--template=',
                            str(self.root)], check=True)
            self.tree.git('update-ref', 'refs/qct/pristine', self.release('1'))
            self.tree.update()
        shutil.copytree(made, holder.name, symlinks=True, dirs_exist_ok=True)
        self.use(Path(holder.name))

    def use(self, top: Path) -> None:
        self.top = top
        self.root = top / 'repo'
        self.tree = Tree(self.root / 'build/qemu', self.root)
        self.src = self.tree.src

    def release(self, version: str, pci: str = text(), **files: str) -> str:
        """A release of four files and more; returns its commit."""
        place = self.top / ('qemu-' + version)
        for name, words in {'hw/pci.c': pci, 'VERSION': version + '\n',
                            'hw/meson.build': 'one\ntwo\nthree\n',
                            'pc-bios/meson.build': '', **files}.items():
            self.write(place / name, words)
        return self.tree.add_release(fetch.Source(place, str(place)))

    @staticmethod
    def write(path: Path, words: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(words, encoding='utf-8')

    def edit(self, number: int, line: str) -> None:
        """Change one line of the tree's hw/pci.c."""
        path = self.src / 'hw/pci.c'
        lines = path.read_text().splitlines(True)
        lines[number - 1] = line
        path.write_text(''.join(lines))

    def pci(self) -> str:
        return (self.src / 'hw/pci.c').read_text()

    def hook(self, name: str = 'hw/pci.c.patch') -> Path:
        return self.root / name


class TestHooks(unittest.TestCase):
    """Applying a hook's text."""

    @staticmethod
    def apply(base: str, diff: str) -> str:
        return hooks.apply(
            base.encode(), ours.SPDX + '--- a/x\n+++ b/x\n' + diff, 'x.patch',
            'x').decode()

    def test_elsewhere(self) -> None:
        diff = '@@ -8,3 +8,3 @@\n line 8\n-line 9\n+nine\n line 10\n'
        self.assertEqual(self.apply(text(), diff), text((9, 'nine\n')))
        self.assertEqual(self.apply('new\n' + text(), diff),
                         'new\n' + text((9, 'nine\n')))

    def test_no_fuzz(self) -> None:
        with self.assertRaisesRegex(Failure, 'made at line 8 fits nowhere'):
            self.apply(text(), '@@ -8,3 +8,3 @@\n line eight\n-line 9\n+nine\n'
                       ' line 10\n')

    def test_two_places(self) -> None:
        """Even if one of them is where it was."""
        with self.assertRaisesRegex(Failure, 'fits at lines 1, 4'):
            self.apply('}\n}\n\n}\n}\n', '@@ -1,2 +1,3 @@\n }\n+x\n }\n')

    def test_no_newline_at_the_end(self) -> None:
        self.assertEqual(self.apply(
            'a\nb', '@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n'
            '+c\n'), 'a\nc\n')


class TestTree(Fixture):
    def test_links_follow_the_repository(self) -> None:
        self.assertEqual((self.src / 'hw/new.c').read_text(), 'ours\n')
        self.assertEqual(self.tree.update(), [])
        (self.root / 'hw/new.c').unlink()
        self.write(self.root / 'tests/ours/meson.build', 'ours too\n')
        self.assertEqual(self.tree.update(),
                         ['hw/new.c', 'tests/ours/meson.build'])
        self.assertFalse((self.src / 'hw/new.c').is_symlink())
        (self.root / 'tests/ours/meson.build').unlink()
        self.tree.update()
        self.assertFalse((self.src / 'tests').exists())

    def test_own_file_with_upstream_name(self) -> None:
        self.write(self.root / 'hw/pci.c', 'ours\n')
        with self.assertRaisesRegex(Failure, 'hw/pci.c.patch'):
            self.tree.update()

    def test_hook_that_does_not_apply(self) -> None:
        self.write(self.hook(), ours.SPDX + '--- a/hw/pci.c\n+++ b/hw/pci.c\n'
                   '@@ -3,3 +3,3 @@\n line 3\n-line four\n+mine\n line 5\n')
        with self.assertRaisesRegex(Failure,
                                    '(?s)hw/pci.c.patch.*line 3.*four'):
            self.tree.update()
        self.assertEqual(self.pci(), text())

    def test_hook_for_no_file(self) -> None:
        self.write(self.root / 'hw/gone.c.patch', 'x\n')
        with self.assertRaisesRegex(Failure, 'hw/gone.c.patch'):
            self.tree.update()

    def test_only_what_changes_is_written(self) -> None:
        old = {name: os.lstat(self.src / name).st_mtime_ns
               for name in ('hw/pci.c', 'hw/meson.build')}
        self.write(self.hook('hw/meson.build.patch'), '--- a/x\n+++ b/x\n'
                   '@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n')
        self.assertEqual(self.tree.update(), ['hw/meson.build'])
        self.assertEqual([name for name in old if old[name] !=
                          os.lstat(self.src / name).st_mtime_ns],
                         ['hw/meson.build'])


class TestRefresh(Fixture):
    def test_round_trip(self) -> None:
        self.assertEqual(self.tree.refresh(), [])
        self.edit(9, 'nine\n')
        self.assertEqual(self.tree.refresh(), ['hw/pci.c.patch'])
        made = self.hook().read_text()
        self.assertEqual(made.splitlines()[0] + '\n', ours.SPDX)
        self.assertIn('\n line 6\n line 7\n line 8\n-line 9\n+nine\n line 10\n',
                      made)
        self.assertNotIn('\n line 5', made)
        self.assertEqual((self.tree.update(), self.tree.edited(),
                          self.tree.refresh()), ([], [], []))
        self.assertEqual(self.hook().read_text(), made)
        # The same tree comes out of the hook alone.
        shutil.rmtree(self.tree.place)
        self.tree.git_dir.parent.mkdir()
        self.tree.git('update-ref', 'refs/qct/pristine', self.release('1'))
        self.tree.update()
        self.assertEqual(self.pci(), text((9, 'nine\n')))

    def test_undone_edit_removes_the_hook(self) -> None:
        self.edit(9, 'nine\n')
        self.tree.refresh()
        self.edit(9, 'line 9\n')
        self.tree.refresh()
        self.assertFalse(self.hook().exists())

    def test_context_until_the_place_is_unique(self) -> None:
        same = 'begin\na\nb\nc\nd\ne\nf\nend\n'
        self.tree.git('update-ref', 'refs/qct/pristine',
                      self.release('2', same + 'x\n' + same))
        self.tree.update()
        self.edit(4, 'changed\n')
        self.tree.refresh()
        self.assertIn('\n end\n x\n', self.hook().read_text())

    def test_topic_hook_comes_first(self) -> None:
        topic = 'hw/pci.c.fix.patch'
        self.edit(9, 'nine\n')
        self.assertEqual(self.tree.refresh(topic), [topic])
        self.edit(10, 'ten\n')
        self.assertEqual(self.tree.refresh(), ['hw/pci.c.patch'])
        self.assertIn('\n nine\n-line 10\n+ten\n', self.hook().read_text())
        # A later edit can still go into the topic hook.
        self.edit(2, 'two\n')
        self.tree.refresh(topic)
        self.assertIn('+two\n', self.hook(topic).read_text())
        self.assertNotIn('+two', self.hook().read_text())
        before = self.pci()
        self.assertEqual(self.tree.update(), [])
        self.assertEqual(self.pci(), before)
        # Not where a later hook changes the same line
        self.edit(10, 'TEN\n')
        with self.assertRaisesRegex(Failure, 'a later hook'):
            self.tree.refresh(topic)

    def test_topic_hooks_in_order_of_commits(self) -> None:
        for name in '0-x/02-b', '1-a/01-a':
            self.write(self.root / 'series' / name,
                       f'a\n\nFiles:\nhw/pci.c.{name[-1]}.patch\n')
        found = {'hw/pci.c': [f'hw/pci.c.{n}patch' for n in ('a.', 'b.', '')]}
        self.assertEqual(ours.topics(found, self.root),
                         [('hw/pci.c.b.patch', 'hw/pci.c'),
                          ('hw/pci.c.a.patch', 'hw/pci.c')])


class TestEditsAreSafe(Fixture):
    def setUp(self) -> None:
        super().setUp()
        self.edit(9, 'nine\n')
        self.tree.refresh()
        self.edit(2, 'precious\n')

    def change_hook(self) -> None:
        self.hook().write_text(self.hook().read_text().replace('+nine', '+9'))

    def kept(self) -> bool:
        return 'precious' in self.pci()

    def test_assembling_again(self) -> None:
        self.assertEqual(self.tree.update(), [])
        self.assertTrue(self.kept())

    def test_changed_hook_is_refused(self) -> None:
        self.change_hook()
        with self.assertRaisesRegex(Failure, 'make discard'):
            self.tree.update()
        with self.assertRaisesRegex(Failure, 'FORCE=1'):
            self.tree.refresh()
        self.assertTrue(self.kept())

    def test_hook_as_the_edit(self) -> None:
        self.hook().write_text(self.hook().read_text()
                               .replace('+nine', '+9'))
        self.tree.discard()
        self.edit(9, '9\n')
        self.tree.update()
        self.assertEqual(self.tree.edited(), [])

    def test_removed_hook_is_refused(self) -> None:
        self.hook().unlink()
        with self.assertRaisesRegex(Failure, 'make discard'):
            self.tree.update()
        self.assertTrue(self.kept())

    def test_discard(self) -> None:
        self.change_hook()
        self.assertEqual(self.tree.discard(), ['hw/pci.c'])
        self.tree.update()
        self.assertEqual(self.pci(), text((9, '9\n')))

    def test_hook_changed_without_edits(self) -> None:
        self.tree.discard()
        self.change_hook()
        self.assertEqual(self.tree.refresh(), [])
        self.assertIn('+9\n', self.hook().read_text())


class TestRebase(Fixture):
    """A move to another release."""

    def hooked(self, *edits: Tuple[int, str]) -> None:
        for edit in edits:
            self.edit(*edit)
        self.tree.refresh()

    def rebase(self, version: str, pci: str = text(), **files: str) -> None:
        self.release(version, pci, **files)
        place = self.top / ('qemu-' + version)
        self.tree.rebase(fetch.Source(place, str(place)))

    def test_right_function(self) -> None:
        """Where a patch of little context lands in the new one."""
        def body(name: str) -> str:
            return f'void {name}(void)\n{{\n    a();\n    done();\n}}\n\n'
        old = body('one') + body('two')
        self.tree.git('update-ref', 'refs/qct/pristine',
                      self.release('2', old))
        self.tree.update()
        self.hooked((10, '    done();\n    ours();\n'))
        made = self.hook().read_text()
        new = body('one') + body('new') + body('two')
        self.rebase('3', new)
        self.tree.refresh()
        right = new[:-3] + '    ours();\n}\n\n'
        self.assertEqual(self.pci(), right)
        # The hook that was made for the old release is never a guess
        try:
            self.assertEqual(hooks.apply(new.encode(), made, 'x', 'x'),
                             right.encode())
        except Failure:
            pass

    def test_there_and_back(self) -> None:
        topic = 'hw/pci.c.fix.patch'
        self.edit(3, 'three\n')
        self.tree.refresh(topic)
        self.hooked((15, 'fifteen\n'))
        before = {name: self.hook(name).read_text()
                  for name in (topic, 'hw/pci.c.patch')}
        self.rebase('2', 'new\n' + text((9, 'nine\n')))
        self.assertEqual(len(self.tree.refresh()), 2)
        self.assertEqual(self.pci(), 'new\n' + text(
            (3, 'three\n'), (9, 'nine\n'), (15, 'fifteen\n')))
        self.assertIn('@@ -13,7 ', self.hook().read_text())
        self.assertIn("'2'", (self.root / 'tools/pin.py').read_text())
        self.assertEqual(self.tree.update(), [])
        self.rebase('1')
        self.tree.refresh()
        self.assertEqual({name: self.hook(name).read_text() for name in before},
                         before)
        self.assertIn("'1'", (self.root / 'tools/pin.py').read_text())

    def test_conflict(self) -> None:
        topic = 'hw/pci.c.fix.patch'
        self.edit(3, 'three\n')
        self.tree.refresh(topic)
        self.hooked((15, 'fifteen\n'))
        with self.assertRaisesRegex(Failure, 'hw/pci.c'):
            self.rebase('2', text((3, '3\n'), (15, '15\n')))
        self.assertIn('<<<<<<<', self.pci())
        for words in ('tree', 'markers'):
            with self.assertRaises(Failure):
                self.tree.update() if words == 'tree' else self.tree.refresh()
        solved = text((3, '3, three\n'), (15, '15\n'))
        self.write(self.src / 'hw/pci.c', solved)
        with self.assertRaisesRegex(Failure, 'conflicts'):  # the second commit
            self.tree.refresh()
        self.write(self.src / 'hw/pci.c', solved.replace('15', '15, fifteen'))
        self.tree.refresh()
        self.assertIn('+3, three', self.hook(topic).read_text())
        self.assertIn('+15, fifteen', self.hook().read_text())
        self.assertEqual((self.tree.update(), self.tree.edited()), ([], []))

    def test_given_up(self) -> None:
        self.hooked((3, 'three\n'))
        before = self.hook().read_text()
        with self.assertRaises(Failure):
            self.rebase('2', text((3, '3\n')))
        self.tree.discard()
        self.assertEqual((self.tree.update(), self.pci()),
                         ([], text((3, 'three\n'))))
        self.assertEqual(self.hook().read_text(), before)

    def test_change_that_upstream_has_made(self) -> None:
        self.edit(3, 'three\n')
        self.tree.refresh('hw/pci.c.fix.patch')
        self.hooked((15, 'fifteen\n'))
        self.rebase('2', text((3, 'three\n')))
        self.tree.refresh()
        self.assertFalse(self.hook('hw/pci.c.fix.patch').exists())
        self.assertTrue(self.hook().exists())

    def test_moved_file(self) -> None:
        self.hooked((3, 'three\n'))
        place = self.top / 'qemu-2'
        self.release('2', '', **{'hw/bus.c': text()})
        (place / 'hw/pci.c').unlink()
        self.tree.git('update-ref', '-d', 'refs/qct/releases/'
                      + hashlib.sha1(str(place).encode()).hexdigest())
        self.tree.rebase(fetch.Source(place, str(place)))
        self.tree.refresh()
        self.assertFalse(self.hook().exists())
        self.assertIn('+three', self.hook('hw/bus.c.patch').read_text())

    def test_git_that_fails(self) -> None:
        self.hooked((3, 'three\n'))
        run = self.tree.run

        def fails(*words: str, **options) -> bytes:
            if words[0] == 'rebase' and '--onto' in words:
                raise Failure('no space left')
            return run(*words, **options)

        with mock.patch.object(self.tree, 'run', fails):
            with self.assertRaisesRegex(Failure, 'no space left'):
                self.rebase('2', 'new\n' + text())
        with self.assertRaises(Failure):    # not taken for a merge that ended
            self.tree.refresh()
        self.tree.discard()
        self.assertEqual(self.tree.update(), [])
        self.assertEqual(self.pci(), text((3, 'three\n')))

    def test_edits_are_not_lost(self) -> None:
        self.edit(3, 'precious\n')
        with self.assertRaisesRegex(Failure, 'edits'):
            self.rebase('2')
        self.assertIn('precious', self.pci())


class TestFetch(Fixture):
    def setUp(self) -> None:
        super().setUp()
        self.cache = self.top / 'cache'
        self.name, self.found = 'qemu_1+ds.orig.tar.xz', 'a tarball'
        digest = hashlib.sha256(self.found.encode()).hexdigest()
        for patch in (
                mock.patch.object(fetch, 'CACHE', self.cache),
                mock.patch.object(fetch.debian, 'mirror', lambda: 'mirror:'),
                mock.patch.dict(fetch.pin.SHA256, {self.name: digest}),
                mock.patch.object(fetch, 'download', self.download),
                mock.patch.dict(os.environ)):
            patch.start()
            self.addCleanup(patch.stop)
        for name in ('QEMU_SRC', 'QEMU_SRC_SHA256', 'QEMU_DIST'):
            os.environ.pop(name, None)
        self.asked: List[str] = []
        self.served: Dict[str, str] = {}

    def download(self, url: str, target: Path) -> None:
        self.asked.append(url)
        for part, words in self.served.items():
            if part in url:
                self.write(target, words)
                return
        raise Failure(f'{url}: not found')

    def test_order_of_places(self) -> None:
        with self.assertRaises(Failure) as caught:
            fetch.obtain([self.name, 'qemu-1.tar.xz'])
        said = str(caught.exception)
        places = ['QEMU_DIST', 'pool', 'snapshot', 'release site',
                  'QEMU_SRC=FILE']
        self.assertEqual(sorted(places, key=said.index), places)
        self.served = {'/mr/': '{"fileinfo": {"abc": [{"name": "%s"}]}}'
                       % self.name, '/file/abc': self.found}
        self.assertEqual(fetch.obtain([self.name]).read_text(), self.found)
        self.asked.clear()
        self.assertEqual(fetch.obtain([self.name]).read_text(), self.found)
        self.assertEqual(self.asked, [])
        (self.cache / self.name).unlink()
        os.environ['QEMU_DIST'] = str(self.top)
        self.write(self.top / self.name, self.found)
        fetch.obtain([self.name])
        self.assertEqual(self.asked, [])

    def test_pool_by_path(self) -> None:
        self.served = {'mirror:/pool/main/q/qemu/qemu_1%2Bds': self.found}
        self.assertEqual(fetch.obtain([self.name]), self.cache / self.name)

    def test_wrong_sum(self) -> None:
        self.served = {'pool': 'something else'}
        with self.assertRaisesRegex(Failure, 'wrong checksum'):
            fetch.obtain([self.name])
        self.assertEqual(list(self.cache.glob('q*')), [])
        self.write(self.root / self.name, 'something else')
        os.environ['QEMU_SRC'] = str(self.root / self.name)
        with self.assertRaisesRegex(Failure, 'wrong checksum'):
            fetch.from_user()

    def test_unknown_is_the_users_affair(self) -> None:
        with self.assertRaisesRegex(Failure, 'no checksum of .* is pinned'):
            fetch.find('9.9.9')
        self.assertEqual(self.asked, [])
        path = self.root / 'qemu-9.9.9.tar.xz'
        self.write(path, 'x')
        self.write(self.root / 'dir/VERSION', '9.9.8\n')
        for value, version in ((path, '9.9.9'), (self.root / 'dir', '9.9.8')):
            os.environ['QEMU_SRC'] = str(value)
            with mock.patch.object(fetch, 'say') as said:
                self.assertEqual(fetch.find().path, value.resolve())
            self.assertIn(f'QEMU_SRC is QEMU {version}', str(said.mock_calls))


class TestSeries(Fixture):
    def entry(self, name: str, *files: str, subject: str = '') -> None:
        self.write(self.root / 'series' / name,
                   f'# remark\n{subject or "hw: do " + name}\n\nBecause.\n\n'
                   'Files:\n' + ''.join(file + '\n' for file in files))

    def letter(self, folder: str, words: str = '') -> None:
        self.write(self.root / 'series' / folder / 'cover-letter',
                   f'# x\nhw: all of {folder}\n\nIt is.\n' + words)

    def setUp(self) -> None:
        super().setUp()
        self.edit(9, 'nine\n')
        self.tree.refresh('hw/pci.c.fix.patch')
        self.edit(10, 'ten\n')
        self.tree.refresh()
        self.entry('0-fix/01-fix', 'hw/pci.c.fix.patch')
        self.entry('1-new/01-new', 'hw/new.c', 'hw/pci.c.patch')
        self.letter('0-fix')
        self.letter('1-new', '\nBased-on: 0-fix\n')

    def series(self) -> series.Series:
        return series.Series(self.tree, self.root / 'build/series')

    def complaint(self, words: str) -> None:
        """There is this complaint and no other."""
        said = self.series().complaints()
        self.assertEqual(len(said), 1, said)
        self.assertIn(words, said[0])

    def test_complete(self) -> None:
        self.assertEqual(self.series().complaints(), [])
        self.assertEqual(self.series().limits(), [])

    def test_listed_twice(self) -> None:
        self.entry('1-new/03-more', 'hw/*.c')
        self.complaint('hw/new.c is in 1-new/01-new and 1-new/03-more')

    def test_not_listed(self) -> None:
        self.write(self.root / 'hw/other.c', 'ours\n')
        self.complaint('hw/other.c is in no commit')

    def test_listed_but_not_there_or_local(self) -> None:
        self.entry('1-new/03-more', 'hw/gone.c', 'series/local')
        said = self.series().complaints()
        self.assertEqual(len(said), 2)
        self.assertIn('hw/gone.c, which does not exist', said[0])
        self.assertIn('series/local, which stays local', said[1])

    def test_forgotten(self) -> None:
        """A commit that is in no folder, or whose name has no number."""
        for name in '03-more', '1-new/more':
            self.entry(name, 'hw/new.c')
            self.complaint(f'series/{name} is neither')
            (self.root / 'series' / name).unlink()

    def test_cover_letter(self) -> None:
        path = self.root / 'series/1-new/cover-letter'
        path.write_text('hw: all\n')
        self.complaint('cover-letter says nothing')
        path.unlink()
        with self.assertRaisesRegex(Failure, 'series/1-new has no cover'):
            self.series().complaints()

    def test_based_on_what_is_not_earlier(self) -> None:
        for name in '2-gone', '1-new':
            self.letter('0-fix', f'Based-on: {name}\n')
            self.complaint(f'series/0-fix is based on {name}, which is no')

    def test_topic_after_the_plain_hook(self) -> None:
        """In the tree the plain hook is the last: not here either."""
        self.entry('0-fix/01-fix', 'hw/pci.c.patch')
        self.entry('1-new/01-new', 'hw/new.c', 'hw/pci.c.fix.patch')
        self.complaint('hw/pci.c.fix.patch comes after hw/pci.c.patch')
        made = self.series()
        made.start()
        with self.assertRaisesRegex(Failure, 'hw/pci.c.patch does not apply'):
            made.make(made.commits[0])

    def test_mails(self) -> None:
        made = self.series()
        made.make_all()
        self.assertEqual(made.differences(), [])
        cover, fix = made.mail('0-fix', 3)
        self.assertEqual(fix.parent, self.root / 'build/series/0-fix')
        self.assertTrue(fix.name.startswith('v3-0001-'), fix.name)
        self.assertIn('[PATCH v3 0/1] hw: all of 0-fix', cover.read_text())
        self.assertIn('It is.', cover.read_text())
        self.assertNotIn('Based-on', cover.read_text())
        self.assertIn('+nine', fix.read_text())
        self.assertNotIn('+ten', fix.read_text())
        self.assertNotIn('remark', fix.read_text())
        cover, new = made.mail('1-new')
        self.assertIn('+ten', new.read_text())
        self.assertNotIn('+nine', new.read_text())
        self.assertIn('\nBased-on: 0-fix ("hw: all of 0-fix")\n',
                      cover.read_text())
        for mail in cover, fix, new:
            self.assertNotIn('Signed-off-by: ', mail.read_text())

    def test_mails_apply_to_what_they_are_based_on(self) -> None:
        self.write(self.root / 'hw/other.c', 'ours\n')
        self.entry('0-other/01-other', 'hw/other.c')
        self.letter('0-other')
        made = self.series()
        self.assertEqual(made.complaints(), [])
        self.assertEqual(made.bases('1-new'), ['0-fix'])
        made.mail('1-new')
        made.show()
        self.assertFalse((made.src / 'hw/other.c').exists())
        self.assertTrue((made.src / 'hw/new.c').exists())
        # All of them are known, also those that are not named
        self.write(self.root / 'hw/last.c', 'ours\n')
        self.entry('2-last/01-last', 'hw/last.c')
        self.letter('2-last', 'Based-on: 1-new\n')
        self.assertEqual(self.series().bases('2-last'), ['0-fix', '1-new'])
        # Applying to our tree alone is not enough
        self.letter('1-new')
        made = self.series()
        made.make_all()
        with self.assertRaisesRegex(Failure, 'does not apply'):
            made.mail('1-new')

    def test_local(self) -> None:
        """Made and compared, but never mailed."""
        self.write(self.root / 'hw/home.c', 'ours\n')
        self.entry('9-local/01-home', 'hw/home.c')
        made = self.series()
        self.assertEqual(made.complaints(), [])
        self.assertEqual(made.mailed, ['0-fix', '1-new'])
        made.make_all()
        self.assertEqual(made.differences(), [])    # shows them, too
        self.assertTrue((made.src / 'hw/home.c').exists())
        for folder in made.mailed:
            self.assertNotIn('home.c', ''.join(
                mail.read_text() for mail in made.mail(folder)))
        (self.root / 'series/9-local').rename(self.root / 'series/0-local')
        self.complaint('series/0-local is not mailed, so nothing can come')

    def test_too_many_patches(self) -> None:
        for number in range(2, 14):
            self.assertEqual(self.series().limits(), [])
            self.write(self.root / f'hw/{number}.c', 'ours\n')
            self.entry(f'1-new/{number:02}-more', f'hw/{number}.c')
        self.assertEqual(self.series().limits(),
                         ['series/1-new has 13 patches, and may have 12'])

    def test_long_subjects(self) -> None:
        self.entry('0-fix/01-fix', 'hw/pci.c.fix.patch', subject='x' * 72)
        self.assertEqual(self.series().limits(), [])
        self.entry('0-fix/01-fix', 'hw/pci.c.fix.patch', subject='x' * 73)
        self.write(self.root / 'series/1-new/cover-letter',
                   'y' * 80 + '\n\nIt is.\n')
        self.assertEqual([words.partition(':')[0]
                          for words in self.series().limits()],
                         ['series/0-fix/01-fix', 'series/1-new/cover-letter'])

    def test_too_much_code(self) -> None:
        code = 'int a;\n'
        for name in 'tests/t.c', 'docs/d.c', 'hw/s.py', 'hw/r.rst':
            self.write(self.root / name, code * 1000)
            self.entry('1-new/02-' + name[-3:], name)
        self.write(self.root / 'hw/a.c', code * 400)
        self.write(self.root / 'hw/a.h', code * 300)
        self.entry('1-new/03-code', 'hw/a.c', 'hw/a.h')
        self.write(self.root / 'hw/b.S', code * 701)
        self.entry('1-new/04-code', 'hw/b.S')
        made = self.series()
        made.start()
        said = {commit.name: made.too_long(made.make(commit))
                for commit in made.commits}
        self.assertIn('701 lines of code', said.pop('1-new/04-code'))
        self.assertEqual(set(said.values()), {''})

    def test_a_hook_counts_what_it_adds(self) -> None:
        made = self.series()
        made.start()
        self.assertEqual([made.code(made.make(commit))
                          for commit in made.commits], [1, 2])

    def test_checkpatch_is_never_excused(self) -> None:
        said = ['WARNING: added, moved or deleted file(s), does MAINTAINERS '
                'need updating?',
                'WARNING: added, moved or deleted file(s) imported from Linux, '
                'are you using scripts/update-linux-headers.sh?',
                'ERROR: consider using qemu_strtoul']
        made = self.series()
        made.start()
        mail = made.mail('1-new')[1]
        self.write(made.src / 'scripts/checkpatch.pl', ''.join(
            f'print "{line}\\n#{n}: FILE: tests/vfio-sim/a.c:1:\\n";\n'
            for n, line in enumerate(said)) + 'exit 1;\n')
        found = made.checkpatch(mail)
        for line in said:
            self.assertIn(line, found)
        self.write(made.src / 'scripts/checkpatch.pl', 'die "broken";\n')
        self.assertIn('broken', made.checkpatch(mail))
        self.write(made.src / 'scripts/checkpatch.pl', 'exit 0;\n')
        self.assertEqual(made.checkpatch(mail), '')

    def test_check_tells_each(self) -> None:
        """What is wrong is a failed case with the name of the commit."""
        self.write(self.root / 'hw/big.c', 'int a;\n' * 701)
        self.entry('1-new/02-big', 'hw/big.c')
        cases: List[tap.Case] = []
        made = self.series()
        with mock.patch.object(series.Series, 'checkpatch', return_value=''):
            commits = series.check_text(made, cases)
        self.assertEqual(list(commits), ['0-fix/01-fix', '1-new/01-new',
                                         '1-new/02-big'])
        self.assertEqual([c.name for c in cases if c.result != 'ok'],
                         ['series: 1-new/02-big can be reviewed'])
        self.letter('1-new')
        cases.clear()
        with mock.patch.object(series.Series, 'checkpatch', return_value=''):
            series.check_text(self.series(), cases)
        self.assertEqual([c.name for c in cases if c.result != 'ok'],
                         ['series: 1-new applies to what it is based on'])
        (self.root / 'series/1-new/02-big').unlink()
        cases.clear()
        self.assertEqual(series.check_text(self.series(), cases), {})
        self.assertEqual([c.result for c in cases], ['not ok'])


class TestSim(unittest.TestCase):
    """Which vfio-sim the tests use."""

    def test_setting(self):
        launcher = Path(common.environment()['VFIO_SIM'])
        self.assertTrue(launcher.is_absolute())
        self.assertEqual(launcher, common.SIM)

    def test_default(self):
        """Tests that run without the tools have the same one."""
        script = 'import {0}; print({0}.SIM)'
        env = {key: value for key, value in os.environ.items()
               if key != 'VFIO_SIM'}
        found = {subprocess.run(
            [sys.executable, '-B', '-c', script.format(module)], check=True,
            cwd=common.ROOT / place, env=env, text=True,
            stdout=subprocess.PIPE).stdout for place, module in
            (('tools', 'common'), ('tests/guest', 'boot'),
             ('tests/bench', 'machine'))}
        self.assertEqual(len(found), 1, found)


class TestParts(unittest.TestCase):
    """Which parts of make check are run, and which at the same time."""

    ALL = list(check.PARTS)

    def run_order(self, parts):
        seen = []

        def prepare():
            time.sleep(0.1)
            seen.append(('prepare', True))

        with mock.patch.dict(os.environ), \
                mock.patch.object(check, 'prepare_ahead', prepare), \
                mock.patch.object(check, 'run_part',
                                  lambda part, log=None: seen.append(
                                      (part, bool(log)))):
            os.environ.pop(check.EVERYTHING, None)
            check.run_parts(parts)
            self.assertEqual(check.EVERYTHING in os.environ,
                             parts == self.ALL)
        return seen

    def test_all_once(self):
        seen = self.run_order(self.ALL)
        order = [part for part, _ in seen]
        self.assertEqual(sorted(order), sorted([*self.ALL, 'prepare']))
        self.assertIn(('unit', False), seen[:3])
        seen.remove(('prepare', True))
        self.assertEqual(sorted(part for part, log in seen if log),
                         ['dist', 'fuzz', 'install', 'libvirt', 'tools'])
        # These boot what was prepared, and two must not do that at once: if it
        # fails, the first one of them in each lane tries again
        for part in 'nested', 'install':
            self.assertLess(order.index('guest'), order.index(part))
        for part in 'guest', 'libvirt':
            self.assertLess(order.index('prepare'), order.index(part))
        self.assertLess(order.index('libvirt'), order.index('guest'))

    def test_not_all(self):
        """Then two parts might prepare what guests boot."""
        parts = [part for part in self.ALL if part != 'guest']
        self.assertEqual(self.run_order(parts),
                         [(part, False) for part in parts])

    def test_log(self):
        """What a part says while others run is printed when it ends."""
        with tempfile.TemporaryDirectory() as place:
            log = Path(place) / 'log'
            with mock.patch.object(check, 'RESULTS', Path(place)), \
                    mock.patch.object(check.subprocess, 'run') as run, \
                    contextlib.redirect_stderr(io.StringIO()), \
                    contextlib.redirect_stdout(io.StringIO()) as out:
                run.side_effect = lambda *words, stdout, **more: (
                    stdout.write('said'), mock.Mock(returncode=1))[1]
                check.run_part('dist', log)
            self.assertIn('said', out.getvalue())
            cases = tap.read(Path(place) / 'dist.tap')
        self.assertEqual([case.result for case in cases], ['not ok'])


class TestResults(Fixture):
    def read(self, result: str, *lines: str) -> List[tap.Case]:
        self.write(self.root / 'log.json', json.dumps(
            {'name': 'qemu:unit / t', 'result': result, 'returncode': 0,
             'stdout': '\n'.join(lines)}))
        return mesontest.read(self.root / 'log.json')['t']

    def test_cases_are_counted(self) -> None:
        cases = self.read('FAIL', '1..3', 'ok 1 /a', 'not ok 2 - /b',
                          'ok 3 /c # SKIP no such device')
        self.assertEqual([c.result for c in cases], ['ok', 'not ok', 'skip'])
        self.assertEqual(cases[0].name, 't /a')
        results = self.root / 'build/x.tap'
        tap.append(results, cases)
        self.assertEqual([c.result for c in tap.read(results)],
                         ['ok', 'not ok', 'skip'])

    def test_crash_hang_and_early_end_are_failures(self) -> None:
        for result in ('ERROR', 'TIMEOUT', 'FAIL', 'INTERRUPT'):
            last = self.read(result, 'ok 1 /a')[-1]
            self.assertEqual(last.result, 'not ok')
            self.assertIn(f'{result} after t /a', last.remark)

    def test_plan_for_each_path(self) -> None:
        lines = ['ok 1 /a', '1..1', 'ok 2 /b', '1..2']
        self.assertEqual(len(self.read('ERROR', *lines)), 2)
        self.assertEqual(self.read('TIMEOUT', *lines)[-1].result, 'not ok')

    def test_arguments_reach_the_test(self) -> None:
        self.write(self.root / 'pyvenv/bin/meson', '#!/bin/sh\nfor word; do '
                   f'echo "$word"; done >{self.root}/words\n')
        (self.root / 'pyvenv/bin/meson').chmod(0o755)
        with mock.patch.object(mesontest, 'say'):
            done = mesontest.run(self.root, ['a*'], self.root / 'logs',
                                 ['-p', '/x y', '-p', '/z'])
        words = (self.root / 'words').read_text().splitlines()
        given, = [word for word in words if word.startswith('--test-args=')]
        self.assertEqual(shlex.split(given[len('--test-args='):]),
                         ['-p', '/x y', '-p', '/z'])
        self.assertEqual(words[-1], 'a*')
        self.assertEqual([c.result for c in done['none']], ['not ok'])

    def test_comparison(self) -> None:
        case = tap.Case
        compared = upstream.compare(
            {'t': [case('ok', 'a'), case('not ok', 'b'), case('ok', 'c')]},
            {'t': [case('ok', 'a'), case('not ok', 'b'),
                   case('skip', 'c'), case('ok', 'new')]})
        self.assertEqual([c.result for c in compared],
                         ['ok', 'skip', 'not ok', 'ok'])

    def test_no_result_is_a_failure(self) -> None:
        with mock.patch.object(check, 'RESULTS', self.root / 'build'), \
                mock.patch('builtins.print'):
            self.assertEqual(check.summary(['unit']), 1)


class TestDirect(Fixture):
    """Tests that are run without meson, as if by it."""

    def entry(self, *script: str, timeout: float = 30) -> dict:
        program = self.root / 'obj/tests/t'
        self.write(program, '\n'.join(['#!/bin/sh', *script, '']))
        program.chmod(0o755)
        return {'name': 'q/t', 'cmd': [str(program), '--tap'],
                'timeout': timeout,
                'env': {'G_TEST_BUILDDIR': str(program.parent),
                        'PYTHON': str(self.root / 'obj/python3')}}

    def run_it(self, entry: dict, *words: str) -> List[tap.Case]:
        log = self.root / 'logs/t.txt'
        with mock.patch.object(direct, 'say'):
            return direct.run_all([direct.Run(entry, self.root, log,
                                              words)])['q/t']

    def test_a_test_that_passes(self) -> None:
        cases = self.run_it(self.entry('echo "ok 1 /$1/$2"',
                                       'echo "ok 2 /b # SKIP no"',
                                       'echo 1..2'), '-p')
        self.assertEqual([(c.result, c.name) for c in cases],
                         [('ok', 'q/t /--tap/-p'), ('skip', 'q/t /b')])
        self.assertEqual(self.run_it(self.entry('echo 1..0')), [])

    def test_each_bad_end_is_a_failure(self) -> None:
        for script, word in (('echo 1..1; echo ok 1 /a; exit 1', 'ERROR'),
                             ('echo 1..1; echo ok 1 /a; kill $$', 'ERROR'),
                             ('echo 1..2; echo ok 1 /a', 'ERROR'),
                             ('echo ok 1 /a', 'ERROR'),
                             ('echo ok 1 /a; exec sleep 9', 'TIMEOUT')):
            last = self.run_it(self.entry(script, timeout=0.2))[-1]
            self.assertEqual(last.result, 'not ok', script)
            self.assertIn(f'{word} after q/t /a', last.remark)
        self.assertEqual([c.result for c in self.run_it(self.entry(
            'echo 1..1', 'echo "not ok 1 /a"', 'exit 1'))], ['not ok'])

    def test_a_copy_is_what_runs(self) -> None:
        obj, place = self.root / 'obj', self.root / 'copy'
        entry = self.entry('echo 1..1', 'echo "ok 1 $G_TEST_BUILDDIR $PYTHON"')
        self.write(obj / 'meson-info/intro-tests.json', json.dumps([entry]))
        for name in ninja.EMULATORS:
            self.write(obj / name, 'emulator')
        self.assertEqual(direct.entries(obj, ['*/u']), [])
        copied, = direct.copy(obj, place, direct.entries(obj, ['*/t']))
        self.write(obj / 'tests/t', 'exit 1')
        self.write(obj / ninja.EMULATORS[0], 'another')
        self.assertEqual([c.name for c in self.run_it(copied)],
                         [f'q/t {place}/tests {obj}/python3'])
        self.assertEqual((place / ninja.EMULATORS[0]).read_text(), 'emulator')

    def test_queue(self) -> None:
        queue, done = direct.Queue(), []
        for number in range(3):
            queue.add(lambda number=number: done.append(number))
        queue.add(lambda: [][0])
        with self.assertRaises(IndexError):
            queue.finish()
        self.assertEqual(done, [0, 1, 2])


class TestLinker(unittest.TestCase):
    def test_only_one_that_is_there(self) -> None:
        self.assertFalse(ninja.links_with('none-such'))
        self.assertFalse(ninja.links_with(''))
        for there in False, True:
            with mock.patch.object(ninja, 'links_with', return_value=there):
                self.assertEqual('--extra-ldflags=-fuse-ld=mold' in
                                 ninja.configure_arguments(
                                     ninja.FAST_LINKER), there)


class TestSanitizers(unittest.TestCase):
    """Which objects asan.py compiles again."""

    def test_only_what_matches(self) -> None:
        compiling = {f'lib.p/{name}.o': {
            'file': f'../src/hw/{name}.c', 'command':
            f'cc -MF lib.p/{name}.o.d -o lib.p/{name}.o -c ../src/hw/{name}.c'}
            for name in ('cxl', 'other')}
        text = asan.rules(compiling, 'cc -o ' + asan.EMULATOR
                          + ' lib.p/cxl.o lib.p/other.o -lm', ['hw/c*.c'])
        place, flags = asan.PLACE, asan.SANITIZE
        self.assertIn(f'build {place}/lib.p/cxl.o: compile ../src/hw/cxl.c\n'
                      f'  command = cc -MF {place}/lib.p/cxl.o.d -o '
                      f'{place}/lib.p/cxl.o -c ../src/hw/cxl.c {flags}\n', text)
        self.assertNotIn(f'{place}/lib.p/other.o', text)
        self.assertIn(f'command = cc -o {place}/{asan.EMULATOR} '
                      f'{place}/lib.p/cxl.o lib.p/other.o -lm {flags}\n', text)


class TestMachines(unittest.TestCase):
    """What machines.py makes of two machines."""

    def test_differences(self) -> None:
        same = {'table DSDT': b'abc', 'etc/e820': b''}
        self.assertEqual(machines.differences(same, dict(same)), '')
        self.assertEqual(
            machines.differences(same, {'table DSDT': b'abd', 'more': b''}),
            'etc/e820: gone, more: new, table DSDT: differs at byte 2')
        self.assertEqual(
            machines.differences({'a': b'xy'}, {'a': b'xyz'}),
            'a: differs at byte 2')

    def test_tables(self) -> None:
        table = b'SSDT\x0a\0\0\0..'
        found = machines.tables(table + table + b'CEDT\x08\0\0\0' + bytes(16))
        self.assertEqual(list(found), ['table SSDT', "table SSDT'",
                                       'table CEDT'])
        self.assertEqual(found['table SSDT'], table)

    def test_memory_map(self) -> None:
        one = 'FlatView #0\r\n AS "b"\r\n AS "a"\r\n Root: x\r\n  0-1: ram\r\n'
        two = 'FlatView #1\n AS "c"\n Root: y\n  2-3: rom\n'
        swapped = (two + one).replace(' AS "b"\r\n AS "a"', ' AS "a"\n AS "b"')
        self.assertEqual(machines.memory_map(one + two),
                         machines.memory_map(swapped))
        self.assertNotEqual(machines.memory_map(one + two),
                            machines.memory_map(one + two.replace('2', '1')))


class TestBench(unittest.TestCase):
    """Where the benchmark's memory comes from."""

    length = 64 << 12

    def allocate(self, directory: str, ram: Dict[int, int]) -> str:
        guest = object.__new__(machine.Machine)
        guest.place, guest.ram = Path(directory), ram
        return guest.allocate((0, self.length), self.length)

    def test_by_turns(self) -> None:
        """A page of each buffer before the next page of any."""
        touched: List[int] = []
        ram = mock.MagicMock()
        ram.__setitem__.side_effect = lambda at, value: touched.append(at)
        with tempfile.TemporaryDirectory() as directory, \
                mock.patch.object(machine, 'kilobytes', return_value=0):
            self.assertEqual(self.allocate(directory, ram), '')
            memory = os.stat(f'{directory}/memory')
        self.assertEqual(touched, [at + buffer
                                   for at in range(0, self.length, 4096)
                                   for buffer in (0, self.length)])
        self.assertEqual(memory.st_size, self.length)

    def test_mixed(self) -> None:
        """Pages of other sizes for one of them: that is no comparison."""
        with tempfile.TemporaryDirectory() as directory, \
                mock.patch.object(machine, 'kilobytes',
                                  side_effect=[self.length >> 10, 0]):
            self.assertIn('in huge pages',
                          self.allocate(directory, mock.MagicMock()))


class TestDMAMaps(unittest.TestCase):
    """What dmamaps.py makes of two lists of maps."""

    setup = dmamaps.Setup('', 'x86_64', 'v2', False, 2, True)
    ram = {'kind': 'ram', 'iova': 0}
    own = {'kind': 'memory', 'iova': 1 << 40, 'host': dmamaps.CXL}
    bar = {'kind': 'bar', 'iova': 0xc4000000,
           'host': dmamaps.HOST.format(2)}
    vga = {'kind': 'ram', 'iova': 0xc1000000}

    def test_differences(self) -> None:
        self.assertEqual(dmamaps.differences({'a': [self.ram]},
                                             {'a': [self.ram]}), '')
        for other in ([], [self.bar], [self.ram, self.bar]):
            self.assertIn('a: pristine', dmamaps.differences(
                {'a': [self.ram]}, {'a': other}))

    def test_compared(self) -> None:
        found = {'a': [self.ram, self.own, self.bar]}
        self.assertEqual(dmamaps.compared(found, self.setup),
                         {'a': [self.ram, self.bar]})
        plain = self.setup._replace(kernel='none')
        self.assertEqual(dmamaps.compared(found, plain), found)

    def test_lacking(self) -> None:
        for mapped, words in (
                ([self.ram, self.bar, self.vga], ''),
                ([self.ram, self.own, self.vga], 'BARs on: BARs of 0 devices'),
                ([self.ram, self.bar], 'BARs on: BARs of emulated devices'),
                ([self.bar, self.vga], 'BARs on: no RAM')):
            said = dmamaps.lacking({'BARs on': mapped}, self.setup)
            self.assertEqual(said[:len(words)] if words else said, words)


if __name__ == '__main__':
    unittest.main()
