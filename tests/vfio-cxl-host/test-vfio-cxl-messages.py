#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
QEMU's messages about devices that it cannot use with CXL.

The environment sets what is tested: QEMU_X86_64, VFIO_SIM if vfio-sim is not
in PATH, and VFIO_CXL_MESSAGES, the page that explains the messages. It has a
table for each way in which the values of x-cxl differ. With each value, each
case must behave as described by the table with its message, and each message
must occur in a case. Generations of the kernel's interface that this QEMU does
not read are left out.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from typing import Dict, List, Tuple

SIM = os.environ.get('VFIO_SIM') or shutil.which('vfio-sim') or ''
QEMU = os.environ.get('QEMU_X86_64', '')
PAGE = os.environ.get('VFIO_CXL_MESSAGES', '')

# Title of the table -> value of x-cxl -> whether QEMU refuses the device, and
# the prefix of the message ('-': no message)
TABLES: Dict[str, Dict[str, Tuple[bool, str]]] = {
    'Only ``x-cxl=on`` is refused':
        {'on': (True, 'x-cxl=on: '), 'auto': (False, '-'), 'off': (False, '-')},
    'Plain PCI, or refused with ``x-cxl=on``':
        {'on': (True, 'x-cxl=on: '),
         'auto': (False, 'CXL device used as plain PCI: '),
         'off': (False, '-')},
    'Refused except with ``x-cxl=off``':
        {'on': (True, 'CXL: '), 'auto': (True, 'CXL: '), 'off': (False, '-')},
    'Refused with each value of ``x-cxl``':
        {mode: (True, '(?:x-cxl=on: )?') for mode in ('on', 'auto', 'off')},
}

# The generation of the kernel, and the options of vfio-sim
CASES = [
    ('v6', '--mangle=device-no-reset'),
    ('v6', '--mangle=memory-type'),
    ('v6', '--mangle=bar-all-mmap'),
    ('v6', '--mangle=memory-fails'),
    ('v6', '--mangle=memory-size-0'),
    ('v6', '--mangle=registers-size-large'),
    ('v6', '--mangle=registers-size-0'),
    ('v6', '--mangle=registers-size-small'),
    ('v6', '--mangle=array-zero'),
    ('v6', '--mangle=hdm-missing'),
    ('v6', '--mangle=hdm-at-0'),
    ('v6', '--mangle=ras-among-decoders'),
    ('v6', '--mangle=geometry-offset-unaligned'),
    ('v6', '--mangle=hdm-ones'),
    ('v6', '--mangle=hdm-count-2'),
    ('v6', '--mangle=hdm-interleaved'),
    ('v6', '--mangle=memory-size-other'),
    ('v6', '--mangle=dvsec-missing'),
    ('v6', '--mangle=dvsec-no-mem'),
    ('v6', '--mangle=bar-size-0'),
    ('v6', '--mangle=geometry-offset-block'),
    ('v6', '--mangle=geometry-bar-2'),
    ('v6', '--mangle=config-size'),
    ('v6', '--mangle=dvsec-short'),
    ('v6', '--mangle=dvsec-twice'),
    ('v6', '--fault=0000:c1:00.0 pread-config errno=5 skip=3'),
    ('v6', '--fault=0000:c1:00.0 pread-bar0 errno=5'),
    ('none', '--memory=256M'),
    ('v6', '--mangle=hdm-uncommitted'),
    ('v6', 'bus=pcie.0'),
    ('v6', 'x-no-mmap=on'),
    ('v6', '--mangle=dvsec-inactive'),
    ('v2-reset', '--mangle=v2-memory-out'),
    ('v2-reset', '--mangle=registers-no-caps'),
    ('v2-reset', '--mangle=v2-bar-2'),
    ('v2-reset', '--mangle=device-cap-unaligned'),
    ('v2-reset', '--mangle=device-no-caps-flag'),
    ('v2-reset', '--mangle=v2-same-index'),
    ('v2-nommap', '--memory=256M'),
]


def tables() -> Dict[str, List[str]]:
    """Title -> messages, as regular expressions."""
    with open(PAGE, encoding='utf-8') as page:
        sections = re.split(r'\n(.+)\n~+\n', page.read())
    return {title: ['.+'.join(re.escape(part) for part in
                              re.sub(r'\s+', ' ', row).split('...'))
                    for row in re.findall(r'^  \* - ``(.*?)``$', body,
                                          re.MULTILINE | re.DOTALL)]
            for title, body in zip(sections[1::2], sections[2::2])}


