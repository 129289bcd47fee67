"""Measurements: how well it learns, how fast it runs, when it stops.

Run one by `python -m tests.benchmarks.NAME`. Nothing here is asserted in the test suite.
"""
