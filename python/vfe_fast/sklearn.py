"""scikit-learn's BernoulliRBM over our kernels (extra ``sklearn``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _core
from .models import BernoulliRBM as Model
from .random import generator
from .sampling import gibbs
from .training.averages import Contrast
from .training.updates import Ascent, Memory

try:
    from sklearn.base import clone
    from sklearn.neural_network import BernoulliRBM as _Original
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"vfe_fast.sklearn needs scikit-learn >= 1.6, the extra 'sklearn': {error}", name=error.name
    ) from error

__all__ = ["BernoulliRBM"]

_ROWS = 1000  # of a sparse matrix, made dense at a time


class BernoulliRBM(_Original):  # type: ignore[misc]  # scikit-learn has no types
    """scikit-learn's RBM, trained and sampled by the kernels of this package.

    Parameters, attributes and methods are those of `sklearn.neural_network.BernoulliRBM`: persistent
    contrastive divergence with one Gibbs step, minibatches in the order of the data. Where it differs:

    - The numbers drawn are others, for the same `random_state`.
    - The gradient is a difference of two averages, also where a minibatch has fewer samples than there are
      chains.
    - `partial_fit` keeps float32; scikit-learn's converts to float64.
    - Parameters that diverge raise an error; scikit-learn's become infinite.
    - `log_likelihood` is new, `model` gives the RBM to the rest of this package.

    Data of 0s and 1s are packed into bits. Other numbers in [0, 1] are taken as they are, as scikit-learn
    does, and their half of the gradient is NumPy's.

    Parameters
    ----------
    n_components : int
        Hidden units.
    learning_rate : float
        Step along the gradient.
    batch_size : int
        Samples in a minibatch, and number of chains.
    n_iter : int
        Passes through the data.
    verbose : int
        Whether `fit` prints the pseudo-likelihood of each pass.
    random_state : int, numpy.random.RandomState or None
        Seed.

    Attributes
    ----------
    components_ : ndarray, (n_components, n_features)
        Weights, transposed.
    intercept_visible_, intercept_hidden_ : ndarray
        Biases.
    h_samples_ : ndarray, (batch_size, n_components)
        Hidden states of the chains.
    n_features_in_, feature_names_in_
        Of the data, as scikit-learn has them.

    Examples
    --------
    >>> X = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    >>> BernoulliRBM(n_components=2, random_state=0).fit(X).transform(X).shape
    (4, 2)
    """

    n_iter: int
    components_: Any
    intercept_visible_: Any
    intercept_hidden_: Any
    h_samples_: Any

    @property
    def model(self) -> Model:
        """The fitted RBM as a `vfe_fast.BernoulliRBM`, for ln Z, sampling and the rest."""
        check_is_fitted(self)
        return Model(self.components_.T, self.intercept_visible_, self.intercept_hidden_)

    def fit(self, X: Any, y: Any = None) -> BernoulliRBM:
        """Train on the data from the beginning.

        Parameters
        ----------
        X : {array-like, sparse matrix}, (n_samples, n_features)
            Numbers in [0, 1].
        y : None
            Not looked at.

        Returns
        -------
        BernoulliRBM
            Itself.

        Raises
        ------
        ValueError
            If a parameter or the data are not as described.
        """
        super().fit(X, y)
        return self._own()

    def partial_fit(self, X: Any, y: Any = None) -> BernoulliRBM:
        """Do one update on a minibatch.

        Parameters
        ----------
        X : {array-like, sparse matrix}, (n_samples, n_features)
            The minibatch.
        y : None
            Not looked at.

        Returns
        -------
        BernoulliRBM
            Itself.

        Raises
        ------
        ValueError
            If a parameter or the data are not as described.
        """
        if not hasattr(self, "components_"):
            self._validate_params()
            started = clone(self).set_params(n_iter=0, verbose=0)
            _Original.fit(started, X, y)  # of no passes: checks, and the start
            self.__dict__.update({name: value for name, value in vars(started).items() if name.endswith("_")})
            self._n_features_out = started._n_features_out
        if not hasattr(self, "random_state_"):
            self.random_state_ = check_random_state(self.random_state)
        batch = validate_data(
            self, X, accept_sparse="csr", dtype=(np.float64, np.float32), reset=False
        ).astype(self.components_.dtype, copy=False)
        self._fit(batch, self.random_state_)
        return self._own()

    def _own(self) -> BernoulliRBM:
        """Parameters that a user may write to, as scikit-learn's."""
        self.components_ = self.components_.copy(order="F")
        self.intercept_visible_ = self.intercept_visible_.copy()
        self.intercept_hidden_ = self.intercept_hidden_.copy()
        return self

    def _fit(self, v_pos: Any, rng: Any) -> None:
        """Do one update: what `fit` and `partial_fit` call for each minibatch."""
        weights = np.ascontiguousarray(self.components_.T)
        kind = weights.dtype
        visible_bias = np.ascontiguousarray(self.intercept_visible_, kind)
        hidden_bias = np.ascontiguousarray(self.intercept_hidden_, kind)
        parameters = (weights, visible_bias, hidden_bias)
        n_visible, n_hidden = weights.shape
        batch = _packed(v_pos)
        # Numbers that are no bits have the chains compared with a sample of 0s, and what they add put in.
        blank = np.zeros((1, -(-n_visible // 64)), np.uint64)
        pairs, data_visible, data_hidden, model_visible, model_hidden, _, chains = _core.contrast(
            *parameters, blank if batch is None else batch, _core.pack_states(self.h_samples_, n_hidden, "h"),
            n_steps=1, seed=_key(rng), step_offset=0, num_threads=0,
        )  # fmt: skip
        if batch is None:
            means = super()._mean_hiddens(v_pos)
            data_visible = np.asarray(v_pos.mean(axis=0)).ravel().astype(kind)
            data_hidden = means.mean(axis=0).astype(kind)
            pairs = pairs + (v_pos.T @ means / len(means)).astype(kind)
        contrast = Contrast(data_visible, data_hidden, model_visible, model_hidden, pairs)
        rate = float(self.learning_rate)
        (weights, visible_bias, hidden_bias), _ = Ascent()(parameters, Memory(), contrast, (), rate, 0)
        self.components_ = weights.T
        self.intercept_visible_, self.intercept_hidden_ = visible_bias, hidden_bias
        self.h_samples_ = _core.unpack_states(chains, n_hidden).astype(weights.dtype)

    def _clamped(self, words: Any, *, free_energy: bool) -> tuple[Any, Any]:
        return _core.free_energy(
            self.components_.T, self.intercept_visible_, self.intercept_hidden_, words,
            beta=1.0, free_energy=free_energy, mean_hidden=not free_energy, num_threads=0,
        )  # fmt: skip

    def _mean_hiddens(self, v: Any) -> Any:
        words = _packed(v)
        if words is None or v.dtype != self.components_.dtype:
            return super()._mean_hiddens(v)
        return self._clamped(words, free_energy=False)[1]

    def _free_energy(self, v: Any) -> Any:
        words = _packed(v)
        return super()._free_energy(v) if words is None else self._clamped(words, free_energy=True)[0]

    def gibbs(self, v: Any) -> Any:
        """Perform one Gibbs step.

        Parameters
        ----------
        v : ndarray, (n_samples, n_features)
            Visible states to start from.

        Returns
        -------
        ndarray of bool, (n_samples, n_features)
            Visible states after it.
        """
        check_is_fitted(self)
        if not hasattr(self, "random_state_"):
            self.random_state_ = check_random_state(self.random_state)
        if _packed(v) is None:
            return super().gibbs(v)
        visible, _ = gibbs(self.model, _dense(v), rng=_key(self.random_state_))
        return visible.astype(bool)

    def score_samples(self, X: Any) -> Any:
        """Estimate the pseudo-log-likelihood of each sample. Not a log-likelihood: that is `log_likelihood`.

        The pseudo-log-likelihood is Σ_i ln p(x_i | all other units); here one unit is picked for each sample,
        and its term counts n_features times. Units that are neither 0 nor 1 make it meaningless.

        Parameters
        ----------
        X : {array-like, sparse matrix}, (n_samples, n_features)
            Samples of 0s and 1s.

        Returns
        -------
        ndarray, (n_samples,)
            In nats. Over the seeds `random_state` their mean is the pseudo-log-likelihood, with a standard
            deviation that is of the order of the value itself. The pick depends on the seed and on the sample
            alone: the same sample has the same score wherever it stands.
        """
        check_is_fitted(self)
        v = validate_data(self, X, accept_sparse="csr", reset=False, dtype=(np.float64, np.float32))
        v = _dense(v)
        rows = np.arange(len(v)), _picks(v, _key(check_random_state(self.random_state)))
        flipped = v.copy()
        flipped[rows] = 1 - flipped[rows]
        gain = self._free_energy(flipped) - self._free_energy(v)
        return -v.shape[1] * np.logaddexp(0, -gain)

    def log_likelihood(self, X: Any, *, max_seconds: float = 600.0) -> Any:
        """Exact ln p(x) of each sample, with ln Z summed over all states of the smaller layer.

        Parameters
        ----------
        X : array-like, (n_samples, n_features)
            Samples of 0s and 1s.
        max_seconds : float
            Longer sums are refused, see `vfe_fast.free_energy.exact`.

        Returns
        -------
        ndarray, (n_samples,)
            In nats.

        Raises
        ------
        ValueError
            If the sum would take too long, or X has other numbers than 0 and 1.
        """
        from .free_energy import exact

        model = self.model
        v = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        return model.log_likelihood(v, exact(model, max_seconds=max_seconds).log_z)


def _dense(v: Any) -> Any:
    return v.toarray() if hasattr(v, "toarray") else v


def _packed(v: Any) -> Any:
    """States of 0s and 1s as bits; None of anything else."""
    if getattr(v, "ndim", 0) != 2:
        return None
    try:  # sparse ones in pieces, so that they are never all there as an array
        parts = [
            _core.pack_states(_dense(v[first : first + _ROWS]), v.shape[1], "v")
            for first in range(0, max(v.shape[0], 1), _ROWS if hasattr(v, "toarray") else max(v.shape[0], 1))
        ]
    except ValueError:
        return None
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _picks(v: Any, key: int) -> Any:
    """A number below n_features for each row, from the key and the row's contents."""
    bits = np.ascontiguousarray(v, np.float64).view(np.uint64)
    words = generator(key, "units picked").integers(0, 1 << 64, v.shape[1] + 2, np.uint64)
    odd, start = words[:-1] | np.uint64(1), words[-1]
    mixed = start + ((bits ^ (bits >> np.uint64(29))) * odd[:-1]).sum(axis=1, dtype=np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(31))) * odd[-1]
    return (mixed >> np.uint64(11)) % np.uint64(v.shape[1])


def _key(rng: Any) -> int:
    return int(rng.randint(0, 1 << 63, dtype=np.uint64))
