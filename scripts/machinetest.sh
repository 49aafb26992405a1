#!/usr/bin/env bash
# machinetest.sh: builds the whole-disk image of MariaDB twice, from the archive, whose reproducible parts must be the same, and boots it in an emulated machine (root). About
# four minutes, of which the packages take half.
source "$(dirname "$0")/lib.sh"
need_root
scripts/install-packages.sh disk
mkdir -p var
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=devel' -o var/machine/ ./cmd/trove ./cmd/trove-guestagent
build() {
	var/machine/trove image build --state var/machine/state --datastore mariadb --datastore-version 10.11 --format qcow2 --output "$@"
}
sum() { sed -n 's/.*"disk_sha256": "\(.*\)".*/\1/p' "$1.json"; }
say "building the image, twice"
build var/machine/mariadb.qcow2
build var/machine/again.qcow2 --refresh
[ -n "$(sum var/machine/mariadb.qcow2)" ] && [ "$(sum var/machine/mariadb.qcow2)" = "$(sum var/machine/again.qcow2)" ] ||
	die "two builds differ: $(sum var/machine/mariadb.qcow2) and $(sum var/machine/again.qcow2)"
rm -f var/machine/again.qcow2*
say "booting it"
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=1.1.0' -o var/machine/release/ ./cmd/trove-guestagent
export TROVE_TEST_DISK=$PWD/var/machine/mariadb.qcow2
# The first build has made the keys of releases.
export TROVE_TEST_RELEASE=$PWD/var/machine/release/trove-guestagent TROVE_TEST_RELEASE_KEY=$PWD/var/machine/state/keys/agent-release
exec scripts/gotest.sh machine -timeout 20m -count=1 ./tests/machine
