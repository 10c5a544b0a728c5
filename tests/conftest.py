"""One thread a process; kernels are interpreted where there is no GPU, in tests/kernels alone."""

import importlib
import os
from pathlib import Path

import pytest

NO_GPU = not Path("/dev/nvidia0").exists()
KERNELS = (Path(__file__).resolve().parent.parent / "kernels").glob("[a-z]*.py")

# Read when torch is loaded, here and in the commands that tests start. Several processes share the
# cores, and threads of one would wait for threads of others.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # unset, Triton warns
# No machine crashes here, and waiting for the disk leaves a core idle. Processes that are killed
# sync as ever, and tests of what a disk refuses put their own in its place.
os.fsync = lambda fd: None
if NO_GPU:
    # Read when a kernel is decorated: set later, it fails inside the kernel; left set, the commands
    # that tests start would run interpreted too.
    os.environ["TRITON_INTERPRET"] = "1"
    for file in KERNELS:
        importlib.import_module(f"cacheclip.kernels.{file.stem}")
    del os.environ["TRITON_INTERPRET"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all",
        action="store_true",
        help="each launch, kill, flipped bit and failing call: none stands for others",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests come first, so that processes that share the rest end together."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def every(pytestconfig: pytest.Config) -> bool:
    """Whether nothing stands for others."""
    return bool(pytestconfig.getoption("--all"))


@pytest.fixture(autouse=True)
def _interpret_kernels_in_their_own_tests_alone(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if NO_GPU and request.path.parent.name == "kernels":
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    elif NO_GPU:
        monkeypatch.setattr("cacheclip.kernels.launch.uses_triton", lambda x: False)
