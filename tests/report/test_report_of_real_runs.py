"""The page and the table read what pre-training and evaluation really write."""

import json
from pathlib import Path

import yaml
from click.testing import CliRunner

from unimo.cli import main


def unimo(*call: object) -> str:
    result = CliRunner().invoke(main, [str(part) for part in call], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_pretrain_evaluate_report(small_world: Path, small_recipe: dict, tmp_path: Path):
    recipe, trained, evaluated = (tmp_path / name for name in ("recipe.yaml", "pretrain", "zero_shot"))
    recipe.write_text(yaml.safe_dump(small_recipe))
    unimo("pretrain", recipe, "engine.eval_every=3", "--output", trained)
    files = ["--pairs", small_world / "pairs.jsonl", "--regions", small_world / "regions"]
    rewrites = ["--rewrites", small_world / "rewrites.jsonl", "--max-regions", 5]
    unimo("evaluate", "retrieval", trained, *files, *rewrites, "--output", evaluated)

    page = Path(unimo("report", "run", trained, evaluated).strip())
    assert page == tmp_path / "report.html"
    html = page.read_text(encoding="utf-8")
    course = ("learning rate", "mean_recall on dev", "metrics on the way")
    for title in (*small_recipe["weights"], *course, "match scores by kind of caption"):
        assert f'aria-label="{title}"' in html
    best = (trained / "checkpoints" / "best").read_text().strip()
    assert f"The checkpoint of step {int(best.removeprefix('step_'))} was\n" in html
    captions = json.loads((evaluated / "gallery.json").read_text())["captions"]
    assert f"10 of {len(captions)} captions" in html and "cannot be read" not in html
    assert all(f"<td>{kind}</td>" in html for kind in ("original", "paraphrase", "object", "tfidf"))
    assert "% of 12</td>" in html, "test split: 6 pictures with two captions, each with a negative of the kind"

    recall = json.loads((evaluated / "metrics.json").read_text())["metrics"]["image_recall@1"]
    assert (recall["unit"], recall["n"]) == ("%", 12)
    table = unimo("report", "table", evaluated)
    assert f"{recall['value']:.1f} [" in table and "without metrics.json" not in table

    seen = json.loads((evaluated / "metrics.json").read_text())["seen"]
    step = int(best.removeprefix("step_"))
    texts = len((small_world / "texts.jsonl").read_text().splitlines())
    assert seen.startswith("started at random; pre-trained on ") and seen.endswith(f", {step} updates")
    assert f"{texts} texts of {small_world}/texts.jsonl, " in seen
    assert f"40 training captions of {small_world}/pairs.jsonl" in seen, "20 pictures with two each"
    assert f"<li>zero-shot (zero_shot): {seen}</li>" in html and seen in table

    again = tmp_path / "again"
    against = ["--label", "again", "--against", evaluated]
    printed = unimo("evaluate", "retrieval", trained, *files, "--max-regions", 5, *against, "--output", again)
    assert "again minus zero-shot: image_recall@1 +0.0 [0.0, 0.0]" in printed
    assert "again minus zero-shot: text_recall@10 +0.0 [0.0, 0.0]" in unimo("report", "table", evaluated, again)
