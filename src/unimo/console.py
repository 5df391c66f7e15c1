"""The group of commands at the top of `unimo` and of `python -m data_prep`."""

from typing import Any

import click

from unimo.errors import UnimoError


class Console(click.Group):
    """Turns our errors, a package that is not installed and a full disk into one message and an exit code.

    Args:
        extra: of this project's extras, the one that has what the commands need.
    """

    def __init__(self, *args: Any, extra: str, **options: Any):
        super().__init__(*args, **options)
        self._extra = extra

    def invoke(self, ctx: click.Context) -> None:
        """Run the command that was asked for."""
        try:
            super().invoke(ctx)
            return
        except UnimoError as error:
            problem, code = str(error), error.exit_code
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in ("unimo", "data_prep"):  # a fault of ours, to be seen whole
                raise
            needed = f"{ctx.invoked_subcommand} needs the package {error.name}"
            problem, code = f"{needed}: pip install -e '.[{self._extra}]'", 2
        except BrokenPipeError:  # `| head` has read enough; click leaves quietly
            raise
        except OSError as error:  # a folder that cannot be made, a disk that is full
            problem, code = f"{error.filename or ctx.invoked_subcommand}: {error.strerror or error}", 2
        click.echo(f"error: {problem}", err=True)
        ctx.exit(code)
