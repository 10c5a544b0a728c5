"""What somebody gives that is no .npz file: named for what it is, with the code that makes one.

Nothing is loaded here that could run code: pickles, PyTorch's files among them, are told by their
first bytes, and the code that reads them is for the person who trusts them.
"""

import csv
import shlex
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cacheclip.datasets.suffixes import EXTENSIONS
from cacheclip.errors import InputError
from cacheclip.exchange.source import OPTIONAL, REQUIRED

_SAME = ", ".join(f"{name}={name}" for name in REQUIRED)


def refusal(path: Path) -> InputError:
    """The error for a file or folder that is no .npz file.

    Args:
        path: absolute.
    """
    if path.is_dir():
        kind, code = _folder(path)
    else:
        kind, code = _file(path) if path.is_file() else ("no regular file", _saved(path, _SAME))
    return InputError(f"this is {kind}, not a .npz file", where=str(path), fix=code)


def _file(path: Path) -> tuple[str, str]:
    """What a file is, and the code or command that makes a .npz of it."""
    with path.open("rb") as file:
        head = file.read(16)
    makers: dict[str, Callable[[Path], tuple[str, str]]] = {
        ".csv": _csv,
        ".tsv": _csv,
        ".safetensors": _safetensors,
        ".json": _json,
        ".jsonl": _json,
    }
    if head.startswith(b"\x93NUMPY"):
        return _npy(path)
    if head.startswith(b"PK"):
        return _zip(path)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _hdf5(path)
    if head.startswith(b"PAR1"):
        return _parquet(path)
    if head.startswith(b"MATLAB 5.0"):
        return _matlab(path)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        torch = path.suffix.lower() in (".pt", ".pth", ".bin", ".ckpt")
        return _torch(path) if torch else _pickle(path)
    return makers.get(path.suffix.lower(), _unknown)(path)


def _saved(path: Path, arrays: str) -> str:
    return f"np.savez({path.with_suffix('.npz').name!r}, {arrays})"


def _file_of(path: Path) -> str:
    return f"pathlib.Path({str(path)!r})"


def _from(path: Path, load: str, imports: str) -> str:
    """Code that loads a mapping `x` and saves three arrays of it, by their likely names."""
    arrays = ", ".join(f"{name}=x[{name!r}]" for name in REQUIRED)
    return f"import numpy as np, {imports}; x = {load}; {_saved(path, arrays)}"


def _unknown(path: Path) -> tuple[str, str]:
    kind = f"a {path.suffix} file" if path.suffix not in ("", ".npz") else "something else"
    return kind, _saved(path, _SAME)


def _npy(path: Path) -> tuple[str, str]:
    arrays = f"features=np.load({str(path)!r}), labels=labels, split=split"
    return "one array without names (.npy)", f"import numpy as np; {_saved(path, arrays)}"


def _zip(path: Path) -> tuple[str, str]:
    with suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith("data.pkl") for name in names):
            return _torch(path)
        if not any(name.endswith(".npy") for name in names):
            return "a zip archive of other files", _saved(path, _SAME)
    return "a zip archive, damaged or cut short", _saved(path, _SAME)


def _torch(path: Path) -> tuple[str, str]:
    load = f"torch.load({str(path)!r}, map_location='cpu')"
    code = _from(path, load, "torch")
    code = code.replace("x['features']", "x['features'].float().numpy()")  # bfloat16 among them
    return "a PyTorch file, which may be a pickle and is not loaded", f"{code}  # by its own names"


def _pickle(path: Path) -> tuple[str, str]:
    if path.suffix.lower() == ".joblib":
        code = _from(path, f"joblib.load({str(path)!r})", "joblib")
    else:
        code = _from(path, f"pickle.loads({_file_of(path)}.read_bytes())", "pathlib, pickle")
    kind = "a pickle, which could run any code and is not loaded"
    return kind, f"{code}  # if you trust it; by its own names"


def _safetensors(path: Path) -> tuple[str, str]:
    load = f"safetensors.numpy.load_file({str(path)!r})"
    code = f"import numpy as np, safetensors.numpy; x = {load}; "
    return "a safetensors file", code + _saved(path, "**x, split=split")


def _matlab(path: Path) -> tuple[str, str]:
    load = f"scipy.io.loadmat({str(path)!r})"
    return "a MATLAB file", f"{_from(path, load, 'scipy.io')}  # by its own names"


