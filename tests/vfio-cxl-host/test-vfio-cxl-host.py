#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Tests of scripts/vfio-cxl-host.py on the host that vfio-sim makes.

The environment sets what is tested: VFIO_CXL_HOST, QEMU_X86_64 and
QEMU_AARCH64 (each may be missing), and VFIO_SIM if vfio-sim is not in PATH.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, Dict, List, Tuple

SIM = os.environ.get('VFIO_SIM') or shutil.which('vfio-sim') or ''
TOOL = os.environ.get('VFIO_CXL_HOST', '')
QEMU = {'q35': os.environ.get('QEMU_X86_64', ''),
        'virt': os.environ.get('QEMU_AARCH64', '')}
QEMU_NS = '{http://libvirt.org/schemas/domain/qemu/1.0}'
ENV = {**os.environ, 'PYTHONDONTWRITEBYTECODE': '1'}


def run(words: List[str], sim: Tuple[str, ...] = (), text: str = '') -> \
        'subprocess.CompletedProcess[str]':
    """Run a command on a simulated host."""
    return subprocess.run([SIM, *sim, '--', *words], input=text, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=60, check=False, env=ENV)


def tool(*args: str, sim: Tuple[str, ...] = (), text: str = '') -> \
        'subprocess.CompletedProcess[str]':
    """Run the program."""
    return run([sys.executable, TOOL, *args], sim, text)


def ask(*args: str, sim: Tuple[str, ...] = ()) -> Dict[str, Any]:
    """Its JSON; the status must say the same."""
    done = tool('--json', '--accel', 'tcg', *args, sim=sim)
    reply = json.loads(done.stdout)
    assert done.returncode == int(not reply['usable']), done
    return reply


def failures(reply: Dict[str, Any]) -> List[str]:
    """The problems that the program reports."""
    return [f['text'] for f in reply['findings'] if f['verdict'] == 'FAIL']


def verdicts(reply: Dict[str, Any], check: str) -> List[str]:
    """'verdict text' of one check."""
    return [f'{f["verdict"]} {f["text"]}' for f in reply['findings']
            if f['check'] == check]


class TestGenerations(unittest.TestCase):
    """The kernel is recognised as QEMU recognises it."""

    KERNELS = ('v2', 'v2-reset', 'v3', 'v4', 'v5', 'v6')

    def test_recognised(self) -> None:
        for kernel in self.KERNELS:
            with self.subTest(kernel):
                reply = ask('c1:00.0', sim=(f'--kernel={kernel}',
                                            '--memory=2G'))
                self.assertTrue(reply['usable'], failures(reply))
                offer = reply['devices'][0]['offer']
                self.assertEqual(offer['generation'], kernel[:2])
                self.assertEqual(offer['memory'], 2 << 30)
                self.assertTrue(offer['committed'])
                self.assertTrue(offer['mappable'])

    def test_through_iommufd(self) -> None:
        script = ('import sys; sys.path.insert(0, sys.argv[1]);'
                  'from vfio_cxl import vfio, host; from unittest import mock;'
                  'node = {"iommufd": "/dev/vfio/devices/vfio0"};'
                  'vfio.nodes = lambda sysfs: node;'
                  'd = host.Device("0000:c1:00.0");'
                  'o = vfio.ask(d.sysfs, d.address);'
                  'print(o.interface, o.generation, o.memory)')
        for kernel in self.KERNELS:
            done = run([sys.executable, '-c', script,
                        os.path.dirname(TOOL)], (f'--kernel={kernel}',))
            self.assertEqual(done.stdout,
                             f'iommufd {kernel[:2]} {256 << 20}\n',
                             done.stderr)


