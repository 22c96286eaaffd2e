"""The hot loops: in plain torch (`reference`), for processors (`numba`) and for GPUs (`triton`)."""
