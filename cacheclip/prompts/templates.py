"""Prompt families: the templates that are averaged, under the name that keys and rows carry.

A data set names its family. The eleven single templates are those that CoOp and Tip-Adapter share;
`imagenet7` are the seven that OpenAI's notebook selects and Tip-Adapter uses.
"""

from types import MappingProxyType

PLACEHOLDER = "{}"

_PHOTO = ("a photo of a {}.",)

FAMILIES = MappingProxyType(
    {
        "photo": _PHOTO,
        "picture": (
            "a picture of a {}.",
            "a drawing of a {}.",
            "clip art of a {}.",
            "an icon of a {}.",
            "a photo of a {}.",
            "{}",
        ),
        "digits": (
            "a picture of the digit {}.",
            "a handwritten digit {}.",
            "the number {}.",
            "{}",
        ),
        "imagenet": _PHOTO,
        "caltech101": _PHOTO,
        "stanford_cars": _PHOTO,
        "sun397": _PHOTO,
        "oxford_pets": ("a photo of a {}, a type of pet.",),
        "flowers102": ("a photo of a {}, a type of flower.",),
        "food101": ("a photo of {}, a type of food.",),
        "fgvc_aircraft": ("a photo of a {}, a type of aircraft.",),
        "dtd": ("{} texture.",),
        "eurosat": ("a centered satellite photo of {}.",),
        "ucf101": ("a photo of a person doing {}.",),
        "imagenet7": (
            "itap of a {}.",
            "a bad photo of the {}.",
            "a origami {}.",
            "a photo of the large {}.",
            "a {} in a video game.",
            "art of the {}.",
            "a photo of the small {}.",
        ),
    }
)
