"""Training of the linear heads on a frozen encoder, as APRIL-GAN publishes it (docs/training.md).

A run is ``run.train``: options to ``heads.safetensors``. On its way: ``plan`` says which picture comes when,
``pictures`` reads it, ``encoder`` and ``cache`` give its stage tokens, ``losses`` judges the heads' maps, ``loop``
steps, ``state`` keeps what a killed run needs to go on.
"""
