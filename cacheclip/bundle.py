"""A bundle: all that an adapted classifier is, in one safetensors file without pickle.

The head's tensors, and as JSON in the file's metadata what is needed to use it: class names, the
encoder and its preprocessing by identity, the layers to compute, settings, and provenance. It
names only what the fit read, and holds no date, so the same fit gives the same bytes.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cacheclip.disk import canonical_json, publishing
from cacheclip.errors import InputError

FORMAT = 1
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
        layers: what `predict` must compute of a picture, as the method's `needs` names it.
        classnames: one a logit, in order.
        encoder: the encoder block of the store's key.
        preprocess: the preprocess block of the store's key.
        provenance: data set, template, shots, seeds, draw id, policy, stores read.
        head: the method's params without the variant axis.
        learned: what the fit found for settings given as `learned`.
        temperature: what divides the logits before the softmax.
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
    temperature: float = 1.0

    def write(self, path: Path, option: str = "--out") -> None:
        """Publish the bundle at `path`.

        Args:
            path: where it goes.
            option: what names that on the command line, for the message.
        """
        about = {k: v for k, v in asdict(self).items() if k != "head"} | {"format": FORMAT}
        head = {name: x.copy(order="C") for name, x in sorted(self.head.items())}
        with publishing(path, option=option) as temporary:
            temporary.write_bytes(save(head, {METADATA: canonical_json(about)}))

    @classmethod
    def read(cls, path: Path | str) -> "Bundle":
        """The bundle at `path`.

        Raises:
            InputError: there is none, or the file is not a bundle of this format.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(
                "there is no such bundle",
                where=str(path),
                fix="`cacheclip fit` leaves one and says where",
            )
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads((file.metadata() or {})[METADATA])
                head = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            written = about.pop("format")
            bundle = cls(head=head, **about) if written == FORMAT else None
        except (SafetensorError, KeyError, TypeError, AttributeError, json.JSONDecodeError):
            raise InputError(
                "this file is not a cacheclip bundle",
                where=str(path),
                fix="give the file that `cacheclip fit` named",
            ) from None
        if bundle is None:
            raise InputError(
                "this bundle was written by another version of cacheclip",
                where=str(path),
                fix="run `cacheclip fit` again, or use the version that wrote it",
            )
        return bundle


def is_bundle(path: Path) -> bool:
    """Whether a file is a bundle of any version, so that another may take its place."""
    try:
        with safe_open(path, framework="numpy") as file:
            return METADATA in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False
