"""What `emu inspect` looks with: any target in, one shape of sample out; counted at flat memory, shown on a terminal or as JSON.

`targets` says what a path is; `corpora`, `tars` and `folders` read it; `tally` counts; `whole`, `one_sample`, `urls` and `sql`
answer. Nothing here writes, but for `extract`, where it is told to.
"""
