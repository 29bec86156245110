# layerlab with its scenarios, its own proxies and the peers that Debian has; for agents on
# Kubernetes (docs/kubernetes.md) and for runs in a container.
#
#   docker build -t layerlab .
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p loadgen

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends haproxy nginx libnginx-mod-stream nghttp2-proxy \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /layerlab
COPY --from=build /src/target/release/loadgen /usr/local/bin/loadgen
COPY scenarios scenarios
ENTRYPOINT ["loadgen"]
