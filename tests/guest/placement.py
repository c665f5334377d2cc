# Placement according to firmware's tables: SMMU and NUMA.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Guests that look at IOMMU groups and at NUMA nodes."""

import hashlib
import os
from dataclasses import replace
from typing import Dict, List, Tuple

from boot import Backing, Case, Harness, new_seed, vfio_device
from console import Session
from debian import GuestError
from tests import SessionTest, power_off
from topology import BRIDGES, ONE, TYPE3

DISK = 4 << 20

# Latency in ns and bandwidth in GB/s from an initiator's node to a target's,
# all different. Node 0 has the CPU, 0 and 1 have RAM, 2 is the host bridge
# (generic port), 3 the accelerator (generic initiator), which is nearer to
# node 1 than the CPU is.
LOCALITY: Dict[Tuple[int, int], Tuple[int, int]] = {
    (0, 0): (10, 40), (0, 1): (20, 30), (0, 2): (150, 12),
    (3, 0): (30, 9), (3, 1): (5, 50), (3, 2): (40, 8)}


def value(lines: List[str], key: str) -> str:
    """What a line KEY=... of the guest says."""
    for line in lines:
        if line.startswith(key + '='):
            return line[len(key) + 1:]
    raise GuestError(f'the guest reports no {key}')


def expect(lines: List[str], key: str, want: str) -> None:
    """A line of the guest must say what is wanted."""
    got = value(lines, key)
    if got != want:
        raise GuestError(f'{key} is {got!r}, not {want!r}')


class SmmuTest(SessionTest):
    """DMA of an emulated device behind an SMMU behind a pxb-cxl, with an
    accelerator on another bridge."""

    def __init__(self) -> None:
        name = 'virt-smmu'
        self.prefix = f'guest/{name}/'
        super().__init__(name, 'virt', [
            self.prefix + step for step in ('group', 'data', 'accelerator')])

    def steps(self, harness: Harness) -> None:
        state = harness.new_state(self.name)
        backing = Backing(state / 'memory', 1)
        backing.write_tokens()
        disk = state / 'disk'
        disk.write_bytes(os.urandom(DISK))
        case = Case('virt', 'firmware', 'legacy', 'none', topology=replace(
            BRIDGES, slots=('rp1',)))
        command = harness.command(case, backing.path, 'cxlguest.mode=session')
        command += [
            '-device', 'arm-smmuv3,id=smmu0,primary-bus=cxl.0',
            '-drive', f'file={disk},format=raw,if=none,id=disk0',
            '-device', 'virtio-blk-pci,bus=rp0,drive=disk0,iommu_platform=on,'
            'disable-legacy=on',
            '-device', vfio_device(0, 'rp1', case.backend, case.mode)]
        with Session(harness.children, command, harness.log(self.name),
                     harness.limit) as session:
            session.wait_ready()
            self._group(session)
            before = hashlib.sha256(disk.read_bytes()).hexdigest()
            said = session.run(
                'echo read=$(sha256sum < /dev/vda | cut -c 1-64); '
                'dd if=/dev/urandom of=/tmp/new bs=1M count=4 2>/dev/null; '
                'dd if=/tmp/new of=/dev/vda bs=1M 2>/dev/null; sync; '
                'echo written=$(sha256sum < /tmp/new | cut -c 1-64)')
            expect(said, 'read', before)
            expect(said, 'written',
                   hashlib.sha256(disk.read_bytes()).hexdigest())
            self.done(self.prefix + 'data')
            seed = new_seed()
            session.run(f'cxl-guest --lock=1 --seed={seed} '
                        + backing.argument(False))
            if backing.lacking(seed):
                raise GuestError("the backing file lacks the guest's bytes")
            power_off(session)
            self.done(self.prefix + 'accelerator')

    def _group(self, session: Session) -> None:
        said = session.run(
            'd=$(readlink -f /sys/block/vda/device/..); '
            'echo driver=$(basename $(readlink $d/iommu)); '
            'echo type=$(cat $d/iommu_group/type); '
            'echo members=$(ls $d/iommu_group/devices); '
            'echo device=$(basename $d); '
            'a=/sys/bus/pci/devices/$(accelerators); '
            '[ -e $a/iommu_group ] && echo other=yes || echo other=no')
        driver = value(said, 'driver')
        if not driver.startswith('smmu3.'):
            raise GuestError(f'the disk is behind IOMMU {driver!r}')
        if not value(said, 'type').startswith('DMA'):
            raise GuestError(f'its group has type {value(said, "type")}')
        expect(said, 'members', value(said, 'device'))
        expect(said, 'other', 'no')
        self.done(self.prefix + 'group', f'{driver}, {value(said, "type")}')


