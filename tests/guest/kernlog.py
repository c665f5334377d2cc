# The guest kernel's log, and the messages that it may contain.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Find complaints in a guest kernel's log."""

import re
from typing import List

BAD = re.compile(
    r'\berrors?\b|\bfail|\bwarn|\bbug:|\boops|panic|\binvalid\b|\bunable\b|'
    r'\bcannot\b|\bconflict|timed out', re.IGNORECASE)

# Messages that concern this project
OURS = re.compile(
    r'cxl|pci|acpi|\b[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]|\bhmat\b|'
    r'\bsrat\b|\bcedt\b|smmu|iommu|\bdax|numa', re.IGNORECASE)

# Whatever it is about
SEVERE = re.compile(r'\bBUG: |\bOops\b|[Kk]ernel panic|\bWARNING: |'
                    r'Call [Tt]race')

# Each with the reason why it is no error of the machine's
ALLOWED = (
    # Not a message: it holds words such as cxlguest and panic=
    r'ommand line: ',
    # Ports ask for I/O space, which no device here has, and for spare room
    # that firmware did not foresee. Linux tries with all of it first, and then
    # BARs fail as well; the guest's check "bars" says whether one stayed so.
    r'(bridge window|BAR \d) \[[^]]*\]: '
    r'failed to (assign|expand by|add optional)\b',
    # Our driver is not signed with Debian's key
    r'cxl_accel: module verification failed',
)


def complaints(lines: List[str]) -> List[str]:
    """Lines that stand for an error and are not allowed."""
    return [line for line in lines
            if (SEVERE.search(line) or BAD.search(line) and OURS.search(line))
            and not any(re.search(p, line) for p in ALLOWED)]
