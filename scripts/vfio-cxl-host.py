#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Check whether a host can pass CXL Type-2 devices to a guest, and print the
QEMU command line or the libvirt XML that does so.

Each device gets a host bridge, a root port and a fixed memory window of its
own, large enough for its memory. With SMMUv3s, devices that share one on the
host share one, and a host bridge, in the guest.

The devices must be bound to vfio-pci and not be in use. Like every user of
VFIO, this program resets a device when it looks at it.
"""

import argparse
import json
import os
import re
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, Optional, TextIO

from vfio_cxl import host, libvirt, plan

QEMU = {'q35': 'qemu-system-x86_64', 'virt': 'qemu-system-aarch64'}

EPILOG = """\
Each line of the report begins with a verdict: ok; note, which is only said;
warn, which works but not well; FAIL, which does not work.

Without --json, --command, --libvirt and --check the report is followed by the
command line. With --command and --libvirt the report goes to standard error.

Exit status: 0 if nothing FAILs, 1 if something does, 2 on wrong usage.

examples:
  vfio-cxl-host.py                     all devices that vfio drivers have
  vfio-cxl-host.py c1:00.0             check it, print a command line
  vfio-cxl-host.py --libvirt c1:00.0   print a domain for "virsh define"
  virsh dumpxml --inactive --security-info vm |
      vfio-cxl-host.py --libvirt --domain - c1:00.0 > new.xml
                                       add the device to a domain, for "virsh
                                       define --validate new.xml"
  vfio-sim --memory=4G -- vfio-cxl-host.py c1:00.0
                                       without hardware
  vfio-sim --iommu=smmuv3 --devices=4 -- vfio-cxl-host.py --machine virt \\
      --accel tcg --smmuv3 on
                                       likewise, an arm host with SMMUv3s
"""


def size(text: str) -> int:
    """A size with a unit; in MiB without one, as QEMU's -m."""
    match = re.fullmatch(r'(\d+)([MGT]?)', text.upper())
    if not match or not int(match.group(1)):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size; give a "
                                         'number with M, G or T')
    return int(match.group(1)) << {'T': 40, 'G': 30}.get(match.group(2), 20)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('address', nargs='*', metavar='ADDRESS',
                        help='PCI address of a device, [DOMAIN:]BUS:SLOT.'
                        'FUNCTION; default: all devices of vfio drivers')
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--check', action='store_true',
                      help='print only the report')
    what.add_argument('--command', action='store_true',
                      help='print only the command line')
    what.add_argument('--libvirt', action='store_true',
                      help='print the XML of a libvirt domain')
    what.add_argument('--json', action='store_true',
                      help='print all of it as one JSON object')
    parser.add_argument('--machine', choices=sorted(QEMU),
                        help='machine of the guest (default: the one of this '
                        "host's architecture)")
    parser.add_argument('--memory', type=size, default=8 << 30, metavar='SIZE',
                        help="the guest's RAM (default: 8G, or that of the "
                        '--domain)')
    parser.add_argument('--window', type=size, metavar='SIZE',
                        help='size of each window, a multiple of 256M '
                        "(default: the device's memory, plus 1G for "
                        'alignment if it has 1G or more)')
    parser.add_argument('--accel', choices=('kvm', 'tcg'),
                        help='accelerator (default: kvm if it works)')
    parser.add_argument('--iommufd', action='store_true',
                        help='use iommufd instead of the legacy container')
    parser.add_argument('--smmuv3', choices=('auto', 'on', 'off'),
                        default='auto', help='give the guest accelerated '
                        'SMMUv3s, which imply --iommufd and, for --libvirt, '
                        'libvirt 12.8 (default: if the guest is virt with KVM '
                        'and all devices are behind an SMMUv3)')
    parser.add_argument('--nodes', type=int, metavar='N',
                        help='NUMA nodes for parts of each device (default: '
                        f'{plan.GPU_NODES} with SMMUv3s, otherwise 0)')
    parser.add_argument('--cpus', type=int, default=1, metavar='N',
                        help='number of vCPUs (default: 1, or that of the '
                        '--domain)')
    parser.add_argument('--firmware', metavar='PATH', default=host.firmware(),
                        help='UEFI firmware of a guest with SMMUv3s (default: '
                        '%(default)s)')
    parser.add_argument('--qemu', metavar='PATH',
                        help='program to run (default: qemu-system-ARCH)')
    parser.add_argument('--domain', metavar='FILE',
                        help='with --libvirt: add the devices to the domain '
                        'in this file (-: standard input)')
    parser.add_argument('--managed', action='store_true',
                        help='with --libvirt: libvirt binds the device to '
                        'vfio-pci and back (hostdev managed=yes)')
    args = parser.parse_args()
    if (args.domain or args.managed) and not args.libvirt:
        parser.error('--domain and --managed need --libvirt')
    if args.window and args.window % plan.WINDOW_UNIT:
        parser.error('--window must be a multiple of 256M')
    if args.cpus < 1 or (args.nodes or 0) < 0:
        parser.error('--cpus and --nodes take a positive number')
    addresses = [host.full_address(text) for text in args.address]
    for given, address in zip(args.address, addresses):
        if address is None:
            parser.error(f"'{given}' is not a PCI address such as "
                         '0000:c1:00.0')
    if len(set(addresses)) < len(addresses):
        parser.error('a device is specified twice')
    args.address = addresses or bound_devices()
    if len(args.address) > plan.MAX_DEVICES:
        parser.error(f'no more than {plan.MAX_DEVICES} devices')
    if args.machine is None:
        args.machine = 'virt' if os.uname().machine == 'aarch64' else 'q35'
    if args.smmuv3 == 'on' and args.machine != 'virt':
        parser.error('--smmuv3=on needs --machine=virt')
    return args