class TestProblems(unittest.TestCase):
    """Problems are named, and the status shows failure."""

    def fails(self, check: str, words: str, *args: str,
              sim: Tuple[str, ...] = ()) -> None:
        reply = ask(*(args or ('c1:00.0',)), sim=sim)
        self.assertFalse(reply['usable'])
        said = verdicts(reply, check)
        self.assertTrue(any(v.startswith('FAIL') and words in v
                            for v in said), said)

    def test_plain_pci(self) -> None:
        self.fails('kernel', 'ordinary PCI', sim=('--kernel=none',))

    def test_not_mappable(self) -> None:
        self.fails('memory', 'does not allow it to be mapped',
                   sim=('--kernel=v2-nommap',))

    def test_not_committed(self) -> None:
        self.fails('memory', 'not committed', sim=(
            '--kernel=v4', '--set=0000:c1:00.0 hardware-committed=0'))

    def test_interleaved(self) -> None:
        self.fails('memory', 'interleaved', sim=('--mangle=hdm-interleaved',))

    def test_decoders(self) -> None:
        for kernel, mangle, words in (
                ('v6', 'count-20', '20 decoders; with v6, QEMU supports 1'),
                ('v2', 'count-20', '20 decoders; with v2, QEMU supports 10'),
                ('v6', 'count-reserved', 'a reserved number of decoders')):
            self.fails('memory', words, sim=(f'--kernel={kernel}',
                                             f'--mangle=hdm-{mangle}'))

    def test_no_reset(self) -> None:
        self.fails('kernel', 'cannot reset', sim=('--mangle=device-no-reset',))

    def test_not_bound(self) -> None:
        library = subprocess.run([SIM, '--library'], stdout=subprocess.PIPE,
                                 text=True, timeout=60, check=True).stdout
        with tempfile.TemporaryDirectory() as state:
            subprocess.run([SIM, '--prepare', state], timeout=60, check=True)
            os.unlink(f'{state}/sys/devices/pci0000:c0/0000:c1:00.0/driver')
            done = subprocess.run(
                [sys.executable, TOOL, '--check', 'c1:00.0'], text=True,
                stdout=subprocess.PIPE, timeout=60, check=False,
                env={**ENV, 'LD_PRELOAD': library.strip(),
                     'VFIO_SIM_DIR': state})
        self.assertEqual(done.returncode, 1)
        self.assertIn('driverctl', done.stdout)

    def test_group_not_viable(self) -> None:
        self.fails('kernel', 'not viable',
                   sim=('--set=0000:c1:00.0 viable=0',))

    def test_kernel_refuses(self) -> None:
        self.fails('kernel', 'Input/output error', sim=(
            '--fault=0000:c1:00.0 device_get_info errno=5',))

    def test_malformed(self) -> None:
        """There is a report for any reply of the kernel."""
        text = subprocess.run([SIM, '--mangle=help'], stdout=subprocess.PIPE,
                              text=True, timeout=60, check=True).stdout
        names = re.findall(r'^  (\S+) +(?:\* )?(v\d)', text, re.MULTILINE)
        self.assertGreater(len(names), 50)
        for name, kernel in names:
            if not name.startswith(('device-', 'form-', 'region-')):
                continue
            done = tool('--check', 'c1:00.0', sim=(f'--kernel={kernel}',
                                                   f'--mangle={name}'))
            self.assertNotIn('Traceback', done.stderr, name)
            self.assertIn(done.returncode, (0, 1), name)
            self.assertIn('driver', done.stdout)

    def test_no_such_device(self) -> None:
        self.fails('device', 'no such device', 'ff:1f.7')

    def test_small_window(self) -> None:
        self.fails('window', 'too small', '--window', '256M', 'c1:00.0',
                   sim=('--memory=1G',))

    def test_in_use(self) -> None:
        holder = ('import os, subprocess, sys;'
                  'fd = os.open("/dev/vfio/1", os.O_RDWR);'
                  'sys.exit(subprocess.run(sys.argv[1:]).returncode)')
        done = run([sys.executable, '-c', holder, sys.executable, TOOL,
                    '--check', 'c1:00.0'])
        self.assertEqual(done.returncode, 1)
        self.assertIn('in use', done.stdout)

    def test_usage(self) -> None:
        self.assertIn('No such file', tool(
            '--libvirt', '--domain', '/nonexistent', 'c1:00.0').stderr)
        for args in (['c1:00'], ['c1:00.0', '0000:c1:00.0'], ['--bogus'],
                     ['--window', '100M'], ['--domain', '-', 'c1:00.0'],
                     ['--libvirt', '--domain', '/nonexistent', 'c1:00.0']):
            done = tool(*args)
            self.assertEqual(done.returncode, 2, args)
            self.assertNotIn('Traceback', done.stderr)


