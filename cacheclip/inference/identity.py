"""Whether an encoder, or what it left in the cache, is the one that a bundle names."""

from collections.abc import Mapping
from typing import Any

from cacheclip.bundle import Bundle
from cacheclip.errors import StoreError

READ = ("exif", "white_level")  # of the preprocess block: how files are read, the bundle's to say


def refuse_other(
    bundle: Bundle, encoder: Mapping[str, Any], preprocess: Mapping[str, Any], *, fix: str
) -> None:
    """Refuse an encoder that did not make the bundle's features.

    Args:
        bundle: names weights and preprocessing.
        encoder: the identity of the one at hand.
        preprocess: how that prepares pictures.
        fix: what to do about another one.

    Raises:
        StoreError: it is another one.
    """
    wanted = bundle.encoder
    differing = [
        f"{name} {wanted[name]!s:.20} != {encoder[name]!s:.20}"
        for name in ("weights_sha256", "quickgelu")
        if encoder[name] != wanted[name]
    ]
    if _prepared(preprocess) != _prepared(bundle.preprocess):
        differing.append("preprocessing")
    if differing:
        raise other_encoder(bundle, "; ".join(differing), fix=fix)


def other_encoder(bundle: Bundle, difference: str, *, fix: str) -> StoreError:
    """The error of an encoder that differs from the bundle's."""
    wanted = bundle.encoder
    return StoreError(
        "this encoder did not make the features that the bundle was fitted on",
        where=f"the bundle has {wanted['name']}@{wanted['pretrained']}; {difference}",
        fix=fix,
    )


def _prepared(preprocess: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in preprocess.items() if name not in READ}
