# The guests that are booted.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""The guests of 'make run' and 'make check-guest'."""

from typing import List

from boot import Case
from topology import (BRIDGES, DECODER, FOUR, NESTED, PAIR, SECOND_PORT,
                      SWITCH, TYPE3)

DEMO = [
    Case('q35', 'firmware', 'legacy', 'cxl', topology=DECODER),
    Case('q35', 'guest', 'iommufd', 'plain'),
    Case('virt', 'firmware', 'iommufd', 'cxl', topology=DECODER),
    Case('virt', 'guest', 'legacy', 'plain'),
]

# What is quick, for devices whose other checks are done elsewhere
BRIEF = 'bar,hidden,lock,token,peek,patterns,whole,dma,signature'

CHECK: List[Case] = [
    Case('q35', 'firmware', 'legacy', 'cxl', topology=DECODER),
    Case('q35', 'firmware', 'iommufd', 'plain', layout='B'),
    Case('q35', 'guest', 'legacy', 'cxl', layout='C', topology=DECODER),
    Case('q35', 'guest', 'iommufd', 'plain', smp=2),
    Case('virt', 'firmware', 'legacy', 'plain', layout='C'),
    Case('virt', 'firmware', 'iommufd', 'cxl', topology=DECODER),
    Case('virt', 'guest', 'legacy', 'plain', layout='B', smp=2),
    Case('virt', 'guest', 'iommufd', 'cxl', topology=DECODER),
] + [
    # Each other generation of the kernel's interface, on both machines
    Case('virt', 'guest', 'legacy', 'plain', kernel=kernel)
    for kernel in ('v2', 'v3', 'v4', 'v6')
] + [
    Case('q35', 'firmware', 'iommufd', 'cxl', kernel=kernel, topology=where)
    for kernel, where in (('v2', SECOND_PORT), ('v3', SWITCH),
                          ('v4', NESTED), ('v6', TYPE3))
] + [
    Case('virt', 'firmware', 'legacy', 'cxl', kernel=kernel, topology=where)
    for kernel, where in (('v5', SECOND_PORT), ('v4', SWITCH),
                          ('v3', NESTED), ('v2', TYPE3))
] + [
    Case(machine, 'firmware', backend, 'cxl', topology=where, actions=BRIEF)
    for machine, backend in (('q35', 'legacy'), ('virt', 'iommufd'))
    for where in (PAIR, BRIDGES, FOUR)
]
