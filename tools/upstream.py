# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's own tests, the guests' view and VFIO's mappings: pristine and
ours."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Optional, Set

import build
import direct
import dmamaps
import hooks
import machines
import ninja
import series
import smmucalls
import tap
import tree
from common import (Failure, QEMU, RESULTS, ROOT, environment, jobs, lock,
                    main, say)
from mesontest import Cases

# Programs run as a whole, for both targets.
WHOLE = ['cxl-test', 'qmp-cmd-test', 'device-introspect-test']

# The cases of bios-tables-test that concern CXL, PCI bridges and NUMA. A q35
# case boots a guest under TCG and takes half a minute.
BIOS_TABLES = {
    'x86_64': ['q35/cxl', 'q35/bridge', 'q35/multif-bridge', 'q35/numamem',
               'q35/acpihmat-genericx'],
    'aarch64': ['virt/pxb', 'virt/numamem', 'virt/acpihmatvirt',
                'virt/acpipcihp', 'virt/smmuv3-dev', 'virt/smmuv3-legacy',
                'virt/viot'],
}


# What accelerated SMMUs need to run without KVM
ACCEL_TCG = ['hw/arm/smmuv3.c.tcg.patch', 'hw/arm/virt.c.tcg.patch',
             'hw/pci/pci.c.patch', 'include/hw/arm/smmuv3.h.patch']

TARGETS = [f'tests/qtest/{name}' for name in WHOLE + ['bios-tables-test']]


def run_tests(obj: Path, logs: Path) -> Cases:
    """The cases, those of one target each, and the programs as a whole.

    More of them run at the same time than there are processors, as a q35 case
    waits most of its time: Debian 12's SeaBIOS lets a disk's command time out.
    """
    runs = []
    for arch, cases in BIOS_TABLES.items():
        entry, = direct.entries(obj, [f'qtest-{arch}/bios-tables-test'])
        runs += [direct.Run(entry, obj, logs / arch / f'{case}.txt',
                            ['-p', f'/{arch}/acpi/{case}']) for case in cases]
    runs += [direct.Run(entry, obj, logs / f'{entry["name"]}.txt') for entry in
             direct.entries(obj, [f'qtest-*/{name}' for name in WHOLE])]
    return direct.run_all(runs, 2 * int(jobs()))


def add_property(source: Path) -> None:
    """Give the pristine tree x-accel-tcg, on which nothing else depends."""
    assembled = tree.assembled()
    for hook in ACCEL_TCG:
        target = hook.removesuffix('.patch').removesuffix('.tcg')
        old = assembled.run('show', f'{assembled.base}:{target}')
        new = hooks.apply(old, (ROOT / hook).read_text(encoding='utf-8'), hook,
                          target)
        if (source / target).read_bytes() != new:
            (source / target).write_bytes(new)


def build_pristine() -> Path:
    """Build the release where the steps of the series are built, too."""
    place = series.Series(tree.assembled())
    place.start()
    add_property(place.src)
    ninja.build(place.src, place.obj, ninja.EMULATORS + TARGETS,
                ninja.FAST_LINKER)
    return place.obj


def pristine_key(obj: Path) -> str:
    """Changes when the pristine tree's results may change."""
    files = [obj / name for name in ninja.EMULATORS]
    files += sorted((obj / 'qemu-bundle/usr/local/share/qemu').glob('*.bin'))
    stamps = [f'{file.name} {file.stat().st_mtime_ns}' for file in files]
    return '\n'.join(stamps + TARGETS + [str(BIOS_TABLES)])


def recall(obj: Path) -> Optional[Cases]:
    """The pristine tree's results from an earlier run, if they still hold."""
    known = obj / 'upstream-results.json'
    if known.exists():
        stored = json.loads(known.read_text())
        if stored['key'] == pristine_key(obj):
            say('the pristine tree\'s results are known from an earlier run')
            return {name: [tap.Case(*case) for case in cases]
                    for name, cases in stored['results'].items()}
    return None


def remember(obj: Path, results: Cases) -> None:
    (obj / 'upstream-results.json').write_text(json.dumps(
        {'key': pristine_key(obj), 'results': results}))


