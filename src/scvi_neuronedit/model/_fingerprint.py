"""A hash by which models are told apart."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn


def fingerprint_model(names: Iterable[str], module: nn.Module) -> str:
    """Short hash of names and of the state of a module.

    Parameters
    ----------
    names
        What the module's inputs stand for.
    module
        Its weights and buffers are hashed, with their names.
    """
    digest = hashlib.sha256("\n".join(names).encode())
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
