"""The host plans for what a run really takes."""

import pytest
import torch

TOLERANCE = 0.25


@pytest.fixture(scope="module")
def bench(golden):
    from benchmarks.flux_bench import Bench, Size

    return Bench(Size(heads=10, text_width=64, text_tokens=512, pooled_width=32), torch.float32)


@pytest.mark.parametrize(("views", "pixels"), [(2, 512), (6, 512), (2, 640)])
def test_estimate_is_near_the_measured_peak(bench, monkeypatch, views, pixels):
    import comfy.model_management

    from benchmarks.flux_bench import measured_peak

    planned = []
    load = comfy.model_management.load_models_gpu

    def record(models, memory_required=0, minimum_memory_required=0, **kwargs):
        planned.append(minimum_memory_required)
        return load(
            models, memory_required, minimum_memory_required=minimum_memory_required, **kwargs
        )

    bench.resize(pixels)
    applied = bench.apply(views)
    bench.sample(applied, [0.7, 0.0], cfg=1.0)  # loads the model
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", record)
    with measured_peak() as peak:
        bench.sample(applied, [0.7, 0.0], cfg=2.0)
    print(f"planned {planned[-1] / 2**20:.0f} MiB, measured {peak.bytes / 2**20:.0f} MiB")  # noqa: T201
    assert abs(planned[-1] / peak.bytes - 1) < TOLERANCE
