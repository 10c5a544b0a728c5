"""Few-shot adaptation of CLIP on cached features: pay for the frozen encoders once.

    from cacheclip import ExtractRequest, Home, Request, extract, fit

    home = Home.resolve()
    extract(ExtractRequest(dataset="clipart"), home)
    fitted = fit(Request(methods=("clip-adapter",), shots=(16,)), home.find("clipart"), home)

Nothing is loaded before it is asked for: importing cacheclip costs no torch.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cacheclip.answers import predictions
    from cacheclip.bundle import Bundle
    from cacheclip.errors import CacheclipError
    from cacheclip.exchange.import_npz import import_npz
    from cacheclip.extract.plan import ExtractRequest
    from cacheclip.extract.run import run as extract
    from cacheclip.predict.pictures import open_encoder, predict
    from cacheclip.store.home import Home
    from cacheclip.study.compare import Comparison, Request
    from cacheclip.study.fit import fit

_WHERE = {
    "Bundle": "bundle",
    "CacheclipError": "errors",
    "Comparison": "study.compare",
    "ExtractRequest": "extract.plan",
    "Home": "store.home",
    "Request": "study.compare",
    "extract": "extract.run:run",
    "fit": "study.fit",
    "import_npz": "exchange.import_npz",
    "open_encoder": "predict.pictures",
    "predict": "predict.pictures",
    "predictions": "answers",
}
__all__ = [
    "Bundle",
    "CacheclipError",
    "Comparison",
    "ExtractRequest",
    "Home",
    "Request",
    "__version__",
    "extract",
    "fit",
    "import_npz",
    "open_encoder",
    "predict",
    "predictions",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'cacheclip' has no attribute {name!r}")
    module, _, renamed = _WHERE[name].partition(":")
    return getattr(importlib.import_module(f"cacheclip.{module}"), renamed or name)
