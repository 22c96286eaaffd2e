"""Triton loops over volumes on the GPU, as `backends.numba`; none of them waits for the device."""
