"""What several methods lack is made by one extraction."""

import shlex

from cacheclip.errors import StoreError
from cacheclip.store.header import Header
from cacheclip.store.not_extracted import NotExtractedError, all_of

HEADER = Header(
    key={"encoder": {"name": "nano", "pretrained": "v1"}, "data": {"id": "clipart"}},
    digest="d",
    info={"asked": {"model": "nano", "layers": "patches"}},
)


def lacking(first: str = "", **options: str | int) -> NotExtractedError:
    return NotExtractedError(
        f"there is no {[*options.values()]}",
        where="data set clipart",
        header=HEADER,
        options=options,
        first=first,
    )


def test_one_command_makes_all_layers_views_and_sentences() -> None:
    errors = [
        lacking(layers="text-tower"),
        lacking(views=4),
        lacking(layers="patches"),
        lacking(layers="text-tower"),
        lacking(views=10),
        lacking("write FILE.json, then: ", sentences="FILE.json"),
        lacking(),
    ]
    error = all_of(errors)
    first, _, command = error.fix.partition("then: ")
    assert first == "write FILE.json, "
    assert shlex.split(command) == [
        *("cacheclip", "extract", "--dataset", "clipart", "--model", "nano"),
        *("--layers", "text-tower,patches", "--views", "10", "--sentences", "FILE.json"),
    ]
    assert all_of([error, lacking(layers="patches")]).fix == error.fix


def test_one_error_stays_what_it_is_and_other_fixes_stand_beside() -> None:
    alone = lacking(layers="patches")
    assert (all_of([alone]).what, all_of([alone]).fix) == (alone.what, alone.fix)
    damaged = StoreError("a file is damaged", where="there", fix="rm it")
    assert all_of([damaged, damaged]).fix == "rm it"
    assert all_of([damaged, alone]).fix == f"rm it, and {alone.fix}"
