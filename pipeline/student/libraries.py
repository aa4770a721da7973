"""Networks of torchvision and timm by name, as backbones: without their last linear layer, with
random weights, and drawing nothing while they train but what an option asks for.

Neighbour: `backbone.py` makes students of them.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from torchvision import models
from torchvision.ops import StochasticDepth

from shards.errors import UserError

FIELD = "train.student.architecture"
_OPTIONS = "train.student.options"
_SHOWN = 10
_TAKEN = {
    "num_classes": "the classifier is left out",
    "in_chans": "images have three channels",
    "features_only": "a representation is one vector",
    "device": "hardware.device says where",
    "dtype": "train.precision says how",
    "weights": "train.init says what to start from",
    "weights_backbone": "train.init says what to start from",
    "pretrained": "train.init says what to start from",
    "pretrained_cfg": "train.init says what to start from",
    "pretrained_cfg_overlay": "train.init says what to start from",
    "checkpoint_path": "train.init says what to start from",
    "cache_dir": "nothing is downloaded",
}
"""Arguments that are no options, and why."""
_DEPTH = ("stochastic_depth", "drop_path", "drop_connect")


def torchvision_network(name: str, options: Mapping[str, Any]) -> nn.Module:
    """A classifier of torchvision's whose last linear layer passes its input on, with the
    attributes of a `Backbone`; raises UserError for an unknown name or option.
    """
    known = models.list_models(module=models)
    if name not in known:
        raise _unknown(name, known, "torchvision")
    network: Any = _construct(
        lambda **given: models.get_model(name, weights=None, **given), options
    )
    _check_known(network, options)
    linear = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(f"{FIELD}={name}: has no linear classifier to leave out; choose another")
    parent, _, child = linear[-1].rpartition(".")
    network.representation_dim = network.get_submodule(linear[-1]).in_features
    setattr(network.get_submodule(parent), child, nn.Identity())
    network.classifiers = (linear[-1],)
    return _quieted(network, options, StochasticDepth, "p")


def timm_network(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Likewise of timm's, pooled as timm does."""
    try:
        import timm
        from timm.layers.drop import DropPath
    except ImportError:
        raise UserError(f"{FIELD}=timm:{name}: timm is not installed; pip install timm") from None
    if not timm.is_model(name):
        raise _unknown(name, timm.list_models(), "timm")

    def build(**given: Any) -> nn.Module:
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **given)
        return network

    try:
        network: Any = _construct(build, options)
    except RuntimeError as error:  # of the part of the name behind the dot
        raise UserError(f"{FIELD}=timm:{name}: {error}; leave the tag out") from None
    network.representation_dim = getattr(network, "head_hidden_size", network.num_features)
    left_out = network.pretrained_cfg.get("classifier") or ()
    network.classifiers = (left_out,) if isinstance(left_out, str) else tuple(left_out)
    return _quieted(network, options, DropPath, "drop_prob")


def _construct(build: Callable[..., nn.Module], options: Mapping[str, Any]) -> nn.Module:
    if not options:
        return build()
    for name, value in options.items():
        if name in _TAKEN:
            raise UserError(f"{_OPTIONS}.{name}: is no option: {_TAKEN[name]}; leave it out")
        is_number = isinstance(value, (int, float))
        if _is_drawing(name) and is_number and not 0 <= value <= 1:
            raise UserError(f"{_OPTIONS}.{name}={value}: is no share in [0, 1]; change it")
    try:
        return build(**options)
    except Exception as error:  # a constructor may refuse a value in any way
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        known = _parameters(type(build()))
        unknown = next((name for name in options if name not in known), None)
        if unknown is not None:
            raise UserError(f"{_OPTIONS}: {reason}; {_hint(unknown, known)}") from None
        blamed = [name for name in options if _builds(build, options, name)]
        place = f"{_OPTIONS}.{blamed[0]}" if blamed else _OPTIONS
        raise UserError(f"{place}: {reason}; change it or leave it out") from None


def _builds(build: Callable[..., nn.Module], options: Mapping[str, Any], without: str) -> bool:
    """Whether the network can be made with the other options."""
    try:
        build(**{name: value for name, value in options.items() if name != without})
    except Exception:
        return False
    return True


def _is_drawing(option: str) -> bool:
    """Whether an option is about dropout or stochastic depth."""
    return "drop" in option or option.startswith(_DEPTH)


def _check_known(network: nn.Module, options: Mapping[str, Any]) -> None:
    """Some of torchvision's constructors swallow what they do not know: an option that their module
    does not mention does nothing.
    """
    source = inspect.getsource(importlib.import_module(type(network).__module__))
    for name in options:
        if not re.search(rf"\b{re.escape(name)}\b", source):
            known = _parameters(type(network))
            raise UserError(f"{_OPTIONS}.{name}: there is no such option; {_hint(name, known)}")


def _parameters(kind: type[nn.Module]) -> list[str]:
    names = inspect.signature(kind.__init__).parameters
    return [name for name in names if name != "self" and name not in _TAKEN]


def _quieted(
    network: nn.Module, options: Mapping[str, Any], depth: type[nn.Module], rate: str
) -> nn.Module:
    """`network` whose dropout, and whose stochastic `depth` by its attribute `rate`, are off unless
    an option is about them.
    """
    asked = [name for name in options if _is_drawing(name)]
    has_depth = any(name.startswith(_DEPTH) for name in asked)
    has_dropout = any(not name.startswith(_DEPTH) for name in asked)
    for module in network.modules():
        if isinstance(module, _DropoutNd) and not has_dropout:
            module.p = 0.0
        if isinstance(module, depth) and not has_depth:
            setattr(module, rate, 0.0)
    return network


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"known are {', '.join(known[:_SHOWN])}{more}"


def _unknown(name: str, known: Iterable[str], library: str) -> UserError:
    near = difflib.get_close_matches(name, list(known), n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "see its documentation for the names"
    return UserError(f"{FIELD}: {library} has no {name}; {hint}")
