"""``prefkit``'s own names: all there, typed, and nothing besides."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import prefkit


def test_all_names_load_and_are_sorted():
    assert prefkit.__all__ == sorted(prefkit.__all__)
    assert dir(prefkit) == prefkit.__all__
    for name in prefkit.__all__:
        assert getattr(prefkit, name) is not None


@pytest.mark.parametrize("name", sorted(set(prefkit.__all__) - {"__version__", "Workspace"}))
def test_a_verb_is_a_documented_function(name):
    verb = getattr(prefkit, name)
    assert callable(verb)
    assert verb.__doc__
    assert "return" in verb.__annotations__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = prefkit.trian


def test_the_names_of_each_package_are_there():
    for found in pkgutil.iter_modules(prefkit.__path__, "prefkit."):
        module = importlib.import_module(found.name)
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name), f"{found.name}.{name}"
