"""Reading run folders: what may be missing, and one clear error for what is broken."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from example_runs import classification, evaluation, finetuning, metrics, pretraining, update, write

from unimo.errors import DataError
from unimo.report.run_folder import open_runs


def test_any_file_may_be_missing(tmp_path: Path):
    pretrained, evaluated, tuned = open_runs(
        [pretraining(tmp_path / "pretrain"), evaluation(tmp_path / "zero_shot"), finetuning(tmp_path / "finetune")]
    )
    assert (len(pretrained.updates), len(pretrained.evaluations)) == (300, 3)
    assert pretrained.metrics is None and pretrained.gallery is None
    assert evaluated.log == [] and evaluated.config is None and evaluated.state is None
    assert tuned.state.status == "done" and tuned.metrics.label == "fine-tuned" and tuned.config
    assert [run.name for run in (pretrained, evaluated, tuned)] == ["pretrain", "zero_shot", "finetune"]


def test_means_of_several_streams_are_told_apart(tmp_path: Path):
    part = {"updates": 1, "total": 2.0, "grad_norm": 1.0, "items_per_s": 40.0, "pad_share": 0.1, "seconds": 0.2}
    streams = {"text": part | {"losses": {"mlm": 2.0}}, "pair": part | {"losses": {"mlm": 3.0, "cmcl": 1.0}}}
    means = part | {"step": 20, "lr": 1e-4, "losses": {"mlm": 2.5, "cmcl": 1.0}, "streams": streams}
    lines = [update(10, "image", {"region_class": 1.0}), means, {"step": 20, "metrics": {"f1": 3.0}}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run,) = open_runs([tmp_path])
    assert [(r.step, r.stream, r.losses) for r in run.updates] == [
        (10, "image", {"region_class": 1.0}),
        (20, "text", {"mlm": 2.0}),
        (20, "pair", {"mlm": 3.0, "cmcl": 1.0}),
    ]
    assert {r.lr for r in run.updates} == {1e-4} and len(run.evaluations) == 1 and run.taken is None


@pytest.mark.parametrize("quality", [0.0, 0.123, 1 / 3, 0.977])
def test_fractions_of_older_files_are_read_as_percent(tmp_path: Path, quality: float):
    write(tmp_path / "old" / "metrics.json", metrics("x", quality, old=True))
    write(tmp_path / "new" / "metrics.json", metrics("x", quality))
    old, new = (run.metrics.metrics for run in open_runs([tmp_path / "old", tmp_path / "new"]))
    assert {name: replace(m, n=None) for name, m in new.items()} == old and old["image_recall@1"].unit == "%"


def test_any_task_is_read(tmp_path: Path):
    classification(tmp_path / "run", "ours", [1, 0, 1, 1])
    (run,) = open_runs([tmp_path / "run"])
    assert run.metrics.task == "classify" and run.metrics.title == "dev split, 4 sentences"
    assert run.metrics.metrics["accuracy"].value == 75 and run.metrics.metrics["perplexity"].low is None


def test_runs_of_the_same_name_are_told_apart(tmp_path: Path):
    paths = [tmp_path / "seed1" / "run", tmp_path / "seed2" / "run", tmp_path]
    for path in paths:
        write(path / "state.json", {"status": "done"})
    assert [run.name for run in open_runs(paths[:2])] == ["seed1/run", "seed2/run"]
    assert [run.name for run in open_runs(paths[:1])] == ["run"]
    assert [run.name for run in open_runs([tmp_path, paths[0]])] == [tmp_path.name, "seed1/run"]


def test_a_folder_without_a_run_names_what_was_looked_for(tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(DataError, match="holds none of the files of a run; looked for config.yaml, log.jsonl, state"):
        open_runs([tmp_path])
    with pytest.raises(DataError, match="none is not a folder; looked for"):
        open_runs([tmp_path / "none"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'step': 1}", "log.jsonl line 2: Invalid JSON"),
        ("", "log.jsonl line 2: Invalid JSON"),
        ("[]", "log.jsonl line 2: Input should be an object"),
        (
            '{"losses": {"mlm": "high"}}',
            "log.jsonl line 2: losses.mlm: Input should be a valid number, got 'high'; key 'step' is missing",
        ),
    ],
)
def test_a_broken_log_line_is_named(tmp_path: Path, line: str, message: str):
    good = json.dumps(update(1, "text", {"mlm": 1.0}))
    (tmp_path / "log.jsonl").write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(DataError) as error:
        open_runs([tmp_path])
    assert message in str(error.value)


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path):
    lines = [json.dumps(update(step, "text", {"mlm": 1.0})) for step in (1, 2)]
    (tmp_path / "log.jsonl").write_text(f"{lines[0]}\n{lines[1][:20]}")
    (run,) = open_runs([tmp_path])
    assert [record.step for record in run.log] == [1]


def test_broken_results_are_named_with_their_key(tmp_path: Path):
    write(tmp_path / "metrics.json", metrics("x", 0.1) | {"task": 7, "images": "12"})
    with pytest.raises(DataError, match=r"(?s)metrics.json: 2 problem.*- task: .*string.*- images: .*integer"):
        open_runs([tmp_path])
    broken = {"accuracy": {"value": "high", "unit": "%"}, "f1": {"unit": "%"}, "em": 3}
    write(tmp_path / "metrics.json", metrics("x", 0.1) | {"metrics": broken, "paper": {"tabel": "unimo_table1"}})
    with pytest.raises(DataError) as error:
        open_runs([tmp_path])
    said = str(error.value)
    assert "4 problem(s)" in said and "metrics.accuracy.value: Input should be a valid number" in said
    assert "key 'metrics.f1.value' is missing" in said and "metrics.em: " in said and "paper.tabel: " in said
    (tmp_path / "metrics.json").unlink()
    (tmp_path / "gallery.json").write_text('{"captions": [')
    with pytest.raises(DataError, match="gallery.json: 1 problem.*\n.*Invalid JSON"):
        open_runs([tmp_path])
    (tmp_path / "gallery.json").write_text('{"candidates": {"original": {"cat#0": [NaN]}}}')
    with pytest.raises(DataError, match="candidates.original.cat#0.0: Input should be a finite number"):
        open_runs([tmp_path])
