#!/usr/bin/env bash
# What is too long for CI, with results under docs/evidence: provisioning 50 times, an upgrade of 1 GB and back, the figures of the whole service, benchmarks of the packages, what the
# agent costs beside each engine, volumes filled and grown 20 times, a fleet of guests, 100 instances at once on OpenStack, its services away, the demo in an emulated machine, each fuzz target for two minutes.
source "$(dirname "$0")/lib.sh"
source scripts/parts.sh
need_root
part "packages" scripts/install-packages.sh test
part "provisioning" scripts/bench-provision.sh
part "upgrades" scripts/bench-upgrade.sh
part "the whole service" scripts/bench-service.sh
part "benchmarks" scripts/bench-packages.sh
part "what the agent costs" scripts/bench-agent.sh
part "full volumes" scripts/full-volume.sh
part "fleet" scripts/bench-fleet.sh
part "many instances at once on OpenStack" scripts/openstack-scale.sh
part "demo in an emulated machine" scripts/demo-vm.sh
part "a guest in a machine of its own" scripts/machinetest.sh
part "OpenStack" env LONG=1 scripts/openstack.sh
part "OpenStack, its services away" env LONG=1 scripts/openstack-outages.sh
part "OpenStack, the taskmanager killed" env LONG=1 scripts/openstack-faults.sh
part "requests from schemas" scripts/gotest.sh schemas -timeout 60m -count=1 -run TestRequestsFromSchemas ./api -rapid.checks 1000
part "fuzzing" scripts/fuzz.sh "${FUZZ_TIME:-2m}"
parts_summary
