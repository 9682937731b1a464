"""Train RefAny3D LoRAs in the real server: it trains, an interrupt loses nothing, and what it made
makes a picture in the same graph."""

import json
import os
import time

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

pytestmark = pytest.mark.server
FILES = ("default", "coord", "domain_embedder")
SIDE = 64


@pytest.fixture(scope="module")
def dataset(server) -> str:
    """A dataset in the published layout in the output folder, as Save Triplet leaves it."""
    import av

    folder = server.output_folder() / "refany3d" / "cubes"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    entries = []
    for i in range(3):
        names = {"json": f"{i}.json", "image": f"{i}.png", "video": f"{i}_rgb.mkv",
                 "coord": f"{i}_map.mkv", "pose_coord": f"{i}_map.png"}  # fmt: skip
        (folder / names["json"]).write_text(json.dumps({"text": f"a cube {i}", "item": f"c{i}"}))
        picture = rng.integers(0, 255, (SIDE, SIDE, 4), np.uint8)
        Image.fromarray(picture[..., :3]).save(folder / names["image"])
        Image.fromarray(picture).save(folder / names["pose_coord"])
        for key in ("video", "coord"):
            with av.open(str(folder / names[key]), "w") as video:
                stream = video.add_stream("ffv1", rate=8)
                stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "bgr0"
                for _ in range(2):
                    pixels = rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)
                    video.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
                video.mux(stream.encode())
        entries.append(names)
    (folder / "meta_data.json").write_text(json.dumps(entries))
    return "cubes"


def graph(dataset: str, steps: int, **settings: object) -> dict:
    """Train on the stand-ins, then a picture of the bundled mesh by what was trained."""
    nodes = {
        "model": ("UNETLoader", {"unet_name": "standin_flux.safetensors",
                                 "weight_dtype": "default"}),
        "clip": ("DualCLIPLoader", {"clip_name1": "standin_clip_l.safetensors",
                                    "clip_name2": "standin_clip_l.safetensors", "type": "sd3"}),
        "vae": ("VAELoader", {"vae_name": "standin_vae.safetensors"}),
        "train": ("RefAny3D_Train", {
            "model": ["model", 0], "clip": ["clip", 0], "vae": ["vae", 0], "dataset": dataset,
            "steps": steps, "learning_rate": 1.0, "rank": 4, "resume": True, "name": "cubes",
            "views": 2, "resolution": SIDE, **settings,
        }),
        "mesh": ("RefAny3D_LoadMesh", {"mesh_file": "spot.glb"}),
        "views": ("RefAny3D_RenderViews", {"mesh": ["mesh", 0], "views": 2, "resolution": SIDE,
                                           "radius": 4.0, "pitch": 0.0, "y_rotation": 0.0}),
        "reference": ("RefAny3D_EncodeReferences", {"vae": ["vae", 0], "views": ["views", 0],
                                                    "point_maps": ["views", 1]}),
        "prompt": ("CLIPTextEncode", {"clip": ["clip", 0], "text": "a cube"}),
        "sampler": ("RefAny3D_Sampler", {
            "model": ["model", 0], "adapters": ["train", 0], "reference": ["reference", 0],
            "positive": ["prompt", 0], "seed": 1, "width": SIDE, "height": SIDE, "steps": 2,
            "image_guidance": 2.0, "sampler_name": "euler", "scheduler": "refany3d",
        }),
        "decode": ("VAEDecode", {"samples": ["sampler", 0], "vae": ["vae", 0]}),
        "save": ("SaveImage", {"images": ["decode", 0], "filename_prefix": "trained"}),
        "loss": ("LossGraphNode", {"loss": ["train", 1], "filename_prefix": "loss"}),
    }  # fmt: skip
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


def test_it_trains_is_interrupted_goes_on_and_makes_a_picture(server, dataset):
    run = server.output_folder() / "RefAny3D_training" / "cubes"
    checkpoint = run / "adapters.resume.safetensors"
    prompt = server.queue(graph(dataset, 100000))
    while not (run / "adapters.csv").exists():
        assert prompt not in server.get(f"/history/{prompt}"), server.log()[-3000:]
        time.sleep(0.1)
    server.interrupt()
    assert server.wait(prompt)["status"]["status_str"] != "success"
    with safe_open(checkpoint, "pt") as file:
        done = int(file.metadata()["step"])
    assert done >= 1
    outputs = server.run(graph(dataset, done + 20))
    assert len((run / "adapters.csv").read_text().splitlines()) > 20
    files = server.files(outputs)
    assert any(file.name.startswith("trained") for file in files)
    folder = server.base / "models" / "refany3d" / "cubes"
    assert sorted(os.listdir(folder)) == sorted(f"{file}.safetensors" for file in FILES)
    with safe_open(folder / "default.safetensors", "pt") as file:
        assert any(file.get_tensor(key).any() for key in file.keys() if "lora_B" in key)


def test_a_dataset_that_is_not_there_is_named(server):
    from comfy_server import ServerError

    with pytest.raises(ServerError, match="there is no dataset 'nothing' in output/refany3d"):
        server.run(graph("nothing", 2))


def test_a_fault_in_the_dataset_is_named(server, dataset):
    from comfy_server import ServerError

    with pytest.raises(ServerError, match="Train RefAny3D LoRAs: 3 of 3 records are faulty"):
        server.run(graph(dataset, 2, views=5, name="other"))
