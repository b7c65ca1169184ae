"""DDPM++ (Song et al. 2021, arXiv 2011.13456) as trained by EDM, an exported state dict.

EDM: Karras et al. 2022, arXiv 2206.00364, table 7.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from typing import Any

from torch import Tensor

from pretrained.errors import CheckpointError
from pretrained.layouts.edm import Edm
from pretrained.layouts.layout import State
from pretrained.layouts.unet import Skeleton

# Fixed by the code and not shown by the shapes.
FIXED = {
    "layout": "ddpm++",
    "resblock_updown": True,
    "heads": 1,
    "head_channels": None,
    "norm_eps": 1e-6,
    "embedding_endpoint": True,
}

# Parts of tensor names that only NCSN++ and its variants have.
NCSNPP = ("map_noise.freqs", "_aux_down.", "_aux_skip.", "_aux_residual.", "_aux_up.")


class DdpmPlusPlus(Edm):
    """Layout of DDPM++ in EDM's code; arguments and errors as of `Edm`."""

    name = "EDM DDPM++"
    sine_first = True

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.state = _with_looked_up_classes(self.state)

    @classmethod
    def recognises(cls, names: Set[str]) -> bool:
        return super().recognises(names) and any("_aux_norm." in name for name in names)

    @property
    def single(self) -> tuple[str, ...]:
        first = self._coded("enc", 0, "conv")
        last = (self._coded("dec", 0, f"aux_{part}") for part in ("norm", "conv"))
        return ("map_layer0", "map_layer1", "map_label", first, *last)

    def _refuse_others(self, state: State) -> None:
        super()._refuse_others(state)
        longer = (
            name.endswith("resample_filter") and t.shape[-1:] != (2,) for name, t in state.items()
        )
        if any(longer) or any(part in name for part in NCSNPP for name in state):
            raise CheckpointError(
                "NCSN++ is not known, EDM's DDPM++ and ADM networks are: it is told the noise "
                "level by Fourier features, has longer resampling filters and shows its encoder "
                "the resized picture"
            )

    def _skeleton(self, names: Set[str]) -> Skeleton:
        return super()._skeleton(names)._replace(plus=True)

    def fixed(self) -> dict[str, Any]:
        fixed = super().fixed()
        return {
            **fixed,
            "parameterization": "edm",
            "time": "log_sigma",
            "backbone": {**fixed["backbone"], **FIXED},
        }

    def undetermined(self, inferred: Mapping[str, Any], hints: Mapping[str, Any]) -> str:
        """See `Layout.undetermined`.

        EDM's own networks were trained with augmentation, its VP baselines without; their shapes
        are the same.
        """
        if "map_augment.weight" in self.state or "parameterization" in hints:
            return ""
        return (
            'parameterization = "edm", if it is (baselines with the VP preconditioning look '
            "the same)"
        )

    def arranged(self, name: str, tensors: list[Tensor]) -> Tensor:
        """See `Layout.arranged`; classes are added to the sinusoids and reordered as these are."""
        tensor = super().arranged(name, tensors)
        return tensor.roll(tensor.shape[1] // 2, dims=1) if name == "label_emb.weight" else tensor


def _with_looked_up_classes(state: State) -> State:
    """Replace the linear class layer, if there is one, by an embedding with a column per class.

    The linear layer sees one-hot vectors scaled by √classes.

    Raises:
        CheckpointError: That layer has no bias, or one of the wrong shape.
    """
    weight = state.get("map_label.weight")
    bias = state.get("map_label.bias")
    if weight is None:
        return state
    if bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise CheckpointError(
            "the tensors are not those of such a network; map_label needs weight and bias that fit"
        )

    rest = {name: tensor for name, tensor in state.items() if name != "map_label.bias"}

    return {**rest, "map_label.weight": math.sqrt(weight.shape[1]) * weight + bias[:, None]}
