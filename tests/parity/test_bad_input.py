"""Wrong files, models and pictures end in a sentence that says what to do."""

import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file


@pytest.fixture
def lora_file(golden, host_base):
    """Writes a changed copy of the golden Reference-LoRA into models/loras; gives its name."""
    folder = host_base / "models" / "loras"
    made = []

    def write(change, name: str = "changed.safetensors") -> str:
        tensors = change(dict(load_file(folder / "default.safetensors")))
        save_file(tensors, folder / name)
        made.append(folder / name)
        return name

    yield write
    for file in made:
        file.unlink()


def without(*keys: str):
    return lambda tensors: {k: v for k, v in tensors.items() if k not in keys}


A_KEY = "transformer.single_transformer_blocks.1.proj_out.lora_A.weight"


def test_missing_layers_are_named(golden, lora_file):
    with pytest.raises(ValueError, match=r"reference_lora.*single_transformer_blocks.1.proj_out"):
        golden.load_adapters(reference_lora=lora_file(without(A_KEY)))


def test_wrong_rank_is_named(golden, lora_file):
    name = lora_file(lambda t: {**t, A_KEY: t[A_KEY][:2].contiguous()})
    with pytest.raises(ValueError, match=r"1.proj_out' has rank 2 in lora_A but 4 in lora_B"):
        golden.load_adapters(reference_lora=name)


def test_lora_of_another_kind_is_refused(golden, lora_file):
    name = lora_file(lambda t: {"lora_unet_down_blocks_0.lora_down.weight": torch.zeros(4, 320)})
    with pytest.raises(ValueError, match=r"not a RefAny3D LoRA \('lora_unet_down_blocks_0"):
        golden.load_adapters(domain_lora=name)


def test_lora_of_a_deeper_model_is_refused(golden, lora_file):
    def deeper(tensors):
        extra = {k.replace("blocks.1.", "blocks.2."): v.clone() for k, v in tensors.items()}
        return {**tensors, **extra}

    name = lora_file(deeper)
    (adapters,) = golden.load_adapters(reference_lora=name, domain_lora=name)
    usual, golden.adapters = golden.adapters, adapters
    try:
        with pytest.raises(ValueError, match="model with 3 single_blocks, 'model' has 2"):
            golden.apply()
    finally:
        golden.adapters = usual


def test_lora_of_a_model_with_other_widths_is_refused(golden, lora_file):
    key = "transformer.x_embedder.lora_A.weight"
    name = lora_file(lambda t: {**t, key: torch.zeros(4, 128)})
    (adapters,) = golden.load_adapters(reference_lora=name)
    usual, golden.adapters = golden.adapters, adapters
    try:
        with pytest.raises(ValueError, match=r"layer 'img_in' takes 64 .* its LoRA 128"):
            golden.apply()
    finally:
        golden.adapters = usual


def test_domain_embedder_of_another_size_is_refused(golden, lora_file):
    def embedder(_):
        shapes = {
            "0.weight": (2, 256), "1.weight": (512, 256), "1.bias": (512,),
            "3.weight": (512, 512), "3.bias": (512,),
        }  # fmt: skip
        return {key: torch.zeros(shape) for key, shape in shapes.items()}

    with pytest.raises(ValueError, match="is 512 wide but 'default.safetensors' belongs to .* 256"):
        golden.load_adapters(domain_embedder=lora_file(embedder))


def test_lora_in_the_place_of_the_embedder_is_refused(golden):
    with pytest.raises(ValueError, match="is not a domain embedder"):
        golden.load_adapters(domain_embedder="coord.safetensors")


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("with_torch", [True, False])
def test_pickle_with_code_is_refused_and_not_run(golden, host_base, tmp_path, with_torch):
    file = host_base / "models" / "loras" / "evil.pth"
    trace = tmp_path / "was_run"
    if with_torch:
        torch.save({"0.weight": Payload(trace)}, file)
    else:
        file.write_bytes(pickle.dumps({"0.weight": Payload(trace)}))
    try:
        with pytest.raises(ValueError, match="'evil.pth'.*(refused|cannot be read)"):
            golden.load_adapters(domain_embedder="evil.pth")
    finally:
        file.unlink()
    assert not trace.exists()