def start(words: List[str], sim: Tuple[str, ...]) -> \
        'subprocess.CompletedProcess[str]':
    """Run QEMU until it has made the machine."""
    return run([*words, '-S', '-nodefaults', '-display', 'none',
                '-qmp', 'stdio'], sim,
               '{"execute": "qmp_capabilities"}{"execute": "quit"}')


class TestCommand(unittest.TestCase):
    """The printed command line starts."""

    def check(self, machine: str, *args: str, sim: Tuple[str, ...]) -> \
            List[str]:
        if not QEMU[machine]:
            self.skipTest('this QEMU is not built')
        if machine == 'virt':
            sim += ('--iova=arm',)
        reply = ask('--machine', machine, '--memory', '1G', '--qemu',
                    QEMU[machine], *args, sim=sim)
        self.assertTrue(reply['usable'], failures(reply))
        words: List[str] = reply['command']
        done = start(words, sim)
        # The v2 kernels have no dma-bufs. QEMU reports that once, and that
        # under iommufd there is no peer access.
        said = [line for line in done.stderr.splitlines()
                if 'VFIO dma-buf not supported in kernel' not in line]
        peer = [line for line in said
                if 'PCI peer-to-peer transactions' in line
                or 'vfio_container_dma_map(' in line
                or line.endswith('PCI BAR?')]
        self.assertEqual((done.returncode, said), (0, peer))
        self.assertEqual(bool(peer), '--iommufd' in args)
        return words

    def test_one(self) -> None:
        for machine in QEMU:
            with self.subTest(machine):
                self.check(machine, 'c1:00.0', sim=('--memory=1G',))

    def test_four_through_iommufd(self) -> None:
        for machine in QEMU:
            with self.subTest(machine):
                words = self.check(machine, '--iommufd',
                                   sim=('--devices=4', '--memory=512M'))
                self.assertEqual(sum(w.startswith('pxb-cxl') for w in words),
                                 4)

    def test_sixteen_large(self) -> None:
        sim = ('--devices=16', '--memory=256G')
        self.check('virt', sim=sim)
        words = self.check('q35', sim=sim)
        # With one bit less it would not start
        at = next(i for i, w in enumerate(words) if 'phys-bits=' in w)
        head, _, bits = words[at].rpartition('=')
        words[at] = f'{head}={int(bits) - 1}'
        done = start(words, sim)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn('phys-bits', done.stderr)

    def test_shell(self) -> None:
        """The text is the list, quoted for a shell."""
        args = ('--accel', 'tcg', '--qemu', '/no such/qemu', 'c1:00.0')
        text = tool('--command', *args).stdout
        done = subprocess.run(
            ['sh', '-c', f'show() {{ printf "%s\\n" "$@"; }}; show {text}'],
            stdout=subprocess.PIPE, text=True, timeout=60, check=True)
        self.assertEqual(done.stdout.splitlines(), ask(*args)['command'])


