"""Triton loops over volumes on the GPU, as `kernels.cpu`; none of them waits for the device."""
