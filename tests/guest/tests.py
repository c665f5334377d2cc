# The form that all tests with guests have.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Tests with guests, each of one or more points."""

import re
import shutil
from dataclasses import dataclass, field
from typing import Dict, List

from boot import Case, Harness, Result, tail
from console import QEMU_MAY_SAY, Session
from debian import GuestError
from listing import compare


@dataclass
class Point:
    """One line of the result."""
    passed: bool = False
    skipped: str = ''
    notes: List[str] = field(default_factory=list)


class Test:
    """Something that is run and gives a verdict for each of its names."""

    def __init__(self, name: str, machine: str, names: List[str]) -> None:
        self.name = name
        self.machine = machine
        self.points: Dict[str, Point] = {n: Point() for n in names}
        self.notes: List[str] = []

    def run(self, harness: Harness) -> None:
        """Fill in the points. What stays untouched has failed."""
        raise NotImplementedError


class CaseTest(Test):
    """One boot, its checks, its log and what 'cxl list' said."""

    def __init__(self, case: Case, regenerate: bool) -> None:
        name = f'guest/{case.name}'
        super().__init__(case.name, case.machine,
                         [name, f'{name}/cxl-list']
                         + ([f'{name}/cxl-core'] if case.driver == 'cxl'
                            else []))
        self.case = case
        self.regenerate = regenerate

    def run(self, harness: Harness) -> None:
        result = harness.run(self.case)
        name = f'guest/{self.case.name}'
        missing = result.named(result.skipped, 'cxl-core')
        # The core's part has a line of its own
        core_failed = result.named(result.failed, 'cxl-core')
        others = {k: v for k, v in result.failed.items()
                  if k not in core_failed}
        self.points[name].passed = not others and not result.problems and \
            bool(result.ok)
        if self.case.driver == 'cxl':
            point = self.points[f'{name}/cxl-core']
            point.skipped = next(iter(missing.values()), '')
            point.passed = bool(point.skipped) or \
                len(result.named(result.ok, 'cxl-core')) == \
                len(self.case.topology.slots)
        self._judge_listing(self.points[f'{name}/cxl-list'], result,
                            bool(missing))
        if not result.passed:
            self.notes += [f'{k}: {v}' for k, v in result.failed.items()]
            self.notes += result.problems
            self.notes += ['  ' + line
                           for line in tail(result.log).splitlines()]
            self.notes.append(f'log: {result.log}')
        self.notes.append(f'{len(result.ok)} checks ok, {len(result.skipped)} '
                          f'skipped, {result.seconds:.1f} s')
        self.notes += [f'  skipped {k}: {v}'
                       for k, v in result.skipped.items()]

    def _judge_listing(self, point: Point, result: Result,
                       without_core: bool) -> None:
        if without_core:
            point.passed = True
            point.skipped = 'this kernel does not attach the endpoints'
            return
        point.notes = compare(self.case.listing, '\n'.join(
            result.blocks.get('cxl-topology', [])), self.regenerate)
        point.passed = not point.notes


class SessionTest(Test):
    """A guest that is led step by step."""

    def run(self, harness: Harness) -> None:
        try:
            self.steps(harness)
            shutil.rmtree(harness.build / 'state' / self.name)
        except GuestError as error:
            self.notes += str(error).splitlines()
            log = harness.log(self.name)
            for place in (log, log.with_suffix('.qemu')):
                self.notes += ['  ' + x for x in tail(place).splitlines()
                               if not re.search(QEMU_MAY_SAY, x)]
            self.notes.append(f'log: {log}')

    def steps(self, harness: Harness) -> None:
        """What happens; an exception ends it."""
        raise NotImplementedError

    def done(self, name: str, note: str = '') -> None:
        """A point has been reached."""
        point = self.points[name]
        point.passed = True
        if note:
            point.notes.append(note)

    def skip(self, name: str, why: str) -> None:
        """A point that cannot be had here."""
        self.points[name].passed = True
        self.points[name].skipped = why


def power_off(session: Session) -> None:
    """The guest ends itself."""
    session.type('sync; poweroff -f')
    session.wait_end()
    said = session.complaints()
    if said:
        raise GuestError('QEMU said:\n' + '\n'.join(said[:20]))
