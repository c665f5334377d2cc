# SPDX-License-Identifier: GPL-2.0-or-later
#
# QEMU CXL Type-2 passthrough. `make help` lists what can be made.

PYTHON ?= /usr/bin/python3
TOOL = PYTHONDONTWRITEBYTECODE=1 $(PYTHON) tools/

export PYTHON QEMU_SRC QEMU_SRC_SHA256 QEMU_CONFIGURE DEBIAN_MIRROR HOOK FILE FORCE JOBS ACCEL

.PHONY: help
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make tree           fetch the pinned QEMU, check it, assemble our tree
.PHONY: tree
tree:
	@$(TOOL)tree.py

## make refresh        write the hooks (NAME.patch) from the assembled tree;
##                     HOOK=PATH.TOPIC.patch puts the edits into that hook
.PHONY: refresh
refresh:
	@$(TOOL)refresh.py

## make discard        drop edits in the assembled tree; FILE= for one file
.PHONY: discard
discard:
	@$(TOOL)discard.py

## make build          assemble and build
.PHONY: build
build:
	@$(TOOL)build.py

## make check-upstream QEMU's own tests, compared with the pristine tree
.PHONY: check-upstream
check-upstream:
	@$(TOOL)upstream.py