def bound_devices() -> List[str]:
    """Addresses of the devices that are bound to a VFIO driver."""
    try:
        names = sorted(os.listdir(host.DEVICES))
    except OSError:
        return []
    return [name for name in names
            if 'vfio' in os.path.basename(os.path.realpath(
                host.DEVICES / name / 'driver'))]


def look(args: argparse.Namespace, report: host.Report) -> List[host.Device]:
    """Check each device."""
    devices = [host.Device(address) for address in args.address]
    if not devices:
        report.add('host', 'devices', 'FAIL', 'no device is bound to '
                   'vfio-pci; specify an address to see how')
    for device in devices:
        if not host.check_identity(device, report):
            continue
        bound = host.check_driver(device, report)
        host.check_group(device, report)
        if bound:
            host.check_offer(device, report)
    return devices


def check_smmus(args: argparse.Namespace, devices: List[host.Device],
                kvm: bool, report: host.Report) -> bool:
    """Whether the guest gets SMMUv3s."""
    possible = args.machine == 'virt' and kvm and \
        any(host.behind_smmu(device) for device in devices)
    if args.smmuv3 == 'off' or (args.smmuv3 == 'auto' and not possible):
        return False
    if not kvm:
        report.add('host', 'smmu', 'warn', 'QEMU refuses accelerated SMMUv3s '
                   'without KVM')
    for device in devices:
        if device.offer.memory:
            host.check_smmu(device, 'FAIL' if args.smmuv3 == 'on' else 'note',
                            report)
    return all(device.smmu for device in devices if device.offer.memory)


def make_plan(args: argparse.Namespace, devices: List[host.Device],
              kvm: bool, smmus: bool) -> plan.Plan:
    """Plan for the guest, without devices that cannot be used."""
    guest = plan.Plan(args.machine, args.memory, [], args.iommufd or smmus, kvm,
                      nodes=plan.GPU_NODES if smmus else 0, cpus=args.cpus,
                      firmware=args.firmware)
    if args.nodes is not None:
        guest.nodes = args.nodes
    # The last device behind each of the host's SMMUs
    behind: Dict[str, plan.Slot] = {}
    for device in devices:
        memory = device.offer.memory
        if not memory:
            continue
        slot = plan.Slot(device.address, len(guest.slots), args.window or
                         plan.window_size(memory), len(guest.bridges))
        last = behind.get(device.iommu) if smmus else None
        if last and last.port + 1 < plan.MAX_PORTS:
            slot.bridge, slot.port = last.bridge, last.port + 1
        elif device.smmu and smmus:
            guest.smmus.append(device.smmu)
        behind[device.iommu] = slot
        guest.slots.append(slot)
        guest.bars += device.offer.bars
    return guest


