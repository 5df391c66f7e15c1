"""The command `unimo`: one short function a command. Everything heavy is imported inside it, so `--help` is quick."""

import warnings
from pathlib import Path

import click

from unimo import __version__
from unimo.errors import UnimoError
from unimo.hardware import use_fast_gemm


class Commands(click.Group):
    """The top group: prepares the process, and turns our errors into one message and the exit code of their type."""

    def invoke(self, ctx: click.Context) -> None:
        use_fast_gemm()
        warnings.filterwarnings("ignore", "No ccache found")  # Paddle says so at import; nothing is compiled here
        try:
            super().invoke(ctx)
        except UnimoError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__)
def main() -> None:
    """UNIMO on PaddlePaddle: pre-training, fine-tuning, evaluation, checkpoint porting.

    Exit codes: 0 done, 2 wrong config or input, 75 stopped and resumable, 76 non-finite loss.
    """


@main.group()
def port() -> None:
    """Checkpoints of the original releases."""


@port.command()
@click.argument("checkpoint_dir", type=click.Path(path_type=Path))
@click.option("--config", "config_file", required=True, type=click.Path(path_type=Path), help="The release's json.")
@click.option("--golden", required=True, type=click.Path(path_type=Path), help="Recorded in_* and out_* arrays (npz).")
@click.option("--system", type=click.Choice(["unimo"]), default="unimo")
@click.option("--tolerance", type=click.FloatRange(min=0), default=1e-5, help="Largest absolute difference allowed.")
def verify(checkpoint_dir: Path, config_file: Path, golden: Path, system: str, tolerance: float) -> None:
    """Run a ported checkpoint on recorded inputs and compare with the recorded outputs.

    CHECKPOINT_DIR is a release's folder of one file per variable. Prints each output's largest absolute difference on
    valid (unpadded) positions; the exit code is 0 if all are within the tolerance, 1 if not, 2 for unusable input.
    """
    from unimo.port.verify import SYSTEMS

    report, comparisons = SYSTEMS[system](checkpoint_dir, config_file, golden)
    for line in report.lines():
        click.echo(line, err=True)
    for compared in comparisons:
        verdict = "ok" if compared.within(tolerance) else "DIFFERS"
        click.echo(f"{compared.name:<24} {compared.difference:10.3e}  {compared.values:>9} values  {verdict}")
    if not all(compared.within(tolerance) for compared in comparisons):
        raise SystemExit(1)
