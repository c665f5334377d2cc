# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages that our code can print, the table that explains them, and tests.

messages.py     list the messages that are not in the table
"""

import re
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple

import ours
from common import ROOT, main

TABLE = 'docs/system/devices/cxl-vfio-messages.rst.inc'
CALLS = (r'error_setg(?:_errno)?|error_report(?:_once)?|warn_report(?:_once)?|'
         r'info_report(?:_once)?|error_append_hint|error_prepend|'
         r'warn_report_once_cond|error_report_once_cond')
TESTS = ('tests/qtest', 'tests/guest', 'tests/libvirt', 'tests/vfio-cxl-host',
         'tests/unit', 'tests/vfio-sim')

# Messages that no test provokes, and why
UNTESTED: Dict[str, str] = {
    'SMMU should be attached to a default PCIe root complex(pcie.0) or a '
    'pxb-pcie or pxb-cxl based root complex': 'upstream\'s, with a word more',
    'CXL:': 'comes before others',
    'firmware cannot commit:': 'comes before others; the checks at start and '
    'plug leave no known way to it',
    'the kernel cannot reset it': 'vfio-sim\'s device can always be reset',
    'this host\'s KVM cannot map cacheable device memory; it needs Linux 6.17 '
    'or later and CPUs with FEAT_S2FWB and CTR_EL0.DIC '
    '(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED)': 'needs an arm host with KVM',
    'with xen-version= of KVM a guest could have QEMU access device memory at '
    'any time; use x-cxl=off or no xen-version=': 'needs KVM that plays Xen',
    'cannot reserve 0x... bytes of address space': 'needs a process without '
    'address space',
    'cannot get device info': 'QEMU asks for the same before, and then it is '
    'upstream\'s message',
    'failed to read BAR ...': 'vfio-cxl-plug-test lets each read fail, and '
    'looks at what is left',
    'it interleaves': 'test-cxl-hdm looks at the error bit',
    'its DPA range overlaps that of decoder ...': 'test-cxl-hdm looks at the '
    'error bit',
}


class Message(NamedTuple):
    text: str       # as in the source, with its conversions
    place: str


LITERAL = r'"((?:[^"\\]|\\.)*)"'


def first_string(call: str, macros: Dict[str, str]) -> str:
    """The first string of a call's arguments, with its parts joined."""
    call = re.sub(r'HWADDR_PRI([xX])|PRI([diouxX])\w*',
                  lambda m: f'"{m.group(1) or m.group(2)}"', call)
    call = re.sub(r'\b[A-Z][A-Z0-9_]+\b',
                  lambda m: macros.get(m.group(0), m.group(0)), call)
    found = re.search(rf'(?:{LITERAL}\s*)+', call)
    text = ''.join(re.findall(LITERAL, found.group(0))) if found else ''
    return text.replace('\\n', '').replace('\\"', '"')


def string_macros(text: str) -> Dict[str, str]:
    """Names that stand for a string. The prefix with the device is left out."""
    text = text.replace('\\\n', ' ')
    found = dict(re.findall(r'^#define\s+([A-Z][A-Z0-9_]+)\s+(".*")\s*$', text,
                            re.MULTILINE))
    found['VFIO_MSG_PREFIX'] = ''
    return found


def calls(text: str) -> Iterator[str]:
    """Whole calls, from the name to the closing parenthesis."""
    for match in re.finditer(rf'\b(?:{CALLS})\s*\(', text):
        depth, at = 1, match.end()
        quoted = False
        while depth and at < len(text):
            char = text[at]
            if char == '"' and text[at - 1] != '\\':
                quoted = not quoted
            elif not quoted:
                depth += {'(': 1, ')': -1}.get(char, 0)
            at += 1
        yield text[match.end():at]


def source(name: str, root: Path) -> str:
    """The code of a file of ours; of a hook, what it adds."""
    text = (root / name).read_text(encoding='utf-8')
    if name.endswith('.patch'):
        text = '\n'.join(line[1:] for line in text.splitlines()
                         if line.startswith(('+', ' '))
                         and not line.startswith('+++'))
    return text


