"""A class that breaks the contract is refused where it is written, and not when it runs."""

from dataclasses import replace

import pytest

from cacheclip.methods.base import ClosedForm, Setting


def test_a_class_that_breaks_the_contract_is_refused_where_it_is_written() -> None:
    def written(**said: object) -> None:
        body = {"__module__": "broken", "solve": None, "logits": None}
        type("Broken", (ClosedForm,), body | said)

    with pytest.raises(TypeError, match="no paper"):
        written()
    alpha = Setting(1.0, 0.0, 2.0)
    for said, message in (
        ({"table": {"alpha": alpha}, "off": {"beta": 0.0}}, "no setting beta"),
        ({"recipes": {"as-code": {"alpha": 1.0}}}, "no setting alpha"),
        ({"table": {"alpha": replace(alpha, grid=(1.0, 3.0))}}, "alpha may not be"),
        ({"table": {"alpha": replace(alpha, default=-1.0)}}, "alpha may not be"),
        ({"table": {"width": Setting(4, 1, shape=True)}}, "width changes shapes"),
        ({"table": {"word": Setting("b", words=("a", "b"), unsaid=True)}}, "word goes unsaid"),
    ):
        with pytest.raises(TypeError, match=message):
            written(paper="a toy of this test", **said)
