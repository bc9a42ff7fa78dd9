"""The build script: only instruction sets that the processor has, never AMX, one cache a build."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "build_llama.py"
HASWELL = frozenset({"sse4_2", "avx", "avx2", "fma", "f16c", "bmi2"})
ICE_LAKE = HASWELL | {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"}
SAPPHIRE = ICE_LAKE | {"amx_tile", "amx_int8", "amx_bf16", "avx_vnni"}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_llama", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("flags", [frozenset(), HASWELL, ICE_LAKE, SAPPHIRE])
def test_x86_states_every_switch_and_turns_on_what_is_there(
    script: ModuleType, flags: frozenset[str]
) -> None:
    args = script.cmake_args("Linux", "x86_64", flags)
    assert "-DGGML_NATIVE=OFF" in args
    assert not any("AMX" in arg for arg in args)
    for switch, needed in script.X86_SWITCHES.items():
        assert f"-D{switch}={'ON' if needed <= flags else 'OFF'}" in args


def test_other_processors_get_no_x86_switch(script: ModuleType) -> None:
    pi5 = script.cmake_args("Linux", "aarch64", frozenset({"asimd", "asimddp", "asimdhp", "fphp"}))
    pi4 = script.cmake_args("Linux", "aarch64", frozenset({"asimd"}))
    mac = script.cmake_args("Darwin", "arm64", frozenset())
    for args in (pi5, pi4, mac):
        assert not any("AVX" in arg or "FMA" in arg for arg in args)
    assert "-DGGML_CPU_ARM_ARCH=armv8.2-a+dotprod+fp16" in pi5
    assert "-DGGML_NATIVE=OFF" in pi4
    assert "-DGGML_METAL=ON" in mac


def test_a_flag_counts_only_if_every_core_has_it(script: ModuleType) -> None:
    cpuinfo = "processor: 0\nflags\t: avx2 fma amx_tile\n\nprocessor: 1\nflags\t: avx2 fma\n"
    assert script.cpu_flags(cpuinfo) == {"avx2", "fma"}
    assert script.cpu_flags("") == frozenset()


def test_builds_that_differ_have_folders_of_their_own(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_CACHE_DIR", str(tmp_path))
    args = [script.cmake_args("Linux", "x86_64", flags) for flags in (HASWELL, ICE_LAKE)]
    folders = {
        script.wheel_folder(version, each)
        for version, each in itertools.product(("0.3.36", "0.3.37"), args)
    }
    assert len(folders) == 4
    assert all(folder.parent == tmp_path / "wheels" for folder in folders)
    assert script.wheel_folder("0.3.36", args[0]) == script.wheel_folder("0.3.36", args[0][::-1])


def test_arguments_of_the_environment_come_last_and_change_the_folder(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    plain = script.here_args()
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_CUDA=ON")
    assert script.here_args() == [*plain, "-DGGML_CUDA=ON"]
    assert script.wheel_folder("1", plain) != script.wheel_folder("1", script.here_args())


def test_the_first_finished_build_stays(script: ModuleType, tmp_path: Path) -> None:
    place = tmp_path / "place"
    for name in ("first", "second"):
        work = tmp_path / name
        work.mkdir()
        (work / "llama.whl").write_text(name, encoding="utf-8")
        script.keep(work, place)
    assert script.find_wheel(place).read_text(encoding="utf-8") == "first"


def test_a_build_without_a_wheel_ends_with_a_sentence(script: ModuleType, tmp_path: Path) -> None:
    work = tmp_path / "empty"
    work.mkdir()
    with pytest.raises(SystemExit, match="no wheel in"):
        script.keep(work, tmp_path / "place")
    assert not (tmp_path / "place").exists()


def test_the_pinned_version_is_the_one_of_the_extra(script: ModuleType) -> None:
    project = (SCRIPT.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"{script.PACKAGE}=={script.pinned_version()}"' in project


def test_a_failed_build_leaves_its_log_and_says_where(script: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    with pytest.raises(SystemExit, match=r"exit 3.*build\.log"):
        script.run_with_progress(["sh", "-c", "echo '[2/136] cc'; exit 3"], {}, log)
    assert script.progress(log) == ", step 2/136"
