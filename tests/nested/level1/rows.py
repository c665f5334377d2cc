# The rows of the report.
#
# SPDX-License-Identifier: GPL-2.0-or-later

"""What was seen, a line for each fact."""

import json

MARK = 'NESTED: '


class Rows:
    """Rows, printed as they come."""

    @staticmethod
    def add(name: str, value: str) -> None:
        """Something that was seen."""
        print(MARK + json.dumps([name, value]), flush=True)

    def fail(self, name: str, why: str) -> None:
        """Something that must not be so."""
        self.add(name, f'FAIL {why}')
