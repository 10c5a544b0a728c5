"""Extract, fit and predict as a user runs them; a fit and a refusal each as a process."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cacheclip.results import documented
from tests.makers import cacheclip

PROMISED = (
    *("dataset", "model", "pretrained", "method", "hparams", "shots", "seed", "init_seed"),
    *("select", "draw_id", "test_id", "n_classes", "n_train", "n_val", "n_test", "top1_val"),
    *("top1_test", "seconds", "device", "store_key"),
)
TRAINED = ("fit", "--method", "clip-adapter")


def three_lines(err: str) -> list[str]:
    """The error's lines; whatever was said before them does not count."""
    lines = err.strip().splitlines()[-3:]
    assert [line.split(":")[0] for line in lines] == ["error", "where", "fix"], err
    assert "Traceback" not in err
    return lines


def test_extract_says_what_it_did_and_a_second_time_encodes_nothing(
    world: Any, tmp_path: Path
) -> None:
    words = ("extract", "--dataset", world.pictures, "--model", world.model)
    first = cacheclip(*words, "--home", tmp_path / "h")
    assert first.code == 0, first.err
    assert "45 pictures encoded, 0 were there, 0 failed" in first.out
    assert "next: cacheclip fit --shots 9" in first.err  # the smallest class has nine
    again = cacheclip(*words, "--json", "--home", tmp_path / "h")
    assert again.code == 0, again.err
    assert json.loads(again.out)["encoded"] == 0
    assert "nothing was encoded" in again.err


def test_fit_prints_one_object_and_leaves_a_bundle_that_predicts(
    shell: Any, world: Any, tmp_path: Path
) -> None:
    out = tmp_path / "b.safetensors"
    fitted = shell(
        *("fit", "--method", "clip-adapter", "--shots", "4", "--set", "epochs=5"),
        *("--out", str(out), "--json"),
    )
    assert fitted.returncode == 0, fitted.stderr
    row = json.loads(fitted.stdout)
    assert set(PROMISED) <= set(row)
    assert set(row) == set(documented()) | {"bundle"}
    assert (row["dataset"], row["n_classes"], row["n_train"]) == ("folder/colours", 3, 12)
    assert row["bundle"] == str(out)
    assert "folder/colours" in fitted.stderr  # which set was taken

    picture = world.pictures / "red" / "00.png"
    answered = cacheclip("predict", out, picture, "--json", "--model", world.model)
    assert answered.code == 0, answered.err
    (answer,) = json.loads(answered.out)
    assert answer["image"] == str(picture)
    assert answer["class"] in {"blue", "green", "red"}
    assert sum(part["probability"] for part in answer["top"]) == pytest.approx(1, abs=1e-4)


