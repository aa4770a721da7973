"""Config -> method: the built-in ones by name, one's own by `package.module:Class`."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import torch

from pipeline.config.method import MethodConfig, OwnMethodConfig
from pipeline.config.train import TrainConfig
from pipeline.samples.seeding import torch_generator
from pipeline.student.backbone import build_backbone
from pipeline.train.method import Method, MethodContext
from shards.errors import UserError

_PACKAGE = "pipeline.train.methods"
_METHODS = {
    "squeeze_and_span": f"{_PACKAGE}.squeeze_and_span:SqueezeAndSpan",
    "vicreg": f"{_PACKAGE}.vicreg:VicReg",
    "simsiam": f"{_PACKAGE}.simsiam:SimSiam",
    "encoding": f"{_PACKAGE}.encoding:Encoding",
}


def method_class(options: MethodConfig) -> type[Method]:
    """The class that `train.method` names.

    Raises:
        UserError: if there is no such class, or it is not a `Method`.
    """
    place = _METHODS.get(options.name, options.name)
    module, _, name = place.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # the user's code may do anything
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"train.method.name={place}: cannot be imported ({reason})") from error
    if not (isinstance(found, type) and issubclass(found, Method)) or inspect.isabstract(found):
        raise UserError(
            f"train.method.name={place}: no subclass of {Method.__module__}.Method with a forward"
        )
    return found


def build_method(config: TrainConfig, context: MethodContext) -> Method:
    """Fresh networks whose initial weights depend on the seed only."""
    options = config.method
    cls: Any = method_class(options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(config.seed, "train/init").initial_seed())
        if not isinstance(options, OwnMethodConfig):
            method: Method = cls(config, context, options)
            return method
        try:
            inspect.signature(cls).bind(config, context, **options.options)
        except TypeError as error:
            raise UserError(f"train.method.options: {error}") from None
        own: Method = cls(config, context, **options.options)
    wanted = build_backbone(config.student, config.seed).state_dict()
    if getattr(own, "backbone", None) is None or own.backbone.state_dict().keys() != wanted.keys():
        raise UserError(
            f"train.method.name={options.name}: leave build_backbone(config.student, config.seed) "
            "in `self.backbone`; it is what is saved and probed"
        )
    return own
