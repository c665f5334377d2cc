# The report on one kernel.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Compare the observations on a real kernel with those on vfio-sim."""

import json
import re
import textwrap
from dataclasses import dataclass, field
from typing import Dict, List, Optional

from debian import GuestError
from kernlog import complaints

MARK = 'NESTED: '
SIM = ' / vfio-sim: '
# Rows in which vfio-sim cannot do as the kernel, with its answer, and why
KNOWN = {
    'region 2': (r'flags 0x3, size 0x4000', 'writes to BAR 2 have effects, '
                 'which a preloaded library sees only if they are system '
                 'calls'),
    'memory, faults for 2 MiB': (
        r'.*', "vfio-sim's memory is a file, of which the host's kernel maps "
        'as much as it likes at a fault'),
}
# What the kernel says of the machine and of a driver that Debian did not sign
LOG_ALLOWED = r': (loading out-of-tree|module verification failed)'


@dataclass
class Seen:
    """One run of level1/main.py."""
    rows: Dict[str, str] = field(default_factory=dict)
    log: List[str] = field(default_factory=list)

    def generation(self) -> str:
        """The generation that the kernel offers, as vfio-sim calls it."""
        match = re.search(r'generation (\w+)', self.rows.get('host/kernel', ''))
        if not match:
            return ''
        return {'v2': 'v2-reset'}.get(match[1], match[1])


def parse(text: str) -> Seen:
    """Read what main.py and init have printed."""
    seen = Seen()
    log = False
    for line in text.replace('\r', '').splitlines():
        if line == 'NESTED-LOG':
            log = True
        elif line == 'NESTED-LOG-END':
            log = False
        elif log:
            seen.log.append(line)
        elif MARK in line:
            name, value = json.loads(line.split(MARK, 1)[1])
            seen.rows[name] = value
    if 'NESTED-END' not in text:
        last = '\n'.join(text.splitlines()[-12:])
        raise GuestError(f'the programs did not get to their end:\n{last}')
    return seen


class Report:
    """The rows of both."""

    def __init__(self, name: str, release: str, sim: str, seen: Seen,
                 reference: Seen) -> None:
        self.name = name
        self.release = release
        self.sim = sim
        self.seen = dict(seen.rows)
        # Without iommufd there is nothing to compare
        self.reference = {name: value for name, value in reference.rows.items()
                          if 'iommufd' not in name
                          or 'iommufd' not in seen.rows}
        # Not the same on every host
        if 'memory, faults for 2 MiB' in self.reference:
            self.reference['memory, faults for 2 MiB'] = 'up to the host'
        said = [line for line in complaints(seen.log)
                if not re.search(LOG_ALLOWED, line)]
        self.log = said
        self.seen["kernel's log"] = 'no complaint' if not said else \
            'FAIL ' + re.sub(r'^\[[^]]*\] ', '', said[0])

    def table(self) -> str:
        """A line for each row: what it is, and what the kernel does; below
        it, where vfio-sim differs, what that does."""
        lines = []
        for name, value in self.seen.items():
            lines.append(f'{name}: {value}')
            other = self.reference.get(name)
            if other is not None and other != value:
                lines.append(f'  vfio-sim: {other}')
        for name, value in self.reference.items():
            if name not in self.seen:
                lines += [f'{name}: (not reached)', f'  vfio-sim: {value}']
        return '\n'.join(lines) + '\n'

    def differences(self) -> List[str]:
        """Names of the rows in which vfio-sim differs."""
        return [name for name, value in self.seen.items()
                if self.reference.get(name, value) != value] + \
            [name for name in self.reference if name not in self.seen]

    def known(self) -> List[str]:
        """Those of them for which there is a reason."""
        return [name for name in self.differences() if name in KNOWN and
                re.fullmatch(KNOWN[name][0], self.reference.get(name, ''))]

    def failures(self) -> List[str]:
        """Names of the rows that are errors."""
        return [name for name, value in self.seen.items()
                if value.startswith('FAIL ')]

    def failed(self) -> bool:
        """Check for errors."""
        return bool(self.failures())

    def unlike(self, expected: str) -> List[str]:
        """What is not as in an expected table."""
        def split(text: str) -> Dict[str, str]:
            found: Dict[str, str] = {}
            name = ''
            for line in text.splitlines():
                if line.startswith('  ') and name:
                    found[name] += SIM + line.split(': ', 1)[1]
                elif line:
                    name, value = re.split(r': ', line, maxsplit=1)
                    found[name] = value
            return found

        def better(value: str, known: Optional[str]) -> bool:
            """A fault is gone, or vfio-sim differs no longer."""
            return known is not None and not value.startswith('FAIL ') and \
                (known.startswith('FAIL ') or
                 known.split(SIM, maxsplit=1)[0] == value)

        ours, theirs = split(self.table()), split(expected)
        notes = [f'{name}: {value}; expected: {theirs.get(name, "no such row")}'
                 for name, value in ours.items() if theirs.get(name) != value
                 and not better(value, theirs.get(name))]
        notes += [f'{name}: missing; expected: {value}'
                  for name, value in theirs.items() if name not in ours]
        return notes

    def text(self) -> str:
        """For people."""
        width = 34

        def line(mark: str, name: str, value: str, other: str = '') -> str:
            cells = [textwrap.wrap(cell, width) or [''] for cell in
                     (name, value, other)]
            rows = max(len(cell) for cell in cells)
            return '\n'.join(
                f'{mark if not n else "":<7} '
                + ' '.join(f'{(c[n] if n < len(c) else ""):<{width}}'
                           for c in cells).rstrip() for n in range(rows))

        out = [f'{self.name}: Linux {self.release}, compared with vfio-sim '
               f'--kernel={self.sim}', '',
               line('', 'what', 'this kernel', 'vfio-sim'),
               line('', '-' * 34, '-' * 34, '-' * 34)]
        known = self.known()
        for name, value in self.seen.items():
            other = self.reference.get(name)
            differs = other is not None and other != value
            mark = 'FAIL' if value.startswith('FAIL ') else \
                'known' if name in known else 'differs' if differs else ''
            out.append(line(mark, name, value, other or '' if differs else ''))
        for name, value in self.reference.items():
            if name not in self.seen:
                out.append(line('differs', name, '(not reached)', value))
        out += [''] + [textwrap.fill(f'known: {name}: {KNOWN[name][1]}', 79,
                                     subsequent_indent='  ')
                       for name in known]
        out += ['', f'{len(self.seen)} rows, {len(self.failures())} failed, '
                f'{len(self.differences())} differ from vfio-sim, '
                f'{len(known)} of these for a known reason']
        return '\n'.join(out) + '\n'
