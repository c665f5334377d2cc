# SPDX-License-Identifier: GPL-2.0-or-later
"""
The devices as XML for libvirt.

libvirt supports neither CXL host bridges nor CXL root ports. But it creates
devices of other kinds in the right place and order, and <qemu:override>
replaces their properties, including the driver. Windows are options of the
machine, which QEMU merges regardless of their position on the command line.

For accelerated SMMUv3s, iommufd and nodes that belong to a device libvirt has
elements of its own, since 12.8 or before.
"""

import re
import xml.etree.ElementTree as ET
from typing import Dict, List, Optional

from .plan import (BUS_STEP, Plan, PlanError, Slot, bus, cpu, machine,
                   windows)

QEMU_NS = 'http://libvirt.org/schemas/domain/qemu/1.0'
ET.register_namespace('qemu', QEMU_NS)

ARCH = {'q35': 'x86_64', 'virt': 'aarch64'}

# Of CPU models that do not take them from the host
DEFAULT_PHYS_BITS = 40
BUSES = 256


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
    ET.SubElement(domain, 'vcpu').text = str(plan.cpus)
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
    limit = domain.find('maxMemory')
    if limit is not None:
        plan.hotplug = max(0, _memory(limit) - plan.ram) + \
            (int(limit.get('slots', '0')) << 30)
    plan.cpus = int(domain.findtext('vcpu') or '1')
    for arg in domain.iter(f'{{{QEMU_NS}}}arg'):
        if 'cxl-fmw' in arg.get('value', ''):
            raise PlanError('the domain has CXL windows already; remove '
                            'them and their devices first')
    for iommu in domain.findall('devices/iommu'):
        driver = iommu.find('driver')
        if plan.smmus and (driver is None or not driver.get('pciBus')):
            raise PlanError('the domain has an IOMMU for all of its devices; '
                            'remove it first, or use --smmuv3=off')
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


def _pci(parent: ET.Element, above: int, slot: int = 0) -> None:
    ET.SubElement(parent, 'address', type='pci', domain='0x0000',
                  bus=f'0x{above:02x}', slot=f'0x{slot:02x}', function='0x0')


def _hostdev(devices: ET.Element, address: str, managed: bool) -> ET.Element:
    """The domain's entry for the device, or a new one."""
    domain, bus, slot, function = re.split('[:.]', address)
    wanted = [int(v, 16) for v in (domain, bus, slot, function)]
    for known in devices.findall('hostdev'):
        source = known.find('source/address')
        if source is not None and known.get('type') == 'pci' and \
                [int(source.get(k, '0'), 0) for k in
                 ('domain', 'bus', 'slot', 'function')] == wanted:
            for tag in ('address', 'alias', 'acpi'):
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


def _phys_bits(domain: ET.Element, plan: Plan, bits: int) -> None:
    """Let the CPU have as many bits of address as the windows need."""
    kvm = domain.get('type') == 'kvm'
    processor = domain.find('cpu')
    if kvm:
        wanted = {'mode': 'passthrough'}
        enough = plan.bits <= DEFAULT_PHYS_BITS or (
            processor is not None and
            processor.get('mode') == 'host-passthrough')
    else:
        wanted = {'mode': 'emulate', 'bits': str(plan.bits)}
        enough = 'phys-bits' not in cpu(plan, bits)
    known = None if processor is None else processor.find('maxphysaddr')
    if known is not None and \
            int(known.get('bits') or known.get('limit') or 64) < plan.bits:
        enough = False
    if enough or plan.machine != 'q35':
        return
    if processor is None:
        processor = ET.SubElement(domain, 'cpu', mode='host-passthrough' if kvm
                                  else 'maximum')
    for old in processor.findall('maxphysaddr'):
        processor.remove(old)
    ET.SubElement(processor, 'maxphysaddr', wanted)


def _free_bus(devices: ET.Element, count: int) -> int:
    """How far to shift our numbers of buses because of those in use."""
    taken = [int(target.get('busNr', '0'), 0) for target in
             devices.findall('controller/target')]
    for shift in range(0, BUSES - bus(count) + 1, BUS_STEP):
        if not any(bus(0) + shift - BUS_STEP < number < bus(count) + shift
                   for number in taken):
            return shift
    raise PlanError('the domain has no numbers left for the buses of more host '
                    'bridges')


