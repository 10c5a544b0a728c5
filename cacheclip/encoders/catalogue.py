"""What open_clip knows about models, tags and published files, and where it would only warn.

The module itself is handed in: only `open_clip_.py` imports it.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cacheclip.encoders import shapes
from cacheclip.encoders.base import NANO
from cacheclip.errors import InputError, UsageError, near, some
from cacheclip.files import regular
from cacheclip.files.disk import sha256_file

QUICKGELU = "-quickgelu"
ALL_MODELS = "python -c 'import open_clip; print(*open_clip.list_models())'"
PREPROCESS_FIELDS = ("mean", "std", "interpolation", "resize_mode", "fill_color")


class Catalogue:
    """Questions to open_clip's tables; a wrong one is a UsageError that names a right one."""

    def __init__(self, open_clip: Any) -> None:
        self._open_clip = open_clip

    def config(self, model: str) -> Mapping[str, Any]:
        """The model's own config."""
        config: Mapping[str, Any] | None = self._open_clip.get_model_config(model)
        if config is None:
            names = [name for name in self._open_clip.list_models() if self.fitting_tags(name)]
            names.append(NANO)
            raise UsageError(
                f"open_clip knows no model {model!r}",
                where="--model",
                fix=f"use --model {some(near(model, names) or names)}; "
                f"hub models are written hf-hub:ORG/NAME; all of open_clip: {ALL_MODELS}",
            )
        return config

    def tags(self, model: str) -> Sequence[str]:
        """The tags of the model's published weights."""
        tags: Sequence[str] = self._open_clip.list_pretrained_tags_by_model(model)
        return tags

    def fitting_tags(self, model: str) -> Sequence[str]:
        """Those of its tags whose weights were trained with the activation that it computes."""
        return [
            tag
            for tag in self.tags(model)
            if self._fits(model, self._open_clip.get_pretrained_cfg(model, tag))
        ]

    def tag_config(self, model: str, tag: str | None) -> Mapping[str, Any]:
        """What is known about a tag's weights: where they are, preprocessing, activation."""
        tags = self.tags(model)
        if tag is None:
            raise UsageError(
                f"{model} alone does not say which weights",
                where=f"--model {model}",
                fix=self._weights_to_name(model),
            )
        if tag not in tags and tag in self.tags(_twin(model)):
            raise _wrong_activation(model, tag)
        if tag not in tags:
            raise UsageError(
                f"{tag!r} is neither a tag of {model} nor a file",
                where="--pretrained",
                fix=self._weights_to_name(model, like=tag),
            )
        config: Mapping[str, Any] = self._open_clip.get_pretrained_cfg(model, tag)
        self.check_activation(model, tag, config)
        return config

    def check_activation(self, model: str, tag: str, config: Mapping[str, Any]) -> None:
        """Refuse weights trained with the activation that the model does not compute."""
        if not self._fits(model, config):
            raise _wrong_activation(model, tag)

    def _fits(self, model: str, config: Mapping[str, Any]) -> bool:
        trained = bool(config.get("quick_gelu", False))
        computed = bool(self.config(model).get("quick_gelu", False))
        # One model of the catalogue disagrees with its own tag and has no twin to turn to.
        return trained == computed or _twin(model) not in self._open_clip.list_models()

    def _weights_to_name(self, model: str, like: str = "") -> str:
        """Options that load, for this model or else for its twin; those like a wrong tag first."""
        by_model = {name: self.fitting_tags(name) for name in (model, _twin(model))}
        close = {name: near(like, tags) for name, tags in by_model.items()} if like else {}
        for choices in (close, by_model):
            for name, tags in choices.items():
                if tags:
                    return f"use --model {name} --pretrained TAG ({some(tags)}) or FILE"
        return f"use --pretrained FILE; open_clip has no weights for {model}"

    def known_file(self, path: Path) -> tuple[str, Mapping[str, Any]] | None:
        """Find the tag whose published file has the digest of this one, and the tag's config."""
        digest = sha256_file(path)
        for model, tag in self._open_clip.list_pretrained():
            config = self._open_clip.get_pretrained_cfg(model, tag)
            url = config.get("url", "")
            # OpenAI's addresses hold the whole digest, open_clip's file names its first 8 digits.
            whole = url.split("/")[-2] if "openaipublic" in url else ""
            start = Path(url).stem.split("-")[-1] if "mlfoundations" in url else ""
            if digest == whole or (len(start) == 8 and digest.startswith(start)):
                return tag, config
        return None

    def described_preprocess(
        self, model: str, told: str | Mapping[str, object] | None, file: Path
    ) -> dict[str, object]:
        """Read what `--preprocess-from` says about the pictures of a checkpoint file."""
        if isinstance(told, Mapping):
            return {name: told[name] for name in PREPROCESS_FIELDS if name in told}
        tags = {tag: name for name in (_twin(model), model) for tag in self.tags(name)}
        if told is None:
            raise InputError(
                "a checkpoint file does not say how its pictures were prepared",
                where=str(file),
                fix=f"add --preprocess-from TAG ({some(list(tags))}) or --preprocess-from "
                "FILE.json (mean, std, interpolation, resize_mode)",
            )
        if told in tags:
            config = self._open_clip.get_pretrained_cfg(tags[told], told)
            return {name: config[name] for name in PREPROCESS_FIELDS if name in config}
        if Path(told).is_file():
            return _read_preprocess(Path(told))
        raise UsageError(
            f"{told!r} is neither a tag of {model} nor a file",
            where="--preprocess-from",
            fix=f"use one of its tags ({some(list(tags))}) or a JSON file with mean and std",
        )

    def misfit(
        self, model: str, registered: str, file: Path, sizes: shapes.Facts, error: Exception
    ) -> InputError:
        """The error of weights that are another model's, with the models that they may be of."""
        own = shapes.facts_of_config(self._open_clip.get_model_config(registered))
        differ = shapes.differences(sizes, own)
        names = [name for name in self._open_clip.list_models() if name != registered]
        fits = shapes.fitting(sizes, {name: self.config(name) for name in names})
        return InputError(
            f"the weights do not fit {model}: {first_line(error)}",
            where=f"{file}{f' ({differ})' if differ else ''}",
            fix=f"use --model {' or '.join(fits)}: the sizes of the weights are those"
            if fits and own != sizes
            else "give --model the name of the model that the file was saved from",
        )

    def cached_weights(self, config: Mapping[str, Any]) -> Path | None:
        """Find a tag's weights in the hub's local cache, without asking the hub."""
        from huggingface_hub import try_to_load_from_cache

        constants = self._open_clip.constants
        repository, name = os.path.split(config.get("hf_hub", ""))
        names = (name,) if name else (constants.HF_SAFE_WEIGHTS_NAME, constants.HF_WEIGHTS_NAME)
        found = [try_to_load_from_cache(repository, name) for name in names if repository]
        return next((Path(path) for path in found if isinstance(path, str)), None)


