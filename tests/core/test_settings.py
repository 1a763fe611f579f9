"""Settings: all faults at once, with file, line, value and the nearest key."""

from __future__ import annotations

import pytest
from pydantic import Field, ValidationError, model_validator

from prefkit.core.errors import ConfigError, DataError
from prefkit.settings import Settings, commented_yaml, parse_settings, read_settings


class Inner(Settings):
    beta: float = Field(0.1, gt=0, description="How strongly.")
    names: tuple[str, ...] = Field((), description="A list.")


class Whole(Settings):
    low: float = Field(0.5, description="Below.")
    high: float = Field(1.0, description="Above.")

    @model_validator(mode="after")
    def _ordered(self):
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class Outer(Settings):
    seed: int = Field(0, description="The seed.")
    train: Inner = Field(Inner(), description="Training.")
    parts: dict[str, Inner] = Field({}, description="By name.")


def read(tmp_path, text, *overrides):
    path = tmp_path / "prefkit.yaml"
    path.write_text(text)
    return read_settings(Outer, path, overrides)


def test_a_file_and_overrides_make_one_model(tmp_path):
    found = read(tmp_path, "seed: 3\ntrain:\n  beta: 0.5\n", "train.beta=0.7", "train.names=[a, b]")
    assert (found.seed, found.train.beta, found.train.names) == (3, 0.7, ("a", "b"))


def test_an_empty_file_is_the_defaults(tmp_path):
    assert read(tmp_path, "# nothing\n") == Outer()


def test_all_faults_come_at_once_with_their_lines(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, "sed: 1\ntrain:\n  bta: 2\n  beta: -1\n")
    first, second, third = sorted(caught.value.message.splitlines())
    assert first.endswith("prefkit.yaml:1: unknown key 'sed'; did you mean 'seed'?")
    assert second.endswith("prefkit.yaml:3: unknown key 'train.bta'; did you mean 'beta'?")
    assert third.endswith("prefkit.yaml:4: train.beta is -1: input should be greater than 0")


def test_a_key_below_a_name_of_ones_own_is_guessed_too():
    with pytest.raises(ConfigError, match=r"'parts\.mine\.bta'; did you mean 'beta'"):
        parse_settings(Outer, {"parts": {"mine": {"bta": 1}}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: [1\n", r"prefkit\.yaml:2: not YAML"),
        ("- 1\n", r"prefkit\.yaml:1: expected keys and values, found list"),
        ("seed: one\n", r"prefkit\.yaml:1: seed is 'one'"),
    ],
)
def test_a_malformed_file_names_the_line(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


def test_yaml_cannot_make_objects(tmp_path):
    with pytest.raises(ConfigError, match="not YAML"):
        read(tmp_path, "seed: !!python/object/apply:os.getcwd []\n")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "expected KEY=VALUE"),
        ("=1", "expected KEY=VALUE"),
        ("seed=[1", "the value is not YAML"),
        ("seed.low=1", "'seed' is a value, not a section"),
        ("sead=1", "did you mean 'seed'"),
    ],
)
def test_a_faulty_override_is_named(override, message):
    with pytest.raises(ConfigError, match=message):
        parse_settings(Outer, {"seed": 1}, [override])


def test_a_fault_of_the_whole_has_no_empty_place():
    with pytest.raises(ConfigError) as caught:
        parse_settings(Whole, {}, ["low=2"], where="--set")
    assert caught.value.message == "--set: low is above high"


@pytest.mark.parametrize(("model", "example"), [(Outer, "seed=0"), (Inner, "beta=0.1")])
def test_the_example_of_an_override_is_one_that_is_taken(model, example):
    with pytest.raises(ConfigError) as caught:
        parse_settings(model, {}, ["seed"])
    assert caught.value.hint == f"for example --set {example}"
    assert parse_settings(model, {}, [example]) == model()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_settings(Outer, tmp_path / "none.yaml")


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Outer().seed = 1


def test_commented_yaml_explains_every_key_and_parses_to_the_same(tmp_path):
    settings = Outer(seed=4, train=Inner(beta=0.3, names=("x",)))
    text = commented_yaml(settings)
    assert read(tmp_path, text) == settings
    for words in ("# The seed.", "# How strongly.", "# A list."):
        assert words in text


@pytest.mark.parametrize(
    "text", ["seed: 2026-13-45\n", "train: &a\n  names: [*a]\n", "seed: " + "[" * 5000]
)
def test_yaml_that_breaks_its_reader_is_one_line(tmp_path, text):
    with pytest.raises(ConfigError, match=r"prefkit\.yaml") as caught:
        read(tmp_path, text)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan"])
def test_a_number_that_is_not_finite_is_refused(tmp_path, value):
    with pytest.raises(ConfigError, match=r"train\.beta is .*finite number"):
        read(tmp_path, "", f"train.beta={value}")


def test_an_override_that_yaml_cannot_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match="--set 'seed=2026-13-45': the value is not YAML"):
        read(tmp_path, "", "seed=2026-13-45")


def test_a_fault_of_set_is_not_blamed_on_the_file(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, "train:\n  beta: 0.1\n", "train.beta=minus")
    assert str(caught.value).startswith("--set train.beta=minus: train.beta is 'minus'")
