//! Benchmarks of Sparse beside its peers.
