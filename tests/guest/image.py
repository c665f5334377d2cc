# Guest images: a stock Debian kernel, and an initramfs with busybox, the cxl
# tool, the kernel's CXL modules, our program and our driver.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Make the kernels and initramfs files that guests boot."""

import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Tuple

from debian import AptRoot, GuestError, say, unpack
from driver import DriverBuilder

HERE = Path(__file__).resolve().parent
SIM_INCLUDE = HERE.parent / 'vfio-sim'

SUITES = ('trixie', 'trixie-backports')

# Loaded in this order, after what each of them depends on
MODULES = ('cxl_acpi', 'cxl_mem', 'cxl_pci', 'dax_cxl', 'device_dax',
           'uio_pci_generic', 'virtio_blk')
MODULE_DIRS = ('drivers/acpi', 'drivers/block', 'drivers/cxl', 'drivers/dax',
               'drivers/nvdimm', 'drivers/uio')
PACKAGES = ('cxl', 'busybox-static', 'kexec-tools')
# Debian 12's own firmware for arm tells Linux that flash is RAM, of which
# SRAT knows nothing: Linux then ignores SRAT
FIRMWARE = {'arm64': ['qemu-efi-aarch64']}
WANTED = [*PACKAGES, *FIRMWARE['arm64']]
# Programs of theirs, and where they go
TOOLS = {'busybox': 'bin', 'cxl': 'usr/bin', 'kexec': 'sbin'}
PROGRAM = sorted((HERE / 'program').glob('*.[ch]'))

ARCHES: Dict[str, Dict[str, str]] = {
    'amd64': {'gcc': 'x86_64-linux-gnu-gcc', 'triplet': 'x86_64-linux-gnu',
              'loader': 'lib64/ld-linux-x86-64.so.2'},
    'arm64': {'gcc': 'aarch64-linux-gnu-gcc', 'triplet': 'aarch64-linux-gnu',
              'loader': 'lib/ld-linux-aarch64.so.1'},
}


def version_key(text: str) -> List[int]:
    """Order of kernel versions."""
    return [int(x) for x in re.findall(r'\d+', text.split('+')[0])]


def choose_kernel(apt: AptRoot, wish: str) -> Tuple[str, List[str]]:
    """The newest kernel that Debian has, or the newest that WISH begins."""
    found: Dict[str, List[str]] = {}
    flavour = apt.arch
    for name in apt.names(f'^linux-(binary|modules|image)-.*-{flavour}'):
        match = re.fullmatch(
            r'linux-(binary|modules|image)-(?:unsigned-)?'
            rf'([0-9]+\.[0-9.]+(?:\+[a-z0-9.+~]+)?)-{flavour}(?:-unsigned)?',
            name)
        if match and match[2].startswith(wish):
            found.setdefault(match[2], []).append(name)
    for version in sorted(found, key=version_key, reverse=True):
        names = found[version]
        binary = [n for n in names if n.startswith('linux-binary')]
        modules = [n for n in names if n.startswith('linux-modules')]
        image = [n for n in names if n.startswith('linux-image')]
        if binary and modules:
            return f'{version}-{flavour}', [min(binary, key=len), modules[0]]
        if image and version_key(version) < [6, 19]:
            return f'{version}-{flavour}', [min(image, key=len)]
    raise GuestError(f'Debian {", ".join(apt.suites)} has no kernel '
                     f'{wish or "at all"} for {apt.arch}.')


def cpio_entry(name: str, mode: int, data: bytes = b'',
               rdev: Tuple[int, int] = (0, 0), ino: int = 0) -> bytes:
    """One member of a cpio archive in the format that Linux reads."""
    raw = name.encode() + b'\0'
    fields = (ino, mode, 0, 0, 1, 0, len(data), 0, 0, rdev[0], rdev[1],
              len(raw), 0)
    head = b'070701' + b''.join(b'%08x' % f for f in fields) + raw
    head += b'\0' * (-len(head) % 4)
    return head + data + b'\0' * (-len(data) % 4)


def write_cpio(tree: Path, out: Path) -> None:
    """Pack a directory as an initramfs."""
    parts = [cpio_entry('dev', 0o040755, ino=1),
             cpio_entry('dev/console', stat.S_IFCHR | 0o600, rdev=(5, 1),
                        ino=2)]
    for ino, path in enumerate(sorted(tree.rglob('*')), 3):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            parts.append(cpio_entry(name, 0o120777,
                                    os.readlink(path).encode(), ino=ino))
        elif path.is_dir():
            parts.append(cpio_entry(name, 0o040755, ino=ino))
        else:
            mode = 0o100755 if os.access(path, os.X_OK) else 0o100644
            parts.append(cpio_entry(name, mode, path.read_bytes(), ino=ino))
    parts.append(cpio_entry('TRAILER!!!', 0))
    partial = out.with_suffix('.new')
    partial.write_bytes(b''.join(parts))
    partial.rename(out)


