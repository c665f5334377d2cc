# SPDX-License-Identifier: GPL-2.0-or-later
"""make install: QEMU, its firmware, vfio-sim and the documentation.

install.py          to $DESTDIR$PREFIX (PREFIX is /usr/local by default)
install.py check    to a directory below build/, and boot guests from there

QEMU looks for its data next to the directory that it runs from, so the prefix
can be moved as a whole.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List

import build
import docs
import sim
import tap
from common import (BUILD, Clock, Failure, QEMU, RESULTS, ROOT, main, remove,
                    say)
from ninja import EMULATORS

OBJ = QEMU / 'obj'
# What x86 and arm machines load by themselves or by -bios
DATA = [r'bios(-256k|-microvm)?\.bin', r'(efi|pxe)-[\w-]+\.rom', r'qboot\.rom',
        r'(kvmvapic|linuxboot|linuxboot_dma|multiboot|multiboot_dma|pvh)\.bin',
        r'vgabios[\w-]*\.bin', r'trace-events-all']
EDK2 = ['edk2-aarch64-code.fd', 'edk2-arm-vars.fd']
MAN = ['qemu.1', 'qemu-block-drivers.7', 'qemu-cpu-models.7', 'qemu-qmp-ref.7']
PAGES = ['docs/system/devices/cxl-vfio.rst',
         'docs/system/devices/cxl-vfio-messages.rst.inc',
         'docs/system/devices/cxl-vfio-smmu.rst',
         'tests/vfio-sim/docs/vfio-sim.rst',
         'docs/devel/vfio-cxl.rst', 'docs/devel/vfio-cxl-kernels.rst',
         'docs/devel/vfio-cxl-release.rst']


class Installer:
    def __init__(self, top: Path) -> None:
        self.top = top

    def put(self, source: Path, target: str, mode: int = 0o644) -> None:
        """One file; programs lose nothing but their build's paths."""
        place = self.top / target
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        shutil.copyfile(source, place)
        place.chmod(mode)

    def link(self, target: str, name: str) -> None:
        place = self.top / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(target)

    def programs(self) -> None:
        for name in EMULATORS:
            self.put(OBJ / name, f'bin/{name}', 0o755)
        with tempfile.TemporaryDirectory() as stage:
            made = sim.install(Path(stage))
            for source in sorted(made.rglob('*')):
                if source.is_file():
                    self.put(source, str(source.relative_to(made)),
                             source.stat().st_mode & 0o777)
        scripts = 'share/qemu/scripts'
        self.put(ROOT / 'scripts/vfio-cxl-host.py',
                 f'{scripts}/vfio-cxl-host.py', 0o755)
        for source in sorted((ROOT / 'scripts/vfio_cxl').glob('*.py')):
            self.put(source, f'{scripts}/vfio_cxl/{source.name}')
        self.link(f'../{scripts}/vfio-cxl-host.py', 'bin/vfio-cxl-host.py')

    def data(self) -> None:
        bundle = OBJ / 'qemu-bundle/usr/local/share/qemu'
        pattern = re.compile('|'.join(f'(?:{p})' for p in DATA))
        for source in sorted(bundle.iterdir()):
            if source.is_file() and pattern.fullmatch(source.name):
                self.put(source, f'share/qemu/{source.name}')
        for name in EDK2:
            source = OBJ / 'pc-bios' / name
            if not source.is_file() or not source.stat().st_size:
                say(f'{name} is missing (package qemu-efi-aarch64): virt '
                    'guests will need -bios')
                continue
            self.put(source, f'share/qemu/{name}')
        if not (self.top / 'share/qemu/bios-256k.bin').exists():
            say('no SeaBIOS (package seabios): q35 guests will need -bios')

    def documentation(self) -> None:
        place = 'share/doc/qemu'
        self.put(ROOT / 'README.md', f'{place}/README.vfio-cxl.md')
        for page in PAGES:
            if (ROOT / page).is_file():
                self.put(ROOT / page, f'{place}/{Path(page).name}')
        if not docs.available():
            say('no sphinx-build: the pages are installed as they are written '
                '(make docs says what it needs)')
            return
        made = docs.build()
        manual = self.top / place / 'html'
        shutil.rmtree(manual, ignore_errors=True)
        shutil.copytree(made / 'manual', manual, ignore=shutil.
                        ignore_patterns('.buildinfo', '.doctrees'))
        for page in MAN:
            self.put(made / page, f'share/man/man{page[-1]}/{page}')

    def all(self, with_docs: bool = True) -> None:
        self.programs()
        self.data()
        if with_docs:
            self.documentation()


