"""The encoding baseline: into `w`, through the frozen generator (Yang et al. 2022, Eq. 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.method import EncodingConfig
from pipeline.config.train import TrainConfig
from pipeline.student.backbone import build_backbone
from pipeline.student.view_size import resize
from pipeline.teacher.interface import MappedGenerator
from pipeline.train.method import Batch, Method, MethodContext, StepOutput
from pipeline.train.perceptual import build_lpips, resolve_perceptual

_MIN_LPIPS_SIDE = 64  # AlexNet's strides leave nothing of smaller images


class Encoding(Method):
    """‖G(E(x)) - x‖₁ + LPIPS(G(E(x)), x) + β ‖E(x) - w‖², the last on synthetic images; each a mean
    over all elements, G with the noise maps of the checkpoint. Images are compared at the size of
    the views, which the encoder sees: G's are resampled to it.

    Raises:
        UserError: if LPIPS is asked for and not at hand.
    """

    synthetic_views = 1
    real_views = 1

    def __init__(
        self, config: TrainConfig, context: MethodContext, options: EncodingConfig
    ) -> None:
        super().__init__(config, context)
        generator = context.load_generator()
        assert isinstance(generator, MappedGenerator)  # or the stage would not have begun
        self._frozen = (generator,)  # in a tuple: no part of what is trained and saved
        self.backbone = build_backbone(config.student, config.seed)
        self.head = nn.Linear(self.backbone.representation_dim, generator.arch.w_dim)
        self.latent_weight = options.latent_weight
        self._perceptual = (build_lpips(),) if resolve_perceptual(options) == "lpips" else ()
        self.register_buffer("mean", torch.tensor(config.pixel_mean)[:, None, None], False)
        self.register_buffer("std", torch.tensor(config.pixel_std)[:, None, None], False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, batch: Batch) -> StepOutput:
        """Image terms of all images, and the latent term of the synthetic ones."""
        assert batch.pooled is not None
        views = torch.cat([*batch.synthetic, *batch.real])
        encoded = torch.cat(self.in_passes(self._encode, [*batch.synthetic, *batch.real]))
        images = 2 * (views * self.std + self.mean) - 1  # back to the generator's range
        with torch.autocast(
            views.device.type, enabled=False
        ):  # the generator has its own precision
            rendered = self._render(encoded, views.shape[-1])
        num_synthetic = len(batch.pooled)
        errors = {  # of each sample
            "pixels": (rendered - images).abs().mean((1, 2, 3)),
            "latents": (encoded[:num_synthetic] - batch.pooled).square().mean(1),
        }
        for network in self._perceptual:
            errors["perceptual"] = self._distances(network, rendered, images)
        terms = {name: self.gather(error).mean() for name, error in errors.items()}
        weights = {"latents": self.latent_weight}
        loss = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
        return StepOutput(loss, terms, {"encoded": self.gather(encoded)})

    def _encode(self, views: Tensor) -> Tensor:
        encoded: Tensor = self.head(self.backbone(views))
        return encoded

    def _render(self, encoded: Tensor, side: int) -> Tensor:
        """`w` [n, w_dim] -> images [n, 3, side, side], nominally in [-1, 1]."""
        (generator,) = self._frozen
        ws = encoded[:, None].expand(-1, generator.num_ws, -1)
        image = generator.synthesise(ws.float(), "const")
        image = resize(image, side)
        return image.expand(-1, 3, -1, -1) if image.shape[1] == 1 else image

    def _distances(self, network: nn.Module, rendered: Tensor, images: Tensor) -> Tensor:
        """LPIPS of each sample, [n]."""
        network.to(rendered.device)
        side = max(_MIN_LPIPS_SIDE, images.shape[-1])
        sized = [
            F.interpolate(part.clamp(-1, 1), (side, side), mode="bilinear", align_corners=False)
            for part in (rendered, images)
        ]
        distances: Tensor = network(*sized)
        return distances.flatten()
