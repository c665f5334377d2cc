# SPDX-License-Identifier: GPL-2.0-or-later
"""Fetch from other Debian suites without touching the machine's apt setup.

Everything goes through an apt root of our own below build/apt, with the
archive that the machine itself uses.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import List

from common import BUILD, Failure

KEYRING = Path('/usr/share/keyrings/debian-archive-keyring.gpg')


def codename() -> str:
    """The Debian release of this machine; '' when it is not Debian."""
    try:
        text = Path('/etc/os-release').read_text(encoding='utf-8')
    except OSError:
        return ''
    values = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', text, re.MULTILINE))
    return values.get('VERSION_CODENAME', '') if values.get('ID') == 'debian' \
        else ''


def mirror() -> str:
    """The archive that this machine's apt is set up for."""
    given = os.environ.get('DEBIAN_MIRROR')
    if given:
        return given.rstrip('/')
    if not codename() or not shutil.which('apt-get'):
        raise Failure('this is not a Debian machine (DEBIAN_MIRROR= sets an '
                      'archive to use anyway)')
    # Works before the first apt-get update and for ordinary users.
    result = subprocess.run(
        ['apt-get', 'update', '--print-uris'], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, check=False, universal_newlines=True)
    found = re.findall(r"^'([^']+)/dists/([^/']+)/InRelease'", result.stdout,
                       re.MULTILINE)
    for uri, suite in found:
        if suite in (codename(), 'stable'):
            return uri
    raise Failure(f'apt on this machine has no source for {codename()} '
                  '(DEBIAN_MIRROR= sets an archive to use)')


def root(suite: str) -> List[str]:
    """Options for an apt root of our own with one suite."""
    place = BUILD / 'apt' / f'{suite}-deb'
    for name in ('lists/partial', 'cache/archives/partial', 'parts'):
        (place / name).mkdir(parents=True, exist_ok=True)
    (place / 'status').touch()
    signed = f'[signed-by={KEYRING}] ' if KEYRING.exists() else ''
    (place / 'sources.list').write_text(
        f'deb {signed}{mirror()} {suite} main\n', encoding='utf-8')
    options = {
        'Dir::Etc::sourcelist': place / 'sources.list',
        'Dir::Etc::sourceparts': place / 'parts',
        'Dir::Etc::preferencesparts': place / 'parts',
        'Dir::Etc::preferences': '/dev/null',
        'Dir::State': place,
        'Dir::State::lists': place / 'lists',
        'Dir::State::status': place / 'status',
        'Dir::Cache': place / 'cache',
        'Dir::Cache::pkgcache': '',
        'Dir::Cache::srcpkgcache': '',
        'APT::Sandbox::User': '',
        'APT::Update::Post-Invoke-Success': '',
        'Acquire::Languages': 'none',
        'Acquire::Retries': '2',
        'Acquire::http::Timeout': '30',
    }
    return [word for key, value in options.items()
            for word in ('-o', f'{key}={value}')]


def apt(options: List[str], *words: str, cwd: Path = BUILD) -> None:
    """Run apt-get with its progress shown to the user."""
    cwd.mkdir(parents=True, exist_ok=True)
    log = BUILD / 'apt/log'
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, 'w', encoding='utf-8') as err:
        status = subprocess.run(
            ['apt-get', '-q', *options, *words], cwd=cwd, stderr=err,
            stdin=subprocess.DEVNULL, stdout=2, check=False).returncode
    text = log.read_text(errors='replace')
    # apt-get update reports a failed download as a warning, with status 0.
    if status or (words[0] == 'update' and 'Failed to fetch' in text):
        why = [line for line in text.splitlines() if line[:2] in ('E:', 'W:')]
        raise Failure(f'apt-get {words[0]} failed: '
                      + (why[0][3:] if why else f'status {status}')
                      + f'\n  (all of it: {log})')


def unpack(packages: List[str], suite: str, target: Path) -> None:
    """Unpack packages of another suite into a directory, not installed."""
    options = root(suite)
    apt(options, 'update')
    place = BUILD / 'cache/debs'
    for name in packages:
        apt(options, 'download', name, cwd=(place / name))
        for package in (place / name).glob(f'{name}_*.deb'):
            subprocess.run(['dpkg-deb', '-x', str(package), str(target)],
                           check=True)
