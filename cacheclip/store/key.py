"""Keys: all that decides what is in a store, as plain readable data, and nothing else.

No path, date, device, version or batch size is part of a key, and no label: the pictures decide.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cacheclip.disk import (
    DamagedError,
    canonical_json,
    digest,
    publish_json,
    read_json,
    seal_agrees,
    sealed,
    sha256_lines,
)
from cacheclip.errors import StoreError
from cacheclip.store import hdf5
from cacheclip.store.folders import there
from cacheclip.store.schema import (
    FORMAT,
    IMPORTED,
    KEY_FILE,
    LAYERS,
    SEAL,
    STAGING_FOLDER,
    STORE_DTYPES,
    TEXT,
)

Key = dict[str, Any]
KEY_DIGITS = 12  # of the digest, in folder names
NAME_RULE = "begin with a letter or digit, then letters, digits, '_', '-', '.', blanks"


def image_key(
    *,
    layer: str,
    encoder: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    compute: Mapping[str, Any],
    store_dtype: str,
    dataset: str,
    split: str,
    ids: Sequence[str],
    files_sha256: str | None = None,
    views: Mapping[str, Any] | None = None,
) -> Key:
    """The key of the features of one layer of one split.

    Args:
        layer: one of `LAYERS`.
        encoder: library, name, pretrained, weights_sha256, quickgelu, embed_dim, logit_scale,
            logit_bias. It must not depend on the precision computed in.
        preprocess: all that turns a picture into pixels.
        compute: `dtype`, the precision that the encoder computed in.
        store_dtype: one of `STORE_DTYPES`.
        dataset: the resolved id of the data set, never a path.
        split: `train`, `val` or `test`.
        ids: sample ids in order.
        files_sha256: see `files_sha256`; None where the ids alone name the pictures for good.
        views: recipe, count and seed of augmented views; None for the plain picture.
    """
    if layer not in LAYERS or store_dtype not in STORE_DTYPES:
        raise ValueError(f"no such layer or store dtype: {layer}, {store_dtype}")
    key = {
        "layer": layer,
        "encoder": dict(encoder),
        "preprocess": dict(preprocess),
        "compute": dict(compute),
        "store": {"dtype": store_dtype, "normalized": False},
        "data": {
            "id": dataset,
            "split": split,
            "samples": len(ids),
            "samples_sha256": samples_sha256(ids),
            "files_sha256": files_sha256,
        },
        "views": None if views is None else dict(views),
    }
    return _plain(key)


def text_key(
    *,
    encoder: Mapping[str, Any],
    compute: Mapping[str, Any],
    prompts: Sequence[Sequence[str]],
    classnames: Sequence[str],
    template: str,
    store_dtype: str = "float16",
) -> Key:
    """The key of the features of C classes x T prompts, T those of the class with the most.

    Args:
        encoder: as in `image_key`.
        compute: as in `image_key`.
        prompts: [C][T] texts; T may differ between classes.
        classnames: C names.
        template: name of the template family, for people and result rows.
        store_dtype: one of `STORE_DTYPES`.
    """
    key = {
        "layer": TEXT,
        "encoder": dict(encoder),
        "compute": dict(compute),
        "store": {"dtype": store_dtype, "normalized": False},
        "text": {
            "template": template,
            "classes": len(classnames),
            "prompts": max(map(len, prompts)),
            "classnames_sha256": digest(list(classnames)),
            "prompts_sha256": digest([list(row) for row in prompts]),
        },
    }
    return _plain(key)


def _plain(key: Mapping[str, Any]) -> Key:
    """The key as it will be read again: lists for tuples, so that keys compare equal."""
    plain: Key = json.loads(canonical_json(key))
    return plain


def key_digest(key: Mapping[str, Any]) -> str:
    """What names a key: SHA-256 of its canonical JSON, 64 hex digits."""
    return digest(key)


def samples_sha256(ids: Sequence[str]) -> str:
    """The identity of an ordered list of samples."""
    return sha256_lines(ids)


def files_sha256(ids: Sequence[str], stamps: Sequence[str]) -> str:
    """The identity of the files behind the samples.

    Args:
        ids: sample ids in order.
        stamps: one a sample, what changes when its file does: size and mtime, or a content hash.
    """
    return digest([[name, stamp] for name, stamp in zip(ids, stamps, strict=True)])


def set_digest(
    *,
    encoder: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    compute: Mapping[str, Any],
    store_dtype: str,
    dataset: str,
) -> str:
    """What makes stores one feature set: all of the key but layer, split, samples and views."""
    return digest(
        {
            "encoder": encoder,
            "preprocess": preprocess,
            "compute": compute,
            "store_dtype": store_dtype,
            "dataset": dataset,
        }
    )


def set_digest_of(key: Mapping[str, Any]) -> str:
    """The `set_digest` of the key of an image store."""
    return set_digest(
        encoder=key["encoder"],
        preprocess=key["preprocess"],
        compute=key["compute"],
        store_dtype=key["store"]["dtype"],
        dataset=key["data"]["id"],
    )


def store_name(layer: str, key_digest: str) -> str:
    """The folder name of a store, `image-0123456789ab`."""
    return f"{layer}-{key_digest[:KEY_DIGITS]}"


def encoder_options(model: str | None, pretrained: str | None) -> tuple[str | None, str | None]:
    """Model and weights, where `NAME@WEIGHTS` stands for both."""
    if model is None or pretrained is not None or model.startswith("local-dir:"):
        return model, pretrained
    name, _, weights = model.partition("@")
    return name, weights or None


def can_be_name(name: str) -> bool:
    """Whether the user's own data set may go by this name: commands look it up, disks hold it."""
    fits = re.fullmatch(r"[^\W_][\w .+()-]*", name) is not None
    return fits and name == name.strip() and len(name.encode()) <= 200


