"""`unimo finetune` and `unimo evaluate`: a subcommand for every family of tasks, made from the registry.

The registry loads Paddle, so it is asked only when one of its families is; names and help come from `finetune.ABOUT`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unimo.finetune import ABOUT, LOOKED_AT
from unimo.hardware import load_paddle

if TYPE_CHECKING:
    from unimo.readers.annotations import Split

PATH = click.Path(path_type=Path)


class Families(click.Group):
    """A group whose subcommands are the families of tasks; `make` makes the one of a name when it is asked for."""

    def __init__(self, name: str, make: Callable[[str], click.Command], about: Mapping[str, str], **options: Any):
        super().__init__(name, **options)
        self._make, self._about = make, about

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the families."""
        return sorted(self._about)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the families without making their subcommands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._about[name]) for name in self.list_commands(ctx)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand of a family; None for any other name."""
        return self._make(cmd_name) if cmd_name in self.list_commands(ctx) else None


class Finetune(Families):
    """`unimo finetune FAMILY RECIPE ...`, or without the family, which the recipe names."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Take a first word that is no family but a YAML file, or a path that exists, as the recipe."""
        first = Path(args[0])
        if args[0] not in self.list_commands(ctx) and (first.suffix in (".yaml", ".yml") or first.exists()):
            return None, finetune_command(None), args
        return super().resolve_command(ctx, args)


def against_option(command: Any) -> Any:
    """Earlier results to compare with."""
    return click.option(
        "--against",
        multiple=True,
        type=PATH,
        help="Folder of an earlier result on the same split to compare with; may be repeated.",
    )(command)


def finetune_command(name: str | None) -> click.Command:
    """Fine-tuning of a family; None: of the one that the recipe names."""

    @click.argument("recipe", type=PATH)
    @click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
    @click.option("--model", required=True, type=PATH, help="Run, model folder or name of the zoo.")
    @click.option("--output", required=True, type=PATH, help="Run folder; an unfinished one resumes.")
    @click.option("--split", type=click.Choice(["dev", "test"]), default="test", help="What to evaluate at the end.")
    @click.option("--label", default="fine-tuned", help="Name of this row in reports.")
    @against_option
    @click.option("--visualdl", is_flag=True, help="Also write curves to OUTPUT/visualdl.")
    @click.option("--dry-run", is_flag=True, help="Check the recipe and print the paper's row that it is of, no more.")
    def run(
        recipe: Path,
        overrides: tuple[str, ...],
        model: Path,
        output: Path,
        visualdl: bool,
        dry_run: bool,
        **options: Any,
    ) -> None:
        from unimo.config import read

        read(recipe, overrides)  # a file that lacks is said before Paddle is loaded
        load_paddle()
        from unimo.engine.events import VisualDL
        from unimo.engine.loop import around_training
        from unimo.finetune.family import check_finetuning, finetune, load_recipe
        from unimo.paper import describe
        from unimo.zoo import locate

        settings, events = load_recipe(recipe, overrides, name), [VisualDL()] if visualdl else []
        if dry_run:
            click.echo(describe(settings.paper) if settings.paper else f"{recipe} is of no row of the papers")
            return
        with around_training(output):
            check_finetuning(settings, output)
            for line in finetune(settings, locate(model), output, events=events, **options):
                click.echo(line)

    about = ABOUT[name] if name else ""
    return click.command(name, help=f"Fine-tune by a RECIPE (YAML), then evaluate.\n\n{about}", short_help=about)(run)


def evaluate_command(name: str) -> click.Command:
    """An evaluation, with an option for each field of its settings."""
    load_paddle()
    from unimo.finetune.family import EVALUATIONS

    fields = EVALUATIONS[name].settings.model_fields

    def run(
        model: Path, output: Path, split: "Split", label: str, against: tuple[Path, ...], paper: Any, **given: Any
    ) -> None:
        from unimo.finetune.family import check_evaluation, evaluate
        from unimo.paper import row_of
        from unimo.zoo import locate

        check_evaluation(name, output, **given)
        folder = locate(model)
        facts = {"label": label} | ({"paper": row_of(paper)} if paper else {})
        for line in evaluate(name, folder, output, split, facts, against, **given):
            click.echo(line)

    options = [
        click.argument("model", type=PATH),
        *(_option(key, field) for key, field in fields.items()),
        click.option("--split", type=click.Choice(["train", "dev", "test"]), default="test"),
        click.option("--label", default="zero-shot", help="Name of this row in reports."),
        click.option(
            "--paper", multiple=True, metavar="KEY=VALUE", help="The paper's row: table, row, dataset, mode of a Paper."
        ),
        against_option,
        click.option("--output", required=True, type=PATH, help="Run folder for the results."),
    ]
    for option in reversed(options):
        run = option(run)
    about = (ABOUT | LOOKED_AT)[name]
    return click.command(
        name, help=f"Evaluate MODEL (run, model folder or name) on a split.\n\n{about}", short_help=about
    )(run)


def _option(key: str, field: Any) -> Callable[[Any], Any]:
    """The option of a field of a family's settings: those that a run limits itself by are its own unless given."""
    several = "tuple" in str(field.annotation)
    own = f"  [default: the run's own, else {field.default}]" if key.startswith("max_") else ""
    return click.option(
        f"--{key.replace('_', '-')}",
        key,
        multiple=several,
        required=field.is_required(),
        type=int if field.annotation is int else str,
        help=f"{field.description}{own}",
        show_default=False,
    )
