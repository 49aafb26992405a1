#!/usr/bin/env bash
# enginetest.sh [-engine NAME] [-version V] [-run REGEXP] [-jobs N]: the tests of the engine drivers in the root file system of each recipe, and the matrix (root).
# Root file systems are kept where the end-to-end tests keep theirs: each is made once, in about half a minute.
source "$(dirname "$0")/lib.sh"
need_root
mkdir -p var
go build -o var/enginematrix ./tests/enginematrix
exec var/enginematrix -cache "${TROVE_CACHE:-$PWD/var/cache}" -json var/test-enginetest.json "$@"
