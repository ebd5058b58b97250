"""APRIL-GAN's levers: what acts on tokens, bank and scores behind the encoder (methods.md (h))."""
