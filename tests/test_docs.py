"""The documents say what the program does: tables and commands are held against it."""

import io
import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

from cacheclip import pipeline
from cacheclip.cli.main import SECTIONS, cacheclip as group
from cacheclip.encoders.towers import OpenClipEncoder
from cacheclip.results import documented
from tests.makers import Said, cacheclip

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
ROWS = ROOT / "docs" / "rows.md"


def rows_document() -> str:
    lines = [f"| `{name}` | {doc} |" for name, doc in documented().items()]
    head = (
        "# Result rows\n\nWhat `--json` prints and `results.jsonl` keeps, made from `results.Row`."
        " Accuracies are\nfractions, times are seconds.\n\n| field | what it is |\n|---|---|\n"
    )
    return head + "\n".join(lines) + "\n"


def test_the_table_of_fields_is_the_rows_own() -> None:
    if os.environ.get("UPDATE_DOCS"):
        ROWS.write_text(rows_document())
    assert ROWS.read_text() == rows_document(), "run UPDATE_DOCS=1 pytest tests/test_docs.py"


def test_every_command_has_a_line_in_the_readme() -> None:
    for name in (name for names in SECTIONS.values() for name in names):
        assert f"`cacheclip {name}`" in README


def test_architecture_can_be_read_in_one_sitting_and_names_every_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert len(text.splitlines()) <= 60
    folders = [p.name for p in (ROOT / "cacheclip").iterdir() if (p / "__init__.py").exists()]
    files = [p.name for p in (ROOT / "cacheclip").glob("[a-z]*.py")]
    for room in [*(f"`{name}/`" for name in folders), *(f"`{name}`" for name in files)]:
        assert room in text


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
SHOWN = re.findall(r"^cacheclip .*$", README, re.MULTILINE)
SHOWN += re.findall(r"`(cacheclip [^`]+)`", CONTRIBUTING)
for page in (ROOT / "docs").rglob("*.md"):
    SHOWN += re.findall(r"^cacheclip .*$", page.read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", SHOWN)
def test_every_command_line_that_is_shown_parses(line: str) -> None:
    """Options that the documents show exist: click reads them all before anything runs."""
    name, *arguments = shlex.split(line.split("#")[0])[1:]
    command = group.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    command.make_context(name, arguments)


def executed(cells: list[str]) -> None:
    """Run what a reader would run, one cell after the other."""
    names: dict[str, object] = {}
    for cell in cells:
        exec(compile(cell, "<cell>", "exec"), names)


def test_the_python_of_the_documents_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "python.md").read_text()
    executed(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert (tmp_path / "birds.safetensors").exists()


def photographed(folder: Path) -> None:
    """Some of the embedded drawings, grey and seen in a mirror, in folders of other spelling."""
    from PIL import Image, ImageOps

    from cacheclip.datasets.base import Request
    from cacheclip.datasets.clipart import load

    data = load(Request("clipart", Path()))
    names = [data.classnames[label] for label in data.splits["test"].labels]
    for name in ("bird", "playing card", "vehicle"):
        made = folder / name.replace(" ", "_").title()
        made.mkdir(parents=True)
        own = [k for k, other in enumerate(names) if other == name][:10]
        for k in own:
            content = data.read(data.splits["test"].ids[k])
            assert isinstance(content, bytes)
            picture = Image.open(io.BytesIO(content))
            ImageOps.mirror(picture.convert("L")).save(made / f"{k}.png")


ENCODE = OpenClipEncoder.encode_images


def one_for_all(encoder: OpenClipEncoder, pixels: Tensor) -> dict[str, NDArray[np.float32]]:
    """Features of one picture of a batch, told apart by the colours of each."""
    colours = avg_pool2d(pixels, 16).flatten(1).numpy()  # [B, K]
    layers = ENCODE(encoder, pixels[:1])
    return {
        layer: x + np.resize(colours.T, (x.shape[1], len(pixels))).T for layer, x in layers.items()
    }


@pytest.mark.long
def test_the_demo_then_fit_then_predict_then_the_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: bool
) -> None:
    """What `make demo` calls, twice, what it says to try next, and the notebook on its features.

    But for `--all`, one draw of two shot counts stands for the demo's nine, and in each batch one
    picture goes through the tower for all.
    """
    if not every:
        monkeypatch.setattr(OpenClipEncoder, "encode_images", one_for_all)
        monkeypatch.setattr(pipeline, "DEMO_SHOTS", (1, 4))
        monkeypatch.setattr(pipeline, "DEMO_SEEDS", (1,))
    monkeypatch.setenv("CACHECLIP_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path) -> Said:
        done = cacheclip(*words)
        assert done.code == 0, done.err
        return done

    first = run("demo")
    assert "977 pictures encoded" in first.err
    table = first.out
    assert [line.split()[0] for line in table.splitlines()[3:]] == [
        *("zero-shot", "nearest-mean", "linear-probe"),
        *("tip-adapter", "tip-adapter-f", "clip-adapter", "kernel-logistic"),
    ]
    again = run("demo")
    assert "0 pictures encoded, 977 were there" in again.err
    assert again.out == table
    assert "clipart" in run("fit", "--shots", "16").err
    (bundle,) = (tmp_path / "home" / "bundles").iterdir()
    picture = tmp_path / "mine.png"
    from PIL import Image

    Image.new("RGB", (80, 60), "red").save(picture)
    assert "mine.png" in run("predict", bundle, picture).out
    notebook = json.loads((ROOT / "docs" / "notebook.ipynb").read_text())
    executed(["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"])
    assert (tmp_path / "clipart.safetensors").exists()
    photographed(tmp_path / "photos")
    page = (ROOT / "docs" / "protocols.md").read_text()
    for line in re.findall(r"^cacheclip (.*)$", page, re.MULTILINE):
        said = cacheclip(*shlex.split(line))
        assert said.code == 0, said.err
        assert "--base-to-new" not in line or "H of means" in said.out
