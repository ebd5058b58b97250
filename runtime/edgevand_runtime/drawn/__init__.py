"""Pictures that the program draws: parts, textures and prints, whole and defective, with their truth.

Seeded, made with NumPy and OpenCV only. ``conveyor`` is the camera of the demo; the built-in bundle's text tower and
heads are trained on the rest (docs/builtin.md).
"""
