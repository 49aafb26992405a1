#!/usr/bin/env bash
# All tests but those on the real local cloud (end to end, attacks) and in emulated machines, with the race detector. Skips that are not in tests/allowed-skips.txt fail. The engines
# whose servers Debian 12 does not have are tested in their image roots alone (enginetest.sh).
source "$(dirname "$0")/lib.sh"
mkdir -p var
mapfile -t packages < <(go list ./... | grep -v -e '/tests/e2e' -e '/tests/attacks$' -e '/tests/crashwalk$' -e '/tests/messages$' -e '/tests/faults$' -e '/tests/compat$' -e '/tests/oracles$' -e '/tests/machine$' -e '/engine/mysql$' -e '/engine/valkey$')
scripts/gotest.sh unit -race -timeout 20m "${packages[@]}"