class TestSmmu(unittest.TestCase):
    """A host with SMMUv3s, and a guest with accelerated ones."""

    ON = ('--machine', 'virt', '--smmuv3', 'on')

    def devices(self, reply: Dict[str, Any], kind: str) -> List[Dict[str, str]]:
        """Properties of the devices of one kind on the command line."""
        return [dict(part.split('=', 1) for part in word.split(',')[1:])
                for word in reply['command'] if word.startswith(kind + ',')]

    @staticmethod
    def starts() -> bool:
        """Whether this QEMU can do without KVM, which is for tests only."""
        return bool(QEMU['virt']) and 'x-accel-tcg' in subprocess.run(
            [QEMU['virt'], '-device', 'arm-smmuv3,help'], text=True,
            stdout=subprocess.PIPE, timeout=60, check=False).stdout

    def check(self, *args: str, sim: Tuple[str, ...]) -> Dict[str, Any]:
        """What is printed starts, with the test's property."""
        sim += ('--kernel=v6',)
        firmware = os.path.dirname(QEMU['virt']) + \
            '/pc-bios/edk2-aarch64-code.fd'
        reply = ask(*self.ON, '--memory', '1G', '--firmware', firmware, *args,
                    sim=sim)
        self.assertTrue(reply['usable'], failures(reply))
        if self.starts():
            done = start([QEMU['virt'], *(
                word.replace('accel=on,', 'accel=on,x-accel-tcg=on,')
                for word in reply['command'][1:])], sim)
            self.assertEqual((done.returncode, done.stderr), (0, ''))
        return reply

    def test_four(self) -> None:
        reply = self.check(sim=('--iommu=smmuv3', '--devices=4',
                                '--memory=256G'))
        smmus = self.devices(reply, 'arm-smmuv3')
        self.assertEqual(smmus[2], {
            'id': 'smmu2', 'primary-bus': 'cxl.2', 'accel': 'on', 'ats': 'on',
            'ril': 'off', 'oas': '48', 'ssidsize': '20'})
        self.assertEqual(len(smmus), 4)
        self.assertEqual([d['iommufd'] for d in
                          self.devices(reply, 'vfio-pci-nohotplug')],
                         ['iommufd0'] * 4)
        self.assertEqual([d['pci-dev'] for d in
                          self.devices(reply, 'acpi-generic-initiator')],
                         [f'accel{n // 8}' for n in range(32)])
        text = ' '.join(reply['command'])
        for word in ('ras=on', 'hmat=on', 'highmem-mmio-size=512G',
                     'cxl-fmw.3.targets.0=cxl.3,cxl-fmw.3.size=257G'):
            self.assertIn(word, text)
        self.assertIn('group 1, behind smmu3.0x', verdicts(reply, 'iommu')[0])
        self.assertIn('warn QEMU refuses accelerated SMMUv3s without KVM',
                      verdicts(reply, 'smmu'))

    def test_poor_host(self) -> None:
        reply = self.check('--nodes', '0', sim=(
            '--iommu=smmuv3,ats=off,pasid-bits=0,oas=44',))
        smmu = self.devices(reply, 'arm-smmuv3')[0]
        self.assertEqual([smmu[k] for k in ('ats', 'oas', 'ssidsize')],
                         ['off', '44', '0'])
        self.assertIn('ok 44 bits of address; ATS: no; PASIDs: no',
                      verdicts(reply, 'smmu'))
        self.assertNotIn('hmat=on', ' '.join(reply['command']))
        self.assertNotIn('acpi-generic-initiator', ' '.join(reply['command']))

    def test_shared(self) -> None:
        """The guest's devices share an SMMU as the host's do."""
        reply = self.check('c1:00.0', 'c3:00.0', 'c2:00.0', '--cpus', '2',
                           sim=('--iommu=smmuv3,smmus=2', '--devices=4'))
        ports = self.devices(reply, 'cxl-rp')
        self.assertEqual([(p['id'], p['bus'], p['port']) for p in ports],
                         [('cxl-rp0', 'cxl.0', '0'), ('cxl-rp2', 'cxl.0', '1'),
                          ('cxl-rp1', 'cxl.1', '0')])
        self.assertEqual(len(self.devices(reply, 'arm-smmuv3')), 2)
        self.assertIn('cxl-fmw.2.targets.0=cxl.0', ' '.join(reply['command']))

    def test_more_than_decoders(self) -> None:
        """A host bridge has four, so there is a second one."""
        reply = self.check('--nodes', '1', sim=('--iommu=smmuv3,smmus=1',
                                                '--devices=6'))
        self.assertEqual([p['bus'] for p in self.devices(reply, 'cxl-rp')],
                         ['cxl.0'] * 4 + ['cxl.1'] * 2)

    def test_problems(self) -> None:
        reply = ask(*self.ON)
        self.assertIn('not behind an SMMUv3', ' '.join(failures(reply)))
        self.assertNotIn('arm-smmuv3', ' '.join(reply['command']))
        reply = ask(*self.ON, sim=('--iommu=smmuv3,oas=44', '--devices=4',
                                   '--memory=4T'))
        self.assertIn('the guest needs 45 bits of physical address, its '
                      'SMMUv3 has 44', failures(reply))
        reply = ask(*self.ON, sim=('--iommu=smmuv3', '--fault=0000:c1:00.0 '
                                   'get_hw_info errno=95'))
        self.assertIn('does not describe its IOMMU: Operation not supported',
                      ' '.join(failures(reply)))
        for args in ((*self.ON, '--nodes', '128'),
                     ('--machine', 'q35', '--smmuv3', 'on'),
                     (*self.ON, '--cpus', '0'), (*self.ON, '--nodes', '-1')):
            done = tool(*args, 'c1:00.0', sim=('--iommu=smmuv3',))
            self.assertEqual(done.returncode, 2, args)
            self.assertNotIn('Traceback', done.stderr)

    def test_no_dma_buf(self) -> None:
        for kernel, args, count in (('v4', self.ON, 1), ('v5', self.ON, 0),
                                    ('v4', (), 0), ('v4', ('--iommufd',), 1)):
            reply = ask(*args, sim=('--iommu=smmuv3', f'--kernel={kernel}'))
            self.assertTrue(reply['usable'])
            self.assertEqual(len(verdicts(reply, 'dma')), count, (kernel, args))

    def with_kvm(self, *args: str, sim: Tuple[str, ...],
                 more: str = '') -> Dict[str, Any]:
        """The reply on a host with KVM, which this one is not."""
        script = ('import runpy, sys; sys.path.insert(0, sys.argv[1]);'
                  'from vfio_cxl import host, vfio;'
                  'host.check_kvm = lambda machine, report: True;'
                  'host.address_bits = lambda machine, kvm: 48;' + more +
                  'del sys.argv[0]; path = sys.argv[0];'
                  'sys.argv[0] = path + "/vfio-cxl-host.py";'
                  'runpy.run_path(sys.argv[0], run_name="__main__")')
        done = run([sys.executable, '-c', script, os.path.dirname(TOOL),
                    '--json', '--machine', 'virt', *args], sim)
        reply: Dict[str, Any] = json.loads(done.stdout)
        return reply

    def test_auto(self) -> None:
        sim = ('--iommu=smmuv3', '--devices=2')
        reply = self.with_kvm(sim=sim)
        self.assertTrue(reply['usable'], failures(reply))
        self.assertEqual(len(self.devices(reply, 'arm-smmuv3')), 2)
        self.assertIn('<iommu ', reply['libvirt'])
        for text in (ask('--machine', 'virt', sim=sim),
                     self.with_kvm('--smmuv3', 'off', sim=sim),
                     self.with_kvm(sim=())):
            self.assertEqual(self.devices(text, 'arm-smmuv3'), [])
            self.assertEqual(verdicts(text, 'smmu'), [])

    def test_auto_without_iommufd(self) -> None:
        reply = self.with_kvm(sim=('--iommu=smmuv3',), more=(
            'known = vfio.nodes;'
            'vfio.nodes = lambda sysfs: {"legacy": known(sysfs)["legacy"]};'))
        self.assertTrue(reply['usable'], failures(reply))
        self.assertEqual(self.devices(reply, 'arm-smmuv3'), [])
        self.assertIn('CONFIG_VFIO_DEVICE_CDEV', verdicts(reply, 'smmu')[0])

    def test_registers(self) -> None:
        """What QEMU requires of the host's SMMU, and the hole for BARs."""
        script = '\n'.join((
            'import struct, sys; sys.path.insert(0, sys.argv[1])',
            'from vfio_cxl import plan, vfio',
            'def smmu(idr0=1 << 27 | 1 << 10 | 8, idr1=20 << 6 | 16, idr5=117'
            '):',
            '    return vfio.read_smmu(struct.pack("=10I", 0, 0, idr0, idr1, 0,'
            ' 0, 0, idr5, 0, 0), 20)',
            'print(smmu())',
            'for bad in ({"idr0": 8}, {"idr0": 1 << 27}, {"idr1": 15},'
            ' {"idr5": 115}, {"idr5": 101}, {"idr5": 85}, {"idr5": 53}):',
            '    print(smmu(**bad).trouble)',
            'guest = plan.Plan("virt", 1 << 30, [], smmus=[smmu()])',
            'for bars in (0, 1 << 38, (1 << 38) + 1, 1 << 40):',
            '    guest.bars = bars',
            '    print(guest.pci_hole >> 30, guest.bits)'))
        done = run([sys.executable, '-c', script, os.path.dirname(TOOL)])
        words = ('two-level', 'AArch64', '16 bits', '44 bits', '4K', '16K',
                 '64K')
        lines = done.stdout.splitlines()
        self.assertEqual(lines[0], 'Smmu(ats=True, oas=48, ssidsize=20, '
                         "pasid_bits=20, trouble='')", done.stderr)
        for line, word in zip(lines[1:8], words):
            self.assertIn(word, line)
        self.assertEqual(lines[8:], ['512 40', '512 40', '1024 41', '2048 42'])

    def test_libvirt(self) -> None:
        reply = ask(*self.ON, sim=('--iommu=smmuv3,smmus=1', '--devices=2'))
        domain = ET.fromstring(reply['libvirt'])
        iommus = domain.findall('devices/iommu')
        self.assertEqual([i.find('driver').attrib for i in iommus], [{
            'pciBus': '1', 'accel': 'on', 'ats': 'on', 'ril': 'off',
            'ssidsize': '20', 'oas': '48'}])
        self.assertEqual([i.attrib for i in domain.findall('iommufd')],
                         [{'enabled': 'yes'}])
        hostdevs = domain.findall('devices/hostdev')
        self.assertEqual([h.find('acpi').get('nodeset') for h in hostdevs],
                         ['1-8', '9-16'])
        self.assertEqual([h.find('driver').get('iommufd') for h in hostdevs],
                         ['yes'] * 2)
        self.assertEqual(len(domain.findall('cpu/numa/cell')), 17)
        self.assertEqual(domain.find('features/ras').get('state'), 'on')
        args = [a.get('value') for a in domain.iter(QEMU_NS + 'arg')]
        self.assertIn('highmem-mmio-size=512G', args[1])
        self.assertFalse(any('iommufd' in arg for arg in args))

    def test_into_domain(self) -> None:
        old = ("<domain type='kvm'><memory unit='GiB'>3</memory><vcpu>4</vcpu>"
               "<os><type arch='aarch64' machine='virt'>hvm</type></os>"
               "<cpu mode='host-passthrough'/><devices>{}<hostdev "
               "mode='subsystem' type='pci' managed='yes'><source><address "
               "domain='0x0000' bus='0xc1' slot='0x00' function='0x0'/>"
               '</source></hostdev></devices></domain>')
        args = ('--accel', 'tcg', *self.ON, '--libvirt', '--domain', '-',
                'c1:00.0')
        done = tool(*args, sim=('--iommu=smmuv3',), text=old.format(''))
        self.assertEqual(done.returncode, 0, done.stderr)
        domain = ET.fromstring(done.stdout)
        cell = domain.find('cpu/numa/cell')
        self.assertEqual((cell.get('cpus'), cell.get('memory')),
                         ('0-3', str(3 << 20)))
        self.assertEqual(len(domain.findall('devices/hostdev')), 1)
        for iommu, status in (("<iommu model='smmuv3'/>", 2),
                              ("<iommu model='smmuv3'><driver pciBus='0'/>"
                               '</iommu>', 0)):
            done = tool(*args, sim=('--iommu=smmuv3',),
                        text=old.format(iommu))
            self.assertEqual(done.returncode, status, done.stderr)