def check_plan(guest: plan.Plan, devices: List[host.Device], bits: int,
               report: host.Report) -> None:
    """Check that windows hold the memory and fit the address space."""
    for slot in guest.slots:
        offer = next(d.offer for d in devices if d.address == slot.address)
        if offer.memory > slot.window:
            report.add(slot.address, 'window', 'FAIL',
                       f'{host.size_text(slot.window)} is too small for '
                       f'{host.size_text(offer.memory)} of memory')
        if guest.iommufd and not offer.exported:
            report.add(slot.address, 'dma', 'note', 'this kernel exports no '
                       'dma-buf of the memory: through iommufd, DMA of the '
                       'device (with ATS) and of others does not reach it')
    for bridge, smmu in enumerate(guest.smmus):
        if guest.bits > smmu.oas:
            address = next(slot.address for slot in guest.slots
                           if slot.bridge == bridge)
            report.add(address, 'smmu', 'FAIL', f'the guest needs {guest.bits} '
                       f'bits of physical address, its SMMUv3 has {smmu.oas}')
    if guest.kvm and guest.bits > bits:
        report.add('host', 'address', 'FAIL', f'the guest needs {guest.bits} '
                   f'bits of physical address, the CPU has {bits}: use less '
                   'memory or fewer devices')
    elif guest.slots:
        report.add('host', 'address', 'ok', f'the guest needs {guest.bits} '
                   f'bits of physical address')


def write_report(report: host.Report, stream: TextIO) -> None:
    """One line for each finding."""
    width = max((len(f.subject) for f in report.findings), default=0)
    for item in report.findings:
        print(f'{item.verdict:<5} {item.subject:<{width}} {item.check:<8} '
              f'{item.text}', file=stream)


def as_json(args: argparse.Namespace, report: host.Report,
            devices: List[host.Device], guest: plan.Plan,
            words: List[str], xml: str) -> str:
    """Everything, for programs."""
    result: Dict[str, Any] = {
        'usable': not report.failed,
        'findings': [asdict(item) for item in report.findings],
        'devices': [asdict(device) for device in devices],
        'machine': args.machine,
        'windows': [asdict(slot) for slot in guest.slots],
        'command': words,
        'libvirt': xml,
    }
    return json.dumps(result, indent=2)


def domain_text(args: argparse.Namespace) -> Optional[str]:
    """The domain to add to."""
    if not args.domain:
        return None
    try:
        if args.domain == '-':
            return sys.stdin.read()
        return Path(args.domain).read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as err:
        raise plan.PlanError(f'{args.domain}: {err}') from err


def usage(text: str) -> int:
    """Report a usage error."""
    print(f'vfio-cxl-host.py: {text}', file=sys.stderr)
    return 2


def main() -> int:
    """Check the host, then print."""
    args = parse()
    report = host.Report()
    qemu = args.qemu or QEMU[args.machine]
    # libvirt wants a path
    found = shutil.which(qemu)
    emulator = os.path.abspath(found) if found else qemu
    try:
        domain = domain_text(args)
        if args.libvirt and not found and (args.qemu or domain is None):
            raise plan.PlanError(f'{qemu}: no such program; give its path with '
                                 '--qemu')
    except plan.PlanError as err:
        return usage(str(err))
    host.check_kernel(report)
    kvm = args.accel != 'tcg' and host.check_kvm(args.machine, report)
    if args.accel == 'kvm' and not kvm:
        report.add('host', 'kvm', 'FAIL', 'KVM was requested, but is not '
                   'available')
    devices = look(args, report)
    smmus = check_smmus(args, devices, kvm, report)
    guest = make_plan(args, devices, kvm, smmus)
    bits = host.address_bits(args.machine, kvm)
    words: List[str] = []
    xml = ''
    try:
        if guest.slots:
            guest.check()
            # Takes the size of memory and number of CPUs from the domain
            xml = libvirt.text(guest, emulator, bits, args.managed, domain,
                               bool(args.qemu))
            words = plan.command(guest, qemu, bits)
    except plan.PlanError as err:
        return usage(str(err))
    check_plan(guest, devices, bits, report)
    host.check_memlock(guest.ram, report)

    if args.json:
        print(as_json(args, report, devices, guest, words, xml))
    else:
        write_report(report, sys.stderr if args.command or args.libvirt
                     else sys.stdout)
    if not report.failed and not args.json and not args.check:
        if not args.command and not args.libvirt:
            print()
        print(xml if args.libvirt else plan.shell(words))
    return int(report.failed)


if __name__ == '__main__':
    sys.exit(main())
