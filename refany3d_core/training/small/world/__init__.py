"""A procedural world with exact poses and point maps: solids, textures, scenes, captions."""
