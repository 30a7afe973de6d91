"""Pictures: bytes of any origin in, pixels of known size and orientation out, or a reason."""
