"""FSDP2 on the CPU; ranks/fsdp.py holds the assertions."""


def test_replicas_of_two_shards(run_ranks):
    assert "replicas agree" in run_ranks(4, "fsdp.py", timeout=240)
