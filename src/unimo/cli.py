"""The command `unimo`: one short function a command. What is heavy is imported inside, so `unimo --help` is quick."""

from pathlib import Path
from typing import Any

import click

from unimo import __version__
from unimo.console import Console
from unimo.finetune import ABOUT, LOOKED_AT
from unimo.finetune.commands import Families, Finetune, evaluate_command, finetune_command
from unimo.hardware import keep_freed_memory, load_paddle, use_fast_gemm


@click.group(cls=Console, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__)
def main() -> None:
    """UNIMO on PaddlePaddle: pre-training, fine-tuning, evaluation, checkpoint porting.

    Exit codes: 0 done, 2 wrong config or input, 75 stopped and resumable, 76 non-finite loss.
    """
    use_fast_gemm()
    keep_freed_memory()


@main.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Run folder; an unfinished one resumes.")
@click.option("--visualdl", is_flag=True, help="Also write curves to OUTPUT/visualdl.")
def pretrain(recipe: Path, overrides: tuple[str, ...], output: Path, visualdl: bool) -> None:
    """Pre-train a model by a RECIPE (YAML).

    Example: unimo pretrain model_configs/pretrain/unimo_quickstart.yaml engine.steps=100 --output runs/try
    """
    from unimo.config import read

    read(recipe, overrides)  # a file that lacks is said before Paddle is loaded
    load_paddle()
    from unimo.engine.events import VisualDL
    from unimo.engine.loop import around_training
    from unimo.pretrain.run import pretrain
    from unimo.pretrain.systems import read_recipe

    with around_training(output):
        pretrain(read_recipe(recipe, overrides), output, [VisualDL()] if visualdl else [])


@main.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Model folder to write.")
def init(recipe: Path, overrides: tuple[str, ...], output: Path) -> None:
    """Write the model that a pre-training RECIPE starts from, untrained: the baseline of fine-tuning without it."""
    load_paddle()
    from unimo.config import find
    from unimo.engine.model_folder import check_replaceable, write_model
    from unimo.engine.seen import Seen, seen_at_start
    from unimo.pretrain.run import build_model, starts_of
    from unimo.pretrain.systems import read_recipe
    from unimo.readers.tokenizer import load_tokenizer
    from unimo.storage.locks import check_writable

    settings = read_recipe(recipe, overrides)
    check_replaceable(output)
    check_writable(output)
    tokenizer = load_tokenizer(find(settings.tokenizer))
    seen = Seen(before=seen_at_start(starts_of(settings)), training=None)
    write_model(output, build_model(settings, tokenizer), tokenizer, seen)


main.add_command(
    Finetune(
        "finetune",
        finetune_command,
        ABOUT,
        help="Fine-tune a pre-trained model on a task and evaluate it. A recipe names its FAMILY.",
        subcommand_metavar="[FAMILY] RECIPE [KEY=VALUE]...",
    )
)
main.add_command(
    Families("evaluate", evaluate_command, ABOUT | LOOKED_AT, help="Evaluate a model without training it.")
)


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--parts", help="Comma-separated; all that the MODEL has heads for by default.")
@click.option("--onnx", is_flag=True, help="Also write model.onnx of each part (needs the extra `export`).")
def export(model: Path, output: Path, parts: str | None, onnx: bool) -> None:
    """Write the inference graphs of MODEL (run, model folder or name of the zoo) to the folder OUTPUT.

    Parts of a UNIMO: text_encoder, image_encoder, match_score, prefix and decode_step; of a UNIMO-2: text_encoder,
    image_encoder and grounded_score. Each is compared with the model on random
    inputs; the largest difference, relative to the largest activation, is printed.
    """
    load_paddle()
    from unimo.export.inference_graphs import export

    for line in export(model, output, parts.split(",") if parts else (), onnx):
        click.echo(line)


@main.group()
def report() -> None:
    """Pages and tables about run folders, also of runs that are still going."""


def baseline_option(command: Any) -> Any:
    """The row that others are compared with."""
    about = "Label or name of the row that all others are compared with, picture by picture."
    return click.option("--baseline", metavar="LABEL", help=about)(command)


@report.command("run")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="[default: report.html in the folder of the RUNs]")
@baseline_option
def report_run(runs: tuple[Path, ...], output: Path | None, baseline: str | None) -> None:
    """Write one self-contained HTML page about one or more RUN folders, and print its path."""
    from unimo.report.page import default_output, write_page
    from unimo.report.run_folder import open_runs

    page = output or default_output(runs)
    write_page(open_runs(runs), page, baseline)
    click.echo(page)


