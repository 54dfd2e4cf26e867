"""What NormCT costs: `make bench` prints a table and writes results/bench.json."""
