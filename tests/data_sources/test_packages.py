import hashlib
import importlib.util
import io
import os
import re
import tarfile
import zipfile

import pytest

from infoconflict import packages
from infoconflict.errors import UserError
from infoconflict.packages import PACKAGES, Package, check_package, extract_folder, extract_member, fetch_package

SETUP = """
import pathlib, setuptools
pathlib.Path({marker!r}).touch()
setuptools.setup(name="infoconflict-fixture", version="1.0")
"""


def make_wheel(folder):
    path = folder / "infoconflict_fixture-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("fixture/member.txt", "from the wheel")
        info = "infoconflict_fixture-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: infoconflict-fixture\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


def make_sdist(folder, marker):
    path = folder / "infoconflict_fixture-1.0.tar.gz"
    files = {"setup.py": SETUP.format(marker=str(marker)), "data/member.txt": "from the archive"}
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"infoconflict_fixture-1.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip searches instead of any index."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def pin(monkeypatch):
    def pin(path, member, sha256=None):
        package = Package(
            requirement="infoconflict-fixture==1.0",
            file=path.name,
            sha256=sha256 or hashlib.sha256(path.read_bytes()).hexdigest(),
            member=member,
            about="made by the test",
        )
        monkeypatch.setitem(PACKAGES, "fixture", package)
        return package

    return pin


def test_a_wheel_is_fetched_and_its_member_read(index, pin, tmp_path):
    wheel = make_wheel(index)
    pin(wheel, "fixture/member.txt")
    fetch_package("fixture", tmp_path / "sources" / wheel.name)
    assert (tmp_path / "sources" / wheel.name).read_bytes() == wheel.read_bytes()
    extract_member("fixture", tmp_path / "sources" / wheel.name, tmp_path / "member.txt")
    assert (tmp_path / "member.txt").read_text() == "from the wheel"


def test_a_folder_of_a_wheel_is_read_without_what_is_below_it(pin, tmp_path):
    wheel = tmp_path / "fixture.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("fixture/model/a.json", "fixture/model/b.bin", "fixture/model/sub/c.json", "fixture/other.txt"):
            archive.writestr(name, name)
    pin(wheel, "fixture/model/")
    extract_folder("fixture", wheel, tmp_path / "out")
    assert {file.name: file.read_text() for file in (tmp_path / "out").iterdir()} == {
        "a.json": "fixture/model/a.json",
        "b.bin": "fixture/model/b.bin",
    }
    pin(wheel, "fixture/nowhere/")
    with pytest.raises(UserError, match="cannot read fixture/nowhere/"):
        extract_folder("fixture", wheel, tmp_path / "none")


def test_a_source_archive_is_fetched_without_a_build_environment(index, pin, tmp_path):
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed, so pip would need an index for a build environment")
    archive = make_sdist(index, tmp_path / "ran")
    make_wheel(index)  # must not be taken instead
    pin(archive, "data/member.txt")
    fetch_package("fixture", tmp_path / archive.name)
    extract_member("fixture", tmp_path / archive.name, tmp_path / "member.txt")
    assert (tmp_path / "member.txt").read_text() == "from the archive"


def test_another_digest_is_named_beside_the_pinned_one_and_no_code_runs(index, pin, tmp_path):
    archive = make_sdist(index, tmp_path / "ran")
    served = hashlib.sha256(archive.read_bytes()).hexdigest()
    pin(archive, "data/member.txt", sha256="0" * 64)
    with pytest.raises(UserError, match=f"serves a file with SHA-256 {served} where {'0' * 64} is pinned") as caught:
        fetch_package("fixture", tmp_path / "out" / archive.name)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_a_file_that_pip_cannot_find_is_named_with_a_way_out(index, pin, tmp_path):
    pin(make_wheel(tmp_path), "fixture/member.txt")
    out = tmp_path / "out" / "file.whl"
    with pytest.raises(UserError, match=rf"not downloaded, pip says: .*by hand and put it at {re.escape(str(out))}"):
        fetch_package("fixture", out)
    assert not out.parent.exists()


def test_an_index_out_of_reach_is_called_that(index, pin, tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    pin(make_wheel(tmp_path), "fixture/member.txt")
    with pytest.raises(UserError, match="the package index cannot be reached; check the network") as caught:
        fetch_package("fixture", tmp_path / "file.whl")
    assert "\n" not in str(caught.value)


def test_a_missing_pip_is_named(pin, tmp_path, monkeypatch):
    pin(make_wheel(tmp_path), "fixture/member.txt")
    message = packages._why_pip_failed(PACKAGES["fixture"], "/usr/bin/python: No module named pip\n", tmp_path / "x")
    assert "ensurepip" in message


def test_a_file_put_there_by_hand_is_checked(pin, tmp_path):
    wheel = make_wheel(tmp_path)
    package = pin(wheel, "fixture/member.txt")
    with pytest.raises(UserError, match=f"no such file; download {package.file}"):
        check_package("fixture", tmp_path / "absent.whl")
    other = tmp_path / "other.whl"
    other.write_bytes(b"something else")
    with pytest.raises(
        UserError, match=f"SHA-256 is {hashlib.sha256(b'something else').hexdigest()} where {package.sha256}"
    ):
        extract_member("fixture", other, tmp_path / "member.txt")
    assert not (tmp_path / "member.txt").exists()


@pytest.mark.parametrize("name", ["broken.whl", "broken.tar.gz", "cut.tar.gz"])
def test_a_broken_archive_leaves_nothing(pin, tmp_path, name):
    broken = tmp_path / name
    whole = make_sdist(tmp_path, tmp_path / "ran").read_bytes()
    broken.write_bytes(whole[: len(whole) // 2] if name.startswith("cut") else b"not an archive")
    pin(broken, "data/member.txt")
    with pytest.raises(UserError, match=r"cannot read data/member\.txt"):
        extract_member("fixture", broken, tmp_path / "member.txt")
    assert not (tmp_path / "member.txt").exists()


def test_an_absent_member_is_named(pin, tmp_path):
    wheel = make_wheel(tmp_path)
    pin(wheel, "fixture/elsewhere.txt")
    with pytest.raises(UserError, match=r"cannot read fixture/elsewhere\.txt"):
        extract_member("fixture", wheel, tmp_path / "member.txt")


def test_an_unknown_package_suggests_the_known_one():
    with pytest.raises(UserError, match="did you mean 'vader_film_reviews'"):
        check_package("vader_film_review", "x")
