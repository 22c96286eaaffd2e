"""Pure functions on tensors in voxels; they choose the compiled loop by the tensor's device."""
