//! Graph IR to Loop IR: kernels, fusion, tile choice and the buffer plan.
