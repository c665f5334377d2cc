# SPDX-License-Identifier: GPL-2.0-or-later
"""Hooks as text: patches that apply exactly, and at one place only."""

import io
import re
from typing import List, NamedTuple, Tuple

from common import Failure


class Hunk(NamedTuple):
    line: int           # where it was when the hook was made, from 1
    old: List[bytes]
    new: List[bytes]


def split(text: str) -> Tuple[str, str]:
    """A hook's own head (SPDX line, remarks) and the diff proper."""
    start = re.search(r'^--- ', text, re.MULTILINE)
    return (text[:start.start()], text[start.start():]) if start else (text, '')


def hunks(diff: bytes) -> List[Hunk]:
    found: List[Hunk] = []
    sides: List[List[bytes]] = []
    for line in io.BytesIO(diff).readlines()[2:]:
        start = re.match(rb'@@ -(\d+)', line)
        if start:
            found.append(Hunk(int(start.group(1)), [], []))
        elif line[:1] == b'\\':         # "\ No newline at end of file"
            for side in sides:
                side[-1] = side[-1].rstrip(b'\n')
        elif found:
            line = line if line != b'\n' else b' \n'
            sides = [side for side, tags in ((found[-1].old, b' -'),
                                             (found[-1].new, b' +'))
                     if line[:1] in tags]
            for side in sides:
                side.append(line[1:])
    return found


def places(lines: List[bytes], old: List[bytes]) -> List[int]:
    """Where the old lines stand, from 0."""
    return [at for at in range(len(lines) - len(old) + 1)
            if lines[at] == old[0] and lines[at:at + len(old)] == old]


def apply(base: bytes, text: str, name: str, target: str) -> bytes:
    """The base with a hook applied.

    Each hunk's old lines must stand in the file as they are, anywhere, but
    only once: otherwise it would be a guess where the change belongs.
    """
    lines = io.BytesIO(base).readlines()
    found = hunks(split(text)[1].encode())
    if not found or not all(hunk.old for hunk in found):
        raise Failure(f'{name} has no diff with context. Delete it, or run '
                      'make refresh.')
    pieces, end, wrong = [], 0, []
    for hunk in found:
        at = places(lines, hunk.old)
        if len(at) == 1 and at[0] >= end:
            pieces += lines[end:at[0]] + hunk.new
            end = at[0] + len(hunk.old)
        else:
            wrong.append(f'  the piece made at line {hunk.line} '
                         + ('fits nowhere:' if not at else 'fits at lines '
                            + ', '.join(str(n + 1) for n in at) + ':'))
            wrong += ['    ' + line.decode(errors='replace').rstrip('\n')
                      for line in hunk.old]
    if wrong:
        raise Failure(f'{name} does not apply to {target}:\n'
                      + '\n'.join(wrong))
    return b''.join(pieces + lines[end:])
