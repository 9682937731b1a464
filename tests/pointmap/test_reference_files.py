"""Save Reference and Load Reference: what is on disk, and what the system may refuse."""

import os
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def references(pack):
    """Reference class, and the two nodes."""
    return (
        pack.core("reference").Reference,
        pack.nodes["RefAny3D_SaveReference"],
        pack.nodes["RefAny3D_LoadReference"],
    )


def make(Reference, seed=0, views=2):
    g = torch.Generator().manual_seed(seed)
    shapes = (views, 16, 8, 8), (views, 16, 8, 8), (1, 16, 8, 8)
    return Reference(*(torch.randn(shape, generator=g) for shape in shapes))


def test_reference_goes_to_a_file_and_back(references):
    Reference, save, load = references
    first, second = make(Reference), make(Reference, 1)
    save.execute(first, "my cow-1")
    assert "my cow-1" in load.define_schema().inputs[0].options
    assert load.validate_inputs("my cow-1") is True
    (again,) = load.execute("my cow-1").result
    for name in ("view_latents", "point_map_latents", "empty_latent"):
        assert torch.equal(getattr(again, name), getattr(first, name))
    before = load.fingerprint_inputs("my cow-1")
    save.execute(second, "my cow-1")
    assert load.fingerprint_inputs("my cow-1") != before
    assert torch.equal(load.execute("my cow-1").result[0].view_latents, second.view_latents)


def test_sampling_from_a_loaded_reference_is_the_same(golden, references):
    _, save, load = references
    reference = golden.golden_reference()
    save.execute(reference, "golden")
    noise = golden.joint("noise_rgb_latent", "noise_pm_latent")
    sigmas = torch.tensor([1.0, 0.5, 0.0])
    outs = [
        golden.sample(golden.apply(r), noise, sigmas, 2.0)
        for r in (reference, load.execute("golden").result[0])
    ]
    assert torch.equal(*outs)


@pytest.mark.parametrize("name", ["", "../evil", "a/b", ".hidden", "c:x"])
def test_names_that_are_no_file_names(references, name):
    Reference, save, load = references
    with pytest.raises(ValueError, match="Save Reference: name is"):
        save.execute(make(Reference), name)
    assert "there is no" in load.validate_inputs(name)


def test_damaged_and_foreign_files(references, host_base):
    Reference, save, load = references
    folder = host_base / "models" / "refany3d" / "references"
    save.execute(make(Reference), "cut")
    path = folder / "cut.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="'cut' cannot be read .* save the reference again"):
        load.execute("cut")
    save_file({"a": torch.zeros(1)}, folder / "lora.safetensors")
    with pytest.raises(ValueError, match="'lora' is no reference"):
        load.execute("lora")
    save.execute(Reference(*[torch.zeros(n, 16, 8, 8) for n in (2, 3, 1)]), "uneven")
    with pytest.raises(ValueError, match="shapes that do not belong together"):
        load.execute("uneven")
    save.execute(Reference(*[torch.full((1, 16, 8, 8), torch.nan)] * 3), "nan")
    with pytest.raises(ValueError, match="NaN or infinite"):
        load.execute("nan")
    with pytest.raises(ValueError, match="there is no 'nothing' in models/refany3d/references"):
        load.execute("nothing")


@pytest.fixture
def folder(host_base):
    folder = host_base / "models" / "refany3d" / "references"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_saved_references_are_not_offered_as_adapters(pack, references, folder):
    Reference, save, _ = references
    save.execute(make(Reference), "no lora")
    save_file({"a": torch.zeros(1)}, folder.parent / "a lora.safetensors")
    options = pack.nodes["RefAny3D_LoadAdapters"].define_schema().inputs[0].options
    assert "a lora.safetensors" in options
    assert not [name for name in options if "no lora" in name]


def test_files_have_the_rights_of_the_umask(references, folder):
    Reference, save, _ = references
    before = os.umask(0o027)
    try:
        save.execute(make(Reference), "shared")
    finally:
        os.umask(before)
    if os.name != "nt":
        assert oct((folder / "shared.safetensors").stat().st_mode & 0o777) == "0o640"
    assert not list(folder.glob(".*"))


