"""What a way to train is: a module that turns the batch of a step into named losses.

Neighbours: `methods/` has them, `data.py` makes the batches, `loop.py` optimises `StepOutput.loss`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pipeline.config.train import TrainConfig
from pipeline.engine.collectives import gather_batch
from pipeline.teacher.interface import TeacherGenerator
from pipeline.train.losses import effective_rank, embedding_std
from shards.errors import UserError


@dataclass(frozen=True)
class Batch:
    """One worker's part of a step; every view is normalised images [n, 3, V, V]."""

    synthetic: tuple[Tensor, ...]
    """As many views of the synthetic images as the method asks for."""
    real: tuple[Tensor, ...]
    """Likewise of the real ones."""
    pooled: Tensor | None
    """Pooled features of the synthetic images, float32 [n_s, Σ C_l]; None where the method's config
    says that it does not read them, and without synthetic images.
    """

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """First and second views of all images, synthetic ones first, [n, 3, V, V] each."""
        domains = [views for views in (self.synthetic, self.real) if views]
        first, second = (torch.cat(views) for views in zip(*domains, strict=True))
        return first, second


@dataclass(frozen=True)
class StepOutput:
    """What a step computed, over the global batch."""

    loss: Tensor
    """To be minimised."""
    terms: dict[str, Tensor] = field(default_factory=dict)
    """Its parts, by name, unweighted."""
    embeddings: dict[str, Tensor] = field(default_factory=dict)
    """[N, D] each, by name, to be watched for collapse."""

    def metrics(self, with_spectra: bool = True) -> dict[str, float]:
        """Losses, and the signs of collapse of every embedding, as plain numbers. Waits for the
        device, once. Effective ranks, which want a spectrum, only `with_spectra`.
        """
        values = {"loss": self.loss, **self.terms}
        for name, embedding in self.embeddings.items():
            values[f"{name}_std"] = embedding_std(embedding)
            if with_spectra:
                values[f"{name}_effective_rank"] = effective_rank(embedding)
        numbers = torch.stack([value.detach().double() for value in values.values()]).tolist()
        return dict(zip(values, numbers, strict=True))


def check_output(output: Any, config: TrainConfig) -> StepOutput:
    """`output` if it is what `Method.forward` has to return; raises UserError."""
    problem = None
    if not isinstance(output, StepOutput):
        problem = f"a {type(output).__name__}"
    elif output.loss.dim() or not output.loss.requires_grad:
        problem = f"a loss {list(output.loss.shape)} with requires_grad={output.loss.requires_grad}"
    elif any(term.dim() for term in output.terms.values()):
        problem = "terms that are no scalars"
    elif any(embedding.dim() != 2 for embedding in output.embeddings.values()):
        problem = "embeddings that are not [N, D]"
    if problem is not None:
        raise UserError(
            f"train.method.name={config.method.name}: forward returns {problem}; return "
            "StepOutput(loss, terms, embeddings) with a scalar loss that has a gradient"
        )
    result: StepOutput = output
    return result


@dataclass(frozen=True)
class MethodContext:
    """What a method may use beside its config."""

    block_channels: list[int]
    """Channels of the features to distil, in the order in which they are pooled."""
    load_generator: Callable[[], TeacherGenerator]
    """The frozen teacher, on the device of the training."""


class Method(nn.Module, ABC):
    """Networks and losses of one way to train. A subclass is made with (config, context) and the
    options of its own, and leaves the network that training is about in `backbone`.

    Attributes:
        synthetic_views: random views of each synthetic image.
        real_views: random views of each real image.
    """

    synthetic_views: ClassVar[int] = 2
    real_views: ClassVar[int] = 2
    backbone: nn.Module

    def __init__(self, config: TrainConfig, context: MethodContext) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, batch: Batch) -> StepOutput:
        """Losses of one step; with statistics over all workers, every worker returns the same.

        Runs under autocast where `train.precision` is bfloat16.
        """

    @property
    def is_global(self) -> bool:
        """Whether statistics are over all workers; each worker's own in `train.variant=release`."""
        return self.config.variant != "release"

    def gather(self, embedding: Tensor) -> Tensor:
        """Rows of all workers if `is_global`, [n, …] -> [N, …]; half precision as float32."""
        if embedding.dtype in (torch.bfloat16, torch.float16):
            embedding = embedding.float()
        return gather_batch(embedding) if self.is_global else embedding

    def in_passes(
        self, network: Callable[[Tensor], Tensor], views: Sequence[Tensor]
    ) -> list[Tensor]:
        """What `network` makes of each of `views` [n_k, …]: in a forward pass for each, or in one
        for all of them, as `train.batch_norm` says.
        """
        if self.config.batch_norm == "separate":
            return [network(view) for view in views]
        return list(network(torch.cat([*views])).split([len(view) for view in views]))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters as the optimiser takes them; a group with `fixed_rate` keeps its rate."""
        return [{"params": list(self.parameters())}]