def added(name: str, root: Path) -> str:
    """What is new in it, to tell upstream's messages from ours."""
    text = (root / name).read_text(encoding='utf-8')
    if name.endswith('.patch'):
        return '\n'.join(line[1:] for line in text.splitlines()
                         if line.startswith('+'))
    return text


def messages(root: Path = ROOT) -> List[Message]:
    """All that the code for QEMU itself can print."""
    found: Dict[str, Message] = {}
    for name in ours.files(root):
        base = name[:-len('.patch')] if name.endswith('.patch') else name
        base = re.sub(r'(\.[ch])\.[\w-]+$', r'\1', base)
        if not base.endswith('.c') or base.startswith('tests/'):
            continue
        new = added(name, root)
        code = source(name, root)
        macros = string_macros(code)
        for call in calls(code):
            text = first_string(call, macros)
            if text and any(f'"{part}"' in new
                            for part in re.findall(LITERAL, call)):
                found.setdefault(text, Message(text, name))
    return list(found.values())


def plain(text: str) -> str:
    """A message without what differs from case to case."""
    text = re.sub(r'%(?:[-+ #0]*\d*(?:\.(?:\d+|\*))?)(?:hh|h|ll|l|z|j|t)?'
                  r'[a-zA-Z]', '...', text)
    return re.sub(r'\s+', ' ', re.sub(r'(\.\.\.)+', '...', text)).strip()


class Row(NamedTuple):
    text: str
    cause: str
    remedy: str


def table(root: Path = ROOT) -> List[Row]:
    """Rows of the tables: message, cause, remedy."""
    text = (root / TABLE).read_text(encoding='utf-8')
    rows = []
    for block in re.split(r'^  \* - ', text, flags=re.MULTILINE)[1:]:
        block = re.split(r'\n(?=\S)', block)[0]
        cells = [re.sub(r'\s+', ' ', cell).strip()
                 for cell in re.split(r'^    - ', block, flags=re.MULTILINE)]
        if len(cells) == 3 and cells[0].startswith('``'):
            rows.append(Row(cells[0].strip('`').strip(), *cells[1:]))
    return rows


def test_texts(root: Path = ROOT) -> str:
    """All that tests say, with strings that are cut in the source joined."""
    texts = []
    for folder in TESTS:
        for path in sorted((root / folder).rglob('*')):
            if path.suffix in ('.c', '.py', '.h', '.sh') and path.is_file():
                texts.append(path.read_text(errors='replace'))
    text = re.sub(r'["\']\s*\n\s*f?["\']', '', '\n'.join(texts))
    return re.sub(r'\s+', ' ', text)


def in_tests(text: str, tests: str) -> bool:
    """Does a test name three words of the message, or all of it?"""
    if len(text.split()) > 3:
        pattern = r'\S{1,20}'.join(re.escape(p) for p in text.split('...'))
        if re.search(pattern, tests):
            return True
    for piece in text.split('...'):
        words = piece.strip(' :;,()').split()
        for at in range(max(1, len(words) - 2)):
            if len(words) >= 3 and ' '.join(words[at:at + 3]) in tests:
                return True
    return False


def untested(root: Path = ROOT) -> List[str]:
    """Rows that no test provokes and for which there is no reason."""
    tests = test_texts(root)
    return [row.text for row in table(root)
            if not in_tests(row.text, tests) and row.text not in UNTESTED]


def missing(root: Path = ROOT) -> List[str]:
    """Messages without a row, and rows without a message."""
    shown = {row.text for row in table(root)}
    said = {plain(m.text): m.place for m in messages(root)}
    return [f'{place} says "{text}", {TABLE} does not'
            for text, place in sorted(said.items()) if text not in shown] + \
        [f'{TABLE} has "{text}", which no code says'
         for text in sorted(shown - set(said))]


def run() -> int:
    lines = missing()
    print('\n'.join(lines) or 'the table is complete')
    return int(bool(lines))


if __name__ == '__main__':
    main(run)
