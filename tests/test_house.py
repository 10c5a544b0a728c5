"""The house itself: links, wheel, one class a method file, and what is imported when."""

import ast
import hashlib
import pkgutil
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import cacheclip
from cacheclip.methods import base as methods
from tests.makers import build_home, cacheclip as run

ROOT = Path(__file__).resolve().parent.parent
MEGABYTE = 10**6


def python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_links_lead_to_the_folders_beside_the_package() -> None:
    for name in ("cli", "kernels"):
        link = ROOT / "cacheclip" / name
        assert link.is_symlink()
        assert link.readlink() == Path("..") / name


def _wheel(checkout: Path, out: Path) -> dict[str, str]:
    """The wheel's files and their hashes, built as `python -m build` does without isolation."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("*.whl")
    assert wheel.stat().st_size <= 20 * MEGABYTE
    with zipfile.ZipFile(wheel) as archive:
        return {n: hashlib.sha256(archive.read(n)).hexdigest() for n in archive.namelist()}


def _copy_of_checkout(to: Path) -> Path:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        source, target = ROOT / name, to / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    return to


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _copy_of_checkout(tmp_path_factory.mktemp("checkout"))


def test_a_wheel_holds_everything_with_or_without_links(checkout: Path, tmp_path: Path) -> None:
    linked = _wheel(checkout, tmp_path / "linked")
    for name in ("cli", "kernels"):
        (checkout / "cacheclip" / name).unlink()
    unlinked = _wheel(checkout, tmp_path / "unlinked")
    for name in ("cli", "kernels"):
        (checkout / "cacheclip" / name).symlink_to(f"../{name}")
    assert unlinked == linked
    wanted = {
        *(f"cacheclip/cli/{name}.py" for name in ("main", "fit", "demo")),
        "cacheclip/kernels/__init__.py",
        "cacheclip/py.typed",
        "cacheclip/assets/clipart/images.zip",
        "cacheclip/assets/clipart/LICENSE",
        "cacheclip/assets/nano/nano-v1.safetensors",
        "cacheclip/assets/nano/NOTICE",
    }
    assert wanted <= set(linked)
    tops = {name.split("/")[0] for name in linked}
    assert tops == {"cacheclip", f"cacheclip-{cacheclip.__version__}.dist-info"}


def test_an_editable_install_without_links_says_how_to_get_them(checkout: Path) -> None:
    link = checkout / "cacheclip" / "cli"
    link.unlink()
    code = "import hatchling.build; hatchling.build.build_editable('dist')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=False
    )
    link.symlink_to("../cli")
    assert done.returncode != 0
    assert "git checkout -- cacheclip/cli" in done.stderr


def test_the_version_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == cacheclip.__version__


def test_a_method_file_holds_one_class() -> None:
    for name in methods.names():
        file = ROOT / "cacheclip" / "methods" / f"{name.replace('-', '_')}.py"
        classes = [n for n in ast.parse(file.read_text()).body if isinstance(n, ast.ClassDef)]
        assert [c.name for c in classes] == [methods.get(name).__name__]
        assert methods.get(name).name == name


ENCODING = ("PIL", "open_clip", "torchvision", "sklearn", "cacheclip.encoders.base")
HEAVY = ("torch", "triton", "open_clip", "torchvision", "sklearn", "torch._dynamo")
LOADED = (
    "import sys; from cacheclip.cli.main import cacheclip as run\n"
    "try: run.main(sys.argv[1:], standalone_mode=False)\n"
    "except Exception as error: print(type(error).__name__, file=sys.stderr)\n"
    f"print('loaded:', *(name for name in {HEAVY!r} if name in sys.modules))"
)


def loaded(*arguments: str) -> set[str]:
    last = python(LOADED, *arguments).splitlines()[-1]
    return set(last.split()[1:])


@pytest.mark.parametrize(
    "arguments",
    [
        *(("--help",), ("fit", "--help"), ("ls",), ("info",), ("extract", "--help"), ("methods",)),
        *(("stats",), ("honesty",), ("row",)),
    ],
)
def test_what_only_lists_loads_no_torch(arguments: tuple[str, ...], tmp_path: Path) -> None:
    home = ("--home", str(tmp_path)) if arguments[-1] in ("ls", "info") else ()
    if arguments[-1] in ("stats", "honesty", "row"):
        home = ("--home", str(ROOT / "tests" / "reliability" / "home-golden"))
    assert loaded(*arguments, *home) == set()


def test_a_missing_set_or_data_set_is_said_without_torch(tmp_path: Path) -> None:
    assert loaded("fit", "--home", str(tmp_path)) == set()
    assert loaded("extract", "--dataset", "food101", "--home", str(tmp_path)) == set()


def test_features_are_classified_without_what_opens_or_encodes_pictures(tmp_path: Path) -> None:
    home, out = build_home(tmp_path / "home").root, tmp_path / "b.safetensors"
    words = ("fit", "--method", "nearest-mean", "--shots", "2", "--select", "fixed")
    assert run(*words, "--home", home, "--out", out).code == 0
    code = LOADED.replace(repr(HEAVY), repr((*ENCODING, "torch")))
    last = python(code, "predict", str(out), "--on", "toys", "--home", str(home)).splitlines()[-1]
    assert last.split() == ["loaded:", "torch"]  # so the tests above can fail


def test_no_public_name_is_a_room() -> None:
    """A room that is imported takes the place of what goes by its name in the package."""
    rooms = {module.name for module in pkgutil.iter_modules(cacheclip.__path__)}
    assert not rooms & set(cacheclip.__all__)


def test_importing_the_package_costs_nothing_and_offers_everything() -> None:
    code = (
        "import sys, cacheclip; assert 'numpy' not in sys.modules\n"
        "for name in cacheclip.__all__: getattr(cacheclip, name)"
    )
    python(code)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cacheclip.nothing  # noqa: B018