class NumaTest(SessionTest):
    """SRAT and HMAT: bridge and accelerator have nodes of their own."""

    def __init__(self, machine: str) -> None:
        name = f'{machine}-numa'
        self.prefix = f'guest/{name}/'
        # Linux makes no regions on arm64 without a way to flush caches
        steps = ['bridge', 'initiator', 'accelerator'] + \
            (['window'] if machine == 'q35' else [])
        super().__init__(name, machine, [self.prefix + s for s in steps])

    @staticmethod
    def arguments() -> List[str]:
        """QEMU's options for nodes and distances."""
        args = []
        for node in (0, 1):
            args += ['-object', f'memory-backend-ram,id=node{node},size=512M',
                     '-numa', f'node,nodeid={node},memdev=node{node}'
                     + (',cpus=0' if node == 0 else '')]
        args += ['-numa', 'node,nodeid=2', '-numa', 'node,nodeid=3',
                 '-object', 'acpi-generic-port,id=gp0,pci-bus=cxl.0,node=2',
                 '-object',
                 'acpi-generic-initiator,id=gi0,pci-dev=accel0,node=3']
        for (start, end), (latency, bandwidth) in LOCALITY.items():
            pair = f'hmat-lb,initiator={start},target={end},hierarchy=memory'
            args += ['-numa', f'{pair},data-type=access-latency,'
                     f'latency={latency}',
                     '-numa', f'{pair},data-type=access-bandwidth,'
                     f'bandwidth={bandwidth}G']
        return args

    def steps(self, harness: Harness) -> None:
        state = harness.new_state(self.name)
        backing = Backing(state / 'memory', 1)
        backing.write_tokens()
        where = TYPE3 if self.machine == 'q35' else ONE
        # The bridge's devices are near the second node's RAM
        where = replace(where, devices=(where.devices[0] + ',numa_node=1',
                                        *where.devices[1:]))
        case = Case(self.machine, 'firmware', 'legacy', 'none',
                    topology=where)
        command = harness.command(case, backing.path, 'cxlguest.mode=session')
        command += ['-machine', 'hmat=on',
                    '-device', vfio_device(0, 'rp0', case.backend, case.mode)]
        command += self.arguments()
        harness.use_newer_firmware(self.machine, command)
        with Session(harness.children, command, harness.log(self.name),
                     harness.limit) as session:
            session.wait_ready()
            near = self._nodes(session)
            session.run('cxl-guest --lock=1 ' + backing.argument(False))
            self.done(self.prefix + 'accelerator')
            if self.machine == 'q35':
                self._window(session, near)
            power_off(session)

    def _nodes(self, session: Session) -> str:
        """Linux numbers nodes as it meets them in the tables."""
        said = session.run(
            'cd /sys/devices/system/node; '
            'echo near=$(cat /sys/bus/pci/devices/$(accelerators)/numa_node); '
            'echo initiator=$(cat has_generic_initiator); '
            'echo memory=$(cat has_memory); '
            'echo possible=$(cat possible); '
            'near=$(cat /sys/bus/pci/devices/$(accelerators)/numa_node); '
            'for a in 0 1; do cd node$near/access$a/initiators; '
            'echo best$a=$(ls -d node*); '
            'echo latency$a=$(cat read_latency); '
            'echo bandwidth$a=$(cat read_bandwidth); cd ../../..; done; cd /')
        near = value(said, 'near')
        if near not in value(said, 'memory').split(',')[1:]:
            raise GuestError(f'the accelerator is on node {near}, the second '
                             f'node with RAM is of {value(said, "memory")}')
        self.done(self.prefix + 'bridge', f'numa_node {near}')
        # Of all initiators, and of CPUs alone
        initiator = value(said, 'initiator')
        for access, best, row in (('0', f'node{initiator}', (3, 1)),
                                  ('1', 'node0', (0, 1))):
            latency, bandwidth = LOCALITY[row]
            expect(said, f'best{access}', best)
            expect(said, f'latency{access}', str(latency))
            expect(said, f'bandwidth{access}', str(bandwidth << 10))
        expect(said, 'possible', '0-3')
        self.done(self.prefix + 'initiator',
                  f'node {initiator} is the nearest to node {near}')
        return near

    def _window(self, session: Session, near: str) -> None:
        """Memory in the window has a node that is no other's."""
        said = session.run(
            'cxl create-region -m mem0 -t ram -d decoder0.0 > /dev/null && '
            'settle; echo target=$(cat /sys/bus/dax/devices/*/target_node); '
            'echo online=$(cat /sys/devices/system/node/online)')
        target = value(said, 'target')
        if not target.isdigit() or target in (near, '0'):
            raise GuestError(f'the window is on node {target}')
        expect(said, 'online', '0-2')
        expect(said, 'target', '3')
        self.done(self.prefix + 'window', f'node {target}')
