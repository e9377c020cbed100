# Names for commands; each target says what it runs.
.PHONY: demo test kube-rig bench bench-diff criterion fuzz

# The gateway with sample back ends and manifests: proxy on :8080, admin on :8877.
demo:
	cargo run --release -p ringway-proxy -- demo

# Unit, golden, oracle, fuzz-replay and end-to-end tests.
test:
	cargo test --workspace

# etcd, kube-apiserver, kube-controller-manager and kubectl for the tests, into target/kube-rig; needs
# Go. Tests that need them build them too.
kube-rig:
	tests/kube-rig/build.sh

# Side-by-side comparison with nginx, HAProxy and Envoy on one pinned core, about half an hour; in 3
# minutes with ARGS=--quick. Before that the gateway is built as it is released.
bench:
	ringway=$$(deploy/static) && \
		cargo run --release -p ringway-bench -- compare --ringway "$$ringway" $(ARGS)

# Instructions per request, the working tree beside a commit: make bench-diff REV=HEAD~1
bench-diff:
	bench/diff $(REV)

# What single parts cost; the medians go to bench/results/criterion.md.
criterion:
	CRITERION_TABLE=$(CURDIR)/bench/results/criterion.md \
		cargo bench -p ringway-bench --bench criterion --features monoio-http

# Coverage-guided fuzzing of one target: make fuzz TARGET=request_head SECONDS=60
TARGET ?= request_head
SECONDS ?= 60
fuzz:
	fuzz/run $(SECONDS) $(TARGET)
