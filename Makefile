# Every target is a line or a script. `make help` lists them.
SHELL := /bin/bash
GO ?= go
LDFLAGS := -s -w
LINT := bin/tools/golangci-lint

.PHONY: help build tools
help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

build: ## build both binaries into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/trove ./cmd/trove-guestagent

tools: $(LINT) ## build the linters and test tools
$(LINT): tools/go.mod tools/go.sum
	cd tools && $(GO) build -o ../bin/tools/ tool
