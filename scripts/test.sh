#!/usr/bin/env bash
# What CI runs: check (with conformance suites and the crash walk on fakes), the end-to-end tests on the local cloud (the official Python clients among them), the
# story of an instance on a real OpenStack, services of it that go away, things of other projects, and the taskmanager killed there.
source "$(dirname "$0")/lib.sh"
source scripts/parts.sh
need_root

part "packages" scripts/install-packages.sh test
rm -f var/test-*.json
part "check" scripts/check.sh
beside "packages of OpenStack" bash -c 'scripts/install-packages.sh openstack && tests/openstack/lab/lab packages'
part "every engine, every version" scripts/enginetest.sh
join_beside
part "crash walk, every call" scripts/gotest.sh crash -timeout 10m -count=1 -run Crash ./taskmanager
beside "every message lost once" scripts/gotest.sh messages -timeout 15m -count=1 ./tests/messages # it waits most of the time
part "fuzzing, 3 s each" scripts/fuzz.sh 3s
join_beside
part "faults under load" scripts/gotest.sh faults -timeout 10m -count=1 ./tests/faults
part "real Keystone and policy" scripts/gotest.sh oracles -timeout 10m -count=1 ./tests/oracles
part "the real clients" scripts/compat.sh -v
part "crash walk, real" scripts/gotest.sh crashwalk -timeout 20m -count=1 ./tests/crashwalk
part "end to end" scripts/gotest.sh e2e -p 1 -timeout 40m -count=1 ./tests/e2e/... # one at a time: each looks for what is left on the machine
part "attacks" scripts/gotest.sh attacks -timeout 10m -count=1 ./tests/attacks
part "OpenStack" scripts/openstack.sh
part "OpenStack, what goes wrong" scripts/openstack-outages.sh -run '^TestFaults(Foreign|Outages|CrashWalk(Kept)?)$'
parts_summary
count() { cat var/test-*.json | grep '"Test":' | grep -c "\"Action\":\"$1\"" || true; }
printf '\n%d passed, %d failed, %d skipped\n' "$(count pass)" "$(count fail)" "$(count skip)"
