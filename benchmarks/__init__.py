"""Figures, each printed beside what it is compared to. `make bench` runs them all; docs/benchmarks.md has results."""
