"""The base of the self-supervised methods: an encoder, and the class token that stands for the image.

Book: selfsup/simclr
"""

from jaxtyping import Float
from torch import Tensor

from gadkit.method import MethodBase
from gadkit.nn import ViT


class SelfSupervised(MethodBase):
    """An encoder and the sizes of its views; a method adds its head, `views`, `loss` and `collapse`."""

    pool = "cls"

    def __init__(self, encoder: ViT | None = None) -> None:
        super().__init__()
        self.encoder = ViT() if encoder is None else encoder
        self.size = self.encoder.side * self.encoder.patch_size  # of a view, in pixels
        self.half = self.encoder.side // 2 * self.encoder.patch_size  # of a small one

    def represent(self, views: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b w"]:
        """The class token: what stays when the head is gone."""
        return self.encoder(views)[:, 0]
