# Builds our accelerator driver for the guest's kernel, with the compiler that
# Debian built that kernel with, in a directory of unpacked packages.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Build the out-of-tree driver in an unpacked Debian tree."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from debian import AptRoot, GuestError, say, unpack

HERE = Path(__file__).resolve().parent
SOURCES = [HERE / 'driver' / name
           for name in ('cxl-accel.c', 'cxl-accel.h', 'Makefile')]
SIM_REGS = HERE.parent / 'vfio-sim' / 'vfio-sim-regs.h'

KERNEL_ARCH = {'amd64': 'x86', 'arm64': 'arm64'}
TRIPLET = {'amd64': 'x86_64-linux-gnu', 'arm64': 'aarch64-linux-gnu'}

# gcc depends on these; kernel modules are not linked with them
UNUSED = (r'lib(asan|tsan|lsan|hwasan|ubsan|quadmath|itm|gomp|atomic|cc1)\d|'
          r'libc6-dev|libc-dev|linux-libc-dev|libcrypt|rpcsvc|manpages|'
          r'openssl-provider|init-system-helpers|linux-base|libstdc|libgcc-\d'
          r'.*-dev|libc6-(amd64|arm64)-cross|kmod|libkmod')


def host_arch() -> str:
    """This machine's architecture as Debian calls it."""
    done = subprocess.run(['dpkg', '--print-architecture'], check=True,
                          capture_output=True, text=True, timeout=30)
    return done.stdout.strip()


class DriverBuilder:
    """A tree with compilers, and the modules that were built in it."""

    def __init__(self, build: Path, apts: Dict[str, AptRoot],
                 update: bool) -> None:
        self.build_dir = build
        self.root = build / 'chroot'
        self.cache = build / 'cache'
        self.apts = apts
        self.update = update

    def _packages(self, release: str, arch: str) -> List[str]:
        """Files in the cache that a build for RELEASE needs."""
        listing = self.cache / 'driver.json'
        try:
            known = json.loads(listing.read_text())
        except (OSError, ValueError):
            known = {}
        key = f'{release} {arch}'
        files = known.get(key)
        if files and not self.update and all((self.cache / f).exists()
                                             for f in files):
            return files
        say(f'Compiler and headers to build our driver for {release}:')
        host = host_arch()
        native = self.apts.get(host)
        if native is None:
            raise GuestError(f'no compiler packages for a {host} machine')
        native.update()
        version = release.rsplit('-', 1)[0]
        gcc = 'gcc-14' if arch == host else \
            'gcc-14-' + TRIPLET[arch].replace('_', '-')
        names = [f'linux-kbuild-{version}', gcc, 'make', 'busybox-static']
        # The package knows no difference between the two of them
        closure = native.closure(names, UNUSED)
        paths = native.fetch(closure + [f'linux-headers-{version}-common'])
        target = self.apts[arch]
        target.update()
        paths += target.fetch([f'linux-headers-{release}'])
        known[key] = [p.name for p in paths]
        listing.write_text(json.dumps(known, indent=1))
        return known[key]

    def _prepare(self, files: List[str]) -> None:
        """Unpack what is not unpacked yet."""
        done = self.root / '.packages'
        have = set(done.read_text().split()) if done.exists() else set()
        if not have:
            shutil.rmtree(self.root, ignore_errors=True)
            for name in ('bin', 'sbin', 'lib', 'lib64'):
                (self.root / 'usr' / name).mkdir(parents=True)
                (self.root / name).symlink_to(f'usr/{name}')
            for name in ('dev', 'proc', 'tmp', 'build'):
                (self.root / name).mkdir()
        todo = [f for f in files if f not in have]
        for at, name in enumerate(todo, 1):
            if at == 1 or at % 10 == 0 or at == len(todo):
                say(f'  unpacking {at} of {len(todo)}: {name}')
            unpack(self.cache / name, self.root, lambda path: not re.search(
                r'usr/share/(doc|man|locale|info|lintian)/', path))
            have.add(name)
            done.write_text('\n'.join(sorted(have)))
        busybox = next(p for p in self.root.rglob('bin/busybox'))
        applets = subprocess.run([str(busybox), '--list'], check=True,
                                 capture_output=True, text=True, timeout=30)
        for applet in applets.stdout.split():
            link = self.root / 'usr/bin' / applet
            if not link.exists() and not link.is_symlink():
                link.symlink_to('busybox')

    def _inside(self, script: str) -> 'subprocess.CompletedProcess[str]':
        """Run a shell script in the tree."""
        root = str(self.root)
        env = {'PATH': '/usr/bin:/usr/sbin:/bin:/sbin', 'LC_ALL': 'C',
               'HOME': '/tmp'}
        if os.geteuid() == 0:
            null = self.root / 'dev/null'
            if not null.exists():
                os.mknod(null, 0o020666, os.makedev(1, 3))
                null.chmod(0o666)
            # objtool wants to know where its stack is and stops without;
            # only its report of an overflow depends on the answer
            maps = self.root / 'proc/self/maps'
            maps.parent.mkdir(exist_ok=True)
            maps.write_text('7ffffff00000-7ffffffff000 rw-p 00000000 00:00 0'
                            ' [stack]\n')
            command = ['chroot', root, '/bin/sh', '-ec', script]
        else:
            command = ['unshare', '--map-root-user', '--mount', 'sh', '-ec',
                       'mount --rbind /dev "$0/dev" && '
                       'mount --rbind /proc "$0/proc" && '
                       'exec chroot "$0" /bin/sh -ec "$1"', root, script]
            env['PATH'] += ':' + os.environ.get('PATH', '')
        return subprocess.run(command, env=env, text=True, timeout=300,
                              stdin=subprocess.DEVNULL, check=False,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)

    def build(self, arch: str, release: str, name: str = 'cxl-accel',
              sources: Sequence[Path] = tuple(SOURCES + [SIM_REGS])) -> \
            Tuple[Optional[Path], str]:
        """The module's file, or None and why there is none."""
        out = self.build_dir / arch / f'{name}.ko'
        stamp = out.with_suffix('.stamp')
        digest = hashlib.sha256(release.encode())
        for path in sources:
            digest.update(path.read_bytes())
        want = digest.hexdigest()
        if not self.update and out.exists() and stamp.exists() and \
                stamp.read_text() == want:
            return out, ''
        self._prepare(self._packages(release, arch))
        say(f'  compiling {name} for {release}')
        work = self.root / 'build' / release
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        for path in sources:
            shutil.copy(path, work)
        triplet = TRIPLET[arch]
        # Neither the kernel image nor its type information is there
        done = self._inside(
            f'cd /build/{release}\n'
            f'make -C /usr/src/linux-headers-{release} '
            f'ARCH={KERNEL_ARCH[arch]} CROSS_COMPILE={triplet}- '
            f'CC={triplet}-gcc-14 CONFIG_DEBUG_INFO_BTF_MODULES= '
            f'M=/build/{release} modules')
        made = work / f'{name}.ko'
        out.with_suffix('.log').write_text(done.stdout)
        if done.returncode or not made.exists():
            raise GuestError(f'{name} does not compile for {release}:\n'
                             + done.stdout[-3000:])
        shutil.copy(made, out)
        stamp.write_text(want)
        return out, ''
