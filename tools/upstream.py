# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's own tests on the pristine tree and on ours, compared case by case."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import build
import ninja
import runtests
import tap
import tree
from common import Failure, PRISTINE, QEMU, RESULTS, lock, main, say

# Programs run as a whole, for both targets.
WHOLE = ['cxl-test', 'qmp-cmd-test', 'device-introspect-test']

# The cases of bios-tables-test that concern CXL, PCI bridges and NUMA. A q35
# case boots a guest under TCG and takes half a minute.
BIOS_TABLES = {
    'x86_64': ['q35/cxl', 'q35/bridge', 'q35/multif-bridge', 'q35/mmio64',
               'q35/numamem', 'q35/acpihmat-genericx'],
    'aarch64': ['virt/pxb', 'virt/numamem', 'virt/acpihmatvirt',
                'virt/acpipcihp', 'virt/smmuv3-dev', 'virt/smmuv3-legacy',
                'virt/viot'],
}


def tests(obj: Path) -> List[runtests.Test]:
    """The tests to run in a build; each bios-tables case one of its own."""
    found = runtests.find(obj, [f'qtest-*/{name}' for name in WHOLE])
    for arch, cases in BIOS_TABLES.items():
        program, = runtests.find(obj, [f'qtest-{arch}/bios-tables-test'])
        for case in cases:
            found.append(program._replace(
                name=f'{program.name}/{case}', timeout=300,
                command=program.command + ['-p', f'/{arch}/acpi/{case}']))
    return [test._replace(timeout=min(test.timeout, 400)) for test in found]


def build_pristine() -> Path:
    source, obj = tree.pristine(), PRISTINE / 'obj'
    with lock(obj):
        ninja.configure(source, obj)
        ninja.build(source, obj, ninja.EMULATORS
                    + runtests.targets(tests(obj)))
    return obj


def compare(before: List[tap.Case], after: List[tap.Case]) -> List[tap.Case]:
    """One case for each of upstream's: is its result the pristine one?"""
    old: Dict[str, str] = {case.name: case.result for case in before}
    new: Dict[str, str] = {case.name: case.result for case in after}
    cases = []
    for name in {**old, **new}:
        was, now = old.get(name, 'absent'), new.get(name, 'absent')
        same = was == now
        # A device of ours adds a case to upstream's listing tests.
        added = was == 'absent' and now == 'ok'
        cases.append(tap.Case('ok' if same or added else 'not ok', name,
                              '' if same else f'pristine {was}, ours {now}'))
    return cases


def kvm_hidden() -> bool:
    return not os.path.exists('/dev/kvm') or not os.access('/dev/kvm', os.R_OK)


def hide_kvm() -> None:
    """Run this program again where there is no /dev/kvm."""
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


def run() -> int:
    hide_kvm()
    results = RESULTS / 'upstream.tap'
    results.unlink(missing_ok=True)
    say('building upstream\'s tests in the pristine tree')
    pristine = build_pristine()
    say('building them in ours')
    build.build(tuple(runtests.targets(tests(QEMU / 'obj'))))
    both = ([t._replace(name='pristine/' + t.name) for t in tests(pristine)]
            + [t._replace(name='ours/' + t.name) for t in tests(QEMU / 'obj')])
    done = runtests.run(both, RESULTS / 'upstream', 'upstream ')
    cases: Dict[str, List[tap.Case]] = {'pristine': [], 'ours': []}
    for name, found in done.items():
        side = name.partition('/')[0]
        cases[side] += [c._replace(name=c.name.partition('/')[2])
                        for c in found]
    compared = compare(cases['pristine'], cases['ours'])
    if not compared:
        raise Failure('upstream\'s tests gave no result at all; logs: '
                      f'{RESULTS / "upstream"}')
    tap.append(results, compared)
    different = [case for case in compared if case.remark]
    say(f'{len(compared)} upstream cases compared, {len(different)} differ')
    for case in different:
        say(f'    {case.name}: {case.remark}')
    return int(any(case.result != 'ok' for case in compared))


if __name__ == '__main__':
    main(run)
