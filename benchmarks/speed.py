"""Time and memory of the method against a plain oracle of the published one.

    python benchmarks/run.py speed [--json FILE] [--sections a,b,c] [--full]

On the CPU a Flux of 1 double and 1 single block at FLUX.1-dev's width, in float32; with --full
(needs a GPU with 40 GB) all 19 + 38 blocks in bfloat16. Ours and the oracle run in turn in one
process on the same weights.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
from datetime import date
from types import SimpleNamespace

import torch

from benchmarks.flux_bench import Bench, Size, measured_peak, stopwatch

LEVEL = 0.7
GIB = 2**30


def run_ours(bench: Bench, applied: SimpleNamespace, cfg: float = 1.0) -> torch.Tensor:
    """One step of the host's Euler sampler: one pass at cfg 1, both otherwise."""
    return bench.sample(applied, [LEVEL, 0.0], cfg)


def one_pass(applied: SimpleNamespace, conditional: bool) -> SimpleNamespace:
    """Applied so that cfg 1 runs the asked pass."""
    positive = applied.positive if conditional else applied.negative
    return SimpleNamespace(model=applied.model, positive=positive, negative=applied.negative)


def run_oracle(bench: Bench, oracle, views: int, conditional: bool) -> torch.Tensor:
    """One pass of the oracle, with what the host would hand to the model."""
    scale = bench.model.model.latent_format.process_in
    device = oracle.embedder["0.weight"].device
    references = torch.cat([bench.views[:views], bench.maps[:views]])
    if not conditional:
        references = bench.black.expand(2 * views, -1, -1, -1)
    tensors = (
        LEVEL * bench.x, torch.tensor([LEVEL]), bench.text, bench.pooled, torch.tensor([3.5]),
        scale(references),
    )  # fmt: skip
    moved = [t.to(device, bench.dtype if t.ndim > 1 else torch.float32) for t in tensors]
    return oracle.predict(*moved, conditional)


def measure(call) -> SimpleNamespace:
    """Seconds and peak bytes above the start of one call."""
    gc.collect()
    with torch.inference_mode(), measured_peak() as peak, stopwatch() as watch:
        result = call()
    return SimpleNamespace(seconds=watch.seconds, gib=peak.bytes / GIB, result=result)


def against_oracle(bench: Bench, counts: list[int], repeats: int) -> list[dict]:
    """Section a: a guided step, ours and the oracle's in turn, each the fastest of the repeats."""
    oracle = bench.oracle()
    rows = []
    for views in counts:
        applied = bench.apply(views)
        best: dict[tuple[str, bool], SimpleNamespace] = {}
        for _ in range(repeats):
            for conditional in (True, False):
                chosen = one_pass(applied, conditional)
                for name, call in (
                    ("ours", lambda: run_ours(bench, chosen)),
                    ("oracle", lambda: run_oracle(bench, oracle, views, conditional)),
                ):
                    found = measure(call)
                    key = (name, conditional)
                    if key not in best or found.seconds < best[key].seconds:
                        best[key] = found
        error = pass_error(bench, best[("ours", True)].result, best[("oracle", True)].result)
        row = {"views": views, "relative error of the conditional pass": error}
        for name in ("ours", "oracle"):
            for conditional, label in ((True, "conditional"), (False, "negative")):
                row[f"{name} {label} s"] = best[(name, conditional)].seconds
            row[f"{name} peak GiB"] = max(best[(name, c)].gib for c in (True, False))
        ours, plain = (
            row[f"{n} conditional s"] + row[f"{n} negative s"] for n in ("ours", "oracle")
        )
        row["ratio"] = ours / plain
        rows.append(row)
        show(row)
    return rows


def pass_error(bench: Bench, denoised: torch.Tensor, velocity: torch.Tensor) -> float:
    """Relative difference of our velocity, from the denoised latent, to the oracle's."""
    state = LEVEL * bench.x
    ours = (state - bench.model.model.latent_format.process_in(denoised)) / LEVEL
    velocity = velocity.to(ours)
    return ((ours - velocity).norm() / velocity.norm()).item()