def generations() -> List[str]:
    """Those of the kernel's interface that QEMU reads."""
    requests = [{'execute': 'qmp_capabilities'},
                {'execute': 'qom-list-types',
                 'arguments': {'implements': 'vfio-cxl-kernel',
                               'abstract': True}},
                {'execute': 'quit'}]
    replies = subprocess.run(
        [QEMU, '-M', 'none', '-nodefaults', '-display', 'none', '-qmp',
         'stdio'], input=''.join(json.dumps(r) for r in requests),
        stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout
    return re.findall(r'"vfio-cxl-kernel-(\w+)"', replies)


def start(kernel: str, option: str, mode: str) -> Tuple[int, List[str]]:
    """Run QEMU with the device; returns its status and messages."""
    device = {'host': '0000:c1:00.0', 'bus': 'rp0', 'x-cxl': mode}
    if not option.startswith('-'):
        device.update([option.split('=')])
        option = '--memory=256M'
    done = subprocess.run(
        ['timeout', '30', SIM, f'--kernel={kernel}', option, '--', QEMU,
         '-M', 'q35,cxl=on', '-accel', 'qtest', '-m', '128M', '-nodefaults',
         '-display', 'none', '-monitor', 'stdio',
         '-device', 'pxb-cxl,id=cxl.0,bus=pcie.0,bus_nr=12',
         '-device', 'cxl-rp,id=rp0,bus=cxl.0,chassis=0,slot=0',
         '-device', ','.join(['vfio-pci', *(f'{key}={value}' for key, value
                                            in device.items())])],
        input='quit\n', stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=60, check=False)
    return done.returncode, re.findall(r'vfio 0000:c1:00.0: (.*)', done.stdout)


def check(kernel: str, option: str, found: Dict[str, List[str]]) -> \
        Tuple[str, List[str]]:
    """'' or an error, and the messages of the page that were seen."""
    done = {mode: start(kernel, option, mode) for mode in ('on', 'auto', 'off')}
    for title, rows in found.items():
        for row in rows:
            if title in TABLES and any(
                    re.fullmatch(f'{TABLES[title]["on"][1]}{row}(: .*)?', line)
                    for line in done['on'][1]):
                break
        else:
            continue
        seen = []
        for mode, (status, lines) in done.items():
            refused, before = TABLES[title][mode]
            # If it is refused anyway, the reason may be another of the table
            allowed = rows if title.startswith('Refused with each') else [row]
            matched = [one for one in allowed for line in lines
                       if re.fullmatch(f'{before}{one}(: .*)?', line)]
            seen += matched
            if (status == 1) != refused or status not in (0, 1) \
                    or bool(matched) != (before != '-'):
                return f'x-cxl={mode}: status {status}, {lines}', seen
        return '', seen
    return f'x-cxl=on: no message of the page in {done["on"]}', []


def main() -> int:
    """Run all."""
    found = tables()
    pending = [row for title in TABLES for row in found[title]]
    known = ['none', *generations()]
    failures, unseen = 0, ''
    print(f'1..{len(CASES) + 1}')
    for number, (kernel, option) in enumerate(CASES, 1):
        name = f'{kernel} {option.replace("--mangle=", "").partition(" ")[0]}'
        if kernel.partition('-')[0] not in known:
            pending, unseen = [], ' # SKIP some are not in this QEMU'
            print(f'ok {number} {name} # SKIP not in this QEMU')
            continue
        trouble, seen = check(kernel, option, found)
        pending = [row for row in pending if row not in seen]
        failures += bool(trouble)
        print(f'{"not ok" if trouble else "ok"} {number} {name}', flush=True)
        if trouble:
            print('# ' + trouble)
    print(f'{"not ok" if pending else "ok"} {len(CASES) + 1} each message of '
          f'the page was seen{unseen}')
    for row in pending:
        print('# not seen: ' + row)
    return int(failures > 0 or bool(pending))


if __name__ == '__main__':
    if not SIM or not QEMU:
        print('1..0 # SKIP vfio-sim is not installed and VFIO_SIM not set, or '
              'there is no qemu-system-x86_64')
        sys.exit(0)
    sys.exit(main())
