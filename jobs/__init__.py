"""The `emu` command: it reads what a person typed, and starts pipelines and training with it."""
