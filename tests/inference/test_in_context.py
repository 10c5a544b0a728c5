"""InCPL through a small vision transformer of random weights, against its rounds written out."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy

from cacheclip.bundle import Bundle
from cacheclip.datasets.images import using_rgb
from cacheclip.encoders.base import Encoder, EncoderSpec, load
from cacheclip.errors import InputError, UsageError
from cacheclip.heads.prompts import class_features
from cacheclip.heads.text_transformer import TextTransformer
from cacheclip.inference.in_context import InContext
from cacheclip.task import unit
from tests.encoders.conftest import TOWERS
from tests.makers import cacheclip, save_tower

NAMES = ["cat", "dog", "tea pot"]
LR, SUPERVISED, SCALE = 0.02, 2.0, 20.0
MODEL = "test-vit"


def paint(file: Path, seed: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(levels).save(file)
    return file


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tower, a context of two pictures a class, and two pictures to be asked about."""
    root = tmp_path_factory.mktemp("context")
    save_tower(MODEL, TOWERS[MODEL], root / "tower.pt", seed=1)
    (root / "preprocess.json").write_text(json.dumps({"mean": [0.5] * 3, "std": [0.25] * 3}))
    for c, name in enumerate(NAMES):
        for k in range(2):
            paint(root / "context" / name / f"{k}.png", 10 * c + k)
    for k in range(2):
        paint(root / "new" / f"{k}.png", 100 + k)
    return root


@pytest.fixture(scope="module")
def encoder(root: Path) -> Encoder:
    weights, prepared = str(root / "tower.pt"), str(root / "preprocess.json")
    return load(EncoderSpec(MODEL, weights, prepared, device="cpu"))


def made(encoder: Encoder, rounds: int = 1, method: str = "incpl-like") -> Bundle:
    """What a fit would leave."""
    tower, tokens = encoder.text_tower(), encoder.class_tokens(NAMES)
    assert tower is not None
    numbers = {"lr": LR, "lr_offset": 0.0, "supervised": SUPERVISED, "logit_scale": SCALE}
    examples = np.eye(3, encoder.identity["embed_dim"], dtype=np.float32)
    return Bundle(
        method=method,
        method_version=1,
        static={"rounds": rounds},
        hparams={},
        layers=["image"],
        classnames=NAMES,
        encoder=dict(encoder.identity),
        preprocess=dict(encoder.preprocess),
        provenance={"dataset": "folder/new"},
        head={
            "words": tower["token_embedding.weight"][tower["context"]],
            "tokens": tokens,
            "examples": examples,
            "labels": np.arange(3),
            **{name: np.array(x, np.float32) for name, x in numbers.items()},
        },
    )


def pixels(encoder: Encoder, file: Path) -> Tensor:
    return using_rgb(file, encoder.transform)


def test_it_is_the_rounds_written_out(root: Path, encoder: Encoder) -> None:
    context = InContext(made(encoder, rounds=2), encoder, root / "context")
    files = sorted((root / "context").rglob("*.png"))
    labels = torch.tensor([NAMES.index(file.parent.name) for file in files])
    seen = torch.stack([pixels(encoder, f) for f in [root / "new" / "0.png", *files]])
    tower = TextTransformer.of(
        {name: torch.from_numpy(x) for name, x in (encoder.text_tower() or {}).items()},
        torch.float32,
    )
    tokens = torch.from_numpy(encoder.class_tokens(NAMES))
    net, words = context._net[0].clone(), context._params["words"][0].clone()
    net, words = net.requires_grad_(), words.requires_grad_()

    def scores() -> Tensor:
        features = encoder.encode_prompted(seen, words @ net)
        assert features is not None
        return SCALE * unit(features) @ unit(class_features(tower, tokens, words[None])[0]).T

    steps = [torch.optim.AdamW([x], lr=LR) for x in (net, words)]
    for _ in range(2):
        for adam in steps:
            adam.zero_grad()
            logits = scores()
            p = logits[0].softmax(-1)
            loss = -(p * p.log()).sum() + SUPERVISED * cross_entropy(logits[1:], labels)
            torch.autograd.backward(loss)
            adam.step()
    got = context.logits(seen[0])
    assert (got[0] - scores()[0]).abs().max() < 0.02  # Adam's steps have the sign of what is small
    still = InContext(made(encoder, rounds=0), encoder, root / "context").logits(seen[0])
    assert (got - still).abs().max() > 0.2


def test_without_rounds_it_is_zero_shot_by_its_words(root: Path, encoder: Encoder) -> None:
    context = InContext(made(encoder, rounds=0), encoder, root / "context")
    text = unit(torch.from_numpy(encoder.encode_texts([f"a photo of a {n}." for n in NAMES])[0]))
    x = pixels(encoder, root / "new" / "0.png")
    image = unit(torch.from_numpy(encoder.encode_images(x[None])["image"]))
    torch.testing.assert_close(context.logits(x), SCALE * image @ text.T, rtol=0, atol=1e-3)


def test_a_picture_s_answer_depends_on_no_other_and_on_no_name_of_its_own(
    root: Path, encoder: Encoder, tmp_path: Path
) -> None:
    context = InContext(made(encoder), encoder, root / "context")
    files = [root / "new" / f"{k}.png" for k in range(2)]
    alone = [next(context.predict([file], 3)).top for file in files]
    assert [one.top for one in context.predict(files, 3)] == alone
    again = paint(tmp_path / "dog" / "0.png", 100)  # the same picture in a folder named by a class
    assert next(context.predict([again], 3)).top == alone[0]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    assert next(context.predict([broken], 3)).error


def test_the_command_answers_beside_a_context_and_says_what_it_lacks(
    root: Path, encoder: Encoder
) -> None:
    bundle = root / "b.safetensors"
    made(encoder).write(bundle)
    where = ("--model", MODEL, "--pretrained", root / "tower.pt")
    said = cacheclip(
        "predict", bundle, root / "new", *where, "--context", root / "context", "--json"
    )
    assert said.code == 0, said.err
    top = [one["top"][0]["class"] for one in json.loads(said.out)]
    files = [root / "new" / f"{k}.png" for k in range(2)]
    own = InContext(made(encoder), encoder, root / "context").predict(files, 1)
    assert top == [one.top[0][0] for one in own]
    said = cacheclip("predict", bundle, root / "new", *where, "--context", root / "new")
    assert (said.code, "no picture here lies in a folder" in said.err) == (3, True)
    said = cacheclip("predict", bundle, "--on", "x", "--context", root / "context")
    assert said.code == 2
    with pytest.raises(UsageError, match="a context is for bundles of incpl-like"):
        InContext(replace(made(encoder), method="zero-shot"), encoder, root / "context")


def test_a_tower_that_takes_no_prompts_is_refused(root: Path, encoder: Encoder) -> None:
    class Plain:
        def __getattr__(self, name: str) -> object:
            return getattr(encoder, name)

        def encode_prompted(self, pixels: Tensor, tokens: Tensor) -> None:
            return None

    with pytest.raises(InputError, match="need a vision transformer"):
        InContext(made(encoder), Plain(), root / "context")  # type: ignore[arg-type]
