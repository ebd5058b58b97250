"""Trains what the frozen backbone lacks: text tower, projection and one linear head for each stage.

Two losses, on batches of encoded drawings (``corpus``) and sentences of the prompt packs (``captions``):

- contrastive: the picture's embedding against sentences of every object of the batch, whole and damaged;
- focal + dice on the map of each stage (APRIL-GAN, arXiv 2305.17382: gamma 2, probabilities of the two-way softmax).

Step n is a pure function of (seed, n, weights): a run that is interrupted goes on from its last checkpoint and ends
with the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from edgevand.staging import write_atomic
from edgevand.tensors import read_tensors, tensor_bytes
from edgevand_export.builtin.captions import sentence, spoken_name
from edgevand_export.builtin.corpus import MASK_SIDE
from edgevand_export.builtin.network import tokenize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand_export.builtin.corpus import Corpus

__all__ = ["Recipe", "Student", "spread_of", "stage_maps", "train"]

SCALE = 100.0
"""Logit scale, as in the graph."""

_STILL = 1e-6


@dataclass(frozen=True)
class Recipe:
    """How it is trained.

    Attributes:
        steps: in all.
        batch: pictures in a step.
        sentences: of each side that are averaged into one text embedding of the maps' loss.
        rate: of Adam, falling to zero along a cosine.
        temperature: of the contrastive loss.
        seed: of everything random.
        checkpoint: steps between two checkpoints.
    """

    steps: int = 2000
    batch: int = 32
    sentences: int = 1
    rate: float = 1e-3
    temperature: float = 0.05
    seed: int = 0
    checkpoint: int = 100


class Student(nn.Module):
    """What is trained: the text tower and the projection of the model, and the heads."""

    def __init__(
        self,
        model: Any,  # noqa: ANN401
        widths: dict[int, int],
        dim: int,
        seed: int = 0,
        spreads: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> None:
        """Wrap a model; the backbone stays as it is.

        Args:
            model: open_clip ``CLIP`` with a timm tower.
            widths: stage to channels of its tokens.
            dim: length of an embedding.
            seed: of the heads' first weights; torch's own generator is left as it was.
            spreads: for each stage mean and 1/deviation (C,) that its tokens are brought to before the head, so
                that channels of any scale are learned alike; none leaves tokens as they are. See ``folded``.
        """
        super().__init__()
        self.stages = tuple(widths)
        self.spreads = tuple(spreads) or tuple((torch.zeros(width), torch.ones(width)) for width in widths.values())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = [nn.Linear(width, dim) for width in widths.values()]
        self.heads = nn.ModuleList(self.layers)
        self.projection = model.visual.head
        self.text = nn.ModuleDict(
            {"embedding": model.token_embedding, "transformer": model.transformer, "norm": model.ln_final}
        )
        self.positions = model.positional_embedding
        self.out = model.text_projection
        self.mask: Tensor = model.attn_mask

    def sentences(self, ids: Tensor) -> Tensor:
        """Unit embeddings (S, D) of token ids (S, 77) int64; causal, so nothing is read past the longest sentence."""
        length = int(ids.argmax(dim=-1).max()) + 1
        kept = ids[:, :length]
        x = self.text["embedding"](kept) + self.positions[:length]
        x = self.text["norm"](self.text["transformer"](x, attn_mask=self.mask[:length, :length]))
        return F.normalize(x[torch.arange(len(kept)), kept.argmax(dim=-1)] @ self.out, dim=-1)

    def images(self, pooled: Tensor) -> Tensor:
        """Unit embeddings (N, D) of the backbone's features (N, 1280)."""
        return F.normalize(self.projection(pooled), dim=-1)

    def logits(self, tokens: Sequence[Tensor], normal: Tensor, abnormal: Tensor) -> list[Tensor]:
        """Abnormal-minus-normal logits (N, side, side) of each stage.

        Args:
            tokens: (N, P, C) of each stage.
            normal: (N, D) unit text embedding of each picture's object, whole.
            abnormal: likewise, damaged.
        """
        difference = SCALE * (abnormal - normal)[..., None]
        maps = []
        for head, raw, (mean, inverse) in zip(self.layers, tokens, self.spreads, strict=True):
            side = round(raw.shape[1] ** 0.5)
            maps.append((F.normalize(head((raw - mean) * inverse), dim=-1) @ difference).reshape(-1, side, side))
        return maps

    @torch.no_grad()
    def folded(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Weight and bias of each head for tokens as they are."""
        return tuple(
            (head.weight * inverse, head.bias - head.weight @ (mean * inverse))
            for head, (mean, inverse) in zip(self.layers, self.spreads, strict=True)
        )


def spread_of(tokens: NDArray[np.float16]) -> tuple[Tensor, Tensor]:
    """Mean and 1/deviation (C,) of tokens (N, P, C); 0 in the place of the latter for a channel that never changes."""
    flat = torch.from_numpy(tokens.reshape(-1, tokens.shape[-1]).astype(np.float32))
    deviation, mean = torch.std_mean(flat, dim=0)
    return mean, torch.where(deviation > _STILL, 1 / deviation.clamp(min=_STILL), 0.0)


def stage_maps(logits: Sequence[Tensor], side: int = MASK_SIDE) -> list[Tensor]:
    """Probability maps (N, side, side): upsampled with aligned corners first, sigmoid after."""
    return [
        F.interpolate(each[:, None], (side, side), mode="bilinear", align_corners=True)[:, 0].sigmoid()
        for each in logits
    ]


def map_loss(maps: Sequence[Tensor], masks: Tensor) -> Tensor:
    """Focal + dice, summed over the stages; maps (N, s, s) in [0, 1], masks (N, s, s) 0 or 1."""
    loss = masks.new_zeros(())
    for each in maps:
        right = torch.where(masks > 0, each, 1 - each).clamp(1e-5, 1 - 1e-5)
        focal = (-((1 - right) ** 2) * right.log()).mean()
        overlap, total = (each * masks).sum(dim=(1, 2)), each.sum(dim=(1, 2)) + masks.sum(dim=(1, 2))
        loss = loss + focal + (1 - (2 * overlap + 1) / (total + 1)).mean()
    return loss


def step_loss(student: Student, corpus: Corpus, recipe: Recipe, number: int) -> Tensor:
    """The loss of one step; what it draws depends on (seed, number) alone."""
    rng = np.random.default_rng([recipe.seed, number])
    anomalous = corpus.anomalous
    half = recipe.batch // 2
    rows = np.concatenate([rng.choice(np.flatnonzero(anomalous == side), half) for side in (False, True)])
    names = [spoken_name(corpus.names[row], rng) for row in rows]
    spoken = [sentence(n, rng, abnormal=side) for side in (False, True) for n in names for _ in range(recipe.sentences)]
    texts = student.sentences(tokenize(spoken)).reshape(2, len(rows), recipe.sentences, -1)
    normal, abnormal = F.normalize(texts.mean(dim=2), dim=-1)
    tokens = [torch.from_numpy(corpus.tokens[stage][rows].astype(np.float32)) for stage in student.stages]
    masks = torch.from_numpy(corpus.masks[rows].astype(np.float32))
    maps = stage_maps(student.logits(tokens, normal, abnormal), MASK_SIDE)
    images = student.images(torch.from_numpy(corpus.pooled[rows].astype(np.float32)))
    return map_loss(maps, masks) + contrastive_loss(
        images, normal, abnormal, names, anomalous[rows], recipe.temperature
    )


def contrastive_loss(
    images: Tensor,
    normal: Tensor,
    abnormal: Tensor,
    names: Sequence[str],
    anomalous: NDArray[np.bool_],
    temperature: float,
) -> Tensor:
    """Each picture finds a sentence with its own name and state among all 2N; equal ones share the target.

    Args:
        images: (N, D) unit.
        normal: (N, D) unit, a sentence on each picture's object as whole.
        abnormal: likewise as damaged.
        names: the object of each, as spoken.
        anomalous: (N,) whether it is damaged.
        temperature: of the softmax.
    """
    codes = np.unique(np.asarray(names), return_inverse=True)[1] * 2
    classes = torch.from_numpy(np.concatenate([codes, codes + 1]))
    own = torch.from_numpy(codes + anomalous)
    similarity = images @ torch.cat([normal, abnormal]).T / temperature
    target = (classes[None] == own[:, None]).float()
    target = target / target.sum(dim=1, keepdim=True)
    return -(target * similarity.log_softmax(dim=1)).sum(dim=1).mean()


def train(
    student: Student, corpus: Corpus, recipe: Recipe, folder: Path, report: Callable[[str], None] = lambda _: None
) -> None:
    """Train in place, from the last checkpoint in ``folder`` where there is one.

    Args:
        student: what is trained.
        corpus: encoded drawings.
        recipe: how.
        folder: of the checkpoint ``training.safetensors``.
        report: called with a line for people at every checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "training.safetensors"
    parameters = dict(student.named_parameters())
    optimiser = torch.optim.Adam(parameters.values(), lr=recipe.rate)
    done = _resume(path, parameters, optimiser) if path.exists() else 0
    running = 0.0
    for number in range(done, recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * 0.5 * (1 + np.cos(np.pi * number / recipe.steps))
        optimiser.zero_grad()
        loss = step_loss(student, corpus, recipe, number)
        torch.autograd.backward(loss)
        optimiser.step()
        running += float(loss.detach())
        if (number + 1) % recipe.checkpoint == 0 or number + 1 == recipe.steps:
            _save(path, parameters, optimiser, number + 1)
            report(f"step {number + 1} of {recipe.steps}, mean loss {running / ((number % recipe.checkpoint) + 1):.4f}")
            running = 0.0


def _save(path: Path, parameters: dict[str, nn.Parameter], optimiser: torch.optim.Adam, done: int) -> None:
    """Weights, Adam's moments and the number of steps, in one file that appears whole."""
    tensors = {"step": np.array([done], np.int64)}
    for name, parameter in parameters.items():
        state = optimiser.state[parameter]
        for key, tensor in (
            ("weight", parameter.detach()),
            ("mean", state["exp_avg"]),
            ("square", state["exp_avg_sq"]),
        ):
            tensors[f"{key}.{name}"] = tensor.numpy()
    write_atomic(path, tensor_bytes(tensors))


def _resume(path: Path, parameters: dict[str, nn.Parameter], optimiser: torch.optim.Adam) -> int:
    """Put a checkpoint's state back; how many steps it has."""
    tensors = read_tensors(path)
    done = int(tensors["step"][0])
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.tensor(tensors[f"weight.{name}"]))
            optimiser.state[parameter] = {
                "step": torch.tensor(float(done)),
                "exp_avg": torch.tensor(tensors[f"mean.{name}"]),
                "exp_avg_sq": torch.tensor(tensors[f"square.{name}"]),
            }
    return done
