# SPDX-License-Identifier: MIT OR GPL-2.0
#
# What the lab's commands share: where things are. Read by each with `.`.
#   $MOTE_CACHE  where kernels, modules and tools are kept (build/cache). Several commands may use it at a time:
#                a thing is made under a name of its own, holding the lock of its kind, and then moved to its place.
set -eu
export LC_ALL=C
lab=$(dirname "$(realpath "$0")")
root=$(realpath "$lab/../..")
cache=${MOTE_CACHE:-$root/build/cache}
mkdir -p "$cache"
cache=$(realpath "$cache")

# 125: the lab's own failure, as distinct from the command's.
die() {
	echo "tools/lab/${0##*/}: $*" >&2
	exit 125
}

# locked NAME: until this command ends. What it starts must not inherit the lock: 9>&-.
locked() {
	exec 9>"$cache/$1.lock"
	flock -w 3600 9 || die "$cache/$1.lock: somebody has held it for an hour"
}

need() {
	for program; do
		command -v "$program" >/dev/null || die "$program is not installed"
	done
}
