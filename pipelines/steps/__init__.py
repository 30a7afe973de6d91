"""Steps: small frozen settings that each do one thing to one sample, or refuse it with a reason."""
