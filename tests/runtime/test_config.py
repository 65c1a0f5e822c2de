from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.runtime.config import Config, load_config
from tutelage.runtime.errors import ConfigError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tutelage.toml"
    path.write_text(text)
    return path


def test_defaults_are_the_papers_policy_with_guards() -> None:
    config = Config()
    assert (config.cascade.policy, config.cascade.samples) == ("paper", 3)
    assert config.cascade.guards == ("rejection", "loop", "stall")


def test_the_environment_wins_over_the_file_and_overrides_win_over_both(tmp_path: Path) -> None:
    path = write(tmp_path, "[cascade]\nsamples = 4\ntemperature = 0.2\nseed = 1\n")
    config = load_config(
        path,
        {"TUTELAGE_CASCADE__SAMPLES": "5", "TUTELAGE_CASCADE__SEED": "2", "TUTELAGE_CACHE": "x"},
        {"cascade.seed": 3},
    )
    assert (config.cascade.samples, config.cascade.temperature, config.cascade.seed) == (5, 0.2, 3)


def test_text_from_the_environment_needs_no_quotes(tmp_path: Path) -> None:
    environment = {"TUTELAGE_TEACHER__BASE_URL": "http://127.0.0.1:1/v1", "TUTELAGE_TENANT__": "x"}
    environment.pop("TUTELAGE_TENANT__")
    config = load_config(write(tmp_path, ""), environment)
    assert config.teacher.base_url == "http://127.0.0.1:1/v1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cascade]\npolcy = 'paper'", "unknown key 'cascade.polcy'; did you mean 'policy'?"),
        ("[cascad]\n", "unknown key 'cascad'; did you mean 'cascade'?"),
        ("[store]\nzzzzzz = 1", "unknown key 'store.zzzzzz'; known keys: spool, url"),
        ("[teacher.price]\nprice = 1\ninput = 1\noutput = 1", "'teacher.price.price'"),
        ("[cascade]\nsamples = 0", "cascade.samples = 0: Input should be greater"),
        ("[cascade\n", "is not valid TOML"),
    ],
)
def test_a_bad_file_names_the_key_and_the_fix(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value).replace(text, "")


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tutelage init"):
        load_config(tmp_path / "none.toml", {})


def test_a_value_where_a_table_belongs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a value, not a table"):
        load_config(write(tmp_path, "cascade = 3"), {"TUTELAGE_CASCADE__SEED": "1"})


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.toml"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        problem = str(path)
        try:
            assert isinstance(load_config(path, {}), Config)
        except ConfigError as error:
            problem = str(error)
        assert str(path) in problem
