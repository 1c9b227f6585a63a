"""Whether reports let artifacts go."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tuneforge import Artifact, Report, Step, StepError

from .lineage import Lineage


def refuse_failed(
    artifacts: Sequence[Artifact],
    reports: Sequence[Report],
    lineage: Lineage,
    despite: Collection[str],
    step: Step,
) -> None:
    """Raises StepError when an artifact, or a form of it that it was merged or quantized from, failed a report.

    A report with `passed: false` tells in `failures` which subject failed and why; without, all of its subjects did.
    Of the reports that `despite` names by their steps, the person is warned.
    """
    problems = []
    for report in reports:
        verdict = Report.summary(report.path)
        if verdict["passed"]:
            continue
        named = not lineage.names(report.digest).isdisjoint(despite)
        failures = verdict.get("failures") or {subject: [] for subject in verdict["subjects"]}
        for artifact in artifacts:
            for form in lineage.forms(artifact.digest):
                if form in failures:
                    why = "".join(f": {'; '.join(failures[form])}" if failures[form] else "")
                    subject = lineage.name(form)
                    problem = f"{subject} failed {lineage.name(report.digest)}{why}"
                    if named:
                        step.warn(f"released though {problem}", "Take the report out of despite: once that is mended.")
                    else:
                        problems.append(problem)
                    break
    if problems:
        fix = (
            "Better the model, ask less of it in the evaluation's require:, take it out of artifacts:, or name the "
            "report under despite: to release it all the same."
        )
        raise StepError("; ".join(dict.fromkeys(problems)), fix)
