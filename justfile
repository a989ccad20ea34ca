# `just` lists the recipes; `just check` is exactly what CI runs.

_default:
    @just --list

# Everything CI checks
check:
    .ci/run

# The daemon, unprivileged, on port 5300
run *ARGS:
    cargo run --release -- run --listen 127.0.0.1:5300 {{ARGS}}

# The tests; pass a filter to run some
test *ARGS:
    cargo test {{ARGS}}

# The benchmarks of the hot paths
bench *ARGS:
    cargo bench {{ARGS}}

# A fuzz target, or `all` of them, for so many seconds each
fuzz TARGET="all" SECONDS="60":
    fuzz/run {{TARGET}} {{SECONDS}}

# The same questions to truename and unbound over one upstream; needs root, named and unbound
differential *ARGS:
    benches/side-by-side/differential/run {{ARGS}}
