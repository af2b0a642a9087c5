"""Benchmarks: `pytest bench/` times kernels, `python -m bench.imdb_epochs` whole training epochs. Every case asserts
its answer."""
