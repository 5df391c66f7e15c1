"""YAML -> typed configs: every problem at once, overrides, included files; and every YAML that ships."""

import os
from pathlib import Path

import pytest
from pydantic import Field

from unimo.config import ROOT, Config, dump, find, load
from unimo.errors import ConfigError
from unimo.models.oner import OnerConfig
from unimo.models.unimo import UnimoConfig
from unimo.models.unimo2 import Unimo2Config


class Inner(Config):
    width: int = Field(4, gt=0)
    rate: float = 0.1


class Outer(Config):
    name: str
    inner: Inner = Inner()


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_all_problems_are_listed_with_key_given_and_allowed(tmp_path):
    path = write(tmp_path, "nmae: x\ninner: {width: -1, rat: 2}\n")
    with pytest.raises(ConfigError) as error:
        load(Outer, path)
    message = str(error.value)
    assert "4 problem(s)" in message
    assert "nmae: unknown key; did you mean 'name'? (allowed: inner, name)" in message
    assert "inner.rat: unknown key; did you mean 'rate'? (allowed: rate, width)" in message
    assert "inner.width: Input should be greater than 0, got -1" in message
    assert "name: Field required" in message


def test_overrides_are_typed_and_reach_inside(tmp_path):
    config = load(Outer, write(tmp_path, "name: a\n"), ["inner.rate=1e-4", "inner.width=8", "name=b"])
    assert config == Outer(name="b", inner=Inner(width=8, rate=1e-4))
    assert load(Outer, write(tmp_path, dump(config))) == config


def test_a_yaml_value_is_included_and_can_be_overridden(tmp_path):
    (tmp_path / "inner.yaml").write_text("width: 9\n")
    path = write(tmp_path, f"name: a\ninner: {tmp_path}/inner.yaml\n")
    assert load(Outer, path).inner.width == 9
    assert load(Outer, path, ["inner.rate=2"]).inner == Inner(width=9, rate=2.0)
    assert load(Outer, write(tmp_path, "name: a\n"), [f"inner={tmp_path}/inner.yaml"]).inner.width == 9


@pytest.mark.parametrize("text, expected", [("[1, 2]", "expected `key: value` lines"), ("a: [", "not valid YAML")])
def test_files_that_hold_no_mapping(tmp_path, text, expected):
    with pytest.raises(ConfigError, match=expected):
        load(Outer, write(tmp_path, text))


def test_missing_file_names_its_neighbours_and_bad_override_is_named(tmp_path):
    write(tmp_path, "name: a\n")
    with pytest.raises(ConfigError, match="recipe.yaml"):
        load(Outer, tmp_path / "recipes.yaml")
    with pytest.raises(ConfigError, match="key=value.*inner.width"):
        load(Outer, tmp_path / "recipe.yaml", ["inner.width"])
    with pytest.raises(ConfigError, match="name is 'a', which has no keys"):
        load(Outer, tmp_path / "recipe.yaml", ["name.x=1"])
    with pytest.raises(ConfigError, match="not valid YAML"):
        load(Outer, tmp_path / "recipe.yaml", ["inner.width=[1,"])
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    with pytest.raises(ConfigError, match="cannot read"):
        load(Outer, tmp_path / "latin.yaml")


def test_paths_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find("model_configs/models") == ROOT / "model_configs" / "models"
    with pytest.raises(ConfigError, match="neither in"):
        find("no/such/file")


def test_every_model_config_loads():
    schemas = {"unimo": UnimoConfig, "unimo2": Unimo2Config, "oner": OnerConfig}
    files = sorted((ROOT / "model_configs" / "models").glob("*.yaml"))
    sizes = {f.stem: load(schemas[f.stem.split("_")[0]], f).hidden_size for f in files}
    assert sizes == {
        "oner_base": 768,
        "oner_tiny": 32,
        "unimo2_base": 768,
        "unimo2_large": 1024,
        "unimo2_micro": 128,
        "unimo2_tiny": 32,
        "unimo_base": 768,
        "unimo_large": 1024,
        "unimo_mini": 384,
        "unimo_quickstart": 384,
        "unimo_tiny": 32,
    }


class Numbers(Config):
    rate: float = 0.1
    weights: dict[str, float] = {}
    steps: int = 1


LAUGHS = "".join(f"x{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else 'ha'] * 12)}]\n" for i in range(12))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: 1\nrate: 0.2\nsteps: 2\n", "line 3: steps is given twice; keep one"),
        ("weights:\n  a: 1\n  'a': 2\n", "line 3: a is given twice"),
        ("rate: .inf\n", "rate: Input should be a finite number"),
        ("weights: {b: .nan}\n", r"weights\.b: Input should be a finite number"),
        (LAUGHS, "more than 100000 values with all aliases written out"),
        ("rate: &a [*a]\n", "more than 100000 values|not valid YAML"),
        ("rate: " + "[" * 3000 + "]" * 3000, "nests deeper than 50 levels|not valid YAML"),
        ("steps: " + "9" * 5000, "a number of 5000 digits"),
        ("steps: 0x" + "f" * 5000, "a number of 5002 digits"),
        ("rate: " + "x" * 5000, r"\.\.\. \(5002 characters\)"),
        ("# " + "x" * (1 << 20), "more than 1048576 bytes"),
    ],
    ids=range(11),
)
def test_odd_yaml_is_one_short_error(text: str, message: str, tmp_path: Path):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load(Numbers, tmp_path / "a.yaml")
    assert len(str(caught.value)) < 1000


def test_aliases_of_plain_values_are_read(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("rate: &r 0.5\nweights: {a: *r, b: *r}\n")
    assert load(Numbers, tmp_path / "a.yaml").weights == {"a": 0.5, "b": 0.5}


def test_an_override_that_is_not_finite_is_refused(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("rate: 0.2\n")
    for value in ("nan", "inf", ".inf", "1e999"):
        with pytest.raises(ConfigError, match="rate: Input should be a finite number"):
            load(Numbers, tmp_path / "a.yaml", [f"rate={value}"])


def test_a_pipe_is_no_recipe(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "a.yaml").write_text(f"weights: {tmp_path}/pipe.yaml\n")
    with pytest.raises(ConfigError, match="pipe.yaml is no regular file"):
        load(Numbers, tmp_path / "a.yaml")


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings"])
def test_sizes_beyond_every_machine_are_refused(key: str, tmp_path: Path):
    (tmp_path / "a.yaml").write_text(f"{key}: 10000000000\n")
    for schema in (UnimoConfig, OnerConfig):
        with pytest.raises(ConfigError, match=f"{key}: Input should be less than or equal to"):
            load(schema, tmp_path / "a.yaml")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_recipes_of_other_editors_are_read(encoding: str, tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_bytes("hidden_size: 96\r\nnum_attention_heads: 4 # é\r\n".encode(encoding))
    sizes = load(UnimoConfig, path)
    assert (sizes.hidden_size, sizes.num_attention_heads) == (96, 4)
    path.write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(ConfigError, match="cannot read .*r.yaml"):
        load(UnimoConfig, path)
