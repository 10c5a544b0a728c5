import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cacheclip.answers import Answered, Predictions, curve, predictions, write_predictions
from cacheclip.errors import StoreError

CURVE: list[dict[str, Any]] = [
    {"hparams": {"alpha": 0.5, "views": 2}, "top1_val": 0.6, "nll_val": 0.25},
    {"hparams": {"alpha": "search"}, "top1_val": None, "nll_val": None},
]


def answers(n: int = 40) -> Predictions:
    """Of a row without anything beside its test pictures."""
    return Predictions(**said(0, n), ids=[f"test/{k}.png" for k in range(n)])


def said(seed: int, n: int) -> dict[str, Any]:
    """What a classifier of three classes says of n pictures, by the names of the fields."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 3, n).astype(np.uint16)
    rank = random.integers(0, 3, n).astype(np.uint16)
    return {
        "predicted": ((label + rank) % 3).astype(np.uint16),
        "label": label,
        "true_log_p": -random.random(n).astype(np.float16),
        "top_p": random.random(n).astype(np.float16),
        "true_rank": rank,
        "top": np.stack([(label + rank + k) % 3 for k in range(3)], 1).astype(np.uint16),
        "top_log_p": -random.random((n, 3)).astype(np.float16),
    }


def everything(n: int = 40) -> Predictions:
    """Of a row that was chosen and calibrated, with all its logits."""
    random = np.random.default_rng(3)

    def kept(seed: int, n: int) -> dict[str, Any]:
        logits = random.normal(size=(n, 3)).astype(np.float16)
        return said(seed, n) | {"raw_top_p": said(seed + 9, n)["top_p"], "logits": logits}

    return Predictions(
        **kept(0, n),
        ids=answers(n).ids,
        choice=Answered(**kept(1, 5)),
        calibration=Answered(**kept(2, 17)),
    )


def assert_same(found: Answered, wanted: Answered) -> None:
    for field in dataclasses.fields(wanted):
        own, other = getattr(found, field.name), getattr(wanted, field.name)
        if isinstance(other, Answered):
            assert_same(own, other)
            continue
        np.testing.assert_array_equal(own, other)
        if isinstance(other, np.ndarray):
            assert own.dtype == other.dtype


def test_predictions_come_back_and_share_the_ids(tmp_path: Path) -> None:
    for row_id in ("a", "b"):
        write_predictions(tmp_path, row_id, answers())
    assert_same(predictions(tmp_path, "b"), answers())
    assert_same(predictions(str(tmp_path), "a"), answers())
    assert len(list((tmp_path / "tests").iterdir())) == 1


def test_held_out_answers_logits_and_the_curve_come_back_beside_them(tmp_path: Path) -> None:
    write_predictions(tmp_path, "a", everything(), CURVE, 5)
    assert_same(predictions(tmp_path, "a"), everything())
    assert curve(tmp_path, "a") == CURVE
    write_predictions(tmp_path, "b", answers())
    assert curve(tmp_path, "b") is None


def test_predictions_that_are_not_there_are_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no predictions of a row abc") as error:
        predictions(tmp_path, "abc")
    assert str(tmp_path / "predictions" / "abc.npz") in error.value.where


def test_a_torn_or_flipped_predictions_file_is_an_error_or_harmless(tmp_path: Path) -> None:
    write_predictions(tmp_path, "a", everything(), CURVE, 5)
    file = tmp_path / "predictions" / "a.npz"
    whole = file.read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(StoreError, match="damaged"):
            predictions(tmp_path, "a")
    np.save(file.with_suffix(".npy"), np.zeros(3))
    file.write_bytes(file.with_suffix(".npy").read_bytes())
    with pytest.raises(StoreError, match="damaged"):
        predictions(tmp_path, "a")
    random = np.random.default_rng(0)
    named = 0
    for place in random.integers(0, len(whole), 300).tolist():
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(random.integers(8))
        file.write_bytes(flipped)
        try:
            assert_same(predictions(tmp_path, "a"), everything())
            assert curve(tmp_path, "a") == CURVE
        except StoreError:
            named += 1
    assert named > 150


def test_predictions_of_an_earlier_version_say_how_to_make_them_again(tmp_path: Path) -> None:
    write_predictions(tmp_path, "a", answers())
    old = {name: getattr(answers(), name) for name in ("predicted", "true_log_p", "top_p")}
    np.savez(tmp_path / "predictions" / "a.npz", **old)
    with pytest.raises(StoreError, match="earlier version") as error:
        predictions(tmp_path, "a")
    assert "--on-existing redo" in error.value.fix


def test_predictions_of_format_1_are_read_and_hold_one_class_a_picture(tmp_path: Path) -> None:
    write_predictions(tmp_path, "a", answers())
    file = tmp_path / "predictions" / "a.npz"
    with np.load(file) as now:
        old = {name: now[name] for name in now.files if name not in ("top", "top_log_p")}
    np.savez(file, **old | {"format": np.array(1)})
    found = predictions(tmp_path, "a")
    np.testing.assert_array_equal(found.top, answers().predicted[:, None])
    np.testing.assert_allclose(np.exp(found.top_log_p[:, 0]), answers().top_p, atol=2e-3)
    assert found.top.dtype == np.uint16 and found.top_log_p.dtype == np.float16
    np.savez(file, **old)  # today's format without what it has to hold
    with pytest.raises(StoreError, match="holds no top, top_log_p"):
        predictions(tmp_path, "a")


@pytest.mark.parametrize("content", ["", "[]", '{"ids": ["test/0.png"]}'])
def test_ids_that_are_not_those_of_the_row_are_an_error(tmp_path: Path, content: str) -> None:
    write_predictions(tmp_path, "a", answers())
    (ids,) = (tmp_path / "tests").iterdir()
    ids.write_text(content)
    with pytest.raises(StoreError, match=r"not JSON|not those that it is named after"):
        predictions(tmp_path, "a")
    ids.unlink()
    with pytest.raises(StoreError, match="is missing"):
        predictions(tmp_path, "a")


def test_predictions_of_other_pictures_are_an_error(tmp_path: Path) -> None:
    write_predictions(tmp_path, "a", answers())
    short = dataclasses.replace(answers(39), ids=answers(40).ids)
    other = dataclasses.replace(answers(), top=answers().top[:, :2])
    for wrong in (short, other, dataclasses.replace(answers(), top=answers().top[:39])):
        write_predictions(tmp_path, "a", wrong)
        with pytest.raises(StoreError, match="not of 40 pictures"):
            predictions(tmp_path, "a")
    held = Answered(**said(1, 5) | {"top": answers().top})
    write_predictions(tmp_path, "a", dataclasses.replace(answers(), choice=held))
    with pytest.raises(StoreError, match="not of 5 pictures"):
        predictions(tmp_path, "a")


def test_predictions_of_format_2_are_read_without_what_came_after_it(tmp_path: Path) -> None:
    write_predictions(tmp_path, "a", answers())
    file = tmp_path / "predictions" / "a.npz"
    with np.load(file) as now:
        old = {name: now[name] for name in now.files}
    np.savez(file, **old | {"format": np.array(2)})
    found = predictions(tmp_path, "a")
    assert_same(found, answers())
    assert (found.choice, found.calibration) == (None, None)
    assert (found.logits, found.raw_top_p) == (None, None)
