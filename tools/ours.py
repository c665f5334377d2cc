# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files of this repository go into QEMU's tree, and how."""

import fnmatch
import subprocess
from pathlib import Path
from typing import Container, Dict, List, NamedTuple, Optional, Tuple

from common import Failure, ROOT

SPDX = 'SPDX-License-Identifier: GPL-2.0-or-later\n'


def local_patterns(root: Path = ROOT) -> List[str]:
    """Files that stay in this repository (series/local)."""
    lines = (root / 'series/local').read_text(encoding='utf-8').splitlines()
    return [line.strip() for line in lines
            if line.strip() and not line.startswith('#')]


def is_local(path: str, patterns: List[str]) -> bool:
    return any(path.startswith(pattern) if pattern.endswith('/')
               else fnmatch.fnmatchcase(path, pattern)
               for pattern in patterns)


def files(root: Path = ROOT) -> List[str]:
    """Our files for QEMU's tree: whole new files and hooks, sorted."""
    result = subprocess.run(
        ['git', '-C', str(root), '-c', f'safe.directory={root}', 'ls-files',
         '-z', '--cached', '--others', '--exclude-standard'],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if result.returncode:
        raise Failure('cannot list the repository\'s files: '
                      + result.stderr.decode(errors='replace').strip())
    patterns = local_patterns(root)
    names = {name for name in result.stdout.decode().split('\0')
             if name and not is_local(name, patterns)}
    return sorted(name for name in names if (root / name).is_file())


def hook_target(hook: str, upstream: Container[str]) -> Optional[str]:
    """The upstream file that PATH.patch or PATH.TOPIC.patch changes."""
    path = hook[:-len('.patch')]
    for candidate in (path, path.rpartition('.')[0]):
        if candidate in upstream:
            return candidate
    return None


class Commit(NamedTuple):
    """A commit for upstream: a file in one of the folders of series/."""
    name: str               # FOLDER/FILE
    message: str
    patterns: List[str]     # its files; * is allowed

    def has(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, p) for p in self.patterns)

    @property
    def folder(self) -> str:
        return self.name.partition('/')[0]

    @property
    def subject(self) -> str:
        return self.message.partition('\n')[0]


class Letter(NamedTuple):
    """The cover letter of a folder of series/, which is mailed as a series."""
    subject: str
    body: str
    based_on: List[str]     # folders


def without_remarks(entry: Path) -> str:
    return ''.join(line for line in entry.read_text(encoding='utf-8')
                   .splitlines(True) if not line.startswith('#'))


def folders(root: Path = ROOT) -> List[str]:
    """The folders of series/, in their order."""
    return sorted(entry.name for entry in (root / 'series').glob('[0-9]-*')
                  if entry.is_dir())


def is_mailed(folder: str) -> bool:
    """Whether it is for upstream. N-local is built and tested, but stays
    here."""
    return not folder.endswith('-local')


def letter(folder: str, root: Path = ROOT) -> Letter:
    entry = root / 'series' / folder / 'cover-letter'
    if not entry.is_file():
        raise Failure(f'series/{folder} has no cover-letter')
    subject, _, rest = without_remarks(entry).strip().partition('\n')
    lines = rest.strip().splitlines()
    named = [line for line in lines if line.startswith('Based-on: ')]
    return Letter(subject,
                  '\n'.join(line for line in lines
                            if line not in named).strip(),
                  [line.partition(' ')[2].strip() for line in named])


def commits(root: Path = ROOT) -> List[Commit]:
    result = []
    for entry in (entry for folder in folders(root) for entry in
                  sorted((root / 'series' / folder).glob('[0-9][0-9]-*'))):
        name = f'{entry.parent.name}/{entry.name}'
        message, found, listed = without_remarks(entry).rpartition('\nFiles:\n')
        if not found:
            raise Failure(f'series/{name} has no line "Files:" with the '
                          'commit\'s files below it')
        result.append(Commit(name, message.strip() + '\n', listed.split()))
    return result


def hooks(names: List[str], upstream: Container[str]) -> Dict[str, List[str]]:
    """Upstream file -> its hooks."""
    result: Dict[str, List[str]] = {}
    for name in names:
        if not name.endswith('.patch'):
            continue
        target = hook_target(name, upstream)
        if target is None:
            raise Failure(f'{name} is a hook for a file that this QEMU does '
                          'not have. Rename or delete the hook.')
        result.setdefault(target, []).append(name)
    return result


def topics(found: Dict[str, List[str]],
           root: Path = ROOT) -> List[Tuple[str, str]]:
    """Topic hooks and their files, in the order of the series.

    They apply before the plain ones, which are PATH.patch.
    """
    series = commits(root)

    def position(pair: Tuple[str, str]) -> Tuple[int, str]:
        return next((number for number, commit in enumerate(series)
                     if commit.has(pair[0])), len(series)), pair[0]

    return sorted(((hook, target) for target, list_ in found.items()
                   for hook in list_ if hook != target + '.patch'),
                  key=position)
