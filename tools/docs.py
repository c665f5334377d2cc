# SPDX-License-Identifier: GPL-2.0-or-later
"""make docs: QEMU's documentation with ours, as HTML and man pages.

QEMU's own build makes it, in a directory of its own. A warning from one of
our pages is an error.
"""

import os
import re
import shutil
from pathlib import Path
from typing import List

import hostpython
import tree
from common import (BUILD, Clock, Failure, environment, jobs, lock, main,
                    run_logged, say)

OBJ = BUILD / 'docs'
OURS = re.compile(r'cxl-vfio|vfio-cxl')


def available() -> bool:
    return shutil.which('sphinx-build') is not None


def configure(src: Path) -> None:
    if (OBJ / 'build.ninja').exists():
        return
    hostpython.provide(src)
    OBJ.mkdir(parents=True, exist_ok=True)
    run_logged([os.path.relpath(src / 'configure', OBJ),
                '--python=' + os.environ.get('PYTHON', '/usr/bin/python3'),
                '--without-default-features', '--target-list=x86_64-softmmu',
                '--disable-tools', '--disable-install-blobs',
                '--enable-docs', '--disable-download'],
               OBJ / 'configure.log', 'configure', cwd=OBJ, env=environment(),
               timeout=900)
    hostpython.add_to_build(OBJ)


def warnings(text: str) -> List[str]:
    """Sphinx's messages about our pages."""
    return sorted({line for line in text.splitlines()
                   if re.search(r'WARNING|ERROR|CRITICAL', line)
                   and OURS.search(line)})


def build() -> Path:
    """Returns the directory with docs/manual and the man pages."""
    if not available():
        raise Failure('sphinx-build is missing: install python3-sphinx and '
                      'python3-sphinx-rtd-theme')
    src = tree.assembled().src
    clock = Clock()
    with lock(OBJ):
        configure(src)
        log = OBJ / 'build.log'
        run_logged(['ninja', '-j', jobs(), 'docs/docs.stamp'], log,
                   'the documentation', cwd=OBJ, env=environment(),
                   timeout=900)
        found = warnings(log.read_text(errors='replace'))
    if found:
        raise Failure('sphinx complains:\n  ' + '\n  '.join(found))
    say(f'documentation: {OBJ / "docs/manual/index.html"} ({clock})')
    return OBJ / 'docs'


def run() -> int:
    build()
    return 0


if __name__ == '__main__':
    main(run)
