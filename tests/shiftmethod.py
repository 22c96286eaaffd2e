"""A method of registration as somebody else would write one: it moves everything alike."""

from dataclasses import dataclass

import torch

from regcli.registration.method import Method, StageResult

SHIFT_MM = (2.0, -1.0, 3.0)


@dataclass(frozen=True)
class Shift(Method):
    notes: tuple[str, ...] = ("Model shift: it looks at nothing.",)

    def run(self, pair, watch):
        watch.report("shift", 1.0)
        u = torch.tensor(SHIFT_MM).view(1, 3, 1, 1, 1).expand(1, 3, *pair.file.shape)
        return StageResult(
            pair.fixed_to_moving, u.clone(), seconds={"solve": 1.0}, notes=("Shifted.",)
        )


def shift(recipe, priors, space, device):
    return Shift()
