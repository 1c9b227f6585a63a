"""Model soups: fine-tuned models averaged, weight by weight."""

from collections.abc import Iterable

from tuneforge import Facts, Field, Finding, Known, Merge, Model, Step, hookimpl


class Soup(Merge):
    """The weighted average of models that were tuned from one base (Wortsman et al., 2022, arXiv:2203.05482).

    All models must have the same tensors; tokenizer and chat template are those of the first.
    """

    name = "soup"
    needs = ("torch>=2.6", "safetensors>=0.4")
    engine = "tuneforge_soup.average"

    weights: list[float] = Field([], description="One a model; equal ones when left out.", also=("alphas",))

    def check(self, facts: Known) -> Iterable[Finding]:
        models = facts["models"]
        if self.weights and len(self.weights) != len(models):
            yield Finding(
                f"{len(self.weights)} weights for {len(models)} models", "Give one a model, or none.", field="weights"
            )
        for number, model in enumerate(models[1:], 2):
            if model.tensors and models[0].tensors and model.tensors.keys() != models[0].tensors.keys():
                yield Finding(f"model {number} has other tensors than the first", "Average models of one base.")

    def foresee(self, facts: Known) -> Facts:
        return facts["models"][0]

    def run(self, models: list[Model], step: Step) -> None:
        from tuneforge_soup.average import average

        average([model.path for model in models], self.weights or [1.0] * len(models), step.out)
        step.metrics(models=len(models))


@hookimpl
def register_merge() -> list[type[Merge]]:
    return [Soup]
