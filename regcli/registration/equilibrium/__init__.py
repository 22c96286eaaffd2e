"""DEQReg: the steps of a network, followed to their fixed point."""
