"""The settings of the recipe: one file, read by every step."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

CONFIG = Path(__file__).parent / "config.json"
TEXT_LOSSES = ("softmax", "sigmoid")


@dataclass(frozen=True)
class Crops:
    """How one kind of crop is drawn.

    Attributes:
        count: Crops of each picture.
        side: Pixels on a side.
        area: Smallest and largest share of the picture's area.
    """

    count: int
    side: int
    area: tuple[float, float]


@dataclass(frozen=True)
class Config:
    """Settings of data, training and scenes.

    Attributes:
        seed: Of the choice of pictures, crops, weights and batches.
        pictures: How many of nano's training pictures take part.
        cut: Blocks of the trunk that stay as ImageNet left them; what they give is kept.
        global_crops: What the text loss and the teacher see.
        local_crops: What the student distils from.
        text_loss: `softmax`, or `sigmoid` for the paper's SILC-S.
        epochs: Passes over the pictures.
        batch: Pictures a step.
        warm_up: Steps of rising rate.
        trunk_rate: Highest learning rate of the trunk's top and of the projector.
        projection_rate: Highest learning rate of the projection and the temperature.
        teacher_momentum: Share of itself that the teacher keeps in a step, the same in all.
        centre_momentum: The same of the centre.
        student_temperature: Of the student's prototypes.
        teacher_temperature: Of the teacher's, lower: a sharper target.
        prototypes: Width of the projector's output.
        scenes: Composed pictures of a seed.
        scene_seeds: How many seeds of scenes.
    """

    seed: int
    pictures: int
    cut: int
    global_crops: Crops
    local_crops: Crops
    text_loss: str
    epochs: int
    batch: int
    warm_up: int
    trunk_rate: float
    projection_rate: float
    teacher_momentum: float
    centre_momentum: float
    student_temperature: float
    teacher_temperature: float
    prototypes: int
    scenes: int
    scene_seeds: int


def read_config(path: Path = CONFIG) -> Config:
    """Gives the settings of a file."""
    fields = json.loads(path.read_text())
    for name in ("global_crops", "local_crops"):
        fields[name] = Crops(**fields[name])
    if fields["text_loss"] not in TEXT_LOSSES:
        raise SystemExit(f"text_loss in {path} must be {' or '.join(TEXT_LOSSES)}")
    return Config(**fields)
