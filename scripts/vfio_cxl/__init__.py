# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules of scripts/vfio-cxl-host.py."""
