"""`tuneforge registry ...`: what was made, how, and whether it is still whole. A command is imported when asked for."""

COMMANDS = {
    "ls": "ls:ls",
    "show": "show:show",
    "log": "log:log",
    "lineage": "lineage:lineage",
    "diff": "diff:diff",
    "tag": "tag:tag",
    "rm": "rm:rm",
    "path": "path:path",
    "verify": "verify:verify",
    "gc": "gc:gc",
    "export": "export:export",
    "import": "import_:import_",
    "serve": "serve:serve",
    "reproduce": "reproduce:reproduce",
    "reindex": "reindex:reindex",
}
"""Each command in the order of --help: the module here, and what the command is called there."""
