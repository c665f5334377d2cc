# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the tools themselves, on a tiny QEMU of four files."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import assemble
import check
import discard
import dmamaps
import fetch
import messages
import machines
import ours
import patch
import refresh
import runtests
import series
import tap
import upstream
from assemble import Tree
from common import Failure

LINES = [f'line {n}\n' for n in range(1, 21)]


class Fixture(unittest.TestCase):
    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        top = Path(holder.name)
        self.root, self.pristine = top / 'repo', top / 'pristine'
        self.src = self.root / 'build/qemu/src'
        self.write(self.pristine / 'hw/pci.c', ''.join(LINES))
        self.write(self.pristine / 'hw/meson.build', 'one\ntwo\nthree\n')
        self.write(self.pristine / 'README', 'upstream\n')
        self.write(self.root / 'series/local', '.*\nseries/\n')
        self.write(self.root / '.gitignore', '/build/\n')
        self.write(self.root / 'hw/new.c', 'ours\n')
        subprocess.run(['git', 'init', '-q', str(self.root)], check=True)
        for module in (assemble, refresh, series):
            quiet = mock.patch.object(module, 'say')
            quiet.start()
            self.addCleanup(quiet.stop)

    @staticmethod
    def write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')

    def tree(self) -> Tree:
        return Tree(self.src, self.pristine, self.root)

    def edit(self, number: int, text: str) -> None:
        """Change one line of the tree's hw/pci.c."""
        path = self.src / 'hw/pci.c'
        lines = path.read_text().splitlines(True)
        lines[number - 1] = text
        path.write_text(''.join(lines))

    def hook(self, name: str = 'hw/pci.c.patch') -> Path:
        return self.root / name


class TestAssemble(Fixture):
    def test_links_follow_the_repository(self) -> None:
        self.tree().assemble()
        self.assertEqual((self.src / 'hw/new.c').read_text(), 'ours\n')
        self.assertEqual(self.tree().assemble(), [])
        (self.root / 'hw/new.c').unlink()
        self.write(self.root / 'tests/ours/meson.build', 'ours too\n')
        self.assertEqual(self.tree().assemble(),
                         ['hw/new.c', 'tests/ours/meson.build'])
        self.assertFalse((self.src / 'hw/new.c').is_symlink())
        (self.root / 'tests/ours/meson.build').unlink()
        self.tree().assemble()
        self.assertFalse((self.src / 'tests').exists())

    def test_own_file_with_upstream_name(self) -> None:
        self.write(self.root / 'hw/pci.c', 'ours\n')
        with self.assertRaisesRegex(Failure, 'hw/pci.c.patch'):
            self.tree()

    def test_hook_that_does_not_apply(self) -> None:
        self.tree().assemble()
        self.write(self.hook(), ours.SPDX + '--- a/hw/pci.c\n+++ b/hw/pci.c\n'
                   '@@ -3,3 +3,3 @@\n line 3\n-line four\n+mine\n line 5\n')
        with self.assertRaises(Failure) as caught:
            self.tree().assemble()
        said = str(caught.exception)
        for part in ('hw/pci.c.patch', '-3,3', 'line four'):
            self.assertIn(part, said)
        self.assertEqual((self.src / 'hw/pci.c').read_text(), ''.join(LINES))

    def test_hook_for_no_file(self) -> None:
        self.write(self.root / 'hw/gone.c.patch', 'x\n')
        with self.assertRaisesRegex(Failure, 'hw/gone.c.patch'):
            self.tree()

    def test_no_fuzz(self) -> None:
        text = patch.make(''.join(LINES).encode(),
                          ''.join(LINES).replace('line 9\n', 'x\n').encode(),
                          'hw/pci.c')
        self.write(self.hook(), text.replace(' line 8', ' line eight'))
        with self.assertRaises(Failure):
            self.tree().assemble()