def test_fit_and_compare_load_no_encoder_and_no_scikit_learn(world: Any) -> None:
    heavy = ("open_clip", "torchvision", "sklearn", "PIL", "torch._dynamo")
    options = ["--set", "clip-adapter.epochs=2", "--home", str(world.home)]
    code = (
        "import sys; from cacheclip.cli.main import cacheclip as run\n"
        f"for words in ['fit --method clip-adapter --shots 2', 'compare --shots 2 --seeds 1']:\n"
        f"    run.main([*words.split(), *{options!r}], standalone_mode=False)\n"
        f"    print('loaded:', *(name for name in {heavy!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("loaded:")] == ["loaded:"] * 2


def test_compare_prints_the_plan_and_the_floor(cli: Callable[[Sequence[str]], Any]) -> None:
    compared = cli(shlex.split("compare --methods tip-adapter --shots 1,2 --seeds 2"))
    assert compared.code == 0, compared.err
    assert re.search(r"folder/colours: \d+ runs: zero-shot 1; .* in \d+ stacks", compared.err)
    assert [line.split()[0] for line in compared.out.splitlines()[2:]] == [
        "zero-shot",
        "nearest-mean",
        "tip-adapter",
    ]


def test_doctor_ls_and_info_answer(cli: Callable[[Sequence[str]], Any]) -> None:
    looked = cli(["doctor", "--json"])
    assert looked.code == 0, looked.err
    found = {entry["name"]: entry for entry in json.loads(looked.out)}
    assert {"torch", "cuda", "triton", "open_clip_torch", "disk", "home"} <= set(found)
    assert all(entry["ok"] or entry["advice"] for entry in found.values())
    listed = cli(["ls"])
    assert listed.code == 0, listed.err
    assert "folder/colours" in listed.out
    told = cli(["info", "--json"])
    assert told.code == 0, told.err
    assert json.loads(told.out)["classnames"] == ["blue", "green", "red"]


def test_compare_json_lists_only_what_was_asked_for(
    cli: Callable[[Sequence[str]], Any],
) -> None:
    answer = cli(
        shlex.split(
            "compare --methods clip-adapter --shots 1,2 --seeds 2 --json --select fixed "
            "--set alpha=0.2,0.4 --set epochs=2"
        )
    )
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)
    assert len(rows) == 2 * 2 * 2
    assert {row["method"] for row in rows} == {"clip-adapter"}
    assert all(set(row) == set(documented()) for row in rows)
    assert {row["stack_size"] for row in rows} == {4}  # one stack a shot count


def test_the_next_step_of_compare_makes_a_cell_of_its_table(
    cli: Callable[[Sequence[str]], Any],
) -> None:
    words = "compare --methods clip-adapter --shots 1,2 --seeds 2 --select fixed --set epochs=2"
    compared = cli(shlex.split(f"{words} --set alpha=0.2,learned --set branch=both"))
    (step,) = [line for line in compared.err.splitlines() if line.startswith("next: cacheclip fit")]
    fitted = cli([*shlex.split(step)[2:], "--json"])
    assert fitted.code == 0, fitted.err
    row = json.loads(fitted.out)
    assert (row["shots"], row["seed"], row["hparams"]["alpha"]) == (2, 2, "learned")
    again = json.loads(
        cli(shlex.split(f"{words} --set alpha=learned --set branch=both --json")).out
    )
    assert row["row_id"] in [other["row_id"] for other in again]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ["fit", "--method", "tip"],
            2,
            "tip-adapter or tip-adapter-f or tpt? all of them: cacheclip methods",
        ),
        (["fit", "--select", "oracle"], 2, "fewshot-val"),
        (["compare", "--set", "alpha=1"], 2, "--set clip-adapter.alpha=1"),
        (["fit", "--select", "fixed", "--set", "C=0.1,0.2"], 2, "cacheclip compare"),
        (["fit", "--shots", "99"], 3, "use --shots"),
        ([*TRAINED, "--set", "epochs=few"], 3, "whole number"),
        (["fit", "--dataset", "nowhere"], 4, "cacheclip extract --dataset nowhere"),
        (["predict", "absent.safetensors", "x.png"], 3, "no such bundle"),
        (["extract", "--dataset", "food101"], 3, "fix:"),
        (["extract", "--dataset", "clipboard"], 2, "clipart"),
        ([*TRAINED, "--shots", "4", "--select", "fixed", "--set", "lr=1e38"], 7, "not finite"),
    ],
)
def test_a_users_mistake_is_three_lines_and_a_code(
    cli: Callable[[Sequence[str]], Any], arguments: list[str], code: int, said: str
) -> None:
    answer = cli(arguments)
    assert answer.code == code, answer.err
    assert any(said in line for line in three_lines(answer.err)), answer.err
    assert answer.out == ""


@pytest.mark.parametrize(
    "arguments", [["fit", "--shots", "0"], ["compare", "--shots", "1,x"], ["fly"]]
)
def test_clicks_own_usage_errors_exit_with_two(
    cli: Callable[[Sequence[str]], Any], arguments: list[str]
) -> None:
    answer = cli(arguments)
    assert answer.code == 2
    assert "Traceback" not in answer.err


