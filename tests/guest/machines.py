# The two machines, and a command line for each that boots our image.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""QEMU command lines without CXL."""

import os
from pathlib import Path
from typing import Dict, List

from debian import GuestError
from image import Image

MISSING_EFI = ('the UEFI firmware for arm is missing: install the package '
               'qemu-efi-aarch64')

MACHINES: Dict[str, Dict[str, str]] = {
    'q35': {'arch': 'amd64', 'qemu': 'qemu-system-x86_64',
            'machine': 'q35', 'console': 'ttyS0',
            # Linux refuses to flush caches for CXL under a hypervisor bit
            'cpu': 'max,-hypervisor'},
    'virt': {'arch': 'arm64', 'qemu': 'qemu-system-aarch64',
             'machine': 'virt,gic-version=3', 'console': 'ttyAMA0',
             'cpu': 'neoverse-n1'},
}
FIRMWARE_DIRS = ('/usr/share/seabios', '/usr/share/qemu',
                 '/usr/lib/ipxe/qemu')
EFI = ('/usr/share/qemu-efi-aarch64/QEMU_EFI.fd',
       '/usr/share/AAVMF/AAVMF_CODE.fd')


def base_command(qemu: Path, image: Image, machine: str, accel: str,
                 smp: int, memory: str = '1G') -> List[str]:
    """QEMU, CPU, RAM, console and firmware."""
    spec = MACHINES[machine]
    command = [str(qemu / spec['qemu']), '-nodefaults', '-display', 'none',
               '-serial', 'stdio', '-accel', accel,
               '-cpu', 'host' if accel == 'kvm' else spec['cpu'],
               '-smp', str(smp), '-m', memory]
    for path in FIRMWARE_DIRS:
        if os.path.isdir(path):
            command += ['-L', path]
    if machine == 'virt':
        efi = next((p for p in EFI if os.path.exists(p)), None)
        if efi is None:
            raise GuestError(MISSING_EFI)
        command += ['-bios', efi]
    return command + ['-kernel', str(image.kernel)]


def kernel_line(machine: str, append: str) -> str:
    """The kernel's command line."""
    # Our program maps what drivers have claimed: iomem
    return (f'console={MACHINES[machine]["console"]} panic=-1 quiet '
            f'iomem=relaxed {append}')
