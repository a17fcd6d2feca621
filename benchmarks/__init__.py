"""Forebay beside what people use instead, in one run on one machine: ``python -m benchmarks``."""
