"""The corpus format: what lies on disk, and the code that writes, reads and checks it. `docs/format.md` is its specification."""
