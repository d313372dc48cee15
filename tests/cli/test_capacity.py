"""`lightning-store capacity`, which needs no store."""

import pytest

GIVEN = ["--rollouts-per-second", "50", "--spans-per-rollout", "20", "--span-bytes", "1000"]


def test_it_tells_memory_processor_and_a_verdict_without_any_store(offline):
    result = offline("capacity", *GIVEN, "--hosts", "100", "--keep", "10000")

    sections = {part.splitlines()[0]: part.splitlines()[1:] for part in result.out.split("\n\n")}
    assert (result.code, result.err) == (0, "")
    assert next(row for row in sections["memory:"] if row.startswith("finished rollouts  ")).split()[2] == "10,000"
    assert sections["memory:"][-1].startswith("total")
    assert sections["processor:"][-1].split()[-1] == "%"
    assert next(row for row in sections["in all:"] if row.startswith("connections")).split()[-1] == "400"
    assert result.out.splitlines()[-1].startswith("one Redis is enough: ")


def test_it_tells_how_many_primaries_and_namespaces_more_needs(offline):
    out = offline("capacity", "--rollouts-per-second", "20000", *GIVEN[2:], "--hosts", "5000").out

    assert "one Redis is too little: " in out
    assert "a Cluster needs " in out
    assert " namespaces or more" in out
    assert "raise maxclients (10,000 by default)" in out


def test_json_has_the_same_figures(offline):
    found = offline("capacity", *GIVEN, "--keep-seconds", "100", "--json").json

    assert found["memory"]["finished rollouts"]["number"] == 5000
    assert found["memory_bytes"] == pytest.approx(sum(part["bytes"] for part in found["memory"].values()))
    assert found["core"] == pytest.approx(sum(load["core"] for load in found["processor"].values()))
    assert found["verdict"] == "enough"
    assert set(found["cluster"]) == {"primaries", "namespaces"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--rollouts-per-second", "-1"], "--rollouts-per-second"),
        (["--rollouts-per-second", "nan"], "--rollouts-per-second"),
        (["--span-bytes", "inf"], "--span-bytes"),
        (["--span-bytes", "1kB"], "--span-bytes"),
        (["--hosts", "0"], "--hosts"),
        (["--hosts", "1.5"], "--hosts"),
        (["--keep", "1", "--keep-seconds", "1"], "--keep"),
    ],
)
def test_bad_input_is_one_line_that_names_the_option(offline, options, named):
    result = offline("capacity", *GIVEN, *options)

    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert named in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("left_out", [0, 2, 4])
def test_what_is_needed_is_asked_for(offline, left_out):
    result = offline("capacity", *GIVEN[:left_out], *GIVEN[left_out + 2 :])

    assert result.code == 2
    assert GIVEN[left_out] in result.err
