"""`emu demo`: a small web of photographs served from localhost, and a corpus built from it."""
