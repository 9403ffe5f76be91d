//! Kernels over a strided index space.
