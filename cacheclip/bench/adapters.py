"""CLIP-Adapter runs: through the engine, in the usual eager loop, and as the best torch batch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cacheclip.engine import memory, stack as engine
from cacheclip.engine.schedule import learning_rates
from cacheclip.methods.base import Params
from cacheclip.methods.clip_adapter import ClipAdapter
from cacheclip.task import Generators, Task

TRAINED = ("down", "up")
WARM_UP = 3  # steps before a CUDA graph is captured


@dataclass(frozen=True)
class Run:
    """V variants to train: the method's static settings, the support sets and the seeds."""

    method: ClipAdapter
    task: Task
    seeds: tuple[int, ...]

    @property
    def precision(self) -> str:
        """What the engine trains it in."""
        return str(engine.precision(self.method, self.task))

    @property
    def batch(self) -> int:
        """Rows a step: all of them where a full batch does not exist."""
        return min(int(self.method.settings["batch_size"]), self.task.rows.shape[1])

    @property
    def per_epoch(self) -> int:
        """Steps an epoch; CLIP-Adapter drops a partial batch."""
        return self.task.rows.shape[1] // self.batch

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return int(self.method.settings["epochs"]) * self.per_epoch

    def part(self, first: int, last: int) -> "Run":
        """The variants first..last-1."""
        return Run(self.method, self.task.part(slice(first, last)), self.seeds[first:last])

    def start(self) -> Params:
        """The params before the first step."""
        generators = Generators(self.seeds, "init", self.task.device, self.task.dtype)
        return self.method.init(self.task, generators)

    def batches(self) -> Iterator[Tensor]:
        """Positions [V, B] in each variant's support, step by step, in the engine's order."""
        orders = Generators(self.seeds, "order", self.task.device, self.task.dtype)
        for _ in range(int(self.method.settings["epochs"])):
            order = orders.permutations(self.task.rows.shape[1])
            for k in range(self.per_epoch):
                yield order[:, k * self.batch : (k + 1) * self.batch]

    def rates(self) -> Tensor:
        """The learning rate of each step and variant, [steps, V]."""
        settings = self.method.settings
        return learning_rates(
            str(settings["schedule"]),
            self.task.settings["lr"],
            int(settings["epochs"]),
            self.per_epoch,
        )


def ours(run: Run) -> tuple[Params, list[int]]:
    """Train through the engine: the trained params, and how many variants each chunk held."""
    parts, chunks = [], []
    limit = memory.default_limit(run.task.device)
    fitted = engine.fit(run.method, run.task, run.seeds, lambda share: None, limit)
    for first, last, params in fitted:
        parts.append({name: params[name] for name in TRAINED})
        chunks.append(last - first)
    return {name: torch.cat([part[name] for part in parts]) for name in TRAINED}, chunks


class Adapter(nn.Module):
    """CLIP-Adapter with its cosine classifier as one writes it for one variant."""

    def __init__(self, start: Params) -> None:
        super().__init__()
        H, D = start["down"].shape[1:]
        self.down = nn.Linear(D, H, bias=False)
        self.up = nn.Linear(H, D, bias=False)
        self.down.weight.data = start["down"][0].clone()
        self.up.weight.data = start["up"][0].T.contiguous()
        self.alpha = float(start["alpha"][0])
        self.scale = float(start["logit_scale"][0])
        self.text = start["weight"][0]

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, C]."""
        adapted = functional.relu(self.up(functional.relu(self.down(x))))
        x = self.alpha * adapted + (1 - self.alpha) * x
        x = x / x.norm(dim=-1, keepdim=True)
        return self.scale * x @ self.text.t()


def eager(run: Run) -> Adapter:
    """Train one variant as the usual repositories do: modules, autograd, torch.optim."""
    model = Adapter(run.start())
    optimizer = _optimizer(run, list(model.parameters()))
    features, labels = run.task.pool["image"][run.task.rows[0]], run.task.labels[0]
    rates = run.rates()[:, 0].tolist()
    for rate, index in zip(rates, run.batches(), strict=True):
        optimizer.param_groups[0]["lr"] = rate
        loss = functional.cross_entropy(model(features[index[0]]), labels[index[0]])
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
    return model


def weights_of(model: Adapter) -> Params:
    """What an eager loop trained, as the params of one variant."""
    return {"down": model.down.weight.detach()[None], "up": model.up.weight.detach().T[None]}


def batched(run: Run) -> Params:
    """Train all variants as one torch batch: bmm over V, autograd, the fused optimizer.

    The variants share one learning rate; bf16 means autocast. On CUDA the loss is compiled and a
    step is one graph.
    """
    start = run.start()
    text, scale = start["weight"][0], float(start["logit_scale"][0])
    alpha, pool = start["alpha"][:, None, None], run.task.pool["image"]
    weights = {name: nn.Parameter(start[name].clone()) for name in TRAINED}
    rates = run.rates()[:, 0]
    captured = run.task.device.type == "cuda"
    rate = torch.zeros((), device=run.task.device)
    given: dict[str, Any] = {"fused": True} | ({"lr": rate} if captured else {})
    optimizer = _optimizer(run, list(weights.values()), **given)

    def total(rows: Tensor, labels: Tensor) -> Tensor:
        x = pool[rows]  # [V, B, D]
        hidden = torch.bmm(x, weights["down"].transpose(1, 2)).relu()
        adapted = torch.bmm(hidden, weights["up"]).relu()
        x = functional.normalize(alpha * adapted + (1 - alpha) * x, dim=-1)
        logits = scale * (x.flatten(0, 1) @ text.t())  # [V B, C]
        return functional.cross_entropy(logits, labels.flatten(), reduction="sum") / run.batch

    summed: Callable[[Tensor, Tensor], Tensor] = torch.compile(total) if captured else total
    cast = partial(torch.autocast, run.task.device.type, torch.bfloat16, run.precision == "bf16")

    def step(rows: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        with cast():
            loss = summed(rows, labels)
        torch.autograd.backward(loss)
        optimizer.step()

    once = _captured(step, run, optimizer, weights) if captured else step
    for k, index in zip(count(), run.batches()):
        if captured:
            rate.copy_(rates[k])
        else:
            optimizer.param_groups[0]["lr"] = float(rates[k])
        once(run.task.rows.gather(1, index), run.task.labels.gather(1, index))
    return {name: weight.detach() for name, weight in weights.items()}


def _captured(
    step: Callable[[Tensor, Tensor], None],
    run: Run,
    optimizer: torch.optim.Optimizer,
    weights: dict[str, nn.Parameter],
) -> Callable[[Tensor, Tensor], None]:
    """The step as a CUDA graph; weights and optimizer are put back after the warm-up."""
    rows = run.task.rows[:, : run.batch].clone()
    labels = run.task.labels[:, : run.batch].clone()
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step(rows, labels)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(rows, labels)
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(before[name])
        for state in optimizer.state.values():
            for moment in state.values():
                moment.zero_()

    def replay(new_rows: Tensor, new_labels: Tensor) -> None:
        rows.copy_(new_rows)
        labels.copy_(new_labels)
        graph.replay()

    return replay


def _optimizer(run: Run, weights: list[nn.Parameter], **options: Any) -> torch.optim.Optimizer:
    """The optimizer of the run's recipe from torch.optim."""
    options["weight_decay"] = float(run.task.settings["weight_decay"][0])
    if run.method.settings["optimizer"] == "sgd":
        return torch.optim.SGD(weights, momentum=0.9, **{"lr": 1.0} | options)
    return torch.optim.AdamW(weights, capturable="lr" in options, **options)
