"""The store gives out only files whose bytes are the locked ones."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

import click
import pytest

from edge.errors import ModelDamagedError, ModelError, ModelMissingError, UsageError
from edge.lock import Lock, LockEntry, LockFile, PackageSource, PypiSource, Source
from edge.store import ModelStore, size_text

FILES = {"weights.bin": bytes(range(256)) * 40, "sub/vocab.txt": b"a\nb\n"}


def lock_file(path: str, data: bytes, *, sized: bool = True) -> LockFile:
    return LockFile(path, hashlib.sha256(data).hexdigest(), len(data) if sized else None)


def make_store(root: Path, files: tuple[LockFile, ...], *sources: Source) -> ModelStore:
    entry = LockEntry(
        name="tiny",
        role="asr",
        format="onnx",
        precision="int8",
        licence="MIT",
        origin="somebody",
        language="en",
        starter=True,
        revision="1",
        files=files,
        sources=sources or (PypiSource(tuple(FILES), "tiny", "1.0", "tiny/"),),
    )
    return ModelStore(Lock(root / "models.lock", (entry,)), root)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    for path, data in FILES.items():
        target = tmp_path / "tiny" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return make_store(tmp_path, tuple(lock_file(path, data) for path, data in FILES.items()))


def test_whole_files_are_given_out_with_absolute_paths(store: ModelStore) -> None:
    files = store.files("tiny")
    assert {path: where.read_bytes() for path, where in files.items()} == FILES
    assert all(where.is_absolute() for where in files.values())
    assert store.directory("tiny") == store.root / "tiny"


def test_one_flipped_bit_anywhere_is_found(store: ModelStore) -> None:
    path = store.root / "tiny" / "weights.bin"
    whole = path.read_bytes()
    for position in (0, len(whole) // 2, len(whole) - 1):
        broken = bytearray(whole)
        broken[position] ^= 1
        path.write_bytes(broken)
        with pytest.raises(ModelDamagedError) as caught:
            store.files("tiny")
        got = hashlib.sha256(broken).hexdigest()[:12]
        want = hashlib.sha256(whole).hexdigest()[:12]
        for word in (str(path), got, want, "edge models fetch tiny"):
            assert word in str(caught.value)


def test_a_cut_off_file_is_damaged_even_where_hashes_are_not_computed(store: ModelStore) -> None:
    path = store.root / "tiny" / "weights.bin"
    path.write_bytes(path.read_bytes()[:-1])
    for hashed in (True, False):
        assert store.status("tiny", hashed=hashed)["weights.bin"] == "damaged"
    with pytest.raises(ModelDamagedError, match="10239 bytes, lock says 10240"):
        store.files("tiny")


def test_a_missing_file_is_told_with_both_ways_to_get_it(store: ModelStore) -> None:
    (store.root / "tiny" / "sub" / "vocab.txt").unlink()
    assert store.status("tiny") == {"weights.bin": "present", "sub/vocab.txt": "missing"}
    with pytest.raises(ModelMissingError) as caught:
        store.files("tiny")
    for word in ("tiny", "10.2 kB", "sub/vocab.txt", "edge models fetch tiny", "import PATH"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damage_is_told_before_absence(store: ModelStore) -> None:
    (store.root / "tiny" / "sub" / "vocab.txt").unlink()
    (store.root / "tiny" / "weights.bin").write_bytes(b"")
    with pytest.raises(ModelDamagedError):
        store.files("tiny")


def test_a_file_of_unknown_size_is_judged_by_its_hash(tmp_path: Path, store: ModelStore) -> None:
    files = tuple(lock_file(path, data, sized=False) for path, data in FILES.items())
    assert len(make_store(tmp_path, files).files("tiny")) == len(FILES)


def package_source(path: str, version: str | None = None) -> PackageSource:
    """A file of click, which every installation has."""
    return PackageSource((path,), "click", version or importlib.metadata.version("click"), "click/")


def test_an_installed_package_is_looked_into(tmp_path: Path) -> None:
    where = Path(click.__file__).with_name("core.py")
    files = (lock_file("core.py", where.read_bytes()),)
    store = make_store(tmp_path, files, package_source("core.py"))
    assert store.files("tiny") == {"core.py": where}
    assert store.directory("tiny") == where.parent


def test_another_version_of_the_package_is_no_source(tmp_path: Path) -> None:
    where = Path(click.__file__).with_name("core.py")
    files = (lock_file("core.py", where.read_bytes()),)
    other = package_source("core.py", "0.0.1")
    absent = PackageSource(("core.py",), "not-installed-at-all", "1.0", "x/")
    assert make_store(tmp_path, files, other, absent).status("tiny") == {"core.py": "missing"}


def test_the_models_folder_comes_first_and_the_package_stands_in_for_a_damaged_file(
    tmp_path: Path,
) -> None:
    where = Path(click.__file__).with_name("core.py")
    store = make_store(
        tmp_path, (lock_file("core.py", where.read_bytes()),), package_source("core.py")
    )
    own = tmp_path / "tiny" / "core.py"
    own.parent.mkdir()
    own.write_bytes(where.read_bytes())
    assert store.files("tiny") == {"core.py": own}
    own.write_bytes(b"broken")
    assert store.files("tiny") == {"core.py": where}


def test_files_in_several_folders_have_no_one_directory(tmp_path: Path) -> None:
    where = Path(click.__file__).with_name("core.py")
    files = (lock_file("core.py", where.read_bytes()), lock_file("own.bin", b"own"))
    store = make_store(tmp_path, files, package_source("core.py"))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "own.bin").write_bytes(b"own")
    assert set(store.files("tiny")) == {"core.py", "own.bin"}
    with pytest.raises(ModelError, match="several folders"):
        store.directory("tiny")


def test_an_unknown_name_is_wrong_use(store: ModelStore) -> None:
    with pytest.raises(UsageError, match="did you mean tiny"):
        store.files("tinny")


def test_sizes_read_well() -> None:
    sizes = (None, 900, 78_090_594, 1_117_320_736)
    want = ["size unknown", "0.9 kB", "78.1 MB", "1.12 GB"]
    assert [size_text(size) for size in sizes] == want
