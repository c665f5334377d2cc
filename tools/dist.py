# SPDX-License-Identifier: GPL-2.0-or-later
"""make dist: our commits as quilt patches for Debian's source package.

dist.py          write build/dist/patches and a tarball of it
dist.py check    ... and apply them to Debian's package
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Dict, List

import fetch
import pin
import series as series_tool
import tap
from common import (BUILD, Clock, Failure, RESULTS, ROOT, lock, main,
                    run_logged, say)
from tree import assembled

PLACE = BUILD / 'dist'
PATCHES = PLACE / 'patches'
FOLDER = 'vfio-cxl'     # below debian/patches


def write() -> List[str]:
    """Write the patches; returns their names as in a series file."""
    with lock(PLACE):
        series = series_tool.Series(assembled(), PLACE / 'series')
        complaints = series.complaints()
        if complaints:
            raise Failure('series/ is not complete:\n  '
                          + '\n  '.join(complaints))
        series.make_all()
        shutil.rmtree(PATCHES, ignore_errors=True)
        # git's own signature line would change with each git
        mails = series.format('pristine', PATCHES / FOLDER, '--no-signature')
    names = [f'{FOLDER}/{mail.name}' for mail in mails]
    (PATCHES / 'series').write_text(''.join(f'{name}\n' for name in names),
                                    encoding='utf-8')
    tarball = PLACE / f'qemu-{pin.VERSION}-vfio-cxl-patches.tar.xz'
    with tarfile.open(tarball, 'w:xz') as out:
        out.add(PATCHES / FOLDER, arcname=f'debian/patches/{FOLDER}')
        # Not named like Debian's own, to which it is to be appended
        out.add(PATCHES / 'series', arcname=f'debian/patches/{FOLDER}.series')
    say(f'{len(names)} patches: {tarball}')
    return names


def package_files() -> Path:
    """Debian's source package, all of its files, in the cache."""
    return [fetch.obtain([name]) for name in pin.package(pin.VERSION)][0]


def quilt(src: Path, *words: str) -> str:
    env: Dict[str, str] = {**os.environ, 'QUILT_PATCHES': 'debian/patches',
                           'QUILT_PC': '.pc', 'LC_ALL': 'C'}
    result = subprocess.run(
        ['quilt', '--quiltrc', '-', *words], cwd=src, env=env, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=300,
        stderr=subprocess.STDOUT, check=False)
    if result.returncode:
        raise Failure(f'quilt {" ".join(words)}:\n' + result.stdout[-1500:])
    return result.stdout


def apply(names: List[str]) -> None:
    """Unpack Debian's package, add our patches, push and pop them all."""
    src = PLACE / 'debian-package'
    shutil.rmtree(src, ignore_errors=True)
    run_logged(['dpkg-source', '--no-check', '--no-copy', '-x',
                str(package_files()), str(src)], PLACE / 'unpack.log',
               'dpkg-source -x', timeout=300)
    own = src / 'debian/patches'
    own.mkdir(exist_ok=True)
    shutil.copytree(PATCHES / FOLDER, own / FOLDER)
    listed = own / 'series'
    before = listed.read_text(encoding='utf-8') if listed.exists() else ''
    listed.write_text(before.rstrip('\n') + '\n'
                      + ''.join(f'{name}\n' for name in names),
                      encoding='utf-8')
    said = quilt(src, 'push', '-a')
    loose = re.findall(r'^Hunk .* with fuzz.*$', said, re.MULTILINE)
    if loose:
        raise Failure('the patches do not apply exactly:\n' + '\n'.join(loose))
    top = quilt(src, 'top').strip()
    if not top.endswith(names[-1]):
        raise Failure(f'{names[-1]} is not applied, {top} is the last')
    differ = [name for name in ('hw/vfio/cxl.c', 'scripts/vfio-cxl-host.py')
              if (src / name).read_bytes() != (ROOT / name).read_bytes()]
    if differ:
        raise Failure('not as in this repository: ' + ', '.join(differ))
    if not os.access(src / 'scripts/vfio-cxl-host.py', os.X_OK):
        raise Failure('scripts/vfio-cxl-host.py is not executable')
    quilt(src, 'pop', '-a')
    if (src / 'hw/vfio/cxl.c').exists():
        raise Failure('hw/vfio/cxl.c is left after quilt pop -a')
    shutil.rmtree(src)


def run() -> int:
    clock = Clock()
    if sys.argv[1:] not in ([], ['check']):
        raise Failure(__doc__ or '')
    if not sys.argv[1:]:
        write()
        return 0
    results = RESULTS / 'dist.tap'
    results.unlink(missing_ok=True)
    cases: List[tap.Case] = []

    def applies() -> str:
        apply(write())
        return ''

    good = series_tool.case(cases, 'dist: the patches apply to Debian\'s '
                            f'package qemu {pin.VERSION}', applies)
    tap.append(results, cases)
    say(f'dist ({clock})')
    return int(not good)


if __name__ == '__main__':
    main(run)
