"""A node for the server under test: sampling runs out of memory at the n-th operation."""

import comfy.patcher_extension
import torch
from torch.utils._python_dispatch import TorchDispatchMode


class OutOfMemory(TorchDispatchMode):
    def __init__(self, at: int) -> None:
        super().__init__()
        self.done, self.at = 0, at

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.done += 1
        if self.done == self.at:
            raise torch.OutOfMemoryError("Allocation on device, on purpose")
        return func(*args, **(kwargs or {}))


class RunOutOfMemory:
    """`at` 0 counts the operations instead, for `ui.operations`."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "run"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {"model": ("MODEL",), "at": ("INT", {"min": 0, "max": 10**9})}}

    def run(self, model, at: int):
        model = model.clone()
        kind = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE

        def sample(executor, *args, **kwargs):
            mode = OutOfMemory(at)
            with mode:
                result = executor(*args, **kwargs)
            print(f"operations: {mode.done}", flush=True)  # noqa: T201
            return result

        model.add_wrapper_with_key(kind, "run_out_of_memory", sample)
        return (model,)


NODE_CLASS_MAPPINGS = {"RunOutOfMemory": RunOutOfMemory}
