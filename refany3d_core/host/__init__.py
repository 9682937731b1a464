"""The only package that imports ComfyUI: the method on the host's own seams."""
