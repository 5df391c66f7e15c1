"""Both kinds of engines, started for real."""

import os
import shutil
import sys

import pytest

from data_prep.rewrite.build import start
from data_prep.rewrite.translate import ENGINES, Apertium, Bergamot, _run
from data_prep.sources.programs import debian_programs
from unimo.errors import ConfigError, DataError

SENTENCES = [
    "A man rides a bicycle",  # without a full stop, which would run into the next
    "A small airplane flies over the snow covered mountains.",
    "Two youngsters are playing with a brown dog in the park.",
    'A $5 [price] ^tag@ <b>\\/ & "so".',
    "x",
]


@pytest.fixture(scope="module", params=list(ENGINES))
def engine(request):
    try:
        return ENGINES[request.param](None)
    except DataError as error:
        pytest.skip(f"{request.param} cannot be had: {error}")


def test_a_sentence_comes_back_whatever_the_others_are(engine):
    back = engine.there_and_back(SENTENCES)
    assert len(back) == len(SENTENCES) and engine.there_and_back(SENTENCES[1::2]) == back[1::2]
    assert {"man", "bicycle"} <= set(back[0].lower().replace("bike", "bicycle").rstrip(".").split())
    assert "not" not in back[2].split() and "dog" in back[2]  # "no parque" is no negation
    assert all("\n" not in sentence and sentence == sentence.strip() for sentence in back)
    assert engine.there_and_back(SENTENCES) == back


def test_no_sentence_depends_on_those_before_it(engine, shipped):
    """A tagger that carries something over shows in some of a hundred captions (apertium's Catalan one does)."""
    captions = [record["captions"][0] for record in shipped][: 100 if isinstance(engine, Bergamot) else None]
    back = engine.there_and_back(captions)
    assert engine.there_and_back(captions[::-1]) == back[::-1]
    assert engine.there_and_back(captions[::7]) == back[::7]
    assert engine.there_and_back([]) == []


def test_engines_differ_and_name_their_versions():
    try:
        Apertium()
    except DataError as error:
        pytest.skip(f"apertium cannot be had: {error}")
    made = start(["auto"], None)
    assert [type(engine) for engine in made] == [Bergamot, Apertium], "two independent engines run here"
    assert [type(engine) for engine in start(["apertium-es", "auto"], None)] == [Bergamot, Apertium]
    backs = [engine.there_and_back(SENTENCES) for engine in made]
    assert all(one != other for i, one in enumerate(backs) for other in backs[:i])


def test_an_unknown_engine_is_refused():
    with pytest.raises(ConfigError, match="no engine babelfish; expected auto or some of bergamot-pt"):
        start(["babelfish"], None)


def test_what_cannot_be_had_is_left_out_of_auto_with_a_notice(tmp_path, offline, monkeypatch, capsys):
    monkeypatch.setenv("PATH", offline["PATH"])  # no apt-get
    assert [type(engine) for engine in start(["auto"], tmp_path)] == [Bergamot]
    assert "no paraphrases by apertium-es" in capsys.readouterr().out
    with pytest.raises(DataError, match="no apt-get"):
        Apertium(tmp_path)
    with pytest.raises(DataError, match="no apt-get"):
        start(["auto", "apertium-es"], tmp_path)  # named: not to be left out


def test_a_part_of_a_pipeline_that_fails_is_named():
    fails = [sys.executable, "-c", "import sys; sys.exit('what went wrong')"]
    with pytest.raises(DataError, match="status 1: what went wrong"):
        _run([["cat"], fails, ["cat"]], b"x" * 1_000_000, dict(os.environ))
    with pytest.raises(DataError, match="cannot run no-such-program"):
        _run([["cat"], ["no-such-program"]], b"x", dict(os.environ))


@pytest.mark.skipif(not shutil.which("apt-get"), reason="no apt-get on this machine")
def test_programs_are_unpacked_once_and_recorded():
    package = "apertium-eng-spa"
    try:
        programs = debian_programs(package, [package])
    except DataError as error:
        pytest.skip(f"{package} cannot be had: {error}")
    names = {record["name"] for record in programs.packages}
    assert not names or package in names and all(len(record["sha256"]) == 64 for record in programs.packages)
    assert programs.find(f"usr/share/apertium/{package}").is_dir()
    with pytest.raises(DataError, match="delete that folder"):
        programs.find("usr/share/apertium/no-such-file")
