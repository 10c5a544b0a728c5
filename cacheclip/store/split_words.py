"""Which split a folder's name, or a word in a table, stands for."""

import re
import unicodedata

WORDS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "eval", "evaluation", "dev", "development"),
    "test": ("test", "testing", "tst", "holdout", "heldout"),
}
# What stands before or behind such a word and says nothing: test_set, stage1_train, val_images.
FILLERS = (
    *("set", "sets", "split", "data", "dataset", "part", "stage", "stg", "phase", "final", "full"),
    *("image", "images", "img", "imgs", "picture", "pictures", "pic", "pics", "photo", "photos"),
    *("sample", "samples", "example", "examples", "file", "files", "folder", "dir"),
    *("labeled", "labelled", "unlabeled", "unlabelled", "public", "private", "v"),
)
_FILLERS = f"(?:{'|'.join(FILLERS)})*"
_PATTERNS = {
    split: re.compile(f"{_FILLERS}(?:{'|'.join(words)}){_FILLERS}")
    for split, words in WORDS.items()
}


def split_of(name: str) -> str | None:
    """The split that a name stands for in any spelling, None where it is no split's name.

    Case, digits, blanks and signs do not count: "Train-Set", "train2017" and "training_data" are
    "train", "Test_set" and "test1" are "test". "contest" and "train station" are no splits.
    """
    letters = re.sub(r"[\W\d_]+", "", unicodedata.normalize("NFKC", name).casefold())
    return next((split for split, known in _PATTERNS.items() if known.fullmatch(letters)), None)
