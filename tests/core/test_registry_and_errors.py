"""Registries name what they know; errors name the mend."""

from __future__ import annotations

import errno
from importlib.metadata import EntryPoint

import pytest

from prefkit.core import registry as registry_module
from prefkit.core.errors import (
    ConfigError,
    DataError,
    EnvironmentFault,
    MissingExtra,
    PrefkitError,
    from_os_error,
    require,
)
from prefkit.core.registry import Registry, did_you_mean


@pytest.fixture
def colours() -> Registry[int]:
    found: Registry[int] = Registry("colour", "prefkit.no-such-group")
    found.add("red", 1)
    found.add("green", 2)
    return found


def test_an_unknown_name_lists_the_known_and_the_nearest(colours):
    with pytest.raises(ConfigError) as caught:
        colours.get("gren")
    assert caught.value.message == "unknown colour 'gren'; did you mean 'green'?"
    assert caught.value.hint == "known: red, green"


def test_a_name_is_registered_once(colours):
    with pytest.raises(ConfigError, match="colour 'red' is registered twice"):
        colours.add("red", 3)


def test_order_of_registration_is_kept(colours):
    assert colours.names() == ["red", "green"]
    assert dict(colours) == {"red": 1, "green": 2}
    assert "red" in colours
    assert "blue" not in colours


def test_the_decorator_returns_what_it_decorates():
    found: Registry[object] = Registry("function", "prefkit.no-such-group")

    @found.decorator("mine")
    def mine():
        return 3

    assert found.get("mine") is mine
    assert mine() == 3


def test_a_plugin_is_among_all_entries(colours, monkeypatch):
    class Plugin:
        def load(self):
            colours.add("blue", 3)

    monkeypatch.setattr(registry_module, "entry_points", lambda group: [Plugin()])
    assert [name for name, _ in colours] == ["red", "green", "blue"]
    assert "blue" in colours


def test_plugins_load_when_a_name_is_missed_and_only_once(colours, monkeypatch):
    loads = []

    class Plugin:
        def load(self):
            loads.append(1)
            colours.add("blue", 3)

    monkeypatch.setattr(registry_module, "entry_points", lambda group: [Plugin()])
    assert colours.get("red") == 1
    assert loads == []
    assert colours.get("blue") == 3
    with pytest.raises(ConfigError):
        colours.get("pink")
    assert loads == [1]


def test_a_real_entry_point_registers(colours, monkeypatch, tmp_path):
    (tmp_path / "colour_plugin.py").write_text("LOADED = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("mine", "colour_plugin", "g")
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [point])
    assert colours.names() == ["red", "green"]
    import colour_plugin

    assert colour_plugin.LOADED


def test_no_near_name_gives_no_guess():
    assert did_you_mean("zzz", ["red"]) == ""


def test_a_missing_package_names_its_extra():
    with pytest.raises(MissingExtra) as caught:
        require("surely_no_such_package", "train")
    assert caught.value.hint == "pip install 'prefkit[train]'"
    assert require("json", "train").loads("1") == 1


def test_a_package_that_misses_another_is_not_reported_as_missing(monkeypatch, tmp_path):
    (tmp_path / "broken_package.py").write_text("import surely_no_such_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="surely_no_such_package"):
        require("broken_package", "train")


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, EnvironmentFault, "the disk is full"),
        (errno.EACCES, EnvironmentFault, "no permission"),
        (errno.ENOENT, DataError, "no such file"),
        (errno.EISDIR, DataError, "irectory"),
        (errno.ENAMETOOLONG, DataError, "too long"),
        (errno.EADDRINUSE, EnvironmentFault, "the port is in use"),
    ],
)
def test_an_os_error_a_user_can_mend_becomes_one(number, kind, words):
    import os

    found = from_os_error(OSError(number, os.strerror(number)), "place")
    assert isinstance(found, kind)
    assert isinstance(found, PrefkitError)
    assert words in found.message
    assert "place" in found.message
    assert found.hint


def test_an_os_error_of_our_own_stays_one():
    assert from_os_error(OSError(errno.EBADF, "bad"), "place") is None
