"""What the benchmarks share: the machine, repetitions in turn, tables, peers in their own place."""
