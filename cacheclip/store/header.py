"""key.json: what a store says of itself, held against its own digest."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cacheclip.errors import StoreError
from cacheclip.files.disk import (
    DamagedError,
    publish_json,
    read_json,
    repair,
    seal_agrees,
    sealed,
    unsealed,
)
from cacheclip.store.folders import there
from cacheclip.store.key import Key, extract_command, key_digest
from cacheclip.store.schema import (
    DONE_FILE,
    FORMAT,
    KEY_FILE,
    LAYERS,
    PARTS,
    STAGING_FOLDER,
    STORE_DTYPES,
    TEXT,
)


@dataclass(frozen=True)
class Header:
    """What key.json says: `key` decides, `info` is for people.

    Attributes:
        key: from `image_key`, `text_key` or `parts_key`.
        digest: of the key.
        info: versions, device, date; `root`, where the pictures lay, and `asked`, the options that
            `extract` was given, make its command line.
        home: `Home.option` of the home that the store lies in.
        whole: False where `info` is not as it was written, so that its commands may be wrong.
    """

    key: Key
    digest: str
    info: dict[str, Any]
    home: str = ""
    whole: bool = True

    @property
    def extract_command(self) -> str:
        """The command line that makes this store."""
        return self.command()

    def command(self, **changes: Any) -> str:
        """The command line that makes this store, with some options changed."""
        encoder = self.key["encoder"]
        dataset = self.key["data"]["id"] if "data" in self.key else self.info.get("dataset", "NAME")
        own = {"model": encoder["name"], "pretrained": encoder["pretrained"]}
        asked = {**(self.info.get("asked") or own), **changes}
        return extract_command(dataset, asked, root=self.info.get("root"), home=self.home)


class Keyed:
    """A store, which goes by the key in its header."""

    header: Header

    @property
    def key(self) -> Key:
        """All that decides what is in the store."""
        return self.header.key

    @property
    def digest(self) -> str:
        """Digest of the key."""
        return self.header.digest


def read_header(folder: Path, home: str = "") -> Header:
    """What the key.json of a store says.

    Args:
        folder: the store's.
        home: `Home.option`, for the command line that makes the store.

    Raises:
        DamagedError: it is not as it was written.
        StoreError: there is none, or it may not be read.
    """
    file = folder / KEY_FILE
    try:
        content = read_json(file)
    except FileNotFoundError:
        raise StoreError("there is no store here", where=str(folder), fix="cacheclip ls") from None
    except DamagedError as error:
        raise DamagedError(error.what, where=error.where, fix=_again(file, home)) from None
    try:
        version = content["format"]
        header = Header(content["key"], content["digest"], *_info(content["info"], home))
        whole = key_digest(header.key) == header.digest and _is_key(header.key)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        version, whole = FORMAT, False
    if version != FORMAT:
        raise DamagedError(
            f"this store has format {version}, and this version of cacheclip reads {FORMAT}",
            where=str(file),
            fix=f"use the version that wrote it, or: {_again(file, home)}",
        )
    if not whole:
        raise DamagedError(
            "the key does not have the digest it was written with",
            where=str(file),
            fix=_again(file, home),
        )
    return header


def _again(file: Path, home: str) -> str:
    return repair(file, f"cacheclip extract --dataset {dataset_of(file.parent)}{home}")


def dataset_of(folder: Path) -> str:
    """The id of the data set that a store's folder lies under."""
    parts = folder.absolute().parent.parent.parts
    first = max((k for k, part in enumerate(parts) if part == "stores"), default=len(parts) - 2)
    return shlex.quote("/".join(parts[first + 1 :]))


def _info(content: dict[str, Any], home: str) -> tuple[dict[str, Any], str, bool]:
    """What key.json says to people, as far as it can be said, and whether it was written so."""
    info = unsealed(content)
    if not isinstance(info.get("asked", {}), dict):
        del info["asked"]
    for name in ("root", "dataset"):
        if not isinstance(info.get(name, ""), str | None):
            del info[name]
    return info, home, seal_agrees(content) is not False


