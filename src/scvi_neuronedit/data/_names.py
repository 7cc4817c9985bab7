"""Error texts that name what was given, what is allowed, and the nearest match."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

_LISTED = 10


def unknown_name(argument: str, value: Any, place: str, known: Collection[Any]) -> str:
    """Say that a value is not among those known.

    Parameters
    ----------
    argument
        What the caller passed it as, such as ``"source"`` or ``"condition"``.
    value
        The value.
    place
        Where it was looked for, such as ``"adata.obs['condition']"``.
    known
        What is there.

    Returns
    -------
    A sentence such as ``source 'stim2' is not in adata.obs['condition'] ('ctrl', 'stim'); did you mean 'stim'?``
    """
    by_text = {str(name): name for name in known}
    match = get_close_matches(str(value), by_text, n=1)
    hint = f"; did you mean {by_text[match[0]]!r}?" if match else "."
    return f"{argument} {value!r} is not in {place} ({listed(known)}){hint}"


def listed(names: Collection[Any]) -> str:
    """Names in a row, the first few of many.

    Parameters
    ----------
    names
        Names.
    """
    shown = ", ".join(repr(name) for name in list(names)[:_LISTED])
    return shown + (f", ... {len(names) - _LISTED} more" if len(names) > _LISTED else "") or "nothing"
