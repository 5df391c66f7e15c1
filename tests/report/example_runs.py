"""Writes small run folders as the engine and the evaluation write them: drawn pictures, invented numbers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unimo.evaluate.results import Metric, Sample, measure, write_result
from unimo.evaluate.retrieval import KS

COLOURS = {"red": (40, 40, 220), "green": (60, 160, 40), "blue": (200, 90, 30), "yellow": (0, 210, 240)}  # BGR
THINGS = ("ball", "box", "flag")


def pictures(folder: Path) -> list[tuple[str, str]]:
    """(image id, caption) of twelve pictures drawn into `folder`: wide, tall and with a transparent ground."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, (colour, bgr) in enumerate(COLOURS.items()):
        for place, thing in enumerate(THINGS):
            height, width = [(180, 320), (320, 180), (240, 240)][(number + place) % 3]
            picture = np.full([height, width, 4], (255, 255, 255, 0 if place == 1 else 255), np.uint8)
            centre, ink = (width // 2, height // 2), (*bgr, 255)
            if thing == "ball":
                cv2.circle(picture, centre, 60, ink, -1)
            elif thing == "box":
                cv2.rectangle(picture, (centre[0] - 60, centre[1] - 45), (centre[0] + 60, centre[1] + 45), ink, -1)
            else:
                corners = [(centre[0] - 50, centre[1] - 60), (centre[0] + 60, centre[1]), (centre[0] - 50, centre[1])]
                cv2.fillPoly(picture, [np.array(corners)], ink)
                cv2.line(picture, (centre[0] - 50, centre[1] - 60), (centre[0] - 50, centre[1] + 70), (0, 0, 0, 255), 6)
            assert cv2.imwrite(str(folder / f"{colour}_{thing}.png"), picture)
            found.append((f"{colour}_{thing}", f"a {colour} {thing} on a white table"))
    return found


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def update(step: int, stream: str, losses: dict[str, float], **more: float) -> dict[str, Any]:
    """A line of log.jsonl as earlier versions wrote it, of one update; both are read."""
    rest = {"total": sum(losses.values()), "lr": 1e-4, "grad_norm": 1.0, "items_per_s": 40.0, "seconds": 0.2} | more
    return {"step": step, "stream": stream, "losses": losses, **rest}


def pretraining(run: Path, steps: int = 300) -> Path:
    """A run that pre-trained and evaluated on the way; no metrics.json, no gallery.json."""
    rng, lines = np.random.default_rng(1), []
    for step in range(1, steps + 1):
        stream = str(rng.choice(["text", "image", "pair"], p=[0.2, 0.2, 0.6]))
        left = (1 + step / 40) ** -0.5
        noise = rng.normal(1, 0.06, size=6)
        every = {
            "mlm": (2 + 6 * left) * noise[0],
            "seq2seq": (2.5 + 6 * left) * noise[1],
            "region_feature": 900 * left * noise[2],
            "region_class": (1 + 3 * left) * noise[3],
            "cmcl": (0.4 + 1.3 * left) * noise[4],
        }
        names = {"text": ("mlm",), "image": ("region_feature", "region_class"), "pair": tuple(every)}[stream]
        names = tuple(n for n in names if n != ("mlm" if step % 2 else "seq2seq"))
        losses = {name: every[name] for name in names or ("seq2seq",)}
        rate = 5e-4 * min(step / 20, (steps - step) / (steps - 20))
        speed = {"text": 90, "image": 60, "pair": 40}[stream] * noise[5]
        lines.append(update(step, stream, losses, lr=rate, grad_norm=3 * left * noise[5], items_per_s=speed))
        if step % 100 == 0:
            recalls = {f"{name}_recall@{k}": 3.0 * k * (1 - left) for name in ("image", "text") for k in KS}
            recalls["mean_recall"] = 16.0 * (1 - left) if step < steps else 0.5  # the last is worse
            lines.append({"step": step, "metrics": recalls, "metric": "mean_recall", "best": step < steps})
    run.mkdir(parents=True)
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "config.yaml").write_text("streams:\n  text: 1\n  image: 1\n  pair: 3\nweights:\n  mlm: 1.0\n  cmcl: 1.0\n")
    write(run / "state.json", {"status": "done", "exit_code": 0, "message": ""})
    return run


