"""Benchmarks: what the product takes, beside what people would use instead, both measured in one run."""
