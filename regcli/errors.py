"""Everything that can go wrong through no fault of ours, each with its own exit code.

RegcliError
├── RecipeError         2  a name, option or combination that does not exist
├── InputError          3  a file or image that cannot be used
│   └── WeightsError    3  weights that are missing, damaged or of another kind
├── OutputError         4  the result exists already, or cannot be written
├── MemoryShortageError 5  not enough memory for this pair
├── GateError           6  the result failed the user's own quality gate
└── BatchError          7  some rows of a batch failed
"""


class RegcliError(Exception):
    """A mistake or shortage that the user can mend.

    Args:
        cause: One sentence: what was given and why it cannot be used.
        remedy: One sentence: what to do about it.
    """

    code = 1

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy


class RecipeError(RegcliError):
    """A name, option or combination that does not exist."""

    code = 2


class InputError(RegcliError):
    """A file or image that cannot be used."""

    code = 3


class WeightsError(InputError):
    """Weights that are missing, damaged or of another kind."""


class OutputError(RegcliError):
    """The result exists already, or cannot be written."""

    code = 4


class MemoryShortageError(RegcliError):
    """Not enough memory for this pair."""

    code = 5


class GateError(RegcliError):
    """The result failed the user's own quality gate."""

    code = 6


class BatchError(RegcliError):
    """Some rows of a batch failed."""

    code = 7
