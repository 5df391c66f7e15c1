"""Stage `samples`: small real sets of the benchmarks' kinds, from packages that anyone can install."""
