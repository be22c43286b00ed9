"""Decomposition, merging and ranks of tensor trains, against loops and against a numerical minimisation."""

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.signal import correlate2d

from archsim.errors import UsageError
from archsim.export.tensor_train import Cores, decompose, factorise, merge, select_rank

RANK = 3


def random_cores(seed, inputs=5, outputs=6, rank=RANK):
    draw = np.random.default_rng(seed)
    shapes = (rank, inputs, 1, 1), (rank, rank, 3, 1), (rank, rank, 1, 3), (outputs, rank, 1, 1)
    return Cores(*(draw.normal(size=shape) for shape in shapes))


def convolved(x, weight):
    """Same-padded cross-correlation of x [I, H, W], channel pair by channel pair."""
    return np.array([sum(correlate2d(a, w, "same") for a, w in zip(x, row, strict=True)) for row in weight])


@pytest.mark.parametrize("mode", ["stt", "ptt", "half"])
def test_one_convolution_instead_of_four(mode):
    """Within 1e-12, borders included."""
    cores, x = random_cores(1), np.random.default_rng(2).normal(size=(5, 7, 6))
    hidden = convolved(x, cores.c1)
    if mode == "stt":
        hidden = convolved(convolved(hidden, cores.c2), cores.c3)
    elif mode == "ptt":
        hidden = (convolved(hidden, cores.c2) + convolved(hidden, cores.c3)) / 2
    np.testing.assert_allclose(convolved(x, merge(cores, mode)), convolved(hidden, cores.c4), atol=1e-12)


def test_a_parallel_kernel_is_a_plus():
    merged = merge(random_cores(3), "ptt")
    assert not merged[:, :, ::2, ::2].any()
    assert merged[:, :, 1, :].all() and merged[:, :, :, 1].all()


def test_decomposition_is_exact_from_the_full_rank_on():
    weight = np.random.default_rng(4).normal(size=(6, 4, 3, 3))
    np.testing.assert_allclose(merge(decompose(weight, 18), "stt"), weight, atol=1e-12)
    errors = [np.linalg.norm(merge(decompose(weight, rank), "stt") - weight) for rank in (1, 2, 4, 8, 12)]
    assert errors == sorted(errors, reverse=True) and errors[-1] > 0
    assert decompose(weight, 5).rank == 5


def test_a_train_of_low_rank_is_found_again():
    """W of rank 3 comes back from rank 3 on, and not from 2."""
    weight = merge(random_cores(5), "stt")
    np.testing.assert_allclose(merge(decompose(weight, RANK), "stt"), weight, atol=1e-10)
    assert np.abs(merge(decompose(weight, RANK - 1), "stt") - weight).max() > 1e-2


# --- Ranks ------------------------------------------------------------------------------------------------------------


def component(gamma, low, high, variance):
    """The least of twice the free energy of one component, and its singular value, by numerical minimisation.

    Of posteriors N(a, p) in M and N(b, q) in L dimensions, and priors of variance c each (only their product counts);
    a component without mean and with c going to 0 has 0.
    """

    def energy(x):
        a, b, p, q, c = np.exp(x)
        left, right = a**2 + high * p, b**2 + low * q
        prior = high * np.log(c / p) + low * np.log(c / q) + (left + right) / c - low - high
        return prior + (left * right - 2 * a * b * gamma) / variance

    best, value = 0.0, 0.0
    for share in (0.3, 0.9):
        start = np.log([np.sqrt(share * gamma)] * 2 + [variance / gamma] * 2 + [gamma / np.sqrt(low * high)])
        options = {"maxiter": 20_000, "maxfev": 20_000, "fatol": 1e-10, "xatol": 1e-8}
        found = minimize(energy, start, method="Nelder-Mead", options=options)
        if found.fun < best - 1e-6:
            best, value = found.fun, float(np.exp(found.x[0] + found.x[1]))
    return best, value


def noisy(seed, low=8, high=20, rank=3, noise=0.3):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(low, rank)) @ draw.normal(size=(rank, high)) + noise * draw.normal(size=(low, high))


@pytest.mark.parametrize("seed", [0, 1])
def test_components_are_those_of_the_least_free_energy(seed):
    """Which components stay, and how large they are, with a given variance."""
    matrix, variance = noisy(seed, noise=1.0), 1.0
    found = factorise(matrix, variance)
    singular = np.linalg.svd(matrix, compute_uv=False)
    values = [component(gamma, 8, 20, variance)[1] for gamma in singular]
    assert [value > 0 for value in values] == [place < found.rank for place in range(8)]
    np.testing.assert_allclose(values[: found.rank], found.values, rtol=1e-3)


def test_the_limit_of_a_component():
    """Just above it the free energy is below that of nothing, just below it is not."""
    singular = np.linalg.svd(noisy(0, noise=1.0), compute_uv=False)
    low, high = 1e-3, 1e3
    for _ in range(40):
        middle = np.sqrt(low * high)
        low, high = (
            (low, middle) if factorise(np.diag([singular[0]]).repeat(4, 1), middle).rank == 0 else (middle, high)
        )
    gamma = singular[0] * 2
    assert component(gamma, 1, 4, low * 0.98)[0] < 0
    assert component(gamma, 1, 4, high * 1.02)[0] == 0


@pytest.mark.slow
def test_the_variance_is_that_of_the_least_free_energy():
    matrix = noisy(3, low=5, high=9, rank=2)
    singular = np.linalg.svd(matrix, compute_uv=False)

    def energy(logarithm):
        variance = np.exp(logarithm)
        found = sum(component(gamma, 5, 9, variance)[0] for gamma in singular)
        return 45 * logarithm + (singular**2).sum() / variance + found

    found = factorise(matrix)
    best = minimize_scalar(
        energy, bounds=(np.log(found.variance) - 1.5, np.log(found.variance) + 1.5), method="bounded"
    )
    assert np.log(found.variance) == pytest.approx(best.x, abs=2e-2)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rank", [0, 1, 4])
def test_the_rank_behind_noise_is_found(seed, rank):
    matrix = noisy(seed, low=30, high=90, rank=rank)
    for turned in (matrix, matrix.T):
        found = factorise(turned)
        assert found.rank == rank
        assert found.variance == pytest.approx(0.09, rel=0.15)


def test_the_rank_of_a_layer():
    """Of a low-rank train under noise its own; of noise alone 1, as there must be one."""
    draw = np.random.default_rng(0)
    noise = draw.normal(size=(32, 24, 3, 3))
    assert select_rank(noise) == 1
    assert select_rank(merge(random_cores(1, 24, 32, 4), "stt") + 0.1 * noise) == 4


def test_nothing_at_all():
    assert factorise(np.zeros((3, 4))).rank == 0
    with pytest.raises(UsageError, match="finite"):
        factorise([[np.nan]])
    with pytest.raises(UsageError, match="above zero"):
        factorise(np.ones((2, 2)), 0.0)
