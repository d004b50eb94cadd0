"""Foreign and misspelt settings: the message is the feature."""

import inspect
import pickle

import pytest
from attrs import evolve, field, frozen

from glowgenius._spelling import explain_unknown, refuse_unknown, setting_names
from glowgenius.errors import ConfigError


@explain_unknown({"momentum": "there is none; leave it out", "lr": "it is called speed here"})
@frozen(kw_only=True)
class Settings:
    speed: float = 1.0
    steps: int = 2
    _hidden: int = 0
    derived: int = field(init=False, default=7)


def test_the_real_settings_still_work():
    assert Settings(speed=2.0, hidden=3) == Settings(hidden=3, speed=2.0)
    assert Settings() != Settings(steps=1)


def test_a_foreign_name_is_told_its_name_here():
    with pytest.raises(ConfigError) as caught:
        Settings(lr=1.0)  # pyright: ignore[reportCallIssue]
    assert str(caught.value) == "Settings cannot take 'lr': it is called speed here"


def test_a_misspelling_is_told_the_nearest_name():
    with pytest.raises(ConfigError) as caught:
        Settings(step=1)  # pyright: ignore[reportCallIssue]
    assert str(caught.value) == (
        "Settings cannot take 'step': no such setting (did you mean 'steps'?); the settings are speed, steps, hidden"
    )


def test_an_unrelated_word_is_told_what_there_is():
    with pytest.raises(ConfigError) as caught:
        Settings(zebra=1)  # pyright: ignore[reportCallIssue]
    assert str(caught.value) == "Settings cannot take 'zebra': no such setting; the settings are speed, steps, hidden"


def test_a_field_that_is_not_set_by_the_user_is_no_setting():
    with pytest.raises(ConfigError) as caught:
        Settings(derived=1)  # pyright: ignore[reportCallIssue]
    assert str(caught.value) == (
        "Settings cannot take 'derived': no such setting; the settings are speed, steps, hidden"
    )


def test_all_unknown_settings_come_in_one_error():
    with pytest.raises(ConfigError) as caught:
        Settings(lr=1.0, step=1, momentum=0.9)  # pyright: ignore[reportCallIssue]
    assert str(caught.value) == (
        "Settings cannot take 3 of the settings; the settings are speed, steps, hidden:\n"
        "  'lr': it is called speed here\n"
        "  'step': no such setting (did you mean 'steps'?)\n"
        "  'momentum': there is none; leave it out"
    )


def test_several_foreign_names_need_no_list_of_settings():
    with pytest.raises(ConfigError) as caught:
        refuse_unknown(Settings, ["lr", "momentum"], {"lr": "speed", "momentum": "none"})
    assert str(caught.value) == "Settings cannot take 2 of the settings:\n  'lr': speed\n  'momentum': none"


def test_evolve_refuses_too():
    with pytest.raises(ConfigError, match="it is called speed here"):
        evolve(Settings(), lr=2.0)
    assert evolve(Settings(), speed=2.0) == Settings(speed=2.0)


def test_help_and_editors_see_the_real_parameters():
    assert list(inspect.signature(Settings).parameters) == ["speed", "steps", "hidden"]
    assert setting_names(Settings) == ("speed", "steps", "hidden")


def test_pickling_still_works():
    assert pickle.loads(pickle.dumps(Settings(speed=3.0))) == Settings(speed=3.0)  # noqa: S301


def test_a_name_cannot_be_ours_and_foreign():
    with pytest.raises(TypeError) as caught:
        explain_unknown({"speed": "it is called velocity"})(Settings)
    assert str(caught.value) == "Settings has speed: not a name of other libraries only"
