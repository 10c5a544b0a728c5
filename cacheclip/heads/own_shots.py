"""Class text that looks at the shots of its own class, by one attention for all classes."""

from dataclasses import dataclass

from torch import Tensor

from cacheclip.task import unit


@dataclass(frozen=True)
class Attention:
    """What V variants look with; it knows no class.

    Attributes:
        query: [V, D, D], W_q^T.
        key: [V, D, D], W_k^T.
        gate: [V, D], what weighs a class's text.
        gate_bias: [V].
    """

    query: Tensor
    key: Tensor
    gate: Tensor
    gate_bias: Tensor

    def refined(self, text: Tensor, shots: Tensor, labels: Tensor) -> Tensor:
        """Unit rows norm(t + g u) [V, C, D]: u is the mean of t and its shots under the softmax.

        Classes may have any number of shots, none too. Each shot meets the query of its own class
        alone, so that nothing is padded and no class sees another.

        Args:
            text: unit rows t [V, C, D].
            shots: unit rows [V, N, D].
            labels: [V, N], the class of each shot.
        """
        seen = self._seen(text, shots, labels)
        gate = ((text * self.gate[:, None]).sum(-1) + self.gate_bias[:, None]).sigmoid()  # [V, C]
        return unit(text + gate[..., None] * seen)

    def _seen(self, text: Tensor, shots: Tensor, labels: Tensor) -> Tensor:
        """u, [V, C, D]."""
        scale = text.shape[-1] ** -0.5
        asks = text @ self.query * scale  # [V, C, D]
        its = labels[..., None].expand(shots.shape)  # [V, N, D]
        on_text = (asks * (text @ self.key)).sum(-1)  # [V, C]
        on_shots = (asks.gather(1, its) * (shots @ self.key)).sum(-1)  # [V, N]
        most = on_text.detach().scatter_reduce(1, labels, on_shots.detach(), "amax")  # [V, C]
        of_text = (on_text - most).exp()
        of_shots = (on_shots - most.gather(1, labels)).exp()
        total = of_text.scatter_add(1, labels, of_shots)  # [V, C]
        looked = of_text[..., None] * text
        looked = looked.scatter_add(1, its, of_shots[..., None] * shots)
        return looked / total[..., None]
