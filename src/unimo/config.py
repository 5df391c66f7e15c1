"""YAML files -> typed configs. All problems of a file are reported at once: key, what was given, what is allowed."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from unimo.errors import ConfigError


class Config(BaseModel):
    """Base of all typed configs: unknown keys, wrong types and numbers that are not finite are errors; immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


Mode = Literal["finetuned", "zero_shot", "linear_probe"]


class Paper(Config):
    """Where a recipe comes from; unimo.paper finds the numbers and prints them."""

    table: str | None = None  # an id of model_configs/paper_tables.yaml; anything else is printed as it is
    row: str | None = None
    dataset: str | None = None  # without one the run has no number of its own, as pre-training
    mode: Mode = "finetuned"
    expected: dict[str, float] | None = None  # metric -> value, of a source that the file lacks; printed
    hardware: str | None = None
    hours: float | None = None


C = TypeVar("C", bound=Config)

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same YAML; the one in C is ten times as fast

# far above any recipe: bytes of a file, values with all aliases written out, nesting, characters of a number
_MOST_BYTES, _MOST_VALUES, _MOST_LEVELS, _MOST_DIGITS = 1 << 20, 100_000, 50, 100
_SHOWN = 200  # characters of a value in a message

ROOT = Path(__file__).resolve().parents[2]  # the clone: model_configs/, data_prep/ and run_scripts/ stand beside src/


def find(path: str | Path) -> Path:
    """A path as the user means it: from the current folder if it exists there, else from the root of the clone.

    Raises:
        ConfigError: it exists in neither.
    """
    path = Path(path)
    for candidate in (path, ROOT / path):
        if candidate.exists():
            return candidate.resolve()
    raise ConfigError(f"{path} does not exist, neither in {Path.cwd()} nor in {ROOT}")


def find_all(paths: Iterable[str | Path]) -> None:
    """Before anything is read: raise one ConfigError that names all paths that `find` does not find."""
    problems = []
    for path in paths:
        try:
            find(path)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))


def load(schema: type[C], path: str | Path, overrides: Iterable[str] = ()) -> C:
    """Read a YAML file, apply `key.sub=value` overrides (values are YAML) and validate against `schema`.

    Raises:
        ConfigError: as `read`, or any number of invalid keys and values.
    """
    return validate(schema, read(path, overrides), source=str(path))


