"""CLIPSeg's and SAM's modules come from transformers."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers", reason="exporting vvv needs the extra edgevand[export]")
