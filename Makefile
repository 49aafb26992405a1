# Every target is a line or a script. `make help` lists them.
SHELL := /bin/bash
GO ?= go
STATE ?= var/dev
# A release sets it. It is part of the agent's binary and so of every image's id: a version of each commit would build every image anew.
VERSION ?= devel
LDFLAGS := -s -w -X main.version=$(VERSION)
BIN := bin/tools
LINT := $(BIN)/golangci-lint

export TROVE_DEMO_STATE = $(STATE)

.PHONY: help demo demo-vm stop destroy build clean tools format check lint unit enginetest generate fresh test compat openstack-lab e2e-openstack e2e-openstack-faults e2e-openstack-outages test-long bench bench-provision bench-agent bench-api bench-fleet bench-openstack-scale fuzz
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: ## from nothing to a row in a real database (root)
	@scripts/demo.sh
demo-vm: ## the demo, a service, a reboot in an emulated Debian 12 with systemd and cgroup v2; long (root)
	@scripts/demo-vm.sh
stop: ## stop the control plane; the databases go on
	@[ -x bin/trove ] || $(MAKE) -s build
	@bin/trove dev stop --state $(STATE)
destroy: ## remove instances, networks and state from this machine; asks, or FORCE=1
	@scripts/destroy.sh
build: ## build both binaries into bin/
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/trove ./cmd/trove-guestagent
	@for name in trove-api trove-taskmanager trove-conductor; do ln -sf trove bin/$$name; done
clean: ## remove build outputs
	rm -rf bin dist

tools: $(LINT) ## build the linters and test tools
$(LINT): tools/go.mod tools/go.sum
	cd tools && $(GO) build -o ../$(BIN)/ tool
	@touch $(LINT)

format: tools ## format the code
	$(BIN)/gofumpt -w -modpath github.com/trove-dbaas/trove $$(git ls-files -co --exclude-standard '*.go')
check: ## format, vet, lint, unit tests with the race detector, generated files fresh
	@scripts/check.sh
generate: ## write what is generated: API description, reference texts, module lists, golden files of steps
	@scripts/generate.sh
test: ## everything that CI runs: check, conformance, crash walk, e2e on the local cloud (root)
	@scripts/test.sh
enginetest: ## every engine driver in every version's own root; ENGINE=name VERSION=v for some; prints the matrix (root)
	@scripts/enginetest.sh $(if $(ENGINE),-engine $(ENGINE)) $(if $(filter-out devel,$(VERSION)),-version $(VERSION))
compat: ## the real OpenStack clients over every command they have; the table goes to docs/evidence (root)
	@scripts/compat.sh
openstack-lab: ## an OpenStack of Debian 12's packages on this machine, in /tmp/lab; `tests/openstack/lab/lab down -x` takes it away (root)
	@tests/openstack/lab/lab up
e2e-openstack: ## the lab, our binaries, an image, the story of an instance through the official client; LONG=1 for all of it (root)
	@scripts/openstack.sh
e2e-openstack-faults: ## the taskmanager killed around its steps on the lab; LONG=1 for all of them (root)
	@scripts/openstack-faults.sh
e2e-openstack-outages: ## services of OpenStack stopped during operations, faults, things of other projects, on a lab of its own; LONG=1 for all of it (root)
	@scripts/openstack-outages.sh
test-long: ## what is too long for CI; the results go to docs/evidence (root)
	@scripts/test-long.sh
bench: tools ## benchmarks of the packages
	$(GO) test -run '^$$' -bench . -benchmem ./... | tee var/bench.txt
bench-provision: ## create --wait to a successful login, 50 times (root)
	@scripts/bench-provision.sh
bench-agent: ## what the guest agent costs beside each engine under load; minutes (root)
	@scripts/bench-agent.sh
bench-api: ## trove-api on one processor under wrk, on SQLite and PostgreSQL; about three minutes (root)
	@scripts/bench-api.sh
bench-fleet: ## 10,000 simulated guests against the controllers; long
	@scripts/bench-fleet.sh
bench-openstack-scale: ## 100 instances at once on OpenStack's fake hypervisor against a bare script; about an hour (root)
	@scripts/openstack-scale.sh
fuzz: ## each fuzz target for 30 s
	@scripts/fuzz.sh 30s
