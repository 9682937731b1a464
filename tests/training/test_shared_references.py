"""One pass over the references serves several targets, and gives what separate passes give."""

import torch

from refany3d_core.training.adapters import Adapters
from refany3d_core.training.sequence import ReferenceMemory, make_sequence, split_sequence
from refany3d_core.training.transformer import Flux, FluxShape

TEXT, GRID, PAIRS, ASSETS, COPIES = 5, (3, 3), 2, 2, 3


def setup() -> tuple[Flux, Adapters]:
    torch.manual_seed(0)
    model = Flux(FluxShape(256, 1, 2, 32, 32))
    adapters = Adapters(model.shape, 4)
    for parameter in (*model.parameters(), *adapters.parameters()):
        torch.nn.init.normal_(parameter, std=0.05)
    return model, adapters


def predict(model, adapters, targets, references, text, t, copies):
    sequence = make_sequence(TEXT, GRID, GRID, PAIRS, "cpu")
    main, alone = split_sequence(sequence)
    memory, n = ReferenceMemory(copies), len(references)
    extra = adapters.deltas(), adapters.domain_tokens(), memory
    pooled, guidance = torch.zeros(len(t), 32), torch.ones(len(t))
    model(alone, references, text[:n, :0], pooled[:n], t[:n], guidance[:n], *extra)
    return model(main, targets, text, pooled, t, guidance, *extra)


def test_sharing_equals_separate_passes_in_values_and_gradients():
    model, adapters = setup()
    references = torch.randn(ASSETS, 2 * PAIRS * 9, 64)
    targets = torch.randn(ASSETS * COPIES, 18, 64)
    text, t = torch.randn(ASSETS * COPIES, TEXT, 32), torch.rand(ASSETS * COPIES)
    grads, outs = [], []
    for copies in (COPIES, 1):
        views = references if copies > 1 else references.repeat_interleave(COPIES, 0)
        out = predict(model, adapters, targets, views, text, t, copies)
        model.zero_grad()
        out.square().mean().backward()
        outs.append(out.detach())
        grads.append(model.single_blocks[0].linear1.weight.grad.clone())
    assert torch.allclose(outs[0], outs[1], rtol=0, atol=1e-5 * float(outs[1].std()))
    assert torch.allclose(grads[0], grads[1], rtol=0, atol=1e-4 * float(grads[1].abs().max()))


def test_each_target_reads_its_own_assets_references():
    model, adapters = setup()
    references = torch.randn(ASSETS, 2 * PAIRS * 9, 64)
    targets = torch.randn(1, 18, 64).expand(ASSETS * COPIES, -1, -1)
    text = torch.randn(1, TEXT, 32).expand(ASSETS * COPIES, -1, -1)
    t = torch.full((ASSETS * COPIES,), 0.5)
    with torch.no_grad():
        out = predict(model, adapters, targets, references, text, t, COPIES)
    same, other = (out[0] - out[1]).norm(), (out[0] - out[COPIES]).norm()
    assert same < 1e-4 * out[0].norm()
    assert other > 1e-2 * out[0].norm()


def test_gradient_checkpointing_changes_no_gradient():
    model, adapters = setup()
    references, targets = torch.randn(ASSETS, 2 * PAIRS * 9, 64), torch.randn(6, 18, 64)
    text, t = torch.randn(6, TEXT, 32), torch.rand(6)
    grads = []
    for model.gradient_checkpointing in (False, True):
        model.zero_grad()
        predict(model, adapters, targets, references, text, t, COPIES).square().mean().backward()
        grads.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1]) > 20
    for plain, checkpointed in zip(*grads):
        assert torch.allclose(plain, checkpointed, rtol=0, atol=1e-6 * float(plain.abs().max()))
