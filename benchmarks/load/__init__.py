"""The load generators of the suite, each run in a process of its own: `python -m benchmarks.load < order.json`.

They are light, because they share the machine with what they measure, and they are the same for every server. Every
answer is checked. docs/decisions/0021-benchmark-peers.md says why they were written and what was measured with others.
"""
