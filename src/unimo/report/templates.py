"""What pages are made with: the templates of this folder."""

from pathlib import Path

from unimo.errors import MissingDependencyError

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
except ModuleNotFoundError as error:
    raise MissingDependencyError(f"pages need jinja2 ({error}): pip install -e .[report]") from error


def environment() -> Environment:
    """In which all text is escaped, and a name that is not there is an error."""
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(autoescape=True, undefined=StrictUndefined, loader=loader, trim_blocks=True, lstrip_blocks=True)