@report.command("table")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@baseline_option
def report_table(runs: tuple[Path, ...], baseline: str | None) -> None:
    """Print the metrics of RUN folders with 95 % intervals, chance, the paper's numbers and differences."""
    from unimo.report.run_folder import open_runs
    from unimo.report.tables import as_text

    click.echo(as_text(open_runs(runs), baseline))


@report.command("study")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--baseline", required=True, help="Arm that the others are compared with.")
@click.option("--arm", "arms", multiple=True, help="Only this; may be repeated.  [default: all]")
@click.option("--seed", "seeds", multiple=True, help="Only this; may be repeated.  [default: all]")
def report_study(folder: Path, baseline: str, arms: tuple[str, ...], seeds: tuple[str, ...]) -> None:
    """Compare the arms of a study over seeds; FOLDER holds ARM/SEED, each an evaluated run folder."""
    from unimo.report.study import as_text, read_study

    click.echo(as_text(read_study(folder, arms, seeds), baseline))


@report.command("submission")
@click.argument("name", metavar="SET")
@click.argument("predictions", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
def report_submission(name: str, predictions: Path, folder: Path) -> None:
    """Write PREDICTIONS (a predictions.json of the whole test SET) into FOLDER as its evaluation server takes them.

    \b
    Sets: sst-2, cola, mnli-m, mnli-mm, ax, sts-b (GLUE), vqa.
    Example: unimo report submission mnli-mm runs/mnli_base/test/mismatched_predictions.json submission
    """
    from unimo.evaluate.server_files import write_submission

    click.echo(write_submission(name, predictions, folder))


@report.command("grid")
@click.argument("folder", type=click.Path(path_type=Path))
def report_grid(folder: Path) -> None:
    """Best, median and mean ± deviation over the seeds of each SETTINGS of a FOLDER that holds SETTINGS/SEED."""
    from unimo.report.over_seeds import as_text, read_grid

    click.echo(as_text(read_grid(folder)))


@report.command("paper")
@click.option(
    "--runs",
    "folders",
    required=True,
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder that holds run folders, at any depth; those that name a row of the papers count. May be repeated.",
)
@click.option(
    "--output",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Also write paper.md, paper.csv and paper.html there.",
)
def report_paper(folders: tuple[Path, ...], output: Path | None) -> None:
    """Print all numbers of the papers' tables as Markdown, with those of the runs below DIR beside them."""
    from unimo.report.paper_markdown import as_markdown
    from unimo.report.reproduction import read_reproduction

    found = read_reproduction(*folders)
    if output:
        from unimo.report.paper_files import write

        write(found, output)
    click.echo(as_markdown(found))


@main.group()
def zoo() -> None:
    """The released checkpoints by name, in $UNIMO_CACHE/zoo (default ~/.cache/unimo/zoo)."""


@zoo.command("list")
def zoo_list() -> None:
    """Print the names, and which of them are in the cache."""
    from unimo.zoo.catalogue import table

    click.echo("\n".join(table()))


@zoo.command("show")
@click.argument("name")
def zoo_show(name: str) -> None:
    """Print what is known of a checkpoint and what is not: address, sizes, heads, the papers' scores, hash, disk."""
    from unimo.zoo.catalogue import card, entry_of

    click.echo("\n".join(card(entry_of(name))))


@zoo.command("fetch")
@click.argument("name")
@click.option("--from", "source", type=click.Path(path_type=Path), help="The archive or folder, if you have it.")
@click.option("--offline", is_flag=True, help="Do not use the network; say what to bring, and where to put it.")
def zoo_fetch(name: str, source: Path | None, offline: bool) -> None:
    """Download, check, unpack and port a checkpoint, and print the model folder; a broken download is resumed."""
    from unimo.zoo import fetch
    from unimo.zoo.catalogue import entry_of

    click.echo(fetch(entry_of(name), source, offline=offline, log=lambda line: click.echo(line, err=True)))


@main.group()
def port() -> None:
    """Checkpoints of the original releases."""


def foreign(command: Any) -> Any:
    """Options of every command that reads a foreign checkpoint."""
    path = click.Path(path_type=Path)
    for option in (
        click.option(
            "--config", type=path, help="Sizes, where the format has none: the release's json, a config.json."
        ),
        click.option("--names", type=path, help="Variable names of a combined file, one a line."),
        click.option("--system", help="unimo, unimo-2 or oner: what an encoder of another library is to start."),
    ):
        command = option(command)
    return command


@port.command()
@click.argument("source", metavar="FROM", type=click.Path(path_type=Path))
@click.argument("target", metavar="TO", type=click.Path(path_type=Path))
@click.option("--from", "source_format", help="Format of FROM.  [default: told from its contents]")
@click.option("--to", "target_format", default="unimo", help="Format of TO.")
@click.option("--base", type=click.Path(path_type=Path), help="Model that gives the parameters which FROM lacks.")
@click.option("--tokenizer", type=click.Path(path_type=Path), help="Folder of the vocabulary for a model folder.")
@click.option("--optimizer", is_flag=True, help="Take moments and step of a training checkpoint too.")
@click.option("--seed", default=1, type=click.IntRange(min=0), help="Of what starts at random.")
@foreign
def convert(source: Path, target: Path, source_format: str | None, target_format: str, **options: Any) -> None:
    """Convert a checkpoint, in either direction.

    \b
    Examples:
    unimo port convert model_files/unimo_base_en models/unimo_base --tokenizer model_files/dict
    unimo port convert runs/mine paddlenlp_folder --to paddlenlp
    unimo port convert roberta-base start --from roberta --system unimo-2
    unimo port convert vit-base start2 --from vit-hf --system unimo-2 --base start
    unimo port convert frcnn-vg-finetuned models/butd --from frcnn-lxmert

    \b
    Formats: unimo (this toolkit's model folder), release, release-combined, paddlenlp, roberta, bert, vit-hf, vit-timm,
    vit-npz, frcnn-lxmert, safetensors, pdparams. docs/porting.md says what each carries.
    """
    load_paddle()
    from unimo.port.convert import convert
    from unimo.port.interchange import Options

    read = Options(**{name: options.pop(name) for name in ("system", "config", "names", "optimizer")})
    for line in convert(source, target, source_format, target_format, read, **options):
        click.echo(line)


@port.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--from", "source_format", help="Format.  [default: told from the contents]")
@foreign
def inspect(path: Path, source_format: str | None, **options: Any) -> None:
    """Say what a checkpoint is: format, system and size that fit, tensors with shapes, types and statistics."""
    load_paddle()
    from unimo.port.inspection import inspect
    from unimo.port.interchange import Options

    for line in inspect(path, source_format, Options(**options)):
        click.echo(line)


@port.command()
@click.argument("one", metavar="A", type=click.Path(path_type=Path))
@click.argument("other", metavar="B", type=click.Path(path_type=Path))
@foreign
def diff(one: Path, other: Path, **options: Any) -> None:
    """Compare two checkpoints, of the same or of different formats, tensor by tensor. Exit code 1 if they differ."""
    load_paddle()
    from unimo.port.inspection import diff
    from unimo.port.interchange import Options

    lines, same = diff(one, other, Options(**options))
    click.echo("\n".join(lines))
    if not same:
        raise SystemExit(1)


@port.command()
@click.argument("model")
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--mode", type=click.Choice(["pair", "text", "image", "caption"]), default="pair", help="Pass of a UNIMO-2."
)
@click.option("--seed", default=1, type=click.IntRange(min=0), help="Of the inputs.")
def record(model: str, output: Path, mode: str, seed: int) -> None:
    """Write random inputs and the outputs of MODEL (a name of the zoo, a model or run folder) as `port verify` reads
    them, for example to check that a conversion to another machine or format still computes the same."""
    load_paddle()
    from unimo.port.parity.record import record
    from unimo.storage.locks import check_writable
    from unimo.zoo import from_pretrained

    check_writable(output.parent)
    click.echo(f"wrote {output}: {', '.join(record(from_pretrained(model), output, mode, seed))}")


