"""The paper's ideas, one a module, in plain torch: nothing here knows ComfyUI."""
