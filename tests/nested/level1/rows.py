# The rows of the report.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""Observations, a line for each fact."""

import json

MARK = 'NESTED: '


class Rows:
    """Rows, printed as they come."""

    @staticmethod
    def add(name: str, value: str) -> None:
        """An observation."""
        print(MARK + json.dumps([name, value]), flush=True)

    def fail(self, name: str, why: str) -> None:
        """A failure."""
        self.add(name, f'FAIL {why}')
