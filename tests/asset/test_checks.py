"""Values of the wrong kind at a node's inputs end in a sentence that names node and input."""

import math

import pytest
import torch


@pytest.mark.parametrize(
    ("node", "inputs", "said"),
    [
        ("EncodeReferences", {"vae": 5}, "^Point Map Encode: 'vae' is 5, not a VAE"),
        ("EncodeReferences", {"vae": None}, "^Point Map Encode: 'vae' is NoneType, not a VAE"),
        ("Apply", {"adapters": {}}, "^Apply RefAny3D: 'adapters' is dict, not adapters"),
        ("SplitLatent", {"latent": {"samples": 1}}, "^Split Joint Latent: 'latent' is dict, not"),
        ("RenderViews", {"pitch": math.nan}, "^Render Reference Views: 'pitch' is nan, not a"),
        ("RenderViews", {"radius": math.inf}, "^Render Reference Views: 'radius' is inf, not a"),
    ],
)
def test_wrong_kinds(pack, node, inputs, said):
    valid = {
        "EncodeReferences": dict.fromkeys(("views", "point_maps"), torch.zeros(1, 64, 64, 3)),
        "Apply": {"model": _Model(), "reference": None, "positive": []},
        "SplitLatent": {},
        "RenderViews": {"mesh": None},
    }[node]  # fmt: skip
    with pytest.raises(ValueError, match=said):
        pack.nodes[f"RefAny3D_{node}"].execute(**{**valid, **inputs})


class _Model:
    model_options: dict = {}

    def clone(self):
        return self
