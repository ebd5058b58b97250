"""Pre-trained segmentation models that ``vvv`` is made of: CLIPSeg for tiles, IS-Net (DIS) and SAM for the foreground.

Each is written out for export (or wrapped, where its own modules export), and is held against its library in the tests.
"""