def add_files(cpio: Path, out: Path, files: Dict[str, Path]) -> None:
    """An initramfs and a second one behind it, which Linux unpacks too."""
    names = sorted({str(Path(name).parent) for name in files})
    parts = [cpio_entry(name, 0o040755, ino=n) for n, name in
             enumerate(names, 1)]
    parts += [cpio_entry(name, 0o100644, path.read_bytes(), ino=n)
              for n, (name, path) in enumerate(files.items(), 100)]
    parts.append(cpio_entry('TRAILER!!!', 0))
    data = cpio.read_bytes()
    out.write_bytes(data + bytes(-len(data) % 4) + b''.join(parts))


def load_order(have: Dict[str, Path], names: Iterable[str],
               into: Path) -> List[str]:
    """Copy modules and what they depend on; their names in load order, which
    is also in the file "order". HAVE are all modules, by name."""
    order: List[str] = []

    def add(name: str) -> None:
        if name in order or name not in have:
            return
        path = have[name]
        data = path.read_bytes()
        if path.suffix == '.xz':
            data = lzma.decompress(data)
        match = re.search(rb'\0depends=([^\0]*)\0', data)
        for dep in (match[1].decode() if match else '').split(','):
            if dep:
                add(dep.replace('-', '_'))
        (into / f'{name}.ko').write_bytes(data)
        order.append(name)

    into.mkdir(parents=True)
    for name in names:
        add(name)
    (into / 'order').write_text(''.join(f'{n}.ko\n' for n in order))
    return order


def modules_below(tree: Path) -> Dict[str, Path]:
    """The kernel modules in a directory, by the names that Linux gives."""
    return {path.name.split('.ko')[0].replace('-', '_'): path
            for path in tree.rglob('*.ko*')
            if path.name.endswith(('.ko', '.ko.xz'))}