def read(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The values of a YAML file with `key.sub=value` overrides, not validated: they may name what they are of.

    A value that names a .yaml file, in the file or in an override, stands for that file's content, so that a recipe
    says `model: model_configs/models/unimo_mini.yaml` and a user may still change `model.num_hidden_layers`.

    Raises:
        ConfigError: file missing or not a mapping, or a malformed override.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        raise ConfigError(f"no config file {path}; in its folder there are: {', '.join(near) or 'none'}")
    values = {key: _included(value) for key, value in _read(path).items()}
    return apply_overrides(values, overrides)


def load_named(
    registry: Mapping[str, Any], key: str, default: str, path: str | Path, overrides: Iterable[str] = ()
) -> Any:
    """Read a YAML file that names by `key` which entry's `recipe` it is of.

    Raises:
        ConfigError: as `load`, or it names none of the registry, whose names are listed.
    """
    values = read(path, overrides)
    name = values.get(key, default)
    if not isinstance(name, str) or name not in registry:
        raise ConfigError(f"{path}: {key}: {name!r}, expected one of {', '.join(registry)}")
    return validate(registry[name].recipe, values, source=str(path))


def _included(value: Any) -> Any:
    if not (isinstance(value, str) and value.endswith(".yaml")):
        return value
    return _read(find(value))


def _read(path: Path) -> dict[str, Any]:
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is no regular file; expected a YAML file")
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise ConfigError(f"{path} has more than {_MOST_BYTES} bytes; expected a recipe or sizes in YAML")
        values = _parse(text, str(path)) or {}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, got a {type(values).__name__}")
    return values


def _parse(text: str | bytes, source: str) -> Any:
    try:
        _check_levels(text, source)
        loader = _LOADER(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, source, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:  # bytes of no text
        raise ConfigError(f"cannot read {source}: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not valid YAML: {error}") from error
    except (ValueError, OverflowError, RecursionError) as error:  # a date that is none, aliases that nest
        raise ConfigError(f"{source} is not valid YAML: {str(error)[:_SHOWN]}") from error


def _check_levels(text: str | bytes, source: str) -> None:
    """Raise a ConfigError about YAML that nests deeply, before anything follows it down."""
    level = 0
    for event in yaml.parse(text, Loader=_LOADER):
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if level > _MOST_LEVELS:
            raise ConfigError(f"{source} nests deeper than {_MOST_LEVELS} levels; expected a recipe or sizes")


def _count(node: yaml.Node, source: str, known: dict[int, int]) -> int:
    """How many values a node stands for, with its aliases written out.

    Raises:
        ConfigError: more than _MOST_VALUES, a key that is given twice, or a number of very many digits.
    """
    line = f"{source}: line {node.start_mark.line + 1}"
    if isinstance(node, yaml.ScalarNode):
        if node.tag.endswith((":int", ":float")) and len(node.value) > _MOST_DIGITS:
            raise ConfigError(f"{line}: a number of {len(node.value)} digits, expected at most {_MOST_DIGITS}")
        return 1
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = _MOST_VALUES + 1  # an alias of itself would never end
    inner, keys = node.value, set()
    if isinstance(node, yaml.MappingNode):
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name in keys:
                raise ConfigError(f"{source}: line {key.start_mark.line + 1}: {key.value} is given twice; keep one")
            keys |= {name} - {None}
        inner = [part for pair in node.value for part in pair]
    total = 1
    for part in inner:
        total += _count(part, source, known)
        if total > _MOST_VALUES:
            raise ConfigError(f"{line}: more than {_MOST_VALUES} values with all aliases written out")
    known[id(node)] = total
    return total


def apply_overrides(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return a copy of `values` with each `a.b=value` set; the value is parsed as YAML (`1e-4`, `[1, 2]`, `true`)."""
    merged = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    malformed = [o for o in overrides if "=" not in o]
    if malformed:
        raise ConfigError(f"overrides must look like key=value, got: {', '.join(malformed)}")
    for override in overrides:
        key, _, text = override.partition("=")
        *parents, leaf = key.split(".")
        target = merged
        for parent in parents:
            inside = target.get(parent) or {}
            if not isinstance(inside, dict):
                raise ConfigError(f"override {override}: {parent} is {inside!r}, which has no keys")
            target[parent] = dict(inside)
            target = target[parent]
        target[leaf] = _scalar(text)
    return merged


def _scalar(text: str) -> Any:
    value = _parse(text, f"override value {_shown(text)}")
    if isinstance(value, str):  # YAML 1.1 reads 1e-4 (no dot) as a string
        try:
            return float(value)
        except ValueError:
            return _included(value)
    return value


def validate(schema: type[C], values: dict[str, Any], source: str) -> C:
    """Build `schema` from plain values, or raise one ConfigError that lists every problem."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        problems = [_problem(schema, e) for e in error.errors()]
    raise ConfigError(f"{source}: {len(problems)} problem(s)\n" + "\n".join(f"  - {p}" for p in problems))


def _problem(schema: type[Config], error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "value_error" and isinstance(error["input"], dict):  # keys that do not go together
        return f"{key or 'together'}: {error['msg']}"
    if error["type"] != "extra_forbidden":
        return f"{key or '(whole file)'}: {error['msg']}, got {_shown(error['input'])}"
    allowed = _keys(schema, error["loc"][:-1])
    near = difflib.get_close_matches(str(error["loc"][-1]), allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{key}: unknown key{hint} (allowed: {', '.join(allowed)})"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def _keys(schema: Any, loc: tuple[Any, ...]) -> list[str]:
    """Field names of the config that sits at `loc` inside `schema`."""
    for part in loc:
        field = getattr(schema, "model_fields", {}).get(part)
        if field is not None:
            candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
            schema = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), schema)
    return sorted(schema.model_fields)


def dump(config: Config) -> str:
    """The resolved config as YAML text, as written into every run folder and checkpoint."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
