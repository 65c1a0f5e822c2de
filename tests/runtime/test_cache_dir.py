import subprocess
import sys
from pathlib import Path

from tutelage.runtime.cache_dir import build_lock, cache_dir


def test_the_environment_names_the_cache_folder() -> None:
    assert cache_dir({"TUTELAGE_CACHE": "/somewhere"}) == Path("/somewhere")
    assert cache_dir({"TUTELAGE_CACHE": "~/here"}) == Path.home() / "here"


def test_without_a_name_the_cache_lies_in_the_home_folder() -> None:
    assert cache_dir({}) == Path.home() / ".cache" / "tutelage"
    assert cache_dir({"TUTELAGE_CACHE": " "}) == Path.home() / ".cache" / "tutelage"


def test_a_build_waits_for_the_holder_of_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "folder" / "lock"
    code = (
        "import sys; from pathlib import Path; from tutelage.runtime.cache_dir import build_lock\n"
        "print('waiting', flush=True)\n"
        "with build_lock(Path(sys.argv[1])): print(Path(sys.argv[2]).read_text())"
    )
    made = tmp_path / "made"
    with build_lock(lock):
        waiting = subprocess.Popen(
            [sys.executable, "-c", code, str(lock), str(made)], stdout=subprocess.PIPE, text=True
        )
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "waiting\n"
        made.write_text("made by the holder")
    output, _ = waiting.communicate()
    assert output == "made by the holder\n"