def listed(obj: Path) -> Set[str]:
    """The names of the cases that run_tests() would run."""
    names = set()
    for arch, cases in BIOS_TABLES.items():
        env = {**environment(), 'QTEST_QEMU_BINARY':
               str(obj / f'qemu-system-{arch}')}
        chosen = tuple(f'/{arch}/acpi/{case}' for case in cases)
        for program in WHOLE + ['bios-tables-test']:
            lines = subprocess.run(
                [str(obj / 'tests/qtest' / program), '-l'], env=env, cwd=obj,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                check=True).stdout.splitlines()
            names |= {f'qtest-{arch}/{program} {line}' for line in lines
                      if line.startswith(chosen if program not in WHOLE
                                         else f'/{arch}/')}
    return names


def results_before(pristine: Path, after: Cases) -> Cases:
    """The pristine tree's results; where ours passes, nothing can be worse.

    They take minutes, and matter only if a case of ours fails, is skipped or
    is not there.
    """
    passed = {case.name for cases in after.values() for case in cases
              if case.result == 'ok'}
    total = sum(len(cases) for cases in after.values())
    if len(passed) == total and listed(pristine) <= passed:
        say(f'all {total} pass, and none of the pristine tree\'s is missing')
        return after
    before = recall(pristine)
    if before is None:
        before = run_tests(pristine, RESULTS / 'upstream/pristine')
        remember(pristine, before)
    return before


def compare(before: Cases, after: Cases) -> List[tap.Case]:
    """One case for each of upstream's: its result must be the pristine one."""
    old = {case.name: case.result for cs in before.values() for case in cs}
    new = {case.name: case.result for cs in after.values() for case in cs}
    cases = []
    for name in {**old, **new}:
        was, now = old.get(name, 'absent'), new.get(name, 'absent')
        if was == now == 'not ok':
            cases.append(tap.Case('skip', name,
                                  'fails on the pristine tree too'))
            continue
        # A command or device of ours may add a case to upstream's tests.
        good = was == now or (was == 'absent' and now == 'ok')
        cases.append(tap.Case('ok' if good else 'not ok', name,
                              '' if was == now
                              else f'pristine {was}, ours {now}'))
    return cases


def kvm_hidden() -> bool:
    return not os.path.exists('/dev/kvm') or not os.access('/dev/kvm', os.R_OK)


def hide_kvm() -> None:
    """Run this program again without /dev/kvm."""
    if kvm_hidden() or os.environ.get('QCT_KVM_HIDDEN'):
        return
    flags = ['-m'] if os.geteuid() == 0 else ['-m', '-U', '-r']
    wrapper = ['unshare', *flags, str(Path(__file__).with_name('without-kvm'))]
    if subprocess.run([*wrapper, 'true'], stdin=subprocess.DEVNULL,
                      check=False).returncode:
        say('note: /dev/kvm could not be hidden from the tests; where it is '
            'a software KVM some cases fail on both trees')
        return
    os.environ['QCT_KVM_HIDDEN'] = '1'
    os.execvp('unshare', [*wrapper, sys.executable, *sys.argv])


def check() -> List[tap.Case]:
    say('building upstream\'s tests in the pristine tree')
    pristine = build_pristine()
    say('building them in ours')
    build.build(tuple(TARGETS))
    after = run_tests(QEMU / 'obj', RESULTS / 'upstream/ours')
    compared = compare(results_before(pristine, after), after)
    if not compared:
        raise Failure('upstream\'s tests gave no results; logs: '
                      f'{RESULTS / "upstream"}')
    compared += machines.compare(pristine, QEMU / 'obj')
    compared += dmamaps.compare(pristine, QEMU / 'obj')
    compared += smmucalls.compare(pristine, QEMU / 'obj')
    different = [case for case in compared
                 if case.remark and case.result != 'skip']
    say(f'{len(compared)} cases compared, {len(different)} differ')
    for case in different:
        say(f'    {case.name}: {case.remark}')
    return compared


def run() -> int:
    hide_kvm()
    results = RESULTS / 'upstream.tap'
    results.unlink(missing_ok=True)
    with lock(series.PLACE):
        compared = check()
    tap.append(results, compared)
    return int(any(case.result == 'not ok' for case in compared))


if __name__ == '__main__':
    main(run)
