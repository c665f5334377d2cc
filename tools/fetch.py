# SPDX-License-Identifier: GPL-2.0-or-later
"""Find QEMU's source: a directory, or a tarball with a known sum."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Tuple

import debian
import pin
from common import CACHE, Failure, say

APT_HELPER = '/usr/lib/apt/apt-helper'


class Source(NamedTuple):
    path: Path
    identity: str       # changes when the contents may have changed


def sha256(path: Path) -> str:
    value = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            value.update(block)
    return value.hexdigest()


def known_sum(name: str) -> Optional[str]:
    return pin.SHA256.get(name) or os.environ.get('QEMU_SRC_SHA256')


def check(path: Path) -> Path:
    """Fails when the file's sum is not the pinned one, or the user's."""
    got, known = sha256(path), known_sum(path.name)
    if known is None and got not in pin.SHA256.values():
        say(f'warning: no checksum of {path.name} is known. It is {got}; '
            'compare it with the signed one of QEMU')
    elif known and got != known:
        raise Failure(
            f'{path}: wrong checksum, so not used.\n  expected {known}\n'
            f'  found    {got}\n  Delete the file and try again; it may be '
            'an incomplete download.')
    return path


def from_user() -> Optional[Source]:
    """QEMU_SRC, any release."""
    value = os.environ.get('QEMU_SRC')
    if not value:
        return None
    path = Path(value).expanduser().resolve()
    if path.is_file():
        check(path)
        found = ''.join(re.findall(r'[-_](\d+\.\d+\.\d+)', path.name)[:1])
        source = Source(path, sha256(path))
    elif (path / 'VERSION').is_file():
        found = (path / 'VERSION').read_text(encoding='utf-8').strip()
        source = Source(path, f'directory {path}')
    else:
        raise Failure(f'QEMU_SRC={value}: neither a tarball nor QEMU\'s '
                      'source directory (it has no file VERSION).')
    if found != pin.VERSION:
        say(f'warning: QEMU_SRC is QEMU {found or "of unknown version"}; this '
            f'repository is built and tested with {pin.VERSION}')
    return source


# -- places; each takes a file's name and where to put it, and may fail

def from_directory(name: str, target: Path) -> None:
    place = os.environ.get('QEMU_DIST')
    if not place:
        raise Failure('QEMU_DIST= is not a directory of downloads')
    path = Path(place).expanduser() / name
    if not path.is_file():
        raise Failure(f'QEMU_DIST={place}: no {name} there')
    shutil.copy2(path, target)


def download(url: str, target: Path) -> None:
    say(f'fetching {url}')
    if os.access(APT_HELPER, os.X_OK):      # knows apt's proxies
        done = subprocess.run(
            [APT_HELPER, '-o', 'APT::Sandbox::User=', '-o',
             'Acquire::Retries=2', '-o', 'Acquire::http::Timeout=30',
             'download-file', url, str(target)], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False)
        if done.returncode:
            why = [line[3:] for line in done.stdout.splitlines()
                   if line.startswith('E: ')]
            raise Failure(why[0] if why else f'{url}: {done.stdout[-300:]}')
        return
    try:
        with urllib.request.urlopen(url, timeout=60) as reply, \
                open(target, 'wb') as out:
            shutil.copyfileobj(reply, out)
    except OSError as err:
        raise Failure(f'{url}: {err}') from err


def only_debian(name: str) -> str:
    """The version in the name of one of Debian's files."""
    found = re.match(r'qemu_(\d[\d.]*)', name)
    if not found:
        raise Failure(f'Debian has no {name}')
    return found.group(1).rstrip('.')


def from_pool(name: str, target: Path) -> None:
    only_debian(name)
    download(f'{debian.mirror()}/pool/main/q/qemu/{urllib.parse.quote(name)}',
             target)


def from_snapshot(name: str, target: Path) -> None:
    site = pin.SNAPSHOT_SITE
    listing = target.with_suffix('.json')
    package = f'1:{only_debian(name)}+ds-1'
    download(f'{site}/mr/package/qemu/{package}/srcfiles?fileinfo=1', listing)
    try:
        infos = json.loads(listing.read_text())['fileinfo']
        digest = next(digest for digest, entries in infos.items()
                      if any(entry['name'] == name for entry in entries))
    except (ValueError, KeyError, TypeError, StopIteration) as err:
        raise Failure(f'{site}: {package} has no {name}') from err
    finally:
        listing.unlink()
    download(f'{site}/file/{digest}', target)


def from_site(name: str, target: Path) -> None:
    if not name.startswith('qemu-'):
        raise Failure(f'{pin.RELEASE_SITE} has no {name}')
    download(f'{pin.RELEASE_SITE}/{name}', target)


Place = Tuple[str, Callable[[str, Path], None]]
PLACES: List[Place] = [
    ('a directory of downloads', from_directory), ('Debian\'s pool', from_pool),
    ('Debian\'s snapshot archive', from_snapshot),
    ('QEMU\'s release site', from_site)]


def obtain(names: List[str]) -> Path:
    """One of the files, the first that can be had, in the cache."""
    for name in names:
        if (CACHE / name).is_file():
            try:
                return check(CACHE / name)
            except Failure as err:
                say(str(err))
                (CACHE / name).rename(CACHE / (name + '.bad'))
    CACHE.mkdir(parents=True, exist_ok=True)
    complaints: List[str] = []
    for what, place in PLACES:
        for name in names:
            partial = CACHE / 'partial' / name
            partial.parent.mkdir(exist_ok=True)
            try:
                if place is not from_directory and not known_sum(name):
                    raise Failure(f'no checksum of {name} is pinned. If you '
                                  'know it: QEMU_SRC_SHA256=')
                place(name, partial)
                check(partial).replace(CACHE / name)
                return CACHE / name
            except (Failure, OSError) as err:
                complaints.append(f'  * {what}: {err}')
            finally:
                partial.unlink(missing_ok=True)
    raise Failure(f'{" or ".join(names)} could not be obtained:\n'
                  + '\n'.join(complaints)
                  + '\n  Provide a copy: QEMU_SRC=FILE or DIRECTORY, or '
                  'QEMU_DIST=DIRECTORY of downloads.')


def find(version: str = '') -> Source:
    """The source of a release; of the pinned one, or the user's."""
    source = None if version else from_user()
    if source:
        return source
    path = obtain(pin.tarballs(version or pin.VERSION))
    return Source(path, sha256(path))
