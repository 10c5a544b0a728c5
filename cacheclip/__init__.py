"""Few-shot adaptation of CLIP on cached features: pay for the frozen encoders once.

    import cacheclip

    data = cacheclip.load("clipart")        # or Features.of(X, y, split=split, text=T, ...)
    head = cacheclip.fit("tip-adapter", data, shots=16, seed=1, alpha=[0.5, 1, 2])
    head.predict(X)
    head.save("pictures.safetensors")
    table = cacheclip.compare(["tip-adapter", "clip-adapter"], data, shots=[1, 4, 16], seeds=3)

Nothing is loaded before it is asked for: importing cacheclip costs no torch.
"""

import importlib
from typing import TYPE_CHECKING

from cacheclip.version import __version__

if TYPE_CHECKING:
    from cacheclip.answers import predictions
    from cacheclip.api.estimator import FewShotClassifier
    from cacheclip.api.head import Head
    from cacheclip.api.table import Table
    from cacheclip.api.verbs import compare, fit
    from cacheclip.bundle import Bundle
    from cacheclip.errors import CacheclipError
    from cacheclip.exchange.import_npz import import_npz
    from cacheclip.extraction.plan import ExtractRequest
    from cacheclip.extraction.run import run as extract
    from cacheclip.features import Features, load
    from cacheclip.inference.pictures import open_encoder, predict
    from cacheclip.store.home import Home

_WHERE = {
    "Bundle": "bundle",
    "CacheclipError": "errors",
    "ExtractRequest": "extraction.plan",
    "Features": "features",
    "FewShotClassifier": "api.estimator",
    "Head": "api.head",
    "Home": "store.home",
    "Table": "api.table",
    "compare": "api.verbs",
    "extract": "extraction.run:run",
    "fit": "api.verbs",
    "import_npz": "exchange.import_npz",
    "load": "features",
    "open_encoder": "inference.pictures",
    "predict": "inference.pictures",
    "predictions": "answers",
}
__all__ = [
    "Bundle",
    "CacheclipError",
    "ExtractRequest",
    "Features",
    "FewShotClassifier",
    "Head",
    "Home",
    "Table",
    "__version__",
    "compare",
    "extract",
    "fit",
    "import_npz",
    "load",
    "open_encoder",
    "predict",
    "predictions",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'cacheclip' has no attribute {name!r}")
    module, _, renamed = _WHERE[name].partition(":")
    return getattr(importlib.import_module(f"cacheclip.{module}"), renamed or name)
