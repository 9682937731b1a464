"""models/refany3d, and files that people sorted into folders of their own."""

import pytest


@pytest.fixture
def model_files(pack):
    return pack.core("host.model_files")


def test_the_folder_is_there_from_the_start(host_base, model_files):
    assert (host_base / "models" / "refany3d").is_dir()


def test_a_published_name_is_found_in_any_subfolder(host_base, model_files):
    """The templates say `default.safetensors`."""
    for folder in ("loras/styles", "loras/RefAny3D/2026"):
        file = host_base / "models" / folder / "default_here.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    found = model_files.find_file("default_here.safetensors", "reference_lora")
    assert found.replace("\\", "/").endswith("loras/RefAny3D/2026/default_here.safetensors")


def test_two_of_one_name_are_not_guessed_between(host_base, model_files):
    for folder in ("loras/one", "loras/two"):
        file = host_base / "models" / folder / "twice.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    with pytest.raises(ValueError, match="more than once"):
        model_files.find_file("twice.safetensors", "domain_lora")
    assert model_files.find_file("one/twice.safetensors", "domain_lora")


def test_a_file_that_is_nowhere_names_both_folders(model_files, pack):
    node = pack.nodes["RefAny3D_LoadAdapters"]
    said = node.validate_inputs("nowhere.safetensors", "nowhere.safetensors", "nowhere.pth")
    assert "models/refany3d" in said and "models/loras" in said
