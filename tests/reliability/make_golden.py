"""Make the log whose rows every later version must find again: `python make_golden.py FOLDER`.

Imported rows of eight numbers under the methods, policies, recipes and words that there were. Where
a method's numbers change on purpose, its version is raised, its rows are made again, and the
changelog says why.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from cacheclip.cli.main import cacheclip

ARRAYS = Path("/tmp/cacheclip-golden-home/toys.npz")  # stands in the home, and is not needed later
SIX = "zero-shot,nearest-mean,linear-probe,tip-adapter,tip-adapter-f,clip-adapter"
STEPS = "--set tip-adapter-f.epochs=3 --set clip-adapter.epochs=3"
CLIP = "--methods clip-adapter --shots 2 --set epochs=3 --seeds 1 --select"
ALL = "--methods linear-probe --shots all --seeds 1 --select fixed"
COMPARES = (
    f"--methods {SIX} --shots 1,2 --seeds 2 --select fixed {STEPS}",
    f"--methods {SIX} --shots 2 --seeds 1 --select fewshot-val {STEPS}",
    "--methods linear-probe,clip-adapter --shots 2 --seeds 1 --select full-val --set epochs=3",
    f"{CLIP} fixed --recipe as-paper",
    f"{CLIP} fixed --set alpha=learned,0.5",
    f"{CLIP} fixed --set branch=text,both",
    f"{CLIP} fewshot-val --set lr=0.01,0.001",
    "--methods tip-adapter --shots 2 --seeds 1 --select fewshot-val --set alpha=0,1 --set beta=1,5",
    f"{ALL} --set class_weight=balanced --set C=1,10",
    f"{ALL} --set prior=uniform",
)


def run(command: str, home: Path) -> None:
    """A command in this process; it must succeed."""
    done = CliRunner().invoke(cacheclip, [*command.split(), "--home", str(home)])
    if done.exit_code:
        raise SystemExit(f"cacheclip {command}\n{done.output}")


def main() -> None:
    home = Path(sys.argv[1])
    shutil.rmtree(home, ignore_errors=True)
    ARRAYS.parent.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    labels = np.arange(45) % 3
    centres = random.normal(size=(3, 8))
    np.savez(
        ARRAYS,
        features=(centres[labels] + random.normal(size=(45, 8))).astype(np.float32),
        labels=labels,
        split=np.array(["train"] * 15 + ["val"] * 15 + ["test"] * 15),
        text_features=centres.astype(np.float32),
        logit_scale=np.array(20.0),
        classnames=np.array(["ant", "bee", "cat"]),
    )
    run(f"import {ARRAYS}", home)
    for asked in COMPARES:
        run(f"compare {asked}", home)
    for file in [*home.rglob("lock"), *home.rglob("*.lock")]:
        file.unlink()


if __name__ == "__main__":
    main()
