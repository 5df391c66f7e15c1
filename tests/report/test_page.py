"""The page: what it shows of real run folders, that it is self-contained, and that captions cannot inject anything."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from example_runs import classification, evaluation, finetuning, metrics, pretraining, write

from unimo.cli import main
from unimo.errors import DataError
from unimo.report.page import CAPTIONS, NEGATIVES, default_output, provenance_rows, write_page
from unimo.report.run_folder import Metrics, open_runs
from unimo.storage.locks import alone

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = "<script>alert(1)</script> & \"quoted\" 'text'"


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects elements and text."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str):
        assert self.open.pop() == tag

    def handle_data(self, data: str):
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def count(self, tag: str, **attributes: str) -> int:
        return sum(t == tag and attributes.items() <= a.items() for t, a in self.elements)


def page_of(*runs: Path) -> Page:
    output = runs[0].parent / "page.html"
    write_page(open_runs(runs), output)
    return Page(output.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    pretraining(folder / "pretrain")
    evaluation(folder / "zero_shot")
    finetuning(folder / "finetune")
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return page_of(folder / "pretrain", folder / "zero_shot", folder / "finetune")


def test_it_asks_for_nothing_outside_and_runs_nothing(page: Page):
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed")
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/jpeg;base64,")), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in page.text and "url(http" not in page.text


def test_it_says_what_it_shows_and_can_be_read_without_a_mouse(page: Page):
    about = (
        "This page shows 3 runs: the results of 2 beside chance (test split, 12 captions of 12 images), how the losses"
    )
    assert about in page.text and page.text.index(about) < page.text.index("Results")
    assert page.count("main") == 1
    scrolling = [a for tag, a in page.elements if "scroll" in (a.get("class") or "").split()]
    names = [a["aria-label"] for a in scrolling]
    assert len(scrolling) == 4 and len(set(names)) == 4, "runs, results, scores of two runs"
    assert all((a["tabindex"], a["role"]) == ("0", "region") for a in scrolling)


def test_links_lead_to_the_runs(page: Page):
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    links = [a["href"] for tag, a in page.elements if tag == "a"]
    assert len(links) == 3 and {link.removeprefix("#") for link in links} <= set(ids)


def test_it_shows_what_the_files_say(page: Page):
    assert "35.8 * [27.8, 43.8]" in page.text and "63.3 *" in page.text
    assert page.text.index("image -> caption") < page.text.index("22.1 * [14.1, 30.1]")  # zero-shot, R@1
    assert "finetune (fine-tuned)" in page.text
    for title in ("mlm", "seq2seq", "region_feature", "region_class", "cmcl", "weighted total", "circle"):
        assert page.count("svg", **{"aria-label": title}) >= 1
    assert page.count("svg", **{"aria-label": "learning rate"}) == 2  # the evaluation has no log
    assert page.count("svg", **{"aria-label": "metrics on the way"}) == 1
    assert page.count("svg", **{"aria-label": "mean_recall on dev"}) == 1
    assert page.text.count("taken: step 200") == 2, "marked in both"
    assert "The checkpoint of step 200 was taken, the best by mean_recall: 9.5." in page.text
    assert "MKL_DEBUG_CPU_TYPE none" in page.text and "with uncommitted changes" in page.text
    assert "streams: text: 1" in page.text
    assert page.text.count("State: done, exit code 0") == 2


def test_hits_are_marked_by_word_and_by_frame(page: Page):
    shown = 2 * CAPTIONS  # of two galleries with 12 captions each
    assert page.count("img") == shown * 6 and page.count("div", **{"class": "own"}) == shown
    assert page.text.count("own image at rank 1") == page.count("div", **{"class": "hit"}) == page.text.count("✓ hit")
    assert 0 < page.count("div", **{"class": "hit"}) < shown
    assert page.text.count("not among the first 5") == shown - page.count("div", **{"class": "hit"})


def test_changed_words_are_marked(folder: Path):
    html = (folder / "page.html").read_text(encoding="utf-8")
    assert "a <del>red</del> <ins>blue</ins> ball on a white table" in html
    assert "a red ball <del>on</del> <ins>in front of</ins> a white table" in html
    assert "X- tfidf" in html


def test_scores_stand_beside_rewrites_and_chance_beside_shares(tmp_path: Path):
    run = evaluation(tmp_path / "run")
    gallery = json.loads((run / "gallery.json").read_text())
    key = gallery["rewrites"][0]["caption_id"]
    for kind, score in {"original": 1.5, "paraphrase": 1.25, "object": 0.75, "attribute": 3.5, "relation": 1.5}.items():
        gallery["candidates"][kind] = {key: [score]}
    write(run / "gallery.json", gallery | {"rewrites": gallery["rewrites"][:1]})
    text = page_of(run).text
    order = ["caption1.500a red ball on", "1.250on a white", "attribute3.500above the caption: a red"]
    order += ["relation1.500", "object0.750"]
    assert [text.index(words) for words in order] == sorted(text.index(words) for words in order)
    assert text.count("above the caption:") == 1
    assert "more; of all" not in text
    assert re.search(r"attributeX-13\.50 *0\.0 % *50\.0 % *0\.0 % of 1 *50\.0 %", text)


def test_many_rewrites_are_folded(tmp_path: Path):
    run = evaluation(tmp_path / "run")
    gallery = json.loads((run / "gallery.json").read_text())
    key, caption = gallery["captions"][0]["caption_id"], gallery["rewrites"][0]
    caption["negatives"] = [{"text": f"caption {n}", "kind": "tfidf"} for n in range(NEGATIVES + 3)]
    gallery["candidates"] = {"original": {key: [1.5]}, "tfidf": {key: [float(n) for n in range(NEGATIVES + 3)]}}
    write(run / "gallery.json", gallery | {"rewrites": [caption]})
    page = page_of(run)
    assert f"3 more; of all {NEGATIVES + 3}, {NEGATIVES + 1} score above the caption" in page.text
    assert page.count("details") == 1
    assert page.text.index("caption 3") < page.text.index("3 more;") < page.text.index("caption 2")


def test_captions_are_text_not_markup(tmp_path: Path):
    run = evaluation(tmp_path / HOSTILE.replace("/", "|"))
    gallery = json.loads((run / "gallery.json").read_text())
    gallery["captions"][0] |= {"caption": HOSTILE, "image_id": '"><script>1</script>', "image": "none.png"}
    gallery["rewrites"][0]["caption"] = HOSTILE
    gallery["rewrites"][0]["negatives"][0]["text"] = "<script>changed</script>"
    gallery["rewrites"][0]["positives"] = [{"text": HOSTILE, "engine": "<b>"}]
    write(run / "gallery.json", gallery)
    write(run / "metrics.json", metrics(HOSTILE, 0.2, model=HOSTILE))
    write(run / "state.json", {"status": "failed", "exit_code": 2, "message": HOSTILE})
    (run / "config.yaml").write_text(f"key: {HOSTILE}\n")
    page = page_of(run)
    assert page.count("script") == page.count("b") == 0
    assert page.text.count(HOSTILE) >= 6
    assert 'picture "><script>1</script> cannot be read' in page.text


def test_a_stopped_run_alone(tmp_path: Path):
    message = "rank 0: step 7, stream pair: loss mlm is nan"
    write(tmp_path / "run" / "state.json", {"status": "non_finite", "exit_code": 76, "message": message})
    page = page_of(tmp_path / "run")
    assert f"State: non_finite, exit code 76: {message}" in page.text
    assert "None of these runs was evaluated" in page.text
    assert page.count("svg") == page.count("img") == 0


def test_a_run_goes_on_only_while_a_process_holds_it(tmp_path: Path):
    run = tmp_path / "run"
    write(run / "state.json", {"status": "running", "exit_code": None, "message": ""})
    with alone(run):
        assert "State: running" in page_of(run).text
    assert "State: killed: it ended without a word" in page_of(run).text


def test_provenance_names_everything_besides_the_metrics():
    written = metrics("x", 0.1, seed=7)
    written["provenance"] |= {"commit": None, "dirty": False}
    rows = dict(provenance_rows(Metrics.model_validate_json(json.dumps(written))))
    assert rows["seed"] == "7" and rows["commit"] == "none" and "dirty" not in rows
    assert rows["versions"] == "paddlepaddle 3.3.1, numpy 2.3.5"


def test_another_task_its_paper_and_differences(tmp_path: Path):
    entailment = {"table": "unimo_table1", "row": "UNIMO-base", "dataset": "SNLI-VE", "mode": "finetuned"}
    classification(tmp_path / "start", "start", [0, 1] * 20)
    classification(tmp_path / "ours", HOSTILE, [1, 1] * 20, against=[tmp_path / "start"], paper=entailment)
    page = page_of(tmp_path / "start", tmp_path / "ours")
    assert "classify on the dev split, 40 sentences: 95 % bootstrap interval" in page.text
    assert "accuracy (%)" in page.text and "perplexity (points)" in page.text
    assert page.count("tr", **{"class": "paper"}) == 1 and "UNIMO-base, SNLI-VE, Table 1 of UNIMO80-" in page.text
    assert f"{HOSTILE} minus start: accuracy +50.0 [" in page.text and page.count("script") == 0
    assert "Differences with 95 % paired bootstrap interval, * = excludes 0:" in page.text
    assert "table unimo_table1, row UNIMO-base, dataset SNLI-VE, mode finetuned" in page.text, "among the provenance"


def test_default_output(tmp_path: Path):
    assert default_output([tmp_path / "a"]) == tmp_path / "a" / "report.html"
    assert default_output([tmp_path / "a", tmp_path / "b" / "c"]) == tmp_path / "report.html"


def test_a_page_that_cannot_be_written_is_one_error(tmp_path: Path):
    write(tmp_path / "state.json", {"status": "done"})
    with pytest.raises(DataError, match="cannot write .*No such file"):
        write_page(open_runs([tmp_path]), tmp_path / "none" / "report.html")


def test_commands(folder: Path):
    runs = [str(folder / name) for name in ("zero_shot", "finetune")]
    written = CliRunner().invoke(main, ["report", "run", *runs])
    assert (written.exit_code, written.output.strip()) == (0, str(folder / "report.html"))
    assert (folder / "report.html").stat().st_size < 2_000_000
    printed = CliRunner().invoke(main, ["report", "table", *runs])
    assert printed.exit_code == 0 and re.search(r"fine-tuned +finetune +63\.3 \[", printed.output)
    failed = CliRunner().invoke(main, ["report", "run", str(folder / "zero_shot" / "images")])
    assert failed.exit_code == 2 and failed.stderr.startswith("error: ") and "looked for config.yaml" in failed.stderr


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_without_the_extra_the_cure_is_named(folder: Path, package: str):
    program = f"import sys; sys.modules[{package!r}] = None; from unimo.cli import main; main()"

    def unimo(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", program, "report", *arguments, str(folder / "zero_shot")]
        return subprocess.run(command, capture_output=True, text=True)

    page, table = unimo("run"), unimo("table")
    assert page.returncode == 2 and "pip install -e .[report]" in page.stderr and "Traceback" not in page.stderr
    assert table.returncode == 0 and "zero-shot" in table.stdout


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_shows_it_without_complaint(page: Page, folder: Path, tmp_path: Path):
    """Chromium prints to the console whatever the page's own policy blocks: scripts, and any request."""

    def console(file: Path) -> list[str]:
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path}",
            "--enable-logging=stderr",
        ]
        command = ["chromium", *flags, "--dump-dom", file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert "<h1>UNIMO report</h1>" in done.stdout, done.stderr
        return [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    assert console(folder / "page.html") == []
    html = (folder / "page.html").read_text(encoding="utf-8")
    wrong = tmp_path / "wrong.html"
    wrong.write_text(html.replace("<h1>", '<img src="http://127.0.0.1:9/x.png"><h1>'), encoding="utf-8")
    assert any("Content Security Policy" in line for line in console(wrong))
