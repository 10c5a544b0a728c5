"""Any open_clip model as an encoder: found, checked, fetched, loaded. Only this file imports it.

open_clip warns, or says nothing, where the house refuses: a wrong activation, weights that could
not be fetched, a checkpoint without preprocessing. Each of these costs accuracy without a word.
"""

import contextlib
import importlib.util
import json
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cacheclip.encoders import hub, shapes
from cacheclip.encoders.base import LOCAL_DIR, EncoderSpec
from cacheclip.encoders.catalogue import Catalogue, first_line
from cacheclip.encoders.device import chosen, move
from cacheclip.errors import InputError, MachineError, UsageError
from cacheclip.files import regular

if TYPE_CHECKING:
    from cacheclip.encoders.towers import OpenClipEncoder

HF_HUB = "hf-hub:"
CONFIG_FILE = "open_clip_config.json"  # beside the weights, on the hub and in a saved folder
FOLDER_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# What open_clip raises on weights of another model; it asserts widths, and promises no list.
MISFITS = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
WEIGHT_SUFFIXES = (".bin", ".pt", ".pth", ".safetensors")
SCALARS = {"logit_scale": math.exp, "logit_bias": float}  # checkpoints hold the scale's logarithm


@dataclass(frozen=True)
class Source:
    """All that decides a model before it is built.

    Attributes:
        model: the name that people use.
        registered: the name of its config in open_clip's registry, which also finds the tokenizer.
        pretrained: what the weights are called: a tag, a revision or a file's name.
        checkpoint: the file of the weights.
        preprocess: how pictures are prepared; the size is the model's.
        trusted: a TorchScript archive of known content, which torch must unpickle in full.
        tokenizer: arguments for the tokenizer beyond those in the config.
    """

    model: str
    registered: str
    pretrained: str
    checkpoint: Path
    preprocess: Mapping[str, object]
    trusted: bool = False
    tokenizer: Mapping[str, object] = field(default_factory=dict)


def load(spec: EncoderSpec, *, fetch: bool = True) -> "OpenClipEncoder":
    """Load a model by name and tag or checkpoint file, by `hf-hub:` name or `local-dir:` path.

    Args:
        spec: what is asked for.
        fetch: whether a model of the hub that is not here may be fetched.

    Raises:
        UsageError: model, tag or device unknown, or the activation is another.
        InputError: the file is unreadable or of another model.
        MachineError: the weights are not here and cannot be fetched, or a package is missing.
    """
    from_file = spec.pretrained is not None and Path(spec.pretrained).is_file()
    if spec.pretrained is not None and not from_file:
        _refuse_missing_file(spec.pretrained)
    probe = hub.Probe()
    asked_for = fetch or not spec.model.startswith(HF_HUB)
    if not from_file and asked_for and not spec.model.startswith(LOCAL_DIR):
        probe.start()  # it looks while open_clip is imported
    open_clip = _import()
    if spec.model.startswith(LOCAL_DIR):
        return build(_from_folder(spec), spec)
    if spec.model.startswith(HF_HUB):
        return build(_from_hub(open_clip, spec, probe, fetch=fetch), spec)
    catalogue = Catalogue(open_clip)
    text_from_hub = _text_from_hub(spec.model, catalogue.config(spec.model))
    if from_file:
        source = _from_file(catalogue, spec)
        if text_from_hub and not probe.online():
            hub.force_offline()
    else:
        source = _from_tag(open_clip, catalogue, spec, probe)
    return build(source, spec)


def register(name: str, config: Mapping[str, object]) -> None:
    """Make a model config known to open_clip's factory under `name`."""
    open_clip = _import()
    with tempfile.TemporaryDirectory() as folder:  # the factory takes files only; it reads at once
        path = Path(folder) / f"{name}.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        open_clip.add_model_config(path)


def build(source: Source, spec: EncoderSpec) -> "OpenClipEncoder":
    """Build the model of `source` on the device and in the precision that `spec` asks for.

    Raises:
        UsageError: there is no such device.
        InputError: the checkpoint cannot be read or is of another model.
        MachineError: there is no GPU or no room on it, or the tokenizer cannot be fetched.
    """
    import torch

    device = chosen(spec.device)
    if spec.precision is not None or not device.startswith("cuda"):
        return _build(source, device, spec.precision or "fp32")
    encoder = _build(source, device, "fp16")
    noise = torch.rand(
        2, 3, *encoder.preprocess["size"], generator=torch.Generator().manual_seed(0)
    )
    features = encoder.encode_images(2 * noise - 1)["image"]
    return encoder if np.isfinite(features).all() else _build(source, device, "bf16")


