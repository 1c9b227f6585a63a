"""`tuneforge registry ...`: what was made, how, and whether it is still whole. A command is imported when asked for."""

COMMANDS = {
    "ls": "ls:ls",
    "show": "show:show",
    "lineage": "lineage:lineage",
    "tag": "tag:tag",
    "path": "path:path",
    "verify": "verify:verify",
    "gc": "gc:gc",
}
"""Each command in the order of --help: the module here, and what the command is called there."""
