# What CI runs, and what a person runs. `just` lists them.

default:
    @just --list

# Formatting, as CI checks it
fmt:
    cargo fmt --all --check

# Lints, as CI checks them
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Every test that needs nothing but a Rust toolchain
test:
    cargo test --workspace --locked

# The whole job, on real data
demo *ARGS:
    cargo run --release --bin understudy -- demo {{ARGS}}

# Against real peers: tritonclient, grpc-health-probe, grpcurl, an OpenTelemetry collector
interop *ARGS:
    tests/interop/run {{ARGS}}

# Advisories, licences, duplicate versions, sources
deny:
    cargo deny check advisories bans licenses sources

# Everything that CI runs
ci:
    .ci/run
