# The CXL topologies that guests are given.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""The topology between the fixed windows and the devices."""

from dataclasses import dataclass
from typing import Dict, List, Tuple

BUS = 12


@dataclass(frozen=True)
class Topology:
    """Windows, bridges, ports, and the buses that accelerators go to."""
    name: str
    # What a person reads between "fixed window" and the device
    path: str
    # Options of -device, in order
    devices: Tuple[str, ...]
    # The bus of each accelerator, in vfio-sim's order
    slots: Tuple[str, ...] = ('rp0',)
    # The host bridge that each window targets
    windows: Tuple[str, ...] = ('cxl.0',)
    objects: Tuple[str, ...] = ()
    # The size of each window
    window: str = '4G'
    # The bridge has a decoder that a guest's software would have to program
    decoder: bool = False

    def machine(self) -> str:
        """Properties of the machine."""
        return 'cxl=on' + ''.join(
            f',cxl-fmw.{n}.targets.0={bridge},cxl-fmw.{n}.size={self.window}'
            for n, bridge in enumerate(self.windows))

    def arguments(self) -> List[str]:
        """QEMU's arguments for all but the accelerators."""
        args = []
        for text in self.objects:
            args += ['-object', text]
        for text in self.devices:
            args += ['-device', text]
        return args


def bridge(number: int = 0, decoder: bool = False) -> str:
    """A host bridge."""
    return (f'pxb-cxl,id=cxl.{number},bus=pcie.0,bus_nr={BUS + 100 * number}'
            + (',hdm_for_passthrough=on' if decoder else ''))


def port(number: int, on: int = 0, at: int = 0) -> str:
    """A root port; NUMBER is also its slot, AT its number on the bridge."""
    return (f'cxl-rp,id=rp{number},bus=cxl.{on},chassis=0,slot={number},'
            f'port={at}')


def switch(name: str, bus: str, ports: int, slot: int) -> Tuple[str, ...]:
    """A switch, its ports called NAMEd0, NAMEd1 and so on."""
    return (f'cxl-upstream,id={name},bus={bus},addr=0.0,multifunction=on',
            ) + tuple(
        f'cxl-downstream,id={name}d{n},bus={name},port={n},chassis=0,'
        f'slot={slot + n}' for n in range(ports))


ONE = Topology('one', 'pxb-cxl (pass-through) -> cxl-rp',
               (bridge(), port(0)))
DECODER = Topology('decoder', 'pxb-cxl (with a decoder) -> cxl-rp',
                   (bridge(decoder=True), port(0)), decoder=True)
SECOND_PORT = Topology('second-port', 'pxb-cxl -> second cxl-rp',
                       (bridge(), port(0), port(1, at=1)), ('rp1',),
                       decoder=True)
SWITCH = Topology('switch', 'pxb-cxl -> cxl-rp -> switch',
                  (bridge(decoder=True), port(0),
                   *switch('us0', 'rp0', 2, 4)), ('us0d1',), decoder=True)
NESTED = Topology('nested', 'pxb-cxl -> cxl-rp -> switch -> switch',
                  (bridge(decoder=True), port(0),
                   *switch('us0', 'rp0', 2, 4),
                   *switch('us1', 'us0d1', 2, 8)), ('us1d0',), decoder=True)
PAIR = Topology('pair', 'pxb-cxl -> cxl-rp -> switch, two devices',
                (bridge(decoder=True), port(0),
                 *switch('us0', 'rp0', 2, 4)), ('us0d0', 'us0d1'),
                window='512M',      # full, so that their ranges are adjacent
                decoder=True)
BRIDGES = Topology('bridges', 'two pxb-cxl with a window each',
                   (bridge(0, True), bridge(1, True), port(0), port(1, on=1)),
                   ('rp0', 'rp1'), ('cxl.0', 'cxl.1'), decoder=True)
FOUR = Topology('four', 'pxb-cxl -> four cxl-rp, two windows',
                (bridge(), *(port(n, at=n) for n in range(4))),
                ('rp0', 'rp1', 'rp2', 'rp3'), ('cxl.0', 'cxl.0'),
                decoder=True)
TYPE3 = Topology('type3', 'pxb-cxl -> cxl-rp, a type-3 device beside it',
                 (bridge(), port(0), port(1, at=1),
                  'cxl-type3,id=memory0,bus=rp1,volatile-memdev=ram0,'
                  'sn=0x5151'),
                 ('rp0',), objects=('memory-backend-ram,id=ram0,size=256M',),
                 decoder=True)

TOPOLOGIES: Dict[str, Topology] = {t.name: t for t in (
    ONE, DECODER, SECOND_PORT, SWITCH, NESTED, PAIR, BRIDGES, FOUR, TYPE3)}
