"""Add up JUnit result files and print one line; fail when anything failed or is missing.

Usage: count_tests.py FAILED_PARTS RESULTS.xml ...
"""

import sys
from pathlib import Path
from xml.etree import ElementTree


def count(path: Path) -> tuple[int, int, int]:
    """Passed, failed and skipped test cases of one file."""
    cases = list(ElementTree.parse(path).iter("testcase"))
    failed = sum(
        case.find("failure") is not None or case.find("error") is not None for case in cases
    )
    skipped = sum(case.find("skipped") is not None for case in cases)
    return len(cases) - failed - skipped, failed, skipped


def main() -> int:
    failed_parts, *files = sys.argv[1:]
    passed = failed = skipped = 0
    for name in files:
        if not Path(name).exists():
            print(f"[test] {name} is missing: that part did not run to its end")
            failed += 1
            continue
        counts = count(Path(name))
        passed, failed, skipped = (
            a + b for a, b in zip((passed, failed, skipped), counts, strict=True)
        )
    if int(failed_parts) and not failed:
        failed = int(failed_parts)  # a part without test cases, such as the linter
    print(f"\n{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
