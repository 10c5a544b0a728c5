"""Keys: all that decides what is in a store, as plain readable data, and nothing else.

No path, date, device, version or batch size is part of a key, and no label: the pictures decide.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cacheclip.files.disk import canonical_json, digest, sha256_lines
from cacheclip.store.schema import IMPORTED, LAYERS, PARTS, REGIONS, STORE_DTYPES, TEXT

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


def parts_key(
    kind: str,
    *,
    encoder: Mapping[str, Any],
    compute: Mapping[str, Any],
    names: Sequence[str],
    classnames: Sequence[str] | None = None,
    spoken: Sequence[str] = (),
) -> Key:
    """The key of some frozen parts of an encoder.

    Args:
        kind: one of `PARTS`.
        encoder: as in `image_key`.
        compute: as in `image_key`.
        names: of the arrays.
        classnames: C names, where the parts are made of these.
        spoken: C names as they stand in a prompt.
    """
    if kind not in PARTS:
        raise ValueError(f"no such parts: {kind}")
    key = {
        "layer": kind,
        "encoder": dict(encoder),
        "compute": dict(compute),
        "store": {"dtype": "float32", "normalized": False},
        "parts": sorted(names),
    }
    if classnames is not None:
        key["text"] = {
            "classes": len(classnames),
            "classnames_sha256": digest(list(classnames)),
            "spoken_sha256": digest(list(spoken)),
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
    if root is not None and family in ("folder", "csv", REGIONS):
        words[-1] = root
        own = Path(root).stem if family == "csv" else Path(root).name
        if own != name:
            words += ["--name", name]
    for option, value in (asked or {}).items():
        if value is not None and value is not False:
            words.append("--" + option.replace("_", "-"))
            words += [] if value is True else [str(value)]
    return shlex.join(words) + home
