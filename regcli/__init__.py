"""regcli: register medical images, classically or with learned features, in physical space.

    result = regcli.register("fixed.nii.gz", "moving.nii.gz")
    regcli.write_image(result.moved, "warped.nii.gz")

does in Python what `regcli register` does; names are imported when they are first used.
"""

import importlib
import os
from typing import Any

__version__ = "0.1.0"

# OpenMP's threads, torch's among them, else spin while they wait, and keep ours from the cores:
# registering takes two to three times longer. They read this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_NAMES = {
    "Batch": "regcli.batch.plan",
    "FeatureJob": "regcli.commands.features.run",
    "FeatureMaps": "regcli.registration.features.maps",
    "Image": "regcli.image",
    "Job": "regcli.commands.register.job",
    "Prompts": "regcli.registration.prompts",
    "RegcliError": "regcli.errors",
    "RegisterRecipe": "regcli.recipe",
    "Result": "regcli.registration.pipeline",
    "Space": "regcli.image",
    "Warp": "regcli.warp",
    "features": "regcli.registration.features.maps",
    "features_files": "regcli.commands.features.run",
    "local_crew": "regcli.batch.crew",
    "read_image": "regcli.io.images",
    "read_table": "regcli.batch.table",
    "read_warp": "regcli.io.warps",
    "register": "regcli.registration.pipeline",
    "register_files": "regcli.commands.register.run",
    "run_batch": "regcli.batch.run",
    "write_image": "regcli.io.images",
}


def __getattr__(name: str) -> Any:
    """Import on first use: torch takes seconds, and `regcli --help` must not."""
    if name not in _NAMES:
        raise AttributeError(f"module 'regcli' has no attribute '{name}'")
    return getattr(importlib.import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_NAMES])
