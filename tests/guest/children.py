# The processes that run, to be ended with us.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""QEMUs, each with what it started."""

import os
import signal
import subprocess
import threading
from typing import Any, List, Set


class Children:
    """Process groups that were started and have not been ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: Set[int] = set()
        self._closed = False

    def start(self, command: List[str], **options: Any) -> \
            'subprocess.Popen[bytes]':
        """Start a program in a session of its own."""
        with self._lock:
            if self._closed:
                raise InterruptedError('no more guests')
            # pylint: disable=consider-using-with
            proc = subprocess.Popen(command, start_new_session=True,
                                    stdout=subprocess.PIPE, **options)
            self._groups.add(proc.pid)
        return proc

    def end(self, proc: 'subprocess.Popen[bytes]') -> None:
        """End a program and what it left behind."""
        self._kill(proc.pid)
        proc.wait()
        with self._lock:
            self._groups.discard(proc.pid)

    def end_all(self) -> None:
        """End them all, and start no more."""
        with self._lock:
            self._closed = True
            for pid in self._groups:
                self._kill(pid)

    @staticmethod
    def _kill(pid: int) -> None:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