def test_what_killed_processes_left_is_removed(references, folder):
    Reference, save, _ = references
    old, new = folder / ".tmpAbCd", folder / ".0123.part"
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    save.execute(make(Reference), "tidy")
    assert not old.exists()
    assert new.exists()  # another process may be writing it
    new.unlink()


def test_the_state_tells_whether_the_file_is_still_the_saved_one(references, folder):
    """What the host's cache goes by: the same as long as a run need not save again."""
    Reference, save, _ = references
    path = folder / "kept.safetensors"
    path.unlink(missing_ok=True)
    first = save.fingerprint_inputs("kept")
    save.execute(make(Reference), "kept")
    assert save.fingerprint_inputs("kept") == first
    path.unlink()
    gone = save.fingerprint_inputs("kept")
    assert gone != first
    save.execute(make(Reference), "kept")
    assert save.fingerprint_inputs("kept") == gone
    path.write_bytes(b"another's")
    foreign = save.fingerprint_inputs("kept")
    assert foreign not in (first, gone)
    save.execute(make(Reference), "kept")
    assert save.fingerprint_inputs("kept") == foreign
    save.execute(make(Reference, 1), "kept")  # another asset under the same name
    assert save.fingerprint_inputs("kept") != foreign


TRY_ALL = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from comfy.cli_args import args
args.cpu = True
import folder_paths, torch
from refany3d_core.host import reference_files
from refany3d_core.host.model_files import FOLDER
from refany3d_core.reference import Reference
tensor = torch.zeros(4, 16, 64, 64)
def attempt(call, *arguments):
    try:
        print("done", call(*arguments))
    except ValueError as error:
        print(error)
for folder in sys.argv[3:]:
    folder_paths.folder_names_and_paths[FOLDER] = ([folder], {".safetensors"})
    attempt(reference_files.save_reference, Reference(tensor, tensor, tensor[:1]), "big")
    print(sorted(str(path.name) for path in Path(folder, "references").iterdir()))
references = Path(folder, "references")
Path(references, "big.safetensors").chmod(0)
attempt(reference_files.load_reference, "big")
references.chmod(0o500)
attempt(reference_files.save_reference, Reference(tensor, tensor, tensor[:1]), "next")
"""
MOUNT_AND_RUN = """
mount -t tmpfs -o size=200k tmpfs "$1" && mount -t tmpfs -o ro tmpfs "$2" && shift 2 &&
exec setpriv --bounding-set=-dac_override,-dac_read_search "$@"
"""


def test_disks_and_rights_that_refuse(tmp_path, pack):
    """A real full disk, a real read-only one and files without rights, for one process alone."""
    folders = [tmp_path / name for name in ("full", "read-only", "rights")]
    mounts = [folder / "references" for folder in folders]
    for folder in mounts:
        folder.mkdir(parents=True)
    shell = ["unshare", "-Urm", "sh", "-c", MOUNT_AND_RUN, "sh", *mounts[:2]]
    try:
        subprocess.run([*shell, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mounts of one's own on this system")
    root = os.path.dirname(pack.package.__file__)
    arguments = [TRY_ALL, os.environ["REFANY3D_COMFYUI"], root, *folders]
    result = subprocess.run(
        [*shell, sys.executable, "-c", *arguments], capture_output=True, text=True
    )
    full, left, read_only, empty, done, kept, unreadable, forbidden = result.stdout.splitlines()
    refused = "Save Reference: 'big' cannot be written; "
    assert full == f"{refused}the disk of {mounts[0]} is full: make room there and queue again"
    assert read_only.startswith(f"{refused}{mounts[1]} is read-only: make it writable")
    assert left == empty == "[]"
    assert (done, kept) == ("done True", "['big.safetensors']")
    file = mounts[2] / "big.safetensors"
    assert unreadable == (
        f"Load Reference: 'big' cannot be read; ComfyUI has no right to read {file}: give it that "
        "right"
    )
    assert forbidden.startswith("Save Reference: 'next' cannot be written; ComfyUI has no right to")


def test_a_name_that_is_too_long(references):
    Reference, save, load = references
    save.execute(make(Reference), "n" * 240)
    assert load.validate_inputs("n" * 240) is True
    with pytest.raises(ValueError, match="too long for its disk: shorten it"):
        save.execute(make(Reference), "é" * 240)
