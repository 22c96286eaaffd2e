"""The hot loops, once in plain torch (`reference`) and once compiled for the processor (`cpu`)."""