class TestLibvirt(unittest.TestCase):
    """The XML is as expected; libvirt's own tests define it."""

    OLD = '''<domain type='kvm'><name>old</name><memory unit='GiB'>3</memory>
      <os><type arch='x86_64' machine='pc-q35-10.2'>hvm</type></os><devices>
      <disk type='file' device='disk'><target dev='vda'/></disk>
      <controller type='pci' index='0' model='pcie-root'/>
      <controller type='pci' index='5' model='pcie-root-port'/>
      <hostdev mode='subsystem' type='pci' managed='yes'><source>
      <address domain='0x0000' bus='0xc1' slot='0x00' function='0x0'/>
      </source><address type='pci' bus='0x05' slot='0x00'/></hostdev>
      </devices></domain>'''

    def test_alone(self) -> None:
        reply = ask('--iommufd', '--machine', 'virt', sim=('--devices=2',))
        domain = ET.fromstring(reply['libvirt'])
        models = [c.get('model') for c in domain.iter('controller')]
        self.assertEqual(models, ['pcie-root'] + ['pcie-expander-bus',
                                                  'pcie-root-port'] * 2)
        args = [a.get('value') for a in domain.iter(QEMU_NS + 'arg')]
        self.assertIn('iommufd,id=iommufd0', args)
        self.assertEqual(len(domain.findall('devices/hostdev')), 2)

    def test_into_domain(self) -> None:
        done = tool('--libvirt', '--domain', '-', 'c1:00.0', 'c2:00.0',
                    sim=('--devices=2',), text=self.OLD)
        self.assertEqual(done.returncode, 0, done.stderr)
        domain = ET.fromstring(done.stdout)
        self.assertEqual(domain.findtext('name'), 'old')
        self.assertEqual(len(domain.findall('devices/disk')), 1)
        # The one that the domain had is moved, not doubled
        hostdevs = domain.findall('devices/hostdev')
        self.assertEqual([h.get('managed') for h in hostdevs], ['yes', 'no'])
        self.assertEqual([h.find('address').get('bus') for h in hostdevs],
                         ['0x07', '0x09'])
        aliases = [d.get('alias') for d in domain.iter(QEMU_NS + 'device')]
        self.assertEqual(aliases, ['pci.6', 'pci.7', 'ua-cxl0', 'pci.8',
                                   'pci.9', 'ua-cxl1'])

    def test_refused(self) -> None:
        first = tool('--libvirt', '--qemu', QEMU['q35'], 'c1:00.0').stdout
        for text, words in ((first, 'windows already'), ('<x/>', 'not the'),
                            ('no', 'not XML'),
                            (self.OLD.replace('pc-q35-10.2', 'pc'), 'for the '
                             'machine pc')):
            done = tool('--libvirt', '--domain', '-', 'c1:00.0', text=text)
            self.assertEqual(done.returncode, 2)
            self.assertIn(words, done.stderr)

    def into_old(self, *args: str, old: str = '',
                 sim: Tuple[str, ...] = ()) -> ET.Element:
        done = tool('--libvirt', '--domain', '-', 'c1:00.0', *args,
                    text=old or self.OLD, sim=sim)
        self.assertEqual(done.returncode, 0, done.stderr)
        return ET.fromstring(done.stdout)

    def test_emulator(self) -> None:
        """A path, as libvirt wants it."""
        done = tool('--libvirt', '--qemu', QEMU['q35'], 'c1:00.0')
        self.assertEqual(ET.fromstring(done.stdout).findtext(
            'devices/emulator'), QEMU['q35'], done.stderr)
        self.assertEqual(
            [e.text for e in self.into_old('--qemu', QEMU['q35']).iter(
                'emulator')], [QEMU['q35']])
        self.assertIsNone(self.into_old().find('devices/emulator'))
        done = tool('--libvirt', '--qemu', 'no-such-qemu', 'c1:00.0')
        self.assertEqual(done.returncode, 2)
        self.assertIn('no-such-qemu', done.stderr)

    def test_more_bridges(self) -> None:
        bridge = ("<controller type='pci' index='6' model='pcie-expander-bus'>"
                  "<target busNr='{}'/></controller></devices>")
        for there, wanted in (('64', '72'), ('70', '80'), ('57', '72'),
                              ('56', '64'), ('0x20', '64'), ('254', '64')):
            domain = self.into_old(old=self.OLD.replace(
                '</devices>', bridge.format(there)))
            self.assertEqual([t.get('busNr') for t in domain.iter('target')
                              if t.get('busNr')], [there, wanted])
        full = self.OLD
        for number in range(64, 256, 8):
            full = full.replace('</devices>', bridge.format(number))
        done = tool('--libvirt', '--domain', '-', 'c1:00.0', text=full)
        self.assertEqual(done.returncode, 2)
        self.assertIn('no numbers left', done.stderr)

    def test_bits_of_domain(self) -> None:
        """With KVM only CPUs of the host's kind have its bits."""
        for cpu, sim, wanted in (
                ("<cpu mode='host-model'/>", ('--memory=2T',), 'passthrough'),
                ('', ('--memory=2T',), 'passthrough'),
                ("<cpu mode='host-passthrough'/>", ('--memory=2T',), None),
                ("<cpu mode='host-passthrough'><maxphysaddr mode='emulate' "
                 "bits='40'/></cpu>", ('--memory=2T',), 'passthrough'),
                ("<cpu mode='host-model'/>", ('--memory=2G',), None)):
            domain = self.into_old(
                '--accel', 'tcg', old=self.OLD.replace('<os>', cpu + '<os>'),
                sim=sim)
            bits = domain.find('cpu/maxphysaddr')
            self.assertEqual(None if bits is None else bits.get('mode'),
                             wanted, cpu)
        large = self.OLD.replace('<os>', "<maxMemory slots='1' unit='TiB'>2"
                                 "</maxMemory><cpu mode='host-model'/><os>")
        self.assertIsNotNone(self.into_old(
            '--accel', 'tcg', old=large, sim=('--memory=2G',)).find(
                'cpu/maxphysaddr'))

    def test_wide_addresses(self) -> None:
        reply = ask(sim=('--devices=16', '--memory=256G'))
        domain = ET.fromstring(reply['libvirt'])
        bits = domain.find('cpu/maxphysaddr')
        self.assertIsNotNone(bits)
        self.assertIn(f'phys-bits={bits.get("bits")}',
                      ' '.join(reply['command']))


