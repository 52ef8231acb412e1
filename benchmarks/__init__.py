"""Benchmarks of QueueCTL, alone and against its peers. See README.md."""
