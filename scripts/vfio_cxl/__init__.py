# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts/vfio-cxl-host.py is made of."""