def against_size(base: Bench, counts: list[int], pixels: list[int]) -> list[dict]:
    """Section b: one guided step of ours by number of views and by resolution."""
    rows = []
    for side in pixels:
        base.resize(side)
        for views in counts if side == 512 else [max(counts)]:
            applied = base.apply(views)
            row: dict[str, float] = {"pixels": side, "views": views}
            for conditional, label in ((True, "conditional"), (False, "negative")):
                chosen = one_pass(applied, conditional)
                found = measure(lambda: run_ours(base, chosen))
                row[f"{label} s"], row[f"{label} peak GiB"] = found.seconds, found.gib
            row["estimate GiB"] = base.memory_estimate(applied) / GIB
            rows.append(row)
            show(row)
    base.resize(512)
    return rows


def guided_steps(bench: Bench, views: int) -> list[dict]:
    """Section d: processor or device seconds of a guided step, and its peak, by setting."""
    from refany3d_core.method.approximation import Approximation

    oracle = bench.oracle()
    rows = []
    plain = [measure(lambda: run_oracle(bench, oracle, views, c)) for c in (True, False)]
    whole = {"seconds": sum(p.seconds for p in plain), "gib": max(p.gib for p in plain)}
    rows.append({"setting": "oracle", **whole})
    show(rows[-1])
    for label, trim, reuse in (
        ("exact", False, 1),
        ("trimmed", True, 1),
        ("reuse, later step", False, 1000),
        ("trimmed with reuse, later step", True, 1000),
    ):
        approximation = Approximation(trim_references=trim, reference_reuse=reuse)
        applied = bench.apply(views, trim, approximation=approximation)
        marks: list[float] = []
        levels = [LEVEL, 0.5, 0.0] if reuse > 1 else [LEVEL, 0.0]
        with stopwatch() as watch:
            marks.append(watch.now())
            found = measure(
                lambda: bench.sample(applied, levels, 2.0, lambda *_: marks.append(watch.now()))
            )
        seconds = marks[-1] - marks[-2]
        row = {"setting": label, "seconds": seconds, "gib": found.gib}
        row["of the oracle's time"] = seconds / whole["seconds"]
        row["of its peak"] = found.gib / whole["gib"]
        rows.append(row)
        show(row)
    return rows


