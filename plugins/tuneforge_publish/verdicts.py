"""Whether reports let artifacts go."""

from __future__ import annotations

from collections.abc import Sequence

from tuneforge import Artifact, Report, StepError

from .lineage import Lineage


def refuse_failed(artifacts: Sequence[Artifact], reports: Sequence[Report], lineage: Lineage) -> None:
    """Raises StepError when an artifact, or a form of it that it was merged or quantized from, failed a report.

    A report with `passed: false` tells in `failures` which subject failed and why; without, all of its subjects did.
    """
    problems = []
    for report in reports:
        verdict = Report.summary(report.path)
        if verdict["passed"]:
            continue
        failures = verdict.get("failures") or {subject: [] for subject in verdict["subjects"]}
        for artifact in artifacts:
            for form in lineage.forms(artifact.digest):
                if form in failures:
                    why = "".join(f": {'; '.join(failures[form])}" if failures[form] else "")
                    subject = lineage.name(form)
                    problems.append(f"{subject} failed {lineage.name(report.digest)}{why}")
                    break
    if problems:
        fix = "Better the model, ask less of it in the evaluation's require:, or take it out of artifacts:."
        raise StepError("; ".join(dict.fromkeys(problems)), fix)
