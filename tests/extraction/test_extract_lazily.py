"""What a run loads and leaves behind, seen from outside: each test is a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

HEAVY = ("torch", "torchvision", "open_clip", "timm")
SCRIPT = """
import json, sys
from pathlib import Path
from cacheclip.errors import CacheclipError
from cacheclip.extraction.plan import ExtractRequest
from cacheclip.extraction.run import run
from cacheclip.store.home import Home

told = json.loads(sys.argv[1])
home, data = Path(told.pop("home")), Path(told.pop("data_root", "."))
code, encoded = 0, None
try:
    encoded = run(ExtractRequest(data_root=data, **told), Home(home)).encoded
except CacheclipError as error:
    code = error.exit_code
    print(error, file=sys.stderr)
print(json.dumps({"code": code, "encoded": encoded, "loaded": sorted(sys.modules)}))
"""


def extract(**told: str) -> tuple[int, int | None, set[str], str]:
    """Give exit code, encoded pictures, heavy modules that were loaded, and stderr."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(told)], capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout)
    return answer["code"], answer["encoded"], set(HEAVY) & set(answer["loaded"]), done.stderr


@pytest.fixture(scope="module")
def first(tower: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give what an extraction was asked, after it has been done once in a process of its own."""
    root = tmp_path_factory.mktemp("lazily")
    for k in range(12):
        file = root / "pictures" / "ab"[k % 2] / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (20 * k, 0, 0)).save(file)
    told = {"dataset": str(root / "pictures"), "home": str(root / "home"), "device": "cpu"}
    told["model"] = f"local-dir:{tower}"
    code, encoded, loaded, stderr = extract(**told)
    assert (code, encoded, stderr) == (0, 12, "")  # open_clip and torch keep quiet
    assert {"torch", "open_clip"} <= loaded  # so the next test can fail
    return told


def test_a_repeated_extraction_loads_no_torch(first: dict[str, str]) -> None:
    assert extract(**first) == (0, 0, set(), "")


def test_missing_data_are_told_without_loading_torch_or_looking_for_weights(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    code, _, loaded, stderr = extract(
        dataset="food101", home=str(home), data_root=str(tmp_path / "data")
    )
    assert code == 3
    assert loaded == set()
    assert [line.split(":")[0] for line in stderr.splitlines()] == ["error", "where", "fix"]
    assert not home.exists()
