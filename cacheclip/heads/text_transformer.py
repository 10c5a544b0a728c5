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
            end: [S] int64, where in x the end token of each is. What comes after the last of them
                is cut off: no token sees a later one, so that changes nothing.
            first: [V, P, d], embeddings that stand before x, the same for S / V neighbours: as no
                token sees a later one, they pass through the tower once for all of these.

        Returns:
            [S, D].
        """
        length, before = int(end.max()) + 1, 0 if first is None else first.shape[1]
        positions = self.weights["positional_embedding"][: before + length]
        x = x[:, :length] + positions[before:]
        if first is not None:
            first = first + positions[:before]
        names = [name for name in self.weights if name.endswith("ln_1.weight")]
        for name in (BLOCK.format(k) for k in range(len(names))):
            seen = None
            if first is not None:
                first, seen = self._block(first, name)
            read = end if name == BLOCK.format(len(names) - 1) else None
            x, _ = self._block(x, name, seen, read)
        return self._norm(x[:, 0], "ln_final") @ self.weights["text_projection"]

    def _block(
        self,
        x: Tensor,
        name: str,
        before: tuple[Tensor, Tensor] | None = None,
        read: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """What a block makes of x [S, L, d], and the keys and values by which x is seen.

        Args:
            x: embeddings or what the block before made of them.
            name: of the block's weights.
            before: keys and values of what stands before x, of S or of fewer texts.
            read: [S], the one token of each text that is asked for, by default all.
        """
        S, L, d = x.shape
        qkv = self._linear(self._norm(x, name + "ln_1"), name + "attn.in_proj_")  # [S, L, 3 d]
        q, k, v = qkv.view(S, L, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        own = k, v
        if before is not None:
            k, v = (
                torch.cat([old.repeat_interleave(S // len(old), 0), new], 2)
                for old, new in zip(before, own, strict=True)
            )  # [S, heads, P + L, d / heads]
        earlier = torch.ones(L, k.shape[2], dtype=torch.bool, device=x.device)
        earlier = earlier.tril(k.shape[2] - L)
        if read is not None:
            texts = torch.arange(S, device=x.device)
            x, q = x[texts, read][:, None], q[texts, :, read][:, :, None]
            earlier = earlier[read][:, None, None]  # [S, 1, 1, P + L]
        seen = functional.scaled_dot_product_attention(q, k, v, earlier)
        seen = seen.transpose(1, 2).reshape(x.shape)  # from [S, heads, L or 1, d / heads]
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
