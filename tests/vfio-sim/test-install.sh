#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# test-install.sh MESON BUILD PREFIX BINDIR VERSION: vfio-sim works from where
# it is installed, and from where that is moved to.

set -eu
meson=$1 build=$2 prefix=$3 bindir=$4 version=$5
host=0000:c1:00.0
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
count=0
failed=0

check() {
    name=$1
    shift
    count=$((count + 1))
    if ( "$@" ) >"$top/log" 2>&1; then
        echo "ok $count $name"
    else
        echo "not ok $count $name"
        sed 's/^/# /' "$top/log"
        failed=1
    fi
}

works() {
    sim=$1$prefix/$bindir/vfio-sim
    [ "$("$sim" --version)" = "vfio-sim $version" ] || exit 1
    case $("$sim" --library) in
    "$1$prefix"/*/libvfio-sim.so) ;;
    *) "$sim" --library; exit 1 ;;
    esac
    "$sim" -- cat "/sys/bus/pci/devices/$host/vendor" >"$top/vendor"
    [ "$(cat "$top/vendor")" = 0x1af4 ] || exit 1
    # That was a file of the launcher's; this is the library's
    "$sim" -- sh -c ': <>/dev/vfio/vfio'
}

check /vfio-sim/install/install \
    "$meson" install -C "$build" --no-rebuild --quiet --destdir "$top/first"
check /vfio-sim/install/works works "$top/first"
check /vfio-sim/install/moves mv "$top/first" "$top/second"
check /vfio-sim/install/works-moved works "$top/second"
echo "1..$count"
exit $failed