def _build(source: Source, device: str, precision: str) -> "OpenClipEncoder":
    open_clip = _import()
    from open_clip.factory import load_state_dict
    from open_clip.transform import PreprocessCfg, image_transform_v2

    from cacheclip.encoders import weights
    from cacheclip.encoders.towers import OpenClipEncoder

    with _quiet():
        tensors = weights.read_tensors(
            source.checkpoint,
            lambda: load_state_dict(str(source.checkpoint), weights_only=not source.trusted),
        )
        digest = weights.weights_sha256(tensors)
        # From the checkpoint: a tower in half precision has rounded its own.
        scalars = {name: float(tensors[name]) for name in SCALARS if name in tensors}
        sizes = shapes.facts_of_weights({name: x.shape for name, x in tensors.items()})
        del tensors  # the factory reads its own
        model = _create(open_clip, source, precision, sizes)
        tokenizer = _tokenizer(open_clip, source)
    move(model, device, source.model)
    config = open_clip.get_model_config(source.registered)
    prepared = open_clip.get_model_preprocess_cfg(model)
    size = prepared["size"]

    def scalar(name: str) -> float | None:
        value = scalars.get(name, getattr(model, name))
        return None if value is None else round(SCALARS[name](float(value)), 4)

    return OpenClipEncoder(
        model,
        transform=image_transform_v2(PreprocessCfg(**prepared), is_train=False),
        tokenizer=tokenizer,
        identity={
            "library": "open_clip",
            "name": source.model,
            "pretrained": source.pretrained,
            "weights_sha256": digest,
            "quickgelu": bool(config.get("quick_gelu", False)),
            "embed_dim": int(config["embed_dim"]),
            "logit_scale": scalar("logit_scale"),
            "logit_bias": scalar("logit_bias"),
        },
        preprocess={
            **prepared,
            "size": [size, size] if isinstance(size, int) else list(size),
            "mean": list(prepared["mean"]),
            "std": list(prepared["std"]),
            "antialias": True,
            "exif": False,
        },
        precision=precision,
        device=device,
        weights_file=source.checkpoint,
    )


def _create(open_clip: Any, source: Source, precision: str, sizes: shapes.Facts) -> Any:
    """The model on the CPU, so that whatever fails here fails because of the weights."""
    named = (source.registered, str(source.checkpoint))
    how = {
        "precision": precision,
        "force_preprocess_cfg": {**source.preprocess, "size": None},
        "weights_only": not source.trusted,
    }
    try:
        return open_clip.create_model(*named, **how)
    except MISFITS as error:
        catalogue = Catalogue(open_clip)
        raise catalogue.misfit(
            source.model, source.registered, source.checkpoint, sizes, error
        ) from error


def _from_tag(open_clip: Any, catalogue: Catalogue, spec: EncoderSpec, probe: hub.Probe) -> Source:
    refuse_preprocess_from(spec)
    tag = str(spec.pretrained)
    config = catalogue.tag_config(spec.model, spec.pretrained)
    place = config.get("hf_hub") or config.get("url")
    checkpoint = catalogue.cached_weights(config)
    fix = f"name a checkpoint file: --model {spec.model} --pretrained FILE --preprocess-from {tag}"
    if not probe.online():
        hub.force_offline()
        if checkpoint is None:
            raise hub.NoWeightsError(
                f"the weights {tag} of {spec.model} are not on this machine, and "
                f"{hub.endpoint()} cannot be reached",
                where=f"local cache of the hub, {place}",
                fix=f"run the same command once with a network, or {fix}",
            )
    if checkpoint is None:
        try:
            with _quiet():
                checkpoint = Path(open_clip.download_pretrained(config))
        except (OSError, RuntimeError) as error:
            raise hub.NoWeightsError(
                f"the weights {tag} of {spec.model} could not be fetched: {first_line(error)}",
                where=f"{hub.endpoint()}, {place}",
                fix=f"run the same command again, or {fix}",
            ) from error
    return Source(spec.model, spec.model, tag, checkpoint, config)


