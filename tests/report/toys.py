"""Methods whose runs have something to report: rows left out, curves, scores, answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

from tuneforge import Artifact, Evaluate, Field, Format, Source, Step, StepError, Train, hookimpl


class Rows(Artifact):
    """Lines of text."""

    kind = "rows"

    @classmethod
    def missing(cls, path: Path) -> Iterator[str]:
        if not (path / "rows.txt").exists():
            yield "rows.txt"


class Tuned(Artifact):
    """A model, so to speak: what it would answer."""

    kind = "tuned"


class Collect(Format):
    """Takes the rows of a file."""

    name = "collect"
    output = Rows

    path: Source = Field(description="The file.")
    left_out: dict[str, int] = Field({}, description="How many rows it leaves out, by reason.")

    def run(self, step: Step) -> None:
        rows = Path(self.path).read_text().splitlines()
        (step.out / "rows.txt").write_text("\n".join(rows))
        step.metrics(read=100, kept={"train": 100 - sum(self.left_out.values())}, left_out=self.left_out)


class Learn(Train):
    """Counts to `steps`, and tells of it."""

    name = "learn"
    output = Tuned

    answers: list[str] = Field([], description="What the result will answer.")
    steps: int = Field(20, description="How far to count.")
    ends_at: int | None = Field(None, description="Where to give up.", keyed=False)
    problem: str = Field("it cannot be learnt", description="Why it gives up.", keyed=False)
    pause: float = Field(0.0, description="Seconds a step takes.", keyed=False)
    figure: str = Field("loss", description="What to call the curve.")
    asked: list[str] = Field([], description="What to ask it every tenth step.", keyed=False)
    worry: str = Field("", description="What to warn of at the second step.", keyed=False)

    def run(self, data: Rows | None = None, base: Tuned | None = None, *, step: Step) -> None:
        note = step.scratch / "reached"
        begin = int(note.read_text()) if note.exists() else 0
        for done in range(begin + 1, self.steps + 1):
            if done == self.ends_at:
                raise StepError(self.problem, "Learn something else.")
            time.sleep(self.pause)
            step.progress(done, self.steps, **{self.figure: 4 / done + done % 2, "learning_rate": 1e-3 / done})
            for place, prompt in enumerate(self.asked if done % 10 == 0 else []):
                step.sample(done, prompt, ["", f"{prompt} {done}", self.answers[0]][min(place, 2)])
            if done == 2 and self.worry:
                step.warn(self.worry, f"Away with {self.worry}.")
            note.write_text(str(done))
        (step.out / "tuned.json").write_text(json.dumps({"answers": self.answers, "steps": self.steps}))
        step.metrics(left_out={}, rows=len(self.answers), final={"loss": 0.5, "accuracy": None})


class Quiz(Evaluate):
    """Compares answers with those expected."""

    name = "quiz"

    prompts: list[str] = Field(["What?"], description="What is asked.")
    expected: list[str] = Field(["right"], description="What should be answered.")
    metric: str = Field("accuracy", description="What to call the score.")
    garbled: bool = Field(False, description="Whether to write what JSON can hold and UTF-8 cannot.")

    def run(self, models: list[Tuned], step: Step) -> None:
        given = {model.digest: json.loads((model.path / "tuned.json").read_text())["answers"] for model in models}
        scores = {
            digest: {
                self.metric: sum(map(str.__eq__, answers, self.expected)) / len(self.expected),
                "length": sum(map(len, answers)) / len(answers),
            }
            for digest, answers in given.items()
        }
        report = {
            "subjects": list(scores),
            "passed": all(score[self.metric] > 0 for score in scores.values()),
            "failures": {digest: ["too low"] for digest, score in scores.items() if not score[self.metric]},
            "scores": scores,
            "better": {self.metric: "higher", "length": "lower"},
            "best": max(scores, key=lambda digest: scores[digest][self.metric]),
            "rows": len(self.expected),
            "left_out": {"too long": 3},
        }
        (step.out / "report.json").write_text(json.dumps(report))
        with (step.out / "answers.jsonl").open("w") as file:
            for place, (prompt, expected) in enumerate(zip(self.prompts, self.expected, strict=True)):
                row = {
                    "prompt": [{"role": "user", "content": prompt + ("\ud800" if self.garbled else "")}],
                    "expected": expected,
                    "answers": {digest: answers[place] for digest, answers in given.items()},
                }
                file.write(json.dumps(row) + "\n")
        step.metrics(**{self.metric: {digest: score[self.metric] for digest, score in scores.items()}})


@hookimpl
def register_format() -> list[type[Format]]:
    return [Collect]


@hookimpl
def register_train() -> list[type[Train]]:
    return [Learn]


@hookimpl
def register_evaluate() -> list[type[Evaluate]]:
    return [Quiz]
