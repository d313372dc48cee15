"""Speed and memory of the store on Redis, each figure beside its limit: `python -m benchmarks` writes results.md."""
