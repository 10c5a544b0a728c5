"""Files of prompts that a user wrote: templates for all classes, or sentences class by class."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cacheclip.errors import InputError
from cacheclip.files import regular
from cacheclip.prompts.classnames import by_letters, find, listed
from cacheclip.prompts.templates import PLACEHOLDER

BY_CLASS = "JSON {class: list of sentences}, the classes as the data spell them"
TEMPLATES = (
    'one template a line, such as "a photo of a {}.", or a JSON list of them, or '
    "JSON {class: list of sentences}"
)


def read_templates(path: Path, *, dataset: str = "") -> tuple[str, ...]:
    """The templates of a user's file, with "{}" for the class name.

    Raises:
        InputError: the file cannot be read, has no template, or one without a placeholder.
    """
    content = _content(path)
    if isinstance(content, dict):
        key = _of_dataset(content, dataset)
        if key is None:
            last = dataset.rpartition("/")[2]
            raise _faulty(path, f"no templates for {last!r}, only for {', '.join(content)}")
        content = content[key]
    templates = _texts(content)
    if templates is None:
        raise _faulty(path, "the templates are no list of texts")
    if not templates:
        raise _faulty(path, "the template file has no templates")
    for number, template in enumerate(templates, 1):
        if PLACEHOLDER not in template:
            raise _faulty(path, f"template {number} has no place for the class name: {template!r}")
    return templates


def read_sentences(
    path: Path, classnames: Sequence[str], *, folders: Sequence[str] = (), dataset: str = ""
) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """The sentences of each class, where a file has them class by class, as those of CuPL do.

    Classes are found by name or folder, however these spell blanks, hyphens and capitals. An object
    that has the data set's id among its keys too is one of templates, if these have a place for the
    class name.

    Args:
        path: the user's file.
        classnames: [C] as the data spell them.
        folders: [C] other names of the classes.
        dataset: the data set's id.

    Returns:
        [C] texts, () where the file is one of templates; and notices that say how it was read.

    Raises:
        InputError: the file cannot be read, or some classes have no sentences.
    """
    content = _content(path)
    if not isinstance(content, dict):
        return (), ()
    keys = by_letters(list(content))
    others = folders or classnames
    found = [
        find(name, keys) or find(other, keys)
        for name, other in zip(classnames, others, strict=True)
    ]
    own = _of_dataset(content, dataset)
    if own is not None and _has_places(content[own]):
        both = f"{path.name}: read as templates of the data set {own!r}, not as sentences by class"
        return (), (both,) if all(found) else ()
    if not any(found) and (own is not None or any(map(_has_places, content.values()))):
        return (), ()
    missing = [name for name, key in zip(classnames, found, strict=True) if key is None]
    if missing:
        what = f"no sentences for {len(missing)} of {len(classnames)} classes: {listed(missing)}"
        if unused := [key for key in content if key not in set(found)]:
            what += f"; keys that are no class: {listed(unused)}"
        raise _faulty(path, what, BY_CLASS)
    sentences = tuple(_of_class(path, key, content[key]) for key in found if key is not None)
    return sentences, tuple(_said(path, content, found, sentences, own))


def _said(
    path: Path,
    content: Mapping[str, Any],
    found: Sequence[str | None],
    sentences: Sequence[Sequence[str]],
    own: str | None,
) -> list[str]:
    """How a file of sentences was read."""
    counts = sorted({len(each) for each in sentences})
    each = f"{counts[0]} to {counts[-1]} a class" if len(counts) > 1 else f"{counts[0]} a class"
    instead = "" if own is None else f", not as templates of the data set {own!r}"
    said = [f"{path.name}: read as sentences by class, {each}{instead}"]
    used = set(found)
    unused = [key for key in content if key not in used]
    if unused:
        said.append(f"{path.name}: not used, classes of other sets: {listed(unused)}")
    return said


def _of_class(path: Path, name: str, content: Any) -> tuple[str, ...]:
    texts = _texts([content] if isinstance(content, str) else content)
    if texts is None:
        raise _faulty(path, f"the sentences of {name!r} are no list of texts", BY_CLASS)
    if not texts:
        raise _faulty(path, f"no sentences for {name!r}", BY_CLASS)
    return texts


def _of_dataset(content: Mapping[str, Any], dataset: str) -> str | None:
    """The key of a data set: its id, or the last part of it."""
    return next((key for key in (dataset, dataset.rpartition("/")[2]) if key in content), None)


def _texts(content: Any) -> tuple[str, ...] | None:
    """The texts of a list, "{}" for the class name; None where it is no such list."""
    if not isinstance(content, list) or not all(isinstance(line, str) for line in content):
        return None
    return tuple(line.strip().replace("{c}", PLACEHOLDER) for line in content if line.strip())


def _has_places(content: Any) -> bool:
    """Whether these are templates: each has a place for the class name."""
    texts = _texts(content)
    return texts is not None and all(PLACEHOLDER in text for text in texts)


def _content(path: Path) -> Any:
    """The lines of a text file, or what JSON holds."""
    try:
        text = regular.read_text(path)
        return regular.parsed(text) if path.suffix == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise _faulty(path, f"the template file cannot be read ({error})") from error


def _faulty(path: Path, what: str, wanted: str = TEMPLATES) -> InputError:
    return InputError(what, where=str(path), fix=f"write {wanted}; then run the same command again")
