"""`cacheclip bench` through click, in miniature."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from cacheclip.bench import released
from cacheclip.bench.shapes import SUITES
from cacheclip.cli.main import cacheclip, main

MACHINE = {
    *("device", "driver", "cpu", "cpu_features", "cores", "threads", "load", "system"),
    *("python", "versions", "cacheclip", "commit", "date", "command"),
}
RESULT = {
    *("suite", "case", "unit", "says", "checked", "rounds", "seconds", "ratio", "ceiling"),
    *("job", "jobs_per_second"),
}
SAID = {"batch_size", "epochs", "optimizer", "precision"}


SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


def measured(python: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """The script for GPUs, by a Python of ours."""
    line = ["bash", str(SCRIPTS / "gpu.sh"), *map(str, words)]
    environment = os.environ | {"PYTHON": python, "PYTHONPATH": str(SCRIPTS.parent)}
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="would measure")
def test_the_script_for_gpus_refuses_a_machine_without_one() -> None:
    done = measured(sys.executable)
    assert done.returncode == 5
    assert "no CUDA device" in done.stderr


PYTHON = """#!/bin/sh
case "$1 $2" in
    "-m pytest") ;;
    -m*) exec {python} {miniature} "$@" ;;
    *) exec {python} "$@" ;;
esac
"""


@pytest.mark.long
def test_every_line_of_the_script_for_gpus_runs_and_its_record_says_all(tmp_path: Path) -> None:
    """On a CPU and in miniature: what is new on a GPU is the device."""
    python = tmp_path / "python"
    miniature = Path(__file__).with_name("miniature.py")
    python.write_text(PYTHON.format(python=sys.executable, miniature=miniature))
    python.chmod(0o755)
    done = measured(str(python), "cpu", tmp_path)
    assert done.returncode == 0, done.stderr
    record, *others = json.loads((tmp_path / "cpu.json").read_text())["records"]
    assert [{r["suite"] for r in other["results"]} for other in others] == [{"kernels"}] * 2
    assert set(record["machine"]) == MACHINE
    assert set(record["ceilings"]) >= {"copy_gb_s", "matmul_fp32_gflops"}
    assert (record["shape"], record["variants"]) == ("food101-vitb32", 2)
    assert {result["suite"] for result in record["results"]} == set(SUITES.names())
    for result in record["results"]:
        assert set(result) == RESULT
        assert set(result["says"]) >= SAID, result["case"]
        assert set(result["ratio"]) <= set(result["seconds"])
        assert result["case"] in done.stdout
    in_train = [result for result in record["results"] if result["suite"] == "train"]
    assert len(in_train) == 6 + len(released.MODULES)
    trained = [result for result in in_train if result["case"].startswith("clip-adapter ")]
    assert len(trained) == 6
    for result in trained:
        assert set(result["ratio"]) == {"eager loop", "torch batch"}
        assert {"steps_timed", "steps_of_a_full_run", "variants_at_once"} <= set(result["says"])
        assert result["ceiling"]["median"] > 0
        assert result["checked"]["update_against_eager"] < 0.02


def test_a_plot_without_matplotlib_is_refused_before_anything_is_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(sys, "argv", ["cacheclip", "bench", "--plot", str(tmp_path / "p.png")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 5
    assert "pip install 'cacheclip[plot]'" in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["cacheclip", "bench", "--device", "cuda"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 5


def test_help_names_every_suite() -> None:
    shown = CliRunner().invoke(cacheclip, ["bench", "--help"]).output
    for suite in SUITES.names():
        assert f"\n  {suite} " in shown


@pytest.mark.parametrize("name", ["choice", "parity"])
def test_the_scripts_name_only_what_is_there(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="not main")
    assert capsys.readouterr().out == ""