class Tap(unittest.TestResult):
    """Results as TAP."""

    def line(self, good: bool, test: unittest.TestCase, rest: str = '') -> None:
        """One case."""
        print(f'{"ok" if good else "not ok"} {self.testsRun} '
              f'{test.id().partition(".")[2]}{rest}', flush=True)

    def addSuccess(self, test: unittest.TestCase) -> None:
        if not any(failed.id().startswith(test.id())
                   for failed, _ in self.failures + self.errors):
            self.line(True, test)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self.line(True, test, f' # SKIP {reason}')

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self.line(False, test)
        print('# ' + str(err[1]).replace('\n', '\n# '))

    addError = addFailure

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase,
                   err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.line(False, test)
            print('# ' + str(err[1]).replace('\n', '\n# '))


def main() -> int:
    """Run all."""
    suite = unittest.defaultTestLoader.loadTestsFromModule(
        sys.modules[__name__])
    print(f'1..{suite.countTestCases()}')
    with tempfile.TemporaryDirectory(prefix='vfio-cxl-host-') as place:
        os.chdir(place)
        result = Tap()
        suite.run(result)
        os.chdir('/')
    return int(not result.wasSuccessful())


if __name__ == '__main__':
    if not SIM:
        print('1..0 # SKIP vfio-sim is not installed and VFIO_SIM not set')
        sys.exit(0)
    if not Path(SIM).is_absolute() or not Path(TOOL).is_absolute():
        sys.exit(__doc__)
    sys.exit(main())
