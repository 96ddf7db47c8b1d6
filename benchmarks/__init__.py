"""gentheory beside its peers: the same work on the same nets and data, run in turn.

`make bench` makes the table of `reports/benchmarks`; `python -m benchmarks --help` runs parts of
it. One file a comparison: what the work is, how each contestant does it in its best configuration,
and when two answers count as the same.
"""
