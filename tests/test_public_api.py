from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

import tutelage


def test_the_public_names_are_sorted_and_unique() -> None:
    assert tutelage.__all__ == sorted(set(tutelage.__all__))


def test_dir_shows_the_public_names_and_no_others() -> None:
    assert dir(tutelage) == tutelage.__all__


@pytest.mark.parametrize("name", tutelage.__all__)
def test_every_public_name_is_there(name: str) -> None:
    found = getattr(tutelage, name)

    if name != "__version__":
        assert found.__doc__
        assert getattr(importlib.import_module(found.__module__), name) is found
        assert found.__module__.startswith("tutelage.")


def test_a_star_import_brings_all_of_them() -> None:
    namespace: dict[str, object] = {}

    exec("from tutelage import *", namespace)

    assert set(tutelage.__all__) == namespace.keys() - {"__builtins__"}


def test_what_type_checkers_see_is_what_is_loaded() -> None:
    source = inspect.getsource(tutelage)
    block = source.split("if TYPE_CHECKING:")[1].split("__all__")[0]
    namespace: dict[str, object] = {}

    exec(inspect.cleandoc(block), namespace)

    seen = {name: one for name, one in namespace.items() if name != "__builtins__"}
    assert seen == {
        name: getattr(tutelage, name) for name in set(tutelage.__all__) - {"__version__"}
    }


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'tutelage' has no attribute 'warp'"):
        _ = tutelage.warp


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(tutelage.__file__).parent / "py.typed").is_file()
