"""Small files of weights: random networks with the headers that training writes."""

import torch

from regcli.registration.equilibrium.model import step_network
from regcli.registration.features.model import network
from regcli.train.checkpoint import write_tensors

FACTS = {
    "model": "dio",
    "network": "unet",
    "channels": 3,
    "spacing_mm": 4.0,
    "gains": [0.2, 0.3, 0.4],
    "volumes": {"means": [3.0, 4.0], "deviations": [0.5, 0.1]},
}
WIDE = {"means": [0.0, 0.0], "deviations": [99.0, 99.0]}  # volumes that suit any image, and none
NARROW = {"means": [50.0, 50.0], "deviations": [0.1, 0.1]}


def write_weights(path, **facts):
    """A file of weights whose header says FACTS, and what else is given."""
    torch.manual_seed(0)
    said = FACTS | facts
    net = network("unet", FACTS["channels"])
    write_tensors(path, net.state_dict(), {k: v for k, v in said.items() if v is not None})
    return path


STEP_FACTS = {
    "model": "deq",
    "network": "guided",
    "spacing_mm": 4.0,
    "levels": 2,
    "steps": 8,
    "sigma": 0.6,
}


def write_steps(path, **facts):
    """A file of a network of steps that has learned nothing, but takes classical ones."""
    torch.manual_seed(0)
    said = STEP_FACTS | facts
    net = step_network(said["network"])
    write_tensors(path, net.state_dict(), {k: v for k, v in said.items() if v is not None})
    return path
