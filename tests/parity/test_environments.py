"""Environments of other libraries: made once, and anew after an interruption."""

import subprocess
import zipfile
from pathlib import Path

import pytest

LIBRARIES = Path(__file__).parent / "libraries"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A package that needs no index."""
    path = tmp_path / "peer_library-1.0-py3-none-any.whl"
    info = "peer_library-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("peer_library.py", "import sys\nprint('peer', *sys.argv[1:], file=open(sys.argv[1], 'w'))\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: peer-library\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", f"peer_library.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


def test_an_interrupted_environment_is_made_anew_and_a_whole_one_is_kept(wheel, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(LIBRARIES)
    monkeypatch.setenv("UNIMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    from environments import environment, folder_of, run_program

    folder = folder_of([str(wheel)])
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text("what a kill left")
    python = environment([str(wheel)])
    program = folder / "program.py"
    program.write_text("import peer_library\n")
    run_program(python, program, tmp_path / "out")
    assert (tmp_path / "out").read_text() == f"peer {tmp_path / 'out'}\n"
    assert environment([str(wheel)]) == python and program.exists()
    with pytest.raises(subprocess.CalledProcessError):
        run_program(python, program)
