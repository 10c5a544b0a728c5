import pytest

from cacheclip.store.split_words import split_of


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", "train Training training_set train_set Train-Set train1 TRAIN2017 trainset"),
        ("train", "stage1_train set_train train_images trainData train.v2 training-data"),
        ("val", "val valid Validation validation_set eval dev DevSet val2017 valid_images"),
        ("test", "test Testing test1 Test_set test-images test_stg1 holdout hold_out public_test"),
    ],
)
def test_splits_in_any_spelling(split: str, names: str) -> None:
    assert {name: split_of(name) for name in names.split()} == dict.fromkeys(names.split(), split)


@pytest.mark.parametrize(
    "name",
    ["bus", "trains", "train station", "contest", "strain", "invalid", "latest", "evil", "set", ""],
)
def test_names_that_only_look_like_splits(name: str) -> None:
    assert split_of(name) is None