@port.command()
@click.argument("checkpoint_dir", type=click.Path(path_type=Path))
@click.option("--config", "config_file", required=True, type=click.Path(path_type=Path), help="The release's json.")
@click.option("--golden", required=True, type=click.Path(path_type=Path), help="Recorded in_* and out_* arrays (npz).")
@click.option("--system", type=click.Choice(["unimo", "unimo-2"]), default="unimo")
@click.option("--tolerance", type=click.FloatRange(min=0), default=1e-5, help="Largest absolute difference allowed.")
def verify(checkpoint_dir: Path, config_file: Path, golden: Path, system: str, tolerance: float) -> None:
    """Run a ported checkpoint on recorded inputs and compare with the recorded outputs.

    CHECKPOINT_DIR is a release's folder of one file per variable. Prints each output's largest absolute difference on
    valid (unpadded) positions; the exit code is 0 if all are within the tolerance, 1 if not, 2 for unusable input.
    """
    load_paddle()
    from unimo.port.parity.verifiers import VERIFIERS

    lines, comparisons = VERIFIERS[system](checkpoint_dir, config_file, golden)
    for line in lines:
        click.echo(line, err=True)
    for compared in comparisons:
        verdict = "ok" if compared.within(tolerance) else "DIFFERS"
        click.echo(f"{compared.name:<24} {compared.difference:10.3e}  {compared.values:>9} values  {verdict}")
    if not all(compared.within(tolerance) for compared in comparisons):
        raise SystemExit(1)


if __name__ == "__main__":
    main(prog_name="unimo")