def test_weights_that_are_not_here_are_three_lines(shell: Any, world: Any, tmp_path: Path) -> None:
    missing = shell(
        *("extract", "--dataset", str(world.pictures), "--model", "ViT-B-32-quickgelu"),
        *("--pretrained", "openai"),
        home=tmp_path / "h",
    )
    assert missing.returncode == 5, missing.stderr
    assert missing.stdout == ""
    told, *error = missing.stderr.splitlines()
    assert told.startswith("folder/colours: 3 classes: blue, green, red")
    assert len(error) == 3  # of all packages that were loaded, none warns
    command = shlex.join(["cacheclip", "extract", "--dataset", str(world.pictures)])
    assert f"fix: {command} --model nano (" in three_lines(missing.stderr)[2]  # as it runs
    assert not (tmp_path / "h" / "stores").exists()  # nothing half-written
    assert not (tmp_path / "hub").exists()


def test_a_damaged_shard_is_named_with_the_command_that_mends_it(
    cli: Callable[[Sequence[str]], Any], world: Any, tmp_path: Path
) -> None:
    home = tmp_path / "copy"
    shutil.copytree(world.home, home)
    (shard,) = home.glob("stores/folder/colours/test/image-*/shard-00000.h5")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    answer = cli(["fit", "--method", "zero-shot", "--home", str(home)])
    assert answer.code == 4, answer.err
    assert str(shard) in answer.err
    assert "cacheclip extract" in three_lines(answer.err)[2]


def test_predict_refuses_another_encoder(
    cli: Callable[[Sequence[str]], Any], world: Any, tmp_path: Path
) -> None:
    import torch

    out = tmp_path / "b.safetensors"
    assert cli(["fit", "--method", "nearest-mean", "--shots", "2", "--out", str(out)]).code == 0
    other = tmp_path / "tiny"
    shutil.copytree(world.weights.parent, other)
    tensors = torch.load(world.weights, weights_only=True)
    tensors["logit_scale"] = tensors["logit_scale"] + 1
    torch.save(tensors, other / world.weights.name)
    answer = cli(["predict", str(out), str(world.pictures), "--model", f"local-dir:{other}"])
    assert answer.code == 4, answer.err
    assert "weights_sha256" in answer.err


def test_predict_answers_for_a_folder_and_marks_what_it_cannot_read(
    cli: Callable[[Sequence[str]], Any], world: Any, tmp_path: Path
) -> None:
    out = tmp_path / "b.safetensors"
    assert cli(["fit", "--method", "nearest-mean", "--shots", "4", "--out", str(out)]).code == 0
    folder = tmp_path / "mine"
    shutil.copytree(world.pictures / "green", folder)
    (folder / "broken.png").write_bytes(b"no picture")
    answer = cli(["predict", str(out), str(folder), "--model", world.model, "--json"])
    assert answer.code == 0, answer.err
    answers = json.loads(answer.out)
    assert len(answers) == 16
    assert [a["image"] for a in answers if a["error"]] == [str(folder / "broken.png")]


def test_predict_fails_where_no_picture_can_be_read_and_leaves_hidden_ones(
    cli: Callable[[Sequence[str]], Any], world: Any, tmp_path: Path
) -> None:
    out = tmp_path / "b.safetensors"
    assert cli(["fit", "--method", "nearest-mean", "--shots", "4", "--out", str(out)]).code == 0
    folder = tmp_path / "mine"
    (folder / ".hidden").mkdir(parents=True)
    (folder / "broken.png").write_bytes(b"no picture")
    shutil.copy(world.pictures / "red" / "00.png", folder / ".hidden" / "h.png")
    answer = cli(["predict", str(out), str(folder), "--model", world.model, "--json"])
    assert answer.code == 3, answer.err
    assert [a["image"] for a in json.loads(answer.out)] == [str(folder / "broken.png")]
    assert "1 of 1 pictures could not be read" in answer.err


