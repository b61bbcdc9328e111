"""Images: a procedural factory that makes them and readers for folders that hold them."""
