# SPDX-License-Identifier: GPL-2.0-or-later
"""Results of tests: TAP in, TAP out, counting."""

import re
from pathlib import Path
from typing import Iterable, List, NamedTuple

LINE = re.compile(r'^\s*(not ok|ok)\b(?:\s+\d+)?(?:\s+-)?\s*([^#]*?)\s*'
                  r'(?:#\s*(SKIP|TODO)\b\s*(.*))?$', re.IGNORECASE)


class Case(NamedTuple):
    result: str         # 'ok', 'not ok' or 'skip'
    name: str
    remark: str = ''    # why skipped, or where the log is


def parse(text: str) -> List[Case]:
    cases = []
    for line in text.splitlines():
        match = LINE.match(line)
        if not match:
            continue
        result, name, directive, remark = match.groups()
        result = result.lower()
        # glib repeats a skipped or failed case's reason after its name.
        if (directive or '').upper() == 'SKIP' and result == 'ok':
            result = 'skip'
        cases.append(Case(result, name, remark or ''))
    return cases


def append(path: Path, cases: Iterable[Case]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'a', encoding='utf-8') as out:
        for case in cases:
            name = case.name.replace('#', '\\#')
            if case.result == 'skip':
                out.write(f'ok - {name} # SKIP {case.remark}\n')
            else:
                out.write(f'{case.result} - {name}\n')
                if case.remark:
                    out.write(f'# {case.remark}\n')


def read(path: Path) -> List[Case]:
    return parse(path.read_text(encoding='utf-8', errors='replace'))
