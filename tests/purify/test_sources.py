"""From a name to a folder; the hub is replaced by a function that writes what it was asked for."""

from fnmatch import fnmatch
from pathlib import Path

import huggingface_hub
import pytest

from infoconflict.errors import UserError
from infoconflict.purify.sources import folder_of

FILES = (
    "config.json",
    "model.safetensors",
    "adapter_model.safetensors",
    "pytorch_model.bin",
    "modeling_own.py",
    "README.md",
)


@pytest.fixture
def asked(monkeypatch):
    """Return what the hub is asked for, in order."""
    found = []

    def download(repo, *, revision, allow_patterns, local_dir):
        found.append((repo, revision))
        Path(local_dir).mkdir(parents=True, exist_ok=True)
        for name in FILES:
            if any(fnmatch(name, pattern) for pattern in allow_patterns):
                Path(local_dir, name).write_text(f"{repo} {revision}")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return found


def test_a_directory_stays_where_it_is(asked, tmp_path):
    assert folder_of(str(tmp_path), tmp_path / "downloads") == (tmp_path, str(tmp_path))
    assert not asked
    assert not (tmp_path / "downloads").exists()


def test_only_what_a_model_needs_is_downloaded(asked, tmp_path):
    folder, name = folder_of("some/model@v1", tmp_path)
    assert asked == [("some/model", "v1")]
    assert name == "hub model some/model@v1"
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors", "adapter_model.safetensors"}


def test_each_model_and_each_revision_has_a_folder(asked, tmp_path):
    places = ["some/model", "some/model@v1", "some/model@v2", "other/model@v1"]
    folders = {place: folder_of(place, tmp_path)[0] for place in places}
    assert len(set(folders.values())) == len(places)
    for place, folder in folders.items():
        assert folder.parent == tmp_path
        repo, _, revision = place.partition("@")
        assert (folder / "config.json").read_text() == f"{repo} {revision or None}"
    assert folder_of("some/model@main", tmp_path)[0] == folders["some/model"], "the same, and a broken download goes on"


def test_whatever_the_hub_raises_is_one_sentence(monkeypatch, tmp_path):
    def unreachable(*_, **__):
        raise OSError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(
        UserError, match=r"hub model a/b: cannot be downloaded \(OSError: no route\), .*; check the name"
    ) as caught:
        folder_of("a/b", tmp_path)
    assert "\n" not in str(caught.value)
    snapshots = Path(huggingface_hub.constants.HF_HUB_CACHE) / "models--a--b/snapshots"
    assert "there is no directory of this name" in str(caught.value)
    assert str(caught.value).endswith(f"cp -rL {snapshots}/COMMIT FOLDER makes it")
    with pytest.raises(UserError, match="is no directory"):
        folder_of("neither/folder/nor/model", tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match=rf"is a file; give its folder, {tmp_path}$"):
        folder_of(str(tmp_path / "model.safetensors"), tmp_path)
