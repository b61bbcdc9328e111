"""The two layouts in which processors are published, in one place for all tests of published classes."""

import json
from pathlib import Path

LAYOUTS = ("processor_config.json", "preprocessor_config.json")


def rewrite(checkpoint: Path, layout: str) -> None:
    """Bring the processor beside a checkpoint, as transformers saves it today, into the layout of that file name."""
    held = checkpoint.with_name("processor_config.json")
    if layout != held.name:
        record = json.loads(held.read_text())
        held.with_name(layout).write_text(json.dumps(record["image_processor"]))
        held.unlink()
