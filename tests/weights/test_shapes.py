from stunet.weights.shapes import mismatches


def test_long_tables_are_cut():
    table = mismatches({f"t{i}": (1,) for i in range(40)}, {})
    assert len(table.splitlines()) == 14
    assert table.endswith("... and 28 more")
