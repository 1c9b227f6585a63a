"""The types of adapters that can be trained in place of a whole model, chosen by `type:`."""

from typing import Annotated, Any, get_args

from pydantic import Discriminator, Tag

from .adalora import AdaLora
from .base import AdapterType
from .bottleneck import Houlsby, Pfeiffer
from .lora import Dora, Lora, Pissa, RsLora
from .prompts import Prefix, Prompt, PTuning
from .qlora import QLora
from .weights import Ia3, LoHa, Oft, Vera


def _type(given: Any) -> Any:
    """The type that a block names; LoRA where it names none."""
    return given.get("type", "lora") if isinstance(given, dict) else getattr(given, "type", None)


AnyAdapter = Annotated[
    Annotated[Lora, Tag("lora")]
    | Annotated[QLora, Tag("qlora")]
    | Annotated[Dora, Tag("dora")]
    | Annotated[RsLora, Tag("rslora")]
    | Annotated[Pissa, Tag("pissa")]
    | Annotated[AdaLora, Tag("adalora")]
    | Annotated[Ia3, Tag("ia3")]
    | Annotated[LoHa, Tag("loha")]
    | Annotated[Vera, Tag("vera")]
    | Annotated[Oft, Tag("oft")]
    | Annotated[Prefix, Tag("prefix")]
    | Annotated[Prompt, Tag("prompt")]
    | Annotated[PTuning, Tag("p-tuning")]
    | Annotated[Houlsby, Tag("houlsby")]
    | Annotated[Pfeiffer, Tag("pfeiffer")],
    Discriminator(_type),
]

TYPES: dict[str, type[AdapterType]] = {
    get_args(member)[1].tag: get_args(member)[0] for member in get_args(get_args(AnyAdapter)[0])
}
"""Every type of adapter by its name."""