def test_predict_refuses_another_model_before_it_loads_one(
    cli: Callable[[Sequence[str]], Any], world: Any, tmp_path: Path
) -> None:
    out = tmp_path / "b.safetensors"
    assert cli(["fit", "--method", "nearest-mean", "--shots", "2", "--out", str(out)]).code == 0
    answer = cli(["predict", str(out), str(world.pictures), "--model", "ViT-B-32-quickgelu"])
    assert answer.code == 4, answer.err
    assert "local-dir:tiny" in three_lines(answer.err)[1]


def test_a_file_encoder_predicts_with_its_file_and_says_so_without(
    cli: Callable[[Sequence[str]], Any], world: Any, tmp_path: Path
) -> None:
    import torch

    from cacheclip.encoders import open_clip_

    open_clip_.register("tests-cli-tiny", world.config)
    weights = tmp_path / "my tower.pt"
    torch.save(torch.load(world.weights, weights_only=True), weights)
    home, out = ["--home", str(tmp_path / "h")], str(tmp_path / "b.safetensors")
    made = cli(
        [
            *("extract", "--dataset", str(world.pictures), "--model", "tests-cli-tiny", *home),
            *("--pretrained", str(weights), "--preprocess-from", str(world.preprocess)),
        ]
    )
    assert made.code == 0, made.err
    assert cli(["fit", "--method", "zero-shot", "--out", out, *home]).code == 0
    picture = str(world.pictures / "blue" / "00.png")
    without = cli(["predict", out, picture])
    assert without.code == 5, without.err
    assert "needs the weights file 'my tower.pt'" in three_lines(without.err)[0]
    assert cli(["predict", out, picture, "--pretrained", str(weights)]).code == 0


def test_a_reader_that_goes_away_is_no_error(world: Any) -> None:
    command = shlex.join([sys.executable, "-m", "cacheclip", "ls", "--home", str(world.home)])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -c 1 >/dev/null; echo $?"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() in ("0", "141")  # 141: ended by SIGPIPE, as `ls | head` ends
    assert "Traceback" not in done.stderr


def test_sets_extracted_last_are_taken_first(
    cli: Callable[[Sequence[str]], Any], world: Any, tmp_path: Path
) -> None:
    home = ["--home", str(tmp_path / "h")]
    extract = ["extract", "--dataset", str(world.pictures), "--model", world.model, *home]
    for name in ("one", "two"):
        made = cli([*extract, "--name", name])
        assert made.code == 0, made.err
    fit = ["fit", "--method", "nearest-mean", "--shots", "1", "--json", *home]
    assert json.loads(cli(fit).out)["dataset"] == "folder/two"
    assert json.loads(cli([*fit, "--dataset", "one"]).out)["dataset"] == "folder/one"
    # asking for the first again encodes nothing, and makes it the last
    assert cli([*extract, "--name", "one"]).code == 0
    assert json.loads(cli(fit).out)["dataset"] == "folder/one"


def test_an_interrupt_exits_with_130_and_no_traceback(world: Any, tmp_path: Path) -> None:
    long = shlex.split("compare --methods clip-adapter --shots 4 --seeds 3 --set epochs=100000")
    with subprocess.Popen(
        [sys.executable, "-m", "cacheclip", *long, "--home", str(world.home)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # nohup's goes on to us
    ) as running:
        assert running.stderr
        for line in running.stderr:
            if " runs: " in line:
                break
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
        assert running.wait(timeout=60) == 130
    assert "Traceback" not in rest
    assert "interrupted" in rest


def test_every_command_has_help_with_an_example(cli: Callable[[Sequence[str]], Any]) -> None:
    from cacheclip.cli.main import SECTIONS

    for name in (name for names in SECTIONS.values() for name in names):
        answer = cli([name, "--help"])
        assert answer.code == 0
        assert "Example" in answer.out, name
