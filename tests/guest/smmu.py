# Four accelerators as the hosts with such devices have them: each with a host
# bridge, an accelerated SMMUv3 and a fixed window of its own.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""A guest whose own SMMU driver translates for passed-through devices."""

import re
from typing import Dict, List

from boot import Backing, Case, Harness, pairs, vfio_device
from console import Session
from debian import GuestError
from life import device_arguments
from placement import expect, value
from tests import SessionTest, power_off
from topology import Topology

DEVICES = 4
# Each of these hosts' GPUs can be split into eight parts
NODES = 8
# The first device has bus 33, the second 65
BUSES = 32

EVENT = re.compile(r'event: (\S+) client: (\S+) sid: (\S+) ssid: (\S+) '
                   r'iova: (\S+) ipa: \S+')
REASON = re.compile(r'(unpriv|priv) (data|inst) (read|write) s1 "([^"]*)"')


def smmu(number: int) -> str:
    """The SMMU of a host bridge."""
    return (f'arm-smmuv3,id=smmu{number},primary-bus=cxl.{number},accel=on,'
            'x-accel-tcg=on,ats=on,ril=off,oas=48,ssidsize=16')


def topology() -> Topology:
    """Bridges, SMMUs and ports; the accelerators come last."""
    devices: List[str] = []
    for n in range(DEVICES):
        devices += [f'pxb-cxl,id=cxl.{n},bus=pcie.0,bus_nr={BUSES * (n + 1)}',
                    smmu(n), f'cxl-rp,id=rp{n},bus=cxl.{n},chassis={n},slot={n}']
    return Topology('four-smmus', 'pxb-cxl with an SMMUv3 -> cxl-rp',
                    tuple(devices), tuple(f'rp{n}' for n in range(DEVICES)),
                    tuple(f'cxl.{n}' for n in range(DEVICES)), window='256G')


def nodes() -> List[str]:
    """QEMU's options for the nodes that the parts of the GPUs need."""
    args = ['-object', 'memory-backend-ram,id=node0,size=1G',
            '-numa', 'node,nodeid=0,memdev=node0,cpus=0']
    for node in range(1, DEVICES * NODES + 1):
        args += ['-numa', f'node,nodeid={node}', '-object',
                 f'acpi-generic-initiator,id=gi{node},'
                 f'pci-dev=accel{(node - 1) // NODES},node={node}']
    return args


