# SPDX-License-Identifier: GPL-2.0-or-later
"""Hooks as text: apply one, take one back, make one."""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Tuple

from common import Failure
from ours import SPDX


def split(text: str) -> Tuple[str, str]:
    """A hook's own head (SPDX line, remarks) and the diff proper."""
    start = re.search(r'^(diff |--- )', text, re.MULTILINE)
    if not start:
        return text, ''
    return text[:start.start()], text[start.start():]


def apply(base: bytes, hook: Path, target: str, reverse: bool = False) -> bytes:
    """The base with a hook applied, exactly (offsets allowed, no fuzz)."""
    text = hook.read_text(encoding='utf-8')
    if not split(text)[1]:
        raise Failure(f'{hook} holds no diff (it should have a line '
                      f'"--- a/{target}"). Delete it, or run make refresh.')
    with tempfile.TemporaryDirectory() as tmp:
        file = Path(tmp) / 'file'
        rejects = Path(tmp) / 'rejects'
        file.write_bytes(base)
        result = subprocess.run(
            ['patch', '--fuzz=0', '--force', '--silent', '--no-backup-if-mismatch',
             *(['--reverse'] if reverse else ['--forward']),
             '--reject-file', str(rejects), str(file), str(hook)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if result.returncode:
            said = result.stdout.decode(errors='replace').strip()
            if rejects.exists():
                body = rejects.read_text(errors='replace').splitlines()[2:]
                said += '\n' + '\n'.join('    ' + line for line in body)
            raise Failure(
                f'{hook} does not apply to {target}'
                f'{" in reverse" if reverse else ""}:\n{said}\n'
                '  Each "@@ -LINE" says where in the file the piece was '
                'expected. Mend the hook by hand against that file\n'
                '  (README.md, "How to change a hook"), then make tree.')
        return file.read_bytes()


def make(old: bytes, new: bytes, target: str, head: str = SPDX) -> str:
    """A hook that turns old into new: three lines of context, no dates."""
    show = ['-p'] if target.endswith(('.c', '.h')) else []
    with tempfile.TemporaryDirectory() as tmp:
        first, second = Path(tmp) / 'a', Path(tmp) / 'b'
        first.write_bytes(old)
        second.write_bytes(new)
        result = subprocess.run(
            ['diff', '-U3', *show, '--label', 'a/' + target,
             '--label', 'b/' + target, str(first), str(second)],
            stdout=subprocess.PIPE, check=False, env={'LC_ALL': 'C',
                                                      'PATH': '/usr/bin:/bin'})
    if result.returncode > 1:
        raise Failure(f'diff failed on {target}')
    return head + result.stdout.decode() if result.stdout else ''
