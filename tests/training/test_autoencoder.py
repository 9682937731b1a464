"""The linear encoder is the same map in the trainer and in the stock VAE that loads its file."""

import pytest
import torch

from refany3d_core.training.config import WorldConfig
from refany3d_core.training.small.autoencoder import Autoencoder
from refany3d_core.training.small.world.triplets import world_source


@pytest.fixture(scope="module")
def fitted() -> tuple[Autoencoder, torch.Tensor]:
    torch.manual_seed(0)
    chunk = world_source(WorldConfig(resolution=48, chunk=16, assets=16), "train").make(0)
    pool = torch.cat([chunk.views.flatten(0, 2), chunk.targets.flatten(0, 2)])
    model = Autoencoder()
    model.fit(pool)
    return model, pool[:8].float() / 255


def test_components_hold_the_pictures(fitted):
    model, pictures = fitted
    latents = model.encode(pictures)
    back = torch.linalg.pinv(model.projection)
    patches = torch.nn.functional.pixel_unshuffle(pictures, 8)
    decoded = torch.einsum("pk,bkhw->bphw", back, latents - model.bias[:, None, None])
    assert (decoded - patches).square().mean() < 0.15 * patches.var()


def test_latents_are_nearly_white(fitted):
    model, pictures = fitted
    deviation = model.encode(pictures).std((0, 2, 3))
    assert 0.3 < float(deviation.min()) and float(deviation.max()) < 3


def test_the_stock_vae_gives_the_trainers_latents(fitted):
    import comfy.sd
    from comfy.latent_formats import Flux

    model, pictures = fitted
    vae = comfy.sd.VAE(sd=model.host_state_dict())
    latents = Flux().process_in(vae.encode(pictures.movedim(1, -1)))
    assert torch.allclose(latents.float(), model.encode(pictures), atol=1e-4)
    assert vae.decode(latents).shape == (8, 48, 48, 3)
