"""The benchmarks: `python -m bench`, which `make bench` runs; README.md sums up the last full run.

Every figure is a rate or a time measured next to a reference in the same run; the ratio of their medians is
the result. Nothing in the product imports this package.
"""
