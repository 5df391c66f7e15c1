"""`unimo finetune` and `unimo evaluate`: a subcommand for every family of tasks, made from the registry.

The registry loads Paddle, so it is asked only when one of the two groups is.
"""

from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from unimo.readers.annotations import Split

PATH = click.Path(path_type=Path)


class Families(click.Group):
    """A group whose subcommands are the families; `command_of` makes each."""

    command_of: Callable[[str], click.Command]
    _made: MutableMapping[str, click.Command] | None = None

    @property
    def commands(self) -> MutableMapping[str, click.Command]:  # type: ignore[override]
        """Subcommands by family, made when they are first asked for, because the registry loads Paddle."""
        if self._made is None:
            from unimo.finetune.family import FAMILIES

            self._made = {name: self.command_of(name) for name in FAMILIES}
        return self._made

    @commands.setter
    def commands(self, _: object) -> None:
        """Not taken: click sets an empty mapping."""


class Finetune(Families):
    """`unimo finetune FAMILY RECIPE ...`, or without the family, which the recipe names."""

    def command_of(self, name: str | None) -> click.Command:
        """The subcommand of a family; None: that of whichever family the recipe names."""
        return _finetune(name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Take a first word that is no family but a YAML file, or a path that exists, as the recipe."""
        if args[0] not in self.commands and (Path(args[0]).suffix in (".yaml", ".yml") or Path(args[0]).exists()):
            return None, self.command_of(None), args
        return super().resolve_command(ctx, args)


class Evaluate(Families):
    """`unimo evaluate FAMILY MODEL ...`, whose options are the fields of the family's settings."""

    def command_of(self, name: str) -> click.Command:
        """The subcommand of a family, with an option for each field of its settings."""
        return _evaluate(name)


def against_option(command: Any) -> Any:
    """Earlier results to compare with."""
    return click.option(
        "--against",
        multiple=True,
        type=PATH,
        help="Folder of an earlier result on the same split to compare with; may be repeated.",
    )(command)


def _finetune(name: str | None) -> click.Command:
    @click.argument("recipe", type=PATH)
    @click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
    @click.option("--model", required=True, type=PATH, help="Run, model folder or name of the zoo.")
    @click.option("--output", required=True, type=PATH, help="Run folder; an unfinished one resumes.")
    @click.option("--split", type=click.Choice(["dev", "test"]), default="test", help="What to evaluate at the end.")
    @click.option("--label", default="fine-tuned", help="Name of this row in reports.")
    @against_option
    @click.option("--visualdl", is_flag=True, help="Also write curves to OUTPUT/visualdl.")
    def run(
        recipe: Path, overrides: tuple[str, ...], model: Path, output: Path, visualdl: bool, **options: Any
    ) -> None:
        from unimo.engine.events import VisualDL
        from unimo.finetune.family import finetune, load_recipe
        from unimo.zoo import locate

        settings, events = load_recipe(recipe, overrides, name), [VisualDL()] if visualdl else []
        for line in finetune(settings, locate(model), output, events=events, **options):
            click.echo(line)

    about = _about(name)
    return click.command(name, help=f"Fine-tune by a RECIPE (YAML), then evaluate.\n\n{about}", short_help=about)(run)


def _evaluate(name: str) -> click.Command:
    from unimo.finetune.family import FAMILIES

    fields = FAMILIES[name].settings.model_fields

    def run(model: Path, output: Path, split: "Split", label: str, against: tuple[Path, ...], paper: Any, **given: Any):
        from unimo.finetune.family import evaluate
        from unimo.paper import row_of
        from unimo.zoo import locate

        folder = locate(model)
        facts = {"label": label, "model": str(folder)} | ({"paper": row_of(paper)} if paper else {})
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
    about = _about(name)
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


def _about(name: str | None) -> str:
    from unimo.finetune.family import FAMILIES

    return FAMILIES[name].about if name else ""
