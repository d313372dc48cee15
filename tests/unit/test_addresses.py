"""URLs that name several servers."""

import pytest

from lightning_store.addresses import cluster_addresses, is_cluster, node_url, shown


@pytest.mark.parametrize(
    ("url", "single", "addresses"),
    [
        ("redis+cluster://a", "redis://a:6379", [("a", 6379)]),
        ("redis+cluster://a:1,b:2,c", "redis://a:1", [("a", 1), ("b", 2), ("c", 6379)]),
        ("rediss+cluster://u:p%40w@a:1,b:2/0?x=1,2", "rediss://u:p%40w@a:1/0?x=1,2", [("a", 1), ("b", 2)]),
        ("redis+cluster://:p@[::1]:7,[::2]:8", "redis://:p@[::1]:7", [("::1", 7), ("::2", 8)]),
    ],
)
def test_url_of_a_cluster_names_its_nodes(url, single, addresses):
    assert is_cluster(url)
    assert cluster_addresses(url) == (single, tuple(addresses))
    assert node_url(url, addresses[0]) == single


@pytest.mark.parametrize(
    "url",
    ["redis+cluster://", "redis+cluster://a,,b", "redis+cluster://a:0", "redis+cluster://a:x", "redis+cluster://u@",
     "redis://a:1", "redis+sentinel://a:1"],
)  # fmt: skip
def test_others_are_refused(url):
    with pytest.raises(ValueError, match=r"expected|[Pp]ort"):
        cluster_addresses(url)


def test_addresses_are_shown_as_they_are_written():
    assert [shown(("a", 1)), shown(("::1", 2))] == ["a:1", "[::1]:2"]
