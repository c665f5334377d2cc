# SPDX-License-Identifier: GPL-2.0-or-later
#
# QEMU CXL Type-2 passthrough. `make help` lists the targets.

PYTHON ?= /usr/bin/python3
TOOL = PYTHONDONTWRITEBYTECODE=1 $(PYTHON) tools/
GUEST = ACCEL=$(or $(ACCEL),tcg) QEMU_BUILD=$(CURDIR)/build/qemu/obj \
        GUEST_BUILD=$(CURDIR)/build/guest PYTHONDONTWRITEBYTECODE=1 \
        $(PYTHON) tests/guest/run.py

NESTED = $(subst tests/guest,tests/nested,$(GUEST))

export PYTHON QEMU_SRC QEMU_SRC_SHA256 QEMU_DIST QEMU_CONFIGURE DEBIAN_MIRROR \
       JOBS VFIO_SIM

.PHONY: help
help:
	@sed -n 's/^## \{0,1\}//p' $(MAKEFILE_LIST)

## To use:
##   make run             set up, build, and show the main job in real guests;
##                        ACCEL=kvm uses KVM instead of TCG
##   make check           all tests; the last line counts them
##
##   make install         QEMU, firmware, vfio-sim and documentation to
##                        DESTDIR= PREFIX= (/usr/local)
##   make docs            QEMU's documentation with ours, to build/docs/docs
##   make dist            quilt patches for Debian's package, to build/dist
##
## To work on it:
##   make build           assemble QEMU's tree and build it, vfio-sim, tests
##   make tree            only fetch, check and assemble (build/qemu/src)
##   make refresh         write the hooks (NAME.patch) from the tree;
##                        HOOK=PATH.TOPIC.patch puts the edits into that hook
##   make discard         drop edits in the tree; FILE=PATH for one file
##   make rebase          move the hooks to another release, TO=VERSION
##   make check-unit      unit tests, and tests of the tools
##   make check-qtest     qtests with vfio-sim, more of them than in make check
##   make check-asan      qtests again, with sanitizers for memory and leaks
##   make check-fuzz      the reader of the kernel's interface, a million replies
##   make check-guest     real guests
##   make check-guest-long  guests through long life cycles, 20 minutes or more
##   make check-nested    a real kernel's VFIO, in a guest, on our device
##   make nested          a report on that; KERNEL=DIRECTORY tries your kernel
##   make check-libvirt   real guests started by libvirt
##   make check-install   guests that boot from an installed prefix
##   make check-dist      quilt patches applied to Debian's package
##   make check-upstream  QEMU's own tests, compared with the pristine tree
##   make check-series    check that series/ is complete and each step works
##   make fuzz            10 million replies and a million operations of a
##                        guest; with RUNS=N, N replies only
##   make bench           measure the cost of passthrough; QUICK=1 in a minute
##   make series          write mailable series to build/series; S=NAME for one,
##                        V=2 for its second version
##   make deps            install (or name) the Debian packages needed
##   make clean           remove what was built; downloads stay
##   make distclean       remove build/
##
## Settings: QEMU_SRC=DIRECTORY or TARBALL, QEMU_SRC_SHA256=, QEMU_DIST=directory
## of downloads, JOBS=, PYTHON=, CC=, QEMU_CONFIGURE=more options for configure,
## DEBIAN_MIRROR=, VFIO_SIM=launcher of another vfio-sim than build/vfio-sim's

.PHONY: deps deps-build deps-test deps-guest deps-libvirt deps-docs
deps:
	@tools/deps build test guest libvirt
deps-build:
	@tools/deps build
deps-test:
	@tools/deps build test
deps-docs:
	@tools/deps build docs
deps-libvirt:
	@tools/deps build guest libvirt
deps-guest:
	@tools/deps build guest

.PHONY: tree build
tree: deps-build
	@$(TOOL)tree.py
build: deps-build
	@$(TOOL)build.py

.PHONY: refresh discard rebase
refresh: deps-build
	@HOOK='$(HOOK)' FORCE='$(FORCE)' $(TOOL)tree.py refresh
discard: deps-build
	@FILE='$(FILE)' $(TOOL)tree.py discard
rebase: deps-build
	@TO='$(TO)' $(TOOL)tree.py rebase

# What guests boot is fetched and unpacked while QEMU is configured and built
.PHONY: run emulators prepare
run: deps-guest
	@+$(MAKE) --no-print-directory -j2 emulators prepare
	@$(GUEST) demo
emulators: deps-build
	@$(TOOL)build.py emulators
prepare:
	@$(GUEST) prepare

.PHONY: check check-unit check-qtest check-asan check-fuzz check-guest check-libvirt check-install \
        check-dist check-upstream check-series check-nested
check: deps
	@$(TOOL)check.py
check-unit: deps-test
	@$(TOOL)check.py unit tools
check-qtest check-asan check-fuzz check-upstream check-series: check-%: deps-test
	@$(TOOL)check.py $*
check-dist: deps-test
	@$(TOOL)check.py dist
check-guest check-nested: check-%: deps-guest
	@$(TOOL)check.py $*
check-install: deps-guest
	@$(TOOL)check.py install
check-libvirt: deps-libvirt
	@$(TOOL)check.py libvirt
.PHONY: check-guest-long
check-guest-long: deps-guest build
	@$(GUEST) prepare
	@$(GUEST) check --long

.PHONY: nested
nested: deps-guest build
	@$(NESTED)

.PHONY: fuzz
fuzz: deps-test
	@$(TOOL)fuzz.py $(RUNS)

.PHONY: bench
bench: deps-build
	@QUICK='$(QUICK)' $(TOOL)bench.py

.PHONY: install docs dist
install: deps-build
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' $(TOOL)install.py
docs: deps-docs
	@$(TOOL)docs.py
dist: deps-test
	@$(TOOL)dist.py

.PHONY: series
series: deps-test
	@V='$(V)' $(TOOL)series.py $(S)

.PHONY: clean distclean
clean:
	rm -rf build/qemu/obj build/qemu/sanitized build/vfio-sim build/series \
	       build/results
distclean:
	rm -rf build