def _from_hub(open_clip: Any, spec: EncoderSpec, probe: hub.Probe, *, fetch: bool) -> Source:
    refuse_preprocess_from(spec)
    download = open_clip.pretrained.download_pretrained_from_hf
    name = spec.model.removeprefix(HF_HUB)
    online = fetch and probe.online()
    if not online:
        hub.force_offline()
    try:
        with _quiet():
            described = Path(download(name, filename=CONFIG_FILE))
            checkpoint = Path(download(name))
    except FileNotFoundError as error:
        if not fetch:
            raise hub.NoWeightsError(
                f"{spec.model} is not on this machine, and nobody here asked to fetch it",
                where=f"{hub.endpoint()}/{name}: {CONFIG_FILE} and the weights beside it",
                fix=f"if you trust {name}, run the same command again with --fetch",
            ) from error
        why = first_line(error) if online else f"{hub.endpoint()} cannot be reached"
        raise hub.NoWeightsError(
            f"{spec.model} is not on this machine and could not be fetched: {why}",
            where=f"local cache of the hub, {name}",
            fix="check the name (hf-hub:ORG/NAME) and the network, then run the same command again",
        ) from error
    revision = described.parent.name  # the cache has one folder for each revision
    return _described(spec.model, described, revision, checkpoint)


def _from_folder(spec: EncoderSpec) -> Source:
    refuse_preprocess_from(spec)
    folder = regular.expanded(spec.model.removeprefix(LOCAL_DIR)).resolve()
    found = [folder / name for name in FOLDER_WEIGHTS if (folder / name).is_file()]
    if not found or not (folder / CONFIG_FILE).is_file():
        raise MachineError(
            "the folder is no saved open_clip model",
            where=str(folder),
            fix=f"it needs {CONFIG_FILE} and {' or '.join(FOLDER_WEIGHTS)}",
        )
    # The path is no part of a model's identity: the folder's name is, beside the weights' digest.
    return _described(LOCAL_DIR + folder.name, folder / CONFIG_FILE, found[0].name, found[0])


def _described(model: str, described: Path, pretrained: str, checkpoint: Path) -> Source:
    """A model whose config and preprocessing lie in a file beside its weights."""
    try:
        content = regular.parsed(regular.read_text(described))
        config, preprocess = content["model_cfg"], content.get("preprocess_cfg", {})
        _text_from_hub(model, config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "the file describes no open_clip model (model_cfg with text_cfg and vision_cfg)",
            where=str(described),
            fix="save the model again with open_clip's push_to_hf_hub or save_for_hf",
        ) from error
    registered = model.replace(":", "-").replace("/", "-")
    register(registered, config)
    return Source(model, registered, pretrained, checkpoint, preprocess)


def _from_file(catalogue: Catalogue, spec: EncoderSpec) -> Source:
    path = Path(str(spec.pretrained))
    known = catalogue.known_file(path)
    if known is None:
        preprocess = catalogue.described_preprocess(spec.model, spec.preprocess_from, path)
        return Source(spec.model, spec.model, path.name, path, preprocess)
    tag, config = known
    catalogue.check_activation(spec.model, tag, config)
    return Source(
        spec.model, spec.model, tag, path, config, trusted="openaipublic" in config["url"]
    )


def _tokenizer(open_clip: Any, source: Source) -> Any:
    try:
        return open_clip.get_tokenizer(source.registered, **source.tokenizer)
    except OSError as error:
        raise hub.NoWeightsError(
            f"the tokenizer of {source.model} is not on this machine and could not be fetched",
            where=f"{hub.endpoint()} and its local cache",
            fix="run the same command once with a network",
        ) from error


def _text_from_hub(model: str, config: Mapping[str, Any]) -> bool:
    """Whether the texts go through the hub's package, which must then be installed."""
    text = config["text_cfg"]
    named = text.get("hf_model_name") or text.get("hf_tokenizer_name")
    needed = bool(named) or "siglip" in model.lower()
    if needed and importlib.util.find_spec("transformers") is None:
        raise MachineError(
            f"{model} reads texts with the package transformers, which is not installed",
            where="this Python environment",
            fix="pip install transformers sentencepiece",
        )
    return needed


def _refuse_missing_file(pretrained: str) -> None:
    if pretrained.endswith(WEIGHT_SUFFIXES) or Path(pretrained).is_absolute():
        raise MachineError(
            "there is no such checkpoint file",
            where=f"--pretrained {pretrained}",
            fix="check the path; a relative one starts at the current folder",
        )


def refuse_preprocess_from(spec: EncoderSpec) -> None:
    """Raise a UsageError if preprocessing is named for weights that bring their own."""
    if spec.preprocess_from is not None:
        raise UsageError(
            "--preprocess-from is for checkpoint files; nano, tags and hub models bring their own",
            where=f"--preprocess-from {spec.preprocess_from}",
            fix="leave --preprocess-from out",
        )


def _import() -> Any:
    with _quiet():
        import open_clip
    return open_clip


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep open_clip's warnings and its use of the root logger off our stderr."""
    root, handler = logging.getLogger(), logging.NullHandler()
    before = root.manager.disable
    root.addHandler(handler)  # without one, its first message would install a handler of its own
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        root.removeHandler(handler)