class FourSmmusTest(SessionTest):
    """DMA by the addresses that the guest's kernel hands out."""

    STEPS = ('groups', 'event', 'dma', 'unplug', 'plug', 'reboot')

    def __init__(self) -> None:
        name = 'virt-four-smmus'
        self.prefix = f'guest/{name}/'
        super().__init__(name, 'virt', [self.prefix + s for s in self.STEPS])
        self.case = Case('virt', 'firmware', 'iommufd', 'none', kernel='v6',
                         topology=topology())
        self.memory: Dict[str, int] = {}

    def steps(self, harness: Harness) -> None:
        state = harness.new_state(self.name)
        backing = Backing(state / 'memory', DEVICES)
        backing.write_tokens()
        command = harness.command(self.case, backing.path,
                                  'cxlguest.mode=session pcie_port_pm=off',
                                  sim=['--iommu=smmuv3'])
        command += ['-machine', 'hmat=on,ras=on,highmem-mmio-size=4T', *nodes()]
        for n, bus in enumerate(self.case.topology.slots):
            text = vfio_device(n, bus, self.case.backend, self.case.mode)
            # One of them is to be unplugged
            if n < DEVICES - 1:
                text = text.replace('vfio-pci,', 'vfio-pci-nohotplug,')
            command += ['-device', text]
        harness.use_newer_firmware(self.machine, command)
        with Session(harness.children, command, harness.log(self.name),
                     harness.limit) as session:
            session.wait_ready()
            self.find(session)
            self.groups(session)
            self.event(session)
            self.dma(session, self.devices(session))
            self.done(self.prefix + 'dma')
            self.replug(session)
            session.type('reboot -f')
            session.wait_for('GUEST: boot ')
            session.wait_ready()
            self.event(session)
            self.dma(session, self.devices(session))
            self.done(self.prefix + 'reboot')
            power_off(session)

    @staticmethod
    def devices(session: Session) -> List[str]:
        """The accelerators' addresses in the guest."""
        return [line for line in session.run('accelerators')
                if re.fullmatch(r'[0-9a-f:.]+', line)]

    def find(self, session: Session) -> None:
        """Where the memories are, according to QEMU."""
        found = session.monitor.execute('query-vfio-cxl')
        assert isinstance(found, list)
        for n, one in enumerate(sorted(found, key=lambda x: str(x["id"]))):
            decoder = one['decoders'][0]
            self.memory[f'0000:{BUSES * (n + 1) + 1:02x}:00.0'] = \
                int(decoder['base'])
        if len(set(self.memory.values())) != DEVICES:
            raise GuestError(f'memories at {self.memory}')

    def groups(self, session: Session) -> None:
        """Each accelerator has an SMMU and a group for itself."""
        devices = self.devices(session)
        if devices != sorted(self.memory):
            raise GuestError(f'accelerators at {devices}')
        smmus = set()
        for bdf in devices:
            said = session.run(
                f'cd /sys/bus/pci/devices/{bdf}; '
                'echo smmu=$(basename $(readlink iommu)); '
                'echo type=$(cat iommu_group/type); '
                'echo members=$(ls iommu_group/devices); cd /')
            smmus.add(value(said, 'smmu'))
            expect(said, 'type', 'DMA')
            expect(said, 'members', bdf)
        if len(smmus) != DEVICES:
            raise GuestError(f'the SMMUs are {smmus}')
        log = session.run('dmesg | grep -iE "smmu|pasid|ATS" || true')
        for line in log:
            if re.search('fail|error|unable', line, re.IGNORECASE):
                raise GuestError(f'the kernel says: {line}')
        self.done(self.prefix + 'groups', f'{len(devices)} of them')

    def load_driver(self, session: Session) -> None:
        """Our driver takes all accelerators, if it has not."""
        session.run('[ -d /sys/bus/pci/drivers/cxl-accel ] || '
                    'insmod /modules/cxl-accel.ko; settle')

    def event(self, session: Session) -> None:
        """An access to nothing gives one event, and that says what it was."""
        self.load_driver(session)
        for bdf in self.devices(session):
            session.run('dmesg -c > /dev/null')
            said = self.guest(session, bdf, 'wild')
            wanted = pairs(next(x for x in said if ' ok wild ' in x))
            log = session.run('dmesg')
            events = [m.groups() for m in map(EVENT.search, log) if m]
            sid = int(bdf[5:7], 16) << 8
            if events != [('F_TRANSLATION', bdf, f'{sid:#x}', '0x0',
                           wanted['iova'])]:
                raise GuestError(f'{bdf}: {wanted}, but events {events}')
            reasons = [m.groups() for m in map(REASON.search, log) if m]
            if reasons != [('unpriv', 'data', 'read',
                            'Input address caused fault')]:
                raise GuestError(f'{bdf}: reasons {reasons}')
        self.done(self.prefix + 'event')

    @staticmethod
    def guest(session: Session, bdf: str, actions: str,
              more: str = '') -> List[str]:
        """Checks of one accelerator, through our driver."""
        return session.run(
            f'cxl-guest --device={bdf} --driver=/dev/cxl-accel-{bdf} --lock=1 '
            f'--mode=firmware --actions={actions} {more}')

    def dma(self, session: Session, devices: List[str]) -> None:
        """To RAM, to the device's own memory and to that of the next."""
        for n, bdf in enumerate(devices):
            peer = self.memory[devices[(n + 1) % len(devices)]]
            said = self.guest(session, bdf, 'iommu,msix',
                              f'--peer-memory={peer:#x}')
            if not any(' ok iommu ' in line and ' ats=1' in line
                       for line in said):
                raise GuestError(f'{bdf}: ' + '\n'.join(said))

    def replug(self, session: Session) -> None:
        """The last one goes, the others go on, and it comes again."""
        *others, bdf = self.devices(session)
        session.monitor.execute('device_del', id=f'accel{DEVICES - 1}')
        session.monitor.wait_event('DEVICE_DELETED',
                                   device=f'accel{DEVICES - 1}')
        session.run(f'! [ -e /sys/bus/pci/devices/{bdf} ]')
        self.dma(session, others)
        self.done(self.prefix + 'unplug')
        session.monitor.execute('device_add', **device_arguments(vfio_device(
            DEVICES - 1, self.case.topology.slots[-1], self.case.backend,
            self.case.mode)))
        session.run(f'n=0; while ! [ -e /dev/cxl-accel-{bdf} ] && '
                    '[ $n -lt 600 ]; do sleep 0.1; n=$((n + 1)); done; '
                    '[ $n -lt 600 ]')
        self.dma(session, [*others, bdf])
        self.done(self.prefix + 'plug')
