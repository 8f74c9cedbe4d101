# skiff: see README.md. `make help` lists the targets.
export CGO_ENABLED := 0

GO ?= go
VERSION ?= v1.37.2+skiff.1
# Functions begin at multiples of 4 bytes in place of 32: 2 MB less.
LDFLAGS := -s -w -funcalign=4 -X skiff/cluster/version.Version=$(VERSION)
SHIM := kubelet/cri/shimbin/files/shim.zst
SHIM_SOURCES := $(wildcard kubelet/cri/shim/*.go kubelet/cri/shimapi/*.go) go.mod
RACE := ./kine/group/... ./kine/mvcc/... ./kine/watchhub/... ./apiserver/store/... ./controllers/loop/... ./scheduler/queue/... ./scheduler/cache/...
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# What make test-vm runs; TestWireGuardAndIPVS is a cluster with both, and takes a quarter of an hour.
VM_CASES ?= TestCluster/(server-answers|pod-from-registry)$$
# The unit tests that need modules of Debian's kernel, as PACKAGE:TESTS, which make
# test-vm-modules runs.
VM_TESTS ?= ./kubelet/network:TestWireGuard|TestPodsTalk/wireguard ./kubelet/network/policy:TestIPVS ./proxy/ipvs:TestPackets|TestEnding|TestClean ./proxy:IPVS ./kubelet/volumes/iscsi:TestTarget
# The Debian packages of an iSCSI target, and of what the node needs for its disks.
VM_PACKAGES ?= open-iscsi libopeniscsiusr libisns0 tgt udev
# Whose benchmarks it runs, and which: one kernel has both, so they can be compared.
VM_BENCHES ?= ./proxy/nftables ./proxy/ipvs
VM_SIZES ?= Services/services=(100|1000),
# How many minutes each of the chaos tests runs.
CHAOS_MINUTES ?= 5
# What make bench-stores measures; its flags are in e2e/bench/stores.
BENCH ?= -measure put,range,watch -servers etcd,sqlite,postgres
# How many seconds each fuzz target runs.
FUZZ_SECONDS ?= 30
# Where `make up` puts the cluster; empty is the machine itself.
ROOT ?=

.PHONY: help build deps test-deps up down reset kubectl test unit race e2e e2e-containerd test-vm test-vm-modules chaos fuzz lint bench bench-stores images clean

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

build: $(SHIM) ## build bin/skiff
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/skiff ./cmd/skiff

$(SHIM): $(SHIM_SOURCES)
	CGO_ENABLED=1 GOEXPERIMENT=jsonv2 $(GO) build -tags 'seccomp osusergo netgo' -ldflags '-s -w -linkmode external -extldflags -static' -o bin/shim ./kubelet/cri/shim
	zstd --ultra -22 -q -f bin/shim -o $@

deps: ## install the Debian packages that the shim and the tests need
	./scripts/install-packages

test-deps: deps
	./scripts/install-packages tests

up: deps build ## start a cluster on this machine, deploy the example and show it answering
	./scripts/up '$(ROOT)'

down: ## stop the cluster that `make up` started
	./scripts/down '$(ROOT)' down

reset: ## stop it and leave nothing behind
	./scripts/down '$(ROOT)' reset

kubectl: ## build bin/kubectl
	$(GO) build -ldflags '-s -w' -o bin/kubectl ./cmd/kubectl

test: test-deps lint build unit race e2e ## run everything that must pass

unit: build ## run the unit tests
	GO='$(GO)' ./scripts/gotest -timeout 15m $$($(GO) list ./... | grep -vE '^skiff/e2e(/conformance)?$$')

race: ## run the concurrent packages under the race detector
	CGO_ENABLED=1 $(GO) test -race -vet=off -timeout 10m $(RACE)

chaos: test-deps ## break the store for CHAOS_MINUTES (5) in each of many ways; the unit tests have the short form
	SKIFF_CHAOS_MINUTES=$(CHAOS_MINUTES) $(GO) test -count=1 -p 1 -timeout $$(( $(CHAOS_MINUTES) * 10 + 30 ))m -run 'TestChaos|TestFailover|TestKilled|TestPaused|TestPowerLoss|TestEtcdMembersDie' -v \
		./kine/sqlite ./kine/postgres ./kine/chaos

fuzz: ## feed each decoder FUZZ_SECONDS (30) of what nobody should send; the unit tests run the corpus
	GO='$(GO)' ./scripts/fuzz '$(FUZZ_SECONDS)'

e2e: build ## drive real clusters with the kubectl in PATH, or else with our own
	@command -v kubectl >/dev/null || $(MAKE) kubectl
	GO='$(GO)' ./scripts/e2e

# Cases that need a second node, or skiff's own pod network or image store, are left out,
# and those of DRA drivers: Debian's containerd 1.6 knows no CDI.
CONTAINERD_CASES ?= pod-from-registry|pod-logs-exec-copy|pod-terminal-attach|pod-port-forward|pod-configmap-secret|pod-restart|pod-probes|pod-graceful-end|deployment-rollout|service-cluster-ip|service-account-in-pod|statefulset-with-volumes|static-pods|kubelet-endpoints|events-and-top|job|cronjob|daemonset

e2e-containerd: build ## the e2e cases of pods on Debian's containerd in place of skiff's own runtime
	./scripts/install-packages containerd
	@command -v kubectl >/dev/null || $(MAKE) kubectl
	PATH="$$PATH:$(CURDIR)/bin" SKIFF_E2E_RUNTIME=containerd SKIFF_E2E=$(CURDIR)/bin/skiff $(GO) test -count=1 -timeout 20m -run 'TestCluster/($(CONTAINERD_CASES))$$' ./e2e

test-vm: build ## run a pod on two nodes in a virtual machine with cgroup v2 (slow: software emulation)
	$(GO) test -c -o bin/e2e.test ./e2e
	cd e2e && SKIFF_E2E=$(CURDIR)/bin/skiff VM_MEMORY=6000 ../scripts/vm ../bin/e2e.test -test.v -test.run '$(VM_CASES)'

test-vm-modules: ## test WireGuard, IPVS and iSCSI in a virtual machine, whose kernel has them (VM_TESTS; very slow)
	set -e; for t in $(foreach t,$(VM_TESTS),'$(t)'); do \
		$(GO) test -c -o bin/vm.test "$${t%%:*}"; \
		(cd "$${t%%:*}" && VM_SECONDS=3600 VM_PACKAGES='$(VM_PACKAGES)' $(CURDIR)/scripts/vm $(CURDIR)/bin/vm.test -test.v -test.run "$${t#*:}"); \
	done
	set -e; for p in $(VM_BENCHES); do \
		$(GO) test -c -o bin/vm.test "$$p"; \
		(cd "$$p" && VM_SECONDS=3600 $(CURDIR)/scripts/vm $(CURDIR)/bin/vm.test -test.run '^$$' -test.bench '$(VM_SIZES)' -test.benchtime 5x); \
	done

lint: ## gofmt, vet and staticcheck
	@test -z "$$(gofmt -l . )" || { gofmt -l . ; echo "run gofmt -w on these"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) -checks 'all,-ST1000,-ST1003,-ST1005,-ST1020,-ST1021,-ST1022,-ST1016,-ST1012,-SA1019,-QF*' ./...

images: ## serve the test images as a registry on 127.0.0.1:5000
	$(GO) run ./testdata/images --listen 127.0.0.1:5000

bench: build ## measure a one-node cluster: prints JSON lines
	./scripts/bench

bench-stores: build ## measure the store's etcd face next to an etcd: BENCH names what
	$(GO) test -count=1 -timeout 3h -v -run TestCompare ./e2e/bench/stores -skiff $(CURDIR)/bin/skiff $(BENCH)

clean: ## remove what build made
	rm -rf bin $(SHIM)
