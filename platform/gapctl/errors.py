"""The two ways in which gapctl gives up, each with the exit code that the command line returns."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, or where a job was stopped: checkpoints were written."""


class GapctlError(Exception):
    """A message for the user: what was found, where, what was expected and what to do."""

    exit_code = 1


class InputError(GapctlError):
    """The input is wrong and nothing was started: exit code 2."""

    exit_code = 2


class UnknownWeightsError(InputError):
    """Public weights whose sha256 nothing on this machine tells; a hub that does not answer now may tell it later.

    `source` says what would tell it: a file of a repository, or an address.
    """

    def __init__(self, message: str, source: str = "") -> None:
        super().__init__(message)
        self.source = source


class MissingDataError(InputError):
    """Data that a configuration's `key` names and that are missing or of another kind.

    Where nothing is there at all (`absent`), a plan can list what would be measured on them all the same.
    """

    def __init__(self, text: str, key: str = "data.source", *, absent: bool = False) -> None:
        super().__init__(text)
        self.key = key
        self.absent = absent


class WorkError(GapctlError):
    """Work had begun and a part of it failed; what was computed is kept: exit code 1."""


def first_line_of_error(error: BaseException) -> str:
    """Return the first line of an error's message without its full stop, or the error's class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


DISTRIBUTIONS = {"open_clip": "open_clip_torch", "sqlalchemy": "mlflow"}
"""The packages to install for modules of other names."""


def make_missing_package_error(module: str) -> InputError:
    """Return the error for a module that is not installed, as in an environment that only measures and analyses."""
    name = module.partition(".")[0]
    return InputError(
        f"{name} is not installed, and this needs it. Run `pip install {DISTRIBUTIONS.get(name, name)}`, or "
        "`pip install gapctl` for everything that sweeps need"
    )


def is_installed(module: str) -> bool:
    """Return whether the package that a module belongs to can be found; it is not imported."""
    from importlib.util import find_spec

    return find_spec(module.partition(".")[0]) is not None


def find_version(package: str) -> str | None:
    """Return the version of an installed package, by the name that it is installed under; None for any other."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def require_transformers(reason: str) -> None:
    """Raise InputError where the transformers library is not installed; `reason` says what needs it."""
    if not is_installed("transformers"):
        raise InputError(
            f"transformers is not installed, and {reason}. Run `pip install transformers sentencepiece` on every "
            "machine that trains or measures it"
        )


def require_packages(*modules: str) -> None:
    """Raise InputError for the first module that is not installed, with the command that brings it."""
    for module in modules:
        if not is_installed(module):
            raise make_missing_package_error(module)
