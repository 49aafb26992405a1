#!/usr/bin/env bash
# gotest.sh NAME ARGUMENTS...: go test with a short report; the result stays in var/test-NAME.json. A skipped test fails the run unless its name is in
# tests/allowed-skips.txt.
source "$(dirname "$0")/lib.sh"
name=$1
shift
mkdir -p var
json=var/test-$name.json
bin/tools/gotestsum --format pkgname-and-test-fails --hide-summary=skipped --jsonfile "$json" -- "$@"
skips=$(grep -h '"Action":"skip"' "$json" | grep -o '"Test":"[^"]*"' | cut -d'"' -f4 | sort -u | grep -vxFf <(grep -v '^#' tests/allowed-skips.txt) || true)
[ -z "$skips" ] || die "skipped, and not allowed to be (tests/allowed-skips.txt): $skips"
