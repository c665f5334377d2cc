#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
What QEMU says of a kernel whose description of a device it cannot use.

docs/system/devices/cxl-vfio-messages.rst.inc explains these messages. The
environment names what is tested: VFIO_SIM and QEMU_X86_64.
"""

import os
import subprocess
import sys

SIM = os.environ.get('VFIO_SIM', '')
QEMU = os.environ.get('QEMU_X86_64', '')

# What vfio-sim is told -> what QEMU says with x-cxl=on
CASES = [
    ('v2-reset', '--mangle=memory-fails', 'cannot get info of CXL region 9'),
    ('v2-reset', '--mangle=v2-memory-out', 'CXL region 99 of 11 regions'),
    ('v2-reset', '--mangle=registers-no-caps',
     'region 10 is not of the CXL type 2'),
    ('v2-reset', '--mangle=memory-size-0',
     'device memory of 0x0 bytes is not a multiple of 256 MiB'),
    ('v2-reset', '--mangle=registers-size-large',
     'component registers of 0x20000 bytes'),
    ('v2-reset', '--mangle=registers-size-0',
     'cannot read component register 0x1000'),
    ('v2-reset', '--mangle=array-zero',
     'no CXL capability array (0x00000000)'),
    ('v2-reset', '--mangle=hdm-missing',
     'no HDM Decoder Capability among 3'),
    ('v4', '--mangle=geometry-offset-unaligned',
     'HDM decoders at 0x1200, the kernel says 0x1201'),
    ('v2-reset', '--mangle=hdm-ones',
     '0 HDM decoders; this kernel offers 1 to 10'),
    ('v2-reset', '--mangle=hdm-count-2',
     '2 HDM decoders do not fit the component registers'),
    ('v2-reset', '--mangle=hdm-interleaved', 'the host interleaves its memory'),
    ('v2-reset', '--mangle=memory-size-other',
     'the decoder maps 0x10000000 bytes, the region has 0x20000000'),
    ('v2-reset', '--mangle=dvsec-missing', 'it has no CXL Device DVSEC'),
    ('v2-reset', '--mangle=dvsec-no-mem',
     'its CXL Device DVSEC says that it has no CXL.mem'),
    ('v2-reset', '--mangle=v2-bar-2', 'component registers at BAR 2 + 0x30000,'
     ' where the Register Locator has none'),
    ('v2-reset', '--mangle=bar-size-0',
     'component registers at 0x30000 do not fit BAR 0'),
    ('v4', '--mangle=geometry-offset-block',
     'BAR 0 cannot be mapped at 0x0, 0x31000 bytes'),
    ('v2-reset', '--mangle=device-cap-unaligned', 'the kernel describes the '
     'CXL device in a form that is not known (capability 6, 13 bytes)'),
    ('v4', '--mangle=geometry-bar-2', 'HDM decoders at BAR 2 + 0x31200, where '
     'the Register Locator has no component registers'),
    ('v2-reset', '--mangle=device-no-caps-flag',
     'region 10 does not say where in a BAR its registers are'),
    ('v2-reset', '--mangle=v2-same-index',
     'memory and registers are the same region'),
]
# The same with x-cxl=off: what cannot be hidden from the guest
OFF = [
    ('v2-reset', '--mangle=dvsec-short', 'CXL DVSEC at 0x150 has 16 bytes'),
    ('v2-reset', '--mangle=dvsec-twice', 'second CXL Device DVSEC at 0x'),
    ('v2-reset', '--fault=0000:c1:00.0 pread-config errno=5 skip=3',
     'extended capability at 0x150'),
]


def say(kernel: str, option: str, mode: str) -> \
        'subprocess.CompletedProcess[str]':
    """QEMU with the device."""
    return subprocess.run(
        ['timeout', '30', SIM, f'--kernel={kernel}', option, '--', QEMU,
         '-M', 'q35,cxl=on', '-accel', 'qtest', '-m', '128M', '-nodefaults',
         '-display', 'none', '-qtest', 'stdio',
         '-device', 'pxb-cxl,id=cxl.0,bus=pcie.0,bus_nr=12',
         '-device', 'cxl-rp,id=rp0,bus=cxl.0,chassis=0,slot=0',
         '-device', f'vfio-pci,host=0000:c1:00.0,bus=rp0,x-cxl={mode}'],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.STDOUT, timeout=60, check=False)


def main() -> int:
    """Run all."""
    failures = 0
    print(f'1..{len(CASES) + len(OFF)}')
    for number, (kernel, option, words) in enumerate(CASES + OFF, 1):
        off = number > len(CASES)
        done = say(kernel, option, 'off' if off else 'on')
        words = ('' if off else 'x-cxl=on: ') + words
        good = done.returncode == 1 and \
            f'vfio 0000:c1:00.0: {words}' in done.stdout
        failures += not good
        print(f'{"ok" if good else "not ok"} {number} {option[9:]}',
              flush=True)
        if not good:
            print(f'# status {done.returncode}: '
                  + done.stdout.strip().replace('\n', '\n# '))
    return int(failures > 0)


if __name__ == '__main__':
    if not SIM or not QEMU:
        print('1..0 # SKIP VFIO_SIM or QEMU_X86_64 is not set')
        sys.exit(0)
    sys.exit(main())
