"""Visual words: clusters of patch tokens, what a frame holds of them and where, and what that says to people."""
