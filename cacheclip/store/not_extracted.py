"""What a feature set lacks and an extraction with more options makes: one for all of it."""

from collections.abc import Mapping, Sequence

from cacheclip.errors import StoreError
from cacheclip.store.header import Header

# What an extraction adds; what is there of it stays.
MORE = ("layers", "views", "query_views", "sentences")


class NotExtractedError(StoreError):
    """Some features are not there, and an extraction makes them.

    Attributes:
        header: of a store of the set, whose command it is with some more options.
        options: option -> value; several layers stand beside each other with commas.
        first: what is to be done before.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str,
        header: Header,
        options: Mapping[str, str | int],
        first: str = "",
    ) -> None:
        asked: dict[str, str | int | None] = dict.fromkeys(MORE)
        super().__init__(what, where=where, fix=first + header.command(**{**asked, **options}))
        self.header, self.options, self.first = header, options, first


def all_of(errors: Sequence[StoreError]) -> StoreError:
    """One error of several, at least one; the extractions that would mend them are one.

    Args:
        errors: of one feature set.
    """
    first_of = {error.fix: error.what for error in reversed(errors)}  # one mend, one reason
    what = "; ".join(first_of[fix] for fix in dict.fromkeys(error.fix for error in errors))
    makers = [error for error in errors if isinstance(error, NotExtractedError)]
    others = [error.fix for error in errors if not isinstance(error, NotExtractedError)]
    if not makers:
        return StoreError(what, where=errors[0].where, fix=", and ".join(dict.fromkeys(others)))
    options: dict[str, str | int] = {}
    for name in MORE:
        values = [error.options[name] for error in makers if name in error.options]
        layers = [layer for value in values for layer in str(value).split(",")]
        if values and name == "layers":
            options[name] = ",".join(dict.fromkeys(layers))
        elif values:
            options[name] = max(values, key=str if name == "sentences" else int)
    first = ", and ".join(dict.fromkeys(others))
    first = first and f"{first}, and "
    first += "".join(dict.fromkeys(error.first for error in makers))
    header = makers[0].header
    return NotExtractedError(
        what, where=errors[0].where, header=header, options=options, first=first
    )
