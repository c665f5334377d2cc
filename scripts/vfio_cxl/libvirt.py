# SPDX-License-Identifier: GPL-2.0-or-later
"""
The devices as XML for libvirt.

libvirt supports neither CXL host bridges nor CXL root ports. But it creates
devices of other kinds in the right place and order, and <qemu:override>
replaces their properties, including the driver. Windows are options of the
machine, which QEMU merges regardless of their position on the command line.
"""

import re
import xml.etree.ElementTree as ET
from typing import Dict, List, Optional

from .plan import Plan, PlanError, cpu, windows

QEMU_NS = 'http://libvirt.org/schemas/domain/qemu/1.0'
ET.register_namespace('qemu', QEMU_NS)

ARCH = {'q35': 'x86_64', 'virt': 'aarch64'}


def _qemu(parent: ET.Element, tag: str, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, f'{{{QEMU_NS}}}{tag}', attributes)


def _section(domain: ET.Element, tag: str) -> ET.Element:
    found = domain.find(f'{{{QEMU_NS}}}{tag}')
    return _qemu(domain, tag) if found is None else found


def _override(domain: ET.Element, alias: str, **properties: str) -> None:
    device = _qemu(_section(domain, 'override'), 'device', alias=alias)
    frontend = _qemu(device, 'frontend')
    for name, value in properties.items():
        kind, _, text = value.partition(':')
        _qemu(frontend, 'property', name=name.replace('__', '-'), type=kind,
              value=text)


def skeleton(plan: Plan, emulator: str) -> ET.Element:
    """A domain without disks and networks, if the user has none yet."""
    domain = ET.Element('domain', type='kvm' if plan.kvm else 'qemu')
    ET.SubElement(domain, 'name').text = 'cxl'
    ET.SubElement(domain, 'memory', unit='MiB').text = str(plan.ram >> 20)
    ET.SubElement(domain, 'vcpu').text = '1'
    system = ET.SubElement(domain, 'os')
    if plan.machine == 'virt':
        system.set('firmware', 'efi')
    ET.SubElement(system, 'type', arch=ARCH[plan.machine],
                  machine=plan.machine).text = 'hvm'
    features = ET.SubElement(domain, 'features')
    ET.SubElement(features, 'acpi')
    if plan.machine == 'virt':
        ET.SubElement(features, 'gic', version='3')
    processor = ET.SubElement(domain, 'cpu', mode='host-passthrough'
                              if plan.kvm else 'maximum')
    if not plan.kvm and plan.machine == 'q35':
        ET.SubElement(processor, 'feature', policy='disable',
                      name='hypervisor')
    devices = ET.SubElement(domain, 'devices')
    ET.SubElement(devices, 'emulator').text = emulator
    return domain


def read(text: str, plan: Plan) -> ET.Element:
    """
    A domain to add the devices to.

    Raises: PlanError if it is not one for this machine, or has windows
    """
    try:
        domain = ET.fromstring(text)
    except ET.ParseError as err:
        raise PlanError(f'the domain is not XML: {err}') from err
    kind = domain.find('os/type')
    if domain.tag != 'domain' or kind is None or \
            domain.find('devices') is None:
        raise PlanError('this is not the XML of a libvirt domain')
    machine = kind.get('machine', '')
    if plan.machine not in machine:
        raise PlanError(f'the domain is for the machine {machine or "?"}; use '
                        f'--machine, or another domain')
    memory = domain.find('memory')
    if memory is not None:
        plan.ram = _memory(memory)
    for arg in domain.iter(f'{{{QEMU_NS}}}arg'):
        if 'cxl-fmw' in arg.get('value', ''):
            raise PlanError('the domain has CXL windows already; remove '
                            'them and their devices first')
    return domain


def _memory(element: ET.Element) -> int:
    units = {'b': 1, 'bytes': 1, 'k': 1 << 10, 'm': 1 << 20, 'g': 1 << 30,
             't': 1 << 40}
    unit = element.get('unit', 'KiB').lower()
    try:
        size = int(element.text or '')
    except ValueError as err:
        raise PlanError(f'<memory> is {element.text}') from err
    if re.fullmatch(r'[kmgt]b', unit):
        return size * 1000 ** ('kmgt'.index(unit[0]) + 1)
    return size * units.get(unit if unit in units else unit[0], 1024)


