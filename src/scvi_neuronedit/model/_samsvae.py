"""SAMS-VAE and its relatives: what each adds to the shared model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from scvi_neuronedit.data import unknown_name
from scvi_neuronedit.model._perturbation import PerturbationModel
from scvi_neuronedit.nn import DenseShift, PriorShift, SparseShift
from scvi_neuronedit.train import DenseStart

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from anndata import AnnData
    from numpy.typing import ArrayLike
    from scipy import sparse

_GUIDES = ("correlated", "mean_field")


class SAMSVAE(PerturbationModel):
    r"""Sparse additive mechanism shift variational autoencoder (Bereket & Karaletsos, NeurIPS 2023).

    Each perturbation shifts a few latent variables, :math:`z_n = z^b_n + \sum_t d_{nt} (m_t \odot e_t)`, with masks
    :math:`m_t \sim \mathrm{Bernoulli}(\pi)^K` and effects :math:`e_t \sim N(0, s^2 I)`; combinations add up.

    Parameters
    ----------
    adata
        AnnData registered with :meth:`~scvi_neuronedit.SAMSVAE.setup_anndata`.
    n_latent
        Number of latent variables :math:`K`.
    mask_probability
        Prior probability :math:`\pi` that a perturbation shifts a latent variable. ``2 / n_latent`` if ``None``, as in the paper.
    effect_scale
        Prior standard deviation :math:`s` of the effects.
    guide
        ``"correlated"``: effects depend on the masks, basal latent variables on the shift. ``"mean_field"``: neither does.
    likelihood
        ``"nb"`` (negative binomial, one dispersion per gene) for counts, ``"normal"`` (one variance per gene) for continuous
        values.
    n_hidden, n_layers
        Width and number of the hidden layers of encoder and decoder.
    n_particles
        Number of draws of all latent variables in a training step.
    analytic_kl
        Whether the divergences of masks and effects are computed, or estimated by the draw as in the published code.
    neuron_graph
        Graph whose neighbouring neurons are to fire together: ``"grid"``, ``"ring"``, ... (see
        :func:`~scvi_neuronedit.nn.named_graph`), ``"learned"``, or an adjacency. ``None`` for no structure.
    graph_weight
        Weight of the penalty; see :class:`~scvi_neuronedit.train.GraphRegularization`. Must be given with
        ``likelihood="normal"``.
    graph_layer
        The hidden layer of the decoder it is for: ``"decoder_1"``, ``"decoder_2"``, ... The last one if ``None``.
    graph_params
        Further arguments of :class:`~scvi_neuronedit.train.GraphRegularization`, such as ``{"shape": (20, 20)}``.
    registry
        Registry of a saved model, used to load it without data.

    Examples
    --------
    >>> SAMSVAE.setup_anndata(adata, perturbation_key="gene", control="non-targeting")
    >>> model = SAMSVAE(adata)
    >>> model.train()
    >>> predicted = model.predict_perturbation(["KLF1", "MAP2K6"])
    >>> model.get_perturbation_effects()
    """

    def __init__(
        self,
        adata: AnnData | None = None,
        n_latent: int = 100,
        mask_probability: float | None = None,
        effect_scale: float = 1.0,
        guide: Literal["correlated", "mean_field"] = "correlated",
        likelihood: Literal["nb", "normal"] = "nb",
        n_hidden: int = 400,
        n_layers: int = 1,
        n_particles: int = 5,
        analytic_kl: bool = True,
        neuron_graph: str | ArrayLike | sparse.sparray | None = None,
        graph_weight: float | None = None,
        graph_layer: str | None = None,
        graph_params: Mapping[str, Any] | None = None,
        registry: dict | None = None,
    ) -> None:
        super().__init__(adata, registry)
        if guide not in _GUIDES:
            raise ValueError(unknown_name("guide", guide, "the guides", _GUIDES))
        if mask_probability is not None and not 0 < mask_probability < 1:
            msg = f"mask_probability={mask_probability}; it must lie between 0 and 1."
            raise ValueError(msg)
        shift = SparseShift(
            len(self.perturbations),
            n_latent,
            mask_probability=min(0.5, 2 / n_latent) if mask_probability is None else mask_probability,
            effect_scale=effect_scale,
            correlated=guide == "correlated",
            n_hidden=n_hidden,
            analytic_kl=analytic_kl,
        )
        network = {"n_hidden": n_hidden, "n_layers": n_layers, "n_particles": n_particles}
        self._set_module(adata, shift, n_latent, likelihood, basal=guide, **network)
        self._use_neuron_graph(neuron_graph, graph_weight, graph_layer, graph_params)
        self.init_params_ = self._get_init_params(locals())

    def train(
        self,
        max_steps: int | None = None,
        max_epochs: int | None = None,
        batch_size: int = 512,
        train_size: float | None = None,
        dense_share: float | None = None,
        **kwargs,
    ) -> None:
        """Maximise the ELBO for a set number of steps, the first of them without masks.

        With all masks 1 there is nothing to tell the directions of the latent space apart. After ``dense_share`` of the steps the
        latent space is turned to where the shifts are sparsest, the masks start there, and all is trained to the end. In the
        paper the masks are trained from the first step (``dense_share=0``, with
        ``plan_kwargs={"lr_schedule": "constant", "effect_lr_factor": 1}``).

        On a CPU, fewer particles (``n_particles=1``), narrower networks and a larger learning rate make training a matter of
        minutes; the defaults are those of the paper but for the dense start and the learning rates.

        The ELBO levels off long before the masks are sparse, so training does not stop by it. The history has, beside
        the terms of the ELBO, ``active_train`` and ``expected_active_train``: the share of masks whose inclusion
        probability is above 1/2, and the mean inclusion probability.

        Parameters
        ----------
        max_steps, max_epochs, batch_size, train_size, **kwargs
            See :meth:`scvi_neuronedit.CPAVAE.train`.
        dense_share
            Share of the steps without masks, from 0 to 1. If ``None``: 0.3, or 0 for a model that is trained already. Training that
            early stopping ends within this share leaves masks that have only been started. With 0, a model that
            was saved before its masks were started starts them first.
        """
        if dense_share is None:
            dense_share = 0.0 if self.is_trained_ else 0.3
        if not 0 <= dense_share <= 1:
            msg = f"dense_share={dense_share}; it must lie between 0 and 1."
            raise ValueError(msg)
        if dense_share > 0:
            kwargs["callbacks"] = [*(kwargs.get("callbacks") or []), DenseStart(dense_share)]
        elif self.module.shift.dense:  # saved before its masks were started
            self.module.start_masks()
        super().train(max_steps, max_epochs, batch_size, train_size, **kwargs)


class CPAVAE(PerturbationModel):
    r"""Compositional perturbation autoencoder in the same frame: every mask of SAMS-VAE is 1.

    :math:`z_n = z^b_n + \sum_t d_{nt} e_t`, :math:`e_t \sim N(0, s^2 I)`. The baseline of Bereket & Karaletsos (NeurIPS 2023), after
    Lotfollahi et al. (2023), without its adversary.

    Parameters
    ----------
    adata
        AnnData registered with :meth:`~scvi_neuronedit.CPAVAE.setup_anndata`.
    n_latent, effect_scale, likelihood, n_hidden, n_layers, n_particles, neuron_graph, graph_weight, graph_layer, graph_params, registry
        See :class:`~scvi_neuronedit.SAMSVAE`.
    guide
        Whether the guide of the basal latent variables reads the shift (``"correlated"``) or not (``"mean_field"``).
    """

    def __init__(
        self,
        adata: AnnData | None = None,
        n_latent: int = 100,
        effect_scale: float = 1.0,
        guide: Literal["correlated", "mean_field"] = "correlated",
        likelihood: Literal["nb", "normal"] = "nb",
        n_hidden: int = 400,
        n_layers: int = 1,
        n_particles: int = 5,
        neuron_graph: str | ArrayLike | sparse.sparray | None = None,
        graph_weight: float | None = None,
        graph_layer: str | None = None,
        graph_params: Mapping[str, Any] | None = None,
        registry: dict | None = None,
    ) -> None:
        super().__init__(adata, registry)
        if guide not in _GUIDES:
            raise ValueError(unknown_name("guide", guide, "the guides", _GUIDES))
        shift = DenseShift(len(self.perturbations), n_latent, effect_scale=effect_scale)
        network = {"n_hidden": n_hidden, "n_layers": n_layers, "n_particles": n_particles}
        self._set_module(adata, shift, n_latent, likelihood, basal=guide, **network)
        self._use_neuron_graph(neuron_graph, graph_weight, graph_layer, graph_params)
        self.init_params_ = self._get_init_params(locals())


class SVAEPlus(PerturbationModel):
    r"""Sparse mechanism shift in the prior (SVAE+; Lopez et al., CLeaR 2023).

    :math:`z_n \mid t \sim N(m_t \odot \mu_t, I)` with :math:`m_{tk} \sim \mathrm{Bernoulli}(\pi_k)` and
    :math:`\pi_k \sim \mathrm{Beta}(1, c)`; :math:`\pi` and :math:`\mu` are point estimates, and the encoder :math:`q(z \mid x)` does not
    know the perturbation. In the paper each combination is a perturbation of its own; with
    ``setup_anndata(combinations_as_unique=False)`` the shifts of its parts add up, and unseen combinations can be predicted.

    Parameters
    ----------
    adata
        AnnData registered with :meth:`~scvi_neuronedit.SVAEPlus.setup_anndata`.
    concentration
        :math:`c`; the larger, the fewer shifts.
    n_latent, likelihood, n_hidden, n_layers, n_particles, neuron_graph, graph_weight, graph_layer, graph_params, registry
        See :class:`~scvi_neuronedit.SAMSVAE`.
    """

    _combinations_as_unique = True

    def __init__(
        self,
        adata: AnnData | None = None,
        n_latent: int = 100,
        concentration: float = 2.0,
        likelihood: Literal["nb", "normal"] = "nb",
        n_hidden: int = 400,
        n_layers: int = 1,
        n_particles: int = 5,
        neuron_graph: str | ArrayLike | sparse.sparray | None = None,
        graph_weight: float | None = None,
        graph_layer: str | None = None,
        graph_params: Mapping[str, Any] | None = None,
        registry: dict | None = None,
    ) -> None:
        super().__init__(adata, registry)
        if not concentration >= 1:
            msg = f"concentration={concentration}; it must be at least 1."
            raise ValueError(msg)
        shift = PriorShift(len(self.perturbations), n_latent, concentration=concentration)
        network = {"n_hidden": n_hidden, "n_layers": n_layers, "n_particles": n_particles}
        self._set_module(adata, shift, n_latent, likelihood, basal="total", **network)
        self._use_neuron_graph(neuron_graph, graph_weight, graph_layer, graph_params)
        self.init_params_ = self._get_init_params(locals())


class ConditionalVAE(PerturbationModel):
    """Conditional variational autoencoder: the dosages are an input of encoder and decoder.

    Perturbations do not shift the latent variables, so there are no effects to inspect.

    Parameters
    ----------
    adata
        AnnData registered with :meth:`~scvi_neuronedit.ConditionalVAE.setup_anndata`.
    n_latent, likelihood, n_hidden, n_layers, n_particles, neuron_graph, graph_weight, graph_layer, graph_params, registry
        See :class:`~scvi_neuronedit.SAMSVAE`.
    """

    def __init__(
        self,
        adata: AnnData | None = None,
        n_latent: int = 100,
        likelihood: Literal["nb", "normal"] = "nb",
        n_hidden: int = 400,
        n_layers: int = 1,
        n_particles: int = 5,
        neuron_graph: str | ArrayLike | sparse.sparray | None = None,
        graph_weight: float | None = None,
        graph_layer: str | None = None,
        graph_params: Mapping[str, Any] | None = None,
        registry: dict | None = None,
    ) -> None:
        super().__init__(adata, registry)
        network = {"n_hidden": n_hidden, "n_layers": n_layers, "n_particles": n_particles}
        self._set_module(adata, None, n_latent, likelihood, basal="mean_field", condition_on_dosage=True, **network)
        self._use_neuron_graph(neuron_graph, graph_weight, graph_layer, graph_params)
        self.init_params_ = self._get_init_params(locals())
