"""Prompts whose first words are free vectors, and the class features that the text tower gives."""

import torch
from torch import Tensor

from cacheclip.errors import InputError
from cacheclip.heads.text_transformer import TextTransformer


def class_features(tower: TextTransformer, tokens: Tensor, context: Tensor) -> Tensor:
    """Raw features of the prompts "[context] name." of all classes (2109.01134, equation 3).

    Args:
        tower: what reads the prompts.
        tokens: [C, L] int64, each class's "name." as the tower's tokenizer gives it, from the start
            token to the end token and whatever fills the row.
        context: [V, M, d], M vectors in the place of words.

    Returns:
        [V, C, D].

    Raises:
        InputError: a name and the context together are longer than the tower reads.
    """
    V, M, d = context.shape
    ends = (tokens == tower.end).int().argmax(1) + M  # [C]
    length = int(ends.max()) + 1
    if length > tower.context_length:
        raise InputError(
            f"a class name of {length - M} tokens leaves no room for {M} of context: "
            f"the text tower reads {tower.context_length}",
            where=f"class {int(ends.argmax())}",
            fix="give it a shorter name: cacheclip extract --help",
        )
    words = tower.embed(tokens[:, : length - M])  # [C, L, d]
    first = torch.cat([words[:1, :1].expand(V, 1, d), context], 1)  # [V, 1 + M, d]
    names = words[:, 1:].repeat(V, 1, 1)  # [V C, L - 1, d]
    features = tower.features(names, (ends - M - 1).repeat(V), first)
    return features.view(V, len(tokens), -1)
