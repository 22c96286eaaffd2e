"""regcli: register medical images, classically or with learned features, in physical space."""

__version__ = "0.1.0"
