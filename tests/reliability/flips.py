"""Damage to every kind of file of a home: it is found and named, or it is harmless.

    python -m tests.reliability.flips --flips 1000

One file is damaged at a time, by one bit or wholly. What follows is one of
    harmless   the same answers
    found      an error in three lines, or a line beside the answer; and what it says to do
               brings the answers back
    silent     other answers without a word: a fault
    traceback  a fault
"""

import argparse
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from cacheclip.extraction import memo
from cacheclip.store.key import key_digest, parts_key
from cacheclip.store.overview import overview
from cacheclip.store.parts import write_parts
from cacheclip.store.schema import ENCODER
from tests.reliability import left, results
from tests.reliability.world import Reading, World, found, look, look_anew

WHOLLY: dict[str, Callable[[bytes], bytes | None]] = {
    "truncated": lambda data: data[: len(data) * 2 // 3],
    "emptied": lambda data: b"",
    "zeroed": lambda data: bytes(len(data)),
    "deleted": lambda data: None,
}


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: what it is called.
        files: the files of that kind in a home, as a pattern.
        read: what commands make of the home.
        prepare: what is done to the home first.
        again: makes the file anew as a fit does that the fix asks for; None where the fix is run.
        make: what makes a home.
    """

    name: str
    files: str
    read: Callable[[World], Reading] = look
    prepare: Callable[[World], None] = lambda world: None
    again: Callable[[World], None] | None = None
    make: Callable[[Path], World] = World.make


def unfinished(world: World) -> None:
    """As a kill before the last shard leaves a store."""
    for file in world.files("stores/npz/toys/train/image-*/done.json"):
        file.unlink()
        (file.parent / "done/00000.json").unlink()
        (file.parent / "shard-00000.h5").unlink()


def unrecorded(world: World) -> None:
    """As a kill leaves a store whose shards are all there."""
    for file in world.files("stores/npz/toys/*/image-*/done.json"):
        file.unlink()


def noted(world: World) -> None:
    """With the note that an extraction of these stores would leave."""
    (world.root / "weights").write_bytes(b"weights")
    features = world.home.find()
    assert features.text is not None
    note = memo.Note(
        model=features.encoder["name"],
        pretrained=features.encoder["pretrained"],
        set_digest=features.digest,
        weights=memo.stamp(world.root / "weights"),
        stores=[str(store.path.relative_to(world.home.root)) for store in features.images.values()],
        parts=[],
        text=str(features.text.path.relative_to(world.home.root)),
        text_digest=features.text.digest,
        failed=0,
        truncated=0,
    )
    world.home.remember("0" * 64, asdict(note))


def keep_parts(world: World) -> None:
    """With what an extraction keeps of its encoder."""
    features = world.home.find()
    arrays = {"projection": np.arange(64, dtype=np.float32).reshape(8, 8) / 3}
    key = parts_key(ENCODER, encoder=features.encoder, compute=features.compute, names=list(arrays))
    path = world.home.part_path(features.dataset, ENCODER, key_digest(key))
    write_parts(path, key, arrays, {"dataset": features.dataset}, world.home.option)


def keep_anew(world: World) -> None:
    """As an extraction does once what is damaged is gone."""
    for folder in world.files("stores/npz/toys/-/encoder-*"):
        shutil.rmtree(folder)
    keep_parts(world)


def parts(world: World) -> Reading:
    """What a set says of its encoder, and what is said of all else."""
    array = world.home.find().part("projection")["projection"]
    return Reading([array.tobytes(), overview(world.home).lines], look(world).said)


def recalled(world: World) -> Reading:
    """A note that is not believed costs time alone."""
    plan = SimpleNamespace(allowed=0, request=SimpleNamespace(retry_failed=False))
    note = memo.recall(world.home, "0" * 64, cast("Any", plan))
    return Reading(note, () if note else ("made anew",))


KINDS = (
    Kind("labels.json", "stores/npz/toys/labels.json"),
    Kind("key.json", "stores/npz/toys/*/*/key.json"),
    Kind("plan.json", "stores/npz/toys/train/*/plan.json", look_anew, unfinished),
    Kind("done.json", "stores/npz/toys/*/*/done.json"),
    Kind("done/N.json", "stores/npz/toys/*/*/done/*.json", look_anew, unrecorded),
    Kind("ids.h5", "stores/npz/toys/*/*/ids.h5"),
    Kind("shard", "stores/npz/toys/*/*/shard-*.h5"),
    Kind("text.h5", "stores/npz/toys/-/*/text.h5"),
    Kind("parts.h5", "stores/npz/toys/-/encoder-*/*.*", parts, keep_parts, keep_anew),
    Kind("memo", "memo/*.json", recalled, noted),
    Kind("extractions.jsonl", "extractions.jsonl"),
    Kind("results.jsonl", "results.jsonl", left.read_rows, left.log, left.log, World),
    Kind("predictions", "predictions/*.npz", left.read_answers, left.answer, left.answer, World),
    Kind("test ids", "tests/*.json", left.read_answers, left.answer, left.answer_anew, World),
    Kind("bundle", "bundles/*", left.read_bundle, left.bundle, left.bundle, World),
    Kind("draw", "draws/*.json", left.kept_draw, left.draw, left.draw, World),
)
# The same files as whole comparisons and answers read them, which costs more.
WHOLE = (
    Kind("results.jsonl, compared", "results.jsonl", results.rows, results.compared),
    Kind("test ids, compared", "tests/*.json", results.rows, results.compared),
    Kind("predictions, compared", "predictions/*.npz", results.rows, results.compared),
    Kind("draws, compared", "draws/*.json", results.drawn, results.compared),
    Kind("bundle, answered", "bundles/*", results.classified, results.fitted, results.fitted),
)


@dataclass(frozen=True)
class Trial:
    """One damage and what came of it."""

    what: str
    came: str
    why: str = ""


def trials(kind: Kind, root: Path, flips: int, fixes: int) -> Iterator[Trial]:
    """Damage the files of a kind, bit by bit and wholly.

    Args:
        kind: of what.
        root: a folder to work in.
        flips: bits to flip.
        fixes: how many of the first flips found are mended as their message says, and how many of
            the files that are damaged wholly.
    """
    world = kind.make(root)
    kind.prepare(world)
    world.keep()
    right = kind.read(world).answers
    world.restore()
    chance = random.Random(kind.name)
    files = world.files(kind.files)
    mended = fixes
    for _ in range(flips):
        file = chance.choice(files)
        data = bytearray(world.kept[file])
        bit = chance.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        trial = _trial(kind, world, file, bytes(data), right, f"bit {bit}", mend=fixes > 0)
        fixes -= trial.came == "found"
        yield trial
    for name, damage in WHOLLY.items():
        for k, file in enumerate(files):
            damaged = damage(world.kept[file])
            yield _trial(kind, world, file, damaged, right, name, mend=k < mended)


def _trial(
    kind: Kind, world: World, file: Path, data: bytes | None, right: Any, what: str, *, mend: bool
) -> Trial:
    what = f"{file.relative_to(world.home.root)}, {what}"
    try:
        file.unlink() if data is None else file.write_bytes(data)
        return Trial(what, *_come_of(kind, world, right, mend=mend))
    except Exception:  # noqa: BLE001, of every kind, for that is what is looked for
        return Trial(what, "traceback", traceback.format_exc())
    finally:
        world.restore()


def _come_of(kind: Kind, world: World, right: Any, *, mend: bool) -> tuple[str, str]:
    """What came of a damage, and the words for it."""
    with found() as errors:
        reading = kind.read(world)
        if reading.answers == right:
            return "harmless", ""
        if not reading.said:
            return "silent", f"{reading.answers} in place of {right}"
    words = str(errors[0]) if errors else "\n".join(reading.said)
    fix = errors[0].fix if errors else reading.said[0]
    if mend and (kind.again or errors or " rm " in fix):
        _mend(kind, world, fix)
        with found() as errors:
            mended = kind.read(world)
            assert mended.answers == right, f"{fix} does not bring the answers back"
        assert not errors, f"after {fix}: {errors[0]}"
    return "found", words


def _mend(kind: Kind, world: World, fix: str) -> None:
    if kind.again:
        kind.again(world)
    else:
        world.run(fix)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=1000, help="of each kind of file")
    parser.add_argument("--fixes", type=int, default=20, help="of each kind, run as they are named")
    parser.add_argument("--kind", choices=[kind.name for kind in (*KINDS, *WHOLE)], action="append")
    asked = parser.parse_args()
    faults = 0
    for kind in (*KINDS, *WHOLE):
        if asked.kind and kind.name not in asked.kind:
            continue
        with tempfile.TemporaryDirectory() as folder:
            done = list(trials(kind, Path(folder), asked.flips, asked.fixes))
        count = Counter(trial.came for trial in done)
        print(f"{kind.name:18}", *(f"{n} {came}" for came, n in sorted(count.items())))  # noqa: T201
        for trial in done:
            if trial.came in ("silent", "traceback"):
                faults += 1
                print(f"  {trial.came}: {trial.what}\n{trial.why}")  # noqa: T201
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
