# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the pinned QEMU source: a directory, or a tarball with a known sum."""

import hashlib
import os
import shutil
import urllib.request
from pathlib import Path
from typing import List, NamedTuple, Optional

import debian
import pin
from common import CACHE, Failure, ROOT, say


class Source(NamedTuple):
    path: Path
    identity: str       # changes when the contents may have changed


def sha256(path: Path) -> str:
    value = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            value.update(block)
    return value.hexdigest()


def check(path: Path) -> Source:
    """The tarball if its sum is the pinned one or the user's; else Failure."""
    got = sha256(path)
    vouched = os.environ.get('QEMU_SRC_SHA256')
    known = vouched or pin.SHA256.get(path.name)
    if known is None and got in pin.SHA256.values():
        known = got
    if known is None:
        raise Failure(
            f'{path}: no checksum is known for a tarball of this name.\n'
            f'  It is {got}.\n  If you have verified it (QEMU signs its '
            'releases), say so with QEMU_SRC_SHA256=' + got)
    if got != known:
        raise Failure(
            f'{path}: wrong checksum, so not used.\n  expected {known}\n'
            f'  found    {got}\n  Delete the file and try again; it may be '
            'an incomplete download.')
    return Source(path, got)


def from_user() -> Optional[Source]:
    value = os.environ.get('QEMU_SRC')
    if not value:
        return None
    path = Path(value).expanduser().resolve()
    if path.is_file():
        return check(path)
    if not (path / 'VERSION').is_file():
        raise Failure(f'QEMU_SRC={value}: neither a tarball nor QEMU\'s '
                      'source directory (it has no file VERSION).')
    found = (path / 'VERSION').read_text(encoding='utf-8').strip()
    if found != pin.VERSION:
        raise Failure(f'QEMU_SRC={value} is QEMU {found}; this repository '
                      f'builds on {pin.VERSION}.')
    return Source(path, f'directory {path}')


def from_cache() -> Optional[Source]:
    for name in (pin.DEBIAN_TARBALL, pin.RELEASE_TARBALL):
        if (CACHE / name).is_file():
            try:
                return check(CACHE / name)
            except Failure as err:
                say(str(err))
                (CACHE / name).rename(CACHE / (name + '.bad'))
    return None


def from_debian() -> Source:
    say(f'fetching {pin.DEBIAN_TARBALL} from Debian {pin.DEBIAN_SUITE} '
        '(the index, then about 40 MB)')
    debian.fetch_tarball(f'qemu={pin.DEBIAN_VERSION}', pin.DEBIAN_SUITE,
                         pin.DEBIAN_TARBALL, CACHE)
    return check(CACHE / pin.DEBIAN_TARBALL)


def from_site() -> Source:
    url = f'{pin.RELEASE_SITE}/{pin.RELEASE_TARBALL}'
    target = CACHE / pin.RELEASE_TARBALL
    partial = target.with_suffix('.part')
    CACHE.mkdir(parents=True, exist_ok=True)
    say(f'fetching {url} (about 135 MB)')
    try:
        with urllib.request.urlopen(url, timeout=60) as reply, \
                open(partial, 'wb') as out:
            total = int(reply.headers.get('Content-Length') or 0)
            done, shown = 0, 0
            for block in iter(lambda: reply.read(1 << 18), b''):
                out.write(block)
                done += len(block)
                if done - shown >= 20 << 20:
                    shown = done
                    say(f'  {done >> 20} of {total >> 20} MB')
    except OSError as err:
        partial.unlink(missing_ok=True)
        raise Failure(f'{url}: {err}') from err
    partial.rename(target)
    return check(target)


def from_shared() -> Source:
    path = ROOT.parent / 'shared/dist' / pin.DEBIAN_TARBALL
    if not path.is_file():
        raise Failure(f'{path}: not there')
    source = check(path)
    CACHE.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, CACHE / path.name)
    return source


def find() -> Source:
    source = from_user() or from_cache()
    if source:
        return source
    complaints: List[str] = []
    for place in (from_debian, from_site, from_shared):
        try:
            return place()
        except Failure as err:
            complaints.append(str(err))
            say(f'not available there: {str(err).splitlines()[0]}')
    raise Failure(
        f'QEMU {pin.VERSION} could not be had:\n'
        + '\n'.join('  * ' + text.replace('\n', '\n    ')
                    for text in complaints)
        + '\n  Without a network, give a copy: make ... QEMU_SRC=/path/to/'
        f'{pin.DEBIAN_TARBALL}\n  (or {pin.RELEASE_TARBALL}, or an unpacked '
        'directory).')
