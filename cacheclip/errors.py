"""Every error that a user can meet, as one family with documented exit codes.

    CacheclipError
    ├── UsageError     2  options that do not go together; click's own usage errors exit alike
    ├── InputError     3  data, prompts, shots or hyperparameters are wrong or missing
    ├── StoreError     4  the cache is missing, incomplete, corrupt, locked or of another key
    ├── MachineError   5  no GPU, weights or package
    ├── ProtocolError  6  the choice would see test labels
    └── FitError       7  not finite or not converged

Only `cacheclip.cli.main` turns one into an exit code. Anything else that escapes is a bug of ours
and keeps its traceback (exit 1). An interrupt exits with 130.
"""


class CacheclipError(Exception):
    """What is wrong, where it is, and what to do about it."""

    exit_code = 1

    def __init__(self, what: str, *, where: str, fix: str) -> None:
        super().__init__(what, where, fix)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        return f"error: {self.what}\nwhere: {self.where}\nfix: {self.fix}"


class UsageError(CacheclipError):
    """Options that do not go together, or a name that is not on the menu."""

    exit_code = 2


class InputError(CacheclipError):
    """Data, prompts, shots or hyperparameters are wrong or missing."""

    exit_code = 3


class StoreError(CacheclipError):
    """The cache is missing, incomplete, corrupt, locked or of another key."""

    exit_code = 4


class MachineError(CacheclipError):
    """The machine lacks a GPU, weights or a package."""

    exit_code = 5


class ProtocolError(CacheclipError):
    """The choice would see test labels."""

    exit_code = 6


class FitError(CacheclipError):
    """A fit is not finite or did not converge."""

    exit_code = 7