def test_truncated_file_is_refused(golden, host_base):
    folder = host_base / "models" / "loras"
    short = folder / "short.safetensors"
    short.write_bytes((folder / "default.safetensors").read_bytes()[:5000])
    try:
        with pytest.raises(ValueError, match=r"'short.safetensors' cannot be read"):
            golden.load_adapters(reference_lora="short.safetensors")
    finally:
        short.unlink()


def test_missing_file_is_named(golden):
    with pytest.raises(ValueError, match="domain_lora 'gone.safetensors' is in neither"):
        golden.load_adapters(domain_lora="gone.safetensors")


@pytest.mark.parametrize("kind", ["SDXL", "Chroma", "Flux2"])
def test_model_that_is_not_flux_is_refused(golden, kind):
    import comfy.model_patcher
    import comfy.supported_models

    config = {"disable_unet_model_creation": True, "hidden_size": 256, "in_channels": 4}
    base = getattr(comfy.supported_models, kind)(config).get_model({})
    other = comfy.model_patcher.ModelPatcher(base, torch.device("cpu"), torch.device("cpu"))
    usual, golden.model = golden.model, other
    try:
        with pytest.raises(ValueError, match=f"'model' is {kind}, but RefAny3D needs FLUX.1-dev"):
            golden.apply()
    finally:
        golden.model = usual


def test_foreign_reference_latents_before_apply_are_refused(golden):
    import node_helpers

    latents = {"reference_latents": [torch.zeros(1, 16, 16, 16)]}
    positive = node_helpers.conditioning_set_values(golden.positive(), latents)
    with pytest.raises(ValueError, match="'positive' already carries reference latents"):
        golden.core("host.conditioning").with_references(positive, golden.golden_reference())


def test_foreign_reference_latents_after_apply_are_refused(golden):
    import node_helpers

    applied = golden.apply()
    latents = {"reference_latents": [torch.zeros(1, 16, 16, 16)]}
    applied.positive = node_helpers.conditioning_set_values(applied.positive, latents, append=True)
    with pytest.raises(ValueError, match="another node added reference latents"):
        golden.sample(applied, golden.joint("rgb_latent", "pm_latent"), torch.tensor([1.0, 0]), 1.0)


def test_conditioning_without_references_is_refused(golden):
    applied = golden.apply()
    applied.negative = golden.positive()
    with pytest.raises(ValueError, match="connect the sampler's positive and negative"):
        golden.sample(applied, golden.joint("rgb_latent", "pm_latent"), torch.tensor([1.0, 0]), 2.0)


class FourChannelVAE:
    """Stands in for an SD VAE: the VAE socket's contract is `encode`."""

    def encode(self, pictures):
        return torch.zeros(len(pictures), 4, pictures.shape[1] // 8, pictures.shape[2] // 8)


@pytest.mark.parametrize(
    ("views", "maps", "sentence"),
    [
        ((3, 64, 64), (2, 64, 64), "there are 3 views but 2 point_maps; render both"),
        ((2, 64, 64), (2, 32, 32), "views are 64x64 but point_maps are 32x32; render both"),
        ((2, 72, 64), (2, 72, 64), "views are 64x72, but both have to be multiples of 16"),
        ((2, 64, 64), (2, 64, 64), r"'vae' makes latents of \(4, 8, 8\).*load FLUX's VAE"),
    ],
)
def test_views_that_do_not_fit_are_refused(golden, views, maps, sentence):
    node = golden.nodes["RefAny3D_EncodeReferences"]
    with pytest.raises(ValueError, match=f"Point Map Encode: .*{sentence}"):
        node.execute(FourChannelVAE(), torch.rand(*views, 3), torch.rand(*maps, 3))


def test_split_of_a_latent_that_is_no_pair_of_panels_is_refused(golden):
    node = golden.nodes["RefAny3D_SplitLatent"]
    with pytest.raises(ValueError, match="Split Joint Latent: 'latent' is"):
        node.execute({"samples": torch.zeros(1, 16, 8, 7)})


def test_a_scheduler_without_noise_is_named(golden, pack):
    sigmas = pack.core("host.sampling").sigmas
    with pytest.raises(ValueError, match="scheduler 'kl_optimal' gives no noise .* raise steps"):
        sigmas(golden.model, "kl_optimal", 1, 64, 64)
    assert sigmas(golden.model, "kl_optimal", 2, 64, 64)[0] > 0
