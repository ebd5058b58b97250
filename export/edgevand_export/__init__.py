"""The workstation's side: open_clip checkpoints become bundles. Needs torch; the device never imports it."""
