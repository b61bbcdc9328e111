"""Every figure of the book, in one style.

The functions return a `Picture`, a matplotlib figure that a notebook shows by itself and that
`picture.savefig("file.png")` writes.  None of them opens a window.

Book: intro/run-it
"""

from gadkit.viz.clusters import plot_points, show_clusters, show_tree
from gadkit.viz.contour import outlined
from gadkit.viz.features import as_images, colour_fields, show_fields, show_rows
from gadkit.viz.pictures import (
    contact_sheet,
    overlay,
    show_comparison,
    show_detections,
    show_images,
    show_windows,
)
from gadkit.viz.plots import plot_bars, plot_curves, plot_scatter, plot_scores, plot_shots
from gadkit.viz.scale import Scale, anomaly_scale, extremes, scale_beyond
from gadkit.viz.style import ANOMALY, INK, PALETTE, Picture, use_style

__all__ = [
    "ANOMALY",
    "INK",
    "PALETTE",
    "Picture",
    "Scale",
    "anomaly_scale",
    "as_images",
    "colour_fields",
    "contact_sheet",
    "extremes",
    "outlined",
    "overlay",
    "plot_bars",
    "plot_curves",
    "plot_points",
    "plot_scatter",
    "plot_scores",
    "plot_shots",
    "scale_beyond",
    "show_clusters",
    "show_comparison",
    "show_detections",
    "show_fields",
    "show_images",
    "show_rows",
    "show_tree",
    "show_windows",
    "use_style",
]
