# The output of 'cxl list', made comparable, and compared with the expected.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""The guest kernel's own view of a topology."""

import difflib
import json
import re
from pathlib import Path
from typing import Any, Dict, List, Tuple

EXPECTED = Path(__file__).resolve().parent / 'expected'

# Objects that the kernel numbers in the order in which its work queues and
# asynchronous probes come to them. An object's own name is its first member.
NAMED = ('port', 'endpoint', 'decoder', 'mem', 'memdev', 'region', 'dax')


def sort_key(item: Any) -> Tuple[str, ...]:
    """An order that does not depend on the kernel's numbers."""
    if not isinstance(item, dict):
        return (str(item),)
    own = next(iter(item))
    kind = '' if own in ('bus',) else own
    number = re.sub(r'^\D*', '', str(item[own]))
    # A decoder's number within its port, and addresses, are not chance
    inner = number.split('.')[-1] if own == 'decoder' else ''
    host = str(item.get('host', ''))
    if re.match(r'mem\d', host):
        host = ''
    dport = item.get('parent_dport') or item.get('target') or \
        item.get('dport') or ''
    return (kind, str(dport), host, inner.zfill(4),
            str(item.get('resource', '')).zfill(24))


def arrange(node: Any) -> Any:
    """Sort all lists of objects."""
    if isinstance(node, list):
        return sorted((arrange(n) for n in node), key=sort_key)
    if isinstance(node, dict):
        return {k: arrange(v) for k, v in node.items()}
    return node


class Renamer:
    """Gives numbers in the order of the sorted tree."""

    def __init__(self) -> None:
        self.names: Dict[str, str] = {}
        self.count: Dict[str, int] = {}

    def learn(self, node: Any) -> None:
        """Give new names to what the tree defines, from the top."""
        if isinstance(node, list):
            for item in node:
                self.learn(item)
        elif isinstance(node, dict):
            own = next(iter(node), '')
            name = node.get(own)
            if own in NAMED and isinstance(name, str) and \
                    name not in self.names and own != 'decoder':
                self.add(name)
            # Names of what the listing does not show by itself
            for key, kind in (('host', 'mem'), ('region', 'region')):
                name = node.get(key)
                if isinstance(name, str) and name not in self.names and \
                        re.fullmatch(rf'{kind}\d+', name):
                    self.add(name)
            for value in node.values():
                if isinstance(value, (list, dict)):
                    self.learn(value)

    def add(self, name: str) -> None:
        """A new number of the same kind; ports and endpoints share one."""
        kind = re.sub(r'\d+$', '', name)
        counter = 'port' if kind in ('port', 'endpoint') else kind
        # The kernel's root has number 0
        self.count.setdefault(counter, 1 if counter == 'port' else 0)
        self.names[name] = f'{kind}{self.count[counter]}'
        self.count[counter] += 1

    def text(self, text: str) -> str:
        """A name, or a text that ends in one or has one inside."""
        if text in self.names:
            return self.names[text]
        match = re.fullmatch(r'decoder(\d+)\.(\d+)', text)
        if match:
            for kind in ('port', 'endpoint'):
                new = self.names.get(f'{kind}{match[1]}')
                if new:
                    number = re.sub(r'\D', '', new)
                    return f'decoder{number}.{match[2]}'
        match = re.fullmatch(r'(\w+):(\w+)', text)
        if match and match[2] in self.names:
            return f'{match[1]}:{self.names[match[2]]}'
        return text

    def apply(self, node: Any) -> Any:
        """The tree with its new names."""
        if isinstance(node, list):
            return [self.apply(n) for n in node]
        if isinstance(node, dict):
            return {self.text(k): self.apply(v) for k, v in node.items()}
        return self.text(node) if isinstance(node, str) else node


def normalise(text: str) -> str:
    """What 'cxl list' gave as JSON, without what is chance."""
    tree = arrange(json.loads(text))
    renamer = Renamer()
    renamer.learn(tree)
    return json.dumps(renamer.apply(tree), indent=2) + '\n'


def compare(name: str, text: str, regenerate: bool) -> List[str]:
    """What differs from the expected result, as lines of a diff."""
    path = EXPECTED / f'{name}.json'
    try:
        got = normalise(text)
    except ValueError as err:
        return [f'cxl list gave no JSON: {err}']
    if regenerate:
        EXPECTED.mkdir(exist_ok=True)
        path.write_text(got, encoding='utf-8')
        return []
    try:
        want = path.read_text(encoding='utf-8')
    except OSError:
        return [f'{path} is not there; --regenerate writes it']
    return list(difflib.unified_diff(
        want.splitlines(), got.splitlines(), f'expected/{name}.json',
        'guest', lineterm='', n=2))


def outline(node: Any, depth: int = 0) -> List[str]:
    """A short tree of what 'cxl list' gave as JSON."""
    lines = []
    kinds = ('bus', 'port', 'endpoint', 'decoder', 'region')
    for item in node if isinstance(node, list) else [node]:
        kind = next(iter(item))
        if kind not in kinds:
            continue
        text = f'{"  " * depth}{item[kind]}'
        for key, label in (('host', 'on'), ('resource', 'at'), ('size', ''),
                           ('decode_state', ''), ('region', 'for')):
            value = item.get(key)
            if value and key != kind:
                text += f' {label} {value}' if label else f' {value}'
        if 'memdev' in item and isinstance(item['memdev'], dict):
            text += f' = {item["memdev"]["host"]}'
        targets = [t.get('target', '') for t in item.get('targets', [])]
        if targets:
            text += ' -> ' + ', '.join(targets)
        lines.append(text)
        for key, value in item.items():
            if ':' in key and isinstance(value, list):
                lines += outline(value, depth + 1)
    return lines
