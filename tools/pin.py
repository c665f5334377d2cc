# SPDX-License-Identifier: GPL-2.0-or-later
"""The QEMU release that this repository is based on, and other known ones."""

from typing import List

# The hooks are made for this one. `make refresh` after `make rebase` writes it.
VERSION = '11.1.1'

# File name -> SHA-256. The patches of make dist are tried with the package
# whose .dsc is here.
SHA256 = {
    'qemu_11.1.1+ds.orig.tar.xz':
        '0b1376e75dbe3e2fea4e408f8669f88a723f419f36a5b7d74cc6a4cfe07e4f5e',
    'qemu_11.1.1+ds-1.debian.tar.xz':
        '870a1193f28ce522ac91f68100d75dce5527e08d8958344b389c9fa24b44968f',
    'qemu_11.1.1+ds-1.dsc':
        'dfd4fbdd38517e2467002091bbcd938bbff8b2c851cc3f56b019236c7d1f21da',
    # Later point releases, not tried
    'qemu_11.1.2+ds.orig.tar.xz':
        '4f41c3df35a86d2497f842a585b014fe5aef45ceec6450e61615f0164ca39761',
    'qemu_11.1.3+ds.orig.tar.xz':
        '502fe33503df3520b6a81176a94d77eef908eb252bacc675d7199f379ac26641',
    # To try make rebase with
    'qemu_11.0.3+ds.orig.tar.xz':
        '62e174790c8f9b44388ef16550ef4820dba87c619cfe2a5596869ef6bef660dd',
}

RELEASE_SITE = 'https://download.qemu.org'
SNAPSHOT_SITE = 'https://snapshot.debian.org'


def tarballs(version: str) -> List[str]:
    """The names of a release's source: Debian's, and QEMU's own."""
    return [f'qemu_{version}+ds.orig.tar.xz', f'qemu-{version}.tar.xz']


def package(version: str) -> List[str]:
    """Debian's source package; the .dsc comes first."""
    return [f'qemu_{version}+ds-1.dsc', f'qemu_{version}+ds-1.debian.tar.xz',
            tarballs(version)[0]]