class TestRefresh(Fixture):
    def test_round_trip(self) -> None:
        self.tree().assemble()
        self.assertEqual(refresh.refresh(self.tree()), [])
        self.edit(9, 'nine\n')
        self.assertEqual(refresh.refresh(self.tree()), ['hw/pci.c.patch'])
        text = self.hook().read_text()
        self.assertEqual(text.splitlines()[0] + '\n', ours.SPDX)
        self.assertIn('\n line 8\n-line 9\n+nine\n line 10\n', text)
        self.assertNotIn('\n line 7', text)
        self.tree().assemble()
        self.assertEqual(refresh.refresh(self.tree()), [])
        self.assertEqual(self.hook().read_text(), text)
        # The same tree comes out of the hook alone.
        other = Tree(self.root / 'build/other/src', self.pristine, self.root)
        other.assemble()
        self.assertEqual((other.src / 'hw/pci.c').read_text(),
                         (self.src / 'hw/pci.c').read_text())
        self.assertEqual(other.status(), ([], [], []))

    def test_undone_edit_removes_the_hook(self) -> None:
        self.tree().assemble()
        self.edit(9, 'nine\n')
        refresh.refresh(self.tree())
        self.tree().assemble()
        self.edit(9, 'line 9\n')
        refresh.refresh(self.tree())
        self.assertFalse(self.hook().exists())

    def test_topic_hook_comes_first(self) -> None:
        topic = 'hw/pci.c.fix.patch'
        self.tree().assemble()
        self.edit(9, 'nine\n')
        self.assertEqual(refresh.refresh(self.tree(), topic), [topic])
        self.tree().assemble()
        self.edit(10, 'ten\n')
        self.assertEqual(refresh.refresh(self.tree()), ['hw/pci.c.patch'])
        self.assertIn('\n nine\n-line 10\n+ten\n', self.hook().read_text())
        self.tree().assemble()
        # A later edit can still go into the topic hook.
        self.edit(2, 'two\n')
        refresh.refresh(self.tree(), topic)
        self.assertIn('+two\n', self.hook(topic).read_text())
        self.assertNotIn('two', self.hook().read_text())
        before = (self.src / 'hw/pci.c').read_text()
        self.tree().assemble()
        self.assertEqual((self.src / 'hw/pci.c').read_text(), before)

    def test_topic_hooks_in_order_of_commits(self) -> None:
        self.write(self.root / 'series/01-b', 'b\n\nFiles:\nhw/pci.c.b.patch\n')
        self.write(self.root / 'series/02-a', 'a\n\nFiles:\nhw/pci.c.a.patch\n')
        for name in 'ab':
            self.write(self.root / f'hw/pci.c.{name}.patch', 'x\n')
        self.write(self.hook(), 'x\n')
        self.assertEqual(
            self.tree().hooks['hw/pci.c'],
            ['hw/pci.c.b.patch', 'hw/pci.c.a.patch', 'hw/pci.c.patch'])


class TestEditsAreSafe(Fixture):
    def setUp(self) -> None:
        super().setUp()
        self.tree().assemble()
        self.edit(9, 'nine\n')
        refresh.refresh(self.tree())
        self.tree().assemble()
        self.edit(2, 'precious\n')

    def change_hook(self) -> None:
        text = self.hook().read_text().replace('+nine', '+9')
        self.hook().write_text(text)

    def kept(self) -> bool:
        return 'precious' in (self.src / 'hw/pci.c').read_text()

    def test_assembling_again(self) -> None:
        self.assertEqual(self.tree().assemble(), [])
        self.assertTrue(self.kept())

    def test_changed_hook_is_refused(self) -> None:
        self.change_hook()
        with self.assertRaisesRegex(Failure, 'make discard'):
            self.tree().assemble()
        with self.assertRaisesRegex(Failure, 'FORCE=1'):
            refresh.refresh(self.tree())
        self.assertTrue(self.kept())

    def test_removed_hook_is_refused(self) -> None:
        self.hook().unlink()
        with self.assertRaisesRegex(Failure, 'make discard'):
            self.tree().assemble()
        self.assertTrue(self.kept())

    def test_discard(self) -> None:
        self.change_hook()
        self.assertEqual(discard.discard(self.tree()), ['hw/pci.c'])
        self.tree().assemble()
        text = (self.src / 'hw/pci.c').read_text()
        self.assertIn('line 8\n9\n', text)
        self.assertNotIn('precious', text)

    def test_hook_changed_without_edits(self) -> None:
        discard.discard(self.tree())
        self.tree().assemble()
        self.change_hook()
        self.assertEqual(refresh.refresh(self.tree()), [])
        self.assertIn('+9\n', self.hook().read_text())


