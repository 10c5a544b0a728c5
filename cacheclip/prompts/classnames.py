"""Class names: how one is spoken in a prompt, which look like codes, and files of better ones."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cacheclip.errors import InputError
from cacheclip.files import regular

Speak = Callable[[str], str]
"""From a class name as it is stored to how a prompt has it."""

SHOWN = 5

_CAMEL = re.compile(
    r"(?<=[a-zà-öø-ÿ]{2})(?=[A-ZÀ-ÖØ-Þ])"  # motor|Vehicle, but not i|Phone
    r"|(?<=[A-ZÀ-ÖØ-Þ])(?=[A-ZÀ-ÖØ-Þ][a-zà-öø-ÿ]{2})"  # HTML|Page, but not BM|Ws
)
_CODES = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        r"[a-z]",
        r"[\d .,_-]+",  # 0001, 2-3
        r"[a-z]{1,2}[ _-]?\d+",  # c1, id_7 and WordNet's n02084071
        r"(class|cls|cat|category|label|type|group|folder|species|object|item|cluster|target)"
        r"[ _-]?(\d+|[a-z])",
        r"(?=.*\d)[0-9a-f]{8,}",  # a hash
        r"(?=.*\d)[0-9a-f]{4,}(-[0-9a-f]{4,})+",  # a UUID
        r"[a-z_-]*(\d+[a-z_-]+){2,}\d*",  # dQw4w9WgXcQ
        r"[a-z_]{0,3}(\d+[a-z]{1,3})+\d+[a-z]{0,3}",  # m_01g317
    )
)


def spoken(name: str) -> str:
    """The name as a prompt has it: "_" becomes " ", as in CoOp and Tip-Adapter; nothing else."""
    return name.replace("_", " ")


def spoken_apart(name: str) -> str:
    """The name of one's own folder as a prompt has it: also "-" and CamelCase are taken apart."""
    return " ".join(_CAMEL.sub(" ", spoken(name).replace("-", " ")).split())


def codes(names: Sequence[str]) -> list[str]:
    """The names that look like codes, numbers or single letters, which a text tower never met."""
    return [name for name in names if any(pattern.fullmatch(name) for pattern in _CODES)]


def letters(text: str) -> str:
    """What a text tower reads of a text: no capitals, one blank between words."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def same(name: str) -> str:
    """What the spellings of one class name have in common."""
    return letters(spoken_apart(name))


def listed(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def find(name: str, keys: Mapping[str, str]) -> str | None:
    """The key that means this class: as it is spelled, else by its letters.

    Args:
        name: of the class.
        keys: from `by_letters`.
    """
    return keys.get(name, keys.get(same(name)))


def by_letters(keys: Sequence[str]) -> dict[str, str]:
    """What `find` looks a class up in: each key as it is spelled, and by its letters."""
    return {same(key): key for key in reversed(keys)} | {key: key for key in keys}


def read_classnames(path: Path, folders: Sequence[str]) -> tuple[str, ...]:
    """The names that a file gives to the classes, one a class in their order.

    Args:
        path: .txt with a name a line in the order of `folders`, or with "FOLDER NAME" on each;
            .json with a list in that order, or with an object {folder: name}.
        folders: the classes as the data spell them.

    Raises:
        InputError: the file cannot be read, or does not give each class one name of its own.
    """
    try:
        text = regular.read_text(regular.expanded(path))
        given = (
            regular.parsed(text, _each_once)
            if path.suffix.lower() == ".json"
            else _lines(text, folders)
        )
    except FileNotFoundError:
        raise InputError(
            "there is no such file of class names",
            where=str(regular.expanded(path).absolute()),
            fix="check the path, then run the same command again",
        ) from None
    except (OSError, ValueError) as error:
        raise _faulty(path, f"the class names cannot be read ({error})", folders) from error
    names = _by_folder(path, given, folders) if isinstance(given, dict) else given
    if not isinstance(names, list) or not all(_can_be_name(name) for name in names):
        raise _faulty(path, "the class names are no list of texts, nor an object of them", folders)
    if len(names) != len(folders):
        what = f"{len(names)} class names for {len(folders)} classes"
        raise _faulty(path, what, folders)
    names = [" ".join(name.split()) for name in names]
    count = Counter(map(same, names))
    twice = list(dict.fromkeys(name for name in names if count[same(name)] > 1))
    if twice:
        raise InputError(
            f"two classes have the same name: {listed(twice)}",
            where=str(path),
            fix='tell them apart, such as "crane (bird)" and "crane (machine)", '
            "then run the same command again",
        )
    return tuple(names)


def _lines(text: str, folders: Sequence[str]) -> list[str] | dict[str, Any]:
    """The names of a text file; as an object where most lines begin with a folder and a blank."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    pairs = [line.split(maxsplit=1) for line in lines]
    known = frozenset(folders)
    begun = sum(len(pair) == 2 and pair[0].rstrip(",:;") in known for pair in pairs)
    if 2 * begun <= len(lines):
        return lines
    return _each_once([(pair[0].rstrip(",:;"), pair[-1].lstrip(",:; ")) for pair in pairs])


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} stands there twice")
    return dict(pairs)


def _by_folder(path: Path, given: Mapping[str, Any], folders: Sequence[str]) -> list[Any]:
    keys = by_letters(list(given))
    found = [find(folder, keys) for folder in folders]
    missing = [folder for folder, key in zip(folders, found, strict=True) if key is None]
    if missing:
        what = f"no name for {len(missing)} of {len(folders)} classes: {listed(missing)}"
        raise _faulty(path, what, folders)
    used = set(found)
    extra = [key for key in given if key not in used]
    if extra:
        raise _faulty(path, f"names for classes that are not there: {listed(extra)}", folders)
    return [given[key] for key in found if key is not None]


def _can_be_name(name: object) -> bool:
    return isinstance(name, str) and name.strip() != "" and name.isprintable()


def _faulty(path: Path, what: str, folders: Sequence[str]) -> InputError:
    return InputError(
        what,
        where=str(path),
        fix=f"write a line a class, in the order {listed(folders)}; or JSON {{folder: name}}; "
        "then run the same command again",
    )
