"""Figures, each printed beside what it is compared to: `make bench` runs the suite, `make bench-parts` the others.

docs/benchmarks.md has results.
"""
