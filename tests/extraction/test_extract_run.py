import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cacheclip.datasets.base import resolve
from cacheclip.datasets.images import read_rgb
from cacheclip.encoders.base import EncoderSpec, load
from cacheclip.encoders.towers import OpenClipEncoder
from cacheclip.errors import InputError, StoreError
from cacheclip.extraction.plan import ExtractRequest
from cacheclip.extraction.run import ExtractReport, run
from cacheclip.store.home import Home
from cacheclip.store.reader import Store
from cacheclip.store.schema import usual_rows_per_shard

Asked = Callable[..., ExtractRequest]
Painter = Callable[[Path, int], None]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def stores(home: Home) -> dict[tuple[str, str], Store]:
    return dict(home.find().images)


def files(home: Home) -> dict[str, bytes]:
    """Every shard and list of ids by its place."""
    found = sorted(home.root.glob("stores/**/*.h5"))
    return {str(path.relative_to(home.root)): path.read_bytes() for path in found}


def test_from_pictures_to_a_feature_set(asked: Asked, home: Home, tower: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    report = run(asked("digits", rows_per_shard=256), home, lambda *step: seen.append(step))
    assert (report.encoded, report.reused, report.failed) == (1797, 0, 0)
    assert seen[-1] == ("pictures", 1797, 1797)
    found = home.find()
    assert found.digest == report.set_digest
    assert {layer for _, layer in found.images} == {"image", "pre-projection"}
    assert list(found.labels.classnames)[:2] == ["zero", "one"]

    encoder = load(EncoderSpec(f"local-dir:{tower}", device="cpu"))
    dataset = resolve("digits", data_root=Path())
    import torch

    picture = encoder.transform(read_rgb(dataset.open("test", 300)))
    want = encoder.encode_images(torch.stack([picture]))
    for layer, vectors in want.items():
        got = found.store("test", layer).load(normalize=False)
        np.testing.assert_allclose(got.features[300], vectors[0], rtol=2e-3, atol=1e-3)
        np.testing.assert_allclose(got.norm[300], np.linalg.norm(vectors[0]), rtol=1e-5)
    assert found.text is not None
    want_text, _ = encoder.encode_texts(found.text.prompts[3])
    np.testing.assert_allclose(found.text.load()[3], want_text, rtol=2e-3, atol=1e-3)


def test_a_second_run_encodes_nothing_and_still_is_the_last_one(
    asked: Asked, home: Home, pets: Path
) -> None:
    first = run(asked(pets), home)
    run(asked("digits"), home)
    again = run(asked(pets, rows_per_shard=7, batch_size=3), home)
    assert first.encoded == 60
    assert (again.encoded, again.reused) == (0, 60)
    assert any("nothing was encoded" in line for line in again.notices)
    assert again.stores == first.stores
    assert home.find().dataset == "folder/pets"
    order = [line["dataset"] for line in home.extractions()]
    assert order == ["folder/pets", "digits", "folder/pets"]


def test_a_lost_memo_costs_no_encoding(asked: Asked, home: Home, pets: Path) -> None:
    run(asked(pets), home)
    shutil.rmtree(home.root / "memo")
    assert run(asked(pets), home).encoded == 0


def test_a_relative_path_is_remembered_as_what_it_meant(
    asked: Asked,
    home: Home,
    pets: Path,
    tower: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    for place, scale in (("here", 1.0), ("there", 2.0)):
        shutil.copytree(tower, tmp_path / place / "tower")
        weights = tmp_path / place / "tower" / "open_clip_pytorch_model.bin"
        tensors = torch.load(weights, weights_only=True)
        tensors["visual.proj"] *= scale
        torch.save(tensors, weights)
    monkeypatch.chdir(tmp_path / "here")
    assert run(asked(pets, model="local-dir:tower"), home).encoded == 60
    monkeypatch.chdir(tmp_path / "there")
    assert run(asked(pets, model="local-dir:tower"), home).encoded == 60
    assert run(asked(pets, model="local-dir:../here/tower"), home).encoded == 0


def test_ten_new_pictures_cost_ten_pictures(
    asked: Asked, home: Home, pets: Path, paint: Painter
) -> None:
    run(asked(pets), home)
    before = vectors_by_id(home)
    for number in range(100, 110):
        paint(pets / "cat" / f"{number}.png", number)
    report = run(asked(pets, rows_per_shard=16), home)
    after = vectors_by_id(home)
    assert (report.encoded, report.reused) == (10, 60)
    assert any("encoded 10" in line for line in report.notices)
    assert len(after) == 70
    for sample, (vector, norm) in before.items():
        np.testing.assert_array_equal(after[sample][0], vector)
        assert after[sample][1] == norm


def vectors_by_id(home: Home) -> dict[str, tuple[np.ndarray, float]]:
    found = {}
    for (_, layer), store in stores(home).items():
        if layer == "pre-projection":
            loaded = store.load(normalize=False)
            rows = zip(loaded.features, loaded.norm.tolist(), strict=True)
            found.update(dict(zip(store.ids(), rows, strict=True)))
    return found


def test_a_replaced_picture_is_encoded_anew(
    asked: Asked, home: Home, pets: Path, paint: Painter
) -> None:
    run(asked(pets), home)
    before = vectors_by_id(home)
    paint(pets / "dog" / "000.png", 999)
    report = run(asked(pets), home)
    after = vectors_by_id(home)
    assert (report.encoded, report.reused) == (1, 59)
    changed = [name for name in before if not np.array_equal(before[name][0], after[name][0])]
    assert changed == ["dog/000.png"]


def test_pictures_known_by_content_may_be_touched(asked: Asked, home: Home, pets: Path) -> None:
    run(asked(pets, hash_files=True), home)
    for path in pets.glob("*/*.png"):
        os.utime(path, (1, 1))
    assert run(asked(pets, hash_files=True), home).encoded == 0
    assert run(asked(pets), home).encoded == 60  # by size and time they are other pictures


def test_broken_pictures_are_kept_as_named_failures(asked: Asked, home: Home, pets: Path) -> None:
    broken = pets / "cat" / "001.png"
    broken.write_bytes(broken.read_bytes()[:100])
    (pets / "dog" / "002.png").write_bytes(b"no picture")
    (pets / "cat" / "003.png").write_bytes(b"")
    with pytest.raises(InputError, match="3 of 60 pictures failed, 1 may") as caught:
        run(asked(pets, rows_per_shard=8), home)
    bad = {"cat/001.png: truncated", "dog/002.png: decode", "cat/003.png: truncated"}
    assert all(name in caught.value.where for name in bad)  # also those of shards not begun
    assert "--max-failures 3" in caught.value.fix
    with pytest.raises(StoreError):  # nothing half-done is offered to stage two
        home.find()

    report = run(asked(pets, max_failures="3"), home)
    assert report.failed == 3
    assert sum(name in line for line in report.notices for name in bad) == 3
    assert report.encoded < 60  # what was finished before the error was kept
    named = [failure.code for store in stores(home).values() for failure in store.failures()]
    assert sorted(named) == 2 * ["decode"] + 4 * ["truncated"]
    missing = [~store.load().ok for store in stores(home).values()]
    assert sum(int(bad.sum()) for bad in missing) == 6
    with pytest.raises(InputError, match="3 of 60"):  # the memo does not hide them
        run(asked(pets, max_failures="2"), home)


def test_one_broken_picture_of_ones_own_stops_nothing(asked: Asked, home: Home, pets: Path) -> None:
    (pets / "cat" / "001.png").write_bytes(b"no picture")
    report = run(asked(pets), home)
    assert report.failed == 1
    assert any("cat/001.png: decode" in line for line in report.notices)


def break_in_silence(*paths: Path) -> dict[Path, bytes]:
    """Spoil pictures so that size and time stay the same; give what they were."""
    good = {path: path.read_bytes() for path in paths}
    for path, data in good.items():
        write_in_silence(path, path.name.encode().ljust(len(data), b"x"))  # no two alike
    return good


def write_in_silence(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    os.utime(path, (1, 1))


def test_failed_pictures_are_tried_again_on_request(asked: Asked, home: Home, pets: Path) -> None:
    """Same size and time: pictures that were unreadable for a reason of its own."""
    mended, lost = pets / "cat" / "001.png", pets / "dog" / "002.png"
    good = break_in_silence(mended, lost)
    assert run(asked(pets, max_failures="2", rows_per_shard=12), home).failed == 2
    before, shards = vectors_by_id(home), files(home)
    write_in_silence(mended, good[mended])
    assert run(asked(pets, max_failures="2"), home).failed == 2
    report = run(asked(pets, retry_failed=True), home)
    assert (report.failed, report.encoded, report.reused) == (1, 1, 58)
    after, changed = vectors_by_id(home), files(home)
    assert after.pop("cat/001.png")[1] > 0
    before.pop("cat/001.png")
    for sample, (vector, norm) in before.items():
        np.testing.assert_array_equal(after[sample][0], vector)
        assert after[sample][1] == norm
    assert sum(changed[name] != shards[name] for name in shards) == 2  # one shard a layer
    assert run(asked(pets, retry_failed=True), home).encoded == 0


def test_a_retry_that_is_cut_off_leaves_the_set_as_it_was(
    asked: Asked, home: Home, pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pets / "cat" / "001.png"
    good = break_in_silence(path)
    run(asked(pets), home)
    shards = files(home)
    write_in_silence(path, good[path])

    def stop(encoder: OpenClipEncoder, pixels: object) -> None:
        raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(OpenClipEncoder, "encode_images", stop)
        with pytest.raises(StopError):
            run(asked(pets, retry_failed=True), home)
    assert files(home) == shards
    assert home.find().store("train").load() is not None
    assert run(asked(pets, retry_failed=True), home).failed == 0


def test_the_share_of_failures_is_told_in_two_ways(asked: Asked, home: Home, pets: Path) -> None:
    for told in ("many", "-1", "101%", "1.5"):
        with pytest.raises(InputError, match="neither a count nor a share"):
            run(asked(pets, max_failures=told), home)


def test_a_name_means_one_list_of_pictures(
    asked: Asked, home: Home, pets: Path, paint: Painter, tmp_path: Path
) -> None:
    run(asked(pets), home)
    moved = tmp_path / "elsewhere" / "pets"
    shutil.copytree(pets, moved)  # keeps sizes and times
    assert run(asked(moved), home).encoded == 0
    paint(moved / "cat" / "500.png", 500)
    assert run(asked(moved), home).encoded == 1  # the same path, grown
    with pytest.raises(InputError, match="other pictures") as caught:
        run(asked(pets), home)
    assert "--name NAME" in caught.value.fix
    assert run(asked(pets, alias="old-pets"), home).dataset == "folder/old-pets"


def test_the_home_may_not_lie_within_the_data(asked: Asked, pets: Path) -> None:
    with pytest.raises(InputError, match="within the data"):
        run(asked(pets), Home(pets / "cat" / "home"))


def test_a_split_without_pictures(asked: Asked, home: Home, paint: Painter, tmp_path: Path) -> None:
    for number in range(6):
        paint(tmp_path / "few" / "train" / f"c{number % 2}" / f"{number}.png", number)
        (tmp_path / "few" / "test" / f"c{number % 2}").mkdir(parents=True, exist_ok=True)
    report = run(asked(tmp_path / "few"), home)
    assert "folder/few: ignored, no class folders with pictures: test" in report.notices
    assert len(home.labels("folder/few").splits["test"].labels) == 2  # cut out of train


class StopError(Exception):
    """What a test raises where a person would press Ctrl-C."""


def interrupted(request: ExtractRequest, home: Home, after: int) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if what == "pictures" and after <= done < total:
            raise StopError

    with pytest.raises(StopError):
        run(request, home, stop)


def test_an_interrupted_run_keeps_its_shards_and_its_batch(
    asked: Asked, home: Home, tmp_path: Path
) -> None:
    request = asked("digits", rows_per_shard=200, batch_size=7)
    whole = Home(tmp_path / "whole")
    run(request, whole)
    interrupted(replace(request, batch_size=64), home, 1)  # by this plan no shard was written
    interrupted(request, home, 500)
    finished = files(home)
    assert sum("shard-" in name for name in finished) == 2 * 2
    report = run(replace(request, batch_size=64, rows_per_shard=100), home)
    assert report.reused == 400
    assert {**files(home), **finished} == files(home) == files(whole)


def test_batches_side_by_side_give_the_same_bytes_and_leave_torch_as_it_was(
    asked: Asked, home: Home, tmp_path: Path
) -> None:
    import torch

    one_by_one = Home(tmp_path / "one-by-one")
    request = asked("digits", rows_per_shard=500)
    run(request, one_by_one)
    try:
        torch.set_num_threads(4)
        run(request, home)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(1)
    assert files(home) == files(one_by_one)


def test_a_damaged_shard_is_named_and_made_anew_alone(asked: Asked, home: Home, pets: Path) -> None:
    first = run(asked(pets, rows_per_shard=12), home)
    before = files(home)
    shard = next(path for path in first.stores if path.parent.name == "train") / "shard-00001.h5"
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    damage = Store.open(shard.parent)
    with pytest.raises(StoreError) as caught:
        damage.load()
    assert str(shard) in caught.value.where
    assert f"rm {shard} && cacheclip extract" in caught.value.fix
    shard.unlink()
    report: ExtractReport = run(asked(pets, rows_per_shard=12), home)
    assert report.encoded == 12
    assert files(home) == before


def test_the_default_encoder_follows_the_data(home: Home, pets: Path) -> None:
    from cacheclip.extraction.plan import make_plan

    plan = make_plan(ExtractRequest("digits"), home)
    assert (plan.encoder.model, plan.encoder.pretrained) == ("nano", None)
    assert any("encoder nano" in line for line in plan.notices)
    plan = make_plan(ExtractRequest(str(pets)), home)
    assert (plan.encoder.model, plan.encoder.pretrained) == ("ViT-B-32-quickgelu", "openai")
    with pytest.raises(InputError, match="not the model"):
        make_plan(ExtractRequest(str(pets), pretrained="openai"), home)


def test_prompts_that_are_too_long_are_counted(
    asked: Asked, home: Home, pets: Path, tmp_path: Path
) -> None:
    templates = tmp_path / "long.txt"
    templates.write_text("a {}\nthis is a picture of one rather small and friendly {}\n")
    notice = "2 prompts were cut to the encoder's context length"
    assert notice in run(asked(pets, template=str(templates)), home).notices
    assert notice in run(asked(pets, template=str(templates)), home).notices  # from the memo too


def test_small_stores_are_cut_into_small_shards_unless_told_otherwise(
    asked: Asked, home: Home, pets: Path
) -> None:
    assert [usual_rows_per_shard(n) for n in (1, 4096, 5000, 131_072, 1_281_167)] == [
        *(256, 256, 512, 8192, 8192)
    ]
    run(asked("digits"), home)
    assert [record.rows for record in home.find().store("train").records][:2] == [256, 256]
    report = run(asked(pets, rows_per_shard=50), home)
    assert "--rows-per-shard 50" in home.find().extract_command
    assert report.encoded == 60
