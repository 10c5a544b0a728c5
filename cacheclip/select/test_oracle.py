"""`test-oracle`: what is best on the test pictures, which is no result of a method."""

from torch import Tensor

from cacheclip.select.base import Policy, mean_log_p


class TestOracle(Policy):
    """What tuning on test would report: the most that any choice from this grid could give.

    Nothing but `study/score.py` opens the labels for it, and gives no more away than the share of
    the pictures that a candidate tells right. Every table marks its rows; it leaves no bundle.
    """

    name = "test-oracle"
    held = "test"

    def best(self, log_p: Tensor, constant: int, zero_shot: int | None = None) -> int:
        """The most hits; of equals the nearest to zero-shot.

        Args:
            log_p: [P, 1] logarithm of the share that is right.
            constant: has no say here.
            zero_shot: likewise.
        """
        return int(mean_log_p(log_p).argmax())


POLICY = TestOracle()