def _controller(devices: ET.Element, index: int, model: str,
                target: Dict[str, str]) -> ET.Element:
    controller = ET.SubElement(devices, 'controller', type='pci',
                               index=str(index), model=model)
    ET.SubElement(controller, 'target', target)
    return controller


def _pci(parent: ET.Element, bus: int) -> None:
    ET.SubElement(parent, 'address', type='pci', domain='0x0000',
                  bus=f'0x{bus:02x}', slot='0x00', function='0x0')


def _hostdev(devices: ET.Element, address: str, managed: bool) -> ET.Element:
    """The domain's entry for the device, or a new one."""
    domain, bus, slot, function = re.split('[:.]', address)
    wanted = [int(v, 16) for v in (domain, bus, slot, function)]
    for known in devices.findall('hostdev'):
        source = known.find('source/address')
        if source is not None and known.get('type') == 'pci' and \
                [int(source.get(k, '0'), 0) for k in
                 ('domain', 'bus', 'slot', 'function')] == wanted:
            for tag in ('address', 'alias'):
                for old in known.findall(tag):
                    known.remove(old)
            return known
    hostdev = ET.SubElement(devices, 'hostdev', mode='subsystem', type='pci',
                            managed='yes' if managed else 'no')
    ET.SubElement(hostdev, 'driver', name='vfio')
    source = ET.SubElement(hostdev, 'source')
    ET.SubElement(source, 'address', domain=f'0x{domain}', bus=f'0x{bus}',
                  slot=f'0x{slot}', function=f'0x{function}')
    return hostdev


def _phys_bits(domain: ET.Element, bits: int) -> None:
    processor = domain.find('cpu')
    if processor is None:
        processor = ET.SubElement(domain, 'cpu', mode='maximum')
    for old in processor.findall('maxphysaddr'):
        processor.remove(old)
    ET.SubElement(processor, 'maxphysaddr', mode='emulate', bits=str(bits))


def add(domain: ET.Element, plan: Plan, bits: int, managed: bool) -> None:
    """Give a domain the devices of a plan."""
    devices = domain.find('devices')
    assert devices is not None
    used = [int(c.get('index', '0'))
            for c in devices.findall("controller[@type='pci']")]
    if not used:
        ET.SubElement(devices, 'controller', type='pci', index='0',
                      model='pcie-root')
    index = max(used, default=0) + 1
    bridges: List[str] = []
    for slot in plan.slots:
        bridges.append(f'pci.{index}')
        _controller(devices, index, 'pcie-expander-bus',
                    {'busNr': str(slot.bus)})
        port = _controller(devices, index + 1, 'pcie-root-port',
                           {'chassis': str(index + 1), 'port': '0x0'})
        _pci(port, index)
        hostdev = _hostdev(devices, slot.address, managed)
        alias = f'ua-cxl{slot.number}'
        ET.SubElement(hostdev, 'alias', name=alias)
        _pci(hostdev, index + 1)
        _override(domain, f'pci.{index}', driver='string:pxb-cxl',
                  hdm_for_passthrough='bool:true')
        _override(domain, f'pci.{index + 1}', driver='string:cxl-rp')
        extra = {'iommufd': 'string:iommufd0'} if plan.iommufd else {}
        _override(domain, alias, x__cxl='string:on', **extra)
        index += 2
    arguments = _section(domain, 'commandline')
    words = ['-machine', windows(plan, bridges)]
    if plan.iommufd:
        words += ['-object', 'iommufd,id=iommufd0']
    for word in words:
        _qemu(arguments, 'arg', value=word)
    if 'phys-bits' in cpu(plan, bits):
        _phys_bits(domain, plan.bits)


def text(plan: Plan, emulator: str, bits: int, managed: bool,
         source: Optional[str]) -> str:
    """The XML of a domain that has the devices of a plan."""
    domain = skeleton(plan, emulator) if source is None else \
        read(source, plan)
    add(domain, plan, bits, managed)
    ET.indent(domain)
    return ET.tostring(domain, encoding='unicode')
