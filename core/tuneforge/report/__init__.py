"""The report of a run: what came out, as a page to look at and as a summary for the terminal.

`gather` turns a run's record and the artifacts it names into plain values; `page` and `terminal` show those.
"""
