"""Which templates are used for a data set, and the prompts that they make of its class names."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

from cacheclip.errors import InputError, UsageError, instead
from cacheclip.files import regular
from cacheclip.files.disk import digest
from cacheclip.prompts.classnames import SHOWN, Speak, codes, letters, listed, spoken
from cacheclip.prompts.files import read_sentences, read_templates
from cacheclip.prompts.templates import FAMILIES, PLACEHOLDER
from cacheclip.store.schema import SENTENCES, SHIPPED_SENTENCES


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a data set: every template filled with every class name.

    Attributes:
        template: the name of the family, or of the user's file.
        templates: [T] texts with "{}" where the class name goes.
        classnames: [C] as the data spell them.
        sentences: [C] the texts of each class, where somebody wrote them class by class; they
            stand in the place of templates.
        speak: how a class name is put into a template.
        notices: how the user's file was read, one line each.
    """

    template: str
    templates: tuple[str, ...]
    classnames: tuple[str, ...]
    sentences: tuple[tuple[str, ...], ...] = ()
    speak: Speak = spoken
    notices: tuple[str, ...] = ()

    @cached_property
    def prompts(self) -> list[list[str]]:
        """[C][T] texts to encode; T is each class's own where there are sentences."""
        texts = self.sentences or [self.templates] * len(self.classnames)
        return [
            [text.replace(PLACEHOLDER, self.speak(name)) for text in own]
            for name, own in zip(self.classnames, texts, strict=True)
        ]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the texts, in order."""
        return digest(self.prompts)

    def warnings(self, *, own: bool) -> Iterator[str]:
        """What the texts do not tell the encoder, one line each.

        Args:
            own: whether the class names are those of the user's own folders.
        """
        silent = codes(self.classnames) if own and not self.sentences else []
        if silent:
            yield (
                f"{len(silent)} of {len(self.classnames)} class names look like codes "
                f"({listed(silent)}), which say nothing to the text tower, so zero-shot and all "
                "that reads text will be poor; name the classes with --classnames FILE"
            )
        groups: dict[tuple[str, ...], list[str]] = {}
        for name, texts in zip(self.classnames, self.prompts, strict=True):
            groups.setdefault(tuple(map(letters, texts)), []).append(name)
        equal = [" and ".join(names) for names in groups.values() if len(names) > 1]
        if equal:
            yield (
                f"the prompts are the same for {'; '.join(equal[:SHOWN])}"
                f"{'; ...' if len(equal) > SHOWN else ''}: zero-shot cannot tell these classes "
                "apart; name them with --classnames FILE"
            )


def prompt_set(
    classnames: Sequence[str],
    *,
    family: str,
    template: str | None = None,
    dataset: str = "",
    folders: Sequence[str] = (),
    speak: Speak = spoken,
) -> PromptSet:
    """The prompts of a data set.

    Args:
        classnames: [C] as the data spell them.
        family: the data set's own family, used where none is asked for.
        template: a family's name, or a file: .txt with one template a line, or .json with a list
            of them, an object {data set: list}, or an object {class: list of sentences}. "{}" or
            "{c}" stands for the class name, which sentences need not have.
        dataset: the data set's id, which chooses in such an object.
        folders: [C] other names of the classes, by which sentences may be found.
        speak: how a class name is put into a template.

    Raises:
        UsageError: there is no such family.
        InputError: the file is missing or faulty; see `read_templates` and `read_sentences`.
    """
    name = family if template is None else template
    names = tuple(classnames)
    if name in FAMILIES:
        return PromptSet(name, FAMILIES[name], names, speak=speak)
    path = regular.expanded(name)
    is_file = os.path.isfile(path)  # noqa: PTH113  (Path's raises)
    if path.suffix and not is_file:
        raise InputError(
            "there is no such template file",
            where=str(path.absolute()),
            fix="check the path, then run the same command again",
        )
    if not is_file:
        raise UsageError(
            f"there are no templates {name!r}",
            where=f"neither a family nor a file {path.absolute()}",
            fix=f"{instead(name, list(FAMILIES), option='template')}, or a .txt or .json file",
        )
    sentences, notices = read_sentences(path, names, folders=folders, dataset=dataset)
    templates = () if sentences else read_templates(path, dataset=dataset)
    return PromptSet(path.name, templates, names, sentences, speak, notices)


def sentence_set(
    classnames: Sequence[str],
    *,
    told: str,
    dataset: str = "",
    folders: Sequence[str] = (),
    speak: Speak = spoken,
) -> PromptSet:
    """Sentences that describe each class, to stand beside the prompts of templates.

    Args:
        classnames: [C] as the data spell them.
        told: a .json file of an object {class: list of sentences}, or the name of a data set whose
            sentences ship.
        dataset: the data set's id.
        folders: [C] other names of the classes, by which sentences may be found.
        speak: how a class name is put into a sentence that has "{}".

    Raises:
        InputError: the file is missing or faulty, or some classes have no sentences.
    """
    names = tuple(classnames)
    ships = told in SHIPPED_SENTENCES
    path = _shipped(told) if ships else regular.expanded(told)
    if not os.path.isfile(path):  # noqa: PTH113  (Path's raises)
        check = "check the path, then run the same command again"
        shipped = instead(told, sorted(SHIPPED_SENTENCES), option="sentences")
        raise InputError(
            "there is no such file of sentences",
            where=str(path.absolute()),
            fix=check if path.suffix else f"{shipped}, whose sentences ship, or a .json file",
        )
    sentences, notices = read_sentences(path, names, folders=folders, dataset=dataset)
    if not sentences:
        raise InputError(
            "these are no sentences by class",
            where=str(path),
            fix="write JSON {class: list of sentences}, then run the same command again; "
            "templates for all classes go with --template",
        )
    template = SENTENCES + (told if ships else path.name)
    if ships:
        notices = (f"{told}: {sum(map(len, sentences))} sentences by class that ship with it",)
    return PromptSet(template, (), names, sentences, speak, notices)


def _shipped(dataset: str) -> Path:
    """The file of a data set's sentences that ships with the package."""
    return Path(str(resources.files("cacheclip"))) / "assets" / dataset / "sentences.json"