def approximations(bench: Bench, views: int, steps: int, only: str) -> list[dict]:
    """Section c: reuse and guidance interval, their time and the change of the result.

    Args:
        bench: the model.
        views: number of views.
        steps: of the run.
        only: run just the variants whose label contains this, relative to the first of them.
    """
    from refany3d_core.method.approximation import Approximation
    from refany3d_core.method.guidance import published_sigmas

    sigmas = published_sigmas(steps, (bench.pixels // 16) ** 2)
    exact, rows = None, []
    for label, options in (
        ("exact", {}),
        ("reuse 2", {"reference_reuse": 2}),
        ("reuse 4", {"reference_reuse": 4}),
        ("reuse whole run", {"reference_reuse": 1000}),
        ("whole run, isolated", {"reference_reuse": 1000, "isolated_references": True}),
        ("whole run, fp8 in RAM",
         {"reference_reuse": 1000, "fp8_storage": True, "ram_storage": True}),
        ("guidance only above 0.5", {"guidance_end": 0.5}),
        ("guidance only below 0.9", {"guidance_start": 0.9}),
    ):  # fmt: skip
        if only not in label:
            continue
        applied = bench.apply(views, approximation=Approximation(**options))
        marks: list[float] = []
        with stopwatch() as total:
            found = measure(
                lambda: bench.sample(applied, sigmas, 2.0, lambda *_: marks.append(total.now()))
            )
        exact = found.result if exact is None else exact
        later = [b - a for a, b in zip(marks, marks[1:])]
        row = {
            "variant": label,
            "first step s": marks[0],
            "later steps s": sum(later) / len(later),
            "run s": found.seconds,
            "peak GiB": found.gib,
            "relative change": ((found.result - exact).norm() / exact.norm()).item(),
        }
        rows.append(row)
        show(row)
    return rows


def work(size: Size, text: int, target: int, reference: int, pairs: int) -> dict[str, float]:
    """Multiply-adds of a pass in linear layers and in attention, adapters not counted.

    Args:
        size: of the model.
        text: text tokens.
        target: tokens of one target.
        reference: tokens of one reference.
        pairs: reference pairs in the sequence; isolated when there are several.
    """
    main, references = text + 2 * target, 2 * pairs * reference
    total, square = main + references, size.hidden**2
    blocks = size.double_blocks + size.single_blocks
    linear = 12 * square * ((blocks - 1) * total + main) + 2 * square * references
    targets = (text + target) * total + target * (total - text)
    pairwise = references * (main + 2 * reference)
    scores = blocks * targets + (blocks - 1) * pairwise
    return {"linear": float(linear), "attention": 2.0 * size.hidden * scores}


def floors(bench: Bench, views: int, steps: int) -> dict:
    """Section e: seconds a guided step, and how much of it the bare products would take."""
    device = bench.model.load_device
    width = bench.size.hidden
    x = torch.randn(1, 8192, width, device=device, dtype=bench.dtype)
    weight = torch.randn(7 * width, width, device=device, dtype=bench.dtype)
    q = torch.randn(1, bench.size.heads, 8192, 128, device=device, dtype=bench.dtype)
    attention = torch.nn.functional.scaled_dot_product_attention
    rates = {}
    for name, call, amount in (
        ("linear", lambda: torch.nn.functional.linear(x, weight), 8192 * 7 * width**2),
        ("attention", lambda: attention(q, q, q), 2 * width * 8192**2),
    ):
        call()
        found = min(measure(call).seconds for _ in range(5))
        rates[name] = amount / found
    applied = bench.apply(views)
    marks: list[float] = []
    with torch.inference_mode(), stopwatch() as watch:
        sigmas = torch.linspace(1.0, 0.0, steps + 1)
        bench.sample(applied, sigmas, 2.0, lambda *_: marks.append(watch.now()))
    step = (marks[-1] - marks[0]) / (len(marks) - 1)
    target = (bench.pixels // 16) ** 2
    row: dict = {"views": views, "step s": step, "28-step picture s": watch.seconds * 28 / steps}
    for name, rate in rates.items():
        passes = [work(bench.size, bench.size.text_tokens, target, 1024, n) for n in (views, 1)]
        seconds = sum(p[name] for p in passes) / rate
        row[f"{name} TFLOP/s"] = 2 * rate / 1e12
        row[f"{name} floor s"], row[f"{name} share"] = seconds, seconds / step
    show(row)
    return row


def show(row: dict) -> None:
    print(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", help="write the rows to this file")
    parser.add_argument("--sections", default="a,b,c")
    parser.add_argument("--full", action="store_true", help="19 + 38 blocks in bfloat16 on a GPU")
    parser.add_argument("--bfloat16", action="store_true", help="compute in it on a CPU too")
    parser.add_argument("--heads", type=int, default=24, help="width of the model in heads of 128")
    parser.add_argument("--only", default="", help="section c: variants with this in their label")
    parser.add_argument("--views", default="2,4,8")
    parser.add_argument("--pixels", default="384,512,768")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args(arguments)
    counts = [int(n) for n in args.views.split(",")]
    depth = {"double_blocks": 19, "single_blocks": 38} if args.full else {}
    size = Size(heads=args.heads, **depth)
    bench = Bench(size, torch.bfloat16 if args.full or args.bfloat16 else torch.float32)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    report: dict = {
        "date": date.today().isoformat(), "device": device, "threads": torch.get_num_threads(),
        "torch": torch.__version__, "blocks": [size.double_blocks, size.single_blocks],
        "dtype": str(bench.dtype),
    }  # fmt: skip
    show(report)
    run_ours(bench, bench.apply(min(counts)))  # loads the model
    if "a" in args.sections:
        report["a"] = against_oracle(bench, counts, args.repeats)
    if "b" in args.sections:
        report["b"] = against_size(bench, counts, [int(n) for n in args.pixels.split(",")])
    if "c" in args.sections:
        report["c"] = approximations(bench, max(counts), args.steps, args.only)
    if "d" in args.sections:
        report["d"] = guided_steps(bench, max(counts))
    if "e" in args.sections:
        report["e"] = [floors(bench, n, args.steps) for n in counts]
    if args.json:
        with open(args.json, "w") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
