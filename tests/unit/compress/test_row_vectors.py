"""Non-zero row vectors against plain numpy on the dense spikes."""

import numpy as np
import pytest

from archsim.compress.packed_time import encode, pack_timesteps
from archsim.compress.row_vectors import row_vectors


@pytest.mark.parametrize("m", [1, 7, 8, 17])
@pytest.mark.parametrize("k", [1, 130, 300])
@pytest.mark.parametrize("window", [2, 8])
@pytest.mark.parametrize("piece", [1, 64, 1000])
def test_counts_are_those_of_dense_spikes(m, k, window, piece):
    spikes = np.random.default_rng(m * k).random((3, m, k)) < 0.1
    found = row_vectors(encode(pack_timesteps(spikes)), k, 3, window, piece)
    submatrices, pieces = -(-m // window), -(-k // piece)
    padded = np.pad(spikes, ((0, 0), (0, submatrices * window - m), (0, pieces * piece - k)))
    cut = padded.reshape(3, submatrices, window, pieces, piece)
    np.testing.assert_array_equal(found.spikes, cut.sum((2, 4)).transpose(1, 0, 2))
    np.testing.assert_array_equal(found.vectors, cut.any(2).sum(3).transpose(1, 0, 2))


def test_by_hand():
    """Positions 0 and 1 spike at k = 0, position 1 at k = 2: two vectors, three spikes; nothing at t = 1."""
    spikes = np.zeros((2, 2, 3), bool)
    spikes[0, 0, 0] = spikes[0, 1, 0] = spikes[0, 1, 2] = True
    found = row_vectors(encode(pack_timesteps(spikes)), 3, 2, 8, 3)
    assert (found.vectors.ravel().tolist(), found.spikes.ravel().tolist()) == ([2, 0], [3, 0])
