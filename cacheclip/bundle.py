"""A bundle: all that an adapted classifier is, in one safetensors file without pickle.

The head's tensors, and as JSON in the file's metadata what is needed to use it: class names, the
encoder and its preprocessing by identity, the layers to compute, settings, and provenance. It
names only what the fit read, and holds no date, so the same fit gives the same bytes. A digest of
all of it stands in it too.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cacheclip.errors import UPGRADE, InputError
from cacheclip.files import regular
from cacheclip.files.disk import canonical_json, publishing, seal_agrees, sealed, unsealed
from cacheclip.files.refusals import unreadable
from cacheclip.files.typed import wrong_field

FORMAT = 2
UNSEALED = 1  # the format before bundles had a digest
SUFFIX = ".safetensors"
METADATA = "cacheclip"  # the entry of the file's metadata that makes it a bundle


@dataclass(frozen=True)
class Bundle:
    """An adapted classifier.

    Attributes:
        method: method name.
        method_version: its version at the fit.
        static: its static settings.
        hparams: all effective settings.
        layers: what `predict` must compute of a picture, as the method `reads` it.
        classnames: one a logit, in order.
        encoder: the encoder block of the store's key.
        preprocess: the preprocess block of the store's key.
        provenance: data set, template, shots, seeds, draw id, policy, stores read.
        head: the method's params without the variant axis.
        learned: what the fit found for settings given as `learned`.
        temperature: what divides the logits before the softmax.
        aux: encoder and preprocess block of a second encoder; None where it reads none.
    """

    method: str
    method_version: int
    static: dict[str, float | int | str]
    hparams: dict[str, float | int | str]
    layers: list[str]
    classnames: list[str]
    encoder: dict[str, Any]
    preprocess: dict[str, Any]
    provenance: dict[str, Any]
    head: dict[str, NDArray[Any]]
    learned: dict[str, float] = field(default_factory=dict)
    temperature: Annotated[float, "divides the logits", (1e-30, 1e30)] = 1.0
    aux: dict[str, Any] | None = None

    @property
    def second(self) -> "Bundle | None":
        """The same as if the second encoder were the only one; None where it reads none."""
        return None if self.aux is None else replace(self, **self.aux, aux=None)

    def write(self, path: Path, option: str = "--out") -> None:
        """Publish the bundle at `path`.

        Args:
            path: where it goes.
            option: what names that on the command line, for the message.
        """
        head = {name: x.copy(order="C") for name, x in sorted(self.head.items())}
        about = {k: v for k, v in asdict(self).items() if k != "head"}
        if self.aux is None:
            del about["aux"]  # so that bundles of one encoder have the bytes that they always had
        whole = sealed({**about, "format": FORMAT, "tensors": _sha256(head)})
        with publishing(path, option=option) as temporary:
            temporary.write_bytes(save(head, {METADATA: canonical_json(whole)}))

    @classmethod
    def read(cls, path: Path | str) -> "Bundle":
        """The bundle at `path`.

        Raises:
            InputError: there is none, it is damaged, or it is none of a format that we know.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(
                "there is no such bundle",
                where=str(path),
                fix="`cacheclip fit` leaves one and says where",
            )
        about, head = _contents(path)
        if "format" not in about:
            raise _no_bundle(path)
        agrees, version = seal_agrees(about), about["format"]
        if agrees is False or (agrees is None and version == FORMAT):
            raise _damaged(path, "its digest is not that of what it holds")
        if version not in (UNSEALED, FORMAT):
            raise _of_another_version(path, version)
        if agrees and about.pop("tensors", None) != _sha256(head):
            raise _damaged(path, "its tensors are not those that it was written with")
        about = {name: x for name, x in unsealed(about).items() if name != "format"}
        wrong = wrong_field(cls, about) or _wrong_tensor(head)
        if wrong:
            raise _damaged(path, f"{wrong} is not what a bundle has there")
        try:
            return cls(head=head, **about)
        except TypeError:
            raise _no_bundle(path) from None


def _contents(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What the file says of itself, and its tensors."""
    try:
        regular.opened(path).close()  # safetensors has no number for what the system says
    except OSError as error:
        raise unreadable(error, path) from error
    except ValueError:
        raise _no_bundle(path) from None
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {})[METADATA])
            canonical_json(about)  # it may hold what JSON does not
            head = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError):
        raise _no_bundle(path) from None
    if not isinstance(about, dict):
        raise _no_bundle(path)
    return about, head


def _sha256(head: dict[str, NDArray[Any]]) -> str:
    """SHA-256 over name, type, shape and bytes of each tensor, in name order."""
    total = hashlib.sha256()
    for name, x in sorted(head.items()):
        total.update(f"{name} {x.dtype.str} {list(x.shape)}\n".encode())
        total.update(np.ascontiguousarray(x).data)
    return total.hexdigest()


def _wrong_tensor(head: dict[str, NDArray[Any]]) -> str | None:
    """A tensor that no method of ours has made."""
    for name, x in head.items():
        if x.dtype not in (np.float32, np.float64, np.int64) or not np.isfinite(x).all():
            return f"tensor {name}"
    return None


def _no_bundle(path: Path) -> InputError:
    return InputError(
        "this file is not a cacheclip bundle",
        where=str(path),
        fix="give the file that `cacheclip fit` named",
    )


def _damaged(path: Path, why: str) -> InputError:
    return InputError(
        f"this bundle is damaged: {why}",
        where=str(path),
        fix="copy it again from where it came from, or run `cacheclip fit` again",
    )


def _of_another_version(path: Path, version: Any) -> InputError:
    if type(version) is int and version > FORMAT:
        return InputError(
            "this bundle was written by a newer cacheclip", where=str(path), fix=UPGRADE
        )
    return InputError(
        "this bundle was written by another version of cacheclip",
        where=str(path),
        fix="run `cacheclip fit` again, or use the version that wrote it",
    )


def is_bundle(path: Path) -> bool:
    """Whether a file is a bundle of any version, so that another may take its place."""
    try:
        with safe_open(path, framework="numpy") as file:
            return METADATA in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False
