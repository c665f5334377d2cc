# A guest that runs commands typed by the host, and QEMU's monitor.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Talk to a running guest and to its QEMU."""

import json
import os
import re
import selectors
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Dict, List, Optional, Type

from children import Children
from debian import GuestError

# For a step that has no reason to take long, on a machine that is busy
PATIENCE = 300.0


# QEMU says so of every VFIO group that it closes without KVM, and of kernels
# without dma-bufs
QEMU_MAY_SAY = (r"KVM VFIO device isn't created yet"
                r'|VFIO dma-buf not supported in kernel')


class Monitor:
    """QMP through one end of a socket pair."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.data = b''
        self.events: List[Dict[str, Any]] = []

    def _message(self, end: float) -> Dict[str, Any]:
        while b'\n' not in self.data:
            left = end - time.monotonic()
            if left <= 0:
                raise GuestError('QEMU does not answer on its monitor')
            self.sock.settimeout(left)
            try:
                chunk = self.sock.recv(65536)
            except OSError as err:
                raise GuestError(f'the monitor: {err}') from err
            if not chunk:
                raise GuestError('QEMU closed its monitor')
            self.data += chunk
        line, self.data = self.data.split(b'\n', 1)
        message = json.loads(line)
        assert isinstance(message, dict)
        return message

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run a command; an error is an exception."""
        self.sock.sendall(json.dumps({
            'execute': command,
            'arguments': {k.replace('_', '-'): v
                          for k, v in arguments.items()}}).encode() + b'\n')
        end = time.monotonic() + PATIENCE
        while True:
            message = self._message(end)
            if 'event' in message:
                self.events.append(message)
            elif 'error' in message:
                raise GuestError(f'{command}: {message["error"]["desc"]}')
            elif 'return' in message:
                return message['return']

    def wait_event(self, name: str, limit: float = PATIENCE,
                   **data: Any) -> Dict[str, Any]:
        """Wait for an event, or find one that has come already."""
        end = time.monotonic() + limit
        while True:
            for number, event in enumerate(self.events):
                if event['event'] == name and all(
                        event.get('data', {}).get(k) == v
                        for k, v in data.items()):
                    return self.events.pop(number)
            try:
                message = self._message(end)
            except GuestError as err:
                raise GuestError(f'no event {name}: {err}') from err
            if 'event' in message:
                self.events.append(message)


class Session:
    """QEMU with a guest in session mode, ended at the end."""

    def __init__(self, children: Children, command: List[str], log: Path,
                 limit: float) -> None:
        """COMMAND lacks the monitor, which is added."""
        self.children = children
        ours, theirs = socket.socketpair()
        self.monitor = Monitor(ours)
        self.end = time.monotonic() + limit
        self.text = ''
        # pylint: disable=consider-using-with
        self.out = log.open('wb')
        # QEMU's own words must not stand inside the guest's lines
        self.errors = log.with_suffix('.qemu')
        fd = theirs.fileno()
        command = command + ['-chardev', f'socket,id=qmp,fd={fd}',
                             '-object', 'monitor-qmp,id=qmp0,chardev=qmp']
        self.out.write((' '.join(command) + '\n').encode())
        with self.errors.open('wb') as errors:
            self.proc = children.start(command, stdin=subprocess.PIPE,
                                       stderr=errors, pass_fds=(fd,))
        theirs.close()
        assert self.proc.stdout is not None and self.proc.stdin is not None
        os.set_blocking(self.proc.stdout.fileno(), False)
        self.sel = selectors.DefaultSelector()
        self.sel.register(self.proc.stdout, selectors.EVENT_READ)

    def __enter__(self) -> 'Session':
        try:
            self.monitor.execute('qmp_capabilities')
        except GuestError:
            self._read(1)
            self.close()
            raise
        return self

    def __exit__(self, kind: Optional[Type[BaseException]],
                 value: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.close()

    def close(self) -> None:
        """End it, whatever it does."""
        self.children.end(self.proc)
        self.sel.close()
        for stream in (self.proc.stdin, self.proc.stdout):
            if stream:
                stream.close()
        self.monitor.sock.close()
        self.out.close()

    def _read(self, limit: float) -> bool:
        """Take what the guest has said; False at its end."""
        if not self.sel.select(limit):
            return True
        assert self.proc.stdout is not None
        chunk = self.proc.stdout.read(65536)
        if not chunk:
            return False
        self.out.write(chunk)
        self.out.flush()
        self.text += chunk.decode(errors='replace').replace('\r', '')
        return True

    def wait_for(self, pattern: str, limit: float = PATIENCE) -> str:
        """The text up to a line that has PATTERN; firmware leaves words of
        its own, without an end, before the guest's first."""
        end = min(self.end, time.monotonic() + limit)
        find = re.compile(rf'{pattern}.*\n')
        while True:
            match = find.search(self.text)
            if match:
                text = self.text[:match.end()]
                self.text = self.text[match.end():]
                return text
            left = end - time.monotonic()
            if left <= 0:
                raise GuestError(f'the guest did not say "{pattern}"')
            if not self._read(min(left, 1)):
                raise GuestError(f'QEMU ended (status {self.proc.wait()}) '
                                 f'before the guest said "{pattern}"')

    def wait_ready(self) -> str:
        """Wait until the guest takes a command."""
        return self.wait_for('GUEST: ready')

    def complaints(self) -> List[str]:
        """What QEMU itself has said, but for what it may."""
        text = self.errors.read_text(errors='replace')
        return [line for line in text.splitlines()
                if not re.search(QEMU_MAY_SAY, line)]

    def type(self, line: str) -> None:
        """Send a line to the guest's console."""
        assert self.proc.stdin is not None
        self.proc.stdin.write(line.encode() + b'\n')
        self.proc.stdin.flush()

    def run(self, line: str, limit: float = PATIENCE) -> List[str]:
        """Let the guest run a line; what it said, or an exception."""
        self.type(line)
        text = self.wait_for(r'GUEST: done \d', limit)
        lines = text.splitlines()
        if lines[-1] != 'GUEST: done 0 0':
            raise GuestError(f"'{line}' gave:\n" + '\n'.join(lines[-12:]))
        self.wait_ready()
        return [one for one in lines[:-1] if not one.startswith('GUEST: ready')]

    def wait_end(self) -> None:
        """The guest powers off; QEMU's status must be 0."""
        end = min(self.end, time.monotonic() + PATIENCE)
        while self._read(1):
            if time.monotonic() > end:
                raise GuestError('QEMU did not end')
        status = self.proc.wait(PATIENCE)
        if status:
            raise GuestError(f'QEMU ended with status {status}')


def eventually(what: str, test: Callable[[], bool],
               limit: float = PATIENCE) -> None:
    """Wait for something on the host."""
    end = time.monotonic() + limit
    while not test():
        if time.monotonic() > end:
            raise GuestError(f'{what}: not within {limit:.0f} s')
        time.sleep(0.05)