class TestFetch(Fixture):
    def test_wrong_checksum(self) -> None:
        name = fetch.pin.DEBIAN_TARBALL
        self.write(self.root / name, 'not a tarball')
        with mock.patch.dict(os.environ, {'QEMU_SRC': str(self.root / name)}):
            os.environ.pop('QEMU_SRC_SHA256', None)
            with self.assertRaisesRegex(Failure, 'wrong checksum'):
                fetch.from_user()

    def test_unknown_tarball_needs_a_sum(self) -> None:
        path = self.root / 'qemu-other.tar.xz'
        self.write(path, 'not a tarball')
        found = fetch.sha256(path)
        with mock.patch.dict(os.environ, {'QEMU_SRC': str(path)}):
            os.environ.pop('QEMU_SRC_SHA256', None)
            with self.assertRaisesRegex(Failure, 'QEMU_SRC_SHA256=' + found):
                fetch.from_user()
            os.environ['QEMU_SRC_SHA256'] = found
            self.assertEqual(fetch.from_user().path, path.resolve())

    def test_directory_of_another_release(self) -> None:
        self.write(self.pristine / 'VERSION', '9.0.0\n')
        with mock.patch.dict(os.environ, {'QEMU_SRC': str(self.pristine)}):
            with self.assertRaisesRegex(Failure, '9.0.0'):
                fetch.from_user()


class TestSeries(Fixture):
    def entry(self, name: str, *files: str) -> None:
        self.write(self.root / 'series' / name,
                   '# remark\nhw: do ' + name + '\n\nBecause.\n\nFiles:\n'
                   + ''.join(file + '\n' for file in files))

    def setUp(self) -> None:
        super().setUp()
        self.tree().assemble()
        self.edit(9, 'nine\n')
        refresh.refresh(self.tree(), 'hw/pci.c.fix.patch')
        self.tree().assemble()
        self.edit(10, 'ten\n')
        refresh.refresh(self.tree())
        self.entry('01-fix', 'hw/pci.c.fix.patch')
        self.entry('02-new', 'hw/new.c', 'hw/pci.c.patch')
        self.write(self.root / 'series/cover-letter', '# x\nhw: all\n\nIt is.\n')

    def series(self) -> series.Series:
        return series.Series(self.pristine, self.root / 'build/series',
                             self.root)

    def test_complete(self) -> None:
        self.assertEqual(self.series().complaints(), [])

    def test_listed_twice(self) -> None:
        self.entry('03-more', 'hw/*.c')
        self.assertEqual(self.series().complaints(),
                         ['hw/new.c is in 02-new and 03-more'])

    def test_not_listed(self) -> None:
        self.write(self.root / 'hw/other.c', 'ours\n')
        self.assertEqual(self.series().complaints(),
                         ['hw/other.c is in no commit'])

    def test_listed_but_not_there_or_local(self) -> None:
        self.entry('03-more', 'hw/gone.c', 'series/local')
        said = self.series().complaints()
        self.assertEqual(len(said), 2)
        self.assertIn('hw/gone.c, which does not exist', said[0])
        self.assertIn('series/local, which stays local', said[1])

    def test_mails(self) -> None:
        made = self.series()
        made.start()
        for commit in made.commits:
            made.make(commit)
        self.assertEqual(made.differences(), [])
        cover, fix, new = made.mail(3)
        self.assertTrue(fix.name.startswith('v3-0001-'), fix.name)
        self.assertIn('[PATCH v3 0/2] hw: all', cover.read_text())
        self.assertIn('+nine', fix.read_text())
        self.assertNotIn('+ten', fix.read_text())
        self.assertIn('Signed-off-by: ', new.read_text())
        self.assertNotIn('remark', fix.read_text())

    def test_commit_order_matters(self) -> None:
        self.entry('01-fix', 'hw/pci.c.patch')
        self.entry('02-new', 'hw/new.c', 'hw/pci.c.fix.patch')
        made = self.series()
        made.start()
        with self.assertRaisesRegex(Failure, 'hw/pci.c.patch does not apply'):
            made.make(made.commits[0])


