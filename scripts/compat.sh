#!/usr/bin/env bash
# The real clients of OpenStack Trove over every command and method that they have, against a deployment in the test's own process, or against the one that
# COMPAT_AUTH_URL and its like name (tests/compat/server_test.go). The table of commands and results goes to docs/evidence/compat.md. Needs root: the clients of
# the newer release, Horizon and Tempest are in root file systems of their own. Options of go test may follow, such as -run Gophercloud; then nothing is written.
source "$(dirname "$0")/lib.sh"
need_root
make -s tools
scripts/install-packages.sh test
COMPAT_ROOT=$(scripts/client-root.sh trixie)
export COMPAT_ROOT
scripts/client-root.sh bookworm dashboard >/dev/null
scripts/client-root.sh trixie dashboard >/dev/null
[ $# = 0 ] || exec scripts/gotest.sh compat -timeout 15m -count=1 ./tests/compat "$@"
tables=$(mktemp -d)
trap 'rm -rf "$tables"' EXIT
scripts/gotest.sh compat -timeout 15m -count=1 ./tests/compat -args -evidence "$tables"
{
	echo "# What the clients of OpenStack Trove get here"
	echo
	echo "Command: \`make compat\`. Commit $(git rev-parse --short HEAD), $(date -u +%F) ($([ -z "${COMPAT_AUTH_URL:-}" ] && echo "API, store, taskmanager, conductor and guest agents as shipped, over a cloud and databases in memory; for Horizon and Tempest over real MariaDB servers" ||
		echo "against a running deployment"))."
	echo
	echo "\`expected\` is what the original does: a pattern of the output, or of an error. What differs has its reason, and"
	echo "stands in \`tests/compat/testdata/expectations.json\`. \$name stands for a name or an id."
	echo
	cat "$tables"/*.md
} >docs/evidence/compat.md
say "docs/evidence/compat.md was written"
