"""A Hub for recipes that publish to one."""

from tests.hubs import hub, served  # noqa: F401 - fixtures