def _smmu(devices: ET.Element, plan: Plan, bridge: int, index: int) -> None:
    host = plan.smmus[bridge]
    iommu = ET.SubElement(devices, 'iommu', model='smmuv3')
    ET.SubElement(iommu, 'driver', pciBus=str(index), accel='on',
                  ats='on' if host.ats else 'off', ril='off',
                  ssidsize=str(host.ssidsize), oas=str(host.oas))
    ET.SubElement(iommu, 'alias', name=f'ua-smmu{bridge}')


def _iommufd(domain: ET.Element, hostdev: ET.Element) -> None:
    if domain.find('iommufd') is None:
        ET.SubElement(domain, 'iommufd', enabled='yes')
    driver = hostdev.find('driver')
    if driver is None:
        driver = ET.SubElement(hostdev, 'driver', name='vfio')
    driver.set('iommufd', 'yes')


def _ras(domain: ET.Element) -> None:
    features = domain.find('features')
    if features is None:
        features = ET.SubElement(domain, 'features')
    if features.find('ras') is None:
        ET.SubElement(features, 'ras', state='on')


def _cells(domain: ET.Element, plan: Plan) -> int:
    """The nodes for the devices; returns the first."""
    processor = domain.find('cpu')
    if processor is None:
        processor = ET.SubElement(domain, 'cpu')
    numa = processor.find('numa')
    if numa is None:
        numa = ET.SubElement(processor, 'numa')
        ET.SubElement(numa, 'cell', id='0', cpus=f'0-{plan.cpus - 1}',
                      memory=str(plan.ram >> 10), unit='KiB')
    first = len(numa.findall('cell'))
    for node in range(first, first + plan.nodes * len(plan.slots)):
        ET.SubElement(numa, 'cell', id=str(node), memory='0', unit='KiB')
    return first


def _add_device(domain: ET.Element, plan: Plan, slot: Slot, index: int,
                hostdev: ET.Element) -> None:
    alias = f'ua-cxl{slot.number}'
    ET.SubElement(hostdev, 'alias', name=alias)
    _pci(hostdev, index)
    _override(domain, f'pci.{index}', driver='string:cxl-rp')
    extra = {}
    if plan.smmus:
        _iommufd(domain, hostdev)
    elif plan.iommufd:
        extra['iommufd'] = 'string:iommufd0'
    _override(domain, alias, x__cxl='string:on', **extra)


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
    first = _cells(domain, plan) if plan.nodes else 0
    shift = _free_bus(devices, len(plan.bridges))
    bridges: List[str] = []
    for bridge in plan.bridges:
        above = index
        bridges.append(f'pci.{above}')
        _controller(devices, above, 'pcie-expander-bus',
                    {'busNr': str(bus(bridge) + shift)})
        _override(domain, f'pci.{above}', driver='string:pxb-cxl',
                  hdm_for_passthrough='bool:true')
        if plan.smmus:
            _smmu(devices, plan, bridge, above)
        for slot in plan.slots:
            if slot.bridge != bridge:
                continue
            index += 1
            port = _controller(devices, index, 'pcie-root-port',
                               {'chassis': str(index),
                                'port': f'{slot.port:#x}'})
            _pci(port, above, slot.port)
            hostdev = _hostdev(devices, slot.address, managed)
            _add_device(domain, plan, slot, index, hostdev)
            if plan.nodes:
                nodes = plan.slot_nodes(slot, first)
                ET.SubElement(hostdev, 'acpi',
                              nodeset=f'{nodes[0]}-{nodes[-1]}')
        index += 1
    if plan.smmus:
        _ras(domain)
    arguments = _section(domain, 'commandline')
    words = ['-machine', ','.join([windows(plan, bridges), *machine(plan)])]
    if plan.iommufd and not plan.smmus:
        words += ['-object', 'iommufd,id=iommufd0']
    for word in words:
        _qemu(arguments, 'arg', value=word)
    _phys_bits(domain, plan, bits)


def text(plan: Plan, emulator: str, bits: int, managed: bool,
         source: Optional[str], replace: bool) -> str:
    """
    The XML of a domain that has the devices of a plan.

    @source: XML of a domain that gets them
    @replace: it gets the emulator, too
    """
    domain = skeleton(plan, emulator) if source is None else \
        read(source, plan)
    if source is not None and replace:
        devices = domain.find('devices')
        assert devices is not None
        for old in devices.findall('emulator'):
            devices.remove(old)
        ET.SubElement(devices, 'emulator').text = emulator
    add(domain, plan, bits, managed)
    ET.indent(domain)
    return ET.tostring(domain, encoding='unicode')