class TestMessages(Fixture):
    """The table of messages and the code, which say the same."""

    def table(self, *rows: str) -> None:
        self.write(self.root / messages.TABLE,
                   '.. list-table::\n\n  * - Message\n    - Cause\n    - Remedy\n'
                   + ''.join(f'  * - ``{row}``\n    - a\n    - b\n'
                             for row in rows))

    def test_found(self) -> None:
        self.write(self.root / 'hw/new.c', '#define WHY "for " \\\n  "a reason"\n'
                   'error_setg(errp, VFIO_MSG_PREFIX "no %s " WHY " at 0x%"\n'
                   '           PRIx64 " (x)", f("y"), z);\n')
        self.write(self.hook(), '--- a/x\n+++ b/x\n error_setg(e, "theirs");\n'
                   '+error_report("ours");\n')
        self.assertEqual([messages.plain(m.text)
                          for m in messages.messages(self.root)],
                         ['no ... for a reason at 0x... (x)', 'ours'])

    def test_both_ways(self) -> None:
        self.write(self.root / 'hw/new.c', 'warn_report("new one");\n')
        self.table('old one')
        said = messages.missing(self.root)
        self.assertEqual(len(said), 2)
        self.assertIn('"new one"', said[0])
        self.assertIn('"old one"', said[1])
        self.table('new one')
        self.assertEqual(messages.missing(self.root), [])
        self.assertEqual(messages.untested(self.root), ['new one'])

    def test_table_of_this_repository(self) -> None:
        self.assertEqual(messages.missing(), [])

    def test_each_is_provoked(self) -> None:
        self.assertEqual(messages.untested(), [])

    def test_reasons_are_for_messages(self) -> None:
        shown = {row.text for row in messages.table()}
        self.assertEqual(set(messages.UNTESTED) - shown, set())


class TestResults(Fixture):
    def run_script(self, text: str, timeout: int = 10) -> list:
        script = self.root / 'script'
        self.write(script, '#!/bin/sh\n' + text)
        script.chmod(0o755)
        return runtests.run_one(
            runtests.Test('t', [str(script)], {}, self.root, timeout, True),
            self.root / 'build')

    def test_cases_are_counted(self) -> None:
        cases = self.run_script(
            'echo 1..3; echo ok 1 /a; echo "not ok 2 - /b"; '
            'echo "ok 3 /c # SKIP no such device"; exit 1\n')
        self.assertEqual([c.result for c in cases], ['ok', 'not ok', 'skip'])
        self.assertEqual(cases[0].name, 't /a')
        results = self.root / 'build/x.tap'
        tap.append(results, cases)
        self.assertEqual([c.result for c in tap.read(results)],
                         ['ok', 'not ok', 'skip'])

    def test_crash_hang_and_early_end_are_failures(self) -> None:
        for script, said in (('echo ok 1 /a; kill -SEGV $$', 'signal 11'),
                             ('echo ok 1 /a; sleep 60', 'no end after 1 s'),
                             ('echo 1..2; echo ok 1 /a', '1 planned cases'),
                             ('exit 3', 'status 3')):
            last = self.run_script(script + '\n', 1)[-1]
            self.assertEqual(last.result, 'not ok')
            self.assertIn(said, last.remark)

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