class Image:
    """What a guest of one architecture boots."""

    def __init__(self, build: Path, arch: str) -> None:
        self.arch = arch
        self.build = build
        self.cache = build / 'cache'
        self.dir = build / arch
        self.kernel = self.dir / 'vmlinuz'
        self.initramfs = self.dir / 'initramfs.cpio'
        self.apt = AptRoot(build / 'apt' / arch, self.cache, arch, SUITES)
        self.facts: Dict[str, Any] = {}

    @property
    def release(self) -> str:
        """The kernel's version as uname says it."""
        return str(self.facts['release'])

    @property
    def firmware(self) -> Optional[Path]:
        """Firmware that is newer than this machine's, if there is a use."""
        return next((self.dir / 'firmware').rglob('QEMU_EFI.fd'), None)

    def _load(self) -> Dict[str, Any]:
        try:
            return json.loads((self.cache / f'{self.arch}.json').read_text())
        except (OSError, ValueError):
            return {}

    def resolve(self, wish: str, update: bool) -> None:
        """Decide on packages and have them in the cache."""
        facts = {} if update else self._load()
        if facts and facts.get('wish') == wish and \
                facts.get('wanted') == WANTED and all(
                (self.cache / name).exists()
                for name in facts['kernel'] + facts['user']
                + facts['firmware']):
            self.facts = facts
            return
        say(f'Guest packages for {self.arch}:')
        self.apt.update()
        release, kernel = choose_kernel(self.apt, wish)
        user = self.apt.closure(
            PACKAGES, r'init-system-helpers|gcc-.*-base|openssl-provider.*|'
            'debconf|perl.*|cdebconf|libdebian-installer.*')
        say(f'  Linux {release}')
        kernel_debs = self.apt.fetch(kernel)
        user_debs = self.apt.fetch(user)
        firmware_debs = self.apt.fetch(FIRMWARE.get(self.arch, []))
        self.facts = {
            'wish': wish, 'release': release, 'wanted': WANTED,
            'kernel': [p.name for p in kernel_debs],
            'user': [p.name for p in user_debs],
            'firmware': [p.name for p in firmware_debs],
        }
        self.dir.mkdir(parents=True, exist_ok=True)
        (self.cache / f'{self.arch}.json').write_text(
            json.dumps(self.facts, indent=1))

    def unpack(self) -> None:
        """Unpack the kernel, its modules and the user-space files."""
        stamp = self.dir / 'unpacked'
        want = json.dumps([self.facts, MODULE_DIRS, TOOLS], sort_keys=True)
        if stamp.exists() and stamp.read_text() == want:
            return
        for name in ('kernel', 'user', 'firmware'):
            shutil.rmtree(self.dir / name, ignore_errors=True)
        for deb in self.facts['kernel']:
            say(f'  unpacking {deb}')
            unpack(self.cache / deb, self.dir / 'kernel', lambda name: bool(
                re.search(r'(^|/)(vmlinuz[^/]*|config[^/]*|modules\.builtin)$',
                          name) or any(f'/kernel/{d}/' in name
                                       for d in MODULE_DIRS)))
        for deb in self.facts['user']:
            unpack(self.cache / deb, self.dir / 'user', lambda name: bool(
                re.search(r'\.so(\.|$)|ld-linux|/s?bin/'
                          rf'({"|".join(TOOLS)})$', name)))
        for deb in self.facts['firmware']:
            unpack(self.cache / deb, self.dir / 'firmware',
                   lambda name: name.endswith('/QEMU_EFI.fd'))
        found = [p for p in (self.dir / 'kernel').rglob('vmlinuz*')
                 if p.is_file()]
        if len(found) != 1:
            raise GuestError(f'{self.facts["kernel"]} hold {len(found)} '
                             'kernels; one was expected')
        shutil.copy(found[0], self.kernel)
        stamp.write_text(want)

    def _program(self) -> Path:
        """Compile the guest program."""
        out = self.dir / 'cxl-guest'
        gcc = ARCHES[self.arch]['gcc']
        command = [gcc, '-O2', '-g', '-Wall', '-Wextra',
                   '-Wno-unused-parameter', '-static', '-pthread',
                   f'-I{SIM_INCLUDE}', f'-I{HERE / "driver"}', '-o', str(out),
                   *(str(p) for p in PROGRAM if p.suffix == '.c')]
        if not shutil.which(gcc):
            raise GuestError(f'{gcc} is missing. Install the packages in '
                             'tests/guest/packages: apt-get install '
                             + ' '.join((HERE / 'packages').read_text()
                                        .split()))
        done = subprocess.run(command, capture_output=True, text=True,
                              timeout=120, check=False)
        if done.returncode:
            raise GuestError('the guest program does not compile:\n'
                             + done.stderr)
        return out

    def _user(self, tree: Path) -> None:
        """busybox, the cxl tool and the libraries it needs."""
        user = self.dir / 'user'
        for name in ('usr/lib', 'etc', 'proc', 'sys'):
            (tree / name).mkdir(parents=True, exist_ok=True)
        todo = []
        for name, place in TOOLS.items():
            program = next(p for p in user.rglob(name)
                           if p.is_file() and p.parent.name in ('bin', 'sbin'))
            (tree / place).mkdir(parents=True, exist_ok=True)
            shutil.copy(program, tree / place / name)
            todo.append(program)
        libs: Dict[str, Path] = {}
        for path in user.rglob('*.so*'):
            if path.is_file() and path.parent.name == \
                    ARCHES[self.arch]['triplet']:
                libs[path.name] = path
        done = set()
        while todo:
            for name in needed(todo.pop()):
                if name not in libs or name in done:
                    continue
                done.add(name)
                shutil.copy(libs[name], tree / 'usr/lib' / name)
                todo.append(libs[name])
        loader = ARCHES[self.arch]['loader']
        source = libs.get(Path(loader).name)
        if source is None:
            source = next(user.rglob(Path(loader).name))
        (tree / loader).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tree / loader)

    def make(self, builder: Optional[DriverBuilder]) -> None:
        """Bring kernel and initramfs up to date."""
        self.unpack()
        driver = None
        reason = 'the driver was not built'
        if builder:
            driver, reason = builder.build(self.arch, self.release)
        inputs = [*PROGRAM, HERE / 'init', HERE / 'image.py',
                  SIM_INCLUDE / 'vfio-sim-regs.h',
                  HERE / 'driver/cxl-accel.h', self.dir / 'unpacked']
        if driver:
            inputs.append(driver)
        digest = hashlib.sha256(reason.encode())
        for path in inputs:
            digest.update(path.read_bytes())
        stamp = self.dir / 'initramfs.stamp'
        if self.initramfs.exists() and stamp.exists() and \
                stamp.read_text() == digest.hexdigest():
            return
        tree = self.dir / 'root'
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True)
        self._user(tree)
        order = load_order(modules_below(self.dir / 'kernel'), MODULES,
                           tree / 'modules')
        if 'cxl_acpi' not in order:
            raise GuestError(f'no cxl_acpi module in {self.facts["kernel"]}')
        shutil.copy(self._program(), tree / 'bin/cxl-guest')
        shutil.copy(HERE / 'init', tree / 'init')
        (tree / 'init').chmod(0o755)
        if driver:
            shutil.copy(driver, tree / 'modules/cxl-accel.ko')
        else:
            (tree / 'modules/no-driver').write_text(reason + '\n')
        write_cpio(tree, self.initramfs)
        stamp.write_text(digest.hexdigest())
        say(f'  {self.initramfs} '
            f'({self.initramfs.stat().st_size / 1e6:.1f} MB)')


def needed(path: Path) -> List[str]:
    """The libraries that an ELF file asks for."""
    text = subprocess.run(['readelf', '-d', str(path)], check=True,
                          capture_output=True, text=True, timeout=30).stdout
    return re.findall(r'\(NEEDED\).*\[(.*)\]', text)
