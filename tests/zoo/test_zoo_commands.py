"""unimo zoo list, show and fetch, and a name of the zoo where a command takes a model."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from unimo import zoo
from unimo.cli import main
from unimo.config import ROOT, load
from unimo.finetune.retrieval import RetrievalRecipe
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.paper import numbers
from unimo.readers.tokenizer import load_tokenizer
from unimo.zoo.catalogue import entries, scores


def run(cache: Path, *command: str) -> tuple[int, str]:
    """Exit code and all that was printed."""
    done = CliRunner().invoke(main, command, env={"UNIMO_CACHE": str(cache)})
    return done.exit_code, done.output


def test_list_names_everything_without_paddle(tmp_path):
    code, output = run(tmp_path, "zoo", "list")
    assert code == 0 and all(name in output for name in entries()) and " yes " not in output
    program = "import sys; from unimo.zoo.catalogue import table; table(); assert 'paddle' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_show_takes_a_name(tmp_path):
    code, output = run(tmp_path, "zoo", "show", "unimo-2-base-en")
    assert code == 0 and "298,306,909" in output and "602" in output and "not known:" in output
    assert "Flickr30k image retrieval" in output and "R@1 80.14, R@5 95.58, R@10 97.75" in output
    code, output = run(tmp_path, "zoo", "show", "unimo-bse-en")
    assert code == 2 and "error: the zoo has no model 'unimo-bse-en'; did you mean 'unimo-base-en'?" in output


def test_fetch_says_what_to_bring(tmp_path):
    code, output = run(tmp_path, "zoo", "fetch", "unimo-mnli-large-en", "--offline")
    assert code == 2 and "https://unimo.bj.bcebos.com/model/unimo_mnli_large_en.tar.gz" in output
    assert "unimo zoo fetch unimo-mnli-large-en --from unimo_mnli_large_en.tar.gz" in output
    page = tmp_path / "page.tar.gz"
    page.write_text("<!DOCTYPE html><html>moved</html>")
    code, output = run(tmp_path, "zoo", "fetch", "unimo-base-en", "--from", str(page))
    assert code == 2 and "is not a .tar.gz or .tar: it begins b'<!DOCTYPE html>" in output


def test_a_name_stands_for_a_model_folder(tmp_path, small_world, small_recipe):
    model = Unimo(UnimoConfig(**small_recipe["model"]), ["pool", "match"])
    zoo.save_pretrained(model, tmp_path / "zoo" / "unimo-base-en" / "model", load_tokenizer(small_world / "vocabulary"))
    data = ["--pairs", f"{small_world}/pairs.jsonl", "--regions", f"{small_world}/regions"]
    code, output = run(
        tmp_path, "evaluate", "retrieval", "unimo-base-en", *data, "--max-tokens", "24", "--output", f"{tmp_path}/run"
    )
    assert code == 0 and "image_recall@1" in output, output
    assert " yes " in run(tmp_path, "zoo", "list")[1]


@pytest.mark.parametrize("size", ["base", "large"])
def test_the_recipes_of_the_paper_expect_the_scores_of_the_zoo(size):
    recipe = load(RetrievalRecipe, ROOT / "model_configs" / "finetune" / f"flickr30k_{size}.yaml")
    expected = numbers(recipe.paper, "test")
    for side in ("image", "text"):
        shown = [f"R@{k} {expected[f'{side}_recall@{k}']:g}" for k in (1, 5, 10)]
        assert scores(entries()[f"unimo-{size}-en"])[f"Flickr30k {side} retrieval"] == shown
    script = ["bash", ROOT / "run_scripts" / "finetune" / "retrieval" / "Flickr30k" / "run.sh", size, "--dry-run"]
    said = subprocess.run(script, capture_output=True, text=True, check=True).stderr
    assert f"flickr30k_{size}.yaml --model unimo-{size}-en " in said
