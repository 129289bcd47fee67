"""Tests of optix; `tests.benchmarks` measures."""
