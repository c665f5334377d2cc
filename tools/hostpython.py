# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python modules that QEMU's configure needs.

QEMU's release tarball carries them as wheels; Debian's source does not, and
Debian 12's own meson is too old. They are pure Python, so newer packages are
unpacked below build/ and nothing on the machine is replaced.
"""

import os
import subprocess
from pathlib import Path

import debian
from common import Failure, HOST, environment, say

MODULES = HOST / 'usr/lib/python3/dist-packages'
# Module -> Debian's package of it, and the suite that has a version new enough
PACKAGES = {'meson': ('meson', 'trixie'),
            'pycotap': ('python3-pycotap', 'trixie'),
            'qemu.qmp': ('python3-qemu-qmp', 'sid')}
# QEMU's pythondeps.toml
LEAST = {'meson': (1, 5), 'pycotap': (1, 1), 'qemu.qmp': (0, 0, 5)}

PROBE = '''
import sys
from importlib.metadata import version, PackageNotFoundError
for name in sys.argv[1:]:
    try:
        print(name, version(name))
    except PackageNotFoundError:
        print(name, '0')
'''


def missing() -> list:
    """The modules that the build's Python lacks or has too old."""
    python = os.environ.get('PYTHON', '/usr/bin/python3')
    found = subprocess.run([python, '-c', PROBE, *LEAST], env=environment(),
                           stdout=subprocess.PIPE, check=True,
                           universal_newlines=True).stdout
    result = []
    for line in found.splitlines():
        name, version = line.split()
        numbers = tuple(int(n) for n in version.split('.')[:3] if n.isdigit())
        if numbers < LEAST[name]:
            result.append(name)
    return result


def provide(src: Path) -> None:
    wheels = [path.name.partition('-')[0].replace('_', '.')
              for path in (src / 'python/wheels').glob('*.whl')]
    lacking = [name for name in missing() if name not in wheels]
    if not lacking:
        return
    say('fetching for QEMU\'s configure: ' + ', '.join(lacking))
    try:
        for suite in sorted({PACKAGES[name][1] for name in lacking}):
            debian.unpack([PACKAGES[name][0] for name in lacking
                           if PACKAGES[name][1] == suite], suite, HOST)
    except Failure as err:
        wanted = ', '.join(f'{name} >= {".".join(map(str, LEAST[name]))}'
                           for name in lacking)
        raise Failure(
            f'the build needs the Python modules {wanted}, and they could not '
            f'be fetched:\n  {err}\n  Install them for '
            + os.environ.get('PYTHON', '/usr/bin/python3')
            + ' (pip can), or use QEMU\'s release tarball (QEMU_SRC=), which '
            'has them.') from err


def add_to_build(obj: Path) -> None:
    """Let a bare `ninja` in the build directory find the modules too."""
    if not MODULES.is_dir():
        return
    for place in (obj / 'pyvenv/lib').glob('python3*/site-packages'):
        (place / 'host-modules.pth').write_text(f'{MODULES}\n',
                                                encoding='utf-8')
