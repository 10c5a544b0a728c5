"""Pictures listed in a table: what is understood, and what is refused with its lines."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cacheclip.cli.main import cacheclip
from cacheclip.datasets.base import DataSet, resolve
from cacheclip.errors import InputError

DOC = Path(__file__).parents[2] / "docs" / "your-pictures.md"


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(list(path.name.encode()))
    Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(path)
    return path


def table(folder: Path, lines: list[str], name: str = "labels.csv", **how: str) -> Path:
    for k in range(6):
        picture(folder / "pictures" / f"a{k}.png")
        picture(folder / "pictures" / f"b{k}.png")
    file = folder / name
    file.write_text("\n".join(lines), **how)
    return file


def listed(suffix: str = "", separator: str = ",") -> list[str]:
    return [
        f"pictures/{label}{k}.png{separator}{label}{suffix}" for k in range(6) for label in "ab"
    ]


def load(file: Path) -> DataSet:
    return resolve(str(file), data_root=Path("nowhere"))


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        ("path,label", ","),
        ("filename;class", ";"),
        ("Image Path\tspecies", "\t"),
        ("file_name,Category", ","),
    ],
)
def test_headers_and_separators_as_people_write_them(
    tmp_path: Path, header: str, separator: str
) -> None:
    file = table(tmp_path, [header, *listed(separator=separator)], encoding="utf-8-sig")
    found = load(file)
    assert (found.id, found.classnames) == ("csv/labels", ("a", "b"))
    sizes = {split: len(part.ids) for split, part in found.splits.items()}
    assert sizes == {"train": 8, "val": 2, "test": 2}
    assert found.splits["train"].ids[0].startswith("pictures/")
    assert Path(str(found.open("train", 0))).is_file()


def test_one_label_in_two_ways_of_writing_accents_is_one_class(tmp_path: Path) -> None:
    ways = ("caf\u00e9", "cafe\u0301")
    rows = [f"pictures/a{k}.png,{ways[k % 2]}" for k in range(6)]
    found = load(table(tmp_path, ["path,label", *rows, "pictures/b0.png,bar"], encoding="utf-8"))
    assert found.classnames == ("bar", "caf\u00e9")
    assert any("NFC and NFD" in line for line in found.notices)


def test_splits_in_any_spelling_are_kept(tmp_path: Path) -> None:
    words = ["training", "Train", "VALID", "test1", "test", "train_set"]
    rows = [f"pictures/{c}{k}.png,{c},{words[k]}" for k in range(6) for c in "ab"]
    found = load(table(tmp_path, ["image,target,subset", *rows]))
    assert {s: len(p.ids) for s, p in found.splits.items()} == {"train": 6, "val": 2, "test": 4}


def test_absolute_paths_below_the_folder_and_a_table_given_by_prefix(tmp_path: Path) -> None:
    rows = [f"{tmp_path}/{line}" for line in listed()]
    file = table(tmp_path, ["path,label", *rows], name="my birds.tsv")
    assert resolve(f"csv/{file}", data_root=Path("nowhere")).id == "csv/my birds"


def test_absolute_paths_under_another_name_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to(tmp_path / "there")
    for written, given in (("there", "here"), ("here", "there")):
        rows = [f"{tmp_path}/{written}/{line}" for line in listed()]
        file = table(tmp_path / given, ["path,label", *rows])
        assert load(file).splits["train"].ids[0].startswith("pictures/")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path,label\npictures/a0.png,caf\xe9\n".encode("latin-1"), "not UTF-8 text (line 2)"),
        ("path,label\npictures/a0.png,a\n".encode("utf-16"), "iconv -f UTF-16"),
        (b"path,label\npictures/a0.png,a\n", "only one class, 'a'"),
        (b"path,label\n", "no rows below the header"),
        (b"path,label,split\npictures/a0.png,a,maybe\n", "have a split that is none"),
    ],
)
def test_tables_that_are_none_are_refused_by_what_they_are(
    tmp_path: Path, text: bytes, says: str
) -> None:
    file = table(tmp_path, [])
    file.write_bytes(text)
    with pytest.raises(InputError) as caught:
        load(file)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["pictures/none.png,a"], "line 14 pictures/none.png"),
        (["pictures/a0.png,b"], "line 14 pictures/a0.png as line 2"),
        (["../outside.png,a"], "leave the folder"),
        (["pictures/a0.png,"], "have no label"),
        (["pictures/a0.png,a,b"], "line 14 has 3 columns"),
    ],
)
def test_faulty_rows_are_named_by_their_lines(tmp_path: Path, rows: list[str], says: str) -> None:
    file = table(tmp_path, ["path,label", *listed(), *rows])
    with pytest.raises(InputError) as caught:
        load(file)
    assert says in str(caught.value)


def test_a_table_without_the_columns_says_which_it_wants(tmp_path: Path) -> None:
    file = table(tmp_path, ["x,y", *listed()])
    with pytest.raises(InputError, match="no columns path and label"):
        load(file)


def test_a_table_goes_through_the_commands(tmp_path: Path) -> None:
    file = table(tmp_path, ["path,label", *listed()])
    home = ["--home", str(tmp_path / "home")]
    run = CliRunner().invoke
    made = run(cacheclip, ["extract", "--dataset", str(file), "--model", "nano", *home])
    assert made.exit_code == 0, made.output
    assert "csv/labels: 2 classes: a, b" in made.output
    fitted = run(cacheclip, ["fit", "--dataset", "labels", "--shots", "2", "--json", *home])
    assert fitted.exit_code == 0, fitted.output
    assert json.loads(fitted.stdout)["dataset"] == "csv/labels"


def test_the_recipes_of_the_guide_make_tables_that_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fiftyone, shards = re.findall(r"```python\n(.*?)```", DOC.read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    labels = {f"{c}{k}": i for i, c in enumerate("ab") for k in range(6)}
    for name in labels:
        picture(tmp_path / "fiftyone" / "data" / f"{name}.jpg")
    for k, folder in enumerate("xy"):  # the same name in two folders, and one without a label
        picture(tmp_path / "fiftyone" / "data" / folder / "0.png")
        labels[f"{folder}/0"] = k
    about = {"classes": ["ant", "bee"], "labels": labels | {"nothing": None}}
    (tmp_path / "fiftyone" / "labels.json").write_text(json.dumps(about))
    exec(fiftyone, {})
    assert load(tmp_path / "fiftyone" / "labels.csv").classnames == ("ant", "bee")
    for k in range(12):
        end = ".webp" if k % 3 else ".jpg"
        own = picture(tmp_path / "shards" / "00000" / f"{k:09}{end}")
        own.with_suffix(".json").write_text(json.dumps({"caption": "bee" if k % 2 else "ant"}))
    exec(shards, {})
    assert load(tmp_path / "shards" / "labels.csv").classnames == ("ant", "bee")
    assert len((tmp_path / "shards" / "labels.csv").read_text().splitlines()) == 13
