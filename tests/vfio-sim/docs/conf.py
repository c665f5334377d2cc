# SPDX-License-Identifier: GPL-2.0-or-later
"""Sphinx configuration for the manual page."""

project = 'vfio-sim'
root_doc = 'vfio-sim'
man_pages = [('vfio-sim', 'vfio-sim',
              'CXL devices for VFIO on any Linux machine', [], 1)]