def first_line(error: BaseException) -> str:
    """The first line of an error of others that says something, at most 300 characters of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.endswith(":")] or lines
    return (telling[0] if telling else type(error).__name__)[:300]


def _twin(model: str) -> str:
    """The name of the same architecture with the other activation."""
    return model.removesuffix(QUICKGELU) if model.endswith(QUICKGELU) else model + QUICKGELU


def _wrong_activation(model: str, tag: str) -> UsageError:
    quick, plain = "QuickGELU", "GELU"
    computes, trained = (quick, plain) if model.endswith(QUICKGELU) else (plain, quick)
    return UsageError(
        f"the weights {tag} were trained with {trained}, but {model} computes {computes}",
        where=f"--model {model} --pretrained {tag}",
        fix=f"use --model {_twin(model)}",
    )


def _read_preprocess(path: Path) -> dict[str, object]:
    try:
        content = regular.parsed(regular.read_text(path))
        config = content.get("preprocess_cfg", content)
        return {
            "mean": config["mean"],
            "std": config["std"],
            **{name: config[name] for name in PREPROCESS_FIELDS if name in config},
        }
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise InputError(
            "the file does not describe preprocessing: it must be a JSON object with mean and std",
            where=f"--preprocess-from {path}",
            fix=f"give mean and std; known fields: {', '.join(PREPROCESS_FIELDS)}",
        ) from error
