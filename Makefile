# fastsync: build, run, test. `make run` shows a file arriving.
SHELL  := /bin/bash
GO     ?= go
SOURCE ?=
TARGET ?=
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.PHONY: build run test race lint fuzz bench profile faults soak check deps-run deps-test clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/fastsync ./cmd/fastsync

# Installs a Debian package only where its command is missing.
define need
command -v $(1) >/dev/null || [ -x /usr/sbin/$(1) ] || missing="$$missing $(2)";
endef
define install
[ -z "$$missing" ] || { sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; $$sudo apt-get update -q && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; }
endef

deps-run:
	@missing=; $(call need,rsync,rsync) $(call need,redis-server,redis-server) $(call need,ssh,openssh-client) $(install)

deps-test: deps-run
	@missing=; $(call need,sshd,openssh-server) $(call need,openssl,openssl) $(call need,php,php-cli) \
	  php -m 2>/dev/null | grep -qi '^redis$$' || missing="$$missing php-redis"; $(install)

run: deps-run build
	@./contrib/demo.sh '$(SOURCE)' '$(TARGET)'

test: deps-test build
	$(GO) test ./...

race: deps-test
	$(GO) test -race ./...

# Beside fastsync it measures lsyncd and an inotifywait loop where they are installed.
# A part: make bench BENCH='-only single'. See docs/BENCHMARKS.md.
bench: deps-test build
	$(GO) run ./internal/bench $(BENCH)

# Profiles of fastsync in a burst and under a steady load.
PROFILE ?= bin/profile
profile: deps-test build
	$(GO) run ./internal/bench -profile '$(PROFILE)' $(BENCH)

# Breaks what fastsync stands on, on purpose, and sees that its promises hold: some
# 10 minutes. See docs/RELIABILITY.md.
faults: deps-test
	$(GO) run ./internal/faults $(FAULTS)

# The same faults at random, for MINUTES.
MINUTES ?= 60
soak: deps-test
	$(GO) run ./internal/faults -storm $(MINUTES)m $(FAULTS)

lint:
	$(GO) tool -modfile=tools/go.mod golangci-lint run ./...

check: build lint
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$unformatted" ] || { echo "not gofmt-ed: $$unformatted"; exit 1; }
	$(GO) vet ./...

# Every fuzz target for FUZZTIME each.
FUZZTIME ?= 20s
fuzz: deps-test
	@set -e; grep -rn --include='*_test.go' -oE '^func Fuzz[A-Za-z0-9_]+' . | sort | while IFS=: read -r file _ name; do \
	  echo "$${name#func } in $$(dirname "$$file")"; \
	  timeout -k 10 600 $(GO) test -run='^$$' -fuzz="^$${name#func }\$$" -fuzztime=$(FUZZTIME) "./$$(dirname "$$file")" </dev/null; \
	done

clean:
	rm -rf bin
