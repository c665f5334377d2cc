# SPDX-License-Identifier: GPL-2.0-or-later
"""The QEMU release that this repository builds on."""

VERSION = '11.1.1'

# Debian's source package: its version, and the suite that carries it.
DEBIAN_VERSION = '1:11.1.1+ds-1'
DEBIAN_SUITE = 'sid'
DEBIAN_TARBALL = 'qemu_11.1.1+ds.orig.tar.xz'
DEBIAN_DSC = 'qemu_11.1.1+ds-1.dsc'
DEBIAN_PACKAGING = 'qemu_11.1.1+ds-1.debian.tar.xz'

RELEASE_TARBALL = 'qemu-11.1.1.tar.xz'
RELEASE_SITE = 'https://download.qemu.org'

# File name -> SHA-256
SHA256 = {
    DEBIAN_TARBALL:
        '0b1376e75dbe3e2fea4e408f8669f88a723f419f36a5b7d74cc6a4cfe07e4f5e',
    DEBIAN_DSC:
        'dfd4fbdd38517e2467002091bbcd938bbff8b2c851cc3f56b019236c7d1f21da',
    DEBIAN_PACKAGING:
        '870a1193f28ce522ac91f68100d75dce5527e08d8958344b389c9fa24b44968f',
}
