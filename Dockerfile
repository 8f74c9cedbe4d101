# A node of skiff in a privileged container: see docs/install.md.
FROM golang:1.26-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev pkg-config libseccomp-dev make zstd \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN make build

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates iptables libseccomp2 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/bin/skiff /usr/local/bin/skiff
# Image layers and pods' volumes must not be on the container's own overlay.
VOLUME ["/var/lib/skiff", "/var/lib/kubelet"]
EXPOSE 6443
# up sets the node up, or finds what it set up before, starts it and waits; then
# the log is followed, and a stop of the container stops the node.
ENTRYPOINT ["/bin/sh", "-c", "trap 'skiff down; exit 0' TERM INT; skiff up || { tail -n 50 /var/log/skiff.log; exit 1; }; tail -F /var/log/skiff.log & wait $!"]
