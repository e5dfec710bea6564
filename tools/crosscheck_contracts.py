"""Asks `datacontract breaking` about the shared changes: `python3 dev.py contracts`, in an environment of its own.

Without arguments it compares the answers with those in tests/contract/crosscheck/answers.json, and exits 1 where one
differs; `--record` writes them. Our rules are held against the recorded ones by the tests, which need no datacontract.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
ANSWERS = ROOT / "tests" / "contract" / "crosscheck" / "answers.json"
sys.path.insert(0, str(ROOT / "tests"))

from contract.crosscheck.cases import CASES, Case  # noqa: E402  # after its folder is known
from contract.crosscheck.odcs import contract  # noqa: E402
from datacontract.data_contract import DataContract  # noqa: E402

PERSPECTIVES = ("consumer", "producer")


def answers() -> dict[str, Any]:
    """What it says of each case: the rules that graded something, with level and direction, by perspective."""
    with tempfile.TemporaryDirectory() as folder:
        return {
            "datacontract-cli": version("datacontract-cli"),
            "cases": {case.name: _asked(case, Path(folder)) for case in CASES},
        }


def _asked(case: Case, folder: Path) -> dict[str, list[dict[str, str]]]:
    files = (folder / "before.yaml", folder / "after.yaml")
    for file, tables in zip(files, (case.before, case.after), strict=True):
        file.write_text(yaml.safe_dump(contract(tables), sort_keys=False), encoding="utf-8")
    read = [DataContract(data_contract_file=str(file), inline_references=False) for file in files]
    sides = [DataContract(data_contract=each.get_data_contract(), inline_references=False) for each in read]
    return {
        perspective: [
            {"rule": entry.rule_id, "level": entry.level.value, "direction": entry.direction.value}
            for entry in sides[0].breaking(sides[1], perspective=perspective).entries
            if entry.direction is not None  # what is within an element that is gone or new is graded with it
        ]
        for perspective in PERSPECTIVES
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Ask datacontract-cli about the shared changes.")
    parser.add_argument("--record", action="store_true", help="write the answers instead of comparing them")
    record = parser.parse_args(arguments).record
    found = answers()
    if record:
        ANSWERS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{len(found['cases'])} answers recorded")
        return 0
    recorded = json.loads(ANSWERS.read_text(encoding="utf-8"))
    others = [name for name, answer in found["cases"].items() if recorded["cases"].get(name) != answer]
    others += [name for name in recorded["cases"] if name not in found["cases"]]
    for name in others:
        print(
            f"{name}: datacontract-cli {found['datacontract-cli']} says something else than recorded",
            file=sys.stderr,
        )
    print(f"{len(found['cases'])} changes asked, {len(others)} answers differ from the recorded ones")
    return int(bool(others))


if __name__ == "__main__":
    sys.exit(main())