def extract_command(
    dataset: str,
    asked: Mapping[str, Any] | None = None,
    *,
    root: str | None = None,
    home: str = "",
) -> str:
    """The command line that computes these features, or imports them.

    Args:
        dataset: the stored id.
        asked: option -> value, those that are None or False are left out.
        root: where the user's own pictures or arrays lie, for ids that are names and not places.
        home: `Home.option`.
    """
    words = ["cacheclip", "extract", "--dataset", dataset]
    family, _, name = dataset.partition("/")
    if family == IMPORTED and name:
        words = ["cacheclip", "import", root or "FILE.npz", "--name", name]
        if asked and asked.get("logit_scale") is not None:
            words += ["--logit-scale", str(asked["logit_scale"])]
        return shlex.join(words) + home
    if root is not None and family in ("folder", "csv"):
        words[-1] = root
        own = Path(root).stem if family == "csv" else Path(root).name
        if own != name:
            words += ["--name", name]
    for option, value in (asked or {}).items():
        if value is not None and value is not False:
            words.append("--" + option.replace("_", "-"))
            words += [] if value is True else [str(value)]
    return shlex.join(words) + home


@dataclass(frozen=True)
class Header:
    """What key.json says: `key` decides, `info` is for people.

    Attributes:
        key: from `image_key` or `text_key`.
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
    again = hdf5.repair(file, f"cacheclip extract --dataset {dataset_of(folder)}{home}")
    try:
        content = read_json(file, fix=again)
    except FileNotFoundError:
        raise StoreError("there is no store here", where=str(folder), fix="cacheclip ls") from None
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
            fix=f"use the version that wrote it, or: {again}",
        )
    if not whole:
        raise DamagedError(
            "the key does not have the digest it was written with", where=str(file), fix=again
        )
    return header


def dataset_of(folder: Path) -> str:
    """The id of the data set that a store's folder lies under."""
    parts = folder.absolute().parent.parent.parts
    first = max((k for k, part in enumerate(parts) if part == "stores"), default=len(parts) - 2)
    return shlex.quote("/".join(parts[first + 1 :]))


def _info(content: dict[str, Any], home: str) -> tuple[dict[str, Any], str, bool]:
    """What key.json says to people, as far as it can be said, and whether it was written so."""
    info = {name: value for name, value in content.items() if name != SEAL}
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
    if layer == TEXT:
        numbers = [key["text"]["classes"], key["text"]["prompts"]]
        texts = [key["text"][name] for name in ("template", "classnames_sha256", "prompts_sha256")]
    else:
        numbers = [key["data"]["samples"]]
        texts = [key["data"][name] for name in ("id", "split", "samples_sha256")]
    return (
        layer in (*LAYERS, TEXT)
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


def made_anew(error: StoreError, command: str) -> StoreError:
    """The error of a key that cannot be read, with the command line that makes the store anew."""
    if isinstance(error, NoKeyError):
        return NoKeyError(Path(error.where).parent, command)
    if not isinstance(error, DamagedError):
        return error
    first = error.fix.partition(" && ")[0]
    return DamagedError(error.what, where=error.where, fix=f"{first} && {command}")
