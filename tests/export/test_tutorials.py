"""The tutorials that train a network, worked through as they stand."""

from tests.export.frameworks import need
from tests.pages import work_through
from tests.test_tutorials import ELSEWHERE, TUTORIALS


def test_your_network_to_a_trace(tmp_path):
    need("snntorch")
    assert list(ELSEWHERE) == ["network_to_trace"]
    work_through(TUTORIALS / "network_to_trace.md", tmp_path)
