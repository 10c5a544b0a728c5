"""A task's pictures and their views, and the random numbers of its variants."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cacheclip.task import Generators, Query, Task, unit

C, D, W, R = 2, 4, 3, 6


def raw_views() -> Tensor:
    """[R, W, D]."""
    return torch.randn(R, W, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def make_task() -> Task:
    raw = raw_views().flatten(0, 1)
    rows = torch.tensor([[4, 0, 5], [1, 1, 3]])
    return Task(
        pool={"image": unit(raw), "image-norm": raw.norm(dim=-1, keepdim=True)},
        rows=rows,
        labels=rows % C,
        text={},
        settings={},
        logit_scale=10.0,
        n_classes=C,
        weights=rows / 10,
        views=W,
        encoder={"projection": torch.eye(D)},
    )


def randoms(task: Task) -> Generators:
    return Generators([1, 2], "noise", task.device, task.dtype)


def test_an_epoch_sees_the_next_view_of_each_picture() -> None:
    task, raw = make_task(), raw_views()
    index = torch.tensor([[2, 0], [1, 2]])  # pictures 5, 4 and 1, 3
    for epoch in range(2 * W):
        batch = task.at(index, {}, randoms(task), step=epoch, epoch=epoch)
        wanted = unit(raw[torch.tensor([[5, 4], [1, 3]]), epoch % W])
        torch.testing.assert_close(batch.query["image"], wanted, rtol=0, atol=0)
        assert batch.labels.tolist() == [[1, 0], [1, 1]]
        assert batch.weights is not None
        torch.testing.assert_close(batch.weights, torch.tensor([[0.5, 0.4], [0.1, 0.3]]))


def test_the_support_set_is_read_view_by_view() -> None:
    task, raw = make_task(), raw_views()
    for view in range(W):
        assert torch.equal(task.support(view)["image"], unit(raw[task.rows, view]))
    assert torch.equal(task.support()["image"], task.support(0)["image"])


def test_a_mean_of_views_is_one_of_raw_rows() -> None:
    task = make_task()
    wanted = unit(raw_views()[task.rows].mean(2))
    torch.testing.assert_close(task.mean_of_views(), wanted, rtol=0, atol=1e-12)
    plain = replace(task, views=1)
    assert torch.equal(plain.mean_of_views(), plain.support()["image"])


def test_flat_makes_a_picture_of_every_view() -> None:
    task, raw = make_task(), raw_views()
    flat = task.flat()
    assert torch.equal(flat.support()["image"], unit(raw[task.rows]).flatten(1, 2))
    assert flat.labels.tolist()[0] == [0] * W + [0] * W + [1] * W
    assert flat.weights is not None
    assert flat.weights.shape == flat.rows.shape
    assert flat.flat() is flat


def test_what_the_encoder_froze_reaches_every_query() -> None:
    task = make_task()
    batch = task.at(torch.tensor([[0], [0]]), {}, randoms(task))
    for query in (task.support(), batch.query, task.support().part(0, 1)):
        assert query.encoder is task.encoder
    assert task.part(slice(0, 1)).encoder is task.encoder


@pytest.mark.parametrize("shared", [True, False])
def test_a_query_gives_each_variant_pictures_by_their_positions(shared: bool) -> None:
    x = raw_views()  # of 6 pictures, 3 views each
    layers = {"image": x[:, 0], "image/views": x}
    if not shared:
        layers = {name: torch.stack([x, -x]) for name, x in layers.items()}
    index = torch.tensor([[3, 0], [5, 5]])
    sign = torch.tensor([1.0, 1.0 if shared else -1.0])
    picked = Query(layers).at(index)
    assert torch.equal(picked["image"], x[index, 0] * sign[:, None, None])
    assert torch.equal(picked["image/views"], x[index] * sign[:, None, None, None])


def test_normal_numbers_are_those_of_the_seed_alone() -> None:
    one, two = (Generators(s, "init", torch.device("cpu"), torch.float32) for s in ([7], [3, 7]))
    drawn = one.normal(0.5, (1000, 2))
    assert torch.equal(two.normal(0.5, (1000, 2))[1:], drawn)
    assert drawn.std().item() == pytest.approx(0.5, rel=0.05)


def test_batches_are_full_and_show_no_picture_twice_before_it_is_shuffled() -> None:
    random = Generators([1, 2], "order", torch.device("cpu"), torch.float32)
    drawn = random.batches(7, 3)
    for _ in range(3):
        epoch = torch.cat([next(drawn), next(drawn)], 1)
        assert all(len(set(row)) == 6 for row in epoch.tolist())
    assert next(random.batches(2, 5)).sort().values.tolist() == [[0, 1], [0, 1]]
