"""What `cacheclip methods` says of a method is what its class holds."""

from cacheclip.methods import base, names
from cacheclip.methods.catalogue import SHOTS, described, listed

ALL = {name: described(name) for name in names()}
OWN = {(name, own.name): own for name, method in ALL.items() for own in method.settings}


def test_constants_by_shots_are_those_of_a_fit() -> None:
    assert OWN["prolip", "strength"].by_shots == (1.0, 0.5, 0.25, 0.125, 0.0625)
    assert OWN["coop", "epochs"].by_shots == (50, 100, 100, 200, 200)
    for (name, setting), own in OWN.items():
        for shots, value in zip(SHOTS, own.by_shots, strict=bool(own.by_shots)):
            assert base.get(name).fixed(shots, base.LOGIT_SCALE)[setting] == value


def test_a_power_of_the_logit_scale_is_that_by_which_a_constant_is_rescaled() -> None:
    for (name, setting), own in OWN.items():
        method = base.get(name)
        at = [method.fixed(4, scale).get(setting, own.default) for scale in (100.0, 50.0)]
        if not isinstance(at[0], str) and at[0]:
            assert abs(at[1] / at[0] - 0.5**own.scales) < 1e-3, (name, setting)  # type: ignore[operator]


def test_what_an_extraction_keeps_on_request_is_asked_for() -> None:
    asked = {name: method.extract for name, method in ALL.items() if method.extract}
    tower = ("--layers text-tower",)
    assert asked == {
        "calip": ("--layers patches",),
        "cupl": ("--sentences FILE",),
        **dict.fromkeys(("coop", "kgcoop", "cocoop", "vtp-ovd-like"), tower),
        "amu": ("--model NAME@TAG",),
    }


def test_a_line_of_the_list_says_what_the_full_text_says() -> None:
    for entry in listed():
        full = ALL[entry.name]
        assert (entry.fitted, entry.setting, entry.trains, entry.paper) == (
            *(full.fitted, full.setting),
            *(full.trains, full.paper),
        )
        assert entry.says == full.text[0]


def test_the_full_text_has_every_setting_with_what_its_constant_depends_on() -> None:
    (strength, rate) = (OWN["prolip", name].as_cells() for name in ("strength", "lr"))
    assert strength[:3] == ["strength", "by shots", "s^2"]
    assert strength[-1] == "lambda; lambda_v"
    assert rate[:3] == ["lr", "1e-05", "s^-1"]
    assert (
        "strength at 1, 2, 4, 8, 16 shots: 1.0, 0.5, 0.25, 0.125, 0.0625" in ALL["prolip"].constants
    )
    assert OWN["clap", "lr"].as_cells()[2] == "s^-2"  # SGD
    assert OWN["tip-adapter", "alpha"].as_cells()[4] == "search from 0 to 50"
    assert OWN["timo-s", "gamma"].as_cells()[4] == "5.0, 10.0, ..., 100.0 (20 values)"
    assert ALL["zero-shot"].needs == ["reads: query image; text norm-mean"]
    assert "trains: E * D numbers" in ALL["prolip"].needs


def test_no_formula_is_left_to_another_file() -> None:
    for method in ALL.values():
        assert "heads/" not in "\n".join(method.text), method.name
