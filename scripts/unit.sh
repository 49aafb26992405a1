#!/usr/bin/env bash
# All tests but those on the real local cloud (end to end, attacks) and in emulated machines, with the race detector. Skips that are not in tests/allowed-skips.txt fail. The engines
# whose servers Debian 12 does not have are tested in their image roots alone (enginetest.sh).
source "$(dirname "$0")/lib.sh"
mkdir -p var
own='e2e(/.*)?|openstack(/.*)?|attacks|crashwalk|messages|faults|compat|oracles|machine' # each is a part of its own
mapfile -t packages < <(go list ./... | grep -vE -e "/tests/($own)\$" -e '/engine/(mysql|valkey)$')
scripts/gotest.sh unit -race -timeout 20m "${packages[@]}"
