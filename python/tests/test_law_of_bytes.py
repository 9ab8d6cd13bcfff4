"""No front end sends more than the layers of a pass; ranks/law_of_bytes.py holds the assertions."""


def test_a_pass_sends_its_layers_and_nothing_else(run_ranks):
    assert "a pass sends its layers" in run_ranks(4, "law_of_bytes.py", timeout=240)
