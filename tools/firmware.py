# SPDX-License-Identifier: GPL-2.0-or-later
"""The firmware that Debian's QEMU source lacks, taken from other packages."""

import bz2
import re
from pathlib import Path

from common import say

# What QEMU's build calls it -> where Debian and others install it.
EDK2 = {
    'edk2-aarch64-code.fd': ['/usr/share/AAVMF/AAVMF_CODE.fd',
                             '/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw'],
    'edk2-arm-vars.fd': ['/usr/share/AAVMF/AAVMF_VARS.fd',
                         '/usr/share/edk2/aarch64/vars-template-pflash.raw'],
}
DIRS = ['/usr/share/seabios', '/usr/share/qemu', '/usr/lib/ipxe/qemu',
        '/usr/share/qemu-kvm', '/usr/share/ipxe/qemu']


def add_to_source(src: Path) -> None:
    """Supply the edk2 archives that QEMU's build insists on.

    Only the two that tests boot are real; the others unpack to nothing.
    """
    rules = (src / 'pc-bios/meson.build').read_text(encoding='utf-8')
    for name in re.findall(r"'(edk2-[\w-]+\.fd)'", rules):
        archive = src / 'pc-bios' / (name + '.bz2')
        if archive.exists():
            continue
        data = b''
        for place in EDK2.get(name, []):
            if Path(place).is_file():
                data = Path(place).read_bytes()
                break
        archive.write_bytes(bz2.compress(data, 1))


def link_into_build(src: Path, obj: Path) -> None:
    """Put BIOS and option ROMs where a QEMU run from its build looks."""
    bundle = obj / 'qemu-bundle/usr/local/share/qemu'
    if not bundle.is_dir():
        return
    rules = (src / 'pc-bios/meson.build').read_text(encoding='utf-8')
    missing = []
    for name in re.findall(r"'([\w.-]+\.(?:bin|rom))'", rules):
        link = bundle / name
        if link.exists():
            continue
        link.unlink(missing_ok=True)
        for place in [src / 'pc-bios', *map(Path, DIRS)]:
            if (place / name).is_file():
                link.symlink_to(place / name)
                break
        else:
            missing.append(name)
    if 'bios-256k.bin' in missing:
        say('no SeaBIOS found: q35 guests will not boot (package seabios)')
