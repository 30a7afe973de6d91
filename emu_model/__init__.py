"""Emu, the model: towers, the causal transformer, both losses, and the loader that feeds them from a corpus."""
