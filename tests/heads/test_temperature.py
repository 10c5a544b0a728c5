"""One temperature for logits of any scale, against a dense grid in float64."""

import torch

from cacheclip.heads.temperature import WIDEST, fit_temperature, label_log_p, true_confidence

V, N, C = 3, 200, 7


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are right about half of the time, at three scales."""
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(C, (N,), generator=g)
    clean = torch.nn.functional.one_hot(labels, C) * 2.0
    logits = clean + 1.5 * torch.randn(N, C, generator=g)
    return torch.stack([logits, 100 * logits, 1e-3 * logits]).double(), labels


def test_no_temperature_of_a_dense_grid_is_likelier() -> None:
    logits, labels = problem()
    own = torch.arange(N), labels
    found = fit_temperature(logits, labels)
    for v in range(V):
        best = (logits[v] / found[v]).log_softmax(-1)[own].mean()
        for t in torch.logspace(-2, 2, 400).double() * found[v]:
            assert (logits[v] / t).log_softmax(-1)[own].mean() <= best + 1e-9


def test_the_scale_of_logits_and_a_shift_change_nothing_but_the_temperature() -> None:
    logits, labels = problem()
    found = fit_temperature(logits, labels)
    torch.testing.assert_close(found[1] / found[0], torch.tensor(100.0).double())
    torch.testing.assert_close(found[2] / found[0], torch.tensor(1e-3).double())
    log_p = label_log_p(logits, labels)
    torch.testing.assert_close(log_p[1], log_p[0])
    torch.testing.assert_close(label_log_p(logits + 17, labels), log_p)


def test_rows_that_are_all_right_or_all_alike_have_a_finite_temperature() -> None:
    labels = torch.arange(C)
    right = 10 * torch.eye(C)[None]
    assert fit_temperature(right, labels).isfinite().all()
    assert fit_temperature(torch.zeros(1, C, C), labels).isfinite().all()
    against = fit_temperature(-right, labels)  # worse than chance: as flat as it gets
    assert float(against) >= 10 / WIDEST
    assert label_log_p(right, labels).max() < 0  # seven pictures prove no certainty


def test_answers_are_as_sure_as_they_are_right() -> None:
    logits, labels = problem()
    found = true_confidence(logits, labels)
    for v in range(V):
        p = (logits[v] / found[v]).softmax(-1)
        right = int((p.argmax(-1) == labels).sum())
        assert abs(float(p.amax(-1).mean()) - (right + 1) / (N + 2)) < 1e-4
    torch.testing.assert_close(found[1] / found[0], torch.tensor(100.0), rtol=1e-4, atol=0)
    assert true_confidence(10 * torch.eye(C)[None], torch.arange(C)).isfinite().all()
