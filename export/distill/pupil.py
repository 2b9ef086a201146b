"""`Pupil`: a student with what only its training needs, and the loss that it learns by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepose.export.distill.teacher import Lesson
from edgepose.export.networks.edgepose import EdgePose, Features

_PEAK_WEIGHT = 12.0
"""An error where a map is 1 counts so many times more than where it is 0, which is nearly everywhere."""
_GUESS_SHARE = 0.5
_FEATURE_SHARE = 0.03


@dataclass(frozen=True, slots=True)
class Losses:
    """`maps` of the outputs, `guess` of maps half-way, `features` relative to their variance (1 is what knowing nothing costs for each);
    scalars with gradients."""

    maps: Tensor
    guess: Tensor
    features: Tensor

    @property
    def total(self) -> Tensor:
        return self.maps + _GUESS_SHARE * self.guess + _FEATURE_SHARE * self.features


class Pupil(nn.Module):
    """The student, and 1x1 convolutions by which its inner features are compared with its teacher's (A. Romero et al., "FitNets: Hints for
    Thin Deep Nets", arXiv:1412.6550) and by which it guesses the maps half-way."""

    def __init__(self, student: EdgePose, map_channels: int, feature_channels: tuple[int, ...]) -> None:
        super().__init__()
        self.student = student
        self.guess = nn.Conv2d(student.channels, map_channels, 1)
        self.adapters = nn.ModuleList(nn.Conv2d(student.channels, channels, 1) for channels in feature_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """(N, 3, H, W) -> maps, guessed maps, features as the teacher has them."""
        heatmaps, pafs, inner = self.student.with_features(x)
        adapted = [adapter(seen) for adapter, seen in zip(self.adapters, _compared(inner), strict=False)]
        return torch.cat([heatmaps, pafs], 1), self.guess(inner.joined), adapted


def losses(found: tuple[Tensor, Tensor, list[Tensor]], wanted: Lesson, background: int | None) -> Losses:
    """`background` is the map that is 1 almost everywhere and gets no extra weight."""
    maps, guess, features = found
    target = wanted.maps.float()
    weight = 1 + _PEAK_WEIGHT * target.abs()
    if background is not None:
        weight[:, background] = 1
    differences = [functional.mse_loss(f.float(), _standardised(w.float())) for f, w in zip(features, wanted.features, strict=True)]
    return Losses(
        (weight * (maps.float() - target) ** 2).mean(),
        (weight * (guess.float() - target) ** 2).mean(),
        torch.stack(differences).sum() if differences else maps.new_zeros(()),
    )


def _standardised(features: Tensor) -> Tensor:
    """Each channel around 0, all divided by one number: channels that vary little matter little."""
    centred = features - features.mean((0, 2, 3), keepdim=True)
    return centred / (centred.std() + 1e-6)


def _compared(inner: Features) -> tuple[Tensor, Tensor]:
    """Those that stand where a teacher's middle and last features stand."""
    return inner.joined, inner.refined
