# SPDX-License-Identifier: GPL-2.0-or-later
"""The QEMU release that this repository builds on."""

VERSION = '10.2.2'

# Debian's source package: its version, and the suite that carries it.
DEBIAN_VERSION = '1:10.2.2+ds-1'
DEBIAN_SUITE = 'sid'
DEBIAN_TARBALL = 'qemu_10.2.2+ds.orig.tar.xz'

RELEASE_TARBALL = 'qemu-10.2.2.tar.xz'
RELEASE_SITE = 'https://download.qemu.org'

# File name -> SHA-256 of what we have seen and built. A tarball with another
# name or sum is taken only when the user vouches for it (QEMU_SRC_SHA256).
SHA256 = {
    DEBIAN_TARBALL:
        'be05230fe47a6937cd29f28f562932c8125f9c93c2a82c625198f7a4aa601dfb',
}