# -- a trial

def environment(top: Path) -> dict:
    env = {key: value for key, value in os.environ.items()
           if not key.startswith('PYTHON')}
    env['PATH'] = f'{top}/bin:/usr/bin:/bin'
    env['PYTHONDONTWRITEBYTECODE'] = '1'
    return env


def command(top: Path, options: List[str], machine: str) -> List[str]:
    """What the installed vfio-cxl-host.py prints."""
    done = subprocess.run(
        ['vfio-sim', *options, '--', 'vfio-cxl-host.py', '--json', '--accel',
         'tcg', '--memory', '1G', '--machine', machine], stdout=subprocess.PIPE,
        env=environment(top), text=True, timeout=60, check=False)
    if done.returncode:
        raise Failure('vfio-cxl-host.py fails: ' + done.stdout[-800:])
    words: List[str] = json.loads(done.stdout)['command']
    return words


def boot(top: Path, machine: str) -> str:
    """A guest from the prefix, with nothing but what is there."""
    arch = {'q35': 'amd64', 'virt': 'arm64'}[machine]
    guest = BUILD / 'guest' / arch
    if not (guest / 'vmlinuz').exists():
        raise Failure(f'{guest}/vmlinuz is missing: make check-guest creates '
                      'it')
    console = 'ttyS0' if machine == 'q35' else 'ttyAMA0'
    options = ['--memory=256M'] + (['--iova=arm'] if machine == 'virt' else [])
    words = command(top, options, machine)
    if machine == 'virt':
        words += ['-bios', 'edk2-aarch64-code.fd']
        words[words.index('-cpu') + 1] = 'neoverse-n1'
    words += ['-nodefaults', '-display', 'none', '-no-reboot', '-serial',
              'stdio', '-kernel', str(guest / 'vmlinuz'), '-initrd',
              str(guest / 'initramfs.cpio'), '-append',
              f'console={console} panic=-1 quiet iomem=relaxed '
              'cxlguest.mode=firmware cxlguest.driver=plain '
              'cxlguest.args=--lock=1']
    done = subprocess.run(
        ['timeout', '--kill-after=5', '180', 'vfio-sim', *options, '--',
         *words],
        env=environment(top), cwd='/', stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors='replace',
        check=False)
    if done.returncode or 'GUEST: verdict PASS' not in done.stdout:
        return f'status {done.returncode}:\n{done.stdout[-800:]}'
    return ''


def check() -> int:
    # Elsewhere than where it was installed
    first, top = BUILD / 'install/first', BUILD / 'install/moved'
    for place in (first, top):
        if place.exists():
            remove(place)
    cases: List[tap.Case] = []
    Installer(first).all(with_docs=False)
    first.rename(top)
    for machine in ('q35', 'virt'):
        trouble = boot(top, machine)
        say(f'install: {machine} {trouble or "boots"}')
        cases.append(tap.Case('not ok' if trouble else 'ok', 'install: a '
                              f'{machine} guest boots from the prefix',
                              trouble.replace('\n', ' | ')))
    tap.append(RESULTS / 'install.tap', cases)
    if not any(case.result == 'not ok' for case in cases):
        shutil.rmtree(BUILD / 'install')
    return int(any(case.result == 'not ok' for case in cases))


def run() -> int:
    build.build()
    if sys.argv[1:] == ['check']:
        (RESULTS / 'install.tap').unlink(missing_ok=True)
        return check()
    prefix = os.environ.get('PREFIX') or '/usr/local'
    if not prefix.startswith('/'):
        raise Failure(f'PREFIX={prefix} must be an absolute path')
    top = Path(os.environ.get('DESTDIR', '') + prefix)
    clock = Clock()
    try:
        Installer(top).all()
    except PermissionError as err:
        raise Failure(f'{err}: use another PREFIX=, or run as root') from err
    say(f'installed to {top} ({clock})')
    return 0


if __name__ == '__main__':
    main(run)
