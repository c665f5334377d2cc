# SPDX-License-Identifier: GPL-2.0-or-later
"""The QEMU release that this repository builds on."""

VERSION = '10.2.2'

# Debian's source package: its version, and the suite that carries it.
DEBIAN_VERSION = '1:10.2.2+ds-1'
DEBIAN_SUITE = 'sid'
DEBIAN_TARBALL = 'qemu_10.2.2+ds.orig.tar.xz'
DEBIAN_DSC = 'qemu_10.2.2+ds-1.dsc'
DEBIAN_PACKAGING = 'qemu_10.2.2+ds-1.debian.tar.xz'

RELEASE_TARBALL = 'qemu-10.2.2.tar.xz'
RELEASE_SITE = 'https://download.qemu.org'

# File name -> SHA-256. Debian's is the one this repository is built and tested
# with; the release's is what many independent projects pin.
SHA256 = {
    DEBIAN_TARBALL:
        'be05230fe47a6937cd29f28f562932c8125f9c93c2a82c625198f7a4aa601dfb',
    DEBIAN_DSC:
        'f1684b3aa5ec500c3389d346c6501dee45041ea91656c6556d4da9023b7987dd',
    DEBIAN_PACKAGING:
        'ddf75aceab4f8f77374f3cb34fc97b41514895aeb293ce8b2ddd5e072bb0f5c0',
    RELEASE_TARBALL:
        '784b296ff29c1417aa72323abcb2d2ea9ab9771724f577dcd785c3b04f21e176',
}
