# skiff: see README.md. `make help` lists the targets.
export CGO_ENABLED := 0
GO ?= go
VERSION ?= v1.37.2+skiff.1
LDFLAGS := -s -w -X skiff/cluster/version.Version=$(VERSION)
RACE := ./kine/... ./apiserver/store/... ./controllers/loop/...
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: help build deps test unit race e2e lint clean

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

build: ## build bin/skiff
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/skiff ./cmd/skiff

deps: ## install the Debian packages that the shim and the tests need
	./scripts/install-packages

test: deps lint unit race e2e ## run everything that must pass

unit: ## run the unit tests
	$(GO) test ./...

race: ## run the concurrent packages under the race detector
	CGO_ENABLED=1 $(GO) test -race $(RACE)

e2e: build ## drive the built binary with kubectl
	SKIFF_E2E=$(CURDIR)/bin/skiff $(GO) test -count=1 -timeout 20m ./e2e/...

lint: ## gofmt, vet and staticcheck
	@test -z "$$(gofmt -l . )" || { gofmt -l . ; echo "run gofmt -w on these"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

clean: ## remove what build made
	rm -rf bin
