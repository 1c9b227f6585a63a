"""The registry over the Hugging Face Hub's own HTTP protocol: what a team's tools pull from and push to.

A name is a repository, its versions are commits, and `main` is the newest one or what the alias `main` points to. A
commit by a client is the files of the version before with the client's changes: a new artifact, and a new version.
"""

from tuneforge_registry_server.app import Terms, application
from tuneforge_registry_server.repositories import Kinds
from tuneforge_registry_server.tokens import Tokens

__all__ = ["Kinds", "Terms", "Tokens", "application"]
