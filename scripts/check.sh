#!/usr/bin/env bash
# Format, vet, lint with the import rules, unit tests with the race detector, generated files fresh. Each part is timed.
source "$(dirname "$0")/lib.sh"
source scripts/parts.sh

mapfile -t files < <(git ls-files -co --exclude-standard '*.go')
part "tools" make -s tools
part "format" bash -c '[ -z "$(bin/tools/gofumpt -l -modpath github.com/trove-dbaas/trove "$@" | tee /dev/stderr)" ]' _ "${files[@]}"
part "vet" go vet ./...
part "lint" bin/tools/golangci-lint run ./...
part "generated files" scripts/generate.sh --check
part "unit tests" scripts/unit.sh
parts_summary
