"""A feature set in words."""

from typing import Any

from cacheclip.store.features import VIEWS, FeatureSet
from cacheclip.store.schema import PATCHES, SENTENCES


def about(features: FeatureSet) -> dict[str, Any]:
    """A feature set in full: encoder, preprocessing, classes, splits, failed pictures."""
    splits = {
        split: {"rows": store.rows, "failed": store.failed}
        for (split, layer), store in features.images.items()
        if layer == "image"
    }
    failed = [
        {"split": split, "id": ids[failure.row], "code": failure.code, "text": failure.text}
        for (split, layer), store in features.images.items()
        if layer == "image" and store.failed
        for ids in [store.ids()]
        for failure in store.failures()
    ]
    return {
        "dataset": features.dataset,
        "model": features.encoder["name"],
        "pretrained": features.encoder["pretrained"],
        "encoder": dict(features.encoder),
        "preprocess": dict(features.preprocess),
        "compute": dict(features.compute),
        "store_dtype": features.store_dtype,
        "layers": sorted({layer for _, layer in features.images}),
        **_patches(features),
        "views": {f"{split}/{layer}": w for split, layer, w in sorted(features.views)},
        "parts": sorted(name for store in features.parts for name in store.names),
        "template": features.text.template if features.text else None,
        "sentences": _sentences(features),
        "classnames": list(features.labels.classnames),
        "splits": splits,
        "failed": failed,
        "draws": [f"draw_{seed}_{shots}" for seed, shots in sorted(features.given_draws)],
        "stores": {f"{split}/{layer}": str(s.path) for (split, layer), s in features.images.items()}
        | {
            f"{split}/{layer}{VIEWS}-{w}": str(s.path)
            for (split, layer, w), s in features.views.items()
        },
        "extract": features.extract_command,
    }


def _patches(features: FeatureSet) -> dict[str, Any]:
    """What the features of the parts of a picture are, where they are there and it was noted."""
    kept = [s.header.info.get(PATCHES) for (_, at), s in features.images.items() if at == PATCHES]
    return {PATCHES: kept[0]} if kept and kept[0] else {}


def _sentences(features: FeatureSet) -> dict[str, Any] | None:
    """Whose sentences describe the classes, and how many a class has at most."""
    if features.sentences is None:
        return None
    name = features.sentences.template.removeprefix(SENTENCES)
    return {"from": name, "a class": features.sentences.load().shape[1]}
