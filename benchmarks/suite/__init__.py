"""serving_app beside other servers: the same models, requests and load, in turn on one machine.

    make bench                          all of it, about two hours on two cores
    python -m benchmarks.suite --quick  in twenty minutes

Each model is a chapter: every contender is started with it, its answer is checked, all are measured in turn for several
rounds, and ended. What is not being measured is stopped (SIGSTOP), so that idle servers take no time from others.
docs/benchmarks.md has the figures, docs/decisions/0021-benchmark-peers.md says how the peers are set up and why.
"""
