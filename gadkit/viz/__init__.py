"""Every figure of the book, in one style.

The functions return a `Picture`, a matplotlib figure that a notebook shows by itself and that
`picture.savefig("file.png")` writes.  None of them opens a window.

Book: intro/run-it
"""

import importlib
from typing import Any

_ROOMS = {
    "gadkit.viz.boxes": ("show_boxes",),
    "gadkit.viz.clusters": ("plot_points", "show_clusters", "show_tree"),
    "gadkit.viz.contour": ("outlined",),
    "gadkit.viz.features": ("as_images", "colour_fields", "show_fields", "show_rows"),
    "gadkit.viz.heat": ("plot_table",),
    "gadkit.viz.pictures": (
        "contact_sheet",
        "overlay",
        "show_comparison",
        "show_detections",
        "show_images",
        "show_windows",
    ),
    "gadkit.viz.plots": ("plot_bars", "plot_curves", "plot_scatter", "plot_scores", "plot_shots"),
    "gadkit.viz.roofline": ("plot_roofline",),
    "gadkit.viz.scale": ("Scale", "anomaly_scale", "extremes", "scale_beyond"),
    "gadkit.viz.style": ("ANOMALY", "INK", "PALETTE", "Picture", "use_style"),
}
_ROOM = {name: room for room, names in _ROOMS.items() for name in names}
__all__ = sorted(_ROOM)  # noqa: PLE0605 - the names of the table


def __getattr__(name: str) -> Any:
    """The names of the table, each imported when it is asked for: the scale of maps needs no library that draws."""
    if name not in _ROOM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ROOM[name]), name)


def __dir__() -> list[str]:
    """All that the module has."""
    return sorted({*globals(), *_ROOM})