def metrics(
    label: str, quality: float, captions: int = 12, images: int = 12, old: bool = False, **more: Any
) -> dict[str, Any]:
    """metrics.json; `quality` 0 is chance. `old`: as before metrics had units, recalls as fractions of 1."""
    recalls = {}
    for name, share in (("image_recall", quality), ("text_recall", quality / 2)):
        for k in KS:
            chance = min(1.0, k / images)
            value = chance + share * (1 - chance)
            low, high = max(0.0, value - 0.08), min(1.0, value + 0.08)
            recall = {"value": value, "low": low, "high": high, "chance": chance}
            n = captions if name == "image_recall" else images
            percent = {key: 100 * part for key, part in recall.items()} | {"unit": "%", "n": n}
            recalls[f"{name}@{k}"] = recall if old else percent
    provenance = {
        "command": "unimo evaluate retrieval runs/pretrain --pairs data/pairs.jsonl --regions data/regions",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dirty": True,
        "versions": {"paddlepaddle": "3.3.1", "numpy": "2.3.5"},
        "hardware": {"cpu": "a processor", "cores": 2, "threads": 1, "MKL_DEBUG_CPU_TYPE": None},
        "time": "2026-01-31T12:00:00Z",
    }
    written = {"task": "retrieval", "label": label, "model": "runs/pretrain", "split": "test", "captions": captions}
    return written | {"images": images, "metrics": recalls, "provenance": provenance, **more}


def classification(run: Path, label: str, right: Sequence[int], **more: Any) -> list[str]:
    """A result of an invented task, written as evaluations do: accuracy with its sample, and a metric of another unit.

    `more`: further arguments of write_result, and facts.
    """
    sample = Sample(np.array(right), np.ones(len(right)))
    found = {"accuracy": measure(sample, chance=1 / 2), "perplexity": Metric(12.5, "points")}
    rest = {name: more.pop(name) for name in ("against", "units") if name in more}
    units = rest.pop("units", [f"sentence {n}" for n in range(len(right))])
    facts = {"label": label, "split": "dev", "items": f"{len(right)} sentences", "data": {"file_sha256": "0f"}} | more
    return write_result(run, "classify", found, facts, {"accuracy": sample}, units, **rest)


def gallery(run: Path) -> dict[str, Any]:
    """gallery.json beside its pictures, with paths relative to `run`."""
    rng, shown = np.random.default_rng(2), pictures(run / "images")
    captions, rewrites, scores = [], [], {"original": {}}
    for row, (image_id, caption) in enumerate(shown):
        order = rng.permutation(len(shown))
        order = np.concatenate([[row], order[order != row]]) if row % 3 else order[order != row]
        top = [
            {"image_id": shown[i][0], "image": f"images/{shown[i][0]}.png", "score": 3.0 - rank, "hit": bool(i == row)}
            for rank, i in enumerate(order[:5])
        ]
        key, colour, thing = f"{image_id}#0", *image_id.split("_")
        own = {"caption_id": key, "caption": caption, "image_id": image_id, "image": f"images/{image_id}.png"}
        captions.append(own | {"top": top})
        other_colour, other_thing = ("red" if colour != "red" else "blue"), ("box" if thing != "box" else "ball")
        negatives = [
            {"text": caption.replace(thing, other_thing), "kind": "object", "from": thing, "to": other_thing},
            {"text": caption.replace(colour, other_colour), "kind": "attribute", "from": colour, "to": other_colour},
            {"text": caption.replace(" on ", " in front of "), "kind": "relation", "from": "on", "to": "in front of"},
            {"text": shown[(row + 1) % len(shown)][1], "kind": "tfidf", "image_id": shown[(row + 1) % len(shown)][0]},
        ]
        positives = [{"text": f"on a white table lies a {colour} {thing}", "engine": "hand"}]
        rewrites.append({"caption_id": key, "caption": caption, "positives": positives, "negatives": negatives})
        means = {"original": 2.0, "paraphrase": 1.8, "object": 0.2, "attribute": 0.8, "relation": 1.5, "tfidf": -1.0}
        for kind, mean in means.items():
            scores.setdefault(kind, {})[key] = rng.normal(mean, 0.8, size=1).tolist()
    return {"captions": captions, "candidates": scores, "rewrites": rewrites}


def evaluation(run: Path, label: str = "zero-shot", quality: float = 0.3) -> Path:
    """A run folder of an evaluation: metrics and gallery, no log."""
    write(run / "gallery.json", gallery(run))
    write(run / "metrics.json", metrics(label, quality))
    return run


def finetuning(run: Path) -> Path:
    """A run folder of fine-tuning with its evaluation at the end: everything but evaluations on the way."""
    evaluation(run, "fine-tuned", 0.6)
    losses = 2.5 * np.exp(-np.arange(200) / 80) + np.random.default_rng(3).gamma(2, 0.2, 200)
    lines = [
        update(s, "retrieval", {"circle": float(loss)}, lr=5e-5 * (1 - s / 201)) for s, loss in enumerate(losses, 1)
    ]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "config.yaml").write_text("negatives: 10\nmargin: 0.2\n")
    write(run / "state.json", {"status": "done", "exit_code": 0, "message": ""})
    return run
