# The contents of level 1: a kernel, busybox, Python, our QEMU, the programs in
# level1/, and a driver of ours if one is requested.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Make the initramfs of level 1."""

import json
import modulefinder
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Set

from boot import SIM
from debian import GuestError, say, unpack
from image import Image, load_order, modules_below, write_cpio
from machine import compile_guest

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
LEVEL1 = HERE / 'level1'

# In this order, each after what it depends on; what is built in is skipped.
# CXL before VFIO, and memory of all kinds before CXL.
MODULES = ('nd_pmem', 'cxl_pmem', 'cxl_acpi', 'cxl_port', 'cxl_mem', 'cxl_pci',
           'iommufd', 'vfio_iommu_type1', 'vfio_pci', 'vfio_cxl')
MODULE_DIRS = ('drivers/acpi', 'drivers/cxl', 'drivers/dax', 'drivers/iommu',
               'drivers/nvdimm', 'drivers/vfio', 'virt/lib')


@dataclass
class Kernel:
    """A kernel to be tested, and its modules by name."""
    release: str
    image: Path
    modules: Dict[str, Path] = field(default_factory=dict)


def stock_kernel(image: Image, build: Path) -> Kernel:
    """Debian's, with more of its modules than other guests use."""
    place = build / 'kernel'
    stamp = build / 'kernel.stamp'
    want = json.dumps([image.facts['kernel'], MODULE_DIRS])
    if not stamp.exists() or stamp.read_text() != want:
        shutil.rmtree(place, ignore_errors=True)
        for deb in image.facts['kernel']:
            unpack(image.cache / deb, place, lambda name: any(
                f'/kernel/{d}/' in name for d in MODULE_DIRS))
        stamp.write_text(want)
    return Kernel(image.release, image.kernel, modules_below(place))


def own_kernel(place: Path) -> Kernel:
    """A built tree, or a directory with a vmlinuz and modules."""
    if not place.is_dir():
        raise GuestError(f'KERNEL={place}: no such directory')
    tree = place / 'arch/x86/boot/bzImage'
    found = [tree] if tree.exists() else sorted(
        p for p in place.rglob('vmlinuz*') if p.is_file())
    if len(found) != 1:
        raise GuestError(
            f'KERNEL={place}: found {len(found)} kernels. Specify a built '
            'tree of Linux, or a directory with one vmlinuz and its modules.')
    release = place / 'include/config/kernel.release'
    name = release.read_text().strip() if release.exists() else \
        re.sub(r'^vmlinuz-?', '', found[0].name) or 'unknown'
    return Kernel(name, found[0], modules_below(place))


def libraries(programs: Iterable[Path]) -> Set[Path]:
    """The shared libraries and the loader that programs need."""
    found: Set[Path] = set()
    for program in programs:
        text = subprocess.run(['ldd', str(program)], text=True, timeout=30,
                              capture_output=True, check=False).stdout
        found |= {Path(name) for name in
                  re.findall(r'(?:=> |^\s*)(/\S+) \(', text, re.M)}
    return found


def python_files(scripts: Iterable[Path], paths: List[Path]) -> Set[Path]:
    """The parts of Python's library that scripts import."""
    found: Set[Path] = set()
    # Not in packages: what the library imports from those is not needed, and
    # Python 3.13's modulefinder does not know folders without __init__.py
    search = [str(p) for p in paths] + \
        [p for p in sys.path[1:] if not p.endswith('-packages')]
    for script in scripts:
        finder = modulefinder.ModuleFinder(search)
        finder.run_script(str(script))
        for module in finder.modules.values():
            if module.__file__:
                found.add(Path(module.__file__))
    return found


class Level1:
    """The directory that becomes an initramfs."""

    def __init__(self, build: Path, image: Image, qemu: Path) -> None:
        self.build = build
        self.image = image
        self.qemu = qemu
        self.tree = build / 'root'

    def _copy(self, source: Path, place: str, strip: bool = False) -> None:
        target = self.tree / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
        if strip:
            subprocess.run(['strip', str(target)], check=True, timeout=60)

    def _python(self) -> List[Path]:
        """Python with what the scripts use; its files that want libraries."""
        interpreter = Path(sys.executable).resolve()
        scripts = [LEVEL1 / 'main.py', TOP / 'scripts/vfio-cxl-host.py']
        files = python_files(scripts, [LEVEL1, TOP / 'tests/bench',
                                       TOP / 'scripts'])
        library = Path(json.__file__).parents[1]
        # Found by name when Python starts
        files |= set((library / 'encodings').glob('*.py'))
        ours = 0
        for path in files:
            if TOP in path.parents:
                ours += 1
                if path.parent.name == 'vfio_cxl':
                    self._copy(path, f'nested/vfio_cxl/{path.name}')
                else:
                    self._copy(path, f'nested/{path.name}')
            else:
                self._copy(path, str(path).lstrip('/'))
        if ours < len(list(LEVEL1.glob('*.py'))):
            raise GuestError('not all of our scripts were found')
        self._copy(interpreter, str(interpreter).lstrip('/'))
        link = self.tree / 'bin/python3'
        link.symlink_to(interpreter)
        return [interpreter] + [p for p in files if '.so' in p.suffixes]

    def make(self) -> None:
        """All but kernel modules."""
        shutil.rmtree(self.tree, ignore_errors=True)
        for name in ('bin', 'proc', 'sys', 'dev', 'tmp', 'etc', 'lib64'):
            (self.tree / name).mkdir(parents=True)
        busybox = next(p for p in (self.image.dir / 'user').rglob('busybox')
                       if p.is_file())
        self._copy(busybox, 'bin/busybox')
        programs = self._python()
        for program in (self.qemu / 'qemu-system-x86_64',
                        SIM.parent / 'test-vfio-kernels'):
            programs.append(program)
            self._copy(programs[-1], f'nested/{programs[-1].name}', True)
        for path in libraries(programs):
            if path.name.startswith('ld-linux'):
                self._copy(path, f'lib64/{path.name}')
            else:
                self._copy(path, f'lib/{path.name}')
        self._copy(compile_guest(self.build), 'nested/guest.rom')
        self._copy(LEVEL1 / 'init', 'init')
        (self.tree / 'init').chmod(0o755)

    def pack(self, kernel: Kernel, ours: Optional[Path], out: Path) -> None:
        """Add the kernel's modules and our driver; write the initramfs."""
        place = self.tree / 'modules'
        load_order(kernel.modules, MODULES, place)
        if ours:
            shutil.copy(ours, place / 'ours.ko')
        write_cpio(self.tree, out)
        say(f'  {out.name} ({out.stat().st_size / 1e6:.0f} MB)')
