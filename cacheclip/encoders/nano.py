"""The embedded encoder: a small CLIP that travels in the package, built by open_clip's factory."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from cacheclip.encoders import open_clip_
from cacheclip.encoders.base import NANO, EncoderSpec
from cacheclip.errors import UsageError

if TYPE_CHECKING:
    from cacheclip.encoders.towers import OpenClipEncoder

VERSION = "v1"
FOLDER = Path(__file__).parents[1] / "assets" / "nano"
REGISTERED = "cacheclip-nano"


def load(spec: EncoderSpec, *, fetch: bool = True) -> "OpenClipEncoder":
    """Load nano; `pretrained` is its version and may be left out.

    Args:
        spec: what is asked for.
        fetch: as for every encoder; this one is here.

    Raises:
        UsageError: the version is not the one that this release ships, or preprocessing is named.
    """
    open_clip_.refuse_preprocess_from(spec)
    if spec.pretrained not in (None, VERSION):
        raise UsageError(
            f"this release ships one nano, {VERSION}",
            where=f"--model {NANO} --pretrained {spec.pretrained}",
            fix=f"use --model {NANO} alone",
        )
    config = json.loads((FOLDER / "nano.json").read_text(encoding="utf-8"))
    open_clip_.register(REGISTERED, config["model_cfg"])
    source = open_clip_.Source(
        model=NANO,
        registered=REGISTERED,
        pretrained=VERSION,
        checkpoint=FOLDER / f"nano-{VERSION}.safetensors",
        preprocess=config["preprocess_cfg"],
        tokenizer={"bpe_path": str(FOLDER / "bpe_4096.txt.gz")},
    )
    return open_clip_.build(source, spec)
