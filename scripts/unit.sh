#!/usr/bin/env bash
# All tests but the end-to-end ones, with the race detector. Skips that are not in tests/allowed-skips.txt fail.
source "$(dirname "$0")/lib.sh"
mkdir -p var
mapfile -t packages < <(go list ./... | grep -v '/tests/e2e')
scripts/gotest.sh unit -race -timeout 20m "${packages[@]}"
