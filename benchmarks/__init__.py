"""Benchmarks against other libraries: ``python -m benchmarks``. See README.md."""
