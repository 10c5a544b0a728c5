"""Which templates are used for a data set, and the prompts that they make of its class names."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cacheclip.disk import digest
from cacheclip.errors import InputError, UsageError, instead
from cacheclip.prompts.classnames import spoken
from cacheclip.prompts.templates import FAMILIES, PLACEHOLDER


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a data set: every template filled with every class name.

    Attributes:
        template: the name of the family, or of the user's file.
        templates: [T] texts with "{}" where the class name goes.
        classnames: [C] as the data spell them.
    """

    template: str
    templates: tuple[str, ...]
    classnames: tuple[str, ...]

    @cached_property
    def prompts(self) -> list[list[str]]:
        """[C][T] texts to encode."""
        return [
            [template.replace(PLACEHOLDER, spoken(name)) for template in self.templates]
            for name in self.classnames
        ]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the texts, in order."""
        return digest(self.prompts)


def prompt_set(
    classnames: Sequence[str], *, family: str, template: str | None = None, dataset: str = ""
) -> PromptSet:
    """The prompts of a data set.

    Args:
        classnames: [C] as the data spell them.
        family: the data set's own family, used where none is asked for.
        template: a family's name, or a file: .txt with one template a line, or .json with a list
            of them or an object {data set: list}. "{}" or "{c}" stands for the class name.
        dataset: the data set's id, which chooses in such an object.

    Raises:
        UsageError: there is no such family.
        InputError: the file is missing or faulty; see `read_templates`.
    """
    name = family if template is None else template
    if name in FAMILIES:
        return PromptSet(name, FAMILIES[name], tuple(classnames))
    path = Path(name).expanduser()
    if path.suffix and not path.is_file():
        raise InputError(
            "there is no such template file",
            where=str(path.absolute()),
            fix="check the path, then run the same command again",
        )
    if not path.is_file():
        raise UsageError(
            f"there are no templates {name!r}",
            where=f"neither a family nor a file {path.absolute()}",
            fix=f"{instead(name, list(FAMILIES), option='--template ')}, or a .txt or .json file",
        )
    return PromptSet(path.name, read_templates(path, dataset=dataset), tuple(classnames))


def read_templates(path: Path, *, dataset: str = "") -> tuple[str, ...]:
    """The templates of a user's file, with "{}" for the class name.

    Raises:
        InputError: the file cannot be read, has no template, or one without a placeholder.
    """
    try:
        text = path.read_text("utf-8-sig")
        lines = _from_json(path, text, dataset) if path.suffix == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise _faulty(path, f"the template file cannot be read ({error})") from error
    templates = tuple(line.strip().replace("{c}", PLACEHOLDER) for line in lines if line.strip())
    if not templates:
        raise _faulty(path, "the template file has no templates")
    for number, template in enumerate(templates, 1):
        if PLACEHOLDER not in template:
            raise _faulty(path, f"template {number} has no place for the class name: {template!r}")
    return templates


def _from_json(path: Path, text: str, dataset: str) -> list[str]:
    content = json.loads(text)
    if isinstance(content, dict):
        key = dataset if dataset in content else dataset.rpartition("/")[2]
        if key not in content:
            raise _faulty(path, f"no templates for {key!r}, only for {', '.join(content)}")
        content = content[key]
    if not isinstance(content, list) or not all(isinstance(line, str) for line in content):
        raise _faulty(path, "the templates are no list of texts")
    return content


def _faulty(path: Path, what: str) -> InputError:
    return InputError(
        what,
        where=str(path),
        fix='write one template a line, such as "a photo of a {}.", or a JSON list of them; '
        "then run the same command again",
    )
