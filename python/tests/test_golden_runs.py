"""DDP runs give the recorded bits, as tests/golden's runs do without torch.

They change only together with the wire version of a method. To record anew:
LGRECO_WRITE_GOLDEN=1 python -m pytest python/tests/test_golden_runs.py
"""

import json
import os
from pathlib import Path

RECORDED = Path(__file__).with_name("golden_runs.json")


def test_ddp_runs_give_the_recorded_bits(run_ranks):
    runs = json.loads(run_ranks(2, "golden_runs.py").splitlines()[-1])
    if "LGRECO_WRITE_GOLDEN" in os.environ:
        RECORDED.write_text(json.dumps(runs, indent=2) + "\n")
    assert runs == json.loads(RECORDED.read_text())