def _is_key(key: Mapping[str, Any]) -> bool:
    """Whether these are the parts of a key, each of its kind."""
    encoder, layer = key["encoder"], key["layer"]
    names = [encoder["library"], encoder["name"], encoder["pretrained"], key["compute"]["dtype"]]
    if key["store"]["dtype"] not in STORE_DTYPES:
        return False
    if layer in PARTS:
        numbers = [key["text"]["classes"]] if "text" in key else []
        texts = [*key["parts"], *([key["text"]["classnames_sha256"]] if numbers else [])]
    elif layer == TEXT:
        numbers = [key["text"]["classes"], key["text"]["prompts"]]
        texts = [key["text"][name] for name in ("template", "classnames_sha256", "prompts_sha256")]
    else:
        numbers = [key["data"]["samples"]]
        texts = [key["data"][name] for name in ("id", "split", "samples_sha256")]
    return (
        layer in (*LAYERS, TEXT, *PARTS)
        and all(type(number) is int and number > 0 for number in numbers)
        and all(isinstance(text, str) for text in (*names, *texts))
    )


def publish_header(folder: Path, key: Key, info: Mapping[str, Any], home: str = "") -> Header:
    """Write key.json, or see that the one there says the same of the key.

    Args:
        folder: the store's.
        key: what decides it.
        info: for people; what a key.json says that is there already stays.
        home: `Home.option`.

    Raises:
        StoreError: the folder belongs to another key.
    """
    new = Header(key, key_digest(key), dict(info), home)
    if not there(folder / KEY_FILE):
        _publish(folder, new)
        return new
    try:
        header = read_header(folder, home)
    except DamagedError as error:
        raise made_anew(error, new.extract_command) from None
    if header.digest != new.digest:
        old = shlex.quote(str(folder))
        raise StoreError(
            "this folder belongs to another key",
            where=str(folder / KEY_FILE),
            fix=f"mv {old} {old}-old, then run the same command again",
        )
    return header


def update_header(folder: Path, header: Header, info: Mapping[str, Any]) -> Header:
    """Let key.json say what was asked for last, and where the pictures lie now.

    The command line that it gives is that of the last extraction which went well.
    """
    now = {name: info[name] for name in ("asked", "root") if name in info}
    if header.whole and now.items() <= header.info.items():
        return header
    kept = header.info if header.whole else info
    header = replace(header, info={**kept, **now}, whole=True)
    _publish(folder, header)
    return header


def _publish(folder: Path, header: Header) -> None:
    info = sealed(header.info)
    content = {"format": FORMAT, "key": header.key, "digest": header.digest, "info": info}
    publish_json(folder / KEY_FILE, content, staging=folder / STAGING_FOLDER)


class NoKeyError(StoreError):
    """A store without its key.json."""

    def __init__(self, folder: Path, command: str) -> None:
        what = "a file of this store is missing"
        super().__init__(what, where=str(folder / KEY_FILE), fix=command)


def header_there(folder: Path, home: str, command: str) -> Header | None:
    """What key.json says; None of a folder where no store was finished.

    Args:
        folder: the store's.
        home: `Home.option`.
        command: what makes the store, for the message where its key is lost.

    Raises:
        NoKeyError: the store was finished, and its key is gone.
        StoreError: it is damaged, or may not be read.
    """
    if there(folder / KEY_FILE):
        return read_header(folder, home)
    if there(folder / DONE_FILE):  # written long after the key, and deleted before it
        raise NoKeyError(folder, command)
    return None


def made_anew(error: StoreError, command: str) -> StoreError:
    """The error of a key that cannot be read, with the command line that makes the store anew."""
    if isinstance(error, NoKeyError):
        return NoKeyError(Path(error.where).parent, command)
    if not isinstance(error, DamagedError):
        return error
    first = error.fix.partition(" && ")[0]
    return DamagedError(error.what, where=error.where, fix=f"{first} && {command}")
