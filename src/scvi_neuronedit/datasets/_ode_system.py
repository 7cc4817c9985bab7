"""Regulatory networks written as differential equations, in the form of SimulatorGRN."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from os import PathLike

    from numpy.typing import NDArray

_INPUT = "input gene"
_ALLOWED = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.USub, ast.Constant)


@dataclass(frozen=True)
class ODESystem:
    r"""A regulatory network as one differential equation for each gene.

    Parameters
    ----------
    equations
        For each gene the right-hand side of its equation, or ``"input gene"`` for one that stays constant. An equation
        is made of numbers, ``+ - * /``, names of genes and ``fAct(gene, EC50, n)``, the activation
        :math:`B x^n / (B - 1 + x^n)` with :math:`B = (EC50^n - 1) / (2\,EC50^n - 1)`, which is one half at ``EC50`` and
        1 at 1.
    """

    equations: Mapping[str, str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "equations", {str(gene): str(text).strip() for gene, text in self.equations.items()})
        self._terms  # noqa: B018  an equation that cannot be read is an error now, not when it is used

    @classmethod
    def read_csv(cls, path: str | PathLike) -> ODESystem:
        """Read a file with the columns ``node`` (gene) and ``eqn`` (equation).

        Parameters
        ----------
        path
            File to read.
        """
        table = pd.read_csv(path, dtype=str)
        if missing := [column for column in ("node", "eqn") if column not in table]:
            msg = f"{path} has no column {missing[0]!r} (its columns: {', '.join(table.columns)})."
            raise ValueError(msg)
        if table["node"].duplicated().any():
            msg = f"{path} holds more than one equation for {table['node'][table['node'].duplicated()].iloc[0]!r}."
            raise ValueError(msg)
        return cls(dict(zip(table["node"], table["eqn"], strict=True)))

    @property
    def genes(self) -> list[str]:
        """Names of the genes."""
        return list(self.equations)

    @property
    def is_input(self) -> NDArray[np.bool_]:
        """Which genes stay constant."""
        return np.array([text == _INPUT for text in self.equations.values()])

    @cached_property
    def network(self) -> pd.DataFrame:
        """The true effects, of shape ``[n_genes, n_genes]``: row regulates column, 1 activates and -1 represses."""
        effects = pd.DataFrame(0, index=self.genes, columns=self.genes)
        rng = np.random.default_rng(0)
        levels = rng.uniform(0.2, 0.8, len(self.genes))
        for gene, (_, regulators) in self._terms.items():
            for regulator in regulators:
                low, high = levels.copy(), levels.copy()
                where = self.genes.index(regulator)
                low[where], high[where] = 0.0, 1.0
                effects.loc[regulator, gene] = int(np.sign(self._production(gene, high) - self._production(gene, low)))
        return effects

    def velocity(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rate of change of every gene.

        Parameters
        ----------
        y
            Expression of shape ``[n_genes, n_cells]``.

        Returns
        -------
        Array of the same shape.
        """
        rates = np.zeros_like(y)
        for row, gene in enumerate(self.genes):
            if gene in self._terms:
                rates[row] = self._terms[gene][0](y, _activation)
        return rates

    def _production(self, gene: str, y: NDArray[np.float64]) -> float:
        """Velocity as the gene's own level (unless it regulates itself) leaves it."""
        own = self.genes.index(gene)
        # the term of decay is linear in the gene's own level: adding it back leaves the production
        return float(self._terms[gene][0](y, _activation) + y[own])

    @cached_property
    def _terms(self) -> dict[str, tuple[Callable, list[str]]]:
        """For each gene that is no input its equation as a function, and its regulators."""
        # the longest name first: one may be the beginning of another
        names = sorted(self.genes, key=len, reverse=True)
        pattern = re.compile(r"(?<![\w.])(" + "|".join(map(re.escape, names)) + r")(?![\w.]|\s*\()")
        rows = {name: row for row, name in enumerate(self.genes)}
        terms = {}
        for gene, text in self.equations.items():
            if text == _INPUT:
                continue
            used = []

            def symbol(match: re.Match, used: list[str] = used) -> str:
                used.append(match[1])
                return f"y[{rows[match[1]]}]"

            code = pattern.sub(symbol, text)
            _check_equation(gene, text, code)
            function = eval(compile(f"lambda y, fAct: {code}", "<equation>", "eval"), {"__builtins__": {}})  # checked
            regulators = re.findall(r"fAct\(y\[(\d+)\]", code)
            terms[gene] = function, list(dict.fromkeys(self.genes[int(row)] for row in regulators))
        return terms


def example_network() -> ODESystem:
    """A network of 30 invented genes: 8 regulators that stay constant, 7 that are regulated, and 15 targets.

    It has 51 edges of both signs, joined by AND, OR and NOT.
    """
    with (files("scvi_neuronedit.datasets") / "_example_network.csv").open() as file:
        return ODESystem.read_csv(file)


def _activation(x: NDArray[np.float64], ec50: float, n: float) -> NDArray[np.float64]:
    """Share of the maximal activation."""
    b = (ec50**n - 1) / (2 * ec50**n - 1)
    power = np.maximum(x, 0) ** n
    return b * power / (b - 1 + power)


def _check_equation(gene: str, text: str, code: str) -> None:
    """Refuse whatever is not arithmetic of genes and activations."""
    try:
        tree = ast.parse(code.strip(), mode="eval")
    except SyntaxError as error:
        msg = f"the equation of {gene!r} cannot be read: {text!r}."
        raise ValueError(msg) from error
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Subscript):  # y[row], as put in for a gene
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "fAct":
            if len(node.args) != 3 or not isinstance(node.args[0], ast.Subscript | ast.Name):
                msg = f"the equation of {gene!r} calls fAct with something else than (gene, EC50, n): {text!r}."
                raise ValueError(msg)
            pending += node.args
            continue
        if not isinstance(node, _ALLOWED):
            name = getattr(node, "id", type(node).__name__)
            msg = f"the equation of {gene!r} holds {name!r}, which is neither a gene of the system nor fAct: {text!r}."
            raise ValueError(msg)
        pending += ast.iter_child_nodes(node)