def _parquet(path: Path) -> tuple[str, str]:
    arrays = "features=np.stack(x['features']), labels=x['labels'].to_numpy()"
    arrays += ", split=x['split'].to_numpy(str)"
    code = f"import numpy as np, pandas; x = pandas.read_parquet({str(path)!r}); "
    return "a parquet table", f"{code}{_saved(path, arrays)}  # by its own columns"


def _json(path: Path) -> tuple[str, str]:
    if path.suffix.lower() == ".json":
        load = f"json.loads({_file_of(path)}.read_text())"
        return "a JSON file", f"{_from(path, load, 'json, pathlib')}  # by its own names"
    arrays = ", ".join(f"{name}=[row[{name!r}] for row in x]" for name in REQUIRED)
    load = f"[json.loads(line) for line in {_file_of(path)}.read_text().splitlines()]"
    code = f"import numpy as np, json, pathlib; x = {load}; {_saved(path, arrays)}"
    return "a file of JSON lines", f"{code}  # by its own names"


def _hdf5(path: Path) -> tuple[str, str]:
    """HDF5: names and shapes can be read safely, so the code goes by them."""
    import h5py

    found: dict[str, str] = {}
    with suppress(OSError, RuntimeError), h5py.File(path) as file:
        for name, item in file.items():
            if isinstance(item, h5py.Dataset):
                text = h5py.check_string_dtype(item.dtype) is not None
                found[name] = f"f[{name!r}].asstr()[:].astype(str)" if text else f"f[{name!r}][...]"
    wanted = [*REQUIRED, *(name for name in OPTIONAL if name in found)]
    arrays = ", ".join(f"{name}={found.get(name, f'f[{name!r}][...]')}" for name in wanted)
    comment = (
        ""
        if set(REQUIRED) <= set(found)
        else f"  # by its own names: {', '.join(found) or 'none at the top'}"
    )
    code = f"import numpy as np, h5py; f = h5py.File({str(path)!r}); {_saved(path, arrays)}"
    return "an HDF5 file", code + comment


def _csv(path: Path) -> tuple[str, str]:
    """A table as text: its header says which columns are numbers, labels and splits."""
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    with suppress(OSError, UnicodeError, csv.Error), path.open(newline="") as file:
        rows = csv.DictReader(file, delimiter=separator)
        first = next(iter(rows), {})
        columns = [str(name) for name in rows.fieldnames or ()]
        texts = [name for name in columns if not _is_number(first.get(name))]
        label = _column(columns, ("labels", "label", "class", "target", "targets", "y"))
        split = _column(columns, ("split", "set", "subset"))
        plain = {*texts, label or "labels", split or "split"}
        left = sorted(plain & set(columns) | {label or "labels", split or "split"})
        arrays = (
            f"features=[[float(r[k]) for k in r if k not in {left}] for r in x], "
            f"labels=[r[{label or 'labels'!r}] for r in x], "
            f"split=[r[{split or 'split'!r}] for r in x]"
        )
        text = f"{_file_of(path)}.read_text().splitlines()"
        load = f"list(csv.DictReader({text}, delimiter={separator!r}))"
        comment = "" if label and split else "  # by its own columns"
        code = f"import numpy as np, csv, pathlib; x = {load}; {_saved(path, arrays)}{comment}"
        return f"a table as text ({path.suffix})", code
    return _unknown(path)


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def _column(columns: list[str], names: tuple[str, ...]) -> str | None:
    return next((one for name in names for one in columns if one.lower() == name), None)


def _folder(path: Path) -> tuple[str, str]:
    """What a folder holds, and what to do with it."""
    files = sorted(path.iterdir()) if path.is_dir() else []
    suffixes = {file.suffix.lower() for file in files}
    if ".npz" in suffixes:
        first = next(file for file in files if file.suffix.lower() == ".npz")
        return "a folder of .npz files", shlex.join(["cacheclip", "import", str(first)])
    if ".npy" in suffixes:
        load = f"{{p.stem: np.load(p) for p in pathlib.Path({str(path)!r}).glob('*.npy')}}"
        return "a folder of .npy files", (
            f"import numpy as np, pathlib; np.savez({path.name + '.npz'!r}, **{load})"
        )
    torch = next((file for file in files if file.suffix.lower() in (".pt", ".pth")), None)
    if torch is not None:
        return "a folder of PyTorch files, which are not loaded", _torch(torch)[1]
    inside = {file.suffix.lower() for file in path.glob("*/*")} | suffixes
    if inside & EXTENSIONS:
        return "a folder of pictures", shlex.join(["cacheclip", "extract", "--dataset", str(path)])
    return "a folder", f"np.savez({path.name + '.npz'!r}, {_SAME})"
