from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from apps.bundle.build import compressed_mb


@pytest.mark.parametrize("has_xz", [True, False])
def test_the_archive_unpacks_to_the_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    has_xz: bool,
) -> None:
    if not has_xz:
        monkeypatch.setenv("PATH", str(tmp_path))  # Python's own compressor then
    folder = tmp_path / "built"
    (folder / "inner").mkdir(parents=True)
    noise = np.random.default_rng(0).bytes(300_000)
    (folder / "inner" / "weights").write_bytes(noise)
    (folder / "zeros").write_bytes(bytes(3_000_000))
    (folder / "program").write_bytes(b"#!")
    (folder / "program").chmod(0o755)
    (folder / "link").symlink_to("program")
    archive = tmp_path / "built.tar.xz"
    n_mb = compressed_mb(folder, archive)
    assert 0.3 < n_mb < 0.32
    with tarfile.open(archive, "r:xz") as packed:
        packed.extractall(tmp_path / "again", filter="data")
    again = tmp_path / "again" / "edgevoice"
    assert (again / "inner" / "weights").read_bytes() == noise
    assert (again / "zeros").stat().st_size == 3_000_000
    assert (again / "program").stat().st_mode & 0o100
    assert (again / "link").is_symlink()
    assert not list(tmp_path.glob("*.part"))
    assert "compressed 100 %" in capsys.readouterr().err
