"""CLIP's text transformer in plain torch: frozen, causal, read at the end-of-text token.

Gradients pass through it to the embeddings that it is given, which need be no words.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = "transformer.resblocks.{}."


@dataclass(frozen=True)
class TextTransformer:
    """The tower of `Task.encoder["tower"]`, whose arrays have open_clip's names.

    Attributes:
        weights: `token_embedding.weight` [vocabulary, d], `positional_embedding` [L, d], the blocks
            `transformer.resblocks.0.` and on, `ln_final`, and `text_projection` [d, D].
        heads: of the attention.
        quick_gelu: whether the activation is OpenAI's x sigmoid(1.702 x).
        end: the id of the end-of-text token.
    """

    weights: Mapping[str, Tensor]
    heads: int
    quick_gelu: bool
    end: int

    @classmethod
    def of(cls, tower: Mapping[str, Tensor], dtype: torch.dtype) -> "TextTransformer":
        """The tower computing in a dtype; beside the weights it holds `heads` and so on as [1]."""
        weights = {name: x.to(dtype) for name, x in tower.items() if x.is_floating_point()}
        heads, quick, end = (int(tower[name]) for name in ("heads", "quick-gelu", "end"))
        return cls(weights, heads, bool(quick), end)

    @property
    def context_length(self) -> int:
        """The most tokens that a text may have."""
        return len(self.weights["positional_embedding"])

    def embed(self, tokens: Tensor) -> Tensor:
        """Token ids [...] -> their embeddings [..., d]."""
        return self.weights["token_embedding.weight"][tokens]

    def features(self, x: Tensor, end: Tensor, first: Tensor | None = None) -> Tensor:
        """Raw text features.

        Args:
            x: [S, L, d], embeddings of S texts without their positions.
            end: [S] int64, where in x the end token of each is. What comes after it passes through
                no layer: no token sees a later one, so that changes nothing.
            first: [V, P, d], embeddings that stand before x, the same for S / V neighbours: as no
                token sees a later one, they pass through the tower once for all of these.

        Returns:
            [S, D].
        """
        texts, before = _Texts.of(end), 0 if first is None else first.shape[1]
        length = texts.length
        positions = self.weights["positional_embedding"][: before + length]
        x = texts.packed(x[:, :length] + positions[before:])  # [T, d]
        if first is not None:
            shared = _Texts.of(end.new_full(first.shape[:1], before - 1))
            first = shared.packed(first + positions[:before])  # [V P, d]
        names = [name for name in self.weights if name.endswith("ln_1.weight")]
        for name in (BLOCK.format(k) for k in range(len(names))):
            seen = None
            if first is not None:
                first, seen = self._block(first, name, shared)
            last = name == BLOCK.format(len(names) - 1)
            x, _ = self._block(x, name, texts, seen, ends_alone=last)
        return self._norm(x, "ln_final") @ self.weights["text_projection"]

    def _block(
        self,
        x: Tensor,
        name: str,
        texts: "_Texts",
        before: tuple[Tensor, Tensor] | None = None,
        *,
        ends_alone: bool = False,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """What a block makes of x [T, d], and the keys and values by which x is seen.

        Args:
            x: embeddings or what the block before made of them, one text after the other.
            name: of the block's weights.
            texts: where in x they are.
            before: keys and values of what stands before x, of S or of fewer texts.
            ends_alone: whether the last token of each text is all that is asked for: [S, d].
        """
        d = x.shape[1]
        qkv = self._linear(self._norm(x, name + "ln_1"), name + "attn.in_proj_")  # [T, 3 d]
        qkv = texts.spread(qkv)
        S, L, _ = qkv.shape
        q, k, v = qkv.view(S, L, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        own = k, v
        if before is not None:
            k, v = (
                torch.cat([old.repeat_interleave(S // len(old), 0), new], 2)
                for old, new in zip(before, own, strict=True)
            )  # [S, heads, P + L, d / heads]
        earlier = torch.ones(L, k.shape[2], dtype=torch.bool, device=x.device)
        earlier = earlier.tril(k.shape[2] - L)
        if ends_alone:
            x = x[texts.last]
            q = q[torch.arange(S, device=x.device), :, texts.end][:, :, None]
            earlier = earlier[texts.end][:, None, None]  # [S, 1, 1, P + L]
        seen = functional.scaled_dot_product_attention(q, k, v, earlier)
        seen = seen.transpose(1, 2).reshape(S, -1, d)  # from [S, heads, L or 1, d / heads]
        seen = seen[:, 0] if ends_alone else texts.packed(seen)
        x = x + self._linear(seen, name + "attn.out_proj.")
        hidden = self._linear(self._norm(x, name + "ln_2"), name + "mlp.c_fc.")
        hidden = (
            hidden * torch.sigmoid(1.702 * hidden) if self.quick_gelu else functional.gelu(hidden)
        )
        return x + self._linear(hidden, name + "mlp.c_proj."), own

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, self.weights[name + "weight"], self.weights[name + "bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.weights[name + ".weight"], self.weights[name + ".bias"]
        return functional.layer_norm(x, x.shape[-1:], weight, bias)


@dataclass(frozen=True)
class _Texts:
    """S texts of different lengths, T tokens in all, so that what fills shorter ones costs nothing.

    Attributes:
        end: [S], where the last token of each is.
        at: [T], the places of their tokens in [S L], L being the length of the longest.
        last: [S], where among the T tokens the last of each is.
        length: L.
    """

    end: Tensor
    at: Tensor
    last: Tensor
    length: int

    @classmethod
    def of(cls, end: Tensor) -> "_Texts":
        """Texts that end at [S]."""
        length = int(end.max()) + 1
        tokens = torch.arange(length, device=end.device) <= end[:, None]  # [S, L]
        return cls(end, tokens.flatten().nonzero()[:, 0], (end + 1).cumsum(0) - 1, length)

    def packed(self, x: Tensor) -> Tensor:
        """Their tokens' rows [T, n] of x [S, L, n]."""
        rows = x.flatten(0, 1)
        return rows if len(rows) == len(self.at) else rows[self.at]

    def spread(self, x: Tensor) -> Tensor:
        """The rows x [T, n] in their places [S, L, n], zeros in the others."""
        places = len(self.end) * self.length
        if len(x) < places:
            x = x.new_zeros(places, x.shape[1]).index_copy(0, self.at, x)
        return x.view(len(self.end), self.length, -1)
