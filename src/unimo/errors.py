"""Our error types. A message says what was got, what was expected and what to do.

The command line prints it without a traceback and exits with the code of the type: 0 done, 2 wrong config or input,
75 stopped and resumable, 76 non-finite loss.
"""


class UnimoError(Exception):
    """Anything the user can act on."""

    exit_code = 2


class ConfigError(UnimoError):
    """A config, recipe or override is wrong; the message lists every problem found, not only the first."""


class DataError(UnimoError):
    """An input file or record is missing, broken or of the wrong shape."""


class CheckpointError(UnimoError):
    """A checkpoint is missing, torn, hostile or does not fit the model."""


class MissingDependencyError(UnimoError):
    """An optional package or system library is not installed; the message names the command that installs it."""


class Preempted(UnimoError):
    """The run was asked to stop (SIGTERM, SIGINT), saved, and can be resumed."""

    exit_code = 75


class Stopped(BaseException):
    """A signal asked a command to stop at once; no handler of errors may take it for one, so it is no Exception."""

    exit_code = 75


class NonFiniteError(UnimoError):
    """A loss or gradient norm is inf or nan; the message names step, stream and batch ids."""

    exit_code = 76
