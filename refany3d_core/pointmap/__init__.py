"""What a generated point map says: where on the asset every pixel lies."""
