# Hosts as users of accelerators have them, and what stock drivers find.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Guests for Linux' own accelerator drivers, and for two GPUs."""

from typing import List

from boot import Backing, Case, Harness, vfio_device
from console import Session
from placement import expect
from tests import SessionTest, power_off
from topology import BRIDGES, DECODER

# Nodes for each GPU: as many as it can be split into. Debian's arm64 kernel
# has room for 16 nodes in all, those of the windows among them.
NODES = {'q35': 8, 'virt': 6}


class StockDriverTest(SessionTest):
    """
    The conditions of such a driver, one by one, when only firmware has
    committed a decoder.
    """

    MODES = ('firmware', 'guest')

    def __init__(self, machine: str) -> None:
        name = f'{machine}-stock-driver'
        self.prefix = f'guest/{name}/'
        super().__init__(name, machine,
                         [self.prefix + mode for mode in self.MODES])

    def steps(self, harness: Harness) -> None:
        for mode in self.MODES:
            state = harness.new_state(self.name)
            backing = Backing(state / 'memory', 1)
            backing.write_tokens()
            case = Case(self.machine, mode, 'legacy', 'none', kernel='v6',
                        topology=DECODER)
            command = harness.command(case, backing.path,
                                      'cxlguest.mode=session')
            command += ['-device', vfio_device(0, 'rp0', case.backend, mode)]
            with Session(harness.children, command, harness.log(self.name),
                         harness.limit) as session:
                session.wait_ready()
                said = session.run(f'mode={mode}; load_modules; '
                                   'check_conditions')
                power_off(session)
            verdict, _, text = next(x for x in said if '-conditions' in x) \
                .partition(' d0-conditions ')
            if verdict == 'GUEST: skip':
                self.skip(self.prefix + mode, text)
            else:
                self.done(self.prefix + mode, text)


class GPUTest(SessionTest):
    """Two GPUs as in the manual: nodes for each, and a large PCI hole."""

    def __init__(self, machine: str) -> None:
        name = f'{machine}-two-gpus'
        self.prefix = f'guest/{name}/'
        super().__init__(name, machine,
                         [self.prefix + step for step in ('nodes', 'use')])
        self.nodes = 2 * NODES[machine]

    def arguments(self) -> List[str]:
        """QEMU's options for nodes and for the hole."""
        args = ['-object', 'memory-backend-ram,id=node0,size=1G',
                '-numa', 'node,nodeid=0,memdev=node0,cpus=0']
        for node in range(1, self.nodes + 1):
            gpu = (node - 1) // NODES[self.machine]
            args += ['-numa', f'node,nodeid={node}', '-object',
                     f'acpi-generic-initiator,id=gi{node},'
                     f'pci-dev=accel{gpu},node={node}']
        if self.machine == 'q35':
            return args + ['-global', 'q35-pcihost.pci-hole64-size=1T',
                           '-cpu', 'max,-hypervisor,phys-bits=46']
        return args + ['-machine', 'highmem-mmio-size=1T']

    def steps(self, harness: Harness) -> None:
        state = harness.new_state(self.name)
        backing = Backing(state / 'memory', 2)
        backing.write_tokens()
        case = Case(self.machine, 'firmware', 'iommufd', 'none', kernel='v6',
                    topology=BRIDGES)
        command = harness.command(case, backing.path, 'cxlguest.mode=session')
        for number, bus in enumerate(case.topology.slots):
            command += ['-device', vfio_device(number, bus, case.backend,
                                               case.mode)]
        command += self.arguments()
        harness.use_newer_firmware(self.machine, command)
        with Session(harness.children, command, harness.log(self.name),
                     harness.limit) as session:
            session.wait_ready()
            said = session.run('cd /sys/devices/system/node; '
                               'echo initiators=$(cat has_generic_initiator); '
                               'echo memory=$(cat has_memory); cd /')
            expect(said, 'initiators', f'1-{self.nodes}')
            expect(said, 'memory', '0')
            self.done(self.prefix + 'nodes', ', '.join(said))
            session.run('n=0; for bdf in $(accelerators); do cxl-guest '
                        '--device=$bdf --prefix=d$n- --mode=firmware '
                        '--actions=bar,hidden,token,peek,patterns,dma --lock=1 '
                        f'{backing.argument(True)} || failed=1; '
                        'n=$((n + 1)); done')
            power_off(session)
            self.done(self.prefix + 'use')
