"""What happens to labels that somebody corrected, broke or removed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cacheclip.errors import StoreError
from cacheclip.extraction.fill import Extraction
from cacheclip.extraction.plan import ExtractRequest
from cacheclip.extraction.run import run
from cacheclip.store.home import Home

Asked = Callable[..., ExtractRequest]
SPLITS = ("train", "val", "test")
Painter = Callable[[Path, int], None]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def correct(home: Home, change: Callable[[dict[str, Any]], None]) -> None:
    file = home.labels_file("folder/pets")
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def rename(content: dict[str, Any]) -> None:
    content["classnames"][0] = "tomcat"
    content["splits"]["train"]["labels"][3] ^= 1


def test_corrected_labels_are_kept_and_the_prompts_follow(
    asked: Asked, home: Home, pets: Path, paint: Painter
) -> None:
    run(asked(pets), home)
    own = home.labels("folder/pets")
    correct(home, rename)
    corrected = home.labels("folder/pets")
    assert home.find().text is None  # no features of that name yet
    for _ in range(2):
        report = run(asked(pets), home)
        assert report.encoded == 0
        assert any("corrected by hand and is kept" in line for line in report.notices)
        assert home.labels("folder/pets") == corrected
    text = home.find().text
    assert text is not None
    assert text.classnames == ["tomcat", "dog"]
    assert "tomcat" in text.prompts[0][0]

    paint(pets / "dog" / "000.png", 999)  # a replaced picture is still the same sample
    run(asked(pets), home)
    kept = home.find().labels
    assert kept.classnames == corrected.classnames
    assert kept.digest == corrected.digest

    home.labels_file("folder/pets").unlink()
    report = run(asked(pets), home)
    assert not any("by hand" in line for line in report.notices)
    assert home.find().labels.digest == own.digest


def test_corrections_of_other_pictures_are_put_aside(
    asked: Asked, home: Home, pets: Path, paint: Painter
) -> None:
    run(asked(pets), home)
    correct(home, rename)
    corrected = home.labels_file("folder/pets").read_text()
    paint(pets / "dog" / "new.png", 998)
    report = run(asked(pets), home)
    assert any("corrected by hand, for other pictures" in line for line in report.notices)
    assert home.labels_file("folder/pets").with_name("labels.json.before").read_text() == corrected
    assert not home.labels("folder/pets").corrected


def test_corrected_labels_must_be_one_a_picture(asked: Asked, home: Home, pets: Path) -> None:
    run(asked(pets), home)
    correct(home, lambda content: content["splits"]["train"]["labels"].pop())
    with pytest.raises(StoreError, match="35 labels for the 36 pictures of split train") as caught:
        run(asked(pets), home)
    file = home.labels_file("folder/pets")
    assert f"rm {file} && cacheclip extract --dataset {pets}" in caught.value.fix


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_lost_or_broken_labels_are_made_anew(
    asked: Asked, home: Home, pets: Path, tmp_path: Path, text: str | None
) -> None:
    run(asked(pets), home)
    labels, file = home.labels("folder/pets"), home.labels_file("folder/pets")
    file.unlink()
    if text is not None:
        file.write_text(text)
    moved = pets.rename(tmp_path / "moved")  # the name's pictures lie elsewhere by now
    report = run(asked(moved, alias="pets"), home)
    assert report.encoded == 0
    assert home.labels("folder/pets") == labels
    assert any("put aside" in line for line in report.notices) == (text is not None)


def test_labels_that_changed_in_the_data_are_taken(
    asked: Asked, home: Home, pets: Path, tmp_path: Path
) -> None:
    """A table whose labels were corrected is no record that was corrected by hand."""
    table = pets / "labels.csv"
    rows = [f"{path.parent.name}/{path.name},{path.parent.name}" for path in pets.glob("*/*.png")]
    table.write_text("\n".join(["path,label", *rows]))
    run(asked(table), home)
    table.write_text(table.read_text().replace(",cat", ",civet"))
    report = run(asked(table), home)
    assert report.encoded == 0
    assert list(home.labels("csv/labels").classnames) == ["civet", "dog"]
    assert not any("by hand" in line or "given before" in line for line in report.notices)


def test_labels_that_changed_are_taken_under_names_that_were_given(
    asked: Asked, home: Home, pets: Path, tmp_path: Path
) -> None:
    table = pets / "labels.csv"
    paths = sorted(pets.glob("*/*.png"))
    rows = [
        f"{p.parent.name}/{p.name},{p.parent.name},{SPLITS[k % 3]}" for k, p in enumerate(paths)
    ]
    table.write_text("\n".join(["path,label,split", *rows]))
    names = tmp_path / "names.txt"
    names.write_text("tom cat\nhound\n")
    run(asked(table, classnames=names), home)
    before = home.labels("csv/labels")
    last = max(
        k for k, row in enumerate(rows) if row.endswith(",cat,train")
    )  # ids keep their order
    rows[last] = rows[last].replace(",cat,", ",dog,")
    table.write_text("\n".join(["path,label,split", *rows]))
    report = run(asked(table), home)
    after = home.labels("csv/labels")
    assert list(after.classnames) == ["tom cat", "hound"]
    changed = zip(before.splits["train"].labels, after.splits["train"].labels, strict=True)
    assert sum(old != new for old, new in changed) == 1
    assert not any("by hand" in line for line in report.notices)


def test_another_reading_of_the_same_folders_is_taken(
    asked: Asked, home: Home, tmp_path: Path, paint: Painter
) -> None:
    for number in range(24):
        split, upper = ("train", "val", "test")[number % 3], "ab"[number // 3 % 2]
        paint(
            tmp_path / "two" / split / upper / f"{upper}{number // 6 % 2}" / f"{number}.png", number
        )
    run(asked(tmp_path / "two", classes_from="top"), home)
    assert list(home.labels("folder/two").classnames) == ["a", "b"]
    run(asked(tmp_path / "two", classes_from="leaf"), home)
    assert list(home.labels("folder/two").classnames) == ["a0", "a1", "b0", "b1"]


def test_labels_that_are_corrected_during_an_extraction_are_kept(
    asked: Asked, home: Home, pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(asked(pets), home)
    own = list(home.labels("folder/pets").splits["train"].labels)
    extract = Extraction.run

    def correcting(extraction: Extraction) -> Any:
        note = extract(extraction)
        correct(home, lambda content: content["splits"]["train"]["labels"].reverse())
        return note

    monkeypatch.setattr(Extraction, "run", correcting)
    report = run(asked(pets, template="photo"), home)
    assert list(home.labels("folder/pets").splits["train"].labels) == own[::-1]
    assert any("corrected by hand and is kept" in line for line in report.notices)
